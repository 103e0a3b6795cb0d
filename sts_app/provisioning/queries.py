"""Reads of provisioning, shaped for the decision, the pages and the sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on

from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.core.db import db
from sts_app.core.money import as_moment
from sts_app.provisioning.models import Entitlement, Grant, ManualTask, ProvisioningAttempt, TradingViewName
from sts_app.provisioning.rules import AccessState, GrantState, Name, Outcome, Pair, Reason, Script, access_state

HOLDERS_KEEP = (StrategyStatus.ON_SALE, StrategyStatus.RETIRED)


@dataclass(frozen=True)
class StrategyAccess:
    """What a customer sees for one strategy. `words` says why, and what happens next."""

    strategy: Strategy
    state: AccessState
    words: str
    since: datetime | None
    grant_id: int | None

    @property
    def is_moving(self) -> bool:
        return self.state in (AccessState.PENDING, AccessState.REVOKING)


def current_name(user_id: int) -> TradingViewName | None:
    return db.session.scalar(
        sa.select(TradingViewName).where(TradingViewName.user_id == user_id, TradingViewName.replaced_at.is_(None))
    )


def entitlements_of(user_id: int) -> Sequence[Entitlement]:
    return db.session.scalars(
        sa.select(Entitlement).where(Entitlement.user_id == user_id).order_by(Entitlement.id)
    ).all()


def reasons_of(entitlements: Iterable[Entitlement]) -> list[Reason]:
    return [
        Reason(e.plan_id, e.starts_at, ends_at=e.ends_at, suspended=e.suspended_at is not None) for e in entitlements
    ]


def names_of(user_id: int) -> Sequence[TradingViewName]:
    """Names not yet released: the current one, and former ones that may still hold access."""
    return db.session.scalars(
        sa.select(TradingViewName)
        .where(TradingViewName.user_id == user_id, TradingViewName.released_at.is_(None))
        .order_by(TradingViewName.id)
    ).all()


def grantable_scripts() -> dict[Script, Strategy]:
    """Every script a plan may want, with its strategy. A retired strategy keeps its holders."""
    plans: dict[Strategy, set[int]] = {}
    for plan in db.session.scalars(sa.select(Plan).order_by(Plan.id)):
        for strategy in catalog.covered_strategies(plan):
            plans.setdefault(strategy, set()).add(plan.id)
    return {Script(strategy.script_id, frozenset(ids)): strategy for strategy, ids in plans.items()}


def as_names(names: Iterable[TradingViewName]) -> list[Name]:
    return [Name(name.name_key, name.replaced_at is None) for name in names]


def grants_of(name_keys: Iterable[str]) -> Sequence[Grant]:
    return db.session.scalars(sa.select(Grant).where(Grant.name_key.in_(list(name_keys))).order_by(Grant.id)).all()


def access_of(user_id: int, now: datetime) -> list[StrategyAccess]:
    """The access of one person, a row for each strategy they are or were entitled to."""
    entitlements = entitlements_of(user_id)
    if not entitlements:
        return []
    reasons = reasons_of(entitlements)
    held = {reason.plan_id for reason in reasons if reason.holds(now)}
    suspended = {reason.plan_id for reason in reasons if reason.suspended}
    ever = {reason.plan_id for reason in reasons}
    name = current_name(user_id)
    by_script = {g.script_id: g for g in grants_of([name.name_key])} if name else {}
    last_tries = _last_attempts([grant.id for grant in by_script.values()])
    rows = []
    for script, strategy in grantable_scripts().items():
        if not script.plan_ids & ever:
            continue
        grant = by_script.get(script.script_id)
        wanted = bool(script.plan_ids & held)
        state = access_state(
            GrantState(grant.state) if grant else None,
            wanted=wanted,
            suspended=bool(script.plan_ids & suspended),
            has_name=name is not None,
        )
        words = words_for(state, grant, last_tries.get(grant.id) if grant else None, now)
        since = (grant.verified_at if state is AccessState.ACTIVE else grant.absent_at) if grant else None
        rows.append(StrategyAccess(strategy, state, words, since, grant.id if grant else None))
    return rows


def words_for(state: AccessState, grant: Grant | None, last: ProvisioningAttempt | None, now: datetime) -> str:
    """Why a customer sees this state, and what happens next, in one or two sentences."""
    if state is AccessState.ACTIVE:
        return "TradingView shows this strategy on your account."
    if state is AccessState.ACTION_NEEDED:
        return "TradingView does not know your TradingView name. Please correct it, and access follows by itself."
    if state is AccessState.SUSPENDED:
        return "Access is paused while a payment dispute is open."
    if state is AccessState.REVOKED:
        return "Access has ended."
    if state is AccessState.REVOKING:
        return "Access is being removed at TradingView."
    if grant is not None and grant.state == GrantState.WITH_STAFF:
        return "TradingView did not take it by itself. A person is on it; you need not do anything."
    if grant is None or last is None or last.outcome is None:
        return "We are asking TradingView now. This usually takes less than a minute."
    if grant.next_attempt_at is not None and grant.next_attempt_at > now:
        return f"TradingView has not confirmed it yet. We try again at {as_moment(grant.next_attempt_at)}."
    return "TradingView has not confirmed it yet. We are trying again now."


def _last_attempts(grant_ids: Sequence[int]) -> dict[int, ProvisioningAttempt]:
    if not grant_ids:
        return {}
    statement = (
        sa.select(ProvisioningAttempt)
        .where(ProvisioningAttempt.grant_id.in_(grant_ids))
        .ext(distinct_on(ProvisioningAttempt.grant_id))
        .order_by(ProvisioningAttempt.grant_id, ProvisioningAttempt.id.desc())
    )
    return {attempt.grant_id: attempt for attempt in db.session.scalars(statement)}


def attempts_of(grant_ids: Sequence[int]) -> dict[int, list[ProvisioningAttempt]]:
    """Every try, newest first, by grant."""
    found: dict[int, list[ProvisioningAttempt]] = {grant_id: [] for grant_id in grant_ids}
    if grant_ids:
        statement = (
            sa.select(ProvisioningAttempt)
            .where(ProvisioningAttempt.grant_id.in_(grant_ids))
            .order_by(ProvisioningAttempt.id.desc())
        )
        for attempt in db.session.scalars(statement):
            found[attempt.grant_id].append(attempt)
    return found


def is_due(now: datetime, grant: type[Grant] = Grant) -> sa.ColumnElement[bool]:
    return sa.and_(grant.next_attempt_at <= now, sa.or_(grant.leased_until.is_(None), grant.leased_until <= now))


def grants_due(now: datetime) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(Grant).where(is_due(now))) or 0


def wanted_now(now: datetime) -> sa.Select[int, str, str]:
    """(user_id, name_key, script_id) of every pair wanted under a current name, in SQL.

    The set-based twin of `rules.wanted_pairs` for the sweep and the invariants; a property test
    holds the two together.
    """
    return (
        sa.select(Entitlement.user_id, TradingViewName.name_key, Strategy.script_id)
        .join(TradingViewName, TradingViewName.user_id == Entitlement.user_id)
        .join(Plan, Plan.id == Entitlement.plan_id)
        .join(Strategy, sa.and_(Plan.covers_all, Strategy.status.in_(HOLDERS_KEEP)))
        .where(
            TradingViewName.replaced_at.is_(None),
            Entitlement.starts_at <= now,
            sa.or_(Entitlement.ends_at.is_(None), Entitlement.ends_at > now),
            Entitlement.suspended_at.is_(None),
        )
        .distinct()
    )


def people_out_of_step(now: datetime, *, limit: int = 500) -> Sequence[int]:
    """Ids of people whose rows differ from what is wanted now: time has passed, or a strategy is new."""
    wanted = wanted_now(now).subquery()
    missing = (
        sa.select(wanted.c.user_id)
        .outerjoin(
            Grant,
            sa.and_(Grant.name_key == wanted.c.name_key, Grant.script_id == wanted.c.script_id, Grant.wanted.is_(True)),
        )
        .where(Grant.id.is_(None))
    )
    extra = (
        sa.select(TradingViewName.user_id)
        .join(Grant, sa.and_(Grant.name_key == TradingViewName.name_key, Grant.wanted.is_(True)))
        .outerjoin(
            wanted,
            sa.and_(
                wanted.c.user_id == TradingViewName.user_id,
                wanted.c.name_key == Grant.name_key,
                wanted.c.script_id == Grant.script_id,
            ),
        )
        .where(TradingViewName.replaced_at.is_(None), wanted.c.user_id.is_(None))
    )
    return db.session.scalars(sa.union(missing, extra).limit(limit)).all()


def entitlements_unannounced(before: datetime, *, limit: int = 500) -> Sequence[int]:
    """Ids of people who have some access and no letter about it, for purchases older than `before`."""
    statement = (
        sa.select(Entitlement.user_id)
        .join(TradingViewName, TradingViewName.user_id == Entitlement.user_id)
        .join(Grant, Grant.name_key == TradingViewName.name_key)
        .where(
            Entitlement.announced_at.is_(None),
            Entitlement.partly_announced_at.is_(None),
            Entitlement.starts_at <= before,
            Entitlement.ends_at.is_(None),
            TradingViewName.replaced_at.is_(None),
            Grant.state == GrantState.VERIFIED,
        )
        .distinct()
        .limit(limit)
    )
    return db.session.scalars(statement).all()


def verified_pairs(grants: Iterable[Grant]) -> frozenset[Pair]:
    return frozenset(Pair(g.name_key, g.script_id) for g in grants if g.state == GrantState.VERIFIED)


def grants_in_trouble() -> int:
    """Pairs whose last try failed and that are tried again."""
    moving = Grant.state.in_((GrantState.PENDING, GrantState.REVOKING))
    return db.session.scalar(sa.select(sa.func.count()).where(Grant.failed_tries > 0, moving)) or 0


def open_tasks() -> int:
    return db.session.scalar(sa.select(sa.func.count()).where(ManualTask.closed_at.is_(None))) or 0


def count_by_state() -> dict[str, int]:
    rows = db.session.execute(sa.select(Grant.state, sa.func.count()).group_by(Grant.state))
    return {row[0]: row[1] for row in rows}


OUTCOME_WORDS = {
    Outcome.PRESENT: "read back: has access",
    Outcome.GONE: "read back: no access",
    Outcome.NOT_TAKEN: "TradingView did not take it",
    Outcome.LATER: "TradingView did not answer properly",
    Outcome.UNKNOWN_NAME: "name unknown at TradingView",
    Outcome.SESSION_REFUSED: "our session was refused",
    Outcome.LOST: "the worker died during this try",
}
