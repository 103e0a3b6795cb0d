"""The letters about money that went back, or that somebody wants back: refunds, disputes, withdrawals.

What they say of access comes from what the person holds (`Held`), because one payment alone does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from sts_app.accounts.models import User
from sts_app.billing.held import Held
from sts_app.billing.letters_note import facts_of, to_customer, to_staff
from sts_app.billing.models import Dispute, Purchase, Refund, Subscription, Withdrawal
from sts_app.billing.rules import ANSWERABLE, Access, SubscriptionState
from sts_app.billing.words import money_back_in_words
from sts_app.core import clock
from sts_app.core.money import as_moment, as_money
from sts_app.core.web import address_of


def refunded(user: User, purchase: Purchase, refund: Refund, held: Held) -> None:
    amount = as_money(refund.amount_cents, refund.currency)
    to_customer(
        user,
        key=f"refunded:{refund.id}",
        kind="refund_notice",
        subject=f"Refund: {amount}",
        heading="Your refund is on its way",
        paragraphs=(
            "The money goes back to the card or account it came from. Banks take five to ten days, some longer.",
            held.in_words(Access(purchase.access)),
        ),
        facts=[("Refunded", amount), *facts_of(purchase)],
    )


def paid_after_closing(user: User, purchase: Purchase) -> None:
    """To whoever can still be reached: their account had closed when the money came in."""
    to_customer(
        user,
        key=f"paid-after-closing:{purchase.id}",
        kind="paid_after_closing",
        heading="Your payment came after your account had closed",
        paragraphs=(
            "You asked for your account to be erased, and this payment came after it had closed. It gives no access.",
            "Our staff have been told to send the money back to the card or account it came from. There is nothing you "
            "need to do. If you do not see it within ten days, answer this letter and quote the reference.",
        ),
        facts=facts_of(purchase),
        label="How we handle refunds",
        link=address_of("pages.refunds"),
    )


def refund_failed(user: User, purchase: Purchase, refund: Refund, held: Held, *, ended: Subscription | None) -> None:
    """`ended` is the subscription that the purchase paid for, if that does not go on: Stripe begins none again."""
    amount = ("Refund", as_money(refund.amount_cents, refund.currency))
    access = held.in_words(Access(purchase.access))
    paragraphs = ["The customer's bank did not take the money. It needs another way, and the customer waits for it."]
    if ended is not None:
        # Until its end has come, what it gives still looks as if it stood.
        otherwise = f" {access}" if ended.state == SubscriptionState.ENDED and held.is_all else ""
        access = f"Your subscription has been ended all the same, and is not charged again.{otherwise}"
        paragraphs.append(
            "The subscription was ended meanwhile, and Stripe does not begin it again. If the customer is to go on, "
            "the subscription must be begun anew, by a new checkout."
        )
    to_customer(
        user,
        key=f"refund-failed:{refund.id}",
        kind="refund_failed",
        heading="Your refund did not arrive",
        paragraphs=(
            "The bank sent the money back to us: the card or account may be closed. It is not lost. Our staff have "
            "been told and will find another way; please answer this letter if you know one.",
            access,
        ),
        facts=[amount, *facts_of(purchase)],
    )
    to_staff(
        key=f"admin-refund-failed:{refund.id}",
        kind="admin_refund_failed",
        heading="A refund came back",
        paragraphs=paragraphs,
        facts=[
            amount,
            ("Because", refund.failed_because or "not said"),
            *([("Subscription", ended.external_id)] if ended is not None else []),
            *facts_of(purchase, by=user),
        ],
    )


def partial_refund(user: User, purchase: Purchase, back_cents: int) -> None:
    decide = f"sts refunds decide {purchase.id}"
    to_staff(
        key=f"admin-partial-refund:{purchase.id}:{back_cents}",
        kind="admin_partial_refund",
        subject="A part was refunded: does access stay?",
        heading="A part went back",
        paragraphs=(
            "A part of a purchase went back to the customer, by a refund or by the bank. Nothing changes for access "
            f'until you decide: `{decide} --keep-access --reason "WHY"` or `{decide} --end-access --reason "WHY"`.',
        ),
        facts=[("Gone back", as_money(back_cents, purchase.currency)), *facts_of(purchase, by=user)],
    )


def part_decided(user: User, purchase: Purchase, held: Held) -> None:
    """Staff said what a part that went back means for access, and that changed it."""
    ends = purchase.access == Access.ENDED
    to_customer(
        user,
        key=f"access-{'revoked' if ends else 'restored'}:{purchase.id}:{int(clock.now().timestamp())}",
        kind="access_revoked" if ends else "access_restored",
        heading="About your access",
        paragraphs=(
            "A part of what you paid went back to you, and our staff have decided what that means for your access.",
            held.in_words(Access(purchase.access)),
        ),
        facts=[*facts_of(purchase), ("Gone back", as_money(purchase.partial_verdict_cents or 0, purchase.currency))],
    )


def dispute_opened(user: User, purchase: Purchase, dispute: Dispute, held: Held) -> None:
    subject = "Your access is suspended while your bank decides" if held.rests else "Your payment is disputed"
    to_customer(
        user,
        key=f"dispute-opened:{dispute.id}",
        kind="dispute_opened",
        subject=subject,
        heading="Your payment is disputed",
        paragraphs=(
            f"Your bank told us that this payment is disputed. {held.in_words(Access(purchase.access))}",
            "If you did not mean to dispute it, please tell your bank so; that is the fastest way to settle it.",
        ),
        facts=facts_of(purchase),
    )
    _staff_hears_of_dispute(user, purchase, dispute, heading="A payment is disputed", word="opened")


def inquiry_opened(user: User, purchase: Purchase, dispute: Dispute) -> None:
    """A bank asks before it takes money: staff answer, and the customer's access stays."""
    _staff_hears_of_dispute(user, purchase, dispute, heading="A bank asks about a payment", word="inquiry")


