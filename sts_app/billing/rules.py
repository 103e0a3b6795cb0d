"""What facts make of a payment and of a subscription: pure functions for every event and look-up.

Facts are merged, not overwritten. Whether a payment came in, each refund and each dispute only ever
move up an order of their own, so what is late, repeated or out of order adds nothing and takes nothing
away, and the standing is a function of what was merged. Only a subscription goes back and forth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from sts_app.billing.gateway import DisputeStatus, PaymentFacts, RefundStatus, SubscriptionStatus

T = TypeVar("T")


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

    @property
    def was_paid(self) -> bool:
        """Money came in, whatever became of it."""
        return self.is_paid or self is PurchaseStatus.REFUNDED


class Access(StrEnum):
    """What the money of a purchase says of the access it was paid for."""

    NONE = "none"  # nothing was paid
    STANDS = "stands"
    SUSPENDED = "suspended"  # the payment is disputed
    ENDED = "ended"  # the money went back


class RefundState(StrEnum):
    """Stripe's words, and two of ours for what Stripe has not heard of or did not accept."""

    INTENDED = "intended"
    REFUSED = "refused"
    PENDING = "pending"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"
    FAILED = "failed"


class EventState(StrEnum):
    RECEIVED = "received"
    HANDLED = "handled"
    IGNORED = "ignored"
    STUCK = "stuck"


class SubscriptionState(StrEnum):
    """What a subscription means for access."""

    NONE = "none"  # nothing was paid yet
    RUNNING = "running"
    GRACE = "grace"  # a renewal failed, and there is still time to pay
    PAUSED = "paused"  # access rests until money comes
    ENDED = "ended"


class Kind(StrEnum):
    CHANGE = "change"
    REPEAT = "repeat"  # harmless: the purchase stands there already, or further
    NONSENSE = "nonsense"  # a person must look: these facts cannot be about this purchase


# Money wins: what is paid never becomes unpaid, whatever arrives late. A page that was recovered after it
# expired can still fail, so that failing comes after expiring.
_UNPAID = (PurchaseStatus.PENDING, PurchaseStatus.EXPIRED, PurchaseStatus.FAILED)
# A refund may fail after it succeeded, and an inquiry may become a chargeback; neither goes back.
_REFUND_ORDER: tuple[RefundStatus, ...] = ("pending", "requires_action", "succeeded", "canceled", "failed")
_DISPUTE_ORDER: tuple[DisputeStatus, ...] = (
    "warning_needs_response",
    "warning_under_review",
    "warning_closed",
    "prevented",
    "needs_response",
    "under_review",
    "lost",
    "won",
)
_DEAD_INTENTS = ("requires_payment_method", "canceled")

BACK: frozenset[RefundStatus] = frozenset({"pending", "requires_action", "succeeded"})
OPEN: frozenset[DisputeStatus] = frozenset({"needs_response", "under_review"})
INQUIRY: frozenset[DisputeStatus] = frozenset({"warning_needs_response", "warning_under_review"})
ANSWERABLE: frozenset[DisputeStatus] = frozenset({"needs_response", "warning_needs_response"})


# Why money ended access or put it to rest. What staff ended or suspended for another reason, money does not restore.
REFUNDED = "the purchase was refunded"
LOST = "the dispute was lost"
PART_ENDED = "a part was refunded, and staff ended the access"
DISPUTED = "the payment is disputed"
WENT_BACK = "its payment went back"
RENEWAL_DISPUTED = "its payment is disputed"
NOT_RENEWED = "a renewal was not paid"
NOT_IN_TIME = "a renewal was not paid in time"
SUBSCRIPTION_OVER = "the subscription ended"
OF_MONEY = frozenset(
    {
        REFUNDED,
        LOST,
        PART_ENDED,
        DISPUTED,
        WENT_BACK,
        RENEWAL_DISPUTED,
        NOT_RENEWED,
        NOT_IN_TIME,
        SUBSCRIPTION_OVER,
    }
)


@dataclass(frozen=True)
class Back:
    """One refund: cents and Stripe's word."""

    cents: int
    status: RefundStatus


@dataclass(frozen=True)
class Disputed:
    """One dispute: cents and Stripe's word."""

    cents: int
    status: DisputeStatus


@dataclass(frozen=True)
class Money:
    """All that is known of one payment. `unpaid` counts as long as nothing was paid.

    Refunds and disputes are by Stripe's ids.
    """

    paid: bool = False
    unpaid: PurchaseStatus = PurchaseStatus.PENDING
    total: int = 0
    refunds: Mapping[str, Back] = field(default_factory=dict)
    disputes: Mapping[str, Disputed] = field(default_factory=dict)

    @property
    def refunded(self) -> int:
        """Cents that are back or on their way."""
        return sum(back.cents for back in self.refunds.values() if back.status in BACK)

    @property
    def lost(self) -> int:
        """Cents that a bank has taken back for good."""
        return sum(each.cents for each in self.disputes.values() if each.status == "lost")

    @property
    def withheld(self) -> int:
        """Cents that a bank has taken, for good or until it has decided."""
        return sum(each.cents for each in self.disputes.values() if each.status in OPEN or each.status == "lost")


@dataclass(frozen=True)
class Verdict:
    """What staff said when `cents` had gone back: access stays, or ends. More than that asks them again."""

    keeps: bool
    cents: int


@dataclass(frozen=True)
class Standing:
    """What a payment's money means. `asks_staff` where a part went back and nobody said what that means for access."""

    status: PurchaseStatus
    access: Access
    because: str = ""
    asks_staff: bool = False


