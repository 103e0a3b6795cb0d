"""What a payment provider promises about subscriptions: their periods, their invoices and their end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sts_app.billing.gateway import Origin, Refused, TryLater
from tests.contracts.payment_worlds import (
    ALICE,
    MONTHLY,
    REF,
    World,
    a_paid_page,
    a_refund,
    a_subscription,
    an_open_page,
    intent_of,
)


class TestBeginning:
    def test_the_payment_of_its_checkout_is_its_first_invoice(self, payment_world: World) -> None:
        facts = payment_world.payments.look_up(a_paid_page(payment_world, **MONTHLY))

        assert (facts.session, facts.payment, facts.intent, facts.mode) == (
            "complete",
            "paid",
            "succeeded",
            "subscription",
        )
        assert (facts.amount_total, facts.purchase_ref) == (1900, REF)
        assert None not in (facts.subscription_id, facts.invoice_id, facts.intent_id, facts.customer_id)
        for url in (facts.receipt_url, facts.invoice_url, facts.invoice_pdf_url):
            assert (url or "").startswith("https://")

    def test_its_facts_say_whose_it_is_and_how_long_it_is_paid(self, payment_world: World) -> None:
        facts = payment_world.payments.look_up(a_paid_page(payment_world, **MONTHLY))
        now = datetime.now(UTC)

        subscription = payment_world.payments.look_up_subscription(facts.subscription_id or "")

        assert subscription.id == facts.subscription_id
        assert (subscription.purchase_ref, subscription.customer_id) == (REF, facts.customer_id)
        assert (subscription.status, subscription.price_id) == ("active", "price_monthly")
        assert subscription.period_end is not None
        assert now + timedelta(days=27) < subscription.period_end < now + timedelta(days=32)
        assert (subscription.ends_at, subscription.ended_at) == (None, None)
        [invoice] = subscription.invoices
        assert (invoice.id, invoice.intent_id) == (facts.invoice_id, facts.intent_id)
        assert (invoice.status, invoice.amount_paid, invoice.currency) == ("paid", 1900, "usd")
        assert invoice.is_first
        assert invoice.paid_at is not None
        assert invoice.period_end == subscription.period_end

    def test_a_checkout_left_open_began_nothing(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world, **MONTHLY)

        facts = payment_world.payments.look_up(checkout.session_id)

        assert (facts.session, facts.amount_total, facts.mode) == ("open", 1900, "subscription")
        assert (facts.subscription_id, facts.invoice_id, facts.intent_id) == (None, None, None)

    def test_a_slow_bank_leaves_it_active_and_unpaid_until_it_pays(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world, **MONTHLY)

        payment_world.pay_later(checkout.session_id)
        waiting = payment_world.payments.look_up(checkout.session_id)
        payment_world.settle(checkout.session_id, True)
        paid = payment_world.payments.look_up(checkout.session_id)

        assert (waiting.session, waiting.payment, waiting.intent) == ("complete", "unpaid", "processing")
        assert (paid.session, paid.payment, paid.intent) == ("complete", "paid", "succeeded")
        assert paid.intent_id == waiting.intent_id
        [invoice] = payment_world.payments.look_up_subscription(paid.subscription_id or "").invoices
        assert (invoice.status, invoice.amount_paid) == ("paid", 1900)

    def test_a_slow_bank_that_refused_leaves_it_past_due(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world, **MONTHLY)
        payment_world.pay_later(checkout.session_id)

        payment_world.settle(checkout.session_id, False)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("complete", "unpaid", "requires_payment_method")
        assert facts.declined_because == "insufficient_funds"
        subscription = payment_world.payments.look_up_subscription(facts.subscription_id or "")
        assert (subscription.status, subscription.invoices[0].status) == ("past_due", "open")
        assert payment_world.books() == 0

    def test_a_first_month_for_nothing_needs_no_payment(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world, **MONTHLY)

        payment_world.apply_promotion(checkout.session_id, 100)
        payment_world.pay(checkout.session_id)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.payment, facts.amount_total, facts.intent_id) == ("no_payment_required", 0, None)
        assert facts.subscription_id is not None
        assert payment_world.payments.look_up_subscription(facts.subscription_id).status == "active"
        assert payment_world.books() == 0


class TestRenewals:
    def test_a_renewal_is_a_payment_of_its_own(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        before = payment_world.payments.look_up_subscription(subscription_id)

        invoice_id = payment_world.renew(subscription_id)

        facts = payment_world.payments.look_up_invoice(invoice_id)
        assert (facts.session_id, facts.session, facts.payment, facts.intent) == (
            None,
            "complete",
            "paid",
            "succeeded",
        )
        assert (facts.amount_total, facts.currency, facts.purchase_ref, facts.mode) == (
            1900,
            "usd",
            REF,
            "subscription",
        )
        assert (facts.invoice_id, facts.subscription_id, facts.customer_id) == (
            invoice_id,
            subscription_id,
            before.customer_id,
        )
        assert (facts.receipt_url or "").startswith("https://")
        assert payment_world.books() == 3800

    def test_invoices_come_oldest_first_and_the_period_moves_on(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        before = payment_world.payments.look_up_subscription(subscription_id)
        renewals = [payment_world.renew(subscription_id) for _ in range(3)]

        after = payment_world.payments.look_up_subscription(subscription_id)

        assert [invoice.id for invoice in after.invoices] == [before.invoices[0].id, *renewals]
        assert [invoice.is_first for invoice in after.invoices] == [True, False, False, False]
        assert len({invoice.intent_id for invoice in after.invoices}) == 4
        assert before.period_end is not None
        assert after.period_end is not None
        assert after.period_end > before.period_end + timedelta(days=80)
        assert after.invoices[-1].period_end == after.period_end

    def test_a_renewal_that_was_not_paid_waits_and_says_why(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)

        invoice_id = payment_world.fail_renewal(subscription_id)

        facts = payment_world.payments.look_up_invoice(invoice_id)
        assert (facts.payment, facts.intent, facts.amount_total) == ("unpaid", "requires_payment_method", 1900)
        assert facts.declined_because == "insufficient_funds"
        subscription = payment_world.payments.look_up_subscription(subscription_id)
        assert subscription.status == "past_due"
        assert (subscription.invoices[-1].status, subscription.invoices[-1].amount_paid) == ("open", 0)
        assert payment_world.books() == 1900

    def test_paying_what_was_open_makes_it_active_again(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        invoice_id = payment_world.fail_renewal(subscription_id)

        payment_world.pay_invoice(invoice_id)

        facts = payment_world.payments.look_up_invoice(invoice_id)
        assert (facts.payment, facts.intent, facts.declined_because) == ("paid", "succeeded", None)
        assert payment_world.payments.look_up_subscription(subscription_id).status == "active"

    def test_one_that_is_never_paid_becomes_unpaid(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        payment_world.fail_renewal(subscription_id)

        payment_world.give_up(subscription_id)

        assert payment_world.payments.look_up_subscription(subscription_id).status == "unpaid"

    def test_refunds_and_disputes_of_a_renewal_are_in_its_facts(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        invoice_id = payment_world.renew(subscription_id)
        intent_id = payment_world.payments.look_up_invoice(invoice_id).intent_id
        assert intent_id is not None

        payment_world.refund(intent_id, 400)
        dispute_id = payment_world.open_dispute(intent_id, amount=1500)

        facts = payment_world.payments.look_up_invoice(invoice_id)
        assert facts.amount_refunded == 400
        assert [dispute.id for dispute in facts.disputes] == [dispute_id]
        assert payment_world.books() == 1900

    def test_a_refund_of_the_first_month_is_in_the_facts_of_its_checkout(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world, **MONTHLY)

        payment_world.payments.refund(a_refund(payment_world, session_id, amount=1900), key="refund-3")

        assert payment_world.payments.look_up(session_id).amount_refunded == 1900

    def test_what_nobody_knows_is_refused(self, payment_world: World) -> None:
        with pytest.raises(Refused, match="resource_missing"):
            payment_world.payments.look_up_invoice("in_unknown")
        with pytest.raises(Refused, match="resource_missing"):
            payment_world.payments.look_up_subscription("sub_unknown")


class TestOrigins:
    def test_the_first_payment_belongs_to_the_checkout_and_the_subscription(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world, **MONTHLY)
        facts = payment_world.payments.look_up(session_id)

        origin = payment_world.payments.find_origin(intent_of(payment_world, session_id))

        assert origin == Origin(
            session_id=session_id, invoice_id=facts.invoice_id, subscription_id=facts.subscription_id
        )

    def test_a_renewals_payment_belongs_to_its_invoice(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        invoice_id = payment_world.renew(subscription_id)
        intent_id = payment_world.payments.look_up_invoice(invoice_id).intent_id

        origin = payment_world.payments.find_origin(intent_id or "")

        assert origin == Origin(invoice_id=invoice_id, subscription_id=subscription_id)


class TestEnding:
    def test_an_end_that_is_set_is_told_before_it_comes(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)

        payment_world.cancel_at_period_end(subscription_id)
        set_to_end = payment_world.payments.look_up_subscription(subscription_id)
        payment_world.reach_the_end(subscription_id)
        ended = payment_world.payments.look_up_subscription(subscription_id)

        assert (set_to_end.status, set_to_end.ended_at) == ("active", None)
        assert set_to_end.ends_at == set_to_end.period_end
        assert ended.status == "canceled"
        assert ended.ended_at is not None

    def test_a_subscription_is_ended_now_however_often_one_asks(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)

        payment_world.payments.cancel_subscription(subscription_id, key="cancel-9")
        payment_world.payments.cancel_subscription(subscription_id, key="cancel-9")
        payment_world.payments.cancel_subscription(subscription_id, key="cancel-10")

        subscription = payment_world.payments.look_up_subscription(subscription_id)
        assert subscription.status == "canceled"
        assert subscription.ended_at is not None
        assert len(subscription.invoices) == 1
        assert payment_world.books() == 1900

    def test_an_answer_that_was_lost_ends_it_all_the_same(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        payment_world.lose_answers()
        with pytest.raises(TryLater):
            payment_world.payments.cancel_subscription(subscription_id, key="cancel-9")

        payment_world.payments.cancel_subscription(subscription_id, key="cancel-9")

        assert payment_world.payments.look_up_subscription(subscription_id).status == "canceled"

    def test_one_that_never_was_is_refused(self, payment_world: World) -> None:
        with pytest.raises(Refused, match="resource_missing"):
            payment_world.payments.cancel_subscription("sub_unknown", key="cancel-9")

    def test_forgetting_the_customer_ends_it(self, payment_world: World) -> None:
        subscription_id = a_subscription(payment_world)
        customer_id = payment_world.payments.find_customer(ALICE)

        payment_world.payments.delete_customer(customer_id or "")

        assert payment_world.payments.look_up_subscription(subscription_id).status == "canceled"
        assert payment_world.payments.find_customer(replace(ALICE)) is None
