"""What the facts of a payment make of a purchase: one pure function for every event and look-up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sts_app.billing.gateway import PaymentFacts


class PurchaseStatus(StrEnum):
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"

    @property
    def is_paid(self) -> bool:
        """Money came in and has not gone back in full."""
        return self in (PurchaseStatus.COMPLETED, PurchaseStatus.PARTIALLY_REFUNDED)


class Kind(StrEnum):
    CHANGE = "change"
    REPEAT = "repeat"  # harmless: the purchase stands there already, or further
    NONSENSE = "nonsense"  # a person must look: these facts cannot be about this purchase


@dataclass(frozen=True)
class Decision:
    kind: Kind
    status: PurchaseStatus
    because: str = ""


# Money wins: what is paid never becomes unpaid, whatever arrives late.
_RANK = {
    PurchaseStatus.PENDING: 0,
    PurchaseStatus.FAILED: 1,
    PurchaseStatus.EXPIRED: 1,
    PurchaseStatus.COMPLETED: 2,
    PurchaseStatus.PARTIALLY_REFUNDED: 3,
    PurchaseStatus.REFUNDED: 4,
}
_DEAD_INTENTS = ("requires_payment_method", "canceled")


def status_of(facts: PaymentFacts) -> PurchaseStatus:
    """The status that the facts alone call for."""
    if facts.payment in ("paid", "no_payment_required"):
        if 0 < facts.amount_total <= facts.amount_refunded:
            return PurchaseStatus.REFUNDED
        if facts.amount_refunded > 0:
            return PurchaseStatus.PARTIALLY_REFUNDED
        return PurchaseStatus.COMPLETED
    if facts.session == "expired":
        return PurchaseStatus.EXPIRED
    if facts.session == "complete" and facts.intent in _DEAD_INTENTS:
        return PurchaseStatus.FAILED
    return PurchaseStatus.PENDING


def purchase_step(status: PurchaseStatus, purchase_ref: str, currency: str, facts: PaymentFacts) -> Decision:
    """What becomes of a purchase in `status` when `facts` are read. Never moves it backwards."""
    if facts.purchase_ref is not None and facts.purchase_ref != purchase_ref:
        return Decision(Kind.NONSENSE, status, "the checkout belongs to another purchase")
    if facts.currency.lower() != currency.lower():
        return Decision(Kind.NONSENSE, status, f"the checkout is in {facts.currency}, the purchase in {currency}")
    target = status_of(facts)
    if target == status or _RANK[target] < _RANK[status]:
        return Decision(Kind.REPEAT, status)
    if _RANK[target] == _RANK[status]:
        return Decision(Kind.REPEAT, status, f"{target} after {status}")
    return Decision(Kind.CHANGE, target)
