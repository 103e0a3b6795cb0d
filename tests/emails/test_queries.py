from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.core import clock
from sts_app.core.db import db as database
from sts_app.emails import queries, services
from sts_app.emails.models import EmailMessage
from sts_app.emails.services import Sent


def test_letters_due(db, post):
    start = clock.now()
    post()
    post(key="parcel:8")
    now = clock.now()

    assert queries.letters_due(start - timedelta(seconds=1)) == 0
    assert queries.letters_due(now) == 2


def test_a_leased_letter_is_due_when_the_lease_is_over(app, db, post):
    post()
    now = clock.now()
    services.claim_next(now=now)

    assert queries.letters_due(now) == 0
    assert queries.letters_due(now + timedelta(seconds=app.config["STS"].lease_seconds)) == 1


def test_a_sent_letter_needs_nobody(db, post):
    post()
    now = clock.now()
    services.settle(services.claim_next(now=now), Sent("re_1"), now=now)

    assert queries.letters_in_trouble() == 0


def test_the_database_refuses_a_finished_secret_with_a_body(db, post):
    post(secret=True)

    wrong = sa.update(EmailMessage).values(state="failed", next_attempt_at=None)
    with pytest.raises(sa.exc.IntegrityError, match="secret_blank_when_done"):
        database.session.execute(wrong)
    database.session.rollback()
