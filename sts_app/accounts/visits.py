"""Visits to the dashboard: from one to the next, what changed is news."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import Visit
from sts_app.core import clock
from sts_app.core.db import db

# Who comes back sooner is still on the same visit, and reads the same news again.
VISIT_ENDS_AFTER = timedelta(minutes=30)


def note(user_id: int) -> datetime | None:
    """Note that a person looks at their dashboard now. Since when what changed is news to them; None at first.

    What was shown counts as seen: half an hour after the last look, the next one begins a new visit.
    """
    now = clock.now()
    is_new_visit = Visit.seen_at < now - VISIT_ENDS_AFTER
    looked = (
        insert(Visit)
        .values(user_id=user_id, seen_at=now, news_since=None)
        .on_conflict_do_update(
            index_elements=[Visit.user_id],
            set_={
                "seen_at": sa.func.greatest(Visit.seen_at, now),
                "news_since": sa.case((is_new_visit, Visit.seen_at), else_=Visit.news_since),
            },
        )
        .returning(Visit.news_since)
    )
    return db.session.scalar(looked)
