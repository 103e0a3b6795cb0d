"""The worker's side of the inbox: events, claimed, fetched and applied.

An event is a doorbell. Whatever it says, the present facts of what it is about are fetched, with nothing
open; the effects and "handled" are one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import sqlalchemy as sa
import structlog
from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing import (
    addresses,
    customers,
    deletions,
    evidence,
    late,
    lease,
    letters,
    letters_trouble,
    look_ups,
    products,
    queries,
    refunds,
    services,
    settling,
    subscriptions,
)
from sts_app.billing.gateway import (
    DisputeFacts,
    Origin,
    PaymentFacts,
    Payments,
    PaymentsError,
    Refused,
    SubscriptionFacts,
)
from sts_app.billing.models import Purchase, Subscription, WebhookEvent
from sts_app.billing.rules import EventState, Kind, PurchaseStatus
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import wake

log = structlog.get_logger()

AGAIN = timedelta(seconds=1)
MAX_REFUSALS = 5
NOT_OURS = "about nothing of ours"
DECLINED = "payment_intent.payment_failed"


class Work(Protocol):
    """One claimed piece of work: `call` speaks with the provider, `settle` and `give_back` are a transaction each."""

    def call(self, gateway: Payments) -> None: ...

    def settle(self) -> None: ...

    def give_back(self) -> None: ...


def claim_next() -> Work | None:
    """Take what is due: money to give back and evidence first, then events, then what is looked up by the clock."""
    return (
        refunds.claim()
        or evidence.claim()
        or _claim_event()
        or subscriptions.claim()
        or look_ups.claim()
        or deletions.claim()
        or addresses.claim()
    )


@dataclass
class Handling:
    """One claimed event, and what was fetched of what it is about."""

    token: str
    event_id: int
    type: str
    session_id: str | None
    intent_id: str | None
    invoice_id: str | None
    subscription_id: str | None
    customer_id: str | None
    dispute_id: str | None
    # Where this customer was about to subscribe. A decline there leads to no invoice yet, and to no checkout.
    their_page: str | None = None
    settled: dict[str, int] = field(default_factory=dict)
    payment: PaymentFacts | None = None
    dispute: DisputeFacts | None = None
    subscription: SubscriptionFacts | None = None
    trouble: PaymentsError | None = None
    # Whether the subscription stands otherwise than before.
    moved: bool = False

    def call(self, gateway: Payments) -> None:
        """Fetch the present facts. Raises nothing."""
        try:
            if services.is_about(self.type, services.ABOUT_PAYMENTS + services.ABOUT_SUBSCRIPTIONS):
                self._fetch(gateway)
        except PaymentsError as trouble:
            self.trouble = trouble

    def _fetch(self, gateway: Payments) -> None:
        if self.dispute_id is not None:
            # The payment does not tell of a mere inquiry.
            self.dispute = gateway.look_up_dispute(self.dispute_id)
            self.intent_id = self.intent_id or self.dispute.intent_id
        if self.session_id is None and self.invoice_id is None and self.intent_id is not None:
            origin: Origin = gateway.find_origin(self.intent_id)
            self.session_id, self.invoice_id = origin.session_id, origin.invoice_id
            if origin == Origin():
                self.session_id = self.their_page
            self.subscription_id = self.subscription_id or origin.subscription_id
        if self.session_id is not None:
            self.payment = gateway.look_up(self.session_id)
            self.subscription_id = self.subscription_id or self.payment.subscription_id
        elif self.invoice_id is not None and self.subscription_id is not None:
            self.payment = gateway.look_up_invoice(self.invoice_id)
        if self.subscription_id is not None:
            self.subscription = gateway.look_up_subscription(self.subscription_id)

    def settle(self) -> None:
        """Apply what was fetched and close the claim, if it is still ours."""
        event = self._locked()
        if not lease.release(event, self.token):
            return
        if self.trouble is not None:
            _again(event, self.trouble)
            return
        event.next_attempt_at = None
        if services.is_about(self.type, services.ABOUT_CUSTOMERS):
            self._settle_customer(event)
        elif services.is_about(self.type, services.ABOUT_PRICES):
            products.drop_cache()
            _close(event, EventState.HANDLED, "prices and products are read afresh", changed=True)
        else:
            self._settle_money(event)

    def _settle_customer(self, event: WebhookEvent) -> None:
        gone = self.type == "customer.deleted" and self.customer_id is not None
        changed = gone and customers.forget(self.customer_id or "")
        _close(event, EventState.HANDLED, Kind.CHANGE if changed else Kind.REPEAT, changed=changed)

    def _settle_money(self, event: WebhookEvent) -> None:
        is_checkout = self.payment is not None and self.payment.session_id is not None
        purchase_id = self._purchase_id(event)
        is_known = self.subscription_id is not None and queries.subscription_named(self.subscription_id) is not None
        if purchase_id is None and not is_known:
            # The account at the vendor may sell other things; those are none of our purchases.
            _close(event, EventState.IGNORED, NOT_OURS)
            return
        changed = False
        if purchase_id is not None:
            # The purchase before its subscription, as everywhere.
            settling.locked(purchase_id)
        if is_checkout and purchase_id is not None and not is_known:
            # A checkout makes its subscription known.
            changed = self._settle_payment(event, purchase_id)
        if event.state == EventState.STUCK or not self._settle_subscription(event):
            return
        if not is_checkout or is_known:
            # A subscription makes its renewals known, before it is asked what a payment means for it.
            purchase_id = self._purchase_id(event)
            if purchase_id is not None:
                changed = self._settle_payment(event, purchase_id)
        if event.state == EventState.STUCK:
            return
        changed |= self.moved
        _close(event, EventState.HANDLED, Kind.CHANGE if changed else Kind.REPEAT, changed=changed)

    def _settle_payment(self, event: WebhookEvent, purchase_id: int) -> bool:
        """Apply the payment's facts; true when they were news. Facts that make no sense leave the event stuck."""
        event.purchase_id = purchase_id
        if self.payment is None:
            return False
        decision, purchase = settling.settle(purchase_id, self.payment)
        if decision.kind is Kind.NONSENSE:
            _stick(event, decision.because)
            return False
        event.purchase_id = purchase.id
        changed = decision.kind is Kind.CHANGE
        if self.dispute is not None:
            changed |= settling.apply_dispute(purchase, self.dispute)
        self._tell_decline(event, decision.status)
        return changed

    def _settle_subscription(self, event: WebhookEvent) -> bool:
        """Apply the subscription's facts. False when they have to be fetched again."""
        known = queries.subscription_named(self.subscription_id) if self.subscription_id else None
        if known is None or self.subscription is None:
            return True
        event.subscription_id = known.id
        subscriptions.lock_payer(known.user_id)
        subscription = subscriptions.locked(known.id)
        if subscription.settled != self.settled.get(subscription.external_id, 0):
            # Somebody applied facts that may be younger than these. The next claim knows whose they are.
            event.stripe_subscription_id = subscription.external_id
            event.next_attempt_at = clock.now() + current_app.config["STS"].scaled(AGAIN)
            wake("billing.work")
            return False
        before = (subscription.status, subscription.period_end, subscription.ends_at)
        subscriptions.apply_facts(subscription, self.subscription)
        self.moved = before != (subscription.status, subscription.period_end, subscription.ends_at)
        return True

    def _purchase_id(self, event: WebhookEvent) -> int | None:
        if self.payment is None:
            return event.purchase_id
        # The reference of a subscription's invoice is that of the checkout which began it.
        by_ref = self.payment.purchase_ref if self.payment.session_id is not None else None
        told = self.payment
        for column, value in (
            (Purchase.session_id, told.session_id),
            (Purchase.invoice_id, told.invoice_id),
            (Purchase.intent_id, told.intent_id),
            (Purchase.ref, by_ref),
        ):
            found = db.session.scalar(sa.select(Purchase.id).where(column == value)) if value is not None else None
            if found is not None:
                return found
        return None

    def _tell_decline(self, event: WebhookEvent, status: PurchaseStatus) -> None:
        """A decline changes no purchase and closes none; whoever was paid meanwhile hears nothing of it."""
        if self.type not in (DECLINED, "checkout.session.async_payment_failed"):
            return
        if status.was_paid or event.purchase_id is None:
            return
        purchase = db.session.get_one(Purchase, event.purchase_id)
        because = self.payment.declined_because if self.payment is not None else None
        user = db.session.get_one(User, purchase.user_id)
        letters.payment_failed(user, purchase, because, was_waited_for=self.type != DECLINED)

    def give_back(self) -> None:
        """Settling broke on something unforeseen: free the claim for a later try, and after five let staff know."""
        event = self._locked()
        if lease.release(event, self.token):
            _again(event, Refused(lease.BROKE))

    def _locked(self) -> WebhookEvent:
        return db.session.get_one(WebhookEvent, self.event_id, with_for_update=True, populate_existing=True)


