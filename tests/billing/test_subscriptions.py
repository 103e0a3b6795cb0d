"""A plan that is paid again and again: every payment once, access while it is paid, no charge after its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import account, inbox, queries, refunds, services, settling, subscriptions
from sts_app.billing.gateway import TryLater
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


class TestAFirstPaymentThatFailedAtTheBank:
    """Its payer reads that nothing was charged, and has no page on which to end the subscription."""

    @pytest.fixture
    def declined(self, alice, monthly, till, clock) -> Purchase:
        purchase = open_page(alice, monthly)
        till.pay_later(purchase.session_id)
        work()
        clock.shift(timedelta(days=3))
        till.settle(purchase.session_id, False)
        return purchase

    def test_the_subscription_is_ended_so_that_no_later_try_is_charged(self, declined, till):
        work()

        assert (declined.status, till.look_up_subscription(subscription().external_id).status) == ("FAILED", "canceled")
        assert (subscription().status, subscription().cancel_because) == ("canceled", None)

    def test_what_was_never_paid_is_not_shown_as_ended(self, declined, alice):
        work()

        assert (subscription().state, account.subscriptions_of(alice.id)) == ("none", [])
        assert "subscription_ended" not in kinds()

    def test_its_payer_can_begin_anew_at_once(self, declined, alice, monthly, till):
        work()

        again = open_page(alice, monthly)
        till.pay(again.session_id)
        work()

        assert (again.status, again.duplicate_of_id, len(holders())) == ("COMPLETED", None, 6)
        assert till.look_up_subscription(subscription().external_id).status == "active"

    def test_one_that_earlier_code_left_running_is_ended_when_it_is_heard_of(self, declined):
        work("billing")
        database.session.execute(sa.update(Subscription).values(status="past_due", cancel_because=None))

        subscriptions.follow(subscription().id)

        assert subscription().cancel_because == "its first payment failed"

    def test_money_that_came_all_the_same_is_for_staff_to_give_back(self, declined, till):
        """The payer paid its invoice at Stripe while the end was on its way there."""
        work("billing")
        paid = replace(till.look_up(declined.session_id), payment="paid", intent="succeeded")

        in_a_transaction(lambda: settling.apply_facts(declined.id, paid))
        work()

        assert (declined.status, subscription().state, holders()) == ("COMPLETED", "ended", set())
        [letter] = letters("admin_paid_after_end")
        assert f"sts refunds ask {declined.ref}" in letter.text
        assert "after your subscription had ended" in letters("paid_after_end")[0].subject
        assert "purchase_confirmation" not in kinds()

    def test_a_later_month_that_was_charged_before_it_could_be_ended_is_for_staff_too(
        self, declined, till, clock, monkeypatch
    ):
        def no(*_, **__):
            raise TryLater("no answer")

        monkeypatch.setattr(till, "cancel_subscription", no)
        work()
        renew(till, clock)
        monkeypatch.delattr(till, "cancel_subscription")
        clock.shift(timedelta(hours=2))
        work()

        assert ([each.status for each in purchases()], subscription().status) == (["FAILED", "COMPLETED"], "canceled")
        assert (len(letters("admin_paid_after_end")), "subscription_renewed" in kinds()) == (1, False)

    def test_money_for_one_that_goes_on_asks_nobody(self, alice, monthly, till):
        purchase = open_page(alice, monthly)
        till.pay_later(purchase.session_id)
        work()
        till.settle(purchase.session_id, True)
        work()

        assert "admin_paid_after_end" not in kinds()


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

    @pytest.fixture
    def pages(self, alice, monthly, till) -> tuple[str, str]:
        """Two pages for one subscription under one reference. The first is paid."""
        purchase = open_page(alice, monthly)
        till.expire(purchase.session_id)
        work("billing")
        wanted, _ = services.checkout_request(purchase)
        pages = till.recover(purchase.session_id), till.open_checkout(wanted, key="another").session_id
        till.pay(pages[0])
        work()
        return pages

    def test_one_of_a_subscription_that_rests_is_ended_and_is_no_renewal(self, pages, alice, till):
        till.open_dispute(pages[0])
        work()
        till.pay(pages[1])
        work()

        one, two = purchases()
        assert [each.facts.status for each in till.subscriptions()].count("canceled") == 1
        assert (subscription().status, two.duplicate_of_id) == ("canceled", one.id)
        assert (one.is_renewal, two.is_renewal) == (False, False)

    def test_renewals_of_one_that_goes_on_are_counted(self, pages, till, clock):
        till.give_back(pages[0])
        work()
        till.pay(pages[1])
        work()
        assert (subscription().state, len(holders())) == ("running", 6)

        invoice = renew(till, clock)

        assert [(each.status, each.is_renewal) for each in purchases()] == [
            ("REFUNDED", False), ("COMPLETED", False), ("COMPLETED", True)
        ]  # fmt: skip
        assert (purchases()[2].invoice_id, stuck(), adds_up(till)) == (invoice, [], True)
