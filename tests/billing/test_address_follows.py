"""A customer with another e-mail address has it at Stripe too, so that receipts go where they read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobs import ops as ops_job
from sts_app.accounts import addresses as changes
from sts_app.accounts.models import User
from sts_app.audit.models import AuditLog
from sts_app.billing import addresses, customers, deletions, lease, privacy, queries
from sts_app.billing.models import AddressUpdate, StripeCustomer
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from tests.accounts.coming_in import letter_to, link_in
from tests.builders import count, customer_of, events, in_a_transaction, work

pytestmark = pytest.mark.usefixtures("clock")
OLD = "alice@customers.example"
NEW = "alice@elsewhere.example"
NEWER = "alice@yet.elsewhere.example"


@pytest.fixture
def known(alice, till) -> str:
    """Alice's id at Stripe."""
    return customer_of(alice)


def change(user: User, email: str) -> None:
    """Ask for another address and open the link that was sent there."""
    in_a_transaction(lambda: changes.ask_for_change(user, email))
    link = link_in(letter_to(email, "email_change"), "/sign-in/email/").rsplit("/", 1)[1]
    in_a_transaction(lambda: changes.confirm(link))


def call_off(old: str = OLD) -> None:
    """Open the link that was sent to the address before."""
    link = link_in(letter_to(old, "email_changed"), "/sign-in/email/back/").rsplit("/", 1)[1]
    in_a_transaction(lambda: changes.call_off(link))


def sweep() -> None:
    database.session.commit()
    ops_job._sweep()
    database.session.expire_all()


def follow() -> None:
    """The minute sweep, and the worker that it wakes."""
    sweep()
    work("billing")


def at_stripe(till) -> list[str]:
    return [each["email"] for each in till.customers()]


def told(till) -> int:
    """How often Stripe was told another address."""
    return sum(event.type == "customer.updated" for event in events())


def lines(action: str = "billing.customer_address_changed") -> list[tuple[str, str, dict[str, Any]]]:
    found = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == action))
    return [(line.actor, line.subject, line.details) for line in found]


def claimed() -> addresses.Telling:
    found = in_a_transaction(addresses.claim)
    assert found is not None
    return found


def customer() -> StripeCustomer:
    return database.session.scalars(sa.select(StripeCustomer).execution_options(populate_existing=True)).one()


class TestAChange:
    def test_that_was_confirmed_reaches_stripe(self, alice, known, till):
        change(alice, NEW)
        follow()

        assert at_stripe(till) == [NEW]
        assert customer().request["email"] == NEW
        assert count(AddressUpdate) == 0

    def test_leaves_a_line_that_names_nobody(self, alice, known, till):
        change(alice, NEW)
        follow()

        assert lines() == [("system", f"user:{alice.id}", {"customer": known})]

    def test_that_waits_for_its_link_is_no_change(self, alice, known, till):
        in_a_transaction(lambda: changes.ask_for_change(alice, NEW))
        sweep()

        assert count(AddressUpdate) == 0

    def test_wakes_a_worker(self, alice, known, till, monkeypatch):
        change(alice, NEW)
        rung: list[str] = []
        monkeypatch.setattr("sts_app.billing.addresses.wake", lambda job: rung.append(job))

        sweep()
        sweep()

        assert rung == ["billing.work"]

    def test_is_told_once_however_often_is_looked(self, alice, known, till):
        change(alice, NEW)
        for _ in range(3):
            sweep()
        assert count(AddressUpdate) == 1

        for _ in range(3):
            follow()

        assert (told(till), len(lines()), count(AddressUpdate)) == (1, 1, 0)

    def test_that_was_called_off_is_called_off_at_stripe(self, alice, known, till):
        change(alice, NEW)
        follow()
        call_off()
        follow()

        assert at_stripe(till) == [OLD]
        assert (customer().request["email"], len(lines())) == (OLD, 2)

    def test_that_was_called_off_before_stripe_heard_of_it_is_told_to_nobody(self, alice, known, till):
        change(alice, NEW)
        sweep()
        call_off()
        follow()

        assert (at_stripe(till), told(till), count(AddressUpdate)) == ([OLD], 0, 0)

    def test_that_was_called_off_on_its_last_day_is_seen(self, alice, known, till, clock):
        change(alice, NEW)
        follow()
        clock.shift(changes.CALL_OFF_WITHIN - timedelta(minutes=1))
        call_off()
        clock.shift(timedelta(days=1))
        follow()

        assert at_stripe(till) == [OLD]

    def test_and_another_at_once_are_told_as_the_last_one(self, alice, known, till):
        change(alice, NEW)
        sweep()
        change(alice, NEWER)
        follow()

        assert (at_stripe(till), told(till)) == ([NEWER], 1)

    def test_and_another_later_are_both_told(self, alice, known, till):
        for address in (NEW, NEWER):
            change(alice, address)
            follow()

        assert (at_stripe(till), told(till)) == ([NEWER], 2)

    def test_while_stripe_is_told_of_another_is_told_at_once(self, alice, known, till):
        change(alice, NEW)
        sweep()
        telling = claimed()
        telling.call(till)
        change(alice, NEWER)
        in_a_transaction(telling.settle)
        [row] = database.session.scalars(sa.select(AddressUpdate)).all()
        assert (row.due_at, row.tries, row.lease_token) == (time_source.now(), 0, None)

        work("billing")

        assert (at_stripe(till), customer().request["email"], count(AddressUpdate)) == ([NEWER], NEWER, 0)

    def test_of_somebody_stripe_does_not_know_is_nobodys_business_there(self, alice, till):
        change(alice, NEW)
        sweep()

        assert count(AddressUpdate) == 0

    def test_before_the_first_purchase_is_what_stripe_is_told_then(self, alice, till):
        change(alice, NEW)
        customer_of(alice)
        sweep()

        assert (at_stripe(till), count(AddressUpdate)) == ([NEW], 0)

    def test_while_the_customer_is_made_is_told_afterwards(self, alice, till):
        wanted = in_a_transaction(lambda: customers.want(alice))
        change(alice, NEW)
        sweep()
        assert count(AddressUpdate) == 0

        made = wanted.make(till)
        in_a_transaction(lambda: customers.remember(alice.id, made))
        follow()

        assert at_stripe(till) == [NEW]

    def test_of_one_customer_is_none_of_another(self, alice, bob, known, till):
        customer_of(bob)
        change(alice, NEW)
        follow()

        assert at_stripe(till) == [NEW, "bob@customers.example"]

    def test_made_on_stripes_own_page_stands(self, alice, known, till):
        till.change_customer(known, email="alice.receipts@elsewhere.example")
        work("billing")
        follow()

        assert at_stripe(till) == ["alice.receipts@elsewhere.example"]