def _claim_event() -> Handling | None:
    taken = lease.take(WebhookEvent)
    if taken is None:
        return None
    event, token = taken
    purchase = find_purchase(event)
    event.purchase_id = purchase.id if purchase else None
    # A draft that was deleted cannot be looked up any more, and never brought money.
    session_id, invoice_id = event.session_id, event.invoice_id if event.type != "invoice.deleted" else None
    # What the event itself names comes first: a recovered checkout has a session of its own, and so has
    # an intent that is not the one we know.
    names_nothing = session_id is None and invoice_id is None
    if names_nothing and purchase is not None and event.intent_id in (None, purchase.intent_id):
        session_id, invoice_id = purchase.session_id, purchase.invoice_id if purchase.session_id is None else None
    subscription_id = event.stripe_subscription_id
    if subscription_id is None and purchase is not None and purchase.subscription_id is not None:
        subscription_id = db.session.get_one(Subscription, purchase.subscription_id).external_id
    known = queries.subscription_named(subscription_id) if subscription_id else None
    return Handling(
        token,
        event.id,
        event.type,
        session_id,
        event.intent_id,
        invoice_id,
        subscription_id,
        event.customer_id,
        _dispute_of(event),
        their_page=_page_declined(event),
        settled={known.external_id: known.settled} if known else {},
    )


