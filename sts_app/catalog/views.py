"""The strategies as visitors see them."""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from sts_app.catalog import queries, sessions
from sts_app.catalog.teaching import style_notes
from sts_app.core import clock

bp = Blueprint("catalog", __name__)

bp.add_app_template_filter(sessions.windows, "windows")
bp.add_app_template_filter(sessions.pieces, "pieces")
bp.add_app_template_filter(sessions.as_data, "as_data")
bp.add_app_template_filter(sessions.clock, "clock")
bp.add_app_template_filter(lambda found: sessions.in_utc(found, clock.now()), "in_utc")
bp.add_app_template_global(sessions.columns, "columns_of_the_day")


@bp.get("/strategies")
def listing() -> ResponseReturnValue:
    return render_template("catalog/listing.html", strategies=queries.strategies_on_sale(), plan=queries.plan_on_sale())


@bp.get("/strategies/<slug>")
def detail(slug: str) -> ResponseReturnValue:
    strategy = queries.strategy_by_slug(slug)
    others = [other for other in queries.strategies_on_sale() if other.id != strategy.id]
    return render_template(
        "catalog/detail.html",
        strategy=strategy,
        notes=style_notes(strategy.style),
        others=others,
        plan=queries.plan_on_sale(),
    )
