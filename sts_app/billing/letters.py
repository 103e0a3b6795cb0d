"""The letters billing writes, each under a key that names the deed it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription, WebhookEvent, Withdrawal
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.money import as_moment, as_money
from sts_app.core.web import address_of
from sts_app.emails import services as emails

Facts = Sequence[tuple[str, str]]


def purchase_confirmed(user: User, purchase: Purchase, plan: Plan) -> None:
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
            "link": address_of("pages.dashboard"),
        },
    )


def new_purchase(user: User, purchase: Purchase, plan: Plan) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-new-purchase:{purchase.id}:{number}",
            kind="admin_new_purchase",
            to=address,
            subject=f"New purchase: {as_money(purchase.amount_cents, purchase.currency)}",
            template="billing/letters/new_purchase",
            context={
                "plan": plan,
                "purchase": purchase,
                "email": user.email,
                "amount": as_money(purchase.amount_cents, purchase.currency),
                "link": address_of("admin.overview"),
            },
        )


def renewed(user: User, purchase: Purchase, plan: Plan) -> None:
    _to_customer(
        user,
        key=f"renewed:{purchase.id}",
        kind="subscription_renewed",
        subject=f"Your subscription was renewed: {plan.name}",
        heading="Your subscription was renewed",
        paragraphs=("The payment for the next period has arrived. Your access goes on as it is.",),
        facts=_facts(purchase),
    )


def payment_failed(user: User, purchase: Purchase, because: str | None) -> None:
    """One letter a purchase, however often the bank says no: the page itself tells of each try."""
    reason = [("What the bank said", because.replace("_", " "))] if because else []
    _to_customer(
        user,
        key=f"payment-failed:{purchase.id}",
        kind="payment_failed",
        subject="Your payment did not go through",
        heading="Your payment did not go through",
        paragraphs=(
            "The bank did not accept the payment, so nothing was charged. You can try again with the same card or "
            "another one.",
            "If you have paid in another try by now, you need not do anything: another letter confirms it.",
        ),
        facts=[*_facts(purchase), *reason],
        label="Try again",
        link=address_of("billing.checkout"),
    )
    _to_staff(
        key=f"admin-payment-failed:{purchase.id}",
        kind="admin_payment_failed",
        subject="A payment failed",
        heading="A payment failed",
        paragraphs=("The bank did not accept a customer's payment. The customer was told, and can try again.",),
        facts=[("Customer", user.email), *_facts(purchase), *reason],
    )


def paid_twice(user: User, purchase: Purchase, earlier: Purchase) -> None:
    """Both sides hear of a second payment for the same thing; the customer can have it back by one click."""
    _to_customer(
        user,
        key=f"paid-twice:{purchase.id}",
        kind="paid_twice",
        subject="You paid twice. Do you want the second payment back?",
        heading="You paid twice",
        paragraphs=(
            "An earlier payment of yours covers what you have just paid for. You can have the second payment back: "
            "press the button on your dashboard, and the money goes back to where it came from.",
        ),
        facts=[*_facts(purchase), ("Earlier purchase", earlier.ref)],
        label="Have it back",
    )
    _to_staff(
        key=f"admin-paid-twice:{purchase.id}",
        kind="admin_paid_twice",
        subject="A customer paid twice for the same thing",
        heading="Paid twice",
        paragraphs=(
            "This customer has paid for a plan that an earlier purchase of theirs covers already. The customer was "
            "offered the second payment back and need only press a button; you can refund it just as well.",
        ),
        facts=[("Customer", user.email), *_facts(purchase), ("Earlier purchase", earlier.ref)],
    )


def refunded(user: User, purchase: Purchase, refund: Refund) -> None:
    is_full = refund.amount_cents == purchase.amount_cents
    _to_customer(
        user,
        key=f"refunded:{refund.id}",
        kind="refund_notice",
        subject=f"Refund: {as_money(refund.amount_cents, refund.currency)}",
        heading="Your refund is on its way",
        paragraphs=(
            "The money goes back to the card or account it came from. Banks take five to ten days, some longer.",
            "Access ends with a full refund, and your dashboard says Revoked once TradingView shows that it is gone."
            if is_full
            else "If anything changes for your access, your dashboard shows it and a letter follows.",
        ),
        facts=[("Refunded", as_money(refund.amount_cents, refund.currency)), *_facts(purchase)],
    )


def refund_failed(user: User, purchase: Purchase, refund: Refund) -> None:
    _to_customer(
        user,
        key=f"refund-failed:{refund.id}",
        kind="refund_failed",
        subject="Your refund did not arrive",
        heading="Your refund did not arrive",
        paragraphs=(
            "The bank sent the money back to us: the card or account may be closed. It is not lost. Our staff have "
            "been told and will find another way; please answer this letter if you know one.",
            "Until then your purchase stands as before, and so does your access.",
        ),
        facts=[("Amount", as_money(refund.amount_cents, refund.currency)), *_facts(purchase)],
    )
    _to_staff(
        key=f"admin-refund-failed:{refund.id}",
        kind="admin_refund_failed",
        subject="A refund came back",
        heading="A refund came back",
        paragraphs=(
            "The customer's bank did not take the money. It needs another way, and the customer waits for it.",
        ),
        facts=[("Customer", user.email), ("Because", refund.failed_because or "not said"), *_facts(purchase)],
    )


def refund_refused(purchase: Purchase, refund: Refund) -> None:
    _to_staff(
        key=f"admin-refund-refused:{refund.id}",
        kind="admin_refund_refused",
        subject="A refund was refused",
        heading="A refund was refused",
        paragraphs=("Stripe did not accept this refund, and no money has moved. Look at the payment there.",),
        facts=[
            ("Asked by", refund.asked_by),
            ("Amount", as_money(refund.amount_cents, refund.currency)),
            ("Because", refund.failed_because or "not said"),
            *_facts(purchase),
        ],
    )


def partial_refund(user: User, purchase: Purchase, back_cents: int) -> None:
    _to_staff(
        key=f"admin-partial-refund:{purchase.id}:{back_cents}",
        kind="admin_partial_refund",
        subject="A part was refunded: does access stay?",
        heading="A part was refunded",
        paragraphs=(
            "A part of a purchase went back to the customer. Access stays until you say otherwise: "
            f"`sts refunds decide {purchase.id} --end-access` or `--keep-access`.",
        ),
        facts=[("Customer", user.email), ("Gone back", as_money(back_cents, purchase.currency)), *_facts(purchase)],
    )


def dispute_opened(user: User, purchase: Purchase, dispute: Dispute) -> None:
    _to_customer(
        user,
        key=f"dispute-opened:{dispute.id}",
        kind="dispute_opened",
        subject="Your access is suspended while your bank decides",
        heading="Your payment is disputed",
        paragraphs=(
            "Your bank told us that this payment is disputed. Until that is decided your access is suspended. It "
            "comes back by itself if the payment stands.",
            "If you did not mean to dispute it, tell your bank so; that is the fastest way to have access back.",
        ),
        facts=_facts(purchase),
    )
    _staff_hears_of_dispute(user, purchase, dispute, heading="A payment is disputed", word="opened")


def inquiry_opened(user: User, purchase: Purchase, dispute: Dispute) -> None:
    """A bank asks before it takes money: staff answer, and the customer's access stays."""
    _staff_hears_of_dispute(user, purchase, dispute, heading="A bank asks about a payment", word="inquiry")


