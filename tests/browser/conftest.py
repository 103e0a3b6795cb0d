"""A running store, and browsers in which nothing may go wrong unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, Response, WebError

from sts_app.ops.journey import Customer
from tests.world import ENV, Servers, World


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
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
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

    def open_browser(guest: Customer | None = None, **options: Any) -> Page:
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
    sam = Customer(store.url, email=ENV["ADMIN_EMAIL"], tradingview_name="Sam_of_staff")
    sam.open("/sign-in")
    sam.sign_in()
    return sam


class Vendor:
    """The desk of the simulated TradingView."""

    def __init__(self, url: str) -> None:
        self._desk = Customer(url, email="nobody@example.com", tradingview_name="nobody")

    def misbehave(self, fault: str) -> None:
        self._desk.open("/dev/tradingview/").submit("/misbehave", fault=fault)

    def behave(self) -> None:
        self._desk.open("/dev/tradingview/").submit("/behave")


@pytest.fixture
def tradingview(store: World) -> Iterator[Vendor]:
    vendor = Vendor(store.url)
    yield vendor
    vendor.behave()
