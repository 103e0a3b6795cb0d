"""What the acts of a checkout and of a payment come to: pure functions and plain facts.

Amounts are cents and moments are Unix times, as in the objects that are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

from sts_app.billing.gateway import DisputeStatus, Mode, RefundStatus
from sts_app.core.store import Record

Ending = Literal["paid", "processing", "expired"]
LATE_DECLINE = "insufficient_funds"
EXPIRED_CARD = "expired_or_canceled_card"

BACK: frozenset[RefundStatus] = frozenset({"pending", "requires_action", "succeeded"})
NEXT_REFUND: dict[RefundStatus, tuple[RefundStatus, ...]] = {
    "pending": ("requires_action", "succeeded", "canceled", "failed"),
    "requires_action": ("succeeded", "canceled", "failed"),
    "succeeded": ("failed",),
    "canceled": (),
    "failed": (),
}
WITHHELD: frozenset[DisputeStatus] = frozenset({"needs_response", "under_review", "lost"})
CLOSED: frozenset[DisputeStatus] = frozenset({"warning_closed", "prevented", "lost", "won"})
_ON: tuple[DisputeStatus, ...] = ("needs_response", "under_review", "lost", "won")
NEXT_DISPUTE: dict[DisputeStatus, tuple[DisputeStatus, ...]] = {
    "warning_needs_response": ("warning_under_review", "warning_closed", "prevented", *_ON),
    "warning_under_review": ("warning_closed", "prevented", *_ON),
    "warning_closed": _ON,
    "prevented": (),
    "needs_response": ("under_review", "lost", "won"),
    "under_review": ("lost", "won"),
    "lost": ("won",),
    "won": (),
}
ANSWERED: dict[DisputeStatus, DisputeStatus] = {
    "warning_needs_response": "warning_under_review",
    "needs_response": "under_review",
}


@dataclass(frozen=True)
class CheckoutStory:
    """One checkout: how it was opened, and what happened to it."""

    opened: Record
    acts: Sequence[Record]

    @property
    def id(self) -> str:
        return str(self.opened["id"])

    @property
    def mode(self) -> Mode:
        return cast(Mode, self.opened["mode"])

    @property
    def interval(self) -> str:
        """How often it is paid again: month, year, or empty for once."""
        # Pages from before this was remembered were all of a month.
        return str(self.opened.get("interval", "month" if self.mode == "subscription" else ""))

    @property
    def end(self) -> Ending | None:
        found = self._last("paid", "processing", "expired")
        return cast(Ending, found["act"]) if found else None

    @property
    def settled(self) -> bool | None:
        """The slow bank's verdict, None while it is out."""
        found = self._last("settled")
        return bool(found["succeeded"]) if found else None

    @property
    def promotion(self) -> Record | None:
        return self._last("promotion")

    @property
    def subtotal(self) -> int:
        return int(self.opened["amount"])

    @property
    def discount(self) -> int:
        return self.subtotal * int(self.promotion["percent"]) // 100 if self.promotion else 0

    @property
    def amount(self) -> int:
        return self.subtotal - self.discount

    @property
    def is_free(self) -> bool:
        return self.amount == 0

    @property
    def is_complete(self) -> bool:
        return self.end in ("paid", "processing")

    @property
    def is_paid(self) -> bool:
        """Money came in: not so for what was given away."""
        return not self.is_free and (self.end == "paid" or self.settled is True)

    @property
    def paid_at(self) -> int | None:
        found = self._last("settled") if self.end == "processing" else self._last("paid")
        return int(found["at"]) if found and (self.is_paid or self.is_free) else None

    @property
    def completed_at(self) -> int:
        found = self._last("paid", "processing")
        return int(found["at"]) if found else 0

    @property
    def tried_at(self) -> int | None:
        """Like Stripe, show no payment intent before the first try, and none at all for what is free."""
        tries = [act for act in self.acts if act["act"] in ("declined", "paid", "processing")]
        return int(tries[0]["at"]) if tries and not (self.is_free and self.is_complete) else None

    @property
    def decline(self) -> Record | None:
        return self._last("declined")

    @property
    def declined_because(self) -> str | None:
        """Why the latest try failed; a later success wipes it out."""
        if self.end == "processing":
            return LATE_DECLINE if self.settled is False else None
        return str(self.decline["because"]) if self.decline and self.end != "paid" else None

    @property
    def intent_status(self) -> str:
        if self.is_paid:
            return "succeeded"
        if self.end == "processing" and self.settled is None:
            return "processing"
        return "canceled" if self.end == "expired" else "requires_payment_method"

    @property
    def recovered(self) -> tuple[str, ...]:
        """The checkouts that it was recovered as, oldest first."""
        return tuple(str(act["session"]) for act in self.acts if act["act"] == "recovered")

    def _last(self, *names: str) -> Record | None:
        found = [act for act in self.acts if act["act"] in names]
        return found[-1] if found else None


