"""The public pages: home, pricing, questions and legal texts."""

from __future__ import annotations

import re

from flask import Blueprint, current_app, g, make_response, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from sts_app.billing import account
from sts_app.billing import queries as billing
from sts_app.billing.account import Has
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan, Strategy
from sts_app.core import money
from sts_app.core.web import page_or_block
from sts_app.pages import queries
from sts_app.provisioning import control

bp = Blueprint("pages", __name__)

LONGEST_SEARCH = 100
_MOMENT = re.compile(r"\d{1,2} [A-Z][a-z]{2} \d{4}, \d\d:\d\d UTC")


@bp.get("/")
def home() -> ResponseReturnValue:
    """The front page, or two letters for a probe that wants no page."""
    if request.accept_mimetypes.best_match(["text/html", "text/plain"]) == "text/plain":
        answer = make_response("OK", {"Content-Type": "text/plain; charset=utf-8"})
    else:
        plan = catalog.plan_on_sale()
        answer = make_response(
            render_template(
                "pages/home.html",
                plan=plan,
                strategies=catalog.strategies_on_sale(),
                questions=queries.questions_named(
                    "how-long",
                    "where-are-the-scripts",
                    "automated",
                    "what-results",
                    price=_price(plan),
                    by_hand=_by_hand(),
                ),
            )
        )
    answer.headers["Vary"] = "Accept"
    return answer


@bp.get("/pricing")
def pricing() -> ResponseReturnValue:
    plan = catalog.plan_on_sale()
    return render_template(
        "pages/pricing.html",
        plan=plan,
        strategies=catalog.strategies_on_sale(),
        further=[(each, catalog.covered_strategies(each)) for each in catalog.plans_on_sale() if each != plan],
    )


@bp.get("/faq")
def faq() -> ResponseReturnValue:
    search = request.args.get("q", "").strip()[:LONGEST_SEARCH]
    found = queries.questions_matching(search, price=_price(catalog.plan_on_sale()), by_hand=_by_hand())
    return page_or_block("pages/faq.html", "results", search=search, questions=found, topics=queries.by_topic(found))


@bp.get("/terms")
def terms() -> ResponseReturnValue:
    return render_template("pages/terms.html", plan=catalog.plan_on_sale())


@bp.get("/privacy")
def privacy() -> ResponseReturnValue:
    return render_template("pages/privacy.html")


@bp.get("/disclaimer")
def disclaimer() -> ResponseReturnValue:
    return render_template("pages/disclaimer.html")


@bp.get("/refunds")
def refunds() -> ResponseReturnValue:
    """The policy; for somebody who has bought, with the way to withdraw from each purchase."""
    bought = account.withdrawable(current_user.id) if current_user.is_authenticated else []
    return render_template("pages/refunds.html", bought=bought)


@bp.app_template_global()
def sales_are_paused() -> bool:
    """Whether nobody may begin to pay now. The macro of the offer asks, so that no page can forget it."""
    return control.standing().sales_closed


@bp.app_template_filter()
def with_whole_dates(sentence: str) -> str:
    """The same words, whose moments do not break at the end of a line."""
    return _MOMENT.sub(lambda found: found[0].replace(" ", "\u00a0").replace(",\u00a0", ", "), sentence)


@bp.app_template_global()
def what_you_have(plan: Plan | None) -> Has | None:
    """What this visitor has of a plan already; the macros of the offer ask, so that nobody is asked to pay twice."""
    if plan is None or not current_user.is_authenticated:
        return None
    if "held_plans" not in g:
        g.held_plans = account.held_plans(current_user.id)
    found: Has | None = g.held_plans.get(plan.id)
    return found


@bp.app_template_global()
def was_declined(plan: Plan | None) -> bool:
    """Whether this visitor has an open purchase of a plan whose last try the bank declined."""
    if plan is None or not current_user.is_authenticated:
        return False
    purchase = billing.open_purchase_of(current_user.id, plan.id)
    return purchase is not None and purchase.declined_because is not None and not purchase.with_bank


@bp.app_template_global()
def held_by_visitor(strategy: Strategy) -> tuple[str, ...]:
    """The names of the plans by which this visitor has a strategy, none for who does not have it."""
    if not current_user.is_authenticated:
        return ()
    return account.plans_giving(current_user.id, strategy)


def _by_hand() -> bool:
    """Whether people give access here, because the store has no way to TradingView."""
    return not current_app.config["STS"].asks_tradingview


def _price(plan: Plan | None) -> str:
    return money.as_money(plan.price_cents, plan.currency) if plan else "The price on the pricing page"
