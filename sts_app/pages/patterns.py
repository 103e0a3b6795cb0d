"""Pages for those who build pages: every component in every state, and the refusals. Never in production."""

from __future__ import annotations

from collections.abc import Callable

from flask import current_app, render_template
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from wtforms import BooleanField, SelectField, StringField, TextAreaField
from wtforms.validators import DataRequired, Length

from sts_app.catalog import queries as catalog
from sts_app.core.errors import NotNow, NotThere, Refusal, SlowDown
from sts_app.core.security import insiders_only
from sts_app.pages.views import bp as bp


class _PatternsForm(FlaskForm):  # type: ignore[misc]  # flask-wtf carries no types
    """Every kind of field once."""

    plain = StringField("Display name", description="As it should stand in letters.")
    faulty = StringField("TradingView name", validators=[DataRequired(), Length(min=3, max=30)])
    chosen = SelectField("Category", choices=["Access", "Billing"])
    long = TextAreaField("Message")
    ticked = BooleanField("I have read the terms", validators=[DataRequired()])


def _broken() -> Refusal:
    refusal = Refusal("Something broke on our side. It has been written down, and nothing you paid for is lost.")
    refusal.status, refusal.code = 500, "INTERNAL"
    return refusal


def _maintenance() -> Refusal:
    refusal = NotNow(
        "We are working on the store for a little while. Reading works again soon; access that was bought stands, and "
        "payments that are under way are not lost.",
        retry_after=600,
    )
    refusal.title = "Back in a moment"
    return refusal


REFUSALS: dict[str, Callable[[], Refusal]] = {
    "not-found": NotThere,
    "too-fast": SlowDown,
    "broken": _broken,
    "away": NotNow,
    "maintenance": _maintenance,
}


@bp.get("/dev/patterns")
def patterns() -> ResponseReturnValue:
    """Every component in every state."""
    _for_builders()
    form = _PatternsForm(None, data={"faulty": "ab"})
    form.faulty.errors = ("A TradingView name has at least 3 characters.",)
    form.ticked.errors = ("Please tick this box to go on.",)
    return render_template(
        "patterns.html",
        form=form,
        plan=catalog.plan_on_sale(),
        strategies=catalog.strategies_on_sale(),
        refusals=list(REFUSALS),
    )


@bp.get("/dev/refusals/<kind>")
def refusal_shown(kind: str) -> ResponseReturnValue:
    """A refusal as its reader sees it."""
    _for_builders()
    if kind not in REFUSALS:
        raise NotThere
    raise REFUSALS[kind]()


def _for_builders() -> None:
    if current_app.config["STS"].is_production:
        raise NotThere
    insiders_only()
