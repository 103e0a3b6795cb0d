"""Strategies and plans."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core import clock
from sts_app.core.db import Base, Row, text_enum


class StrategyStatus(StrEnum):
    DRAFT = "draft"
    ON_SALE = "on_sale"
    RETIRED = "retired"


class Strategy(Row, Base):
    """One invite-only TradingView script as the store presents it.

    `script_id` is TradingView's pine id (`PUB;...`); what access was granted to is recorded on the
    grant, because this one may change.
    """

    __tablename__ = "strategy"
    __table_args__ = (
        text_enum(*StrategyStatus, name="known_status"),
        sa.UniqueConstraint("slug"),
        sa.UniqueConstraint("script_id"),
    )

    slug: Mapped[str]
    name: Mapped[str]
    script_id: Mapped[str]
    status: Mapped[str] = mapped_column(default=StrategyStatus.DRAFT)
    position: Mapped[int] = mapped_column(default=0)
    market: Mapped[str] = mapped_column(default="NQ")
    timeframe: Mapped[str] = mapped_column(default="5m")
    style: Mapped[str]
    session: Mapped[str]
    summary: Mapped[str]
    description: Mapped[str]
    methodology: Mapped[str]
    best_for: Mapped[str]
    features: Mapped[list[str]] = mapped_column(JSONB, default=list)
    updated_at: Mapped[datetime] = mapped_column(default=clock.now, onupdate=clock.now)

    @property
    def has_placeholder_script(self) -> bool:
        """True for the ids of the seed, which TradingView does not know (`PUB;nq_..._001`)."""
        return self.script_id.startswith("PUB;nq_")


class Plan(Row, Base):
    """What a customer buys. The lifetime plan covers every strategy on sale or retired, for ever."""

    __tablename__ = "plan"
    __table_args__ = (sa.UniqueConstraint("slug"), sa.CheckConstraint("price_cents > 0", name="price_positive"))

    slug: Mapped[str]
    name: Mapped[str]
    price_cents: Mapped[int]
    currency: Mapped[str] = mapped_column(default="usd")
    stripe_price_id: Mapped[str | None]
    covers_all: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    position: Mapped[int] = mapped_column(default=0)
