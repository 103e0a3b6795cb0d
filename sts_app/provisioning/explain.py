"""Why somebody has access or has not: everything on record about them, and what the deciding function says.

`sts explain` and staff read the whole of it, the customer's dashboard its sentences. Nothing is decided
here: what is wanted and why comes from `rules.decide`, what may be done at TradingView from
`control.standing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.catalog.models import Plan, Strategy
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.money import as_moment
from sts_app.provisioning import control, pace, queries, verdicts, words
from sts_app.provisioning.models import Entitlement, Grant, TradingViewName
from sts_app.provisioning.queries import Facts, StrategyAccess
from sts_app.provisioning.rules import AccessState, Script, Switch
from sts_app.provisioning.verdicts import NameTold, ReasonTold, StrategyTold, Way
from sts_app.provisioning.words import Line


@dataclass(frozen=True)
class Explanation:
    """The whole answer about one person at one moment."""

    user_id: int
    email: str
    at: datetime
    verdict: str
    as_wanted: bool
    vendor: str
    names: tuple[NameTold, ...]
    reasons: tuple[ReasonTold, ...]
    strategies: tuple[StrategyTold, ...]


@dataclass(frozen=True)
class CustomerAccess:
    """One strategy as its customer sees it. `history` is newest first.

    `read_at` is when access was last read back, None where it does not stand or a person's word stands for it.
    `asked_at` is when TradingView is asked next, in the past while that waits for its turn or is under way; None
    where nothing moves, or a person has it.
    """

    strategy: Strategy
    state: AccessState
    words: str
    read_at: datetime | None
    history: tuple[Line, ...]
    is_moving: bool
    asked_at: datetime | None


def person_called(who: str) -> int | None:
    """The id of the person with this e-mail address or TradingView name, whatever its case; None for nobody.

    A name that several people had is whose it is now, or whose it was last.
    """
    who = who.strip().lower()
    if "@" in who:
        return db.session.scalar(sa.select(User.id).where(sa.func.lower(User.email) == who))
    return db.session.scalar(
        sa.select(TradingViewName.user_id)
        .where(TradingViewName.name_key == who)
        .order_by(TradingViewName.released_at.desc().nulls_first(), TradingViewName.id.desc())
        .limit(1)
    )


def as_customer_sees(user_id: int, now: datetime) -> list[CustomerAccess]:
    """The access of one person in their own words, a row for each strategy they are or were entitled to."""
    facts = queries.facts_of(user_id, now)
    names = _all_names(user_id)
    pairs = _pairs_ever(facts, names)
    ledger = queries.ledger_of(pairs)
    standing = control.standing()
    seen = []
    for script, strategy in facts.scripts.items():
        if not facts.reasons(script):
            continue
        row = queries.access_to(facts, script, strategy)
        scripts = {script.script_id, *script.former_ids}
        seen.append(
            CustomerAccess(
                strategy,
                row.state,
                words.words_for(row, facts, ledger, standing),
                words.read_at(row),
                words.history_of((pair for pair in pairs if pair.script_id in scripts), ledger, names=names),
                _is_moving(row, now),
                _asked_at(row, now),
            )
        )
    return seen


def after_recheck(user_id: int, now: datetime) -> str:
    """What pressing *Recheck* led to for a customer, as their pairs stand after it."""
    names = queries.names_of(user_id)
    return words.recheck_words(queries.grants_of(name.name_key for name in names), control.standing(), now)


def _pairs_ever(facts: Facts, names: Sequence[TradingViewName]) -> Sequence[Grant]:
    """The pairs of every name a person has or had, those of a name that is somebody else's by now included."""
    released = {name.name_key for name in names} - {name.name_key for name in facts.names}
    return [*facts.grants.values(), *(queries.grants_of(released) if released else ())]


def _is_moving(access: StrategyAccess, now: datetime) -> bool:
    """Whether a page should look again: something is under way, or is being read once more."""
    if access.state in (AccessState.PENDING, AccessState.REVOKING):
        return True
    return any(row.next_attempt_at is not None and row.next_attempt_at <= now for row in access.rows)


