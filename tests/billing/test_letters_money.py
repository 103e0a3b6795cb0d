"""Letters about money that moves back say what their reader holds afterwards, whatever one payment alone would mean."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import refunds, withdrawals
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription, Withdrawal
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core.db import db as database
from sts_app.provisioning import services as provisioning
from tests.builders import holders, in_a_transaction, kinds, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"
GOES_ON_WITHOUT_IT = "Your access goes on without this purchase."
SUSPENDED = "Your access is suspended until the bank has decided"
OVER = "This purchase gives no access any more."
# Not one of them may stand in a letter to somebody who holds everything.
LOSSES = ("suspended", "ended", "ends", "no access", "rests", "Revoked")


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    return paid(open_page(alice, plan), till)


@pytest.fixture
def second(alice, plan, till) -> Purchase:
    """A page that had run out, was opened again, and was paid when lifetime access had been bought already."""
    late = open_page(alice, plan)
    till.expire(late.session_id)
    work()
    paid(open_page(alice, plan), till)
    till.pay(till.recover(late.session_id))
    work()
    assert late.duplicate_of_id is not None
    return late


@pytest.fixture
def first_month(alice, monthly, till) -> Purchase:
    return paid(open_page(alice, monthly), till)


def paid(purchase: Purchase, till) -> Purchase:
    till.pay(purchase.session_id)
    work()
    return purchase


def ask(purchase: Purchase, cents: int | None = None) -> None:
    in_a_transaction(lambda: refunds.ask(purchase.id, reason="a test", actor=SAM, amount_cents=cents))
    work()


def disputed(purchase: Purchase, till, *, cents: int | None = None) -> Dispute:
    found = (
        till.open_dispute(purchase.intent_id, "needs_response", cents)
        if cents
        else till.open_dispute(purchase.intent_id)
    )
    work()
    return database.session.scalars(sa.select(Dispute).where(Dispute.external_id == found)).one()


def decided(dispute: Dispute, till, verdict: str) -> None:
    till.move_dispute(dispute.external_id, verdict)
    work()


def subscription() -> Subscription:
    return database.session.scalars(sa.select(Subscription)).one()


def text(kind: str) -> str:
    """The latest letter of a kind, its subject first."""
    letter = letters(kind)[-1]
    return f"{letter.subject}\n{letter.text}"


def claims_a_loss(kind: str) -> list[str]:
    return [word for word in LOSSES if word in text(kind)]


class TestRefunds:
    def test_of_all_there_is_says_that_access_is_over(self, bought):
        ask(bought)

        assert holders() == set()
        assert OVER in text("refund_notice")

    def test_of_a_second_payment_says_that_access_goes_on(self, alice, second):
        in_a_transaction(lambda: refunds.take_offer(second, alice))
        work()

        assert len(holders()) == 6
        assert GOES_ON_WITHOUT_IT in text("refund_notice")
        assert claims_a_loss("refund_notice") == []

    def test_of_an_earlier_month_says_that_access_goes_on(self, first_month, till, clock):
        clock.shift(timedelta(days=30))
        till.renew(subscription().external_id)
        work()

        ask(first_month)

        assert GOES_ON_WITHOUT_IT in text("refund_notice")

    def test_of_a_part_says_that_access_goes_on(self, bought):
        ask(bought, 4000)

        assert "Your access goes on.\n" in text("refund_notice")

    def test_of_the_last_part_says_that_access_is_over(self, bought):
        ask(bought, 4000)
        ask(bought, 5900)

        assert holders() == set()
        assert OVER in text("refund_notice")


class TestARefundThatFails:
    def fail(self, purchase: Purchase, till) -> None:
        till.next_refund("pending")
        ask(purchase)
        [refund] = database.session.scalars(sa.select(Refund))
        till.move_refund(refund.external_id, "failed")
        work("billing")

    def test_says_that_access_comes_back(self, bought, till):
        self.fail(bought, till)

        assert "Your access is on its way" in text("refund_failed")
        assert "begun anew" not in text("admin_refund_failed")

    def test_after_the_subscription_was_ended_for_it_claims_no_access_and_staff_begin_it_anew(self, first_month, till):
        self.fail(first_month, till)
        assert (subscription().status, holders()) == ("canceled", set())

        said = text("refund_failed")
        assert "Your access" not in said
        assert "Your subscription has been ended all the same" in said
        assert "must be begun anew" in text("admin_refund_failed")
        assert subscription().external_id in text("admin_refund_failed")


class TestAPartThatStaffDecideAbout:
    @pytest.fixture
    def part(self, bought) -> Purchase:
        ask(bought, 4000)
        return bought

    def decide(self, purchase: Purchase, *, keeps: bool) -> None:
        in_a_transaction(lambda: refunds.decide_part(purchase.id, keeps_access=keeps, reason="so be it", actor=SAM))
        work()

    def test_its_buyer_hears_that_access_is_revoked(self, alice, part):
        self.decide(part, keeps=False)

        [letter] = letters("access_revoked")
        assert letter.to_address == alice.email
        assert OVER in letter.text

    def test_and_that_it_comes_back(self, part, clock):
        self.decide(part, keeps=False)
        clock.shift(timedelta(minutes=1))
        self.decide(part, keeps=True)

        assert "Your access is on its way" in text("access_restored")

    def test_a_decision_that_changes_nothing_is_no_letter(self, part):
        self.decide(part, keeps=True)

        assert not {"access_revoked", "access_restored"} & set(kinds())


class TestDisputes:
    def test_of_the_only_payment_says_that_access_is_suspended(self, bought, till):
        disputed(bought, till)

        assert SUSPENDED in text("dispute_opened")

    @pytest.mark.parametrize("verdict", ["won", "lost"])
    def test_of_a_second_payment_never_says_that_access_is(self, second, till, verdict):
        dispute = disputed(second, till)
        assert GOES_ON_WITHOUT_IT in text("dispute_opened")

        decided(dispute, till, verdict)

        assert len(holders()) == 6
        assert claims_a_loss("dispute_opened") == claims_a_loss(f"dispute_{verdict}") == []

    def test_of_an_earlier_month_never_says_that_access_is(self, first_month, till, clock):
        clock.shift(timedelta(days=30))
        till.renew(subscription().external_id)
        work()

        decided(disputed(first_month, till), till, "lost")

        assert len(holders()) == 6
        assert claims_a_loss("dispute_opened") == claims_a_loss("dispute_lost") == []

    def test_that_is_lost_says_that_access_is_over(self, bought, till):
        decided(disputed(bought, till), till, "lost")

        assert OVER in text("dispute_lost")
        assert "gave you $99.00 back" in text("dispute_lost")

    def test_of_a_part_that_is_lost_says_how_much_went_and_what_stands(self, bought, till):
        dispute = disputed(bought, till, cents=1000)
        work()

        till.move_dispute(dispute.external_id, "lost")
        work("billing")

        assert bought.access == "stands"
        assert "gave you $10.00 back" in text("dispute_lost")
        assert claims_a_loss("dispute_lost") == []

    def test_that_is_won_says_that_access_comes_back(self, bought, till):
        dispute = disputed(bought, till)

        till.move_dispute(dispute.external_id, "won")
        work("billing")

        assert "Your access is on its way" in text("dispute_won")

    def test_that_is_won_beside_an_open_one_says_that_access_is_suspended_still(self, bought, till):
        dispute = disputed(bought, till, cents=1000)
        disputed(bought, till, cents=2000)

        decided(dispute, till, "won")

        assert holders() == set()
        assert SUSPENDED in text("dispute_won")

    def test_of_a_running_month_is_told_by_one_letter(self, first_month, till):
        disputed(first_month, till)

        assert subscription().state == "paused"
        assert kinds().count("dispute_opened") == 1
        assert "subscription_paused" not in kinds()

    def test_opened_before_the_purchase_was_heard_of_lets_its_letter_promise_nothing(self, alice, plan, till):
        purchase = open_page(alice, plan)
        misbehave(till.store, Fault.HOLD)
        till.pay(purchase.session_id)
        till.open_dispute(purchase.session_id)
        behave(till.store)
        till.deliver_held()
        work()

        assert holders() == set()
        assert SUSPENDED in text("purchase_confirmation")
        assert "being given access" not in text("purchase_confirmation")


class TestOtherReasons:
    def test_what_staff_gave_goes_on_when_the_money_goes_back(self, alice, plan, bought):
        in_a_transaction(lambda: provisioning.gift(alice, plan, reason="a friend", actor=SAM))

        ask(bought)

        assert len(holders()) == 6
        assert GOES_ON_WITHOUT_IT in text("refund_notice")


class TestWithdrawals:
    @pytest.fixture
    def declared(self, alice, bought) -> Withdrawal:
        return in_a_transaction(lambda: withdrawals.declare(alice, bought.id, name="Alice", address="203.0.113.7"))

    def accept(self, withdrawal: Withdrawal) -> None:
        in_a_transaction(lambda: withdrawals.accept(withdrawal.id, SAM))

    def test_that_are_accepted_say_what_is_on_its_way(self, declared):
        self.accept(declared)

        assert "$99.00 are on their way back to you" in text("withdrawal_accepted")

    def test_that_are_accepted_after_a_part_went_back_say_both(self, declared, bought):
        ask(bought, 2000)

        self.accept(declared)

        assert "$79.00 are on their way back to you" in text("withdrawal_accepted")
        assert "$20.00 were sent back to you before." in text("withdrawal_accepted")

    def test_that_are_accepted_after_a_lost_dispute_promise_no_refund(self, declared, bought, till):
        decided(disputed(bought, till), till, "lost")

        self.accept(declared)

        assert "$99.00 were given back to you by your bank." in text("withdrawal_accepted")
        assert "on their way" not in text("withdrawal_accepted")
