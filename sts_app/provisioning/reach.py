"""Whom a change of the catalog would reach, and how long that takes: the preview before the deed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from flask import current_app

from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan, Strategy
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.provisioning.models import Entitlement, Grant, TradingViewName
from sts_app.provisioning.rules import CLOCKS_APART, GrantState
from sts_app.settings import Settings


@dataclass(frozen=True)
class Reach:
    """What the spread of one script would be, if it began now.

    `people` hold a plan that covers the strategy, `nameless` of them without a TradingView name yet.
    `pairs` are those with one, each with the script; `holding` of these are verified already. `leaving`
    are the pairs with another script of the same strategy, which are taken away afterwards. `takes` is
    how long the calls last at the pace that is set, without new buyers, who go first.
    """

    people: int
    nameless: int
    pairs: int
    holding: int
    leaving: int
    takes: timedelta

    @property
    def to_give(self) -> int:
        return self.pairs - self.holding


@dataclass(frozen=True)
class Turn:
    """Who has a strategy by one plan alone, or would: `people` in all, `nameless` of them without a TradingView name.

    They get it when the plan comes to cover it, and lose it when it no longer does.
    """

    people: int
    nameless: int


def reach_of(strategy_id: int, script_id: str | None = None) -> Reach:
    """Preview an activation, or the change to `script_id`, of a strategy in whatever status. Changes nothing.

    Raises `NotThere`.
    """
    strategy = db.session.get(Strategy, strategy_id)
    if strategy is None:
        raise NotThere(cause=f"strategy:{strategy_id}")
    script_id = script_id or strategy.script_id
    names = _names_entitled(catalog.plans_covering(strategy)).subquery()
    people, pairs = db.session.execute(
        sa.select(sa.func.count(), sa.func.count(names.c.name_key)).select_from(names)
    ).one()
    holding = _count(
        sa.select(Grant.id)
        .join(names, names.c.name_key == Grant.name_key)
        .where(Grant.script_id == script_id, Grant.state == GrantState.VERIFIED)
    )
    others = {strategy.script_id, *catalog.former_scripts().get(strategy_id, ())} - {script_id}
    leaving = _count(
        sa.select(Grant.id).where(
            Grant.script_id.in_(others), Grant.state != GrantState.ABSENT, Grant.called_at.is_not(None)
        )
    )
    settings: Settings = current_app.config["STS"]
    minutes = (pairs - holding + leaving) / settings.tv_writes_per_minute
    return Reach(people, people - pairs, pairs, holding, leaving, timedelta(minutes=minutes))


def turn_of(plan: Plan, strategy: Strategy) -> Turn:
    """Preview that `strategy` comes to the list of `plan`, or goes from it. Changes nothing.

    A draft is reckoned as if it were on sale.
    """
    names = _names_entitled(sa.select(Plan).where(Plan.id == plan.id)).subquery()
    others = _names_entitled(catalog.plans_covering(strategy).where(Plan.id != plan.id)).subquery()
    people, pairs = db.session.execute(
        sa.select(sa.func.count(), sa.func.count(names.c.name_key)).where(
            ~sa.exists().where(others.c.user_id == names.c.user_id)
        )
    ).one()
    return Turn(people, people - pairs)


def holders_of(plan: Plan) -> int:
    """How many people have a reason for this plan that holds now."""
    return _count(_names_entitled(sa.select(Plan).where(Plan.id == plan.id)))


def _names_entitled(plans: sa.Select[Plan]) -> sa.Select[int, str]:
    """(user_id, name_key or NULL) of everybody whose entitlement to one of the plans holds now."""
    now = clock.now()
    return (
        sa.select(Entitlement.user_id, TradingViewName.name_key)
        .outerjoin(
            TradingViewName,
            sa.and_(TradingViewName.user_id == Entitlement.user_id, TradingViewName.replaced_at.is_(None)),
        )
        .where(
            Entitlement.plan_id.in_(plans.with_only_columns(Plan.id).order_by(None)),
            Entitlement.starts_at <= now + CLOCKS_APART,
            sa.or_(Entitlement.ends_at.is_(None), Entitlement.ends_at > now),
            Entitlement.suspended_at.is_(None),
        )
        .distinct()
    )


def _count(rows: sa.Select[int] | sa.Select[int, str]) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(rows.subquery())) or 0
