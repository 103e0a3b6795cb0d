"""Floors hold, and inside a room each file knows only what its name allows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from sts_app.core.web import ROOT
from tests.house.source import APP, JOBS, files, imported_modules, imports, module_of, shown, tree_of

ROOMS = {path.name for path in APP.iterdir() if (path / "__init__.py").exists()} - {"core"}
# `privacy` is what a room gives and gives up of a person, and what stays shut to who leaves. The last two are for
# looking at letters, and write none.
OPEN_TO_ALL = {"services", "queries", "models", "letters", "privacy", "letter_samples", "samples"}

# What one room may take from another besides. Each needs a reason, and each is still in use.
OPEN_TO_SOME = {
    ("sts_app.ops.services", "sts_app.billing.ledger"): "old payloads are forgotten with all else that is old",
    ("sts_app.ops.doctor", "sts_app.billing.setup"): "what stands at Stripe; reads alone",
    ("sts_app.ops.doctor", "sts_app.billing.gateway"): "what a provider that does not answer raises",
    ("sts_app.billing.views", "sts_app.provisioning.control"): "a purchase asks whether sales are open",
    ("sts_app.billing.views", "sts_app.provisioning.names"): "services of provisioning under a word of their own",
    ("sts_app.billing.views", "sts_app.provisioning.rules"): "what a check of a name shows; pure, like models",
    ("sts_app.billing.held", "sts_app.provisioning.rules"): "the words of a customer's access; pure, like models",
    ("sts_app.pages.dashboard", "sts_app.provisioning.rules"): "the words of a customer's access; pure, like models",
    ("sts_app.pages.dashboard", "sts_app.provisioning.names"): "services of provisioning under a word of their own",
    ("sts_app.ops.services", "sts_app.provisioning.control"): "the sweep asks what a worker that it wakes could do",
    ("sts_app.ops.services", "sts_app.billing.addresses"): "the sweep sees whose address is not Stripe's",
    ("sts_app.ops.services", "sts_app.billing.settling"): "the sweep reckons what older code left behind",
    ("sts_app.ops.doctor", "sts_app.provisioning.control"): "what keeps access from being given now; reads alone",
    ("sts_app.pages.views", "sts_app.provisioning.control"): "a price asks whether sales are open",
    ("sts_app.pages.cards", "sts_app.catalog.sessions"): "the hours of a session, to be drawn; pure, like models",
    ("sts_app.pages.dashboard", "sts_app.billing.rules"): "the words of a purchase's states; pure, like models",
    ("sts_app.pages.dashboard", "sts_app.billing.account"): "what a customer reads of their money; reads alone",
    ("sts_app.pages.views", "sts_app.billing.account"): "as above",
    ("sts_app.ops.services", "sts_app.billing.reminders"): "services of billing under a word of their own",
    ("sts_app.ops.services", "sts_app.billing.evidence"): "the sweep warns of disputes whose time runs out",
    ("sts_app.pages.dashboard", "sts_app.accounts.visits"): "services of accounts under a word of their own",
    ("sts_app.pages.dashboard_names", "sts_app.provisioning.rules"): "the words of a grant's states; pure, like models",
    ("sts_app.pages.dashboard_news", "sts_app.provisioning.rules"): "what set a cycle off; pure, like models",
    ("sts_app.pages.dashboard", "sts_app.provisioning.explain"): "what a customer reads comes from what explains",
    ("sts_app.ops.queries", "sts_app.provisioning.slo"): "health shows how the promise is kept; reads alone",
    ("sts_app.admin.queries", "sts_app.provisioning.rules"): "the words of a grant's states; pure, like models",
    (
        "sts_app.ops.doctor",
        "sts_app.provisioning.credentials",
    ): "its own reads: whether they open, and how old they are",
}

# What the queue's door may take from its own room: the steps of long work are files of their own.
STEPS = {
    "services",
    "queries",
    "engine",
    "inbox",
    "invariants",
    "control",
    "credentials",
    "pace",
    "reconcile",
    "comparing",
}


VIEWS = {
    "views",
    "files",
    "patterns",
    "admin",
    "dashboard",
    "purchases",
    "dev",
    "profile",
    "new_address",
    "with_google",
    "going_on",
}


def in_room(path: Path) -> str:
    return path.relative_to(APP).as_posix()


def named(stem: str) -> list[Path]:
    return sorted(APP.glob(f"*/{stem}.py"))


def test_the_floors_hold():
    linter = Path(sys.executable).with_name("lint-imports")

    told = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert told.returncode == 0, told.stdout + told.stderr


def test_a_room_takes_from_another_only_what_is_open():
    offenders, used = [], set()
    for path in files(*(APP / room for room in ROOMS)):
        own = path.relative_to(APP).parts[0]
        for module in imported_modules(path):
            _, room, file = (*module.split("."), "", "")[:3]
            if not module.startswith("sts_app.") or room == own or room not in ROOMS or file in OPEN_TO_ALL:
                continue
            used.add((module_of(path), module))
            if (module_of(path), module) not in OPEN_TO_SOME:
                offenders.append(f"{shown(path)} imports {module}")

    assert offenders == []
    assert OPEN_TO_SOME.keys() - used == set(), "exceptions that nobody needs any more"


def test_core_knows_no_room():
    offenders = [
        f"{shown(path)} imports {module}"
        for path in files(APP / "core")
        for module in imported_modules(path)
        if module.startswith("sts_app.") and module.split(".")[1] not in ("core", "settings")
    ]

    assert offenders == []


def test_a_queue_door_knows_its_own_room_alone():
    offenders = []
    for path in files(JOBS):
        own = path.stem if path.stem in ROOMS else "ops"  # the two processes lead back to ops
        for module in imported_modules(path):
            if not module.startswith("sts_app."):
                continue
            _, room, file = (*module.split("."), "", "")[:3]
            if room != "core" and (room != own or file not in STEPS | {""}):
                offenders.append(f"{shown(path)} imports {module}")

    assert offenders == []


@pytest.mark.parametrize("path", named("gateway"), ids=in_room)
def test_a_gateway_imports_the_standard_library_alone(path):
    assert {module for module in imported_modules(path) if module.split(".")[0] not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("path", named("rules"), ids=in_room)
def test_rules_import_the_standard_library_and_their_gateway_alone(path):
    own_gateway = f"{module_of(path.parent / '__init__.py')}.gateway"

    foreign = {each for each in imported_modules(path) if each.split(".")[0] not in sys.stdlib_module_names}

    assert foreign - {own_gateway} == set()


@pytest.mark.parametrize("path", [*named("live*"), *named("simulated*")], ids=in_room)
def test_an_adapter_and_its_twin_know_their_gateway_and_no_table(path):
    room = module_of(path.parent / "__init__.py")
    known = ("sts_app.core.clock", "sts_app.core.store", f"{room}.gateway", f"{room}.live", f"{room}.simulated")

    ours = {each for each in imported_modules(path) if each.startswith(("sts_app", "sqlalchemy", "flask"))}

    assert {each for each in ours if not each.startswith(known)} == set()


def test_views_neither_commit_nor_write():
    """A view's one transaction is the wrapper's; `checkpoint()` is the only end it may name."""
    offenders = []
    for path in files(*(APP / room for room in ROOMS)):
        if path.stem not in VIEWS:
            continue
        offenders += [
            f"{shown(path)}:{each.line} imports {each.name}"
            for each in imports(path)
            if (each.module == "sts_app.core.db" and each.name != "checkpoint") or each.module.startswith("sqlalchemy")
        ]

    assert offenders == []


def test_time_comes_from_the_clock_alone():
    offenders = [
        f"{shown(path)}:{node.lineno} {ast.unparse(node)}"
        for path in files(APP, JOBS)
        if path
        not in (APP / "core" / "clock.py", APP / "ops" / "local.py")  # local: a log line as a person's watch says
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("datetime.now", "datetime.utcnow", "date.today", "sa.func.now", "func.now")
    ]

    assert offenders == []
