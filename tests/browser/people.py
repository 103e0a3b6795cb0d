"""People who stand where pages differ, each brought there by plain HTTP, once for all browsers."""

from __future__ import annotations

from itertools import count

from sts_app.ops.journey import Customer, Visitor
from tests.browser.vendor import Vendor
from tests.world import ENV, World

ACTIVE = ["Active"] * 6


class People:
    """By name: a stranger, a newcomer without a TradingView name, a buyer before the payment page, an owner of all six,
    one whom TradingView no longer knows and who withdrew, one who was given the money back, and staff."""

    def __init__(self, store: World, staff: Customer) -> None:
        self._store = store
        self._numbers = count(1)
        self._tradingview = Vendor(store.url)
        self.stranger = Visitor(store.url)
        self.staff = staff
        self.newcomer = self.somebody()
        self.newcomer.open("/sign-in")
        self.newcomer.sign_in()
        self.buyer = self._before_paying()
        self.payment_page = self.buyer.path
        self.owner, self.returned = self._before_paying(), self._before_paying()
        for each in (self.owner, self.returned):
            each.pay()
        self._write_to_support()
        for each in (self.owner, self.returned):
            each.wait_for(lambda each=each: list(each.access().values()) == ACTIVE, "access", seconds=60)
        self.owner.wait_for(lambda: self.owner.letter("access_granted"), "the letter about access", seconds=30)
        self._give_back()
        self.stuck = self._before_paying()
        self._get_stuck()

    @property
    def by_name(self) -> dict[str, Visitor]:
        return {name: one for name, one in vars(self).items() if isinstance(one, Visitor)}

    def somebody(self) -> Customer:
        number = next(self._numbers)
        return Customer(self._store.url, email=f"guest{number}@example.com", tradingview_name=f"Guest_{number}")

    def _before_paying(self) -> Customer:
        customer = self.somebody()
        customer.ask_for_access()
        customer.sign_in()
        customer.onboard()
        customer.check_out()
        return customer

    def _write_to_support(self) -> None:
        """A ticket of somebody known."""
        self.owner.open("/dashboard/support/new").submit(
            "/dashboard/support/new",
            category="access",
            subject="Where is the script?",
            text="I look under invite-only scripts and see nothing yet.\n\nWhere should it be?",
        )

    def _give_back(self) -> None:
        """The money of one purchase, from the desk of the simulated Stripe."""
        desk = Visitor(self._store.url).open(f"/dev/stripe/?q={self.returned.email}")
        form = desk.page.find("form", action=lambda action: str(action).endswith("/refund"))
        assert form is not None, "the desk shows no payment that could be given back"
        desk.submit(str(form["action"]))  # type: ignore[index]  # a form has an action
        self.returned.wait_for(lambda: "Revoked" in self.returned.access().values(), "the end of access", seconds=60)

    def _get_stuck(self) -> None:
        self._tradingview.misbehave("unknown")
        self.stuck.pay()
        self.stuck.wait_for(lambda: "Action needed" in self.stuck.access().values(), "Action needed", seconds=60)
        self._tradingview.behave()
        self.stuck.open(way_out(self.stuck)).submit("/withdraw", name="Somebody Stuck")

    def close(self) -> None:
        """Let go of every connection."""
        for one in self.by_name.values():
            one.http.close()


def way_out(customer: Customer) -> str:
    """Where this customer withdraws from what they bought."""
    link = customer.open("/dashboard").page.find("a", href=lambda href: href is not None and href.endswith("/withdraw"))
    assert link is not None, "the dashboard leads to no withdrawal"
    return str(link["href"])  # type: ignore[index]  # what is found is an element


def staff_of(store: World) -> Customer:
    """Sam, signed in."""
    sam = Customer(store.url, email=ENV["ADMIN_EMAIL"], tradingview_name="Sam_of_staff")
    sam.open("/sign-in")
    sam.sign_in()
    return sam
