"""The acts of the simulated Stripe's desk: what staff do in its dashboard, what banks decide, and the clock.

The guard is that of the pages they belong to (`dev.bp`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast, get_args
from urllib.parse import parse_qsl, urlsplit

from flask import Blueprint, current_app, request
from flask.typing import ResponseReturnValue

from sts_app.billing.gateway import DisputeStatus, RefundStatus, Refused
from sts_app.billing.simulated import Event, Fault, SimulatedPayments, behave, misbehave, shuffled
from sts_app.core.errors import FixInput, NotThere
from sts_app.core.web import see_other, toast

T = TypeVar("T")
Word = TypeVar("Word", bound=str)

bp = Blueprint("desk", __name__)

REFUND_STATES: tuple[RefundStatus, ...] = ("succeeded", "pending", "requires_action")
DISPUTE_BEGINNINGS: tuple[DisputeStatus, ...] = ("needs_response", "warning_needs_response")
REASONS = (
    "fraudulent",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "duplicate",
    "credit_not_processed",
    "unrecognized",
    "general",
)
SHOWN = ("q", "checkouts", "subscriptions", "customers", "events")
ENDS = {
    "now": "The subscription has ended.",
    "period-end": "The subscription ends with the time that is paid.",
    "keep": "The subscription goes on.",
    "reached": "The last day has come, and the subscription has ended.",
}
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")


def stripe_here() -> SimulatedPayments:
    """The simulated Stripe of this app."""
    return cast(SimulatedPayments, current_app.extensions["sts_payments"])


def shown(asked: Mapping[str, str]) -> dict[str, str]:
    """What of the lists is looked at: the word that is searched for, and behind which row each of them goes on."""
    return {name: value[:100] for name in SHOWN if (value := asked.get(name, "").strip())}


def lookup(read: Callable[[], T]) -> T:
    """What `read` finds; what the simulator does not know is not there."""
    try:
        return read()
    except Refused as refused:
        raise NotThere(cause=refused.reason) from refused


# Checkouts and payments.


@bp.post("/sessions/<session_id>/settle")
def settle(session_id: str) -> ResponseReturnValue:
    verdict = _word("verdict", ("succeeded", "failed"), "Say whether the delayed payment succeeded or failed.")
    lookup(lambda: stripe_here().checkout(session_id))
    return _done(lambda: stripe_here().settle(session_id, verdict == "succeeded"), f"The delayed payment {verdict}.")


@bp.post("/sessions/<session_id>/expire")
def expire(session_id: str) -> ResponseReturnValue:
    lookup(lambda: stripe_here().checkout(session_id))
    return _done(lambda: stripe_here().expire(session_id), "The checkout has ended.")


@bp.post("/sessions/<session_id>/refund")
def refund(session_id: str) -> ResponseReturnValue:
    cents, status = _cents("refund"), _word("status", REFUND_STATES, "Choose how the refund begins.", "succeeded")
    lookup(lambda: stripe_here().checkout(session_id))
    return _done(lambda: stripe_here().give_back(session_id, cents, status=status), "Refunded.")


@bp.post("/payments/<intent_id>/refund")
def refund_payment(intent_id: str) -> ResponseReturnValue:
    cents, status = _cents("refund"), _word("status", REFUND_STATES, "Choose how the refund begins.", "succeeded")
    lookup(lambda: stripe_here().payment(intent_id))
    return _done(lambda: stripe_here().give_back(intent_id, cents, status=status), "Refunded.")


@bp.post("/refunds/<refund_id>/move")
def move_refund(refund_id: str) -> ResponseReturnValue:
    status = _word("status", get_args(RefundStatus), "Choose what becomes of the refund.")
    return _done(lambda: stripe_here().move_refund(refund_id, status), f"The refund is {_said(status)} now.")


@bp.post("/refunds/next")
def next_refund() -> ResponseReturnValue:
    status = _word("status", REFUND_STATES, "Choose how the refund begins.")
    return _done(lambda: stripe_here().next_refund(status), f"The store's next refund begins as {_said(status)}.")


@bp.post("/payments/<intent_id>/dispute")
def dispute(intent_id: str) -> ResponseReturnValue:
    cents = _cents("dispute")
    status = _word("status", DISPUTE_BEGINNINGS, "Choose an inquiry or a chargeback.")
    reason = _word("reason", REASONS, "Choose a reason of the list.", "fraudulent")
    lookup(lambda: stripe_here().payment(intent_id))
    return _done(lambda: stripe_here().open_dispute(intent_id, status, cents, reason=reason), "A dispute is open.")


@bp.post("/disputes/<dispute_id>/move")
def move_dispute(dispute_id: str) -> ResponseReturnValue:
    status = _word("status", get_args(DisputeStatus), "Choose what becomes of the dispute.")
    return _done(lambda: stripe_here().move_dispute(dispute_id, status), f"The dispute says: {_said(status)}.")


# Subscriptions and their clock.


@bp.post("/subscriptions/<subscription_id>/renew")
def renew(subscription_id: str) -> ResponseReturnValue:
    is_paid = _word("outcome", ("paid", "failed"), "Say whether the renewal is paid.") == "paid"
    lookup(lambda: stripe_here().subscription(subscription_id))
    sentence = "Another period is paid." if is_paid else "Another period began, and its payment failed."
    return _done(lambda: stripe_here().renew(subscription_id, is_paid), sentence)


@bp.post("/invoices/<invoice_id>/pay")
def pay_invoice(invoice_id: str) -> ResponseReturnValue:
    is_paid = _word("outcome", ("paid", "failed"), "Say whether the invoice is paid.") == "paid"
    lookup(lambda: stripe_here().invoice(invoice_id))
    sentence = "The invoice is paid." if is_paid else "The payment failed again."
    return _done(lambda: stripe_here().pay_invoice(invoice_id, is_paid), sentence)


@bp.post("/subscriptions/<subscription_id>/give-up")
def give_up(subscription_id: str) -> ResponseReturnValue:
    lookup(lambda: stripe_here().subscription(subscription_id))
    return _done(lambda: stripe_here().give_up(subscription_id), "No further try: the subscription is unpaid.")


@bp.post("/subscriptions/<subscription_id>/end")
def end_subscription(subscription_id: str) -> ResponseReturnValue:
    when = _word("when", tuple(ENDS), "Say when the subscription ends.")
    lookup(lambda: stripe_here().subscription(subscription_id))
    return _done(lambda: end(subscription_id, when), ENDS[when])


@bp.post("/keep-time")
def keep_time() -> ResponseReturnValue:
    sentence = "What was due has been renewed, has ended, or was tried with a new card."
    return _done(lambda: stripe_here().keep_time(), sentence)


def end(subscription_id: str, when: str) -> str:
    """End a subscription as `when` says, a word of `ENDS`. Returns the sentence to say."""
    stripe = stripe_here()
    if when == "now":
        stripe.end_now(subscription_id)
    elif when == "reached":
        stripe.reach_the_end(subscription_id)
    else:
        stripe.cancel_at_period_end(subscription_id, when == "period-end")
    return ENDS[when]


# Customers and prices.


@bp.post("/customers/<customer_id>/change")
def change_customer(customer_id: str) -> ResponseReturnValue:
    email = request.form.get("email", "").strip()
    if not _EMAIL.fullmatch(email):
        raise FixInput("Type an e-mail address.")
    return _done(lambda: stripe_here().change_customer(customer_id, email=email), "The customer is changed.")


@bp.post("/customers/<customer_id>/delete")
def delete_customer(customer_id: str) -> ResponseReturnValue:
    return _done(lambda: stripe_here().remove_customer(customer_id), "The customer is deleted.")


@bp.post("/prices/<price_id>/change")
def change_price(price_id: str) -> ResponseReturnValue:
    cents = _cents("price")
    if cents is None:
        raise FixInput("The price is a number of cents.")
    if price_id not in {price.id for product in stripe_here().shelf() for price in product.prices}:
        raise NotThere(cause="no such price")
    return _done(lambda: stripe_here().change_price(price_id, cents), "The price is another one now.")


# Events and faults.


@bp.post("/events/<event_id>/redeliver")
def redeliver(event_id: str) -> ResponseReturnValue:
    return _done(lambda: stripe_here().redeliver(event_id), "Rang once more with that event.")


@bp.post("/events/deliver-held")
def deliver_held() -> ResponseReturnValue:
    order = _word("order", ("oldest", "newest", "shuffled"), "Choose an order.", "oldest")
    seed = request.form.get("seed", "").strip() or "0"
    if not (seed.isascii() and seed.isdigit() and len(seed) <= 9):
        raise FixInput("The seed is a whole number.")
    orders: dict[str, Callable[[list[Event]], Iterable[Event]]] = {
        "oldest": list,
        "newest": reversed,
        "shuffled": shuffled(int(seed)),
    }
    return _done(lambda: stripe_here().deliver_held(order=orders[order]), "Held events delivered.")


@bp.post("/events/deliver-due")
def deliver_due() -> ResponseReturnValue:
    return _done(lambda: stripe_here().deliver_due(), "Delayed events whose time has come are delivered.")


@bp.post("/faults")
def faults() -> ResponseReturnValue:
    wanted = request.form.getlist("fault")
    if not set(wanted) <= set(Fault):
        raise FixInput("There is no such fault.")
    behave(stripe_here().store)
    misbehave(stripe_here().store, *(Fault(word) for word in wanted))
    toast("The simulated Stripe misbehaves as told." if wanted else "The simulated Stripe behaves.")
    return _back()


def _word(name: str, allowed: tuple[Word, ...], sentence: str, default: Word | None = None) -> Word:
    given = request.form.get(name, "").strip() or default
    for word in allowed:
        if word == given:
            return word
    raise FixInput(sentence)


def _cents(what: str) -> int | None:
    """The number of cents in the form, None when it is left out."""
    given = request.form.get("amount_cents", "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise FixInput(f"The amount of the {what} is a number of cents.")
    return int(given)


def _said(word: str) -> str:
    return word.replace("_", " ")


def _done(act: Callable[[], object], sentence: str) -> ResponseReturnValue:
    try:
        act()
    except Refused as refused:
        toast(f"Refused: {refused.reason}.", "warning")
    else:
        toast(sentence)
    return _back()


def _back() -> ResponseReturnValue:
    """To what was looked at when the button was pressed."""
    came_from = dict(parse_qsl(urlsplit(request.referrer or "").query))
    return see_other("billing_dev.overview", **shown(came_from))
