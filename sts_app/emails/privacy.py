"""This room's rows about a person: the letters to them, and those to staff that name them."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sts_app.core.db import db
from sts_app.emails.models import IN_MOTION, EmailMessage, MailAddress

STRUCK = "(erased)"
# The letter to an address that may turn out to be nobody's or somebody else's.
UNCONFIRMED = "email_change"


def rows_of_person(user_id: int, *, address: str) -> dict[str, Any]:
    """The letters to a person and what is on record of their address, ready for JSON, oldest first.

    Moments are ISO 8601 in UTC. Of a letter that held a secret (a sign-in link, say) its text is left out.
    """
    to_address = sa.func.lower(EmailMessage.to_address) == sa.func.lower(sa.literal(address))
    letters = db.session.scalars(
        sa.select(EmailMessage).where(sa.or_(EmailMessage.user_id == user_id, to_address)).order_by(EmailMessage.id)
    )
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
    to_address = sa.func.lower(EmailMessage.to_address) == sa.func.lower(sa.literal(address))
    theirs = sa.or_(EmailMessage.user_id == user_id, sa.and_(to_address, EmailMessage.created_at < written_before))
    return db.session.scalar(sa.select(sa.func.count()).where(theirs, EmailMessage.state.in_(IN_MOTION))) or 0


def named_in_motion(words: Collection[str]) -> int:
    """How many letters to staff that hold one of these words are still to be sent."""
    if not words:
        return 0
    held = sa.select(sa.func.count()).where(_to_staff(), EmailMessage.state.in_(IN_MOTION), _holds(words))
    return db.session.scalar(held) or 0


def strike_out(words: Collection[str]) -> int:
    """Take a person's address and names out of finished letters to staff; how many letters that were.

    Their HTML goes as a whole: a name can be a word of its markup. Safe to call twice.
    """
    if not words:
        return 0
    pattern = _pattern(words)
    struck = (
        sa.update(EmailMessage)
        .where(_to_staff(), EmailMessage.state.not_in(IN_MOTION), _holds(words))
        .values(
            subject=sa.func.regexp_replace(EmailMessage.subject, pattern, STRUCK, "gi"),
            text=sa.func.regexp_replace(EmailMessage.text, pattern, STRUCK, "gi"),
            html="",
        )
        .returning(EmailMessage.id)
    )
    return len(db.session.scalars(struck.execution_options(synchronize_session="fetch")).all())


def address_of_letter(key: str) -> str | None:
    """Where the letter under this key goes or went; None when there is none, blank once its reader is forgotten."""
    return db.session.scalar(sa.select(EmailMessage.to_address).where(EmailMessage.key == key))


def _to_staff() -> sa.ColumnElement[bool]:
    return EmailMessage.user_id.is_(None)


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
