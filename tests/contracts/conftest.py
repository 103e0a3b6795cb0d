"""The payment providers that the contract is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import stripe

from tests.contracts.payment_worlds import LiveWorld, World
from tests.fakes import stripe_api

if TYPE_CHECKING:
    from tests.contracts.payment_simulated import SimulatedWorld


@pytest.fixture
def live_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveWorld]:
    # The package waits between its own repeats; the tests need not.
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)
    with stripe_api.FakeStripe().running() as fake:
        world = LiveWorld(fake)
        yield world
        world.payments.close()
        assert fake.broken_by == []


@pytest.fixture
def older_world(live_world: LiveWorld) -> LiveWorld:
    """Stripe as it would answer in the shapes of older versions."""
    live_world.fake.shows_older_shapes = True
    return live_world


@pytest.fixture
def simulated_world() -> SimulatedWorld:
    from tests.contracts.payment_simulated import SimulatedWorld

    return SimulatedWorld()


@pytest.fixture(params=["simulated", "live", "older"])
def payment_world(request: pytest.FixtureRequest) -> World:
    """Each provider in turn."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found
