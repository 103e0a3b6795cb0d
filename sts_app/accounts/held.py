"""What somebody had typed when the store had to ask who is there, kept until they are back.

It rests encrypted, for an hour, and only the browser that it was typed in has it back, once its person is signed in:
nobody can lay a filled form before another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import HeldForm
from sts_app.core import clock, tokens
from sts_app.core.db import db

PURPOSE = "held-form"
HELD_FOR = timedelta(hours=1)
# More than any form for an act that asks who is there; what is longer is not kept.
LONGEST = 20_000

Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Held:
    """A form as it was sent: to which path of ours, with which fields."""

    path: str
    fields: Fields


def keep(user_id: int, path: str, fields: Fields) -> str | None:
    """Keep a form in place of what was kept before. Returns the secret that has it back, None when it is too long."""
    text = json.dumps(fields)
    if len(text) > LONGEST:
        return None
    now = clock.now()
    secret = tokens.new_secret()
    values = {
        "digest": tokens.digest(PURPOSE, secret),
        "path": path,
        "sealed": tokens.seal(PURPOSE, text),
        "expires_at": now + HELD_FOR,
        "created_at": now,
    }
    statement = insert(HeldForm).values(user_id=user_id, **values)
    db.session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=values))
    return secret


def find(user_id: int, secret: str) -> Held | None:
    """What this person's browser had sent, None when nothing is kept of it (any more)."""
    row = db.session.scalar(
        sa.select(HeldForm).where(
            HeldForm.user_id == user_id,
            HeldForm.digest.in_(tokens.digests(PURPOSE, secret)),
            HeldForm.expires_at > clock.now(),
        )
    )
    if row is None:
        return None
    try:
        fields = json.loads(tokens.unseal(PURPOSE, row.sealed))
    except tokens.TokenInvalid:
        return None  # sealed with a key that is gone
    return Held(row.path, [(name, value) for name, value in fields])
