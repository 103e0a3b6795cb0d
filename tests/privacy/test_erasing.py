"""Somebody asks to be erased: what closes, what is waited for, what is replaced, and what is left."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.accounts import services as accounts
from sts_app.accounts.models import UserSession
from sts_app.accounts.privacy import AccountClosed, Leaving
from sts_app.billing import refunds, withdrawals
from sts_app.billing.models import Purchase
from sts_app.billing.rules import Access, PurchaseStatus
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone
from sts_app.core.store import store_for
from sts_app.emails.models import LetterState
from sts_app.emails.simulated import delivered
from sts_app.privacy import engine, services
from sts_app.privacy.rules import ErasureState, Wait
from sts_app.provisioning import names, worklist
from sts_app.provisioning import services as provisioning
from tests.builders import (
    bob,
    by_hand,
    customer_of,
    enter,
    grants,
    holders,
    in_a_transaction,
    kinds,
    letters,
    named,
    open_page,
    opened,
    person,
    press,
    sam,
    served,
    work,
)
from tests.privacy.leaving import A_DAY, asked, begun, ended, go_on, traces_of
from tests.privacy.rich import ADDRESS, everything_happened_to
from tests.support.conftest import wrote

pytestmark = pytest.mark.usefixtures("clock")
WORDS = "erase my account"


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    assert len(holders()) == 6
    return purchase


def at_stripe(till) -> list[tuple[str, bool]]:
    """(address, gone) of every customer that the simulated Stripe ever had."""
    return [(each["email"], each["gone"]) for each in till.customers()]


class TestAsking:
    def test_begins_nothing_for_a_day(self, alice, bought, clock):
        erasure = asked(alice)
        clock.shift(A_DAY - timedelta(seconds=1))
        go_on()

        assert erasure.state == ErasureState.REQUESTED
        assert alice.closed_at is None
        assert len(holders()) == 6

    def test_is_confirmed_by_a_letter_that_says_how_to_take_it_back(self, alice, db):
        asked(alice)

        [letter] = letters("erasure_requested")
        assert letter.to_address == "alice@customers.example"
        assert "22 Nov 2026, 12:00 UTC" in letter.text
        assert "/dashboard/privacy" in letter.text

    def test_twice_is_once(self, alice, db):
        assert asked(alice).id == asked(alice).id
        assert len(letters("erasure_requested")) == 1

    def test_closes_buying(self, alice, plan, db):
        customer_of(alice)
        asked(alice)

        with pytest.raises(Leaving):
            opened(alice, plan)

    def test_leads_a_buyer_to_the_page_where_they_can_stay(self, alice, plan, client):
        asked(alice)
        enter(client, alice)

        answer = press(client)

        assert answer.status_code == 409
        assert "/dashboard/privacy" in answer.text

    def test_is_refused_to_staff(self, db):
        with pytest.raises(services.StaffStays):
            asked(sam())

    def test_can_be_taken_back(self, alice, bought, plan, monthly, clock):
        erasure = asked(alice)
        in_a_transaction(lambda: services.cancel(alice, actor="user:1"))
        clock.shift(A_DAY)
        go_on()

        assert erasure.state == ErasureState.CANCELLED
        assert alice.leaving_at is None
        assert len(holders()) == 6
        assert kinds()[-1] == "erasure_cancelled"
        assert asked(alice).id != erasure.id

    def test_cannot_be_taken_back_once_it_has_begun(self, alice, clock, db):
        begun(alice, clock)

        with pytest.raises(services.TooLate):
            services.cancel(alice, actor="user:1")


class TestClosing:
    def test_ends_every_session(self, alice, client, clock):
        enter(client, alice)
        begun(alice, clock)

        assert client.get("/dashboard").status_code == 303
        assert database.session.query(UserSession).count() == 0

    def test_lets_nobody_sign_in_however_they_ask(self, alice, bought, client, clock):
        begun(alice, clock)
        answer = client.post("/sign-in", data={"email": alice.email})
        assert (answer.status_code, letters("sign_in")[-1].to_address) == (303, alice.email), "the same as to anybody"

        with pytest.raises(AccountClosed):
            accounts.account_for(alice.email.upper())

    def test_gives_no_gift_and_takes_no_name(self, alice, plan, clock, db):
        begun(alice, clock)

        with pytest.raises(AlreadyDone):
            provisioning.gift(alice, plan, reason="kindness", actor="cli")
        with pytest.raises(AccountClosed):
            names.set_name(alice, "Another", verified=True, actor="cli")

    def test_ends_what_had_ended_for_money_for_good(self, alice, bought, till, clock):
        """A refund that the bank sends back gives the access back, but not to somebody who has left."""
        till.next_refund("pending")
        in_a_transaction(lambda: refunds.ask(bought.id, reason="asked", actor="user:9"))
        work()
        [refund] = database.session.scalars(sa.select(refunds.Refund))
        begun(alice, clock)
        till.move_refund(refund.external_id, "failed")
        work()

        assert bought.status == PurchaseStatus.COMPLETED
        assert bought.access == Access.STANDS
        assert holders() == set()
        assert not any(grant.wanted for grant in grants())


class TestTheEnd:
    def test_nothing_says_who_it_was(self, alice, plan, monthly, till, clock, db):
        everything_happened_to(alice, plan=plan, monthly=monthly, till=till, clock=clock)
        assert len(traces_of("alice", ADDRESS)) > 20, "there was much to erase"

        erasure = ended(alice, clock)

        assert (erasure.state, erasure.waits) == (ErasureState.DONE, [])
        assert traces_of("alice", ADDRESS, "archer", "google-of") == {}

    def test_what_was_written_from_an_address_of_before_goes_as_well(self, alice, bought, clock):
        wrote(alice.email, name="Alice Archer")
        work()
        alice.email = "archer@customers.example"

        ended(alice, clock)

        assert traces_of("alice@customers.example", "archer") == {}

    def test_payments_stay_without_the_person(self, alice, bought, clock, till):
        ended(alice, clock)

        assert (bought.status, bought.amount_cents, bought.user_id) == (PurchaseStatus.COMPLETED, 9900, alice.id)
        assert bought.session_id is not None
        assert bought.intent_id is not None
        assert alice.email == f"erased-{alice.id}@erased.invalid"

    def test_stripe_has_no_customer_any_more(self, alice, bought, clock, till):
        ended(alice, clock)

        assert at_stripe(till) == [("alice@customers.example", True)]

    def test_whoever_never_bought_is_erased_within_a_turn(self, alice, clock, db):
        erasure = begun(alice, clock)

        assert erasure.replaced_at is not None
        work("emails")
        go_on()
        assert erasure.state == ErasureState.DONE

    def test_the_last_letter_goes_to_the_person_and_is_blank_then(self, alice, bought, clock):
        erasure = ended(alice, clock)

        [sent] = [each for each in delivered(store_for("mail")) if each.kind == "erasure_done"]
        assert sent.to == "alice@customers.example"
        assert erasure.ref in sent.text
        [kept] = letters("erasure_done")
        assert (kept.state, kept.to_address, kept.subject, kept.text, kept.html) == (LetterState.SENT, "", "", "", "")

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            (LetterState.SENT, "Last letter sent and its text"),
            (LetterState.FAILED, "Last letter refused"),
            (LetterState.UNSURE, "Last letter perhaps sent"),
            (LetterState.WITHHELD, "Last letter not sent"),
        ],
    )
    def test_the_certificate_says_what_became_of_the_last_letter(self, alice, clock, db, client, state, words):
        erasure = asked(alice)
        work("emails")
        clock.shift(A_DAY)
        go_on()
        [last] = letters("erasure_done")
        with database.session.no_autoflush:
            last.state, last.next_attempt_at, last.text, last.html = state, None, "", ""
            last.sent_at = erasure.replaced_at if state == LetterState.SENT else None
        go_on()

        assert erasure.state == ErasureState.DONE
        assert words in client.get(f"/erasure/{erasure.ref}").text

    def test_no_further_letter_is_written_to_nobody(self, alice, bought, clock, till):
        ended(alice, clock)
        before = len(letters())
        till.open_dispute(bought.session_id)
        work()

        assert {each.to_address for each in letters()[before:]} == {"sam@staff.example"}

    def test_the_name_is_reserved_until_then_and_free_afterwards(self, alice, bought, clock, vendor):
        other = bob()
        begun(alice, clock)
        with pytest.raises(names.NameTaken):
            names.set_name(other, "AliceTrades", verified=True)
        database.session.rollback()
        for _ in range(4):
            work()
            go_on()

        assert names.set_name(other, "AliceTrades", verified=True).released_at is None

    def test_a_name_that_somebody_else_has_by_now_stays_theirs(self, alice, plan, clock, db):
        names.set_name(alice, "Second", verified=True)
        other = served(named(bob(), "AliceTrades"), plan, "gift:1")

        ended(alice, clock)

        assert provisioning.queries.current_name(other.id).spelling == "AliceTrades"
        assert {grant.state for grant in grants("AliceTrades")} == {"verified"}
        assert len(holders()) == 6

    def test_the_address_can_be_used_for_a_new_account(self, alice, bought, clock, db):
        ended(alice, clock)

        user, is_new = accounts.account_for("alice@customers.example")

        assert is_new
        assert user.id != alice.id

    def test_letters_of_the_new_account_are_left_alone(self, alice, bought, clock, app):
        """The address may be used anew while the last letter of the old account is still on its way."""
        erasure = begun(alice, clock)
        for _ in range(4):
            work("billing", "provisioning")
            go_on()
        assert erasure.replaced_at is not None
        clock.shift(timedelta(seconds=1))
        new = person("alice@customers.example")
        in_a_transaction(lambda: accounts.letters.welcome(new))
        work("emails")
        go_on()

        assert erasure.state == ErasureState.DONE
        [welcome] = [each for each in letters("welcome") if each.user_id == new.id]
        assert welcome.to_address == "alice@customers.example"

    def test_another_person_keeps_everything(self, alice, bought, plan, clock, db):
        other = served(named(bob(), "Bobby"), plan, "gift:2")

        ended(alice, clock)

        assert other.email == "bob@customers.example"
        assert {name for name, _ in holders()} == {"Bobby"}


class TestWaiting:
    def test_for_access_that_tradingview_still_shows(self, alice, bought, vendor, clock):
        erasure = begun(alice, clock)
        go_on()

        assert erasure.waits == [Wait.ACCESS]
        assert alice.email == "alice@customers.example"

    def test_for_people_where_access_is_removed_by_hand(self, alice, bought, clock, monkeypatch):
        by_hand(monkeypatch)
        erasure = begun(alice, clock)
        work()
        go_on()
        assert erasure.waits == [Wait.ACCESS]
        tasks = worklist.open_tasks(50)
        assert len(tasks) == 6

        for task in tasks:
            in_a_transaction(lambda task=task: worklist.done(task.task_id, "user:9"))
        for _ in range(3):
            work()
            go_on()

        assert erasure.state == ErasureState.DONE
        assert erasure.report["access_confirmed_by_staff"] == 6

    def test_for_a_subscription_to_end_at_stripe(self, alice, monthly, till, clock):
        purchase = open_page(alice, monthly)
        till.pay(purchase.session_id)
        work()
        [running] = till.subscriptions()
        assert running.facts.status == "active"

        erasure = ended(alice, clock)

        assert erasure.state == ErasureState.DONE
        assert till.subscriptions()[0].is_over

    def test_for_a_bank_that_decides_about_a_payment(self, alice, bought, till, clock):
        dispute = till.open_dispute(bought.session_id)
        work()
        erasure = ended(alice, clock)
        assert erasure.waits == [Wait.DISPUTE]
        assert holders() == set()
        assert alice.name == "Alice"

        till.move_dispute(dispute, "lost")
        for _ in range(3):
            work()
            go_on()

        assert erasure.state == ErasureState.DONE

    def test_for_the_answer_to_a_withdrawal(self, alice, bought, clock):
        declared = in_a_transaction(lambda: withdrawals.declare(alice, bought.id, name="Alice", address=ADDRESS))
        erasure = ended(alice, clock)
        assert erasure.waits == [Wait.WITHDRAWAL]

        in_a_transaction(lambda: withdrawals.accept(declared.id, "user:9"))
        for _ in range(4):
            work()
            go_on()

        assert erasure.state == ErasureState.DONE
        assert bought.status == PurchaseStatus.REFUNDED

    def test_for_letters_to_staff_that_name_the_person(self, alice, bought, clock, monkeypatch):
        erasure = begun(alice, clock)
        work("provisioning", "billing")
        [waiting] = letters("admin_new_purchase")
        with database.session.no_autoflush:
            waiting.state, waiting.sent_at = LetterState.QUEUED, None
            waiting.next_attempt_at = erasure.begins_at + timedelta(hours=1)
        for _ in range(3):
            work("billing")
            go_on()

        assert erasure.waits == [Wait.LETTERS]
        assert alice.erased_at is None

    def test_for_stripe_to_delete_the_customer(self, alice, bought, till, clock):
        erasure = begun(alice, clock)
        work("provisioning")
        go_on()
        misbehave(till.store, Fault.API_DOWN)
        work("billing")
        go_on()
        assert erasure.waits == [Wait.CUSTOMER]
        assert alice.erased_at is None

        behave(till.store)
        for _ in range(3):
            clock.shift(timedelta(minutes=2))
            work()
            go_on()

        assert erasure.state == ErasureState.DONE
        assert at_stripe(till) == [("alice@customers.example", True)]


def test_one_that_fails_in_whatever_way_keeps_nobody_else(alice, clock, db, monkeypatch):
    first, second = asked(alice), asked(bob())
    clock.shift(A_DAY)
    step = engine.advance

    def broken(erasure_id: int) -> bool:
        if erasure_id == first.id:
            raise RuntimeError("of no known kind")
        return step(erasure_id)

    monkeypatch.setattr(engine, "advance", broken)
    go_on()

    assert (first.begun_at, second.begun_at is not None) == (None, True)
