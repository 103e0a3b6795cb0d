"""Reads of the catalog: what is shown, what is sold, and what a plan covers."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from sts_app.catalog.models import FormerScript, Plan, PlanStrategy, Strategy, StrategyStatus
from sts_app.core.db import db
from sts_app.core.errors import NotNow, NotThere

LIFETIME = "lifetime"
_IN_ORDER = (Strategy.position, Strategy.id)
_PLANS_IN_ORDER = (Plan.position, Plan.id)


def strategies_on_sale() -> Sequence[Strategy]:
    """What a new buyer gets, in the order staff chose."""
    on_sale = sa.select(Strategy).where(Strategy.status == StrategyStatus.ON_SALE).order_by(*_IN_ORDER)
    return db.session.scalars(on_sale).all()


def strategy_by_slug(slug: str) -> Strategy:
    """The strategy at this address. Raises `NotThere` for a draft, as for a name that never was.

    A retired one keeps its page, because its holders keep its access.
    """
    shown = sa.select(Strategy).where(Strategy.slug == slug, Strategy.status != StrategyStatus.DRAFT)
    strategy = db.session.scalars(shown).one_or_none()
    if strategy is None:
        raise NotThere(cause=f"no strategy shown as {slug!r}")
    return strategy


def all_strategies() -> Sequence[Strategy]:
    """Every strategy, drafts included, for staff."""
    return db.session.scalars(sa.select(Strategy).order_by(*_IN_ORDER)).all()


def strategy_for_staff(slug: str) -> Strategy:
    """The strategy of this name in whatever status. Raises `NotThere`."""
    strategy = db.session.scalars(sa.select(Strategy).where(Strategy.slug == slug)).one_or_none()
    if strategy is None:
        raise NotThere(f"There is no strategy called {slug!r}.")
    return strategy


def strategy_with_script(script_id: str) -> Strategy | None:
    """Whose script this is or was, if anybody's. One statement, so that a swap under way cannot hide from it."""
    was = sa.exists().where(FormerScript.strategy_id == Strategy.id, FormerScript.script_id == script_id)
    found = sa.select(Strategy).where(sa.or_(Strategy.script_id == script_id, was)).order_by(Strategy.id)
    return db.session.scalars(found).first()


def former_scripts() -> dict[int, frozenset[str]]:
    """The script ids that strategies had before, by strategy id. One that never changed is left out."""
    found: dict[int, frozenset[str]] = {}
    for strategy_id, script_id in db.session.execute(sa.select(FormerScript.strategy_id, FormerScript.script_id)):
        found[strategy_id] = found.get(strategy_id, frozenset()) | {script_id}
    return found


def plan_on_sale() -> Plan | None:
    """The lifetime plan while it can be bought, for pages that must render either way."""
    return db.session.scalars(sa.select(Plan).where(Plan.slug == LIFETIME, Plan.active)).one_or_none()


def lifetime_plan() -> Plan:
    """The plan a purchase is made of. Raises `NotNow` while it is missing or not active."""
    plan = plan_on_sale()
    if plan is None:
        raise NotNow(
            "Lifetime access is not on sale at the moment. Nothing was charged. Please come back later.",
            cause="no active plan with the slug lifetime; `sts seed` creates it",
        )
    return plan


def plans_on_sale() -> Sequence[Plan]:
    """Every plan that can be bought now, in the order staff chose."""
    return db.session.scalars(sa.select(Plan).where(Plan.active).order_by(*_PLANS_IN_ORDER)).all()


def all_plans() -> Sequence[Plan]:
    """Every plan, those that are not sold included, for staff."""
    return db.session.scalars(sa.select(Plan).order_by(*_PLANS_IN_ORDER)).all()


def plan_named(slug: str) -> Plan:
    """The plan of this name, on sale or not. Raises `NotThere`."""
    plan = db.session.scalars(sa.select(Plan).where(Plan.slug == slug)).one_or_none()
    if plan is None:
        raise NotThere(f"There is no plan called {slug!r}.")
    return plan


def coverage() -> sa.Select[int, int]:
    """(plan_id, strategy_id) of what the holders of each plan are to have now: on sale or retired, never a draft.

    The one definition of what a plan covers. A statement, small whatever the number of holders, for others
    to join. Asked afresh each time, so that a strategy activated later reaches those who bought before.
    """
    listed = sa.exists().where(PlanStrategy.plan_id == Plan.id, PlanStrategy.strategy_id == Strategy.id)
    return (
        sa.select(Plan.id.label("plan_id"), Strategy.id.label("strategy_id"))
        .join(Strategy, sa.or_(Plan.covers_all, listed))
        .where(Strategy.status.in_((StrategyStatus.ON_SALE, StrategyStatus.RETIRED)))
    )


def covered_strategies(plan: Plan) -> Sequence[Strategy]:
    """The strategies a holder of `plan` is to have now, in the order staff chose: `coverage` of one plan."""
    covered = coverage().where(Plan.id == plan.id).subquery()
    return db.session.scalars(
        sa.select(Strategy).join(covered, covered.c.strategy_id == Strategy.id).order_by(*_IN_ORDER)
    ).all()


def listed_strategies(plan: Plan) -> Sequence[Strategy]:
    """The strategies on the list of a plan that does not cover all, drafts among them, in the order staff chose."""
    listed = sa.select(PlanStrategy.strategy_id).where(PlanStrategy.plan_id == plan.id)
    return db.session.scalars(sa.select(Strategy).where(Strategy.id.in_(listed)).order_by(*_IN_ORDER)).all()


def plans_covering(strategy: Strategy) -> sa.Select[Plan]:
    """The plans whose holders have `strategy`, or would have it if it were no draft, in the order of their ids.

    The other direction of `coverage`; a statement, so that a caller may lock what it finds. Plans that are no
    longer sold are among them: who bought one keeps what it covers.
    """
    listing = sa.select(PlanStrategy.plan_id).where(PlanStrategy.strategy_id == strategy.id)
    return sa.select(Plan).where(sa.or_(Plan.covers_all, Plan.id.in_(listing))).order_by(Plan.id)
