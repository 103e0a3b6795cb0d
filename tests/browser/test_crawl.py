"""From the front door every page is reached, none is broken, and no link leads nowhere: for each kind of visitor."""

from __future__ import annotations

import re
from collections import Counter

import html5lib
import pytest
from bs4 import BeautifulSoup, Tag

from tests.browser.crawl import Crawl, Page
from tests.house.test_copy import claims_in

# What no link of a page leads to, and why.
UNREACHED = {
    "accounts.continue_sign_in": "a letter holds its link",
    "accounts.letter_sent": "a form leads there",
    "support.contact_sent": "a form leads there",
    "support.thread_by_link": "a letter holds its link",
    "support.picture_by_link": "a picture of a thread that a letter leads to",
    "support.picture": "a picture that somebody sent",
    "pages.letter_arrived": "a letter holds its link",
    "pages.favicon": "browsers ask for it whatever a page says",
    "billing.portal_again": "an old address of the portal, for who signs in on the way",
    "billing.confirm_have_back": "shown only where a purchase may be had back",
    "ops.health": "for the host's probe",
    "ops.healthz": "for the host's probe",
    "ops.ready": "for the host's probe",
    "ops.api_health": "for machines",
    "products.all_products": "for machines",
    "products.one_product": "for machines",
    "products.all_prices": "for machines",
    "products.one_price": "for machines",
    "billing_dev.state": "for machines",
    "billing_dev.portal": "a form leads there",
    "billing_dev.recovery": "shown only for a checkout that ended",
    "provisioning_dev.state": "for machines",
    "emails_dev.outbox_json": "for machines",
    "emails_dev.letter_html": "a letter's own page shows it in a frame",
    "ops_dev.letter_html": "a letter's own page shows it in a frame",
    "accounts.login": "an alias for who types it",
    "accounts.profile": "an alias for who types it",
    "pages.strategies": "an alias for who types it",
    "accounts.call_off_email": "a letter holds its link",
    "accounts.confirm_email": "a letter holds its link",
    "accounts.go_on": "shown where a sign-in comes between a form and what it does",
    "accounts.google_callback": "Google leads back there",
    "privacy.certificate": "a letter holds its link",
    "pages.standing": "a part of a page, asked for while something is waited for",
    "pages.offline": "the service worker keeps it",
    "pages.service_worker": "a script asks for it",
    "pages.patterns": "for those who build pages",
    "pages.refusal_shown": "for those who build pages",
}
# A letter alone, as a frame shows it.
LETTER = re.compile(r"^/dev/(outbox|letters)/[^?]+/html(\?|$)")
# Attributes whose words are ids of the same page.
REFERRING = ("for", "list", "form", "aria-labelledby", "aria-describedby", "aria-controls", "aria-owns", "headers")


def found_in(crawls: dict[str, Crawl], look) -> list[str]:
    """What `look` says of each page, with the visitor and the address before it."""
    return [
        f"{crawl.who} {page.path}: {what}"
        for crawl in crawls.values()
        for page in crawl.whole_pages()
        for what in look(page)
    ]


def test_every_page_of_the_route_table_is_reached_from_the_front_door(app, crawls):
    asked_for = {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in rule.methods}
    named = {
        name
        for crawl in crawls.values()
        for reference in crawl.references
        if reference.method == "GET" and (name := crawl.endpoint_of(reference.address)[0])
    }
    reached = {name for crawl in crawls.values() for name in crawl.endpoints} | named

    missing = asked_for - reached - UNREACHED.keys()
    assert not missing, "no page leads to " + ", ".join(sorted(missing))
    assert UNREACHED.keys() - asked_for == set(), "reasons for what is not there any more"


def test_no_link_leads_nowhere(crawls):
    dead = {
        f"{crawl.who} {reference.page}: {reference.element} to {reference.address} ({page.status})"
        for crawl in crawls.values()
        for reference in crawl.references
        if (page := crawl.pages.get(reference.address)) is not None and page.status != 200
    }

    assert not dead, "\n".join(sorted(dead))


