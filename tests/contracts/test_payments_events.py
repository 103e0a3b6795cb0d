"""How signed events are read: by both providers, and from any bytes at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_app.billing.gateway import BadSignature, SignedEvent
from sts_app.billing.live_events import event_of, read_signed_event
from tests.contracts.payment_worlds import REF, SECRETS, World, an_event, signed


class TestSignatures:
    def test_an_event_is_read_with_either_secret_while_they_rotate(self, payment_world: World) -> None:
        body = an_event(
            {"object": "checkout.session", "id": "cs_1", "client_reference_id": REF, "payment_intent": "pi_1"}
        )

        for secret in SECRETS:
            event = payment_world.payments.read_event(body.encode(), signed(body, secret=secret))

            assert event == SignedEvent(
                id="evt_1",
                type="checkout.session.completed",
                created_at=datetime.fromtimestamp(1_790_000_000, UTC),
                live=False,
                payload=json.loads(body),
                purchase_ref=REF,
                session_id="cs_1",
                intent_id="pi_1",
            )

    def test_a_forged_or_stale_event_is_not_read(self, payment_world: World) -> None:
        body = an_event()
        good = signed(body)
        forged: list[tuple[str, str | None]] = [
            (body, None),
            (body, ""),
            (body, "nonsense"),
            (body, "t=,v1="),
            (body, f"t={'9' * 5000},v1=00"),
            (body, good.replace("v1=", "v0=")),
            (body, good + "\u00e9"),
            (body, signed(body, secret="whsec_of_somebody_else")),
            (body, signed(body, age=301)),
            (body.replace("evt_1", "evt_2"), good),
            (body + " ", good),
        ]
        for text, signature in forged:
            with pytest.raises(BadSignature):
                payment_world.payments.read_event(text.encode(), signature)
        assert payment_world.payments.read_event(body.encode(), signed(body, age=290)).id == "evt_1"

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "null",
            "[]",
            "17",
            '"event"',
            "{",
            "{}",
            "\ufeff{}",
            "[" * 100_000,
            '{"object": "event"}',
            an_event(id=""),
            an_event(id=7),
            an_event(type=None),
            an_event(object="v2.core.event"),
            an_event(created=float("inf")),
            an_event({"amount": float("nan")}),
        ],
        ids=lambda body: body[:30],
    )
    def test_a_signed_body_that_is_no_event_is_not_read(self, payment_world: World, body: str) -> None:
        with pytest.raises(BadSignature):
            payment_world.payments.read_event(body.encode(), signed(body))


@given(body=st.binary(max_size=200), signature=st.none() | st.text(max_size=100))
@settings(max_examples=60, deadline=None)
def test_no_bytes_raise_anything_but_bad_signature(body: bytes, signature: str | None) -> None:
    with pytest.raises(BadSignature):
        read_signed_event(body, signature, SECRETS)


NAMES = [
    "object",
    "id",
    "metadata",
    "payment_intent",
    "payments",
    "payment",
    "client_reference_id",
    "invoice",
    "subscription",
    "subscription_details",
    "parent",
    "customer",
]
KINDS = ["checkout.session", "payment_intent", "invoice", "subscription", "customer"]
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
ODD_THING = JSON | st.dictionaries(
    st.sampled_from(NAMES), JSON | st.sampled_from(KINDS) | st.fixed_dictionaries({"purchase_ref": JSON, "data": JSON})
)


# A type of nothing but what PostgreSQL cannot keep is no type: the event is refused.
@given(thing=ODD_THING, kind=st.text(min_size=1, max_size=20).filter(lambda kind: kind.strip("\x00")), created=JSON)
@settings(max_examples=150, deadline=None)
def test_an_event_of_any_shape_is_read(thing: Any, kind: str, created: Any) -> None:
    body = an_event(thing, type=kind, created=created)

    event = read_signed_event(body.encode(), signed(body), SECRETS)

    assert event.id == "evt_1"
    found = (event.purchase_ref, event.session_id, event.intent_id)
    for one in (*found, event.invoice_id, event.subscription_id, event.customer_id):
        assert one is None or isinstance(one, str)
    # PostgreSQL keeps neither in JSON, and an event that cannot be kept would be sent for three days.
    kept = json.dumps(event.payload, ensure_ascii=False)
    assert "\\u0000" not in kept
    kept.encode("utf-8")


OURS = {"purchase_ref": REF}
PAID_WITH = {"data": [{"object": "invoice_payment", "payment": {"payment_intent": "pi_1", "type": "payment_intent"}}]}


@pytest.mark.parametrize(
    ("thing", "about"),
    [
        ({"object": "checkout.session", "id": "cs_1", "metadata": OURS}, {"purchase_ref": REF, "session_id": "cs_1"}),
        (
            {
                "object": "checkout.session",
                "id": "cs_1",
                "subscription": "sub_1",
                "invoice": "in_1",
                "customer": "cus_1",
            },
            {"session_id": "cs_1", "subscription_id": "sub_1", "invoice_id": "in_1", "customer_id": "cus_1"},
        ),
        ({"object": "payment_intent", "id": "pi_1", "metadata": OURS}, {"purchase_ref": REF, "intent_id": "pi_1"}),
        ({"object": "payment_intent", "id": "pi_1", "invoice": "in_1"}, {"intent_id": "pi_1", "invoice_id": "in_1"}),
        (
            {"object": "charge", "id": "ch_1", "payment_intent": "pi_1", "metadata": OURS, "customer": {"id": "cus_1"}},
            {"purchase_ref": REF, "intent_id": "pi_1", "customer_id": "cus_1"},
        ),
        ({"object": "refund", "id": "re_1", "payment_intent": "pi_1", "metadata": {}}, {"intent_id": "pi_1"}),
        (
            {"object": "dispute", "payment_intent": {"id": "pi_1", "metadata": OURS}},
            {"purchase_ref": REF, "intent_id": "pi_1"},
        ),
        (
            {
                "object": "invoice",
                "id": "in_1",
                "customer": "cus_1",
                "metadata": {},
                "parent": {"subscription_details": {"subscription": "sub_1", "metadata": OURS}},
                "payments": PAID_WITH,
            },
            {
                "purchase_ref": REF,
                "invoice_id": "in_1",
                "subscription_id": "sub_1",
                "customer_id": "cus_1",
                "intent_id": "pi_1",
            },
        ),
        (
            {
                "object": "invoice",
                "id": "in_1",
                "customer": "cus_1",
                "metadata": {},
                "subscription": "sub_1",
                "subscription_details": {"metadata": OURS},
                "payment_intent": "pi_1",
            },
            {
                "purchase_ref": REF,
                "invoice_id": "in_1",
                "subscription_id": "sub_1",
                "customer_id": "cus_1",
                "intent_id": "pi_1",
            },
        ),
        ({"object": "invoice", "id": "in_1", "metadata": OURS}, {"purchase_ref": REF, "invoice_id": "in_1"}),
        ({"object": "invoice", "parent": None, "customer": "cus_1"}, {"customer_id": "cus_1"}),
        (
            {"object": "invoice_payment", "invoice": "in_1", "payment": {"payment_intent": "pi_1"}},
            {"invoice_id": "in_1", "intent_id": "pi_1"},
        ),
        (
            {"object": "subscription", "id": "sub_1", "customer": "cus_1", "metadata": OURS, "latest_invoice": "in_1"},
            {"purchase_ref": REF, "subscription_id": "sub_1", "customer_id": "cus_1"},
        ),
        ({"object": "customer", "id": "cus_1"}, {"customer_id": "cus_1"}),
        ({"object": "product", "id": "prod_1"}, {}),
        ({"object": "charge", "payment_intent": None, "metadata": None}, {}),
    ],
    ids=lambda value: value.get("object", "") if isinstance(value, dict) else "",
)
def test_an_event_says_what_it_is_about(thing: dict[str, Any], about: dict[str, str]) -> None:
    body = an_event(thing)

    event = read_signed_event(body.encode(), signed(body), SECRETS)

    names = ("purchase_ref", "session_id", "intent_id", "invoice_id", "subscription_id", "customer_id")
    assert {name: getattr(event, name) for name in names if getattr(event, name) is not None} == about


def test_an_event_from_the_list_is_the_event_the_webhook_brought() -> None:
    body = an_event({"object": "price", "id": "price_1", "unit_amount_decimal": "1900.50", "name": "a\x00b"})

    assert event_of(json.loads(body)) == read_signed_event(body.encode(), signed(body), SECRETS)


def test_without_a_secret_no_event_is_read() -> None:
    body = an_event()
    for secrets in ((), ("",), (" ",)):
        with pytest.raises(BadSignature):
            read_signed_event(body.encode(), signed(body, secret=" "), secrets)
