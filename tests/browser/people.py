"""People who stand where pages differ, each brought there by plain HTTP, once for all browsers."""

from __future__ import annotations

from itertools import count

from sts_app.ops.journey import Customer, Visitor
from tests.browser.vendor import Vendor
from tests.world import ENV, World

ACTIVE = ["Active"] * 6


class People:
    """By name: a stranger, a newcomer without a TradingView name, a buyer before the payment page, an owner of all six,
    one whom TradingView no longer knows and who withdrew, one who was given the money back, and staff. Then one
    who disputed the payment, one whose access is being removed, one to whom nobody could give it, one who waits for
    people to give it, and one who got it as a gift before anybody knew their TradingView name."""

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
        served = [self._before_paying() for _ in range(4)]
        self.owner, self.returned, self.paused, self.leaving = served
        for each in served:
            each.pay()
        self.back_to_active = self.owner.path
        self._write_to_support()
        for each in served:
            each.wait_for(lambda each=each: list(each.access().values()) == ACTIVE, "access", seconds=60)
        self.owner.wait_for(lambda: self.owner.letter("access_granted"), "the letter about access", seconds=30)
        self._give_back(self.returned)
        self.returned.wait_for(lambda: "Revoked" in self.returned.access().values(), "the end of access", seconds=60)
        self._ask_the_bank()
        self.stuck = self._before_paying()
        self._get_stuck()
        self.refused, self.waiting = self._before_paying(), self._before_paying()
        self._leave_it_to_people()
        self.nameless = self.somebody()
        self.nameless.open("/sign-in")
        self.nameless.sign_in()
        store.run(f"sts access gift {self.nameless.email} --reason rehearsal")
        # Long enough ago for news.
        store.execute("UPDATE visit SET seen_at = seen_at - interval '1 hour'")

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

    def _give_back(self, customer: Customer) -> None:
        """The money of one purchase, from the desk of the simulated Stripe."""
        self._at_the_desk(customer, "/refund")

    def _ask_the_bank(self) -> None:
        """Somebody disputes a payment, and letters to them come back."""
        self._at_the_desk(self.paused, "/dispute", status="needs_response")
        self.paused.wait_for(lambda: "Suspended" in self.paused.access().values(), "the pause", seconds=60)
        letter = self.paused.letter("purchase_confirmation")
        assert letter is not None
        outbox = Visitor(self._store.url).open(f"/dev/outbox/{letter['id']}")
        outbox.submit("/tell", happened="bounced")

    def _at_the_desk(self, customer: Customer, act: str, **values: str) -> None:
        desk = Visitor(self._store.url).open(f"/dev/stripe/?q={customer.email}")
        form = desk.page.find("form", action=lambda action: str(action).endswith(act))
        assert form is not None, f"the desk has no {act} for this customer's payment"
        desk.submit(str(form["action"]), **values)  # type: ignore[index]  # a form has an action

    def _leave_it_to_people(self) -> None:
        """They give up on what one has bought, and have yet to give and to remove what others are to have or had."""
        self._store.run("sts provisioning manual --reason rehearsal")
        self._give_back(self.leaving)
        self.leaving.wait_for(lambda: "Revoking" in self.leaving.access().values(), "the removal", seconds=60)
        for each in (self.refused, self.waiting):
            each.pay()
        self.back_to_waiting = self.waiting.path
        self.waiting.wait_for(lambda: self._tasks_to_give(self.waiting), "tasks for people", seconds=60)
        tasks = self.refused.wait_for(lambda: self._tasks_to_give(self.refused), "tasks for people", seconds=60)
        self._store.run(f"sts tasks cannot {' '.join(tasks)} --reason rehearsal")
        # What is left came to people because tries ran out: then the machine does not take it back.
        self._store.execute("UPDATE manual_task SET kind = 'exhausted' WHERE closed_at IS NULL")
        self._store.run("sts provisioning auto --reason rehearsal")

    def _tasks_to_give(self, customer: Customer) -> list[str]:
        open_tasks = self._store.sql(
            "SELECT t.id FROM manual_task t JOIN grants g ON g.id = t.grant_id"
            " WHERE t.closed_at IS NULL AND g.wanted AND g.name_spelling = :name",
            name=customer.tradingview_name,
        )
        return [str(task.id) for task in open_tasks] if len(open_tasks) == len(ACTIVE) else []

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
