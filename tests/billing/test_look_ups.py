"""A payment that Stripe refuses to show: looked for until nobody can have paid it, and then given up before staff."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sts_app.billing import queries
from sts_app.billing.gateway import PaymentsError, Refused, TryLater
from sts_app.billing.models import Purchase
from sts_app.billing.simulated import Fault, misbehave
from tests.builders import holders, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
UNKNOWN = Refused("look_up: resource_missing")


@pytest.fixture
def purchase(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    misbehave(till.store, Fault.DROP)
    return purchase


@pytest.fixture
def look_up(till, monkeypatch):
    """Let Stripe answer looks as it is told to; without a word it answers as it is."""
    really = till.look_up

    def answer(trouble: PaymentsError | None) -> None:
        def look_up(session_id: str):
            if trouble is not None:
                raise trouble
            return really(session_id)

        monkeypatch.setattr(till, "look_up", look_up)

    return answer


def days(clock, number: float) -> None:
    """Let a worker come by every six hours."""
    for _ in range(int(number * 4)):
        work("billing")
        clock.shift(timedelta(hours=6, minutes=1))


def test_a_page_that_is_unknown_for_good_is_closed_a_day_after_its_end(purchase, look_up, clock):
    look_up(UNKNOWN)

    days(clock, 1.5)
    assert purchase.status == "PENDING"

    days(clock, 1)
    assert (purchase.status, purchase.next_look_up_at, queries.work_in_trouble()) == ("EXPIRED", None, 0)
    [letter] = letters("admin_payment_unknown")
    assert purchase.ref in letter.text
    assert UNKNOWN.reason in letter.text


def test_while_stripe_is_away_nothing_is_closed(purchase, look_up, clock):
    look_up(TryLater("look_up: no answer"))

    days(clock, 5)

    assert (purchase.status, letters("admin_payment_unknown")) == ("PENDING", [])
    assert queries.work_in_trouble() == 1


def test_what_was_seen_between_begins_the_count_anew(purchase, look_up, clock):
    look_up(UNKNOWN)
    days(clock, 0.75)
    look_up(None)
    days(clock, 0.25)
    assert (purchase.tries, purchase.last_reason) == (0, None)


def test_where_an_intent_says_that_a_bank_has_it_the_purchase_stays_open_and_staff_look(purchase, look_up, till, clock):
    till.pay_later(purchase.session_id)
    clock.shift(timedelta(minutes=1))
    work("billing")
    assert purchase.intent_id is not None
    look_up(UNKNOWN)

    days(clock, 5)

    assert purchase.status == "PENDING"
    assert len(letters("admin_payment_unknown")) == 1


def test_where_an_event_told_of_a_payment_the_purchase_stays_open_and_staff_look(alice, plan, till, look_up, clock):
    purchase = open_page(alice, plan)
    look_up(UNKNOWN)
    till.pay(purchase.session_id)

    days(clock, 5)

    assert purchase.status == "PENDING"
    assert len(letters("admin_payment_unknown")) == 1


def test_money_that_is_heard_of_later_still_counts(purchase, look_up, till, clock):
    look_up(UNKNOWN)
    till.pay(purchase.session_id)
    days(clock, 3)
    assert purchase.status == "EXPIRED"

    look_up(None)
    till.redeliver(next(each.id for each in till.events() if each.type == "checkout.session.completed"))
    work()

    assert purchase.status == "COMPLETED"
    assert len(holders()) == 6


def test_what_was_paid_keeps_its_status_and_is_not_looked_for_any_more(purchase, look_up, till, clock):
    till.pay(purchase.session_id)
    clock.shift(timedelta(minutes=1))
    work()
    assert purchase.status == "COMPLETED"
    look_up(UNKNOWN)
    clock.shift(timedelta(days=3))
    purchase.next_look_up_at = purchase.created_at

    days(clock, 3)

    assert (purchase.status, purchase.next_look_up_at) == ("COMPLETED", None)
    assert len(letters("admin_payment_unknown")) == 1
