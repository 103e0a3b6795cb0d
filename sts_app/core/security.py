"""The guards every answer passes: headers, CSRF, rate limits, proxies."""

from __future__ import annotations

from datetime import timedelta

from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_talisman import Talisman
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from sts_app.core.queue import SEND_BUDGET
from sts_app.settings import AppEnv, Settings

csrf = CSRFProtect()
limiter = Limiter(get_remote_address, headers_enabled=True)

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
    form_targets = "'self'"
    if settings.payments_vendor == "live":
        # A redirect after a form's POST counts as the form's target in Chromium.
        form_targets += " https://checkout.stripe.com"
    Talisman(
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
