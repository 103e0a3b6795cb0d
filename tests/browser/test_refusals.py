"""Pages that nobody asks for: each is real, says what to do next, and is as sound as any other page.

They need a store that may be broken, so it is not the one of the other browsers: it counts tries, and nothing but its
web process runs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from bs4 import BeautifulSoup
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Diary
from tests.browser.looks import against_axe, too_wide
from tests.world import Servers, World

POST = """([address, fields]) => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = address;
  for (const [key, text] of Object.entries(fields)) {
    const input = form.appendChild(document.createElement("input"));
    input.name = key;
    input.value = text;
  }
  document.body.append(form);
  form.submit();
}"""


@pytest.fixture(scope="module")
def fragile(servers: Servers) -> Iterator[World]:
    with servers.database(servers.seeded) as url:
        world = World(servers.new_folder(), url, env={"APP_ENV": "development"})
        try:
            yield world.start("web")
        finally:
            world.close()


@pytest.fixture(params=["light on a phone", "dark on a desk"])
def page(request, fragile: World, new_context: Callable[..., BrowserContext], diary: Diary) -> Page:
    sizes: dict[str, dict[str, Any]] = {
        "light on a phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
        "dark on a desk": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    }
    context = new_context(base_url=fragile.url, **sizes[request.param])
    context.set_default_timeout(15_000)
    diary.watch(context)
    return context.new_page()


def post(page: Page, address: str, **fields: str) -> None:
    """Send a form from a page that has one, with its token unless another is given."""
    page.goto("/sign-in")
    token = page.locator("[name=csrf_token]").first.input_value()
    with page.expect_navigation():
        page.evaluate(POST, [address, {"csrf_token": token, **fields}])


def is_sound(page: Page) -> None:
    """A page of ours: with a way on, nothing for axe, nothing too wide, and no trace of how the house is built."""
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    assert page.get_by_role("main").get_by_role("link").or_(page.get_by_role("main").get_by_role("button")).count() > 0
    assert not against_axe(page)
    assert not too_wide(page)
    assert "Traceback" not in page.content()


def test_nothing_at_this_address(page, diary):
    diary.expect(404)
    page.goto("/nothing/here")

    is_sound(page)


def test_a_form_from_elsewhere(page, diary):
    diary.expect(400)
    post(page, "/sign-in", email="a@customers.example", csrf_token="another's")

    expect(page.get_by_role("main")).to_contain_text("This form was not taken")
    is_sound(page)


def test_another_kind_of_request(page, diary):
    diary.expect(405)
    post(page, "/terms")

    is_sound(page)


def test_more_than_fits(page, diary):
    diary.expect(413)
    post(page, "/sign-in", email="x" * 1_100_000)

    expect(page.get_by_role("main")).to_contain_text("more than this store accepts")

    is_sound(page)


def test_too_many_tries(page, fragile, diary):
    diary.expect(429)
    with requests.Session() as session:
        front = BeautifulSoup(session.get(f"{fragile.url}/sign-in", timeout=10).content, "html.parser")
        token = front.find("input", attrs={"name": "csrf_token"})["value"]
        for _ in range(200):
            answer = session.post(
                f"{fragile.url}/sign-in", data={"csrf_token": token, "email": "many@customers.example"}, timeout=10
            )
            if answer.status_code == 429:
                break
        assert int(answer.headers["Retry-After"]) > 0

    post(page, "/sign-in", email="many@customers.example")

    expect(page.get_by_role("main")).to_contain_text("Please try again in at most")
    is_sound(page)


@contextlib.contextmanager
def without_a_table(world: World) -> Iterator[None]:
    world.execute("ALTER TABLE strategy RENAME TO strategy_away")
    try:
        yield
    finally:
        world.execute("ALTER TABLE strategy_away RENAME TO strategy")


def test_something_broke(page, fragile, diary):
    diary.expect(500)
    with without_a_table(fragile):
        page.goto("/strategies")

    expect(page.get_by_role("main")).to_contain_text("It has been written down")
    expect(page.locator("code")).to_have_text(re.compile("^[0-9a-f]{32}$"))
    is_sound(page)


def test_records_that_cannot_be_reached(page, fragile, diary):
    diary.expect(503)
    with fragile.connect() as connection, connection.begin():
        connection.exec_driver_sql("LOCK TABLE strategy IN ACCESS EXCLUSIVE MODE")
        page.goto("/strategies")

    expect(page.get_by_role("main")).to_contain_text("Nothing is lost")
    is_sound(page)
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Strategies")
