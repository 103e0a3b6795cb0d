"""What search engines, previews and shared links read of the public pages: each its own, and true."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.crawl import Crawl, Page

# What schema.org and the search engines' own documents ask of each type, by the property that must not be empty.
REQUIRED = {
    "Organization": ("name", "url", "logo"),
    "WebSite": ("name", "url"),
    "Product": ("name", "description", "image", "offers"),
    "Offer": ("price", "priceCurrency", "availability", "url"),
    "FAQPage": ("mainEntity",),
    "Question": ("name", "acceptedAnswer"),
    "Answer": ("text",),
    "BreadcrumbList": ("itemListElement",),
    "ListItem": ("position", "name"),
    "ItemList": ("itemListElement",),
    "Brand": ("name",),
    "ContactPage": ("name", "url"),
    "ContactPoint": ("contactType",),
    "ImageObject": ("url",),
    "WebPage": ("name", "url"),
    "SearchAction": ("target", "query-input"),
    "EntryPoint": ("urlTemplate",),
}
EXPECTED = {
    "/": {"Organization", "WebSite"},
    "/pricing": {"Product", "Offer"},
    "/faq": {"FAQPage"},
    "/strategies": {"BreadcrumbList"},
    "/strategies/nq-momentum-alpha": {"BreadcrumbList"},
}
ADDRESSES = ("url", "item", "logo", "image", "@id")


@pytest.fixture
def stranger(crawls) -> Crawl:
    return crawls["stranger"]


@pytest.fixture
def public(stranger) -> dict[str, Page]:
    """The pages that robots may show, by address."""
    return {
        page.path: page
        for page in stranger.whole_pages()
        if page.is_shown_to_robots and "?" not in page.path and not page.path.startswith(shut_to_robots(stranger))
    }


def shut_to_robots(stranger: Crawl) -> tuple[str, ...]:
    return tuple(re.findall(r"^Disallow: *(\S+)", stranger.pages["/robots.txt"].content.decode(), re.M))


@pytest.fixture
def named_in_the_sitemap(stranger) -> set[str]:
    locations = re.findall(r"<loc>([^<]+)</loc>", stranger.pages["/sitemap.xml"].content.decode())
    return {location.removeprefix(stranger.visitor.url) or "/" for location in locations}


def test_the_sitemap_names_the_pages_that_robots_may_show_and_no_others(public, named_in_the_sitemap):
    assert set(public) == named_in_the_sitemap
    assert len(public) >= 15


def test_no_page_of_the_sitemap_is_shut_to_robots(stranger, named_in_the_sitemap):
    shut = shut_to_robots(stranger)

    assert shut
    assert [path for path in named_in_the_sitemap if path.startswith(shut)] == []


def test_every_page_has_a_title_of_its_own(crawls):
    """Of the pages that one visitor comes to: two people may each withdraw from a purchase of their own."""
    for who, crawl in crawls.items():
        pages = {
            page.path.partition("?")[0]: page.title for page in crawl.whole_pages() if not page.path.startswith("/dev/")
        }
        shared = {title for title, times in Counter(pages.values()).items() if times > 1}

        assert {path: title for path, title in pages.items() if title in shared} == {}, who
        assert [path for path, title in pages.items() if not 10 <= len(title) <= 70] == [], who


def test_every_public_page_has_a_description_of_its_own(public):
    told = {path: page.meta("description") or "" for path, page in public.items()}

    assert {path: len(text) for path, text in told.items() if not 50 <= len(text) <= 180} == {}
    assert [text for text, times in Counter(told.values()).items() if times > 1] == []


def test_every_public_page_says_where_it_is_at_home(public, stranger):
    wrong = {}
    for path, page in public.items():
        links = [link.get("href") for link in page.soup.find_all("link", rel="canonical")]
        if links != [stranger.visitor.url + path] or page.meta("og:url") != stranger.visitor.url + path:
            wrong[path] = (links, page.meta("og:url"))

    assert wrong == {}


def test_every_public_page_can_be_shared_with_a_picture_that_is_there(public, stranger):
    wrong = {}
    for path, page in public.items():
        told = {
            name: page.meta(name) for name in ("og:title", "og:description", "og:image:alt", "twitter:card", "og:type")
        }
        image = page.meta("og:image") or ""
        if not all(told.values()) or not image.startswith(stranger.visitor.url):
            wrong[path] = (told, image)
            continue
        answer = stranger.visitor.http.get(image, timeout=30)
        if answer.status_code != 200 or not answer.headers["Content-Type"].startswith("image/"):
            wrong[path] = (image, answer.status_code)

    assert wrong == {}


def things(page: Page) -> Iterator[dict[str, Any]]:
    """Everything that a page's JSON-LD describes, nested things as well. Raises for what is no JSON."""
    for script in page.soup.find_all("script", type="application/ld+json"):
        told = json.loads(script.get_text())
        for thing in told if isinstance(told, list) else [told]:
            assert thing.get("@context") in ("https://schema.org", "https://schema.org/"), page.path
            yield from within(thing)


def within(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "@type" in value:
            yield value
        for inner in value.values():
            yield from within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from within(inner)


def test_json_ld_has_what_its_types_require(public):
    wrong = []
    for path, page in public.items():
        for thing in things(page):
            kind = thing["@type"]
            if kind not in REQUIRED:
                wrong.append(f"{path}: {kind}: say in REQUIRED what this type needs")
                continue
            is_reference = set(thing) <= {"@type", "@id", "name", "url"} and "@id" in thing
            missing = [name for name in REQUIRED[kind] if thing.get(name) in (None, "", [])]
            if missing and not is_reference:
                wrong.append(f"{path}: {kind} lacks {', '.join(missing)}")

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", EXPECTED)
def test_the_pages_that_say_what_they_are_say_it(public, path):
    assert EXPECTED[path] - {thing["@type"] for thing in things(public[path])} == set()


def test_json_ld_names_addresses_that_are_there(public, stranger):
    named = {
        address
        for page in public.values()
        for thing in things(page)
        for name in ADDRESSES
        for address in ([thing[name]] if isinstance(thing.get(name), str) else thing.get(name) or [])
        if isinstance(address, str)
    }

    assert [address for address in named if not address.startswith(("http://", "https://"))] == []
    ours = {address.partition("#")[0] for address in named if address.startswith(stranger.visitor.url)}
    answers = {address: stranger.visitor.http.get(address, timeout=30).status_code for address in ours}
    assert {address: status for address, status in answers.items() if status != 200} == {}


def test_an_offer_says_the_price_that_its_page_shows(public):
    offers = [(path, thing) for path, page in public.items() for thing in things(page) if thing["@type"] == "Offer"]

    assert offers
    for path, offer in offers:
        assert f"${offer['price']}" in public[path].soup.get_text(" "), path
        assert offer["priceCurrency"] == "USD"


def test_the_questions_that_robots_are_told_are_those_that_people_read(public):
    page = public["/faq"]
    shown = " ".join(page.soup.get_text(" ").split())
    told = [thing for thing in things(page) if thing["@type"] == "Question"]

    assert len(told) == len(page.soup.select("main details"))
    assert [thing["name"] for thing in told if " ".join(thing["name"].split()) not in shown] == []


def test_breadcrumbs_count_from_one_and_are_those_on_the_page(public):
    seen = 0
    for path, page in public.items():
        for trail in (thing for thing in things(page) if thing["@type"] == "BreadcrumbList"):
            steps = trail["itemListElement"]
            seen += 1
            assert [step["position"] for step in steps] == list(range(1, len(steps) + 1)), path

    assert seen
