"""The rows of provisioning: names, reasons, grants, and the history of what was tried."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row, text_enum
from sts_app.provisioning.rules import GrantState, Outcome


class TradingViewName(Row, Base):
    """A name a person gave, in TradingView's own spelling, with its history.

    It stays reserved until the last access under it is verified absent (`released_at`), because
    whoever got the name next would get the access with it.
    """

    __tablename__ = "tradingview_name"
    __table_args__ = (
        sa.Index(
            "uq_tradingview_name_reserved", "name_key", unique=True, postgresql_where=sa.text("released_at IS NULL")
        ),
        sa.Index(
            "uq_tradingview_name_current", "user_id", unique=True, postgresql_where=sa.text("replaced_at IS NULL")
        ),
        sa.CheckConstraint("name_key = lower(spelling)", name="key_is_lower"),
    )

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    name_key: Mapped[str]
    spelling: Mapped[str]
    verified_at: Mapped[datetime | None]
    replaced_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]


class Entitlement(Row, Base):
    """Why a person holds a plan. `source` names it (`purchase:12`, `gift:3`) and makes it happen once."""

    __tablename__ = "entitlement"
    __table_args__ = (sa.UniqueConstraint("source"),)

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    plan_id: Mapped[int] = mapped_column(sa.ForeignKey("plan.id"))
    source: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    ended_because: Mapped[str | None]
    suspended_at: Mapped[datetime | None]
    announced_at: Mapped[datetime | None]
    partly_announced_at: Mapped[datetime | None]


class Grant(Row, Base):
    """The fact about one (name, script) pair, shared by whoever wants it.

    `wanted` is what should stand, `state` is what does as far as we know. A row is due when
    `next_attempt_at` has come and nobody holds its lease; `cycle` counts the changes of direction,
    so that each has its own history and its own letters. `called_at` is set before the first call
    for the pair is sent: a pair that nothing was ever sent for needs no revoking.
    """

    __tablename__ = "grants"
    __table_args__ = (
        sa.UniqueConstraint("name_key", "script_id"),
        text_enum(*GrantState, name="known_state"),
        sa.CheckConstraint("(lease_token IS NULL) = (leased_until IS NULL)", name="lease_whole"),
        sa.Index("ix_grants_due", "priority", "paid_at", "id", postgresql_where=sa.text("next_attempt_at IS NOT NULL")),
        sa.Index("ix_grants_next_attempt_at", "next_attempt_at"),
    )

    name_key: Mapped[str]
    name_spelling: Mapped[str]
    script_id: Mapped[str]
    strategy_id: Mapped[int] = mapped_column(sa.ForeignKey("strategy.id"), index=True)
    wanted: Mapped[bool]
    state: Mapped[str] = mapped_column(default=GrantState.PENDING)
    cycle: Mapped[int] = mapped_column(default=1)
    priority: Mapped[int] = mapped_column(default=0)
    paid_at: Mapped[datetime]

    next_attempt_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    failed_tries: Mapped[int] = mapped_column(default=0)
    spent_tries: Mapped[int] = mapped_column(default=0)
    lost_claims: Mapped[int] = mapped_column(default=0)

    called_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    absent_at: Mapped[datetime | None]
    evidence: Mapped[str | None]
    last_reason: Mapped[str | None]


class ProvisioningJob(Row, Base):
    """One cycle of a grant: what was to be reached, and how it ended."""

    __tablename__ = "provisioning_job"
    __table_args__ = (
        sa.UniqueConstraint("grant_id", "cycle"),
        text_enum("open", "reached", "with_staff", "superseded", name="known_state"),
    )

    grant_id: Mapped[int] = mapped_column(sa.ForeignKey("grants.id"), index=True)
    cycle: Mapped[int]
    wanted: Mapped[bool]
    because: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    closed_at: Mapped[datetime | None]


class ProvisioningAttempt(Row, Base):
    """One try at one pair. Written with outcome NULL before the call, so that a crash leaves its trace."""

    __tablename__ = "provisioning_attempt"
    __table_args__ = (
        text_enum(*Outcome, name="known_outcome"),
        sa.Index("ix_provisioning_attempt_lease", "lease_token"),
        sa.Index(
            "uq_provisioning_attempt_in_flight",
            "grant_id",
            unique=True,
            postgresql_where=sa.text("finished_at IS NULL"),
        ),
    )

    grant_id: Mapped[int] = mapped_column(sa.ForeignKey("grants.id"), index=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("provisioning_job.id"), index=True)
    lease_token: Mapped[str]
    wanted: Mapped[bool]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    finished_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]


class ManualTask(Row, Base):
    """Something only a person can do at TradingView; at most one open per grant."""

    __tablename__ = "manual_task"
    __table_args__ = (
        sa.Index("uq_manual_task_open", "grant_id", unique=True, postgresql_where=sa.text("closed_at IS NULL")),
    )

    grant_id: Mapped[int] = mapped_column(sa.ForeignKey("grants.id"), index=True)
    cycle: Mapped[int]
    wanted: Mapped[bool]
    because: Mapped[str]
    closed_at: Mapped[datetime | None]
    closed_because: Mapped[str | None]
