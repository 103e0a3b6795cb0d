"""A plan that is paid again and again: every payment once, access while it is paid, no charge after its end."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import inbox, queries, refunds, services, subscriptions
from sts_app.billing.models import Purchase, Subscription
from sts_app.billing.simulated import Fault, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from tests.builders import event, events, holders, in_a_transaction, kinds, letters, look_over, open_page, signed, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"


@pytest.fixture
def monthly(plan) -> Plan:
    made = Plan(
        slug="monthly",
        name="Monthly access",
        price_cents=1900,
        stripe_price_id="price_monthly",
        mode=Mode.SUBSCRIPTION,
        interval="month",
        covers_all=True,
    )
    database.session.add(made)
    database.session.flush()
    return made


@pytest.fixture
def first(alice, monthly, till) -> Purchase:
    """Alice's first month, paid and delivered."""
    purchase = open_page(alice, monthly)
    till.pay(purchase.session_id)
    work()
    assert len(holders()) == 6
    return purchase


def subscription() -> Subscription:
    return database.session.scalars(sa.select(Subscription).order_by(Subscription.id.desc())).first()


def purchases() -> list[Purchase]:
    return list(database.session.scalars(sa.select(Purchase).order_by(Purchase.id)))


def renew(till, clock, *, succeeded: bool = True) -> str:
    """A month later."""
    clock.shift(timedelta(days=30))
    invoice = till.renew(subscription().external_id, succeeded)
    work()
    return invoice


def unheard(till) -> None:
    """From here on no event comes."""
    misbehave(till.store, Fault.DROP)


def adds_up(till) -> bool:
    ours, theirs = queries.sums(), till.books()
    return (ours.received, ours.refunded, ours.withheld) == (theirs.charged, theirs.refunded, theirs.withheld)


def stuck() -> list[str]:
    return [event.type for event in events() if event.state == "stuck"]


class TestRenewals:
    def test_the_first_payment_gives_access(self, first, till):
        assert (subscription().status, subscription().state, first.status) == ("active", "running", "COMPLETED")
        assert adds_up(till)

    def test_the_first_letter_says_that_it_renews_for_how_much_and_how_to_end_it(self, first):
        [letter] = letters("purchase_confirmation")

        assert "it renews by itself and $19.00 are charged every month, until you end it." in letter.text
        assert "You can end it at any time on your dashboard, under Manage the subscription." in letter.text

    def test_each_is_a_purchase_of_its_own_and_counted_once(self, first, till, clock):
        for _ in range(3):
            renew(till, clock)

        assert [(each.status, each.amount_cents, each.duplicate_of_id) for each in purchases()] == [
            ("COMPLETED", 1900, None)
        ] * 4
        assert len({each.intent_id for each in purchases()}) == 4
        assert (adds_up(till), stuck(), len(holders())) == (True, [], 6)
        assert kinds().count("subscription_renewed") == 3
        assert kinds().count("purchase_confirmation") == 1
        assert "paid_twice" not in kinds()

    def test_one_whose_events_never_came_is_found_by_looking(self, first, till, clock):
        from sts_app.billing.simulated import Fault, behave, misbehave

        misbehave(till.store, Fault.DROP)
        clock.shift(timedelta(days=30))
        till.renew(subscription().external_id)
        behave(till.store)
        clock.shift(timedelta(days=2))
        work()

        assert (len(purchases()), adds_up(till)) == (2, True)

    def test_a_refund_of_one_ends_what_it_paid_for_and_nobody_is_charged_again(self, first, till, clock):
        renew(till, clock)
        till.give_back(purchases()[1].intent_id)
        work()

        assert [each.status for each in purchases()] == ["COMPLETED", "REFUNDED"]
        assert (subscription().status, subscription().state, holders()) == ("canceled", "ended", set())
        assert (adds_up(till), stuck()) == (True, [])

    def test_a_refund_of_an_earlier_one_leaves_the_running_month(self, first, till, clock):
        renew(till, clock)
        in_a_transaction(lambda: refunds.ask(first.id, reason="a test", actor=SAM))
        work()

        assert [each.status for each in purchases()] == ["REFUNDED", "COMPLETED"]
        assert (subscription().state, len(holders()), adds_up(till)) == ("running", 6, True)

    def test_a_refund_of_an_earlier_one_that_is_heard_of_first_ends_nothing(self, first, till, clock):
        unheard(till)
        clock.shift(timedelta(days=30))
        till.renew(subscription().external_id)
        till.give_back(first.session_id)

        [back] = [each for each in till.events() if each.type == "charge.refunded"]
        till.redeliver(back.id)
        work()

        assert [each.status for each in purchases()] == ["REFUNDED", "COMPLETED"]
        assert (subscription().status, subscription().state, len(holders())) == ("active", "running", 6)
        assert "subscription_ended" not in kinds()

    def test_a_refund_by_staff_of_an_earlier_one_ends_nothing_when_the_later_one_is_unheard_of(
        self, first, till, clock
    ):
        unheard(till)
        clock.shift(timedelta(days=30))
        till.renew(subscription().external_id)

        in_a_transaction(lambda: refunds.ask(first.id, reason="a test", actor=SAM))
        work()

        assert [each.status for each in purchases()] == ["REFUNDED", "COMPLETED"]
        assert (subscription().status, subscription().state, len(holders())) == ("active", "running", 6)
        assert "subscription_ended" not in kinds()

    def test_a_look_that_began_before_a_renewal_does_not_end_it_for_a_refund(self, app, first, till, clock):
        clock.shift(timedelta(days=1))
        unheard(till)
        database.session.commit()
        looking = in_a_transaction(subscriptions.claim)
        looking.call(till)
        till.renew(subscription().external_id)
        till.give_back(first.session_id)
        [back] = [each for each in till.events() if each.type == "charge.refunded"]
        till.redeliver(back.id)
        handling = in_a_transaction(inbox.claim_next)
        handling.call(till)
        in_a_transaction(looking.settle)
        in_a_transaction(handling.settle)

        work()

        assert (subscription().status, subscription().state) == ("active", "running")

    def test_a_dispute_of_one_suspends_access(self, first, till, clock):
        renew(till, clock)
        dispute = till.open_dispute(purchases()[1].intent_id)
        work()
        assert (purchases()[1].access, subscription().state, holders()) == ("suspended", "paused", set())

        till.move_dispute(dispute, "won")
        work()

        assert (subscription().state, len(holders())) == ("running", 6)
        assert (adds_up(till), stuck()) == (True, [])

    def test_a_draft_that_was_deleted_is_a_harmless_repeat(self, first, client):
        about = {"object": "invoice", "id": "in_deleted", "subscription": subscription().external_id}

        client.post("/api/webhooks/stripe", **signed(event("invoice.deleted", about)))
        work("billing")

        [deleted] = [each for each in events() if each.type == "invoice.deleted"]
        assert (deleted.state, deleted.last_reason, deleted.refusals) == ("handled", "repeat", 0)
        assert "admin_event_stuck" not in kinds()


