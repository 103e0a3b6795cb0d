"""Checkout, and the address where signed events come in."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta

import structlog
from flask import Blueprint, current_app, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf import FlaskForm

from sts_app.accounts import privacy
from sts_app.accounts.models import TEXTS_VERSION
from sts_app.billing import covered, customers, offers, services, settling
from sts_app.billing.gateway import BadSignature, NoSuchCustomer, PaymentsError, Refused, TryLater
from sts_app.billing.models import Purchase
from sts_app.billing.offers import Offer
from sts_app.billing.services import payments
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.db import checkpoint
from sts_app.core.errors import Act, NotNow, NotThere, Refusal, SlowDown
from sts_app.core.security import limiter, visitor_address, who_asks
from sts_app.core.web import see_other, toast
from sts_app.provisioning import control, names
from sts_app.provisioning import queries as provisioning_queries
from sts_app.provisioning.rules import NameOutcome

log = structlog.get_logger()

bp = Blueprint("billing", __name__)
webhooks = Blueprint("webhooks", __name__)


# A name that TradingView could not be asked about now: nobody pays for access that may go to a wrong name.
NAME_NOT_CHECKED = {
    NameOutcome.BUSY: (
        "Many names are being checked at this moment, so yours has to wait a little. Nothing was charged. "
        "Please try again in a minute."
    ),
    NameOutcome.SLOW: (
        "TradingView took too long to answer, so your TradingView name could not be checked. Nothing was charged. "
        "Please try again."
    ),
    NameOutcome.DOWN: (
        "TradingView cannot be asked at this moment, so your TradingView name could not be checked. Nothing was "
        "charged. Please try again in a few minutes."
    ),
}


class NameUnknown(Refusal):
    code = "USERNAME_NOT_VERIFIED"
    title = "Your TradingView name needs another look"


class OfferChanged(Exception):
    """What was pressed is not what is offered now."""


class SalesPaused(NotNow):
    code = "SALES_PAUSED"
    title = "Sales are paused"
    sentence = (
        "Sales are paused at the moment, because access could not be given as fast as we promise. Nothing was "
        "charged. Those who hold access keep it. Please come back a little later."
    )


@bp.get("/checkout")
def checkout() -> ResponseReturnValue:
    """What is about to be bought, once more, before the payment page."""
    plan = _plan()
    on_the_way = _on_the_way(plan)
    if on_the_way is not None:
        return on_the_way
    return _last_look(plan)


@bp.post("/checkout")
@limiter.limit("10 per 10 seconds", key_func=who_asks)
def checkout_post() -> ResponseReturnValue:
    """Open the purchase, then the payment page; a second click finds the first one's page.

    A press on a page that offers something else than today buys nothing: the page comes again, with a 409.
    """
    plan = _plan()
    on_the_way = _on_the_way(plan)
    if on_the_way is not None:
        return on_the_way
    shown = offers.read(request.values)
    if shown is None:
        # The button stood on a page without the words that are agreed to.
        page = services.page_to_go_on_with(current_user, plan, customer_id=customers.of(current_user))
        return see_other(page or _here(plan))
    try:
        return _pay(plan, shown)
    except OfferChanged:
        return _last_look(plan, shown), 409


def _last_look(plan: Plan, shown: Offer | None = None) -> str:
    """The page before paying. `shown` is what another page offered whose button was pressed."""
    words = offers.words_for(current_user.id, plan)
    offer = offers.offer_of(plan, words)
    return render_template(
        "billing/checkout.html",
        plan=plan,
        name=provisioning_queries.current_name(current_user.id),
        words=words,
        runs_beside=covered.running_beside(current_user.id, plan),
        fields={"plan": plan.slug} | offer.fields,
        changed=offers.change_in_words(shown, offer) if shown is not None else None,
        may_remind=_may_remind(),
        form=FlaskForm(),
    )


def _pay(plan: Plan, shown: Offer) -> ResponseReturnValue:
    """From the button to the payment page. Raises `OfferChanged` and what the neighbours' bad days make of it."""
    _check_offer(plan, shown)
    _check_name_again(shown)
    for last_try in (False, True):
        purchase = _open_purchase(plan, shown)
        if purchase.checkout_url is not None:
            return see_other(purchase.checkout_url)
        wanted, key = services.checkout_request(purchase)
        # The intent stands before the vendor hears of it, so no crash can leave a page without a purchase.
        checkpoint()
        try:
            opened = payments().open_checkout(wanted, key=key)
        except NoSuchCustomer as trouble:
            # Deleted in Stripe's dashboard: the person is made known anew, and asked for once more.
            customers.forget(wanted.customer_id)
            checkpoint()
            if last_try:
                raise _not_opened(purchase, trouble, shown) from None
        except TryLater as trouble:
            if trouble.answered:
                services.ask_anew(purchase, current_user, plan, customer_id=wanted.customer_id, because=trouble.reason)
                checkpoint()
            raise _does_not_open(trouble, shown) from None
        except Refused as trouble:
            services.ask_anew(purchase, current_user, plan, customer_id=wanted.customer_id, because=trouble.reason)
            checkpoint()
            raise _not_opened(purchase, trouble, shown) from None
        else:
            services.remember_checkout(purchase, opened)
            _close_for_who_left(purchase)
            return see_other(opened.url)
    raise AssertionError("the second try answers or raises")


