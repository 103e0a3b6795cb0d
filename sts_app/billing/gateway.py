"""What a payment provider is to us, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

Mode = Literal["payment", "subscription"]
RefundStatus = Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
DisputeStatus = Literal[
    "warning_needs_response",
    "warning_under_review",
    "warning_closed",
    "prevented",
    "needs_response",
    "under_review",
    "lost",
    "won",
]
SubscriptionStatus = Literal[
    "incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "paused", "canceled"
]


@dataclass(frozen=True)
class CustomerRequest:
    """Who is to be known at the provider, before anything is charged. `ref` is what it carries round for us."""

    ref: str
    email: str
    name: str = ""


@dataclass(frozen=True)
class CheckoutRequest:
    """Everything a checkout page is opened with; stored before the call and replayed as it stands."""

    purchase_ref: str
    price_id: str
    product_name: str
    amount_cents: int
    currency: str
    customer_id: str
    customer_email: str
    success_url: str
    cancel_url: str
    expires_at: datetime
    mode: Mode = "payment"


@dataclass(frozen=True)
class Checkout:
    """An open checkout page at the provider."""

    session_id: str
    url: str
    expires_at: datetime


@dataclass(frozen=True)
class RefundFacts:
    """One refund as the provider shows it, in cents. `ref` is ours when the store asked for it."""

    id: str
    amount: int
    currency: str
    status: RefundStatus
    created_at: datetime
    ref: str | None = None
    intent_id: str | None = None
    failed_because: str | None = None

    @property
    def counts(self) -> bool:
        """Whether the money is back or on its way. What failed or was called off is with the store again."""
        return self.status in ("pending", "requires_action", "succeeded")


@dataclass(frozen=True)
class DisputeFacts:
    """One dispute as the provider shows it, in cents. `warning_...` is an inquiry, with no money taken yet.

    `submissions` counts how often evidence was sent to the bank; `evidence_ref` is ours, of the last one.
    """

    id: str
    amount: int
    currency: str
    status: DisputeStatus
    reason: str
    opened_at: datetime
    due_by: datetime | None = None
    intent_id: str | None = None
    submissions: int = 0
    evidence_ref: str | None = None

    @property
    def withholds(self) -> bool:
        """Whether the bank has taken the money: until it has decided, and for good when the dispute is lost."""
        return self.status in ("needs_response", "under_review", "lost")


@dataclass(frozen=True)
class PaymentFacts:
    """The whole truth about one payment, fetched from the provider. Amounts in cents.

    `session` is the checkout's state; a payment without a checkout, as a renewal is, counts as complete.
    `intent` is the payment intent's state; `canceled` and `requires_payment_method` after a complete
    session mean that a delayed payment failed. Of a subscription's checkout the payment is its first
    invoice.
    """

    session_id: str | None
    purchase_ref: str | None
    session: Literal["open", "complete", "expired"]
    payment: Literal["unpaid", "paid", "no_payment_required"]
    amount_total: int
    currency: str
    mode: Mode = "payment"
    amount_discount: int = 0
    intent_id: str | None = None
    intent: str | None = None
    declined_because: str | None = None
    refunds: tuple[RefundFacts, ...] = ()
    disputes: tuple[DisputeFacts, ...] = ()
    customer_id: str | None = None
    subscription_id: str | None = None
    invoice_id: str | None = None
    receipt_url: str | None = None
    invoice_url: str | None = None
    invoice_pdf_url: str | None = None
    url: str | None = None

    @property
    def amount_refunded(self) -> int:
        return sum(refund.amount for refund in self.refunds if refund.counts)


@dataclass(frozen=True)
class ChargedFacts:
    """Money that came in with one payment intent, and what has become of it since. Cents.

    `amount` is before any refund. `refunded` went back or is on its way; `withheld` was taken by banks over disputes.
    """

    intent_id: str
    amount: int
    currency: str
    created_at: datetime
    purchase_ref: str | None = None
    refunded: int = 0
    withheld: int = 0


@dataclass(frozen=True)
class InvoiceFacts:
    """One invoice of a subscription. `is_first` belongs to the checkout that began it."""

    id: str
    status: Literal["draft", "open", "paid", "uncollectible", "void"]
    amount_paid: int
    currency: str
    is_first: bool
    created_at: datetime
    paid_at: datetime | None = None
    intent_id: str | None = None
    period_end: datetime | None = None


@dataclass(frozen=True)
class SubscriptionFacts:
    """The whole truth about one subscription and its invoices, oldest invoice first.

    `period_end` is when the paid time runs out; `ends_at` when it is to end, if an end is set already;
    `ended_at` when it did.
    """

    id: str
    purchase_ref: str | None
    customer_id: str | None
    status: SubscriptionStatus
    price_id: str | None
    started_at: datetime
    period_end: datetime | None = None
    ends_at: datetime | None = None
    ended_at: datetime | None = None
    invoices: tuple[InvoiceFacts, ...] = ()


@dataclass(frozen=True)
class Origin:
    """What a payment intent belongs to: a checkout, or an invoice of a subscription, or nothing of ours."""

    session_id: str | None = None
    invoice_id: str | None = None
    subscription_id: str | None = None


@dataclass(frozen=True)
class RefundRequest:
    """Everything a refund is asked with; stored before the call and replayed as it stands."""

    refund_ref: str
    intent_id: str
    amount_cents: int
    reason: Literal["duplicate", "fraudulent", "requested_by_customer"]


@dataclass(frozen=True)
class EvidenceRequest:
    """What is sent to the bank: `texts` under the provider's names, `files` by such a name to an uploaded file's id."""

    dispute_id: str
    evidence_ref: str
    texts: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class PriceFacts:
    """One price: cents, or None where the amount is not fixed. `interval` is empty for a price that is paid once."""

    id: str
    amount_cents: int | None
    currency: str
    active: bool
    interval: str = ""


@dataclass(frozen=True)
class ProductFacts:
    """One product with its prices, the default one first."""

    id: str
    name: str
    description: str
    active: bool
    prices: tuple[PriceFacts, ...] = ()


@dataclass(frozen=True)
class EndpointFacts:
    """Where the provider rings. `secret` is shown at its creation and never again."""

    id: str
    url: str
    types: frozenset[str]
    api_version: str | None
    enabled: bool
    secret: str | None = None


@dataclass(frozen=True)
class PortalFacts:
    """A set-up of the provider's page of a customer. `is_default` is used where the store has made none of its own."""

    id: str
    is_ours: bool
    is_default: bool
    shows_invoices: bool
    changes_card: bool
    ends_subscription: bool
    changes_plan: bool

    @property
    def fits(self) -> bool:
        """Whether customers can do there what the store says, and no more. A subscription ends with the time paid."""
        return self.shows_invoices and self.changes_card and self.ends_subscription and not self.changes_plan


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
    invoice_id: str | None = None
    subscription_id: str | None = None
    customer_id: str | None = None


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


