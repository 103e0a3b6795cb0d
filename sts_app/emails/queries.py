"""Reads of the outbox, and of what became of its letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from flask import current_app

from sts_app.core.db import db
from sts_app.emails.arrivals import RELEASED_WITHIN
from sts_app.emails.gateway import Happened
from sts_app.emails.models import EmailMessage, LetterState, MailAddress, lost_key
from sts_app.emails.plain import SIGNATURE
from sts_app.emails.rules import Standing
from sts_app.emails.words import in_words

# For so long a letter that did not arrive is shown to whom it was for.
SHOWN_FOR = timedelta(days=90)
CAME_BACK = (Happened.BOUNCED, Happened.BOUNCED_SOFTLY, Happened.SUPPRESSED, Happened.FAILED)
NOT_TAKEN = (LetterState.FAILED, LetterState.UNSURE)
# The letter that tells of lost letters; it must not be a reason for the next one.
ABOUT_THE_LOST = "admin_letters_lost"


def letters_to(user_id: int, *, latest: int = 100) -> Sequence[EmailMessage]:
    """The latest letters to a person that were sent, newest first, without those that held a secret."""
    statement = sa.select(EmailMessage).where(
        EmailMessage.user_id == user_id, EmailMessage.state == LetterState.SENT, ~EmailMessage.secret
    )
    return db.session.scalars(statement.order_by(EmailMessage.id.desc()).limit(latest)).all()


def standing_of(address: str) -> Standing:
    """How an address stands."""
    row = db.session.scalar(sa.select(MailAddress).where(MailAddress.address == address.lower()))
    return row.standing if row is not None else Standing()


def words_about(address: str) -> str:
    """What the other side said when the last letter to this address came back; empty when it said nothing."""
    return db.session.scalar(sa.select(MailAddress.words).where(MailAddress.address == address.lower())) or ""


@dataclass(frozen=True)
class NotArrived:
    """A letter that did not reach its reader, as the reader sees it on a page.

    `is_waiting`: it goes out once letters reach the address again; `is_over`: it was kept back, and goes no more.
    """

    number: int
    subject: str
    text: str
    written_at: datetime
    words: str
    said: str
    is_waiting: bool
    is_over: bool


def not_arrived(user_id: int, now: datetime, *, latest: int = 50) -> Sequence[NotArrived]:
    """The letters to a person that did not arrive, newest first, without those that held a secret."""
    statement = sa.select(EmailMessage).where(
        EmailMessage.user_id == user_id,
        _is_lost(),
        EmailMessage.need == "needed",
        ~EmailMessage.secret,
        EmailMessage.created_at > now - SHOWN_FOR,
    )
    return [
        NotArrived(
            number=letter.id,
            subject=letter.subject,
            # Not what stands below the signature's line: that is about getting the letter.
            text=letter.text.partition(f"\n{SIGNATURE}\n")[0].strip(),
            written_at=letter.created_at,
            words=in_words(letter),
            said=letter.trouble_words,
            is_waiting=letter.state == LetterState.WITHHELD and letter.created_at > now - RELEASED_WITHIN,
            is_over=letter.state == LetterState.WITHHELD and letter.created_at <= now - RELEASED_WITHIN,
        )
        for letter in db.session.scalars(statement.order_by(EmailMessage.id.desc()).limit(latest))
    ]


def letters_due(now: datetime) -> int:
    """How many letters a worker could take at this moment."""
    return _count(EmailMessage.due(now))


def letters_in_trouble() -> int:
    """Letters that our provider keeps refusing or did not send, and that nobody on the staff has looked at."""
    ended = EmailMessage.state.in_(NOT_TAKEN)
    not_sent = EmailMessage.trouble == Happened.FAILED
    retried = sa.and_(EmailMessage.state == LetterState.QUEUED, EmailMessage.last_error.is_not(None))
    return _count(sa.or_(sa.and_(sa.or_(ended, not_sent), EmailMessage.seen_at.is_(None)), retried))


def lost_letters(
    *, latest: int, before: int | None = None, unseen: bool = False, until: datetime | None = None
) -> Sequence[EmailMessage]:
    """The letters that did not arrive or were called spam, newest first, for staff.

    `before` is the number of a letter to go on from, `until` leaves out what was written later.
    """
    statement = sa.select(EmailMessage).where(*_lost_for_staff(unseen=unseen, until=until))
    if before is not None:
        statement = statement.where(EmailMessage.id < before)
    return db.session.scalars(statement.order_by(EmailMessage.id.desc()).limit(latest)).all()


def count_lost_unseen(until: datetime) -> int:
    """How many letters written until then did not arrive, without anybody on the staff having looked."""
    return _count(sa.and_(*_lost_for_staff(unseen=True, until=until)))


def is_told_of_lost(now: datetime) -> bool:
    """Whether staff were told today of letters that did not arrive, or there is nobody to tell."""
    if not current_app.config["STS"].admin_emails:
        return True
    key = f"{lost_key(now)}:0"
    return db.session.scalar(sa.select(EmailMessage.id).where(EmailMessage.key == key)) is not None


def _lost_for_staff(*, unseen: bool, until: datetime | None) -> list[sa.ColumnElement[bool]]:
    # What anybody can have written to any address says nothing to staff when it comes back.
    is_ours = sa.or_(EmailMessage.need == "needed", EmailMessage.state.in_(NOT_TAKEN))
    conditions: list[sa.ColumnElement[bool]] = [
        sa.or_(_is_lost(), EmailMessage.trouble == Happened.COMPLAINED),
        EmailMessage.kind != ABOUT_THE_LOST,
        is_ours,
    ]
    if unseen:
        conditions.append(EmailMessage.seen_at.is_(None))
    if until is not None:
        conditions.append(EmailMessage.created_at <= until)
    return conditions


def _is_lost() -> sa.ColumnElement[bool]:
    ended = EmailMessage.state.in_((*NOT_TAKEN, LetterState.WITHHELD))
    # What came back came back, whatever its reader has shown of it before.
    return sa.or_(sa.and_(ended, EmailMessage.delivered_at.is_(None)), EmailMessage.trouble.in_(CAME_BACK))


def _count(condition: sa.ColumnElement[bool]) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(EmailMessage).where(condition)) or 0
