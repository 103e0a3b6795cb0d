"""The verbs of billing: open a purchase and its page, take an event in, look at a payment soon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import cast

import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts import privacy
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import covered, late, queries
from sts_app.billing.gateway import Checkout, CheckoutRequest, Payments, SignedEvent
from sts_app.billing.models import Consent, Purchase, WebhookEvent
from sts_app.billing.offers import words_for
from sts_app.billing.rules import EventState, PurchaseStatus
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, NotNow
from sts_app.core.queue import wake
from sts_app.core.web import address_of
from sts_app.settings import PLACEHOLDER_PRICE

log = structlog.get_logger()

CHECKOUT_LASTS = timedelta(hours=23)
# Looked up at these ages, and every six hours from then on for as long as the purchase is open.
LOOK_UPS = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 5, 15, 60))
LOOK_UP_EVERY = timedelta(hours=6)
# Types by what they are about; whatever the event says, the whole facts of that are fetched.
ABOUT_PAYMENTS = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "charge.refunded",
    "charge.refund.",
    "charge.dispute.",
    "refund.",
)
ABOUT_SUBSCRIPTIONS = ("customer.subscription.", "invoice.")
ABOUT_CUSTOMERS = ("customer.created", "customer.updated", "customer.deleted")
ABOUT_PRICES = ("product.", "price.")
_OF_A_REQUEST = frozenset(field.name for field in fields(CheckoutRequest))


def is_about(kind: str, families: tuple[str, ...]) -> bool:
    """Whether an event's type is one of `families`; a word that ends with a point stands for all that begin so."""
    return any(kind == each or (each.endswith(".") and kind.startswith(each)) for each in families)


def is_handled(kind: str) -> bool:
    """Whether the store acts on events of this type. All others are stored and marked ignored."""
    return is_about(kind, ABOUT_PAYMENTS + ABOUT_SUBSCRIPTIONS + ABOUT_CUSTOMERS + ABOUT_PRICES)


@dataclass(frozen=True)
class Agreed:
    """What a buyer agrees to with the button: the texts, the sentences beside it, from where, with what."""

    texts_version: str
    texts_accepted_at: datetime
    words: tuple[str, ...]
    address: str
    browser: str
    may_remind: bool = False


class AlreadyOwner(AlreadyDone):
    code = "ALREADY_PURCHASED"
    sentence = "You have this already. There is nothing more to buy, and nothing was charged."


class SalesClosed(NotNow):
    code = "SALES_CLOSED"
    sentence = "The store is not selling at this moment. Nothing was charged. Please come back a little later."


def payments() -> Payments:
    """The chosen adapter."""
    return cast(Payments, current_app.extensions["sts_payments"])


def open_purchase(user: User, plan: Plan, *, customer_id: str, agreed: Agreed) -> Purchase:
    """The open purchase of this person and plan, made when there is none: a second click finds the first.

    What the buyer agreed to is kept with it. Raises `AlreadyOwner`, `SalesClosed`, and `Leaving` for who has asked to
    be erased. Opens no page; see `remember_checkout`.
    """
    refusal = covered.refusal_of(user.id, plan)
    if refusal is not None:
        raise AlreadyOwner(refusal)
    if not plan.active or _sells_placeholders(plan):
        raise SalesClosed
    now = clock.now()
    ref = f"pur_{tokens.new_secret()[:24]}"
    request = _request(ref, user, plan, customer_id)
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
    _keep_consent(purchase, agreed)
    # The person's lock comes last, as everywhere.
    privacy.refuse_leaving(user.id)
    return purchase


def _keep_consent(purchase: Purchase, agreed: Agreed) -> None:
    """Every time the button is pressed with other words, or another answer about letters, is kept beside the first."""
    latest = queries.latest_consent(purchase.id)
    said = (agreed.texts_version, list(agreed.words), agreed.may_remind)
    if latest is not None and said == (latest.texts_version, latest.words, latest.may_remind):
        return
    db.session.add(
        Consent(
            purchase_id=purchase.id,
            texts_version=agreed.texts_version,
            texts_accepted_at=agreed.texts_accepted_at,
            words=list(agreed.words),
            address=agreed.address,
            browser=agreed.browser[:300],
            may_remind=agreed.may_remind,
        )
    )
    db.session.flush()


def checkout_request(purchase: Purchase) -> tuple[CheckoutRequest, str]:
    """The stored parameters of the checkout page and the idempotency key they go with.

    Code older or newer than this may have stored them during a deploy: what it left out has its default, and
    what is not known here is left out.
    """
    known = {name: value for name, value in (purchase.checkout_request or {}).items() if name in _OF_A_REQUEST}
    known["expires_at"] = datetime.fromisoformat(known["expires_at"])
    # Before people were known at the provider their pages were opened for nobody, which is out of date.
    request = CheckoutRequest(**{"customer_id": ""} | known)
    return request, f"checkout-{purchase.ref}-{purchase.checkout_attempt}"


