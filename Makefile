# Two commands for a newcomer: `make run` and `make test`. `make help` lists the rest.

VENV := .venv
PY := $(VENV)/bin/python
NODE := tests/lighthouse/node_modules/.package-lock.json
STS_STARTED_AT := $(shell date +%s)
export STS_STARTED_AT
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo bench faults test screens lighthouse browsers check fmt lock clean chromium other-browsers

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.local ## Run the whole store here, with its own database and Redis (PORT=5000); Ctrl-C stops it
	@$(VENV)/bin/sts run

demo: $(VENV)/.local ## Make one purchase against running processes and check every promise
	@$(VENV)/bin/sts demo

bench: $(VENV)/.local ## Measure speeds and memory as ratios against baselines in the same run
	@$(PY) -m bench.run

test: $(VENV)/.dev chromium ## Run the tests (ARGS="-k name" for some of them)
	@$(PY) -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile)

screens: $(VENV)/.dev chromium ## Take pictures of every page and state into screens/ (look at screens/index.html)
	@$(PY) -m pytest tests/browser/screens.py --timeout 1200
	@echo "Look at them: screens/index.html"

lighthouse: $(VENV)/.dev $(NODE) chromium ## Measure every public page with Lighthouse (ROUNDS=3, ONLY="/ /pricing")
	@$(PY) -m pytest tests/browser/markup.py
	@$(PY) -m tests.lighthouse.measure

browsers: $(VENV)/.dev other-browsers ## Buy once in Firefox and once in WebKit
	@$(PY) -m pytest tests/browser/other_browsers.py

HISTORIES ?= 200
faults: $(VENV)/.dev ## Make HISTORIES random histories of faults (SEED=n to repeat them, ONE=n to tell one line by line)
	@PYTHONHASHSEED=0 $(PY) -m tests.faults.machine --histories $(HISTORIES) $(if $(SEED),--seed $(SEED)) $(if $(ONE),--one $(ONE))

check: $(VENV)/.dev ## Format, lint, types, floors, templates: all without changing a file
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/djlint --check --quiet templates

fmt: $(VENV)/.dev ## Format code and templates, and mend what the linter can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .
	-$(VENV)/bin/djlint --reformat --quiet templates

clean: ## Remove the virtual environment, caches, and the local store with its data (not while it runs)
	@$(or $(wildcard $(PY)),python3) sts_app/ops/folder.py
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-results *.egg-info \
		screens lighthouse-reports tests/lighthouse/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Locks ---------------------------------------------------------------------------------------------

COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
	--python-version 3.11 --no-emit-index-url --no-emit-find-links $(ARGS) pyproject.toml

lock: $(PY) ## Bring the three hashed requirement files in line with pyproject.toml (ARGS=--upgrade for newer versions)
	@$(PY) -m pip install --quiet uv
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra local --constraint requirements.txt --output-file requirements-local.txt
	$(COMPILE) --extra dev --constraint requirements-local.txt --output-file requirements-dev.txt

# The virtual environment ---------------------------------------------------------------------------

$(PY):
	@for name in python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$name; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "STS needs Python 3.11 or newer, and none was found as python3, python3.14, ..., python3.11." >&2; exit 1; \
	fi; \
	if ! $$found -c 'import ensurepip' 2>/dev/null; then \
		echo "$$found cannot make virtual environments here: run \`apt-get install python3-venv\` first." >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$found --version) ..."; \
	rm -rf $(VENV) && $$found -m venv $(VENV)

# Twice quiet: errors are shown, warnings about the machine's own settings of pip are not.
define install
	@echo "Installing $< (once) ..."
	@$(PY) -m pip install --quiet --quiet --require-hashes -r $<
	@$(PY) -m pip install --quiet --quiet --no-deps --no-build-isolation -e .
	@touch $@
endef

# A developer's environment serves `make run` as well: it holds everything the smaller one does.
$(VENV)/.local: requirements-local.txt pyproject.toml | $(PY)
	@if [ $(VENV)/.dev -nt requirements-dev.txt ] && [ $(VENV)/.dev -nt pyproject.toml ]; then touch $@; \
	else $(MAKE) --no-print-directory $(VENV)/.only-local && touch $@; fi

$(VENV)/.only-local: requirements-local.txt pyproject.toml | $(PY)
	$(install)

$(VENV)/.dev: requirements-dev.txt pyproject.toml | $(PY)
	$(install)

$(NODE): tests/lighthouse/package.json tests/lighthouse/package-lock.json
	@command -v npm >/dev/null || { echo "Lighthouse needs Node 20.19 or newer with npm, and none was found." >&2; exit 1; }
	@echo "Installing Lighthouse (once) ..."
	@cd tests/lighthouse && npm ci --loglevel error
	@touch $@

# The browsers --------------------------------------------------------------------------------------

other-browsers:
	@if command -v firefox-esr >/dev/null && command -v WebKitWebDriver >/dev/null && command -v Xvfb >/dev/null; then \
		exit 0; \
	fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Firefox and WebKit ..."; \
		apt-get install -y -qq --no-install-recommends firefox-esr webkit2gtk-driver xvfb >/dev/null \
			|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends firefox-esr webkit2gtk-driver xvfb \
				>/dev/null; } && exit 0; \
	fi; \
	for name in firefox-esr WebKitWebDriver Xvfb; do \
		command -v $$name >/dev/null || echo "*** There is no $$name." >&2; \
	done; \
	echo "*** Install them: sudo apt-get install firefox-esr webkit2gtk-driver xvfb" >&2; exit 1

chromium:
	@for name in "$$CHROMIUM" chromium chromium-browser google-chrome; do \
		if [ -n "$$name" ] && command -v "$$name" >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests ..."; \
		apt-get install -y -qq --no-install-recommends chromium >/dev/null \
			|| { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } && exit 0; \
	fi; \
	echo; \
	echo "*** No Chromium: the browser tests will not run. Install it: sudo apt-get install chromium"; \
	echo "*** (or name a Chromium or Chrome in CHROMIUM)."; \
	echo; \
	test "$$CI" != true
