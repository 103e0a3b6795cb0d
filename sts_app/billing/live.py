"""Stripe, spoken through its own package: our words in, plain facts out.

How a call is made stands in `live_client`, what its answers say in `live_facts`, what events say in
`live_events`; what a checkout is opened with in `live_checkout`, what `sts stripe-setup` asks for in `live_setup`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr

from sts_app.billing.gateway import (
    ChargedFacts,
    Checkout,
    CheckoutRequest,
    CustomerRequest,
    DisputeFacts,
    EvidenceRequest,
    NoSuchCustomer,
    Origin,
    PaymentFacts,
    ProductFacts,
    RefundFacts,
    RefundRequest,
    Refused,
    SignedEvent,
    SubscriptionFacts,
    TryLater,
)
from sts_app.billing.live_checkout import checkout_params
from sts_app.billing.live_client import API_VERSION, PAGE, SDK_VERSION, Missing, StripeCalls
from sts_app.billing.live_events import event_of, read_signed_event
from sts_app.billing.live_facts import (
    all_refunds_in,
    charged_of,
    dict_of,
    dispute_of,
    facts_of,
    id_of,
    intent_in,
    invoice_of,
    invoice_payment_of,
    is_disputed,
    moment,
    portal_of,
    product_of,
    refund_of,
    rows_of,
    subscription_in,
    subscription_of,
    text,
)

if TYPE_CHECKING:
    from stripe.params import CustomerCreateParams
    from stripe.params._dispute_update_params import DisputeUpdateParamsEvidence
    from stripe.params.billing_portal import SessionCreateParams as PortalParams
    from stripe.params.checkout import SessionListParams

__all__ = ["API_VERSION", "SDK_VERSION", "StripePayments"]


class StripePayments(StripeCalls):
    """The `Payments` gateway over Stripe's API; see `StripeCalls` for limits and repeats."""

    def __init__(
        self,
        secret_key: SecretStr,
        *,
        webhook_secrets: tuple[str, ...],
        api_base: str | None = None,
        timeout: tuple[float, float] = (3, 10),
    ) -> None:
        super().__init__(secret_key, api_base=api_base, timeout=timeout)
        self._webhook_secrets = webhook_secrets
        self._portal_id: str | None = None

    def create_customer(self, request: CustomerRequest, *, key: str) -> str:
        """Make the customer known. Returns Stripe's id."""
        params: CustomerCreateParams = {"email": request.email, "metadata": {"customer_ref": request.ref}}
        if request.name:
            params["name"] = request.name
        customer = self._call(
            "create_customer", lambda: self._client.v1.customers.create(params, {"idempotency_key": key})
        )
        return _made("create_customer", customer)

    def find_customer(self, request: CustomerRequest) -> str | None:
        """The customer that was made with this `ref`, among those with its address.

        Stripe's search by metadata lags a minute and more behind, and this is asked right after a crash.
        """
        customers = self._each(
            "find_customer", lambda: self._client.v1.customers.list({"email": request.email, "limit": PAGE})
        )
        for customer in customers:
            if dict_of(customer.get("metadata")).get("customer_ref") == request.ref:
                return text(customer.get("id"))
        return None

    def update_customer(self, customer_id: str, email: str) -> None:
        """Let the customer have this e-mail address. Raises `NoSuchCustomer` for one Stripe does not know."""
        try:
            customer = self._call(
                "update_customer", lambda: self._client.v1.customers.update(customer_id, {"email": email})
            )
        except Missing as missing:
            raise NoSuchCustomer(missing.reason) from None
        _made("update_customer", customer)

    def delete_customer(self, customer_id: str) -> None:
        """Forget the customer, and with it its subscriptions. One that is unknown is forgotten already."""
        try:
            self._call("delete_customer", lambda: self._client.v1.customers.delete(customer_id))
        except (Missing, NoSuchCustomer):
            return

    def open_checkout(self, request: CheckoutRequest, *, key: str) -> Checkout:
        """Open a hosted checkout page; the same key and request return the same page for 24 hours.

        Raises `NoSuchCustomer` for a customer Stripe does not know, and `Refused` when Stripe's price is
        not the one we show: the page is then shown to nobody.
        """
        params = checkout_params(request)
        session = self._call(
            "open_checkout", lambda: self._client.v1.checkout.sessions.create(params, {"idempotency_key": key})
        )
        session_id, url = _made("open_checkout", session), text(session.get("url"))
        if not url:
            raise TryLater("open_checkout: the answer holds no checkout page")
        amount, currency = session.get("amount_total"), session.get("currency")
        if (amount, currency) != (request.amount_cents, request.currency.lower()):
            raise Refused(
                f"open_checkout: {request.price_id} costs {amount} {currency} at Stripe"
                f" and {request.amount_cents} {request.currency} in the store"
            )
        return Checkout(session_id, url, moment(session.get("expires_at")) or request.expires_at)

    def close_checkout(self, session_id: str) -> None:
        """Expire an open page. Raises `Refused` when it has ended already."""
        self._call("close_checkout", lambda: self._client.v1.checkout.sessions.expire(session_id))

    def open_portal(self, customer_id: str, *, return_url: str) -> str:
        """The address of Stripe's customer portal, as `sts stripe-setup` has configured it or else the dashboard.

        Raises `NoSuchCustomer` for a customer Stripe does not know, and `Refused` where neither has.
        """
        params: PortalParams = {"customer": customer_id, "return_url": return_url}
        if (configuration := self._portal_configuration()) is not None:
            params["configuration"] = configuration
        try:
            portal = self._call("open_portal", lambda: self._client.v1.billing_portal.sessions.create(params))
        except Refused:
            # It may have been taken out of use since it was looked up.
            self._portal_id = None
            raise
        url = text(portal.get("url"))
        if not url:
            raise TryLater("open_portal: the answer holds no page")
        return url

    def look_up(self, session_id: str) -> PaymentFacts:
        """The present facts of a checkout, its payment, its refunds and its disputes: usually in one call."""
        # Four levels is the deepest Stripe expands, so that a subscription's payment takes a second call.
        expand = ["payment_intent.latest_charge.refunds", "invoice.payments"]
        session = self._call(
            "look_up", lambda: self._client.v1.checkout.sessions.retrieve(session_id, {"expand": expand})
        )
        intent = self._intent(session.get("payment_intent") or intent_in(dict_of(session.get("invoice"))))
        return facts_of(session, intent=intent, refunds=self._refunds(intent), disputes=self._disputes(intent))

    def look_up_invoice(self, invoice_id: str) -> PaymentFacts:
        """The present facts of a payment that no checkout was opened for: a renewal's."""
        invoice = self._call(
            "look_up_invoice", lambda: self._client.v1.invoices.retrieve(invoice_id, {"expand": ["payments"]})
        )
        intent = self._intent(intent_in(invoice))
        return invoice_payment_of(
            invoice, intent=intent, refunds=self._refunds(intent), disputes=self._disputes(intent)
        )

    def look_up_subscription(self, subscription_id: str) -> SubscriptionFacts:
        """The present facts of a subscription and all its invoices."""
        subscription = self._call(
            "look_up_subscription", lambda: self._client.v1.subscriptions.retrieve(subscription_id)
        )
        invoices = self._each(
            "look_up_subscription",
            lambda: self._client.v1.invoices.list(
                {"subscription": subscription_id, "expand": ["data.payments"], "limit": PAGE}
            ),
        )
        return subscription_of(subscription, [*invoices])

    def find_origin(self, intent_id: str) -> Origin:
        """What a payment intent belongs to; an empty `Origin` for an intent of something else.

        The first invoice of a subscription names its checkout too.
        """
        try:
            session_id = self._session_with({"payment_intent": intent_id})
            invoice = {} if session_id else self._invoice_paid_by(intent_id)
            subscription_id = subscription_in(invoice)
            if invoice and subscription_id and invoice_of(invoice).is_first:
                session_id = self._session_with({"subscription": subscription_id})
        except Missing:
            return Origin()
        return Origin(session_id=session_id, invoice_id=id_of(invoice), subscription_id=subscription_id)

    def refund(self, request: RefundRequest, *, key: str) -> RefundFacts:
        """Give money back. Raises `Refused` when there is not so much left to give."""
        answer = self._call(
            "refund",
            lambda: self._client.v1.refunds.create(
                {
                    "payment_intent": request.intent_id,
                    "amount": request.amount_cents,
                    "reason": request.reason,
                    "metadata": {"refund_ref": request.refund_ref},
                },
                {"idempotency_key": key},
            ),
        )
        return refund_of(answer)

    def cancel_subscription(self, subscription_id: str, *, key: str) -> None:
        """End a subscription now, with no further charge. One that has ended already is fine."""
        try:
            self._call(
                "cancel_subscription",
                lambda: self._client.v1.subscriptions.cancel(
                    subscription_id, {"invoice_now": False, "prorate": False}, {"idempotency_key": key}
                ),
            )
        except Refused:
            # Stripe says of one that has ended that there is none to cancel, but still shows it.
            ended = self._call("cancel_subscription", lambda: self._client.v1.subscriptions.retrieve(subscription_id))
            if ended.get("status") not in ("canceled", "incomplete_expired"):
                raise

    def upload_evidence(self, name: str, content: bytes, *, key: str) -> str:
        """Hand a PDF to Stripe for a dispute. Returns the file's id."""
        answer = self._call(
            "upload_evidence",
            lambda: self._client.v1.files.create(
                {"file": _NamedFile(name, content), "purpose": "dispute_evidence"}, {"idempotency_key": key}
            ),
        )
        return _made("upload_evidence", answer)

    def submit_evidence(self, request: EvidenceRequest, *, key: str) -> DisputeFacts:
        """Send evidence to the bank, for good. Raises `Refused` when its time is over."""
        evidence = cast("DisputeUpdateParamsEvidence", {**request.texts, **request.files})
        answer = self._call(
            "submit_evidence",
            lambda: self._client.v1.disputes.update(
                request.dispute_id,
                {"evidence": evidence, "metadata": {"evidence_ref": request.evidence_ref}, "submit": True},
                {"idempotency_key": key},
            ),
        )
        return dispute_of(answer)

    def look_up_dispute(self, dispute_id: str) -> DisputeFacts:
        """The present facts of one dispute."""
        return dispute_of(self._call("look_up_dispute", lambda: self._client.v1.disputes.retrieve(dispute_id)))

    def read_event(self, body: bytes, signature: str | None) -> SignedEvent:
        """Verify the signature over the raw body, then read it. Raises `BadSignature`."""
        return read_signed_event(body, signature, self._webhook_secrets)

    def events_between(self, since: datetime, until: datetime) -> Iterator[SignedEvent]:
        """Every event of that time, newest first. Stripe remembers thirty days."""
        first, end = _seconds(since), _seconds(until)
        for event in self._each(
            "events_between", lambda: self._client.v1.events.list({"created": {"gte": first, "lt": end}, "limit": PAGE})
        ):
            try:
                yield event_of(event)
            except (ValueError, RecursionError):
                raise TryLater("events_between: the answer holds what is no event") from None

    def payments_between(self, since: datetime, until: datetime) -> Iterator[ChargedFacts]:
        """Every payment begun in that time that brought money, newest first, with what became of it until now."""
        first, end = _seconds(since), _seconds(until)
        expand = ["data.latest_charge.refunds"]
        intents = self._each(
            "payments_between",
            lambda: self._client.v1.payment_intents.list(
                {"created": {"gte": first, "lt": end}, "expand": expand, "limit": PAGE}
            ),
        )
        for intent in intents:
            charged = charged_of(intent, refunds=self._refunds(intent), disputes=self._disputes(intent))
            if charged is not None:
                yield charged

    def products(self) -> list[ProductFacts]:
        """Every product with its prices, the inactive ones too."""
        products = [*self._each("products", lambda: self._client.v1.products.list({"limit": PAGE}))]
        prices = [*self._each("products", lambda: self._client.v1.prices.list({"limit": PAGE}))]
        return [
            product_of(product, [price for price in prices if id_of(price.get("product")) == product.get("id")])
            for product in products
        ]

    def _portal_configuration(self) -> str | None:
        """The store's own configuration of the portal, asked for until it is found."""
        if self._portal_id is None:
            found = self._each(
                "open_portal",
                lambda: self._client.v1.billing_portal.configurations.list({"active": True, "limit": PAGE}),
            )
            self._portal_id = next((portal.id for portal in map(portal_of, found) if portal.is_ours), None)
        return self._portal_id

    def _intent(self, reference: Any) -> dict[str, Any] | None:
        """The payment intent with its charge and refunds, fetched where only its id is known."""
        intent_id = text(reference)
        if intent_id is None:
            return dict_of(reference) or None
        expand = ["latest_charge.refunds"]
        return self._call("look_up", lambda: self._client.v1.payment_intents.retrieve(intent_id, {"expand": expand}))

    def _refunds(self, intent: dict[str, Any] | None) -> list[dict[str, Any]] | None:
        intent_id = id_of(intent)
        if intent is None or intent_id is None or all_refunds_in(intent):
            return None
        return [
            *self._each("look_up", lambda: self._client.v1.refunds.list({"payment_intent": intent_id, "limit": PAGE}))
        ]

    def _disputes(self, intent: dict[str, Any] | None) -> list[dict[str, Any]]:
        intent_id = id_of(intent)
        if intent is None or intent_id is None or not is_disputed(intent):
            return []
        return [
            *self._each("look_up", lambda: self._client.v1.disputes.list({"payment_intent": intent_id, "limit": PAGE}))
        ]

    def _session_with(self, wanted: SessionListParams) -> str | None:
        page = self._call("find_origin", lambda: self._client.v1.checkout.sessions.list({**wanted, "limit": 1}))
        found = rows_of(page)
        return text(found[0].get("id")) if found else None

    def _invoice_paid_by(self, intent_id: str) -> dict[str, Any]:
        page = self._call(
            "find_origin",
            lambda: self._client.v1.invoice_payments.list(
                {
                    "payment": {"type": "payment_intent", "payment_intent": intent_id},
                    "expand": ["data.invoice"],
                    "limit": 1,
                }
            ),
        )
        found = rows_of(page)
        return dict_of(found[0].get("invoice")) if found else {}


class _NamedFile(io.BytesIO):
    """What the package sends as a file, under a name."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(content)
        self.name = name


def _made(op: str, answer: dict[str, Any]) -> str:
    made = text(answer.get("id"))
    if made is None:
        raise TryLater(f"{op}: the answer holds no id")
    return made


def _seconds(at: datetime) -> int:
    """The first whole second that is not before `at`: Stripe's times are whole ones."""
    return math.ceil(at.timestamp())
