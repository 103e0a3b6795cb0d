"""The customer's own page: access as it stands, why, and what was bought."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_limiter import RequestLimit
from flask_login import current_user, login_required

from sts_app.billing import account
from sts_app.billing import queries as billing
from sts_app.billing import services as billing_services
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.core.errors import Act, SlowDown
from sts_app.core.security import limiter, visitor_address
from sts_app.core.web import block, see_other, toast
from sts_app.pages.views import bp as bp
from sts_app.provisioning import explain, names
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning import services as provisioning_services

SLOWEST_POLL = 60
SOONEST_RELOAD = 5
# For so long something that is due is expected at any moment.
YOUNG = timedelta(minutes=2)


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


def slow_down(limit: RequestLimit) -> None:
    """Who has pressed too often is led back to the page that shows what came of it. Raises `SlowDown`."""
    raise SlowDown(
        "That was too many tries in a short time. Please try again in at most a minute.",
        retry_after=int(limit.limit.get_expiry()),
        act=Act("Back to the dashboard", url_for("pages.dashboard")),
    )


@bp.post("/dashboard/recheck")
@limiter.limit("6 per minute", key_func=who_presses, on_breach=slow_down)
@login_required  # type: ignore[untyped-decorator]  # see above
def recheck() -> ResponseReturnValue:
    """Have what stands read again and what waits tried again. Safe to press at any time."""
    provisioning_services.recheck(current_user.id)
    toast(explain.after_recheck(current_user.id, clock.now()), "info")
    return see_other("pages.dashboard")


def _bought() -> Purchase | None:
    """The purchase whose payment page this visitor comes from, if it is theirs."""
    session_id = request.args.get("session_id")
    if not session_id:
        return None
    return next((p for p in billing.purchases_of(current_user.id) if p.session_id == session_id), None)


def _standing(bought: Purchase | None, *, looks: int) -> dict[str, Any]:
    """Access, purchases and the name. The page waits for the money of `bought`, and for access that moves."""
    now = clock.now()
    access = explain.as_customer_sees(current_user.id, now)
    purchases = billing.purchases_of(current_user.id)
    shown = account.purchases_of(current_user.id, now)
    awaited = bought if bought is not None and bought.status == PurchaseStatus.PENDING else None
    with_bank = [purchase.id for purchase in purchases if _is_with_bank(purchase)]
    is_near = awaited is not None and awaited.id not in with_bank
    return {
        "access": access,
        "purchases": purchases,
        "shown": shown,
        "open_plan": next((each.plan.slug for each in shown if each.plan and each.is_open), None),
        "subscriptions": account.subscriptions_of(current_user.id),
        "has_portal": account.has_portal(current_user),
        "awaited": awaited,
        "with_bank": with_bank,
        "name": provisioning.current_name(current_user.id),
        "change": names.change_under_way(current_user.id),
        "bought": bought,
        "is_waiting": awaited is not None or any(row.is_moving for row in access),
        "looks": looks,
        "poll_after": poll_after(looks),
        "reload_after": reload_after([now] if is_near else [row.asked_at for row in access], now),
    }


def _is_with_bank(purchase: Purchase) -> bool:
    """Whether a payment was begun that the bank has neither confirmed nor declined: a delayed one, most of all."""
    is_open = purchase.status == PurchaseStatus.PENDING
    return is_open and purchase.intent_id is not None and purchase.declined_because is None


def poll_after(looks: int) -> int:
    """Seconds until the page asks again: two at first, then longer, a minute at most."""
    return min(2 if looks < 15 else 2 * (looks - 13), SLOWEST_POLL)


def reload_after(news_at: Iterable[datetime | None], now: datetime) -> int:
    """Seconds until a page without script loads itself again, which shuts whatever was unfolded on it.

    Soon after the first moment of `news_at`, and a minute at most: that is also the answer where nothing is
    appointed, or what was due has not come for a while.
    """
    near = [at for at in news_at if at is not None and at > now - YOUNG]
    if not near:
        return SLOWEST_POLL
    wait = max((min(near) - now).total_seconds(), 0)
    return min(SOONEST_RELOAD + int(wait), SLOWEST_POLL)
