"""The one letter about a checkout that was left, for those who said that it may be written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import aliased

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import letters, queries
from sts_app.billing.models import Consent, Purchase, Subscription
from sts_app.billing.rules import PurchaseStatus, SubscriptionState
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.emails.models import EmailMessage

# How the key of the letter begins; the id of the purchase follows.
KEY = "checkout-left:"
SOONEST = timedelta(hours=1)
LATEST = timedelta(days=3)
SELDOM = timedelta(days=30)
BATCH = 20


def due(now: datetime) -> Sequence[int]:
    """The ids of purchases whose buyers may be written to now, a small batch, oldest first."""
    return db.session.scalars(_due(now).with_only_columns(Purchase.id).order_by(Purchase.id).limit(BATCH)).all()


def remind(purchase_id: int) -> bool:
    """Write the letter if it may still be written. False when it may not any more: the person is back, say."""
    purchase = db.session.scalar(
        _due(clock.now())
        .where(Purchase.id == purchase_id)
        .with_for_update(of=Purchase, skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    )
    if purchase is None:
        return False
    user = db.session.get_one(User, purchase.user_id)
    letters.checkout_left(user, purchase, db.session.get_one(Plan, purchase.plan_id))
    audit.record("system", "billing.reminded", f"purchase:{purchase.id}")
    return True


def _due(now: datetime) -> sa.Select[Purchase]:
    """Left between an hour and three days ago, with a word that one letter may be written about it."""
    settings = current_app.config["STS"]
    latest = aliased(Consent)
    may_remind = (
        sa.select(latest.may_remind)
        .where(latest.purchase_id == Purchase.id)
        .order_by(latest.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    other = aliased(Purchase)
    came_back = sa.exists().where(
        other.user_id == Purchase.user_id,
        other.id != Purchase.id,
        sa.or_(other.status == PurchaseStatus.PENDING, other.paid_at >= Purchase.created_at),
    )
    told = aliased(Purchase)
    told_lately = sa.exists().where(
        told.user_id == Purchase.user_id,
        told.plan_id == Purchase.plan_id,
        EmailMessage.key == sa.func.concat(KEY, told.id),
        EmailMessage.created_at > now - SELDOM,
    )
    held, held_plan = aliased(Purchase), aliased(Plan)
    for_good = sa.and_(held_plan.covers_all, held_plan.mode == Mode.PAYMENT)
    owns = sa.exists().where(
        held.user_id == Purchase.user_id,
        held.subscription_id.is_(None),
        held.access.in_(queries.HOLDS),
        held_plan.id == held.plan_id,
        sa.or_(held.plan_id == Purchase.plan_id, for_good),
    )
    subscribes = sa.exists().where(
        Subscription.user_id == Purchase.user_id,
        Subscription.plan_id == Purchase.plan_id,
        Subscription.state.not_in((SubscriptionState.NONE, SubscriptionState.ENDED)),
    )
    # An intent without a decline is with a slow bank: its buyer has not left.
    is_with_bank = sa.and_(Purchase.intent_id.is_not(None), Purchase.declined_because.is_(None))
    oldest, youngest = now - settings.scaled(LATEST), now - settings.scaled(SOONEST)
    # Each with the range of its own index: all that ever expired is read otherwise.
    expired = sa.and_(
        Purchase.status == PurchaseStatus.EXPIRED, Purchase.closed_at > oldest, Purchase.closed_at <= youngest
    )
    still_open = sa.and_(
        Purchase.status == PurchaseStatus.PENDING,
        Purchase.checkout_expires_at > oldest,
        Purchase.checkout_expires_at <= youngest,
        sa.not_(is_with_bank),
    )
    return (
        sa.select(Purchase)
        .join(Plan, Plan.id == Purchase.plan_id)
        .where(
            sa.or_(expired, still_open),
            Plan.active,
            may_remind,
            sa.not_(sa.or_(came_back, owns, subscribes, told_lately)),
        )
    )
