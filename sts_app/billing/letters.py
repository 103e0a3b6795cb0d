"""The letters billing writes, each under a key that names the deed it tells of.

Those about money that goes back are in `letters_money.py`, and are called by way of here like the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing.letters_money import (
    dispute_closed,
    dispute_opened,
    evidence_refused,
    inquiry_opened,
    partial_refund,
    refund_failed,
    refund_refused,
    refunded,
    withdrawal_decided,
    withdrawal_received,
)
from sts_app.billing.letters_note import facts_of, to_customer, to_staff
from sts_app.billing.models import Purchase, Subscription, WebhookEvent
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.money import as_moment, as_money
from sts_app.core.web import address_of
from sts_app.emails import services as emails

__all__ = [
    "checkout_left",
    "dispute_closed",
    "dispute_opened",
    "does_not_add_up",
    "event_stuck",
    "evidence_refused",
    "inquiry_opened",
    "new_purchase",
    "paid_twice",
    "partial_refund",
    "payment_failed",
    "purchase_confirmed",
    "refund_failed",
    "refund_refused",
    "refunded",
    "renewal_failed",
    "renewed",
    "subscription_ended",
    "subscription_paused",
    "subscription_stuck",
    "withdrawal_decided",
    "withdrawal_received",
]


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


def renewed(user: User, purchase: Purchase, plan: Plan) -> None:
    to_customer(
        user,
        key=f"renewed:{purchase.id}",
        kind="subscription_renewed",
        subject=f"Your subscription was renewed: {plan.name}",
        heading="Your subscription was renewed",
        paragraphs=("The payment for the next period has arrived. Your access goes on as it is.",),
        facts=facts_of(purchase),
    )


def payment_failed(user: User, purchase: Purchase, because: str | None) -> None:
    """One letter a purchase, however often the bank says no: the page itself tells of each try."""
    reason = [("What the bank said", because.replace("_", " "))] if because else []
    to_customer(
        user,
        key=f"payment-failed:{purchase.id}",
        kind="payment_failed",
        subject="Your payment did not go through",
        heading="Your payment did not go through",
        paragraphs=(
            "The bank did not accept the payment, so nothing was charged. You can try again with the same card or "
            "another one.",
            "If you have paid in another try by now, you need not do anything: another letter confirms it.",
        ),
        facts=[*facts_of(purchase), *reason],
        label="Try again",
        link=address_of("billing.checkout"),
    )
    to_staff(
        key=f"admin-payment-failed:{purchase.id}",
        kind="admin_payment_failed",
        subject="A payment failed",
        heading="A payment failed",
        paragraphs=("The bank did not accept a customer's payment. The customer was told, and can try again.",),
        facts=[("Customer", user.email), *facts_of(purchase), *reason],
    )


def paid_twice(user: User, purchase: Purchase, earlier: Purchase) -> None:
    """Both sides hear of a second payment for the same thing; the customer can have it back by one click."""
    to_customer(
        user,
        key=f"paid-twice:{purchase.id}",
        kind="paid_twice",
        subject="You paid twice. Do you want the second payment back?",
        heading="You paid twice",
        paragraphs=(
            "An earlier payment of yours covers what you have just paid for. You can have the second payment back: "
            "press the button on your dashboard, and the money goes back to where it came from.",
        ),
        facts=[*facts_of(purchase), ("Earlier purchase", earlier.ref)],
        label="Have it back",
    )
    to_staff(
        key=f"admin-paid-twice:{purchase.id}",
        kind="admin_paid_twice",
        subject="A customer paid twice for the same thing",
        heading="Paid twice",
        paragraphs=(
            "This customer has paid for a plan that an earlier purchase of theirs covers already. The customer was "
            "offered the second payment back and need only press a button; you can refund it just as well.",
        ),
        facts=[("Customer", user.email), *facts_of(purchase), ("Earlier purchase", earlier.ref)],
    )


def renewal_failed(user: User, subscription: Subscription, plan: Plan, until: datetime | None) -> None:
    mark = as_moment(until) if until else ""
    to_customer(
        user,
        key=f"renewal-failed:{subscription.id}:{subscription.period_end}",
        kind="renewal_failed",
        subject=f"The renewal of your subscription failed: {plan.name}",
        heading="The renewal of your subscription failed",
        paragraphs=(
            "Your bank did not accept the payment for the next period. It is tried again by itself; please see that "
            "your card is valid.",
            f"Your access goes on until {mark}, and rests from then on until the payment arrives."
            if mark
            else "Your access goes on for now.",
        ),
        facts=[("Subscription", plan.name)],
        label="Mend the payment",
    )


def subscription_paused(user: User, subscription: Subscription, plan: Plan, because: str) -> None:
    to_customer(
        user,
        key=f"subscription-paused:{subscription.id}:{subscription.settled}",
        kind="subscription_paused",
        subject=f"Your access rests: {plan.name}",
        heading="Your access rests",
        paragraphs=(f"Your access rests because {because}. It comes back by itself once the payment arrives.",),
        facts=[("Subscription", plan.name)],
        label="Mend the payment",
    )


def subscription_ended(user: User, subscription: Subscription, plan: Plan, because: str) -> None:
    to_customer(
        user,
        key=f"subscription-ended:{subscription.id}:{subscription.settled}",
        kind="subscription_ended",
        subject=f"Your subscription has ended: {plan.name}",
        heading="Your subscription has ended",
        paragraphs=(f"It ended because {because}. Nothing more will be charged for it.",),
        facts=[("Subscription", plan.name)],
    )


def subscription_stuck(subscription: Subscription) -> None:
    to_staff(
        key=f"admin-subscription-stuck:{subscription.id}:{subscription.attempt}",
        kind="admin_subscription_stuck",
        subject="A subscription needs a person",
        heading="A subscription needs a person",
        paragraphs=("Stripe keeps refusing what the store asks about this subscription. Look at it there.",),
        facts=[
            ("Subscription", subscription.external_id),
            ("To be ended because", subscription.cancel_because or "it is not to be ended"),
            ("Last answer", subscription.last_reason or "none"),
        ],
    )


def checkout_left(user: User, purchase: Purchase, plan: Plan) -> None:
    """The one letter about a checkout that was left, for those who asked for it."""
    to_customer(
        user,
        key=f"checkout-left:{purchase.id}",
        kind="checkout_left",
        subject=f"Still interested in {plan.name}?",
        heading="You did not finish",
        paragraphs=(
            "You asked us to write once if you leave the payment page. Nothing was charged. You can go on whenever "
            "you like, at the price that is shown then.",
            "This is the only letter about it.",
        ),
        facts=[("You were about to buy", plan.name)],
        label="Go on",
        link=address_of("billing.checkout", plan=plan.slug),
    )


def event_stuck(event: WebhookEvent) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-event-stuck:{event.id}:{int(clock.now().timestamp())}:{number}",
            kind="admin_event_stuck",
            to=address,
            subject=f"A payment event needs a person: {event.type}",
            template="billing/letters/event_stuck",
            context={"event": event, "link": address_of("admin.overview")},
        )


def does_not_add_up(comparison_id: int, findings: Sequence[str]) -> None:
    to_staff(
        key=f"admin-does-not-add-up:{comparison_id}",
        kind="admin_does_not_add_up",
        subject="Our books and Stripe's differ",
        heading="Our books and Stripe's differ",
        paragraphs=("The daily comparison found what it could not put right by itself:", *findings[:20]),
        facts=[("Findings", str(len(findings)))],
    )
