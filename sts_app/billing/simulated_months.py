"""What the acts of a subscription come to, one paid period after the other: pure functions and plain facts.

Amounts are cents and moments are Unix times, as in the objects that are made of them.
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from sts_app.billing.gateway import SubscriptionStatus
from sts_app.billing.simulated_stories import LATE_DECLINE, CheckoutStory, Payment, told
from sts_app.core.store import Record


@dataclass(frozen=True)
class InvoiceStory:
    """One invoice. `period` is what it pays for; `because` is why its last try failed."""

    id: str
    number: int
    subtotal: int
    amount: int
    created: int
    period: tuple[int, int]
    billing_reason: Literal["subscription_create", "subscription_cycle", "manual"]
    intent: str | None
    charge: str
    opened: Record
    attempts: int = 0
    paid_at: int | None = None
    because: str | None = None

    @property
    def is_paid(self) -> bool:
        return self.paid_at is not None

    @property
    def has_failed(self) -> bool:
        return not self.is_paid and self.because is not None


def invoice_of_checkout(story: CheckoutStory) -> InvoiceStory | None:
    """The invoice of a checkout: after a payment, or the first one of a subscription. None before there is one."""
    recurring = story.mode == "subscription"
    if not (story.is_complete if recurring else story.is_paid):
        return None
    start = story.completed_at
    return InvoiceStory(
        id=story.opened["invoice"],
        number=1,
        subtotal=story.subtotal,
        amount=story.amount,
        created=start,
        period=(start, period_after(start, story.interval, 1) if recurring else start),
        billing_reason="subscription_create" if recurring else "manual",
        intent=None if story.is_free else story.opened["intent"],
        charge=story.opened["charge"],
        opened=story.opened,
        attempts=0 if story.is_free else 1,
        paid_at=story.paid_at,
        because=story.declined_because,
    )


def payment_of_invoice(invoice: InvoiceStory, acts: Sequence[Record]) -> Payment | None:
    """The payment of a renewal's invoice. `acts` are those of its payment intent."""
    if invoice.intent is None:
        return None
    opened = invoice.opened
    plain = Payment(
        intent=invoice.intent,
        charge=invoice.charge,
        amount=invoice.amount,
        currency=opened["currency"],
        customer=opened["customer"],
        email=opened["email"],
        metadata={},
        created=invoice.created,
        status="succeeded" if invoice.is_paid else "requires_payment_method",
        base=opened["base"],
        description=opened["product_name"],
        paid_at=invoice.paid_at,
        because=invoice.because,
    )
    return told(plain, acts)


@dataclass(frozen=True)
class SubscriptionStory:
    """One subscription: its checkout, and what happened to it since. Invoices are oldest first.

    `has_new_card` says that its payer gave another card and nothing was charged to it yet.
    """

    opened: Record
    interval: str
    invoices: tuple[InvoiceStory, ...]
    gave_up: bool = False
    has_new_card: bool = False
    is_to_end: bool = False
    canceled_at: int | None = None
    ended_at: int | None = None

    @property
    def id(self) -> str:
        return str(self.opened["subscription"])

    @property
    def started_at(self) -> int:
        return self.invoices[0].created

    @property
    def period(self) -> tuple[int, int]:
        return self.invoices[-1].period

    @property
    def status(self) -> SubscriptionStatus:
        if self.ended_at is not None:
            return "canceled"
        # A payment under way counts as one that comes, as with Stripe's slow ways of paying.
        if not self.invoices[-1].has_failed:
            return "active"
        return "unpaid" if self.gave_up else "past_due"

    @property
    def is_over(self) -> bool:
        return self.ended_at is not None

    def invoice(self, invoice_id: str) -> InvoiceStory | None:
        return next((invoice for invoice in self.invoices if invoice.id == invoice_id), None)


def subscription_of_checkout(story: CheckoutStory, acts: Sequence[Record]) -> SubscriptionStory | None:
    """The subscription that a checkout began, None when it did not. `acts` are those of the subscription."""
    first = invoice_of_checkout(story) if story.mode == "subscription" else None
    if first is None:
        return None
    invoices = [first]
    known = SubscriptionStory(story.opened, story.interval, (first,))
    for act in acts:
        name, at = act["act"], int(act["at"])
        if name == "renewed":
            invoices.append(_renewal(story, act, invoices))
            known = replace(known, gave_up=False, has_new_card=False)
        elif name == "tried":
            place = next(index for index, invoice in enumerate(invoices) if invoice.id == act["invoice"])
            invoices[place] = replace(
                invoices[place],
                attempts=invoices[place].attempts + 1,
                paid_at=at if act["succeeded"] else None,
                because=None if act["succeeded"] else LATE_DECLINE,
            )
            known = replace(known, has_new_card=False)
        elif name == "card":
            known = replace(known, has_new_card=True)
        elif name == "gave-up":
            known = replace(known, gave_up=True)
        elif name == "end-set":
            known = replace(known, is_to_end=act["on"], canceled_at=at if act["on"] else None)
        elif name == "ended":
            known = replace(known, ended_at=at, canceled_at=known.canceled_at or at)
    return replace(known, invoices=tuple(invoices))


def _renewal(story: CheckoutStory, act: Record, before: Sequence[InvoiceStory]) -> InvoiceStory:
    start, interval = before[0].period[0], story.interval
    return InvoiceStory(
        id=act["invoice"],
        number=len(before) + 1,
        # A promotion is for the first period.
        subtotal=story.subtotal,
        amount=story.subtotal,
        created=act["at"],
        period=(period_after(start, interval, len(before)), period_after(start, interval, len(before) + 1)),
        billing_reason="subscription_cycle",
        intent=act["intent"],
        charge=act["charge"],
        opened=story.opened,
        attempts=1,
        paid_at=act["at"] if act["succeeded"] else None,
        because=None if act["succeeded"] else LATE_DECLINE,
    )


def period_after(start: int, interval: str, count: int) -> int:
    """The same day and hour `count` months or years later; the last day of a month that has no such day."""
    months = count * (12 if interval == "year" else 1)
    begun = datetime.fromtimestamp(start, UTC)
    year, month = divmod(begun.month - 1 + months, 12)
    year, month = begun.year + year, month + 1
    day = min(begun.day, calendar.monthrange(year, month)[1])
    return int(begun.replace(year=year, month=month, day=day).timestamp())
