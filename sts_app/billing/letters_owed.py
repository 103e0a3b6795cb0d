"""What is told of money that its payer has nothing for, or has the same for twice."""

from __future__ import annotations

from collections.abc import Sequence

from sts_app.accounts.models import User
from sts_app.billing import queries
from sts_app.billing.letters_note import facts_of, to_customer, to_staff
from sts_app.billing.models import Purchase
from sts_app.core.money import as_money
from sts_app.core.web import address_of


def paid_after_end(user: User, purchase: Purchase) -> None:
    """Both sides hear of money for a subscription that had been ended before it began."""
    to_customer(
        user,
        key=f"paid-after-end:{purchase.id}",
        kind="paid_after_end",
        heading="Your payment came after your subscription had ended",
        paragraphs=(
            "This payment has arrived after the subscription it was for had been ended. It gives no access, and the "
            "subscription is not charged again.",
            "Our staff have been told to send the money back to the card or account it came from. There is nothing you "
            "need to do. If you do not see it within ten days, answer this letter and quote the reference.",
            "If you still want the subscription, you can begin it anew at any time.",
        ),
        facts=facts_of(purchase),
        label="How we handle refunds",
        link=address_of("pages.refunds"),
    )
    to_staff(
        key=f"admin-paid-after-end:{purchase.id}",
        kind="admin_paid_after_end",
        heading="Money came in for a subscription that had ended",
        paragraphs=(
            "This was paid after its subscription had been ended, most often because the bank had said before that the "
            "first payment failed. The payment is on record and gives no access. The customer was told that the money "
            "goes back.",
            f"Send it back with `sts refunds ask {purchase.ref}`.",
        ),
        facts=facts_of(purchase, by=user),
    )


def held_twice(user: User, purchase: Purchase, others: Sequence[Purchase]) -> None:
    """Staff hear that a purchase stands again whose buyer has paid for `others` meanwhile, once for the same ones."""
    to_staff(
        key=f"admin-held-twice:{purchase.id}:{'-'.join(str(each.id) for each in others)}",
        kind="admin_held_twice",
        heading="A customer has paid for the same again",
        paragraphs=(
            "The money of this purchase is with us after all, so its access stands again. While it was gone, its buyer "
            "paid for the same, or for a part of it, as named below. A subscription among these is ended now, so that "
            "it is not charged again.",
            "The customer was offered nothing. Decide which of the payments goes back, and send back no more than one: "
            "`sts refunds ask REFERENCE`.",
        ),
        facts=[*facts_of(purchase, by=user), *(("Bought meanwhile", _named(each)) for each in others)],
    )


def _named(purchase: Purchase) -> str:
    amount = as_money(purchase.amount_cents, purchase.currency)
    return f"{queries.plan_of(purchase).name}, {amount}, {purchase.ref}"
