"""What a customer is told of their money: refunds, disputes, subscriptions, and what each means for access.

Sentences alone, made from facts that were read elsewhere. They promise no time that a bank may not keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sts_app.billing.gateway import DisputeStatus
from sts_app.billing.models import Dispute, Refund, Subscription, Withdrawal
from sts_app.billing.rules import BACK, Access, RefundState, SubscriptionStanding, SubscriptionState
from sts_app.catalog.models import Plan
from sts_app.core.money import as_moment, as_money

OFTEN = {"month": "every month", "year": "every year"}
MEND = "Please see that your card is valid."


def price_of(plan: Plan, cents: int | None = None) -> str:
    """`$99.00 once`, or the price with how often it is paid: today's, or the `cents` that somebody has the plan for."""
    return f"{as_money(plan.price_cents if cents is None else cents, plan.currency)} {OFTEN.get(plan.interval, 'once')}"


def access_in_words(access: Access) -> str:
    """What the money of one purchase says of the access it was paid for; another reason may give the same."""
    match access:
        case Access.NONE:
            return "Nothing was paid, so it gives no access."
        case Access.STANDS:
            return "The access that it gives goes on."
        case Access.SUSPENDED:
            return (
                "The access that it gives is suspended until the bank has decided, and comes back by itself if the "
                "payment stands."
            )
        case Access.ENDED:
            return "This purchase gives no access any more."


def refund_in_words(state: RefundState, amount: str, *, is_held_up: bool = False) -> str:
    """How a refund of `amount` (money as people read it) stands. `is_held_up` says that sending it keeps failing."""
    match state:
        case RefundState.INTENDED if is_held_up:
            return f"A refund of {amount} could not be sent yet. Our staff have been told, and it is tried again."
        case RefundState.INTENDED:
            return f"A refund of {amount} is being sent to your bank."
        case RefundState.PENDING:
            return f"A refund of {amount} is on its way. Banks take five to ten days, some longer."
        case RefundState.REQUIRES_ACTION:
            return f"A refund of {amount} waits for you: Stripe has written to ask you where it should go."
        case RefundState.SUCCEEDED:
            return f"A refund of {amount} was paid out. Your bank may take ten days to show that it arrived."
        case RefundState.FAILED:
            return f"A refund of {amount} came back, because your bank did not take it. Our staff look for another way."
        case RefundState.CANCELED:
            return f"A refund of {amount} was called off before it went out. Our staff have been told."
        case RefundState.REFUSED:
            return f"A refund of {amount} could not be sent yet. Our staff have been told, and look into it."


def dispute_in_words(status: DisputeStatus) -> str:
    """How a dispute stands. What it means for access is said by `access_in_words`."""
    match status:
        case "warning_needs_response" | "warning_under_review":
            return "Your bank asks us about this payment. No money has moved."
        case "warning_closed":
            return "Your bank asked us about this payment. The question is closed, and no money has moved."
        case "prevented":
            return "A dispute of this payment was settled before it began."
        case "needs_response" | "under_review":
            return (
                "Your bank told us that this payment is disputed. If you did not mean to dispute it, tell your bank "
                "so: that is the fastest way to settle it."
            )
        case "lost":
            return "The bank decided the dispute in your favour and gave the money back to you."
        case "won":
            return "The bank decided the dispute: the payment stands."


