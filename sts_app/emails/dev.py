"""The outbox pages: what a simulated provider delivered, and what is to become of it.

For whoever runs the store without a provider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar, cast

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue

from sts_app.core.errors import FixInput, NotThere
from sts_app.core.security import CONTENT_SECURITY_POLICY, insiders_only
from sts_app.core.store import store_for
from sts_app.core.web import see_other, toast
from sts_app.emails import services
from sts_app.emails.gateway import Happened
from sts_app.emails.simulated import Delivered, SimulatedMailer, delivered, find_delivered, suppressed
from sts_app.settings import Settings

# The prefix stops before "outbox", because a blueprint cannot add ".json" to its own prefix.
bp = Blueprint("emails_dev", __name__, url_prefix="/dev")

SHOWN = 100
# What can be made to happen to a letter, as its button says it.
ACTS = {
    Happened.DELIVERED: "Deliver",
    Happened.DELAYED: "Delay",
    Happened.BOUNCED_SOFTLY: "Bounce softly",
    Happened.BOUNCED: "Bounce",
    Happened.COMPLAINED: "Call it spam",
    Happened.FAILED: "Fail at the provider",
}

View = TypeVar("View", bound=Callable[..., object])


def _headers(**options: object) -> Callable[[View], View]:
    """Give one view headers of its own, the way Flask-Talisman looks for them."""

    def mark(view: View) -> View:
        view.talisman_view_options = options  # type: ignore[attr-defined]  # where Flask-Talisman looks
        return view

    return mark


@bp.before_request
def only_simulated() -> None:
    """A second lock beside not being registered, and one against strangers: these pages show sign-in letters."""
    settings: Settings = current_app.config["STS"]
    if settings.mail_vendor != "simulated" or settings.is_production:
        raise NotThere
    insiders_only()


@bp.get("/outbox")
def outbox() -> str:
    """Delivered letters, newest first, searched by address."""
    to = request.args.get("to", "")
    letters = delivered(store_for("mail"), to=to)
    return render_template(
        "emails/dev/outbox.html",
        letters=letters[:SHOWN],
        told={letter.id: [ring.happened for ring in _provider().told(letter.id)] for letter in letters[:SHOWN]},
        total=len(letters),
        to=to,
        kept_back=suppressed(store_for("mail")),
    )


@bp.get("/outbox.json")
def outbox_json() -> Response:
    """The same for programs. `sent_at` is ISO 8601 in UTC."""
    letters = delivered(store_for("mail"), to=request.args.get("to", ""))[:SHOWN]
    answer = jsonify([asdict(letter) | {"sent_at": letter.sent_at.isoformat()} for letter in letters])
    answer.headers["Cache-Control"] = "no-store"
    return answer


@bp.get("/outbox/<letter_id>")
@_headers(content_security_policy=CONTENT_SECURITY_POLICY | {"form-action": "'self'", "frame-src": "'self'"})
def letter_page(letter_id: str) -> str:
    """One letter: its headers, its text with links to click, its HTML in a frame, and what may happen to it."""
    return render_template(
        "emails/dev/letter.html", letter=_find(letter_id), told=_provider().told(letter_id), acts=ACTS
    )


@bp.post("/outbox/<letter_id>/tell")
def tell(letter_id: str) -> ResponseReturnValue:
    """Let something happen to a letter, and ring the store's own webhook with it."""
    _find(letter_id)
    try:
        happened = Happened(request.form.get("happened", ""))
    except ValueError:
        raise FixInput("Choose what is to happen to the letter.") from None
    ring = _provider().tell(letter_id, happened)
    answer = ring.answer if ring is not None else ""
    toast(f"The webhook was rung, and answered {answer}.", "success" if answer.startswith("2") else "warning")
    return see_other("emails_dev.letter_page", letter_id=letter_id)


@bp.post("/outbox/<letter_id>/tell-again")
def tell_again(letter_id: str) -> ResponseReturnValue:
    """Ring once more with the last event of a letter, as a provider does that had no answer."""
    _find(letter_id)
    answer = _provider().tell_again(letter_id)
    if answer is None:
        raise FixInput("Nothing was told of this letter so far.")
    toast(f"The last event was told again, and the webhook answered {answer}.", "info")
    return see_other("emails_dev.letter_page", letter_id=letter_id)


@bp.get("/outbox/<letter_id>/html")
@_headers(
    frame_options="SAMEORIGIN",
    content_security_policy={
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
        "sandbox": "allow-top-navigation-by-user-activation",
    },
)
def letter_html(letter_id: str) -> Response:
    """The HTML part as a mail program shows it: inline styles, no scripts, an origin of its own."""
    # A link followed inside the frame would meet a page that refuses to be framed.
    html = _find(letter_id).html.replace("<head>", '<head><base target="_top">', 1)
    return make_response(html)


def _provider() -> SimulatedMailer:
    return cast(SimulatedMailer, services.mailer())


def _find(letter_id: str) -> Delivered:
    letter = find_delivered(store_for("mail"), letter_id)
    if letter is None:
        raise NotThere
    return letter
