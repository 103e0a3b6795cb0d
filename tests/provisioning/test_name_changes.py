"""However often a name changes, and whatever goes wrong: there is never a moment without a name that works."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.store import Store
from sts_app.provisioning import control, engine, names, queries, services, simulated
from sts_app.provisioning.calling import Claim, Seen
from sts_app.provisioning.gateway import TradingView
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, SimulatedTradingView
from tests.builders import entitled, grants, in_a_transaction, look_over, through, work

WALKS = 8
STEPS = 60
LEASE = timedelta(seconds=180)
SPELLINGS = ("Anna", "Anna2", "Anna3", "anna-4", "unknown_anna")
FAULTS = (
    Fault.FAIL,
    Fault.TIMEOUT,
    Fault.RATE_LIMIT,
    Fault.LIE,
    Fault.LOSE_ANSWER,
    Fault.REFUSE,
    Fault.UNKNOWN,
    Fault.READS_FAIL,
)


class Watched:
    """The simulated TradingView, looked at after each of its calls."""

    def __init__(self, inner: SimulatedTradingView, look) -> None:
        self._inner, self._look = inner, look

    def __getattr__(self, name: str):
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*given, **named):
            try:
                return found(*given, **named)
            finally:
                self._look(f"after {name}")

        return call


@dataclass
class InFlight:
    """What one worker is about."""

    claim: Claim
    claimed_at: datetime
    seen: dict[str, Seen] | None = None


class Walk:
    """One person, who changes the name while workers work on it, crash, and TradingView has its moods."""

    def __init__(self, seed: int, user, plan, vendor: Store, clock) -> None:
        self.chance = random.Random(seed)
        self.user, self.plan, self.vendor, self.clock = user, plan, vendor, clock
        self.in_flight: list[InFlight] = []
        self.scripts = frozenset(grant.script_id for grant in grants())
        self.served = False
        self.adapter: TradingView = Watched(SimulatedTradingView(vendor), self.look)  # type: ignore[assignment]  # it hands every call on
        self.path: list[str] = []

    def held(self) -> frozenset[str]:
        return frozenset(each.script_id for each in simulated.holdings(self.vendor))

    def look(self, when: str) -> None:
        """Every script is held by some name of hers: there is nobody else at this TradingView."""
        missing = self.scripts - self.held()
        if not missing:
            self.served = True
        elif self.served:
            pytest.fail(f"no name holds {sorted(missing)} {when}: {' > '.join(self.path)}")

    def step(self) -> None:
        act = self.chance.choice(
            2 * [self.rename, self.wait]
            + 3 * [self.claim, self.call, self.settle]
            + [self.crash, self.fault, self.behave, self.work, self.switch]
        )
        self.path.append(act.__name__)
        act()
        database.session.commit()
        self.look(f"after {act.__name__}")

    def rename(self) -> None:
        spelling = self.chance.choice(SPELLINGS)
        self.path.append(spelling)
        verified = not spelling.startswith("unknown") and self.chance.random() < 0.8
        in_a_transaction(lambda: names.set_name(self.user, spelling, verified=verified, actor="cli"))

    def claim(self) -> None:
        claim = in_a_transaction(engine.claim_next)
        if claim is not None:
            self.in_flight.append(InFlight(claim, time_source.now()))

    def call(self) -> None:
        waiting = [each for each in self.in_flight if each.seen is None]
        if waiting:
            chosen = self.chance.choice(waiting)
            chosen.seen = engine.call(self.adapter, chosen.claim)

    def settle(self) -> None:
        done = [each for each in self.in_flight if each.seen is not None]
        if done:
            chosen = self.chance.choice(done)
            self.in_flight.remove(chosen)
            in_a_transaction(lambda: engine.settle(chosen.claim, chosen.seen))

    def crash(self) -> None:
        """A worker dies with what it holds."""
        if self.in_flight and self.chance.random() < 0.5:
            self.in_flight.pop(self.chance.randrange(len(self.in_flight)))

    def wait(self) -> None:
        """A worker that is stuck for the length of its lease ends itself before it calls; what it called stays done."""
        self.clock.shift(timedelta(seconds=self.chance.choice([5, 40, 200, 700, 4000])))
        stuck = time_source.now() - LEASE
        self.in_flight = [each for each in self.in_flight if each.seen is not None or each.claimed_at > stuck]
        in_a_transaction(look_over)

    def fault(self) -> None:
        fault = self.chance.choice(FAULTS)
        self.path.append(fault.value)
        simulated.misbehave(self.vendor, fault)

    def behave(self) -> None:
        simulated.behave(self.vendor)

    def work(self) -> None:
        work("provisioning")

    def switch(self) -> None:
        to = self.chance.choice([Switch.AUTO, Switch.AUTO, Switch.MANUAL])
        if control.open_incident() is None:
            in_a_transaction(lambda: control.set_switch(to, actor="cli", because="a walk"))

    def come_to_rest(self) -> None:
        self.in_flight.clear()
        simulated.behave(self.vendor)
        in_a_transaction(lambda: control.set_switch(Switch.AUTO, actor="cli", because="the end"))
        in_a_transaction(lambda: names.set_name(self.user, "Anna9", verified=True, actor="cli"))
        for _ in range(12):
            self.clock.shift(timedelta(minutes=61))
            in_a_transaction(look_over)
            work("provisioning")


@pytest.mark.parametrize("seed", range(WALKS))
def test_at_every_moment_some_name_holds_every_script(alice, plan, vendor, clock, monkeypatch, seed):
    entitled(alice, plan)
    walk = Walk(seed, alice, plan, vendor, clock)
    through(monkeypatch, walk.adapter)
    work("provisioning")
    assert walk.served

    for _ in range(STEPS):
        walk.step()
    walk.come_to_rest()

    assert {each.username for each in simulated.holdings(vendor)} == {"Anna9"}
    assert walk.held() == walk.scripts
    assert names.change_under_way(alice.id) is None
    assert [each.state for each in queries.access_of(alice.id, time_source.now())] == ["Active"] * 6


def test_only_the_end_of_the_entitlement_takes_the_last_name_away(alice, plan, vendor, clock, monkeypatch):
    """The watch is awake: without an entitlement it sees what it looks for."""
    entitled(alice, plan)
    walk = Walk(0, alice, plan, vendor, clock)
    through(monkeypatch, walk.adapter)
    work("provisioning")

    services.end_entitlement("gift:1", because="refund", actor="system")

    with pytest.raises(pytest.fail.Exception, match="no name holds"):
        work("provisioning")
