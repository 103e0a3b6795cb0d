"""flask-login's side of a session: cookies in, `UserSession` rows behind them."""

from __future__ import annotations

import sqlalchemy as sa
from flask import Flask, request, session
from flask_login import LoginManager, current_user, login_user, logout_user
from werkzeug.wrappers import Response

from sts_app.accounts import services
from sts_app.accounts.models import User, UserSession
from sts_app.accounts.services import SignedIn
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import SignInFirst
from sts_app.core.web import is_htmx, own_path, see_other, toast

manager = LoginManager()


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


@manager.user_loader  # type: ignore[untyped-decorator]  # flask-login carries no types
def _user_of(secret: str) -> User | None:
    found = db.session.execute(
        sa.select(User)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            UserSession.digest.in_(tokens.digests("session", secret)),
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > clock.now(),
        )
    ).scalar_one_or_none()
    if found is not None:
        found.session_secret = secret
    return found


@manager.unauthorized_handler  # type: ignore[untyped-decorator]  # see above
def _sign_in_first() -> Response:
    """Send a visitor to sign in and back; a fragment gets a 401, never a page inside a table cell."""
    if is_htmx() or request.path.startswith("/api/"):
        raise SignInFirst
    wanted = own_path(request.full_path.rstrip("?")) if request.method == "GET" else None
    return see_other("accounts.sign_in", next=wanted)


@manager.needs_refresh_handler  # type: ignore[untyped-decorator]  # see above
def _sign_in_again() -> Response:
    toast("Please confirm that it is you before going on.", "info")
    answer: Response = _sign_in_first()
    return answer


def begin(signed_in: SignedIn) -> None:
    """Start a fresh session: what the cookie held before is dropped, so that none can be planted.

    The session this browser had until now ends, as nobody could sign out of it any more.
    """
    if current_user.is_authenticated:
        services.sign_out(current_user.session_secret)
    session.clear()
    signed_in.user.session_secret = signed_in.secret
    login_user(signed_in.user, remember=signed_in.remember)


def end() -> None:
    if current_user.is_authenticated:
        services.sign_out(current_user.session_secret)
    logout_user()
    session.clear()
