"""Events that come late about somebody who was erased: handled like any other, and their payload is not kept."""

from __future__ import annotations

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.billing.models import Purchase, StripeCustomer, Subscription, WebhookEvent
from sts_app.core.db import db


def drop_payload(event: WebhookEvent) -> bool:
    """Blank the payload of an event that is about somebody who was erased; false for anybody else's."""
    if event.payload is None or not _is_about_erased(event):
        return False
    # `None` would be stored as the word null of JSON.
    event.payload = sa.null()
    return True


def _is_about_erased(event: WebhookEvent) -> bool:
    names = (
        (Purchase.user_id, Purchase.id, event.purchase_id),
        (Purchase.user_id, Purchase.session_id, event.session_id),
        (Purchase.user_id, Purchase.intent_id, event.intent_id),
        (Purchase.user_id, Purchase.invoice_id, event.invoice_id),
        (Subscription.user_id, Subscription.external_id, event.stripe_subscription_id),
        (StripeCustomer.user_id, StripeCustomer.external_id, event.customer_id),
    )
    theirs = [
        User.id.in_(sa.select(person).where(column == name)) for person, column, name in names if name is not None
    ]
    if not theirs:
        return False
    return bool(db.session.scalar(sa.select(sa.exists().where(User.erased_at.is_not(None), sa.or_(*theirs)))))
