"""The page about one's own data, the copy of it, the wish to be erased, and the certificate."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, json, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_fresh, login_required

from sts_app.accounts import queries as accounts
from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.errors import FixInput, Refusal, SignInFirst
from sts_app.core.security import ask_again, limiter, who_asks
from sts_app.core.web import page_or_block, see_other, toast
from sts_app.privacy import queries, services, words
from sts_app.privacy.export import everything_of
from sts_app.privacy.forms import ErasureForm
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import GRACE, ErasureState
from sts_app.provisioning import queries as provisioning

bp = Blueprint("privacy", __name__)

PAGE = "privacy/page.html"
CERTIFICATE = "privacy/certificate.html"


class SignInAgain(Refusal):
    """For programs; a person is led to the sign-in."""

    status = 401
    code = "FRESH_SIGN_IN_REQUIRED"
    sentence = "Please sign in once more before this: you have not shown lately that it is you."


@bp.get("/dashboard/privacy")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def page() -> ResponseReturnValue:
    """What can be asked for here, and what happens then."""
    return render_template(PAGE, **_shown(ErasureForm(formdata=None)))


@bp.post("/dashboard/privacy/erase")
@limiter.limit("10 per hour", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def erase() -> ResponseReturnValue:
    """Take the wish in. A second press finds the first one."""
    form = ErasureForm()
    if not login_fresh():
        return ask_again(form)
    if not form.validate_on_submit():
        return page_or_block(PAGE, "erase", status=422, **_shown(form))
    services.request(current_user, actor=f"user:{current_user.id}")
    toast("We have your wish. Nothing is erased yet, and a letter tells you how to take it back.", "info")
    return see_other("privacy.page")


@bp.post("/dashboard/privacy/keep")
@login_required  # type: ignore[untyped-decorator]  # see above
def cancel() -> ResponseReturnValue:
    """Take the wish back, while it has not begun."""
    services.cancel(current_user, actor=f"user:{current_user.id}")
    toast("Your account stays. Nothing was erased.")
    return see_other("privacy.page")


@bp.get("/user/data")
@limiter.limit("20 per hour", key_func=who_asks)
def export() -> ResponseReturnValue:
    """A copy of everything, as a file. Raises `SignInFirst` and `SignInAgain`."""
    _refuse_unless_fresh()
    audit.record(f"user:{current_user.id}", "privacy.exported", f"user:{current_user.id}")
    body = json.dumps(everything_of(current_user), indent=2, ensure_ascii=False, sort_keys=False)
    name = f"your-data-{clock.now():%Y-%m-%d}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(body, mimetype="application/json", headers=headers)


@bp.delete("/user/data")
@limiter.limit("10 per hour", key_func=who_asks)
def erase_by_program() -> ResponseReturnValue:
    """The wish to be erased, for programs: `{"confirm": "erase my account"}`. 202 with what happens now.

    Raises `SignInFirst`, `SignInAgain`, `FixInput` and `StaffStays`.
    """
    _refuse_unless_fresh()
    given = request.get_json(silent=True)
    typed = given.get("confirm") if isinstance(given, dict) else None
    if not isinstance(typed, str):
        raise FixInput(f'Send {{"confirm": "{services.PHRASE}"}} as JSON to go on. Nothing was erased.')
    services.check_phrase(typed)
    erasure = services.request(current_user, actor=f"user:{current_user.id}")
    return _as_json(erasure), 202


@bp.get("/erasure/<ref>")
@limiter.limit("60 per 15 minutes")
def certificate(ref: str) -> ResponseReturnValue:
    """How far an erasure is, and in the end its certificate, for whoever has its address. It names nobody."""
    erasure = queries.by_ref(ref)
    return render_template(
        CERTIFICATE,
        erasure=erasure,
        state=words.state_in_words(erasure),
        lead=words.LEADS[ErasureState(erasure.state)],
        waits=words.waits_of(erasure),
        steps=words.steps_of(erasure),
        counts=words.counts_of(erasure),
    )


def _shown(form: ErasureForm) -> dict[str, Any]:
    access = provisioning.access_of(current_user.id, clock.now())
    settings = current_app.config["STS"]
    changes = accounts.standing_changes_of(current_user.id, clock.now())
    return {
        "form": form,
        "phrase": services.PHRASE,
        "is_fresh": login_fresh(),
        "erasure": queries.open_of(current_user.id),
        "grace_hours": round(settings.scaled(GRACE).total_seconds() / 3600) or 1,
        "not_before": max((each.call_off_until for each in changes if each.call_off_until), default=None),
        "held": sum(row.state not in ("Revoking", "Revoked") for row in access),
    }


def _refuse_unless_fresh() -> None:
    if not current_user.is_authenticated:
        raise SignInFirst
    if not login_fresh():
        raise SignInAgain


def _as_json(erasure: Erasure) -> dict[str, Any]:
    return {
        "state": erasure.state,
        "reference": erasure.ref,
        "requestedAt": erasure.created_at.isoformat(),
        "beginsAt": erasure.begins_at.isoformat(),
        "cancel": url_for("privacy.page"),
        "progress": url_for("privacy.certificate", ref=erasure.ref),
    }
