"""The verbs of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.audit.services import SYSTEM, record
from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.catalog.seed import PLAN, STRATEGIES
from sts_app.core.db import db
from sts_app.settings import PLACEHOLDER_PRICE


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
    strategies = sum(
        _insert_if_missing(Strategy, {**strategy.as_values(), "position": position, "status": StrategyStatus.ON_SALE})
        for position, strategy in enumerate(STRATEGIES, start=1)
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


def _insert_if_missing(model: type[Strategy] | type[Plan], values: dict[str, Any]) -> int:
    # No conflict target: a slug and a script id that are taken are both a reason to leave the row alone.
    added = insert(model).values(values).on_conflict_do_nothing().returning(model.id)
    return len(db.session.scalars(added).all())