class TestTrouble:
    def test_is_waited_out(self, alice, known, till, clock):
        change(alice, NEW)
        misbehave(till.store, Fault.API_DOWN)
        follow()
        assert (at_stripe(till), queries.work_in_trouble()) == ([OLD], 1)

        behave(till.store)
        clock.shift(lease.DELAYS[0])
        work("billing")

        assert (at_stripe(till), queries.work_in_trouble(), count(AddressUpdate)) == ([NEW], 0, 0)

    def test_that_lasts_longer_than_the_change_is_looked_for_gives_up_nothing(self, alice, known, till, clock):
        change(alice, NEW)
        misbehave(till.store, Fault.API_DOWN)
        sweep()
        for _ in range(len(lease.DELAYS) + 2):
            work("billing")
            clock.shift(timedelta(days=3))

        behave(till.store)
        work("billing")

        assert (at_stripe(till), count(AddressUpdate)) == ([NEW], 0)

    def test_an_answer_that_was_lost_is_asked_for_again(self, alice, known, till, clock):
        change(alice, NEW)
        misbehave(till.store, Fault.LOSE_ANSWER)
        follow()
        clock.shift(lease.DELAYS[0])
        work("billing")

        assert (at_stripe(till), told(till), len(lines()), count(AddressUpdate)) == ([NEW], 1, 1, 0)

    def test_settling_that_broke_is_tried_again(self, alice, known, till, clock):
        change(alice, NEW)
        sweep()
        telling = claimed()
        telling.call(till)
        in_a_transaction(telling.give_back)
        clock.shift(lease.DELAYS[0])
        work("billing")

        assert (customer().request["email"], count(AddressUpdate)) == (NEW, 0)

    def test_whoever_lost_the_claim_settles_nothing_and_hides_nothing(self, alice, known, till, clock):
        """The slower of two workers tells the older address, and is the last that Stripe hears."""
        change(alice, NEW)
        sweep()
        slow = claimed()
        clock.shift(timedelta(minutes=10))
        change(alice, NEWER)
        work("billing")
        assert (at_stripe(till), count(AddressUpdate)) == ([NEWER], 0)

        slow.call(till)
        in_a_transaction(slow.settle)
        assert at_stripe(till) == [NEW]
        follow()

        assert (at_stripe(till), customer().request["email"]) == ([NEWER], NEWER)


class TestACustomerWhoIsGone:
    @pytest.fixture
    def behind(self, alice, known) -> User:
        """Alice, whose new address is on its way."""
        change(alice, NEW)
        sweep()
        return alice

    def test_is_forgotten_and_made_anew_with_the_new_address(self, behind, known, till):
        telling = claimed()
        till.remove_customer(known)
        telling.call(till)
        in_a_transaction(telling.settle)

        assert (customers.of(behind), count(AddressUpdate)) == (None, 0)
        assert lines("billing.customer_gone") == [("system", f"user:{behind.id}", {"customer": known})]
        customer_of(behind)
        assert [(each["email"], each["gone"]) for each in till.customers()] == [(OLD, True), (NEW, False)]

    def test_is_told_nothing_when_stripe_said_so_before(self, behind, known, till):
        till.remove_customer(known)
        work("billing")

        assert (customers.of(behind), count(AddressUpdate), lines()) == (None, 0, [])

    def test_and_moved_again_since_is_made_anew_with_the_newest_address(self, behind, known, till):
        till.remove_customer(known)
        work("billing")
        change(behind, NEWER)
        customer_of(behind)

        assert at_stripe(till) == [OLD, NEWER]

    @pytest.mark.parametrize("when", [sweep, lambda: None], ids=["and looked over", "alone"])
    def test_and_is_to_be_deleted_is_told_nothing(self, behind, known, till, when: Callable[[], None]):
        in_a_transaction(lambda: deletions.want(behind.id))
        when()
        work("billing")
        sweep()

        assert ([(each["email"], each["gone"]) for each in till.customers()], told(till)) == ([(OLD, True)], 0)
        assert count(AddressUpdate) == 0

    def test_because_the_person_was_erased_leaves_no_row(self, behind, till):
        in_a_transaction(lambda: privacy.forget(behind.id))

        assert count(AddressUpdate) == 0

    def test_and_erased_while_stripe_was_told_keeps_no_address(self, behind, known, till):
        telling = claimed()
        telling.call(till)
        in_a_transaction(lambda: deletions.want(behind.id))
        work("billing")
        in_a_transaction(lambda: privacy.forget(behind.id))

        in_a_transaction(telling.settle)

        assert (customer().request["email"], count(AddressUpdate), lines()) == ("", 0, [])
