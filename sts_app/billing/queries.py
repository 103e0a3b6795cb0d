"""Reads of billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.billing.models import Consent, Dispute, Purchase, Refund, Subscription, WebhookEvent, Withdrawal
from sts_app.billing.rules import BACK, OPEN, Access, EventState, PurchaseStatus, SubscriptionState
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db

T = TypeVar("T")

PAID = (PurchaseStatus.COMPLETED, PurchaseStatus.PARTIALLY_REFUNDED)


def purchases_of(user_id: int) -> Sequence[Purchase]:
    return db.session.scalars(sa.select(Purchase).where(Purchase.user_id == user_id).order_by(Purchase.id.desc())).all()


def open_purchase_of(user_id: int, plan_id: int) -> Purchase | None:
    return db.session.scalar(
        sa.select(Purchase).where(
            Purchase.user_id == user_id, Purchase.plan_id == plan_id, Purchase.status == PurchaseStatus.PENDING
        )
    )


HOLDS = (Access.STANDS, Access.SUSPENDED)


def owns(user_id: int, plan_id: int) -> bool:
    """Whether they have what this plan gives: by a payment for it, a subscription to it, or one payment for everything.

    A payment that is disputed counts until the bank has decided.
    """
    bought = sa.select(Purchase.id).where(
        Purchase.user_id == user_id,
        Purchase.plan_id == plan_id,
        Purchase.subscription_id.is_(None),
        Purchase.access.in_(HOLDS),
    )
    subscribed = sa.select(Subscription.id).where(
        Subscription.user_id == user_id,
        Subscription.plan_id == plan_id,
        Subscription.state.not_in((SubscriptionState.NONE, SubscriptionState.ENDED)),
    )
    if db.session.scalar(sa.select(sa.or_(sa.exists(bought), sa.exists(subscribed)))):
        return True
    return owned_for_good(user_id) is not None


def owned_for_good(user_id: int) -> Purchase | None:
    """The purchase by which this person holds everything for ever, if there is one."""
    return db.session.scalar(
        sa.select(Purchase)
        .join(Plan, Plan.id == Purchase.plan_id)
        .where(
            Purchase.user_id == user_id,
            Purchase.access.in_(HOLDS),
            Purchase.subscription_id.is_(None),
            Plan.covers_all,
            Plan.mode == Mode.PAYMENT,
        )
        .order_by(Purchase.id)
        .limit(1)
    )


def latest_consent(purchase_id: int) -> Consent | None:
    """What the buyer agreed to last with this purchase."""
    return db.session.scalar(
        sa.select(Consent).where(Consent.purchase_id == purchase_id).order_by(Consent.id.desc()).limit(1)
    )


def consents_of(purchase_id: int) -> Sequence[Consent]:
    """What the buyer agreed to with a purchase, the first time first."""
    return db.session.scalars(sa.select(Consent).where(Consent.purchase_id == purchase_id).order_by(Consent.id)).all()


def refunds_of(purchase_id: int) -> Sequence[Refund]:
    """Every refund of a purchase, intended and refused ones included, oldest first."""
    return db.session.scalars(sa.select(Refund).where(Refund.purchase_id == purchase_id).order_by(Refund.id)).all()


def disputes_of(purchase_id: int) -> Sequence[Dispute]:
    """Every dispute of a purchase, oldest first."""
    return db.session.scalars(sa.select(Dispute).where(Dispute.purchase_id == purchase_id).order_by(Dispute.id)).all()


def other_subscription_purchase(purchase: Purchase) -> Purchase | None:
    """A payment for another subscription to the same plan that gives access now, the oldest of them."""
    return db.session.scalar(
        sa.select(Purchase)
        .join(Subscription, Subscription.id == Purchase.subscription_id)
        .where(
            Subscription.user_id == purchase.user_id,
            Subscription.plan_id == purchase.plan_id,
            Subscription.id != purchase.subscription_id,
            Subscription.state.in_((SubscriptionState.RUNNING, SubscriptionState.GRACE, SubscriptionState.PAUSED)),
            Purchase.access.in_(HOLDS),
        )
        .order_by(Purchase.id)
        .limit(1)
    )


def live_subscriptions_of(user_id: int) -> Sequence[Subscription]:
    """The subscriptions that the provider may still charge for."""
    statement = sa.select(Subscription).where(
        Subscription.user_id == user_id, Subscription.status.not_in(("canceled", "incomplete_expired"))
    )
    return db.session.scalars(statement.order_by(Subscription.id)).all()


def access_of_latest_payment(subscription_id: int) -> Access:
    """What the money of the latest payment says; `none` as long as nothing was paid."""
    found = db.session.scalar(
        sa.select(Purchase.access)
        .where(Purchase.subscription_id == subscription_id, Purchase.paid_at.is_not(None))
        # Renewals are younger than the checkout that began it, whenever we heard of either.
        .order_by(Purchase.checkout_request.is_(None).desc(), Purchase.paid_at.desc(), Purchase.id.desc())
        .limit(1)
    )
    return Access(found) if found is not None else Access.NONE


def subscription_named(external_id: str) -> Subscription | None:
    return db.session.scalar(sa.select(Subscription).where(Subscription.external_id == external_id))


def other_paid_purchase(purchase: Purchase) -> Purchase | None:
    """An earlier purchase of the same plan by the same person that is paid as well."""
    statement = sa.select(Purchase).where(
        Purchase.user_id == purchase.user_id,
        Purchase.plan_id == purchase.plan_id,
        Purchase.id != purchase.id,
        Purchase.subscription_id.is_(None),
        Purchase.access.in_(HOLDS),
    )
    return db.session.scalar(statement.order_by(Purchase.id).limit(1))


def refund_is_due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(Refund.next_attempt_at <= now, _is_free(Refund.leased_until, now))


def dispute_is_due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(Dispute.next_attempt_at <= now, _is_free(Dispute.leased_until, now))


def subscription_is_due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(Subscription.next_look_up_at <= now, _is_free(Subscription.leased_until, now))


def event_is_due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(WebhookEvent.next_attempt_at <= now, _is_free(WebhookEvent.leased_until, now))


def look_up_is_due(now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(Purchase.next_look_up_at <= now, _is_free(Purchase.leased_until, now))


def _is_free(leased_until: sa.orm.InstrumentedAttribute[datetime | None], now: datetime) -> sa.ColumnElement[bool]:
    return sa.or_(leased_until.is_(None), leased_until <= now)


def work_due(now: datetime) -> int:
    """How much waits for a worker: events, look-ups, refunds to send, evidence to hand in."""
    due = (
        (WebhookEvent, event_is_due(now)),
        (Purchase, look_up_is_due(now)),
        (Refund, refund_is_due(now)),
        (Dispute, dispute_is_due(now)),
        (Subscription, subscription_is_due(now)),
    )
    return sum(
        db.session.scalar(sa.select(sa.func.count()).select_from(table).where(is_due)) or 0 for table, is_due in due
    )


def events_in_trouble() -> int:
    """Events whose facts could not be fetched at the last try, or that wait for a person."""
    failing = sa.and_(WebhookEvent.state == EventState.RECEIVED, WebhookEvent.tries > 0)
    statement = sa.select(sa.func.count()).where(sa.or_(failing, WebhookEvent.state == EventState.STUCK))
    return db.session.scalar(statement) or 0


def totals() -> tuple[int, int]:
    """(paid purchases, revenue in cents: what came in, without what went back or a bank has taken)."""
    books = sums()
    count = db.session.scalar(sa.select(sa.func.count()).where(Purchase.status.in_(PAID))) or 0
    return count, books.kept


@dataclass(frozen=True)
class Books:
    """Cents in our rows: what came in, what went back or is on its way, what banks have taken."""

    received: int
    refunded: int
    withheld: int

    @property
    def kept(self) -> int:
        return self.received - self.refunded - self.withheld


def sums() -> Books:
    """Every cent of our ledger. Each lies in one row: a purchase, a refund, a dispute."""
    was_paid = Purchase.status.in_((*PAID, PurchaseStatus.REFUNDED))
    received = db.session.scalar(sa.select(sa.func.sum(Purchase.amount_cents)).where(was_paid))
    refunded = db.session.scalar(sa.select(sa.func.sum(Refund.amount_cents)).where(Refund.state.in_(BACK)))
    taken = sa.or_(Dispute.status.in_(OPEN), Dispute.status == "lost")
    withheld = db.session.scalar(sa.select(sa.func.sum(Dispute.amount_cents)).where(taken))
    return Books(int(received or 0), int(refunded or 0), int(withheld or 0))


def purchase_named(user_id: int, ref: str) -> Purchase | None:
    """This person's own purchase of this reference."""
    return db.session.scalar(sa.select(Purchase).where(Purchase.user_id == user_id, Purchase.ref == ref))


