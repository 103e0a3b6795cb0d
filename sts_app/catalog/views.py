"""The strategies as visitors see them."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from sts_app.catalog import queries

bp = Blueprint("catalog", __name__)


@bp.get("/strategies")
def listing() -> ResponseReturnValue:
    return render_template("catalog/listing.html", strategies=queries.strategies_on_sale(), plan=queries.plan_on_sale())


@bp.get("/strategies/<slug>")
def detail(slug: str) -> ResponseReturnValue:
    strategy = queries.strategy_by_slug(slug)
    others = [other for other in queries.strategies_on_sale() if other.id != strategy.id]
    return render_template("catalog/detail.html", strategy=strategy, others=others, plan=queries.plan_on_sale())
