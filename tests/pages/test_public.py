import re
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.billing.queries import purchases_of
from sts_app.catalog.models import Mode, Plan, PlanStrategy
from sts_app.catalog.queries import plan_on_sale, strategy_by_slug
from sts_app.catalog.services import seed_catalog
from sts_app.provisioning.control import set_switch
from sts_app.provisioning.rules import Switch
from tests import builders

PUBLIC = (
    "/",
    "/strategies",
    "/strategies/nq-power-hour",
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


def test_each_page_has_a_title_a_description_and_an_address_of_its_own(soup):
    seen = [
        (
            soup(path).title.text,
            soup(path).find("meta", {"name": "description"})["content"],
            soup(path).find("link", rel="canonical")["href"],
        )
        for path in PUBLIC
    ]

    for part in zip(*seen, strict=True):
        assert len(set(part)) == len(PUBLIC)
        assert all(text == text.strip() and text for text in part)
    assert [urlsplit(canonical).path for _, _, canonical in seen] == list(PUBLIC)


@pytest.mark.parametrize("path", PUBLIC)
def test_a_page_is_well_built(soup, path):
    page = soup(path)

    assert len(page.find_all("h1")) == 1
    assert page.find("a", class_="skip-link")["href"] == "#" + page.main["id"]
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert page.find(id="toasts")["aria-live"] == "polite"
    for control in page.find_all(["input", "select", "textarea"]):
        if control.get("type") != "hidden":
            assert page.find("label", {"for": control["id"]})
    programs = [tag for tag in page.find_all("script") if tag.get("type") != "application/ld+json"]
    assert programs
    assert all(tag.get("src") for tag in programs)
    assert not page.find_all(style=True)
    assert not page.find_all("style")


@pytest.mark.parametrize("path", PUBLIC)
def test_every_link_of_a_public_page_leads_somewhere(visitor, soup, path):
    links = {urlsplit(link["href"]).path for link in soup(path).find_all("a", href=True)} - {""}

    for link in links:
        assert visitor.get(link).status_code in (200, 302, 303), link


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", ("CFTC rule 4.41", "Risk of futures trading", "This is not investment advice")),
        ("/pricing", ("CFTC rule 4.41", "All sales are final", "Risk of futures trading")),
        ("/disclaimer", ("CFTC rule 4.41", "Risk of futures trading", "This is not investment advice")),
        ("/terms", ("All sales are final", "This is not investment advice")),
        ("/faq", ("All sales are final", "This is not investment advice")),
        ("/refunds", ("All sales are final", "right of withdrawal")),
    ],
)
def test_the_notices_stand_where_they_must(visitor, path, said):
    page = visitor.get(path).text

    for words in said:
        assert words in page


def test_the_price_is_shown_and_the_notices_come_before_the_button(visitor):
    page = visitor.get("/pricing").text

    assert page.index("CFTC rule 4.41") < page.index("All sales are final") < page.index("Get access for $99.00")
    assert re.search(r'<form[^>]*action="/checkout"[^>]*method="post"', page)


def test_a_probe_for_plain_text_gets_ok(visitor):
    answer = visitor.get("/", headers={"Accept": "text/plain"})

    assert (answer.text, answer.mimetype) == ("OK", "text/plain")
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "accepted", ["*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html, text/plain;q=0.5"]
)
def test_everybody_else_gets_the_page(visitor, accepted):
    assert visitor.get("/", headers={"Accept": accepted}).mimetype == "text/html"


def test_the_questions_can_be_searched_without_script(soup):
    found = soup("/faq?q=WRONG+name").find_all("details")

    assert [question["id"] for question in found] == ["wrong-name"]
    assert found[0].has_attr("open")


def test_a_search_without_a_hit_shows_the_way_back(soup):
    page = soup("/faq?q=zebra")

    assert not page.find_all("details")
    assert "Nothing found" in page.text


def test_the_search_answers_htmx_with_its_block(visitor):
    answer = visitor.get("/faq?q=refund", headers={"HX-Request": "true"})

    assert answer.text.strip().startswith('<div id="results"')
    assert "HX-Request" in answer.headers["Vary"]


