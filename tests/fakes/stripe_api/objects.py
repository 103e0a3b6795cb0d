"""Stripe's objects as they are when they are made, in the shapes of the installed package."""

from __future__ import annotations

import secrets
import time
from typing import Any

import stripe

MONTH = 30 * 86400


def new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(14)}"


def now() -> int:
    return int(time.time())


def customer(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id("cus"),
        "object": "customer",
        "created": now(),
        "description": None,
        "email": params.get("email"),
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "name": params.get("name"),
    }


def session(params: dict[str, Any], price: dict[str, Any], expires_at: int) -> dict[str, Any]:
    session_id = new_id("cs_test")
    total = price["unit_amount"] * int(params["line_items"][0].get("quantity", 1))
    recovery = params.get("after_expiration", {}).get("recovery", {})
    return {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": params.get("adaptive_pricing", {}).get("enabled") == "true"},
        "after_expiration": {
            "recovery": {
                "allow_promotion_codes": recovery.get("allow_promotion_codes") == "true",
                "enabled": recovery.get("enabled") == "true",
                "expires_at": None,
                "url": None,
            }
        },
        "allow_promotion_codes": params.get("allow_promotion_codes") == "true",
        "amount_subtotal": total,
        "amount_total": total,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": now(),
        "currency": price["currency"],
        "customer": params.get("customer"),
        "customer_email": params.get("customer_email"),
        "expires_at": expires_at,
        "invoice": None,
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "mode": params["mode"],
        "payment_intent": None,
        "payment_status": "unpaid",
        "recovered_from": None,
        "status": "open",
        "subscription": None,
        "success_url": params["success_url"],
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": params.get("ui_mode", "hosted_page"),
        "url": f"https://checkout.stripe.com/c/pay/{session_id}",
    }


def intent(*, amount: int, currency: str, customer_id: str | None, metadata: dict[str, str]) -> dict[str, Any]:
    return {
        "id": new_id("pi"),
        "object": "payment_intent",
        "amount": amount,
        "amount_received": 0,
        "created": now(),
        "currency": currency,
        "customer": customer_id,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata,
        "status": "requires_payment_method",
    }


def charge(intent: dict[str, Any], *, succeeded: bool) -> dict[str, Any]:
    charge_id = new_id("ch")
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if succeeded else 0,
        "amount_refunded": 0,
        "created": now(),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "disputed": False,
        "failure_code": None if succeeded else "card_declined",
        "livemode": False,
        "metadata": intent["metadata"],
        "paid": succeeded,
        "payment_intent": intent["id"],
        "receipt_url": f"https://pay.stripe.com/receipts/{charge_id}" if succeeded else None,
        "refunded": False,
        "status": "succeeded" if succeeded else "failed",
    }


def refund(charge: dict[str, Any], *, amount: int, status: str, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "charge": charge["id"],
        "created": now(),
        "currency": charge["currency"],
        "metadata": params.get("metadata", {}),
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "status": status,
    }


