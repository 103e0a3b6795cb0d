"""Erasures among real processes that are killed in the middle of it."""

from __future__ import annotations

import pytest
from rq import Queue

from sts_app.core.queue import QUEUES, queue_of
from tests.faults.shop import Shop


@pytest.fixture
def shop(world):
    return Shop(world)


def wake(world, *jobs: str) -> None:
    """Ring for these jobs now, as the minute sweep would, once whoever rang before has been heard."""
    queues = {name: Queue(name, connection=world.redis) for name in QUEUES}
    if sum(queue.count for queue in queues.values()) == 0:
        for job in jobs:
            queues[queue_of(job)].enqueue(f"jobs.{job}")


def begin(world) -> None:
    """The day in which it can be taken back is over."""
    world.eventually(lambda: world.execute("UPDATE erasure SET begins_at = created_at") == 1)
    wake(world, "privacy.work")


def state_of(world) -> str:
    wake(world, "privacy.work", "provisioning.work", "emails.work")
    return str(world.sql("SELECT state FROM erasure")[0][0])


def deletions(world) -> int:
    """How often the simulated Stripe has deleted a customer."""
    return int(
        world.sql("SELECT count(*) FROM simulator_record WHERE vendor = 'payments' AND record->>'act' = 'deleted'")[0][
            0
        ]
    )


def ask(shop, buyer) -> None:
    buyer.open("/dashboard/privacy")
    buyer.submit("/dashboard/privacy/erase", phrase="erase my account")
    assert "You have asked for your account to be erased" in buyer.page.get_text(" ")


def test_a_worker_killed_between_stripes_deletion_and_our_commit(shop):
    """Stripe rings to say that the customer is gone; nobody answers, and the worker dies waiting."""
    world = shop.world
    world.start()
    buyer = shop.buyer()
    buyer.pay()
    world.eventually(lambda: set(buyer.access().values()) == {"Active"}, timeout=60)
    ask(shop, buyer)
    with world.frozen("web"):
        begin(world)

        def is_deleted_there() -> bool:
            wake(world, "privacy.work", "provisioning.work", "billing.work")
            return deletions(world) == 1

        world.eventually(is_deleted_there, timeout=90)
        world.kill("worker")
        assert world.sql("SELECT deleted_at FROM stripe_customer") == [(None,)]
        assert world.sql("SELECT erased_at FROM users WHERE email LIKE 'alice%'") == [(None,)]
    world.execute("UPDATE stripe_customer SET leased_until = now() - interval '1 minute'")
    world.start("worker")

    world.eventually(lambda: state_of(world) == "done", timeout=120)
    assert deletions(world) == 1
    assert world.sql("SELECT count(*) FROM users WHERE email LIKE 'alice%'")[0][0] == 0
    assert shop.held(buyer) == []
    assert len(world.sql("SELECT id FROM audit_log WHERE action = 'privacy.erased'")) == 1
    assert len(world.sql("SELECT id FROM email_message WHERE kind = 'erasure_done'")) == 1


def test_workers_killed_while_access_is_removed(shop):
    world = shop.world
    world.env.update(
        TV_CALL_TIMEOUT="0.3", TV_VALIDATE_TIMEOUT="0.3", WORK_SECONDS="0.5", JOB_TIMEOUT="2", LEASE_SECONDS="4"
    )
    world.start()
    buyer = shop.buyer()
    buyer.pay()
    world.eventually(lambda: set(buyer.access().values()) == {"Active"}, timeout=60)
    ask(shop, buyer)
    shop.mislead_tradingview("slow_after", seconds=60)
    begin(world)
    world.eventually(lambda: world.sql("SELECT 1 FROM provisioning_attempt WHERE finished_at IS NULL"), timeout=60)
    world.kill("worker")
    assert state_of(world) == "revoking"
    assert world.sql("SELECT erased_at FROM users WHERE email LIKE 'alice%'") == [(None,)]
    shop.let_tradingview_behave()
    world.start("worker")

    world.eventually(lambda: state_of(world) == "done", timeout=120)
    assert shop.held(buyer) == []
    assert world.sql("SELECT count(*) FROM grants WHERE name_key LIKE 'erased:%' AND state = 'absent'")[0][0] == 6
