import re
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup

from sts_app.catalog.services import seed_catalog
from sts_app.provisioning.control import set_switch
from sts_app.provisioning.rules import Switch

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
    assert {tag.get("src") is not None for tag in page.find_all("script")} == {True}
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
