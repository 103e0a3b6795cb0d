"""What staff are told of a purchase that is not paid: what it waits for, and what happens next."""

from __future__ import annotations

from dataclasses import dataclass

from sts_app.billing import queries
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.core.money import as_moment, as_money


@dataclass(frozen=True)
class Unpaid:
    """One open purchase. `words` says what it waits for; `is_with_bank` that its buyer has done their part."""

    purchase: str
    plan: str
    words: str
    next: str
    is_with_bank: bool


def unpaid_of(user_id: int) -> tuple[Unpaid, ...]:
    """The open purchases of a person, newest first: they give no access before their payment has arrived."""
    return tuple(
        _told(each, queries.plan_of(each).slug)
        for each in queries.purchases_of(user_id)
        if each.status == PurchaseStatus.PENDING
    )


def _told(purchase: Purchase, plan: str) -> Unpaid:
    amount = as_money(purchase.amount_cents, purchase.currency)
    begun = f"{amount}, begun on {as_moment(purchase.created_at)}, "
    if purchase.with_bank:
        words = begun + "waits for the bank, which has neither confirmed nor declined it"
        told = "Stripe tells us what the bank decides, which takes some banks days."
    elif purchase.session_id is None:
        words = begun + "has no payment page at Stripe yet"
        told = "The buyer gets the page by pressing the button at the checkout again."
    elif purchase.declined_because is not None:
        words = begun + f"is open at Stripe and not paid; the last try was declined ({purchase.declined_because})"
        told = f"The buyer tries again from the dashboard{_until(purchase)}."
    else:
        words = begun + "is open at Stripe and not paid"
        told = f"The buyer pays on Stripe's page{_until(purchase)}."
    if purchase.next_look_up_at is not None:
        told += f" We ask Stripe by ourselves on {as_moment(purchase.next_look_up_at)}."
    told += " Access follows by itself once the payment has arrived."
    return Unpaid(f"purchase:{purchase.id}", plan, words, told, purchase.with_bank)


def _until(purchase: Purchase) -> str:
    at = purchase.checkout_expires_at
    return f", or the page runs out on {as_moment(at)} and nothing is charged" if at is not None else ""
