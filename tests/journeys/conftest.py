"""Journeys are told to one running store, each by people of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.shop import Shop
from tests.world import Servers, World


@pytest.fixture(scope="module")
def shop(servers: Servers) -> Iterator[Shop]:
    """A store that runs for all journeys of a module, and whose invariants hold after each and at the end."""
    with servers.database(servers.seeded) as url:
        world = World(servers.new_folder(), url)
        try:
            yield Shop(world.start())
            world.halt()
            assert world.broken_invariants() == {}
        finally:
            world.close()


@pytest.fixture(autouse=True)
def invariants(shop: Shop) -> Iterator[None]:
    yield
    shop.assert_invariants()