def subscription_in_words(subscription: Subscription, standing: SubscriptionStanding, *, price: str) -> str:
    """What a subscription is doing, and what happens next with it and when. `price` is as `price_of` says it."""
    state = SubscriptionState(subscription.state)
    is_over = subscription.status in ("canceled", "incomplete_expired")
    if state is not SubscriptionState.ENDED and not is_over and subscription.cancel_because is not None:
        return f"It is being ended, because {subscription.cancel_because}. It is not charged any more."
    match state:
        case SubscriptionState.NONE:
            if is_over:
                return "Its first payment did not arrive, so it never began."
            return "Its first payment has not been confirmed yet."
        case SubscriptionState.RUNNING:
            if subscription.ends_at is not None:
                return f"It ends on {as_moment(subscription.ends_at)}, with your access, and is not charged again."
            if subscription.period_end is not None:
                return f"It renews on {as_moment(subscription.period_end)}: {price}."
            return f"It runs: {price}."
        case SubscriptionState.GRACE:
            if standing.until is None:
                return f"The last renewal failed. {MEND}"
            return f"The last renewal failed. {MEND} Your access goes on until {as_moment(standing.until)}."
        case SubscriptionState.PAUSED:
            because = standing.because or "a renewal was not paid"
            return f"Your access rests because {because}. It comes back by itself once that is put right."
        case SubscriptionState.ENDED:
            if not is_over:
                return f"Your access has ended because {standing.because or 'its payment went back'}."
            when = f" on {as_moment(subscription.ended_at)}" if subscription.ended_at is not None else ""
            return f"It ended{when}. Nothing more is charged."


def covered_in_words(
    plan: Plan, by: Sequence[Plan], subscription: Subscription | None, *, is_disputed: bool = False
) -> str:
    """Why nothing more is charged for `plan`: what is held `by` other plans, or the same, covers it, and what to do.

    `subscription` is the one by which the first of them is held, None for what was bought for good.
    """
    if is_disputed:
        return (
            f"You have paid for {by[0].name}, and your bank has the payment disputed. Nothing more was charged. "
            "Your access comes back by itself if the payment stands."
        )
    if subscription is None:
        if plan in by:
            return "You have this already. There is nothing more to buy, and nothing was charged."
        return f"Your {' and '.join(each.name for each in by)} includes all of this. Nothing was charged."
    if subscription.state in (SubscriptionState.GRACE, SubscriptionState.PAUSED):
        return (
            f"Your subscription to {by[0].name} covers this, and a renewal of it was not paid yet. Nothing more was "
            "charged. Please pay that one: Manage the subscription leads there."
        )
    if subscription.ends_at is not None:
        return (
            f"Your subscription to {by[0].name} covers this until {as_moment(subscription.ends_at)}. Nothing more was "
            "charged. When it has ended, you can subscribe here."
        )
    if plan in by:
        return "You subscribe to this already, and nothing more was charged."
    return (
        f"Your subscription to {' and '.join(each.name for each in by)} covers this already, so nothing more was "
        f"charged. To change over, end it under Manage the subscription, and subscribe to {plan.name} when it has "
        "ended."
    )


def money_back_in_words(refunds: Iterable[Refund], disputes: Iterable[Dispute]) -> tuple[str, ...]:
    """Where the money is that goes back for a purchase: to be sent, sent already, or given back by the bank."""
    refunds = list(refunds)
    to_send = [refund for refund in refunds if refund.state == RefundState.INTENDED]
    sent = [refund for refund in refunds if refund.state in BACK]
    by_bank = [dispute for dispute in disputes if dispute.status == "lost"]
    return tuple(
        sentence.format(as_money(sum(row.amount_cents for row in rows), rows[0].currency))
        for rows, sentence in (
            (to_send, "{} are on their way back to you; another letter tells you when they were sent."),
            (sent, "{} were sent back to you before."),
            (by_bank, "{} were given back to you by your bank."),
        )
        if rows
    )


def withdrawal_in_words(withdrawal: Withdrawal) -> str:
    """What became of a declaration to withdraw."""
    declared = as_moment(withdrawal.created_at)
    if withdrawal.verdict == "accepted":
        return f"You withdrew on {declared}. It is accepted, and you get your money back."
    if withdrawal.verdict == "refused":
        return f"You withdrew on {declared}. It was not accepted: {withdrawal.note}"
    return f"You withdrew on {declared}. Our staff look at it and answer by letter."
