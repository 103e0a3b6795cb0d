"""This room's rows about a person: payments and what belongs to them; and the end of what is open when they leave."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sts_app.accounts.privacy import ERASED
from sts_app.audit.models import AuditLog
from sts_app.billing import deletions, queries, services, subscriptions
from sts_app.billing.models import (
    AddressUpdate,
    Consent,
    Dispute,
    Purchase,
    Refund,
    StripeCustomer,
    Subscription,
    WebhookEvent,
    Withdrawal,
)
from sts_app.billing.rules import INQUIRY, OF_MONEY, OPEN, PurchaseStatus, RefundState
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import wake

# Why access rests, in the words of money: no person typed them.
WORDS_OF_MONEY = OF_MONEY
STRUCK = "(erased)"


def wind_down(user_id: int, *, actor: str) -> frozenset[str]:
    """Close what is open about a person's money, and say what an erasure has still to wait for.

    `checkout` is a payment page that is being closed, `subscription` one that is being ended, `refund` money that is
    about to go back, `withdrawal` a declaration without an answer, `dispute` a payment about which a bank decides:
    what speaks for the store is needed until then. Safe to call again and again.
    """
    waits = set()
    for purchase in _locked_open(user_id):
        if purchase.session_id is None:
            # Nobody was shown a page for it.
            services.close_unknown(purchase.id)
        elif not purchase.with_bank:
            waits.add("checkout")
            now = clock.now()
            if purchase.lease_token is None and (purchase.next_look_up_at is None or purchase.next_look_up_at > now):
                # Whoever looks for somebody who left closes the page first.
                purchase.next_look_up_at = now
                wake("billing.work")
    subscriptions.lock_payer(user_id)
    for known in queries.live_subscriptions_of(user_id):
        waits.add("subscription")
        subscription = subscriptions.locked(known.id)
        if subscription.cancel_because is None and subscription.status in subscriptions.LIVE:
            subscriptions.cancel(subscription, because=ERASED, actor=actor)
    if any(each.state == RefundState.INTENDED for each in queries.refunds_of_person(user_id)):
        waits.add("refund")
    if any(each.verdict is None for each in queries.withdrawals_of_person(user_id)):
        waits.add("withdrawal")
    if any(each.status in (*OPEN, *INQUIRY) for each in queries.disputes_of_person(user_id)):
        waits.add("dispute")
    return frozenset(waits)


def delete_customer(user_id: int) -> bool:
    """Have the provider's customer deleted; true once it is gone. Safe to call again and again."""
    return deletions.want(user_id)


def subjects_of(user_id: int) -> list[str]:
    """What audit lines call the rows of a person."""
    return [
        f"{kind}:{number}"
        for kind, model in (("purchase", Purchase), ("subscription", Subscription), ("withdrawal", Withdrawal))
        for number in db.session.scalars(sa.select(model.id).where(model.user_id == user_id))
    ]


def names_of(user_id: int) -> list[str]:
    """What a person called themselves in declarations."""
    names = sa.select(Withdrawal.name).where(Withdrawal.user_id == user_id, Withdrawal.name != "")
    return sorted(db.session.scalars(names.distinct()))


def payments_of(user_id: int) -> int:
    """How many payments of a person are kept, without the person."""
    paid = sa.select(sa.func.count()).where(Purchase.user_id == user_id, Purchase.paid_at.is_not(None))
    return db.session.scalar(paid) or 0


