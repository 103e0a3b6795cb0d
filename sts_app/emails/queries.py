"""Reads of the outbox."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import defer

from sts_app.core.db import db
from sts_app.emails.models import EmailMessage, LetterState


def letters_due(now: datetime) -> int:
    """How many letters a worker could take at this moment."""
    return _count(EmailMessage.due(now))


def letters_overdue(now: datetime, than: timedelta) -> int:
    """How many letters have been due for longer than `than`: the sign of a worker that is not working."""
    return _count(EmailMessage.due(now - than))


def letters_in_trouble() -> int:
    """Letters whose last try went wrong, and those that ended without being sent for certain."""
    ended = EmailMessage.state.in_((LetterState.FAILED, LetterState.UNSURE))
    retried = sa.and_(EmailMessage.state == LetterState.QUEUED, EmailMessage.last_error.is_not(None))
    return _count(sa.or_(ended, retried))


def letters_to(user_id: int) -> list[EmailMessage]:
    """Every letter to one person, newest first, without the bodies."""
    statement = sa.select(EmailMessage).where(EmailMessage.user_id == user_id).order_by(EmailMessage.id.desc())
    return list(db.session.scalars(statement.options(*_WITHOUT_BODY)))


def letters_for_staff(limit: int = 50) -> list[EmailMessage]:
    """The letters that ended without being sent for certain, newest first, without the bodies."""
    ended = EmailMessage.state.in_((LetterState.FAILED, LetterState.UNSURE))
    statement = sa.select(EmailMessage).where(ended).order_by(EmailMessage.id.desc()).limit(limit)
    return list(db.session.scalars(statement.options(*_WITHOUT_BODY)))


_WITHOUT_BODY = (defer(EmailMessage.text, raiseload=True), defer(EmailMessage.html, raiseload=True))


def _count(condition: sa.ColumnElement[bool]) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(EmailMessage).where(condition)) or 0
