"""Reads of accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from sts_app.accounts.models import EmailChange, GoogleIdentity, User, UserSession
from sts_app.audit.models import AuditLog
from sts_app.core import tokens
from sts_app.core.db import db


def sign_ins_of(user_id: int, *, latest: int = 50) -> Sequence[datetime]:
    """When a person signed in, the `latest` times, newest first.

    Read from the record of deeds: sessions are deleted when they are over, and a bank asks months later.
    """
    person = f"user:{user_id}"
    statement = sa.select(AuditLog.created_at).where(
        AuditLog.subject == person, AuditLog.actor == person, AuditLog.action == "accounts.signed_in"
    )
    return db.session.scalars(statement.order_by(AuditLog.id.desc()).limit(latest)).all()


@dataclass(frozen=True)
class SessionLine:
    """One browser that is signed in, as its person reads it. `seen` is coarse on purpose."""

    id: int
    device: str
    way: str
    since: datetime
    until: datetime
    seen: str
    is_this: bool


def sessions_of(user_id: int, now: datetime, *, this: str) -> list[SessionLine]:
    """The browsers in which a person is signed in: that of the secret `this` first, then the last seen."""
    seen_at = sa.func.coalesce(UserSession.seen_at, UserSession.created_at)
    statement = sa.select(UserSession).where(
        UserSession.user_id == user_id, UserSession.revoked_at.is_(None), UserSession.expires_at > now
    )
    own = set(tokens.digests("session", this))
    lines = [
        SessionLine(
            id=row.id,
            device=row.device or "A browser that did not say which",
            way=_WAYS.get(row.way, ""),
            since=row.created_at,
            until=row.expires_at,
            seen=_seen(row.seen_at or row.created_at, now),
            is_this=row.digest in own,
        )
        for row in db.session.scalars(statement.order_by(seen_at.desc(), UserSession.id.desc()))
    ]
    return sorted(lines, key=lambda line: not line.is_this)


_WAYS = {"link": "by the link of a letter", "code": "by the code of a letter", "google": "with Google"}


def _seen(at: datetime, now: datetime) -> str:
    days = (now - at).days
    if days < 1:
        return "within a day"
    return "a day ago" if days == 1 else f"{days} days ago"


def google_of(user_id: int) -> GoogleIdentity | None:
    """The Google account by which a person may sign in, or that they unlinked; None for who never had one."""
    return db.session.scalar(sa.select(GoogleIdentity).where(GoogleIdentity.user_id == user_id))


def open_change_of(user_id: int, now: datetime) -> EmailChange | None:
    """The change of address that waits for its link to be opened."""
    return db.session.scalar(
        sa.select(EmailChange)
        .where(
            EmailChange.user_id == user_id,
            EmailChange.confirmed_at.is_(None),
            EmailChange.ended_at.is_(None),
            EmailChange.expires_at > now,
        )
        .order_by(EmailChange.id.desc())
        .limit(1)
    )


def moved_from(email: str, now: datetime) -> EmailChange | None:
    """The change by which an account gave this address up, while that can still be called off."""
    return db.session.scalar(
        sa.select(EmailChange)
        .where(
            sa.func.lower(EmailChange.old_email) == sa.func.lower(sa.literal(email)),
            EmailChange.call_off_until > now,
            EmailChange.ended_at.is_(None),
        )
        .order_by(EmailChange.id.desc())
        .limit(1)
    )


def standing_changes_of(user_id: int, now: datetime) -> Sequence[EmailChange]:
    """The changes of this person's address that an old mailbox can still call off, oldest first."""
    return db.session.scalars(
        sa.select(EmailChange)
        .where(EmailChange.user_id == user_id, EmailChange.call_off_until > now, EmailChange.ended_at.is_(None))
        .order_by(EmailChange.id)
    ).all()


def is_of(email: str, user_id: int) -> bool:
    """Whether this is the address of this person's account now."""
    theirs = sa.select(User.id).where(has_address(email), User.id == user_id)
    return db.session.scalar(theirs) is not None


def is_anothers(email: str, user_id: int) -> bool:
    """Whether this is the address of somebody else's account now."""
    other = sa.select(User.id).where(has_address(email), User.id != user_id)
    return db.session.scalar(other) is not None


def has_address(email: str) -> sa.ColumnElement[bool]:
    """Whose address this is, however it is capitalised: lowered by the database on both sides, as its index is.

    Python's idea of lower case is another one.
    """
    return sa.func.lower(User.email) == sa.func.lower(sa.literal(email))


def is_taken(email: str, now: datetime, *, by_other_than: int) -> bool:
    """Whether this address belongs to another account, or may still go back to one."""
    if is_anothers(email, by_other_than):
        return True
    moved = moved_from(email, now)
    return moved is not None and moved.user_id != by_other_than
