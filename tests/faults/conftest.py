"""Tests that break the running store on purpose and look at what it makes of it."""

from __future__ import annotations

import pytest

from tests.faults.shop import Shop
from tests.world import World


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: waits for a minute of the real clock")


@pytest.fixture
def shop(world: World) -> Shop:
    """The store of this test, not yet started."""
    return Shop(world)
