"""What a payment provider promises about what it remembers: events, payments and products."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
import time_machine

from tests.contracts.payment_worlds import MONTHLY, REF, World, a_paid_page, a_subscription, an_open_page, intent_of

LONG = timedelta(minutes=5)


@pytest.fixture
def clock(payment_world: World) -> Iterator[time_machine.Coordinates]:
    """Time that only moves when told to, from a moment that is no whole second."""
    begin = datetime.now(UTC).replace(microsecond=600_000)
    with time_machine.travel(begin, tick=False) as clock:
        yield clock


class TestEvents:
    def test_every_event_is_listed_as_it_was_rung_newest_first(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world)
        payment_world.refund(session_id, 100)
        payment_world.move_dispute(payment_world.open_dispute(session_id), "won")
        payment_world.renew(a_subscription(payment_world, key="monthly"))
        now = datetime.now(UTC)

        listed = [*payment_world.payments.events_between(now - LONG, now + LONG)]

        by_id = {event.id: event for event in listed}
        rung = payment_world.rings()
        assert [by_id[event.id] for event in rung] == rung
        assert by_id.keys() == {event.id for event in rung}
        assert [event.created_at for event in listed] == sorted((e.created_at for e in listed), reverse=True)
        told = {event.type for event in listed}
        assert told >= {
            "checkout.session.completed",
            "payment_intent.succeeded",
            "refund.created",
            "charge.refunded",
            "charge.dispute.created",
            "charge.dispute.closed",
            "customer.created",
            "customer.subscription.created",
            "customer.subscription.updated",
            "invoice.paid",
        }

    def test_more_events_than_a_page_holds_are_all_listed(self, payment_world: World) -> None:
        now = datetime.now(UTC)
        for number in range(40):
            payment_world.pay(an_open_page(payment_world, key=f"checkout-{number}").session_id)

        listed = [*payment_world.payments.events_between(now - LONG, now + LONG)]

        completed = [event.session_id for event in listed if event.type == "checkout.session.completed"]
        assert len(set(completed)) == len(completed) == 40
        assert len({event.id for event in listed}) == len(listed) > 100

    def test_the_first_moment_is_included_and_the_last_is_not(
        self, payment_world: World, clock: time_machine.Coordinates
    ) -> None:
        a_paid_page(payment_world)
        second = datetime.fromtimestamp(int(time.time()), UTC)

        def told(since: datetime, until: datetime) -> bool:
            found = payment_world.payments.events_between(since, until)
            return any(event.type == "checkout.session.completed" for event in found)

        assert told(second, second + timedelta(seconds=1))
        assert told(second, second + timedelta(seconds=0.5))
        assert not told(second - timedelta(seconds=1), second)
        assert not told(second + timedelta(seconds=0.5), second + timedelta(seconds=2))

    def test_an_event_says_what_it_is_about(self, payment_world: World) -> None:
        session_id = a_paid_page(payment_world, **MONTHLY)
        facts = payment_world.payments.look_up(session_id)
        invoice_id = payment_world.renew(facts.subscription_id or "")

        rung = payment_world.rings()

        [completed] = [event for event in rung if event.type == "checkout.session.completed"]
        assert (completed.session_id, completed.purchase_ref) == (session_id, REF)
        assert (completed.invoice_id, completed.subscription_id) == (facts.invoice_id, facts.subscription_id)
        assert completed.customer_id == facts.customer_id
        paid = [event for event in rung if event.type == "invoice.paid"]
        assert [event.invoice_id for event in paid] == [facts.invoice_id, invoice_id]
        assert {(event.subscription_id, event.customer_id, event.purchase_ref) for event in paid} == {
            (facts.subscription_id, facts.customer_id, REF)
        }
        moved = [event for event in rung if event.type == "customer.subscription.updated"]
        assert {(event.subscription_id, event.purchase_ref) for event in moved} == {(facts.subscription_id, REF)}
        made = [event for event in rung if event.type == "customer.created"]
        assert [event.customer_id for event in made] == [facts.customer_id]


class TestPayments:
    def test_what_brought_money_is_listed_and_nothing_else(self, payment_world: World) -> None:
        paid = [a_paid_page(payment_world, key=f"checkout-{number}") for number in range(3)]
        payment_world.decline(an_open_page(payment_world, key="declined").session_id, "lost_card")
        payment_world.pay_later(an_open_page(payment_world, key="waiting").session_id)
        payment_world.refund(paid[0])
        subscription_id = a_subscription(payment_world, key="monthly")
        payment_world.renew(subscription_id)
        payment_world.fail_renewal(subscription_id)
        now = datetime.now(UTC)

        charged = [*payment_world.payments.payments_between(now - LONG, now + LONG)]

        assert sorted(one.amount for one in charged) == [1900, 1900, 9900, 9900, 9900]
        assert {one.currency for one in charged} == {"usd"}
        once = {one.intent_id: one.purchase_ref for one in charged if one.amount == 9900}
        assert once == {payment_world.payments.look_up(session_id).intent_id: REF for session_id in paid}

    def test_each_shows_what_went_back_of_it_and_what_banks_have_taken(self, payment_world: World) -> None:
        whole, part, pending, failed = (a_paid_page(payment_world, key=f"refund-{number}") for number in range(4))
        payment_world.refund(whole)
        payment_world.refund(part, 1500)
        payment_world.refund(part, 2500)
        payment_world.refund(pending, 900, "pending")
        payment_world.set_refund(payment_world.refund(failed), "failed")
        asked, disputed, lost, won = (a_paid_page(payment_world, key=f"dispute-{number}") for number in range(4))
        payment_world.open_dispute(asked, "warning_needs_response")
        payment_world.open_dispute(disputed)
        payment_world.move_dispute(payment_world.open_dispute(lost, amount=4000), "lost")
        payment_world.move_dispute(payment_world.open_dispute(won), "won")
        subscription_id = a_subscription(payment_world, key="monthly")
        renewal = payment_world.payments.look_up_invoice(payment_world.renew(subscription_id)).intent_id
        payment_world.refund(renewal, 100)
        now = datetime.now(UTC)

        away = {
            one.intent_id: (one.refunded, one.withheld)
            for one in payment_world.payments.payments_between(now - LONG, now + LONG)
        }

        assert [away[intent_of(payment_world, each)] for each in (whole, part, pending, failed)] == [
            (9900, 0),
            (4000, 0),
            (900, 0),
            (0, 0),
        ]
        assert [away[intent_of(payment_world, each)] for each in (asked, disputed, lost, won)] == [
            (0, 0),
            (0, 9900),
            (0, 4000),
            (0, 0),
        ]
        assert away[renewal] == (100, 0)

    def test_another_time_had_other_payments(self, payment_world: World) -> None:
        a_paid_page(payment_world)
        now = datetime.now(UTC)

        assert [*payment_world.payments.payments_between(now - 3 * LONG, now - LONG)] == []
        assert len([*payment_world.payments.payments_between(now - LONG, now + LONG)]) == 1

    def test_nothing_is_fetched_before_it_is_asked_for(self, payment_world: World) -> None:
        now = datetime.now(UTC)
        payment_world.go_down()

        listed = payment_world.payments.payments_between(now - LONG, now)

        payment_world.come_back()
        assert [*islice(listed, 1)] == []


def test_products_come_with_their_prices(payment_world: World) -> None:
    products = payment_world.payments.products()

    prices = {price.id: price for product in products for price in product.prices}
    assert all(product.name and product.active for product in products)
    once, monthly = prices["price_lifetime"], prices["price_monthly"]
    assert (once.amount_cents, once.currency, once.interval, once.active) == (9900, "usd", "", True)
    assert (monthly.amount_cents, monthly.currency, monthly.interval) == (1900, "usd", "month")
