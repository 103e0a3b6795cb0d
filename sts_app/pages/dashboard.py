"""The customer's own page: access as it stands, why, and what was bought."""

from __future__ import annotations

from flask import render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from sts_app.billing import queries as billing
from sts_app.billing import services as billing_services
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.pages.views import bp
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning.views import poll_after


@bp.get("/dashboard")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def dashboard() -> ResponseReturnValue:
    """Reads our record and never fulfils anything; a buyer who returns only has the payment looked up sooner."""
    purchases = billing.purchases_of(current_user.id)
    session_id = request.args.get("session_id", "")
    returning = request.args.get("success") == "true"
    bought = next((p for p in purchases if p.session_id == session_id), None) if session_id else None
    if returning and bought is not None:
        billing_services.look_soon(bought)
    access = provisioning.access_of(current_user.id, clock.now())
    return render_template(
        "pages/dashboard.html",
        purchases=purchases,
        access=access,
        name=provisioning.current_name(current_user.id),
        waiting_for_payment=bought is not None and bought.status == PurchaseStatus.PENDING,
        just_bought=bought if returning else None,
        looks=0,
        poll_after=poll_after(0),
    )
