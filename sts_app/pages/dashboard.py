"""The customer's own page: access as it stands, why, and what was bought."""

from __future__ import annotations

from typing import Any

from flask import render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from sts_app.billing import queries as billing
from sts_app.billing import services as billing_services
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.core.security import limiter, visitor_address
from sts_app.core.web import block, see_other, toast
from sts_app.pages.views import bp as bp
from sts_app.provisioning import explain, names
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning import services as provisioning_services

SLOWEST_POLL = 60


@bp.get("/dashboard")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def dashboard() -> ResponseReturnValue:
    """Reads our record and never fulfils anything; a buyer who returns only has the payment looked up sooner."""
    bought = _bought() if request.args.get("success") == "true" else None
    if bought is not None:
        billing_services.look_soon(bought)
    return render_template("pages/dashboard.html", **_standing(bought, looks=0))


@bp.get("/dashboard/standing")
@login_required  # type: ignore[untyped-decorator]  # see above
def standing() -> ResponseReturnValue:
    """What changes by itself, for a page that waits. `n` counts the looks and stretches the next wait."""
    looks = min(max(request.args.get("n", 0, type=int), 0), 1000)
    return block("pages/dashboard.html", "standing", **_standing(_bought(), looks=looks))


def who_presses() -> str:
    """Who presses is counted, and not from where: a household has one address."""
    return f"user:{current_user.id}" if current_user.is_authenticated else visitor_address()


@bp.post("/dashboard/recheck")
@limiter.limit("6 per minute", key_func=who_presses)
@login_required  # type: ignore[untyped-decorator]  # see above
def recheck() -> ResponseReturnValue:
    """Have what stands read again and what waits tried again. Safe to press at any time."""
    pairs = provisioning_services.recheck(current_user.id)
    toast(explain.after_recheck(pairs), "info")
    return see_other("pages.dashboard")


def _bought() -> Purchase | None:
    """The purchase whose payment page this visitor comes from, if it is theirs."""
    session_id = request.args.get("session_id")
    if not session_id:
        return None
    return next((p for p in billing.purchases_of(current_user.id) if p.session_id == session_id), None)


def _standing(bought: Purchase | None, *, looks: int) -> dict[str, Any]:
    """Access, purchases and the name. The page waits for the money of `bought`, and for access that moves."""
    access = explain.as_customer_sees(current_user.id, clock.now())
    purchases = billing.purchases_of(current_user.id)
    awaited = bought if bought is not None and bought.status == PurchaseStatus.PENDING else None
    return {
        "access": access,
        "purchases": purchases,
        "awaited": awaited,
        "with_bank": [purchase.id for purchase in purchases if _is_with_bank(purchase)],
        "name": provisioning.current_name(current_user.id),
        "change": names.change_under_way(current_user.id),
        "bought": bought,
        "is_waiting": awaited is not None or any(row.is_moving for row in access),
        "looks": looks,
        "poll_after": poll_after(looks),
    }


def _is_with_bank(purchase: Purchase) -> bool:
    """Whether a payment was begun that the bank has neither confirmed nor declined: a delayed one, most of all."""
    is_open = purchase.status == PurchaseStatus.PENDING
    return is_open and purchase.intent_id is not None and purchase.declined_because is None


def poll_after(looks: int) -> int:
    """Seconds until the page asks again: two at first, then longer, a minute at most."""
    return min(2 if looks < 15 else 2 * (looks - 13), SLOWEST_POLL)
