"""TradingView takes its time, and only what needs TradingView waits for it."""

from __future__ import annotations

import time

SLOW = 10.0
SOON = 5.0


def test_a_slow_tradingview_keeps_no_letter_no_payment_and_no_sweep_waiting(shop):
    world = shop.world
    world.env.update(WORKER_CONCURRENCY="2", JOB_TIMEOUT="40", LEASE_SECONDS="60")
    world.start()
    shop.mislead_tradingview("slow_before", times=2, seconds=SLOW)
    buyers = [shop.buyer(name) for name in ("alice", "bob")]
    newcomer = shop.buyer("carol")
    for buyer in buyers:
        buyer.pay_and_leave()

    def under_way() -> int:
        return world.sql("SELECT count(*) FROM provisioning_attempt WHERE finished_at IS NULL")[0][0]

    world.eventually(lambda: all(shop.status_of(buyer) == ["COMPLETED"] for buyer in buyers) and under_way())
    began = time.monotonic()
    swept = world.sql("SELECT coalesce(max(id), 0) FROM periodic_run WHERE name = 'ops.sweep'")[0][0]

    # Somebody new asks for a letter, somebody else pays, and the sweep is due.
    stranger = shop.visitor("dave")
    stranger.ask_for_access()
    stranger.submit("/sign-in", email=stranger.email)
    newcomer.pay_and_leave()
    world.eventually(lambda: stranger.letter("sign_in"), timeout=SOON)
    world.eventually(lambda: shop.status_of(newcomer) == ["COMPLETED"], timeout=SOON)
    world.eventually(
        lambda: world.sql(
            "SELECT 1 FROM periodic_run WHERE name = 'ops.sweep' AND id > :swept AND finished_at IS NOT NULL",
            swept=swept,
        ),
        timeout=SOON,
    )

    assert time.monotonic() - began < SLOW, "the vendor had answered by then: this shows nothing"
    assert under_way() > 0
    world.eventually(lambda: all(len(shop.held(buyer)) == 6 for buyer in (*buyers, newcomer)), timeout=60)
    shop.at_rest()
    shop.assert_invariants()
