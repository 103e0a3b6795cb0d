"""Two presses, the back button and a closed tab at the payment: one purchase, and never a page that is stuck."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

PAYMENT = re.compile("/dev/stripe/checkout/")


@pytest.fixture
def buyer(customer):
    """Somebody who stands before the button."""
    buyer = customer()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    return buyer


def purchases(page: Page) -> list[str]:
    page.goto("/dashboard")
    return page.get_by_role("table", name="Purchases").locator("tbody tr").all_text_contents()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_double_click_leads_to_one_payment_page_and_one_purchase(script, open_browser, buyer):
    page = open_browser(buyer, java_script_enabled=script)
    page.goto("/checkout")

    page.get_by_role("button", name="Pay $99.00").dblclick()

    expect(page).to_have_url(PAYMENT)
    assert len(purchases(page)) == 1


def test_who_goes_back_can_press_again_and_finds_the_same_page(open_browser, buyer):
    page = open_browser(buyer)
    page.goto("/checkout")
    page.get_by_role("button", name="Pay $99.00").click()
    expect(page).to_have_url(PAYMENT)
    first = page.url

    page.go_back()
    button = page.get_by_role("button", name="Pay $99.00")
    expect(button).not_to_have_attribute("aria-disabled", "true")
    button.click()

    expect(page).to_have_url(first)


def test_a_closed_tab_is_gone_on_with_from_the_dashboard(open_browser, buyer):
    page = open_browser(buyer)
    page.goto("/checkout")
    page.get_by_role("button", name="Pay $99.00").click()
    expect(page).to_have_url(PAYMENT)
    first = page.url
    page.close()

    page = open_browser(buyer)
    page.goto("/dashboard")
    page.get_by_role("link", name="Go on paying").first.click()
    page.get_by_role("button", name="Pay $99.00").click()

    expect(page).to_have_url(first)
