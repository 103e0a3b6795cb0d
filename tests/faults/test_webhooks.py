"""Events that come twice, at once, out of order, late, or never."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.synchronize import Barrier
from urllib.parse import urlsplit

import requests

from tests.faults.shop import Shop, signed
from tests.faults.wire import Wire

COMPLETED = "checkout.session.completed"


def paid_but_untold(shop):
    """A buyer whose payment went through, and whose events wait at the vendor; nothing else will tell of it."""
    shop.mislead_stripe("hold")
    buyer = shop.buyer()
    shop.without_look_ups()
    buyer.pay_and_leave()
    event_id, body = shop.events(COMPLETED)[0]
    return buyer, event_id, body


def test_the_same_event_delivered_twice_in_a_row(shop):
    shop.world.start()
    buyer, event_id, body = paid_but_untold(shop)

    assert shop.ring(body).status_code == 200
    assert shop.ring(body).status_code == 200
    shop.assert_delivered(buyer, grant_calls=1)
    assert shop.ring(body).status_code == 200

    assert shop.stored(event_id) == ["handled"]
    shop.assert_delivered(buyer, grant_calls=1)


def ring_at_once(together: Barrier, url: str, body: str, times: int, answers: multiprocessing.Queue) -> None:
    """What each of the racing processes does: get ready, wait for the others, ring."""
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(times):
            headers = signed(body)
            together.wait(20)
            answers.put(session.post(url, data=body.encode(), headers=headers, timeout=10).status_code)


def test_the_same_event_delivered_by_two_processes_at_the_same_moment(shop):
    shop.world.env["WEB_CONCURRENCY"] = "2"
    shop.world.start()
    buyer, event_id, body = paid_but_untold(shop)
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(2), spawn.Queue()
    ringers = [spawn.Process(target=ring_at_once, args=(together, shop.webhook, body, 5, answers)) for _ in range(2)]

    for ringer in ringers:
        ringer.start()
    given = [answers.get(timeout=30) for _ in range(10)]
    for ringer in ringers:
        ringer.join(10)

    assert given == [200] * 10
    assert len(shop.stored(event_id)) == 1
    shop.assert_delivered(buyer, grant_calls=1)
    assert shop.stored(event_id) == ["handled"]


def test_every_event_delivered_twice_by_the_vendor(shop):
    shop.world.start()
    shop.mislead_stripe("duplicate")
    buyer = shop.buyer()

    buyer.pay()

    shop.assert_delivered(buyer, grant_calls=1)


def test_web_killed_between_commit_and_enqueue(shop):
    """Its wire to Redis is cut, so that it hangs in the send; the row is committed; then it dies."""
    world = shop.world
    redis = urlsplit(world.redis_url)
    with Wire(redis.port) as wire:
        world.env["REDIS_URL"] = world.redis_url.replace(f":{redis.port}", f":{wire.port}")
        world.start("web")
        world.env["REDIS_URL"] = world.redis_url
        world.start("worker", "scheduler")
        buyer, event_id, body = paid_but_untold(shop)
        # The look-up of the checkout has a wake-up of its own, which would find the event by chance.
        world.stop("worker")
        shop.without_wake_ups()
        unanswered: list[Exception] = []

        def ring() -> None:
            try:
                shop.ring(body)
            except requests.ConnectionError as error:
                unanswered.append(error)

        wire.cut.set()
        ringing = threading.Thread(target=ring)
        ringing.start()
        world.eventually(lambda: shop.stored(event_id))
        world.kill("web")
        ringing.join(10)

    assert len(unanswered) == 1
    assert wire.lost  # web had begun to send,
    assert "queue.send_failed" not in world.log("web")  # and never came to the end of it
    world.start("web", "worker")
    shop.assert_delivered(buyer, grant_calls=1)
    assert shop.stored(event_id) == ["handled"]
    assert "ops.sweep_found" in world.log("worker")


def test_redis_is_down_while_a_webhook_arrives(shop):
    world = shop.world
    world.start()
    buyer, event_id, body = paid_but_untold(shop)
    world.stop_redis()

    began = time.monotonic()
    answer = shop.ring(body)
    took = time.monotonic() - began

    assert answer.status_code == 200
    assert took < 2
    assert shop.stored(event_id) == ["received"]
    world.start_redis()
    shop.assert_delivered(buyer, grant_calls=1, timeout=60)


def test_redis_hangs_while_a_webhook_arrives(shop):
    world = shop.world
    world.start()
    buyer, event_id, body = paid_but_untold(shop)

    with world.hung_redis():
        began = time.monotonic()
        answer = shop.ring(body)
        took = time.monotonic() - began

    assert answer.status_code == 200
    assert took < 2
    assert len(shop.stored(event_id)) == 1
    shop.assert_delivered(buyer, grant_calls=1, timeout=60)


def test_a_refund_seen_before_the_completion(shop):
    shop.world.start()
    shop.mislead_stripe("hold")
    buyer = shop.buyer()
    shop.without_look_ups()
    buyer.pay_and_leave()
    shop.desk("/dev/stripe/").submit(f"/sessions/{buyer.session_id}/refund")
    assert [kind for kind, _ in shop.events("charge.refunded")]

    shop.desk("/dev/stripe/").submit("/events/deliver-held", order="newest")

    shop.world.eventually(lambda: shop.status_of(buyer) == ["REFUNDED"])
    shop.assert_nothing_given(buyer, "REFUNDED")


def test_a_refund_after_the_access_takes_it_away(shop):
    shop.world.start()
    buyer = shop.buyer()
    buyer.pay()
    shop.assert_delivered(buyer, grant_calls=1)

    shop.desk("/dev/stripe/").submit(f"/sessions/{buyer.session_id}/refund")

    shop.world.eventually(lambda: shop.held(buyer) == [])
    shop.at_rest()
    assert shop.status_of(buyer) == ["REFUNDED"]
    assert shop.standing(buyer) == 0
    assert list(buyer.access().values()) == ["Revoked"] * 6
    assert shop.calls()["revoke"] == 1
    shop.assert_invariants()


def test_the_webhook_never_comes_and_the_buyer_never_returns(shop):
    shop.world.start()
    shop.mislead_stripe("drop")
    buyer = shop.buyer()

    buyer.pay_and_leave()

    # Asked of the tables: a look at the dashboard would have the payment looked up sooner.
    shop.world.eventually(lambda: shop.status_of(buyer) == ["COMPLETED"], timeout=30)
    assert shop.world.sql("SELECT count(*) FROM webhook_event")[0][0] == 0
    shop.assert_delivered(buyer, grant_calls=1)


def test_events_newest_first(shop):
    shop.world.start()
    shop.mislead_stripe("hold")
    buyer = shop.buyer()
    shop.without_look_ups()
    buyer.press("decline")
    buyer.pay_and_leave()
    told = len(shop.events())
    assert told >= 5

    shop.desk("/dev/stripe/").submit("/events/deliver-held", order="newest")

    shop.world.eventually(lambda: shop.status_of(buyer) == ["COMPLETED"])
    shop.assert_delivered(buyer, grant_calls=1)
    assert shop.world.sql("SELECT count(*) FROM webhook_event")[0][0] == told


def slow_bank(shop: Shop):
    """A buyer whose page is complete and whose money is not there yet, with events to tell of it."""
    buyer = shop.buyer()
    assert buyer.press("pay-later").status_code == 303
    completed = shop.events(COMPLETED)[0][0]
    shop.world.eventually(lambda: shop.stored(completed) == ["handled"])
    assert shop.status_of(buyer) == ["PENDING"]
    assert shop.standing(buyer) == 0
    return buyer


def test_a_delayed_payment_that_succeeds(shop):
    shop.world.start()
    buyer = slow_bank(shop)

    shop.desk("/dev/stripe/").submit(f"/sessions/{buyer.session_id}/settle", verdict="succeeded")

    shop.assert_delivered(buyer, grant_calls=1)


def test_a_delayed_payment_that_fails(shop):
    shop.world.start()
    buyer = slow_bank(shop)

    shop.desk("/dev/stripe/").submit(f"/sessions/{buyer.session_id}/settle", verdict="failed")

    shop.world.eventually(lambda: shop.status_of(buyer) == ["FAILED"])
    shop.assert_nothing_given(buyer, "FAILED")


def test_an_expired_checkout(shop):
    shop.world.start()
    buyer = shop.buyer()

    shop.desk("/dev/stripe/").submit(f"/sessions/{buyer.session_id}/expire")

    shop.world.eventually(lambda: shop.status_of(buyer) == ["EXPIRED"])
    shop.assert_nothing_given(buyer, "EXPIRED")