def dispute(charge: dict[str, Any], *, amount: int, status: str) -> dict[str, Any]:
    return {
        "id": new_id("dp"),
        "object": "dispute",
        "amount": amount,
        "charge": charge["id"],
        "created": now(),
        "currency": charge["currency"],
        "evidence": {},
        "evidence_details": {
            "due_by": now() + 9 * 86400,
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": status.startswith("warning"),
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": "fraudulent",
        "status": status,
    }


def invoice(
    *,
    customer_id: str | None,
    amount: int,
    currency: str,
    reason: str,
    metadata: dict[str, str],
    subscription: dict[str, Any] | None = None,
    discount: int = 0,
) -> dict[str, Any]:
    invoice_id = new_id("in")
    item = subscription["items"]["data"][0] if subscription else None
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]} if subscription else None
    period = (
        {"start": item["current_period_start"], "end": item["current_period_end"]}
        if item
        else {"start": now(), "end": now()}
    )
    return {
        "id": invoice_id,
        "object": "invoice",
        "amount_due": amount,
        "amount_paid": 0,
        "amount_remaining": amount,
        "billing_reason": reason,
        "created": now(),
        "currency": currency,
        "customer": customer_id,
        "hosted_invoice_url": f"https://invoice.stripe.com/i/{invoice_id}",
        "invoice_pdf": f"https://pay.stripe.com/invoice/{invoice_id}/pdf",
        "lines": {
            "object": "list",
            "data": [{"id": new_id("il"), "object": "line_item", "amount": amount, "period": period}],
            "has_more": False,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "livemode": False,
        "metadata": metadata,
        "parent": {"quote_details": None, "subscription_details": details, "type": "subscription_details"}
        if details
        else None,
        # Stripe's oddity: an invoice's own period is the one before.
        "period_end": now(),
        "period_start": now(),
        "status": "open",
        "status_transitions": {"finalized_at": now(), "marked_uncollectible_at": None, "paid_at": None},
        "total": amount,
        "total_discount_amounts": [{"amount": discount, "discount": new_id("di")}] if discount else [],
    }


def invoice_payment(invoice: dict[str, Any], intent: dict[str, Any], *, status: str) -> dict[str, Any]:
    return {
        "id": new_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": intent["amount"] if status == "paid" else None,
        "amount_requested": intent["amount"],
        "created": now(),
        "currency": intent["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
        "status": status,
        "status_transitions": {"canceled_at": None, "paid_at": now() if status == "paid" else None},
    }


def subscription(*, customer_id: str | None, price: dict[str, Any], metadata: dict[str, str]) -> dict[str, Any]:
    subscription_id = new_id("sub")
    item = {
        "id": new_id("si"),
        "object": "subscription_item",
        "created": now(),
        "current_period_end": now() + MONTH,
        "current_period_start": now(),
        "metadata": {},
        "price": dict(price),
        "quantity": 1,
        "subscription": subscription_id,
    }
    return {
        "id": subscription_id,
        "object": "subscription",
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "created": now(),
        "currency": price["currency"],
        "customer": customer_id,
        "ended_at": None,
        "items": {
            "object": "list",
            "data": [item],
            "has_more": False,
            "url": f"/v1/subscription_items?subscription={subscription_id}",
        },
        "latest_invoice": None,
        "livemode": False,
        "metadata": metadata,
        "start_date": now(),
        "status": "active",
    }


def product(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": params.get("id") or new_id("prod"),
        "object": "product",
        "active": params.get("active") != "false",
        "created": now(),
        "default_price": None,
        "description": params.get("description"),
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "name": params["name"],
        "updated": now(),
    }


def price(params: dict[str, Any], *, price_id: str | None = None) -> dict[str, Any]:
    interval = params.get("recurring", {}).get("interval")
    amount = params.get("unit_amount")
    return {
        "id": price_id or new_id("price"),
        "object": "price",
        "active": params.get("active") != "false",
        "billing_scheme": "per_unit",
        "created": now(),
        "currency": params["currency"],
        "livemode": False,
        "lookup_key": params.get("lookup_key"),
        "metadata": params.get("metadata", {}),
        "product": params["product"],
        "recurring": {"interval": interval, "interval_count": 1, "usage_type": "licensed"} if interval else None,
        "type": "recurring" if interval else "one_time",
        "unit_amount": None if amount is None else int(amount),
        "unit_amount_decimal": amount,
    }


def endpoint(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": params.get("api_version"),
        "application": None,
        "created": now(),
        "description": params.get("description"),
        "enabled_events": params["enabled_events"],
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "status": "enabled",
        "url": params["url"],
    }


def portal_configuration(params: dict[str, Any], *, is_default: bool = False) -> dict[str, Any]:
    return {
        "id": new_id("bpc"),
        "object": "billing_portal.configuration",
        "active": True,
        "application": None,
        "business_profile": {"headline": None} | params.get("business_profile", {}),
        "created": now(),
        "features": portal_features(params["features"]),
        "is_default": is_default,
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "updated": now(),
    }


def portal_features(given: dict[str, Any]) -> dict[str, Any]:
    """Every feature, shut unless it is given."""
    shut: dict[str, Any] = {
        "customer_update": {"allowed_updates": [], "enabled": False},
        "invoice_history": {"enabled": False},
        "payment_method_update": {"enabled": False},
        "subscription_cancel": {"enabled": False, "mode": "at_period_end", "proration_behavior": "none"},
        "subscription_update": {"default_allowed_updates": [], "enabled": False, "proration_behavior": "none"},
    }
    return {
        name: feature
        | {key: value == "true" if key == "enabled" else value for key, value in given.get(name, {}).items()}
        for name, feature in shut.items()
    }


def account() -> dict[str, Any]:
    return {
        "id": new_id("acct"),
        "object": "account",
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "payouts_enabled": True,
    }


def file(*, name: str, size: int, purpose: str) -> dict[str, Any]:
    return {
        "id": new_id("file"),
        "object": "file",
        "created": now(),
        "expires_at": None,
        "filename": name,
        "purpose": purpose,
        "size": size,
        "title": None,
        "type": "pdf",
        "url": None,
    }


def event(kind: str, thing: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": new_id("evt"),
        "object": "event",
        "api_version": stripe.api_version,
        "created": now(),
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
