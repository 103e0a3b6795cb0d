"""The letters about money that goes back, or that somebody wants back: refunds, disputes, withdrawals."""

from __future__ import annotations

from sts_app.accounts.models import User
from sts_app.billing.letters_note import facts_of, to_customer, to_staff
from sts_app.billing.models import Dispute, Purchase, Refund, Withdrawal
from sts_app.billing.rules import ANSWERABLE
from sts_app.core.money import as_moment, as_money


def refunded(user: User, purchase: Purchase, refund: Refund) -> None:
    is_full = refund.amount_cents == purchase.amount_cents
    to_customer(
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
        facts=[("Refunded", as_money(refund.amount_cents, refund.currency)), *facts_of(purchase)],
    )


def refund_failed(user: User, purchase: Purchase, refund: Refund) -> None:
    to_customer(
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
        facts=[("Amount", as_money(refund.amount_cents, refund.currency)), *facts_of(purchase)],
    )
    to_staff(
        key=f"admin-refund-failed:{refund.id}",
        kind="admin_refund_failed",
        subject="A refund came back",
        heading="A refund came back",
        paragraphs=(
            "The customer's bank did not take the money. It needs another way, and the customer waits for it.",
        ),
        facts=[("Customer", user.email), ("Because", refund.failed_because or "not said"), *facts_of(purchase)],
    )


def refund_refused(purchase: Purchase, refund: Refund) -> None:
    to_staff(
        key=f"admin-refund-refused:{refund.id}",
        kind="admin_refund_refused",
        subject="A refund was refused",
        heading="A refund was refused",
        paragraphs=("Stripe did not accept this refund, and no money has moved. Look at the payment there.",),
        facts=[
            ("Asked by", refund.asked_by),
            ("Amount", as_money(refund.amount_cents, refund.currency)),
            ("Because", refund.failed_because or "not said"),
            *facts_of(purchase),
        ],
    )


def partial_refund(user: User, purchase: Purchase, back_cents: int) -> None:
    to_staff(
        key=f"admin-partial-refund:{purchase.id}:{back_cents}",
        kind="admin_partial_refund",
        subject="A part was refunded: does access stay?",
        heading="A part was refunded",
        paragraphs=(
            "A part of a purchase went back to the customer. Access stays until you say otherwise: "
            f"`sts refunds decide {purchase.id} --end-access` or `--keep-access`.",
        ),
        facts=[("Customer", user.email), ("Gone back", as_money(back_cents, purchase.currency)), *facts_of(purchase)],
    )


def dispute_opened(user: User, purchase: Purchase, dispute: Dispute) -> None:
    to_customer(
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
        facts=facts_of(purchase),
    )
    _staff_hears_of_dispute(user, purchase, dispute, heading="A payment is disputed", word="opened")


def inquiry_opened(user: User, purchase: Purchase, dispute: Dispute) -> None:
    """A bank asks before it takes money: staff answer, and the customer's access stays."""
    _staff_hears_of_dispute(user, purchase, dispute, heading="A bank asks about a payment", word="inquiry")


def dispute_closed(user: User, purchase: Purchase, dispute: Dispute) -> None:
    won = dispute.status == "won"
    to_customer(
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
        facts=facts_of(purchase),
    )
    _staff_hears_of_dispute(user, purchase, dispute, heading=f"A dispute was {dispute.status}", word=dispute.status)


def evidence_refused(purchase: Purchase, dispute: Dispute) -> None:
    to_staff(
        key=f"admin-evidence-refused:{dispute.id}:{dispute.evidence_ref}",
        kind="admin_evidence_refused",
        subject="Evidence was not accepted",
        heading="Evidence was not accepted",
        paragraphs=("Stripe did not take the evidence for this dispute. Look at it there while there is time.",),
        facts=[
            ("Dispute", dispute.external_id),
            ("Because", dispute.last_reason or "not said"),
            *([("Due by", as_moment(dispute.due_by))] if dispute.due_by else []),
            *facts_of(purchase),
        ],
    )


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
        subject="We have received your withdrawal",
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
    to_customer(
        user,
        key=f"withdrawal-decided:{withdrawal.id}",
        kind=f"withdrawal_{withdrawal.verdict}",
        subject="Your withdrawal is accepted" if accepted else "About your withdrawal",
        heading="Your withdrawal is accepted" if accepted else "Your withdrawal was not accepted",
        paragraphs=("The money is on its way back; another letter tells you when it was sent.",)
        if accepted
        else ("This is why:", withdrawal.note or ""),
        facts=facts_of(purchase),
    )


def _staff_hears_of_dispute(user: User, purchase: Purchase, dispute: Dispute, *, heading: str, word: str) -> None:
    asks = dispute.status in ANSWERABLE
    due = [("Evidence is due by", as_moment(dispute.due_by))] if asks and dispute.due_by else []
    to_staff(
        key=f"admin-dispute-{word}:{dispute.id}",
        kind="admin_dispute",
        subject=f"{heading}: {as_money(dispute.amount_cents, dispute.currency)}",
        heading=heading,
        paragraphs=(
            f"`sts disputes show {dispute.id}` shows it, `sts disputes evidence {dispute.id}` what speaks for us, and "
            f"`sts disputes submit {dispute.id}` answers the bank."
            if asks
            else f"`sts disputes show {dispute.id}` shows it.",
        ),
        facts=[
            ("Customer", user.email),
            ("Disputed", as_money(dispute.amount_cents, dispute.currency)),
            ("Reason given", dispute.reason.replace("_", " ")),
            *due,
            *facts_of(purchase),
        ],
    )
