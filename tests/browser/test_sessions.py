"""Signing in with Google, being asked again, and ending sessions, in a real browser; with script and without."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Diary
from tests.fakes.google import ANNA, CLIENT_ID, CLIENT_SECRET, GoogleFake
from tests.world import Servers, World

SETTINGS = "/dashboard/settings"


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleFake]:
    with GoogleFake() as fake:
        fake.shows_page = True
        yield fake


@pytest.fixture(scope="module")
def house(servers: Servers, google: GoogleFake) -> Iterator[World]:
    """A store that offers Google."""
    env = {
        "GOOGLE_CLIENT_ID": CLIENT_ID,
        "GOOGLE_CLIENT_SECRET": CLIENT_SECRET,
        "GOOGLE_DISCOVERY_URL": google.discovery,
    }
    with servers.database(servers.seeded) as url:
        world = World(servers.new_folder(), url, env)
        try:
            yield world.start()
            world.halt()
            assert world.broken_invariants() == {}
        finally:
            world.close()


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def browser_page(
    request: pytest.FixtureRequest, new_context: Callable[..., BrowserContext], house: World, diary: Diary
) -> Page:
    context = new_context(base_url=house.url, java_script_enabled=request.param)
    context.set_default_timeout(15_000)
    diary.watch(context)
    return context.new_page()


def through_google(page: Page, choice: str = "Allow") -> None:
    page.goto(f"/sign-in?next={SETTINGS}")
    page.get_by_role("button", name="Continue with Google").click()
    page.get_by_role("link", name=choice).click()


def test_google_leads_there_and_back_and_the_settings_say_so(browser_page, house):
    through_google(browser_page)

    expect(browser_page).to_have_url(f"{house.url}{SETTINGS}")
    expect(browser_page.locator("main")).to_contain_text(f"with the Google account of {ANNA['email']}")
    expect(browser_page.get_by_role("row", name=re.compile("This device"))).to_contain_text("Chrome on Linux")


def test_whoever_cancels_at_google_is_led_back_to_the_page_they_came_from(browser_page, diary):
    diary.expect(403)
    through_google(browser_page, "Cancel")

    expect(browser_page.get_by_role("heading", level=1)).to_have_text("You did not sign in with Google")
    browser_page.get_by_role("link", name="Back to sign-in").click()
    expect(browser_page.locator("[name=next]")).to_have_value(SETTINGS)


def test_another_device_is_out_at_its_next_click(browser_page, new_context, house):
    phone = new_context(base_url=house.url).new_page()
    through_google(phone)
    through_google(browser_page)

    browser_page.get_by_role("button", name="Sign out all other devices").click()

    expect(browser_page.locator("#toasts")).to_contain_text("signed out")
    expect(browser_page.get_by_role("button", name="Sign out all other devices")).to_have_count(0)
    phone.reload()
    expect(phone).to_have_url(f"{house.url}/sign-in?next={SETTINGS}")


def test_what_was_typed_is_there_after_the_store_asked_who_is_there(browser_page, house):
    through_google(browser_page)
    browser_page.goto(f"{SETTINGS}/email")
    browser_page.locator("[name=email]").fill("anna@elsewhere.example")
    grow_old(house, by=timedelta(hours=3))

    browser_page.get_by_role("button", name="Send a link to the new address").click()
    expect(browser_page.get_by_role("heading", level=1)).to_have_text("Confirm that it is you")
    browser_page.get_by_role("button", name="Continue with Google").click()
    browser_page.get_by_role("link", name="Allow").click()

    expect(browser_page.get_by_role("heading", level=1)).to_have_text("Go on where you were")
    expect(browser_page.locator("main")).to_contain_text("anna@elsewhere.example")
    browser_page.get_by_role("button", name="Go on").click()
    expect(browser_page.locator("main")).to_contain_text("A change waits for you")
    browser_page.get_by_role("button", name="Keep the address I have").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_pages_are_open_to_everybody(new_context, house, diary, scheme, width):
    context = new_context(
        base_url=house.url, color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce"
    )
    diary.watch(context)
    page = context.new_page()
    found = []
    page.goto("/sign-in")
    found += faults(page)
    through_google(page)
    for path in (SETTINGS, f"{SETTINGS}/email"):
        page.goto(path)
        found += faults(page)

    assert found == []


def faults(page: Page) -> list[str]:
    """What axe finds on the page, and whether it is wider than its window."""
    violations = Axe().run(page).response["violations"]
    found = [f"{page.url}: {each['id']}: {each['nodes'][0]['html']}" for each in violations]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append(f"{page.url}: wider than its window")
    return found


def grow_old(house: World, *, by: timedelta) -> None:
    """Make every session so much older than it is."""
    house.execute(
        "UPDATE user_session SET created_at = created_at - CAST(:by AS interval)", by=f"{by.total_seconds()} seconds"
    )
