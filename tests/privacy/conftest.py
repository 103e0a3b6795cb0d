"""A clock that stands, Alice with everything that a store can know of a person, and everybody who works for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import time_machine
from click.testing import CliRunner, Result
from flask import Flask

from sts_app import cli
from sts_app.accounts.models import User
from sts_app.billing.simulated import SimulatedPayments
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.core.store import Store
from tests import builders


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """For `usefixtures`, so that it stands before the database does and until after it."""
    with builders.stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def vendor(db: Any) -> Store:
    return builders.vendor()


@pytest.fixture
def plan(db: Any) -> Plan:
    return builders.lifetime()


@pytest.fixture
def monthly(plan: Plan) -> Plan:
    made = Plan(
        slug="monthly",
        name="Monthly access",
        price_cents=1900,
        stripe_price_id="price_monthly",
        mode=Mode.SUBSCRIPTION,
        interval="month",
        covers_all=True,
    )
    database.session.add(made)
    database.session.flush()
    return made


@pytest.fixture
def alice(db: Any, vendor: Store) -> User:
    return builders.named(builders.alice(), "AliceTrades")


@pytest.fixture
def till(app: Flask, db: Any) -> SimulatedPayments:
    """The simulated Stripe, whose events reach the webhook's own view."""
    return builders.cashier(builders.rings(app.test_client()))


@pytest.fixture
def sts(app: Flask, db: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command of `sts` in this app."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: str, given: str | None = None) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, words, input=given)
        database.session.expire_all()
        return result

    return sts
