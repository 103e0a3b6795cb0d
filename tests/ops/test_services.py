"""The minute sweep, one run per slot, signs of life, and tidying up."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from redis import Redis

from sts_app.accounts.models import LoginToken, UserSession
from sts_app.billing import services as billing
from sts_app.billing.gateway import SignedEvent
from sts_app.catalog.models import StrategyStatus
from sts_app.core import clock as time_source
from sts_app.core import queue
from sts_app.core.db import db as database
from sts_app.ops import services
from sts_app.ops.models import Heartbeat, PeriodicRun
from sts_app.provisioning import engine
from sts_app.provisioning.models import Grant
from tests.builders import (
    alice,
    count,
    entitled,
    event,
    in_a_transaction,
    lifetime,
    named,
    stopped_clock,
    strategy,
    tradingview,
    vendor,
    work,
)


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(queue, "send", lambda connection, wake_up: names.append(wake_up.name))
    return names


@pytest.fixture
def owner(db):
    vendor()
    user = named(alice(), "Anna")
    in_a_transaction(lambda: entitled(user, lifetime()))
    return user


def sweep() -> None:
    """The two halves of the minute sweep, each committed."""
    in_a_transaction(services.wake_for_due)
    for user_id in services.people_to_look_at():
        in_a_transaction(lambda user_id=user_id: services.keep_in_step(user_id))


class TestSweep:
    def test_it_wakes_for_what_is_due_and_was_not_waited_for(self, owner, sent):
        sent.clear()

        sweep()

        assert sent == ["provisioning.work"]

    def test_a_store_where_nothing_is_due_is_left_to_sleep(self, owner, sent):
        work()
        sent.clear()

        sweep()

        assert sent == []

    def test_letters_are_woken_for_too(self, owner, sent):
        work("provisioning")
        sent.clear()

        sweep()

        assert sent == ["emails.work"]

    def test_events_are_woken_for_too(self, owner, sent):
        work()
        payload = event()
        signed_event = SignedEvent("evt_1", payload["type"], time_source.now(), live=False, payload=payload)
        in_a_transaction(lambda: billing.take_in(signed_event))
        sent.clear()

        sweep()

        assert sent == ["billing.work"]

    def test_it_gives_a_new_strategy_to_every_owner(self, owner, sent):
        work()
        strategy("nq-seventh", status=StrategyStatus.ON_SALE)
        database.session.commit()

        sweep()

        assert count(Grant) == 7
        assert "provisioning.work" in sent

    def test_work_that_is_leased_is_not_due(self, owner, sent):
        claimed = in_a_transaction(engine.claim_next)
        sent.clear()

        sweep()

        assert sent == []
        in_a_transaction(lambda: engine.settle(claimed, engine.call(tradingview(), claimed)))


class TestSlots:
    def test_a_slot_is_taken_once(self, db):
        now = time_source.now()

        first, second = services.claim_slot("ops.sweep", now), services.claim_slot("ops.sweep", now)

        assert first is not None
        assert second is None
        assert services.claim_slot("ops.sweep", now + timedelta(minutes=1)) is not None
        assert services.claim_slot("ops.tidy", now) is not None

    def test_a_finished_run_says_when(self, db, clock):
        run_id = services.claim_slot("ops.sweep", time_source.now())
        clock.shift(timedelta(seconds=3))

        services.finish_run(run_id)

        run = database.session.get_one(PeriodicRun, run_id, populate_existing=True)
        assert run.finished_at - run.created_at == timedelta(seconds=3)


class TestRescue:
    def test_the_scheduler_seems_dead_after_two_minutes_without_a_sweep(self, db, clock):
        assert services.sweep_is_stale(time_source.now())
        services.claim_slot(services.SWEEP, time_source.now())

        clock.shift(timedelta(seconds=120))
        assert not services.sweep_is_stale(time_source.now())
        clock.shift(timedelta(seconds=1))
        assert services.sweep_is_stale(time_source.now())

    def test_of_several_workers_one_sweeps(self, db, clock):
        first, second = services.claim_rescue_sweep(), services.claim_rescue_sweep()

        assert first is not None
        assert second is None


class TestBeat:
    def test_a_process_leaves_one_row_that_moves(self, db, clock, servers):
        started = time_source.now()
        services.beat("web-1", "worker", started_at=started, details={"places": 5})
        clock.shift(timedelta(minutes=1))
        services.beat("web-1", "worker", started_at=started, details={"places": 4})

        row = database.session.scalars(sa.select(Heartbeat)).one()
        assert (row.seen_at - row.started_at, row.details) == (timedelta(minutes=1), {"places": 4})
        with Redis.from_url(servers.redis_url) as redis:
            assert redis.get("sts:worker:heartbeat:web-1").decode() == time_source.now().isoformat()
            assert 0 < redis.ttl("sts:worker:heartbeat:web-1") <= 120

    def test_those_who_were_silent_for_a_day_are_forgotten(self, db, clock):
        services.beat("web-1", "worker", started_at=time_source.now(), details={})
        clock.shift(timedelta(days=1, seconds=1))

        services.beat("web-2", "worker", started_at=time_source.now(), details={})

        assert [row.process for row in database.session.scalars(sa.select(Heartbeat))] == ["web-2"]

    def test_a_dead_redis_is_no_death(self, app, db, monkeypatch):
        monkeypatch.setitem(app.extensions, "sts_redis", queue.connection_for_web("redis://127.0.0.1:1/0"))

        services.beat("web-1", "worker", started_at=time_source.now(), details={})

        assert count(Heartbeat) == 1


class TestTidy:
    def test_what_is_over_for_a_day_is_deleted_and_the_rest_kept(self, db, clock):
        user = alice()
        now = time_source.now()
        for number, ends in enumerate((now - timedelta(hours=25), now - timedelta(hours=23), now + timedelta(days=1))):
            digests = {"link_digest": f"l{number}", "code_digest": "c"}
            db.session.add(LoginToken(email="alice@customers.example", expires_at=ends, **digests))
            db.session.add(UserSession(user_id=user.id, digest=f"s{number}", expires_at=ends))
        db.session.flush()

        services.tidy()

        assert (count(LoginToken), count(UserSession)) == (2, 2)

    def test_runs_are_kept_for_a_week(self, db, clock):
        services.claim_slot("ops.sweep", time_source.now())
        clock.shift(timedelta(days=7, seconds=1))
        services.claim_slot("ops.sweep", time_source.now())

        services.tidy()

        assert count(PeriodicRun) == 1
