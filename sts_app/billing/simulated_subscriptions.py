"""The simulated Stripe's subscriptions: their periods, their end, and the page where customers pay and end them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sts_app.billing import simulated_objects as objects
from sts_app.billing.gateway import InvoiceFacts, Refused, SubscriptionFacts
from sts_app.billing.live_facts import invoice_of as invoice_facts_of
from sts_app.billing.simulated_billing_objects import invoice_of
from sts_app.billing.simulated_months import SubscriptionStory, invoice_of_checkout
from sts_app.billing.simulated_post import new_id, stamp
from sts_app.billing.simulated_reading import Reading, told_invoice
from sts_app.billing.simulated_stories import Payment
from sts_app.core import clock
from sts_app.core.store import Record

Decide = Callable[[SubscriptionStory], Record | None]


@dataclass(frozen=True)
class SimulatedSubscription:
    """One subscription as the desk and the portal show it."""

    facts: SubscriptionFacts
    product_name: str
    amount_cents: int
    currency: str
    customer_email: str
    is_to_end: bool
    interval: str
    has_new_card: bool

    @property
    def is_over(self) -> bool:
        return self.facts.ended_at is not None

    @property
    def unpaid_invoice(self) -> str | None:
        """The invoice of a renewal that failed; the first one is paid on its checkout's page or never."""
        last = self.facts.invoices[-1]
        return last.id if last.status == "open" and not last.is_first and not self.is_over else None


@dataclass(frozen=True)
class SimulatedInvoice:
    """One invoice as its page shows it. Cents; `payment` is None for one of nothing.

    `is_payable` says that the customer can pay it there: a renewal's that is open.
    """

    facts: InvoiceFacts
    number: str
    product_name: str
    customer_email: str
    subtotal_cents: int
    total_cents: int
    payment: Payment | None
    is_payable: bool


@dataclass(frozen=True)
class Portal:
    """A customer's own page: where it leads back to, and what is on it."""

    id: str
    customer: Record
    return_url: str
    subscriptions: list[SimulatedSubscription]
    invoices: list[SimulatedInvoice]

    @property
    def has_new_card(self) -> bool:
        return any(subscription.has_new_card for subscription in self.subscriptions)


