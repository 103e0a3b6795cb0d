"""The comparison beside others who work at the same moment, on real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sts_app.billing import comparing, services
from sts_app.billing.gateway import SignedEvent
from sts_app.billing.models import Comparison, WebhookEvent
from sts_app.core import clock
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from tests.billing.beside import Beside


class Stripe:
    """A provider with three events, which waits before it tells of them until it is told to go on."""

    def __init__(self) -> None:
        self.asked, self.goes_on = threading.Event(), threading.Event()
        self.events = [
            SignedEvent(f"evt_{number}", "invoice.upcoming", clock.now(), live=False, payload={}) for number in range(3)
        ]

    def events_between(self, since: datetime, until: datetime) -> Iterator[SignedEvent]:
        self.asked.set()
        assert self.goes_on.wait(30)
        yield from self.events

    def payments_between(self, since: datetime, until: datetime) -> Iterator[Any]:
        yield from ()


def test_of_four_runs_at_once_one_compares_and_three_are_refused(house):
    stripe = Stripe()
    runs = [Beside(house, lambda: comparing.run(stripe)) for _ in range(4)]
    assert stripe.asked.wait(30)
    while sum(run.is_alive() for run in runs) > 1:
        time.sleep(0.01)
    stripe.goes_on.set()

    results = [run.ends() for run in runs]

    assert sorted(type(result).__name__ for result in results) == ["AlreadyDone"] * 3 + ["Report"]
    assert len(database.session.scalars(sa.select(Comparison)).all()) == 1


def test_an_event_that_comes_by_itself_meanwhile_is_stored_once(house):
    stripe = Stripe()
    run = Beside(house, lambda: comparing.run(stripe))
    assert stripe.asked.wait(30)
    with transaction():
        assert services.take_in(stripe.events[0])
    stripe.goes_on.set()

    report = run.ends()

    assert (report.at_stripe, report.stored, report.fetched) == (3, 3, 2)
    fetched = database.session.scalars(sa.select(WebhookEvent.fetched).order_by(WebhookEvent.external_id)).all()
    assert fetched == [False, True, True]
