"""Every page: no complaint of the browser, nothing wider than a small phone, and what axe finds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from sts_app.ops.journey import Customer
from tests.browser.conftest import Vendor
from tests.world import World

PUBLIC = (
    "/",
    "/strategies",
    "/strategies/nq-momentum-alpha",
    "/pricing",
    "/pricing?canceled=true",
    "/faq",
    "/faq?q=name",
    "/faq?q=nothing+holds+this",
    "/terms",
    "/privacy",
    "/refunds",
    "/disclaimer",
    "/sign-in",
    "/dev/outbox",
    "/dev/stripe/",
    "/dev/tradingview/",
    "/dev/patterns",
    "/nothing/here",
)


class Guests:
    """People who stand where pages differ, by name."""

    def __init__(self, store: World, customer: Callable[[], Customer], staff: Customer) -> None:
        self.newcomer = customer()
        self.newcomer.open("/sign-in")
        self.newcomer.sign_in()
        self.buyer = customer()
        self.buyer.ask_for_access()
        self.buyer.sign_in()
        self.buyer.onboard()
        self.buyer.check_out()
        self.payment_page = self.buyer.path
        self.owner = customer()
        self.owner.buy()
        self.owner.wait_for(lambda: list(self.owner.access().values()) == ["Active"] * 6, "access", seconds=60)
        self.owner.wait_for(lambda: self.owner.letter("access_granted"), "the letter about access", seconds=30)
        self.letter = self.owner.letters()[0]["id"]
        # One whom TradingView no longer knows, and whose purchase staff look at.
        self.stuck = customer()
        self.stuck.ask_for_access()
        self.stuck.sign_in()
        self.stuck.onboard()
        self.stuck.check_out()
        Vendor(store.url).misbehave("unknown")
        self.stuck.pay()
        self.stuck.wait_for(lambda: "Action needed" in self.stuck.access().values(), "Action needed", seconds=60)
        Vendor(store.url).behave()
        # The owner may withdraw, and the stuck one did.
        self.withdrawing, self.withdrawn = (way_out(guest) for guest in (self.owner, self.stuck))
        self.stuck.open(self.withdrawn).submit("/withdraw", name="Somebody Stuck")
        self.staff = staff
        (self.grant,) = store.sql("SELECT max(id) FROM grants")[0]

    def visits(self) -> list[tuple[Customer | None, str]]:
        return [
            *((None, path) for path in PUBLIC),
            (None, f"/dev/outbox/{self.letter}"),
            (self.newcomer, "/onboarding"),
            (self.newcomer, "/dashboard"),
            (self.buyer, "/checkout"),
            (self.buyer, self.payment_page),
            (self.buyer, "/dashboard"),
            (self.owner, "/dashboard"),
            (self.owner, "/pricing"),
            (self.owner, "/refunds"),
            (self.owner, self.withdrawing),
            (self.stuck, self.withdrawn),
            (self.owner, "/admin/"),
            (self.stuck, "/dashboard"),
            (self.staff, "/admin/"),
            (self.staff, "/admin/access"),
            (self.staff, "/admin/access?q=nobody+of+this+name"),
            (self.staff, f"/admin/access/{self.grant}"),
        ]


def way_out(guest: Customer) -> str:
    """Where this customer withdraws from what they bought."""
    link = guest.open("/dashboard").page.find("a", href=lambda href: href is not None and href.endswith("/withdraw"))
    assert link is not None
    return str(link["href"])


@pytest.fixture(scope="module")
def guests(store: World, staff: Customer) -> Guests:
    numbers = iter(range(1, 100))

    def customer() -> Customer:
        number = next(numbers)
        return Customer(store.url, email=f"guest{number}@example.com", tradingview_name=f"Guest_{number}")

    return Guests(store, customer, staff)


@pytest.fixture
def each_page(guests: Guests, open_browser, diary) -> Callable[..., list[str]]:
    """Open every page and gather what `look` finds on it."""

    def each_page(look: Callable[[Page], list[str]], **options) -> list[str]:
        diary.expect(403, 404)  # two pages are refusals
        pages = {}
        found = []
        for guest, path in guests.visits():
            if guest not in pages:
                # The browser goes on as the one that signed in, so that its sign-in counts as a fresh one.
                same = {"user_agent": guest.http.headers["User-Agent"]} if guest is not None else {}
                pages[guest] = open_browser(guest, **options, **same)
            page = pages[guest]
            page.goto(path)
            found += [f"{path}: {what}" for what in look(page)]
        return found

    return each_page


def too_wide(page: Page) -> list[str]:
    width = page.evaluate("document.documentElement.scrollWidth")
    return [f"{width} px wide"] if width > page.viewport_size["width"] else []


def against_axe(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def test_no_page_is_wider_than_a_small_phone(each_page):
    found = each_page(too_wide, viewport={"width": 320, "height": 640})

    assert not found, "\n".join(found)


# axe is put into the page, which our content security policy refuses to anybody else.
@pytest.mark.parametrize(
    "looks",
    [
        {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
        {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    ],
    ids=["light on a phone", "dark on a desk"],
)
def test_axe_finds_nothing(each_page, looks):
    found = each_page(against_axe, bypass_csp=True, **looks)

    assert not found, "\n".join(found)


def test_the_icons_of_the_page_are_pictures(open_browser):
    page = open_browser()
    page.goto("/")

    addresses = [link.get_attribute("href") for link in page.locator("link[rel=icon]").all()]
    answers = [page.request.get(address) for address in (*addresses, "/favicon.ico")]

    assert len(addresses) == 2
    for answer in answers:
        assert answer.ok
        assert answer.headers["content-type"].startswith("image/")
        assert answer.body()
