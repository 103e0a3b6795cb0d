"""How a call to Stripe is made: one client, one log line, one translation of what went wrong.

The API version is the one the installed package was generated for, so the version of the package is
the pin; the webhook endpoint is created with the same one, or payloads would have other shapes.
Nothing of the vendor's crosses the line: its objects are turned into dictionaries once, and of its
errors only the code is passed on, because a message may repeat what was sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final, TypeVar

import stripe
import structlog
from pydantic import SecretStr

from sts_app.billing.gateway import NoSuchCustomer, PaymentsError, Refused, TryLater
from sts_app.billing.live_facts import dict_of, rows_of

log = structlog.get_logger()

SDK_VERSION: Final = "16.1.0"
API_VERSION: Final = "2026-10-28.endive"
RETRIES = 1
PAGE = 100  # the most that Stripe gives at once

Answer = TypeVar("Answer", bound=stripe.StripeObject)

# The package would otherwise leave an id of this machine in the home directory and report with it.
stripe.enable_telemetry = False

_WORD = re.compile(r"(?!sk_|rk_|pk_|whsec_)[a-z][a-z0-9_\[\]]{0,59}")


class Missing(Refused):
    """Stripe knows no such thing."""


class StripeCalls:
    """Calls to Stripe's API, in dictionaries.

    Every call has a time limit (`timeout`: seconds to connect, seconds to answer) and is repeated by the
    package at most once, with one idempotency key, when the answer was lost or Stripe asked for it.
    `api_base` takes the place of Stripe's addresses, that for files included.
    """

    def __init__(
        self, secret_key: SecretStr, *, api_base: str | None = None, timeout: tuple[float, float] = (3, 10)
    ) -> None:
        self._http = stripe.RequestsClient(timeout=timeout)
        self._client = stripe.StripeClient(
            secret_key.get_secret_value(),
            max_network_retries=RETRIES,
            http_client=self._http,
            base_addresses={"api": api_base, "files": api_base} if api_base else {},
        )

    def close(self) -> None:
        """Drop the connections this thread keeps open. The next call opens new ones."""
        self._http.close()  # type: ignore[no-untyped-call]  # stripe leaves this one untyped

    def _call(self, op: str, send: Callable[[], stripe.StripeObject]) -> dict[str, Any]:
        # Amounts in decimals stay the texts they are on the wire.
        return self._send(op, send).to_dict(for_json=True)

    def _each(self, op: str, fetch: Callable[[], stripe.ListObject[Any]]) -> Iterator[dict[str, Any]]:
        """Every object of a list, page by page to its end."""
        page = self._send(op, fetch)
        while True:
            answer = page.to_dict(for_json=True)
            if answer.get("object") != "list":
                raise TryLater(f"{op}: the answer is no list")
            found = rows_of(answer)
            yield from found
            if answer.get("has_more") is not True or not found:
                return
            page = self._send(op, page.next_page)

    def _send(self, op: str, send: Callable[[], Answer]) -> Answer:
        started = time.monotonic()
        line: dict[str, object] = {"op": op}
        try:
            answer = send()
        except stripe.StripeError as error:
            failure = _translate(op, error)
            line.update(
                outcome="try_later" if isinstance(failure, TryLater) else "refused",
                status=error.http_status,
                cause=failure.reason,
                stripe_request=error.request_id,
            )
            # The package's error carries the whole answer: it must not ride along in a trace.
            raise failure from None
        else:
            response = answer.last_response
            line.update(outcome="answered", stripe_request=response.request_id if response else None)
            return answer
        finally:
            log.info("stripe.call", ms=round((time.monotonic() - started) * 1000), **line)


def _translate(op: str, error: stripe.StripeError) -> PaymentsError:
    """Say what happens next, and the vendor's code for the reason; never its message."""
    status = error.http_status
    reason = f"{op}: {_code_of(error)}"
    if isinstance(error, stripe.APIConnectionError):
        return TryLater(f"{op}: no answer")
    if isinstance(error, stripe.RateLimitError):
        return TryLater(reason, after=_retry_after(error))
    # 409 says that the object or the idempotency key is in use by another call. An answer in the 200s
    # that ended up here could not be read.
    if status is None or status < 400 or status == 409 or status >= 500:
        return TryLater(reason, after=_retry_after(error), answered=status is not None and status >= 500)
    if status in (401, 403):
        # Our key, and nothing about the call: somebody mends it, and no event may be given up meanwhile.
        return TryLater(reason)
    if isinstance(error, stripe.InvalidRequestError) and error.code == "resource_missing":
        return NoSuchCustomer(reason) if error.param == "customer" else Missing(reason)
    return Refused(reason)


def _code_of(error: stripe.StripeError) -> str:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    said = dict_of(body.get("error"))
    words = [said.get("code") or said.get("type"), said.get("param")]
    # Only words of the vendor's own vocabulary: no value looks like this, and a key must not.
    known = [word for word in words if isinstance(word, str) and _WORD.fullmatch(word)]
    return " ".join(known) or f"status {error.http_status}"


def _retry_after(error: stripe.StripeError) -> timedelta | None:
    given = str((error.headers or {}).get("retry-after", ""))
    return timedelta(seconds=int(given)) if re.fullmatch(r"\d{1,4}", given) else None
