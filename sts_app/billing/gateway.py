"""What a payment provider is to us, in our words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class CheckoutRequest:
    """Everything a checkout page is opened with; stored before the call and replayed as it stands."""

    purchase_ref: str
    price_id: str
    product_name: str
    amount_cents: int
    currency: str
    customer_email: str
    success_url: str
    cancel_url: str
    expires_at: datetime


@dataclass(frozen=True)
class Checkout:
    """An open checkout page at the provider."""

    session_id: str
    url: str
    expires_at: datetime


@dataclass(frozen=True)
class PaymentFacts:
    """The whole truth about one checkout, fetched from the provider. Amounts in cents.

    `intent` is the payment intent's state; `canceled` and `requires_payment_method` after a complete
    session mean that a delayed payment failed.
    """

    session_id: str
    purchase_ref: str | None
    session: Literal["open", "complete", "expired"]
    payment: Literal["unpaid", "paid", "no_payment_required"]
    amount_total: int
    currency: str
    intent_id: str | None = None
    intent: str | None = None
    declined_because: str | None = None
    amount_refunded: int = 0
    url: str | None = None


@dataclass(frozen=True)
class SignedEvent:
    """A verified event: what it is called, what it may be about, and its body as JSON."""

    id: str
    type: str
    created_at: datetime
    live: bool
    payload: dict[str, Any]
    purchase_ref: str | None = None
    session_id: str | None = None
    intent_id: str | None = None


class PaymentsError(Exception):
    """Named for what happens next; `reason` is fit for staff and holds no key."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TryLater(PaymentsError):
    """Not answered, busy or broken; the same call may be made again.

    `answered` is True for an error that came from the provider itself. It keeps such an answer under
    the idempotency key and repeats it, so whoever tries again must do so under a new key.
    """

    def __init__(self, reason: str, *, after: timedelta | None = None, answered: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.answered = answered


class Refused(PaymentsError):
    """The provider answered no; the same call will be answered no again."""


class BadSignature(PaymentsError):
    """The body is not signed with a secret of ours, or too long ago, or it is no event."""


class Payments(Protocol):
    def open_checkout(self, request: CheckoutRequest, *, key: str) -> Checkout:
        """Open a hosted checkout page. The same key and request return the same page."""
        ...

    def read_event(self, body: bytes, signature: str | None) -> SignedEvent:
        """Verify the signature over the raw body, then read it. Raises `BadSignature`."""
        ...

    def look_up(self, session_id: str) -> PaymentFacts:
        """The present facts of a checkout, its payment and its refunds."""
        ...

    def close_checkout(self, session_id: str) -> None:
        """Close an open page, so that it can no longer be paid. Raises `Refused` when it has ended already."""
        ...

    def find_session(self, intent_id: str) -> str | None:
        """The checkout session a payment intent belongs to, if any."""
        ...
