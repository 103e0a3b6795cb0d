"""A clock that stands, Alice ready to buy, and a simulated Stripe that rings the webhook's own view."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import time_machine
from click.testing import CliRunner, Result
from flask import Flask

from sts_app import cli, create_app
from sts_app.accounts.models import User
from sts_app.billing.simulated import SimulatedPayments
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.core.store import Store
from sts_app.settings import load
from tests import builders
from tests.world import ENV


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """For `usefixtures`, so that it stands before the database does and until after it."""
    with builders.stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def vendor(db) -> Store:
    return builders.vendor()


@pytest.fixture
def plan(db) -> Plan:
    return builders.lifetime()


@pytest.fixture
def monthly(plan) -> Plan:
    """Everything as well, for as long as it is paid for."""
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
def alice(db, vendor) -> User:
    return builders.named(builders.alice(), "Anna")


@pytest.fixture
def bob(db, vendor) -> User:
    return builders.named(builders.bob(), "Bobby")


@pytest.fixture
def till(app: Flask, db) -> SimulatedPayments:
    """Stripe. Its events reach the webhook through a visitor of their own, who has no cookie."""
    return builders.cashier(builders.rings(app.test_client()))


@pytest.fixture
def sts(app: Flask, db, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command of `sts` in this app."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: object) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, [str(word) for word in words])
        assert "Traceback" not in result.output, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        database.session.expire_all()
        return result

    return sts


@pytest.fixture
def house(servers) -> Iterator[Flask]:
    """An app on a database of its own, where what one connection commits another one sees. Never beside `db`."""
    with servers.database(servers.seeded) as url:
        env = {**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "WARNING"}
        app = create_app(load({**env, "DATABASE_POOL_SIZE": "10"}))
        with app.app_context():
            yield app
            database.session.remove()
            database.engine.dispose()
