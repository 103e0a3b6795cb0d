"""The second layer: a whole store of real processes that are killed, stopped and continued while people buy.

What happens comes from a seed; when exactly it meets what the processes do is up to the machine it runs on.
"""

from __future__ import annotations

import contextlib
import random
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import requests

from sts_app.ops.journey import JourneyFault
from tests.faults.shop import LETTERS, STAFF, Buyer, Shop
from tests.world import Servers, World

# A lease of four seconds: a worker that is stopped for five has lost what it held.
ENV = {
    "TV_CALL_TIMEOUT": "0.3",
    "TV_VALIDATE_TIMEOUT": "0.3",
    "WORK_SECONDS": "0.5",
    "JOB_TIMEOUT": "2",
    "LEASE_SECONDS": "4",
}
PAST_THE_LEASE = 5.0
BUYERS = 3
ACTS = 9
SETTLED_WITHIN = 90.0
FAULTS = ("fail", "rate_limit", "timeout", "lie", "lose_answer", "refuse", "slow_before", "slow_after", "reads_fail")


@dataclass
class Outcome:
    """What became of one history. `why` is None when everything held."""

    why: str | None = None
    trace: list[str] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


def play(servers: Servers, seed: int) -> Outcome:
    """The history of one seed, from an empty store to one at rest."""
    outcome = Outcome()
    with servers.database(servers.seeded) as url:
        world = World(servers.new_folder(), url)
        try:
            world.env.update(ENV)
            history = History(Shop(world.start()), random.Random(seed), outcome)
            history.live()
            history.rest()
        except (AssertionError, JourneyFault, requests.RequestException) as broken:
            frames = traceback.extract_tb(broken.__traceback__)
            where = next(frame for frame in reversed(frames) if "/tests/" in frame.filename)
            outcome.why = f"{type(broken).__name__} at `{where.line}`: {str(broken)[:400]}"
        finally:
            world.close()
    return outcome


