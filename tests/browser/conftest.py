"""A running store, and browsers in which nothing may go wrong unnoticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

from sts_app.ops.journey import Customer, Visitor
from tests.browser.crawl import Crawl
from tests.browser.people import People, staff_of
from tests.browser.places import Place
from tests.browser.places import places as all_places
from tests.browser.vendor import Vendor
from tests.world import Servers, World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def store(servers: Servers) -> Iterator[World]:
    """One store for all browsers, each with people of its own."""
    with servers.database(servers.seeded) as url:
        world = World(servers.new_folder(), url)
        try:
            yield world.start()
            world.halt()
            assert world.broken_invariants() == {}
        finally:
            world.close()


class Diary:
    """What browsers complained about: errors on the console (the content security policy's among them),
    scripts that raised, requests that failed or were refused."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._expected: set[int] = set()

    def expect(self, *statuses: int) -> None:
        """Statuses of refusal that belong to this test."""
        self._expected |= set(statuses)

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", self._raised)
        context.on("requestfailed", self._failed)
        context.on("response", self._answered)

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium says each refused answer once more; `_answered` knows which of them belong to the test.
        # A letter's frame may run no script, and says so when it is looked into.
        known = re.match(
            r"Failed to load resource|Blocked script execution in '[^']+/dev/(letters|outbox)/", message.text
        )
        if message.type in ("error", "warning") and known is None:
            self.complaints.append(f"{message.type}: {message.text}")

    def _raised(self, error: WebError) -> None:
        self.complaints.append(f"raised: {error.error}")

    def _failed(self, request: Request) -> None:
        # A page that is left takes its requests with it.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.method} {request.url} {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected:
            self.complaints.append(f"{response.status}: {response.request.method} {response.url}")


@pytest.fixture
def diary() -> Iterator[Diary]:
    diary = Diary()
    yield diary
    assert diary.complaints == []


@pytest.fixture
def open_browser(new_context: Callable[..., BrowserContext], store: World, diary: Diary) -> Callable[..., Page]:
    """A page of a browser with cookies of its own, or those of `guest`; further arguments as `new_context` has them."""

    def open_browser(guest: Visitor | None = None, **options: Any) -> Page:
        context = new_context(base_url=store.url, **options)
        context.set_default_timeout(15_000)
        diary.watch(context)
        if guest is not None:
            context.add_cookies(
                [{"name": kept.name, "value": kept.value or "", "url": store.url} for kept in guest.http.cookies]
            )
        return context.new_page()

    return open_browser


_numbers = count(1)


@pytest.fixture
def customer(store: World) -> Callable[[], Customer]:
    """Somebody new, who goes by plain HTTP to where a browser takes over."""

    def customer() -> Customer:
        number = next(_numbers)
        return Customer(store.url, email=f"visitor{number}@example.com", tradingview_name=f"Visitor_{number}")

    return customer


@pytest.fixture(scope="package")
def staff(store: World) -> Customer:
    """Sam, signed in."""
    return staff_of(store)


@pytest.fixture(scope="package")
def people(store: World, staff: Customer) -> Iterator[People]:
    """One of each kind, where pages differ."""
    people = People(store, staff)
    yield people
    people.close()


@pytest.fixture(scope="package")
def crawls(app: Flask, people: People) -> dict[str, Crawl]:
    """What each of them comes to from the front door, by name. Only the stranger looks at pages for developers."""
    crawls = {}
    for name, visitor in people.by_name.items():
        crawl = crawls[name] = Crawl(name, visitor, app.url_map)
        if name == "stranger":
            crawl.walk("/", "/robots.txt", "/sitemap.xml")
        else:
            crawl.walk("/", but_not=("/dev/",))
    return crawls


@pytest.fixture(scope="package")
def places(people: People, crawls: dict[str, Crawl]) -> list[Place]:
    """Every page and state that is looked at in a browser."""
    return all_places(people, crawls)


@pytest.fixture
def tradingview(store: World) -> Iterator[Vendor]:
    vendor = Vendor(store.url)
    yield vendor
    vendor.behave()
