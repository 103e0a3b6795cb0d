"""A clock that stands, a TradingView in a hurry, and Alice with her name and the lifetime plan."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from sts_app.accounts.models import User
from sts_app.catalog.models import Plan
from sts_app.core.store import Store
from tests import builders


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with builders.stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def vendor(db) -> Store:
    return builders.vendor()


@pytest.fixture
def plan(db) -> Plan:
    return builders.lifetime()


@pytest.fixture
def alice(db) -> User:
    return builders.named(builders.alice(), "Anna")


@pytest.fixture
def bob(db) -> User:
    return builders.bob()