def forget(user_id: int) -> int:
    """Take the person out of their payments, of which amounts, times and the provider's ids stay; how many there were.

    To be called before the locks of the person are taken. Safe to call twice.
    """
    purchases = db.session.scalars(
        sa.select(Purchase)
        .where(Purchase.user_id == user_id)
        .order_by(Purchase.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    ids = [purchase.id for purchase in purchases]
    for purchase in purchases:
        if purchase.checkout_request is not None:
            purchase.checkout_request = purchase.checkout_request | {"customer_email": ""}
        purchase.checkout_url = purchase.last_reason = None
    db.session.flush()
    _set(Refund, Refund.purchase_id.in_(ids), reason=_typed(Refund.reason), last_reason=None)
    _set(Dispute, Dispute.purchase_id.in_(ids), evidence=sa.null(), last_reason=None)
    _set(Withdrawal, Withdrawal.user_id == user_id, name="", address="", note=None)
    _set(Consent, Consent.purchase_id.in_(ids), address="", browser="")
    _forget_customer(user_id)
    _forget_payloads(user_id, purchases)
    return len(ids)


def rows_of_person(user_id: int) -> dict[str, Any]:
    """What billing keeps about a person, ready for JSON, newest purchase first.

    Amounts are in cents, moments ISO 8601 in UTC. Card data is not in it, because none is here.
    """
    customer = db.session.scalar(sa.select(StripeCustomer).where(StripeCustomer.user_id == user_id))
    update = db.session.scalar(sa.select(AddressUpdate).where(AddressUpdate.user_id == user_id))
    purchases = queries.purchases_of(user_id)
    return {
        "at_stripe": {
            "customer": customer.external_id,
            "made_known_with": customer.request,
            "new_address_on_its_way_since": _iso(update.created_at) if update is not None else None,
            "deleted_at": _iso(customer.deleted_at),
        }
        if customer is not None
        else None,
        "purchases": [_purchase(each) for each in purchases],
        "subscriptions": [_subscription(each) for each in queries.subscriptions_of(user_id)],
        "events_of_stripe": [_event(each) for each in _events(user_id, purchases)],
    }


def _locked_open(user_id: int) -> Iterable[Purchase]:
    return db.session.scalars(
        sa.select(Purchase)
        .where(Purchase.user_id == user_id, Purchase.status == PurchaseStatus.PENDING)
        .order_by(Purchase.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def _typed(column: Any) -> sa.ColumnElement[str]:
    return sa.case((column.is_not(None), STRUCK), else_=column)


def _set(model: Any, condition: sa.ColumnElement[bool], **values: Any) -> None:
    statement = sa.update(model).where(condition).values(**values)
    db.session.execute(statement.execution_options(synchronize_session="fetch"))


def _forget_customer(user_id: int) -> None:
    row = db.session.scalar(sa.select(StripeCustomer).where(StripeCustomer.user_id == user_id).with_for_update())
    if row is not None:
        row.request = {"ref": row.ref, "email": "", "name": ""}
        row.last_reason = None
    db.session.execute(sa.delete(AddressUpdate).where(AddressUpdate.user_id == user_id))


def _forget_payloads(user_id: int, purchases: Iterable[Purchase]) -> None:
    """Of events that are handled. One that still is to be loses its payload when it has been."""
    ended = WebhookEvent.handled_at.is_not(None) | WebhookEvent.next_attempt_at.is_(None)
    # `None` would be stored as the word null of JSON.
    _set(WebhookEvent, sa.and_(_about(user_id, purchases), ended), payload=sa.null())


def _events(user_id: int, purchases: Iterable[Purchase]) -> Iterable[WebhookEvent]:
    return db.session.scalars(sa.select(WebhookEvent).where(_about(user_id, purchases)).order_by(WebhookEvent.id))


def _about(user_id: int, purchases: Iterable[Purchase]) -> sa.ColumnElement[bool]:
    """Whether an event is about a person: by what it was found to be about, or by one of the provider's ids."""
    named = {"id": set[Any](), "session_id": set[Any](), "intent_id": set[Any](), "invoice_id": set[Any]()}
    for purchase in purchases:
        for column, found in named.items():
            if (name := getattr(purchase, column)) is not None:
                found.add(name)
    # Who was deleted in the provider's dashboard was another customer before.
    customers = sa.union(
        sa.select(StripeCustomer.external_id).where(StripeCustomer.user_id == user_id),
        sa.select(AuditLog.details["customer"].astext).where(
            AuditLog.subject == f"user:{user_id}", AuditLog.action == "billing.customer_made"
        ),
    )
    begun = sa.select(Subscription.external_id).where(Subscription.user_id == user_id)
    return sa.or_(
        WebhookEvent.purchase_id.in_(named["id"]),
        WebhookEvent.session_id.in_(named["session_id"]),
        WebhookEvent.intent_id.in_(named["intent_id"]),
        WebhookEvent.invoice_id.in_(named["invoice_id"]),
        WebhookEvent.stripe_subscription_id.in_(begun),
        WebhookEvent.customer_id.in_(customers),
    )


def _purchase(purchase: Purchase) -> dict[str, Any]:
    withdrawal = queries.withdrawal_of(purchase.id)
    return {
        "reference": purchase.ref,
        "plan": queries.plan_of(purchase).name,
        "status": purchase.status,
        "amount_cents": purchase.amount_cents,
        "discount_cents": purchase.discount_cents,
        "currency": purchase.currency,
        "refunded_cents": purchase.refunded_cents,
        "ordered_at": purchase.created_at.isoformat(),
        "paid_at": _iso(purchase.paid_at),
        "closed_at": _iso(purchase.closed_at),
        "paid_until": _iso(purchase.period_end),
        "declined_because": purchase.declined_because,
        "asked_of_stripe": purchase.checkout_request,
        "stripe": {
            "checkout": purchase.session_id,
            "payment": purchase.intent_id,
            "invoice": purchase.invoice_id,
        },
        "agreed_to": [
            {
                "at": each.created_at.isoformat(),
                "texts_version": each.texts_version,
                "texts_accepted_at": each.texts_accepted_at.isoformat(),
                "words": each.words,
                "from_address": each.address,
                "with_browser": each.browser,
                "may_remind": each.may_remind,
            }
            for each in queries.consents_of(purchase.id)
        ],
        "refunds": [
            {
                "at": each.created_at.isoformat(),
                "amount_cents": each.amount_cents,
                "currency": each.currency,
                "state": each.state,
                "failed_because": each.failed_because,
                "stripe": each.external_id,
            }
            for each in queries.refunds_of(purchase.id)
        ],
        "disputes": [
            {
                "opened_at": each.opened_at.isoformat(),
                "amount_cents": each.amount_cents,
                "currency": each.currency,
                "status": each.status,
                "reason": each.reason,
                "stripe": each.external_id,
                "handed_to_the_bank": each.evidence,
            }
            for each in queries.disputes_of(purchase.id)
        ],
        "withdrawal": {
            "at": withdrawal.created_at.isoformat(),
            "declared_by": withdrawal.name,
            "from_address": withdrawal.address,
            "verdict": withdrawal.verdict,
            "decided_at": _iso(withdrawal.decided_at),
            "answer": withdrawal.note,
        }
        if withdrawal is not None
        else None,
    }


def _subscription(subscription: Subscription) -> dict[str, Any]:
    return {
        "status": subscription.status,
        "began_at": subscription.started_at.isoformat(),
        "paid_until": _iso(subscription.period_end),
        "ends_at": _iso(subscription.ends_at),
        "ended_at": _iso(subscription.ended_at),
        "stripe": subscription.external_id,
    }


def _event(event: WebhookEvent) -> dict[str, Any]:
    return {
        "id": event.external_id,
        "type": event.type,
        "at": event.occurred_at.isoformat(),
        "state": event.state,
        "content": event.payload,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
