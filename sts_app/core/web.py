"""How an answer is made: the request's one transaction, pages and their blocks, refusals, toasts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4
from wsgiref.headers import Headers

import structlog
from flask import Flask, Response, current_app, flash, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from jinja2 import Environment, StrictUndefined
from jinja2_fragments.flask import render_block
from markupsafe import Markup
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.routing import IntegerConverter, Map
from werkzeug.wrappers import Response as BaseResponse

from sts_app.core import compression, money, style
from sts_app.core import db as database
from sts_app.core.compression import StaticFiles
from sts_app.core.errors import Act, FixInput, NotNow, NotThere, Refusal, SlowDown
from sts_app.core.security import YEAR

log = structlog.get_logger()

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
STATIC = compression.STATIC
LARGEST_ROW_NUMBER = 2**63 - 1


class House(Flask):
    """Flask with one transaction round every view.

    Return commits, raise rolls back. It is not done in `after_request` or teardown, which see no
    exception once an error handler has run and would commit half a deed.
    """

    def dispatch_request(self) -> ResponseReturnValue:
        try:
            answer = super().dispatch_request()
        except BaseException:
            database.rollback()
            raise
        database.commit()
        return answer


def init_app(app: Flask) -> None:
    is_local = app.config["STS"].app_env.is_local
    app.wsgi_app = StaticFiles(  # type: ignore[method-assign]  # how Flask takes middleware
        app.wsgi_app,
        root=STATIC,
        prefix="static",
        max_age=YEAR,
        immutable_file_test=r"",  # every address holds a version, or a hash that `StaticFiles` looks at
        autorefresh=is_local,
        allow_all_origins=False,
        add_headers_function=_static_headers,
    )
    app.url_map.converters["int"] = RowNumber
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(ui=Macros(app.jinja_env), static_url=static_url, is_htmx=is_htmx)
    app.jinja_env.filters.update(money=money.as_money, moment=money.as_moment)
    compression.init_app(app)
    style.init_app(app)
    app.before_request(_name_the_request)
    app.before_request(_refuse_nul)
    app.after_request(_say_the_request)
    app.register_error_handler(Refusal, refuse)
    app.register_error_handler(HTTPException, _refuse_http)
    app.register_error_handler(OperationalError, _database_away)
    app.register_error_handler(PoolTimeout, _database_away)
    app.register_error_handler(Exception, _unforeseen)


def row_number(text: str) -> int:
    """The number of a row as an address gives it, for `request.args.get(..., type=row_number)`.

    Raises ValueError for what is no number, and for what no row can have.
    """
    number = int(text)
    if not 0 < number <= LARGEST_ROW_NUMBER:
        raise ValueError("no row has this number")
    return number


class RowNumber(IntegerConverter):
    """`<int:...>` in an address: beyond the largest number of a row there is nothing, and no error either."""

    def __init__(self, map: Map) -> None:
        super().__init__(map, max=LARGEST_ROW_NUMBER)


class Macros:
    """Every macro of `templates/ui/*.html` as one Jinja global, `ui`.

    A global and not an import, because a block that is rendered alone does not see the imports at
    the top of its page.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._found: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if not self._found or self._environment.auto_reload:
            found: dict[str, Any] = {}
            for path in sorted((TEMPLATES / "ui").glob("*.html")):
                module = self._environment.get_template(f"ui/{path.name}").module
                found.update({k: v for k, v in vars(module).items() if not k.startswith("_")})
            # All at once: another thread may ask while these are read.
            self._found = found
        try:
            return self._found[name]
        except KeyError:
            raise AttributeError(f"no macro named {name} in templates/ui") from None


def static_url(path: str) -> str:
    """The address of a static file with its content's hash, so that it may be cached for a year."""
    return f"/static/{path}?v={compression.version_of(STATIC / path)}"


def _static_headers(headers: Headers, path: str, url: str) -> None:
    """Static files are answered before the guards of `core.security` are reached."""
    headers["X-Content-Type-Options"] = "nosniff"


def is_htmx() -> bool:
    return request.headers.get("HX-Request") == "true"


def page_or_block(template: str, block: str, /, *, status: int = 200, **context: Any) -> Response:
    """The whole page, or only its block for htmx. The caller's address may be pushed to the bar."""
    if is_htmx():
        body = render_block(template, block, **context)
    else:
        body = render_template(template, **context)
    response = make_response(body, status)
    response.headers["Vary"] = "HX-Request"
    return response


def block(template: str, name: str, /, *, status: int = 200, **context: Any) -> Response:
    """One block of a page as a fragment, never cached."""
    response = make_response(render_block(template, name, **context), status)
    response.headers["Cache-Control"] = "no-store"
    return response


def see_other(endpoint_or_path: str, **values: Any) -> BaseResponse:
    """A redirect after a POST, by script or without."""
    if endpoint_or_path.startswith(("/", "http://", "https://")):
        address = endpoint_or_path
    else:
        address = url_for(endpoint_or_path, **values)
    if is_htmx():
        return Response("", 204, {"HX-Redirect": address})
    return redirect(address, 303)


def toast(sentence: str, kind: str = "success") -> None:
    """A sentence for the next page this visitor sees: `success`, `info`, `warning` or `danger`."""
    flash(sentence, kind)


