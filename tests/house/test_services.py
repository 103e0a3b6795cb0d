"""Services hold the rules: they do not know the door, do not end a transaction, and say what they promise."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.source import APP, JOBS, files, imports, shown, tree_of

ROOMS = [path for path in APP.iterdir() if (path / "__init__.py").exists() and path.name != "core"]
# Files that are called from every door: they flush, and the door commits.
BEHIND_THE_DOOR = {"services", "queries", "models", "rules", "letters", "engine", "inbox", "gateway", "invariants"}
BEHIND_THE_DOOR |= {
    "control",
    "credentials",
    "cycles",
    "names",
    "name_check",
    "pace",
    "worklist",
    "findings",
    "explain",
    "slo",
    "account",
    "comparing_payments",
    "customers",
    "evidence",
    "ledger",
    "letters_money",
    "letters_note",
    "products",
    "refunds",
    "reminders",
    "reasons",
    "settling",
    "subscriptions",
    "withdrawals",
    "words",
    "addresses",
    "identities",
    "ways_in",
    "desk",
    "desk_queries",
    "drafts",
    "links",
    "privacy",
    "export",
    "deletions",
    "late",
}
ENDS_OF_TRANSACTIONS = {"commit", "rollback", "transaction", "checkpoint"}
WORDS_OF_THE_WEB = {"request", "session", "current_user", "login_user", "logout_user", "flash", "redirect", "g"}

ENDED_ON_PURPOSE = {
    ("ops/queries.py", "rollback"): "health reads on after a statement that failed, and PostgreSQL wants an end first",
}


def behind_the_door() -> list[Path]:
    return [path for path in files(*ROOMS) if path.stem in BEHIND_THE_DOOR]


def in_room(path: Path) -> str:
    return path.relative_to(APP).as_posix()


def public(body: list[ast.stmt]) -> list[ast.FunctionDef]:
    return [node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def test_nobody_behind_the_door_ends_a_transaction():
    used = set()
    for path in behind_the_door():
        taken = {each.name for each in imports(path)} | {
            node.func.attr
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        used |= {(in_room(path), word) for word in taken & ENDS_OF_TRANSACTIONS}

    assert used == ENDED_ON_PURPOSE.keys()


def test_nobody_behind_the_door_knows_which_door_it_was():
    offenders = [
        f"{shown(path)}:{each.line} imports {each.name} of {each.module}"
        for path in behind_the_door()
        for each in imports(path)
        if each.module in ("flask", "flask_login", "flask.globals") and each.name in WORDS_OF_THE_WEB
    ]

    assert offenders == []


@pytest.mark.parametrize("path", files(APP, JOBS), ids=shown)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("path", sorted(APP.glob("*/services.py")), ids=in_room)
def test_a_service_says_what_it_promises(path):
    silent = [function.name for function in public(tree_of(path).body) if not ast.get_docstring(function)]

    assert silent == []


@pytest.mark.parametrize("path", sorted(APP.glob("*/gateway.py")), ids=in_room)
def test_a_gateway_says_what_each_call_does(path):
    protocols = [
        node
        for node in tree_of(path).body
        if isinstance(node, ast.ClassDef) and "Protocol" in [ast.unparse(base) for base in node.bases]
    ]

    assert protocols
    assert [call.name for each in protocols for call in public(each.body) if not ast.get_docstring(call)] == []


def test_a_queue_door_opens_transactions_and_writes_no_sql():
    offenders = [
        f"{shown(path)}:{each.line} imports {each.name or each.module}"
        for path in files(JOBS)
        for each in imports(path)
        if each.module == "sqlalchemy" or each.module.startswith(("sqlalchemy.orm", "sqlalchemy.sql"))
    ]

    assert offenders == []