def dispute_closed(user: User, purchase: Purchase, dispute: Dispute) -> None:
    won = dispute.status == "won"
    _to_customer(
        user,
        key=f"dispute-{dispute.status}:{dispute.id}",
        kind=f"dispute_{dispute.status}",
        subject="Your access is coming back" if won else "Your access has ended",
        heading="The dispute is decided",
        paragraphs=(
            "The payment stands, so your access comes back by itself. Your dashboard shows how far it is."
            if won
            else "Your bank gave you the money back, so the access that it paid for has ended.",
        ),
        facts=_facts(purchase),
    )
    _staff_hears_of_dispute(user, purchase, dispute, heading=f"A dispute was {dispute.status}", word=dispute.status)


def _staff_hears_of_dispute(user: User, purchase: Purchase, dispute: Dispute, *, heading: str, word: str) -> None:
    due = [("Evidence is due by", as_moment(dispute.due_by))] if dispute.due_by else []
    _to_staff(
        key=f"admin-dispute-{word}:{dispute.id}",
        kind="admin_dispute",
        subject=f"{heading}: {as_money(dispute.amount_cents, dispute.currency)}",
        heading=heading,
        paragraphs=(f"`sts disputes show {dispute.id}` shows it, and prepares the evidence.",),
        facts=[
            ("Customer", user.email),
            ("Disputed", as_money(dispute.amount_cents, dispute.currency)),
            ("Reason given", dispute.reason.replace("_", " ")),
            *due,
            *_facts(purchase),
        ],
    )


