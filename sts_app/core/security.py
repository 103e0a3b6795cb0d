"""The guards every answer passes: headers, CSRF, rate limits, proxies."""

from __future__ import annotations

import hmac
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address

from flask import Flask, Response, current_app, g, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter
from flask_login import current_user
from flask_talisman import Talisman
from flask_wtf import CSRFProtect, FlaskForm
from werkzeug.middleware.proxy_fix import ProxyFix

from sts_app.core.errors import SignInFirst, StaffOnly
from sts_app.core.queue import SEND_BUDGET
from sts_app.settings import AppEnv, Settings

NETWORK_OF_ONE_LINE = 64
# A host's probe and the simulated Stripe ring from inside, where nobody speaks https. Nothing that these say
# is hidden by https, and an event proves itself by its signature.
RUNG_FROM_INSIDE = ("/health", "/api/health", "/api/webhooks/", "/webhooks/")
# Pages with somebody's address, link or code on them, whoever asks.
NEVER_KEPT = ("/sign-in", "/dev/")


def visitor_address() -> str:
    """Who is counted by the rate limits: an address, and of IPv6 the network that one line is given.

    Everybody with IPv6 has 2**64 addresses to come from.
    """
    given = request.remote_addr or "127.0.0.1"
    try:
        address = ip_address(given)
    except ValueError:
        return given
    if not isinstance(address, IPv6Address):
        return given
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    # By number, because an address may name a zone, which no network has.
    return str(IPv6Network((int(address), NETWORK_OF_ONE_LINE), strict=False))


def who_asks() -> str:
    """Who is counted by a limit of one page: people one by one, because an office has one address."""
    return f"user:{current_user.id}" if current_user.is_authenticated else visitor_address()


csrf = CSRFProtect()
limiter = Limiter(visitor_address, headers_enabled=True)

CONTENT_SECURITY_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
YEAR = int(timedelta(days=365).total_seconds())


class Headers(Talisman):  # type: ignore[misc]  # flask-talisman carries no types
    """Talisman, which leaves a few doors open to those who knock without https."""

    def _force_https(self) -> Response | None:
        if request.path.startswith(RUNG_FROM_INSIDE):
            return None
        redirect: Response | None = super()._force_https()
        return redirect


def init_app(app: Flask, settings: Settings) -> None:
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        proxied = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)
        app.wsgi_app = proxied  # type: ignore[method-assign]  # how Flask takes middleware
    app.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value(),
        SECRET_KEY_FALLBACKS=list(settings.secret_key_fallbacks),
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        MAX_CONTENT_LENGTH=1024 * 1024,
        MAX_FORM_MEMORY_SIZE=256 * 1024,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: nobody loses a ticket to a slow lunch
        RATELIMIT_STORAGE_URI=settings.redis_url,
        RATELIMIT_STORAGE_OPTIONS={"socket_connect_timeout": SEND_BUDGET, "socket_timeout": SEND_BUDGET},
        RATELIMIT_KEY_PREFIX="sts-limit",
        RATELIMIT_IN_MEMORY_FALLBACK_ENABLED=True,
        RATELIMIT_ENABLED=settings.app_env is not AppEnv.TESTING,
    )
    csrf.init_app(app)
    limiter.init_app(app)
    app.after_request(_keep_to_oneself)
    form_targets = "'self'"
    if settings.payments_vendor == "live":
        # A redirect after a form's POST counts as the form's target in Chromium.
        form_targets += " https://checkout.stripe.com https://billing.stripe.com"
    if settings.offers_google:
        form_targets += f" {settings.google_origin}"
    Headers(
        app,
        content_security_policy=CONTENT_SECURITY_POLICY | {"form-action": form_targets},
        force_https=settings.secure_cookies,
        strict_transport_security=settings.secure_cookies,
        strict_transport_security_max_age=YEAR,
        strict_transport_security_include_subdomains=True,
        session_cookie_secure=settings.secure_cookies,
        frame_options="DENY",
        referrer_policy="strict-origin-when-cross-origin",
        x_xss_protection=True,
    )


def is_insider() -> bool:
    """Whether this request comes from staff, or brings the health token as a bearer."""
    token = current_app.config["STS"].health_token
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    # The token first: it can be read without a database.
    if token is not None and hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        return True
    return bool(current_user.is_authenticated and current_user.is_staff)


def insiders_only() -> None:
    """Shut a page for developers to strangers wherever the store is not on a person's own machine.

    Raises `SignInFirst` or `StaffOnly`.
    """
    if current_app.config["STS"].app_env.is_local or is_insider():
        return
    raise StaffOnly if current_user.is_authenticated else SignInFirst


def ask_again(form: FlaskForm | None = None) -> ResponseReturnValue:
    """Ask who is there before an act that a remembered browser is not enough for, and lead back to it.

    With the `form` that was sent the page that leads back can call what was typed by the words of its labels.
    """
    g.asked_with = form
    answer: ResponseReturnValue = current_app.login_manager.needs_refresh()  # type: ignore[attr-defined]  # flask-login's
    return answer


def is_made_for_somebody() -> bool:
    """Whether the answer of this request was made for a person who is signed in. Nobody is looked up for it."""
    return "_login_user" in g and current_user.is_authenticated


def _keep_to_oneself(response: Response) -> Response:
    """What was made for somebody is kept by no cache, nor shown by the back button after signing out.

    Nobody is looked up for it: an answer that never asked who is there was made for everybody.
    """
    if response.cache_control.private:
        return response  # it says itself that only this visitor's browser may keep it, and how
    if request.path.startswith(NEVER_KEPT) or is_made_for_somebody():
        response.headers["Cache-Control"] = "no-store"
    return response
