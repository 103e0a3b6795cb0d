"""The letters billing writes."""

from __future__ import annotations

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.catalog.models import Plan
from sts_app.core.money import as_money
from sts_app.core.web import address_of
from sts_app.emails import services as emails


def purchase_confirmed(user: User, purchase: Purchase, plan: Plan) -> None:
    emails.post(
        key=f"purchase-confirmed:{purchase.id}",
        kind="purchase_confirmation",
        to=user.email,
        user_id=user.id,
        subject=f"Your purchase: {plan.name}",
        template="billing/letters/purchase_confirmed",
        context={
            "plan": plan,
            "purchase": purchase,
            "amount": as_money(purchase.amount_cents, purchase.currency),
            "link": address_of("pages.dashboard"),
        },
    )


def new_purchase(user: User, purchase: Purchase, plan: Plan) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-new-purchase:{purchase.id}:{number}",
            kind="admin_new_purchase",
            to=address,
            subject=f"New purchase: {as_money(purchase.amount_cents, purchase.currency)}",
            template="billing/letters/new_purchase",
            context={
                "plan": plan,
                "purchase": purchase,
                "email": user.email,
                "amount": as_money(purchase.amount_cents, purchase.currency),
                "link": address_of("admin.overview"),
            },
        )


def paid_twice(user: User, purchase: Purchase, earlier: Purchase) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-paid-twice:{purchase.id}:{number}",
            kind="admin_paid_twice",
            to=address,
            subject="A customer paid twice for the same thing",
            template="billing/letters/paid_twice",
            context={
                "email": user.email,
                "purchase": purchase,
                "earlier": earlier,
                "amount": as_money(purchase.amount_cents, purchase.currency),
                "link": address_of("admin.overview"),
            },
        )


def event_stuck(event: WebhookEvent) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-event-stuck:{event.id}:{number}",
            kind="admin_event_stuck",
            to=address,
            subject=f"A payment event needs a person: {event.type}",
            template="billing/letters/event_stuck",
            context={"event": event, "link": address_of("admin.overview")},
        )