def test_while_sales_are_paused_the_price_stands_without_its_button(visitor, soup, db):
    set_switch(Switch.DISABLED, actor="user:1", because="test")
    db.session.commit()

    page = soup("/pricing").main

    assert "Sales are paused at the moment" in page.text
    assert "$99.00" in page.text
    assert not page.find("form", action="/checkout")


def test_while_sales_are_paused_the_front_page_does_not_call_to_buy(soup, db):
    set_switch(Switch.DISABLED, actor="user:1", because="test")
    db.session.commit()

    page = soup("/").main

    assert "Get access" not in page.text
    assert page.find("a", href="/pricing", string="See what is included")


def test_a_search_is_shown_as_text(visitor):
    assert "<b>hello" not in visitor.get("/faq?q=<b>hello").text


def test_robots_are_kept_out_of_private_areas(visitor):
    text = visitor.get("/robots.txt").text

    for area in ("/admin", "/dashboard", "/api", "/sign-in"):
        assert f"Disallow: {area}\n" in text
    assert "/sitemap.xml" in text


def test_the_sitemap_lists_the_public_pages(visitor):
    listed = re.findall(r"<loc>([^<]+)</loc>", visitor.get("/sitemap.xml").text)

    assert {urlsplit(address).path for address in listed} >= set(PUBLIC)


def test_the_icon_is_there(visitor):
    with visitor.get("/favicon.ico") as answer:
        assert answer.data[:4] == b"\x00\x00\x01\x00"


def test_the_patterns_show_every_access_state(visitor):
    page = visitor.get("/dev/patterns").text

    for state in ("Pending", "Active", "Action needed", "Suspended", "Failed", "Revoking", "Revoked"):
        assert state in page


class TestFurtherPlans:
    @pytest.fixture
    def monthly(self, visitor, db):
        made = Plan(
            slug="monthly",
            name="Monthly access",
            price_cents=1900,
            stripe_price_id="price_monthly",
            mode=Mode.SUBSCRIPTION,
            interval="month",
            covers_all=True,
            position=2,
        )
        db.session.add(made)
        db.session.flush()
        return made

    @pytest.fixture
    def pair(self, visitor, db):
        """Two strategies, paid once."""
        made = Plan(slug="pair", name="The pair", price_cents=4900, stripe_price_id="price_pair", position=1)
        db.session.add(made)
        db.session.flush()
        for slug in ("nq-trend-rider", "nq-power-hour"):
            db.session.add(PlanStrategy(plan_id=made.id, strategy_id=strategy_by_slug(slug).id))
        db.session.flush()
        return made

    def cards(self, page):
        return {card.h3.text: " ".join(card.text.split()) for card in page.select(".plan-card")}

    def test_a_store_with_one_plan_shows_no_cards(self, soup):
        page = soup("/pricing")

        assert self.cards(page) == {}
        assert page.h1.text == "One price, everything included"

    def test_each_stands_below_lifetime_access_in_order_with_price_and_button(self, soup, monthly, pair):
        page = soup("/pricing")

        assert list(self.cards(page)) == ["The pair", "Monthly access"]
        assert "$49.00 once, USD" in self.cards(page)["The pair"]
        assert "$19.00 every month, USD" in self.cards(page)["Monthly access"]
        assert [card.find("a", class_="button")["href"] for card in page.select(".plan-card")] == [
            "/checkout?plan=pair",
            "/checkout?plan=monthly",
        ]
        assert page.find("form", action="/checkout")

    def test_each_says_what_it_covers(self, soup, monthly, pair):
        cards = self.cards(soup("/pricing"))

        assert "NQ Trend Rider NQ Power Hour" in cards["The pair"]
        assert "All strategies of the catalog" in cards["Monthly access"]
        assert "Renews by itself until you end it" in cards["Monthly access"]
        assert "Renews" not in cards["The pair"]

    def test_the_page_does_not_say_that_there_is_no_subscription(self, soup, monthly):
        page = soup("/pricing")

        assert "No tiers, no subscription" not in page.text
        assert "No subscription" not in page.find("meta", {"name": "description"})["content"]

    def test_what_is_not_on_sale_is_not_shown(self, soup, monthly):
        monthly.active = False

        assert self.cards(soup("/pricing")) == {}

    def test_while_sales_are_paused_no_card_has_a_button(self, soup, db, monthly):
        set_switch(Switch.DISABLED, actor="user:1", because="test")
        db.session.commit()

        assert not soup("/pricing").select_one(".plan-card .button")

    def test_without_lifetime_access_the_others_are_sold_with_the_notices_before_them(self, soup, db, monthly):
        db.session.execute(sa.update(Plan).where(Plan.slug == "lifetime").values(active=False))
        page = soup("/pricing").main

        assert "Nothing can be bought" not in page.text
        assert page.text.index("CFTC rule 4.41") < page.text.index("Subscribe for")

    def test_a_subscriber_sees_what_they_have(self, app, visitor, soup, monthly):
        buyer = self.buyer(app, visitor, monthly)
        card = self.cards(soup("/pricing"))["Monthly access"]

        assert buyer
        assert "You have this It renews on 21 Dec 2026, 12:00 UTC: $19.00 every month." in card
        assert "Subscribe" not in card

    def test_who_holds_everything_for_good_is_sold_nothing_further(self, app, visitor, soup, monthly, pair):
        self.buyer(app, visitor, plan_on_sale())
        cards = self.cards(soup("/pricing"))

        assert all("Your lifetime access includes this." in card for card in cards.values())
        assert not any("for $" in card for card in cards.values())

    @pytest.fixture(autouse=True)
    def clock(self):
        with builders.stopped_clock() as traveller:
            yield traveller

    def buyer(self, app, visitor, plan):
        builders.vendor()
        till = builders.cashier(builders.rings(app.test_client()))
        user = builders.named(builders.alice(), "Anna")
        till.pay(builders.open_page(user, plan).session_id)
        builders.work()
        builders.enter(visitor, user)
        return user


