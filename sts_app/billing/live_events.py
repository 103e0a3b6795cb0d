"""Stripe's events: verified, and read for what they may be about."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import stripe

from sts_app.billing.gateway import BadSignature, SignedEvent
from sts_app.billing.live_facts import dict_of, id_of, intent_in, moment, purchase_ref_of, subscription_in, text
from sts_app.core import clock

SIGNATURE_TOLERANCE = timedelta(minutes=5)


def read_signed_event(body: bytes, signature: str | None, secrets: tuple[str, ...]) -> SignedEvent:
    """Verify `signature` over the raw `body` with any of `secrets`, then read the event.

    While a secret is rotated both are given. Raises `BadSignature`, and nothing else, for a missing or
    malformed header, a foreign secret, a signature older than five minutes, and for a body that is no
    snapshot event. What the event is about is read with suspicion: any shape of it is accepted.
    """
    if not signature:
        raise BadSignature("the signature header is missing")
    if not any(_is_signed(body, signature, secret) for secret in secrets):
        raise BadSignature("not signed with a secret of ours in the last five minutes")
    try:
        payload = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BadSignature("the body is not JSON") from None
    try:
        return event_of(payload)
    except (ValueError, RecursionError) as odd:
        raise BadSignature(f"the body is no snapshot event: {odd}") from None


def event_of(payload: Any) -> SignedEvent:
    """Read an event, from the webhook or from Stripe's list. Raises `ValueError` when it is no snapshot event."""
    payload = _storable(payload)
    if not isinstance(payload, dict) or payload.get("object") != "event":
        raise ValueError("another object")
    event_id, kind = text(payload.get("id")), text(payload.get("type"))
    if not event_id or not kind:
        raise ValueError("no id or no type")
    thing = dict_of(dict_of(payload.get("data")).get("object"))
    name, itself = thing.get("object"), text(thing.get("id"))
    return SignedEvent(
        id=event_id,
        type=kind,
        created_at=moment(payload.get("created")) or clock.now(),
        live=payload.get("livemode") is True,
        payload=payload,
        purchase_ref=purchase_ref_of(thing) or purchase_ref_of(dict_of(thing.get("payment_intent"))),
        session_id=itself if name == "checkout.session" else None,
        intent_id=itself if name == "payment_intent" else id_of(intent_in(thing)),
        invoice_id=itself if name == "invoice" else id_of(thing.get("invoice")),
        subscription_id=itself if name == "subscription" else subscription_in(thing),
        customer_id=itself if name == "customer" else id_of(thing.get("customer")),
    )


def _is_signed(body: bytes, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, int(SIGNATURE_TOLERANCE.total_seconds()))
    except (stripe.SignatureVerificationError, ValueError, TypeError):
        # ValueError: the body is not UTF-8. TypeError: the header holds letters beyond ASCII.
        return False
    return True


def _storable(value: Any) -> Any:
    """The same JSON without what PostgreSQL cannot keep: NUL, lone surrogates, numbers without end."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number without end")
    return value