@dataclass(frozen=True)
class Decision:
    """What comes of facts: the money as it is known now, and what it means."""

    kind: Kind
    money: Money
    standing: Standing
    because: str = ""

    @property
    def status(self) -> PurchaseStatus:
        return self.standing.status


def money_of(facts: PaymentFacts) -> Money:
    """The facts, as far as they are about money."""
    unpaid = PurchaseStatus.PENDING
    if facts.session == "expired":
        unpaid = PurchaseStatus.EXPIRED
    elif facts.session == "complete" and facts.intent in _DEAD_INTENTS:
        unpaid = PurchaseStatus.FAILED
    paid = facts.payment in ("paid", "no_payment_required")
    return Money(
        paid=paid,
        unpaid=unpaid,
        total=facts.amount_total if paid else 0,
        refunds={refund.id: Back(refund.amount, refund.status) for refund in facts.refunds},
        disputes={dispute.id: Disputed(dispute.amount, dispute.status) for dispute in facts.disputes},
    )


def merge(known: Money, told: Money) -> Money:
    """Both together. Neither the order nor repeats of what is merged make a difference."""
    paid = known.paid or told.paid
    return Money(
        paid=paid,
        unpaid=PurchaseStatus.PENDING if paid else max(known.unpaid, told.unpaid, key=_UNPAID.index),
        total=max(known.total, told.total),
        refunds=_joined(known.refunds, told.refunds, lambda back: (_REFUND_ORDER.index(back.status), back.cents)),
        disputes=_joined(known.disputes, told.disputes, lambda each: (_DISPUTE_ORDER.index(each.status), each.cents)),
    )


def standing_of(money: Money, *, verdict: Verdict | None = None) -> Standing:
    """What the money means, and with `verdict` what staff said to a part that went back."""
    if not money.paid:
        return Standing(money.unpaid, Access.NONE)
    if 0 < money.total <= money.refunded:
        return Standing(PurchaseStatus.REFUNDED, Access.ENDED, REFUNDED)
    status = PurchaseStatus.PARTIALLY_REFUNDED if money.refunded else PurchaseStatus.COMPLETED
    back = money.refunded + money.lost
    if 0 < money.total <= back:
        return Standing(status, Access.ENDED, LOST)
    if back and verdict is not None and not verdict.keeps:
        return Standing(status, Access.ENDED, PART_ENDED)
    asks = bool(back) and (verdict is None or back > verdict.cents)
    if any(each.status in OPEN for each in money.disputes.values()):
        return Standing(status, Access.SUSPENDED, DISPUTED, asks)
    return Standing(status, Access.STANDS, "", asks)


def purchase_step(
    known: Money, facts: PaymentFacts, *, ref: str, currency: str, verdict: Verdict | None = None
) -> Decision:
    """What becomes of a purchase of which `known` is known when `facts` are read. Never moves it backwards."""
    before = standing_of(known, verdict=verdict)
    if facts.purchase_ref is not None and facts.purchase_ref != ref:
        return Decision(Kind.NONSENSE, known, before, "the payment belongs to another purchase")
    if facts.currency.lower() != currency.lower():
        return Decision(Kind.NONSENSE, known, before, f"the payment is in {facts.currency}, the purchase in {currency}")
    money = merge(known, money_of(facts))
    kind = Kind.REPEAT if money == known else Kind.CHANGE
    return Decision(kind, money, standing_of(money, verdict=verdict))


@dataclass(frozen=True)
class SubscriptionStanding:
    """What a subscription means for access now, and the moment at which that changes by itself."""

    state: SubscriptionState
    because: str = ""
    until: datetime | None = None


def subscription_standing(
    status: SubscriptionStatus,
    *,
    money: Access,
    past_due_since: datetime | None,
    ends_at: datetime | None,
    grace: timedelta,
    now: datetime,
) -> SubscriptionStanding:
    """What Stripe's word and the money of the running period mean together.

    `money` is the access of the latest payment, `none` before the first; `past_due_since` when a renewal began to fail;
    `ends_at` an end that is set already.
    """
    if status in ("incomplete", "incomplete_expired"):
        return SubscriptionStanding(SubscriptionState.NONE)
    if status == "canceled":
        return SubscriptionStanding(SubscriptionState.ENDED, SUBSCRIPTION_OVER)
    if money is Access.ENDED:
        return SubscriptionStanding(SubscriptionState.ENDED, WENT_BACK)
    if money is Access.SUSPENDED:
        return SubscriptionStanding(SubscriptionState.PAUSED, RENEWAL_DISPUTED)
    if money is Access.NONE and status != "trialing":
        # A slow bank: active by the provider's word, and nothing has come in.
        return SubscriptionStanding(SubscriptionState.NONE)
    if status in ("unpaid", "paused"):
        return SubscriptionStanding(SubscriptionState.PAUSED, NOT_RENEWED)
    if status == "past_due":
        over = (past_due_since or now) + grace
        if now >= over:
            return SubscriptionStanding(SubscriptionState.PAUSED, NOT_IN_TIME)
        return SubscriptionStanding(SubscriptionState.GRACE, "a renewal failed", over)
    return SubscriptionStanding(SubscriptionState.RUNNING, "", ends_at)


def _joined(known: Mapping[str, T], told: Mapping[str, T], order: Callable[[T], tuple[int, int]]) -> dict[str, T]:
    """Of each key the value that is further on."""
    joined = dict(known)
    for key, value in told.items():
        joined[key] = max(joined[key], value, key=order) if key in joined else value
    return joined
