"""The simulated Stripe's objects, in the shapes of the API version that `live_client.py` names.

Pure functions from what happened to what Stripe would show of it now. This file has the objects of a
payment; `simulated_billing_objects` those of subscriptions, customers and products.
"""

from __future__ import annotations

from sts_app.billing.gateway import CheckoutRequest
from sts_app.billing.live_client import API_VERSION
from sts_app.billing.simulated_stories import EXPIRED_CARD, CheckoutStory, DisputeStory, Payment, RefundStory
from sts_app.core.store import Record

RECOVERABLE_SECONDS = 30 * 24 * 3600


def opened(request: CheckoutRequest, *, interval: str, token: str, base: str, at: int) -> Record:
    """What is remembered of a checkout from its beginning.

    `interval` is how often its price is paid again, `base` the address of the store, `at` a Unix time.
    """
    session_id = f"cs_test_{token}"
    return {
        "id": session_id,
        "intent": f"pi_{token}",
        "charge": f"ch_{token}",
        "invoice": f"in_{token}",
        "subscription": f"sub_{token}",
        "base": base,
        "url": f"{base}/dev/stripe/checkout/{session_id}",
        "mode": request.mode,
        "price": request.price_id,
        "interval": interval,
        "product_name": request.product_name,
        "amount": request.amount_cents,
        "currency": request.currency.lower(),
        "customer": request.customer_id,
        "email": request.customer_email,
        "metadata": {"purchase_ref": request.purchase_ref},
        "success_url": request.success_url,
        "cancel_url": request.cancel_url,
        "created": at,
        "expires_at": int(request.expires_at.timestamp()),
        "recovered_from": None,
    }


def session_of(story: CheckoutStory, payment: Payment | None = None, *, invoice: Record | None = None) -> Record:
    """The checkout session now. With `payment` and `invoice` these stand in it whole, in place of their ids."""
    opened = story.opened
    recurring = story.mode == "subscription"
    session = {
        "id": story.id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": {"recovery": _recovery_of(story)},
        "allow_promotion_codes": True,
        "amount_subtotal": story.subtotal,
        "amount_total": story.amount,
        "cancel_url": opened["cancel_url"],
        "client_reference_id": opened["metadata"]["purchase_ref"],
        "created": opened["created"],
        "currency": opened["currency"],
        "customer": opened["customer"],
        "customer_details": {"email": opened["email"], "name": None},
        "customer_email": None,
        "discounts": _discounts_of(story),
        "expires_at": opened["expires_at"],
        "invoice": None,
        "livemode": False,
        "metadata": opened["metadata"],
        "mode": story.mode,
        "payment_intent": None,
        "payment_status": "unpaid",
        "recovered_from": opened["recovered_from"],
        "status": "open",
        "subscription": None,
        "success_url": opened["success_url"],
        "total_details": {"amount_discount": story.discount, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": opened["url"],
    }
    if story.tried_at is not None and not recurring:
        session["payment_intent"] = intent_of(payment, expanded=True) if payment else opened["intent"]
    if story.is_paid or (recurring and story.is_complete):
        session["invoice"] = invoice or opened["invoice"]
    if recurring and story.is_complete:
        session["subscription"] = opened["subscription"]
    if story.end == "expired":
        session |= {"status": "expired", "url": None}
    elif story.is_complete:
        state = "no_payment_required" if story.is_free else "paid" if story.is_paid else "unpaid"
        session |= {"status": "complete", "url": None, "payment_status": state}
    return session


def intent_of(payment: Payment, *, expanded: bool = False) -> Record:
    charge = charge_of(payment) if payment.is_paid or payment.because else None
    error = {
        "type": "card_error",
        "code": "card_declined",
        "decline_code": payment.because,
        "message": "Your card was declined.",
    }
    return {
        "id": payment.intent,
        "object": "payment_intent",
        **_shared(payment),
        "amount_received": payment.amount if payment.is_paid else 0,
        "last_payment_error": error if payment.because else None,
        "latest_charge": charge if expanded or charge is None else charge["id"],
        "receipt_email": None,
        "status": payment.status,
    }


def charge_of(payment: Payment) -> Record:
    """The latest charge. A declined card leaves one of its own behind."""
    return {
        "id": payment.charge,
        "object": "charge",
        **_shared(payment),
        "amount_captured": payment.amount if payment.is_paid else 0,
        "amount_refunded": payment.refunded,
        "billing_details": {"email": payment.email, "name": None},
        "captured": payment.is_paid,
        "disputed": bool(payment.disputes),
        "failure_code": "card_declined" if payment.because else None,
        "paid": payment.is_paid,
        "payment_intent": payment.intent,
        "receipt_url": f"{payment.base}/dev/stripe/receipts/{payment.charge}" if payment.is_paid else None,
        "refunded": payment.is_paid and payment.refunded == payment.amount,
        "status": "succeeded" if payment.is_paid else "failed",
    }


def refund_of(payment: Payment, refund: RefundStory) -> Record:
    thing = {
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "charge": payment.charge,
        "created": refund.created,
        "currency": payment.currency,
        "metadata": refund.metadata,
        "payment_intent": payment.intent,
        "reason": refund.reason,
        "status": refund.status,
    }
    return thing | ({"failure_reason": EXPIRED_CARD} if refund.status == "failed" else {})


def dispute_of(payment: Payment, dispute: DisputeStory, *, at: int) -> Record:
    """One dispute; `at` is the moment at which it is shown, for it may be too late to answer then."""
    return {
        "id": dispute.id,
        "object": "dispute",
        "amount": dispute.amount,
        "charge": payment.charge,
        "created": dispute.created,
        "currency": payment.currency,
        "evidence": dispute.evidence,
        "evidence_details": {
            "due_by": dispute.due_by,
            "has_evidence": bool(dispute.evidence),
            "past_due": at > dispute.due_by,
            "submission_count": dispute.submissions,
        },
        "is_charge_refundable": dispute.status.startswith("warning"),
        "livemode": False,
        "metadata": dispute.metadata,
        "payment_intent": payment.intent,
        "reason": dispute.reason,
        "status": dispute.status,
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


def recovery_url(opened: Record) -> str:
    return f"{opened['base']}/dev/stripe/recover/{opened['id']}"


def _recovery_of(story: CheckoutStory) -> Record:
    recovery: Record = {"allow_promotion_codes": True, "enabled": True, "expires_at": None, "url": None}
    if story.end != "expired":
        return recovery
    until = story.opened["expires_at"] + RECOVERABLE_SECONDS
    return recovery | {"expires_at": until, "url": recovery_url(story.opened)}


def _discounts_of(story: CheckoutStory) -> list[Record]:
    if story.promotion is None:
        return []
    return [{"coupon": story.promotion["code"].lower(), "promotion_code": f"promo_{story.promotion['code']}"}]


def _shared(payment: Payment) -> Record:
    return {
        "amount": payment.amount,
        "created": payment.created,
        "currency": payment.currency,
        "customer": payment.customer,
        "description": payment.description,
        "livemode": False,
        "metadata": payment.metadata,
    }
