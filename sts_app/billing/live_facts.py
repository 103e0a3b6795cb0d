"""Stripe's dictionaries, read into our facts. Pure functions, for the adapter and for its twin.

Everything is read with suspicion, and in either of two shapes: an event keeps the shape of the version
it was made with, which is not always the version we call with. Today a subscription's period stands at
its items, an invoice names its subscription under `parent` and its payments in a list, and a charge
shows no refunds unless asked to; before, each of them stood at the object itself.
https://docs.stripe.com/changelog
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

from sts_app.billing.gateway import (
    ChargedFacts,
    DisputeFacts,
    DisputeStatus,
    EndpointFacts,
    InvoiceFacts,
    PaymentFacts,
    PortalFacts,
    PriceFacts,
    ProductFacts,
    RefundFacts,
    RefundStatus,
    SubscriptionFacts,
    SubscriptionStatus,
    TryLater,
)
from sts_app.core import clock

Thing = dict[str, Any]
State = TypeVar("State")
SessionState = Literal["open", "complete", "expired"]
PaymentState = Literal["unpaid", "paid", "no_payment_required"]
InvoiceState = Literal["draft", "open", "paid", "uncollectible", "void"]

# What the store's own configuration of the customer portal is marked with.
OUR_PORTAL = {"made_by": "sts stripe-setup"}

_SESSION_STATES: dict[str, SessionState] = {word: word for word in get_args(SessionState)}
_PAYMENT_STATES: dict[str, PaymentState] = {word: word for word in get_args(PaymentState)}
_INVOICE_STATES: dict[str, InvoiceState] = {word: word for word in get_args(InvoiceState)}
_REFUND_STATES: dict[str, RefundStatus] = {word: word for word in get_args(RefundStatus)}
_SUBSCRIPTION_STATES: dict[str, SubscriptionStatus] = {word: word for word in get_args(SubscriptionStatus)}
# Only a lost dispute can be appealed, and the money stays away until the appeal is won.
_DISPUTE_STATES: dict[str, DisputeStatus] = {word: word for word in get_args(DisputeStatus)} | {
    "appeal_needs_response": "lost",
    "appeal_under_review": "lost",
}


def facts_of(
    session: Thing,
    *,
    intent: Thing | None = None,
    refunds: Iterable[Thing] | None = None,
    disputes: Iterable[Thing] = (),
) -> PaymentFacts:
    """Read a checkout session with its payment intent, latest charge and invoice expanded.

    `intent` is given apart for a subscription's first invoice, `refunds` where the charge does not show
    them all. Raises `TryLater` when it is no checkout session in a state we know.
    """
    session_id = text(session.get("id"))
    if not session_id:
        raise TryLater("the answer is no checkout session")
    invoice = dict_of(session.get("invoice"))
    reference = intent or session.get("payment_intent") or intent_in(invoice)
    paid_with = dict_of(reference)
    return PaymentFacts(
        session_id=session_id,
        purchase_ref=purchase_ref_of(session) or purchase_ref_of(paid_with),
        session=_state("checkout session", session.get("status"), _SESSION_STATES),
        payment=_state("checkout session", session.get("payment_status"), _PAYMENT_STATES),
        amount_total=_int(session.get("amount_total")),
        currency=text(session.get("currency")) or "",
        mode="subscription" if session.get("mode") == "subscription" else "payment",
        amount_discount=_int(dict_of(session.get("total_details")).get("amount_discount")),
        intent_id=id_of(reference),
        intent=text(paid_with.get("status")),
        declined_because=_declined_because(paid_with),
        refunds=_refunds(paid_with, refunds),
        disputes=tuple(map(dispute_of, disputes)),
        customer_id=id_of(session.get("customer")),
        subscription_id=id_of(session.get("subscription")),
        invoice_id=id_of(session.get("invoice")),
        receipt_url=text(_charge(paid_with).get("receipt_url")),
        invoice_url=text(invoice.get("hosted_invoice_url")),
        invoice_pdf_url=text(invoice.get("invoice_pdf")),
        url=text(session.get("url")),
    )


def invoice_payment_of(
    invoice: Thing,
    *,
    intent: Thing | None = None,
    refunds: Iterable[Thing] | None = None,
    disputes: Iterable[Thing] = (),
) -> PaymentFacts:
    """Read an invoice as a payment of its own. The amount is what was paid, or is due while it is not.

    What the customer's credit balance has paid is no money that came in. Raises `TryLater` when it is no
    invoice in a state we know.
    """
    known = invoice_of(invoice)
    reference = intent or intent_in(invoice)
    paid_with = dict_of(reference)
    is_paid = known.status == "paid"
    discounts = rows_of(invoice.get("total_discount_amounts"))
    return PaymentFacts(
        session_id=None,
        purchase_ref=purchase_ref_of(invoice) or purchase_ref_of(paid_with),
        session="complete",
        payment=("paid" if known.amount_paid else "no_payment_required") if is_paid else "unpaid",
        amount_total=known.amount_paid if is_paid else _int(invoice.get("amount_due")),
        currency=known.currency,
        mode="subscription" if subscription_in(invoice) else "payment",
        amount_discount=sum(_int(discount.get("amount")) for discount in discounts),
        intent_id=id_of(reference),
        intent=text(paid_with.get("status")),
        declined_because=_declined_because(paid_with),
        refunds=_refunds(paid_with, refunds),
        disputes=tuple(map(dispute_of, disputes)),
        customer_id=id_of(invoice.get("customer")),
        subscription_id=subscription_in(invoice),
        invoice_id=known.id,
        receipt_url=text(_charge(paid_with).get("receipt_url")),
        invoice_url=text(invoice.get("hosted_invoice_url")),
        invoice_pdf_url=text(invoice.get("invoice_pdf")),
    )


def refund_of(refund: Thing) -> RefundFacts:
    """Read one refund. Raises `TryLater` when it is none in a state we know."""
    return RefundFacts(
        id=_id("refund", refund),
        amount=_int(refund.get("amount")),
        currency=text(refund.get("currency")) or "",
        status=_state("refund", refund.get("status"), _REFUND_STATES),
        created_at=_since(refund.get("created")),
        ref=_metadata(refund, "refund_ref"),
        intent_id=id_of(refund.get("payment_intent")),
        failed_because=text(refund.get("failure_reason")),
    )


def dispute_of(dispute: Thing) -> DisputeFacts:
    """Read one dispute. Raises `TryLater` when it is none in a state we know."""
    details = dict_of(dispute.get("evidence_details"))
    return DisputeFacts(
        id=_id("dispute", dispute),
        amount=_int(dispute.get("amount")),
        currency=text(dispute.get("currency")) or "",
        status=_state("dispute", dispute.get("status"), _DISPUTE_STATES),
        reason=text(dispute.get("reason")) or "general",
        opened_at=_since(dispute.get("created")),
        due_by=moment(details.get("due_by")),
        intent_id=id_of(dispute.get("payment_intent")),
        submissions=_int(details.get("submission_count")),
        evidence_ref=_metadata(dispute, "evidence_ref"),
    )


def invoice_of(invoice: Thing) -> InvoiceFacts:
    """Read one invoice. Raises `TryLater` when it is none in a state we know."""
    return InvoiceFacts(
        id=_id("invoice", invoice),
        status=_state("invoice", invoice.get("status"), _INVOICE_STATES),
        amount_paid=_int(invoice.get("amount_paid")),
        currency=text(invoice.get("currency")) or "",
        is_first=invoice.get("billing_reason") == "subscription_create",
        created_at=_since(invoice.get("created")),
        paid_at=moment(dict_of(invoice.get("status_transitions")).get("paid_at")),
        intent_id=id_of(intent_in(invoice)),
        # The invoice's own period looks back. What was bought stands at its lines.
        period_end=_latest(dict_of(line.get("period")).get("end") for line in rows_of(invoice.get("lines"))),
    )


def subscription_of(subscription: Thing, invoices: Sequence[Thing]) -> SubscriptionFacts:
    """Read one subscription and its `invoices`, newest first as Stripe lists them.

    Raises `TryLater` when it is none in a state we know.
    """
    items = rows_of(subscription.get("items"))
    first = items[0] if items else {}
    period_end = moment(subscription.get("current_period_end")) or _latest(
        item.get("current_period_end") for item in items
    )
    at_period_end = subscription.get("cancel_at_period_end") is True
    return SubscriptionFacts(
        id=_id("subscription", subscription),
        purchase_ref=purchase_ref_of(subscription),
        customer_id=id_of(subscription.get("customer")),
        status=_state("subscription", subscription.get("status"), _SUBSCRIPTION_STATES),
        price_id=id_of(first.get("price")) or id_of(first.get("plan")),
        started_at=_since(subscription.get("start_date") or subscription.get("created")),
        period_end=period_end,
        ends_at=moment(subscription.get("cancel_at")) or (period_end if at_period_end else None),
        ended_at=moment(subscription.get("ended_at")),
        invoices=tuple(sorted(map(invoice_of, reversed(invoices)), key=lambda invoice: invoice.created_at)),
    )


def charged_of(
    intent: Thing, *, refunds: Iterable[Thing] | None = None, disputes: Iterable[Thing] = ()
) -> ChargedFacts | None:
    """Read one payment intent with its charge expanded; None when it brought no money.

    `refunds` are given where the charge does not show them all.
    """
    amount = _int(intent.get("amount_received"))
    if not amount:
        return None
    return ChargedFacts(
        intent_id=_id("payment intent", intent),
        amount=amount,
        currency=text(intent.get("currency")) or "",
        created_at=_since(intent.get("created")),
        purchase_ref=purchase_ref_of(intent),
        refunded=sum(refund.amount for refund in _refunds(intent, refunds) if refund.counts),
        withheld=sum(dispute.amount for dispute in map(dispute_of, disputes) if dispute.withholds),
    )


def price_of(price: Thing) -> PriceFacts:
    """Read one price."""
    amount = price.get("unit_amount")
    return PriceFacts(
        id=_id("price", price),
        amount_cents=None if amount is None else _int(amount),
        currency=text(price.get("currency")) or "",
        active=price.get("active") is True,
        interval=text(dict_of(price.get("recurring")).get("interval")) or "",
    )


def product_of(product: Thing, prices: Iterable[Thing]) -> ProductFacts:
    """Read one product with its `prices`, and put its default price first."""
    default = id_of(product.get("default_price"))
    known = map(price_of, prices)
    return ProductFacts(
        id=_id("product", product),
        name=text(product.get("name")) or "",
        description=text(product.get("description")) or "",
        active=product.get("active") is True,
        prices=tuple(sorted(known, key=lambda price: price.id != default)),
    )


def endpoint_of(endpoint: Thing) -> EndpointFacts:
    """Read one webhook endpoint."""
    types = endpoint.get("enabled_events")
    return EndpointFacts(
        id=_id("webhook endpoint", endpoint),
        url=text(endpoint.get("url")) or "",
        types=frozenset(filter(None, map(text, types if isinstance(types, list) else []))),
        api_version=text(endpoint.get("api_version")),
        enabled=endpoint.get("status") == "enabled",
        secret=text(endpoint.get("secret")),
    )


def portal_of(configuration: Thing) -> PortalFacts:
    """Read one configuration of the customer portal."""
    features = dict_of(configuration.get("features"))

    def has(name: str) -> bool:
        return dict_of(features.get(name)).get("enabled") is True

    at_period_end = dict_of(features.get("subscription_cancel")).get("mode") == "at_period_end"
    return PortalFacts(
        id=_id("portal configuration", configuration),
        is_ours=dict_of(configuration.get("metadata")).items() >= OUR_PORTAL.items(),
        is_default=configuration.get("is_default") is True,
        shows_invoices=has("invoice_history"),
        changes_card=has("payment_method_update"),
        ends_subscription=has("subscription_cancel") and at_period_end,
        changes_plan=has("subscription_update"),
    )


def intent_in(thing: Thing) -> Any:
    """The payment intent a thing names, as an id or whole: its own, or of an invoice's or an invoice payment's."""
    if thing.get("payment_intent"):
        return thing["payment_intent"]
    payments = [thing, *rows_of(thing.get("payments"))]
    found = [one for one in payments if dict_of(one.get("payment")).get("payment_intent")]
    # What was called off may stand beside what was paid in its place.
    found.sort(key=lambda one: (one.get("status") != "paid", one.get("is_default") is not True))
    return found[0]["payment"]["payment_intent"] if found else None


def subscription_in(thing: Thing) -> str | None:
    """The id of the subscription a thing belongs to, in either shape."""
    details = dict_of(dict_of(thing.get("parent")).get("subscription_details"))
    return id_of(thing.get("subscription")) or id_of(details.get("subscription"))


def purchase_ref_of(thing: Thing) -> str | None:
    """Our reference, wherever the thing carries it. An invoice carries that of its subscription."""
    for details in (thing.get("parent"), thing):
        ref = _metadata(dict_of(dict_of(details).get("subscription_details")), "purchase_ref")
        if ref:
            return ref
    return text(thing.get("client_reference_id")) or _metadata(thing, "purchase_ref")


def all_refunds_in(intent: Thing) -> bool:
    """Whether a payment intent shows every refund, so that none has to be asked for."""
    charge = _charge(intent)
    refunds = charge.get("refunds")
    return not charge or (isinstance(refunds, dict) and refunds.get("has_more") is not True)


def is_disputed(intent: Thing) -> bool:
    """Whether there are disputes to ask for."""
    return _charge(intent).get("disputed") is True


def rows_of(value: Any) -> list[Thing]:
    """The objects of a list, whether it comes plain or as Stripe's page of one."""
    found = value.get("data") if isinstance(value, dict) else value
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def id_of(value: Any) -> str | None:
    """A reference is an id, or the whole object where it was expanded."""
    return text(dict_of(value).get("id")) or text(value)


