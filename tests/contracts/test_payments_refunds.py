"""What a payment provider promises about money that goes back: refunds, disputes and their evidence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from sts_app.billing.gateway import DisputeStatus, RefundStatus, Refused, TryLater
from tests.contracts.payment_worlds import PDF, World, a_paid_page, a_refund, an_open_page, intent_of, some_evidence


class TestRefunds:
    def test_a_refund_of_ours_carries_our_reference(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        request = a_refund(payment_world, session_id, amount=2500)

        answer = payment_world.payments.refund(request, key="refund-3")

        assert (answer.amount, answer.currency, answer.status, answer.ref) == (2500, "usd", "succeeded", "ref_3")
        assert answer.intent_id == request.intent_id
        assert payment_world.payments.look_up(session_id).refunds == (answer,)
        assert payment_world.books() == 7400

    def test_refunds_from_both_sides_add_up_in_the_facts(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)

        payment_world.refund(session_id, 2500)
        partial = payment_world.payments.look_up(session_id)
        payment_world.payments.refund(a_refund(payment_world, session_id, amount=7400), key="refund-3")
        full = payment_world.payments.look_up(session_id)

        assert (partial.payment, partial.amount_total, partial.amount_refunded) == ("paid", 9900, 2500)
        assert (full.payment, full.amount_total, full.amount_refunded) == ("paid", 9900, 9900)
        assert {refund.ref for refund in full.refunds} == {None, "ref_3"}

    def test_the_same_key_and_request_give_back_once(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        request = a_refund(payment_world, session_id, amount=2500)

        first = payment_world.payments.refund(request, key="refund-3")
        second = payment_world.payments.refund(request, key="refund-3")

        assert first == second
        assert payment_world.payments.look_up(session_id).amount_refunded == 2500

    def test_the_same_key_with_another_amount_is_refused(self, payment_world: World) -> None:
        request = a_refund(payment_world, a_paid_page(payment_world), amount=2500)
        payment_world.payments.refund(request, key="refund-3")

        with pytest.raises(Refused, match="idempotency_error"):
            payment_world.payments.refund(replace(request, amount_cents=2600), key="refund-3")

    def test_an_answer_that_was_lost_gives_back_once(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        request = a_refund(payment_world, session_id, amount=9900)
        payment_world.lose_answers()
        with pytest.raises(TryLater):
            payment_world.payments.refund(request, key="refund-3")

        answer = payment_world.payments.refund(request, key="refund-3")

        assert payment_world.payments.look_up(session_id).refunds == (answer,)
        assert payment_world.count("refund") == 1
        assert payment_world.books() == 0

    def test_no_more_is_given_back_than_is_left(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        payment_world.payments.refund(a_refund(payment_world, session_id, amount=9000), key="refund-1")

        with pytest.raises(Refused):
            payment_world.payments.refund(a_refund(payment_world, session_id, amount=901), key="refund-2")
        payment_world.payments.refund(a_refund(payment_world, session_id, amount=900), key="refund-3")
        with pytest.raises(Refused, match="charge_already_refunded"):
            payment_world.payments.refund(a_refund(payment_world, session_id, amount=1), key="refund-4")

        assert payment_world.payments.look_up(session_id).amount_refunded == 9900

    def test_what_was_not_paid_is_not_given_back(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)
        payment_world.pay_later(checkout.session_id)

        with pytest.raises(Refused):
            payment_world.payments.refund(a_refund(payment_world, checkout.session_id, amount=100), key="refund-3")

    def test_a_payment_nobody_knows_is_not_given_back(self, payment_world: World) -> None:
        request = replace(a_refund(payment_world, a_paid_page(payment_world), amount=100), intent_id="pi_unknown")

        with pytest.raises(Refused, match="resource_missing"):
            payment_world.payments.refund(request, key="refund-3")

    def test_a_pending_refund_counts_and_one_that_fails_does_not_any_more(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        payment_world.next_refund("pending")
        refund = payment_world.payments.refund(a_refund(payment_world, session_id, amount=9900), key="refund-3")
        pending = payment_world.payments.look_up(session_id)

        payment_world.set_refund(refund.id, "failed")

        failed = payment_world.payments.look_up(session_id)
        assert (refund.status, pending.amount_refunded) == ("pending", 9900)
        assert (failed.amount_refunded, failed.refunds[0].status) == (0, "failed")
        assert failed.refunds[0].failed_because == "expired_or_canceled_card"
        assert payment_world.books() == 9900

    @pytest.mark.parametrize("status", get_args(RefundStatus))
    def test_every_status_of_a_refund_is_read(self, payment_world: World, status: RefundStatus) -> None:
        session_id = a_paid_page(payment_world)
        refund_id = payment_world.refund(session_id, 100)

        payment_world.set_refund(refund_id, status)

        [refund] = payment_world.payments.look_up(session_id).refunds
        assert (refund.id, refund.status) == (refund_id, status)

    def test_what_a_failed_refund_left_can_be_given_back_again(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        payment_world.set_refund(payment_world.refund(session_id), "failed")

        payment_world.payments.refund(a_refund(payment_world, session_id, amount=9900), key="refund-3")

        facts = payment_world.payments.look_up(session_id)
        assert sorted(refund.status for refund in facts.refunds) == ["failed", "succeeded"]
        assert (facts.amount_refunded, payment_world.books()) == (9900, 0)

    def test_many_small_refunds_are_all_in_the_facts(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        made = {payment_world.refund(session_id, 10 + number) for number in range(23)}

        facts = payment_world.payments.look_up(session_id)

        assert {refund.id for refund in facts.refunds} == made
        assert facts.amount_refunded == sum(10 + number for number in range(23))


class TestDisputes:
    def test_a_dispute_shows_in_the_facts_of_its_payment(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)

        dispute_id = payment_world.open_dispute(session_id)

        facts = payment_world.payments.look_up(session_id)
        [dispute] = facts.disputes
        assert (dispute.id, dispute.amount, dispute.currency) == (dispute_id, 9900, "usd")
        assert (dispute.status, dispute.reason, dispute.submissions) == ("needs_response", "fraudulent", 0)
        assert dispute.intent_id == facts.intent_id
        assert dispute.due_by is not None
        assert dispute.due_by > datetime.now(UTC) + timedelta(days=1)
        assert payment_world.payments.look_up_dispute(dispute_id) == dispute

    @pytest.mark.parametrize("status", get_args(DisputeStatus))
    def test_every_status_of_a_dispute_is_read(self, payment_world: World, status: DisputeStatus) -> None:
        session_id = a_paid_page(payment_world)
        dispute_id = payment_world.open_dispute(session_id)

        payment_world.move_dispute(dispute_id, status)

        assert payment_world.payments.look_up_dispute(dispute_id).status == status
        assert [dispute.status for dispute in payment_world.payments.look_up(session_id).disputes] == [status]

    @pytest.mark.parametrize(
        ("status", "left"),
        [("warning_needs_response", 9900), ("needs_response", 5900), ("lost", 5900), ("won", 9900)],
    )
    def test_the_bank_has_the_money_while_a_dispute_is_open_or_lost(
        self, payment_world: World, status: DisputeStatus, left: int
    ) -> None:
        dispute_id = payment_world.open_dispute(a_paid_page(payment_world), amount=4000)

        payment_world.move_dispute(dispute_id, status)

        assert payment_world.books() == left

    def test_a_disputed_payment_is_not_given_back(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        dispute_id = payment_world.open_dispute(session_id)

        with pytest.raises(Refused, match="charge_disputed"):
            payment_world.payments.refund(a_refund(payment_world, session_id, amount=100), key="refund-3")
        payment_world.move_dispute(dispute_id, "won")

        assert payment_world.payments.refund(a_refund(payment_world, session_id, amount=100), key="refund-4").counts

    def test_an_unknown_dispute_is_refused(self, payment_world: World) -> None:
        with pytest.raises(Refused, match="resource_missing"):
            payment_world.payments.look_up_dispute("dp_unknown")


class TestEvidence:
    @pytest.mark.parametrize("status", ["needs_response", "warning_needs_response"])
    def test_evidence_is_sent_once_and_for_good(self, payment_world: World, status: DisputeStatus) -> None:
        dispute_id = payment_world.open_dispute(a_paid_page(payment_world), status)
        file_id = payment_world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")
        request = some_evidence(dispute_id, file_id)

        sent = payment_world.payments.submit_evidence(request, key="evidence-5")

        assert sent.status == status.replace("needs_response", "under_review")
        assert (sent.submissions, sent.evidence_ref) == (1, "dis_5")
        with pytest.raises(Refused):
            payment_world.payments.submit_evidence(request, key="evidence-6")
        assert payment_world.payments.look_up_dispute(dispute_id) == sent

    def test_answers_that_were_lost_upload_and_submit_once(self, payment_world: World) -> None:
        dispute_id = payment_world.open_dispute(a_paid_page(payment_world))
        payment_world.lose_answers()
        with pytest.raises(TryLater):
            payment_world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")
        request = some_evidence(dispute_id, payment_world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5"))
        payment_world.lose_answers()
        with pytest.raises(TryLater):
            payment_world.payments.submit_evidence(request, key="evidence-5")

        sent = payment_world.payments.submit_evidence(request, key="evidence-5")

        assert payment_world.count("file") == 1
        assert (sent.submissions, payment_world.payments.look_up_dispute(dispute_id).submissions) == (1, 1)

    def test_the_same_key_with_another_file_is_refused(self, payment_world: World) -> None:
        payment_world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")

        with pytest.raises(Refused, match="idempotency_error"):
            payment_world.payments.upload_evidence("receipt.pdf", PDF + b"more", key="upload-5")

    @pytest.mark.parametrize("status", ["won", "lost", "under_review", "warning_closed", "prevented"])
    def test_evidence_after_its_time_is_refused(self, payment_world: World, status: DisputeStatus) -> None:
        dispute_id = payment_world.open_dispute(a_paid_page(payment_world))
        file_id = payment_world.payments.upload_evidence("receipt.pdf", PDF, key="upload-5")
        payment_world.move_dispute(dispute_id, status)

        with pytest.raises(Refused):
            payment_world.payments.submit_evidence(some_evidence(dispute_id, file_id), key="evidence-5")

    def test_evidence_with_a_file_nobody_uploaded_is_refused(self, payment_world: World) -> None:
        dispute_id = payment_world.open_dispute(a_paid_page(payment_world))

        with pytest.raises(Refused):
            payment_world.payments.submit_evidence(some_evidence(dispute_id, "file_unknown"), key="evidence-5")


def test_a_dispute_and_a_refund_of_one_payment_stand_side_by_side(payment_world: World) -> None:
    session_id = a_paid_page(payment_world)
    payment_world.refund(session_id, 1900)
    payment_world.open_dispute(intent_of(payment_world, session_id), "lost", 8000)

    facts = payment_world.payments.look_up(session_id)

    assert (facts.amount_refunded, [dispute.amount for dispute in facts.disputes]) == (1900, [8000])
    assert payment_world.books() == 0
