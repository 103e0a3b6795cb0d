"""Models and migrations say the same, and a migration leads back as well as on."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from importlib import import_module

import flask_migrate
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask

from sts_app import create_app
from sts_app.core.db import MIGRATIONS
from sts_app.core.db import db as database
from sts_app.settings import load
from tests.house.source import APP, imported_modules, module_of, tree_of
from tests.world import ENV, Servers

SCRIPTS = ScriptDirectory(str(MIGRATIONS))
VERSIONS = sorted((MIGRATIONS / "versions").glob("*.py"))
for models in APP.glob("*/models.py"):
    import_module(module_of(models))


@contextlib.contextmanager
def house_on(url: str, servers: Servers) -> Iterator[tuple[Flask, sa.Engine]]:
    """An app on the database at `url`, for the commands, and an engine to look at what they did."""
    app = create_app(load({**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "WARNING"}))
    engine = sa.create_engine(app.config["STS"].database_url, poolclass=sa.NullPool)
    with app.app_context():
        yield app, engine
        database.engine.dispose()


def differences(engine: sa.Engine) -> list[object]:
    """What alembic would write into a new migration, and check constraints, which it does not compare."""
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        found: list[object] = list(compare_metadata(context, database.metadata))
        standing = sa.inspect(connection)
        for table in database.metadata.sorted_tables:
            wanted = {str(check.name) for check in table.constraints if isinstance(check, sa.CheckConstraint)}
            there = {check["name"] for check in standing.get_check_constraints(table.name)}
            found += [("check", table.name, name) for name in wanted ^ there]
    return found


def test_models_and_migrations_agree(servers):
    with servers.database(servers.migrated) as url, house_on(url, servers) as (_, engine):
        assert differences(engine) == []


def test_a_difference_would_be_found(servers):
    with servers.database(servers.migrated) as url, house_on(url, servers) as (_, engine):
        with engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE strategy ADD COLUMN stray integer"))
            connection.execute(sa.text("ALTER TABLE strategy ADD CONSTRAINT stray_check CHECK (true)"))

        found = str(differences(engine))

    assert "remove_column" in found
    assert "stray_check" in found


def test_every_migration_leads_back_and_on_again(servers):
    with servers.database("template0") as url, house_on(url, servers) as (_, engine):
        flask_migrate.upgrade()
        flask_migrate.downgrade(revision="base")
        with engine.connect() as connection:
            assert sa.inspect(connection).get_table_names() == ["alembic_version"]
            leftovers = "SELECT typname FROM pg_type WHERE typtype = 'e' UNION SELECT relname FROM pg_class "
            leftovers += "WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"
            assert connection.execute(sa.text(leftovers)).all() == []

        flask_migrate.upgrade()

        assert differences(engine) == []
        with engine.connect() as connection:
            at = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        assert at == SCRIPTS.get_current_head()


def test_there_is_one_line_of_migrations():
    assert len(SCRIPTS.get_heads()) == len(SCRIPTS.get_bases()) == 1
    assert len(list(SCRIPTS.walk_revisions())) == len(VERSIONS)


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_needs_none_of_todays_code(path):
    assert {module for module in imported_modules(path) if module.split(".")[0] in ("sts_app", "jobs")} == set()


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_a_migration_says_what_it_does_and_has_both_ways(path):
    tree = tree_of(path)
    ways = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}

    assert ast.get_docstring(tree)
    assert {"upgrade", "downgrade"} <= ways.keys()
    for way in ways.values():
        assert any(isinstance(node, ast.Call) for node in ast.walk(way)), way.name
