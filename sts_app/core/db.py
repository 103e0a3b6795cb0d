"""The database, its two transaction boundaries, and the base every model stands on.

A request is one transaction (`core.web.House.dispatch_request`), and so is a step of a job
(`transaction()`). Services flush when they need an id; they never commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlalchemy.types import TypeDecorator

from sts_app.core import clock, queue
from sts_app.settings import Settings

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 5_000


class UTCDateTime(TypeDecorator[datetime]):
    """Aware UTC in, aware UTC out; a naive datetime is a bug and is refused here."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("naive datetime given to the database")
        return value


class Base(DeclarativeBase):
    registry = registry(
        metadata=sa.MetaData(naming_convention=NAMING),
        type_annotation_map={datetime: UTCDateTime(), str: sa.Text()},
    )


db = SQLAlchemy(model_class=Base)
migrate = Migrate()


class Row:
    """The columns every table has."""

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=clock.now)


def text_enum(*values: str, name: str) -> sa.CheckConstraint:
    """A state column's allowed words, as a check constraint (a new word is one small migration)."""
    listed = ", ".join(f"'{value}'" for value in values)
    column = name.removeprefix("known_")
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


def init_app(app: Flask, settings: Settings) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_pre_ping": True,
        # An error names the statement and never its values: addresses and letters have no place in a log.
        "hide_parameters": True,
        "pool_size": settings.database_pool_size,
        "max_overflow": settings.database_pool_size,
        "connect_args": {"connect_timeout": 5, "application_name": "sts", "prepare_threshold": None},
    }
    db.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        sa.event.listen(db.engine, "begin", _limit_transaction)


def _limit_transaction(connection: sa.Connection) -> None:
    """Bound what one transaction may wait for.

    Per transaction and not as a start parameter, because transaction poolers refuse the latter.
    """
    connection.exec_driver_sql(
        f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
    )


def commit() -> None:
    """Commit what we have and send the wake-ups staged with it."""
    db.session.commit()
    queue.send_staged()


def rollback() -> None:
    """Drop what we have and the wake-ups staged with it."""
    db.session.rollback()
    queue.drop_staged()


@contextmanager
def transaction() -> Iterator[None]:
    """One step of a job or a command: commits when the block ends, rolls back when it raises."""
    try:
        yield
        commit()
    except BaseException:
        rollback()
        raise


def checkpoint() -> None:
    """Commit the intent before a call to the outside, in the middle of a request.

    Named so that a reader of a view sees where the one transaction becomes two.
    """
    commit()


def claim(statement: sa.Update) -> bool:
    """Run an "update where state is still X" and say whether this caller won it."""
    result = db.session.execute(statement.execution_options(synchronize_session=False))
    return bool(result.rowcount == 1)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult
