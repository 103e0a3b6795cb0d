"""Bring a purchase in step with what the provider says of its payment.

Events and look-ups, refunds of ours and of others, early, late and in any order, all end in `apply_facts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts import privacy
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import covered, letters_owed, queries, reasons, subscriptions, telling
from sts_app.billing.gateway import DisputeFacts, PaymentFacts, RefundFacts
from sts_app.billing.models import Dispute, Purchase, Refund
from sts_app.billing.rules import (
    Access,
    Back,
    Decision,
    Disputed,
    Kind,
    Money,
    PurchaseStatus,
    Standing,
    Verdict,
    purchase_step,
    standing_of,
)
from sts_app.billing.telling import Change
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.provisioning import queries as provisioning_queries
from sts_app.provisioning import services as provisioning

log = structlog.get_logger()

STRIPE = "stripe"


def locked(purchase_id: int) -> Purchase:
    """The purchase with its turn taken: the first lock of whoever changes one."""
    # Without its key: who holds the payer's turn may name it as paid twice, while its own turn waits for the payer's.
    return db.session.get_one(Purchase, purchase_id, with_for_update={"key_share": True}, populate_existing=True)


def find_locked(purchase_id: int) -> Purchase | None:
    """The same of a number that somebody gave; None where there is none."""
    return db.session.get(Purchase, purchase_id, with_for_update={"key_share": True}, populate_existing=True)


def apply_facts(purchase_id: int, facts: PaymentFacts) -> Decision:
    """Bring a purchase in step with what the provider says of it. The same facts twice change nothing."""
    return settle(purchase_id, facts)[0]


def settle(purchase_id: int, facts: PaymentFacts) -> tuple[Decision, Purchase]:
    """The same, and the purchase that the facts turned out to be about.

    A second payment under one reference, as of a checkout that was recovered twice, is a purchase of its
    own: no cent is without a row.
    """
    purchase = locked(purchase_id)
    if _is_another_payment(purchase, facts):
        purchase = _second_payment(purchase, facts)
    told_ref = facts.purchase_ref if facts.purchase_ref in _refs_of(purchase) else purchase.ref
    refunds, disputes = queries.refunds_of(purchase.id), queries.disputes_of(purchase.id)
    known = known_money(purchase, refunds, disputes)
    decision = purchase_step(known, facts, ref=told_ref, currency=purchase.currency, verdict=verdict_of(purchase))
    if decision.kind is Kind.NONSENSE:
        log.error("billing.nonsense", purchase_id=purchase.id, because=decision.because)
        return decision, purchase
    _note_facts(purchase, facts, decision)
    changes = _keep(purchase, refunds, disputes, facts.refunds, facts.disputes, decision.money)
    _follow(purchase, known, decision.money, decision.standing, changes)
    if purchase.status != PurchaseStatus.PENDING:
        purchase.next_look_up_at = None
        # A look-up that died on the way, or is still out, has nothing left to bring.
        purchase.lease_token = purchase.leased_until = None
    return decision, purchase


def left_behind(*, limit: int = 100) -> list[int]:
    """Ids of paid purchases whose access nobody has reckoned: code from before it did not."""
    statement = sa.select(Purchase.id).where(
        Purchase.access == Access.NONE,
        Purchase.status.in_((PurchaseStatus.COMPLETED, PurchaseStatus.PARTIALLY_REFUNDED, PurchaseStatus.REFUNDED)),
    )
    return list(db.session.scalars(statement.order_by(Purchase.id).limit(limit)))


def reckon(purchase_id: int) -> None:
    """Reckon the access of one that was left behind."""
    reckon_again(locked(purchase_id))


def apply_refund(purchase: Purchase, told: RefundFacts) -> None:
    """Note what came of one refund that the store asked for. The purchase is locked by the caller."""
    _apply_part(purchase, refunds=(told,))


def apply_dispute(purchase: Purchase, told: DisputeFacts) -> bool:
    """Note how one dispute stands; false when that was known. The purchase is locked by the caller."""
    return _apply_part(purchase, disputes=(told,))


def reckon_again(purchase: Purchase) -> Standing:
    """Put into effect what staff said to a part that went back. The purchase is locked by the caller."""
    money = known_money(purchase, queries.refunds_of(purchase.id), queries.disputes_of(purchase.id))
    standing = standing_of(money, verdict=verdict_of(purchase))
    _follow(purchase, money, money, standing)
    return standing


def known_money(purchase: Purchase, refunds: Sequence[Refund], disputes: Sequence[Dispute]) -> Money:
    """What our rows say of one payment."""
    status = PurchaseStatus(purchase.status)
    return Money(
        paid=status.was_paid,
        unpaid=PurchaseStatus.PENDING if status.was_paid else status,
        total=purchase.amount_cents if status.was_paid else 0,
        refunds={
            row.external_id: Back(row.amount_cents, row.state)  # type: ignore[arg-type]  # Stripe's once it has an id
            for row in refunds
            if row.external_id is not None
        },
        disputes={
            row.external_id: Disputed(row.amount_cents, row.status)  # type: ignore[arg-type]  # Stripe's words
            for row in disputes
        },
    )


def _apply_part(
    purchase: Purchase, *, refunds: tuple[RefundFacts, ...] = (), disputes: tuple[DisputeFacts, ...] = ()
) -> bool:
    rows, dispute_rows = queries.refunds_of(purchase.id), queries.disputes_of(purchase.id)
    known = known_money(purchase, rows, dispute_rows)
    facts = PaymentFacts(
        session_id=None,
        purchase_ref=None,
        session="open",
        payment="unpaid",
        amount_total=0,
        currency=purchase.currency,
        refunds=refunds,
        disputes=disputes,
    )
    decision = purchase_step(known, facts, ref=purchase.ref, currency=purchase.currency, verdict=verdict_of(purchase))
    changes = _keep(purchase, rows, dispute_rows, refunds, disputes, decision.money)
    _follow(purchase, known, decision.money, decision.standing, changes)
    return decision.kind is Kind.CHANGE


def verdict_of(purchase: Purchase) -> Verdict | None:
    """What staff said to a part that went back, if they said anything."""
    if purchase.partial_verdict is None:
        return None
    return Verdict(purchase.partial_verdict == "keep", purchase.partial_verdict_cents or 0)


def _is_another_payment(purchase: Purchase, facts: PaymentFacts) -> bool:
    """Whether these facts are of a checkout that was paid beside the one that paid for the purchase already."""
    was_paid = PurchaseStatus(purchase.status).was_paid
    differs = facts.intent_id != purchase.intent_id and facts.session_id != purchase.session_id
    return was_paid and facts.session_id is not None and facts.payment == "paid" and differs


def _refs_of(purchase: Purchase) -> set[str]:
    """The references under which the provider may tell of this payment.

    A second payment has that of the first, and a renewal that of the payment which began its subscription.
    """
    known = {purchase.ref, purchase.told_ref}
    if purchase.subscription_id is not None:
        began = sa.select(Purchase).where(
            Purchase.subscription_id == purchase.subscription_id, Purchase.session_id.is_not(None)
        )
        known.update(ref for each in db.session.scalars(began) for ref in (each.ref, each.told_ref))
    return {ref for ref in known if ref is not None}


def _second_payment(first: Purchase, facts: PaymentFacts) -> Purchase:
    """The purchase row of a payment that came in beside the one that counts."""
    db.session.execute(
        insert(Purchase)
        .values(
            ref=f"pur_{tokens.new_secret()[:24]}",
            user_id=first.user_id,
            plan_id=first.plan_id,
            # Paid in the same transaction; never open, because the person may have an open purchase.
            status=PurchaseStatus.EXPIRED,
            access=Access.NONE,
            amount_cents=facts.amount_total,
            currency=first.currency,
            session_id=facts.session_id,
            intent_id=facts.intent_id,
            told_ref=first.told_ref or first.ref,
            duplicate_of_id=first.id,
            refunded_cents=0,
            checkout_attempt=1,
            look_ups=0,
            created_at=clock.now(),
        )
        .on_conflict_do_nothing()
    )
    return db.session.scalars(
        sa.select(Purchase)
        .where(Purchase.session_id == facts.session_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()


def _note_facts(purchase: Purchase, facts: PaymentFacts, decision: Decision) -> None:
    was_paid = PurchaseStatus(purchase.status).was_paid
    if facts.session_id and (purchase.session_id is None or (not was_paid and decision.kind is Kind.CHANGE)):
        # A recovered checkout has a session of its own; the one that was paid is the one that counts.
        purchase.session_id = facts.session_id
    is_its_own = purchase.session_id == facts.session_id if facts.session_id else purchase.session_id is None
    if is_its_own:
        purchase.intent_id = facts.intent_id or purchase.intent_id
        purchase.invoice_id = facts.invoice_id or purchase.invoice_id
    is_open = decision.status is PurchaseStatus.PENDING
    purchase.declined_because = facts.declined_because if is_open else None
    purchase.with_bank = is_open and facts.session == "complete"
    if facts.payment != "unpaid" and not was_paid:
        purchase.amount_cents, purchase.discount_cents = facts.amount_total, facts.amount_discount
    if facts.subscription_id is not None and purchase.subscription_id is None:
        purchase.subscription_id = subscriptions.expect(facts.subscription_id, purchase).id


def _keep(
    purchase: Purchase,
    refunds: Sequence[Refund],
    disputes: Sequence[Dispute],
    told_refunds: Iterable[RefundFacts],
    told_disputes: Iterable[DisputeFacts],
    money: Money,
) -> list[Change]:
    """Write each refund and each dispute down as it is known now. What changed is told when access has followed."""
    changes: list[Change | None] = []
    by_id = {row.external_id: row for row in refunds if row.external_id is not None}
    by_ref = {row.ref: row for row in refunds if row.ref is not None}
    for told in told_refunds:
        row = by_id.get(told.id) or (by_ref.get(told.ref) if told.ref else None)
        changes.append(_keep_refund(purchase, row, told, money.refunds[told.id]))
    known = {row.external_id: row for row in disputes}
    for about in told_disputes:
        changes.append(_keep_dispute(purchase, known.get(about.id), about, money.disputes[about.id]))
    purchase.refunded_cents = money.refunded
    db.session.flush()
    return [change for change in changes if change is not None]


def _keep_refund(purchase: Purchase, row: Refund | None, told: RefundFacts, now_known: Back) -> Change | None:
    before = row.state if row is not None else None
    if row is None:
        row = Refund(
            purchase_id=purchase.id,
            amount_cents=told.amount,
            currency=told.currency,
            asked_by=STRIPE,
            created_at=told.created_at,
        )
        db.session.add(row)
    row.external_id, row.state, row.amount_cents = told.id, now_known.status, now_known.cents
    row.failed_because = told.failed_because or row.failed_because
    row.next_attempt_at = row.lease_token = row.leased_until = None
    db.session.flush()
    if row.state == before:
        return None
    audit.record("system", f"billing.refund_{row.state}", f"purchase:{purchase.id}", cents=row.amount_cents)
    return Change(row, before)


def _keep_dispute(purchase: Purchase, row: Dispute | None, told: DisputeFacts, now_known: Disputed) -> Change | None:
    before = row.status if row is not None else None
    if row is None:
        row = Dispute(
            purchase_id=purchase.id,
            external_id=told.id,
            amount_cents=now_known.cents,
            currency=told.currency,
            status=now_known.status,
            reason=told.reason,
            opened_at=told.opened_at,
        )
        db.session.add(row)
    row.status, row.amount_cents = now_known.status, now_known.cents
    row.due_by = told.due_by or row.due_by
    row.submissions = max(row.submissions or 0, told.submissions)
    db.session.flush()
    if row.status == before:
        return None
    audit.record("system", f"billing.dispute_{row.status}", f"purchase:{purchase.id}", dispute=row.external_id)
    return Change(row, before)


def _follow(purchase: Purchase, known: Money, money: Money, standing: Standing, changes: Sequence[Change] = ()) -> None:
    """Let status, access and entitlement follow the money, and then tell who has to hear of it."""
    before, access_before = PurchaseStatus(purchase.status), Access(purchase.access)
    because_before = standing_of(known, verdict=verdict_of(purchase)).because
    is_bought, earlier = False, None
    if standing.status is not before:
        log.info("billing.purchase", purchase_id=purchase.id, before=before.value, after=standing.status.value)
        if standing.status.was_paid and not before.was_paid:
            purchase.paid_at = clock.now()
        # Of money that was on its way back when it was first heard of, nothing has come until it stays after all.
        is_bought = standing.status.is_paid and not (before.was_paid and _has_entitled(purchase))
        if is_bought:
            earlier = mark_paid(purchase)
        purchase.status = standing.status
        word = standing.status.value.lower()
        audit.record("system", f"billing.purchase_{word}", f"purchase:{purchase.id}", before=before.value)
        purchase.closed_at = (
            None if standing.status.is_paid or standing.status is PurchaseStatus.PENDING else clock.now()
        )
    purchase.access = standing.access
    back = money.refunded + money.lost
    if not back:
        # What staff said was said of money that was away: of what goes next, they are asked anew.
        purchase.partial_verdict = purchase.partial_verdict_cents = None
    db.session.flush()
    if purchase.subscription_id is not None:
        subscriptions.follow(purchase.subscription_id)
    elif (standing.access, standing.because) != (access_before, because_before):
        if standing.access is Access.STANDS and access_before is not Access.NONE and not is_bought:
            _stand_again(purchase)
        _entitle(purchase, standing)
    if is_bought and not before.was_paid and earlier is None and _came_too_late(purchase):
        letters_owed.paid_after_end(db.session.get_one(User, purchase.user_id), purchase)
    elif is_bought:
        telling.bought(purchase, earlier)
    telling.changed(purchase, changes)
    if standing.asks_staff and back != known.refunded + known.lost:
        telling.part_went_back(purchase, back)


def _stand_again(purchase: Purchase) -> None:
    """What is held for good once more ends what it replaces, and staff hear of what was paid for meanwhile.

    Nothing is offered to the customer: of whose money went out and came back, staff find another way to send it.
    """
    subscriptions.lock_payer(purchase.user_id)
    meanwhile = covered.bought_while_away(purchase)
    subscriptions.replace_by(purchase, queries.plan_of(purchase), because="what you bought for good stands again")
    if meanwhile:
        letters_owed.held_twice(db.session.get_one(User, purchase.user_id), purchase, meanwhile)


def _came_too_late(purchase: Purchase) -> bool:
    """Whether money came for a subscription that ends, or has ended, without ever having begun."""
    if purchase.subscription_id is None or privacy.is_closed(purchase.user_id):
        return False
    return subscriptions.is_over(purchase.subscription_id)


def _entitle(purchase: Purchase, standing: Standing) -> None:
    source = source_of(purchase)
    match standing.access:
        case Access.STANDS:
            reasons.let_stand(source, because="the money is with the store again")
        case Access.SUSPENDED:
            reasons.let_rest(source, because=standing.because)
        case Access.ENDED:
            reasons.let_end(source, because=standing.because)


def mark_paid(purchase: Purchase) -> Purchase | None:
    """The only way to become paid: the reason for access, in the transaction of the payment.

    Returns the earlier payment that gave the same already.
    """
    plan = db.session.get_one(Plan, purchase.plan_id)
    subscriptions.lock_payer(purchase.user_id)
    if purchase.subscription_id is not None or plan.mode == Mode.SUBSCRIPTION:
        return _flag(purchase, subscriptions.refuse_second(purchase))
    paid_at = purchase.paid_at or clock.now()
    # Subscriptions first: their rows are locked before plans and people are.
    subscriptions.replace_by(purchase, plan)
    provisioning.entitle(purchase.user_id, plan, source=source_of(purchase), paid_at=paid_at, actor="system")
    return _flag(purchase, covered.earlier_payment(purchase))


def _has_entitled(purchase: Purchase) -> bool:
    source = source_of(purchase)
    if purchase.subscription_id is not None:
        source = subscriptions.source_of(purchase.subscription_id)
    return provisioning_queries.entitlement_from(source) is not None


def _flag(purchase: Purchase, earlier: Purchase | None) -> Purchase | None:
    """Offer the money back of what was paid for a second time."""
    if earlier is not None:
        purchase.duplicate_of_id = earlier.id
        audit.record("system", "billing.paid_twice", f"purchase:{purchase.id}", earlier=earlier.id)
    return earlier


def source_of(purchase: Purchase) -> str:
    """The name under which provisioning knows this purchase as a reason for access."""
    return f"purchase:{purchase.id}"
