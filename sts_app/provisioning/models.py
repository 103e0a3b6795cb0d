"""The rows of provisioning: names, reasons, grants, what was tried, and what stands between us and TradingView."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core import clock
from sts_app.core.db import Base, Row, text_enum
from sts_app.provisioning.rules import Finding, GrantState, NameOutcome, Outcome, Switch, TaskKind, Trigger


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
    """Why a person holds a plan. `source` names it (`purchase:12`, `gift:Zk3...`) and makes it happen once.

    `note` is the reason staff gave for a gift, `suspended_because` what a suspension waits for.
    """

    __tablename__ = "entitlement"
    __table_args__ = (sa.UniqueConstraint("source"),)

    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"), index=True)
    plan_id: Mapped[int] = mapped_column(sa.ForeignKey("plan.id"))
    source: Mapped[str]
    note: Mapped[str | None]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    ended_because: Mapped[str | None]
    suspended_at: Mapped[datetime | None]
    suspended_because: Mapped[str | None]
    announced_at: Mapped[datetime | None]
    partly_announced_at: Mapped[datetime | None]


class Grant(Row, Base):
    """The fact about one (name, script) pair, shared by whoever wants it.

    `wanted` is what should stand, `state` is what does as far as we know. A row is due when
    `next_attempt_at` has come and nobody holds its lease; `cycle` counts the changes of direction,
    so that each has its own history and its own letters. `called_at` is set before the first call
    for the pair is sent: a pair that nothing was ever sent for needs no revoking. `granted_at` is when
    it was first read back as present after a grant of ours: what STS granted, STS may remove by itself.
    `said_by` names the person who says that the work was done by hand; until that is read back or
    cannot be, the pair is only read and never written. Until `late_call_until` a call whose answer never
    came may still be carried out: what stands is read once more after that.
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
    late_call_until: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    absent_at: Mapped[datetime | None]
    granted_at: Mapped[datetime | None]
    said_by: Mapped[str | None]
    evidence: Mapped[str | None]
    last_reason: Mapped[str | None]


class ProvisioningJob(Row, Base):
    """One cycle of a grant: what was to be reached, what set it off, and how it ended.

    The promise (paid to verified, refunded to absent, renamed to verified) is measured from these rows.
    """

    __tablename__ = "provisioning_job"
    __table_args__ = (
        sa.UniqueConstraint("grant_id", "cycle"),
        text_enum("open", "reached", "with_staff", "superseded", name="known_state"),
        text_enum(*Trigger, name="known_trigger"),
        sa.Index("ix_provisioning_job_measured", "trigger", "created_at"),
    )

    grant_id: Mapped[int] = mapped_column(sa.ForeignKey("grants.id"), index=True)
    cycle: Mapped[int]
    wanted: Mapped[bool]
    # The default is for code that is older than the column and runs beside this for the length of a deploy.
    trigger: Mapped[str] = mapped_column(server_default=Trigger.STEP)
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
    """Something only a person can do at TradingView; at most one open per grant.

    `kind` says why a person has it: the store runs by hand, the tries ran out, TradingView shows
    something else than a person said. `outcome` is `done` or `cannot` when a person closed it.
    """

    __tablename__ = "manual_task"
    __table_args__ = (
        sa.Index("uq_manual_task_open", "grant_id", unique=True, postgresql_where=sa.text("closed_at IS NULL")),
        text_enum(*TaskKind, name="known_kind"),
        text_enum("done", "cannot", name="known_outcome"),
    )

    grant_id: Mapped[int] = mapped_column(sa.ForeignKey("grants.id"), index=True)
    cycle: Mapped[int]
    wanted: Mapped[bool]
    kind: Mapped[str] = mapped_column(server_default=TaskKind.BY_HAND)  # as above
    because: Mapped[str]
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    closed_because: Mapped[str | None]
    outcome: Mapped[str | None]
    note: Mapped[str | None]


class ProvisioningControl(Base):
    """The one row that says whether automatic calls may be made: the staff switch and the circuit.

    `switched_by` is an actor, or `incident:<id>` when an incident moved the switch. The circuit is open
    while `circuit_opened_at` is set; then one canary call is made at `canary_at`, and no other. At
    `answering_since` TradingView was last found to answer after it had not: whose calls failed before that
    and go on failing has trouble of their own.
    `session_checked_at` is when the session was last asked for on schedule, empty when it is to be at once.
    """

    __tablename__ = "provisioning_control"
    __table_args__ = (sa.CheckConstraint("id = 1", name="one_row"), text_enum(*Switch, name="known_switch"))

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    switch: Mapped[str] = mapped_column(default=Switch.AUTO)
    switched_at: Mapped[datetime | None]
    switched_by: Mapped[str | None]
    switched_because: Mapped[str | None]
    failures_in_row: Mapped[int] = mapped_column(default=0)
    circuit_opened_at: Mapped[datetime | None]
    circuit_because: Mapped[str | None]
    canary_at: Mapped[datetime | None]
    answering_since: Mapped[datetime | None]
    session_checked_at: Mapped[datetime | None]
    session_verdict: Mapped[str | None]


