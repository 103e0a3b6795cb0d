"""Support in Chromium: nothing that was typed is lost, pictures fit before they are sent, and axe finds nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect

from sts_app.ops.journey import Customer
from tests.browser import conftest as browsers
from tests.support.conftest import QUESTION, file_of
from tests.world import World

pytestmark = pytest.mark.browser
store, diary, open_browser, customer = browsers.store, browsers.diary, browsers.open_browser, browsers.customer

NEW = "/dashboard/support/new"


@pytest.fixture
def guest(customer) -> Customer:
    guest = customer()
    guest.open("/sign-in")
    guest.sign_in()
    return guest


def same(guest: Customer) -> dict[str, str]:
    """The browser goes on as the one that signed in."""
    return {"user_agent": guest.http.headers["User-Agent"]}


def fill(page: Page, **typed: str) -> None:
    for name, value in ({"subject": "Nothing is listed", "text": QUESTION} | typed).items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("[name=category]").select_option("access")


def send(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Send")).click()


def noise(path: Path) -> Path:
    """A PNG of more than two megabytes, as a telephone makes of its screen."""
    Image.frombytes("RGB", (1000, 900), os.urandom(1000 * 900 * 3)).save(path)
    assert path.stat().st_size > 2 * 1024 * 1024
    return path


@pytest.mark.parametrize("script", [True, False], ids=["with script", "without script"])
def test_a_ticket_is_opened_after_its_faults_are_mended_with_the_picture_chosen_before(
    script, open_browser, guest, diary, tmp_path
):
    diary.expect(422)
    (tmp_path / "chart.png").write_bytes(file_of(size=(320, 200)))
    page = open_browser(guest, java_script_enabled=script, **same(guest))
    page.goto(NEW)
    fill(page, text="Help")
    page.set_input_files("[name=pictures]", tmp_path / "chart.png")
    send(page)
    expect(page.get_by_text("Please say a little more: at least 20 characters.")).to_be_visible()
    expect(page.get_by_label("Picture 1: PNG, 320")).to_be_checked()
    expect(page.locator("[name=subject]")).to_have_value("Nothing is listed")

    page.locator("[name=text]").fill(QUESTION)
    send(page)

    expect(page.get_by_text("Your ticket is open, and a letter confirms it.")).to_be_visible()
    expect(page.locator(".pictures img")).to_have_js_property("naturalWidth", 320)


def test_a_picture_that_is_too_large_is_made_smaller_before_it_is_sent(open_browser, guest, diary, tmp_path):
    page = open_browser(guest, **same(guest))
    page.goto(NEW)
    fill(page)
    page.set_input_files("[name=pictures]", noise(tmp_path / "screen.png"))
    expect(page.locator("#pictures-said")).to_have_text("1 picture chosen. One was made smaller.")

    send(page)

    expect(page.locator(".pictures img")).to_have_js_property("naturalWidth", 1000)


def test_a_picture_is_pasted_into_the_message(open_browser, guest, diary):
    page = open_browser(guest, **same(guest))
    page.goto(NEW)
    page.locator("[name=text]").focus()

    page.evaluate(
        """async () => {
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 40;
          const blob = await new Promise((done) => canvas.toBlob(done));
          const data = new DataTransfer();
          data.items.add(new File([blob], "pasted.png", {type: "image/png"}));
          document.activeElement.dispatchEvent(
            new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
        }"""
    )

    expect(page.locator("#pictures-said")).to_have_text("1 picture chosen.")
    assert page.evaluate("document.querySelector('[name=pictures]').files[0].name") == "pasted.png"


def test_what_is_far_too_large_is_refused_beside_the_text_that_was_typed(open_browser, guest, diary, tmp_path):
    diary.expect(413)
    (tmp_path / "film.gif").write_bytes(os.urandom(17 * 1024 * 1024))
    page = open_browser(guest, **same(guest))
    page.goto(NEW)
    fill(page)
    page.set_input_files("[name=pictures]", tmp_path / "film.gif")

    send(page)

    expect(page.locator("#trouble")).to_contain_text("three pictures of 2 MB each, and this was far more")
    expect(page.locator("[name=text]")).to_have_value(QUESTION)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_without_script_it_is_refused_with_a_page(open_browser, guest, diary, tmp_path):
    diary.expect(413)
    (tmp_path / "film.gif").write_bytes(os.urandom(17 * 1024 * 1024))
    page = open_browser(guest, java_script_enabled=False, **same(guest))
    page.goto(NEW)
    fill(page)
    page.set_input_files("[name=pictures]", tmp_path / "film.gif")

    send(page)

    expect(page.get_by_role("heading", name="These pictures are too large")).to_be_visible()


def test_a_state_is_chosen_without_leaving_the_page_and_the_focus_stays(open_browser, guest, diary):
    page = open_browser(guest, **same(guest))
    page.goto("/dashboard/support")
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    chosen = page.get_by_role("link", name="Resolved")

    chosen.focus()
    page.keyboard.press("Enter")

    expect(page.get_by_text("None of your tickets is in this state.")).to_be_visible()
    expect(chosen).to_be_focused()
    expect(chosen).to_have_attribute("aria-current", "true")
    expect(page).to_have_url(re.compile(r"\?show=resolved$"))
    assert loads == []


def test_somebody_without_an_account_writes_and_answers_by_the_letters_link(open_browser, store, customer, diary):
    page = open_browser()
    page.goto("/contact")
    page.locator("[name=email]").fill("stranger@nowhere.example")
    fill(page)
    page.wait_for_timeout(3100)  # nobody types as fast as a program
    send(page)
    expect(page.get_by_role("heading", name="Your message is sent")).to_be_visible()
    reader = customer()
    letter = reader.wait_for(
        lambda: reader.letter("contact_received", "stranger@nowhere.example"), "the letter", seconds=30
    )
    link = re.search(r"https?://\S+/contact/ticket/\S+", letter["text"])
    assert link is not None

    page.goto(link.group(0))
    page.locator("[name=text]").fill("Here is more.")
    send(page)

    expect(page.get_by_text("Your reply is sent.")).to_be_visible()
    expect(page.locator(".message")).to_have_count(2)


def visits(store: World, guest: Customer) -> list[str]:
    """Every page of support, in the states that look different."""
    guest.open(NEW).submit(NEW, category="access", subject="Nothing is listed", text=QUESTION)
    ticket = guest.path
    ref = ticket.rpartition("/")[2]
    store.run(f"sts tickets reply {ref} --then resolved --canned need-more")
    guest.open(NEW).submit(NEW, category="other", subject="Another thing", text=QUESTION)
    closed = guest.path
    store.run(f"sts tickets status {closed.rpartition('/')[2]} CLOSED")
    return ["/contact", "/dashboard/support", "/dashboard/support?show=waiting", NEW, ticket, closed, "/dashboard"]


@pytest.mark.parametrize(
    "looks",
    [
        {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
        {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    ],
    ids=["light on a small phone", "dark on a desk"],
)
def test_axe_finds_nothing_and_no_page_is_too_wide(looks, store, guest, open_browser, diary):
    diary.expect(422)
    page = open_browser(guest, bypass_csp=True, **looks, **same(guest))
    found = []
    for path in (*visits(store, guest), "with faults"):
        if path == "with faults":
            page.goto(NEW)
            send(page)
            expect(page.locator("[aria-invalid=true]")).to_have_count(3)
        else:
            page.goto(path)
        violations = Axe().run(page).response["violations"]
        found += [f"{path}: {one['id']} {node['html'][:160]}" for one in violations for node in one["nodes"]]
        width = page.evaluate("document.documentElement.scrollWidth")
        found += [f"{path}: {width} px wide"] if width > looks["viewport"]["width"] else []

    assert not found, "\n".join(found)
