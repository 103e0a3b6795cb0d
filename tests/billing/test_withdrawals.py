"""A declaration to withdraw: taken in once, confirmed by letter, decided by people."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.billing import account, refunds, withdrawals
from sts_app.billing.models import Purchase, Refund, Subscription, Withdrawal
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import FixInput, NotThere
from tests.builders import count, holders, in_a_transaction, kinds, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    return purchase


@pytest.fixture
def declared(alice, bought) -> Withdrawal:
    return declare(alice, bought)


def declare(user, purchase: Purchase, *, name: str = "Alice Example") -> Withdrawal:
    return in_a_transaction(lambda: withdrawals.declare(user, purchase.id, name=name, address="203.0.113.7"))


def accept(withdrawal: Withdrawal) -> Withdrawal:
    return in_a_transaction(lambda: withdrawals.accept(withdrawal.id, SAM))


def refuse(withdrawal: Withdrawal, because: str = "The script was used for weeks.") -> Withdrawal:
    return in_a_transaction(lambda: withdrawals.refuse(withdrawal.id, because=because, actor=SAM))


def deeds() -> list[str]:
    said = database.session.scalars(sa.select(AuditLog.action).order_by(AuditLog.id))
    return [action for action in said if "withdrawal" in action]


class TestDeclaring:
    def test_is_kept_as_it_was_made(self, alice, bought, declared):
        assert (declared.user_id, declared.purchase_id) == (alice.id, bought.id)
        assert (declared.name, declared.address, declared.verdict) == ("Alice Example", "203.0.113.7", None)
        assert declared.created_at == time_source.now()
        assert deeds() == ["billing.withdrawal_declared"]

    def test_is_not_open_to_who_has_the_money_back_from_the_bank(self, alice, bought, till):
        dispute = till.open_dispute(bought.session_id)
        work("billing")
        assert withdrawals.is_open_to(bought)
        till.move_dispute(dispute, "lost")
        work("billing")

        assert not withdrawals.is_open_to(bought)
        assert not any(shown.withdraw_until for shown in account.purchases_of(alice.id, time_source.now()))
        assert account.withdrawable(alice.id) == []
        with pytest.raises(withdrawals.NothingToWithdraw):
            declare(alice, bought)

    def test_is_open_to_who_has_a_part_back(self, bought, till):
        till.give_back(bought.session_id, 9899)
        work("billing")

        assert withdrawals.is_open_to(bought)

    def test_is_confirmed_by_a_letter_that_says_what_and_when(self, alice, bought, declared):
        [letter] = letters("withdrawal_received")

        assert letter.to_address == alice.email
        for said in ("Alice Example", "21 Nov 2026, 12:00 UTC", "$99.00", bought.ref):
            assert said in letter.text
            assert said in letter.html

    def test_staff_hear_of_it(self, declared):
        [letter] = letters("admin_withdrawal")

        assert f"sts withdrawals accept {declared.id}" in letter.text
        assert f'sts withdrawals refuse {declared.id} --reason "WHY"' in letter.text

    def test_changes_neither_money_nor_access(self, bought, declared):
        work()

        assert (bought.status, bought.access) == ("COMPLETED", "stands")
        assert len(holders()) == 6

    def test_a_second_press_finds_the_first(self, alice, bought, declared, clock):
        clock.shift(timedelta(minutes=5))

        assert declare(alice, bought, name="Somebody").id == declared.id
        assert (count(Withdrawal), declared.name) == (1, "Alice Example")
        assert kinds().count("withdrawal_received") == 1

    def test_is_taken_in_when_the_fourteen_days_are_over_too(self, alice, bought, clock):
        clock.shift(timedelta(days=40))

        assert declare(alice, bought).verdict is None

    def test_is_for_ones_own_purchase_alone(self, bob, bought):
        with pytest.raises(NotThere):
            declare(bob, bought)

    def test_needs_a_name(self, alice, bought):
        with pytest.raises(FixInput):
            declare(alice, bought, name="  ")

    def test_there_is_nothing_to_withdraw_from_before_paying(self, alice, plan, till):
        purchase = open_page(alice, plan)

        with pytest.raises(withdrawals.NothingToWithdraw):
            declare(alice, purchase)

    def test_there_is_nothing_to_withdraw_from_when_all_went_back(self, alice, bought):
        in_a_transaction(lambda: refunds.ask(bought.id, reason="a test", actor=SAM))
        work()

        with pytest.raises(withdrawals.NothingToWithdraw):
            declare(alice, bought)

    def test_what_cost_nothing_has_no_money_to_have_back(self, alice, plan, till):
        purchase = open_page(alice, plan)
        till.apply_promotion(purchase.session_id, "FREE100")
        till.pay(purchase.session_id)
        work()
        assert purchase.status == "COMPLETED"

        with pytest.raises(withdrawals.NothingToWithdraw):
            declare(alice, purchase)


class TestAccepting:
    def test_all_the_money_goes_back_and_access_ends(self, bought, declared, till):
        accept(declared)
        work()

        assert (bought.status, till.books().refunded, holders()) == ("REFUNDED", 9900, set())
        assert (declared.verdict, declared.decided_by, declared.decided_at) == ("accepted", SAM, time_source.now())
        assert deeds()[1:] == ["billing.withdrawal_accepted"]

    def test_the_customer_hears_of_it(self, alice, declared):
        accept(declared)

        [letter] = letters("withdrawal_accepted")
        assert letter.to_address == alice.email

    def test_what_is_on_its_way_already_is_not_sent_again(self, bought, declared, till):
        in_a_transaction(lambda: refunds.ask(bought.id, reason="a test", actor=SAM))

        accept(declared)
        work()

        assert (count(Refund), till.books().refunded, declared.verdict) == (1, 9900, "accepted")

    def test_what_is_left_after_a_part_goes_back(self, bought, declared, till):
        in_a_transaction(lambda: refunds.ask(bought.id, reason="a test", actor=SAM, amount_cents=2000))
        work()

        accept(declared)
        work()

        assert (bought.status, till.books().refunded) == ("REFUNDED", 9900)

    def test_while_a_bank_decides_nothing_is_decided_here(self, bought, declared, till):
        till.open_dispute(bought.intent_id)
        work()

        with pytest.raises(refunds.CannotRefund):
            accept(declared)

        assert declared.verdict is None
        assert "withdrawal_accepted" not in kinds()

    def test_a_subscription_is_not_charged_again(self, alice, plan, till):
        monthly = Plan(
            slug="monthly",
            name="Monthly access",
            price_cents=1900,
            stripe_price_id="price_monthly",
            mode=Mode.SUBSCRIPTION,
            interval="month",
            covers_all=True,
        )
        database.session.add(monthly)
        database.session.flush()
        purchase = open_page(alice, monthly)
        till.pay(purchase.session_id)
        work()

        accept(declare(alice, purchase))
        work()

        [subscription] = database.session.scalars(sa.select(Subscription))
        assert (subscription.status, subscription.state) == ("canceled", "ended")
        assert (purchase.status, holders()) == ("REFUNDED", set())


class TestRefusing:
    def test_the_customer_reads_why(self, alice, bought, declared):
        refuse(declared)

        [letter] = letters("withdrawal_refused")
        assert letter.to_address == alice.email
        assert "The script was used for weeks." in letter.text
        assert (declared.verdict, declared.note) == ("refused", "The script was used for weeks.")
        assert deeds()[1:] == ["billing.withdrawal_refused"]

    def test_no_money_moves(self, bought, declared, till):
        refuse(declared)
        work()

        assert (bought.status, till.books().refunded) == ("COMPLETED", 0)

    def test_needs_a_reason(self, declared):
        with pytest.raises(FixInput):
            refuse(declared, because=" ")

    @pytest.mark.parametrize("second", [accept, refuse])
    @pytest.mark.parametrize("first", [accept, refuse])
    def test_what_is_decided_stays_decided(self, declared, first, second):
        first(declared)

        with pytest.raises(withdrawals.Decided):
            second(declared)

    def test_a_withdrawal_that_never_was_is_not_there(self, db):
        with pytest.raises(NotThere):
            in_a_transaction(lambda: withdrawals.accept(987654321, SAM))
