"""A customer's declaration to withdraw from a purchase: taken in as it is made, and decided by people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import letters_money, queries, refunds, settling, subscriptions
from sts_app.billing.models import Dispute, Purchase, Withdrawal
from sts_app.billing.rules import OPEN, PurchaseStatus
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere, Refusal

# Directive 2011/83/EU, article 9. A declaration that comes later is kept as well.
LAW_GIVES = timedelta(days=14)
ACCEPTED, REFUSED = "accepted", "refused"


class NothingToWithdraw(Refusal):
    status = 409
    code = "NOTHING_TO_WITHDRAW"
    title = "There is nothing to withdraw from"
    sentence = "No money of this purchase is with us, so there is nothing to withdraw from."


class Decided(AlreadyDone):
    code = "WITHDRAWAL_DECIDED"
    sentence = "This withdrawal is decided already, and the customer has been told."


def is_open_to(purchase: Purchase, disputes: Sequence[Dispute] | None = None) -> bool:
    """Whether a purchase can be withdrawn from: money came in, and not all of it went back or was lost to a bank.

    `disputes` are those of the purchase, looked up when they are not given.
    """
    if not PurchaseStatus(purchase.status).is_paid:
        return False
    known = queries.disputes_of(purchase.id) if disputes is None else disputes
    lost = sum(dispute.amount_cents for dispute in known if dispute.status == "lost")
    return purchase.amount_cents > purchase.refunded_cents + lost


def runs_until(purchase: Purchase) -> datetime | None:
    """The end of the days that the law gives; None for a purchase that was not paid."""
    return purchase.paid_at + LAW_GIVES if purchase.paid_at is not None else None


def declare(user: User, purchase_id: int, *, name: str, address: str) -> Withdrawal:
    """Take in the declaration of `name` to withdraw from this person's own purchase. A second press finds the first.

    `address` is where it came from. It is kept when the law's days are over, too, because people decide.
    Raises `NotThere` for somebody else's purchase, `FixInput` without a name, and `NothingToWithdraw` for
    one of which no money is left.
    """
    purchase = settling.find_locked(purchase_id)
    if purchase is None or purchase.user_id != user.id:
        raise NotThere(cause=f"purchase:{purchase_id}")
    earlier = queries.withdrawal_of(purchase.id)
    if earlier is not None:
        return earlier
    if not name.strip():
        raise FixInput("Please write your name: it says who withdraws.")
    if not is_open_to(purchase):
        raise NothingToWithdraw(cause=f"purchase:{purchase.id} is {purchase.status}")
    made = db.session.scalar(
        insert(Withdrawal)
        .values(purchase_id=purchase.id, user_id=user.id, name=name.strip(), address=address, created_at=clock.now())
        .on_conflict_do_nothing()
        .returning(Withdrawal.id)
    )
    withdrawal = db.session.scalars(sa.select(Withdrawal).where(Withdrawal.purchase_id == purchase.id)).one()
    if made is not None:
        audit.record(f"user:{user.id}", "billing.withdrawal_declared", f"purchase:{purchase.id}", withdrawal=made)
        letters_money.withdrawal_received(user, purchase, withdrawal)
    return withdrawal


def accept(withdrawal_id: int, actor: str) -> Withdrawal:
    """Give back all that is left of the purchase, and end its subscription, if it has one.

    Money that is on its way already is fine. Raises `NotThere`, `Decided`, and the `CannotRefund` of
    `refunds.ask` while a bank decides about the money.
    """
    purchase, withdrawal = undecided(withdrawal_id)
    disputes = queries.disputes_of(purchase.id)
    if to_give_back(purchase):
        refunds.ask(purchase.id, reason=f"withdrawal:{withdrawal.id}", actor=actor)
    if purchase.subscription_id is not None:
        _end_subscription(purchase.subscription_id, actor)
    _decide(purchase, withdrawal, ACCEPTED, note=None, actor=actor)
    letters_money.withdrawal_accepted(
        db.session.get_one(User, purchase.user_id), purchase, withdrawal, queries.refunds_of(purchase.id), disputes
    )
    return withdrawal


def to_give_back(purchase: Purchase) -> int:
    """The cents that go back when a withdrawal is accepted. Raises `CannotRefund` while a bank decides about them."""
    is_disputed = any(dispute.status in OPEN for dispute in queries.disputes_of(purchase.id))
    return refunds.check(purchase) if is_disputed or refunds.left_of(purchase) else 0


def refuse(withdrawal_id: int, *, because: str, actor: str) -> Withdrawal:
    """Refuse a withdrawal; the customer reads `because`. Raises `NotThere`, `Decided`, and `FixInput` without it."""
    purchase, withdrawal = undecided(withdrawal_id)
    if not because.strip():
        raise FixInput("A refusal needs a reason: the customer reads it.")
    _decide(purchase, withdrawal, REFUSED, note=because.strip(), actor=actor)
    letters_money.withdrawal_refused(db.session.get_one(User, purchase.user_id), purchase, withdrawal)
    return withdrawal


def undecided(withdrawal_id: int) -> tuple[Purchase, Withdrawal]:
    """Both rows, locked, the purchase first. Raises `NotThere`, and `Decided` for one that was decided."""
    purchase_id = db.session.scalar(sa.select(Withdrawal.purchase_id).where(Withdrawal.id == withdrawal_id))
    if purchase_id is None:
        raise NotThere("There is no withdrawal with this number.", cause=f"withdrawal:{withdrawal_id}")
    purchase = settling.locked(purchase_id)
    withdrawal = db.session.get_one(Withdrawal, withdrawal_id, with_for_update=True, populate_existing=True)
    if withdrawal.verdict is not None:
        raise Decided(cause=f"withdrawal:{withdrawal_id} is {withdrawal.verdict}")
    return purchase, withdrawal


def _decide(purchase: Purchase, withdrawal: Withdrawal, verdict: str, *, note: str | None, actor: str) -> None:
    withdrawal.verdict, withdrawal.note = verdict, note
    withdrawal.decided_at, withdrawal.decided_by = clock.now(), actor
    audit.record(actor, f"billing.withdrawal_{verdict}", f"purchase:{purchase.id}", withdrawal=withdrawal.id)
    db.session.flush()


def _end_subscription(subscription_id: int, actor: str) -> None:
    """Who withdrew is not charged again."""
    subscription = subscriptions.locked(subscription_id)
    if subscription.status in subscriptions.LIVE and subscription.cancel_because is None:
        subscriptions.cancel(subscription, because="it was withdrawn from", actor=actor)
