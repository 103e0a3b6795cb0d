"""A name is checked while it is typed, beside its field, and the rest of the form stays as it is."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect


@pytest.fixture
def page(open_browser, customer) -> Page:
    """The form, before a newcomer."""
    guest = customer()
    guest.open("/sign-in")
    guest.sign_in()
    page = open_browser(guest)
    page.goto("/onboarding")
    return page


def test_the_answer_follows_what_is_typed(page):
    field, answer = page.locator("[name=tradingview_name]"), page.locator("#answer")
    page.locator("[name=name]").fill("Vera Visitor")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "check-name" in request.url else None)

    field.press_sequentially("unknown_l", delay=30)
    expect(answer).to_contain_text("TradingView does not know this name")
    expect(answer).to_contain_text("Did you mean unknown_I, unknown_1, unkn0wn_l or unkn0wn_I?")
    field.fill("ver")
    expect(answer).to_contain_text("It is Ver there")
    with page.expect_request(re.compile("tradingview_name=v$")):
        field.fill("v")
    expect(answer).to_have_text("")

    assert [re.sub(r".*\?", "", url) for url in asked] == [
        "tradingview_name=unknown_l",
        "tradingview_name=ver",
        "tradingview_name=v",
    ]
    expect(field).to_be_focused()
    expect(page.locator("[name=name]")).to_have_value("Vera Visitor")


def test_it_is_announced_and_belongs_to_its_field(page):
    expect(page.locator("#answer")).to_have_attribute("aria-live", "polite")
    described = page.locator("[name=tradingview_name]").get_attribute("aria-describedby")
    assert "answer" in (described or "").split()


def test_a_slower_answer_to_what_was_typed_before_is_not_shown(page):
    """The first answer would come after the second, had the second question not called it off."""
    held: list[object] = []

    def hold_the_first(route, request):
        if "slow_one" in request.url:
            held.append(route)
        else:
            route.continue_()

    page.route("**/onboarding/check-name*", hold_the_first)
    field, answer = page.locator("[name=tradingview_name]"), page.locator("#answer")
    with page.expect_request("**/onboarding/check-name*slow_one"):
        field.fill("slow_one")
    field.fill("vera_two")

    expect(answer).to_contain_text("It is Vera_two there")
    for route in held:
        route.abort()
    page.wait_for_timeout(300)
    expect(answer).to_contain_text("It is Vera_two there")


def test_an_answer_that_does_not_come_is_told_and_an_old_one_does_not_stay(page, diary):
    diary.expect(503)
    field, answer = page.locator("[name=tradingview_name]"), page.locator("#answer")
    field.fill("vera_one")
    expect(answer).to_contain_text("It is Vera_one there")

    page.route("**/onboarding/check-name*", lambda route: route.fulfill(status=503, body="Not now."))
    field.press_sequentially("x")

    expect(page.locator("[data-failed]")).to_contain_text("The answer did not reach this page.")
    expect(answer).to_have_text("")
    page.unroute("**/onboarding/check-name*")
    field.press_sequentially("y")
    expect(answer).to_contain_text("It is Vera_onexy there")
    expect(page.locator("[data-failed]")).to_have_text("")


def test_a_slow_answer_is_announced_and_replaced_when_it_comes(page):
    held: list[Route] = []
    page.route("**/onboarding/check-name*", lambda route: held.append(route))
    page.locator("[name=tradingview_name]").fill("vera_slow")

    expect(page.locator("[data-asking]")).to_be_visible()
    expect(page.locator("[data-slow]")).to_contain_text("TradingView takes a while to answer.", timeout=8_000)
    expect(page.locator("[data-asking]")).to_be_hidden()
    held[0].continue_()

    expect(page.locator("#answer")).to_contain_text("It is Vera_slow there")
    expect(page.locator("[data-slow]")).to_have_text("")


def test_what_was_typed_is_still_there_after_the_page_was_left(page):
    page.locator("[name=name]").fill("Vera Visitor")
    page.locator("[name=tradingview_name]").fill("vera_left")
    page.goto("/terms")

    page.goto("/onboarding")

    expect(page.locator("[name=name]")).to_have_value("Vera Visitor")
    expect(page.locator("[name=tradingview_name]")).to_have_value("vera_left")
    expect(page.locator("#answer")).to_contain_text("It is Vera_left there")
