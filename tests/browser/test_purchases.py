"""From the dashboard out of a purchase, with script and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_customer_withdraws_from_a_purchase(script, open_browser, customer, diary):
    diary.expect(422)
    guest = customer()
    guest.buy()
    guest.wait_for(lambda: "Withdraw from contract here" in guest.open("/dashboard").text, "the payment", seconds=60)
    # As the browser that signed in, so that its sign-in counts as a fresh one.
    page = open_browser(guest, java_script_enabled=script, user_agent=guest.http.headers["User-Agent"])
    page.goto("/dashboard")

    page.get_by_role("link", name="Withdraw from contract here").click()
    name = page.get_by_label("Your name")
    name.fill("")
    page.get_by_role("button", name="Confirm withdrawal").click()
    expect(name).to_have_attribute("aria-invalid", "true")
    name.fill("Vera Visitor")
    page.get_by_role("button", name="Confirm withdrawal").click()

    expect(page.get_by_text("We have received your withdrawal")).to_be_visible()
    expect(page.get_by_text("Vera Visitor")).to_be_visible()
    assert guest.wait_for(lambda: guest.letter("withdrawal_received"), "the letter", seconds=30)
    page.get_by_role("link", name="Your dashboard").click()
    expect(page.get_by_text("Our staff look at it and answer by letter.")).to_be_visible()
