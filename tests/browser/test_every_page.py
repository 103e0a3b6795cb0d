"""Every page, as each kind of visitor: no complaint of the browser, nothing too wide, and nothing that axe finds.

The browser's complaints are the diary's (see `conftest.py`): errors on the console, scripts that raised, requests that
failed, and whatever our content security policy refused.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.looks import against_axe, too_wide
from tests.browser.places import REFUSALS, Place

WHO = (
    "stranger",
    "newcomer",
    "buyer",
    "owner",
    "returned",
    "stuck",
    "paused",
    "leaving",
    "refused",
    "waiting",
    "nameless",
    "staff",
)


def test_everybody_looks(people):
    assert set(people.by_name) == set(WHO)


@pytest.fixture
def each_page(places, open_browser, diary) -> Callable[..., list[str]]:
    """Open every page and gather what `look` finds on it."""

    def each_page(look: Callable[[Page], list[str]], chosen: Callable[[Place], bool], **options) -> list[str]:
        diary.expect(*REFUSALS)
        found = []
        page = None
        for place in filter(chosen, places):
            if page is None:
                # The browser goes on as the one that signed in, so that its sign-in counts as a fresh one.
                same = {"user_agent": place.visitor.http.headers["User-Agent"]} if place.visitor.http.cookies else {}
                page = open_browser(place.visitor, **options, **same)
            page.goto(place.path)
            found += [f"{place.path}: {what}" for what in look(page)]
        assert page is not None, "nobody went anywhere"
        return found

    return each_page


@pytest.mark.parametrize("who", WHO)
def test_on_a_phone_in_the_light_axe_finds_nothing_and_nothing_is_too_wide(each_page, who):
    def look(page: Page) -> list[str]:
        return [*against_axe(page), *too_wide(page)]

    phone = {"width": 390, "height": 844}
    found = each_page(look, lambda place: place.who == who, color_scheme="light", viewport=phone)

    assert not found, "\n".join(found)


@pytest.mark.parametrize("who", WHO)
def test_on_a_desk_in_the_dark_axe_finds_nothing(each_page, who):
    desk = {"width": 1280, "height": 900}

    def chosen(place: Place) -> bool:
        return place.who == who and not place.is_for_developers

    found = each_page(against_axe, chosen, color_scheme="dark", viewport=desk)

    assert not found, "\n".join(found)


def test_the_icons_of_the_page_are_pictures(open_browser):
    page = open_browser()
    page.goto("/")

    addresses = [link.get_attribute("href") for link in page.locator("link[rel~=icon]").all()]
    answers = [page.request.get(address) for address in (*addresses, "/favicon.ico")]

    assert len(addresses) >= 2
    for answer in answers:
        assert answer.ok
        assert answer.headers["content-type"].startswith("image/")
        assert answer.body()
