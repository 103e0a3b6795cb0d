"""What the public pages tell link previews and search engines: as on the page, complete, and each its own."""

import io
import json
import re
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from PIL import Image

from sts_app.catalog.models import Plan
from sts_app.catalog.seed import STRATEGIES
from sts_app.catalog.services import seed_catalog
from sts_app.pages.cards import Card, drawn
from sts_app.pages.telling import CARDS
from sts_app.provisioning.control import set_switch
from sts_app.provisioning.rules import Switch

SLUG = "nq-power-hour"
PUBLIC = (
    "/",
    "/strategies",
    f"/strategies/{SLUG}",
    "/pricing",
    "/faq",
    "/terms",
    "/privacy",
    "/disclaimer",
    "/refunds",
)


@pytest.fixture
def visitor(app, db):
    seed_catalog("price_abc")
    return app.test_client()


@pytest.fixture
def soup(visitor):
    return lambda path: BeautifulSoup(visitor.get(path).text, "html.parser")


def told(page):
    """The facts of a page by their type."""
    found = [json.loads(tag.string) for tag in page.find_all("script", type="application/ld+json")]
    assert all(each["@context"] == "https://schema.org" for each in found)
    return {each["@type"]: each for each in found}


def meta(page, name):
    return (page.find("meta", property=name) or page.find("meta", attrs={"name": name}))["content"]


class TestFacts:
    def test_the_front_page_says_who_sells_what_for_how_much(self, soup):
        facts = told(soup("/"))

        assert set(facts) == {"Organization", "WebSite", "Product"}
        assert facts["Organization"]["@id"] == facts["WebSite"]["publisher"]["@id"]
        offer = facts["Product"]["offers"]
        assert (offer["price"], offer["priceCurrency"]) == ("99.00", "USD")
        assert offer["availability"] == "https://schema.org/InStock"

    def test_addresses_in_them_are_whole(self, app, soup):
        home = app.config["STS"].public_url
        facts = told(soup("/"))

        for address in (
            facts["Organization"]["logo"],
            facts["WebSite"]["url"],
            facts["Product"]["image"],
            facts["Product"]["offers"]["url"],
        ):
            assert address.startswith(f"{home}/")

    def test_a_strategy_is_a_product_whose_offer_is_its_plans(self, soup):
        facts = told(soup(f"/strategies/{SLUG}"))

        assert set(facts) == {"Product", "BreadcrumbList"}
        assert facts["Product"]["name"] == "NQ Power Hour"
        assert facts["Product"]["offers"]["name"] == "STS Strategies - Lifetime Access"
        assert urlsplit(facts["Product"]["offers"]["url"]).path == "/pricing"
        trail = [(step["position"], step["name"]) for step in facts["BreadcrumbList"]["itemListElement"]]
        assert trail == [(1, "Home"), (2, "Strategies"), (3, "NQ Power Hour")]

    def test_while_sales_are_paused_nothing_is_in_stock(self, soup, db):
        set_switch(Switch.DISABLED, actor="user:1", because="test")
        db.session.commit()

        for path in ("/", "/pricing", f"/strategies/{SLUG}"):
            assert told(soup(path))["Product"]["offers"]["availability"] == "https://schema.org/SoldOut"

    def test_without_a_plan_nothing_is_offered(self, soup, db):
        db.session.execute(sa.update(Plan).values(active=False))

        assert "Product" not in told(soup("/"))
        assert "offers" not in told(soup(f"/strategies/{SLUG}"))["Product"]

    def test_the_questions_are_those_of_the_page_word_for_word(self, soup):
        page = soup("/faq")
        facts = told(page)["FAQPage"]["mainEntity"]

        shown = {
            details.summary.get_text(strip=True): " ".join(p.get_text(strip=True) for p in details.find_all("p"))
            for details in page.find_all("details")
        }
        assert {each["name"]: each["acceptedAnswer"]["text"] for each in facts} == shown
        assert len(shown) >= 14

    def test_a_search_is_no_page_of_questions(self, soup):
        assert "FAQPage" not in told(soup("/faq?q=refund"))

    def test_nothing_rates_or_praises(self, visitor):
        for path in PUBLIC:
            text = visitor.get(path).text
            assert "aggregateRating" not in text
            assert '"review"' not in text

    def test_a_name_cannot_end_the_script(self, visitor, db):
        db.session.execute(sa.text("UPDATE strategy SET name = '</script><b>x' WHERE slug = :slug"), {"slug": SLUG})

        page = visitor.get(f"/strategies/{SLUG}").text

        assert "</script><b>" not in page
        assert told(BeautifulSoup(page, "html.parser"))["Product"]["name"] == "</script><b>x"


