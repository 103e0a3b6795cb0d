"""Back from a sign-in that an act had asked for, with what was typed."""

from __future__ import annotations

from flask import render_template, session
from flask.typing import ResponseReturnValue
from flask_login import current_user, fresh_login_required

from sts_app.accounts import held, sessions
from sts_app.accounts.views import bp
from sts_app.core.web import see_other, toast

# What is shown of a field, so that a person knows it again; what is longer, they know from its beginning.
SHOWN = 120


@bp.get("/sign-in/go-on")
@fresh_login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def go_on() -> ResponseReturnValue:
    """Show what was sent and a button that sends it again: looking does nothing."""
    secret = session.get(sessions.HELD)
    found = held.find(current_user.id, secret) if isinstance(secret, str) else None
    if found is None:
        toast(
            "What you typed is kept for an hour, in the browser you typed it in. Go on there, or type it again.",
            "info",
        )
        return see_other("pages.dashboard")
    return render_template(
        "accounts/go_on.html",
        path=found.path,
        fields=found.fields,
        shown=[(label, _shortened(value)) for label, value in found.shown],
    )


def _shortened(value: str) -> str:
    return value if len(value) <= SHOWN else f"{value[:SHOWN]}..."
