"""What a person holds already, strategy by strategy, so that nobody pays twice for it.

What was bought for good covers a plan of either kind. A subscription covers other subscriptions alone: who
subscribes may always buy for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sts_app.billing import queries
from sts_app.billing.models import Purchase, Subscription
from sts_app.billing.rules import Access, SubscriptionState
from sts_app.billing.words import covered_in_words
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db


@dataclass(frozen=True)
class Holding:
    """One thing by which a person holds what a plan covers: a payment for good, or a subscription that is not over.

    `purchase` is the payment, of a subscription the one that began it; None where a subscription's is not known.
    """

    plan: Plan
    strategies: frozenset[int]
    purchase: Purchase | None
    subscription: Subscription | None = None

    @property
    def is_disputed(self) -> bool:
        """Whether a bank decides about the payment for good."""
        return self.subscription is None and self.purchase is not None and self.purchase.access == Access.SUSPENDED

    @property
    def is_unpaid(self) -> bool:
        """Whether it is a subscription that waits for money, and may end without it."""
        waits = (SubscriptionState.GRACE, SubscriptionState.PAUSED)
        return self.subscription is not None and self.subscription.state in waits


def holdings_of(user_id: int) -> list[Holding]:
    """Everything by which a person holds strategies, what was bought for good first, each kind oldest first.

    A payment that is disputed counts until the bank has decided, and a subscription that waits for a payment
    until it ends; one that the store is ending counts no more.
    """
    paid = db.session.scalars(
        sa.select(Purchase).where(Purchase.user_id == user_id, Purchase.access.in_(queries.HOLDS)).order_by(Purchase.id)
    ).all()
    for_good = [each for each in paid if each.subscription_id is None]
    begun_by: dict[int, Purchase] = {}
    for each in paid:
        if each.subscription_id is not None:
            begun_by.setdefault(each.subscription_id, each)
    running = [
        each
        for each in reversed(queries.subscriptions_of(user_id))
        if each.cancel_because is None
        and each.state != SubscriptionState.ENDED
        # What was paid and not looked at yet runs as soon as it is.
        and (each.state != SubscriptionState.NONE or each.id in begun_by)
    ]
    wanted = {each.plan_id for each in for_good} | {each.plan_id for each in running}
    plans = {plan.id: (plan, _covers(plan)) for plan in catalog.all_plans() if plan.id in wanted} if wanted else {}
    return [Holding(*plans[each.plan_id], each) for each in for_good if plans[each.plan_id][0].mode == Mode.PAYMENT] + [
        Holding(*plans[each.plan_id], begun_by.get(each.id), each) for each in running
    ]


def covering(holdings: Sequence[Holding], plan: Plan) -> tuple[Holding, ...]:
    """Those of `holdings` that give all that `plan` gives, one where one is enough; none where anything is missing."""
    fit = [each for each in holdings if each.subscription is None or plan.mode == Mode.SUBSCRIPTION]
    wanted = _covers(plan)
    for each in fit:
        if each.plan.id == plan.id or each.plan.covers_all or (wanted and wanted <= each.strategies):
            return (each,)
    if not wanted or not wanted <= frozenset().union(*(each.strategies for each in fit)):
        return ()
    return tuple(each for each in fit if each.strategies & wanted)


def owns(user_id: int, plan: Plan) -> bool:
    """Whether this person holds everything that a plan covers, and is not charged for it."""
    return bool(covering(holdings_of(user_id), plan))


def refusal_of(user_id: int, plan: Plan) -> str | None:
    """Why nothing more is charged for a plan: it is held already, or its payment is under way. None where it is not."""
    held = covering(holdings_of(user_id), plan)
    if held:
        first = held[0]
        return covered_in_words(plan, [each.plan for each in held], first.subscription, is_disputed=first.is_disputed)
    if payment_under_way(user_id, plan) is not None:
        return (
            f"Your payment for {plan.name} is with your bank, which has not confirmed it yet. Nothing more was "
            "charged. A letter comes when it has arrived. If it fails, you can try again here."
        )
    return None


def payment_under_way(user_id: int, plan: Plan) -> Purchase | None:
    """The payment for a plan that its buyer has made and the bank has neither confirmed nor declined."""
    purchase = queries.open_purchase_of(user_id, plan.id)
    return purchase if purchase is not None and purchase.with_bank else None


def replaced_by(user_id: int, plan: Plan) -> list[Subscription]:
    """The subscriptions that end at once when this person buys a plan for good."""
    if plan.mode != Mode.PAYMENT:
        return []
    return [each for each in queries.live_subscriptions_of(user_id) if _is_replaced(each, plan)]


def running_beside(user_id: int, plan: Plan) -> list[Plan]:
    """What this person subscribes to that a subscription to `plan` includes, and that would run on beside it."""
    if plan.mode != Mode.SUBSCRIPTION:
        return []
    live = {each.id for each in queries.live_subscriptions_of(user_id) if _is_replaced(each, plan)}
    return [
        each.plan
        for each in holdings_of(user_id)
        if each.subscription is not None and each.subscription.id in live and each.subscription.ends_at is None
    ]


def earlier_subscription(purchase: Purchase) -> Purchase | None:
    """An earlier payment by which the payer of this subscription holds everything that it gives.

    A renewal does not give way to one that waits for a payment itself.
    """
    others = [
        each
        for each in holdings_of(purchase.user_id)
        if each.purchase is not None
        and each.purchase.id != purchase.id
        and (each.subscription is None or each.subscription.id != purchase.subscription_id)
        and not (purchase.is_renewal and each.is_unpaid)
    ]
    held = covering(others, queries.plan_of(purchase))
    return held[0].purchase if held else None


def earlier_payment(purchase: Purchase) -> Purchase | None:
    """An earlier payment for good by which the buyer holds everything that this one gives."""
    others = [
        each
        for each in holdings_of(purchase.user_id)
        if each.subscription is None and each.purchase is not None and each.purchase.id != purchase.id
    ]
    held = covering(others, queries.plan_of(purchase))
    return held[0].purchase if held else None


def bought_while_away(purchase: Purchase) -> list[Purchase]:
    """What its buyer has paid for while the money of a purchase for good was gone, and holds twice now that it is back.

    What was paid for while its money was there is flagged as paid twice, and left out.
    """
    holdings = holdings_of(purchase.user_id)
    own = [each for each in holdings if each.purchase is not None and each.purchase.id == purchase.id]
    return [
        each.purchase
        for each in holdings
        if each not in own
        and each.purchase is not None
        and each.purchase.duplicate_of_id is None
        and _came_later(each.purchase, purchase)
        and (covering([each], queries.plan_of(purchase)) or covering(own, each.plan))
    ]


def _came_later(one: Purchase, other: Purchase) -> bool:
    if one.paid_at is None or other.paid_at is None:
        return False
    return (one.paid_at, one.id) > (other.paid_at, other.id)


def _covers(plan: Plan) -> frozenset[int]:
    """Ids of what a plan lists, drafts among them: they are given once they are on sale. Empty where it covers all."""
    return frozenset() if plan.covers_all else frozenset(each.id for each in catalog.listed_strategies(plan))


def _is_replaced(subscription: Subscription, plan: Plan) -> bool:
    return subscription.cancel_because is None and {
        each.id for each in catalog.covered_strategies(db.session.get_one(Plan, subscription.plan_id))
    } <= {each.id for each in catalog.covered_strategies(plan)}
