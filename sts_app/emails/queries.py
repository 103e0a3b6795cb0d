"""Reads of the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sts_app.core.db import db
from sts_app.emails.models import EmailMessage, LetterState


def letters_to(user_id: int, *, latest: int = 100) -> Sequence[EmailMessage]:
    """The latest letters to a person that were sent, newest first, without those that held a secret."""
    statement = sa.select(EmailMessage).where(
        EmailMessage.user_id == user_id, EmailMessage.state == LetterState.SENT, ~EmailMessage.secret
    )
    return db.session.scalars(statement.order_by(EmailMessage.id.desc()).limit(latest)).all()


def letters_due(now: datetime) -> int:
    """How many letters a worker could take at this moment."""
    return _count(EmailMessage.due(now))


def letters_in_trouble() -> int:
    """Letters whose last try went wrong, and those that ended without being sent for certain."""
    ended = EmailMessage.state.in_((LetterState.FAILED, LetterState.UNSURE))
    retried = sa.and_(EmailMessage.state == LetterState.QUEUED, EmailMessage.last_error.is_not(None))
    return _count(sa.or_(ended, retried))


def _count(condition: sa.ColumnElement[bool]) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(EmailMessage).where(condition)) or 0