class TestNotPaid:
    def test_a_renewal_that_fails_leaves_days_of_grace(self, app, first, till, clock):
        renew(till, clock, succeeded=False)

        assert (subscription().status, subscription().state, len(holders())) == ("past_due", "grace", 6)
        assert kinds().count("renewal_failed") == 1

        clock.shift(timedelta(days=app.config["STS"].subscription_grace_days, minutes=1))
        work()
        assert (subscription().state, holders()) == ("paused", set())

    def test_paying_later_brings_access_back(self, app, first, till, clock):
        invoice = renew(till, clock, succeeded=False)
        clock.shift(timedelta(days=8))
        work()

        till.pay_invoice(invoice)
        work()

        assert (subscription().state, len(holders()), adds_up(till)) == ("running", 6, True)

    def test_a_slow_bank_gives_nothing_before_the_money(self, alice, monthly, till):
        purchase = open_page(alice, monthly)
        till.pay_later(purchase.session_id)
        work()
        assert (purchase.status, holders()) == ("PENDING", set())

        till.settle(purchase.session_id, True)
        work()
        assert (purchase.status, len(holders())) == ("COMPLETED", 6)


class TestTheEnd:
    def test_an_end_that_is_set_comes_by_its_date(self, first, till, clock):
        till.cancel_at_period_end(subscription().external_id)
        work()
        assert (subscription().state, len(holders())) == ("running", 6)
        assert subscription().ends_at is not None

        clock.move_to(subscription().ends_at + timedelta(minutes=1))
        till.keep_time()
        work()
        look_over()
        work("provisioning")

        assert (subscription().status, subscription().state, holders()) == ("canceled", "ended", set())

    def test_buying_for_good_ends_it_without_a_gap(self, alice, plan, first, till):
        lifetime = open_page(alice, plan)
        till.pay(lifetime.session_id)
        work()

        assert (subscription().status, subscription().state) == ("canceled", "ended")
        assert len(holders()) == 6
        assert "paid_twice" not in kinds()

    def test_who_has_everything_for_good_is_not_charged_every_month(self, alice, plan, monthly, till):
        left_open = open_page(alice, monthly)
        lifetime = open_page(alice, plan)
        till.pay(lifetime.session_id)
        work()

        till.pay(left_open.session_id)
        work()

        assert subscription().status == "canceled"
        assert left_open.duplicate_of_id == lifetime.id
        assert kinds().count("paid_twice") == 1
        assert (len(holders()), adds_up(till)) == (6, True)

    def test_the_money_paid_twice_can_be_had_back(self, alice, plan, monthly, till):
        left_open = open_page(alice, monthly)
        lifetime = open_page(alice, plan)
        till.pay(lifetime.session_id)
        till.pay(left_open.session_id)
        work()

        in_a_transaction(lambda: refunds.take_offer(left_open, alice))
        work()

        assert (left_open.status, lifetime.status, len(holders())) == ("REFUNDED", "COMPLETED", 6)


class TestSecondPayments:
    def test_one_reference_that_is_paid_twice_is_two_payments_one_of_which_goes_back(self, alice, plan, till):
        purchase = open_page(alice, plan)
        till.expire(purchase.session_id)
        work("billing")
        wanted, _ = services.checkout_request(purchase)
        for page in (till.recover(purchase.session_id), till.open_checkout(wanted, key="another").session_id):
            till.pay(page)
        work()

        one, two = purchases()
        assert (one.status, two.status, two.duplicate_of_id) == ("COMPLETED", "COMPLETED", one.id)
        assert (stuck(), adds_up(till)) == ([], True)

        till.give_back(two.intent_id)
        work()

        assert ([each.status for each in purchases()], adds_up(till)) == (["COMPLETED", "REFUNDED"], True)
        assert (len(holders()), time_source.now() >= one.paid_at) == (6, True)
