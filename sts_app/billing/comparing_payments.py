"""The half of the comparison that is about money: the provider's payments against the purchases that stand here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from flask import current_app

from sts_app.billing import settling
from sts_app.billing.gateway import ChargedFacts, Payments, Refused
from sts_app.billing.models import Dispute, Purchase, Refund
from sts_app.billing.queries import GONE_BACK, PAID, TAKEN
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
class Away:
    """Cents that came in for a purchase and are not with the store: given back, and taken by banks."""

    refunded: int = 0
    withheld: int = 0


@dataclass(frozen=True)
class Paid:
    """A purchase that stands here as paid. Cents."""

    ref: str
    session_id: str | None
    invoice_id: str | None
    amount: int
    currency: str


def differing(payments: Iterable[ChargedFacts]) -> list[Difference]:
    """Every payment that names a purchase of ours, and that does not stand here to the cent.

    It is compared in what came in, in what went back, and in what banks have taken.
    """
    told = list(payments)
    by_intent = {each.intent_id: each for each in _purchases(Purchase.intent_id, [each.intent_id for each in told])}
    refs = [each.purchase_ref for each in told if each.purchase_ref is not None and each.intent_id not in by_intent]
    by_ref = {each.ref: each for each in _purchases(Purchase.ref, refs)}
    away = _away_of([each.id for each in (*by_intent.values(), *by_ref.values())])
    found = []
    for payment in told:
        purchase = by_intent.get(payment.intent_id) or by_ref.get(payment.purchase_ref or "")
        because = _difference(payment, purchase, away.get(purchase.id, Away()) if purchase is not None else Away())
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


def _difference(payment: ChargedFacts, purchase: Purchase | None, away: Away) -> str | None:
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
    for there, here, deed in (
        (payment.refunded, away.refunded, "went back"),
        (payment.withheld, away.withheld, "were taken by banks"),
    ):
        if there != here:
            said = [as_money(cents, payment.currency) for cents in (there, here)]
            return f"{purchase.ref}, of which {said[0]} {deed} at Stripe and {said[1]} here."
    return None


def _purchases(
    column: sa.orm.InstrumentedAttribute[str | None] | sa.orm.InstrumentedAttribute[str], values: Sequence[str]
) -> list[Purchase]:
    found: list[Purchase] = []
    for first in range(0, len(values), AT_ONCE):
        found += db.session.scalars(sa.select(Purchase).where(column.in_(values[first : first + AT_ONCE])))
    return found


def _away_of(purchase_ids: Sequence[int]) -> dict[int, Away]:
    """What is away of each of these purchases, by its id."""
    back: dict[int, int] = {}
    taken: dict[int, int] = {}
    for first in range(0, len(purchase_ids), AT_ONCE):
        ids = purchase_ids[first : first + AT_ONCE]
        its_refunds = sa.select(Refund.purchase_id, sa.func.sum(Refund.amount_cents)).where(GONE_BACK)
        its_disputes = sa.select(Dispute.purchase_id, sa.func.sum(Dispute.amount_cents)).where(TAKEN)
        its_refunds = its_refunds.where(Refund.purchase_id.in_(ids)).group_by(Refund.purchase_id)
        its_disputes = its_disputes.where(Dispute.purchase_id.in_(ids)).group_by(Dispute.purchase_id)
        back |= {purchase_id: int(cents) for purchase_id, cents in db.session.execute(its_refunds)}
        taken |= {purchase_id: int(cents) for purchase_id, cents in db.session.execute(its_disputes)}
    return {each: Away(back.get(each, 0), taken.get(each, 0)) for each in purchase_ids}


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
