"""Every letter as it looks, for whoever designs or changes one. Never in production."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, make_response, render_template, request

from sts_app.core.errors import NotThere
from sts_app.core.security import CONTENT_SECURITY_POLICY, insiders_only
from sts_app.emails.samples import Letter
from sts_app.ops import letter_book
from sts_app.ops.letter_book import Scheme

bp = Blueprint("ops_dev", __name__, url_prefix="/dev/letters")


@bp.before_request
def never_in_production() -> None:
    """A second lock beside not being registered, and one against strangers."""
    if current_app.config["STS"].is_production:
        raise NotThere
    insiders_only()


@bp.get("/")
def letters() -> str:
    """All occasions on which the store writes, by room."""
    return render_template("ops/dev/letters.html", chapters=letter_book.CHAPTERS)


@bp.get("/<name>")
def letter(name: str) -> Response:
    """The letters of one occasion, as text and as HTML, in every look and width."""
    written = letter_book.written(name)
    names = list(letter_book.BOOK)
    here = names.index(name)
    page = render_template(
        "ops/dev/letter.html",
        sample=letter_book.BOOK[name],
        letters=written,
        schemes=list(Scheme),
        before=letter_book.BOOK[names[here - 1]] if here else None,
        after=letter_book.BOOK[names[here + 1]] if here + 1 < len(names) else None,
    )
    return make_response(page)


@bp.get("/<name>/<int:number>/html")
def letter_html(name: str, number: int) -> Response:
    """One HTML part as a mail program shows it: inline styles, no scripts, an origin of its own."""
    try:
        scheme = Scheme(request.args.get("scheme", Scheme.LIGHT))
    except ValueError:
        raise NotThere from None
    written = letter_book.written(name)
    if not 0 < number <= len(written):
        raise NotThere
    return make_response(letter_book.as_shown(_framed(written[number - 1]), scheme))


def _framed(letter: Letter) -> str:
    # A link followed inside the frame would meet a page that refuses to be framed.
    return letter.html.replace("<head>", '<head><base target="_blank">', 1)


# The page may show frames of ours; what stands in them may have inline styles and nothing else.
letter.talisman_view_options = {  # type: ignore[attr-defined]  # where Flask-Talisman looks
    "content_security_policy": CONTENT_SECURITY_POLICY | {"form-action": "'self'", "frame-src": "'self'"}
}
letter_html.talisman_view_options = {  # type: ignore[attr-defined]  # as above
    "frame_options": "SAMEORIGIN",
    "content_security_policy": {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
        "sandbox": "allow-popups",
    },
}
