"""The simulated Stripe's pages: those of its buyers, and a desk from which it can be led and misled.

They exist only where payments are simulated, and never in production. Away from a person's own machine they
are for insiders, but for a buyer's own: the page of a checkout, receipts, invoices and the portal.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, current_app, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from sts_app.billing import dev_desk, dev_lists
from sts_app.billing.dev_desk import lookup, stripe_here
from sts_app.billing.gateway import Refused
from sts_app.billing.simulated import PROMOTIONS, Fault, Portal, SimulatedCheckout, faults_on
from sts_app.core.errors import FixInput, NotThere
from sts_app.core.security import insiders_only
from sts_app.core.web import see_other, toast
from sts_app.settings import Settings

bp = Blueprint("billing_dev", __name__, url_prefix="/dev/stripe")
bp.register_blueprint(dev_desk.bp)

FAULTS = [
    (Fault.DROP, "Events are recorded, never delivered"),
    (Fault.DUPLICATE, "Each event is delivered twice"),
    (Fault.HOLD, "Events are held until they are released here"),
    (Fault.DELAY, "Events are delivered half a minute late, by whatever happens next"),
    (Fault.API_DOWN, "The API does not answer"),
    (Fault.LOSE_ANSWER, "The next call that changes something is done, and its answer is lost"),
]
BUYERS = {
    f"billing_dev.{page}"
    for page in (
        *("checkout", "pay", "pay_later", "decline", "close", "promotion", "recovery", "recover"),
        *("receipt", "invoice", "invoice_pay", "portal", "portal_end", "portal_card"),
    )
}
CUSTOMERS_ENDS = ("now", "period-end", "keep")
DECLINED = "Your card was declined: insufficient funds. Nothing was charged. Try again or close this page."


@bp.before_request
def _only_where_simulated() -> None:
    settings = cast(Settings, current_app.config["STS"])
    if settings.payments_vendor != "simulated" or settings.is_production:
        raise NotThere(cause="payments are not simulated here")
    if not (settings.app_env.is_local or _is_buyers_own()):
        insiders_only()


# The payment page.


@bp.get("/checkout/<session_id>")
def checkout(session_id: str) -> ResponseReturnValue:
    return _page(_checkout(session_id))


@bp.post("/checkout/<session_id>/pay")
def pay(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    stripe_here().pay(session_id)
    return _after(session_id)


@bp.post("/checkout/<session_id>/pay-later")
def pay_later(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    stripe_here().pay_later(session_id)
    return _after(session_id)


@bp.post("/checkout/<session_id>/decline")
def decline(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    facts = stripe_here().decline(session_id)
    if facts.session == "open" and facts.amount_total:
        return _page(_checkout(session_id), sentence=DECLINED, status=402)
    return _page(_checkout(session_id), status=409)


@bp.post("/checkout/<session_id>/close")
def close(session_id: str) -> ResponseReturnValue:
    return see_other(_checkout(session_id).cancel_url)


@bp.post("/checkout/<session_id>/promotion")
def promotion(session_id: str) -> ResponseReturnValue:
    code = request.form.get("code", "").strip()
    if _checkout(session_id).facts.session != "open":
        return _page(_checkout(session_id), status=409)
    try:
        stripe_here().apply_promotion(session_id, code)
    except Refused:
        sentence = f"There is no promotion code “{code[:40]}”." if code else "Type a promotion code."
        return _page(_checkout(session_id), wrong_code=sentence, code=code[:40], status=422)
    return see_other("billing_dev.checkout", session_id=session_id)


@bp.get("/recover/<session_id>")
def recovery(session_id: str) -> ResponseReturnValue:
    return _page(_checkout(session_id), asks_to_recover=True)


@bp.post("/recover/<session_id>")
def recover(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    try:
        return see_other("billing_dev.checkout", session_id=stripe_here().recover(session_id))
    except Refused:
        return _page(_checkout(session_id), status=409)


# Papers, and the customer's own page.


@bp.get("/receipts/<charge_id>")
def receipt(charge_id: str) -> ResponseReturnValue:
    payment = lookup(lambda: stripe_here().receipt(charge_id))
    return _kept_by_none(render_template("billing/dev/receipt.html", payment=payment))


@bp.get("/invoices/<invoice_id>")
def invoice(invoice_id: str) -> ResponseReturnValue:
    found = lookup(lambda: stripe_here().invoice(invoice_id))
    return _kept_by_none(render_template("billing/dev/invoice.html", invoice=found))


@bp.post("/invoices/<invoice_id>/payment")
def invoice_pay(invoice_id: str) -> ResponseReturnValue:
    lookup(lambda: stripe_here().invoice(invoice_id))
    try:
        stripe_here().pay_invoice(invoice_id)
    except Refused:
        toast("This invoice is not open any more.", "warning")
    else:
        toast("The invoice is paid.")
    return see_other("billing_dev.invoice", invoice_id=invoice_id)


@bp.get("/portal/<portal_id>")
def portal(portal_id: str) -> ResponseReturnValue:
    return _kept_by_none(render_template("billing/dev/portal.html", portal=_portal(portal_id)))


@bp.post("/portal/<portal_id>/subscriptions/<subscription_id>/end")
def portal_end(portal_id: str, subscription_id: str) -> ResponseReturnValue:
    own = {subscription.facts.id for subscription in _portal(portal_id).subscriptions}
    if subscription_id not in own:
        raise NotThere(cause="the subscription is somebody else's")
    when = request.form.get("when", "")
    if when not in CUSTOMERS_ENDS:
        raise FixInput("Say when the subscription ends.")
    try:
        toast(dev_desk.end(subscription_id, when))
    except Refused:
        toast("The subscription has ended already.", "warning")
    return see_other("billing_dev.portal", portal_id=portal_id)


@bp.post("/portal/<portal_id>/card")
def portal_card(portal_id: str) -> ResponseReturnValue:
    stripe_here().use_another_card(_portal(portal_id).customer["id"])
    toast("Your other card is kept. The next try of an open invoice is made with it.")
    return see_other("billing_dev.portal", portal_id=portal_id)


# The desk's first page. What it does is in `dev_desk`.


@bp.get("/")
def overview() -> ResponseReturnValue:
    stripe = stripe_here()
    shown = dev_desk.shown(request.args)
    search = shown.get("q", "")
    return render_template(
        "billing/dev/overview.html",
        books=stripe.books_by_currency(),
        faults=FAULTS,
        faults_on=faults_on(stripe.store),
        lists=dev_lists.lists(stripe, search=search, after=lambda name: shown.get(name, "")),
        products=stripe.shelf(),
        reasons=dev_desk.REASONS,
        refund_states=dev_desk.REFUND_STATES,
        search=search,
        shown=shown,
    )


@bp.get("/state.json")
def state() -> ResponseReturnValue:
    stripe = stripe_here()
    return jsonify(
        checkouts=[_as_json(one) for one in stripe.checkouts()],
        events=[
            {"id": e.id, "type": e.type, "about": e.about, "state": e.state, "tries": e.tries, "answer": e.answer}
            for e in stripe.events()
        ],
        faults=faults_on(stripe.store),
        books={
            currency: asdict(books) | {"left": books.left} for currency, books in stripe.books_by_currency().items()
        },
        customers=stripe.customers(),
        subscriptions=[asdict(one.facts) | {"customer_email": one.customer_email} for one in stripe.subscriptions()],
    )


def _is_buyers_own() -> bool:
    """What is a buyer's own is for that buyer, who need not be staff."""
    if request.endpoint not in BUYERS or not current_user.is_authenticated:
        return False
    named = request.view_args or {}
    stripe = stripe_here()
    if "session_id" in named:
        emails = [_checkout(named["session_id"]).customer_email]
    elif "charge_id" in named:
        emails = [lookup(lambda: stripe.receipt(named["charge_id"])).email]
    elif "invoice_id" in named:
        emails = [lookup(lambda: stripe.invoice(named["invoice_id"])).customer_email]
    else:
        emails = _portal(named["portal_id"]).customer["emails"]
    return current_user.email.lower() in {email.lower() for email in emails}


