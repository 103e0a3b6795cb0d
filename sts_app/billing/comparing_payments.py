"""The half of the comparison that is about money: the provider's payments against the purchases that stand here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from flask import current_app

from sts_app.billing import settling
from sts_app.billing.gateway import ChargedFacts, Payments, Refused
from sts_app.billing.models import Purchase
from sts_app.billing.queries import PAID
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.money import as_money
from sts_app.core.queue import wake

WAS_PAID = (*PAID, PurchaseStatus.REFUNDED)
OUR_REFS = "pur_"
# So many payments are asked for by name in one run; that more are missing is told without asking.
ASKED_FOR = 100
AT_ONCE = 1000


@dataclass(frozen=True)
class Difference:
    """A payment that is not in our books as it is at the provider, and the purchase it names, if that is here."""

    sentence: str
    purchase_id: int | None


@dataclass(frozen=True)
class Paid:
    """A purchase that stands here as paid. Cents."""

    ref: str
    session_id: str | None
    invoice_id: str | None
    amount: int
    currency: str


def differing(payments: Iterable[ChargedFacts]) -> list[Difference]:
    """Every payment that names a purchase of ours, and that this purchase is not paid with, to the cent."""
    told = list(payments)
    by_intent = {each.intent_id: each for each in _purchases(Purchase.intent_id, [each.intent_id for each in told])}
    refs = [each.purchase_ref for each in told if each.purchase_ref is not None and each.intent_id not in by_intent]
    by_ref = {each.ref: each for each in _purchases(Purchase.ref, refs)}
    found = []
    for payment in told:
        purchase = by_intent.get(payment.intent_id) or by_ref.get(payment.purchase_ref or "")
        because = _difference(payment, purchase)
        if because is not None:
            sentence = f"{payment.intent_id} brought {as_money(payment.amount, payment.currency)} for {because}"
            found.append(Difference(sentence, purchase.id if purchase is not None else None))
    return found


def look_up_again(differences: Sequence[Difference]) -> None:
    """Have the payments of these purchases looked up at once."""
    for purchase_id in sorted({each.purchase_id for each in differences if each.purchase_id is not None}):
        purchase = settling.locked(purchase_id)
        if purchase.session_id is not None or purchase.invoice_id is not None:
            purchase.next_look_up_at = clock.now()
            wake("billing.work")


def paid_without(intents: Collection[str], since: datetime, until: datetime) -> list[Paid]:
    """The purchases that were paid between `since` and `until`, though not by any of these payment intents.

    What was free needs no payment.
    """
    rows = db.session.scalars(
        sa.select(Purchase)
        .where(
            Purchase.status.in_(WAS_PAID),
            Purchase.amount_cents > 0,
            Purchase.paid_at >= since,
            Purchase.paid_at < until,
        )
        .order_by(Purchase.id)
    )
    return [
        Paid(row.ref, row.session_id, row.invoice_id, row.amount_cents, row.currency)
        for row in rows
        if row.intent_id not in intents
    ]


def missing(gateway: Payments, purchases: Sequence[Paid]) -> list[str]:
    """A sentence for each purchase whose money the provider does not show when it is asked for by name.

    That it is on no list is not enough: a list begins somewhere, and its payment may have been begun before.
    Raises `TryLater`.
    """
    found = [
        f"{each.ref} stands here with {as_money(each.amount, each.currency)} paid, and Stripe shows no such payment."
        for each in purchases[:ASKED_FOR]
        if not _is_there(gateway, each)
    ]
    if len(purchases) > ASKED_FOR:
        found.append(f"Of {len(purchases) - ASKED_FOR} further paid purchases there is no payment on Stripe's list.")
    return found


def _difference(payment: ChargedFacts, purchase: Purchase | None) -> str | None:
    if purchase is None:
        # Where keys are for tests, other stores may sell on the same account.
        is_lost = current_app.config["STS"].is_production and (payment.purchase_ref or "").startswith(OUR_REFS)
        return f"{payment.purchase_ref}, which is not here." if is_lost else None
    if not PurchaseStatus(purchase.status).was_paid:
        return f"{purchase.ref}, which is not paid here."
    if purchase.intent_id not in (None, payment.intent_id):
        return f"{purchase.ref}, which {purchase.intent_id} had paid for."
    if (purchase.amount_cents, purchase.currency.lower()) != (payment.amount, payment.currency.lower()):
        return f"{purchase.ref}, which stands here with {as_money(purchase.amount_cents, purchase.currency)}."
    return None


def _purchases(
    column: sa.orm.InstrumentedAttribute[str | None] | sa.orm.InstrumentedAttribute[str], values: Sequence[str]
) -> list[Purchase]:
    found: list[Purchase] = []
    for first in range(0, len(values), AT_ONCE):
        found += db.session.scalars(sa.select(Purchase).where(column.in_(values[first : first + AT_ONCE])))
    return found


def _is_there(gateway: Payments, purchase: Paid) -> bool:
    try:
        if purchase.session_id is not None:
            facts = gateway.look_up(purchase.session_id)
        elif purchase.invoice_id is not None:
            facts = gateway.look_up_invoice(purchase.invoice_id)
        else:
            return False
    except Refused:
        return False
    told = (facts.payment, facts.amount_total, facts.currency.lower())
    return told == ("paid", purchase.amount, purchase.currency.lower())
