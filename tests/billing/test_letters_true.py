"""Letters and lines that are written while something else is still on its way say nothing that is not so."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import account, refunds
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from tests.builders import holders, in_a_transaction, kinds, letters, look_over, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"


@pytest.fixture
def first_month(alice, monthly, till) -> Purchase:
    purchase = open_page(alice, monthly)
    till.pay(purchase.session_id)
    work()
    return purchase


def subscription() -> Subscription:
    newest = sa.select(Subscription).order_by(Subscription.id.desc()).execution_options(populate_existing=True)
    return database.session.scalars(newest).first()


def last(kind: str) -> str:
    return letters(kind)[-1].text


def lines(alice) -> str:
    return " ".join(account.purchases_of(alice.id, time_source.now())[-1].lines)


class TestWhileTheEndOfASubscriptionWaitsForALook:
    MAY_END = "If that ends your subscription, another letter tells you so."

    def test_a_refund_does_not_say_that_access_goes_on(self, first_month):
        in_a_transaction(lambda: refunds.ask(first_month.id, reason="a test", actor=SAM))
        work("billing")

        assert self.MAY_END in last("refund_notice")
        assert "goes on" not in last("refund_notice")
        work()
        assert "Your subscription has ended" in last("subscription_ended")

    def test_a_lost_dispute_does_not_say_that_it_rests(self, first_month, till):
        till.open_dispute(first_month.session_id)
        work()
        dispute = database.session.scalars(sa.select(Dispute)).one()
        till.move_dispute(dispute.external_id, "lost")
        work("billing")

        assert self.MAY_END in last("dispute_lost")
        assert "suspended" not in last("dispute_lost")

    def test_what_staff_decided_of_a_part_does_not_say_that_access_goes_on(self, first_month):
        in_a_transaction(lambda: refunds.ask(first_month.id, reason="a test", actor=SAM, amount_cents=900))
        work()
        in_a_transaction(lambda: refunds.decide_part(first_month.id, keeps_access=False, reason="a test", actor=SAM))
        work("billing")

        assert self.MAY_END in last("access_revoked")


class TestWhatBegins:
    def test_who_subscribes_again_is_told_that_access_comes(self, first_month, alice, monthly, till, clock):
        till.end_now(subscription().external_id)
        work()
        look_over()
        work()
        clock.shift(timedelta(days=1))
        till.pay(open_page(alice, monthly).session_id)
        work("billing")

        assert "is being given access now" in last("purchase_confirmation")
        assert "gives no access" not in last("purchase_confirmation")

    def test_it_renews_for_the_price_that_was_agreed_to(self, alice, monthly, till):
        page = open_page(alice, monthly)
        monthly.price_cents = 2900
        database.session.commit()
        till.pay(page.session_id)
        work()

        assert "$19.00 are charged every month" in last("purchase_confirmation")

    @pytest.mark.breaks_invariants
    def test_a_second_subscription_that_is_being_ended_is_not_said_to_renew(self, alice, monthly, till):
        left = open_page(alice, monthly)
        till.expire(left.session_id)
        work()
        till.pay(open_page(alice, monthly).session_id)
        work()
        assert "renews by itself" in last("purchase_confirmation")

        till.pay(till.recover(left.session_id))
        work()

        assert len(letters("purchase_confirmation")) == 2
        assert "renews by itself" not in last("purchase_confirmation")

    def test_what_cost_nothing_has_not_arrived(self, alice, plan, till):
        purchase = open_page(alice, plan)
        till.apply_promotion(purchase.session_id, "FREE100")
        till.pay(purchase.session_id)
        work()

        assert "Nothing was to be paid." in last("purchase_confirmation")
        assert "has arrived" not in last("purchase_confirmation")


class TestASecondTryThatFails:
    def test_a_bank_that_says_no_days_later_is_told_of_though_a_card_was_declined_before(
        self, alice, plan, till, clock
    ):
        page = open_page(alice, plan)
        till.decline(page.session_id)
        work()
        till.pay_later(page.session_id)
        work()
        clock.shift(timedelta(days=3))
        till.settle(page.session_id, False)
        work()

        assert (kinds().count("payment_failed"), kinds().count("admin_payment_failed")) == (2, 2)


class TestASecondPaymentBesideOneInDoubt:
    @pytest.mark.breaks_invariants
    def test_no_button_is_promised_while_the_bank_decides(self, alice, plan, till):
        left = open_page(alice, plan)
        till.expire(left.session_id)
        work()
        earlier = open_page(alice, plan)
        till.pay(earlier.session_id)
        work()
        till.open_dispute(earlier.session_id)
        work()
        till.pay(till.recover(left.session_id))
        work()

        assert "Once the bank has decided for that payment" in last("paid_twice")
        assert "press the button" not in last("paid_twice")
        assert not any(each.offers_refund for each in account.purchases_of(alice.id, time_source.now()))


class TestOldNews:
    @pytest.mark.parametrize(("days", "told"), [(3, 1), (30, 0)])
    def test_of_a_refund_of_last_month_nobody_is_told_that_it_is_on_its_way(self, alice, plan, till, clock, days, told):
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work()
        misbehave(till.store, Fault.DROP)
        till.give_back(purchase.session_id)
        behave(till.store)
        clock.shift(timedelta(days=days))

        purchase.next_look_up_at = time_source.now()
        database.session.commit()
        work("billing")

        assert purchase.status == "REFUNDED"
        assert kinds().count("refund_notice") == told


class TestALineOnTheDashboard:
    def test_of_a_subscription_that_has_ended_it_does_not_say_that_access_goes_on(self, first_month, alice, till):
        in_a_transaction(lambda: refunds.ask(first_month.id, reason="a test", actor=SAM, amount_cents=500))
        work()
        in_a_transaction(lambda: refunds.decide_part(first_month.id, keeps_access=True, reason="a test", actor=SAM))
        work()
        assert "The access that it gives goes on." in lines(alice)

        till.end_now(subscription().external_id)
        work()
        look_over()
        work()

        assert not holders()
        assert "goes on" not in lines(alice)
        assert database.session.scalars(sa.select(Refund)).one().amount_cents == 500
