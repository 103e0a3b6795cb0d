"""Reads of accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sts_app.audit.models import AuditLog
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