@dataclass(frozen=True)
class RefundStory:
    id: str
    amount: int
    status: RefundStatus
    reason: str
    metadata: Record
    created: int

    @property
    def counts(self) -> bool:
        return self.status in BACK


@dataclass(frozen=True)
class DisputeStory:
    id: str
    amount: int
    status: DisputeStatus
    reason: str
    due_by: int
    created: int
    submissions: int = 0
    evidence: Record = field(default_factory=dict)
    metadata: Record = field(default_factory=dict)


@dataclass(frozen=True)
class Payment:
    """One payment intent, its latest charge, and what went back of it. `because` is why the last try failed."""

    intent: str
    charge: str
    amount: int
    currency: str
    customer: str
    email: str
    metadata: Record
    created: int
    status: str
    base: str
    description: str
    paid_at: int | None = None
    because: str | None = None
    refunds: tuple[RefundStory, ...] = ()
    disputes: tuple[DisputeStory, ...] = ()

    @property
    def is_paid(self) -> bool:
        return self.paid_at is not None

    @property
    def refunded(self) -> int:
        return sum(refund.amount for refund in self.refunds if refund.counts)

    @property
    def withheld(self) -> int:
        return sum(dispute.amount for dispute in self.disputes if dispute.status in WITHHELD)

    @property
    def left(self) -> int:
        """Cents that can still be given back."""
        return max(self.amount - self.refunded - self.withheld, 0) if self.is_paid else 0

    def refund(self, refund_id: str) -> RefundStory | None:
        return next((refund for refund in self.refunds if refund.id == refund_id), None)

    def dispute(self, dispute_id: str) -> DisputeStory | None:
        return next((dispute for dispute in self.disputes if dispute.id == dispute_id), None)


def payment_of_checkout(story: CheckoutStory, acts: Sequence[Record]) -> Payment | None:
    """The payment of a checkout, None before the first try. `acts` are those of its payment intent."""
    if story.tried_at is None:
        return None
    opened = story.opened
    declined_card = story.decline if story.declined_because and story.end != "processing" else None
    plain = Payment(
        intent=opened["intent"],
        charge=declined_card["charge"] if declined_card else opened["charge"],
        amount=story.amount,
        currency=opened["currency"],
        customer=opened["customer"],
        email=opened["email"],
        # At Stripe the payments of a subscription's invoices carry none.
        metadata=opened["metadata"] if story.mode == "payment" else {},
        created=story.tried_at,
        status=story.intent_status,
        base=opened["base"],
        description=opened["product_name"],
        paid_at=story.paid_at if story.is_paid else None,
        because=story.declined_because,
    )
    return told(plain, acts)


def told(payment: Payment, acts: Sequence[Record]) -> Payment:
    """The payment with its refunds and disputes, as far as `acts` tell of them."""
    refunds: dict[str, RefundStory] = {}
    disputes: dict[str, DisputeStory] = {}
    for act in acts:
        name, key = act["act"], str(act["id"])
        if name == "refund":
            refunds[key] = RefundStory(
                key, act["amount"], act["status"], act["reason"], act["metadata"], created=act["at"]
            )
        elif name == "refund-status":
            refunds[key] = replace(refunds[key], status=act["status"])
        elif name == "dispute":
            disputes[key] = DisputeStory(
                key, act["amount"], act["status"], act["reason"], act["due_by"], created=act["at"]
            )
        elif name == "dispute-status":
            disputes[key] = replace(disputes[key], status=act["status"])
        elif name == "evidence":
            before = disputes[key]
            disputes[key] = replace(
                before,
                status=act["status"],
                submissions=before.submissions + 1,
                evidence=before.evidence | act["texts"] | act["files"],
                metadata={"evidence_ref": act["ref"]},
            )
    return replace(payment, refunds=tuple(refunds.values()), disputes=tuple(disputes.values()))