def withdrawal_of(purchase_id: int) -> Withdrawal | None:
    return db.session.scalar(sa.select(Withdrawal).where(Withdrawal.purchase_id == purchase_id))


def withdrawals_of_person(user_id: int) -> Sequence[Withdrawal]:
    return db.session.scalars(sa.select(Withdrawal).where(Withdrawal.user_id == user_id)).all()


def refunds_of_person(user_id: int) -> Sequence[Refund]:
    """Every refund of all purchases of a person, oldest first."""
    own = sa.select(Refund).join(Purchase, Purchase.id == Refund.purchase_id).where(Purchase.user_id == user_id)
    return db.session.scalars(own.order_by(Refund.id)).all()


def disputes_of_person(user_id: int) -> Sequence[Dispute]:
    """Every dispute of all purchases of a person, oldest first."""
    own = sa.select(Dispute).join(Purchase, Purchase.id == Dispute.purchase_id).where(Purchase.user_id == user_id)
    return db.session.scalars(own.order_by(Dispute.id)).all()


def subscriptions_of(user_id: int) -> Sequence[Subscription]:
    """Every subscription of a person that was begun, ended ones included, newest first."""
    own = sa.select(Subscription).where(Subscription.user_id == user_id).order_by(Subscription.id.desc())
    return db.session.scalars(own).all()


