"""The customer's own page: access as it stands, why, and what was bought."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from flask import Response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_limiter import RequestLimit
from flask_login import current_user, login_required

from sts_app.billing import account
from sts_app.billing import queries as billing
from sts_app.billing import services as billing_services
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.core.errors import Act
from sts_app.core.security import limiter, who_asks
from sts_app.core.web import block, refuse, see_other, slowed_down, toast
from sts_app.emails import queries as emails
from sts_app.pages.views import bp as bp
from sts_app.provisioning import explain, names
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning import services as provisioning_services
from sts_app.provisioning.rules import AccessState
from sts_app.support import queries as support

SLOWEST_POLL = 60
SOONEST_RELOAD = 5
# For so long something that is due is expected at any moment.
YOUNG = timedelta(minutes=2)
# Looks after which a payment takes longer than usual (two minutes), and after which it is not looked for (a quarter
# of an hour).
LATE_LOOK, LAST_LOOK = 22, 44
# Stripe opens a page that ran out again for thirty days.
REOPENED_FOR = timedelta(days=32)


@bp.get("/dashboard")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def dashboard() -> ResponseReturnValue:
    """Reads our record and never fulfils anything; a buyer who returns only has the payment looked up sooner."""
    session_id = request.args.get("session_id") if request.args.get("success") == "true" else None
    if (bought := _bought(session_id)) is not None:
        billing_services.look_soon(bought)
    answers = support.news_of(current_user)
    letters = emails.standing_of(current_user.email)
    return render_template(
        "pages/dashboard.html", answers=answers, letters=letters, **_standing(session_id, looks=_looks())
    )


@bp.get("/dashboard/standing")
@login_required  # type: ignore[untyped-decorator]  # see above
def standing() -> ResponseReturnValue:
    """What changes by itself, for a page that waits. `n` counts the looks and stretches the next wait."""
    return block("pages/dashboard.html", "standing", **_standing(request.args.get("session_id"), looks=_looks()))


def slow_down(limit: RequestLimit) -> Response:
    """Who has pressed too often is led back to the page that shows what came of it.

    An answer and no exception: the limiter takes one for a fault of Redis, and would count anew in memory.
    """
    back = Act("Back to the dashboard", url_for("pages.dashboard"))
    return refuse(slowed_down(int(limit.limit.get_expiry()), back))


@bp.post("/dashboard/recheck")
@limiter.limit("6 per minute", key_func=who_asks, on_breach=slow_down)
@login_required  # type: ignore[untyped-decorator]  # see above
def recheck() -> ResponseReturnValue:
    """Have what stands read again and what waits tried again. Safe to press at any time."""
    provisioning_services.recheck(current_user.id)
    toast(explain.after_recheck(current_user.id, clock.now()), "info")
    return see_other("pages.dashboard")


def _looks() -> int:
    return min(max(request.args.get("n", 0, type=int), 0), 1000)


def _bought(session_id: str | None) -> Purchase | None:
    """The purchase whose payment page this visitor comes from, if it is theirs."""
    if not session_id:
        return None
    return next((p for p in billing.purchases_of(current_user.id) if p.session_id == session_id), None)


def _is_awaited(session_id: str | None, bought: Purchase | None) -> bool:
    """Whether the payment that this visitor made on the page of `session_id` has still to reach our record.

    A page that was opened again after it had run out is not known here before it is paid: then it is enough
    that this visitor had one lately. Whatever this says moves nothing but the words of the page.
    """
    if bought is not None:
        return bought.status in (PurchaseStatus.PENDING, PurchaseStatus.EXPIRED)
    if not session_id or not session_id.startswith("cs_") or billing.is_known_session(session_id):
        return False
    since = clock.now() - REOPENED_FOR
    return any(p.checkout_url is not None and p.created_at > since for p in billing.purchases_of(current_user.id))


def _standing(session_id: str | None, *, looks: int) -> dict[str, Any]:
    """Access, purchases and the name. The page waits for the money of a page just left, and for access that moves."""
    now = clock.now()
    bought = _bought(session_id)
    access = explain.as_customer_sees(current_user.id, now)
    purchases = billing.purchases_of(current_user.id)
    shown = account.purchases_of(current_user.id, now)
    is_awaited = _is_awaited(session_id, bought)
    with_bank = [
        purchase.id for purchase in purchases if purchase.status == PurchaseStatus.PENDING and purchase.with_bank
    ]
    # What is heard of nowhere is not looked for for ever; a purchase that is known to be open is.
    gives_up = is_awaited and looks >= LAST_LOOK and (bought is None or bought.status != PurchaseStatus.PENDING)
    is_near = is_awaited and not gives_up and (bought is None or bought.id not in with_bank)
    subscriptions = account.subscriptions_of(current_user.id)
    return {
        "access": access,
        "all_active": bool(access) and all(row.state == AccessState.ACTIVE for row in access),
        "shown": shown,
        "open_plan": next((each.plan.slug for each in shown if each.is_open), None),
        "paid_twice": [each for each in shown if each.offers_refund],
        "subscriptions": subscriptions,
        "unpaid": [each for each in subscriptions if each.is_unpaid],
        "has_portal": account.has_portal(current_user),
        "session_id": session_id if is_awaited or bought is not None else None,
        "is_awaited": is_awaited,
        "is_late": is_awaited and looks >= LATE_LOOK,
        "gives_up": gives_up,
        "with_bank": with_bank,
        "name": provisioning.current_name(current_user.id),
        "change": names.change_under_way(current_user.id),
        "bought": bought,
        "is_waiting": (is_awaited and not gives_up) or any(row.is_moving for row in access),
        "looks": looks,
        "poll_after": poll_after(looks),
        "reload_after": reload_after([now] if is_near else [row.asked_at for row in access], now),
    }


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
