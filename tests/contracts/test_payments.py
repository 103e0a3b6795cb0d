"""What a payment provider promises about customers and checkouts, told to the simulator and the live adapter alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe
import stripe.checkout

from sts_app.billing.gateway import NoSuchCustomer, Origin, PaymentFacts, Refused, TryLater
from tests.contracts.payment_worlds import (
    ALICE,
    KEY,
    MONTHLY,
    REF,
    World,
    a_paid_page,
    a_request,
    an_open_page,
    intent_of,
)


class TestCustomers:
    def test_the_same_key_and_request_make_one_customer(self, payment_world: World) -> None:
        first = payment_world.payments.create_customer(ALICE, key="customer-7")
        second = payment_world.payments.create_customer(ALICE, key="customer-7")

        assert first == second
        assert payment_world.count("customer") == 1

    def test_the_same_key_for_somebody_else_is_refused(self, payment_world: World) -> None:
        payment_world.payments.create_customer(ALICE, key="customer-7")

        with pytest.raises(Refused, match="idempotency_error"):
            payment_world.payments.create_customer(replace(ALICE, ref="per_8"), key="customer-7")

    def test_an_answer_that_was_lost_makes_no_second_customer(self, payment_world: World) -> None:
        payment_world.lose_answers()
        with pytest.raises(TryLater):
            payment_world.payments.create_customer(ALICE, key="customer-7")

        found = payment_world.payments.find_customer(ALICE)

        assert found is not None
        assert payment_world.payments.create_customer(ALICE, key="customer-7") == found
        assert payment_world.count("customer") == 1

    def test_a_customer_is_found_by_our_reference_among_those_of_one_address(self, payment_world: World) -> None:
        others = [replace(ALICE, ref=f"per_{number}", name="") for number in range(20, 25)]
        made = {
            one.ref: payment_world.payments.create_customer(one, key=f"customer-{one.ref}") for one in [ALICE, *others]
        }

        assert payment_world.payments.find_customer(ALICE) == made[ALICE.ref]
        assert payment_world.payments.find_customer(replace(ALICE, ref="per_9")) is None
        assert payment_world.payments.find_customer(replace(ALICE, email="bob@customers.example")) is None

    def test_a_customer_is_forgotten_however_often_one_asks(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")

        payment_world.payments.delete_customer(customer_id)
        payment_world.payments.delete_customer(customer_id)
        payment_world.payments.delete_customer("cus_unknown")

        assert payment_world.payments.find_customer(ALICE) is None

    def test_a_customer_has_the_new_address_and_is_the_same_one(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")

        for _ in range(2):
            payment_world.payments.update_customer(customer_id, "alice@elsewhere.example")

        assert payment_world.payments.find_customer(ALICE) is None
        assert payment_world.payments.find_customer(replace(ALICE, email="alice@elsewhere.example")) == customer_id
        assert payment_world.count("customer") == 1

    def test_a_new_address_is_told_once_however_often_one_asks(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")

        for _ in range(2):
            payment_world.payments.update_customer(customer_id, "alice@elsewhere.example")

        told = [event.type for event in payment_world.rings() if event.customer_id == customer_id]
        assert told == ["customer.created", "customer.updated"]

    def test_an_address_may_change_back(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        payment_world.payments.update_customer(customer_id, "alice@elsewhere.example")

        payment_world.payments.update_customer(customer_id, ALICE.email)

        assert payment_world.payments.find_customer(ALICE) == customer_id

    def test_a_new_address_whose_answer_was_lost_stands(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        payment_world.lose_answers()

        with pytest.raises(TryLater):
            payment_world.payments.update_customer(customer_id, "alice@elsewhere.example")

        moved = replace(ALICE, email="alice@elsewhere.example")
        assert payment_world.payments.find_customer(moved) == customer_id

    def test_a_new_address_for_a_customer_who_is_gone_is_refused_by_that_name(self, payment_world: World) -> None:
        gone = payment_world.payments.create_customer(ALICE, key="customer-7")
        payment_world.delete_customer(gone)

        for customer_id in (gone, "cus_unknown"):
            with pytest.raises(NoSuchCustomer):
                payment_world.payments.update_customer(customer_id, "alice@elsewhere.example")

    def test_a_page_for_a_customer_who_is_gone_is_refused_by_that_name(self, payment_world: World) -> None:
        gone = payment_world.payments.create_customer(ALICE, key="customer-7")
        payment_world.delete_customer(gone)

        for number, customer_id in enumerate((gone, "cus_unknown")):
            with pytest.raises(NoSuchCustomer):
                payment_world.payments.open_checkout(a_request(customer_id), key=f"checkout-{number}")
            with pytest.raises(NoSuchCustomer):
                payment_world.payments.open_portal(customer_id, return_url="https://sts.example/dashboard")

    def test_the_portal_is_a_page_of_the_customer(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        payment_world.save_portal()

        url = payment_world.payments.open_portal(customer_id, return_url="https://sts.example/dashboard")

        assert url.startswith("https://")


class TestCheckouts:
    def test_a_new_checkout_is_open_and_unpaid(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)

        checkout = payment_world.payments.open_checkout(request, key=KEY)

        assert checkout.expires_at == request.expires_at
        assert checkout.session_id in checkout.url
        assert payment_world.payments.look_up(checkout.session_id) == PaymentFacts(
            session_id=checkout.session_id,
            purchase_ref=REF,
            session="open",
            payment="unpaid",
            amount_total=9900,
            currency="usd",
            customer_id=customer_id,
            url=checkout.url,
        )

    def test_a_page_that_is_closed_can_be_paid_no_more(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)

        payment_world.payments.close_checkout(checkout.session_id)

        assert payment_world.payments.look_up(checkout.session_id).session == "expired"
        with pytest.raises(Refused):
            payment_world.payments.close_checkout(checkout.session_id)

    def test_a_page_that_is_paid_is_not_closed(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)

        with pytest.raises(Refused):
            payment_world.payments.close_checkout(session_id)

        assert payment_world.payments.look_up(session_id).payment == "paid"

    def test_the_same_key_and_request_return_the_same_page(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)

        first = payment_world.payments.open_checkout(request, key=KEY)
        second = payment_world.payments.open_checkout(request, key=KEY)
        other = payment_world.payments.open_checkout(request, key="checkout-17-2")

        assert second == first
        assert other.session_id != first.session_id
        assert payment_world.count("checkout") == 2

    def test_an_answer_that_was_lost_opens_no_second_page(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)
        payment_world.lose_answers()
        with pytest.raises(TryLater):
            payment_world.payments.open_checkout(request, key=KEY)

        checkout = payment_world.payments.open_checkout(request, key=KEY)

        assert payment_world.payments.look_up(checkout.session_id).session == "open"
        assert payment_world.count("checkout") == 1

    @pytest.mark.parametrize("changes", [{"purchase_ref": "pur_18"}, {"cancel_url": "https://sts.example/other"}])
    def test_the_same_key_with_another_request_is_refused(self, payment_world: World, changes: dict[str, str]) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)
        payment_world.payments.open_checkout(request, key=KEY)

        with pytest.raises(Refused, match="idempotency_error"):
            payment_world.payments.open_checkout(replace(request, **changes), key=KEY)

    def test_the_same_key_returns_the_page_as_it_was_opened_even_after_it_was_paid(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)
        first = payment_world.payments.open_checkout(request, key=KEY)
        payment_world.pay(first.session_id)

        assert payment_world.payments.open_checkout(request, key=KEY) == first

    @pytest.mark.parametrize("wait", [timedelta(minutes=5), timedelta(hours=25)])
    def test_a_page_must_stay_open_between_half_an_hour_and_a_day(self, payment_world: World, wait: timedelta) -> None:
        with pytest.raises(Refused):
            an_open_page(payment_world, expires_at=datetime.now(UTC) + wait)

    @pytest.mark.parametrize("changes", [{}, MONTHLY], ids=["once", "monthly"])
    def test_another_price_at_the_provider_than_in_the_store_is_refused(
        self, payment_world: World, changes: dict[str, Any]
    ) -> None:
        price_id, shown = changes.get("price_id", "price_lifetime"), changes.get("amount_cents", 9900)
        payment_world.change_price(price_id, 4900)

        with pytest.raises(Refused, match=f"4900 usd at Stripe and {shown} usd in the store"):
            an_open_page(payment_world, **changes)

    @pytest.mark.parametrize(
        "changes",
        [{"price_id": "price_monthly", "amount_cents": 1900}, {"mode": "subscription"}],
        ids=["a monthly price paid once", "a single price paid monthly"],
    )
    def test_a_price_is_sold_in_its_own_mode_only(self, payment_world: World, changes: dict[str, Any]) -> None:
        with pytest.raises(Refused):
            an_open_page(payment_world, **changes)

    def test_an_unknown_session_is_refused(self, payment_world: World) -> None:
        with pytest.raises(Refused, match="resource_missing"):
            payment_world.payments.look_up("cs_test_unknown")

    def test_a_provider_that_is_down_asks_to_try_later_and_then_answers(self, payment_world: World) -> None:
        customer_id = payment_world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)
        checkout = payment_world.payments.open_checkout(request, key=KEY)
        now = datetime.now(UTC)
        calls: list[Callable[[], object]] = [
            lambda: payment_world.payments.open_checkout(request, key=KEY),
            lambda: payment_world.payments.look_up(checkout.session_id),
            lambda: payment_world.payments.find_origin("pi_1"),
            lambda: payment_world.payments.find_customer(ALICE),
            lambda: payment_world.payments.products(),
            lambda: [*payment_world.payments.events_between(now, now)],
            lambda: [*payment_world.payments.payments_between(now, now)],
        ]

        payment_world.go_down()
        for call in calls:
            with pytest.raises(TryLater):
                call()
        payment_world.come_back()

        assert payment_world.payments.open_checkout(request, key=KEY) == checkout


class TestPaying:
    def test_paying_shows_in_the_facts(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)

        facts = payment_world.payments.look_up(session_id)

        assert (facts.session, facts.payment, facts.intent) == ("complete", "paid", "succeeded")
        assert facts.purchase_ref == REF
        assert facts.intent_id is not None
        assert facts.intent_id.startswith("pi_")
        assert (facts.amount_total, facts.amount_refunded, facts.url) == (9900, 0, None)
        assert (facts.refunds, facts.disputes) == ((), ())

    def test_a_payment_has_a_receipt_and_an_invoice_of_its_own(self, payment_world: World) -> None:
        facts = payment_world.payments.look_up(a_paid_page(payment_world))

        assert facts.invoice_id is not None
        assert facts.subscription_id is None
        for url in (facts.receipt_url, facts.invoice_url, facts.invoice_pdf_url):
            assert (url or "").startswith("https://")

    def test_a_decline_keeps_the_page_open_and_says_why(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)

        payment_world.decline(checkout.session_id, "lost_card")

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("open", "unpaid", "requires_payment_method")
        assert facts.declined_because == "lost_card"
        assert facts.url == checkout.url
        assert facts.receipt_url is None

    def test_paying_after_a_decline_works_and_forgets_it(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)
        payment_world.decline(checkout.session_id, "lost_card")
        declined = payment_world.payments.look_up(checkout.session_id)

        payment_world.pay(checkout.session_id)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("complete", "paid", "succeeded")
        assert facts.declined_because is None
        assert facts.intent_id == declined.intent_id

    def test_a_delayed_payment_is_complete_but_unpaid_until_the_bank_pays(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)

        payment_world.pay_later(checkout.session_id)
        waiting = payment_world.payments.look_up(checkout.session_id)
        payment_world.settle(checkout.session_id, True)
        paid = payment_world.payments.look_up(checkout.session_id)

        assert (waiting.session, waiting.payment, waiting.intent) == ("complete", "unpaid", "processing")
        assert (paid.session, paid.payment, paid.intent) == ("complete", "paid", "succeeded")
        assert paid.intent_id == waiting.intent_id

    def test_a_delayed_payment_that_failed_is_complete_and_wants_another_method(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)
        payment_world.pay_later(checkout.session_id)

        payment_world.settle(checkout.session_id, False)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("complete", "unpaid", "requires_payment_method")
        assert facts.declined_because == "insufficient_funds"

    def test_an_expired_page_is_closed(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)

        payment_world.expire(checkout.session_id)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.url) == ("expired", "unpaid", None)
        assert facts.purchase_ref == REF

    def test_a_recovered_page_has_a_new_id_and_belongs_to_the_same_purchase(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)
        payment_world.expire(checkout.session_id)

        recovered = payment_world.recover(checkout.session_id)
        payment_world.pay(recovered)

        facts = payment_world.payments.look_up(recovered)
        assert recovered != checkout.session_id
        assert (facts.purchase_ref, facts.payment, facts.amount_total) == (REF, "paid", 9900)
        assert payment_world.payments.find_origin(intent_of(payment_world, recovered)) == Origin(session_id=recovered)
        assert payment_world.payments.look_up(checkout.session_id).session == "expired"

    def test_a_promotion_shows_in_the_amount(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)

        payment_world.apply_promotion(checkout.session_id, 25)
        payment_world.pay(checkout.session_id)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.payment, facts.amount_total, facts.amount_discount) == ("paid", 7425, 2475)
        assert payment_world.books() == 7425

    def test_a_promotion_of_the_whole_price_needs_no_payment(self, payment_world: World) -> None:
        checkout = an_open_page(payment_world)

        payment_world.apply_promotion(checkout.session_id, 100)
        payment_world.pay(checkout.session_id)

        facts = payment_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.amount_total) == ("complete", "no_payment_required", 0)
        assert (facts.intent_id, facts.intent, facts.amount_discount) == (None, None, 9900)
        assert payment_world.books() == 0

    def test_a_checkout_is_found_by_its_payment(self, payment_world: World) -> None:
        for key in (KEY, "checkout-17-2"):
            session_id = a_paid_page(payment_world, key=key)
            assert payment_world.payments.find_origin(intent_of(payment_world, session_id)).session_id == session_id

    def test_a_payment_of_something_else_has_no_origin(self, payment_world: World) -> None:
        assert payment_world.payments.find_origin("pi_of_something_else") == Origin()


@pytest.mark.parametrize("name", ["simulated", "live"])
def test_the_shapes_are_those_of_the_installed_package(name: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(f"{name}_world")
    paid = a_paid_page(world)
    world.open_dispute(paid, "won")
    world.refund(paid, 100)
    world.pay_later(an_open_page(world, key="two").session_id)
    declined = an_open_page(world, key="three").session_id
    world.decline(declined, "lost_card")
    world.expire(declined)
    monthly = world.payments.look_up(a_paid_page(world, key="four", **MONTHLY)).subscription_id or ""
    world.renew(monthly)
    world.reach_the_end(monthly)
    resources: dict[str, Any] = {
        "account": stripe.Account,
        "charge": stripe.Charge,
        "checkout.session": stripe.checkout.Session,
        "customer": stripe.Customer,
        "dispute": stripe.Dispute,
        "event": stripe.Event,
        "file": stripe.File,
        "invoice": stripe.Invoice,
        "invoice_payment": stripe.InvoicePayment,
        "payment_intent": stripe.PaymentIntent,
        "price": stripe.Price,
        "product": stripe.Product,
        "refund": stripe.Refund,
        "subscription": stripe.Subscription,
    }

    shapes = world.shapes()

    told = {shape["object"] for shape in shapes}
    assert {"checkout.session", "payment_intent", "charge", "refund", "dispute", "invoice", "subscription"} <= told
    for shape in shapes:
        assert shape.keys() <= resources[shape["object"]].__annotations__.keys(), shape["object"]
