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

from sts_app.accounts import privacy
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import covered, lease, letters, letters_money, letters_owed, letters_trouble, queries, reasons
from sts_app.billing.gateway import (
    InvoiceFacts,
    Payments,
    PaymentsError,
    Refused,
    SubscriptionFacts,
    SubscriptionStatus,
    TryLater,
)
from sts_app.billing.held import held_by
from sts_app.billing.models import Purchase, Subscription
from sts_app.billing.rules import (
    RENEWAL_DISPUTED,
    WENT_BACK,
    Access,
    PurchaseStatus,
    SubscriptionStanding,
    SubscriptionState,
    subscription_standing,
)
from sts_app.catalog.models import Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.core.queue import wake
from sts_app.provisioning import services as provisioning

log = structlog.get_logger()

# A renewal that no event told of is looked for so long after the paid time ran out, and every day.
AFTER_PERIOD = timedelta(hours=1)
DAILY = timedelta(days=1)
STAFF_ASKED = "our staff asked for it"
NEVER_PAID = "its first payment failed"
LIVE = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete")


def lock_payer(user_id: int) -> None:
    """Take the turn of one person's payments: what one of them ends, another one must not miss.

    It comes after the lock of a purchase and before those of subscriptions, plans and people.
    """
    # Held to the end of this transaction only, so it works behind a transaction pooler.
    turn = sa.func.hashtext(f"billing.payer:{user_id}")
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(turn)))


def locked(subscription_id: int) -> Subscription:
    """The subscription with its turn taken, after that of its payer where both are wanted."""
    # Without its key: whoever notes that a purchase belongs to it waits for the payer's turn, perhaps ours.
    return db.session.get_one(
        Subscription, subscription_id, with_for_update={"key_share": True}, populate_existing=True
    )


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


def follow(subscription_id: int, *, asked_because: str | None = None, is_fresh: bool = False) -> None:
    """Let the entitlement follow what the subscription and the money of its latest payment mean now.

    `asked_because` is why the store had asked for the end that has come. `is_fresh` says that its invoices have just
    been read. Before its end for money that went back they are: a later month may be paid that nobody has heard of.
    """
    subscription = locked(subscription_id)
    standing = _standing(subscription)
    before = SubscriptionState(subscription.state)
    if standing.because == WENT_BACK and before is not standing.state and not is_fresh:
        # What somebody is reading at this moment may be older than this.
        subscription.settled += 1
        subscription.next_look_up_at = clock.now()
        wake("billing.work")
        return
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
        _tell(subscription, before, standing, asked_because or subscription.cancel_because)
    because = _must_end(subscription, standing)
    if because is not None:
        cancel(subscription, because=because, actor="system")


def _must_end(subscription: Subscription, standing: SubscriptionStanding) -> str | None:
    """Why its payer is not to be charged again; None where they may be, or its end is on its way."""
    if is_over(subscription.id):
        return None
    if standing.because == WENT_BACK:
        # Who has the money back is not charged again.
        return WENT_BACK
    if privacy.is_closed(subscription.user_id):
        # Begun on a page that was open while its payer's account closed.
        return privacy.ERASED
    if standing.state is SubscriptionState.NONE and queries.first_payment_failed(subscription.id):
        # Its payer has read that nothing was charged, and has no page to end it on. The provider would go on trying.
        return NEVER_PAID
    return None


def is_over(subscription_id: int) -> bool:
    """Whether a subscription has ended, or the store wants it to end."""
    subscription = db.session.get_one(Subscription, subscription_id)
    return subscription.status not in LIVE or subscription.cancel_because is not None


def refuse_second(purchase: Purchase) -> Purchase | None:
    """End a subscription at once whose payer has what it gives already. The purchase that gave it, None for a first.

    The payer's turn is taken by the caller.
    """
    if purchase.subscription_id is None:
        return None
    earlier = covered.earlier_subscription(purchase)
    if earlier is None:
        return None
    subscription = locked(purchase.subscription_id)
    if subscription.cancel_because is None and subscription.status in LIVE:
        cancel(subscription, because="its payer had this already", actor="system")
    return earlier


def replace_by(purchase: Purchase, plan: Plan, *, because: str = "lifetime access was bought") -> None:
    """End every subscription to what a purchase for good covers as well: there is no gap, and no later charge.

    The customer reads `because`. The payer's turn is taken by the caller.
    """
    for subscription in covered.replaced_by(purchase.user_id, plan):
        cancel(subscription, because=because, actor="system")
    db.session.flush()


def cancel(subscription: Subscription, *, because: str, actor: str, reason: str | None = None) -> None:
    """Have a subscription ended at the provider, now and with no further charge.

    The customer reads `because`; `reason` is kept and for staff alone.
    """
    subscription.cancel_because = because
    subscription.next_look_up_at = clock.now()
    details = {"because": because} | ({"reason": reason} if reason is not None else {})
    audit.record(actor, "billing.subscription_cancel_asked", f"subscription:{subscription.id}", **details)
    wake("billing.work")


def cancel_by_staff(subscription_id: int, *, reason: str, actor: str) -> Subscription:
    """Let staff end a subscription, now and with no further charge. What was paid for it stays paid.

    Raises `NotThere`; `FixInput` without a reason; `AlreadyDone` for one that has ended or is being ended.
    """
    if not reason.strip():
        raise FixInput("The end of a subscription needs a reason: whoever looks at it in a year wants to know.")
    known = db.session.get(Subscription, subscription_id)
    if known is None:
        raise NotThere("There is no subscription with this number.", cause=f"subscription:{subscription_id}")
    lock_payer(known.user_id)
    subscription = locked(subscription_id)
    check_can_end(subscription)
    cancel(subscription, because=STAFF_ASKED, actor=actor, reason=reason.strip())
    return subscription