class History:
    """Buyers who come and pay, one of whom gets their money back, and what befalls the processes meanwhile."""

    def __init__(self, shop: Shop, chance: random.Random, outcome: Outcome) -> None:
        self.shop, self.world = shop, shop.world
        self.chance, self.outcome = chance, outcome
        self.waiting = [shop.visitor(f"buyer{number}") for number in range(BUYERS)]
        self.paid: list[Buyer] = []
        self.refunded: list[Buyer] = []

    def live(self) -> None:
        for _ in range(ACTS):
            befalls = self.chance.choice(
                (self.kill, self.kill, self.stop, self.mislead, self.mislead, self.flush, self.drop, self.ring_again)
            )
            if self.waiting and self.chance.random() < 0.5:
                self.buy()
            elif self.paid and self.chance.random() < 0.15:
                self.refund()
            else:
                befalls()
            time.sleep(self.chance.uniform(0, 0.5))
        while self.waiting:
            self.buy()

    def rest(self) -> None:
        """The faults stop; everything comes right by itself, and then everything must hold."""
        self.shop.let_tradingview_behave()
        for buyer in self.paid:
            self.world.eventually(partial(self._has_all, buyer), timeout=SETTLED_WITHIN)
        for buyer in self.refunded:
            self.world.eventually(partial(self._has_nothing, buyer), timeout=SETTLED_WITHIN)
        self.shop.at_rest(timeout=SETTLED_WITHIN)
        for buyer in self.paid:
            assert self.shop.status_of(buyer) == ["COMPLETED"], "paid once, and the purchase says otherwise"
            assert self.shop.standing(buyer) == 1, "a purchase entitles once"
            assert list(buyer.access().values()) == ["Active"] * 6, "held, and the dashboard says otherwise"
        for buyer in self.refunded:
            assert self.shop.status_of(buyer) == ["REFUNDED"]
            assert self.shop.standing(buyer) == 0, "refunded, and still entitled"
        for buyer in (*self.paid, *self.refunded):
            found = self.shop.letters(buyer.email)
            twice = {kind for kind, count in found.items() if count > 1 and kind != "sign_in"}
            assert not twice, f"letters that came twice: {twice}"
            missing = set(LETTERS) - set(found) if buyer in self.paid else set()
            assert not missing, f"letters that never came: {missing}"
        # Money that came back before anybody looked was never a purchase to tell of.
        told = self.shop.letters(STAFF)["admin_new_purchase"]
        assert len(self.paid) <= told <= BUYERS, f"staff heard of {told} purchases"
        self.shop.assert_invariants()

    # What people do.

    def buy(self) -> None:
        buyer = self.waiting.pop()
        self.world.eventually(lambda: requests.get(self.world.url, timeout=5).ok)
        self._patiently(buyer.go_on_to_payment)
        buyer.pay_and_leave()
        self.paid.append(buyer)
        self._did("purchase")

    def refund(self) -> None:
        buyer = self.paid.pop(self.chance.randrange(len(self.paid)))
        self.shop.desk(f"/dev/stripe/?q={buyer.session_id}").submit(f"/sessions/{buyer.session_id}/refund")
        self.refunded.append(buyer)
        self._did("refund")

    def _patiently(self, deed: Any) -> None:
        """As somebody who tries again when the store was away for a moment, or asks for a minute's patience."""
        for wait in (1, 1, 15, 60, None):
            try:
                deed()
            except (AssertionError, JourneyFault, requests.RequestException):
                if wait is None:
                    raise
                time.sleep(wait)
            else:
                return

    # What befalls the store.

    def kill(self) -> None:
        name = self.chance.choice(("worker", "worker", "worker", "scheduler", "web"))
        self.world.kill(name)
        time.sleep(self.chance.uniform(0, 0.3))
        self.world.start(name)
        self._fault(f"SIGKILL of the {name}")

    def stop(self) -> None:
        """SIGSTOP past the lease, with a second worker that takes over, and SIGCONT."""
        twin = self.world.start_twin("worker")
        with self.world.frozen("worker"):
            time.sleep(PAST_THE_LEASE)
        time.sleep(self.chance.uniform(0, 1))
        self.world.kill(twin)
        self._fault("SIGSTOP past the lease, SIGCONT")

    def mislead(self) -> None:
        fault = self.chance.choice(FAULTS)
        self.shop.mislead_tradingview(fault, times=self.chance.choice((1, 1, 2, 3)), seconds=1)
        if fault == "reads_fail":
            time.sleep(self.chance.uniform(0, 1))
            self.shop.let_tradingview_behave()
        self._fault(f"TradingView: {fault}")

    def flush(self) -> None:
        self.world.flush_redis()
        self._fault("Redis flushed")

    def drop(self) -> None:
        """Every connection of the store to PostgreSQL is cut."""
        self.world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        self._fault("PostgreSQL connections dropped")

    def ring_again(self) -> None:
        """Stripe delivers some of its events once more."""
        events = self.shop.events()
        for _, body in self.chance.sample(events, min(2, len(events))):
            with contextlib.suppress(requests.RequestException):
                self.shop.ring(body)
        self._fault("duplicate webhook", min(2, len(events)))

    def _has_all(self, buyer: Buyer) -> bool:
        held = self.shop.held(buyer)
        assert held == self.shop.scripts(), f"{buyer.email} paid and holds {len(held)}"
        return True

    def _has_nothing(self, buyer: Buyer) -> bool:
        held = self.shop.held(buyer)
        assert not held, f"{buyer.email} got their money back and holds {len(held)}"
        return True

    def _did(self, what: str) -> None:
        self.outcome.acts[what] += 1
        self.outcome.trace.append(what)

    def _fault(self, kind: str, times: int = 1) -> None:
        self.outcome.faults[kind] += times
        self.outcome.trace.append(kind)