def _asked_at(access: StrategyAccess, now: datetime) -> datetime | None:
    """When TradingView is asked next, which has come while it is being asked. A reading far ahead is no news."""
    moving = _is_moving(access, now)
    due = (row.next_attempt_at for row in access.rows if moving and row.next_attempt_at is not None)
    return min(due, default=None)


def explain(user_id: int, strategy_id: int | None = None, *, now: datetime | None = None) -> Explanation:
    """Everything about one person and every strategy, or the one named, whatever its status.

    Reads only, and asks no vendor.
    """
    facts = queries.facts_of(user_id, now or clock.now())
    strategies = _strategies(facts, strategy_id)
    found = [queries.access_to(facts, script, strategy) for script, strategy in strategies]
    ledger = queries.ledger_of(grant for access in found for grant in access.rows)
    way = _way()
    told = tuple(
        verdicts.of_strategy(access, script, facts, ledger, way)
        for access, (script, _) in zip(found, strategies, strict=True)
    )
    return Explanation(
        user_id=user_id,
        email=db.session.get_one(User, user_id).email,
        at=facts.now,
        verdict=verdicts.overall(told),
        as_wanted=all(each.as_wanted for each in told),
        vendor=way.words,
        names=tuple(verdicts.of_name(name, facts) for name in _all_names(user_id)),
        reasons=tuple(verdicts.of_reason(each, plan, facts.now) for each, plan in _plans(facts.entitlements)),
        strategies=told,
    )


def _strategies(facts: Facts, strategy_id: int | None) -> list[tuple[Script, Strategy]]:
    """What is explained: every strategy that a plan may want or that a pair stands for, or the one asked for."""
    every = list(facts.scripts.items())
    known = {strategy.id for _, strategy in every}
    others = {grant.strategy_id for grant in facts.grants.values()} | ({strategy_id} if strategy_id else set())
    for strategy in db.session.scalars(
        sa.select(Strategy).where(Strategy.id.in_(others - known)).order_by(Strategy.position, Strategy.id)
    ):
        every.append((Script(strategy.script_id, frozenset()), strategy))
    return [each for each in every if strategy_id in (None, each[1].id)]


def _way() -> Way:
    """What stands between us and TradingView at the moment, for staff."""
    standing = control.standing()
    incident = control.open_incident()
    told, blocks = [f"the switch is at {standing.switch.value}"], []
    if standing.switch is Switch.DISABLED:
        blocks.append("staff have switched all calls to TradingView off")
    if incident is not None:
        told.append(f"incident {incident.id} is open since {as_moment(incident.created_at)} ({incident.reason})")
        blocks.append(f"incident {incident.id} is open until a person saves credentials that TradingView accepts")
    elif standing.switch is Switch.MANUAL:
        blocks.append("the switch is at MANUAL, so people do the work from the list")
    if not standing.has_adapter:
        told.append("there is no automatic way to TradingView")
        blocks.append("the store runs by hand, so people do the work from the list")
    if standing.circuit_open and standing.canary_at is not None:
        told.append("the circuit is open")
        blocks.append(f"the circuit is open and the next canary call is due on {as_moment(standing.canary_at)}")
    return Way(standing, ", ".join(told), blocks[0] if blocks else None, _pace_words(pace.figures()))


def _pace_words(figures: dict[str, Any]) -> str:
    write = figures["write"]
    held = f", held until {as_moment(datetime.fromisoformat(write['heldUntil']))}" if write["heldUntil"] else ""
    return f"{write['perMinute']:g} write calls a minute, {max(write['tokens'], 0):g} to be had now{held}"


def _all_names(user_id: int) -> Sequence[TradingViewName]:
    statement = sa.select(TradingViewName).where(TradingViewName.user_id == user_id)
    return db.session.scalars(statement.order_by(TradingViewName.id.desc())).all()


def _plans(entitlements: Sequence[Entitlement]) -> list[tuple[Entitlement, str]]:
    ids = {each.plan_id for each in entitlements}
    plans = {plan.id: plan.slug for plan in db.session.scalars(sa.select(Plan).where(Plan.id.in_(ids)))}
    return [(each, plans[each.plan_id]) for each in entitlements]