def evidence_refused(purchase: Purchase, dispute: Dispute) -> None:
    _to_staff(
        key=f"admin-evidence-refused:{dispute.id}:{dispute.evidence_ref}",
        kind="admin_evidence_refused",
        subject="Evidence was not accepted",
        heading="Evidence was not accepted",
        paragraphs=("Stripe did not take the evidence for this dispute. Look at it there while there is time.",),
        facts=[
            ("Dispute", dispute.external_id),
            ("Because", dispute.last_reason or "not said"),
            *([("Due by", as_moment(dispute.due_by))] if dispute.due_by else []),
            *_facts(purchase),
        ],
    )


def renewal_failed(user: User, subscription: Subscription, plan: Plan, until: datetime | None) -> None:
    mark = as_moment(until) if until else ""
    _to_customer(
        user,
        key=f"renewal-failed:{subscription.id}:{subscription.period_end}",
        kind="renewal_failed",
        subject=f"The renewal of your subscription failed: {plan.name}",
        heading="The renewal of your subscription failed",
        paragraphs=(
            "Your bank did not accept the payment for the next period. It is tried again by itself; please see that "
            "your card is valid.",
            f"Your access goes on until {mark}, and rests from then on until the payment arrives."
            if mark
            else "Your access goes on for now.",
        ),
        facts=[("Subscription", plan.name)],
        label="Mend the payment",
    )


def subscription_paused(user: User, subscription: Subscription, plan: Plan, because: str) -> None:
    _to_customer(
        user,
        key=f"subscription-paused:{subscription.id}:{subscription.settled}",
        kind="subscription_paused",
        subject=f"Your access rests: {plan.name}",
        heading="Your access rests",
        paragraphs=(f"Your access rests because {because}. It comes back by itself once the payment arrives.",),
        facts=[("Subscription", plan.name)],
        label="Mend the payment",
    )


def subscription_ended(user: User, subscription: Subscription, plan: Plan, because: str) -> None:
    _to_customer(
        user,
        key=f"subscription-ended:{subscription.id}:{subscription.settled}",
        kind="subscription_ended",
        subject=f"Your subscription has ended: {plan.name}",
        heading="Your subscription has ended",
        paragraphs=(f"It ended because {because}. Nothing more will be charged for it.",),
        facts=[("Subscription", plan.name)],
    )


def subscription_stuck(subscription: Subscription) -> None:
    _to_staff(
        key=f"admin-subscription-stuck:{subscription.id}:{subscription.attempt}",
        kind="admin_subscription_stuck",
        subject="A subscription needs a person",
        heading="A subscription needs a person",
        paragraphs=("Stripe keeps refusing what the store asks about this subscription. Look at it there.",),
        facts=[
            ("Subscription", subscription.external_id),
            ("To be ended because", subscription.cancel_because or "it is not to be ended"),
            ("Last answer", subscription.last_reason or "none"),
        ],
    )


