"""How Stripe's objects are read, in the shapes of either version and in none at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_app.billing import live_facts as facts
from sts_app.billing.gateway import TryLater

BEGAN, ENDS = 1_790_000_000, 1_792_592_000
OURS = {"purchase_ref": "pur_17"}

INTENT: dict[str, Any] = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount_received": 1900,
    "created": BEGAN,
    "currency": "usd",
    "latest_charge": {"id": "ch_1", "object": "charge", "disputed": False, "receipt_url": "https://pay.example/r"},
    "status": "succeeded",
}
REFUND: dict[str, Any] = {
    "id": "re_1",
    "object": "refund",
    "amount": 400,
    "created": BEGAN,
    "currency": "usd",
    "payment_intent": "pi_1",
    "status": "succeeded",
}
DISPUTE: dict[str, Any] = {
    "id": "dp_1",
    "object": "dispute",
    "amount": 1900,
    "created": BEGAN,
    "currency": "usd",
    "evidence_details": {"due_by": ENDS, "submission_count": 0},
    "payment_intent": "pi_1",
    "reason": "fraudulent",
    "status": "needs_response",
}
INVOICE: dict[str, Any] = {
    "id": "in_1",
    "object": "invoice",
    "amount_due": 1900,
    "amount_paid": 1900,
    "billing_reason": "subscription_create",
    "created": BEGAN,
    "currency": "usd",
    "customer": "cus_1",
    "lines": {"object": "list", "data": [{"period": {"start": BEGAN, "end": ENDS}}]},
    "period_end": BEGAN,
    "status": "paid",
    "status_transitions": {"paid_at": BEGAN},
}
TODAYS_INVOICE = INVOICE | {
    "parent": {"subscription_details": {"metadata": OURS, "subscription": "sub_1"}, "type": "subscription_details"},
    "payments": {
        "object": "list",
        "data": [
            {
                "status": "canceled",
                "is_default": False,
                "payment": {"payment_intent": "pi_0", "type": "payment_intent"},
            },
            {"status": "paid", "is_default": True, "payment": {"payment_intent": "pi_1", "type": "payment_intent"}},
        ],
    },
}
OLDER_INVOICE = INVOICE | {
    "payment_intent": "pi_1",
    "subscription": "sub_1",
    "subscription_details": {"metadata": OURS},
}
SUBSCRIPTION: dict[str, Any] = {
    "id": "sub_1",
    "object": "subscription",
    "cancel_at": None,
    "cancel_at_period_end": True,
    "customer": "cus_1",
    "ended_at": None,
    "metadata": OURS,
    "start_date": BEGAN,
    "status": "active",
}
TODAYS_SUBSCRIPTION = SUBSCRIPTION | {
    "items": {"object": "list", "data": [{"current_period_end": ENDS, "price": {"id": "price_1"}}]}
}
OLDER_SUBSCRIPTION = SUBSCRIPTION | {
    "current_period_end": ENDS,
    "items": {"object": "list", "data": [{"plan": {"id": "price_1"}}]},
}
SESSION: dict[str, Any] = {
    "id": "cs_1",
    "object": "checkout.session",
    "amount_total": 1900,
    "currency": "usd",
    "metadata": OURS,
    "mode": "subscription",
    "payment_status": "paid",
    "status": "complete",
    "subscription": "sub_1",
}


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("subscription", [TODAYS_SUBSCRIPTION, OLDER_SUBSCRIPTION], ids=["today", "older"])
def test_a_subscription_is_read_in_either_shape(subscription: dict[str, Any]) -> None:
    found = facts.subscription_of(subscription, [TODAYS_INVOICE])

    assert (found.id, found.price_id, found.purchase_ref) == ("sub_1", "price_1", "pur_17")
    assert (found.period_end, found.ends_at) == (at(ENDS), at(ENDS))
    assert found.started_at == at(BEGAN)
    assert [invoice.id for invoice in found.invoices] == ["in_1"]


@pytest.mark.parametrize("invoice", [TODAYS_INVOICE, OLDER_INVOICE], ids=["today", "older"])
def test_an_invoice_is_read_in_either_shape(invoice: dict[str, Any]) -> None:
    known = facts.invoice_of(invoice)
    payment = facts.invoice_payment_of(invoice, intent=INTENT, refunds=[REFUND], disputes=[DISPUTE])

    assert (known.intent_id, known.period_end, known.paid_at, known.is_first) == ("pi_1", at(ENDS), at(BEGAN), True)
    assert (payment.subscription_id, payment.purchase_ref, payment.mode) == ("sub_1", "pur_17", "subscription")
    assert (payment.intent_id, payment.payment, payment.amount_total) == ("pi_1", "paid", 1900)
    assert (payment.amount_refunded, len(payment.disputes)) == (400, 1)
    assert payment.receipt_url == "https://pay.example/r"


@pytest.mark.parametrize("invoice", [TODAYS_INVOICE, OLDER_INVOICE], ids=["today", "older"])
def test_the_payment_of_a_subscriptions_checkout_is_read_in_either_shape(invoice: dict[str, Any]) -> None:
    payment = facts.facts_of(SESSION | {"invoice": invoice})

    assert (payment.intent_id, payment.invoice_id, payment.subscription_id) == ("pi_1", "in_1", "sub_1")


@pytest.mark.parametrize(
    ("refunds", "complete"),
    [
        (None, False),
        ({"object": "list", "data": [REFUND], "has_more": True}, False),
        ({"object": "list", "data": [REFUND], "has_more": False}, True),
    ],
    ids=["absent", "cut", "whole"],
)
def test_a_charge_shows_its_refunds_or_they_are_to_be_asked_for(refunds: Any, complete: bool) -> None:
    charge = INTENT["latest_charge"] | ({} if refunds is None else {"refunds": refunds})

    assert facts.all_refunds_in(INTENT | {"latest_charge": charge}) is complete


def test_a_payment_without_a_charge_has_no_refunds_to_ask_for() -> None:
    assert facts.all_refunds_in(INTENT | {"latest_charge": None})


@pytest.mark.parametrize("status", ["appeal_needs_response", "appeal_under_review"])
def test_an_appealed_dispute_stays_lost_until_it_is_won(status: str) -> None:
    assert facts.dispute_of(DISPUTE | {"status": status}).status == "lost"


def test_a_dispute_that_allows_no_answer_has_no_due_date() -> None:
    assert facts.dispute_of(DISPUTE | {"evidence_details": {"due_by": 0}}).due_by is None


def test_credit_that_paid_an_invoice_is_no_money() -> None:
    payment = facts.invoice_payment_of(INVOICE | {"amount_due": 0, "amount_paid": 0})

    assert (payment.payment, payment.amount_total, payment.intent_id) == ("no_payment_required", 0, None)


@pytest.mark.parametrize(
    "read",
    [
        lambda: facts.facts_of(SESSION | {"status": "asleep"}),
        lambda: facts.facts_of(SESSION | {"payment_status": None}),
        lambda: facts.refund_of(REFUND | {"status": "thinking"}),
        lambda: facts.dispute_of(DISPUTE | {"status": "forgotten"}),
        lambda: facts.invoice_of(INVOICE | {"status": ["paid"]}),
        lambda: facts.subscription_of(SUBSCRIPTION | {"status": ""}, []),
        lambda: facts.refund_of({}),
    ],
)
def test_a_state_nobody_knows_is_not_guessed_at(read: Callable[[], object]) -> None:
    with pytest.raises(TryLater, match="the answer is no"):
        read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
READERS: list[tuple[Callable[..., object], dict[str, Any]]] = [
    (facts.facts_of, SESSION | {"invoice": TODAYS_INVOICE, "payment_intent": INTENT}),
    (facts.invoice_payment_of, TODAYS_INVOICE),
    (lambda thing: facts.subscription_of(thing, [thing]), TODAYS_SUBSCRIPTION),
    (facts.refund_of, REFUND),
    (facts.dispute_of, DISPUTE),
    (facts.charged_of, INTENT),
    (facts.price_of, {"id": "price_1", "unit_amount": 1, "recurring": {}}),
    (lambda thing: facts.product_of(thing, [thing]), {"id": "prod_1", "name": "All", "default_price": "price_1"}),
    (facts.endpoint_of, {"id": "we_1", "enabled_events": ["*"], "status": "enabled"}),
]


@given(data=st.data(), place=st.integers(min_value=0, max_value=len(READERS) - 1))
@settings(max_examples=300, deadline=None)
def test_an_answer_of_any_shape_is_read_or_to_be_tried_later(data: st.DataObject, place: int) -> None:
    read, good = READERS[place]
    odd = data.draw(st.dictionaries(st.sampled_from(sorted(good)), JSON, max_size=3))

    try:
        found = read(good | odd)
    except TryLater:
        found = None

    assert found is None or type(found).__name__.endswith("Facts")