def check_can_end(subscription: Subscription) -> None:
    """Raise what `cancel_by_staff` would refuse this subscription with: `AlreadyDone`."""
    if subscription.status not in LIVE:
        raise AlreadyDone("This subscription has ended already.")
    if subscription.cancel_because is not None:
        raise AlreadyDone("This subscription is being ended already.")


@dataclass
class LookUp:
    """One claimed look at a subscription, which may have to be ended first."""

    token: str
    subscription_id: int
    user_id: int
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
        lock_payer(self.user_id)
        subscription = locked(self.subscription_id)
        if not lease.release(subscription, self.token):
            return
        if self.trouble is not None:
            _again(subscription, self.trouble)
            return
        if self.facts is None or subscription.settled != self.settled:
            subscription.next_look_up_at = clock.now()
            wake("billing.work")
            return
        apply_facts(subscription, self.facts)

    def give_back(self) -> None:
        subscription = locked(self.subscription_id)
        if lease.release(subscription, self.token):
            _again(subscription, TryLater(lease.BROKE))


def claim() -> LookUp | None:
    """Take one subscription that is due to be looked at."""
    taken = lease.take(Subscription)
    if taken is None:
        return None
    subscription, token = taken
    key = f"cancel-{subscription.external_id}-{subscription.attempt}" if subscription.cancel_because else None
    return LookUp(token, subscription.id, subscription.user_id, subscription.external_id, subscription.settled, key)


def apply_facts(subscription: Subscription, facts: SubscriptionFacts) -> None:
    """Bring a subscription and its renewals in step with what the provider says.

    Its payer's turn and then its row are taken by the caller.
    """
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
    asked_because = subscription.cancel_because
    if facts.status in ("canceled", "incomplete_expired"):
        subscription.cancel_because = None
        subscription.next_look_up_at = None
    else:
        # What the store wants to have ended is ended at once, whatever was heard of it meanwhile.
        subscription.next_look_up_at = now if subscription.cancel_because else _next_look(subscription)
    if subscription.cancel_because is None:
        # Hearing of it is no end of the trouble with ending it.
        subscription.tries, subscription.last_reason = 0, None
    db.session.flush()
    for invoice in facts.invoices:
        if invoice.status == "paid" and not invoice.is_first:
            _keep_renewal(subscription, invoice)
    follow(subscription.id, asked_because=asked_because, is_fresh=True)
    standing = _standing(subscription)
    if standing.until is not None and standing.state is SubscriptionState.GRACE:
        subscription.next_look_up_at = min(subscription.next_look_up_at or standing.until, standing.until)


def source_of(subscription_id: int) -> str:
    """The name under which provisioning knows this subscription as a reason for access."""
    return f"subscription:{subscription_id}"


def may_end(subscription_id: int) -> bool:
    """Whether money that went back would end it, once its invoices have been read a last time."""
    subscription = db.session.get_one(Subscription, subscription_id)
    standing = _standing(subscription)
    return standing.because == WENT_BACK and subscription.state != standing.state


def _standing(subscription: Subscription) -> SubscriptionStanding:
    settings = current_app.config["STS"]
    money = queries.access_of_latest_payment(subscription.id)
    standing = subscription_standing(
        cast(SubscriptionStatus, subscription.status),
        money=money,
        past_due_since=subscription.past_due_since,
        ends_at=subscription.ends_at,
        grace=timedelta(days=settings.subscription_grace_days),
        now=clock.now(),
    )
    if subscription.state == SubscriptionState.NONE:
        is_ended_unpaid = standing.state is SubscriptionState.ENDED and money is Access.NONE
        if is_ended_unpaid or subscription.cancel_because == NEVER_PAID:
            # What never began does not end, and does not begin while its end is on its way.
            return SubscriptionStanding(SubscriptionState.NONE)
    return standing


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
            period_end=invoice.period_end,
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
    if user.closed_at is not None:
        letters_trouble.paid_after_closing(purchase)
        letters_money.paid_after_closing(user, purchase)
    elif subscription.state == SubscriptionState.NONE and is_over(subscription.id):
        letters_owed.paid_after_end(user, purchase)
    else:
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
    """Trouble is waited out. Staff hear of it when it lasts, if somebody may be charged or the provider answers no."""
    lease.put_off(subscription, trouble)
    if subscription.trouble_lasts and (subscription.cancel_because is not None or isinstance(trouble, Refused)):
        letters_trouble.subscription_stuck(subscription)


def _tell(
    subscription: Subscription, before: SubscriptionState, standing: SubscriptionStanding, asked_because: str | None
) -> None:
    user = db.session.get_one(User, subscription.user_id)
    plan = db.session.get_one(Plan, subscription.plan_id)
    if standing.state is SubscriptionState.GRACE:
        letters.renewal_failed(user, subscription, plan, standing.until)
    elif before is SubscriptionState.NONE:
        return
    elif standing.state is SubscriptionState.PAUSED and standing.because != RENEWAL_DISPUTED:
        # Of a dispute its own letter tells.
        letters.subscription_paused(user, subscription, plan, standing.because, held_by(user.id, plan))
    elif standing.state is SubscriptionState.ENDED:
        because = asked_because or standing.because
        letters.subscription_ended(user, subscription, plan, because, held_by(user.id, plan))
