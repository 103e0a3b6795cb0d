"""What a customer sees of their money: each purchase with what became of it, and each subscription."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing import covered, customers, queries, withdrawals
from sts_app.billing.gateway import DisputeStatus, SubscriptionStatus
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription, Withdrawal
from sts_app.billing.rules import OPEN, Access, PurchaseStatus, RefundState, SubscriptionState, subscription_standing
from sts_app.billing.words import (
    access_in_words,
    covered_in_words,
    dispute_in_words,
    price_of,
    refund_in_words,
    subscription_in_words,
    withdrawal_in_words,
)
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan, Strategy
from sts_app.core import clock
from sts_app.core.money import as_moment, as_money

REPLACED = "Lifetime access replaces it: it then ends by itself, without a gap and without another charge."
OWNED = "Lifetime access is yours, with every strategy added later."


@dataclass(frozen=True)
class Has:
    """What a visitor has of a plan, for the place where it would be offered. `tone` is that of a notice."""

    title: str
    words: str
    tone: str = "success"


@dataclass(frozen=True)
class ShownPurchase:
    """One purchase as its buyer sees it.

    `plan` is what was bought. `state` is its status, or what a bank has made of it: `declined`, `disputed`,
    `taken_back`.
    `lines` are sentences on what became of the money, oldest first. `may_retry` says whether the plan of one
    that came to nothing can be bought. `papers` says whether there may be a receipt and an invoice;
    `offers_refund` whether it can be had back by a press, as a second payment for the same thing;
    `withdraw_until` is the end of the law's days while they run and nobody withdrew (`withdrawn`). When they are
    over it may be withdrawn from still, as long as money of it is with the store (`is_open_to_withdrawal`).
    """

    purchase: Purchase
    plan: Plan
    state: str
    lines: tuple[str, ...]
    may_retry: bool
    papers: bool
    offers_refund: bool
    withdraw_until: datetime | None
    withdrawn: bool
    is_open_to_withdrawal: bool

    @property
    def is_open(self) -> bool:
        return self.purchase.status == PurchaseStatus.PENDING


@dataclass(frozen=True)
class ShownSubscription:
    """One subscription as its holder sees it. `goes_on` says whether the provider may still charge for it.

    `may_begin_again` says whether one that is over can be subscribed to anew.
    """

    subscription: Subscription
    plan: Plan
    price: str
    words: str
    goes_on: bool
    may_begin_again: bool = False

    @property
    def is_unpaid(self) -> bool:
        """Whether a renewal waits to be paid by its holder."""
        return self.subscription.status in ("past_due", "unpaid")


def purchases_of(user_id: int, now: datetime) -> list[ShownPurchase]:
    """Every purchase of a person, newest first."""
    purchases = queries.purchases_of(user_id)
    if not purchases:
        return []
    refunds, disputes = queries.refunds_of_person(user_id), queries.disputes_of_person(user_id)
    latest: dict[int, int] = {}
    for purchase in purchases:
        latest.setdefault(purchase.plan_id, purchase.id)
    withdrawn = {withdrawal.purchase_id: withdrawal for withdrawal in queries.withdrawals_of_person(user_id)}
    plans = {plan.id: plan for plan in catalog.all_plans()}
    by_id = {purchase.id: purchase for purchase in purchases}
    over = {each.id for each in queries.subscriptions_of(user_id) if each.state == SubscriptionState.ENDED}
    to_buy = _to_buy(user_id, plans.values())
    return [
        _shown(
            purchase,
            plans[purchase.plan_id],
            [refund for refund in refunds if refund.purchase_id == purchase.id],
            [dispute for dispute in disputes if dispute.purchase_id == purchase.id],
            withdrawn.get(purchase.id),
            by_id.get(purchase.duplicate_of_id) if purchase.duplicate_of_id is not None else None,
            now,
            may_retry=latest[purchase.plan_id] == purchase.id and purchase.plan_id in to_buy,
            is_over=purchase.subscription_id in over,
        )
        for purchase in purchases
    ]


def subscriptions_of(user_id: int) -> list[ShownSubscription]:
    """Every subscription of a person that was paid for at least once, newest first."""
    begun = [each for each in queries.subscriptions_of(user_id) if each.state != SubscriptionState.NONE]
    plans = {plan.id: plan for plan in catalog.all_plans()} if begun else {}
    to_buy = _to_buy(user_id, plans.values())
    latest: dict[int, int] = {}
    for each in begun:
        latest.setdefault(each.plan_id, each.id)
    return [
        replace(
            shown_subscription(each, plans[each.plan_id]),
            may_begin_again=(
                each.state == SubscriptionState.ENDED and latest[each.plan_id] == each.id and each.plan_id in to_buy
            ),
        )
        for each in begun
    ]


def _to_buy(user_id: int, plans: Iterable[Plan]) -> set[int]:
    """The ids of those plans that are on sale and that this person has nothing of that covers them."""
    holdings = covered.holdings_of(user_id)
    return {plan.id for plan in plans if plan.active and not covered.covering(holdings, plan)}


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


def held_plans(user_id: int) -> dict[int, Has]:
    """What this person has of each plan on sale, by its id; only of plans that they would not be charged for."""
    holdings = covered.holdings_of(user_id)
    on_sale = catalog.plans_on_sale()
    has_lifetime = any(plan.slug == catalog.LIFETIME for plan in on_sale)
    found: dict[int, Has] = {}
    for plan in on_sale:
        held = covered.covering(holdings, plan)
        if held:
            found[plan.id] = _has(plan, held, has_lifetime=has_lifetime)
        elif (purchase := covered.payment_under_way(user_id, plan)) is not None:
            found[plan.id] = Has(
                "Your payment is under way",
                f"Your payment of {as_moment(purchase.created_at)} is with your bank, which has not confirmed it yet: "
                "some banks take days. There is nothing more to pay. A letter comes when it has arrived, and if it "
                "fails, you can try again.",
                "info",
            )
    return found


def _has(plan: Plan, held: Sequence[covered.Holding], *, has_lifetime: bool) -> Has:
    first = held[0]
    if first.is_disputed:
        return Has(
            "Your payment is disputed",
            f"You have paid for {first.plan.name}, and your bank has the payment disputed. Your access is suspended "
            "until the bank has decided, and comes back by itself if the payment stands. There is nothing to pay "
            "meanwhile.",
            "warning",
        )
    if first.subscription is None:
        if first.plan.covers_all:
            if plan.id == first.plan.id:
                return Has("You own this", f"{OWNED} There is nothing more to pay.")
            return Has("You have this", "Your lifetime access includes this. There is nothing more to pay.")
        if plan.id == first.plan.id:
            return Has("You have this", "You have bought this. There is nothing more to pay.")
        return Has("You have this", covered_in_words(plan, [each.plan for each in held], None))
    shown = shown_subscription(first.subscription, first.plan)
    if plan.id != first.plan.id:
        names = " and ".join(each.plan.name for each in held)
        return Has(
            "You have what this covers",
            f"{names} covers this already, so you would pay twice. To change over, end it on your dashboard, and "
            "subscribe to this when it has ended.",
        )
    may_be_replaced = shown.goes_on and not first.subscription.cancel_because and has_lifetime
    return Has("You have this", f"{shown.words} {REPLACED}" if may_be_replaced else shown.words)


def plans_giving(user_id: int, strategy: Strategy) -> tuple[str, ...]:
    """The names of the plans by which a person holds a strategy; a payment that is disputed gives none for now."""
    return tuple(
        dict.fromkeys(
            each.plan.name
            for each in covered.holdings_of(user_id)
            if (each.plan.covers_all or strategy.id in each.strategies)
            and not each.is_disputed
            and (
                each.subscription is None
                or each.subscription.state in (SubscriptionState.RUNNING, SubscriptionState.GRACE)
            )
        )
    )


def withdrawable(user_id: int) -> list[ShownPurchase]:
    """The purchases that can be withdrawn from, or were, newest first."""
    shown = purchases_of(user_id, clock.now())
    return [each for each in shown if each.withdrawn or each.is_open_to_withdrawal]


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
    *,
    may_retry: bool,
    is_over: bool,
) -> ShownPurchase:
    status = PurchaseStatus(purchase.status)
    refunds, disputes = list(refunds), list(disputes)
    lines = [withdrawal_in_words(withdrawal)] if withdrawal is not None else []
    lines += [
        refund_in_words(
            RefundState(refund.state),
            as_money(refund.amount_cents, refund.currency),
            is_held_up=refund.trouble_lasts,
        )
        for refund in refunds
    ]
    lines += [dispute_in_words(cast(DisputeStatus, dispute.status)) for dispute in disputes]
    if (refunds or disputes) and not is_over:
        lines.append(access_in_words(Access(purchase.access)))
    until = withdrawals.runs_until(purchase)
    is_open = withdrawals.is_open_to(purchase, disputes)
    may_withdraw = withdrawal is None and until is not None and now < until and is_open
    is_intended = any(refund.state == RefundState.INTENDED for refund in refunds)
    if status.was_paid and not purchase.amount_cents:
        lines.insert(0, "It cost nothing, so there is neither a receipt nor an invoice.")
    return ShownPurchase(
        purchase=purchase,
        plan=plan,
        state=_state(purchase, disputes),
        lines=tuple(lines),
        may_retry=may_retry and status in (PurchaseStatus.FAILED, PurchaseStatus.EXPIRED),
        papers=status.was_paid and purchase.amount_cents > 0,
        offers_refund=(
            earlier is not None
            and earlier.access == Access.STANDS
            and is_open
            and not is_intended
            and not any(dispute.status in OPEN for dispute in disputes)
        ),
        withdraw_until=until if may_withdraw else None,
        withdrawn=withdrawal is not None,
        is_open_to_withdrawal=is_open,
    )


def _state(purchase: Purchase, disputes: Sequence[Dispute]) -> str:
    """The status of a purchase, but where a bank has its money, decides about it, or declined the last try."""
    if PurchaseStatus(purchase.status).is_paid:
        if any(dispute.status in OPEN for dispute in disputes):
            return "disputed"
        if any(dispute.status == "lost" for dispute in disputes):
            return "taken_back"
    if purchase.status == PurchaseStatus.PENDING and purchase.declined_because and not purchase.with_bank:
        return "declined"
    return purchase.status.lower()
