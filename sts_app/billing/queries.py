"""Reads of billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.billing.lease import Leased, is_due
from sts_app.billing.models import (
    AddressUpdate,
    Consent,
    Dispute,
    Purchase,
    Refund,
    StripeCustomer,
    Subscription,
    WebhookEvent,
    Withdrawal,
)
from sts_app.billing.rules import BACK, OPEN, Access, EventState, PurchaseStatus
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db

T = TypeVar("T")

PAID = (PurchaseStatus.COMPLETED, PurchaseStatus.PARTIALLY_REFUNDED)
# Which refunds and disputes have taken money from the store.
GONE_BACK = Refund.state.in_(BACK)
TAKEN = sa.or_(Dispute.status.in_(OPEN), Dispute.status == "lost")


def purchases_of(user_id: int) -> Sequence[Purchase]:
    return db.session.scalars(sa.select(Purchase).where(Purchase.user_id == user_id).order_by(Purchase.id.desc())).all()


def is_known_session(session_id: str) -> bool:
    """Whether some purchase, of anybody, has the payment page of this name."""
    return bool(db.session.scalar(sa.select(sa.exists().where(Purchase.session_id == session_id))))


def open_purchase_of(user_id: int, plan_id: int) -> Purchase | None:
    return db.session.scalar(
        sa.select(Purchase).where(
            Purchase.user_id == user_id, Purchase.plan_id == plan_id, Purchase.status == PurchaseStatus.PENDING
        )
    )


HOLDS = (Access.STANDS, Access.SUSPENDED)


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


def live_subscriptions_of(user_id: int) -> Sequence[Subscription]:
    """The subscriptions that the provider may still charge for."""
    statement = sa.select(Subscription).where(
        Subscription.user_id == user_id, Subscription.status.not_in(("canceled", "incomplete_expired"))
    )
    return db.session.scalars(statement.order_by(Subscription.id)).all()


def access_of_latest_payment(subscription_id: int) -> Access:
    """What the money of the latest payment says; `none` as long as nothing was paid."""
    is_renewal = sa.and_(Purchase.checkout_request.is_(None), Purchase.session_id.is_(None))
    found = db.session.scalar(
        sa.select(Purchase.access)
        .where(Purchase.subscription_id == subscription_id, Purchase.paid_at.is_not(None))
        # Renewals are younger than the checkout that began it, whenever we heard of either.
        .order_by(is_renewal.desc(), Purchase.paid_at.desc(), Purchase.id.desc())
        .limit(1)
    )
    return Access(found) if found is not None else Access.NONE


def first_payment_failed(subscription_id: int) -> bool:
    """Whether the bank declined what a subscription began with, and nothing was ever paid for it."""
    its = Purchase.subscription_id == subscription_id
    failed = sa.exists().where(its, Purchase.status == PurchaseStatus.FAILED)
    paid = sa.exists().where(its, Purchase.paid_at.is_not(None))
    return bool(db.session.scalar(sa.select(sa.and_(failed, ~paid))))


def subscription_page_of(customer_id: str, *, at: datetime) -> str | None:
    """The session of the latest page that a customer of the provider's had for a subscription then, if it is recent.

    A page can be opened again for thirty days after it expired.
    """
    statement = (
        sa.select(Purchase.session_id)
        .join(StripeCustomer, StripeCustomer.user_id == Purchase.user_id)
        .join(Plan, Plan.id == Purchase.plan_id)
        .where(
            StripeCustomer.external_id == customer_id,
            Plan.mode == Mode.SUBSCRIPTION,
            Purchase.session_id.is_not(None),
            Purchase.checkout_request.is_not(None),
            Purchase.created_at > at - timedelta(days=31),
            # The provider tells whole seconds.
            Purchase.created_at < at + timedelta(seconds=1),
        )
        .order_by(Purchase.id.desc())
    )
    return db.session.scalar(statement.limit(1))


def subscription_named(external_id: str) -> Subscription | None:
    return db.session.scalar(sa.select(Subscription).where(Subscription.external_id == external_id))


LEASED: tuple[type[Leased], ...] = (
    WebhookEvent,
    Purchase,
    Refund,
    Dispute,
    Subscription,
    StripeCustomer,
    AddressUpdate,
)


def work_due(now: datetime) -> int:
    """How much waits for a worker: events, look-ups, refunds, evidence, subscriptions, customers, addresses."""
    return _counted(*(sa.select(sa.func.count()).select_from(model).where(is_due(model, now)) for model in LEASED))


def work_in_trouble() -> int:
    """How much of that went wrong at its last try and is tried again, and how many events wait for a person."""
    stuck = sa.select(sa.func.count()).where(WebhookEvent.state == EventState.STUCK)
    # That something is scheduled leads to the few rows among which to count, by the index of what is due.
    failing = (
        sa.select(sa.func.count()).select_from(model).where(model.due_at.is_not(None), model.tries > 0)
        for model in LEASED
    )
    return _counted(stuck, *failing)


def _counted(*counts: sa.Select[int]) -> int:
    """All of them together, asked at once."""
    total = db.session.scalar(sa.select(sum((each.scalar_subquery() for each in counts), sa.literal(0))))
    return int(total or 0)


def money_may_come(purchase: Purchase) -> bool:
    """Whether anything says that an open purchase was paid, or is with a bank: it is never closed unseen then."""
    if purchase.intent_id is not None or purchase.subscription_id is not None:
        return True
    untold = WebhookEvent.state.in_((EventState.RECEIVED, EventState.STUCK))
    return bool(db.session.scalar(sa.select(sa.exists().where(WebhookEvent.purchase_id == purchase.id, untold))))


def totals() -> tuple[int, dict[str, int]]:
    """(paid purchases, revenue by currency in cents: what came in, without what went back or a bank has taken)."""
    count = db.session.scalar(sa.select(sa.func.count()).where(Purchase.status.in_(PAID))) or 0
    return count, {currency: books.kept for currency, books in sums_by_currency().items()}


@dataclass(frozen=True)
class Books:
    """Cents in our rows: what came in, what went back or is on its way, what banks have taken.

    Those of one currency, but where another ledger is compared that counts every cent alike.
    """

    received: int
    refunded: int
    withheld: int

    @property
    def kept(self) -> int:
        return self.received - self.refunded - self.withheld


def sums_by_currency() -> dict[str, Books]:
    """Every cent of our ledger. Each lies in one row: a purchase, a refund, a dispute."""
    was_paid = Purchase.status.in_((*PAID, PurchaseStatus.REFUNDED))
    received = _cents(Purchase, was_paid)
    refunded, withheld = _cents(Refund, GONE_BACK), _cents(Dispute, TAKEN)
    currencies = sorted(received.keys() | refunded.keys() | withheld.keys())
    return {each: Books(received.get(each, 0), refunded.get(each, 0), withheld.get(each, 0)) for each in currencies}


def sums() -> Books:
    """The same all together, a cent of any currency for a cent: to compare with books that add up alike."""
    its = sums_by_currency().values()
    return Books(
        sum(each.received for each in its), sum(each.refunded for each in its), sum(each.withheld for each in its)
    )


def _cents(model: type[Purchase | Refund | Dispute], condition: sa.ColumnElement[bool]) -> dict[str, int]:
    rows = sa.select(model.currency, sa.func.sum(model.amount_cents)).where(condition).group_by(model.currency)
    return {currency: int(cents) for currency, cents in db.session.execute(rows)}


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
    """The purchase of this number, which may be written as `purchase:1`, or of this reference. For staff."""
    number_or_ref = number_or_ref.removeprefix("purchase:")
    if number_or_ref.isascii() and number_or_ref.isdigit():
        number = int(number_or_ref)
        return db.session.get(Purchase, number) if number < 2**63 else None
    return db.session.scalar(sa.select(Purchase).where(Purchase.ref == number_or_ref))


def latest_purchases(
    limit: int, *, before: int | None = None, user_id: int | None = None
) -> Sequence[tuple[Purchase, str, str]]:
    """Purchases of everybody or of one person with the plan's name and the buyer's address, newest first."""
    rows = sa.select(Purchase, Plan.name, User.email).join(Plan, Plan.id == Purchase.plan_id)
    rows = rows.join(User, User.id == Purchase.user_id).where(_page(Purchase, before, user_id))
    return db.session.execute(rows.order_by(Purchase.id.desc()).limit(limit)).all()


def latest_subscriptions(
    limit: int, *, before: int | None = None, user_id: int | None = None
) -> Sequence[tuple[Subscription, Plan, str]]:
    """Subscriptions of everybody or of one person with their plan and the payer's address, newest first."""
    rows = _with_payer().where(_page(Subscription, before, user_id)).order_by(Subscription.id.desc())
    return db.session.execute(rows.limit(limit)).all()


def subscription_called(number_or_id: str) -> tuple[Subscription, Plan, str] | None:
    """A subscription by our number or Stripe's id, with its plan and the payer's address."""
    return db.session.execute(_with_payer().where(_called(Subscription, number_or_id))).one_or_none()


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
    rows = _with_buyer(Dispute, Dispute.purchase_id).where(_called(Dispute, number_or_id))
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


def _with_payer() -> sa.Select[Subscription, Plan, str]:
    rows = sa.select(Subscription, Plan, User.email).join(Plan, Plan.id == Subscription.plan_id)
    return rows.join(User, User.id == Subscription.user_id)


def _called(model: type[Dispute | Subscription], number_or_id: str) -> sa.ColumnElement[bool]:
    if not (number_or_id.isascii() and number_or_id.isdigit()):
        return model.external_id == number_or_id
    number = int(number_or_id)
    return model.id == number if number < 2**63 else sa.false()


def _page(model: type[Purchase | Subscription], before: int | None, user_id: int | None) -> sa.ColumnElement[bool]:
    return sa.and_(
        sa.true() if before is None else model.id < before,
        sa.true() if user_id is None else model.user_id == user_id,
    )
