"""What somebody had typed when the store had to ask who is there, kept until they are back.

It rests encrypted, for an hour or until it is sent again, and only the browser that it was typed in has it back, once
its person is signed in: nobody can lay a filled form before another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from flask_wtf import FlaskForm
from sqlalchemy.dialects.postgresql import insert
from wtforms import HiddenField

from sts_app.accounts.models import HeldForm
from sts_app.core import clock, tokens
from sts_app.core.db import db

PURPOSE = "held-form-2"  # the number is that of what is sealed: fields and what is shown of them
HELD_FOR = timedelta(hours=1)
# More than any form for an act that asks who is there; what is longer is not kept.
LONGEST = 20_000

Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Held:
    """A form as it was sent: to which path of ours, with which fields. `shown` is what its person knows it by."""

    path: str
    fields: Fields
    shown: Fields


def shown_of(form: FlaskForm) -> Fields:
    """What somebody typed or ticked in a form, by the words of its labels. What was hidden from them stays so."""
    typed = [field for field in form if not isinstance(field, HiddenField) and field.data]
    return [(str(field.label.text), "Yes" if field.data is True else str(field.data)) for field in typed]


def keep(user_id: int, path: str, fields: Fields, *, shown: Fields) -> str | None:
    """Keep a form in place of what was kept before. Returns the secret that has it back, None when it is too long."""
    text = json.dumps([fields, shown])
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
        fields, shown = json.loads(tokens.unseal(PURPOSE, row.sealed))
    except tokens.TokenInvalid:
        return None  # sealed with a key that is gone
    return Held(row.path, [(name, value) for name, value in fields], [(label, value) for label, value in shown])


def drop(user_id: int, path: str) -> None:
    """Delete what is kept of this person for a path. Quiet when nothing is."""
    theirs = sa.delete(HeldForm).where(HeldForm.user_id == user_id, HeldForm.path == path)
    db.session.execute(theirs.execution_options(synchronize_session=False))
