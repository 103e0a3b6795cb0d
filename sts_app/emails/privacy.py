"""This room's rows about a person: the letters to them, and those to staff that name them."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.emails import arrivals
from sts_app.emails.models import IN_MOTION, EmailMessage, LetterState, MailAddress, MailEvent

STRUCK = "(erased)"
# The letter to an address that may turn out to be nobody's or somebody else's.
UNCONFIRMED = "email_change"


def rows_of_person(user_id: int, *, address: str) -> dict[str, Any]:
    """The letters to a person and what is on record of their address, ready for JSON, oldest first.

    Moments are ISO 8601 in UTC. Of a letter that held a secret (a sign-in link, say) its text is left out.
    """
    letters = db.session.scalars(sa.select(EmailMessage).where(_theirs(user_id, address)).order_by(EmailMessage.id))
    known = db.session.scalar(sa.select(MailAddress).where(MailAddress.address == address.lower()))
    return {
        "letters": [
            {
                "kind": each.kind,
                "to": each.to_address,
                "subject": each.subject,
                "text": None if each.secret else each.text,
                "written_at": each.created_at.isoformat(),
                "state": each.state,
                "sent_at": each.sent_at.isoformat() if each.sent_at else None,
                "delivered_at": each.delivered_at.isoformat() if each.delivered_at else None,
                "what_went_wrong": each.trouble,
                "what_the_other_side_said": each.trouble_words or None,
            }
            for each in letters
        ],
        "letters_to_your_address": {
            "came_back_at": _iso(known.bounced_at),
            "called_spam_at": _iso(known.complained_at),
            "confirmed_at": _iso(known.confirmed_at),
            "what_the_other_side_said": known.words or None,
        }
        if known is not None
        else None,
    }


def addresses_of(user_id: int) -> list[str]:
    """Every address that letters to this person went to, without capitals, but for one that they never confirmed."""
    to_address = sa.func.lower(EmailMessage.to_address)
    theirs = sa.select(to_address).where(
        EmailMessage.user_id == user_id, EmailMessage.to_address != "", EmailMessage.kind != UNCONFIRMED
    )
    return sorted(db.session.scalars(theirs.distinct()))


def in_motion(user_id: int, *, address: str, written_before: datetime) -> int:
    """How many letters to this person, or written to their address before a moment, are still to be sent."""
    theirs = _theirs(user_id, address, written_before)
    return db.session.scalar(sa.select(sa.func.count()).where(theirs, EmailMessage.state.in_(IN_MOTION))) or 0


def named_in_motion(user_id: int, *, addresses: Collection[str], names: Collection[str]) -> int:
    """How many letters to staff that hold one of a person's addresses, or are about them, are still to be sent."""
    named = sa.or_(*(sa.and_(whose, _holds(words)) for whose, words in _where(user_id, addresses, names)))
    held = sa.select(sa.func.count()).where(EmailMessage.state.in_(IN_MOTION), named)
    return db.session.scalar(held) or 0


def forget(user_id: int, *, address: str, written_before: datetime | None = None) -> int:
    """Take a person out of the letters that are done with, and what is on record of their address.

    Letters that are still to be sent are left: call it again once the last one is, with the moment when everything
    else was forgotten as `written_before`: what was written to the address later is somebody's new account. Returns
    how many letters there were. Safe to call twice.
    """
    # The address before its letters, as everywhere.
    arrivals.address_for_sending(address)
    theirs = _theirs(user_id, address, written_before)
    done = EmailMessage.state.not_in(IN_MOTION)
    told = sa.select(EmailMessage.provider_id).where(theirs, done, EmailMessage.provider_id.is_not(None))
    quiet = {"synchronize_session": "fetch"}
    db.session.execute(
        sa.update(MailEvent).where(MailEvent.provider_id.in_(told)).values(words="").execution_options(**quiet)
    )
    blank = sa.update(EmailMessage).where(theirs, done, EmailMessage.to_address != "")
    # What was kept back is not sent any more, and nobody need look at it.
    kept_back = EmailMessage.state == LetterState.WITHHELD
    blank = blank.values(
        state=sa.case((kept_back, LetterState.FAILED), else_=EmailMessage.state),
        seen_at=sa.case((kept_back, clock.now()), else_=EmailMessage.seen_at),
        to_address="",
        subject="",
        text="",
        html="",
        trouble_words="",
    )
    blanked = db.session.scalars(blank.returning(EmailMessage.id).execution_options(**quiet)).all()
    if written_before is None:
        # Last: a bounce that was told meanwhile may have written it a moment ago, and held its letter until now.
        db.session.execute(sa.delete(MailAddress).where(MailAddress.address == address.lower()))
    return len(blanked)


