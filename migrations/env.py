"""Run migrations with the app's own engine settings, on the unpooled address when there is one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context
from flask import current_app

from sts_app.core.db import UTCDateTime, db

settings = current_app.config["STS"]
LOCK_TIMEOUT_MS = 5_000


def render_item(kind: str, item: object, autogen_context: object) -> str | bool:
    """Write our column type as the plain one it is, so that an old migration needs none of today's code."""
    if kind == "type" and isinstance(item, UTCDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def run() -> None:
    engine = sa.create_engine(settings.database_url_unpooled or settings.database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            render_item=render_item,
            transaction_per_migration=True,
            **current_app.extensions["migrate"].configure_args,
        )
        with context.begin_transaction():
            # A migration that waits behind a long query makes everybody wait behind it.
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            context.run_migrations()


run()
