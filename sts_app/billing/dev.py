"""The simulated Stripe's pages: its checkout, and a desk from which it can be led and misled.

They exist only where payments are simulated, and never in production. Away from a person's own machine they
are for insiders, but for the page of a checkout, which is for its buyer as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

from flask import Blueprint, current_app, jsonify, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from sts_app.billing.gateway import Refused
from sts_app.billing.simulated import Fault, SimulatedCheckout, SimulatedPayments, behave, faults_on, misbehave
from sts_app.core.errors import FixInput, NotThere
from sts_app.core.security import insiders_only
from sts_app.core.web import see_other, toast
from sts_app.settings import Settings

bp = Blueprint("billing_dev", __name__, url_prefix="/dev/stripe")

FAULTS = [
    (Fault.DROP, "Events are recorded, never delivered"),
    (Fault.DUPLICATE, "Each event is delivered twice"),
    (Fault.HOLD, "Events are held until they are released here"),
    (Fault.API_DOWN, "The API does not answer"),
]
BUYERS = {f"billing_dev.{page}" for page in ("checkout", "pay", "pay_later", "decline", "close")}
DECLINED = "Your card was declined: insufficient funds. Nothing was charged. Try again or close this page."


@bp.before_request
def _only_where_simulated() -> None:
    settings = cast(Settings, current_app.config["STS"])
    if settings.payments_vendor != "simulated" or settings.is_production:
        raise NotThere(cause="payments are not simulated here")
    if not (settings.app_env.is_local or _is_buyers_own()):
        insiders_only()


@bp.get("/checkout/<session_id>")
def checkout(session_id: str) -> ResponseReturnValue:
    return _page(_checkout(session_id))


@bp.post("/checkout/<session_id>/pay")
def pay(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    _stripe().pay(session_id)
    return _after(session_id)


@bp.post("/checkout/<session_id>/pay-later")
def pay_later(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    _stripe().pay_later(session_id)
    return _after(session_id)


@bp.post("/checkout/<session_id>/decline")
def decline(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    if _stripe().decline(session_id).session == "open":
        return _page(_checkout(session_id), sentence=DECLINED, status=402)
    return _page(_checkout(session_id), status=409)


@bp.post("/checkout/<session_id>/close")
def close(session_id: str) -> ResponseReturnValue:
    return see_other(_checkout(session_id).cancel_url)


@bp.get("/")
def overview() -> ResponseReturnValue:
    stripe = _stripe()
    return render_template(
        "billing/dev/overview.html",
        checkouts=stripe.checkouts(),
        events=list(reversed(stripe.events())),
        faults=FAULTS,
        faults_on=faults_on(stripe.store),
    )


@bp.get("/state.json")
def state() -> ResponseReturnValue:
    stripe = _stripe()
    return jsonify(
        checkouts=[_as_json(one) for one in stripe.checkouts()],
        events=[
            {"id": e.id, "type": e.type, "about": e.about, "state": e.state, "tries": e.tries, "answer": e.answer}
            for e in stripe.events()
        ],
        faults=faults_on(stripe.store),
    )


@bp.post("/sessions/<session_id>/settle")
def settle(session_id: str) -> ResponseReturnValue:
    verdict = request.form.get("verdict")
    if verdict not in ("succeeded", "failed"):
        raise FixInput("Say whether the delayed payment succeeded or failed.")
    _checkout(session_id)
    return _done(lambda: _stripe().settle(session_id, verdict == "succeeded"), f"The delayed payment {verdict}.")


@bp.post("/sessions/<session_id>/refund")
def refund(session_id: str) -> ResponseReturnValue:
    given = request.form.get("amount_cents", "").strip()
    if given and not (given.isascii() and given.isdigit() and len(given) <= 9):
        raise FixInput("The amount to refund is a number of cents.")
    _checkout(session_id)
    return _done(lambda: _stripe().refund(session_id, int(given) if given else None), "Refunded.")


@bp.post("/sessions/<session_id>/expire")
def expire(session_id: str) -> ResponseReturnValue:
    _checkout(session_id)
    return _done(lambda: _stripe().expire(session_id), "The checkout has ended.")


@bp.post("/events/<event_id>/redeliver")
def redeliver(event_id: str) -> ResponseReturnValue:
    return _done(lambda: _stripe().redeliver(event_id), "Rang once more with that event.")


@bp.post("/events/deliver-held")
def deliver_held() -> ResponseReturnValue:
    newest_first = request.form.get("order") == "newest"
    return _done(lambda: _stripe().deliver_held(order=reversed if newest_first else list), "Held events delivered.")


@bp.post("/faults")
def faults() -> ResponseReturnValue:
    wanted = request.form.getlist("fault")
    if not set(wanted) <= set(Fault):
        raise FixInput("There is no such fault.")
    behave(_stripe().store)
    misbehave(_stripe().store, *(Fault(word) for word in wanted))
    toast("The simulated Stripe misbehaves as told." if wanted else "The simulated Stripe behaves.")
    return see_other("billing_dev.overview")


def _is_buyers_own() -> bool:
    """A payment page is for whoever is to pay it, who need not be staff."""
    session_id = (request.view_args or {}).get("session_id")
    if request.endpoint not in BUYERS or session_id is None or not current_user.is_authenticated:
        return False
    return bool(_checkout(session_id).customer_email.lower() == current_user.email.lower())


def _stripe() -> SimulatedPayments:
    return cast(SimulatedPayments, current_app.extensions["sts_payments"])


def _checkout(session_id: str) -> SimulatedCheckout:
    try:
        return _stripe().checkout(session_id)
    except Refused as refused:
        raise NotThere(cause=refused.reason) from refused


def _page(checkout: SimulatedCheckout, *, sentence: str = "", status: int = 200) -> ResponseReturnValue:
    page = make_response(render_template("billing/dev/checkout.html", checkout=checkout, sentence=sentence), status)
    page.headers["Cache-Control"] = "no-store"
    return page


def _after(session_id: str) -> ResponseReturnValue:
    """Back to the store once the page is complete, by this click or by an earlier one."""
    checkout = _checkout(session_id)
    if checkout.facts.session == "complete":
        return see_other(checkout.return_url)
    return _page(checkout, status=409)


def _done(act: Callable[[], object], sentence: str) -> ResponseReturnValue:
    try:
        act()
    except Refused as refused:
        toast(f"Refused: {refused.reason}.", "warning")
    else:
        toast(sentence)
    return see_other("billing_dev.overview")


def _as_json(checkout: SimulatedCheckout) -> dict[str, Any]:
    return asdict(checkout.facts) | {
        "product_name": checkout.product_name,
        "customer_email": checkout.customer_email,
        "opened_at": checkout.opened_at.isoformat(),
        "expires_at": checkout.expires_at.isoformat(),
    }