def take_back(beginnings: Collection[str]) -> int:
    """End and blank the letters whose keys begin so and that are not sent yet; how many that were.

    For what was written to staff about somebody: its body is sealed, so nothing can be struck out of it. A worker that
    has one in hand finds its lease gone. Safe to call twice.
    """
    under = sa.or_(sa.false(), *(EmailMessage.key.startswith(each, autoescape=True) for each in beginnings))
    ended = (
        sa.update(EmailMessage)
        .where(under, EmailMessage.state.in_((*IN_MOTION, LetterState.WITHHELD)))
        .values(
            state=LetterState.FAILED,
            text="",
            html="",
            next_attempt_at=None,
            lease_token=None,
            leased_until=None,
            last_error="whom it told of was erased",
            seen_at=clock.now(),
        )
        .returning(EmailMessage.id)
    )
    return len(db.session.scalars(ended.execution_options(synchronize_session="fetch")).all())


def strike_out(user_id: int, *, addresses: Collection[str], names: Collection[str]) -> None:
    """Take a person's addresses out of finished letters to staff, and their names out of those about them.

    A name can be any word, so it stays in letters about others. The HTML goes as a whole: a name can be a word of its
    markup. Safe to call twice.
    """
    for whose, words in _where(user_id, addresses, names):
        pattern = _pattern(words)
        struck = (
            sa.update(EmailMessage)
            .where(whose, EmailMessage.state.not_in(IN_MOTION), _holds(words))
            .values(
                subject=sa.func.regexp_replace(EmailMessage.subject, pattern, STRUCK, "gi"),
                text=sa.func.regexp_replace(EmailMessage.text, pattern, STRUCK, "gi"),
                html="",
            )
        )
        db.session.execute(struck.execution_options(synchronize_session="fetch"))


def fate_of_letter(key: str) -> tuple[str, str]:
    """Where the letter under this key goes or went, and its state as `LetterState`.

    The address is blank once its reader is forgotten; both are blank when there is no such letter.
    """
    found = db.session.execute(
        sa.select(EmailMessage.to_address, EmailMessage.state).where(EmailMessage.key == key)
    ).one_or_none()
    return (found.to_address, found.state) if found is not None else ("", "")


def _theirs(user_id: int, address: str, written_before: datetime | None = None) -> sa.ColumnElement[bool]:
    """Letters to this person, and those that were written to their address, if it matters before a moment."""
    to_address = EmailMessage.goes_to(address)
    if written_before is not None:
        to_address = sa.and_(to_address, EmailMessage.created_at < written_before)
    return sa.or_(EmailMessage.user_id == user_id, to_address)


def _where(
    user_id: int, addresses: Collection[str], names: Collection[str]
) -> list[tuple[sa.ColumnElement[bool], Collection[str]]]:
    """In which letters to look for which words. Those to staff have kinds that begin with *admin*."""
    to_staff = EmailMessage.kind.startswith("admin_", autoescape=True)
    looked_for = [(to_staff, addresses), (sa.and_(to_staff, EmailMessage.about.contains([user_id])), names)]
    return [(whose, words) for whose, words in looked_for if words]


def _holds(words: Collection[str]) -> sa.ColumnElement[bool]:
    pattern = _pattern(words)
    return sa.or_(*(column.op("~*")(pattern) for column in (EmailMessage.subject, EmailMessage.text)))


def _pattern(words: Collection[str]) -> str:
    """Each word where it stands alone: a short name is part of many longer words.

    PostgreSQL reads what `re.escape` writes: a backslash before what is no letter stands for the thing itself.
    """
    any_of = "|".join(re.escape(word) for word in sorted(words))
    return rf"(?<![A-Za-z0-9_@-])(?:{any_of})(?![A-Za-z0-9_@-])"


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment is not None else None
