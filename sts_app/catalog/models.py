"""Strategies and plans."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, validates

from sts_app.core import clock
from sts_app.core.db import Base, Row, text_enum
from sts_app.core.errors import AlreadyDone

_SCRIPT_ID = re.compile(r"PUB;[A-Za-z0-9_-]{1,100}", re.ASCII)


def is_script_id(text: str) -> bool:
    """True for what has the shape of a pine id; whether TradingView knows it is another question."""
    return _SCRIPT_ID.fullmatch(text) is not None


def is_placeholder(script_id: str) -> bool:
    """True for the ids of the seed, which TradingView does not know (`PUB;nq_..._001`)."""
    return script_id.startswith("PUB;nq_")


class StrategyStatus(StrEnum):
    DRAFT = "draft"
    ON_SALE = "on_sale"
    RETIRED = "retired"


class OnceOnSale(AlreadyDone):
    code = "ONCE_ON_SALE"
    sentence = (
        "This strategy has been on sale, so it cannot become a draft again: its holders would lose it, and only the "
        "end of an entitlement ends access. Retire it instead; then it leaves the listing and its holders keep it."
    )


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
        return is_placeholder(self.script_id)

    @validates("status")
    def _never_a_draft_again(self, _: str, status: str) -> str:
        if status == StrategyStatus.DRAFT and self.status in (StrategyStatus.ON_SALE, StrategyStatus.RETIRED):
            raise OnceOnSale(cause=f"strategy:{self.id}")
        return status


class FormerScript(Row, Base):
    """A script id that a strategy had before: its holders keep it until the new one is read back."""

    __tablename__ = "former_script"
    __table_args__ = (sa.UniqueConstraint("script_id"),)

    strategy_id: Mapped[int] = mapped_column(sa.ForeignKey("strategy.id"), index=True)
    script_id: Mapped[str]


class Mode(StrEnum):
    """How a plan is paid for: once, or again and again."""

    PAYMENT = "payment"
    SUBSCRIPTION = "subscription"


class Plan(Row, Base):
    """What a customer buys. The lifetime plan covers every strategy on sale or retired, for ever.

    One that does not cover all covers what `PlanStrategy` lists. `interval` (month, year) is how often a
    subscription renews, and empty for what is paid once.
    """

    __tablename__ = "plan"
    __table_args__ = (
        sa.UniqueConstraint("slug"),
        sa.CheckConstraint("price_cents > 0", name="price_positive"),
        text_enum(*Mode, name="known_mode"),
        sa.CheckConstraint(
            "interval IN ('', 'month', 'year') AND (mode = 'subscription') = (interval <> '')", name="known_interval"
        ),
    )

    slug: Mapped[str]
    name: Mapped[str]
    price_cents: Mapped[int]
    currency: Mapped[str] = mapped_column(default="usd")
    stripe_price_id: Mapped[str | None]
    mode: Mapped[str] = mapped_column(server_default=Mode.PAYMENT)  # code before this column leaves it out
    interval: Mapped[str] = mapped_column(server_default="")  # as above
    covers_all: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    position: Mapped[int] = mapped_column(default=0)


class PlanStrategy(Row, Base):
    """A strategy that a plan covers, for plans that do not cover all."""

    __tablename__ = "plan_strategy"
    __table_args__ = (sa.UniqueConstraint("plan_id", "strategy_id"),)

    plan_id: Mapped[int] = mapped_column(sa.ForeignKey("plan.id"))
    strategy_id: Mapped[int] = mapped_column(sa.ForeignKey("strategy.id"), index=True)
