"""The verbs of the catalog."""

from __future__ import annotations

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
    Plan,
    Strategy,
    StrategyStatus,
    is_placeholder,
    is_script_id,
)
from sts_app.catalog.seed import PLAN, STRATEGIES
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


def _locked(strategy_id: int) -> Strategy:
    """The strategy, and our turn with every plan that covers it. Raises `NotThere`.

    `provisioning.services.entitle` takes the plan's row shared: either it comes first, and the sweep
    after our commit finds its person, or it waits and sees what we did. Plans before the strategy, each
    in the order of ids. The locks leave references to these rows alone: a checkout need not wait.
    """
    strategy = db.session.get(Strategy, strategy_id)
    if strategy is None:
        raise NotThere(cause=f"strategy:{strategy_id}")
    db.session.execute(queries.plans_covering(strategy).with_for_update(key_share=True))
    db.session.refresh(strategy, with_for_update={"key_share": True})
    return strategy


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