class NoSuchCustomer(Refused):
    """The provider does not know this customer any more: a new one is to be made."""


class BadSignature(PaymentsError):
    """The body is not signed with a secret of ours, or too long ago, or it is no event."""


class Payments(Protocol):
    """Every call that makes something takes a key: the same key and request make it once.

    Keys are remembered for a day at least. Whoever asks again later first looks for what was made.
    """

    def create_customer(self, request: CustomerRequest, *, key: str) -> str:
        """Make the customer known. Returns the provider's id."""
        ...

    def find_customer(self, request: CustomerRequest) -> str | None:
        """The customer that was made with this `ref`, if any."""
        ...

    def update_customer(self, customer_id: str, email: str) -> None:
        """Let the customer have this e-mail address. Asked twice it is the same.

        Raises `NoSuchCustomer` when the customer is not known any more.
        """
        ...

    def delete_customer(self, customer_id: str) -> None:
        """Forget the customer. One that is unknown is forgotten already."""
        ...

    def open_checkout(self, request: CheckoutRequest, *, key: str) -> Checkout:
        """Open a hosted checkout page. The same key and request return the same page.

        Raises `NoSuchCustomer` when the customer is not known any more.
        """
        ...

    def close_checkout(self, session_id: str) -> None:
        """Close an open page, so that it can no longer be paid. Raises `Refused` when it has ended already."""
        ...

    def open_portal(self, customer_id: str, *, return_url: str) -> str:
        """The address of a page where the customer sees invoices, changes the card and ends subscriptions.

        Raises `NoSuchCustomer` when the customer is not known any more, `Refused` when no such page is set up.
        """
        ...

    def look_up(self, session_id: str) -> PaymentFacts:
        """The present facts of a checkout, its payment, its refunds and its disputes."""
        ...

    def look_up_invoice(self, invoice_id: str) -> PaymentFacts:
        """The present facts of a payment that no checkout was opened for: a renewal's."""
        ...

    def look_up_subscription(self, subscription_id: str) -> SubscriptionFacts:
        """The present facts of a subscription and all its invoices."""
        ...

    def find_origin(self, intent_id: str) -> Origin:
        """What a payment intent belongs to; an empty `Origin` for an intent of something else."""
        ...

    def refund(self, request: RefundRequest, *, key: str) -> RefundFacts:
        """Give money back. Raises `Refused` when there is not so much left to give."""
        ...

    def cancel_subscription(self, subscription_id: str, *, key: str) -> None:
        """End a subscription now, with no further charge. One that has ended already is fine."""
        ...

    def upload_evidence(self, name: str, content: bytes, *, key: str) -> str:
        """Hand a PDF to the provider for a dispute. Returns the file's id."""
        ...

    def submit_evidence(self, request: EvidenceRequest, *, key: str) -> DisputeFacts:
        """Send evidence to the bank, for good. Raises `Refused` when its time is over."""
        ...

    def look_up_dispute(self, dispute_id: str) -> DisputeFacts:
        """The present facts of one dispute."""
        ...

    def read_event(self, body: bytes, signature: str | None) -> SignedEvent:
        """Verify the signature over the raw body, then read it. Raises `BadSignature`."""
        ...

    def events_between(self, since: datetime, until: datetime) -> Iterator[SignedEvent]:
        """Every event the provider remembers from `since` (included) to `until` (not), newest first.

        It remembers thirty days. The iterator raises what a call may raise.
        """
        ...

    def payments_between(self, since: datetime, until: datetime) -> Iterator[ChargedFacts]:
        """Every payment begun in that time that brought money, newest first, with what became of it until now."""
        ...

    def products(self) -> list[ProductFacts]:
        """Every product with its prices."""
        ...


