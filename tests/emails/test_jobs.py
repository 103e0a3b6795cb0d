from __future__ import annotations

import sqlalchemy as sa

from jobs import emails as emails_jobs
from sts_app.core.db import db as database
from sts_app.emails.models import EmailMessage
from sts_app.emails.simulated import Fault, delivered, misbehave


def states() -> dict[str, str]:
    database.session.expire_all()
    return {row.key: row.state for row in database.session.scalars(sa.select(EmailMessage))}


def test_one_turn_sends_everything_due(db, mailbox, post):
    for number in range(3):
        post(key=f"parcel:{number}", to=f"customer{number}@customers.test")
    database.session.commit()

    emails_jobs.work()

    assert {letter.to for letter in delivered(mailbox)} == {f"customer{n}@customers.test" for n in range(3)}
    assert set(states().values()) == {"sent"}


def test_a_failing_letter_does_not_hold_up_the_others(db, mailbox, post):
    post(key="parcel:1")
    post(key="parcel:2")
    post(key="parcel:3")
    database.session.commit()
    misbehave(mailbox, Fault.FAIL)
    misbehave(mailbox, Fault.REFUSE)

    emails_jobs.work()

    assert states() == {"parcel:1": "queued", "parcel:2": "failed", "parcel:3": "sent"}
    assert len(delivered(mailbox)) == 1


def test_no_transaction_is_open_during_the_call(app, db, mailbox, post, monkeypatch):
    post()
    database.session.commit()
    open_during_call = []

    class Watching:
        def send(self, letter, key):
            open_during_call.append(database.session().in_transaction())
            return "re_1"

    monkeypatch.setitem(app.extensions, "sts_mailer", Watching())

    emails_jobs.work()

    assert open_during_call == [False]
    assert states() == {"parcel:7": "sent"}
