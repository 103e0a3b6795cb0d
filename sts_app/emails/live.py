"""Resend, translated.

The package keeps its key, address and HTTP client in module globals, so a process has one Resend
account; only this module and `live_events` know the package.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import resend
import structlog
from pydantic import SecretStr
from resend.exceptions import ResendError

from sts_app.emails.gateway import Letter, LetterEvent, MailerError, Refused, TryLater
from sts_app.emails.live_events import read_signed_event

log = structlog.get_logger()

API_BASE = "https://api.resend.com"


class ResendMailer:
    """The Resend account that `api_key` belongs to. `timeout` is seconds, for connecting and for reading each."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        webhook_secrets: tuple[str, ...] = (),
        api_base: str | None = None,
        timeout: int = 5,
    ) -> None:
        resend.api_key = api_key.get_secret_value()
        resend.api_url = (api_base or API_BASE).rstrip("/")
        resend.default_http_client = resend.RequestsClient(timeout=timeout)
        self._webhook_secrets = webhook_secrets

    def send(self, letter: Letter, key: str) -> str:
        """Hand one letter over and return Resend's id for it; see `gateway.Mailer`."""
        given: resend.Emails.SendParams = {
            "from": letter.sender,
            "to": [letter.to],
            "subject": letter.subject,
            "text": letter.text,
            "html": letter.html,
            # Asks autoresponders to keep quiet (RFC 3834).
            "headers": {"Auto-Submitted": "auto-generated"},
            "tags": [{"name": "kind", "value": letter.kind}],
        }
        if letter.reply_to is not None:
            given["reply_to"] = letter.reply_to
        return _call(letter.kind, lambda: _id_in(resend.Emails.send(given, {"idempotency_key": key})))

    def lift(self, address: str) -> None:
        """Take an address from Resend's list of those it keeps letters back from; see `gateway.Mailer`."""

        def remove() -> str:
            try:
                resend.Suppressions.remove(address)
            except ResendError as error:
                if str(error.code) != "404":
                    raise
            return ""

        _call("lift", remove)

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> LetterEvent | None:
        """Verify Resend's signature over the raw body, then read it; see `gateway.Mailer`."""
        return read_signed_event(body, headers, self._webhook_secrets)


def _call(kind: str, ask: Callable[[], str]) -> str:
    """Ask Resend, with one line in the log about how that went."""
    started = time.monotonic()
    failure: MailerError | None = None
    answer = ""
    try:
        answer = ask()
    except ResendError as error:
        failure = _translate(error)
    except MailerError as error:
        failure = error
    log.info(
        "emails.call",
        vendor="resend",
        kind=kind,
        ms=round((time.monotonic() - started) * 1000),
        outcome=type(failure).__name__ if failure else "Sent",
        reason=str(failure) if failure else None,
    )
    if failure:
        # Outside the except block: the vendor's message may quote the address, and a chained
        # exception would carry it into a trace.
        raise failure
    return answer


def _id_in(answer: Any) -> str:
    provider_id = str(answer.get("id") or "")
    if not provider_id:
        raise TryLater("answered without an id", answered=False)
    return provider_id


def _translate(error: ResendError) -> MailerError:
    """What happens next, from status and error name (https://resend.com/docs/api-reference/errors)."""
    if error.error_type == "HttpClientError":
        return TryLater("no answer", answered=False)
    status = int(error.code) if str(error.code).isdigit() else 500
    name = error.error_type if re.fullmatch(r"\w{1,60}", str(error.error_type)) else "unnamed"
    reason = f"{status} {name}"
    if status == 429:
        return TryLater(reason, after=_retry_after(error))
    if name == "concurrent_idempotent_requests":
        return TryLater(reason)
    if status >= 500 or status == 408:
        # Broken somewhere on the way: it may have been accepted before it broke.
        return TryLater(reason, answered=False)
    return Refused(reason, final=status not in (401, 403))


def _retry_after(error: ResendError) -> timedelta | None:
    """Resend gives whole seconds."""
    headers = {name.lower(): value for name, value in error.headers.items()}
    seconds = headers.get("retry-after", "")
    return timedelta(seconds=int(seconds)) if seconds.isdigit() else None
