"""The simulated Stripe's subscriptions and their clock, beyond the contract; and the customer's own page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from sts_app.billing.gateway import NoSuchCustomer, Origin, Refused
from sts_app.billing.simulated_months import period_after
from tests.contracts.payment_simulated import SimulatedWorld
from tests.contracts.payment_worlds import ALICE, MONTHLY, REF, a_paid_page, a_subscription, an_open_page


@pytest.fixture
def world() -> SimulatedWorld:
    return SimulatedWorld()


@pytest.fixture
def monthly(world) -> str:
    subscription_id = a_subscription(world)
    world.bell.rings.clear()
    return subscription_id


@pytest.mark.parametrize(
    ("start", "count", "end"),
    [
        ("2027-01-31T10:00", 1, "2027-02-28T10:00"),
        ("2027-01-31T10:00", 2, "2027-03-31T10:00"),
        ("2028-01-31T10:00", 1, "2028-02-29T10:00"),
        ("2026-12-15T23:59", 1, "2027-01-15T23:59"),
        ("2026-11-21T00:00", 14, "2028-01-21T00:00"),
    ],
)
def test_a_month_ends_on_the_same_day_or_the_last_one(start, count, end):
    begun, ends = (datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in (start, end))

    assert period_after(int(begun), "month", count) == ends


@pytest.mark.parametrize(
    ("start", "count", "end"),
    [("2026-11-21T10:00", 1, "2027-11-21T10:00"), ("2028-02-29T10:00", 1, "2029-02-28T10:00")],
)
def test_a_year_ends_a_year_later(start, count, end):
    begun, ends = (datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in (start, end))

    assert period_after(int(begun), "year", count) == ends


def test_a_subscription_runs_for_the_interval_of_its_price(world):
    world.payments.stock("price_yearly", name="Yearly access", amount_cents=9900, interval="year")
    asked = MONTHLY | {"price_id": "price_yearly", "amount_cents": 9900}
    session_id = a_paid_page(world, **asked)
    subscription_id = world.payments.look_up(session_id).subscription_id

    begun = world.payments.look_up_subscription(subscription_id)
    world.payments.renew(subscription_id)
    renewed = world.payments.look_up_subscription(subscription_id)

    assert begun.period_end == after_years(begun.started_at, 1)
    assert renewed.period_end == after_years(begun.started_at, 2)
    assert world.payments.subscription(subscription_id).interval == "year"
    assert world.payments.checkout(session_id).interval == "year"


def after_years(moment: datetime, years: int) -> datetime:
    return datetime.fromtimestamp(period_after(int(moment.timestamp()), "year", years), UTC)


def test_an_open_invoice_is_not_tried_again_without_another_card(world, monthly):
    world.payments.renew(monthly, succeeded=False)

    world.payments.keep_time()
    assert world.payments.look_up_subscription(monthly).status == "past_due"
    world.payments.use_another_card(world.payments.look_up_subscription(monthly).customer_id)
    world.payments.keep_time()

    assert world.payments.look_up_subscription(monthly).status == "active"


def test_a_card_that_failed_again_is_no_new_one(world, monthly):
    invoice_id = world.payments.renew(monthly, succeeded=False)
    world.payments.use_another_card(world.payments.look_up_subscription(monthly).customer_id)
    world.payments.pay_invoice(invoice_id, succeeded=False)

    world.payments.keep_time()

    assert world.payments.look_up_subscription(monthly).status == "past_due"


def test_a_subscription_that_begins_is_told_in_stripes_order():
    world = SimulatedWorld()
    a_paid_page(world, **MONTHLY)

    assert world.bell.types == [
        "customer.created",
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "checkout.session.completed",
    ]


@pytest.mark.parametrize(
    ("succeeded", "told"),
    [
        (True, ["charge.succeeded", "payment_intent.succeeded", "invoice.paid"]),
        (False, ["charge.failed", "payment_intent.payment_failed", "invoice.payment_failed"]),
    ],
)
def test_a_renewal_is_told_in_stripes_order(world, monthly, succeeded, told):
    world.payments.renew(monthly, succeeded)

    assert world.bell.types == ["invoice.created", "invoice.finalized", *told, "customer.subscription.updated"]


def test_payments_of_a_subscription_carry_no_reference_and_lead_to_it(world, monthly):
    invoice_id = world.payments.renew(monthly)
    facts = world.payments.look_up_invoice(invoice_id)

    [intent] = [event for event in world.rings() if event.type == "payment_intent.succeeded"]
    assert intent.purchase_ref is None
    assert world.payments.find_origin(facts.intent_id) == Origin(invoice_id=invoice_id, subscription_id=monthly)
    assert facts.purchase_ref == REF


def test_a_slow_first_payment_begins_a_subscription_whose_invoice_is_open(world):
    session_id = an_open_page(world, **MONTHLY).session_id
    subscription_id = world.payments.pay_later(session_id).subscription_id
    waiting = world.payments.look_up_subscription(subscription_id)

    world.payments.settle(session_id, True)

    paid = world.payments.look_up_subscription(subscription_id)
    assert (waiting.status, waiting.invoices[0].status) == ("active", "open")
    assert (paid.status, paid.invoices[0].status) == ("active", "paid")
    assert world.books() == 1900


def test_a_slow_first_payment_that_fails_leaves_it_past_due(world):
    session_id = an_open_page(world, **MONTHLY).session_id
    subscription_id = world.payments.pay_later(session_id).subscription_id

    world.payments.settle(session_id, False)

    facts = world.payments.look_up_subscription(subscription_id)
    assert (facts.status, facts.invoices[0].status) == ("past_due", "open")
    assert world.bell.types[-3:] == [
        "invoice.payment_failed",
        "customer.subscription.updated",
        "checkout.session.async_payment_failed",
    ]
    assert world.books() == 0


def test_a_declined_page_begins_nothing(world):
    session_id = an_open_page(world, **MONTHLY).session_id

    facts = world.payments.decline(session_id)

    assert (facts.session, facts.subscription_id, facts.invoice_id, facts.intent_id) == ("open", None, None, None)
    assert world.payments.subscriptions() == []


def test_tries_that_fail_keep_it_past_due_until_one_succeeds(world, monthly):
    invoice_id = world.payments.renew(monthly, succeeded=False)
    world.payments.pay_invoice(invoice_id, succeeded=False)
    assert world.payments.look_up_subscription(monthly).status == "past_due"
    world.payments.give_up(monthly)
    assert world.payments.look_up_subscription(monthly).status == "unpaid"

    world.payments.pay_invoice(invoice_id)

    assert world.payments.look_up_subscription(monthly).status == "active"
    with pytest.raises(Refused):
        world.payments.pay_invoice(invoice_id)
    with pytest.raises(Refused):
        world.payments.give_up(monthly)


def test_one_that_ended_is_never_charged_again(world, monthly):
    invoice_id = world.payments.renew(monthly, succeeded=False)
    world.payments.cancel_subscription(monthly, key="cancel-1")
    world.bell.rings.clear()

    for act in (
        lambda: world.payments.renew(monthly),
        lambda: world.payments.pay_invoice(invoice_id),
        lambda: world.payments.cancel_at_period_end(monthly),
    ):
        with pytest.raises(Refused):
            act()

    world.payments.cancel_subscription(monthly, key="cancel-2")
    assert world.bell.types == []
    assert world.books() == 1900


def test_an_end_that_was_set_can_be_taken_back(world, monthly):
    world.payments.cancel_at_period_end(monthly)
    to_end = world.payments.look_up_subscription(monthly)
    with pytest.raises(Refused):
        world.payments.renew(monthly)

    world.payments.cancel_at_period_end(monthly, on=False)

    assert to_end.ends_at == to_end.period_end
    assert world.payments.look_up_subscription(monthly).ends_at is None
    assert world.payments.renew(monthly)


def test_one_that_is_to_end_has_ended_when_somebody_looks_after_its_last_day(world, monthly):
    world.payments.cancel_at_period_end(monthly)
    world.bell.rings.clear()

    with time_machine.travel(datetime.now(UTC) + timedelta(days=32)):
        facts = world.payments.look_up_subscription(monthly)

    assert facts.status == "canceled"
    assert facts.ended_at is not None
    assert world.bell.types == ["customer.subscription.deleted"]


def test_keeping_time_charges_each_month_that_has_passed(world, monthly):
    assert world.payments.keep_time() == 0

    with time_machine.travel(datetime.now(UTC) + timedelta(days=65)):
        assert world.payments.keep_time() == 2
        assert world.payments.keep_time() == 0

    assert world.books() == 3 * 1900


def test_deleting_a_customer_ends_what_it_subscribed_to(world, monthly):
    customer_id = world.payments.look_up_subscription(monthly).customer_id

    world.payments.delete_customer(customer_id)

    assert world.bell.types == ["customer.subscription.deleted", "customer.deleted"]
    assert world.payments.look_up_subscription(monthly).status == "canceled"
    assert world.payments.find_customer(ALICE) is None


def test_the_portal_shows_a_customers_own_invoices_and_subscriptions(world, monthly):
    customer_id = world.payments.look_up_subscription(monthly).customer_id
    once = a_paid_page(world, key="once")
    stranger = world.payments.create_customer(type(ALICE)("per_8", "bob@customers.example"), key="customer-8")

    address = world.payments.open_portal(customer_id, return_url="https://sts.example/dashboard")
    empty = world.payments.open_portal(stranger, return_url="https://sts.example/dashboard")

    portal = world.payments.portal(address.rpartition("/")[2])
    assert [each.facts.id for each in portal.subscriptions] == [monthly]
    assert {each.facts.id for each in portal.invoices} == {
        world.payments.look_up(once).invoice_id,
        world.payments.look_up_subscription(monthly).invoices[0].id,
    }
    assert world.payments.portal(empty.rpartition("/")[2]).invoices == []


def test_the_portal_of_a_deleted_customer_is_gone(world, monthly):
    customer_id = world.payments.look_up_subscription(monthly).customer_id
    address = world.payments.open_portal(customer_id, return_url="https://sts.example/dashboard")
    world.payments.delete_customer(customer_id)

    with pytest.raises(NoSuchCustomer):
        world.payments.portal(address.rpartition("/")[2])
