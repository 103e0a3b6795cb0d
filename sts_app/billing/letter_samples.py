"""A sample of each letter that billing writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sts_app.accounts.letter_samples import customer
from sts_app.accounts.models import User
from sts_app.billing import letters, letters_money, letters_owed, letters_trouble, offers
from sts_app.billing.held import Held
from sts_app.billing.models import (
    Dispute,
    Purchase,
    Refund,
    StripeCustomer,
    Subscription,
    WebhookEvent,
    Withdrawal,
)
from sts_app.billing.rules import SUBSCRIPTION_OVER, Access, PurchaseStatus, RefundState, SubscriptionState
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db
from sts_app.emails.samples import Given, Sample, given
from sts_app.provisioning.letter_samples import NAMES

AT = datetime(2026, 11, 21, 15, 4, tzinfo=UTC)
EVERYTHING = Held(given=NAMES)
NOTHING_YET = Held(coming=NAMES)
RESTING = Held(resting=NAMES)
GONE = Held(gone=NAMES)


def _plan(*, monthly: bool = False) -> Plan:
    """A plan for samples, put into the transaction of whoever looks."""
    plan = Plan(
        slug=f"letter-sample-{'monthly' if monthly else 'lifetime'}",
        name="STS Strategies - Monthly Access" if monthly else "STS Strategies - Lifetime Access",
        price_cents=1900 if monthly else 9900,
        mode=Mode.SUBSCRIPTION if monthly else Mode.PAYMENT,
        interval="month" if monthly else "",
        covers_all=True,
    )
    db.session.add(plan)
    db.session.flush()
    return plan


def _purchase(user: User, plan: Plan, **changes: Any) -> Purchase:
    asked: dict[str, Any] = {
        "id": 41,
        "ref": "K7QX-2MPD",
        "user_id": user.id,
        "plan_id": plan.id,
        "status": PurchaseStatus.COMPLETED,
        "access": Access.STANDS,
        "amount_cents": plan.price_cents,
        "discount_cents": 0,
        "currency": plan.currency,
        "refunded_cents": 0,
        "session_id": "cs_of_a_sample",
        "intent_id": "pi_of_a_sample",
        "paid_at": AT,
    }
    return Purchase(**asked | changes)


def _refund(**changes: Any) -> Refund:
    asked: dict[str, Any] = {
        "id": 3,
        "external_id": "re_of_a_sample",
        "amount_cents": 9900,
        "currency": "usd",
        "state": RefundState.SUCCEEDED,
        "asked_by": "user:2",
    }
    return Refund(**asked | changes)


def _dispute(status: str = "needs_response", **changes: Any) -> Dispute:
    asked: dict[str, Any] = {
        "id": 5,
        "external_id": "dp_of_a_sample",
        "amount_cents": 9900,
        "currency": "usd",
        "status": status,
        "reason": "product_not_received",
        "opened_at": AT,
        "due_by": AT + timedelta(days=7),
        "evidence_ref": "evidence-of-a-sample",
    }
    return Dispute(**asked | changes)


def _subscription(plan: Plan, **changes: Any) -> Subscription:
    asked: dict[str, Any] = {
        "id": 9,
        "external_id": "sub_of_a_sample",
        "plan_id": plan.id,
        "state": SubscriptionState.RUNNING,
        "period_end": AT + timedelta(days=30),
        "settled": 4,
    }
    return Subscription(**asked | changes)


def _withdrawal(**changes: Any) -> Withdrawal:
    asked: dict[str, Any] = {"id": 2, "name": "Anna Sample", "created_at": AT}
    return Withdrawal(**asked | changes)


def _event() -> WebhookEvent:
    return WebhookEvent(
        id=77, external_id="evt_of_a_sample", type="checkout.session.completed", last_reason="payment not found"
    )


def _buyer(say: Callable[[User, Purchase], Given], **changes: Any) -> Callable[[], Given]:
    """What a letter is given about somebody's lifetime purchase."""

    def about() -> Given:
        user = customer()
        return say(user, _purchase(user, _plan(), **changes))

    return about


def _subscriber(say: Callable[[User, Subscription, Plan], Given], **changes: Any) -> Callable[[], Given]:
    """What a letter is given about somebody's subscription."""

    def about() -> Given:
        plan = _plan(monthly=True)
        return say(customer(), _subscription(plan, **changes), plan)

    return about