def address_of(endpoint: str, **values: Any) -> str:
    """The full address of a page for a letter or a vendor: from the settings, as a job has no request."""
    path = current_app.url_map.bind("").build(endpoint, values)
    return str(current_app.config["STS"].public_url) + path


def own_path(candidate: str | None) -> str | None:
    """`candidate` if it is a path of ours, else None: the door that open redirects come through."""
    if not candidate or len(candidate) > 500:
        return None
    # Browsers read a backslash as a slash and drop control characters before they do.
    if "\\" in candidate or re.search(r"[\x00-\x20\x7f]", candidate):
        return None
    parts = urlsplit(candidate)
    if parts.scheme or parts.netloc or not candidate.startswith("/") or candidate.startswith("//"):
        return None
    return candidate


def _name_the_request() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if re.fullmatch(r"[A-Za-z0-9_-]{8,64}", given) else uuid4().hex
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _refuse_nul() -> None:
    """PostgreSQL stores no NUL, and nobody's address or search holds one. Forms look for themselves."""
    if "\x00" in request.path:
        raise NotThere
    if any("\x00" in text for pair in request.args.items(multi=True) for text in pair):
        raise FixInput("This address holds a character that cannot be read.")


def _say_the_request(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    if not request.path.startswith("/static/"):
        log.info("web.request", method=request.method, endpoint=request.endpoint, status=response.status_code)
    return response


def wants_json() -> bool:
    return request.path.startswith(("/api/", "/webhooks/", "/health", "/stripe/", "/user/"))


def refuse(refusal: Refusal) -> Response:
    """The answer that says a refusal, in the shape that was asked for; whoever can, raises the refusal instead."""
    database.rollback()
    log.info("web.refused", code=refusal.code, status=refusal.status, cause=refusal.cause)
    try:
        response = _render_refusal(refusal)
    except Exception:
        log.exception("web.error_page_broke")
        response = make_response(f"{refusal.sentence} Incident {g.get('request_id', '')}", refusal.status)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _render_refusal(refusal: Refusal) -> Response:
    request_id = g.get("request_id", "")
    if wants_json():
        body = {"error": {"code": refusal.code, "message": refusal.sentence}, "requestId": request_id}
        return make_response(body, refusal.status)
    if is_htmx():
        said: str = refusal.sentence
        if refusal.act is not None and not refusal.act.post:
            said = Markup('<span>{} <a href="{}">{}</a></span>').format(said, refusal.act.address, refusal.act.label)
        text = Markup('<p class="notice notice--danger" role="alert">{}</p>').format(said)
        response = make_response(text, refusal.status)
        if refusal.status == 401:
            response.headers["HX-Redirect"] = url_for("accounts.sign_in")
        return response
    page = render_template("errors/refusal.html", refusal=refusal, request_id=request_id)
    return make_response(page, refusal.status)


def _refuse_http(error: HTTPException) -> ResponseReturnValue:
    database.rollback()
    if error.code is not None and error.code < 400:
        return error.get_response()
    if error.response is not None:
        return error.response  # made by the page that is limited
    if error.code == 404:
        return refuse(NotThere())
    if error.code == 429:
        limit = getattr(error, "limit", None)
        return refuse(slowed_down(int(limit.limit.get_expiry()) if limit is not None else 60))
    act = Act("Load the page again", _page_of_form()) if error.code == 400 else None
    refusal = Refusal(_HTTP_SENTENCES.get(error.code or 400), cause=error.description or "", act=act)
    refusal.status = error.code or 400
    refusal.code = re.sub(r"\W+", "_", error.name).upper()
    return refuse(refusal)


def _page_of_form() -> str:
    """The page of ours that a form was sent from, or the front page where the browser does not say."""
    parts = urlsplit(request.headers.get("HX-Current-URL") or request.referrer or "")
    path = parts._replace(scheme="", netloc="", fragment="").geturl() if parts.netloc == request.host else None
    return own_path(path) or url_for("pages.home")


def slowed_down(seconds: int, act: Act | None = None) -> SlowDown:
    """Name the time there is to wait at most: "a little" is no help to somebody who is locked out."""
    wait = f"{seconds // 60} minutes" if seconds >= 120 else "a minute"
    return SlowDown(
        f"That was too many tries in a short time. Please try again in at most {wait}.", retry_after=seconds, act=act
    )


_HTTP_SENTENCES = {
    400: (
        "This form was not taken: it came from another page, or you have signed in or out since it was opened. "
        "Please load its page again and send it once more."
    ),
    405: "This address does not answer that kind of request.",
    413: "That was more than this store accepts in one piece.",
}


def _database_away(error: Exception) -> ResponseReturnValue:
    """No connection, a lock not had in time, a statement cut off: the same request will work later."""
    log.error("web.database_away", error=type(error).__name__)
    sentence = "The store cannot reach its records at this moment. Nothing is lost. Please try again in a minute."
    return refuse(NotNow(sentence, retry_after=30))


def _unforeseen(error: Exception) -> ResponseReturnValue:
    log.exception("web.unforeseen", error=type(error).__name__)
    if current_app.config["PROPAGATE_EXCEPTIONS"]:
        raise error
    refusal = Refusal("Something broke on our side. It has been written down, and nothing you paid for is lost.")
    refusal.status, refusal.code = 500, "INTERNAL"
    return refuse(refusal)
