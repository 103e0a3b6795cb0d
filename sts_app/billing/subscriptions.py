"""Subscriptions: kept in step with the provider's word, their renewals, and their end when lifetime access was bought.

A subscription goes back and forth, so facts have no order of their own. They are applied only if nobody
has applied any since they began to be fetched (`Subscription.settled`); else they are fetched again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import letters, queries, reasons
from sts_app.billing.gateway import (
    InvoiceFacts,
    Payments,
    PaymentsError,
    Refused,
    SubscriptionFacts,
    SubscriptionStatus,
    TryLater,
)
from sts_app.billing.models import Purchase, Subscription
from sts_app.billing.rules import (
    WENT_BACK,
    Access,
    PurchaseStatus,
    SubscriptionStanding,
    SubscriptionState,
    subscription_standing,
)
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.queue import wake
from sts_app.provisioning import services as provisioning

log = structlog.get_logger()

# A renewal that no event told of is looked for so long after the paid time ran out, and every day.
AFTER_PERIOD = timedelta(hours=1)
DAILY = timedelta(days=1)
DELAYS = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 120, 600, 1800, 3600))
LIVE = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete")


def expect(external_id: str, purchase: Purchase) -> Subscription:
    """The subscription that a checkout began, made when it is new; a worker looks it up at once."""
    db.session.execute(
        insert(Subscription)
        .values(
            external_id=external_id,
            user_id=purchase.user_id,
            plan_id=purchase.plan_id,
            status="incomplete",
            state=SubscriptionState.NONE,
            started_at=clock.now(),
            next_look_up_at=clock.now(),
            settled=0,
            attempt=1,
            tries=0,
            created_at=clock.now(),
        )
        .on_conflict_do_nothing()
    )
    wake("billing.work")
    return db.session.scalars(sa.select(Subscription).where(Subscription.external_id == external_id)).one()


def follow(subscription_id: int) -> None:
    """Let the entitlement follow what the subscription and the money of its latest payment mean now."""
    subscription = db.session.get_one(Subscription, subscription_id, with_for_update=True, populate_existing=True)
    standing = _standing(subscription)
    before = SubscriptionState(subscription.state)
    subscription.state = standing.state
    source = source_of(subscription.id)
    if before is not standing.state:
        audit.record(
            "system", f"billing.subscription_{standing.state}", f"subscription:{subscription.id}", before=before.value
        )
    match standing.state:
        case SubscriptionState.RUNNING | SubscriptionState.GRACE:
            plan = db.session.get_one(Plan, subscription.plan_id)
            provisioning.entitle(
                subscription.user_id, plan, source=source, paid_at=subscription.started_at, actor="system"
            )
            reasons.let_stand(source, because="the subscription runs")
            # Its end comes by its date, whether or not anybody tells us of it.
            provisioning.set_end(source, ends_at=subscription.ends_at, because="its end was set", actor="system")
        case SubscriptionState.PAUSED:
            reasons.let_rest(source, because=standing.because)
        case SubscriptionState.ENDED:
            reasons.let_end(source, because=standing.because)
    if before is not standing.state:
        _tell(subscription, before, standing)
    if standing.because == WENT_BACK and subscription.status in LIVE and subscription.cancel_because is None:
        # Who has the money back is not charged again.
        cancel(subscription, because=standing.because, actor="system")


def refuse_second(purchase: Purchase) -> Purchase | None:
    """End a subscription at once whose payer has what it gives already. The purchase that gave it, None for a first."""
    if purchase.subscription_id is None:
        return None
    earlier = queries.owned_for_good(purchase.user_id) or queries.other_subscription_purchase(purchase)
    if earlier is None:
        return None
    subscription = db.session.get_one(
        Subscription, purchase.subscription_id, with_for_update=True, populate_existing=True
    )
    if subscription.cancel_because is None and subscription.status in LIVE:
        cancel(subscription, because="its payer had this already", actor="system")
    return earlier


def replace_by(purchase: Purchase, plan: Plan) -> None:
    """End every subscription to what a purchase for good covers as well: there is no gap, and no later charge."""
    covered = {strategy.id for strategy in catalog.covered_strategies(plan)}
    for subscription in queries.live_subscriptions_of(purchase.user_id):
        its = catalog.covered_strategies(db.session.get_one(Plan, subscription.plan_id))
        if subscription.cancel_because is None and {strategy.id for strategy in its} <= covered:
            cancel(subscription, because="lifetime access was bought", actor="system")
    db.session.flush()


def cancel(subscription: Subscription, *, because: str, actor: str) -> None:
    """Have a subscription ended at the provider, now and with no further charge."""
    subscription.cancel_because = because
    subscription.next_look_up_at = clock.now()
    audit.record(actor, "billing.subscription_cancel_asked", f"subscription:{subscription.id}", because=because)
    wake("billing.work")


@dataclass
class LookUp:
    """One claimed look at a subscription, which may have to be ended first."""

    token: str
    subscription_id: int
    external_id: str
    settled: int
    cancel_key: str | None
    facts: SubscriptionFacts | None = None
    trouble: PaymentsError | None = None

    def call(self, gateway: Payments) -> None:
        try:
            if self.cancel_key is not None:
                gateway.cancel_subscription(self.external_id, key=self.cancel_key)
            self.facts = gateway.look_up_subscription(self.external_id)
        except PaymentsError as trouble:
            self.trouble = trouble

    def settle(self) -> None:
        now = clock.now()
        subscription = _locked(self.subscription_id)
        if subscription.lease_token != self.token:
            return
        subscription.lease_token = subscription.leased_until = None
        if self.trouble is not None:
            _again(subscription, self.trouble)
            return
        if self.facts is None or subscription.settled != self.settled:
            subscription.next_look_up_at = now
            wake("billing.work")
            return
        apply_facts(subscription, self.facts)

    def give_back(self) -> None:
        subscription = _locked(self.subscription_id)
        if subscription.lease_token == self.token:
            subscription.lease_token = subscription.leased_until = None
            _again(subscription, TryLater("settling it broke; the log has the trace"))


def claim() -> LookUp | None:
    """Take one subscription that is due to be looked at."""
    now = clock.now()
    subscription = db.session.scalar(
        sa.select(Subscription)
        .where(queries.subscription_is_due(now))
        .order_by(Subscription.next_look_up_at, Subscription.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if subscription is None:
        return None
    subscription.lease_token = tokens.new_secret()
    subscription.leased_until = now + timedelta(seconds=current_app.config["STS"].lease_seconds)
    key = f"cancel-{subscription.external_id}-{subscription.attempt}" if subscription.cancel_because else None
    return LookUp(subscription.lease_token, subscription.id, subscription.external_id, subscription.settled, key)


def apply_facts(subscription: Subscription, facts: SubscriptionFacts) -> None:
    """Bring a subscription and its renewals in step with what the provider says. The row is locked by the caller."""
    now = clock.now()
    if facts.status == "past_due":
        subscription.past_due_since = subscription.past_due_since or now
    else:
        subscription.past_due_since = None
    subscription.status, subscription.started_at = facts.status, facts.started_at
    subscription.period_end, subscription.ends_at, subscription.ended_at = (
        facts.period_end,
        facts.ends_at,
        facts.ended_at,
    )
    subscription.settled += 1
    subscription.tries, subscription.last_reason = 0, None
    if facts.status in ("canceled", "incomplete_expired"):
        subscription.cancel_because = None
        subscription.next_look_up_at = None
    else:
        # What the store wants to have ended is ended at once, whatever was heard of it meanwhile.
        subscription.next_look_up_at = now if subscription.cancel_because else _next_look(subscription)
    db.session.flush()
    for invoice in facts.invoices:
        if invoice.status == "paid" and not invoice.is_first:
            _keep_renewal(subscription, invoice)
    follow(subscription.id)
    standing = _standing(subscription)
    if standing.until is not None and standing.state is SubscriptionState.GRACE:
        subscription.next_look_up_at = min(subscription.next_look_up_at or standing.until, standing.until)


def source_of(subscription_id: int) -> str:
    """The name under which provisioning knows this subscription as a reason for access."""
    return f"subscription:{subscription_id}"


def _standing(subscription: Subscription) -> SubscriptionStanding:
    settings = current_app.config["STS"]
    return subscription_standing(
        cast(SubscriptionStatus, subscription.status),
        money=queries.access_of_latest_payment(subscription.id),
        past_due_since=subscription.past_due_since,
        ends_at=subscription.ends_at,
        grace=timedelta(days=settings.subscription_grace_days),
        now=clock.now(),
    )


def _keep_renewal(subscription: Subscription, invoice: InvoiceFacts) -> None:
    """The purchase row of a renewal that was paid, made when it is new."""
    made = db.session.scalar(
        insert(Purchase)
        .values(
            ref=f"pur_{tokens.new_secret()[:24]}",
            user_id=subscription.user_id,
            plan_id=subscription.plan_id,
            subscription_id=subscription.id,
            status=PurchaseStatus.COMPLETED,
            access=Access.STANDS,
            amount_cents=invoice.amount_paid,
            currency=invoice.currency,
            intent_id=invoice.intent_id,
            invoice_id=invoice.id,
            paid_at=invoice.paid_at or clock.now(),
            refunded_cents=0,
            checkout_attempt=1,
            look_ups=0,
            # Its refunds and disputes, if any came before it was known, are found by looking.
            next_look_up_at=clock.now(),
            created_at=clock.now(),
        )
        .on_conflict_do_nothing()
        .returning(Purchase.id)
    )
    if made is None:
        return
    purchase = db.session.get_one(Purchase, made)
    audit.record("system", "billing.renewed", f"purchase:{made}", subscription=subscription.id)
    user = db.session.get_one(User, subscription.user_id)
    plan = db.session.get_one(Plan, subscription.plan_id)
    letters.renewed(user, purchase, plan)
    earlier = refuse_second(purchase)
    if earlier is not None:
        purchase.duplicate_of_id = earlier.id
        letters.paid_twice(user, purchase, earlier)
    wake("billing.work")


def _next_look(subscription: Subscription) -> datetime:
    now = clock.now()
    daily: datetime = now + current_app.config["STS"].scaled(DAILY)
    if subscription.period_end is None:
        return daily
    after = subscription.period_end + AFTER_PERIOD
    return min(after, daily) if after > now else daily


def _again(subscription: Subscription, trouble: PaymentsError) -> None:
    settings = current_app.config["STS"]
    subscription.tries += 1
    subscription.last_reason = trouble.reason
    delay = settings.scaled(DELAYS[min(subscription.tries, len(DELAYS)) - 1])
    if isinstance(trouble, TryLater) and trouble.after is not None:
        delay = max(delay, trouble.after)
    if isinstance(trouble, TryLater) and trouble.answered:
        subscription.attempt += 1
    if isinstance(trouble, Refused) and subscription.tries == len(DELAYS):
        letters.subscription_stuck(subscription)
    subscription.next_look_up_at = clock.now() + delay
    wake("billing.work", after=delay)


def _tell(subscription: Subscription, before: SubscriptionState, standing: SubscriptionStanding) -> None:
    user = db.session.get_one(User, subscription.user_id)
    plan = db.session.get_one(Plan, subscription.plan_id)
    if standing.state is SubscriptionState.GRACE:
        letters.renewal_failed(user, subscription, plan, standing.until)
    elif standing.state is SubscriptionState.PAUSED and before is not SubscriptionState.NONE:
        letters.subscription_paused(user, subscription, plan, standing.because)
    elif standing.state is SubscriptionState.ENDED and before is not SubscriptionState.NONE:
        letters.subscription_ended(user, subscription, plan, standing.because)


def _locked(subscription_id: int) -> Subscription:
    return db.session.get_one(Subscription, subscription_id, with_for_update=True, populate_existing=True)
