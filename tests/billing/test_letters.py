"""The letters of billing as they are read: whole texts, commands that run as printed, and who hears of what."""

from __future__ import annotations

import re
import shlex
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import inbox, queries, refunds, withdrawals
from sts_app.billing.models import Purchase, Subscription, WebhookEvent
from sts_app.billing.rules import EventState
from sts_app.core.db import db as database
from sts_app.provisioning import services as provisioning
from tests.builders import holders, in_a_transaction, kinds, letters, look_over, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"
STAFF = "sam@staff.example"


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    return purchase


@pytest.fixture
def first_month(alice, monthly, till) -> Purchase:
    purchase = open_page(alice, monthly)
    till.pay(purchase.session_id)
    work()
    return purchase


def subscription() -> Subscription:
    return database.session.scalars(sa.select(Subscription)).one()


def one(kind: str):
    [letter] = letters(kind)
    return letter


def renewal_fails(till, clock) -> None:
    clock.shift(timedelta(days=30))
    till.renew(subscription().external_id, False)
    work()


class TestWholeTexts:
    def test_a_note_has_its_paragraphs_apart_and_a_line_for_each_fact(self, bought):
        in_a_transaction(lambda: refunds.ask(bought.id, reason="a test", actor=SAM))
        work()

        assert one("refund_notice").text == (
            "Your refund is on its way\n"
            "\n"
            "The money goes back to the card or account it came from. Banks take five to ten days, some longer.\n"
            "\n"
            "This purchase gives no access any more. Your dashboard says Revoked once TradingView shows that.\n"
            "\n"
            "Refunded: $99.00\n"
            "Bought: STS Strategies - Lifetime Access\n"
            "Amount: $99.00\n"
            f"Reference: {bought.ref}\n"
            "\n"
            "Open your dashboard: http://127.0.0.1:5000/dashboard\n"
            "\n"
            "\n"
            "-- \n"
            "You get this letter because of something that happened in your account at STS Strategies.\n"
            "\n"
            "\n"
            "Questions? Answer this letter, or write to hello@sts.example.\n"
            "\n"
            "STS Strategies\n"
            "http://127.0.0.1:5000\n"
        )

    def test_a_withdrawal_is_acknowledged_with_what_was_declared_of_what_and_when(self, alice, bought):
        in_a_transaction(lambda: withdrawals.declare(alice, bought.id, name="Alice A.", address="203.0.113.7"))

        assert one("withdrawal_received").text.partition("\n\n\n")[0] == (
            "We have received your withdrawal\n"
            "\n"
            "You declared that you withdraw from the purchase below. Please keep this letter: it confirms that your "
            "declaration arrived, and when.\n"
            "\n"
            "Our staff look at it and answer by letter. If the right of withdrawal applies, you get your money back.\n"
            "\n"
            "Declared by: Alice A.\n"
            "Arrived: 21 Nov 2026, 12:00 UTC\n"
            "Account: alice@customers.example\n"
            "Bought: STS Strategies - Lifetime Access\n"
            "Amount: $99.00\n"
            f"Reference: {bought.ref}\n"
            "\n"
            "Open your dashboard: http://127.0.0.1:5000/dashboard"
        )

    def test_a_purchase_says_what_comes_next(self, bought):
        said = one("purchase_confirmation").text

        assert said.startswith(
            "Thank you for your purchase. Your payment has arrived.\n"
            "\n"
            "Your TradingView name is being given access now; another letter tells you when it is active.\n"
            "\n"
            "Bought: STS Strategies - Lifetime Access\n"
        )

    def test_staff_read_who_bought_what(self, alice, bought):
        said = one("admin_new_purchase").text

        assert f"\nCustomer: {alice.email}\nBought: STS Strategies - Lifetime Access\nAmount: $99.00\n" in said
        assert "because you are on the staff" in said


class TestCommands:
    """Whoever copies a command out of a letter is not told that it lacks something."""

    def run(self, sts, kind: str) -> list[str]:
        printed = re.findall(r"`(sts [^`]+)`", letters(kind)[-1].text)
        for command in printed:
            result = sts(*shlex.split(command)[1:])
            assert result.exit_code in (0, 1), f"{command}: {result.output}"
        return printed

    def test_about_a_part_that_went_back(self, sts, bought, till):
        till.give_back(bought.session_id, 1000)
        work()

        assert len(self.run(sts, "admin_partial_refund")) == 2
        assert bought.partial_verdict == "end"

    def test_about_a_withdrawal(self, sts, alice, bought):
        withdrawal = in_a_transaction(
            lambda: withdrawals.declare(alice, bought.id, name="Alice", address="203.0.113.7")
        )

        assert len(self.run(sts, "admin_withdrawal")) == 2
        # To accept asks first, and nobody answered.
        assert (withdrawal.verdict, withdrawal.note) == ("refused", "WHY")

    def test_about_a_dispute(self, sts, bought, till):
        till.open_dispute(bought.session_id)
        work()

        assert len(self.run(sts, "admin_dispute")) == 3

    def test_about_an_event_that_is_stuck(self, sts, bought):
        paid = sa.select(WebhookEvent).where(WebhookEvent.type == "checkout.session.completed")
        event = database.session.scalars(paid).one()
        in_a_transaction(lambda: inbox._stick(event, "a test"))

        assert len(self.run(sts, "admin_event_stuck")) == 2
        assert event.state == EventState.RECEIVED


