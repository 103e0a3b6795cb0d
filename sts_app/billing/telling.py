"""Who hears of what became of a purchase. Asked once access has followed the money, so that no letter has to guess."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from sts_app.accounts.models import User
from sts_app.billing import letters, letters_money, letters_trouble, offers, queries, subscriptions
from sts_app.billing.held import Held, held_by
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription
from sts_app.billing.rules import BACK, INQUIRY, OPEN, RefundState, SubscriptionState
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.db import db

# A refund is a piece of news while its money may still be on its way.
NEWS = timedelta(days=14)


@dataclass(frozen=True)
class Change:
    """A refund or a dispute that stands otherwise than `before`, which is None for one that was not known."""

    row: Refund | Dispute
    before: str | None


def bought(purchase: Purchase, earlier: Purchase | None) -> None:
    """Money came in: both sides hear of it, and of the `earlier` payment for the same thing, if there is one.

    For an account that had closed they hear that it goes back.
    """
    user, plan = db.session.get_one(User, purchase.user_id), queries.plan_of(purchase)
    if user.closed_at is not None:
        letters_trouble.paid_after_closing(purchase)
        letters_money.paid_after_closing(user, purchase)
        return
    letters.purchase_confirmed(user, purchase, plan, _held(user, purchase), () if earlier else _renewal(purchase, plan))
    letters.new_purchase(user, purchase)
    if earlier is not None:
        letters.paid_twice(user, purchase, earlier)


def changed(purchase: Purchase, changes: Iterable[Change]) -> None:
    """Refunds and disputes moved on: each is told to whoever has to know."""
    user = db.session.get_one(User, purchase.user_id)
    for change in changes:
        if isinstance(change.row, Refund):
            _refund(user, purchase, change.row, change.before)
        else:
            _dispute(user, purchase, change.row, change.before)


def part_went_back(purchase: Purchase, back_cents: int) -> None:
    """A part is back, `back_cents` in all, and nobody has said what that means for access: staff are asked."""
    letters_money.partial_refund(db.session.get_one(User, purchase.user_id), purchase, back_cents)


def part_was_decided(purchase: Purchase) -> None:
    """Staff said what a part that went back means, and that changed the access it was paid for."""
    user = db.session.get_one(User, purchase.user_id)
    letters_money.part_decided(user, purchase, _held(user, purchase))


def _refund(user: User, purchase: Purchase, refund: Refund, before: str | None) -> None:
    if before is None and refund.created_at < clock.now() - NEWS:
        return
    held = _held(user, purchase)
    if refund.state in BACK and before not in BACK:
        letters_money.refunded(user, purchase, refund, held)
    elif refund.state in (RefundState.FAILED, RefundState.CANCELED) and before in BACK:
        letters_money.refund_failed(user, purchase, refund, held, ended=_ended_subscription(purchase))


def _dispute(user: User, purchase: Purchase, dispute: Dispute, before: str | None) -> None:
    held = _held(user, purchase)
    if dispute.status in OPEN and before not in OPEN:
        letters_money.dispute_opened(user, purchase, dispute, held)
    elif dispute.status in INQUIRY and before is None:
        letters_money.inquiry_opened(user, purchase, dispute)
    elif dispute.status in ("won", "lost"):
        letters_money.dispute_closed(user, purchase, dispute, held)


def _held(user: User, purchase: Purchase) -> Held:
    """What they hold of what was bought, and what of it waits for a look at the subscription that this pays for."""
    held = held_by(user.id, queries.plan_of(purchase))
    if purchase.subscription_id is None:
        return held
    subscription = db.session.get_one(Subscription, purchase.subscription_id)
    return replace(
        held,
        begins=subscription.state == SubscriptionState.NONE,
        may_end=subscriptions.may_end(purchase.subscription_id),
    )


def _renewal(purchase: Purchase, plan: Plan) -> tuple[str, ...]:
    """How the subscription goes on, for the price at which its checkout began."""
    cents = queries.subscribed_for(purchase.subscription_id) if purchase.subscription_id is not None else None
    return offers.renewal_of(plan, cents)


def _ended_subscription(purchase: Purchase) -> Subscription | None:
    """The subscription that a purchase pays for, when it is over or the store has asked for its end."""
    if purchase.subscription_id is None:
        return None
    subscription = db.session.get_one(Subscription, purchase.subscription_id)
    goes_on = subscription.status in subscriptions.LIVE and subscription.cancel_because is None
    return None if goes_on else subscription
