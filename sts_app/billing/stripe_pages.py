"""Where staff find in Stripe's dashboard what stands here."""

from __future__ import annotations

from flask import current_app

from sts_app.billing.models import Purchase
from sts_app.core.web import address_of

DASHBOARD = "https://dashboard.stripe.com"


def page_of(purchase: Purchase) -> str | None:
    """The address of a purchase's payment in the dashboard, of its invoice where nothing was charged, or None.

    What was made with a test key stands under an address of its own. Of simulated payments it is the desk.
    """
    settings = current_app.config["STS"]
    if purchase.intent_id is not None:
        place = f"payments/{purchase.intent_id}"
    elif purchase.invoice_id is not None:
        place = f"invoices/{purchase.invoice_id}"
    else:
        return None
    if settings.payments_vendor == "simulated":
        return address_of("billing_dev.overview")
    if purchase.session_id is not None:
        is_live = purchase.session_id.startswith("cs_live_")
    else:
        # A renewal's names do not say it.
        key = settings.stripe_secret_key
        is_live = key is not None and "_live_" in key.get_secret_value()
    return f"{DASHBOARD}/{place}" if is_live else f"{DASHBOARD}/test/{place}"
