"""Events as Resend would ring with them, for the tests of the webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any

from flask import current_app

ADDRESS = "/api/webhooks/resend"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def event(kind: str, provider_id: str, *, at: datetime = NOON, **details: Any) -> dict[str, Any]:
    """One event in Resend's shape."""
    return {
        "type": kind,
        "created_at": at.isoformat().replace("+00:00", "Z"),
        "data": {
            "email_id": provider_id,
            "message_id": "<one@resend.example>",
            "created_at": "2026-11-21T11:59:00.000Z",
            "from": "STS Strategies <hello@sts.example>",
            "to": ["alice@customers.example"],
            "subject": "Your parcel",
            "tags": {"kind": "parcel"},
        }
        | details,
    }


def bounce(
    kind: str = "Permanent", sub: str = "General", words: str = "smtp; 550 5.1.1 No such user"
) -> dict[str, Any]:
    """What an `email.bounced` holds besides."""
    return {"bounce": {"type": kind, "subType": sub, "message": "It came back.", "diagnosticCode": words}}


def signature(body: str, *, event_id: str, secret: str, stamp: int) -> str:
    """The signature of Svix, reckoned here from its documentation and not by the code under test."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{event_id}.{stamp}.{body}".encode(), hashlib.sha256)
    return base64.b64encode(signed.digest()).decode()


def ring(
    visitor: Any,
    told: dict[str, Any] | str,
    *,
    event_id: str = "msg_1",
    secret: str | None = None,
    at: float | None = None,
    **headers: str,
) -> Any:
    """Ring the webhook's own address; `headers` replace what would be sent, named with underscores."""
    body = told if isinstance(told, str) else json.dumps(told)
    secret = secret or current_app.config["STS"].resend_webhook_secrets[0]
    stamp = int(time.time() if at is None else at)
    sent = {
        "svix-id": event_id,
        "svix-timestamp": str(stamp),
        "svix-signature": f"v1,{signature(body, event_id=event_id, secret=secret, stamp=stamp)}",
        "Content-Type": "application/json",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    return visitor.post(ADDRESS, data=body.encode(), headers=sent, csrf=False)