def withdrawal_received(user: User, purchase: Purchase, withdrawal: Withdrawal) -> None:
    """The acknowledgement a customer may keep: what was declared, of what, and when it arrived."""
    facts = [
        ("Declared by", withdrawal.name),
        ("Arrived", as_moment(withdrawal.created_at)),
        ("Account", user.email),
        *_facts(purchase),
    ]
    _to_customer(
        user,
        key=f"withdrawal-received:{withdrawal.id}",
        kind="withdrawal_received",
        subject="We have received your withdrawal",
        heading="We have received your withdrawal",
        paragraphs=(
            "You declared that you withdraw from the purchase below. Please keep this letter: it confirms that your "
            "declaration arrived, and when.",
            "Our staff look at it and answer by letter. If the right of withdrawal applies, you get your money back.",
        ),
        facts=facts,
    )
    _to_staff(
        key=f"admin-withdrawal:{withdrawal.id}",
        kind="admin_withdrawal",
        subject="A customer withdraws from a purchase",
        heading="A customer withdraws from a purchase",
        paragraphs=(
            f"Decide with `sts withdrawals accept {withdrawal.id}` or `refuse`. The law gives you fourteen days to pay "
            "back from the moment it arrived.",
        ),
        facts=facts,
    )


def withdrawal_decided(user: User, purchase: Purchase, withdrawal: Withdrawal) -> None:
    accepted = withdrawal.verdict == "accepted"
    _to_customer(
        user,
        key=f"withdrawal-decided:{withdrawal.id}",
        kind=f"withdrawal_{withdrawal.verdict}",
        subject="Your withdrawal is accepted" if accepted else "About your withdrawal",
        heading="Your withdrawal is accepted" if accepted else "Your withdrawal was not accepted",
        paragraphs=("The money is on its way back; another letter tells you when it was sent.",)
        if accepted
        else ("This is why:", withdrawal.note or ""),
        facts=_facts(purchase),
    )


def checkout_left(user: User, purchase: Purchase, plan: Plan) -> None:
    """The one letter about a checkout that was left, for those who asked for it."""
    _to_customer(
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
        link=address_of("billing.checkout", plan=plan.slug),
    )


def event_stuck(event: WebhookEvent) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-event-stuck:{event.id}:{int(clock.now().timestamp())}:{number}",
            kind="admin_event_stuck",
            to=address,
            subject=f"A payment event needs a person: {event.type}",
            template="billing/letters/event_stuck",
            context={"event": event, "link": address_of("admin.overview")},
        )


def does_not_add_up(comparison_id: int, findings: Sequence[str]) -> None:
    _to_staff(
        key=f"admin-does-not-add-up:{comparison_id}",
        kind="admin_does_not_add_up",
        subject="Our books and Stripe's differ",
        heading="Our books and Stripe's differ",
        paragraphs=("The daily comparison found what it could not put right by itself:", *findings[:20]),
        facts=[("Findings", str(len(findings)))],
    )


def _facts(purchase: Purchase) -> list[tuple[str, str]]:
    return [("Amount", as_money(purchase.amount_cents, purchase.currency)), ("Reference", purchase.ref)]


def _to_customer(
    user: User,
    *,
    key: str,
    kind: str,
    subject: str,
    heading: str,
    paragraphs: Sequence[str],
    facts: Facts,
    label: str = "Open your dashboard",
    link: str = "",
) -> None:
    emails.post(
        key=key,
        kind=kind,
        to=user.email,
        user_id=user.id,
        subject=subject,
        template="billing/letters/note",
        context={
            "heading": heading,
            "paragraphs": paragraphs,
            "facts": facts,
            "label": label,
            "link": link or address_of("pages.dashboard"),
            "to_staff": False,
        },
    )


def _to_staff(*, key: str, kind: str, subject: str, heading: str, paragraphs: Sequence[str], facts: Facts) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"{key}:{number}",
            kind=kind,
            to=address,
            subject=subject,
            template="billing/letters/note",
            context={
                "heading": heading,
                "paragraphs": paragraphs,
                "facts": facts,
                "label": "Open the overview",
                "link": address_of("admin.overview"),
                "to_staff": True,
            },
        )