class ProvisioningIncident(Row, Base):
    """TradingView refused our session. One open at most; only a person's act closes it."""

    __tablename__ = "provisioning_incident"
    __table_args__ = (
        sa.Index(
            "uq_provisioning_incident_open",
            sa.text("(true)"),
            unique=True,
            postgresql_where=sa.text("closed_at IS NULL"),
        ),
    )

    reason: Mapped[str]
    told: Mapped[list[str]] = mapped_column(JSONB, default=list)
    refusals: Mapped[int] = mapped_column(default=1)
    last_refused_at: Mapped[datetime] = mapped_column(default=clock.now)
    credential_id: Mapped[int | None] = mapped_column(sa.ForeignKey("tradingview_credential.id"))
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]
    closed_because: Mapped[str | None]


class TradingViewCredential(Row, Base):
    """One set of session id, signature and address, as a person entered it; one active at most.

    `sealed` is AES-256-GCM under the key called `key_id`; nothing of what is inside stands beside it.
    """

    __tablename__ = "tradingview_credential"
    __table_args__ = (
        sa.Index(
            "uq_tradingview_credential_active",
            sa.text("(true)"),
            unique=True,
            postgresql_where=sa.text("retired_at IS NULL"),
        ),
    )

    key_id: Mapped[str]
    sealed: Mapped[bytes]
    entered_by: Mapped[str]
    validated_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]
    retired_because: Mapped[str | None]


class PaceBucket(Base):
    """A token bucket that every worker draws from, one for `write` calls and one for `read` calls.

    `tokens` may fall below nothing: a read that proves a write is made, and paid for afterwards.
    `factor` is what a rate limit left of the pace (1 is all of it); nobody calls before `held_until`.
    `woken_at` is the time of the next wake-up that was ordered because the bucket was empty.
    """

    __tablename__ = "pace_bucket"

    kind: Mapped[str] = mapped_column(primary_key=True)
    tokens: Mapped[float]
    factor: Mapped[float] = mapped_column(default=1.0)
    refilled_at: Mapped[datetime]
    limited_at: Mapped[datetime | None]
    held_until: Mapped[datetime | None]
    woken_at: Mapped[datetime | None]


class VendorCall(Row, Base):
    """One call to TradingView as it was: what, how long, how it ended. Never a name, never a body."""

    __tablename__ = "vendor_call"
    __table_args__ = (sa.Index("ix_vendor_call_created_at", "created_at"),)

    kind: Mapped[str]
    op: Mapped[str]
    outcome: Mapped[str]
    ms: Mapped[int]


class NameCheckRow(Base):
    """What TradingView last said of a name: kept 24 hours when it is known, one hour when it is not."""

    __tablename__ = "name_check"
    __table_args__ = (text_enum(NameOutcome.VALID, NameOutcome.UNKNOWN, name="known_outcome"),)

    name_key: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str]
    spelling: Mapped[str | None]
    checked_at: Mapped[datetime] = mapped_column(index=True)


class ReconciliationRun(Row, Base):
    """One comparison of what TradingView holds with what should be held.

    `source` is `daily`, `demand` or `pasted`. A run that could not trust what it read is `refused`
    and changed nothing. `counts` says how many of each finding and act.
    """

    __tablename__ = "reconciliation_run"
    __table_args__ = (text_enum("running", "complete", "refused", name="known_state"),)

    source: Mapped[str]
    actor: Mapped[str]
    dry_run: Mapped[bool]
    state: Mapped[str] = mapped_column(default="running")
    because: Mapped[str | None]
    finished_at: Mapped[datetime | None]
    counts: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)


class ReconciliationFinding(Row, Base):
    """One pair on which TradingView and we disagree, and what was done about it."""

    __tablename__ = "reconciliation_finding"
    __table_args__ = (
        sa.UniqueConstraint("run_id", "name_key", "script_id", "kind"),
        sa.Index("ix_reconciliation_finding_pair", "name_key", "script_id"),
        text_enum(*Finding, name="known_kind"),
    )

    run_id: Mapped[int] = mapped_column(sa.ForeignKey("reconciliation_run.id", ondelete="CASCADE"))
    kind: Mapped[str]
    name_key: Mapped[str]
    name_spelling: Mapped[str]
    script_id: Mapped[str]
    grant_id: Mapped[int | None] = mapped_column(sa.ForeignKey("grants.id"))
    expires_at: Mapped[datetime | None]
    act: Mapped[str]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]


class AllowedHolder(Row, Base):
    """A friend of the house who holds scripts without a purchase; the reconciler never touches one."""

    __tablename__ = "allowed_holder"
    __table_args__ = (sa.UniqueConstraint("name_key"),)

    name_key: Mapped[str]
    reason: Mapped[str]
    added_by: Mapped[str]
