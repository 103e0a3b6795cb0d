"""The shell's own pages: the overview, and who has access to what."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from sts_app.admin import queries
from sts_app.core.errors import NotThere, SignInFirst, StaffOnly
from sts_app.core.web import is_htmx, own_path, page_or_block, row_number, see_other

bp = Blueprint("admin", __name__, url_prefix="/admin")

PAGE = 50


@bp.before_request
def staff_only() -> ResponseReturnValue | None:
    """Every page of every child blueprint passes here, so none is left open by a forgotten decorator."""
    if not current_user.is_authenticated:
        if is_htmx():
            raise SignInFirst
        wanted = own_path(request.full_path.rstrip("?")) if request.method == "GET" else None
        return see_other("accounts.sign_in", next=wanted)
    if not current_user.is_staff:
        raise StaffOnly
    return None


@bp.get("/")
def overview() -> ResponseReturnValue:
    return render_template("admin/overview.html", overview=queries.overview())


@bp.get("/access")
def access() -> ResponseReturnValue:
    """Every grant with its tries, newest first; searched by e-mail, TradingView name or strategy."""
    search = request.args.get("q", "").strip()[:100]
    state = request.args.get("state", "")
    before = request.args.get("before", type=row_number)
    rows, following = queries.grants(search=search, state=state, before=before, limit=PAGE)
    return page_or_block(
        "admin/access.html",
        "results",
        rows=rows,
        search=search,
        state=state,
        states=queries.STATES,
        following=following,
        first_page=before is None,
    )


@bp.get("/access/<int:grant_id>")
def grant(grant_id: int) -> ResponseReturnValue:
    found = queries.grant_with_history(grant_id)
    if found is None:
        raise NotThere
    return render_template("admin/grant.html", found=found)