def test_what_a_page_loads_is_there(crawls):
    stranger = crawls["stranger"]
    loaded = {
        reference.address: f"{reference.page}: {reference.element} {reference.address}"
        for crawl in crawls.values()
        for reference in crawl.references
        if reference.element in ("script", "link", "img", "source", "use", "object")
        if reference.address.startswith("/static/")
    }

    missing = {
        what: answer.status_code
        for address, what in loaded.items()
        if (answer := stranger.visitor.http.get(stranger.visitor.url + address, timeout=30)).status_code != 200
    }

    assert loaded
    assert missing == {}


def test_no_form_and_no_swap_asks_where_nobody_answers(crawls):
    dead = {
        f"{crawl.who} {reference.page}: {reference.method} {reference.address}"
        for crawl in crawls.values()
        for reference in crawl.references
        if reference.element in ("form", "hx-get", "hx-post")
        if crawl.endpoint_of(reference.address, reference.method)[0] is None
    }

    assert dead == set()


def test_no_fragment_is_dead(crawls):
    dead = {
        f"{crawl.who} {reference.page}: {reference.address}#{reference.fragment}"
        for crawl in crawls.values()
        for reference in crawl.references
        if reference.element == "a" and reference.fragment
        if (page := crawl.pages.get(reference.address)) is not None and page.is_html
        if reference.fragment not in page.ids
    }

    assert dead == set()


def broken_markup(page: Page) -> list[str]:
    parser = html5lib.HTMLParser()
    parser.parse(page.content, transport_encoding="utf-8")
    lines = page.content.decode().splitlines()
    return [
        f"line {line}: {code} {data or ''} {lines[line - 1].strip()[:100] if line <= len(lines) else ''}"
        for (line, _), code, data in parser.errors
    ]


def twice_named(page: Page) -> list[str]:
    return [f"id {name} stands {times} times" for name, times in Counter(page.ids).items() if times > 1]


def pointing_nowhere(page: Page) -> list[str]:
    ids = set(page.ids)
    pointing = [
        (name, target)
        for name in REFERRING
        for tag in page.soup.find_all(attrs={name: True})
        for target in str(" ".join(tag[name]) if isinstance(tag[name], list) else tag[name]).split()
    ]
    pointing += [
        ("hx-target", target[1:])
        for tag in page.soup.find_all(attrs={"hx-target": re.compile(r"^#[\w-]+$")})
        for target in [str(tag["hx-target"])]
    ]
    return [f"{name} points to {target}, which is not there" for name, target in pointing if target not in ids]


def badly_built(page: Page) -> list[str]:
    soup, found = page.soup, []
    if not (isinstance(soup.html, Tag) and soup.html.get("lang")):
        found.append("no language is named")
    for name in ("title", "main", "h1"):
        times = len([one for one in soup.find_all(name) if one.find_parent("svg") is None])
        if times != 1:
            found.append(f"{name} stands {times} times")
    found += [f"a picture without words or size: {img}" for img in soup.find_all("img") if not _is_whole_picture(img)]
    found += [
        f"a new window that can reach back: {link.get('href')}"
        for link in soup.find_all("a", target="_blank")
        if "noopener" not in (link.get("rel") or [])
    ]
    return found


def _is_whole_picture(img: Tag) -> bool:
    return all(img.has_attr(name) for name in ("alt", "width", "height"))


@pytest.mark.parametrize("look", [broken_markup, twice_named, pointing_nowhere, badly_built])
def test_every_page_is_sound(crawls, look):
    def look_at(page: Page) -> list[str]:
        # A letter is written for mail programs: no more than whole markup is asked of it.
        return look(page) if look is broken_markup or not LETTER.search(page.path) else []

    found = found_in(crawls, look_at)

    assert not found, "\n".join(sorted(set(found)))


def test_no_page_and_no_letter_makes_a_forbidden_claim(crawls):
    """As they are served: with what strategies, plans and people's states put into them."""

    def claims(page: Page) -> list[str]:
        soup = BeautifulSoup(page.content, "html.parser")
        for tag in soup(["script", "style", "svg"]):
            tag.extract()
        return claims_in(soup.get_text(" "))

    read = [page for crawl in crawls.values() for page in crawl.whole_pages()]
    found = found_in(crawls, claims)

    assert not found, "\n".join(found)
    assert len(read) > 60
    assert any(LETTER.search(page.path) for page in read)