class Subscriptions(Reading):
    """Subscriptions, invoices and the portal."""

    # The clock.

    def renew(self, subscription_id: str, succeeded: bool = True) -> str:
        """Another period begins and is charged. Returns the new invoice's id.

        A charge that fails leaves the invoice open and the subscription past due. Raises `Refused` for a
        subscription that has ended or is to end.
        """
        invoice_id, intent_id, charge_id = new_id("in"), new_id("pi"), new_id("ch")

        def decide(story: SubscriptionStory) -> Record:
            if story.is_over or story.is_to_end:
                raise Refused("renew: the subscription has ended or is to end")
            named = {"invoice": invoice_id, "intent": intent_id, "charge": charge_id}
            return {"act": "renewed", "succeeded": succeeded} | named

        self._subscription(subscription_id)
        for kind, key in (("invoice", invoice_id), ("intent", intent_id)):
            self.store.put(kind, key, {"subscription": subscription_id})
        self.store.put("charge", charge_id, {"intent": intent_id})
        try:
            self._do(subscription_id, decide)
        except Refused:
            for kind, key in (("invoice", invoice_id), ("intent", intent_id), ("charge", charge_id)):
                self.store.delete(kind, key)
            raise
        invoice = self._invoice(invoice_id)[0]
        begun = [("invoice.created", told_invoice(invoice)), ("invoice.finalized", told_invoice(invoice))]
        self._tell_try(subscription_id, invoice_id, begun)
        return invoice_id

    def pay_invoice(self, invoice_id: str, succeeded: bool = True) -> None:
        """Try the payment of a renewal's open invoice once more.

        Raises `Refused` for an invoice that is not open, and for one of a subscription that has ended.
        """
        place = self.store.get("invoice", invoice_id) or {}
        subscription_id = str(place.get("subscription", ""))

        def decide(story: SubscriptionStory) -> Record:
            invoice = story.invoice(invoice_id)
            if invoice is None or invoice.is_paid or story.is_over:
                raise Refused("pay_invoice: the invoice is not open")
            return {"act": "tried", "invoice": invoice_id, "succeeded": succeeded}

        self._do(subscription_id, decide)
        self._tell_try(subscription_id, invoice_id, [])

    def give_up(self, subscription_id: str) -> None:
        """The last retry of a renewal has failed: unpaid. Raises `Refused` unless it is past due."""

        def decide(story: SubscriptionStory) -> Record | None:
            if story.status not in ("past_due", "unpaid"):
                raise Refused("give_up: the subscription is not past due")
            return {"act": "gave-up"} if story.status == "past_due" else None

        if self._do(subscription_id, decide):
            self._tell_subscription("updated", subscription_id)

    def cancel_at_period_end(self, subscription_id: str, on: bool = True) -> None:
        """Let the subscription end with the time that is paid, or not after all. Raises `Refused` when it has ended."""

        def decide(story: SubscriptionStory) -> Record | None:
            if story.is_over:
                raise Refused("cancel_at_period_end: the subscription has ended")
            return {"act": "end-set", "on": on} if story.is_to_end != on else None

        if self._do(subscription_id, decide):
            self._tell_subscription("updated", subscription_id)

    def end_now(self, subscription_id: str, *, why: Literal["customer", "store"] = "customer") -> None:
        """End the subscription, with no further charge. Quiet for one that has ended."""
        if self._do(subscription_id, lambda story: None if story.is_over else {"act": "ended", "why": why}):
            self._tell_subscription("deleted", subscription_id)

    def use_another_card(self, customer_id: str) -> None:
        """The customer gives another card: the next try of an open invoice succeeds. Quiet where nothing runs.

        Raises `NoSuchCustomer` for an unknown one.
        """
        self._known_customer("use_another_card", customer_id)
        for story in self._subscriptions():
            if story.opened["customer"] == customer_id:
                self._do(story.id, lambda story: None if story.is_over else {"act": "card"})
        self._tell_customer("updated", customer_id)

    def keep_time(self) -> int:
        """Renew or end every subscription whose paid time is over by now, and try what is open with a new card.

        Returns how many periods were charged.
        """
        count = 0
        for story in self._subscriptions():
            last = story.invoices[-1]
            if story.has_new_card and last.has_failed and len(story.invoices) > 1 and not story.is_over:
                self.pay_invoice(last.id)
            while not story.is_over and story.period[1] <= clock.now().timestamp():
                self.renew(story.id)
                story = self._running(story.id)
                count += 1
        return count

    # The gateway's.

    def cancel_subscription(self, subscription_id: str, *, key: str) -> None:
        """End a subscription now, with no further charge. One that has ended already is fine."""
        with self._deed("cancel_subscription"):
            self.end_now(subscription_id, why="store")

    def delete_customer(self, customer_id: str) -> None:
        """Forget the customer, whose subscriptions end. One that is unknown is forgotten already."""
        with self._deed("delete_customer"):
            self.remove_customer(customer_id)

    def remove_customer(self, customer_id: str) -> None:
        """The same in the dashboard."""
        if self._customer(customer_id)["gone"]:
            return

        def decide(acts: list[Record]) -> Record | None:
            return {"act": "deleted"} if not any(act["act"] == "deleted" for act in acts) else None

        # The subscriptions first: a crash between leaves a customer that can be deleted again.
        for story in self._subscriptions():
            if story.opened["customer"] == customer_id:
                self.end_now(story.id, why="store")
        if self._append(customer_id, decide):
            self._tell_customer("deleted", customer_id)

    def open_portal(self, customer_id: str, *, return_url: str) -> str:
        """The address of the customer's own page. Raises `NoSuchCustomer` for an unknown one."""
        with self._deed("open_portal"):
            self._known_customer("open_portal", customer_id)
            portal_id = new_id("bps")
            record = {"customer": customer_id, "return_url": return_url, "created": stamp()}
            self.store.add("portal", portal_id, record)
            return f"{self._public_url}/dev/stripe/portal/{portal_id}"

    # What the simulator shows of itself.

    def subscription(self, subscription_id: str) -> SimulatedSubscription:
        """One subscription with everything a page shows of it. Raises `Refused` for an unknown one."""
        return self._shown(self._running(subscription_id))

    def subscriptions(self) -> list[SimulatedSubscription]:
        """Every subscription that was begun, newest first."""
        return [self._shown(story) for story in reversed(self._subscriptions())]

    def invoice(self, invoice_id: str) -> SimulatedInvoice:
        """One invoice with everything its page shows. Raises `Refused` for an unknown one."""
        invoice, payment = self._invoice(invoice_id)
        shown = invoice_of(invoice)
        place = self.store.get("invoice", invoice_id) or {}
        of_renewal = "subscription" in place and not self._running(place["subscription"]).is_over
        return SimulatedInvoice(
            facts=invoice_facts_of(shown),
            number=shown["number"],
            product_name=invoice.opened["product_name"],
            customer_email=invoice.opened["email"],
            subtotal_cents=invoice.subtotal,
            total_cents=invoice.amount,
            payment=payment,
            is_payable=of_renewal and not invoice.is_paid,
        )

    def receipt(self, charge_id: str) -> Payment:
        """The payment of a charge. Raises `Refused` for a charge that brought no money."""
        payment = self._payment_with("charge", charge_id)
        if not payment.is_paid or payment.charge != charge_id:
            raise Refused("receipt: resource_missing")
        return payment

    def portal(self, portal_id: str) -> Portal:
        """A customer's own page. Raises `Refused` for an unknown one, and once the customer is deleted."""
        record = self.store.get("portal", portal_id)
        if record is None:
            raise Refused("portal: resource_missing")
        customer = self._known_customer("portal", record["customer"])
        own = [story for story in self._subscriptions() if story.opened["customer"] == customer["id"]]
        invoices = [invoice.id for story in own for invoice in story.invoices]
        for session_id, opened in self.store.all("session"):
            if opened["customer"] == customer["id"] and opened["mode"] == "payment":
                once = invoice_of_checkout(self._checkout(session_id))
                invoices += [once.id] if once is not None else []
        return Portal(
            id=portal_id,
            customer=customer,
            return_url=record["return_url"],
            subscriptions=[self._shown(story) for story in reversed(own)],
            invoices=[self.invoice(invoice_id) for invoice_id in reversed(invoices)],
        )

    # Below the counter.

    def _do(self, subscription_id: str, decide: Decide) -> bool:
        self._running(subscription_id)
        return self._append(subscription_id, lambda acts: decide(self._subscription(subscription_id, acts)))

    def _tell_try(self, subscription_id: str, invoice_id: str, begun: list[tuple[str, Record]]) -> None:
        invoice, payment = self._invoice(invoice_id)
        assert payment is not None, "a renewal is never free"
        word = "succeeded" if invoice.is_paid else "failed"
        story = self._subscription(subscription_id)
        self._announce(
            *begun,
            (f"charge.{word}", objects.charge_of(payment)),
            (f"payment_intent.{'succeeded' if invoice.is_paid else 'payment_failed'}", objects.intent_of(payment)),
            (f"invoice.{'paid' if invoice.is_paid else 'payment_failed'}", told_invoice(invoice)),
            ("customer.subscription.updated", self._subscription_object(story)),
        )

    def _shown(self, story: SubscriptionStory) -> SimulatedSubscription:
        return SimulatedSubscription(
            facts=self._subscription_facts(story),
            product_name=story.opened["product_name"],
            amount_cents=story.opened["amount"],
            currency=story.opened["currency"],
            customer_email=story.opened["email"],
            is_to_end=story.is_to_end,
            interval=story.interval,
            has_new_card=story.has_new_card,
        )
