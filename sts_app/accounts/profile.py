"""A person's own settings: name, address, ways to sign in, and where they are signed in."""

from __future__ import annotations

from typing import Any

from flask import render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, fresh_login_required, login_required

from sts_app.accounts import identities, queries, services, sessions
from sts_app.accounts.forms import NameForm
from sts_app.accounts.views import bp
from sts_app.core import clock
from sts_app.core.security import limiter, who_asks
from sts_app.core.web import page_or_block, see_other, toast

PAGE = "accounts/settings.html"


@bp.get("/dashboard/settings")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def settings() -> ResponseReturnValue:
    """Everything about the account in one page; each act is a form of its own."""
    return render_template(PAGE, form=NameForm(formdata=None, name=current_user.name), **_around())


@bp.get("/dashboard/profile")
def profile() -> ResponseReturnValue:
    """The same page by its other name."""
    return see_other("accounts.settings")


@bp.post("/dashboard/settings/name")
@limiter.limit("20 per 15 minutes", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def rename() -> ResponseReturnValue:
    """What we call this person, on pages and in letters."""
    form = NameForm()
    if not form.validate_on_submit():
        return page_or_block(PAGE, "name_form", status=422, form=form, **_around())
    services.rename(current_user, form.name.data)
    toast(f"We call you {form.name.data} from now on.")
    return see_other("accounts.settings")


@bp.post("/dashboard/settings/sessions/<int:session_id>/end")
@login_required  # type: ignore[untyped-decorator]  # see above
def end_session(session_id: int) -> ResponseReturnValue:
    """Sign one browser out. That of this request is signed out as by *Sign out*."""
    if services.end_session(current_user, session_id):
        sessions.end()
        toast("You are signed out.")
        return see_other("pages.home")
    toast("That device is signed out.")
    return see_other("accounts.settings")


@bp.post("/dashboard/settings/sessions/end")
@limiter.limit("20 per 15 minutes", key_func=who_asks)
@login_required  # type: ignore[untyped-decorator]  # see above
def end_sessions() -> ResponseReturnValue:
    """Sign every browser out: this one as well, unless the form says to keep it."""
    stays = request.form.get("keep") == "this"
    but = current_user.session_secret if stays else None
    change = queries.open_change_of(current_user.id, clock.now())
    also = f" The change of your address to {change.new_email} is dropped." if change is not None else ""
    ended = services.end_sessions(current_user, actor=f"user:{current_user.id}", but=but)
    if stays:
        many = f"{ended} other {'device is' if ended == 1 else 'devices are'}" if ended else ""
        toast((f"{many} signed out." if ended else "No other device was signed in.") + also)
        return see_other("accounts.settings")
    sessions.end()
    toast(f"You are signed out everywhere.{also}")
    return see_other("pages.home")


@bp.post("/dashboard/settings/google/unlink")
@fresh_login_required  # type: ignore[untyped-decorator]  # see above
def unlink_google() -> ResponseReturnValue:
    """Google does not open this account any more."""
    if identities.unlink(current_user):
        toast("Your Google account does not sign you in here any more. A link in a letter does, as before.")
    return see_other("accounts.settings")


def _around() -> dict[str, Any]:
    now = clock.now()
    return {
        "lines": queries.sessions_of(current_user.id, now, this=current_user.session_secret),
        "google": queries.google_of(current_user.id),
        "google_is_offered": identities.is_offered(),
        "change": queries.open_change_of(current_user.id, now),
    }
