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
from sts_app.core.web import block
from sts_app.pages.views import bp as bp
from sts_app.provisioning import queries as provisioning

SLOWEST_POLL = 60


@bp.get("/dashboard")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def dashboard() -> ResponseReturnValue:
    """Reads our record and never fulfils anything; a buyer who returns only has the payment looked up sooner."""
    purchases = billing.purchases_of(current_user.id)
    bought = None
    if request.args.get("success") == "true":
        session_id = request.args.get("session_id", "")
        bought = next((purchase for purchase in purchases if purchase.session_id == session_id), None)
    if bought is not None:
        billing_services.look_soon(bought)
    return render_template(
        "pages/dashboard.html",
        purchases=purchases,
        name=provisioning.current_name(current_user.id),
        just_bought=bought,
        **_access(bought, looks=0),
    )


@bp.get("/dashboard/access")
@login_required  # type: ignore[untyped-decorator]
def access() -> ResponseReturnValue:
    """The access block by itself, for a page that waits. `n` counts the looks and stretches the next wait."""
    looks = min(max(request.args.get("n", 0, type=int), 0), 1000)
    session_id = request.args.get("session_id", "")
    purchases = billing.purchases_of(current_user.id)
    bought = next((p for p in purchases if p.session_id == session_id), None) if session_id else None
    return block("pages/dashboard.html", "access", **_access(bought, looks=looks))


def _access(bought: Purchase | None, *, looks: int) -> dict[str, Any]:
    """What the access block shows. `bought` is the purchase whose money the page waits for."""
    return {
        "access": provisioning.access_of(current_user.id, clock.now()),
        "waiting_for": bought.session_id if bought and bought.status == PurchaseStatus.PENDING else None,
        "looks": looks,
        "poll_after": poll_after(looks),
    }


def poll_after(looks: int) -> int:
    """Seconds until the page asks again: two at first, then longer, a minute at most."""
    return min(2 if looks < 15 else 2 * (looks - 13), SLOWEST_POLL)
