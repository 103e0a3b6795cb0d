"""The verbs of privacy: ask to be erased, take that back, have it looked at again, warn of what takes too long."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts import privacy as accounts
from sts_app.accounts import queries as accounts_rows
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere, Refusal
from sts_app.core.queue import wake
from sts_app.privacy import letters, queries
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import GRACE, ErasureState, is_overdue

WORK = "privacy.work"
# What is typed to show that it is meant.
PHRASE = "erase my account"


class StaffStays(Refusal):
    status = 409
    code = "STAFF_STAYS"
    title = "This account belongs to the staff"
    sentence = (
        "This account belongs to the staff of the store, so it cannot be erased as it is. Have its address taken out "
        "of ADMIN_EMAIL first, and then its role by `sts admin revoke`."
    )


class TooLate(AlreadyDone):
    code = "ERASURE_BEGUN"
    title = "The erasure has begun"
    sentence = "The erasure has begun already, so it cannot be taken back any more."


def check_phrase(typed: str) -> None:
    """Raise `FixInput` unless what was typed is the phrase, however it is capitalised and spaced."""
    if " ".join(typed.split()).lower() != PHRASE:
        raise FixInput(f"Nothing was erased. To go on, type these words: {PHRASE}")


def request(user: User, *, actor: str) -> Erasure:
    """Write down that this person wants to be erased. A second time finds the first. Raises `StaffStays`.

    From now on nothing can be bought. The rest begins after a day, in which it can be taken back, and not before the
    last change of their address can be called off no longer: whoever asks may have made it.
    """
    now = clock.now()
    if user.is_staff:
        raise StaffStays(cause=f"user:{user.id}")
    settle_called_off(user.id)
    grace: timedelta = current_app.config["STS"].scaled(GRACE)
    made = db.session.scalar(
        insert(Erasure)
        .values(
            ref=f"era_{tokens.new_secret()[:24]}",
            user_id=user.id,
            state=ErasureState.REQUESTED,
            asked_by=actor,
            begins_at=now + grace,
            waits=[],
            report={},
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Erasure.id)
    )
    if made is None:
        erasure = queries.open_of(user.id)
        if erasure is None:
            raise AlreadyDone("This account has just been erased.")
        return erasure
    person = accounts.locked(user.id)
    accounts.refuse_closed(person)
    person.leaving_at = now
    erasure = db.session.get_one(Erasure, made)
    # Read with the person's turn taken: from here on no change of address is confirmed.
    changes = accounts_rows.standing_changes_of(user.id, now)
    erasure.begins_at = max([erasure.begins_at, *(each.call_off_until for each in changes if each.call_off_until)])
    db.session.flush()
    audit.record(actor, "privacy.erasure_requested", f"user:{user.id}", erasure=made)
    letters.requested(person, erasure)
    for change in changes:
        if change.old_email.lower() != person.email.lower():
            letters.requested_elsewhere(change, erasure)
    wake(WORK, after=erasure.begins_at - now)
    return erasure


def settle_called_off(user_id: int) -> None:
    """Close the record of a wish that an old mailbox took back with a change of address. Quiet without one.

    The person has heard of it from accounts.
    """
    known = queries.called_off_of(user_id)
    if known is None:
        return
    erasure = locked(known)
    person = accounts.locked(user_id)
    if erasure.state == ErasureState.REQUESTED and person.leaving_at is None:
        erasure.state, erasure.cancelled_at = ErasureState.CANCELLED, clock.now()
        db.session.flush()
        because = "the change of address was called off"
        audit.record(audit.SYSTEM, "privacy.erasure_cancelled", f"user:{user_id}", erasure=erasure.id, because=because)


def cancel(user: User, *, actor: str) -> Erasure:
    """Take the wish back, while it has not begun. Raises `NotThere` without one, and `TooLate`."""
    known = queries.open_of(user.id)
    if known is None:
        raise NotThere("There is no wish to be erased that could be taken back.", cause=f"user:{user.id}")
    erasure = locked(known.id)
    if erasure.state != ErasureState.REQUESTED:
        raise TooLate(cause=f"erasure:{erasure.id}")
    erasure.state, erasure.cancelled_at = ErasureState.CANCELLED, clock.now()
    person = accounts.locked(user.id)
    person.leaving_at = None
    db.session.flush()
    audit.record(actor, "privacy.erasure_cancelled", f"user:{user.id}", erasure=erasure.id)
    letters.cancelled(person, erasure)
    return erasure


def retry(erasure_id: int, *, actor: str) -> Erasure:
    """Have an erasure looked at now. Raises `AlreadyDone` for one that is over or has not begun."""
    erasure = locked(erasure_id)
    if erasure.state != ErasureState.REVOKING:
        raise AlreadyDone(f"This erasure is {erasure.state}: there is nothing to look at again.")
    audit.record(actor, "privacy.erasure_retried", f"erasure:{erasure.id}")
    wake(WORK)
    return erasure


def warn(erasure_id: int) -> None:
    """Tell staff once a day of an erasure that takes too long, if it still does."""
    erasure = locked(erasure_id)
    now = clock.now()
    if erasure.state == ErasureState.REVOKING and is_overdue(erasure.begun_at, erasure.waits, now):
        letters.overdue(erasure, on=now)


def locked(erasure_id: int) -> Erasure:
    """The erasure with its turn taken: it comes before every other lock. Raises `NotThere`."""
    statement = sa.select(Erasure).where(Erasure.id == erasure_id).with_for_update()
    erasure = db.session.scalar(statement.execution_options(populate_existing=True))
    if erasure is None:
        raise NotThere(cause=f"erasure:{erasure_id}")
    return erasure
