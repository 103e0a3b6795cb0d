"""One token bucket for all workers: it fills, is drawn from, shrinks when told to, and shows its figures."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.queue import drop_staged, staged_wake_ups
from sts_app.provisioning import engine, pace
from sts_app.provisioning.gateway import CallMade
from sts_app.provisioning.models import PaceBucket, VendorCall
from sts_app.provisioning.pace import Bucket, limited, refilled, stretched, wait_for
from sts_app.provisioning.rules import Priority
from sts_app.provisioning.simulated import Fault, calls, misbehave
from tests.builders import entitled, grants, holders, in_a_transaction, named, person, tradingview, work

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def bucket(**changes) -> Bucket:
    """Ten a minute, twelve at once, full."""
    return replace(Bucket(12.0, 10.0, 12.0, 1.0, NOW, None, None), **changes)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


class TestBucket:
    def test_it_fills_by_the_minute_up_to_its_burst(self):
        assert refilled(bucket(tokens=0), after(30)).tokens == pytest.approx(5)
        assert refilled(bucket(tokens=0), after(3600)).tokens == 12

    def test_a_debt_is_paid_back_before_anything_is_there(self):
        assert wait_for(bucket(tokens=-2), 1, NOW) == timedelta(seconds=18)

    def test_a_clock_that_is_behind_adds_nothing_and_takes_nothing(self):
        assert refilled(bucket(tokens=3), after(-30)) == bucket(tokens=3)

    def test_a_rate_limit_halves_the_pace_and_leaves_nothing_saved_up(self):
        shrunk = limited(bucket(), NOW, timedelta(seconds=40))

        assert (shrunk.rate, shrunk.tokens, shrunk.held_until) == (5, 0, after(40))
        assert wait_for(shrunk, 1, NOW) == timedelta(seconds=40)

    def test_the_pace_comes_back_by_doubling_after_each_quiet_spell(self):
        shrunk = limited(limited(bucket(), NOW - timedelta(minutes=1), None), NOW, None)

        rates = [refilled(shrunk, NOW + minutes * timedelta(minutes=1)).rate for minutes in (9, 10, 20, 90)]

        assert rates == [2.5, 5, 10, 10]

    def test_calls_that_were_under_way_at_once_halve_it_once(self):
        shrunk = bucket()
        for second in range(5):
            shrunk = limited(shrunk, after(second), None)

        assert shrunk.factor == 0.5

    def test_a_held_bucket_is_never_held_shorter_by_a_later_answer(self):
        held = limited(limited(bucket(), NOW, timedelta(minutes=5)), NOW, timedelta(seconds=1))

        assert held.held_until == after(300)

    def test_however_often_it_is_limited_a_call_remains_possible(self):
        shrunk = bucket()
        for second in range(0, 600, 30):
            shrunk = limited(shrunk, after(second - 600), None)

        assert wait_for(refilled(shrunk, after(600)), 1, after(600)) is None
        assert wait_for(refilled(shrunk, after(600)), shrunk.needed(urgent=False), after(600)) is None

    @given(
        st.lists(st.tuples(st.floats(0, 300), st.integers(1, 12), st.booleans()), max_size=60),
        st.floats(1, 600),
        st.floats(1, 60),
    )
    def test_nobody_ever_draws_more_than_the_burst_and_the_rate_allow(self, draws, per_minute, burst):
        drawn, now = 0, NOW
        held = bucket(per_minute=per_minute, burst=burst, tokens=burst)
        for seconds, count, is_limited in draws:
            now += timedelta(seconds=seconds)
            held = refilled(held, now)
            if wait_for(held, count, now) is None:
                held = replace(held, tokens=held.tokens - count)
                drawn += count
            if is_limited:
                held = limited(held, now, None)

        assert drawn <= burst + (now - NOW).total_seconds() / 60 * per_minute + 0.001

    def test_a_stretched_wait_is_never_shorter_and_at_most_a_fifth_longer(self):
        waits = [stretched(timedelta(seconds=10)) for _ in range(200)]

        assert min(waits) >= timedelta(seconds=10)
        assert max(waits) <= timedelta(seconds=12)
        assert len(set(waits)) > 100


@pytest.fixture
def slow(app, monkeypatch):
    """The pace of production: ten writes a minute, twelve at once."""
    settings = app.config["STS"]
    changes = {"tv_writes_per_minute": 10.0, "tv_write_burst": 12.0, "tv_reads_per_minute": 60.0, "tv_read_burst": 60.0}
    monkeypatch.setitem(app.config, "STS", settings.model_copy(update=changes))


def buyers(count, plan, **changes) -> None:
    for number in range(count):
        user = named(person(f"buyer{number}@customers.example"), f"Buyer{number}")
        entitled(user, plan, f"purchase:{number}")
    for grant in grants():
        for name, value in changes.items():
            setattr(grant, name, value)
    database.session.commit()


class TestWorkers:
    def test_what_the_pace_allows_is_done_and_the_rest_waits_its_turn(self, db, plan, vendor, clock, slow):
        buyers(14, plan)

        work("provisioning")

        assert calls(vendor)["grant"] == 12
        assert len(holders()) == 12 * 6
        clock.shift(timedelta(seconds=6))
        work("provisioning")
        assert calls(vendor)["grant"] == 13

    def test_who_finds_no_token_wakes_again_when_there_is_one(self, db, plan, vendor, clock, slow):
        buyers(13, plan)
        drop_staged()
        self._spend(12)

        [wait] = self._ordered_by(1)

        assert timedelta(seconds=6) <= wait <= timedelta(seconds=7.2)

    def test_however_many_find_no_token_one_of_them_orders_the_wake_up(self, db, plan, vendor, clock, slow):
        buyers(16, plan)
        drop_staged()
        self._spend(12)

        [first] = self._ordered_by(20)
        clock.shift(first)
        self._spend(1)

        assert len(self._ordered_by(20)) == 1

    @staticmethod
    def _spend(writes: int) -> None:
        for _ in range(writes):
            claim = in_a_transaction(engine.claim_next)
            seen = engine.call(tradingview(), claim)
            in_a_transaction(lambda claim=claim, seen=seen: engine.settle(claim, seen))

    @staticmethod
    def _ordered_by(turns: int) -> list[timedelta]:
        """The waits of the wake-ups that so many workers order who come one after the other to an empty bucket."""
        ordered: list[timedelta] = []
        for _ in range(turns):
            with transaction():
                assert engine.claim_next() is None
                ordered += [wake.after for wake in staged_wake_ups() if wake.after]
        return ordered

    def test_nothing_is_an_attempt_of_anybody_while_the_pace_holds_it_back(self, db, plan, vendor, clock, slow):
        buyers(13, plan)
        work("provisioning")

        waiting = [grant for grant in grants() if grant.state == "pending"]

        assert len(waiting) == 6
        assert all(grant.failed_tries == 0 and grant.called_at is None for grant in waiting)

    def test_upkeep_leaves_half_of_the_burst_to_buyers(self, db, plan, vendor, clock, slow):
        buyers(14, plan, priority=Priority.SPREAD)

        work("provisioning")

        assert calls(vendor)["grant"] == 6

    def test_a_rate_limit_slows_everybody_and_not_only_who_met_it(self, db, plan, vendor, clock, slow):
        buyers(3, plan)
        misbehave(vendor, Fault.RATE_LIMIT, seconds=45)

        work("provisioning")
        clock.shift(timedelta(seconds=44))
        work("provisioning")
        assert calls(vendor) == {"grant": 1}
        clock.shift(timedelta(seconds=30))
        work("provisioning")

        assert calls(vendor)["grant"] > 1
        assert pace.figures()["write"]["perMinute"] == 5

    def test_each_script_of_a_way_without_common_calls_is_a_call(self, db, plan, vendor, clock, slow):
        buyers(3, plan)

        claims = [in_a_transaction(lambda: engine.claim_next(one_call_for_all=False)) for _ in range(3)]

        assert [len(claim.writable) for claim in claims[:2]] == [6, 6]
        assert claims[2] is None

    def test_a_claim_takes_only_as_many_scripts_as_there_are_tokens(self, db, plan, vendor, clock, slow):
        buyers(1, plan)
        with transaction():
            db.session.execute(
                sa.update(PaceBucket)
                .where(PaceBucket.kind == "write")
                .values(tokens=2.5, refilled_at=time_source.now())
            )

        claim = in_a_transaction(lambda: engine.claim_next(one_call_for_all=False))

        assert len(claim.writable) == len(claim.script_ids) == 2

    def test_reads_on_credit_hold_the_next_claim_up(self, db, plan, vendor, clock, slow):
        buyers(1, plan)
        for _ in range(62):
            pace.meter(CallMade("read", "has_access", "answered", 5))

        assert in_a_transaction(engine.claim_next) is None
        clock.shift(timedelta(seconds=3))
        assert in_a_transaction(engine.claim_next) is not None


class TestFigures:
    def test_every_call_is_counted_with_how_it_ended(self, db, plan, vendor, clock):
        buyers(2, plan)
        misbehave(vendor, Fault.FAIL)

        work("provisioning")

        assert sum(calls(vendor).values()) == len(database.session.scalars(sa.select(VendorCall)).all())
        hour = {(line["kind"], line["outcome"]): line["calls"] for line in pace.figures()["lastHour"]}
        assert hour[("read", "answered")] == 1
        assert sum(n for (kind, _), n in hour.items() if kind == "write") == 2

    def test_what_was_counted_a_week_ago_is_forgotten(self, db, clock):
        pace.meter(CallMade("read", "find_name", "answered", 5))
        clock.shift(timedelta(days=8))

        pace.tidy()

        assert database.session.scalars(sa.select(VendorCall)).all() == []


def test_workers_that_come_together_never_spend_one_token_twice(app, servers):
    """Sixteen connections ask at once for what there is once."""
    from sts_app import create_app
    from sts_app.settings import load
    from tests.world import ENV

    with servers.database(servers.migrated) as url:
        env = {**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "DATABASE_POOL_SIZE": "10"}
        env |= {"TV_WRITES_PER_MINUTE": "1", "TV_WRITE_BURST": "5", "LOG_LEVEL": "WARNING"}
        twin = create_app(load(env))
        taken: list[int] = []
        gate = threading.Barrier(16)

        def draw() -> None:
            with twin.app_context():
                gate.wait()
                with transaction():
                    taken.append(pace.take_writes(1, urgent=True)[0])

        threads = [threading.Thread(target=draw) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with twin.app_context():
            database.engine.dispose()

    assert sum(taken) == 5
