"""Stripe, spoken through its own package: our words in, plain facts out.

The API version is the one the installed package was generated for, so the version of the package is
the pin; the webhook endpoint is created with the same one, or payloads would have other shapes.
Nothing of the vendor's crosses the line: its objects are turned into dictionaries once and read with
suspicion, and of its errors only the code is passed on, because a message may repeat what was sent.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import stripe
import structlog
from pydantic import SecretStr

from sts_app.billing.gateway import (
    BadSignature,
    Checkout,
    CheckoutRequest,
    PaymentFacts,
    PaymentsError,
    Refused,
    SignedEvent,
    TryLater,
)
from sts_app.core import clock

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

log = structlog.get_logger()

SDK_VERSION = "16.1.0"
API_VERSION = "2026-10-28.endive"
SIGNATURE_TOLERANCE = timedelta(minutes=5)
RETRIES = 1

# The package would otherwise leave an id of this machine in the home directory and report with it.
stripe.enable_telemetry = False

SUBMIT_TEXT = (
    "One payment, no subscription. By paying you accept the terms of sale and the risk disclosure. "
    "Access is given to the TradingView name on your profile."
)

_WORD = re.compile(r"(?!sk_|rk_|pk_|whsec_)[a-z][a-z0-9_\[\]]{0,59}")
_SESSION_STATES: dict[object, Literal["open", "complete", "expired"]] = {
    "open": "open",
    "complete": "complete",
    "expired": "expired",
}
_PAYMENT_STATES: dict[object, Literal["unpaid", "paid", "no_payment_required"]] = {
    "unpaid": "unpaid",
    "paid": "paid",
    "no_payment_required": "no_payment_required",
}


class StripePayments:
    """The `Payments` gateway over Stripe's API.

    Every call has a time limit (`timeout`: seconds to connect, seconds to answer) and is repeated by the
    package at most once, with one idempotency key, when the answer was lost or Stripe asked for it.
    """

    def __init__(
        self,
        secret_key: SecretStr,
        *,
        webhook_secrets: tuple[str, ...],
        api_base: str | None = None,
        timeout: tuple[float, float] = (3, 10),
    ) -> None:
        self._webhook_secrets = webhook_secrets
        self._http = stripe.RequestsClient(timeout=timeout)
        self._client = stripe.StripeClient(
            secret_key.get_secret_value(),
            max_network_retries=RETRIES,
            http_client=self._http,
            base_addresses={"api": api_base} if api_base else {},
        )

    def close(self) -> None:
        """Drop the connections this thread keeps open. The next call opens new ones."""
        self._http.close()  # type: ignore[no-untyped-call]  # stripe leaves this one untyped

    def open_checkout(self, request: CheckoutRequest, *, key: str) -> Checkout:
        """Open a hosted checkout page; the same key and request return the same page for 24 hours.

        Raises `Refused` when Stripe's price is not the one we show: the page is then shown to nobody.
        """
        params = _checkout_params(request)
        session = self._call(
            "open_checkout", lambda: self._client.v1.checkout.sessions.create(params, {"idempotency_key": key})
        )
        session_id, url = _text(session.get("id")), _text(session.get("url"))
        if not session_id or not url:
            raise TryLater("open_checkout: the answer holds no checkout page")
        amount, currency = session.get("amount_total"), session.get("currency")
        if (amount, currency) != (request.amount_cents, request.currency.lower()):
            raise Refused(
                f"open_checkout: {request.price_id} costs {amount} {currency} at Stripe"
                f" and {request.amount_cents} {request.currency} in the store"
            )
        return Checkout(session_id, url, _moment(session.get("expires_at")) or request.expires_at)

    def read_event(self, body: bytes, signature: str | None) -> SignedEvent:
        """Verify the signature over the raw body, then read it. Raises `BadSignature`."""
        return read_signed_event(body, signature, self._webhook_secrets)

    def look_up(self, session_id: str) -> PaymentFacts:
        """The present facts of a checkout, its payment and its refunds, in one call."""
        expand = ["payment_intent", "payment_intent.latest_charge"]
        session = self._call(
            "look_up", lambda: self._client.v1.checkout.sessions.retrieve(session_id, {"expand": expand})
        )
        return facts_of(session)

    def close_checkout(self, session_id: str) -> None:
        """Expire an open page. Raises `Refused` when it has ended already."""
        self._call("close_checkout", lambda: self._client.v1.checkout.sessions.expire(session_id))

    def find_session(self, intent_id: str) -> str | None:
        """The checkout session a payment intent belongs to, None for an intent of something else."""
        try:
            page = self._call(
                "find_session",
                lambda: self._client.v1.checkout.sessions.list({"payment_intent": intent_id, "limit": 1}),
            )
        except _Missing:
            return None
        sessions = page.get("data")
        first = sessions[0] if isinstance(sessions, list) and sessions else None
        return _text(_dict(first).get("id"))

    def _call(self, op: str, send: Callable[[], stripe.StripeObject]) -> dict[str, Any]:
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
            return answer.to_dict()
        finally:
            log.info("stripe.call", ms=round((time.monotonic() - started) * 1000), **line)


class _Missing(Refused):
    """Stripe knows no such thing."""


def _checkout_params(request: CheckoutRequest) -> SessionCreateParams:
    metadata = {"purchase_ref": request.purchase_ref}
    # `payment_method_types` is left out on purpose: the dashboard's settings decide, wallets included.
    return {
        "mode": "payment",
        "ui_mode": "hosted_page",
        "line_items": [{"price": request.price_id, "quantity": 1}],
        "client_reference_id": request.purchase_ref,
        "metadata": metadata,
        "payment_intent_data": {"metadata": metadata},
        "customer_email": request.customer_email,
        "success_url": request.success_url,
        "cancel_url": request.cancel_url,
        "expires_at": int(request.expires_at.timestamp()),
        "after_expiration": {"recovery": {"enabled": True, "allow_promotion_codes": True}},
        "allow_promotion_codes": True,
        "invoice_creation": {"enabled": True, "invoice_data": {"metadata": metadata}},
        # Charge the price that the store shows, in its currency.
        "adaptive_pricing": {"enabled": False},
        # A required box (`consent_collection`) would need a terms address set in the dashboard first.
        "custom_text": {"submit": {"message": SUBMIT_TEXT}},
    }


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
        return _Missing(reason)
    return Refused(reason)


def _code_of(error: stripe.StripeError) -> str:
    body = error.json_body if isinstance(error.json_body, dict) else {}
    said = _dict(body.get("error"))
    words = [said.get("code") or said.get("type"), said.get("param")]
    # Only words of the vendor's own vocabulary: no value looks like this, and a key must not.
    known = [word for word in words if isinstance(word, str) and _WORD.fullmatch(word)]
    return " ".join(known) or f"status {error.http_status}"


def _retry_after(error: stripe.StripeError) -> timedelta | None:
    given = str((error.headers or {}).get("retry-after", ""))
    return timedelta(seconds=int(given)) if re.fullmatch(r"\d{1,4}", given) else None


def facts_of(session: dict[str, Any]) -> PaymentFacts:
    """Read a checkout session with its payment intent and latest charge expanded.

    Raises `TryLater` when it is no checkout session in a state we know.
    """
    session_id = _text(session.get("id"))
    state = _SESSION_STATES.get(_text(session.get("status")))
    payment = _PAYMENT_STATES.get(_text(session.get("payment_status")))
    if not session_id or state is None or payment is None:
        raise TryLater("look_up: the answer is no checkout session in a known state")
    intent = _dict(session.get("payment_intent"))
    charge = _dict(intent.get("latest_charge"))
    decline = _dict(intent.get("last_payment_error"))
    return PaymentFacts(
        session_id=session_id,
        purchase_ref=_purchase_ref(session) or _purchase_ref(intent),
        session=state,
        payment=payment,
        amount_total=_int(session.get("amount_total")),
        currency=_text(session.get("currency")) or "",
        intent_id=_id_of(session.get("payment_intent")),
        intent=_text(intent.get("status")),
        # The bank's own word, if it gave one, says more than `card_declined`.
        declined_because=_text(decline.get("decline_code")) or _text(decline.get("code")) or _text(decline.get("type")),
        amount_refunded=_int(charge.get("amount_refunded")),
        url=_text(session.get("url")),
    )


def read_signed_event(body: bytes, signature: str | None, secrets: tuple[str, ...]) -> SignedEvent:
    """Verify `signature` over the raw `body` with any of `secrets`, then read the event.

    While a secret is rotated both are given. Raises `BadSignature`, and nothing else, for a missing or
    malformed header, a foreign secret, a signature older than five minutes, and for a body that is no
    snapshot event. What the event is about is read with suspicion: any shape of it is accepted.
    """
    if not signature:
        raise BadSignature("the signature header is missing")
    if not any(_is_signed(body, signature, secret) for secret in secrets):
        raise BadSignature("not signed with a secret of ours in the last five minutes")
    try:
        payload = _storable(json.loads(body.decode("utf-8")))
    except (ValueError, RecursionError):
        raise BadSignature("the body is not JSON") from None
    if not isinstance(payload, dict) or payload.get("object") != "event":
        raise BadSignature("the body is no snapshot event")
    event_id, kind = _text(payload.get("id")), _text(payload.get("type"))
    if not event_id or not kind:
        raise BadSignature("the event has no id or no type")
    thing = _dict(_dict(payload.get("data")).get("object"))
    name = thing.get("object")
    return SignedEvent(
        id=event_id,
        type=kind,
        created_at=_moment(payload.get("created")) or clock.now(),
        live=payload.get("livemode") is True,
        payload=payload,
        purchase_ref=_purchase_ref(thing) or _purchase_ref(_dict(thing.get("payment_intent"))),
        session_id=_text(thing.get("id")) if name == "checkout.session" else None,
        intent_id=_text(thing.get("id")) if name == "payment_intent" else _id_of(thing.get("payment_intent")),
    )


def _is_signed(body: bytes, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, signature, secret, int(SIGNATURE_TOLERANCE.total_seconds()))
    except (stripe.SignatureVerificationError, ValueError, TypeError):
        # ValueError: the body is not UTF-8. TypeError: the header holds letters beyond ASCII.
        return False
    return True


def _storable(value: Any) -> Any:
    """The same JSON without what PostgreSQL cannot keep: NUL, lone surrogates, numbers without end."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number without end")
    return value


def _purchase_ref(thing: dict[str, Any]) -> str | None:
    return _text(thing.get("client_reference_id")) or _text(_dict(thing.get("metadata")).get("purchase_ref"))


def _id_of(value: Any) -> str | None:
    """A reference is an id, or the whole object where it was expanded."""
    return _text(_dict(value).get("id")) or _text(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(_int(value), UTC) if _int(value) else None
    except (ValueError, OverflowError, OSError):
        return None
