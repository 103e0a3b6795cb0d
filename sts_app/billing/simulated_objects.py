"""The simulated Stripe's objects, in the shapes of the API version that `live.py` names.

Pure functions from what happened to a checkout (its `Story`) to what Stripe would show of it now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sts_app.billing.gateway import CheckoutRequest
from sts_app.billing.live import API_VERSION
from sts_app.core.store import Record

Ending = Literal["paid", "processing", "expired"]
DELAYED_DECLINE = "insufficient_funds"


@dataclass(frozen=True)
class Story:
    """What happened to one checkout. `settled` is the slow bank's verdict, None while it is out."""

    opened: Record
    end: Ending | None
    settled: bool | None
    decline: Record | None
    refunds: tuple[Record, ...]

    @property
    def is_paid(self) -> bool:
        return self.end == "paid" or self.settled is True

    @property
    def amount(self) -> int:
        return int(self.opened["session"]["amount_total"])

    @property
    def refunded(self) -> int:
        return sum(int(refund["amount"]) for refund in self.refunds)

    @property
    def was_tried(self) -> bool:
        """Like Stripe, show no payment intent before the first try."""
        return self.end in ("paid", "processing") or self.decline is not None

    @property
    def declined_because(self) -> str | None:
        """Why the latest try failed; a later success wipes it out."""
        if self.end == "processing":
            return DELAYED_DECLINE if self.settled is False else None
        return str(self.decline["because"]) if self.decline and not self.is_paid else None

    @property
    def intent_status(self) -> str:
        if self.is_paid:
            return "succeeded"
        if self.end == "processing" and self.settled is None:
            return "processing"
        return "canceled" if self.end == "expired" else "requires_payment_method"


def opened(request: CheckoutRequest, *, session_id: str, url: str, at: int) -> Record:
    """A checkout session as it is when its page opens. `at` is a Unix time."""
    return {
        "id": session_id,
        "object": "checkout.session",
        "allow_promotion_codes": True,
        "amount_subtotal": request.amount_cents,
        "amount_total": request.amount_cents,
        "cancel_url": request.cancel_url,
        "client_reference_id": request.purchase_ref,
        "created": at,
        "currency": request.currency.lower(),
        "customer": None,
        "customer_details": {"email": request.customer_email, "name": None},
        "customer_email": request.customer_email,
        "expires_at": int(request.expires_at.timestamp()),
        "invoice": None,
        "livemode": False,
        "metadata": {"purchase_ref": request.purchase_ref},
        "mode": "payment",
        "payment_intent": None,
        "payment_status": "unpaid",
        "recovered_from": None,
        "status": "open",
        "success_url": request.success_url,
        "ui_mode": "hosted_page",
        "url": url,
    }


def session_of(story: Story, *, expanded: bool = False) -> Record:
    """The checkout session now; `expanded` puts the payment intent and its charge in place of the id."""
    session = dict(story.opened["session"])
    if story.was_tried:
        session["payment_intent"] = intent_of(story, expanded=expanded) if expanded else story.opened["intent"]
    if story.end == "expired":
        session |= {"status": "expired", "url": None}
    elif story.end is not None:
        session |= {"status": "complete", "url": None, "payment_status": "paid" if story.is_paid else "unpaid"}
    return session


def intent_of(story: Story, *, expanded: bool = False) -> Record:
    because = story.declined_because
    charge = charge_of(story) if story.is_paid or because else None
    error = {"type": "card_error", "code": "card_declined", "decline_code": because}
    return {
        "id": story.opened["intent"],
        "object": "payment_intent",
        **_shared(story),
        "amount_received": story.amount if story.is_paid else 0,
        "last_payment_error": error if because else None,
        "latest_charge": charge if expanded or charge is None else charge["id"],
        "status": story.intent_status,
    }


def charge_of(story: Story) -> Record:
    """The latest charge. A declined card leaves one of its own behind."""
    because = story.declined_because
    declined_card = story.decline if because and story.end != "processing" else None
    return {
        "id": declined_card["charge"] if declined_card else story.opened["charge"],
        "object": "charge",
        **_shared(story),
        "amount_captured": story.amount if story.is_paid else 0,
        "amount_refunded": story.refunded,
        "disputed": False,
        "failure_code": "card_declined" if because else None,
        "paid": story.is_paid,
        "payment_intent": story.opened["intent"],
        "refunded": story.is_paid and story.refunded == story.amount,
        "status": "succeeded" if story.is_paid else "failed",
    }


def refund_of(story: Story, *, refund_id: str, amount: int, at: int) -> Record:
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "charge": story.opened["charge"],
        "created": at,
        "currency": story.opened["session"]["currency"],
        "metadata": {},
        "payment_intent": story.opened["intent"],
        "reason": "requested_by_customer",
        "status": "succeeded",
    }


def event_about(thing: Record, *, event_id: str, kind: str, at: int) -> Record:
    return {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": at,
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def _shared(story: Story) -> Record:
    session = story.opened["session"]
    return {
        "amount": session["amount_total"],
        "created": session["created"],
        "currency": session["currency"],
        "livemode": False,
        "metadata": session["metadata"],
    }
