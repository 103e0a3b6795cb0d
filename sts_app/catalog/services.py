"""The verbs of the catalog: strategies and the plans they are sold in.

Locks are taken in one order: the strategies a verb is about, then plans, each in the order of their ids. What
a strategy is covered by changes only under the strategy's lock, so that whoever holds it knows the plans to take.
They leave references to these rows alone: a checkout need not wait.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from sts_app.audit.services import SYSTEM, record
from sts_app.catalog import queries
from sts_app.catalog.models import (
    FormerScript,
    Mode,
    Plan,
    PlanStrategy,
    Strategy,
    StrategyStatus,
    is_placeholder,
    is_script_id,
)
from sts_app.catalog.seed import PLAN, STRATEGIES
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere, Refusal
from sts_app.settings import PLACEHOLDER_PRICE, Settings


class ScriptInUse(AlreadyDone):
    code = "SCRIPT_IN_USE"
    sentence = "Another strategy has or had this script id, and its holders may hold it still."


class NeverOnSale(Refusal):
    status = 409
    code = "NEVER_ON_SALE"
    sentence = "Only a strategy that is on sale can be retired. A draft has no holders, so there is nothing to keep."


class PlanExists(AlreadyDone):
    code = "PLAN_EXISTS"
    sentence = "There is a plan of this name already. Who bought it keeps it, so its name is not used again."


class WouldEndAccess(Refusal):
    status = 409
    code = "WOULD_END_ACCESS"
    sentence = "Whoever has this strategy by this plan alone would lose it. Confirm that this is meant."


_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_PRICE_ID = re.compile(r"price_[A-Za-z0-9_]{1,200}", re.ASCII)
_LONGEST_SLUG = 60
# Stripe's own: eight digits in the smallest unit of a currency.
_HIGHEST_PRICE_CENTS = 99_999_999
_HIGHEST_POSITION = 1_000_000


@dataclass(frozen=True)
class Seeded:
    """How many rows a seeding added. A second one adds none."""

    strategies: int
    plans: int


def seed_catalog(price_id: str | None) -> Seeded:
    """Put the six strategies and the lifetime plan in place where they are missing.

    Safe to call at every deploy: what stands is left as staff made it. The one exception is the
    plan's price at Stripe, which is filled in while nobody has named a real one.
    """
    # A script that was changed marks a strategy that stands, whatever staff call it by now.
    former = frozenset().union(*queries.former_scripts().values())
    strategies = sum(
        _insert_if_missing(Strategy, {**strategy.as_values(), "position": position, "status": StrategyStatus.ON_SALE})
        for position, strategy in enumerate(STRATEGIES, start=1)
        if strategy.script_id not in former
    )
    plans = _insert_if_missing(Plan, {**PLAN.as_values(), "stripe_price_id": price_id})
    if price_id:
        unnamed = Plan.stripe_price_id.is_(None) | (Plan.stripe_price_id == PLACEHOLDER_PRICE)
        db.session.execute(
            sa.update(Plan).where(Plan.slug == PLAN.slug, unnamed).values(stripe_price_id=price_id),
            execution_options={"synchronize_session": "fetch"},
        )
    if strategies or plans:
        record(SYSTEM, "catalog.seeded", "catalog:all", strategies=strategies, plans=plans)
    return Seeded(strategies=strategies, plans=plans)


def activate(strategy_id: int, actor: str) -> bool:
    """Put a draft or a retired strategy on sale. False when it is on sale already.

    Whoever holds a plan that covers it gets it: those of today by the minute sweep, behind new buyers,
    and those of tomorrow with their purchase. Raises `NotThere`, and `FixInput` for a placeholder script
    where TradingView is the real one.
    """
    strategy = _locked(strategy_id)
    if strategy.status == StrategyStatus.ON_SALE:
        return False
    _refuse_placeholder(strategy.script_id)
    before, strategy.status = strategy.status, StrategyStatus.ON_SALE
    db.session.flush()
    record(actor, "catalog.strategy_activated", f"strategy:{strategy_id}", before=before)
    return True


def retire(strategy_id: int, actor: str) -> bool:
    """Take a strategy off the listing; its holders keep it, new ones included. False when it is retired already.

    Raises `NotThere`, and `NeverOnSale` for a draft.
    """
    strategy = _locked(strategy_id)
    if strategy.status == StrategyStatus.RETIRED:
        return False
    if strategy.status == StrategyStatus.DRAFT:
        raise NeverOnSale(cause=f"strategy:{strategy_id}")
    strategy.status = StrategyStatus.RETIRED
    db.session.flush()
    record(actor, "catalog.strategy_retired", f"strategy:{strategy_id}")
    return True


def change_script(strategy_id: int, script_id: str, *, actor: str) -> bool:
    """Give a strategy another pine id. False when it has this one already.

    Its holders move by the minute sweep: each keeps the former script until the new one is read back.
    Going back to a former script of its own makes that the present one and this one a former one.
    Raises `NotThere`; `FixInput` for what is no pine id, or is a placeholder where TradingView is the
    real one; `ScriptInUse` when another strategy has or had it.
    """
    if not is_script_id(script_id):
        raise FixInput("A script id is PUB; and then letters, digits, - or _, as TradingView shows it.")
    strategy = _locked(strategy_id)
    before = strategy.script_id
    if before == script_id:
        return False
    _refuse_placeholder(script_id)
    owner = queries.strategy_with_script(script_id)
    if owner not in (None, strategy):
        raise ScriptInUse(cause=f"strategy:{strategy_id} wants the script of another")
    try:
        with db.session.begin_nested():
            db.session.execute(sa.delete(FormerScript).where(FormerScript.script_id == script_id))
            if strategy.status != StrategyStatus.DRAFT:
                # Nobody was ever given a draft, so its mistyped id stays free for the strategy it belongs to.
                db.session.add(FormerScript(strategy_id=strategy_id, script_id=before))
            strategy.script_id = script_id
    except IntegrityError:
        # A strategy that was added at the same moment.
        raise ScriptInUse(cause=f"strategy:{strategy_id} wants the script of another") from None
    record(actor, "catalog.script_changed", f"strategy:{strategy_id}", before=before, after=script_id)
    return True


def create_plan(
    slug: str,
    *,
    name: str,
    price_cents: int,
    currency: str = "usd",
    mode: Mode = Mode.PAYMENT,
    interval: str = "",
    covers_all: bool = False,
    strategies: Sequence[str] = (),
    stripe_price_id: str | None = None,
    actor: str,
) -> Plan:
    """A new plan after all others, not on sale yet. It covers all strategies, or those with the slugs given.

    `interval` is month or year for a subscription and empty for what is paid once. How it is paid for never
    changes afterwards. Drafts may be listed: holders have them once they are activated. Raises `FixInput` for
    what no plan can be, `NotThere` for a strategy nobody knows, and `PlanExists`.
    """
    if not _SLUG.fullmatch(slug) or len(slug) > _LONGEST_SLUG:
        raise FixInput("The short name of a plan is a few lower-case letters and digits with single hyphens between.")
    if not re.fullmatch(r"[a-z]{3}", currency, re.ASCII):
        raise FixInput("A currency is three lower-case letters, such as usd.")
    if interval not in ("", "month", "year") or (mode == Mode.SUBSCRIPTION) != (interval != ""):
        raise FixInput("A subscription renews every month or year; what is paid once has no interval.")
    if covers_all == bool(strategies):
        raise FixInput("A plan covers either all strategies or those that are listed.")
    listed = _locked_strategies([queries.strategy_for_staff(each).id for each in strategies])
    plan_id = db.session.scalar(
        insert(Plan)
        .values(
            slug=slug,
            name=_fit_name(name),
            price_cents=_fit_price(price_cents),
            currency=currency,
            stripe_price_id=_fit_price_id(stripe_price_id),
            mode=mode,
            interval=interval,
            covers_all=covers_all,
            active=False,
            position=sa.select(sa.func.coalesce(sa.func.max(Plan.position), -1) + 1).scalar_subquery(),
            created_at=clock.now(),
        )
        .on_conflict_do_nothing()
        .returning(Plan.id)
    )
    if plan_id is None:
        raise PlanExists(cause=f"plan {slug!r}")
    db.session.add_all(PlanStrategy(plan_id=plan_id, strategy_id=each.id) for each in listed)
    db.session.flush()
    covers = "all" if covers_all else [each.slug for each in listed]
    details = {"slug": slug, "price_cents": price_cents, "currency": currency, "mode": mode, "interval": interval}
    record(actor, "catalog.plan_created", f"plan:{plan_id}", **details, stripe_price_id=stripe_price_id, covers=covers)
    return db.session.get_one(Plan, plan_id)


def change_plan(
    plan: Plan,
    *,
    name: str | None = None,
    price_cents: int | None = None,
    stripe_price_id: str | None = None,
    position: int | None = None,
    actor: str,
) -> bool:
    """Change what is given of a plan; None leaves it as it is. False when all of it is so already.

    Who bought it keeps it, and a subscription goes on at the price it was bought for. A price at Stripe cannot
    be edited, so where payments are live another amount needs another price there. Raises `FixInput`.
    """
    _lock_plan(plan)
    wanted: dict[str, Any] = {}
    if name is not None:
        wanted["name"] = _fit_name(name)
    if price_cents is not None:
        wanted["price_cents"] = _fit_price(price_cents)
    if stripe_price_id is not None:
        wanted["stripe_price_id"] = _fit_price_id(stripe_price_id)
    if position is not None:
        if not 0 <= position <= _HIGHEST_POSITION:
            raise FixInput("The place of a plan is a number from 0 on; the smallest comes first.")
        wanted["position"] = position
    before = {field: getattr(plan, field) for field in wanted if getattr(plan, field) != wanted[field]}
    if not before:
        return False
    if "price_cents" in before and "stripe_price_id" not in before and _payments_are_live():
        raise FixInput(
            "A price at Stripe cannot be edited. Make another one there, and give its id together with the amount."
        )
    after = {field: wanted[field] for field in before}
    for field, value in after.items():
        setattr(plan, field, value)
    db.session.flush()
    record(actor, "catalog.plan_changed", f"plan:{plan.id}", before=before, after=after)
    return True


def put_on_sale(plan: Plan, *, actor: str) -> bool:
    """Let a plan be bought. False when it can be already.

    Raises `FixInput` for one that covers nothing yet, and for one without a price at Stripe; the seeded price of
    the simulator's is one only where payments are simulated.
    """
    _lock_plan(plan)
    if plan.active:
        return False
    if not queries.covered_strategies(plan):
        raise FixInput("This plan covers no strategy that is on sale or retired: whoever bought it would get nothing.")
    if plan.stripe_price_id is None or (_payments_are_live() and plan.stripe_price_id == PLACEHOLDER_PRICE):
        raise FixInput("This plan has no price at Stripe yet. `sts stripe-setup` gives it one.")
    plan.active = True
    db.session.flush()
    record(actor, "catalog.plan_put_on_sale", f"plan:{plan.id}", slug=plan.slug)
    return True


def take_off_sale(plan: Plan, *, actor: str) -> bool:
    """Let a plan be bought no more. Its holders keep it, and subscriptions to it go on. False when it is so already."""
    _lock_plan(plan)
    if not plan.active:
        return False
    plan.active = False
    db.session.flush()
    record(actor, "catalog.plan_taken_off_sale", f"plan:{plan.id}", slug=plan.slug)
    return True


def cover(plan: Plan, strategy: Strategy, *, actor: str) -> bool:
    """Put a strategy on the list of a plan. False when it stands there already.

    Holders get it by the minute sweep, behind new buyers; a draft once it is activated. Raises `FixInput` for a
    plan that covers all.
    """
    _lock_for_list(plan, strategy)
    added = db.session.scalar(
        insert(PlanStrategy)
        .values(plan_id=plan.id, strategy_id=strategy.id, created_at=clock.now())
        .on_conflict_do_nothing()
        .returning(PlanStrategy.id)
    )
    if added is None:
        return False
    strategy.updated_at = clock.now()  # since when holders wait for the sweep
    db.session.flush()
    record(actor, "catalog.plan_covers", f"plan:{plan.id}", strategy=strategy.slug)
    return True


def uncover(plan: Plan, strategy: Strategy, *, confirmed: bool, actor: str) -> bool:
    """Take a strategy off the list of a plan. False when it does not stand there.

    Who holds it by this plan alone loses it by the minute sweep; `provisioning.reach.turn_of` says how many they
    are. Raises `WouldEndAccess` unless that is `confirmed`, but for a draft, which nobody has; `FixInput` for a
    plan that covers all, and for the last strategy that a plan on sale covers.
    """
    _lock_for_list(plan, strategy)
    on_list = sa.select(PlanStrategy).where(PlanStrategy.plan_id == plan.id, PlanStrategy.strategy_id == strategy.id)
    line = db.session.scalars(on_list).one_or_none()
    if line is None:
        return False
    if plan.active and list(queries.covered_strategies(plan)) == [strategy]:
        raise FixInput("This plan is on sale and covers nothing else. Take it off sale first.")
    if strategy.status != StrategyStatus.DRAFT and not confirmed:
        raise WouldEndAccess(cause=f"plan:{plan.id} strategy:{strategy.id}")
    db.session.delete(line)
    strategy.updated_at = clock.now()  # as above
    db.session.flush()
    record(actor, "catalog.plan_covers_no_more", f"plan:{plan.id}", strategy=strategy.slug)
    return True


def _locked(strategy_id: int) -> Strategy:
    """The strategy, and our turn with every plan that covers it. Raises `NotThere`.

    `provisioning.services.entitle` takes the plan's row shared: either it comes first, and the sweep
    after our commit finds its person, or it waits and sees what we did.
    """
    if db.session.get(Strategy, strategy_id) is None:
        raise NotThere(cause=f"strategy:{strategy_id}")
    [strategy] = _locked_strategies([strategy_id])
    db.session.execute(queries.plans_covering(strategy).with_for_update(key_share=True))
    return strategy


def _locked_strategies(ids: Sequence[int]) -> Sequence[Strategy]:
    statement = sa.select(Strategy).where(Strategy.id.in_(ids)).order_by(Strategy.id)
    return db.session.scalars(statement.with_for_update(key_share=True).execution_options(populate_existing=True)).all()


def _lock_plan(plan: Plan) -> None:
    db.session.refresh(plan, with_for_update={"key_share": True})


def _lock_for_list(plan: Plan, strategy: Strategy) -> None:
    _locked_strategies([strategy.id])
    _lock_plan(plan)
    if plan.covers_all:
        raise FixInput("This plan covers every strategy, and has no list of its own.")


def _payments_are_live() -> bool:
    settings: Settings = current_app.config["STS"]
    return settings.payments_vendor == "live"


def _fit_name(name: str) -> str:
    name = name.strip()
    if not name or not name.isprintable() or len(name) > 100:
        raise FixInput("The name of a plan is one line of at most 100 characters.")
    return name


def _fit_price(cents: int) -> int:
    if not 0 < cents <= _HIGHEST_PRICE_CENTS:
        raise FixInput("A price lies between one cent and 999,999.99.")
    return cents


def _fit_price_id(price_id: str | None) -> str | None:
    if price_id is not None and not _PRICE_ID.fullmatch(price_id):
        raise FixInput("The id of a price at Stripe begins with price_.")
    return price_id


def _refuse_placeholder(script_id: str) -> None:
    settings: Settings = current_app.config["STS"]
    if settings.reaches_tradingview and is_placeholder(script_id):
        raise FixInput(
            "This script id is a placeholder that TradingView does not know. Give the strategy its real one first."
        )


def _insert_if_missing(model: type[Strategy] | type[Plan], values: dict[str, Any]) -> int:
    # No conflict target: a slug and a script id that are taken are both a reason to leave the row alone.
    added = insert(model).values(values).on_conflict_do_nothing().returning(model.id)
    return len(db.session.scalars(added).all())
