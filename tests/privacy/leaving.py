"""Somebody who leaves: how they ask, how time goes on for them, and what is left of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobs import privacy as privacy_job
from sts_app.accounts.models import User
from sts_app.core.db import Base
from sts_app.core.db import db as database
from sts_app.privacy import services
from sts_app.privacy.models import Erasure
from tests.builders import in_a_transaction, work

A_DAY = timedelta(hours=24)
# Not ours: what the simulated vendors remember, as the real ones would. It is empty in production.
OF_VENDORS = {"simulator_record"}


def asked(user: User) -> Erasure:
    """This person's wish to be erased, just taken in."""
    erasure: Erasure = in_a_transaction(lambda: services.request(user, actor=f"user:{user.id}"))
    return erasure


def go_on() -> None:
    """Let the worker of erasures take one turn."""
    database.session.commit()
    privacy_job.work()
    database.session.expire_all()


def begun(user: User, clock: Any, *, after: timedelta = A_DAY) -> Erasure:
    """The same a day later, closed. In less than a day a payment page that was open then is open still."""
    erasure = asked(user)
    erasure.begins_at = erasure.created_at + after
    clock.shift(after)
    go_on()
    return erasure


def ended(user: User, clock: Any, *, rounds: int = 6, after: timedelta = A_DAY) -> Erasure:
    """The same to the end, with every other worker at work in between."""
    erasure = begun(user, clock, after=after)
    for _ in range(rounds):
        work()
        go_on()
        clock.shift(timedelta(minutes=1))
    return erasure


def traces_of(*words: str) -> dict[str, list[str]]:
    """Every row, of whichever table, that holds one of these words in whatever column, by table."""
    database.session.flush()
    found: dict[str, list[str]] = {}
    for table in Base.registry.metadata.sorted_tables:
        if table.name in OF_VENDORS:
            continue
        whole = sa.cast(sa.literal_column(f'"{table.name}"'), sa.Text)
        holds = sa.or_(*(whole.icontains(word, autoescape=True) for word in words))
        rows = database.session.scalars(sa.select(whole).select_from(table).where(holds)).all()
        if rows:
            found[table.name] = [str(row)[:300] for row in rows]
    return found
