"""What the checklist for a release names is there: every test, every command; and Lighthouse's lock names no host."""

from __future__ import annotations

import ast
import json
import re

import pytest

from sts_app.core.web import ROOT

CHECKLIST = (ROOT / "docs" / "QA_CHECKLIST.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", CHECKLIST)))
COMMANDS = sorted(set(re.findall(r"`make (\w+)`", CHECKLIST)))
AREAS = re.findall(r"^## (\d+)\. ", CHECKLIST, re.M)


def test_the_checklist_has_its_fifteen_areas():
    assert [int(area) for area in AREAS] == list(range(1, 16))


def test_each_area_names_a_test():
    parts = re.split(r"^## \d+\. ", CHECKLIST, flags=re.M)[1:]

    assert [part.splitlines()[0] for part in parts if "`tests/" not in part] == []


@pytest.mark.parametrize("named", TESTS)
def test_a_test_that_the_checklist_names_is_there(named):
    path, _, function = named.partition("::")

    tree = ast.parse((ROOT / path).read_text())

    tests = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert tests
    assert not function or function in tests


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_the_checklist_names_is_there(command):
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.M)


def test_the_lock_of_lighthouse_pins_contents_and_names_no_host():
    text = (ROOT / "tests" / "lighthouse" / "package-lock.json").read_text()
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}

    assert [name for name, one in packages.items() if not one.get("integrity", "").startswith("sha512-")] == []
    assert '"resolved"' not in text
    assert "omit-lockfile-registry-resolved=true" in (ROOT / "tests" / "lighthouse" / ".npmrc").read_text()
    # npm writes where each package takes money: `funding` is taken out again after the lock was made anew.
    assert re.findall(r"\w+://[^\"]*", text) == []


def test_the_browsers_of_lighthouse_are_those_of_the_machine():
    """Nothing that is installed for it brings, or fetches, a browser of its own."""
    packages = json.loads((ROOT / "tests" / "lighthouse" / "package-lock.json").read_text())["packages"]

    assert packages.keys() & {"node_modules/puppeteer", "node_modules/playwright", "node_modules/chromium"} == set()
    assert "ignore-scripts=true" in (ROOT / "tests" / "lighthouse" / ".npmrc").read_text()
