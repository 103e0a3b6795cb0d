"""Reads of provisioning, shaped for the decision, the pages and the sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from sts_app.catalog import queries as catalog
from sts_app.catalog.models import FormerScript, Strategy
from sts_app.core.db import db
from sts_app.provisioning.models import (
    Entitlement,
    Grant,
    ManualTask,
    ProvisioningAttempt,
    ProvisioningJob,
    TradingViewName,
)
from sts_app.provisioning.rules import (
    CLOCKS_APART,
    AccessState,
    GrantState,
    Name,
    Outcome,
    Pair,
    Reason,
    Script,
    Want,
    access_state,
    decide,
)

Kept = TypeVar("Kept", ProvisioningJob, ProvisioningAttempt, ManualTask)


@dataclass(frozen=True)
class Facts:
    """What is on record about one person at `now`, and what the deciding function makes of it.

    `names` are those not yet released, `scripts` whatever any plan may want, `grants` every pair of
    these names, and `wanted` the answer of `rules.decide`.
    """

    now: datetime
    names: Sequence[TradingViewName]
    entitlements: Sequence[Entitlement]
    scripts: dict[Script, Strategy]
    grants: dict[Pair, Grant]
    wanted: dict[Pair, Want]

    @property
    def name(self) -> TradingViewName | None:
        """The name that access is given to."""
        return next((name for name in self.names if name.replaced_at is None), None)

    def target(self, script: Script) -> Pair | None:
        """What should stand for a strategy: the current name with the current script."""
        return Pair(self.name.name_key, script.script_id) if self.name else None

    def reasons(self, script: Script) -> list[Entitlement]:
        """Every reason this person has or had for a strategy, ended ones included."""
        return [each for each in self.entitlements if each.plan_id in script.plan_ids]

    def grants_for(self, script: Script) -> list[Grant]:
        """The pairs of a strategy: what should stand first, then former names and former scripts."""
        scripts = (script.script_id, *sorted(script.former_ids))
        pairs = [Pair(name.name_key, each) for name in reversed(self.names) for each in scripts]
        found = [self.grants[pair] for pair in pairs if pair in self.grants]
        return sorted(found, key=lambda grant: Pair(grant.name_key, grant.script_id) != self.target(script))


@dataclass(frozen=True)
class StrategyAccess:
    """What a customer sees for one strategy.

    `reasons` are all they have or had; `grant` is of the pair that should stand, if there is one; `rows`
    are all of the strategy's pairs.
    """

    strategy: Strategy
    state: AccessState
    reasons: Sequence[Entitlement]
    grant: Grant | None
    rows: Sequence[Grant]
    since: datetime | None


@dataclass(frozen=True)
class Ledger:
    """What was done about some grants, newest first, by grant id."""

    jobs: dict[int, list[ProvisioningJob]]
    attempts: dict[int, list[ProvisioningAttempt]]
    tasks: dict[int, list[ManualTask]]

    def job(self, grant: Grant) -> ProvisioningJob | None:
        """The job of the present cycle."""
        return next((job for job in self.jobs[grant.id] if job.cycle == grant.cycle), None)

    def open_task(self, grant: Grant) -> ManualTask | None:
        return next((task for task in self.tasks[grant.id] if task.closed_at is None), None)

    def last_try(self, grant: Grant) -> ProvisioningAttempt | None:
        """The last try of the present cycle that came to an end."""
        job = self.job(grant)
        tries = (each for each in self.attempts[grant.id] if job is not None and each.job_id == job.id)
        return next((each for each in tries if each.finished_at is not None), None)


def current_name(user_id: int) -> TradingViewName | None:
    return db.session.scalar(
        sa.select(TradingViewName).where(TradingViewName.user_id == user_id, TradingViewName.replaced_at.is_(None))
    )


def entitlements_of(user_id: int) -> Sequence[Entitlement]:
    return db.session.scalars(
        sa.select(Entitlement).where(Entitlement.user_id == user_id).order_by(Entitlement.id)
    ).all()


def entitlement_from(source: str) -> Entitlement | None:
    return db.session.scalar(sa.select(Entitlement).where(Entitlement.source == source))


def reasons_of(entitlements: Iterable[Entitlement]) -> list[Reason]:
    return [
        Reason(e.plan_id, e.starts_at, ends_at=e.ends_at, suspended=e.suspended_at is not None, source=e.source)
        for e in entitlements
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
    covered = catalog.coverage().subquery()
    statement = (
        sa.select(Strategy, covered.c.plan_id)
        .join(covered, covered.c.strategy_id == Strategy.id)
        .order_by(Strategy.position, Strategy.id)
    )
    plans: dict[Strategy, set[int]] = {}
    for strategy, plan_id in db.session.execute(statement):
        plans.setdefault(strategy, set()).add(plan_id)
    former = catalog.former_scripts() if plans else {}
    return {
        Script(strategy.script_id, frozenset(ids), former.get(strategy.id, frozenset())): strategy
        for strategy, ids in plans.items()
    }


def as_names(names: Iterable[TradingViewName]) -> list[Name]:
    return [Name(name.name_key, name.replaced_at is None) for name in names]


def grants_of(name_keys: Iterable[str]) -> Sequence[Grant]:
    return db.session.scalars(sa.select(Grant).where(Grant.name_key.in_(list(name_keys))).order_by(Grant.id)).all()


def facts_of(user_id: int, now: datetime) -> Facts:
    """Read everything that decides about one person, and let `rules.decide` decide. Locks nothing."""
    names = names_of(user_id)
    entitlements = entitlements_of(user_id)
    scripts = grantable_scripts()
    grants = grants_of(name.name_key for name in names)
    wanted = decide(reasons_of(entitlements), as_names(names), scripts, verified=verified_pairs(grants), now=now)
    by_pair = {Pair(grant.name_key, grant.script_id): grant for grant in grants}
    return Facts(now, names, entitlements, scripts, by_pair, wanted)


def access_of(user_id: int, now: datetime) -> list[StrategyAccess]:
    """The access of one person, a row for each strategy they are or were entitled to."""
    facts = facts_of(user_id, now)
    return [access_to(facts, script, facts.scripts[script]) for script in facts.scripts if facts.reasons(script)]


def access_to(facts: Facts, script: Script, strategy: Strategy) -> StrategyAccess:
    """What a customer sees for one strategy, in the words of PRODUCT 2.

    Revoked is only what is absent under every name and script of theirs.
    """
    target = facts.target(script)
    grant = facts.grants.get(target) if target else None
    rows = facts.grants_for(script)
    reasons = facts.reasons(script)
    wanted = any(reason.holds(facts.now) for reason in reasons_of(reasons))
    if wanted:
        told = GrantState(grant.state) if grant else None
    else:
        told = next((GrantState(row.state) for row in rows if row.state != GrantState.ABSENT), None)
    suspended = any(each.suspended_at is not None and not has_ended(each, facts.now) for each in reasons)
    state = access_state(told, wanted=wanted, suspended=suspended, has_name=facts.name is not None)
    since = None
    if state is AccessState.ACTIVE and grant is not None:
        since = grant.verified_at
    elif state is AccessState.REVOKED:
        since = max((row.absent_at for row in rows if row.absent_at is not None), default=None)
    return StrategyAccess(strategy, state, reasons, grant, rows, since)


def has_ended(entitlement: Entitlement, now: datetime) -> bool:
    return entitlement.ends_at is not None and entitlement.ends_at <= now


def ledger_of(grants: Iterable[Grant], *, latest: int = 50) -> Ledger:
    """The history of some grants, of each the `latest` jobs, tries and tasks."""
    ids = [grant.id for grant in grants]
    return Ledger(
        _latest(ProvisioningJob, ids, latest),
        _latest(ProvisioningAttempt, ids, latest),
        _latest(ManualTask, ids, latest),
    )


def _latest(model: type[Kept], grant_ids: Sequence[int], count: int) -> dict[int, list[Kept]]:
    found: dict[int, list[Kept]] = {grant_id: [] for grant_id in grant_ids}
    if grant_ids:
        place = sa.func.row_number().over(partition_by=model.grant_id, order_by=model.id.desc())
        ranked = sa.select(model.id, place.label("place")).where(model.grant_id.in_(grant_ids)).subquery()
        statement = sa.select(model).join(ranked, ranked.c.id == model.id).where(ranked.c.place <= count)
        for row in db.session.scalars(statement.order_by(model.id.desc())):
            found[row.grant_id].append(row)
    return found


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


def cycles_ended_of(user_id: int, since: datetime) -> list[tuple[ProvisioningJob, Grant, Strategy]]:
    """The latest cycle of each pair that was reached since then, while the name was this person's."""
    statement = (
        sa.select(ProvisioningJob, Grant, Strategy)
        .join(Grant, Grant.id == ProvisioningJob.grant_id)
        .join(Strategy, Strategy.id == Grant.strategy_id)
        .join(TradingViewName, TradingViewName.name_key == Grant.name_key)
        .where(
            TradingViewName.user_id == user_id,
            ProvisioningJob.state == "reached",
            ProvisioningJob.closed_at > since,
            ProvisioningJob.created_at >= TradingViewName.created_at,
            sa.or_(TradingViewName.released_at.is_(None), ProvisioningJob.closed_at <= TradingViewName.released_at),
        )
        .order_by(Strategy.position, Strategy.id, ProvisioningJob.id)
    )
    latest = {grant.id: (job, grant, strategy) for job, grant, strategy in db.session.execute(statement)}
    return list(latest.values())