def _close_for_who_left(purchase: Purchase) -> None:
    """Shut the page again if its buyer asked to be erased while it was being opened. Raises `Leaving`."""
    session_id = purchase.session_id
    checkpoint()
    try:
        privacy.refuse_leaving(current_user.id)
    except privacy.Leaving:
        # Whatever comes of it is looked up by the worker as well.
        with suppress(PaymentsError):
            payments().close_checkout(session_id or "")
        raise


def _plan() -> Plan:
    """The plan that is asked for, the lifetime plan when none is. Raises `NotThere` for one that is not on sale."""
    slug = request.values.get("plan", "")
    if not slug:
        return catalog.lifetime_plan()
    plan = catalog.plan_named(slug)
    if not plan.active:
        raise NotThere(cause=f"plan:{slug} is not on sale")
    return plan


def _does_not_open(trouble: PaymentsError, shown: Offer) -> NotNow:
    return NotNow(
        "The payment page does not open at this moment. Nothing was charged. Please try again in a minute.",
        cause=trouble.reason,
        retry_after=60,
        act=_once_more(shown),
    )


def _not_opened(purchase: Purchase, trouble: Refused, shown: Offer) -> NotNow:
    log.error("billing.checkout_refused", purchase_id=purchase.id, reason=trouble.reason)
    return NotNow(
        "The payment page could not be opened. Nothing was charged, and we have been told. Please try again a little "
        "later.",
        cause=trouble.reason,
        act=_once_more(shown),
    )


def _open_purchase(plan: Plan, shown: Offer) -> Purchase:
    """The open purchase of this visitor, for the customer they are at the provider, at the price that was shown."""
    customer_id = _customer_id(shown)
    purchase = services.open_purchase(current_user, plan, customer_id=customer_id, agreed=_agreed(plan, shown))
    if services.is_out_of_date(purchase, plan, customer_id=customer_id):
        return _renew(purchase, plan, shown, customer_id)
    return purchase


def _customer_id(shown: Offer) -> str:
    """Who this visitor is at the provider, made known when they are not yet. Raises `NotNow`."""
    known = customers.of(current_user)
    if known is not None:
        return known
    wanted = customers.want(current_user)
    checkpoint()
    try:
        made = wanted.make(payments())
    except PaymentsError as trouble:
        if isinstance(trouble, TryLater):
            customers.failed(wanted.user_id, trouble)
            checkpoint()
        raise _does_not_open(trouble, shown) from None
    customers.remember(wanted.user_id, made)
    checkpoint()
    return made


def _check_offer(plan: Plan, shown: Offer) -> None:
    """Nobody agrees to what did not stand on their page. Raises `OfferChanged`."""
    if shown != offers.offer_of(plan, offers.words_for(current_user.id, plan)):
        raise OfferChanged


def _agreed(plan: Plan, shown: Offer) -> services.Agreed:
    """What this visitor agrees to by pressing the button: exactly what stood beside it. Raises `OfferChanged`.

    To be asked for again after each checkpoint: the plan may have been changed since the one before.
    """
    _check_offer(plan, shown)
    return services.Agreed(
        texts_version=current_user.texts_version or TEXTS_VERSION,
        texts_accepted_at=current_user.texts_accepted_at or clock.now(),
        words=offers.words_for(current_user.id, plan),
        address=visitor_address(),
        browser=request.headers.get("User-Agent", ""),
        may_remind=_may_remind(),
    )


def _may_remind() -> bool:
    return request.form.get("may_remind") == "yes"


@webhooks.post("/api/webhooks/stripe")
@webhooks.post("/webhooks/stripe", endpoint="stripe_alias")
def stripe() -> ResponseReturnValue:
    """A doorbell: verify over the raw body, take in, commit, wake, answer. Work happens elsewhere."""
    if not current_app.config["STS"].stripe_webhook_secrets:
        raise NotThere
    try:
        event = payments().read_event(request.get_data(), request.headers.get("Stripe-Signature"))
    except BadSignature as refusal:
        return _bad_signature(refusal.reason)
    services.take_in(event)
    return {"received": True}


