"""The letters billing writes about purchases, subscriptions and its own trouble, each under a key that names its deed.

Those about money that went back, or that somebody wants back, are in `letters_money.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sts_app.accounts.models import User
from sts_app.billing import queries
from sts_app.billing.held import Held
from sts_app.billing.letters_note import facts_of, to_customer, to_staff
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription, WebhookEvent
from sts_app.billing.rules import SUBSCRIPTION_OVER, Access
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.money import as_moment, as_money
from sts_app.core.web import address_of
from sts_app.emails import services as emails

BEGINS = "Your TradingView name is being given access now; another letter tells you when it is active."


def purchase_confirmed(user: User, purchase: Purchase, plan: Plan, held: Held, renewal: Sequence[str]) -> None:
    """`renewal` says in sentences how a subscription goes on."""
    own = Access(purchase.access)
    emails.post(
        key=f"purchase-confirmed:{purchase.id}",
        kind="purchase_confirmation",
        to=user.email,
        user_id=user.id,
        subject=f"Your purchase: {plan.name}",
        template="billing/letters/purchase_confirmed",
        context={
            "plan": plan,
            "purchase": purchase,
            "amount": as_money(purchase.amount_cents, purchase.currency),
            "access": BEGINS if held.is_coming(own) else held.in_words(own),
            "arrived": "Your payment has arrived." if purchase.amount_cents else "Nothing was to be paid.",
            "renewal": " ".join(renewal),
            "link": address_of("pages.dashboard"),
        },
    )


def new_purchase(user: User, purchase: Purchase) -> None:
    to_staff(
        key=f"admin-new-purchase:{purchase.id}",
        kind="admin_new_purchase",
        subject=f"New purchase: {as_money(purchase.amount_cents, purchase.currency)}",
        heading="New purchase",
        paragraphs=("A customer has paid.",),
        facts=facts_of(purchase, by=user),
    )


def renewed(user: User, purchase: Purchase, plan: Plan) -> None:
    to_customer(
        user,
        key=f"renewed:{purchase.id}",
        kind="subscription_renewed",
        subject=f"Your subscription was renewed: {plan.name}",
        heading="Your subscription was renewed",
        paragraphs=(
            "The payment for the next period has arrived. If your access rested for want of it, it comes back by "
            "itself.",
        ),
        facts=facts_of(purchase),
    )


def payment_failed(user: User, purchase: Purchase, because: str | None, *, was_waited_for: bool) -> None:
    """One letter a purchase, however often the bank says no: the page itself tells of each try.

    A payment that a bank took days over (`was_waited_for`) has one of its own: no page was open any more.
    """
    late = "-late" if was_waited_for else ""
    reason = [("What the bank said", because.replace("_", " "))] if because else []
    to_customer(
        user,
        key=f"payment-failed{late}:{purchase.id}",
        kind="payment_failed",
        heading="Your payment did not go through",
        paragraphs=(
            "The bank did not accept the payment, so nothing was charged. You can try again with the same card or "
            "another one.",
            "If you have paid in another try by now, you need not do anything: another letter confirms it.",
        ),
        facts=[*facts_of(purchase), *reason],
        label="Try again",
        link=_page_to_buy(queries.plan_of(purchase)),
    )
    to_staff(
        key=f"admin-payment-failed{late}:{purchase.id}",
        kind="admin_payment_failed",
        heading="A payment failed",
        paragraphs=("The bank did not accept a customer's payment. The customer was told, and can try again.",),
        facts=[*facts_of(purchase, by=user), *reason],
    )


def paid_twice(user: User, purchase: Purchase, earlier: Purchase) -> None:
    """Both sides hear of a second payment for the same thing; the customer can have it back by one click.

    While the earlier one is in doubt there is nothing to click: nobody is to give up what may be all they have.
    """
    stands = earlier.access == Access.STANDS
    to_customer(
        user,
        key=f"paid-twice:{purchase.id}",
        kind="paid_twice",
        subject="You paid twice. Do you want the second payment back?" if stands else "You paid twice",
        heading="You paid twice",
        paragraphs=(
            "An earlier payment of yours covers what you have just paid for. You can have the second payment back: "
            "press the button on your dashboard, and the money goes back to where it came from."
            if stands
            else "An earlier payment of yours is for the same, and is disputed at your bank. Once the bank has decided "
            "for that payment, you can have this one back by a button on your dashboard.",
        ),
        facts=[*facts_of(purchase), ("Earlier purchase", earlier.ref)],
        label="Have it back" if stands else "Open your dashboard",
    )
    to_staff(
        key=f"admin-paid-twice:{purchase.id}",
        kind="admin_paid_twice",
        subject="A customer paid twice for the same thing",
        heading="Paid twice",
        paragraphs=(
            "This customer has paid for a plan that an earlier purchase of theirs covers already. The customer was "
            "offered the second payment back and need only press a button; you can refund it just as well."
            if stands
            else "This customer has paid for a plan that an earlier purchase of theirs is for too. That one is in "
            "doubt at the bank, so the second payment is on offer only once the earlier one stands.",
        ),
        facts=[*facts_of(purchase, by=user), ("Earlier purchase", earlier.ref)],
    )


def renewal_failed(user: User, subscription: Subscription, plan: Plan, until: datetime | None) -> None:
    """Both sides hear that a renewal failed; `until` is the end of the days of grace."""
    grace = f" It gives you access until {as_moment(until)}, and rests from then on until it is paid." if until else ""
    to_customer(
        user,
        key=f"renewal-failed:{subscription.id}:{subscription.period_end}",
        kind="renewal_failed",
        subject=f"The renewal of your subscription failed: {plan.name}",
        heading="The renewal of your subscription failed",
        paragraphs=(
            "Your bank did not accept the payment for the next period. It is tried again by itself; please see that "
            "your card is valid.",
            f"Your subscription has not ended.{grace}",
        ),
        facts=_facts_of(plan),
        label="Mend the payment",
    )
    _renewal_failed_to_staff(user, subscription, plan)


def subscription_paused(user: User, subscription: Subscription, plan: Plan, because: str, held: Held) -> None:
    """Access rests until a renewal is paid. Staff hear of it who have not heard that this renewal failed."""
    to_customer(
        user,
        key=f"subscription-paused:{subscription.id}:{subscription.settled}",
        kind="subscription_paused",
        subject=f"Your subscription rests: {plan.name}",
        heading="Your subscription rests",
        paragraphs=(
            f"Your subscription rests because {because}. It goes on by itself once the payment arrives.",
            "Your access rests with it." if held.rests else held.in_words(Access.SUSPENDED, thing="subscription"),
        ),
        facts=_facts_of(plan),
        label="Mend the payment",
    )
    _renewal_failed_to_staff(user, subscription, plan)


def subscription_ended(user: User, subscription: Subscription, plan: Plan, because: str, held: Held) -> None:
    why = "It has come to its end." if because == SUBSCRIPTION_OVER else f"It ended because {because}."
    to_customer(
        user,
        key=f"subscription-ended:{subscription.id}:{subscription.settled}",
        kind="subscription_ended",
        subject=f"Your subscription has ended: {plan.name}",
        heading="Your subscription has ended",
        paragraphs=(f"{why} Nothing more will be charged for it.", held.in_words(Access.ENDED, thing="subscription")),
        facts=_facts_of(plan),
    )


def checkout_left(user: User, purchase: Purchase, plan: Plan) -> None:
    """The one letter about a checkout that was left, for those who asked for it."""
    to_customer(
        user,
        key=f"checkout-left:{purchase.id}",
        kind="checkout_left",
        subject=f"Still interested in {plan.name}?",
        heading="You did not finish",
        paragraphs=(
            "You asked us to write once if you leave the payment page. Nothing was charged. You can go on whenever "
            "you like, at the price that is shown then.",
            "This is the only letter about it.",
        ),
        facts=[("You were about to buy", plan.name)],
        label="Go on",
        link=_page_to_buy(plan),
    )


def event_stuck(event: WebhookEvent) -> None:
    to_staff(
        key=f"admin-event-stuck:{event.id}:{int(clock.now().timestamp())}",
        kind="admin_event_stuck",
        subject=f"A payment event needs a person: {event.type}",
        heading="A payment event needs a person",
        paragraphs=(
            "It was taken in and verified, but it could not be handled and is not tried again by itself. "
            f"`sts events show {event.id}` shows it, and `sts events replay {event.id}` has it handled again.",
        ),
        facts=[("Event", event.external_id), ("Type", event.type), ("Reason", event.last_reason or "none")],
    )


def refund_refused(purchase: Purchase, refund: Refund) -> None:
    to_staff(
        key=f"admin-refund-refused:{refund.id}",
        kind="admin_refund_refused",
        heading="A refund was refused",
        paragraphs=("Stripe did not accept this refund, and no money has moved. Look at the payment there.",),
        facts=[
            ("Asked by", refund.asked_by),
            ("Refund", as_money(refund.amount_cents, refund.currency)),
            ("Because", refund.failed_because or "not said"),
            *facts_of(purchase),
        ],
    )


def evidence_refused(purchase: Purchase, dispute: Dispute) -> None:
    to_staff(
        key=f"admin-evidence-refused:{dispute.id}:{dispute.evidence_ref}",
        kind="admin_evidence_refused",
        heading="Evidence was not accepted",
        paragraphs=("Stripe did not take the evidence for this dispute. Look at it there while there is time.",),
        facts=[
            ("Dispute", dispute.external_id),
            ("Because", dispute.last_reason or "not said"),
            *([("Due by", as_moment(dispute.due_by))] if dispute.due_by else []),
            *facts_of(purchase),
        ],
    )


def does_not_add_up(comparison_id: int, findings: Sequence[str]) -> None:
    to_staff(
        key=f"admin-does-not-add-up:{comparison_id}",
        kind="admin_does_not_add_up",
        heading="Our books and Stripe's differ",
        paragraphs=("The daily comparison found what it could not put right by itself:", *findings[:20]),
        facts=[("Findings", str(len(findings)))],
    )


def _renewal_failed_to_staff(user: User, subscription: Subscription, plan: Plan) -> None:
    to_staff(
        key=f"admin-renewal-failed:{subscription.id}:{subscription.period_end}",
        kind="admin_renewal_failed",
        heading="A renewal failed",
        paragraphs=("The bank did not accept the payment for the next period. The customer was told.",),
        facts=[("Customer", user.email), *_facts_of(plan), ("At Stripe", subscription.external_id)],
    )


def _facts_of(plan: Plan) -> list[tuple[str, str]]:
    return [("Subscription", plan.name)]


def _page_to_buy(plan: Plan) -> str:
    return address_of("billing.checkout", plan=plan.slug)
