"""The simulated Stripe's payment page: how it is opened, and what buyers and their banks do with it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sts_app.billing import simulated_billing_objects as billing_objects
from sts_app.billing import simulated_objects as objects
from sts_app.billing.gateway import Checkout, CheckoutRequest, PaymentFacts, Refused
from sts_app.billing.simulated_months import invoice_of_checkout
from sts_app.billing.simulated_post import new_id, stamp
from sts_app.billing.simulated_reading import Reading, as_moment, told_invoice
from sts_app.billing.simulated_stories import CheckoutStory
from sts_app.core import clock
from sts_app.core.store import Record

SHORTEST = timedelta(minutes=30)
LONGEST = timedelta(hours=24)
# Stripe measures when the call arrives, and does not mind the way it took.
LENIENCE = timedelta(minutes=1)

PROMOTIONS = ("SAVE20", "FREE100")
_PROMOTION = re.compile(r"(?:SAVE|FREE)([1-9]\d?|100)")
_SEARCHED = ("id", "email", "product_name", "intent", "charge", "invoice", "subscription", "customer")


@dataclass(frozen=True)
class SimulatedCheckout:
    """One checkout as the simulator's own pages show it."""

    facts: PaymentFacts
    id: str
    product_name: str
    customer_email: str
    success_url: str
    cancel_url: str
    opened_at: datetime
    expires_at: datetime
    promotion: str
    recovery_url: str | None
    recovered_from: str | None
    subtotal_cents: int
    interval: str

    @property
    def return_url(self) -> str:
        """Where a buyer goes after paying."""
        return self.success_url.replace("{CHECKOUT_SESSION_ID}", self.id)

    @property
    def may_settle(self) -> bool:
        return self.facts.session == "complete" and self.facts.intent == "processing"

    @property
    def is_free(self) -> bool:
        return self.facts.amount_total == 0


