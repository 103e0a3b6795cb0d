"""Reads of billing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.rules import PurchaseStatus
from sts_app.core.db import db

PAID = (PurchaseStatus.COMPLETED, PurchaseStatus.PARTIALLY_REFUNDED)


def purchases_of(user_id: int) -> Sequence[Purchase]:
    return db.session.scalars(sa.select(Purchase).where(Purchase.user_id == user_id).order_by(Purchase.id.desc())).all()


def open_purchase_of(user_id: int, plan_id: int) -> Purchase | None:
    return db.session.scalar(
        sa.select(Purchase).where(
            Purchase.user_id == user_id, Purchase.plan_id == plan_id, Purchase.status == PurchaseStatus.PENDING
        )
    )


def owns(user_id: int, plan_id: int) -> bool:
    statement = sa.select(Purchase.id).where(
        Purchase.user_id == user_id, Purchase.plan_id == plan_id, Purchase.status.in_(PAID)
    )
    return db.session.scalar(statement.limit(1)) is not None


def other_paid_purchase(purchase: Purchase) -> Purchase | None:
    """An earlier purchase of the same plan by the same person that is paid as well."""
    statement = sa.select(Purchase).where(
        Purchase.user_id == purchase.user_id,
        Purchase.plan_id == purchase.plan_id,
        Purchase.id != purchase.id,
        Purchase.status.in_(PAID),
    )
    return db.session.scalar(statement.order_by(Purchase.id).limit(1))


def event_is_due(now: datetime) -> sa.ColumnElement[bool]:
    free = sa.or_(WebhookEvent.leased_until.is_(None), WebhookEvent.leased_until <= now)
    return sa.and_(WebhookEvent.next_attempt_at <= now, free)


def look_up_is_due(now: datetime) -> sa.ColumnElement[bool]:
    free = sa.or_(Purchase.leased_until.is_(None), Purchase.leased_until <= now)
    return sa.and_(Purchase.next_look_up_at <= now, free)


def work_due(now: datetime) -> int:
    """How many events and look-ups wait for a worker."""
    events = sa.select(sa.func.count()).select_from(WebhookEvent).where(event_is_due(now))
    look_ups = sa.select(sa.func.count()).select_from(Purchase).where(look_up_is_due(now))
    return (db.session.scalar(events) or 0) + (db.session.scalar(look_ups) or 0)


def events_in_trouble() -> int:
    """Events whose facts could not be fetched at the last try, or that wait for a person."""
    failing = sa.and_(WebhookEvent.state == "received", WebhookEvent.tries > 0)
    statement = sa.select(sa.func.count()).where(sa.or_(failing, WebhookEvent.state == "stuck"))
    return db.session.scalar(statement) or 0


def totals() -> tuple[int, int]:
    """(paid purchases, revenue in cents after refunds)."""
    row = db.session.execute(
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(Purchase.amount_cents - Purchase.refunded_cents), 0)
        ).where(Purchase.status.in_(PAID))
    ).one()
    return int(row[0]), int(row[1])
