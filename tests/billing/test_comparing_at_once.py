"""The comparison beside others who work at the same moment, on real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from sts_app import create_app
from sts_app.billing import comparing, services
from sts_app.billing.gateway import SignedEvent
from sts_app.billing.models import Comparison, WebhookEvent
from sts_app.core import clock
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.settings import load
from tests.world import ENV


@pytest.fixture
def house(servers) -> Iterator[Flask]:
    """An app on a database of its own, where what one connection commits another one sees."""
    with servers.database(servers.seeded) as url:
        env = {**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "WARNING"}
        app = create_app(load({**env, "DATABASE_POOL_SIZE": "10"}))
        with app.app_context():
            yield app
            database.session.remove()
            database.engine.dispose()


class Beside(threading.Thread):
    """Somebody else's work, in a thread and on connections of its own."""

    def __init__(self, house: Flask, deed: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.house, self.deed = house, deed
        self.result: Any = None
        self.start()

    def run(self) -> None:
        with self.house.app_context():
            try:
                self.result = self.deed()
            except Exception as error:
                self.result = error

    def ends(self) -> Any:
        self.join(30)
        assert not self.is_alive()
        return self.result


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
