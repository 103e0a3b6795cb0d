"""What signs a person in, and the addresses kept for it, for whoever exports or erases an account.

The person's own row, their sessions and their sign-in letters are `privacy`'s.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from sts_app.accounts.models import EmailChange, GoogleIdentity, HeldForm
from sts_app.core.db import db


def forget(user_id: int) -> None:
    """Delete the Google account linked to this person, their changes of address, and what was held of a form.

    An address that could still be taken back is free again. Safe to call twice.
    """
    for model in (GoogleIdentity, EmailChange, HeldForm):
        db.session.execute(sa.delete(model).where(model.user_id == user_id))


def rows_of_person(user_id: int) -> dict[str, Any]:
    """The same rows, ready for JSON: moments are ISO 8601 in UTC, and nothing secret is in it."""
    google = db.session.scalars(sa.select(GoogleIdentity).where(GoogleIdentity.user_id == user_id)).all()
    changes = db.session.scalars(
        sa.select(EmailChange).where(EmailChange.user_id == user_id).order_by(EmailChange.id)
    ).all()
    return {
        "google": [
            {
                "subject": each.subject,
                "email": each.email,
                "linked_at": each.created_at.isoformat(),
                "last_used_at": each.last_used_at.isoformat() if each.last_used_at else None,
                "unlinked_at": each.unlinked_at.isoformat() if each.unlinked_at else None,
            }
            for each in google
        ],
        "changes_of_address": [
            {
                "from": each.old_email,
                "to": each.new_email,
                "asked_at": each.created_at.isoformat(),
                "confirmed_at": each.confirmed_at.isoformat() if each.confirmed_at else None,
                "called_off_at": each.called_off_at.isoformat() if each.called_off_at else None,
            }
            for each in changes
        ],
    }
