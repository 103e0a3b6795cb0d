"""Purchases and the inbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.billing.rules import PurchaseStatus
from sts_app.core.db import Base, Row, text_enum


class Purchase(Row, Base):
    """One person buying one plan. The row stands before the checkout page does.

    `checkout_request` holds the exact parameters the page is opened with: a key replayed with other
    parameters is an error at the vendor, so they are stored and replayed. `ref` is what the vendor
    carries round for us.
    """

    __tablename__ = "purchase"
    __table_args__ = (
        sa.UniqueConstraint("ref"),
        sa.UniqueConstraint("session_id"),
        text_enum(*PurchaseStatus, name="known_status"),
        sa.Index(
            "uq_purchase_open",
            "user_id",
            "plan_id",
            unique=True,
            postgresql_where=sa.text("status = 'PENDING'"),
        ),
        sa.Index("ix_purchase_look_up", "next_look_up_at", postgresql_where=sa.text("next_look_up_at IS NOT NULL")),
    )

    ref: Mapped[str]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    plan_id: Mapped[int] = mapped_column(sa.ForeignKey("plan.id"))
    status: Mapped[str] = mapped_column(default=PurchaseStatus.PENDING)
    amount_cents: Mapped[int]
    currency: Mapped[str]
    refunded_cents: Mapped[int] = mapped_column(default=0)

    checkout_request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    checkout_attempt: Mapped[int] = mapped_column(default=1)
    session_id: Mapped[str | None]
    checkout_url: Mapped[str | None]
    checkout_expires_at: Mapped[datetime]
    intent_id: Mapped[str | None] = mapped_column(index=True)
    declined_because: Mapped[str | None]
    paid_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    look_ups: Mapped[int] = mapped_column(default=0)
    next_look_up_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    leased_until: Mapped[datetime | None]


class WebhookEvent(Row, Base):
    """One signed event, taken in once: `(source, external_id)` is unique."""

    __tablename__ = "webhook_event"
    __table_args__ = (
        sa.UniqueConstraint("source", "external_id"),
        text_enum("received", "handled", "ignored", "stuck", name="known_state"),
        sa.Index("ix_webhook_event_due", "next_attempt_at", postgresql_where=sa.text("next_attempt_at IS NOT NULL")),
    )

    source: Mapped[str]
    external_id: Mapped[str]
    type: Mapped[str]
    live: Mapped[bool]
    occurred_at: Mapped[datetime]
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    purchase_ref: Mapped[str | None]
    session_id: Mapped[str | None]
    intent_id: Mapped[str | None]

    state: Mapped[str] = mapped_column(default="received")
    purchase_id: Mapped[int | None] = mapped_column(sa.ForeignKey("purchase.id"), index=True)
    tries: Mapped[int] = mapped_column(default=0)
    refusals: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    last_reason: Mapped[str | None]
    handled_at: Mapped[datetime | None]
