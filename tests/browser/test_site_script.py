"""What the script of every page adds: sessions in the visitor's own time, and a word when the line is down."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("day", "zone", "said", "left"),
    [
        ("2026-01-15T12:00:00Z", "Europe/Berlin", "15:30–17:30 in Berlin", 64.583),  # noqa: RUF001  # a range
        # New York has changed its clocks, Berlin has not yet.
        ("2026-03-15T12:00:00Z", "Europe/Berlin", "14:30–16:30 in Berlin", 60.417),  # noqa: RUF001  # a range
        ("2026-07-15T12:00:00Z", "Europe/Berlin", "15:30–17:30 in Berlin", 64.583),  # noqa: RUF001  # a range
        ("2026-07-15T12:00:00Z", "Asia/Kolkata", "19:00–21:00 in Kolkata", 79.167),  # noqa: RUF001  # a range
        ("2026-07-15T12:00:00Z", "Pacific/Auckland", "1:30–3:30 in Auckland", 6.25),  # noqa: RUF001  # a range
    ],
)
def test_a_session_is_told_and_drawn_in_the_visitors_time(open_browser, day, zone, said, left):
    page = open_browser(timezone_id=zone)
    page.clock.set_fixed_time(day)
    page.goto("/strategies/nq-momentum-alpha")
    figure = page.locator(".day--one")

    assert said in figure.inner_text()
    assert "9:30‑11:30 ET" in figure.inner_text()  # noqa: RUF001  # a hyphen that does not break
    [piece] = figure.locator("rect[data-piece]").all()
    assert float(piece.get_attribute("x").rstrip("%")) == pytest.approx(left, abs=0.01)


def test_what_crosses_midnight_there_lies_on_both_ends(open_browser):
    page = open_browser(timezone_id="Asia/Tokyo")
    page.clock.set_fixed_time("2026-07-15T12:00:00Z")
    page.goto("/strategies/nq-momentum-alpha")

    pieces = page.locator(".day--one rect[data-piece]").all()

    assert [round(float(piece.get_attribute("x").rstrip("%")), 1) for piece in pieces] == [93.8, 0.0]


def test_who_lives_by_new_yorks_clock_is_told_so(open_browser):
    page = open_browser(timezone_id="America/New_York")
    page.goto("/strategies/nq-momentum-alpha")

    assert "Eastern Time, which is yours" in page.locator(".day--one").inner_text()


def test_without_script_the_hours_are_new_yorks_and_utcs(open_browser):
    page = open_browser(timezone_id="Europe/Berlin", java_script_enabled=False)
    page.goto("/strategies/nq-momentum-alpha")
    told = page.locator(".day--one").inner_text()

    assert "9:30‑11:30 ET" in told  # noqa: RUF001  # a hyphen that does not break
    assert "UTC" in told
    assert "Eastern Time (New York)" in told


def test_the_line_is_told_when_it_is_down_and_when_it_is_back(open_browser):
    page = open_browser()
    page.goto("/pricing")
    told = page.locator("#offline")
    assert not told.is_visible()

    page.context.set_offline(True)
    told.wait_for(state="visible")
    assert "You are offline" in told.inner_text()

    page.context.set_offline(False)
    told.wait_for(state="hidden")


def test_from_the_second_page_on_a_missing_line_shows_our_own_page(new_context, store):
    """Without the diary, which takes a missing line for a fault."""
    page = new_context(base_url=store.url).new_page()
    page.goto("/")
    page.get_by_role("link", name="Pricing").first.click()
    page.wait_for_url("**/pricing")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.context.set_offline(True)

    page.goto("/faq")

    assert page.locator("h1").inner_text() == "You are offline"


def test_a_question_that_is_linked_to_is_unfolded(open_browser):
    page = open_browser()
    page.goto("/faq#wrong-name")

    assert page.locator("#wrong-name p").first.is_visible()


def test_a_piece_that_does_not_come_is_told(new_context, store):
    """Without the diary, which takes an answer that is lost for a fault."""
    page = new_context(base_url=store.url).new_page()
    page.goto("/faq")
    page.route("**/faq?**", lambda route: route.abort())

    page.get_by_label("Search the questions").press_sequentially("refund")

    page.get_by_text("The store did not answer.").wait_for()
    assert page.get_by_label("Search the questions").input_value() == "refund"


def test_moments_stand_on_the_visitors_clock_and_in_utc_as_their_title(open_browser, customer):
    guest = customer()
    guest.open("/sign-in")
    guest.sign_in()
    page = open_browser(guest, timezone_id="Asia/Kolkata")
    page.goto("/dashboard/settings")

    moment = page.locator("time").first

    assert moment.get_attribute("title").endswith(" UTC")
    assert moment.inner_text().endswith("GMT+5:30")
