"""The customer's own page: access as it stands, why, and what was bought."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_limiter import RequestLimit
from flask_login import current_user, login_required

from sts_app.accounts import visits
from sts_app.billing import account
from sts_app.billing import queries as billing
from sts_app.billing import services as billing_services
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.core.errors import Act
from sts_app.core.security import limiter, who_asks
from sts_app.core.web import block, is_htmx, refuse, row_number, see_other, slowed_down
from sts_app.emails import queries as emails
from sts_app.pages.dashboard_names import names_standing
from sts_app.pages.dashboard_news import news_since
from sts_app.pages.views import bp as bp
from sts_app.provisioning import explain, names
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning import services as provisioning_services
from sts_app.provisioning.rules import AccessState
from sts_app.support import queries as support

PAGE = "pages/dashboard.html"
TICKETS = 3
SLOWEST_POLL = 60
SOONEST_RELOAD = 5
# For so long something that is due is expected at any moment.
YOUNG = timedelta(minutes=2)
# Looks after which a payment takes longer than usual (two minutes), and after which it is not looked for (a quarter
# of an hour).
LATE_LOOK, LAST_LOOK = 22, 44
# Stripe opens a page that ran out again for thirty days.
REOPENED_FOR = timedelta(days=32)
# What may still be paid, by the page that is open or by one that was opened again.
UNPAID = (PurchaseStatus.PENDING, PurchaseStatus.EXPIRED)
RECHECK_IS_TOLD = timedelta(hours=1)
# What PRODUCT promises of the time from a payment to its access; beyond it the page says why.
USUAL_TIME = timedelta(minutes=2)


@bp.get("/dashboard")
@login_required  # type: ignore[untyped-decorator]  # flask-login carries no types
def dashboard() -> ResponseReturnValue:
    """Reads our record and never fulfils anything; a buyer who returns only has the payment looked up sooner."""
    session_id = request.args.get("session_id") if request.args.get("success") == "true" else None
    since = visits.note(current_user.id)
    around = _standing(session_id, looks=_looks(), asked_at=_asked_at())
    if around["bought"] is not None:
        billing_services.look_soon(around["bought"])
    purchases = [(each.purchase, each.plan) for each in around["shown"]]
    return render_template(
        PAGE,
        letters=emails.standing_of(current_user.email),
        tickets=support.tickets_of(current_user, limit=TICKETS),
        since=since,
        news=news_since(current_user, since, clock.now(), purchases) if since is not None else [],
        **around,
    )


@bp.app_template_global()
def new_answers() -> int:
    """In how many tickets of who asks there is something new to read: the tabs of their pages tell it."""
    return support.news_of(current_user)


@bp.get("/dashboard/strategies")
def strategies() -> ResponseReturnValue:
    """The same page by another name."""
    return see_other(url_for("pages.dashboard", _anchor="access-title"))


@bp.get("/dashboard/standing")
@login_required  # type: ignore[untyped-decorator]  # see above
def standing() -> ResponseReturnValue:
    """What changes by itself, for a page that waits. `n` counts the looks and stretches the next wait."""
    visits.note(current_user.id)
    return block(PAGE, "standing", **_standing(request.args.get("session_id"), looks=_looks(), asked_at=_asked_at()))


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
    """Have what stands read again and what waits tried again. Safe to press at any time.

    What came of it is told beside the button, at once and again when TradingView has answered.
    """
    provisioning_services.recheck(current_user.id)
    now = clock.now()
    if is_htmx():
        return block(PAGE, "standing", **_standing(request.form.get("session_id"), looks=0, asked_at=now))
    return see_other(url_for("pages.dashboard", asked=int(now.timestamp()), _anchor="recheck"))


def _looks() -> int:
    return min(max(request.args.get("n", 0, type=int), 0), 1000)


def _asked_at() -> datetime | None:
    """When *Recheck* was pressed, if it was within the hour: the page says what came of it until then."""
    given = request.args.get("asked", 0, type=row_number)
    now = clock.now()
    since = now - RECHECK_IS_TOLD
    return datetime.fromtimestamp(given, UTC) if given and since.timestamp() < given <= now.timestamp() else None


def _is_awaited(session_id: str | None, bought: Purchase | None, purchases: Sequence[Purchase]) -> bool:
    """Whether the payment that this visitor made on the page of `session_id` has still to reach our record.

    A page that was opened again after it had run out is not known here before it is paid: then it is enough
    that this visitor had one lately that was not paid. Whatever this says moves nothing but the words of the page.
    """
    if bought is not None:
        return bought.status in UNPAID
    if not session_id or not session_id.startswith("cs_") or billing.is_known_session(session_id):
        return False
    since = clock.now() - REOPENED_FOR
    return any(p.status in UNPAID and p.checkout_url is not None and p.created_at > since for p in purchases)


def _standing(session_id: str | None, *, looks: int, asked_at: datetime | None = None) -> dict[str, Any]:
    """Access, purchases and the name. The page waits for the money of a page just left, and for access that moves."""
    now = clock.now()
    purchases = billing.purchases_of(current_user.id)
    # The purchase whose payment page this visitor comes from, if it is theirs.
    bought = next((p for p in purchases if p.session_id == session_id), None) if session_id else None
    access = explain.as_customer_sees(current_user.id, now)
    shown = account.purchases_of(current_user.id, now)
    is_awaited = _is_awaited(session_id, bought, purchases)
    with_bank = [
        purchase.id for purchase in purchases if purchase.status == PurchaseStatus.PENDING and purchase.with_bank
    ]
    # What is heard of nowhere is not looked for for ever; a purchase that is known to be open is.
    gives_up = is_awaited and looks >= LAST_LOOK and (bought is None or bought.status != PurchaseStatus.PENDING)
    is_near = is_awaited and not gives_up and (bought is None or bought.id not in with_bank)
    subscriptions = account.subscriptions_of(current_user.id)
    is_moving = any(row.is_moving for row in access)
    paid_at = bought.paid_at if bought is not None else None
    return {
        "access": access,
        "active": sum(row.state == AccessState.ACTIVE for row in access),
        "all_active": bool(access) and all(row.state == AccessState.ACTIVE for row in access),
        "last_read_at": max((row.read_at for row in access if row.read_at is not None), default=None),
        "takes_long": paid_at is not None and is_moving and now - paid_at > USUAL_TIME,
        "asked_at": int(asked_at.timestamp()) if asked_at is not None else None,
        "rechecked": (_what_recheck_did(access, asked_at, now, is_moving=is_moving) if asked_at is not None else None),
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
        "names": names_standing(current_user.id),
        "bought": bought,
        "is_waiting": (is_awaited and not gives_up) or is_moving,
        "looks": looks,
        "poll_after": poll_after(looks),
        "reload_after": reload_after([now] if is_near else [row.asked_at for row in access], now),
    }


def _what_recheck_did(
    access: list[explain.CustomerAccess], asked_at: datetime, now: datetime, *, is_moving: bool
) -> str:
    """What pressing *Recheck* led to, as it stands now: what is being asked, or what TradingView answered since."""
    shown = [row for row in access if row.state == AccessState.ACTIVE]
    were_read = all(row.read_at is not None and row.read_at >= asked_at for row in shown)
    if is_moving or not shown or not were_read:
        return explain.after_recheck(current_user.id, now)
    if len(shown) == len(access):
        return "TradingView was asked again, and shows all of them." if len(shown) > 1 else "TradingView shows it."
    return f"TradingView was asked again, and shows {len(shown)} of {len(access)}. What to do stands beside the others."


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