def _with_plan(say: Callable[[User, Purchase, Plan], Given], *, monthly: bool = False) -> Callable[[], Given]:
    """What a letter is given about a purchase and its plan."""

    def about() -> Given:
        user, plan = customer(), _plan(monthly=monthly)
        return say(user, _purchase(user, plan), plan)

    return about


def _refund_failed_after_the_end() -> Given:
    user, plan = customer(), _plan(monthly=True)
    ended = _subscription(plan, state=SubscriptionState.ENDED)
    refund = _refund(state=RefundState.FAILED, failed_because="expired_or_canceled_card", amount_cents=1900)
    return given(user, _purchase(user, plan), refund, GONE, ended=ended)


PURCHASES = (
    Sample(
        "purchase-confirmed",
        "A payment has arrived",
        letters.purchase_confirmed,
        _with_plan(lambda user, purchase, plan: given(user, purchase, plan, NOTHING_YET, ())),
    ),
    Sample(
        "subscription-confirmed",
        "A subscription has begun",
        letters.purchase_confirmed,
        _with_plan(
            lambda user, purchase, plan: given(user, purchase, plan, NOTHING_YET, offers.renewal_of(plan)), monthly=True
        ),
    ),
    Sample("new-purchase", "Staff hear of it", letters.new_purchase, _buyer(lambda u, p: given(u, p))),
    Sample(
        "payment-failed",
        "The bank declined",
        letters.payment_failed,
        _buyer(lambda u, p: given(u, p, "insufficient_funds", was_waited_for=False), status=PurchaseStatus.PENDING),
    ),
    Sample(
        "paid-twice",
        "Somebody paid twice for the same",
        letters.paid_twice,
        _buyer(lambda u, p: given(u, p, Purchase(ref="B3ZT-9QWA", access=Access.STANDS))),
    ),
    Sample(
        "checkout-left",
        "A checkout was left, and the buyer asked for a reminder",
        letters.checkout_left,
        _with_plan(lambda user, purchase, plan: given(user, purchase, plan)),
    ),
    Sample("event-stuck", "An event could not be handled", letters.event_stuck, lambda: given(_event())),
    Sample(
        "does-not-add-up",
        "Our books and Stripe's differ",
        letters.does_not_add_up,
        lambda: given(6, ["Payment pi_of_a_sample: $99.00 at Stripe, nothing here.", "Purchase K7QX-2MPD: no money."]),
    ),
)

SUBSCRIPTIONS = (
    Sample(
        "renewed",
        "A renewal was paid",
        letters.renewed,
        _with_plan(lambda user, purchase, plan: given(user, purchase, plan), monthly=True),
    ),
    Sample(
        "renewal-failed",
        "A renewal failed, days of grace begin",
        letters.renewal_failed,
        _subscriber(lambda u, s, plan: given(u, s, plan, AT + timedelta(days=7)), state=SubscriptionState.GRACE),
    ),
    Sample(
        "subscription-paused",
        "The days of grace are over",
        letters.subscription_paused,
        _subscriber(
            lambda u, s, plan: given(u, s, plan, "a renewal was not paid", RESTING), state=SubscriptionState.PAUSED
        ),
    ),
    Sample(
        "subscription-ended",
        "A subscription came to its end",
        letters.subscription_ended,
        _subscriber(lambda u, s, plan: given(u, s, plan, SUBSCRIPTION_OVER, GONE), state=SubscriptionState.ENDED),
    ),
)

