"""Resend's events: verified, and read for what they tell of a letter.

Resend signs them in Svix's way (https://docs.svix.com/receiving/verifying-payloads/how): three headers, and a
secret that is base64 after `whsec_`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import resend
import structlog

from sts_app.core import clock
from sts_app.emails.gateway import BadSignature, Happened, LetterEvent

log = structlog.get_logger()

ID, TIMESTAMP, SIGNATURE = "svix-id", "svix-timestamp", "svix-signature"
LONGEST_WORDS = 300
PLAIN = {
    "email.delivered": Happened.DELIVERED,
    "email.delivery_delayed": Happened.DELAYED,
    "email.failed": Happened.FAILED,
    "email.suppressed": Happened.SUPPRESSED,
    "email.complained": Happened.COMPLAINED,
}
BOUNCED = "email.bounced"


def read_signed_event(body: bytes, headers: Mapping[str, str], secrets: tuple[str, ...]) -> LetterEvent | None:
    """Verify `body` with any of `secrets` (two while one is being replaced), then read the event.

    None for a signed event that says nothing of a letter's fate, or nothing that can be read: Resend rings again
    for whatever is not answered with success, and in the end no more. Raises `BadSignature` for a missing or
    malformed header, a foreign secret, a clock five minutes apart, and a body that is not JSON.
    """
    given = {name: headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE)}
    if not all(given.values()):
        raise BadSignature("a header of the signature is missing")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadSignature("the body is not UTF-8") from None
    for secret in secrets:
        payload = _verified(text, given, secret)
        if payload is not None:
            return _event_of(payload, given[ID])
    raise BadSignature("not signed with a secret of ours in the last five minutes")


def _verified(text: str, headers: dict[str, str], secret: str) -> Any | None:
    """What the text holds, if this secret signed it; compared in constant time."""
    try:
        return resend.Webhooks.verify(
            {
                "payload": text,
                "headers": {
                    "id": headers[ID],
                    "timestamp": headers[TIMESTAMP],
                    "signature": headers[SIGNATURE],
                },
                "webhook_secret": secret,
            }
        )
    except (ValueError, RecursionError):
        # One answer for all its reasons, which quote what was given.
        return None


def _event_of(payload: Any, event_id: str) -> LetterEvent | None:
    """Read with suspicion: any shape is borne."""
    event = payload if isinstance(payload, dict) else {}
    kind, data = event.get("type"), _dict_of(event.get("data"))
    happened = _bounce(_dict_of(data.get("bounce"))) if kind == BOUNCED else PLAIN.get(str(kind))
    if happened is None:
        return None
    provider_id = data.get("email_id")
    if not isinstance(provider_id, str) or not provider_id or not provider_id.isprintable():
        log.warning("emails.event_unread", happened=happened.value)
        return None
    return LetterEvent(
        id=event_id,
        provider_id=provider_id,
        happened=happened,
        at=_moment(event.get("created_at")),
        words=_words(data),
    )


def _bounce(bounce: dict[str, Any]) -> Happened:
    """Permanent is hard; whatever else they say (Transient, Undetermined) may pass.

    The names are those of Amazon SES, which Resend sends by.
    """
    if str(bounce.get("type", "")).lower() != "permanent":
        return Happened.BOUNCED_SOFTLY
    is_kept_back = str(bounce.get("subType", "")).lower() in ("suppressed", "onaccountsuppressionlist")
    return Happened.SUPPRESSED if is_kept_back else Happened.BOUNCED


def _words(data: dict[str, Any]) -> str:
    """The reason in the other server's words, as one line that a page can show."""
    said = (
        _dict_of(data.get("bounce")).get("diagnosticCode"),
        _dict_of(data.get("bounce")).get("message"),
        _dict_of(data.get("failed")).get("reason"),
        _dict_of(data.get("suppressed")).get("message"),
    )
    first = next((text for text in said if isinstance(text, str) and text.strip()), "")
    printable = "".join(letter if letter.isprintable() else " " for letter in first)
    return " ".join(printable.split())[:LONGEST_WORDS]


def _moment(value: Any) -> datetime:
    """When it happened, and never later than now: a clock that is ahead must not outlast a proof of today."""
    now = clock.now()
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return now
    try:
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except OverflowError:
        return now
    return min(at, now)


def _dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