@limiter.limit("20 per minute")
def _bad_signature(reason: str) -> ResponseReturnValue:
    """Limited by address; a rightly signed event is never limited, because that would lose it."""
    log.warning("billing.bad_signature", reason=reason)
    raise Refusal("The signature of this event is missing or wrong.", cause=reason)


def _on_the_way(plan: Plan) -> ResponseReturnValue | None:
    """Where a buyer must go first: sign-in, onboarding, or the dashboard of who owns it or is paying for it.

    Raises `SalesPaused`, before anybody signs in or fills a form in vain.
    """
    refusal = covered.refusal_of(current_user.id, plan) if current_user.is_authenticated else None
    if refusal is not None:
        toast(refusal, "info")
        return see_other("pages.dashboard")
    if current_user.is_authenticated and current_user.leaving_at is not None:
        raise privacy.leaving(current_user.id)
    if control.standing().sales_closed:
        raise SalesPaused(retry_after=600)
    if not current_user.is_authenticated:
        return see_other("accounts.sign_in", next=_here(plan))
    name = provisioning_queries.current_name(current_user.id)
    if name is None or current_user.texts_version != TEXTS_VERSION:
        return see_other("provisioning.onboarding", next=_here(plan))
    return None


def _here(plan: Plan) -> str:
    """The way back to this purchase."""
    return url_for("billing.checkout", plan=None if plan.slug == catalog.lifetime_plan().slug else plan.slug)


def _check_name_again(shown: Offer) -> None:
    """A wrong name is caught before the money moves, by what TradingView said of it within a day or says now.

    One that was verified before is trusted when TradingView is slow or away, and one that nobody can check
    is accepted as unverified where people do the work. Raises `NameUnknown`, `SlowDown` and `NotNow`.
    """
    name = provisioning_queries.current_name(current_user.id)
    assert name is not None
    spelling, was_verified = name.spelling, name.verified_at is not None
    checkpoint()
    check = names.check(spelling)
    match check.outcome:
        case NameOutcome.VALID:
            names.set_name(current_user, check.spelling or spelling, verified=True)
            # Ends the hold on the person before the purchase is opened: a payment takes them the other way round.
            checkpoint()
        case NameOutcome.UNKNOWN:
            raise NameUnknown(
                f"TradingView does not know the name {spelling}, so nothing was charged. Please compare it, letter by "
                f"letter, with the one on your TradingView profile. {' '.join(check.warnings)}".rstrip(),
                act=Act("Correct the name", url_for("provisioning.onboarding", next=_asked_for("billing.checkout"))),
            )
        case NameOutcome.BUSY:
            raise SlowDown(NAME_NOT_CHECKED[check.outcome], retry_after=_seconds(check.wait), act=_once_more(shown))
        case NameOutcome.SLOW | NameOutcome.DOWN if not was_verified:
            raise NotNow(NAME_NOT_CHECKED[check.outcome], retry_after=_seconds(check.wait), act=_once_more(shown))


def _once_more(shown: Offer) -> Act:
    """The same press again: it agrees to what stood on the page, and to nothing that changed since."""
    values = shown.fields | ({"may_remind": "yes"} if _may_remind() else {})
    return Act("Try again", _asked_for("billing.checkout_post"), post=True, values=values)


def _asked_for(endpoint: str) -> str:
    """The address at which the same plan is asked for again."""
    return url_for(endpoint, plan=request.values.get("plan") or None)


def _seconds(wait: timedelta) -> int:
    return math.ceil(wait.total_seconds())


def _renew(purchase: Purchase, plan: Plan, shown: Offer, customer_id: str) -> Purchase:
    """The stored page is too old or for another price. See how it ended before another is opened.

    It is closed at the provider first, so that nobody pays the old page while the new one stands open.
    """
    if purchase.session_id is None:
        because = "out of date before it was opened"
        services.ask_anew(purchase, current_user, plan, customer_id=customer_id, because=because)
        return purchase
    purchase_id, session_id = purchase.id, purchase.session_id
    checkpoint()
    try:
        with suppress(Refused):  # it has ended by itself, and how is looked up next
            payments().close_checkout(session_id)
        facts = payments().look_up(session_id)
    except TryLater as trouble:
        raise _does_not_open(trouble, shown) from None
    except Refused as trouble:
        log.warning("billing.page_unknown", purchase_id=purchase_id, reason=trouble.reason)
        services.close_unknown(purchase_id)
    else:
        settling.apply_facts(purchase_id, facts)
    checkpoint()
    return services.open_purchase(current_user, plan, customer_id=customer_id, agreed=_agreed(plan, shown))
