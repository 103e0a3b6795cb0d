"""Onboarding, and the live view of one's access."""

from __future__ import annotations

from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_fresh, login_required

from sts_app.accounts import services as accounts
from sts_app.core.db import checkpoint
from sts_app.core.security import limiter
from sts_app.core.web import own_path, page_or_block, see_other, toast
from sts_app.provisioning import queries, services
from sts_app.provisioning.forms import OnboardingForm
from sts_app.provisioning.services import NameOutcome, NameTaken

bp = Blueprint("provisioning", __name__)

UNKNOWN_NAME = "TradingView does not know this name. Please look it up on your TradingView profile."


@bp.get("/onboarding")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def onboarding() -> ResponseReturnValue:
    current = queries.current_name(current_user.id)
    if current is not None and not login_fresh():
        return _confirm_first()
    form = OnboardingForm(
        formdata=None,
        name=current_user.name,
        tradingview_name=current.spelling if current else "",
        next=own_path(request.args.get("next")) or "",
    )
    return render_template("provisioning/onboarding.html", form=form, current=current)


@bp.post("/onboarding")
@login_required  # type: ignore[untyped-decorator]  # see above
@limiter.limit("10 per minute")
def onboarding_post() -> ResponseReturnValue:
    """Check the name with TradingView, then keep it, the person's name and what they agreed to."""
    current = queries.current_name(current_user.id)
    if current is not None and not login_fresh():
        return _confirm_first()
    form = OnboardingForm()

    def once_more() -> ResponseReturnValue:
        return page_or_block("provisioning/onboarding.html", "form", status=422, form=form, current=current)

    if not form.validate_on_submit():
        return once_more()
    checkpoint()
    check = services.check_name(form.tradingview_name.data)
    if check.outcome is NameOutcome.UNKNOWN:
        form.tradingview_name.errors = [UNKNOWN_NAME]
        return once_more()
    try:
        services.set_name(
            current_user,
            check.spelling or form.tradingview_name.data,
            verified=check.outcome is NameOutcome.VALID,
        )
    except NameTaken as taken:
        form.tradingview_name.errors = [taken.sentence]
        return once_more()
    current_user.name = form.name.data
    accounts.accept_texts(current_user)
    if check.outcome in (NameOutcome.BUSY, NameOutcome.DOWN):
        toast("TradingView could not be asked just now; your name is checked again before you pay.", "info")
    return see_other(own_path(form.next.data) or "pages.dashboard")


def _confirm_first() -> ResponseReturnValue:
    """Access follows the name, so a browser that was merely remembered must prove who is there before it changes."""
    answer: ResponseReturnValue = current_app.login_manager.needs_refresh()  # type: ignore[attr-defined]  # flask-login's
    return answer