def dict_of(value: Any) -> Thing:
    """The object itself; an empty one for anything else, a bare id included."""
    return value if isinstance(value, dict) else {}


def text(value: Any) -> str | None:
    """The text itself, None for an empty one and for anything else."""
    return value if isinstance(value, str) and value else None


def moment(value: Any) -> datetime | None:
    """A Unix time as UTC; None for 0, which is how Stripe says never, and for what is no time."""
    try:
        return datetime.fromtimestamp(_int(value), UTC) if _int(value) else None
    except (ValueError, OverflowError, OSError):
        return None


def _refunds(intent: Thing, given: Iterable[Thing] | None) -> tuple[RefundFacts, ...]:
    shown = rows_of(_charge(intent).get("refunds")) if given is None else given
    return tuple(map(refund_of, shown))


def _charge(intent: Thing) -> Thing:
    return dict_of(intent.get("latest_charge"))


def _declined_because(intent: Thing) -> str | None:
    # The bank's own word, if it gave one, says more than `card_declined`.
    error = dict_of(intent.get("last_payment_error"))
    return text(error.get("decline_code")) or text(error.get("code")) or text(error.get("type"))


def _metadata(thing: Thing, name: str) -> str | None:
    return text(dict_of(thing.get("metadata")).get(name))


def _state(what: str, said: Any, known: dict[str, State]) -> State:
    found = known.get(text(said) or "")
    if found is None:
        raise TryLater(f"the answer is no {what} in a known state")
    return found


def _id(what: str, thing: Thing) -> str:
    found = text(thing.get("id"))
    if found is None:
        raise TryLater(f"the answer is no {what}")
    return found


def _since(value: Any) -> datetime:
    return moment(value) or clock.now()


def _latest(values: Iterable[Any]) -> datetime | None:
    return max(filter(None, map(moment, values)), default=None)


def _int(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
