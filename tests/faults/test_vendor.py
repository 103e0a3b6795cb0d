"""TradingView fails, lies, answers nobody, and knows no name; and workers die, race and stop in the middle of it."""

from __future__ import annotations

import time
from collections import Counter

from tests.faults.shop import LETTERS, STAFF

WAITING_LETTERS = ("sign_in", "welcome", "purchase_confirmation")


def open_tries(shop):
    return shop.world.sql("SELECT count(*) FROM provisioning_attempt WHERE finished_at IS NULL")[0][0]


def test_a_worker_killed_after_the_call_and_before_the_commit(shop):
    world = shop.world
    world.env.update(
        TV_CALL_TIMEOUT="0.3",
        TV_VALIDATE_TIMEOUT="0.3",
        WORK_SECONDS="0.5",
        JOB_TIMEOUT="2",
        LEASE_SECONDS="4",
    )
    world.start()
    shop.mislead_tradingview("slow_after", seconds=60)
    buyer = shop.buyer()
    buyer.pay_and_leave()

    world.eventually(lambda: len(shop.held(buyer)) == 6)
    world.kill("worker")
    assert open_tries(shop) == 6
    assert shop.outcomes() == {None: 6}
    assert set(buyer.access().values()) == {"Pending"}
    world.start("worker")

    shop.assert_delivered(buyer, grant_calls=1)
    outcomes = shop.outcomes()
    assert outcomes.pop("lost") == 6
    # Read when it was taken over, and once more after the dead worker's call cannot arrive any longer.
    assert outcomes == {"present": 12}
    assert shop.calls()["has_access"] == 2


def test_a_vendor_that_says_yes_and_does_nothing(shop):
    world = shop.world
    world.start()
    shop.mislead_tradingview("lie", times=2)
    buyer = shop.buyer()
    buyer.pay()
    seen = set()

    def all_active() -> bool:
        # First what we say, then what the vendor has: it takes nothing away, so whatever was Active must be there.
        states = buyer.access()
        held = len(shop.held(buyer))
        active = list(states.values()).count("Active")
        assert active <= held, f"{active} said to be active and {held} held"
        seen.update(states.values())
        return active == 6

    deadline = time.monotonic() + 30
    while not all_active():
        assert time.monotonic() < deadline

    assert seen == {"Pending", "Active"}
    shop.assert_delivered(buyer, grant_calls=3)
    assert shop.outcomes() == {"not_taken": 12, "present": 6}
    early = world.sql(
        "SELECT g.id FROM grants g JOIN simulator_record r ON r.vendor = 'tradingview' AND r.kind = 'access'"
        " AND r.record->>'script_id' = g.script_id"
        " WHERE g.verified_at < CAST(r.record->>'granted_at' AS timestamptz)"
    )
    assert early == []


def test_a_lost_answer_is_read_before_anything_is_sent_again(shop):
    shop.world.start()
    shop.mislead_tradingview("lose_answer")
    buyer = shop.buyer()

    buyer.pay()

    shop.assert_delivered(buyer, grant_calls=1)
    # Read after the wait, and once more when the call without an answer cannot be carried out any longer.
    assert shop.outcomes() == {"later": 6, "present": 12}


def test_a_worker_told_to_stop_while_a_call_is_under_way(shop):
    world = shop.world
    world.start()
    shop.mislead_tradingview("slow_after", seconds=2)
    buyer = shop.buyer()
    buyer.pay_and_leave()
    world.eventually(lambda: open_tries(shop) == 6)

    began = time.monotonic()
    world.stop("worker")
    took = time.monotonic() - began

    assert took < 8, "it was killed after the grace period"
    assert open_tries(shop) == 0
    assert "lost" not in shop.outcomes()
    assert world.sql("SELECT 1 FROM grants WHERE lease_token IS NOT NULL") == []
    world.start("worker")
    shop.assert_delivered(buyer, grant_calls=1)
    assert shop.outcomes() == {"present": 6}


def test_workers_racing_for_the_grants_of_four_buyers(shop):
    world = shop.world
    world.env["WORKER_CONCURRENCY"] = "4"
    world.start()
    shop.slow_tradingview(300)
    buyers = [shop.buyer(name) for name in ("alice", "bob", "carol", "dave")]
    with world.frozen("worker"):
        for buyer in buyers:
            buyer.pay_and_leave()

    shop.assert_delivered(*buyers, grant_calls=4)

    assert shop.outcomes() == {"present": 24}
    overlapping = world.sql(
        "SELECT a.id, b.id FROM provisioning_attempt a JOIN provisioning_attempt b ON b.grant_id = a.grant_id"
        " AND b.id > a.id AND b.created_at < a.finished_at"
    )
    assert overlapping == []
    busy_together = world.sql(
        "SELECT count(*) FROM provisioning_attempt a JOIN provisioning_attempt b ON b.lease_token > a.lease_token"
        " AND b.created_at < a.finished_at AND a.created_at < b.finished_at"
    )
    assert busy_together[0][0] > 0, "the workers took turns: this shows nothing about a race"


def test_retries_that_are_exhausted_go_to_a_person(shop):
    world = shop.world
    world.env["RETRY_TIME_SCALE"] = "0.001"
    world.start()
    shop.mislead_tradingview("refuse", times=50)
    buyer = shop.buyer()
    buyer.pay()

    world.eventually(lambda: world.sql("SELECT count(*) FROM manual_task")[0][0] == 6, timeout=60)
    shop.at_rest()

    assert shop.calls()["grant"] == 6, "the first try and five retries"
    assert shop.held(buyer) == []
    assert shop.outcomes() == {"not_taken": 36}
    assert world.sql("SELECT DISTINCT state, wanted FROM grants") == [("with_staff", True)]
    assert world.sql("SELECT count(*) FROM manual_task WHERE closed_at IS NULL")[0][0] == 6
    rows = buyer.words()
    assert len(rows) == 6
    assert all("Pending" in words and "A person is on it" in words for words in rows.values())
    assert shop.letters(buyer.email) == Counter([*WAITING_LETTERS, "access_failed"])
    assert shop.letters(STAFF) == {"admin_new_purchase": 1, "admin_provisioning_failure": 2, "admin_manual_task": 1}
    failures = [letter for letter in buyer.letters(STAFF) if letter["kind"] == "admin_provisioning_failure"]
    assert len({letter["subject"] for letter in failures}) == 2
    shop.assert_invariants()


def test_a_name_that_is_unknown_when_it_is_granted(shop):
    world = shop.world
    world.start()
    buyer = shop.buyer()
    shop.mislead_tradingview("unknown")
    buyer.pay()

    world.eventually(lambda: set(buyer.access().values()) == {"Action needed"})
    shop.at_rest()

    assert shop.calls()["grant"] == 1
    assert shop.outcomes() == {"unknown_name": 6}
    assert world.sql("SELECT 1 FROM grants WHERE next_attempt_at IS NOT NULL") == []
    assert shop.letters(buyer.email) == Counter([*WAITING_LETTERS, "access_failed"])
    assert shop.letters(STAFF) == {"admin_new_purchase": 1}
    shop.assert_invariants()

    shop.let_tradingview_behave()
    buyer.tradingview_name = "alice_corrected"
    buyer.open("/onboarding").onboard()

    world.eventually(lambda: len(shop.held(buyer)) == 6)
    shop.at_rest()
    assert list(buyer.access().values()) == ["Active"] * 6
    assert shop.letters(buyer.email) == Counter([*LETTERS, "access_failed"])
    assert shop.calls()["grant"] == 2
