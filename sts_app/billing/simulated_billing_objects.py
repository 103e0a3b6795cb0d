"""The simulated Stripe's subscriptions, invoices, customers, products and prices, in Stripe's shapes."""

from __future__ import annotations

from sts_app.billing.live_facts import OUR_PORTAL
from sts_app.billing.simulated_months import InvoiceStory, SubscriptionStory
from sts_app.billing.simulated_objects import intent_of
from sts_app.billing.simulated_stories import Payment
from sts_app.core.store import Record


def invoice_of(invoice: InvoiceStory, payment: Payment | None = None) -> Record:
    """One invoice. With `payment` it stands in it whole, in place of its id."""
    opened = invoice.opened
    recurring = invoice.billing_reason != "manual"
    address = f"{opened['base']}/dev/stripe/invoices/{invoice.id}"
    discount = invoice.subtotal - invoice.amount
    parent = {
        "type": "subscription_details",
        "quote_details": None,
        "subscription_details": {"metadata": opened["metadata"], "subscription": opened["subscription"]},
    }
    return {
        "id": invoice.id,
        "object": "invoice",
        "amount_due": invoice.amount,
        "amount_paid": invoice.amount if invoice.is_paid else 0,
        "amount_remaining": 0 if invoice.is_paid else invoice.amount,
        "attempt_count": invoice.attempts,
        "attempted": invoice.attempts > 0,
        "auto_advance": False,
        "billing_reason": invoice.billing_reason,
        "collection_method": "charge_automatically",
        "created": invoice.created,
        "currency": opened["currency"],
        "customer": opened["customer"],
        "customer_email": opened["email"],
        "hosted_invoice_url": address,
        "invoice_pdf": f"{address}?print=1",
        "lines": _page(f"/v1/invoices/{invoice.id}/lines", [_line_of(invoice)]),
        "livemode": False,
        "metadata": {} if recurring else opened["metadata"],
        "number": f"SIM-{invoice.id[-8:].upper()}-{invoice.number:04}",
        "parent": parent if recurring else None,
        "payments": _page(f"/v1/invoice_payments?invoice={invoice.id}", _payments_of(invoice, payment)),
        # Looks back, like Stripe's: the first invoice of a subscription is about no time at all.
        "period_end": invoice.period[0],
        "period_start": invoice.period[0],
        "status": "paid" if invoice.is_paid else "open",
        "status_transitions": {
            "finalized_at": invoice.created,
            "marked_uncollectible_at": None,
            "paid_at": invoice.paid_at,
            "voided_at": None,
        },
        "subtotal": invoice.subtotal,
        "total": invoice.amount,
        "total_discount_amounts": [{"amount": discount, "discount": f"di_{invoice.id[3:]}"}] if discount else [],
    }


def subscription_of(story: SubscriptionStory, price: Record) -> Record:
    """One subscription with its only item."""
    start, end = story.period
    opened = story.opened
    item = {
        "id": f"si_{story.id[4:]}",
        "object": "subscription_item",
        "created": story.started_at,
        "current_period_end": end,
        "current_period_start": start,
        "metadata": {},
        "price": price,
        "quantity": 1,
        "subscription": story.id,
    }
    return {
        "id": story.id,
        "object": "subscription",
        "billing_cycle_anchor": story.started_at,
        "cancel_at": end if story.is_to_end else None,
        "cancel_at_period_end": story.is_to_end,
        "canceled_at": story.canceled_at,
        "collection_method": "charge_automatically",
        "created": story.started_at,
        "currency": opened["currency"],
        "customer": opened["customer"],
        "ended_at": story.ended_at,
        "items": _page(f"/v1/subscription_items?subscription={story.id}", [item]),
        "latest_invoice": story.invoices[-1].id,
        "livemode": False,
        "metadata": opened["metadata"],
        "start_date": story.started_at,
        "status": story.status,
    }


def customer_of(record: Record) -> Record:
    return {
        "id": record["id"],
        "object": "customer",
        "created": record["created"],
        "email": record["email"],
        "livemode": False,
        "metadata": {"customer_ref": record["ref"]},
        "name": record["name"] or None,
    }


def price_of(record: Record) -> Record:
    recurring = {"interval": record["interval"], "interval_count": 1, "usage_type": "licensed"}
    return {
        "id": record["id"],
        "object": "price",
        "active": record["active"],
        "billing_scheme": "per_unit",
        "created": record["created"],
        "currency": record["currency"],
        "livemode": False,
        "lookup_key": record["lookup_key"] or None,
        "metadata": {},
        "product": record["product"],
        "recurring": recurring if record["interval"] else None,
        "type": "recurring" if record["interval"] else "one_time",
        "unit_amount": record["amount"],
        "unit_amount_decimal": str(record["amount"]),
    }


def product_of(record: Record) -> Record:
    return {
        "id": record["id"],
        "object": "product",
        "active": True,
        "created": record["created"],
        "default_price": record["default_price"],
        "description": record["description"] or None,
        "livemode": False,
        "metadata": {},
        "name": record["name"],
        "type": "service",
        "updated": record["created"],
    }


def portal_configuration_of(record: Record) -> Record:
    return {
        "id": record["id"],
        "object": "billing_portal.configuration",
        "active": True,
        "business_profile": {"privacy_policy_url": record["privacy"], "terms_of_service_url": record["terms"]},
        "created": record["created"],
        "features": {
            "customer_update": {"enabled": False},
            "invoice_history": {"enabled": True},
            "payment_method_update": {"enabled": True},
            "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
            "subscription_update": {"enabled": False},
        },
        "is_default": False,
        "livemode": False,
        "metadata": OUR_PORTAL,
    }


def _line_of(invoice: InvoiceStory) -> Record:
    start, end = invoice.period
    return {
        "id": f"il_{invoice.id[3:]}",
        "object": "line_item",
        "amount": invoice.subtotal,
        "currency": invoice.opened["currency"],
        "description": invoice.opened["product_name"],
        "invoice": invoice.id,
        "livemode": False,
        "metadata": {},
        "period": {"end": end, "start": start},
        "pricing": {"type": "price_details", "price_details": {"price": invoice.opened["price"]}},
        "quantity": 1,
    }


def _payments_of(invoice: InvoiceStory, payment: Payment | None) -> list[Record]:
    if invoice.intent is None:
        return []
    paid_with = intent_of(payment, expanded=True) if payment else invoice.intent
    return [
        {
            "id": f"inpay_{invoice.id[3:]}",
            "object": "invoice_payment",
            "amount_paid": invoice.amount if invoice.is_paid else None,
            "amount_requested": invoice.amount,
            "created": invoice.created,
            "currency": invoice.opened["currency"],
            "invoice": invoice.id,
            "is_default": True,
            "livemode": False,
            "payment": {"type": "payment_intent", "payment_intent": paid_with},
            "status": "paid" if invoice.is_paid else "open",
            "status_transitions": {"canceled_at": None, "paid_at": invoice.paid_at},
        }
    ]


def _page(url: str, things: list[Record]) -> Record:
    return {"object": "list", "data": things, "has_more": False, "url": url}
