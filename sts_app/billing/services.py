"""The verbs of billing: open a purchase, take an event in, bring a purchase in step with its payment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import cast

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import letters, queries
from sts_app.billing.gateway import Checkout, CheckoutRequest, PaymentFacts, Payments, SignedEvent
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.rules import Decision, Kind, PurchaseStatus, purchase_step
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, NotNow
from sts_app.core.queue import wake
from sts_app.core.web import address_of
from sts_app.provisioning import services as provisioning
from sts_app.settings import PLACEHOLDER_PRICE

log = structlog.get_logger()

CHECKOUT_LASTS = timedelta(hours=23)
# Looked up at these ages, and every six hours from then on for as long as the purchase is open.
LOOK_UPS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 15, 60))
LOOK_UP_EVERY = timedelta(hours=6)
HANDLED_TYPES = frozenset(
    {
        "checkout.session.completed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
        "payment_intent.payment_failed",
        "charge.refunded",
    }
)


class AlreadyOwner(AlreadyDone):
    code = "ALREADY_PURCHASED"
    sentence = "You already own lifetime access. There is nothing more to buy, and nothing was charged."


class SalesClosed(NotNow):
    code = "SALES_CLOSED"
    sentence = "The store is not selling at this moment. Nothing was charged. Please come back a little later."


def payments() -> Payments:
    """The chosen adapter."""
    return cast(Payments, current_app.extensions["sts_payments"])


def open_purchase(user: User, plan: Plan) -> Purchase:
    """The open purchase of this person and plan, made when there is none: a second click finds the first.

    Raises `AlreadyOwner` and `SalesClosed`. Opens no page; see `remember_checkout`.
    """
    if queries.owns(user.id, plan.id):
        raise AlreadyOwner
    if not plan.active or _sells_placeholders(plan):
        raise SalesClosed
    now = clock.now()
    ref = f"pur_{tokens.new_secret()[:24]}"
    request = _request(ref, user, plan)
    made = db.session.scalar(
        insert(Purchase)
        .values(
            ref=ref,
            user_id=user.id,
            plan_id=plan.id,
            status=PurchaseStatus.PENDING,
            amount_cents=plan.price_cents,
            currency=plan.currency,
            checkout_request=_as_json(request),
            checkout_expires_at=request.expires_at,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Purchase.id)
    )
    if made is not None:
        audit.record(f"user:{user.id}", "billing.purchase_opened", f"purchase:{made}", plan=plan.slug)
    purchase = queries.open_purchase_of(user.id, plan.id)
    if purchase is None:
        # Another click opened it and its payment came in between our two statements.
        raise AlreadyOwner
    return purchase


def checkout_request(purchase: Purchase) -> tuple[CheckoutRequest, str]:
    """The stored parameters of the checkout page and the idempotency key they go with."""
    stored = dict(purchase.checkout_request)
    stored["expires_at"] = datetime.fromisoformat(stored["expires_at"])
    return CheckoutRequest(**stored), f"checkout-{purchase.ref}-{purchase.checkout_attempt}"


def remember_checkout(purchase: Purchase, checkout: Checkout) -> None:
    """Note the page that was opened, and begin looking after the purchase without waiting for a webhook."""
    now = clock.now()
    purchase.session_id = checkout.session_id
    purchase.checkout_url = checkout.url
    if purchase.next_look_up_at is None and purchase.status == PurchaseStatus.PENDING:
        purchase.next_look_up_at = next_look_up(purchase, now)
        wake("billing.work", after=purchase.next_look_up_at - now)


def is_out_of_date(purchase: Purchase, plan: Plan) -> bool:
    """True when its page has run out, or was opened for another price than the plan has now."""
    if purchase.checkout_expires_at <= clock.now():
        return True
    request, _ = checkout_request(purchase)
    today = (plan.stripe_price_id or PLACEHOLDER_PRICE, plan.price_cents, plan.currency)
    return today != (request.price_id, request.amount_cents, request.currency)


def ask_anew(purchase: Purchase, user: User, plan: Plan, *, because: str) -> None:
    """The page that was asked for came to nothing. The next click asks as things are today, under a new key.

    Only for a purchase without a page: nobody can pay what nobody was shown.
    """
    db.session.refresh(purchase, with_for_update=True)
    if purchase.session_id is not None:
        return  # another click has opened a page meanwhile
    request = _request(purchase.ref, user, plan)
    purchase.checkout_attempt += 1
    purchase.checkout_request = _as_json(request)
    purchase.checkout_expires_at = request.expires_at
    purchase.amount_cents, purchase.currency = request.amount_cents, request.currency
    audit.record("system", "billing.checkout_given_up", f"purchase:{purchase.id}", because=because)


def close_unknown(purchase_id: int) -> None:
    """The provider does not know this page any more (another account, say): nobody can pay it."""
    purchase = db.session.get_one(Purchase, purchase_id, with_for_update=True, populate_existing=True)
    if purchase.status == PurchaseStatus.PENDING:
        purchase.status, purchase.closed_at, purchase.next_look_up_at = PurchaseStatus.EXPIRED, clock.now(), None
        audit.record("system", "billing.purchase_expired", f"purchase:{purchase.id}", before="PENDING")


def take_in(event: SignedEvent, *, source: str = "stripe") -> bool:
    """Store a verified event if it is new and wake a worker. False for one that stands already."""
    handled = event.type in HANDLED_TYPES
    now = clock.now()
    made = db.session.scalar(
        insert(WebhookEvent)
        .values(
            source=source,
            external_id=event.id,
            type=event.type,
            live=event.live,
            occurred_at=event.created_at,
            payload=event.payload,
            purchase_ref=event.purchase_ref,
            session_id=event.session_id,
            intent_id=event.intent_id,
            state="received" if handled else "ignored",
            next_attempt_at=now if handled else None,
            last_reason=None if handled else "no handler for this type",
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(WebhookEvent.id)
    )
    log.info("billing.event_taken_in", event_id=event.id, type=event.type, new=made is not None)
    if made is not None and handled:
        wake("billing.work")
    return made is not None


def look_soon(purchase: Purchase) -> None:
    """The buyer is back: look the payment up now and not at the next appointed time."""
    now = clock.now()
    if purchase.status == PurchaseStatus.PENDING and purchase.session_id and purchase.next_look_up_at is not None:
        purchase.next_look_up_at = min(purchase.next_look_up_at, now)
        wake("billing.work")


def apply_facts(purchase_id: int, facts: PaymentFacts) -> Decision:
    """Bring a purchase in step with what the provider says of it. The same facts twice change nothing.

    Events and look-ups, early, late and in any order, all end here.
    """
    purchase = db.session.scalars(
        sa.select(Purchase)
        .where(Purchase.id == purchase_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    status = PurchaseStatus(purchase.status)
    decision = purchase_step(status, purchase.ref, purchase.currency, facts)
    if decision.kind is Kind.NONSENSE:
        log.error("billing.nonsense", purchase_id=purchase.id, because=decision.because)
        return decision
    if decision.kind is Kind.CHANGE or purchase.session_id is None:
        # A recovered checkout has a session of its own; the one that was paid is the one that counts.
        purchase.session_id = facts.session_id
    if purchase.session_id == facts.session_id:
        purchase.intent_id = facts.intent_id or purchase.intent_id
    purchase.declined_because = facts.declined_because if decision.status is PurchaseStatus.PENDING else None
    purchase.refunded_cents = max(purchase.refunded_cents, facts.amount_refunded)
    if decision.kind is Kind.CHANGE:
        _change(purchase, status, decision.status, facts)
    if purchase.status != PurchaseStatus.PENDING:
        purchase.next_look_up_at = None
        # A look-up that died on the way, or is still out, has nothing left to bring.
        purchase.lease_token = purchase.leased_until = None
    return decision


def _change(purchase: Purchase, before: PurchaseStatus, after: PurchaseStatus, facts: PaymentFacts) -> None:
    log.info("billing.purchase", purchase_id=purchase.id, before=before.value, after=after.value)
    if after.is_paid and not before.is_paid:
        mark_paid(purchase, facts)
    purchase.status = after
    audit.record("system", f"billing.purchase_{after.value.lower()}", f"purchase:{purchase.id}", before=before.value)
    if after is PurchaseStatus.REFUNDED:
        purchase.closed_at = clock.now()
        provisioning.end_entitlement(_source(purchase), because="the purchase was refunded", actor="system")
    elif after in (PurchaseStatus.FAILED, PurchaseStatus.EXPIRED):
        purchase.closed_at = clock.now()


def mark_paid(purchase: Purchase, facts: PaymentFacts) -> None:
    """The only way to become paid: letters and the reason for access, in the transaction of the payment."""
    user = db.session.get_one(User, purchase.user_id)
    plan = db.session.get_one(Plan, purchase.plan_id)
    purchase.paid_at = clock.now()
    purchase.closed_at = None
    purchase.amount_cents = facts.amount_total
    provisioning.entitle(user.id, plan, source=_source(purchase), paid_at=purchase.paid_at, actor="system")
    letters.purchase_confirmed(user, purchase, plan)
    letters.new_purchase(user, purchase, plan)
    earlier = queries.other_paid_purchase(purchase)
    if earlier is not None:
        audit.record("system", "billing.paid_twice", f"purchase:{purchase.id}", earlier=earlier.id)
        letters.paid_twice(user, purchase, earlier)


def find_purchase(event: WebhookEvent) -> Purchase | None:
    """The purchase an event is about: by the reference we gave, by session, by payment intent."""
    for column, value in (
        (Purchase.ref, event.purchase_ref),
        (Purchase.session_id, event.session_id),
        (Purchase.intent_id, event.intent_id),
    ):
        if value is not None:
            found = db.session.scalar(sa.select(Purchase).where(column == value))
            if found is not None:
                return found
    return None


def next_look_up(purchase: Purchase, now: datetime) -> datetime:
    """When an open purchase is looked up next, by its age: looking more often changes nothing of it."""
    settings = current_app.config["STS"]
    appointed: Iterator[datetime] = (purchase.created_at + settings.scaled(age) for age in LOOK_UPS)
    afterwards: datetime = now + settings.scaled(LOOK_UP_EVERY)
    return next((at for at in appointed if at > now), afterwards)


def _sells_placeholders(plan: Plan) -> bool:
    """Scripts that TradingView does not know must not be sold where TradingView is the real one."""
    settings = current_app.config["STS"]
    if not settings.reaches_tradingview:
        return False
    return any(strategy.has_placeholder_script for strategy in catalog.covered_strategies(plan))


def _request(ref: str, user: User, plan: Plan) -> CheckoutRequest:
    return CheckoutRequest(
        purchase_ref=ref,
        price_id=plan.stripe_price_id or PLACEHOLDER_PRICE,
        product_name=plan.name,
        amount_cents=plan.price_cents,
        currency=plan.currency,
        customer_email=user.email,
        success_url=address_of("pages.dashboard") + "?success=true&session_id={CHECKOUT_SESSION_ID}",
        cancel_url=address_of("pages.pricing") + "?canceled=true",
        expires_at=(clock.now() + CHECKOUT_LASTS).replace(microsecond=0),
    )


def _source(purchase: Purchase) -> str:
    return f"purchase:{purchase.id}"


def _as_json(request: CheckoutRequest) -> dict[str, object]:
    return asdict(request) | {"expires_at": request.expires_at.isoformat()}