def is_due(now: datetime, grant: type[Grant] = Grant) -> sa.ColumnElement[bool]:
    return sa.and_(grant.next_attempt_at <= now, sa.or_(grant.leased_until.is_(None), grant.leased_until <= now))


def grants_due(now: datetime, *, may_read: bool = True) -> int:
    """How many pairs are due; without `may_read` only those that do not merely wait to be looked at once more."""
    due = sa.select(sa.func.count()).select_from(Grant).where(is_due(now))
    if not may_read:
        due = due.where(Grant.state.not_in((GrantState.VERIFIED, GrantState.ABSENT)))
    return db.session.scalar(due) or 0


def wanted_now(now: datetime) -> sa.CompoundSelect[int, str, str]:
    """(user_id, name_key, script_id) of every pair that `rules.decide` wants, in SQL.

    The set-based twin for the sweep and the reconciler; a property test holds the two together. Each
    join follows an index, so that the plan is a good one on tables that nobody has analysed yet too.
    """
    holds = sa.and_(
        Entitlement.starts_at <= now + CLOCKS_APART,
        sa.or_(Entitlement.ends_at.is_(None), Entitlement.ends_at > now),
        Entitlement.suspended_at.is_(None),
    )
    # Reckoned once and joined: asked of each entitlement, the list of its plan would be looked up for each strategy.
    covered = catalog.coverage().cte("covered").prefix_with("MATERIALIZED")
    targets = (
        sa.select(Entitlement.user_id, TradingViewName.name_key, Strategy.script_id)
        .join(covered, covered.c.plan_id == Entitlement.plan_id)
        .join(Strategy, Strategy.id == covered.c.strategy_id)
        .join(TradingViewName, TradingViewName.user_id == Entitlement.user_id)
        .where(holds, TradingViewName.replaced_at.is_(None))
    )
    # What has access already keeps it until what should stand is read back. Few pairs have a former name or script:
    # they are found in one pass, from the grants and not from the people.
    has_left = sa.or_(
        TradingViewName.replaced_at.is_not(None), sa.exists().where(FormerScript.script_id == Grant.script_id)
    )
    old = (
        sa.select(TradingViewName.user_id, TradingViewName.replaced_at, Grant.name_key, Grant.script_id)
        .join(Grant, Grant.name_key == TradingViewName.name_key)
        .where(TradingViewName.released_at.is_(None), Grant.state == GrantState.VERIFIED, has_left)
        .cte("old")
        .prefix_with("MATERIALIZED")
    )
    scripts = sa.union_all(
        sa.select(Strategy.id.label("strategy_id"), Strategy.script_id),
        sa.select(FormerScript.strategy_id, FormerScript.script_id),
    ).subquery()
    present, target = aliased(TradingViewName), aliased(Grant)
    target_stands = sa.exists().where(
        present.user_id == old.c.user_id,
        present.replaced_at.is_(None),
        target.name_key == present.name_key,
        target.script_id == Strategy.script_id,
        target.state == GrantState.VERIFIED,
    )
    kept = (
        sa.select(old.c.user_id, old.c.name_key, old.c.script_id)
        .join(scripts, scripts.c.script_id == old.c.script_id)
        .join(Strategy, Strategy.id == scripts.c.strategy_id)
        .join(Entitlement, Entitlement.user_id == old.c.user_id)
        .join(covered, sa.and_(covered.c.plan_id == Entitlement.plan_id, covered.c.strategy_id == Strategy.id))
        .where(
            holds,
            sa.or_(old.c.replaced_at.is_not(None), old.c.script_id != Strategy.script_id),
            ~target_stands,
        )
    )
    return sa.union(targets, kept)


