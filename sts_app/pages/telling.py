"""What public pages tell about themselves to those who read without eyes: link previews and search engines.

The frame and the pages ask here by name, so that pages of lower rooms (a strategy's) need to know nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app, g, request, url_for

from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Plan, Strategy
from sts_app.core.errors import NotThere
from sts_app.core.web import static_url
from sts_app.pages import linked_data
from sts_app.pages.cards import Card, strategy_card
from sts_app.pages.linked_data import Facts
from sts_app.pages.queries import Question
from sts_app.pages.views import bp, sales_are_paused
from sts_app.settings import Settings

HOME = "home"
# The words of each page's picture: what stands large, and what below it. A page that is not here has the first.
CARDS = {
    HOME: ("Strategies for NQ. One payment. Access you can check.", "Each is made for one part of the trading day."),
    "strategies": ("The strategies, side by side", "What each looks for, when it works, and where it is weak."),
    "pricing": ("One payment, lifetime access", "Every strategy in the catalog, and every one added later."),
    "faq": ("Questions and answers", "What you get, what it costs, how access is verified, refunds, and the risk."),
    "contact": ("Write to us", "A person reads it and answers by letter."),
    "refunds": ("Refunds", "All sales are final; when we refund nevertheless, and what the law gives you."),
    "disclaimer": ("Risk disclaimer", "The risk of futures, and the limits of hypothetical performance."),
    "terms": ("Terms of sale and use", "What is sold, price, delivery, refunds, rules of use."),
    "privacy": ("Privacy", "Which data we keep, why, and for how long. No tracking."),
}


@dataclass(frozen=True)
class Picture:
    """The picture of a page for link previews: its path with its version, and its words for who cannot see it."""

    path: str
    alt: str


def page_card(name: str) -> Card:
    """The card of a page. Raises `NotThere` for a name that is none."""
    if name not in CARDS:
        raise NotThere(cause=f"no card {name!r}")
    title, text = CARDS[name]
    return Card(title=title, text=text, above="NQ futures · TradingView", store=_settings().app_name)


def card_of_strategy(slug: str) -> Card:
    """The card of a strategy with a page. Raises `NotThere`."""
    return strategy_card(catalog.strategy_by_slug(slug), store=_settings().app_name)


@bp.app_template_global()
def share_picture() -> Picture:
    """The picture of the page that is being made, which is told of in several places of it."""
    if "share_picture" not in g:
        g.share_picture = _share_picture()
    found: Picture = g.share_picture
    return found


def _share_picture() -> Picture:
    if request.endpoint == "catalog.detail" and request.view_args:
        slug = request.view_args["slug"]
        card = card_of_strategy(slug)
        return Picture(url_for("pages.strategy_card_file", slug=slug, v=card.version), card.alt)
    name = request.path.strip("/")
    name = name if name in CARDS else HOME
    card = page_card(name)
    return Picture(url_for("pages.card_file", name=name, v=card.version), card.alt)


@bp.app_template_global()
def facts_of_home(plan: Plan | None, strategies: list[Strategy]) -> list[Facts]:
    """Organization, WebSite and, while there is a plan, Product."""
    home, name = _home(), _settings().app_name
    found = [
        linked_data.organization(
            name=name,
            home=home,
            logo=home + static_url("img/icon-512.png"),
            contact=home + url_for("support.contact"),
        ),
        linked_data.website(name=name, home=home, search=home + url_for("pages.faq")),
    ]
    return found + facts_of_plan(plan, strategies)


@bp.app_template_global()
def facts_of_plan(plan: Plan | None, strategies: list[Strategy]) -> list[Facts]:
    """Product with Offer, or nothing while nothing is sold."""
    if plan is None:
        return []
    home = _home()
    return [
        linked_data.plan_product(
            plan,
            strategies,
            home=home,
            url=home + url_for("pages.pricing"),
            image=home + share_picture().path,
            sold=not sales_are_paused(),
        )
    ]


@bp.app_template_global()
def facts_of_strategy(strategy: Strategy, plan: Plan | None) -> list[Facts]:
    """Product of one strategy with its plan's Offer, and the way to its page."""
    home = _home()
    url = home + url_for("catalog.detail", slug=strategy.slug)
    product = linked_data.strategy_product(
        strategy,
        plan,
        home=home,
        url=url,
        pricing=home + url_for("pages.pricing"),
        image=home + share_picture().path,
        sold=plan is not None and not sales_are_paused(),
    )
    return [product, way_to(("Strategies", url_for("catalog.listing")), (strategy.name, request.path))]


@bp.app_template_global()
def facts_of_questions(questions: list[Question]) -> list[Facts]:
    return [linked_data.questions_page(questions)]


@bp.app_template_global()
def way_to(*trail: tuple[str, str]) -> Facts:
    """BreadcrumbList from the front page; `trail` is (name, path), the page itself last."""
    home = _home()
    return linked_data.breadcrumbs([("Home", f"{home}/"), *((name, home + path) for name, path in trail)])


def _home() -> str:
    if "public_home" not in g:
        g.public_home = str(_settings().public_url)
    home: str = g.public_home
    return home


def _settings() -> Settings:
    settings: Settings = current_app.config["STS"]
    return settings