def dispute_closed(user: User, purchase: Purchase, dispute: Dispute, held: Held) -> None:
    amount = as_money(dispute.amount_cents, dispute.currency)
    won = dispute.status == "won"
    to_customer(
        user,
        key=f"dispute-{dispute.status}:{dispute.id}",
        kind=f"dispute_{dispute.status}",
        heading="The dispute is decided",
        paragraphs=(
            f"Your bank decided that we keep the {amount} which were disputed."
            if won
            else f"Your bank decided in your favour, and gave you {amount} back.",
            held.in_words(Access(purchase.access)),
        ),
        facts=facts_of(purchase),
    )
    _staff_hears_of_dispute(user, purchase, dispute, heading=f"A dispute was {dispute.status}", word=dispute.status)


def withdrawal_received(user: User, purchase: Purchase, withdrawal: Withdrawal) -> None:
    """The acknowledgement a customer may keep: what was declared, of what, and when it arrived."""
    facts = [
        ("Declared by", withdrawal.name),
        ("Arrived", as_moment(withdrawal.created_at)),
        ("Account", user.email),
        *facts_of(purchase),
    ]
    to_customer(
        user,
        key=f"withdrawal-received:{withdrawal.id}",
        kind="withdrawal_received",
        heading="We have received your withdrawal",
        paragraphs=(
            "You declared that you withdraw from the purchase below. Please keep this letter: it confirms that your "
            "declaration arrived, and when.",
            "Our staff look at it and answer by letter. If the right of withdrawal applies, you get your money back.",
        ),
        facts=facts,
    )
    to_staff(
        key=f"admin-withdrawal:{withdrawal.id}",
        kind="admin_withdrawal",
        heading="A customer withdraws from a purchase",
        paragraphs=(
            f"Decide with `sts withdrawals accept {withdrawal.id}` or "
            f'`sts withdrawals refuse {withdrawal.id} --reason "WHY"`; the customer reads why. The law gives you '
            "fourteen days to pay back from the moment it arrived.",
        ),
        facts=facts,
        about=[user.id],
    )


def withdrawal_accepted(
    user: User, purchase: Purchase, withdrawal: Withdrawal, refunds: Sequence[Refund], disputes: Sequence[Dispute]
) -> None:
    """All that is left goes back; `refunds` and `disputes` of the purchase say which of it has gone before."""
    to_customer(
        user,
        key=f"withdrawal-decided:{withdrawal.id}",
        kind="withdrawal_accepted",
        heading="Your withdrawal is accepted",
        paragraphs=money_back_in_words(refunds, disputes),
        facts=facts_of(purchase),
    )


def withdrawal_refused(user: User, purchase: Purchase, withdrawal: Withdrawal) -> None:
    to_customer(
        user,
        key=f"withdrawal-decided:{withdrawal.id}",
        kind="withdrawal_refused",
        subject="About your withdrawal",
        heading="Your withdrawal was not accepted",
        paragraphs=("This is why:", withdrawal.note or ""),
        facts=facts_of(purchase),
    )


def _staff_hears_of_dispute(user: User, purchase: Purchase, dispute: Dispute, *, heading: str, word: str) -> None:
    asks = dispute.status in ANSWERABLE
    amount = as_money(dispute.amount_cents, dispute.currency)
    due = [("Evidence is due by", as_moment(dispute.due_by))] if asks and dispute.due_by else []
    to_staff(
        key=f"admin-dispute-{word}:{dispute.id}",
        kind="admin_dispute",
        subject=f"{heading}: {amount}",
        heading=heading,
        paragraphs=(
            f"`sts disputes show {dispute.id}` shows it, `sts disputes evidence {dispute.id}` what speaks for us, and "
            f"`sts disputes submit {dispute.id}` answers the bank."
            if asks
            else f"`sts disputes show {dispute.id}` shows it.",
        ),
        facts=[
            ("Disputed", amount),
            ("Reason given", dispute.reason.replace("_", " ")),
            *due,
            *facts_of(purchase, by=user),
        ],
    )