def subscribed_for(subscription_id: int) -> int | None:
    """The cents for which a subscription was begun, before any promotion; None when its checkout is not known."""
    first = (
        sa.select(Purchase.checkout_request["amount_cents"].as_integer())
        .where(Purchase.subscription_id == subscription_id, Purchase.checkout_request.is_not(None))
        .order_by(Purchase.id)
        .limit(1)
    )
    return db.session.scalar(first)


def plan_of(purchase: Purchase) -> Plan:
    """What was bought, on sale or not."""
    return db.session.get_one(Plan, purchase.plan_id)


def purchase_called(number_or_ref: str) -> Purchase | None:
    """The purchase of this number or reference, whosever it is, for staff."""
    if number_or_ref.isascii() and number_or_ref.isdigit():
        number = int(number_or_ref)
        return db.session.get(Purchase, number) if number < 2**63 else None
    return db.session.scalar(sa.select(Purchase).where(Purchase.ref == number_or_ref))


def latest_refunds(limit: int, *, before: int | None = None) -> Sequence[tuple[Refund, Purchase, str]]:
    """Refunds of everybody with their purchase and the buyer's address, newest first, from below `before`."""
    rows = _with_buyer(Refund, Refund.purchase_id).order_by(Refund.id.desc()).limit(limit)
    return db.session.execute(rows if before is None else rows.where(Refund.id < before)).all()


def latest_disputes(limit: int, *, before: int | None = None) -> Sequence[tuple[Dispute, Purchase, str]]:
    """Disputes of everybody with their purchase and the buyer's address, newest first, from below `before`."""
    rows = _with_buyer(Dispute, Dispute.purchase_id).order_by(Dispute.id.desc()).limit(limit)
    return db.session.execute(rows if before is None else rows.where(Dispute.id < before)).all()


def dispute_called(number_or_id: str) -> tuple[Dispute, Purchase, str] | None:
    """A dispute by our number or Stripe's id, with its purchase and the buyer's address."""
    rows = _with_buyer(Dispute, Dispute.purchase_id)
    if number_or_id.isascii() and number_or_id.isdigit():
        number = int(number_or_id)
        rows = rows.where(Dispute.id == number if number < 2**63 else sa.false())
    else:
        rows = rows.where(Dispute.external_id == number_or_id)
    return db.session.execute(rows).one_or_none()


def latest_withdrawals(limit: int, *, undecided: bool) -> Sequence[tuple[Withdrawal, Purchase, str]]:
    """Withdrawals with their purchase and the customer's address. Those that wait for staff come oldest first."""
    rows = _with_buyer(Withdrawal, Withdrawal.purchase_id).limit(limit)
    if undecided:
        rows = rows.where(Withdrawal.verdict.is_(None)).order_by(Withdrawal.id)
    else:
        rows = rows.order_by(Withdrawal.id.desc())
    return db.session.execute(rows).all()


def _with_buyer(model: type[T], purchase_id: sa.orm.InstrumentedAttribute[int]) -> sa.Select[T, Purchase, str]:
    return (
        sa.select(model, Purchase, User.email)
        .join(Purchase, Purchase.id == purchase_id)
        .join(User, User.id == Purchase.user_id)
    )
