"""A page that waits: it looks again by itself, endures a failed look, and stops when there is nothing to wait for."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from tests.browser.test_journey import SIX, badges


def fail(route: Route) -> None:
    route.fulfill(status=503, body="The store is being restarted.")


def test_a_look_that_fails_changes_nothing_and_is_repeated(open_browser, customer, tradingview, diary):
    diary.expect(503)
    buyer = customer()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    buyer.check_out()
    tradingview.misbehave("reads_fail")
    buyer.pay()
    page = open_browser(buyer)
    page.goto(buyer.path)
    expect(badges(page, "Pending")).to_have_count(SIX, timeout=20_000)

    with page.expect_response(lambda answer: answer.status == 503):
        page.route(re.compile("/dashboard/standing"), fail, times=1)
    expect(badges(page, "Pending")).to_have_count(SIX)
    tradingview.behave()

    expect(badges(page, "Active")).to_have_count(SIX, timeout=60_000)
    expect(page.locator("#standing [hx-get]")).to_have_count(0)


def test_what_one_stands_on_keeps_the_focus_while_the_page_renews_itself(open_browser, customer, tradingview):
    buyer = customer()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    buyer.check_out()
    tradingview.misbehave("reads_fail")
    buyer.pay()
    page = open_browser(buyer)
    page.goto(buyer.path)
    expect(badges(page, "Pending")).to_have_count(SIX, timeout=20_000)
    link = page.get_by_role("link", name="NQ Power Hour")
    link.focus()

    looks = page.locator("[id^=look-]")
    expect(looks).not_to_have_id(looks.get_attribute("id") or "")

    expect(link).to_be_focused()


def test_a_payment_that_the_bank_delays_shows_by_itself_when_it_arrives(store, open_browser, customer):
    buyer = customer()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    buyer.check_out()
    buyer.submit("/pay-later")
    page = open_browser(buyer)
    page.goto(buyer.path)
    expect(page.get_by_role("main")).to_contain_text("We are waiting for the payment to be confirmed")
    expect(page.get_by_role("link", name="Go on paying")).to_have_count(0)

    desk = open_browser()
    desk.goto("/dev/stripe/")
    checkout = desk.get_by_role("article").filter(has_text=buyer.email)
    checkout.get_by_role("button", name="The bank pays").click()

    expect(badges(page, "Active")).to_have_count(SIX, timeout=60_000)
    expect(page.get_by_role("main")).to_contain_text("Your payment of $99.00 has arrived.")
    expect(page.get_by_role("table", name="Purchases")).to_contain_text("Completed")


def test_a_history_that_is_read_stays_open_and_keeps_the_focus_when_there_are_news(open_browser, customer, tradingview):
    buyer = customer()
    buyer.ask_for_access()
    buyer.sign_in()
    buyer.onboard()
    buyer.check_out()
    tradingview.misbehave("reads_fail")
    buyer.pay()
    page = open_browser(buyer)
    page.goto(buyer.path)
    history = page.locator("#history-nq-power-hour")
    expect(history).to_be_visible(timeout=20_000)
    history.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(history.locator("li").first).to_be_visible()

    tradingview.behave()
    expect(badges(page, "Active")).to_have_count(SIX, timeout=60_000)

    expect(history.locator("li").first).to_contain_text("TradingView showed it on")
    expect(history.locator("li").first).to_be_visible()
    expect(history.locator("summary")).to_be_focused()


def test_a_search_of_the_questions_unfolds_what_it_found(open_browser):
    page = open_browser()
    page.goto("/faq")
    page.get_by_role("searchbox").press_sequentially("wrong name")

    found = page.locator("#results details")
    expect(found).to_have_count(1)
    expect(found.locator("p").first).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("searchbox").fill("zebra")
    expect(page.locator("#results")).to_contain_text("Nothing found")