class TestPictures:
    @pytest.mark.parametrize("path", PUBLIC)
    def test_every_page_has_a_picture_that_is_there(self, visitor, soup, path):
        page = soup(path)
        address = urlsplit(meta(page, "og:image"))

        answer = visitor.get(f"{address.path}?{address.query}")

        assert answer.mimetype == "image/png"
        assert Image.open(io.BytesIO(answer.data)).size == (1200, 630)
        assert meta(page, "twitter:image") == meta(page, "og:image")
        assert meta(page, "og:image:alt") == meta(page, "twitter:image:alt")
        assert len(answer.data) < 60_000

    def test_no_two_pages_have_the_same(self, soup):
        pictures = [meta(soup(path), "og:image") for path in PUBLIC]

        assert len(set(pictures)) == len(PUBLIC)

    def test_one_that_is_known_is_not_sent_again(self, visitor, soup):
        address = meta(soup(f"/strategies/{SLUG}"), "og:image")
        first = visitor.get(address)

        again = visitor.get(address, headers={"If-None-Match": first.headers["ETag"]})

        assert "max-age=31536000" in first.headers["Cache-Control"]
        assert (again.status_code, again.data) == (304, b"")

    def test_an_address_without_its_version_is_kept_for_a_day(self, visitor):
        assert "max-age=86400" in visitor.get("/cards/home.png").headers["Cache-Control"]

    @pytest.mark.parametrize("path", ["/cards/nothing.png", "/cards/strategies/nothing.png"])
    def test_there_is_none_of_what_has_no_page(self, visitor, path):
        assert visitor.get(path).status_code == 404

    def test_it_changes_with_its_words(self, visitor, soup, db):
        before = meta(soup(f"/strategies/{SLUG}"), "og:image")
        db.session.execute(sa.text("UPDATE strategy SET summary = 'Another.' WHERE slug = :slug"), {"slug": SLUG})

        assert meta(soup(f"/strategies/{SLUG}"), "og:image") != before

    def test_words_too_long_for_it_are_cut(self):
        long = Card(title="Word " * 60, text="word " * 200, above="above", store="Store")

        assert Image.open(io.BytesIO(drawn(long))).size == (1200, 630)

    def test_each_says_that_trading_can_lose_and_that_its_line_is_drawn(self):
        card = Card(*CARDS["home"], above="", store="Store")

        assert "a drawn line" in card.alt


class TestFiles:
    def test_the_store_can_be_put_among_a_phones_programs(self, visitor, soup):
        address = soup("/").find("link", rel="manifest")["href"]
        answer = visitor.get(address)
        manifest = answer.json

        assert answer.mimetype == "application/manifest+json"
        assert manifest["display"] == "standalone"
        assert {"name", "short_name", "start_url", "theme_color", "background_color"} <= set(manifest)
        assert {(icon["sizes"], icon["purpose"]) for icon in manifest["icons"]} == {
            ("192x192", "any"),
            ("512x512", "any"),
            ("512x512", "maskable"),
        }
        for icon in manifest["icons"]:
            with visitor.get(icon["src"]) as picture:
                width, _, height = icon["sizes"].partition("x")
                assert Image.open(io.BytesIO(picture.data)).size == (int(width), int(height))

    def test_the_page_without_a_line_holds_nothing_of_its_visitor(self, visitor):
        answer = visitor.get("/offline")

        assert "You are offline" in answer.text
        assert "csrf" not in answer.text.lower()
        assert "Set-Cookie" not in answer.headers

    def test_what_the_service_worker_keeps_is_there(self, visitor):
        answer = visitor.get("/sw.js")
        [kept] = [line for line in answer.text.splitlines() if line.startswith("const KEPT")]

        assert answer.mimetype == "text/javascript"
        assert answer.headers["Cache-Control"] == "no-cache"
        for path in json.loads(kept.removeprefix("const KEPT = ").rstrip(";")):
            with visitor.get(path) as file:
                assert file.status_code == 200, path

    def test_the_sitemap_says_when_a_strategy_changed(self, visitor):
        text = visitor.get("/sitemap.xml").text
        changed = re.findall(r"<loc>([^<]+)</loc><lastmod>(\d{4}-\d\d-\d\d)</lastmod>", text)

        assert len(changed) == len(STRATEGIES)
        assert all("/strategies/" in address for address, _ in changed)


class TestLightness:
    """What the front page costs a phone: at most 10 requests and 60 kB, whatever is added to it."""

    def weights(self, visitor, soup):
        page = soup("/")
        asked = ["/"]
        asked += [link["href"] for link in page.find_all("link", rel=["stylesheet", "preload", "manifest"])]
        asked += [page.find("link", rel="icon")["href"]]
        asked += [tag["src"] for tag in page.find_all("script", src=True)]
        found = {}
        for path in asked:
            with visitor.get(path, headers={"Accept-Encoding": "gzip"}) as answer:
                assert answer.status_code == 200, path
                found[path] = len(answer.data)
        return found

    def test_the_front_page_is_light(self, visitor, soup):
        weights = self.weights(visitor, soup)

        assert len(weights) <= 10
        assert sum(weights.values()) < 56_000, weights  # the rest of the 60 kB are headers

    def test_it_asks_nobody_else(self, soup):
        page = soup("/")
        asked = [tag.get("src") or tag["href"] for tag in page.find_all(["script", "img", "link"]) if tag.get("src")]
        asked += [link["href"] for link in page.find_all("link") if "canonical" not in link["rel"]]

        assert asked
        assert all(address.startswith("/") for address in asked)

    @pytest.mark.parametrize("path", ["/", "/faq", "/terms", "/privacy", "/disclaimer"])
    def test_who_only_looks_gets_no_cookie(self, visitor, path):
        assert "Set-Cookie" not in visitor.get(path).headers
