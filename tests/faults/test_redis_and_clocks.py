"""Redis emptied with work in it, and schedulers that are dead or one too many."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from rq.job import Job

from jobs.schedule import SCHEDULE
from tests.faults.shop import SCHEDULED

EVERY_PERIODIC = {entry.name for entry in SCHEDULE}


def wake_ups(shop, name):
    """How many Redis knows of: a frozen worker may have been handed some of them, so its queues tell too little."""
    return len(shop.world.redis.keys(f"rq:job:{name}*"))


def test_flushall_right_after_the_payment(shop):
    world = shop.world
    world.start()
    buyer = shop.buyer()
    world.eventually(lambda: shop.cron_entries() == EVERY_PERIODIC)
    with world.frozen("worker"):
        buyer.pay_and_leave()
        assert wake_ups(shop, "billing-work-") > 0
        world.flush_redis()
        assert world.sql("SELECT 1 FROM webhook_event WHERE state = 'received'")

    shop.assert_delivered(buyer, grant_calls=1)


def test_flushall_while_a_retry_waits_brings_back_the_schedule_and_loses_nothing(shop):
    world = shop.world
    world.env["RETRY_TIME_SCALE"] = "0.05"
    world.start()
    shop.mislead_tradingview("fail")
    buyer = shop.buyer()
    buyer.pay_and_leave()

    def retry_waits() -> bool:
        waiting = {member.decode() for member in world.redis.zrange(SCHEDULED, 0, -1)}
        return any(member.startswith("provisioning-work-") for member in waiting)

    world.eventually(retry_waits)
    world.flush_redis()
    flushed_at = time.monotonic()

    world.eventually(lambda: shop.cron_entries() == EVERY_PERIODIC, timeout=10)
    # The scheduler compares once a minute, and a minute of this store is three seconds; a round is half of one.
    assert time.monotonic() - flushed_at < 60 * 0.05 + 2 * 0.5
    shop.assert_delivered(buyer, grant_calls=2)


def test_workers_sweep_by_themselves_while_the_scheduler_is_dead(shop):
    world = shop.world
    world.start()
    buyer = shop.buyer()
    # No job is under way that would take what comes next along.
    world.eventually(lambda: not world.sql("SELECT 1 FROM webhook_event WHERE state = 'received'"))
    time.sleep(1)
    world.kill("scheduler")
    before = world.sql("SELECT max(id) FROM periodic_run WHERE name = 'ops.sweep'")[0][0] or 0
    with world.frozen("worker"):
        buyer.pay_and_leave()
        assert wake_ups(shop, "billing-work-") > 0
        world.flush_redis()

    shop.assert_delivered(buyer, grant_calls=1)
    runs = world.sql("SELECT slot FROM periodic_run WHERE name = 'ops.sweep' AND id > :before", before=before)
    assert runs
    assert all((run.slot.second, run.slot.microsecond) != (0, 0) for run in runs), "a scheduler was at work"
    assert shop.cron_entries() == set()


@pytest.mark.slow
def test_two_schedulers_alive_for_over_a_minute_give_one_run_per_slot(shop):
    """On the real clock, because cron knows no other."""
    world = shop.world
    world.env["RETRY_TIME_SCALE"] = "1"
    world.start("worker", "scheduler")
    twin = world.start_twin("scheduler")
    sweep = next(entry for entry in SCHEDULE if entry.name == "ops.sweep")
    first = int(world.eventually(lambda: world.redis.zscore(SCHEDULED, sweep.id)))
    world.eventually(lambda: all("scheduler.started" in world.log(name) for name in ("scheduler", twin)))
    began = time.monotonic()

    def runs() -> list[datetime]:
        rows = world.sql("SELECT slot FROM periodic_run WHERE name = 'ops.sweep' AND finished_at IS NOT NULL")
        # A sweep that a worker makes by itself has the moment it was made as its slot.
        return sorted(row.slot for row in rows if (row.slot.second, row.slot.microsecond) == (0, 0))

    def slots() -> list[datetime]:
        return [datetime.fromtimestamp(second, UTC) for second in range(first, int(time.time()) - 3, 60)]

    def executions() -> int:
        return len(Job.fetch(sweep.id, connection=world.redis).results())

    world.eventually(lambda: time.monotonic() > began + 61 and slots() and len(runs()) >= len(slots()), timeout=80)

    passed = slots()
    assert runs() == passed
    assert executions() == len(passed), "rq was woken more than once for a slot"
    world.stack.refuse_ended()
    entries = world.redis.zrange(SCHEDULED, 0, -1)
    assert len(entries) == len(SCHEDULE)