class TestWithdrawing:
    @pytest.fixture(autouse=True)
    def clock(self):
        with builders.stopped_clock() as traveller:
            yield traveller

    def test_the_page_of_refunds_tells_a_stranger_where_it_is_and_how_to_get_there(self, soup):
        page = soup("/refunds").main

        assert "Withdraw from contract here" in page.text
        assert "Confirm withdrawal" in page.text
        assert page.find("a", href="/sign-in?next=/refunds")

    @pytest.mark.parametrize("days", [1, 40])
    def test_every_paid_purchase_can_be_withdrawn_from_there(self, app, visitor, soup, clock, days):
        user = TestFurtherPlans().buyer(app, visitor, plan_on_sale())
        [bought] = purchases_of(user.id)
        clock.shift(timedelta(days=days))
        builders.enter(visitor, user)

        link = soup("/refunds").main.find("a", href=f"/purchases/{bought.ref}/withdraw")
        assert link.text == f"Withdraw from contract here for purchase {bought.ref}"

    def test_who_bought_nothing_is_told_so(self, visitor, soup):
        builders.enter(visitor, builders.bob())

        assert "You have no paid purchase to withdraw from." in soup("/refunds").main.text

    def test_the_answer_about_refunds_says_where_it_is(self, soup):
        answer = soup("/faq").find(id="refunds")

        assert "Withdraw from contract here" in answer.text


class TestByHand:
    """A store without a way to TradingView promises nothing that only TradingView could show."""

    @pytest.mark.parametrize("path", ["/", "/pricing", "/faq", "/strategies/nq-power-hour"])
    def test_no_page_says_that_tradingview_is_asked(self, visitor, soup, monkeypatch, path):
        def said() -> list[str]:
            page = visitor.get(path).text.lower()
            return [claim for claim in ("read back", "reading it back", "checked", "minute or two") if claim in page]

        assert said() != []
        builders.by_hand(monkeypatch)

        assert said() == []
