"""Onboarding: the name access is given to, checked while it is typed and again when it is sent."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_limiter import RequestLimit
from flask_login import current_user, login_fresh, login_required
from markupsafe import Markup, escape

from sts_app.accounts import services as accounts
from sts_app.accounts.models import TEXTS_VERSION
from sts_app.core.db import checkpoint
from sts_app.core.security import ask_again, limiter, who_asks
from sts_app.core.web import block, own_path, page_or_block, see_other, toast
from sts_app.provisioning import names, queries
from sts_app.provisioning.forms import SHORTEST_NAME, OnboardingForm, name_in, shape_fault
from sts_app.provisioning.models import TradingViewName
from sts_app.provisioning.names import NameCheck, NameTaken, TooSoon
from sts_app.provisioning.rules import NameOutcome

bp = Blueprint("provisioning", __name__)

PAGE = "provisioning/onboarding.html"


# More names were typed than are looked up. Sending the form still checks the one that counts.
TYPED_TOO_OFTEN = (
    "You have tried many names in a short time, so this one is not looked up while you type. Wait a minute, or go on: "
    "the name is checked when you send it."
)


def typed_too_often(limit: RequestLimit) -> Response:
    """Said at the field like every other answer, not as a fault of the page."""
    answer = block(
        PAGE, "answer", status=429, check=None, fault=None, said=TYPED_TOO_OFTEN, is_told=False, is_own=False
    )
    answer.headers["Retry-After"] = str(limit.limit.get_expiry())
    return answer


@bp.get("/onboarding")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def onboarding() -> ResponseReturnValue:
    """The form, with what there is to know before anything is typed: since when, and from when on, a name changes."""
    current = queries.current_name(current_user.id)
    if current is not None and not login_fresh():
        return ask_again()
    meant = name_in(request.args.get("try")) or ""
    form = OnboardingForm(
        formdata=None,
        name=current_user.name,
        tradingview_name=meant if shape_fault(meant) is None else current.spelling if current else "",
        next=own_path(request.args.get("next")) or "",
    )
    _ask_texts(form)
    return render_template(PAGE, form=form, current=current, **_around())


@bp.get("/onboarding/check-name")
@limiter.limit("20 per minute", key_func=who_asks, on_breach=typed_too_often)
@limiter.limit("60 per minute", on_breach=typed_too_often)
@login_required  # type: ignore[untyped-decorator]  # see above
def check_name() -> ResponseReturnValue:
    """What TradingView says of the name that is being typed, as a piece of the form.

    It never says whether another account has the name: asked so cheaply, that would tell anybody who the
    customers are. Sending the form says it, where each try is a change of one's own name.
    """
    given = name_in(request.args.get("tradingview_name")) or ""
    if len(given) < SHORTEST_NAME:
        return block(PAGE, "answer", check=None, fault=None, said=None, is_told=False, is_own=False)
    fault = shape_fault(given)
    if fault is not None:
        return block(PAGE, "answer", check=None, fault=fault, said=None, is_told=False, is_own=False)
    current = queries.current_name(current_user.id)
    is_own = current is not None and current.name_key == given.lower()
    checkpoint()
    check = names.check(given, urgent=False)
    answer = block(PAGE, "answer", check=check, fault=None, said=None, is_told=False, is_own=is_own)
    if check.outcome is NameOutcome.BUSY:
        answer.headers["Retry-After"] = str(math.ceil(check.wait.total_seconds()))
    return answer


@bp.post("/onboarding")
@limiter.limit("10 per minute", key_func=who_asks)
@limiter.limit("60 per minute")
def onboarding_post() -> ResponseReturnValue:
    """Check the name with TradingView, then keep it, the person's name and what they agreed to.

    Whoever's session has ended meanwhile signs in and comes back to this page, and to where it was to lead.
    """
    if not current_user.is_authenticated:
        back = url_for("provisioning.onboarding", next=own_path(request.form.get("next")))
        return see_other("accounts.sign_in", next=back)
    current = queries.current_name(current_user.id)
    form = OnboardingForm()
    shown_version = form.texts.data
    _ask_texts(form)
    if current is not None and not login_fresh():
        return ask_again(form)

    def once_more(fault: str | None = None, check: NameCheck | None = None) -> ResponseReturnValue:
        if fault is not None:
            form.tradingview_name.errors = [_with_contact_page(fault)]
        return page_or_block(PAGE, "form", status=422, form=form, current=current, **_around(check))

    if not form.validate_on_submit():
        return once_more()
    if form.asks_texts and shown_version not in (None, "", TEXTS_VERSION):
        form.terms.data = form.disclaimer.data = False
        form.terms.errors = ["These texts changed while this page was open. Please read them as they are now."]
        return once_more()
    wanted = form.tradingview_name.data
    wait_until = _must_wait(current, wanted)
    if wait_until is not None:
        return once_more(names.too_soon(wait_until))
    if form.again.data:
        names.forget(wanted)
    checkpoint()
    check = names.check(wanted, urgent=False)
    if check.outcome is NameOutcome.UNKNOWN:
        return once_more(check.sentence, check)
    try:
        names.set_name(current_user, check.spelling or wanted, verified=check.outcome is NameOutcome.VALID)
    except (NameTaken, TooSoon) as refusal:
        return once_more(refusal.sentence)
    current_user.name = form.name.data
    accounts.accept_texts(current_user)
    if check.outcome is not NameOutcome.VALID:
        toast(check.sentence, "info")
    return see_other(own_path(form.next.data) or "pages.dashboard")


def _must_wait(current: TradingViewName | None, wanted: str) -> datetime | None:
    """From when on the name may be changed to `wanted`; None when it may be now.

    A name that TradingView does not know any more need not wait, and only asking tells.
    """
    if current is None or current.name_key == wanted.lower() or names.changeable_from(current_user.id) is None:
        return None
    spelling = current.spelling
    names.forget(spelling)
    checkpoint()
    names.check(spelling, urgent=False)
    return names.changeable_from(current_user.id)


def _with_contact_page(sentence: str) -> Markup:
    """The sentence with a link where it names the contact page."""
    link = Markup('<a href="{}">the contact page</a>').format(url_for("support.contact"))
    return escape(sentence).replace("the contact page", link)


def _ask_texts(form: OnboardingForm) -> None:
    """Nobody agrees twice to the same words, and the page says which version it shows."""
    if current_user.texts_version == TEXTS_VERSION:
        form.leave_out_boxes()
    form.texts.data = TEXTS_VERSION


def _around(check: NameCheck | None = None) -> dict[str, Any]:
    """What the page says beside its fields. The sentence of `check` stands at the field already, as its fault."""
    return {
        "check": check,
        "fault": None,
        "said": None,
        "is_told": True,
        "is_own": False,
        "wait_until": names.changeable_from(current_user.id),
        "change": names.change_under_way(current_user.id),
        "history": names.history(current_user.id),
    }