class Checkouts(Reading):
    """Payment pages."""

    def open_checkout(self, request: CheckoutRequest, *, key: str) -> Checkout:
        """Open a page of ours; the same key and request return the same page."""
        with self._deed("open_checkout"):
            wanted = asdict(request) | {"expires_at": int(request.expires_at.timestamp())}
            token = self._claim("open_checkout", key, wanted)
            interval = self._interval_of(request)
            opened = objects.opened(request, interval=interval, token=token, base=self._public_url, at=stamp())
            known = self.store.get("session", opened["id"])
            if known is None:
                self._check(request)
                self._open(opened)
                known = self._checkout(opened["id"]).opened
            return Checkout(known["id"], known["url"], as_moment(known["expires_at"]))

    def close_checkout(self, session_id: str) -> None:
        """Expire an open page; one that has ended already is refused, as Stripe does."""
        with self._deed("close_checkout"):
            if self._current(session_id).end is not None:
                raise Refused("close_checkout: status 400")
            self.expire(session_id)

    # What a buyer does on the page.

    def apply_promotion(self, session_id: str, code: str) -> PaymentFacts:
        """Apply a code such as `SAVE20` or `FREE100`, in place of one before. Raises `Refused` for another word."""
        known = _PROMOTION.fullmatch(code.strip().upper())
        if known is None:
            raise Refused("apply_promotion: resource_missing promotion_code")
        act = {"act": "promotion", "code": code.strip().upper(), "percent": int(known[1])}
        self._current(session_id)
        if not self._end(session_id, act):
            raise Refused("apply_promotion: the page has ended")
        return self._facts(self._checkout(session_id))

    def pay(self, session_id: str) -> PaymentFacts:
        """Pay by card. A page that was paid, left to a slow bank or expired before stays as it is."""
        self._current(session_id)
        if self._end(session_id, {"act": "paid"}):
            story = self._checkout(session_id)
            self._announce(*self._begun(story), *self._money_came(story), _session_event("completed", story))
        return self._facts(self._checkout(session_id))

    def decline(self, session_id: str, *, because: str = "insufficient_funds") -> PaymentFacts:
        """The bank says no. The page stays open, and paying afterwards works."""
        if not self._current(session_id).is_free:
            act = {"act": "declined", "because": because, "charge": new_id("ch")}
            if self._end(session_id, act):
                self._announce(*self._money_failed(self._checkout(session_id)))
        return self._facts(self._checkout(session_id))

    def pay_later(self, session_id: str) -> PaymentFacts:
        """Pay with a slow bank: the page completes unpaid, and `settle` says how it went. What is free is paid."""
        if self._current(session_id).is_free:
            return self.pay(session_id)
        if self._end(session_id, {"act": "processing"}):
            story = self._checkout(session_id)
            payment = self._payment(story.opened["intent"])
            processing = ("payment_intent.processing", objects.intent_of(payment))
            self._announce(*self._begun(story), processing, _session_event("completed", story))
        return self._facts(self._checkout(session_id))

    def recover(self, session_id: str) -> str:
        """Open an expired page again. Returns the new page's id, or that of an earlier recovery which is open.

        Raises `Refused` for a page that has not expired, and for one whose recovery was completed.
        """
        story = self._current(session_id)
        if story.end != "expired" or clock.now().timestamp() > story.opened["expires_at"] + objects.RECOVERABLE_SECONDS:
            raise Refused("recover: the page has not expired, or too long ago")
        new = new_id("cs_test")

        def decide(acts: list[Record]) -> Record | None:
            earlier = [self._current(recovered) for recovered in self._checkout(session_id, acts).recovered]
            if any(each.is_complete for each in earlier):
                raise Refused("recover: it was recovered and completed already")
            return None if any(each.end is None for each in earlier) else {"act": "recovered", "session": new}

        # The page stands before the word that leads to it, so that nobody is led to nothing.
        until = stamp() + int(LONGEST.total_seconds())
        copied = {"recovered_from": session_id, "created": stamp(), "expires_at": until}
        token = new.removeprefix("cs_test_")
        names = {"id": new, "url": f"{self._public_url}/dev/stripe/checkout/{new}"}
        names |= {"intent": f"pi_{token}", "charge": f"ch_{token}", "invoice": f"in_{token}"}
        self._open(story.opened | copied | names | {"subscription": f"sub_{token}"})
        try:
            if self._append(session_id, decide):
                return new
        except Refused:
            self._forget(new)
            raise
        self._forget(new)
        return self._checkout(session_id).recovered[-1]

    # What happens at the bank.

    def settle(self, session_id: str, succeeded: bool) -> PaymentFacts:
        """The slow bank's verdict; the first one stands. Raises `Refused` when no payment is under way."""

        def decide(acts: list[Record]) -> Record | None:
            story = self._checkout(session_id, acts)
            if story.end != "processing":
                raise Refused("settle: no delayed payment is under way")
            return {"act": "settled", "succeeded": succeeded} if story.settled is None else None

        if self._append(session_id, decide):
            story = self._checkout(session_id)
            told = self._money_came(story) if succeeded else self._money_failed(story)
            outcome = "succeeded" if succeeded else "failed"
            if story.mode == "subscription":
                subscription = self._subscription(story.opened["subscription"])
                told.append(("customer.subscription.updated", self._subscription_object(subscription)))
            self._announce(*told, _session_event(f"async_payment_{outcome}", story))
        return self._facts(self._checkout(session_id))

    # What the simulator shows of itself.

    def checkout(self, session_id: str) -> SimulatedCheckout:
        """One checkout with everything its page shows. Raises `Refused` for an unknown one."""
        story = self._current(session_id)
        opened = story.opened
        return SimulatedCheckout(
            facts=self._facts(story),
            id=story.id,
            product_name=opened["product_name"],
            customer_email=opened["email"],
            success_url=opened["success_url"],
            cancel_url=opened["cancel_url"],
            opened_at=as_moment(opened["created"]),
            expires_at=as_moment(opened["expires_at"]),
            promotion=story.promotion["code"] if story.promotion else "",
            recovery_url=objects.recovery_url(opened) if story.end == "expired" else None,
            recovered_from=opened["recovered_from"],
            subtotal_cents=story.subtotal,
            interval=story.interval,
        )

    def checkouts(self, *, latest: int = 50) -> list[SimulatedCheckout]:
        """The `latest` checkouts, newest first."""
        return [self.checkout(session_id) for session_id in self.checkout_ids()[:latest]]

    def checkout_ids(self, search: str = "") -> list[str]:
        """Every checkout, newest first, or those of which an id, the address or the product holds `search`."""
        found = []
        for session_id, opened in reversed(self.store.all("session")):
            told = (*(opened[name] for name in _SEARCHED), opened["metadata"]["purchase_ref"])
            if any(search.lower() in word.lower() for word in told):
                found.append(session_id)
        return found

    # Below the counter.

    def _interval_of(self, request: CheckoutRequest) -> str:
        """How often the price is paid again. One that is not known here is a month's."""
        if request.mode == "payment":
            return ""
        return self._price(request.price_id)["interval"] or "month"

    def _check(self, request: CheckoutRequest) -> None:
        self._known_customer("open_checkout", request.customer_id)
        left = request.expires_at - clock.now()
        if not SHORTEST - LENIENCE <= left <= LONGEST + LENIENCE:
            raise Refused("open_checkout: parameter_invalid expires_at")
        self._check_price(request)

    def _open(self, opened: Record) -> None:
        """Let a page be there, after everything that leads back to it."""
        for kind, name in (("intent", "intent"), ("invoice", "invoice"), ("subscription", "subscription")):
            if kind != "subscription" or opened["mode"] == "subscription":
                self.store.put(kind, opened[name], {"session": opened["id"]})
        self.store.put("charge", opened["charge"], {"intent": opened["intent"]})
        self.store.add("session", opened["id"], opened)

    def _forget(self, session_id: str) -> None:
        """Take a page away that nobody was led to."""
        opened = self._checkout(session_id).opened
        self.store.delete("session", session_id)
        for kind in ("intent", "invoice", "subscription", "charge"):
            self.store.delete(kind, opened[kind])

    def _begun(self, story: CheckoutStory) -> list[tuple[str, Record]]:
        """The events of a subscription that begins."""
        invoice = invoice_of_checkout(story)
        if story.mode != "subscription" or invoice is None:
            return []
        subscription = self._subscription(story.opened["subscription"])
        shown = told_invoice(invoice)
        return [
            ("customer.subscription.created", self._subscription_object(subscription)),
            ("invoice.created", shown),
            ("invoice.finalized", shown),
        ]

    def _money_came(self, story: CheckoutStory) -> list[tuple[str, Record]]:
        told: list[tuple[str, Record]] = []
        payment = self._payment_of(story)
        if payment is not None:
            told.append(("charge.succeeded", objects.charge_of(payment)))
            told.append(("payment_intent.succeeded", objects.intent_of(payment)))
        invoice = invoice_of_checkout(story)
        if invoice is not None:
            told.append(("invoice.paid", told_invoice(invoice)))
        return told

    def _money_failed(self, story: CheckoutStory) -> list[tuple[str, Record]]:
        payment = self._payment(story.opened["intent"])
        told = [
            ("charge.failed", objects.charge_of(payment)),
            ("payment_intent.payment_failed", objects.intent_of(payment)),
        ]
        invoice = invoice_of_checkout(story)
        if story.mode == "subscription" and invoice is not None:
            told.append(("invoice.payment_failed", billing_objects.invoice_of(invoice)))
        return told


def _session_event(what: str, story: CheckoutStory) -> tuple[str, Record]:
    return f"checkout.session.{what}", objects.session_of(story)
