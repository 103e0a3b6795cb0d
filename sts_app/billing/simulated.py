"""A small Stripe with a memory, for machines without a Stripe account.

It keeps customers, checkouts, payments, refunds, disputes, subscriptions and events, and rings the real
webhook address with events that are signed like Stripe's. Each part is a file of its own:

- `simulated_post`: events, their delivery, and the bad days;
- `simulated_ground`: the memory. What happened to a thing is a list of acts, each added once;
- `simulated_stories`: what the acts come to; `simulated_objects` and `simulated_billing_objects`: that in
  Stripe's shapes; `simulated_reading`: the facts that are read from them, as from the real one's;
- `simulated_shelf`, `simulated_checkouts`, `simulated_money`, `simulated_subscriptions`: what can be done.
"""

from __future__ import annotations

from sts_app.billing.gateway import SignedEvent
from sts_app.billing.live_events import read_signed_event
from sts_app.billing.simulated_checkouts import PROMOTIONS, Checkouts, SimulatedCheckout
from sts_app.billing.simulated_money import Money, SimulatedPayment
from sts_app.billing.simulated_post import Event, Fault, behave, faults_on, misbehave, shuffled
from sts_app.billing.simulated_reading import Books
from sts_app.billing.simulated_shelf import OnShelf
from sts_app.billing.simulated_subscriptions import Portal, SimulatedInvoice, SimulatedSubscription, Subscriptions

__all__ = [
    "PROMOTIONS",
    "Books",
    "Event",
    "Fault",
    "OnShelf",
    "Portal",
    "SimulatedCheckout",
    "SimulatedInvoice",
    "SimulatedPayment",
    "SimulatedPayments",
    "SimulatedSubscription",
    "behave",
    "faults_on",
    "misbehave",
    "shuffled",
]


class SimulatedPayments(Checkouts, Money, Subscriptions):
    """The `Payments` gateway over a store of records, and the acts of buyers, banks and Stripe's dashboard."""

    def read_event(self, body: bytes, signature: str | None) -> SignedEvent:
        """Verify the signature over the raw body, then read it. Raises `BadSignature`."""
        return read_signed_event(body, signature, self._webhook_secrets)
