"""What a customer sees of their money: each purchase with what became of it, and each subscription."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing import customers, queries, withdrawals
from sts_app.billing.gateway import DisputeStatus, SubscriptionStatus
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription, Withdrawal
from sts_app.billing.rules import OPEN, Access, PurchaseStatus, RefundState, SubscriptionState, subscription_standing
from sts_app.billing.words import (
    access_in_words,
    dispute_in_words,
    price_of,
    refund_in_words,
    subscription_in_words,
    withdrawal_in_words,
)
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.money import as_money

REPLACED = "Lifetime access replaces it: it then ends by itself, without a gap and without another charge."


@dataclass(frozen=True)
class ShownPurchase:
    """One purchase as its buyer sees it.

    `plan` is what was bought, None for the lifetime plan, which goes without saying. `lines` are sentences
    on what became of the money, oldest first. `papers` says whether there may be a receipt and an invoice;
    `offers_refund` whether it can be had back by a press, as a second payment for the same thing;
    `withdraw_until` is the end of the law's days while they run and nobody withdrew (`withdrawn`).
    """

    purchase: Purchase
    plan: Plan | None
    lines: tuple[str, ...]
    papers: bool
    offers_refund: bool
    withdraw_until: datetime | None
    withdrawn: bool

    @property
    def is_open(self) -> bool:
        return self.purchase.status == PurchaseStatus.PENDING


@dataclass(frozen=True)
class ShownSubscription:
    """One subscription as its holder sees it. `goes_on` says whether the provider may still charge for it."""

    subscription: Subscription
    plan: Plan
    price: str
    words: str
    goes_on: bool


def purchases_of(user_id: int, now: datetime) -> list[ShownPurchase]:
    """Every purchase of a person, newest first."""
    purchases = queries.purchases_of(user_id)
    if not purchases:
        return []
    refunds, disputes = queries.refunds_of_person(user_id), queries.disputes_of_person(user_id)
    withdrawn = {withdrawal.purchase_id: withdrawal for withdrawal in queries.withdrawals_of_person(user_id)}
    plans = {plan.id: plan for plan in catalog.all_plans()}
    by_id = {purchase.id: purchase for purchase in purchases}
    return [
        _shown(
            purchase,
            plans[purchase.plan_id],
            [refund for refund in refunds if refund.purchase_id == purchase.id],
            [dispute for dispute in disputes if dispute.purchase_id == purchase.id],
            withdrawn.get(purchase.id),
            by_id.get(purchase.duplicate_of_id) if purchase.duplicate_of_id is not None else None,
            now,
        )
        for purchase in purchases
    ]


def subscriptions_of(user_id: int) -> list[ShownSubscription]:
    """Every subscription of a person that was paid for at least once, newest first."""
    begun = [each for each in queries.subscriptions_of(user_id) if each.state != SubscriptionState.NONE]
    plans = {plan.id: plan for plan in catalog.all_plans()} if begun else {}
    return [shown_subscription(each, plans[each.plan_id]) for each in begun]


def shown_subscription(subscription: Subscription, plan: Plan) -> ShownSubscription:
    """One subscription as its holder sees it now."""
    standing = subscription_standing(
        cast(SubscriptionStatus, subscription.status),
        money=queries.access_of_latest_payment(subscription.id),
        past_due_since=subscription.past_due_since,
        ends_at=subscription.ends_at,
        grace=timedelta(days=current_app.config["STS"].subscription_grace_days),
        now=clock.now(),
    )
    # Stripe keeps charging what was agreed to, whatever the plan costs today.
    price = price_of(plan, queries.subscribed_for(subscription.id))
    goes_on = subscription.status not in ("canceled", "incomplete_expired")
    return ShownSubscription(
        subscription, plan, price, subscription_in_words(subscription, standing, price=price), goes_on
    )


def held_plans(user_id: int) -> dict[int, str]:
    """What this person has of each plan, by its id, in words for a page of prices; only of plans that they have."""
    held: dict[int, str] = {}
    on_sale = {plan.slug for plan in catalog.plans_on_sale()}
    for each in subscriptions_of(user_id):
        if each.subscription.state != SubscriptionState.ENDED:
            may_be_replaced = each.goes_on and not each.subscription.cancel_because and catalog.LIFETIME in on_sale
            held[each.plan.id] = f"{each.words} {REPLACED}" if may_be_replaced else each.words
    if queries.owned_for_good(user_id) is not None:
        covered = "Your lifetime access includes this. There is nothing more to pay."
        held = {plan.id: covered for plan in catalog.plans_on_sale()} | held
    for purchase in queries.purchases_of(user_id):
        if purchase.subscription_id is None and purchase.access in queries.HOLDS:
            held.setdefault(purchase.plan_id, "You have bought this. There is nothing more to pay.")
    return held


def withdrawable(user_id: int) -> list[ShownPurchase]:
    """The purchases that can be withdrawn from, or were, newest first."""
    shown = purchases_of(user_id, clock.now())
    return [each for each in shown if each.withdrawn or withdrawals.is_open_to(each.purchase)]


def has_portal(user: User) -> bool:
    """Whether the provider has something to show to this person: they are known there, and have paid."""
    paid = any(PurchaseStatus(purchase.status).was_paid for purchase in queries.purchases_of(user.id))
    return paid and customers.of(user) is not None


def _shown(
    purchase: Purchase,
    plan: Plan,
    refunds: Iterable[Refund],
    disputes: Iterable[Dispute],
    withdrawal: Withdrawal | None,
    earlier: Purchase | None,
    now: datetime,
) -> ShownPurchase:
    status = PurchaseStatus(purchase.status)
    refunds, disputes = list(refunds), list(disputes)
    lines = [withdrawal_in_words(withdrawal)] if withdrawal is not None else []
    lines += [
        refund_in_words(RefundState(refund.state), as_money(refund.amount_cents, refund.currency)) for refund in refunds
    ]
    lines += [dispute_in_words(cast(DisputeStatus, dispute.status)) for dispute in disputes]
    if refunds or disputes:
        lines.append(access_in_words(Access(purchase.access)))
    until = withdrawals.runs_until(purchase)
    may_withdraw = withdrawal is None and until is not None and now < until and withdrawals.is_open_to(purchase)
    is_intended = any(refund.state == RefundState.INTENDED for refund in refunds)
    return ShownPurchase(
        purchase=purchase,
        plan=None if plan.slug == catalog.LIFETIME else plan,
        lines=tuple(lines),
        papers=status.was_paid,
        offers_refund=(
            earlier is not None
            and PurchaseStatus(earlier.status).is_paid
            and withdrawals.is_open_to(purchase)
            and not is_intended
            and not any(dispute.status in OPEN for dispute in disputes)
        ),
        withdraw_until=until if may_withdraw else None,
        withdrawn=withdrawal is not None,
    )
