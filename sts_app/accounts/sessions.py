"""flask-login's side of a session: cookies in, `UserSession` rows behind them.

An act that asks for a fresh sign-in has flask-login's `fresh_login_required` above it, in whichever room, or answers
with `core.security.ask_again` and the form that was sent. Fresh is who
signed in within `FRESH_FOR`, in a browser that was not closed since and has kept its network and its name. Anybody
else is asked who they are, led back to the page, and finds what they had typed there.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from flask import Flask, current_app, g, request, session
from flask_login import LoginManager, current_user, login_user, logout_user
from werkzeug.wrappers import Response

from sts_app.accounts import devices, held, services
from sts_app.accounts.models import User, UserSession
from sts_app.accounts.services import SignedIn
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import SignInFirst
from sts_app.core.web import is_htmx, own_path, see_other, toast

manager = LoginManager()

FRESH_FOR = timedelta(hours=2)
# `UserSession.seen_at` is coarse: it moves this often at most, and so does its row.
SEEN_EVERY = timedelta(hours=1)
HELD = "held_form"


def init_app(app: Flask) -> None:
    settings = app.config["STS"]
    app.config.update(
        REMEMBER_COOKIE_NAME="sts_remember",
        REMEMBER_COOKIE_DURATION=settings.session_days * 86400,
        REMEMBER_COOKIE_SECURE=settings.secure_cookies,
        REMEMBER_COOKIE_HTTPONLY=True,
        REMEMBER_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_NAME="sts_session",
    )
    manager.session_protection = "basic"
    # A global and not a context processor: macros see it too, and nobody is looked up until somebody asks.
    manager.init_app(app, add_context_processor=False)
    app.jinja_env.globals["current_user"] = current_user
    app.before_request(_take_off_hold)


@manager.user_loader  # type: ignore[untyped-decorator]  # flask-login carries no types
def _user_of(secret: str) -> User | None:
    now = clock.now()
    found = db.session.execute(
        sa.select(User, UserSession)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            UserSession.digest.in_(tokens.digests("session", secret)),
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > now,
            User.closed_at.is_(None),
        )
    ).one_or_none()
    if found is None:
        return None
    user: User = found[0]
    row: UserSession = found[1]
    user.session_secret = secret
    if row.created_at + FRESH_FOR <= now and session.get("_fresh"):
        session["_fresh"] = False
    if row.seen_at is None or row.seen_at + SEEN_EVERY <= now:
        # Nobody waits for it: of two requests at once, the second leaves it to the first.
        free = sa.select(UserSession.id).where(UserSession.id == row.id).with_for_update(skip_locked=True)
        seen = sa.update(UserSession).where(UserSession.id.in_(free.scalar_subquery())).values(seen_at=now)
        db.session.execute(seen.execution_options(synchronize_session=False))
    return user


@manager.unauthorized_handler  # type: ignore[untyped-decorator]  # see above
def _sign_in_first() -> Response:
    """Send a visitor to sign in and back; a fragment gets a 401, never a page inside a table cell."""
    if is_htmx() or request.path.startswith("/api/"):
        raise SignInFirst
    wanted = own_path(request.full_path.rstrip("?")) if request.method == "GET" else None
    return see_other("accounts.sign_in", next=wanted)


@manager.needs_refresh_handler  # type: ignore[untyped-decorator]  # see above
def _sign_in_again() -> Response:
    """Ask who is there, and lead back afterwards: to the page, or to what had been sent from it."""
    toast("Please confirm that it is you before going on.", "info")
    if request.method != "POST" or request.path.startswith("/api/"):
        answer: Response = _sign_in_first()
        return answer
    return see_other("accounts.sign_in", next="/sign-in/go-on" if _hold() else None)


def _hold() -> bool:
    """Keep what was sent, so that nobody types it twice. Files are not kept."""
    fields = [(name, value) for name, value in request.form.items(multi=True) if name != "csrf_token"]
    form = g.get("asked_with")
    path = own_path(request.full_path.rstrip("?"))
    if request.files or path is None:
        return False
    secret = held.keep(current_user.id, path, fields, shown=held.shown_of(form) if form is not None else [])
    if secret is not None:
        session[HELD] = secret
    return secret is not None


def _take_off_hold() -> None:
    """What was held and is sent again is kept no longer. A deed that is refused takes this back with all else."""
    path = own_path(request.full_path.rstrip("?"))
    if request.method == "POST" and HELD in session and path is not None and current_user.is_authenticated:
        held.drop(current_user.id, path)


def device() -> str:
    """The browser of this request in words."""
    return devices.in_words(request.headers.get("User-Agent"))


def begin(signed_in: SignedIn) -> None:
    """Start a fresh session: what the cookie held before is dropped, so that none can be planted.

    The session this browser had until now ends, as nobody could sign out of it any more.
    """
    if current_user.is_authenticated:
        services.sign_out(current_user.session_secret)
    kept = session.get(HELD)
    session.clear()
    if isinstance(kept, str):
        # What it leads to is this person's own, or nothing.
        session[HELD] = kept
    signed_in.user.session_secret = signed_in.secret
    login_user(signed_in.user, remember=signed_in.remember)
    if not signed_in.remember and request.cookies.get(current_app.config["REMEMBER_COOKIE_NAME"]):
        session["_remember"] = "clear"


def end() -> None:
    if current_user.is_authenticated:
        services.sign_out(current_user.session_secret)
    logout_user()
    session.clear()