def remember_checkout(purchase: Purchase, checkout: Checkout) -> None:
    """Note the page that was opened, and begin looking after the purchase without waiting for a webhook."""
    now = clock.now()
    purchase.session_id = checkout.session_id
    purchase.checkout_url = checkout.url
    if purchase.next_look_up_at is None and purchase.status == PurchaseStatus.PENDING:
        purchase.next_look_up_at = next_look_up(purchase, now)
        wake("billing.work", after=purchase.next_look_up_at - now)


def is_out_of_date(purchase: Purchase, plan: Plan, *, customer_id: str) -> bool:
    """True when its page has run out, or was opened for another price or another customer than today's."""
    if purchase.checkout_expires_at is None or purchase.checkout_expires_at <= clock.now():
        return True
    request, _ = checkout_request(purchase)
    today = (plan.stripe_price_id or PLACEHOLDER_PRICE, plan.price_cents, plan.currency, customer_id)
    return today != (request.price_id, request.amount_cents, request.currency, request.customer_id)


def page_to_go_on_with(user: User, plan: Plan, *, customer_id: str | None) -> str | None:
    """The open payment page of this person and plan, if everything that was agreed to for it stands as it did.

    None without such a page, and where the next press is to agree to something else.
    """
    purchase = queries.open_purchase_of(user.id, plan.id)
    if purchase is None or customer_id is None or is_out_of_date(purchase, plan, customer_id=customer_id):
        return None
    consent = queries.latest_consent(purchase.id)
    if consent is None or (consent.texts_version, tuple(consent.words)) != (
        user.texts_version,
        words_for(user.id, plan),
    ):
        return None
    return purchase.checkout_url


def ask_anew(purchase: Purchase, user: User, plan: Plan, *, customer_id: str, because: str) -> None:
    """The page that was asked for came to nothing. The next click asks as things are today, under a new key.

    Only for a purchase without a page: nobody can pay what nobody was shown.
    """
    db.session.refresh(purchase, with_for_update={"key_share": True})
    if purchase.session_id is not None:
        return  # another click has opened a page meanwhile
    request = _request(purchase.ref, user, plan, customer_id)
    purchase.checkout_attempt += 1
    purchase.checkout_request = _as_json(request)
    purchase.checkout_expires_at = request.expires_at
    purchase.amount_cents, purchase.currency = request.amount_cents, request.currency
    audit.record("system", "billing.checkout_given_up", f"purchase:{purchase.id}", because=because)


def close_unknown(purchase_id: int) -> None:
    """The provider does not know this page any more (another account, say): nobody can pay it."""
    purchase = db.session.get_one(Purchase, purchase_id, with_for_update={"key_share": True}, populate_existing=True)
    if purchase.status == PurchaseStatus.PENDING:
        purchase.status, purchase.closed_at, purchase.next_look_up_at = PurchaseStatus.EXPIRED, clock.now(), None
        audit.record("system", "billing.purchase_expired", f"purchase:{purchase.id}", before="PENDING")


def take_in(event: SignedEvent, *, source: str = "stripe", fetched: bool = False) -> bool:
    """Store a verified event if it is new and wake a worker. False for one that stands already.

    `fetched` marks one that did not come by itself.
    """
    handled = is_handled(event.type)
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
            invoice_id=event.invoice_id,
            stripe_subscription_id=event.subscription_id,
            customer_id=event.customer_id,
            fetched=fetched,
            state=EventState.RECEIVED if handled else EventState.IGNORED,
            next_attempt_at=now if handled else None,
            last_reason=None if handled else "no handler for this type",
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(WebhookEvent.id)
    )
    if made is not None and not handled:
        late.drop_payload(db.session.get_one(WebhookEvent, made))
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


def _request(ref: str, user: User, plan: Plan, customer_id: str) -> CheckoutRequest:
    return CheckoutRequest(
        purchase_ref=ref,
        price_id=plan.stripe_price_id or PLACEHOLDER_PRICE,
        product_name=plan.name,
        amount_cents=plan.price_cents,
        currency=plan.currency,
        customer_id=customer_id,
        customer_email=user.email,
        mode="subscription" if plan.mode == Mode.SUBSCRIPTION else "payment",
        success_url=address_of("pages.dashboard") + "?success=true&session_id={CHECKOUT_SESSION_ID}",
        cancel_url=address_of("pages.pricing") + "?canceled=true",
        expires_at=(clock.now() + CHECKOUT_LASTS).replace(microsecond=0),
    )


def _as_json(request: CheckoutRequest) -> dict[str, object]:
    return asdict(request) | {"expires_at": request.expires_at.isoformat()}
