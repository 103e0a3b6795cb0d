"""A clock that stands, and Alice, who has an account."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import time_machine

from sts_app.accounts.models import User
from tests import builders


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with builders.stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def alice(db) -> User:
    return builders.alice()