MONEY_BACK = (
    Sample("refunded", "All of it went back", letters_money.refunded, _buyer(
        lambda u, p: given(u, p, _refund(), GONE), access=Access.ENDED)),
    Sample("refund-failed", "The refund came back from the bank", letters_money.refund_failed, _buyer(
        lambda u, p: given(u, p, _refund(failed_because="lost_or_stolen_card"), EVERYTHING, ended=None))),
    Sample("refund-failed-ended", "The same, and the subscription has ended", letters_money.refund_failed,
           _refund_failed_after_the_end),
    Sample("partial-refund", "A part went back", letters_money.partial_refund, _buyer(
        lambda u, p: given(u, p, 4000))),
    Sample("part-decided-keep", "Staff let access stay", letters_money.part_decided, _buyer(
        lambda u, p: given(u, p, EVERYTHING), partial_verdict_cents=4000)),
    Sample("part-decided-end", "Staff ended access", letters_money.part_decided, _buyer(
        lambda u, p: given(u, p, GONE), partial_verdict_cents=4000, access=Access.ENDED)),
    Sample("refund-refused", "Stripe did not accept a refund", letters.refund_refused, _buyer(
        lambda u, p: given(p, _refund(state=RefundState.REFUSED, failed_because="charge_already_refunded")))),
    Sample("dispute-opened", "A payment is disputed", letters_money.dispute_opened, _buyer(
        lambda u, p: given(u, p, _dispute(), RESTING), access=Access.SUSPENDED)),
    Sample("inquiry-opened", "A bank asks before it takes money", letters_money.inquiry_opened, _buyer(
        lambda u, p: given(u, p, _dispute("warning_needs_response")))),
    Sample("dispute-won", "The bank decided for us", letters_money.dispute_closed, _buyer(
        lambda u, p: given(u, p, _dispute("won"), NOTHING_YET))),
    Sample("dispute-lost", "The bank decided for the customer", letters_money.dispute_closed, _buyer(
        lambda u, p: given(u, p, _dispute("lost"), GONE), access=Access.ENDED)),
    Sample("evidence-refused", "Stripe did not take the evidence", letters.evidence_refused, _buyer(
        lambda u, p: given(p, _dispute(last_reason="evidence_too_long")))),
    Sample("paid-after-closing", "Money came in for a closed account", letters_money.paid_after_closing, _buyer(
        lambda user, purchase: given(user, purchase))),
    Sample("paid-after-end", "Money came in for a subscription that had ended", letters_owed.paid_after_end,
           _with_plan(lambda user, purchase, plan: given(user, purchase), monthly=True)),
    Sample("held-twice", "A purchase stands again, and another was bought meanwhile", letters_owed.held_twice, _buyer(
        lambda u, p: given(u, p, [_purchase(u, _plan(monthly=True), id=44, ref="B3ZT-9QWA")]))),
    Sample("withdrawal-received", "A customer withdraws", letters_money.withdrawal_received, _buyer(
        lambda u, p: given(u, p, _withdrawal()))),
    Sample("withdrawal-accepted", "The withdrawal is accepted", letters_money.withdrawal_accepted, _buyer(
        lambda u, p: given(u, p, _withdrawal(), [_refund(state=RefundState.INTENDED)], []))),
    Sample("withdrawal-refused", "The withdrawal is not accepted", letters_money.withdrawal_refused, _buyer(
        lambda u, p: given(u, p, _withdrawal(note="The purchase was made more than fourteen days before.")))),
)  # fmt: skip

TROUBLE = (
    Sample("refund-held-up", "A refund does not go out", letters_trouble.refund_held_up, _buyer(
        lambda u, p: given(p, _refund(state=RefundState.INTENDED, last_reason="403 permission")))),
    Sample("evidence-held-up", "Evidence does not go out", letters_trouble.evidence_held_up, _buyer(
        lambda u, p: given(p, _dispute(last_reason="no answer")))),
    Sample("dispute-due", "A dispute is due within two days", letters_trouble.dispute_due, _buyer(
        lambda u, p: given(p, _dispute(due_by=AT + timedelta(hours=40))))),
    Sample("subscription-stuck", "A subscription keeps being refused", letters_trouble.subscription_stuck,
           lambda: given(_subscription(_plan(monthly=True), last_reason="403 permission"))),
    Sample("subscription-does-not-end", "A subscription does not end", letters_trouble.subscription_stuck,
           lambda: given(_subscription(_plan(monthly=True), cancel_because="lifetime access was bought"))),
    Sample("events-held-up", "Events wait for Stripe", letters_trouble.events_held_up, lambda: given(_event())),
    Sample("paid-after-closing-staff", "Money came in for a closed account", letters_trouble.paid_after_closing,
           _buyer(lambda user, purchase: given(purchase))),
    Sample("customer-stays", "A customer is not deleted at Stripe", letters_trouble.customer_stays,
           lambda: given(StripeCustomer(id=5, external_id="cus_of_a_sample", last_reason="timed out"))),
    Sample("payment-unknown", "Stripe does not know a payment", letters_trouble.payment_unknown, _buyer(
        lambda u, p: given(p))),
)  # fmt: skip

SAMPLES = (*PURCHASES, *SUBSCRIPTIONS, *MONEY_BACK, *TROUBLE)
