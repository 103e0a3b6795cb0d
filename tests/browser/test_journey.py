"""The journey of a newcomer from the front page to six active strategies, with script and without."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from sts_app.ops.journey import Customer

SIX = 6


def badges(page: Page, state: str):
    return page.locator("#access tbody td:first-of-type", has_text=re.compile(rf"^\s*{state}\s*$"))


def go_shopping(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Read the strategies").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Strategies")
    page.get_by_role("link", name="NQ Momentum Alpha").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("NQ Momentum Alpha")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Pricing").click()
    page.get_by_role("button", name=re.compile("^Get access for")).click()
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))


def sign_in(page: Page, who: Customer) -> None:
    """By the link of the letter, as it stands in the outbox."""
    page.get_by_label("E-mail address").fill(who.email)
    page.get_by_role("button", name="Send me a link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Look into your mail")
    who.wait_for(lambda: who.letter("sign_in"), "the sign-in letter", seconds=30)
    page.get_by_role("link", name="outbox").click()
    page.get_by_role("link", name="Your sign-in link").click()
    page.locator('#text a[href*="/sign-in/link/"]').click()


def onboard(page: Page, who: Customer) -> None:
    expect(page).to_have_url(re.compile("/onboarding"))
    page.get_by_label("Your name").fill("Vera Visitor")
    page.get_by_label("TradingView name").fill(who.tradingview_name)
    page.get_by_label("I have read and accept").check()
    page.get_by_label("I have read the risk disclaimer").check()
    page.get_by_role("button", name="Check the name and go on").click()


def check_out(page: Page, who: Customer) -> None:
    expect(page).to_have_url(re.compile("/checkout$"))
    expect(page.get_by_role("main")).to_contain_text(who.tradingview_name)
    page.get_by_role("button", name="Pay $99.00").click()
    expect(page).to_have_url(re.compile("/dev/stripe/checkout/"))


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_newcomer_buys_and_sees_the_strategies_become_active(
    script, width, store, open_browser, customer, tradingview, diary
):
    diary.expect(402)  # the declined card
    newcomer = customer()
    page = open_browser(java_script_enabled=script, viewport={"width": width, "height": 800}, has_touch=width < 1280)
    go_shopping(page)
    sign_in(page, newcomer)
    onboard(page, newcomer)
    check_out(page, newcomer)

    page.get_by_role("button", name="Decline").click()
    expect(page.get_by_role("alert")).to_contain_text("declined")

    tradingview.misbehave("reads_fail")
    page.get_by_role("button", name="Pay $99.00").click()
    expect(page).to_have_url(re.compile(r"/dashboard\?success=true"))
    expect(badges(page, "Pending")).to_have_count(SIX, timeout=20_000)
    # A page may be read while the payment is written down: access then shows one look before the purchase does.
    expect(page.get_by_role("main")).to_contain_text("Your payment of $99.00 has arrived.", timeout=20_000)
    expect(page.get_by_role("table", name="Purchases")).to_contain_text("Completed")

    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    tradingview.behave()
    expect(badges(page, "Active")).to_have_count(SIX, timeout=60_000)

    assert bool(loads) is not script, "with script nothing is loaded anew, without it the page refreshes itself"
    newcomer.wait_for(lambda: newcomer.letter("access_granted"), "the letter about access", seconds=30)
    page.goto(f"/dev/outbox?to={newcomer.email}")
    page.get_by_role("link", name="Your strategies are active").click()
    shown = page.frame_locator("iframe")
    expect(shown.get_by_role("heading", name="Your strategies are active")).to_be_visible()


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_closing_the_payment_page_leads_back_to_pricing_with_a_calm_sentence(script, open_browser, customer):
    buyer = customer()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    page = open_browser(buyer, java_script_enabled=script)
    page.goto("/checkout")
    check_out(page, buyer)

    page.get_by_role("button", name="Close").click()

    expect(page).to_have_url(re.compile(r"/pricing\?canceled=true"))
    expect(page.get_by_role("main")).to_contain_text("Nothing was charged")
    page.get_by_role("button", name=re.compile("^Get access for")).click()
    expect(page).to_have_url(re.compile("/dev/stripe/checkout/"))