class StoreSetup(Protocol):
    """What `sts stripe-setup` needs: the provider's side of the store, found or made."""

    def find_price(self, lookup_key: str) -> PriceFacts | None:
        """The active price under this key."""
        ...

    def create_product(self, *, name: str, description: str, key: str) -> str:
        """Make a product. Returns its id."""
        ...

    def create_price(
        self, *, product_id: str, amount_cents: int, currency: str, interval: str, lookup_key: str, key: str
    ) -> PriceFacts:
        """Make a price and let `lookup_key` name it, whatever it named before."""
        ...

    def endpoints(self) -> list[EndpointFacts]:
        """Every address that is rung, without the secrets."""
        ...

    def create_endpoint(self, *, url: str, types: frozenset[str], key: str) -> EndpointFacts:
        """Make the endpoint, with the API version that this store reads. Its secret is shown this once."""
        ...

    def update_endpoint(self, endpoint_id: str, *, types: frozenset[str]) -> EndpointFacts:
        """Let an endpoint hear of exactly these types, and switch it on."""
        ...

    def portals(self) -> list[PortalFacts]:
        """Every set-up of the customer's page that is in use."""
        ...

    def create_portal(self, *, terms_url: str, privacy_url: str, key: str) -> PortalFacts:
        """Set the customer's page up as it fits the store, for the store to use."""
        ...

    def update_portal(self, portal_id: str) -> PortalFacts:
        """Let a set-up of the store's own fit again."""
        ...

    def takes_payments(self) -> bool:
        """Whether the provider lets this account charge anybody."""
        ...
