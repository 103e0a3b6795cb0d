"""Refunds and disputes at the simulated Stripe beyond the contract: what they ring, and that the books add up."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
import time_machine

from sts_app.billing.gateway import DisputeStatus, RefundStatus, Refused
from sts_app.billing.simulated_stories import NEXT_DISPUTE, NEXT_REFUND
from tests.contracts.payment_simulated import SimulatedWorld
from tests.contracts.payment_worlds import (
    PDF,
    a_paid_page,
    a_refund,
    a_subscription,
    some_evidence,
)


@pytest.fixture
def world() -> SimulatedWorld:
    return SimulatedWorld()


@pytest.fixture
def paid(world) -> str:
    session_id = a_paid_page(world)
    world.bell.rings.clear()
    return session_id


def shown(world: SimulatedWorld, kind: str) -> list[dict]:
    return [event.payload["data"]["object"] for event in world.rings() if event.type == kind]


class TestRefunds:
    def test_a_refund_rings_with_itself_and_its_charge(self, world, paid):
        world.payments.give_back(paid, 2500)

        assert world.bell.types == ["refund.created", "charge.refunded"]
        [charge] = shown(world, "charge.refunded")
        assert (charge["amount_refunded"], charge["refunded"]) == (2500, False)

    def test_a_refund_of_the_store_carries_its_reference_and_one_of_the_dashboard_none(self, world, paid):
        world.payments.refund(a_refund(world, paid, amount=100), key="refund-3")
        world.payments.give_back(paid, 100)

        assert [refund["metadata"] for refund in shown(world, "refund.created")] == [{"refund_ref": "ref_3"}, {}]

    def test_a_refund_that_fails_says_so_and_lowers_what_was_refunded(self, world, paid):
        refund_id = world.payments.give_back(paid, status="pending")
        world.bell.rings.clear()

        world.payments.move_refund(refund_id, "failed")

        assert world.bell.types == ["refund.updated", "charge.refund.updated", "refund.failed"]
        assert shown(world, "refund.failed")[0]["failure_reason"] == "expired_or_canceled_card"
        assert world.payments.payment(world.payments.look_up(paid).intent_id).payment.refunded == 0

    @pytest.mark.parametrize("before", get_args(RefundStatus))
    @pytest.mark.parametrize("after", get_args(RefundStatus))
    def test_a_refund_goes_the_ways_that_refunds_go(self, world, paid, before, after):
        refund_id = world.payments.give_back(paid, 100)
        world.payments.move_refund(refund_id, before, anyway=True)
        world.bell.rings.clear()

        with suppress(Refused):
            world.payments.move_refund(refund_id, after)

        [refund] = world.payments.look_up(paid).refunds
        assert refund.status == (after if after in NEXT_REFUND[before] else before)
        assert bool(world.bell.rings) == (after in NEXT_REFUND[before])

    def test_only_the_next_refund_begins_as_told(self, world, paid):
        world.payments.next_refund("requires_action")

        begun = [world.payments.refund(a_refund(world, paid, amount=1, ref=ref), key=ref) for ref in ("one", "two")]

        assert [refund.status for refund in begun] == ["requires_action", "succeeded"]

    def test_a_repeated_call_is_answered_as_it_was_at_first(self, world, paid):
        world.payments.next_refund("pending")
        first = world.payments.refund(a_refund(world, paid, amount=100), key="refund-3")
        world.payments.move_refund(first.id, "succeeded")

        assert world.payments.refund(a_refund(world, paid, amount=100), key="refund-3") == first

    def test_what_was_refused_under_a_key_is_refused_under_it_again(self, world, paid):
        whole = world.payments.give_back(paid, status="pending")
        with pytest.raises(Refused, match="already_refunded"):
            world.payments.refund(a_refund(world, paid, amount=100), key="refund-3")
        world.payments.move_refund(whole, "failed")

        with pytest.raises(Refused, match="already_refunded"):
            world.payments.refund(a_refund(world, paid, amount=100), key="refund-3")
        assert world.payments.refund(a_refund(world, paid, amount=100), key="refund-4").amount == 100

    def test_callers_with_one_key_give_back_once(self, world, paid):
        request, together, found = a_refund(world, paid, amount=100), threading.Barrier(4), set()

        def call():
            together.wait()
            found.add(world.payments.refund(request, key="refund-3").id)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert len(found) == 1
        assert world.payments.look_up(paid).amount_refunded == 100
        assert world.bell.types.count("refund.created") == 1

    def test_a_renewal_is_refunded_by_its_payment(self, world):
        invoice_id = world.payments.renew(a_subscription(world))
        intent_id = world.payments.look_up_invoice(invoice_id).intent_id

        world.payments.give_back(intent_id)

        assert world.payments.look_up_invoice(invoice_id).amount_refunded == 1900
        assert world.books() == 1900


class TestDisputes:
    @pytest.mark.parametrize("status", get_args(DisputeStatus))
    def test_a_dispute_that_begins_rings_with_the_money_it_takes(self, world, paid, status):
        world.payments.open_dispute(paid, status)

        takes = status in ("needs_response", "under_review", "lost")
        ends = status in ("warning_closed", "prevented", "lost", "won")
        expected = ["charge.dispute.created"]
        expected += ["charge.dispute.funds_withdrawn"] if takes else []
        assert world.bell.types == expected + (["charge.dispute.closed"] if ends else [])
        assert world.payments.books().withheld == (9900 if takes else 0)

    def test_an_inquiry_takes_the_money_once_it_becomes_a_chargeback_and_gives_it_back_when_won(self, world, paid):
        dispute_id = world.payments.open_dispute(paid, "warning_needs_response", reason="product_not_received")
        told = []
        for status in ("warning_under_review", "needs_response", "under_review", "won"):
            world.bell.rings.clear()
            world.payments.move_dispute(dispute_id, status)
            told.append([kind.removeprefix("charge.dispute.") for kind in world.bell.types])

        assert told == [
            ["updated"],
            ["updated", "funds_withdrawn"],
            ["updated"],
            ["updated", "closed", "funds_reinstated"],
        ]
        assert world.payments.look_up_dispute(dispute_id).reason == "product_not_received"

    @pytest.mark.parametrize("before", get_args(DisputeStatus))
    @pytest.mark.parametrize("after", get_args(DisputeStatus))
    def test_a_dispute_goes_the_ways_that_disputes_go(self, world, paid, before, after):
        dispute_id = world.payments.open_dispute(paid, before)
        world.bell.rings.clear()

        with suppress(Refused):
            world.payments.move_dispute(dispute_id, after)

        assert world.payments.look_up_dispute(dispute_id).status == (after if after in NEXT_DISPUTE[before] else before)
        assert bool(world.bell.rings) == (after in NEXT_DISPUTE[before])

    def test_nothing_is_disputed_that_was_not_paid(self, world):
        with pytest.raises(Refused):
            world.payments.open_dispute("pi_unknown")
        with pytest.raises(Refused, match="amount"):
            world.payments.open_dispute(a_paid_page(world), amount_cents=9901)
        assert world.count("dispute") == 0

    def test_evidence_is_shown_with_the_dispute_and_told(self, world, paid):
        dispute_id = world.payments.open_dispute(paid)
        file_id = world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")
        world.bell.rings.clear()

        world.payments.submit_evidence(some_evidence(dispute_id, file_id), key="evidence-5")

        [dispute] = shown(world, "charge.dispute.updated")
        assert dispute["evidence"]["receipt"] == file_id
        assert dispute["evidence_details"]["submission_count"] == 1
        assert dispute["metadata"] == {"evidence_ref": "dis_5"}

    def test_evidence_comes_too_late_after_the_due_date(self, world, paid):
        dispute_id = world.payments.open_dispute(paid, answer_time=timedelta(days=1))
        file_id = world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")

        with time_machine.travel(datetime.now(UTC) + timedelta(days=2)), pytest.raises(Refused):
            world.payments.submit_evidence(some_evidence(dispute_id, file_id), key="evidence-5")


@pytest.mark.parametrize("seed", range(6))
def test_the_books_are_the_sum_of_what_the_facts_say_after_any_history(seed):
    chance, world = random.Random(seed), SimulatedWorld()
    pages = [a_paid_page(world, key=f"page-{number}") for number in range(3)]
    refunds, disputes = [], []

    for _ in range(40):
        with suppress(Refused):
            match chance.randrange(4):
                case 0:
                    amount, status = chance.randint(1, 4000), chance.choice(get_args(RefundStatus)[:3])
                    refunds.append(world.payments.give_back(chance.choice(pages), amount, status=status))
                case 1 if refunds:
                    world.payments.move_refund(chance.choice(refunds), chance.choice(get_args(RefundStatus)))
                case 2 if len(disputes) < 3:
                    first = chance.choice(["needs_response", "warning_needs_response"])
                    disputes.append(world.payments.open_dispute(chance.choice(pages), first, chance.randint(1, 3000)))
                case _ if disputes:
                    world.payments.move_dispute(chance.choice(disputes), chance.choice(get_args(DisputeStatus)))

    facts = [world.payments.look_up(session_id) for session_id in pages]
    books = world.payments.books()
    held = ("needs_response", "under_review", "lost")
    assert books.charged == 3 * 9900
    assert books.refunded == sum(each.amount_refunded for each in facts) > 0
    assert books.withheld == sum(d.amount for each in facts for d in each.disputes if d.status in held)
    assert books.left == books.charged - books.refunded - books.withheld