class TestAPaymentThatFails:
    @pytest.fixture(params=["plan", "monthly"])
    def declined(self, request, alice, till) -> Purchase:
        purchase = open_page(alice, request.getfixturevalue(request.param))
        till.decline(purchase.session_id)
        work()
        return purchase

    def test_is_told_to_the_customer_and_to_the_admin(self, alice, declined):
        assert one("payment_failed").to_address == alice.email
        assert one("admin_payment_failed").to_address == STAFF
        assert alice.email in one("admin_payment_failed").text

    def test_can_be_tried_again_for_the_same_plan(self, declined):
        slug = queries.plan_of(declined).slug

        assert f"Try again: http://127.0.0.1:5000/checkout?plan={slug}\n" in one("payment_failed").text

    def test_is_told_to_nobody_else_who_has_such_a_page_open(self, alice, bob, monthly, till):
        open_page(alice, monthly)
        other = open_page(bob, monthly)
        till.decline(other.session_id)
        work()

        assert one("payment_failed").to_address == bob.email

    def test_on_a_page_that_was_left_since_is_told_still(self, alice, monthly, till):
        purchase = open_page(alice, monthly)
        till.decline(purchase.session_id)
        till.expire(purchase.session_id)
        work()

        assert (purchase.status, kinds().count("payment_failed")) == ("EXPIRED", 1)


class TestRenewalsThatFail:
    def test_are_told_to_the_customer_and_to_the_admin(self, alice, first_month, till, clock):
        renewal_fails(till, clock)

        assert one("renewal_failed").to_address == alice.email
        assert one("admin_renewal_failed").to_address == STAFF
        assert f"Customer: {alice.email}\nSubscription: Monthly access\n" in one("admin_renewal_failed").text

    def test_say_until_when_there_is_access(self, app, first_month, till, clock):
        renewal_fails(till, clock)

        assert "It gives you access until 28 Dec 2026, 12:00 UTC" in one("renewal_failed").text

    def test_and_stay_unpaid_let_the_subscription_rest_and_its_holder_know(self, alice, first_month, till, clock):
        renewal_fails(till, clock)
        clock.shift(timedelta(days=8))
        work()
        assert (subscription().state, holders()) == ("paused", set())

        said = one("subscription_paused")
        assert said.to_address == alice.email
        assert "Your subscription rests because a renewal was not paid in time." in said.text
        assert "Your access rests with it.\n" in said.text
        assert kinds().count("admin_renewal_failed") == 1

    def test_and_are_given_up_at_once_reach_the_admin_too(self, first_month, till, clock):
        clock.shift(timedelta(days=30))
        till.renew(subscription().external_id, False)
        till.give_up(subscription().external_id)
        work()

        assert subscription().status == "unpaid"
        assert {"subscription_paused", "admin_renewal_failed"} <= set(kinds())

    def test_take_nothing_from_whom_staff_gave_it_to(self, alice, monthly, first_month, till, clock):
        in_a_transaction(lambda: provisioning.gift(alice, monthly, reason="a friend", actor=SAM))
        renewal_fails(till, clock)
        clock.shift(timedelta(days=8))
        work()

        assert len(holders()) == 6
        assert "Your access goes on without this subscription." in one("subscription_paused").text

    def test_and_are_paid_in_the_end_are_told_as_a_renewal(self, first_month, till, clock):
        clock.shift(timedelta(days=30))
        invoice = till.renew(subscription().external_id, False)
        clock.shift(timedelta(days=8))
        work()
        till.pay_invoice(invoice)
        work()

        assert len(holders()) == 6
        assert "If your access rested for want of it, it comes back by itself." in one("subscription_renewed").text


class TestTheEndOfASubscription:
    def test_by_its_date_is_told(self, alice, first_month, till, clock):
        till.cancel_at_period_end(subscription().external_id)
        work()
        clock.move_to(subscription().ends_at + timedelta(minutes=1))
        till.keep_time()
        work()
        look_over()

        letter = one("subscription_ended")
        assert letter.to_address == alice.email
        assert "It has come to its end. Nothing more will be charged for it.\n" in letter.text
        assert "This subscription gives no access any more." in letter.text

    def test_that_lifetime_access_replaces_says_so_and_that_access_goes_on(self, alice, plan, first_month, till):
        till.pay(open_page(alice, plan).session_id)
        work()

        assert len(holders()) == 6
        said = one("subscription_ended").text
        assert "It ended because lifetime access was bought." in said
        assert "Your access goes on without this subscription." in said

    def test_whose_money_went_back_says_why(self, first_month):
        in_a_transaction(lambda: refunds.ask(first_month.id, reason="a test", actor=SAM))
        work()

        assert "It ended because its payment went back." in one("subscription_ended").text

    def test_that_never_gave_anything_is_no_letter(self, alice, monthly, till):
        purchase = open_page(alice, monthly)
        till.pay_later(purchase.session_id)
        till.settle(purchase.session_id, False)
        work()

        assert "subscription_ended" not in kinds()
