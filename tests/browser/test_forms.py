"""Forms that need another look, and hands that hold no mouse."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

FAULTS = ("name", "tradingview_name", "terms", "disclaimer")


def field(page: Page, name: str) -> Locator:
    return page.locator(f"[name={name}]")


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until `wanted` has the focus, as somebody does who has no mouse."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab does not lead to {wanted}")


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_form_with_faults_comes_back_with_each_beside_its_field_and_the_focus_on_the_first(
    script, open_browser, customer, diary
):
    diary.expect(422)
    guest = customer()
    guest.open("/sign-in")
    guest.sign_in()
    page = open_browser(guest, java_script_enabled=script)
    page.goto("/onboarding")
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))

    with page.expect_response(lambda answer: answer.status == 422):
        page.get_by_role("button", name="Check the name and go on").click()

    for name in FAULTS:
        expect(field(page, name)).to_have_attribute("aria-invalid", "true")
        told = field(page, name).get_attribute("aria-describedby") or ""
        expect(page.locator(f"#{told.split()[-1]}")).to_be_visible()
    if script:
        expect(field(page, "name")).to_be_focused()
        assert loads == []


def test_the_focus_goes_on_to_the_next_fault_and_what_was_typed_stays(open_browser, customer, diary):
    diary.expect(422)
    guest = customer()
    guest.open("/sign-in")
    guest.sign_in()
    page = open_browser(guest)
    page.goto("/onboarding")
    field(page, "name").fill("Vera Visitor")
    field(page, "tradingview_name").fill("unknown_to_all")
    field(page, "terms").check()
    field(page, "disclaimer").check()

    page.get_by_role("button", name="Check the name and go on").click()

    expect(page.get_by_text("TradingView does not know this name")).to_be_visible()
    expect(field(page, "tradingview_name")).to_be_focused()
    expect(field(page, "tradingview_name")).to_have_value("unknown_to_all")
    expect(field(page, "name")).not_to_have_attribute("aria-invalid", "true")
    expect(field(page, "terms")).to_be_checked()


def test_somebody_without_a_mouse_signs_in(open_browser, customer):
    guest = customer()
    page = open_browser()
    page.goto("/")
    tab_to(page, page.get_by_role("link", name="Sign in"))
    page.keyboard.press("Enter")
    expect(field(page, "email")).to_be_focused()

    page.keyboard.type(guest.email)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/sign-in/sent$"))
    letter = guest.wait_for(lambda: guest.letter("sign_in"), "the sign-in letter", seconds=30)
    code = re.search(r"(?<!\d)\d{3} ?\d{3}(?!\d)", letter["text"])
    assert code is not None
    tab_to(page, field(page, "code"))
    page.keyboard.type(code.group(0))
    tab_to(page, page.get_by_role("button", name="Sign in"))
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile("/onboarding|/dashboard"))


def test_the_first_tab_offers_to_skip_to_the_content(open_browser):
    page = open_browser()
    page.goto("/pricing")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_be_focused()


@pytest.fixture
def settings(open_browser, customer) -> Page:
    guest = customer()
    guest.open("/sign-in")
    guest.sign_in()
    page = open_browser(guest)
    page.goto("/dashboard/settings")
    return page


def test_a_refusal_does_not_stand_under_the_success_before_it(settings, diary):
    diary.expect(422)
    field(settings, "name").fill("Vera Visitor")
    settings.get_by_role("button", name="Save the name").click()
    expect(settings.locator("#toasts")).to_contain_text("We call you Vera Visitor")

    field(settings, "name").fill("")
    settings.get_by_role("button", name="Save the name").click()

    expect(field(settings, "name")).to_have_attribute("aria-invalid", "true")
    expect(settings.locator("#toasts")).to_be_empty()


def test_a_form_whose_token_is_not_good_any_more_keeps_what_was_typed(settings, diary):
    diary.expect(400)
    field(settings, "name").fill("Vera Visitor")
    settings.evaluate("document.body.removeAttribute('hx-headers:inherited')")
    settings.locator("#name_form [name=csrf_token]").evaluate("element => { element.value = 'of another'; }")

    settings.get_by_role("button", name="Save the name").click()

    expect(settings.locator("#trouble")).to_contain_text("This form was not taken")
    expect(settings.locator("#trouble").get_by_role("link")).to_have_attribute("href", "/dashboard/settings")
    expect(field(settings, "name")).to_have_value("Vera Visitor")