def people_out_of_step(now: datetime, *, limit: int = 500) -> Sequence[int]:
    """Ids of people whose rows differ from what is wanted now: time has passed, or the catalog has changed."""
    wanted = wanted_now(now).cte("wanted")
    rows = (
        sa.select(TradingViewName.user_id, Grant.name_key, Grant.script_id)
        .join(Grant, Grant.name_key == TradingViewName.name_key)
        .where(TradingViewName.released_at.is_(None), Grant.wanted)
        .cte("rows")
    )
    # Two differences of sets, each one pass over both, whatever the planner believes of their sizes.
    missing = sa.except_(sa.select(wanted), sa.select(rows)).subquery()
    extra = sa.except_(sa.select(rows), sa.select(wanted)).subquery()
    either = sa.union(sa.select(missing.c.user_id), sa.select(extra.c.user_id)).subquery()
    # Whoever cannot be put right must not stand before the others every minute.
    return db.session.scalars(sa.select(either.c.user_id).order_by(sa.func.random()).limit(limit)).all()


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
            sa.or_(Entitlement.ends_at.is_(None), Entitlement.ends_at > before),
            Entitlement.suspended_at.is_(None),
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
    Outcome.NO_VERDICT: "TradingView answered, and said nothing about this",
    Outcome.LATER: "TradingView did not answer properly",
    Outcome.UNKNOWN_NAME: "name unknown at TradingView",
    Outcome.SESSION_REFUSED: "our session was refused",
    Outcome.LOST: "the worker died during this try",
}


def has_money_in(entitlement: Entitlement, now: datetime) -> bool:
    """Whether somebody paid for this reason and it has not ended: there is money that could be given back."""
    return entitlement.source.startswith("purchase:") and not has_ended(entitlement, now)