def _page_declined(event: WebhookEvent) -> str | None:
    if event.type != DECLINED or event.customer_id is None:
        return None
    return queries.subscription_page_of(event.customer_id, at=event.occurred_at)


def _dispute_of(event: WebhookEvent) -> str | None:
    if not event.type.startswith("charge.dispute.") or event.payload is None:
        return None
    thing = (event.payload.get("data") or {}).get("object") or {}
    found = thing.get("id")
    return found if isinstance(found, str) else None


def find_purchase(event: WebhookEvent) -> Purchase | None:
    """The purchase an event is about: by session, by invoice, by payment intent, by the reference we gave."""
    for column, value in (
        (Purchase.session_id, event.session_id),
        (Purchase.invoice_id, event.invoice_id),
        (Purchase.intent_id, event.intent_id),
        # A subscription's events carry the reference of the checkout that began it, whatever they are about.
        (Purchase.ref, event.purchase_ref if event.stripe_subscription_id is None or event.session_id else None),
    ):
        if value is not None:
            found = db.session.scalar(sa.select(Purchase).where(column == value).order_by(Purchase.id).limit(1))
            if found is not None:
                return found
    return None


def _close(event: WebhookEvent, state: EventState, reason: str, *, changed: bool = False) -> None:
    event.state, event.last_reason, event.handled_at = state, reason, clock.now()
    event.changed = event.changed or changed
    late.drop_payload(event)


def _again(event: WebhookEvent, trouble: PaymentsError) -> None:
    """Trouble of the vendor's is waited out, and staff hear of it when it lasts; five answers of no go to staff."""
    lease.put_off(event, trouble)
    event.refusals += isinstance(trouble, Refused)
    if event.refusals >= MAX_REFUSALS:
        _stick(event, trouble.reason)
    elif event.trouble_lasts:
        letters_trouble.events_held_up(event)


def _stick(event: WebhookEvent, because: str) -> None:
    event.state, event.last_reason, event.next_attempt_at = EventState.STUCK, because, None
    log.error("billing.event_stuck", event_id=event.id, because=because)
    letters.event_stuck(event)
