"""Each state has its sentence, and no sentence stands for two."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import get_args

import pytest

from sts_app.billing.gateway import DisputeStatus
from sts_app.billing.models import Subscription, Withdrawal
from sts_app.billing.rules import Access, RefundState, SubscriptionStanding, SubscriptionState
from sts_app.billing.words import (
    access_in_words,
    dispute_in_words,
    price_of,
    refund_in_words,
    subscription_in_words,
    withdrawal_in_words,
)
from sts_app.catalog.models import Plan
from tests.builders import NOON

PRICE = "$19.00 a month"
SOON = NOON + timedelta(days=9)


def subscription(state: SubscriptionState, status: str = "active", **more) -> Subscription:
    return Subscription(state=state, status=status, **more)


def told(state: SubscriptionState, status: str = "active", *, because: str = "", until=None, **more) -> str:
    standing = SubscriptionStanding(state, because, until)
    return subscription_in_words(subscription(state, status, **more), standing, price=PRICE)


@pytest.mark.parametrize(
    "said",
    [
        [access_in_words(access) for access in Access],
        [refund_in_words(state, "$20.00") for state in RefundState],
        [told(state) for state in SubscriptionState],
    ],
    ids=["access", "refunds", "subscriptions"],
)
def test_every_state_has_whole_sentences_of_its_own(said):
    assert len(set(said)) == len(said)
    assert all(re.fullmatch(r"[A-Z$].*\.", each) for each in said)


@pytest.mark.parametrize("status", get_args(DisputeStatus))
def test_every_status_of_a_dispute_has_whole_sentences(status):
    assert re.fullmatch(r"[A-Z].*\.", dispute_in_words(status))


def test_a_refund_says_how_much():
    assert all("$20.00" in refund_in_words(state, "$20.00") for state in RefundState)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (RefundState.PENDING, "on its way"),
        (RefundState.SUCCEEDED, "was paid out"),
        (RefundState.FAILED, "came back"),
        (RefundState.REQUIRES_ACTION, "waits for you"),
    ],
)
def test_a_refund_says_where_it_is(state, said):
    assert said in refund_in_words(state, "$20.00")


@pytest.mark.parametrize("status", ["warning_needs_response", "warning_under_review", "warning_closed"])
def test_a_banks_question_is_not_called_a_dispute(status):
    assert "disputed" not in dispute_in_words(status)


class TestSubscriptions:
    def test_what_runs_says_when_it_renews_and_for_how_much(self):
        said = told(SubscriptionState.RUNNING, period_end=SOON)

        assert said == "It renews on 30 Nov 2026, 12:00 UTC: $19.00 a month."

    def test_what_is_to_end_says_when_and_that_nothing_is_charged(self):
        said = told(SubscriptionState.RUNNING, period_end=SOON, ends_at=SOON)

        assert said == "It ends on 30 Nov 2026, 12:00 UTC, with your access, and is not charged again."

    def test_a_failed_renewal_says_until_when_access_goes_on(self):
        said = told(SubscriptionState.GRACE, "past_due", until=SOON)

        assert "Your access goes on until 30 Nov 2026, 12:00 UTC." in said
        assert "card" in said

    def test_what_rests_says_why(self):
        said = told(SubscriptionState.PAUSED, because="its payment is disputed")

        assert said.startswith("Your access rests because its payment is disputed.")

    def test_what_the_store_ends_says_why(self):
        said = told(SubscriptionState.RUNNING, period_end=SOON, cancel_because="lifetime access was bought")

        assert said == "It is being ended, because lifetime access was bought. It is not charged any more."

    def test_what_ended_says_when(self):
        said = told(SubscriptionState.ENDED, "canceled", ended_at=NOON)

        assert said == "It ended on 21 Nov 2026, 12:00 UTC. Nothing more is charged."

    def test_what_may_still_be_charged_does_not_say_that_it_is_not(self):
        said = told(SubscriptionState.ENDED, "active", because="its payment went back")

        assert said == "Your access has ended because its payment went back."


@pytest.mark.parametrize(
    ("verdict", "note", "said"),
    [
        (None, None, "Our staff look at it"),
        ("accepted", None, "you get your money back"),
        ("refused", "The days were over.", "It was not accepted: The days were over."),
    ],
)
def test_a_withdrawal_says_when_it_was_made_and_what_became_of_it(verdict, note, said):
    words = withdrawal_in_words(Withdrawal(created_at=NOON, verdict=verdict, note=note))

    assert words.startswith("You withdrew on 21 Nov 2026, 12:00 UTC. ")
    assert said in words


@pytest.mark.parametrize(("interval", "often"), [("", "once"), ("month", "every month"), ("year", "every year")])
def test_a_price_says_how_often_it_is_paid(interval, often):
    plan = Plan(price_cents=1900, currency="usd", interval=interval)

    assert price_of(plan) == f"$19.00 {often}"
    assert price_of(plan, 1500) == f"$15.00 {often}"
