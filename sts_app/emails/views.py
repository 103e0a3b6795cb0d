"""The provider's doorbell: what became of a letter."""

from __future__ import annotations

import structlog
from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue

from sts_app.core.errors import NotThere, Refusal
from sts_app.core.security import limiter
from sts_app.emails import arrivals, services
from sts_app.emails.gateway import BadSignature

log = structlog.get_logger()

webhooks = Blueprint("emails_webhooks", __name__)


@webhooks.post("/api/webhooks/resend")
def resend() -> ResponseReturnValue:
    """Verify over the raw body, mark the letter, commit, answer. What cannot be committed is rung again."""
    if not current_app.config["STS"].resend_webhook_secrets:
        raise NotThere
    try:
        event = services.mailer().read_event(request.get_data(), _headers())
    except BadSignature as refusal:
        return _bad_signature(refusal.reason)
    if event is not None:
        arrivals.take_in(event)
    return {"received": True}


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


@limiter.limit("20 per minute")
def _bad_signature(reason: str) -> ResponseReturnValue:
    """Limited by address; a rightly signed event is never limited, because that would lose it."""
    log.warning("emails.bad_signature", reason=reason)
    raise Refusal("The signature of this event is missing or wrong.", cause=reason)
