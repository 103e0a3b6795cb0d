"""What the simulated Stripe shows when it is asked: every fact is computed from what happened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sts_app.billing import live_facts
from sts_app.billing import simulated_billing_objects as billing_objects
from sts_app.billing import simulated_objects as objects
from sts_app.billing.gateway import (
    ChargedFacts,
    DisputeFacts,
    Origin,
    PaymentFacts,
    Refused,
    SignedEvent,
    SubscriptionFacts,
)
from sts_app.billing.live_events import event_of
from sts_app.billing.simulated_months import (
    InvoiceStory,
    SubscriptionStory,
    invoice_of_checkout,
    payment_of_invoice,
    subscription_of_checkout,
)
from sts_app.billing.simulated_post import stamp
from sts_app.billing.simulated_shelf import Shelf
from sts_app.billing.simulated_stories import CheckoutStory, Payment, payment_of_checkout
from sts_app.core import clock
from sts_app.core.store import Record

REMEMBERED = timedelta(days=30)


@dataclass(frozen=True)
class Books:
    """Cents: what came in, what of it went back or is on its way, and what banks hold because it is disputed.

    Those of one currency, but where another ledger is compared that counts every cent alike.
    """

    charged: int
    refunded: int
    withheld: int

    @property
    def left(self) -> int:
        return self.charged - self.refunded - self.withheld


class Reading(Shelf):
    """Stories, and the reading half of the gateway."""

    def look_up(self, session_id: str) -> PaymentFacts:
        """The present facts of a checkout. One whose time has passed expires by being looked at."""
        self._answer("look_up")
        return self._facts(self._current(session_id))

    def look_up_invoice(self, invoice_id: str) -> PaymentFacts:
        """The present facts of an invoice and its payment."""
        self._answer("look_up_invoice")
        invoice, payment = self._invoice(invoice_id)
        shown = billing_objects.invoice_of(invoice, payment)
        return live_facts.invoice_payment_of(shown, refunds=_refunds(payment), disputes=_disputes(payment))

    def look_up_subscription(self, subscription_id: str) -> SubscriptionFacts:
        """The present facts of a subscription. One whose last day has passed ends by being looked at."""
        self._answer("look_up_subscription")
        return self._subscription_facts(self._running(subscription_id))

    def look_up_dispute(self, dispute_id: str) -> DisputeFacts:
        """The present facts of one dispute."""
        self._answer("look_up_dispute")
        return live_facts.dispute_of(self._dispute(self._payment_with("dispute", dispute_id), dispute_id))

    def find_origin(self, intent_id: str) -> Origin:
        """What a payment intent belongs to; an empty `Origin` for an intent of something else."""
        self._answer("find_origin")
        place = self.store.get("intent", intent_id)
        if place is None:
            return Origin()
        if "subscription" in place:
            story = self._subscription(place["subscription"])
            found = [invoice for invoice in story.invoices if invoice.intent == intent_id]
            return Origin(invoice_id=found[0].id, subscription_id=story.id) if found else Origin()
        checkout = self._checkout(place["session"])
        if checkout.tried_at is None:
            return Origin()
        if checkout.mode == "payment":
            return Origin(session_id=checkout.id)
        if not checkout.is_complete:
            return Origin()
        return Origin(checkout.id, checkout.opened["invoice"], checkout.opened["subscription"])

    def events_between(self, since: datetime, until: datetime) -> Iterator[SignedEvent]:
        """Every event from `since` (included) to `until` (not), newest first, of the last thirty days."""
        self._answer("events_between")
        oldest = max(since, clock.now() - REMEMBERED).timestamp()
        for _, record in reversed(self.store.all("event")):
            if oldest <= record["created"] < until.timestamp():
                yield event_of(json.loads(record["body"]))

    def payments_between(self, since: datetime, until: datetime) -> Iterator[ChargedFacts]:
        """Every payment begun in that time that brought money, newest first, with what became of it until now."""
        self._answer("payments_between")
        for payment in reversed(self._payments()):
            if not since.timestamp() <= payment.created < until.timestamp():
                continue
            intent = objects.intent_of(payment, expanded=True)
            charged = live_facts.charged_of(intent, refunds=_refunds(payment), disputes=_disputes(payment))
            if charged is not None:
                yield charged

    def books(self) -> Books:
        """The sum of everything that was ever paid, given back and withheld, a cent of any currency for a cent."""
        return _sum(self._payments())

    def books_by_currency(self) -> dict[str, Books]:
        """The same as money: for each currency that anything was paid in."""
        found: dict[str, list[Payment]] = {}
        for payment in self._payments():
            if payment.is_paid:
                found.setdefault(payment.currency, []).append(payment)
        return {currency: _sum(payments) for currency, payments in sorted(found.items())}

    def count(self, kind: str) -> int:
        """How many were ever made of a kind: `customer`, `checkout`, `refund`, `dispute`, `file`."""
        if kind in ("refund", "dispute"):
            return sum(len(payment.refunds if kind == "refund" else payment.disputes) for payment in self._payments())
        return len(self.store.all("session" if kind == "checkout" else kind))

    # Stories.

    def expire(self, session_id: str) -> PaymentFacts:
        """Close the page for good. Quiet when it has ended in any way before."""
        if self._end(session_id, {"act": "expired"}):
            story = self._checkout(session_id)
            events = [("checkout.session.expired", objects.session_of(story))]
            payment = self._payment_of(story)
            if payment is not None:
                events.insert(0, ("payment_intent.canceled", objects.intent_of(payment)))
            self._announce(*events)
        return self._facts(self._checkout(session_id))

    def reach_the_end(self, subscription_id: str) -> None:
        """The end that was set for a subscription comes. Raises `Refused` when none was set."""
        self._subscription(subscription_id)

        def decide(acts: list[Record]) -> Record | None:
            story = self._subscription(subscription_id, acts)
            if not story.is_over and not story.is_to_end:
                raise Refused("reach_the_end: no end was set")
            return None if story.is_over else {"act": "ended", "why": "period_end"}

        if self._append(subscription_id, decide):
            self._tell_subscription("deleted", subscription_id)

    def _end(self, session_id: str, ending: Record) -> bool:
        """Decide how a checkout ended. True for the one caller whose word it is."""
        return self._append(session_id, lambda acts: ending if self._checkout(session_id, acts).end is None else None)

    def _checkout(self, session_id: str, acts: Sequence[Record] | None = None) -> CheckoutStory:
        opened = self.store.get("session", session_id)
        if opened is None:
            raise Refused("look_up: resource_missing")
        return CheckoutStory(opened, self._acts(session_id) if acts is None else acts)

    def _current(self, session_id: str) -> CheckoutStory:
        """The story of a checkout, after letting its time run out if it has."""
        story = self._checkout(session_id)
        if story.end is None and story.opened["expires_at"] <= clock.now().timestamp():
            self.expire(session_id)
            story = self._checkout(session_id)
        return story

    def _subscription(self, subscription_id: str, acts: Sequence[Record] | None = None) -> SubscriptionStory:
        place = self.store.get("subscription", subscription_id)
        story = None
        if place is not None:
            known = self._acts(subscription_id) if acts is None else acts
            story = subscription_of_checkout(self._checkout(place["session"]), known)
        if story is None:
            raise Refused("look_up_subscription: resource_missing")
        return story

    def _running(self, subscription_id: str) -> SubscriptionStory:
        """The story of a subscription, after letting it end if its last day has passed."""
        story = self._subscription(subscription_id)
        if story.is_to_end and not story.is_over and story.period[1] <= clock.now().timestamp():
            self.reach_the_end(subscription_id)
            story = self._subscription(subscription_id)
        return story

    def _subscriptions(self) -> list[SubscriptionStory]:
        found = []
        for subscription_id, _ in self.store.all("subscription"):
            try:
                found.append(self._running(subscription_id))
            except Refused:
                continue  # its checkout has not been paid
        return found

    def _invoice(self, invoice_id: str) -> tuple[InvoiceStory, Payment | None]:
        place = self.store.get("invoice", invoice_id) or {}
        if "session" in place:
            checkout = self._checkout(place["session"])
            found = invoice_of_checkout(checkout)
            if found is not None and checkout.mode == "payment":
                return found, self._payment_of(checkout)
            place = {"subscription": checkout.opened["subscription"]} if found is not None else {}
        story = self._subscription(place["subscription"]) if "subscription" in place else None
        invoice = story.invoice(invoice_id) if story is not None else None
        if invoice is None:
            raise Refused("look_up_invoice: resource_missing")
        return invoice, self._payment(invoice.intent) if invoice.intent else None

    def _payment(self, intent_id: str, acts: Sequence[Record] | None = None) -> Payment:
        place = self.store.get("intent", intent_id) or {}
        known = self._acts(intent_id) if acts is None else acts
        found = None
        if "session" in place:
            found = payment_of_checkout(self._checkout(place["session"]), known)
        elif "subscription" in place:
            invoices = self._subscription(place["subscription"]).invoices
            made = [invoice for invoice in invoices if invoice.intent == intent_id]
            found = payment_of_invoice(made[0], known) if made else None
        if found is None:
            raise Refused("look_up: resource_missing payment_intent")
        return found

    def _payment_of(self, story: CheckoutStory) -> Payment | None:
        return payment_of_checkout(story, self._acts(story.opened["intent"])) if story.tried_at is not None else None

    def _payment_with(self, kind: str, thing_id: str) -> Payment:
        """The payment that a refund, a dispute or a charge belongs to."""
        place = self.store.get(kind, thing_id)
        if place is None:
            raise Refused(f"look_up: resource_missing {kind}")
        return self._payment(str(place["intent"]))

    def _payments(self) -> list[Payment]:
        """Every payment that was tried, oldest first."""
        found = []
        for session_id, opened in self.store.all("session"):
            story = CheckoutStory(opened, self._acts(session_id))
            found.append(self._payment_of(story))
            if story.mode == "subscription" and story.is_complete:
                subscription = subscription_of_checkout(story, self._acts(opened["subscription"]))
                renewals = subscription.invoices[1:] if subscription is not None else ()
                found += [payment_of_invoice(invoice, self._acts(str(invoice.intent))) for invoice in renewals]
        return sorted((payment for payment in found if payment is not None), key=lambda payment: payment.created)

    def _intent_of(self, paid: str) -> str:
        """The payment intent of a checkout that was tried, or the intent itself."""
        if not paid.startswith("cs_"):
            return paid
        story = self._checkout(paid)
        if story.tried_at is None:
            raise Refused("nothing was paid")
        return str(story.opened["intent"])

    # Facts and objects.

    def _facts(self, story: CheckoutStory) -> PaymentFacts:
        payment = self._payment_of(story)
        recurring = story.mode == "subscription"
        first = self._invoice(story.opened["invoice"])[0] if recurring and story.is_complete else None
        invoice = first or invoice_of_checkout(story)
        session = objects.session_of(
            story, payment, invoice=billing_objects.invoice_of(invoice, payment) if invoice else None
        )
        # Of a subscription's page that was not paid there is no invoice yet, and so no payment to show.
        shown = objects.intent_of(payment, expanded=True) if payment and recurring and invoice else None
        return live_facts.facts_of(session, intent=shown, refunds=_refunds(payment), disputes=_disputes(payment))

    def _subscription_facts(self, story: SubscriptionStory) -> SubscriptionFacts:
        invoices = [billing_objects.invoice_of(invoice) for invoice in reversed(story.invoices)]
        return live_facts.subscription_of(self._subscription_object(story), invoices)

    def _subscription_object(self, story: SubscriptionStory) -> Record:
        opened = story.opened
        asked = {"amount": opened["amount"], "currency": opened["currency"], "interval": story.interval}
        return billing_objects.subscription_of(story, billing_objects.price_of(self._price(opened["price"], asked)))

    def _tell_subscription(self, what: str, subscription_id: str) -> None:
        story = self._subscription(subscription_id)
        self._announce((f"customer.subscription.{what}", self._subscription_object(story)))

    def _dispute(self, payment: Payment, dispute_id: str) -> Record:
        dispute = payment.dispute(dispute_id)
        if dispute is None:
            raise Refused("look_up_dispute: resource_missing")
        return objects.dispute_of(payment, dispute, at=stamp())


def _sum(payments: Iterable[Payment]) -> Books:
    paid = [payment for payment in payments if payment.is_paid]
    return Books(
        charged=sum(payment.amount for payment in paid),
        refunded=sum(payment.refunded for payment in paid),
        withheld=sum(payment.withheld for payment in paid),
    )


def told_invoice(invoice: InvoiceStory) -> Record:
    """An invoice as an event shows it: Stripe lists its payments only when asked to."""
    return {name: value for name, value in billing_objects.invoice_of(invoice).items() if name != "payments"}


def as_moment(at: int) -> datetime:
    """A Unix time as a moment in UTC."""
    return datetime.fromtimestamp(at, UTC)


def _refunds(payment: Payment | None) -> list[Record]:
    return [objects.refund_of(payment, refund) for refund in reversed(payment.refunds)] if payment else []


def _disputes(payment: Payment | None) -> list[Record]:
    if payment is None:
        return []
    return [objects.dispute_of(payment, dispute, at=stamp()) for dispute in reversed(payment.disputes)]
