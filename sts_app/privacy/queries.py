"""Reads of privacy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sts_app.accounts import queries as accounts
from sts_app.accounts.models import User
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.emails import privacy as letters
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import OPEN, ErasureState, is_overdue


def addresses_of(user: User) -> list[str]:
    """The person's address, and those from before that nobody else has by now; without capitals."""
    former = letters.addresses_of(user.id)
    return sorted({user.email.lower(), *(each for each in former if not accounts.is_anothers(each, user.id))})


def open_of(user_id: int) -> Erasure | None:
    """The wish of this person to be erased, if one is open."""
    theirs = Erasure.user_id == user_id
    return db.session.scalar(sa.select(Erasure).where(theirs, Erasure.state.in_(OPEN), _is_wanted()))


def called_off_of(user_id: int) -> int | None:
    """The number of this person's wish that was called off with a change of their address, and is still on record."""
    asked = Erasure.state == ErasureState.REQUESTED
    return db.session.scalar(sa.select(Erasure.id).where(Erasure.user_id == user_id, asked, ~_is_wanted()))


def all_of(user_id: int) -> Sequence[Erasure]:
    """Every wish of a person, taken back or not, oldest first."""
    return db.session.scalars(sa.select(Erasure).where(Erasure.user_id == user_id).order_by(Erasure.id)).all()


def by_ref(ref: str) -> Erasure:
    """The erasure with this reference. Raises `NotThere`."""
    found = db.session.scalar(sa.select(Erasure).where(Erasure.ref == ref))
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


def latest(limit: int, *, everything: bool, before: int | None = None, late_only: bool = False) -> Sequence[Erasure]:
    """Open erasures, or with `everything` all of them, newest first, at most `limit`, `before` the one of a number.

    With `late_only` those that take too long.
    """
    if late_only:
        late = sorted(overdue(), key=lambda each: each.id, reverse=True)
        return [each for each in late if before is None or each.id < before][:limit]
    statement = sa.select(Erasure).order_by(Erasure.id.desc()).limit(limit)
    if not everything:
        statement = statement.where(Erasure.state.in_(OPEN))
    if before is not None:
        statement = statement.where(Erasure.id < before)
    return db.session.scalars(statement).all()


def due(now: datetime) -> list[int]:
    """Numbers of the erasures that a worker has to look at: all that have begun, and of the others those whose time
    has come or that were called off."""
    statement = sa.select(Erasure.id).where(
        sa.or_(
            Erasure.state == ErasureState.REVOKING,
            sa.and_(Erasure.state == ErasureState.REQUESTED, sa.or_(Erasure.begins_at <= now, ~_is_wanted())),
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


def _is_wanted() -> sa.ColumnElement[bool]:
    """Accounts, a floor below, blanks the person's own mark when an old mailbox takes their address back."""
    return sa.exists().where(User.id == Erasure.user_id, User.leaving_at.is_not(None))
