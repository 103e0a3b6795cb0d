"""How a strategy gets onto a chart: the same steps for everybody, in pictures of our own."""

from __future__ import annotations

from flask import render_template
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from sts_app.catalog import queries as catalog
from sts_app.core import clock
from sts_app.pages.views import bp as bp
from sts_app.provisioning import queries as provisioning

# As many as the drawn list has room for.
DRAWN = 6


@bp.get("/dashboard/how-to")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def how_to() -> ResponseReturnValue:
    """The steps, drawn with the strategies this visitor has; with those on sale for who has none."""
    held = [row.strategy for row in provisioning.access_of(current_user.id, clock.now())]
    shown = held or catalog.strategies_on_sale()
    return render_template(
        "pages/how_to.html",
        strategies=[strategy.name for strategy in shown][:DRAWN] or ["Your strategy"],
        name=provisioning.current_name(current_user.id),
        holds_any=bool(held),
    )
