"""The simulated TradingView's own page: what it holds, and how to make it misbehave."""

from __future__ import annotations

from flask import Blueprint, current_app, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from sts_app.core.errors import FixInput, NotThere
from sts_app.core.security import insiders_only
from sts_app.core.store import Store, store_for
from sts_app.core.web import see_other, toast
from sts_app.provisioning import simulated
from sts_app.provisioning.simulated import Fault

bp = Blueprint("provisioning_dev", __name__, url_prefix="/dev/tradingview")


@bp.before_request
def only_where_simulated() -> None:
    settings = current_app.config["STS"]
    if settings.is_production or settings.provisioning_mode != "simulated":
        raise NotThere
    insiders_only()


@bp.get("/")
def overview() -> ResponseReturnValue:
    store = _store()
    return render_template(
        "provisioning/dev/overview.html",
        holdings=simulated.holdings(store),
        waiting=simulated.faults_waiting(store),
        calls=simulated.calls(store),
        faults=list(Fault),
    )


@bp.get("/state.json")
def state() -> ResponseReturnValue:
    """What the vendor holds, for a program that must not ask our own tables."""
    store = _store()
    return jsonify(
        holdings=[
            {
                "username": held.username,
                "script_id": held.script_id,
                "granted_at": held.granted_at,
                "expires_at": held.expires_at,
            }
            for held in simulated.holdings(store)
        ],
        calls=simulated.calls(store),
    )


@bp.post("/misbehave")
def misbehave() -> ResponseReturnValue:
    try:
        fault = Fault(request.form.get("fault", ""))
        times = int(request.form.get("times", "1"))
        seconds = float(request.form.get("seconds", "0"))
    except ValueError:
        raise FixInput("That is no fault this simulator knows, or no number.") from None
    if not (1 <= times <= 100 and 0 <= seconds <= 120):
        raise FixInput("Between 1 and 100 times, and at most 120 seconds.")
    simulated.misbehave(_store(), fault, times=times, seconds=seconds)
    toast(f"TradingView will misbehave: {fault.value}.", "info")
    return see_other("provisioning_dev.overview")


@bp.post("/behave")
def behave() -> ResponseReturnValue:
    simulated.behave(_store())
    toast("TradingView behaves again.")
    return see_other("provisioning_dev.overview")


def _store() -> Store:
    return store_for("tradingview")
