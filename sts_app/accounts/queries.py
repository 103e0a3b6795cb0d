"""Reads of accounts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from sts_app.accounts.models import UserSession
from sts_app.core.db import db


def sign_ins_of(user_id: int, *, latest: int = 50) -> Sequence[UserSession]:
    """The latest sign-ins of a person, newest first."""
    statement = sa.select(UserSession).where(UserSession.user_id == user_id)
    return db.session.scalars(statement.order_by(UserSession.id.desc()).limit(latest)).all()
