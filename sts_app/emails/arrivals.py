"""What becomes of a letter after the provider took it, and what that says of its address.

The provider tells by events, which come late, twice, in any order, and now and then before our own record of what
the letter is called there. So an event is stored, a letter's fate is merged from all of them, and order does not
matter.

Locks come in one order: the line of the provider's name, what is on record of the address, then its letters. A worker
alone takes a letter before its address, and only one that is still in motion; nobody who holds an address changes such
a letter but `arrived`, whose own letter is in motion only while a worker's answer was lost.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from sts_app.core import clock, queue
from sts_app.core.db import db
from sts_app.emails.gateway import Happened, LetterEvent
from sts_app.emails.models import EmailMessage, LetterState, MailAddress, MailEvent
from sts_app.emails.rules import OF_THE_ADDRESS, Fate, Trust, fate_of, merged

log = structlog.get_logger()

WORK = "emails.work"
# What was kept back for longer says nothing any more that its reader would not find on the dashboard.
RELEASED_WITHIN = timedelta(days=30)


def take_in(event: LetterEvent) -> bool:
    """Store what the provider told and mark the letter it is about. False for an event that was taken in before.

    Of a letter whose reader is forgotten the other side's words are not kept, and of its address nothing.
    """
    stand_in_line(event.provider_id)
    letter = _locked(EmailMessage.provider_id == event.provider_id)
    words = "" if letter is not None and not letter.to_address else event.words
    statement = insert(MailEvent).values(
        external_id=event.id,
        provider_id=event.provider_id,
        happened=event.happened,
        at=event.at,
        words=words,
        created_at=clock.now(),
    )
    is_new = db.session.scalar(statement.on_conflict_do_nothing(index_elements=["external_id"]).returning(MailEvent.id))
    if is_new is None:
        return False
    if letter is not None:
        _learn(letter, event.happened, event.at, words)
    return True


def stand_in_line(provider_id: str) -> None:
    """Let what is told of a letter, and our own record of its name there, be written one after the other.

    Otherwise neither might see the other. Held to the end of this transaction only, so it works behind a
    transaction pooler. Take it before the letter's own row.
    """
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"letter:{provider_id}"))))


def hear_again(letter: EmailMessage) -> None:
    """Mark a letter with what was told of it before it was known by that name."""
    told = sa.select(MailEvent).where(MailEvent.provider_id == letter.provider_id).order_by(MailEvent.id)
    for event in db.session.scalars(told):
        _learn(letter, Happened(event.happened), event.at, event.words)


class Arrival(StrEnum):
    """What the use of a letter shows."""

    NEWS = "news"  # letters reach this address again
    KNOWN = "known"  # nothing spoke against it
    OUTDATED = "outdated"  # a letter written later came back


def arrived(key: str) -> Arrival:
    """Somebody used what only the letter under `key` held: letters to its address arrive.

    Whatever bounced or was called spam before that letter was written counts no more, and what was kept back
    meanwhile is sent. Quiet for a key that no letter has.
    """
    letter = _locked(EmailMessage.key == key)
    if letter is None:
        return Arrival.KNOWN
    now = clock.now()
    letter.fate = merged(letter.fate, Fate(delivered_at=now))
    address = address_for_sending(letter.to_address)
    if address is None or address.standing.trust is Trust.FINE:
        return Arrival.KNOWN
    if any(at is not None and at >= letter.created_at for at in (address.bounced_at, address.complained_at)):
        return Arrival.OUTDATED
    address.confirmed_at, address.tried_at = now, None
    count = _release(letter.to_address, now)
    log.info("emails.address_confirmed", message_id=letter.id, released=count)
    return Arrival.NEWS


def address_for_sending(address: str) -> MailAddress | None:
    """What is on record of an address, locked; None for one that never had trouble, as for most.

    The lock keeps a letter from being held back at the moment in which its address is confirmed.
    """
    statement = sa.select(MailAddress).where(MailAddress.address == address.lower()).with_for_update()
    return db.session.scalar(statement.execution_options(populate_existing=True))


def look_at(numbers: Collection[int] | None, *, by: str, now: datetime) -> int:
    """Note that somebody on the staff has looked at letters that did not arrive, all of them for None.

    How many that was for. Safe to call twice.
    """
    statement = sa.update(EmailMessage).where(
        EmailMessage.seen_at.is_(None),
        sa.or_(
            EmailMessage.state.in_((LetterState.FAILED, LetterState.UNSURE, LetterState.WITHHELD)),
            EmailMessage.trouble.is_not(None),
        ),
    )
    if numbers is not None:
        statement = statement.where(EmailMessage.id.in_(numbers))
    seen = statement.values(seen_at=now, seen_by=by).returning(EmailMessage.id)
    return len(db.session.scalars(seen.execution_options(synchronize_session="fetch")).all())


def _locked(which: sa.ColumnElement[bool]) -> EmailMessage | None:
    """The first of these letters, locked, and before it what is on record of its address."""
    first = sa.select(EmailMessage).where(which).order_by(EmailMessage.id).limit(1)
    to = db.session.scalar(first.with_only_columns(EmailMessage.to_address))
    if to:
        address_for_sending(to)
    return db.session.scalar(first.with_for_update().execution_options(populate_existing=True))


def _learn(letter: EmailMessage, happened: Happened, at: datetime, words: str) -> None:
    before = letter.fate
    letter.fate = merged(before, fate_of(happened, at, words))
    if not letter.to_address:
        return  # its reader is forgotten: there is no address to note, and nothing left that staff could do
    if letter.fate.trouble is not before.trouble:
        letter.seen_at = letter.seen_by = None
        log.info("emails.told", message_id=letter.id, kind=letter.kind, happened=happened, trouble=letter.trouble)
    if happened in OF_THE_ADDRESS:
        _note_trouble(letter.to_address, happened, at, words)
    elif happened is Happened.DELIVERED and letter.need == "asked":
        address = address_for_sending(letter.to_address)
        if address is not None and address.tried_at is not None and address.tried_at <= at:
            address.tried_at = None


def _note_trouble(to: str, happened: Happened, at: datetime, words: str) -> None:
    row = insert(MailAddress).values(address=to.lower(), words="", created_at=clock.now())
    db.session.execute(row.on_conflict_do_nothing(index_elements=["address"]))
    address = address_for_sending(to)
    assert address is not None, "it was put there a statement ago"
    if happened is Happened.COMPLAINED:
        address.complained_at = max(at, address.complained_at or at)
        return
    if address.bounced_at is None or at >= address.bounced_at:
        address.bounced_at, address.words = at, words


def _release(to: str, now: datetime) -> int:
    """Send what was kept back from an address and is needed."""
    released = (
        sa.update(EmailMessage)
        .where(
            EmailMessage.state == LetterState.WITHHELD,
            EmailMessage.goes_to(to),
            EmailMessage.need == "needed",
            EmailMessage.created_at > now - RELEASED_WITHIN,
        )
        .values(state=LetterState.QUEUED, next_attempt_at=now, last_error=None, seen_at=None, seen_by=None)
        .returning(EmailMessage.id)
    )
    count = len(db.session.scalars(released.execution_options(synchronize_session="fetch")).all())
    if count:
        queue.wake(WORK)
    return count
