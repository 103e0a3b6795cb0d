"""Reads that span rooms, for staff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.billing import queries as billing
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.catalog.models import Strategy
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.emails.models import EmailMessage
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning.models import Grant, ManualTask, ProvisioningAttempt, ProvisioningJob, TradingViewName
from sts_app.provisioning.rules import GrantState

STATES = tuple(GrantState)


@dataclass(frozen=True)
class Overview:
    """The store at a glance. `revenue` is in cents by currency."""

    people: int
    purchases: int
    revenue: dict[str, int]
    access: dict[str, int]
    waiting: dict[str, int]
    recent: Sequence[tuple[Purchase, str]]


@dataclass(frozen=True)
class GrantRow:
    grant: Grant
    strategy: str
    email: str | None
    attempts: Sequence[ProvisioningAttempt]


@dataclass(frozen=True)
class GrantHistory:
    grant: Grant
    strategy: Strategy
    email: str | None
    jobs: Sequence[ProvisioningJob]
    attempts: Sequence[ProvisioningAttempt]
    tasks: Sequence[ManualTask]
    words: dict[str, str]


def overview() -> Overview:
    now = clock.now()
    purchases, revenue = billing.totals()
    stuck = sa.select(sa.func.count()).select_from(WebhookEvent).where(WebhookEvent.state == "stuck")
    letters = sa.select(sa.func.count()).where(EmailMessage.state.in_(("failed", "unsure")))
    recent = db.session.execute(
        sa.select(Purchase, User.email).join(User, User.id == Purchase.user_id).order_by(Purchase.id.desc()).limit(10)
    ).all()
    return Overview(
        people=db.session.scalar(sa.select(sa.func.count()).select_from(User)) or 0,
        purchases=purchases,
        revenue=revenue,
        access=provisioning.count_by_state(),
        waiting={
            "Manual tasks": provisioning.open_tasks(),
            "Payment events that need a person": db.session.scalar(stuck) or 0,
            "Letters not delivered": db.session.scalar(letters) or 0,
            "Access due now": provisioning.grants_due(now),
            "Payment events and look-ups due now": billing.work_due(now),
        },
        recent=[(purchase, email) for purchase, email in recent],
    )


def grants(*, search: str, state: str, before: int | None, limit: int) -> tuple[list[GrantRow], int | None]:
    """A page of grants by falling id, and the id to go on from when there are more."""
    holder = _holder()
    statement = (
        sa.select(Grant, Strategy.name, holder)
        .join(Strategy, Strategy.id == Grant.strategy_id)
        .order_by(Grant.id.desc())
        .limit(limit + 1)
    )
    if before is not None:
        statement = statement.where(Grant.id < before)
    if state in STATES:
        statement = statement.where(Grant.state == state)
    if search:
        like = search.lower().replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
        statement = statement.where(
            sa.or_(
                Grant.name_key.like(like),
                sa.func.lower(Strategy.name).like("%" + like),
                sa.func.lower(holder).like(like),
            )
        )
    found = db.session.execute(statement).all()
    following = found[limit - 1][0].id if len(found) > limit else None
    attempts = provisioning.attempts_of([grant.id for grant, _, _ in found[:limit]])
    rows = [GrantRow(grant, name, email, attempts[grant.id]) for grant, name, email in found[:limit]]
    return rows, following


def grant_with_history(grant_id: int) -> GrantHistory | None:
    row = db.session.execute(
        sa.select(Grant, Strategy, _holder())
        .join(Strategy, Strategy.id == Grant.strategy_id)
        .where(Grant.id == grant_id)
    ).one_or_none()
    if row is None:
        return None
    jobs = db.session.scalars(
        sa.select(ProvisioningJob).where(ProvisioningJob.grant_id == grant_id).order_by(ProvisioningJob.id.desc())
    ).all()
    tasks = db.session.scalars(
        sa.select(ManualTask).where(ManualTask.grant_id == grant_id).order_by(ManualTask.id.desc())
    ).all()
    attempts = provisioning.attempts_of([grant_id])[grant_id]
    words = {outcome.value: text for outcome, text in provisioning.OUTCOME_WORDS.items()}
    return GrantHistory(row[0], row[1], row[2], jobs, attempts, tasks, words)


def _holder() -> sa.ScalarSelect[str]:
    return (
        sa.select(User.email)
        .join(TradingViewName, TradingViewName.user_id == User.id)
        .where(TradingViewName.name_key == Grant.name_key, TradingViewName.released_at.is_(None))
        .limit(1)
        .scalar_subquery()
    )
