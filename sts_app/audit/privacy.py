"""This room's rows about a person: what they did, and what was done about them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sts_app.audit.models import AuditLog
from sts_app.audit.services import SYSTEM
from sts_app.core.db import db

# Words that people type, and that may name somebody. All else in a line is ids, numbers and words of our own.
TYPED = ("reason", "because", "note")


def rows_of_person(user_id: int, *, subjects: Collection[str] = ()) -> dict[str, Any]:
    """Each deed of a person and each about them or one of `subjects` (`purchase:12`), ready for JSON, oldest first.

    Who of the staff did something is not told, nor what they noted for themselves.
    """
    person = f"user:{user_id}"
    lines = db.session.scalars(
        sa.select(AuditLog)
        .where(sa.or_(AuditLog.actor == person, AuditLog.subject.in_([person, *subjects])))
        .order_by(AuditLog.id)
    )
    return {
        "deeds": [
            {
                "at": each.created_at.isoformat(),
                "action": each.action,
                "by": "you" if each.actor == person else "the store" if each.actor == SYSTEM else "staff",
                "about": "you" if each.subject == person else each.subject,
            }
            for each in lines
        ]
    }


def forget(user_id: int, *, subjects: Collection[str] = ()) -> int:
    """Take what people typed out of the lines about a person or one of `subjects`; how many lines those were.

    The lines themselves stay: they say that something was done and when, of somebody who has no name any more.
    Safe to call twice.
    """
    typed = AuditLog.details.has_any(sa.cast(list(TYPED), sa.ARRAY(sa.Text)))
    without: sa.ColumnElement[Any] = sa.type_coerce(AuditLog.details, JSONB)
    for word in TYPED:
        without = without.op("-")(sa.literal(word))
    person = f"user:{user_id}"
    struck = (
        sa.update(AuditLog)
        .where(AuditLog.subject.in_([person, *subjects]), typed)
        .values(details=without)
        .returning(AuditLog.id)
    )
    return len(db.session.scalars(struck.execution_options(synchronize_session="fetch")).all())
