"""Sign-in with Google: the way there, the way back, and a sentence for each way it can go wrong."""

from __future__ import annotations

import hmac
from dataclasses import asdict
from typing import Any

from flask import redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, fresh_login_required, login_fresh

from sts_app.accounts import identities, sessions
from sts_app.accounts.gateway import Errand, Refused, TryLater
from sts_app.accounts.views import bp, enter
from sts_app.core.db import checkpoint
from sts_app.core.errors import Act, NotNow, Refusal
from sts_app.core.security import limiter, who_asks
from sts_app.core.web import address_of, is_htmx, own_path, see_other, toast

ERRAND = "google_errand"


class GoogleCancelled(Refusal):
    status = 403
    code = "GOOGLE_CANCELLED"
    title = "You did not sign in with Google"
    sentence = "You pressed Cancel at Google, or closed its page. Nothing has changed, and nothing was told to us."


class GoogleAway(NotNow):
    code = "GOOGLE_AWAY"
    title = "Google does not answer"
    sentence = (
        "Google does not answer at this moment. Try again in a minute, or sign in by a letter, which needs no Google."
    )


class GoogleAnswerOdd(Refusal):
    """The code was used or is not ours, or what Google signed does not hold."""

    status = 400
    code = "GOOGLE_REFUSED"
    title = "Signing in with Google did not work"
    sentence = "Google's answer could not be used: it was too old, was used already, or was not meant for this store."


class AnotherBrowser(Refusal):
    """Whoever comes back from Google was not sent there by us, or not from this browser, or too long ago."""

    status = 400
    code = "GOOGLE_STATE"
    title = "This sign-in was not begun here"
    sentence = (
        "Signing in with Google has to end in the browser and the window it was begun in. You were not signed in. "
        "Please begin again."
    )


@bp.post("/sign-in/google")
@limiter.limit("20 per 15 minutes")
def google_begin() -> ResponseReturnValue:
    """To Google, with the page to come back to and the wish to be remembered kept in this browser."""
    return _set_off(own_path(request.form.get("next")))


def _set_off(next_path: str | None, *, is_to_link: bool = False) -> ResponseReturnValue:
    google = identities.google()
    hint = current_user.email if current_user.is_authenticated else ""
    checkpoint()
    try:
        errand = google.begin(back_to=address_of("accounts.google_callback"), hint=hint)
    except (TryLater, Refused) as trouble:
        raise GoogleAway(cause=str(trouble), act=_again(next_path)) from None
    session[ERRAND] = asdict(errand) | {
        "address": "",  # the longest of it, and not needed on the way back
        "next": next_path,
        "remember": request.form.get("remember") is not None,
        "link": is_to_link,
    }
    return see_other(errand.address) if is_htmx() else redirect(errand.address, 303)


@bp.post("/dashboard/settings/google/link")
@limiter.limit("20 per 15 minutes", key_func=who_asks)
@fresh_login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def google_link() -> ResponseReturnValue:
    """To Google and back to the settings, for somebody who is signed in and wants to sign in so from now on."""
    return _set_off("/dashboard/settings", is_to_link=True)


@bp.get("/sign-in/google/callback")
@limiter.limit("30 per 15 minutes")
def google_callback() -> ResponseReturnValue:
    """Back from Google. Only the browser that was sent there gets in, once."""
    google = identities.google()
    kept: dict[str, Any] = session.get(ERRAND) or {}
    if not kept or not hmac.compare_digest(kept["state"].encode(), request.args.get("state", "").encode()):
        raise AnotherBrowser(act=_again(kept.get("next")))
    del session[ERRAND]
    again = _again(kept["next"])
    error = request.args.get("error")
    if error == "access_denied":
        raise GoogleCancelled(act=again)
    if error in ("server_error", "temporarily_unavailable"):
        raise GoogleAway(cause=error, act=again)
    code = request.args.get("code", "")
    if error or not code:
        raise GoogleAnswerOdd(cause="an error, or no code", act=again)
    errand = Errand("", kept["state"], kept["nonce"], kept["verifier"])
    checkpoint()
    try:
        person = google.finish(errand, code, back_to=address_of("accounts.google_callback"))
    except TryLater as trouble:
        raise GoogleAway(cause=str(trouble), act=again) from None
    except Refused as trouble:
        raise GoogleAnswerOdd(cause=str(trouble), act=again) from None
    present = current_user._get_current_object() if current_user.is_authenticated else None
    if kept.get("link"):
        if present is None or not login_fresh():
            raise AnotherBrowser(act=again)
        identities.link(present, person)
        toast("Your Google account signs you in here from now on.")
        return see_other("accounts.settings")
    signed_in = identities.sign_in(
        person, device=sessions.device(), remember=kept["remember"], next_path=kept["next"], present=present
    )
    return enter(signed_in)


def _again(next_path: str | None) -> Act:
    return Act("Back to sign-in", url_for("accounts.sign_in", next=next_path))
