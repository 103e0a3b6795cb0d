"""Reads of privacy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import OPEN, ErasureState, is_overdue


def open_of(user_id: int) -> Erasure | None:
    """The wish of this person to be erased, if one is open."""
    return db.session.scalar(sa.select(Erasure).where(Erasure.user_id == user_id, Erasure.state.in_(OPEN)))


def all_of(user_id: int) -> Sequence[Erasure]:
    """Every wish of a person, taken back or not, oldest first."""
    return db.session.scalars(sa.select(Erasure).where(Erasure.user_id == user_id).order_by(Erasure.id)).all()


def by_ref(ref: str) -> Erasure:
    """The erasure with this reference. Raises `NotThere`."""
    found = db.session.scalar(sa.select(Erasure).where(Erasure.ref == ref)) if "\x00" not in ref else None
    if found is None:
        raise NotThere(cause="an erasure by its reference")
    return found


def called(number_or_ref: str) -> Erasure:
    """The erasure with this number or reference, for staff. Raises `NotThere`."""
    if number_or_ref.isascii() and number_or_ref.isdecimal() and len(number_or_ref) < 19:
        found = db.session.get(Erasure, int(number_or_ref))
        if found is not None:
            return found
    try:
        return by_ref(number_or_ref)
    except NotThere:
        raise NotThere(f"There is no erasure called {number_or_ref}. `sts privacy list --all` lists them.") from None


def latest(limit: int, *, everything: bool, before: int | None = None) -> Sequence[Erasure]:
    """Open erasures, or with `everything` all of them, newest first, at most `limit`, `before` the one of a number."""
    statement = sa.select(Erasure).order_by(Erasure.id.desc()).limit(limit)
    if not everything:
        statement = statement.where(Erasure.state.in_(OPEN))
    if before is not None:
        statement = statement.where(Erasure.id < before)
    return db.session.scalars(statement).all()


def due(now: datetime) -> list[int]:
    """Numbers of the erasures that a worker has to look at: whose time to begin has come, and all that have begun."""
    statement = sa.select(Erasure.id).where(
        sa.or_(
            Erasure.state == ErasureState.REVOKING,
            sa.and_(Erasure.state == ErasureState.REQUESTED, Erasure.begins_at <= now),
        )
    )
    return list(db.session.scalars(statement.order_by(Erasure.id)))


def overdue(now: datetime | None = None) -> list[Erasure]:
    """The erasures that take too long, who waits longest first."""
    now = now or clock.now()
    begun = sa.select(Erasure).where(Erasure.state == ErasureState.REVOKING).order_by(Erasure.begun_at)
    return [each for each in db.session.scalars(begun) if is_overdue(each.begun_at, each.waits, now)]


def open_count() -> int:
    return db.session.scalar(sa.select(sa.func.count()).where(Erasure.state.in_(OPEN))) or 0