def _checkout(session_id: str) -> SimulatedCheckout:
    return lookup(lambda: stripe_here().checkout(session_id))


def _portal(portal_id: str) -> Portal:
    return lookup(lambda: stripe_here().portal(portal_id))


def _page(checkout: SimulatedCheckout, *, status: int = 200, **more: Any) -> ResponseReturnValue:
    told = {"sentence": "", "wrong_code": "", "code": "", "asks_to_recover": False, "promotions": PROMOTIONS} | more
    return _kept_by_none(render_template("billing/dev/checkout.html", checkout=checkout, **told), status)


def _kept_by_none(body: str, status: int = 200) -> ResponseReturnValue:
    page = make_response(body, status)
    page.headers["Cache-Control"] = "no-store"
    return page


def _after(session_id: str) -> ResponseReturnValue:
    """Back to the store once the page is complete, by this click or by an earlier one."""
    checkout = _checkout(session_id)
    if checkout.facts.session == "complete":
        return see_other(checkout.return_url)
    return _page(checkout, status=409)


def _as_json(checkout: SimulatedCheckout) -> dict[str, Any]:
    return asdict(checkout.facts) | {
        "amount_refunded": checkout.facts.amount_refunded,
        "product_name": checkout.product_name,
        "customer_email": checkout.customer_email,
        "opened_at": checkout.opened_at.isoformat(),
        "expires_at": checkout.expires_at.isoformat(),
        "recovered_from": checkout.recovered_from,
    }
