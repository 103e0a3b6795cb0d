"""What browsers, robots and link previews ask a site for beside its pages: icon, robots, sitemap, manifest, cards."""

from __future__ import annotations

from flask import Response, current_app, make_response, render_template, request, send_from_directory, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response as BaseResponse

from sts_app.catalog import queries as catalog
from sts_app.core.security import YEAR
from sts_app.core.style import style_url
from sts_app.core.web import STATIC, static_url
from sts_app.pages.cards import Card, drawn
from sts_app.pages.telling import card_of_strategy, page_card
from sts_app.pages.views import bp as bp
from sts_app.settings import Settings

PRIVATE_AREAS = (
    *("/admin", "/api", "/billing", "/checkout", "/dashboard", "/dev", "/onboarding", "/purchases", "/sign-in"),
    *("/contact/ticket", "/erasure", "/user", "/webhooks"),
)
DAY = 86_400


@bp.get("/favicon.ico")
def favicon() -> BaseResponse:
    """Browsers ask here whatever the page says."""
    return send_from_directory(STATIC / "img", "favicon.ico", max_age=DAY)


@bp.get("/robots.txt")
def robots() -> Response:
    shut = "".join(f"Disallow: {area}\n" for area in PRIVATE_AREAS)
    text = f"User-agent: *\n{shut}\nSitemap: {_settings().public_url}{url_for('pages.sitemap')}\n"
    return Response(text, mimetype="text/plain")


@bp.get("/sitemap.xml")
def sitemap() -> Response:
    endpoints = ("home", "pricing", "faq", "terms", "privacy", "disclaimer", "refunds")
    pages = [(url_for(f"pages.{endpoint}"), "") for endpoint in endpoints]
    pages += [(url_for("catalog.listing"), ""), (url_for("support.contact"), "")]
    pages += [
        (url_for("catalog.detail", slug=each.slug), each.updated_at.date().isoformat())
        for each in catalog.strategies_on_sale()
    ]
    body = render_template("pages/sitemap.xml", pages=pages)
    return Response(body, mimetype="application/xml")


@bp.get("/site.webmanifest")
def manifest() -> Response:
    """What a phone needs to put the store among its programs."""
    name = _settings().app_name
    icons = [
        {"src": static_url("img/icon-192.png"), "sizes": "192x192", "type": "image/png", "purpose": "any"},
        {"src": static_url("img/icon-512.png"), "sizes": "512x512", "type": "image/png", "purpose": "any"},
        {
            "src": static_url("img/icon-maskable-512.png"),
            "sizes": "512x512",
            "type": "image/png",
            "purpose": "maskable",
        },
    ]
    body = {
        "id": "/",
        "name": name,
        "short_name": name.split()[0],
        "description": "Invite-only TradingView strategies for NQ futures, and the state of your access to them.",
        "lang": "en",
        "start_url": url_for("pages.dashboard"),
        "scope": "/",
        "display": "standalone",
        "background_color": "#f7f8f8",
        "theme_color": "#0a5c6b",
        "icons": icons,
        "shortcuts": [
            {"name": "Strategies", "url": url_for("catalog.listing")},
            {"name": "Support", "url": url_for("support.support")},
        ],
    }
    answer = make_response(body)
    answer.mimetype = "application/manifest+json"
    answer.cache_control.max_age = DAY
    return answer


@bp.get("/sw.js")
def service_worker() -> Response:
    """Shows our own page while the line is down. It keeps that page and what the page is made of, nothing else."""
    files = [style_url(), static_url("js/site.js")]
    body = render_template("pages/sw.js", page=url_for("pages.offline"), files=files)
    answer = Response(body, mimetype="text/javascript")
    answer.cache_control.no_cache = True
    return answer


@bp.get("/offline")
def offline() -> str:
    return render_template("pages/offline.html")


@bp.get("/cards/<name>.png")
def card_file(name: str) -> ResponseReturnValue:
    """The picture of a page for link previews."""
    return _picture(page_card(name))


@bp.get("/cards/strategies/<slug>.png")
def strategy_card_file(slug: str) -> ResponseReturnValue:
    """The picture of a strategy for link previews."""
    return _picture(card_of_strategy(slug))


def _picture(card: Card) -> Response:
    answer = Response(drawn(card), mimetype="image/png")
    answer.set_etag(card.version)
    answer.cache_control.public = True
    # An address that names this version never shows another one.
    answer.cache_control.max_age = YEAR if request.args.get("v") == card.version else DAY
    answer.make_conditional(request)
    return answer


def _settings() -> Settings:
    settings: Settings = current_app.config["STS"]
    return settings
