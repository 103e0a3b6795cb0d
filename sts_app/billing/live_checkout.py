"""What a checkout page is opened with at Stripe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_app.billing.gateway import CheckoutRequest

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

SUBMIT_TEXT = (
    "One payment, no subscription. By paying you accept the terms of sale and the risk disclosure. "
    "Access is given to the TradingView name on your profile."
)
SUBSCRIBE_TEXT = (
    "This subscription renews by itself until you end it, which you can do at any time on your dashboard. "
    "By subscribing you accept the terms of sale and the risk disclosure. "
    "Access is given to the TradingView name on your profile."
)


def checkout_params(request: CheckoutRequest) -> SessionCreateParams:
    """The parameters of a page, the same for the same request: they are replayed under one key."""
    metadata = {"purchase_ref": request.purchase_ref}
    once = request.mode == "payment"
    # `payment_method_types` is left out on purpose: the dashboard's settings decide, wallets included.
    params: SessionCreateParams = {
        "mode": request.mode,
        "ui_mode": "hosted_page",
        "line_items": [{"price": request.price_id, "quantity": 1}],
        "client_reference_id": request.purchase_ref,
        "metadata": metadata,
        "customer": request.customer_id,
        "success_url": request.success_url,
        "cancel_url": request.cancel_url,
        "expires_at": int(request.expires_at.timestamp()),
        "after_expiration": {"recovery": {"enabled": True, "allow_promotion_codes": True}},
        "allow_promotion_codes": True,
        # Charge the price that the store shows, in its currency.
        "adaptive_pricing": {"enabled": False},
        # A required box (`consent_collection`) would need a terms address set in the dashboard first.
        "custom_text": {"submit": {"message": SUBMIT_TEXT if once else SUBSCRIBE_TEXT}},
    }
    if once:
        # Named here, the receipt is sent whatever the dashboard's switch for such letters says.
        params["payment_intent_data"] = {"metadata": metadata, "receipt_email": request.customer_email}
        params["invoice_creation"] = {"enabled": True, "invoice_data": {"metadata": metadata}}
    else:
        params["subscription_data"] = {"metadata": metadata}
    return params
