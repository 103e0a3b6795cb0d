"""A store under trouble, seen from outside: its buyers, its vendors' desks, and what must hold in the end."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from urllib.parse import urljoin

import requests
import stripe

from jobs.schedule import SCHEDULE
from sts_app.core.queue import QUEUES
from sts_app.ops.invariants import broken
from sts_app.ops.journey import Customer, Visitor
from tests.world import ENV, World

STAFF = ENV["ADMIN_EMAIL"]
LETTERS = ("sign_in", "welcome", "purchase_confirmation", "access_granted")
SCHEDULED = "rq:scheduler:scheduled_jobs"


class Buyer(Customer):
    """A customer who can stop half way: on the payment page, or with the page closed after paying."""

    session_id = ""

    def reach_payment(self) -> Buyer:
        self.ask_for_access()
        self.sign_in()
        self.onboard()
        self.check_out()
        self.session_id = self.path.rpartition("/")[2]
        return self

    def go_on_to_payment(self) -> Buyer:
        """The same for somebody whom a fault stopped anywhere on the way."""
        self.open("/checkout")
        if self.path.startswith("/sign-in"):
            self.sign_in()
        if self.path.startswith("/onboarding"):
            self.onboard()
        self.check_out()
        self.session_id = self.path.rpartition("/")[2]
        return self

    def press(self, button: str) -> requests.Response:
        """Press a button of the payment page and never look at where it leads: the store sees nobody return."""
        page = self.http.get(f"{self.url}/dev/stripe/checkout/{self.session_id}", timeout=30)
        self.answer = page
        form = next(f for f in self.page.find_all("form") if str(f["action"]).endswith(f"/{button}"))
        fields = {str(field["name"]): str(field["value"]) for field in form.find_all("input")}
        target = urljoin(page.url, str(form["action"]))
        return self.http.post(target, data=fields, timeout=30, allow_redirects=False)

    def pay_and_leave(self) -> None:
        assert self.press("pay").status_code == 303

    def words(self) -> dict[str, str]:
        """The whole row of each strategy on the dashboard: its state, why, and what happens next."""
        self.open("/dashboard")
        rows = self.page.select("#access tbody tr")
        return {self._words(row.select_one("th")): self._words(row) for row in rows}


class Shop:
    """One world with somebody in it who buys, somebody who watches, and vendors who can be misled."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._desk: Visitor | None = None

    # People.

    def buyer(self, name: str = "alice") -> Buyer:
        """Somebody on the payment page."""
        return self.visitor(name).reach_payment()

    def visitor(self, name: str = "alice") -> Buyer:
        return Buyer(self.world.url, email=f"{name}@example.com", tradingview_name=f"{name}_trades")

    # The vendors.

    def desk(self, path: str) -> Visitor:
        """A vendor's own page."""
        if self._desk is None:
            self._desk = Visitor(self.world.url)
        return self._desk.open(path)

    def mislead_stripe(self, *faults: str) -> None:
        self.desk("/dev/stripe/").submit("/faults", **({"fault": faults[0]} if faults else {}))

    def mislead_tradingview(self, fault: str, *, times: int = 1, seconds: float = 0) -> None:
        self.desk("/dev/tradingview/").submit("/misbehave", fault=fault, times=str(times), seconds=str(seconds))

    def let_tradingview_behave(self) -> None:
        self.desk("/dev/tradingview/").submit("/behave")

    def slow_tradingview(self, ms: int) -> None:
        """Every call takes so long from now on."""
        self.world.execute(
            "INSERT INTO simulator_record (vendor, kind, key, record, created_at)"
            " VALUES ('tradingview', 'setting', 'latency_ms', CAST(:record AS jsonb), now())",
            record=json.dumps({"ms": ms}),
        )

    def held(self, buyer: Customer) -> list[str]:
        """The scripts TradingView itself says this buyer holds, sorted."""
        holdings = Visitor(self.world.url).json("/dev/tradingview/state.json")["holdings"]
        name = buyer.tradingview_name.lower()
        return sorted(held["script_id"] for held in holdings if held["username"].lower() == name)

    def calls(self) -> dict[str, int]:
        """How often TradingView says it was called."""
        counts: dict[str, int] = Visitor(self.world.url).json("/dev/tradingview/state.json")["calls"]
        return counts

    def events(self, type_: str = "") -> list[tuple[str, str]]:
        """(id, body) of what happened at the payments vendor, oldest first, all or of one type."""
        rows = self.world.sql(
            "SELECT key, record->>'type', record->>'body' FROM simulator_record"
            " WHERE vendor = 'payments' AND kind = 'event' ORDER BY position"
        )
        return [(key, body) for key, kind, body in rows if type_ in ("", kind)]

    def ring(self, body: str, *, timeout: float = 10) -> requests.Response:
        """Deliver a signed event to the webhook, as the vendor does."""
        with requests.Session() as session:
            session.trust_env = False
            return session.post(self.webhook, data=body.encode(), headers=signed(body), timeout=timeout)

    @property
    def webhook(self) -> str:
        return f"{self.world.url}/api/webhooks/stripe"

    def without_wake_ups(self) -> None:
        """Let nothing wait in Redis but the periodic jobs. For a moment when no worker runs."""
        crons = {entry.id for entry in SCHEDULE}

        def moved() -> bool:
            return {member.decode() for member in self.world.redis.zrange(SCHEDULED, 0, -1)} <= crons

        self.world.eventually(moved)
        self.world.redis.delete(*(f"rq:queue:{name}" for name in QUEUES))

    # The store's own rows.

    def without_look_ups(self) -> None:
        """Leave a purchase to its events alone: otherwise the look-ups would heal it and hide a lost event."""
        statement = (
            "UPDATE purchase SET next_look_up_at = NULL WHERE next_look_up_at IS NOT NULL AND lease_token IS NULL"
        )
        self.world.eventually(lambda: self.world.execute(statement) == 1)

    def stored(self, event_id: str) -> list[str]:
        """The states of the inbox rows of one event."""
        return [row[0] for row in self.world.sql("SELECT state FROM webhook_event WHERE external_id = :e", e=event_id)]

    def outcomes(self) -> Counter[str | None]:
        """How the tries of every pair ended; None for those under way."""
        return Counter(row[0] for row in self.world.sql("SELECT outcome FROM provisioning_attempt"))

    def scripts(self) -> list[str]:
        return sorted(row[0] for row in self.world.sql("SELECT script_id FROM strategy WHERE status = 'on_sale'"))

    def status_of(self, buyer: Customer) -> list[str]:
        """The states of this buyer's purchases, oldest first."""
        rows = self.world.sql(
            "SELECT p.status FROM purchase p JOIN users u ON u.id = p.user_id WHERE u.email = :e ORDER BY p.id",
            e=buyer.email,
        )
        return [row[0] for row in rows]

    def standing(self, buyer: Customer) -> int:
        """How many reasons for access this buyer has now."""
        return self.world.sql(
            "SELECT count(*) FROM entitlement e JOIN users u ON u.id = e.user_id WHERE u.email = :e"
            " AND (e.ends_at IS NULL OR e.ends_at > now())",
            e=buyer.email,
        )[0][0]

    def work_left(self) -> list[tuple[str, int]]:
        """What still waits for a worker, rows and wake-ups, by kind; empty when the store is at rest."""
        rows = self.world.sql(
            "SELECT 'pair', id FROM grants WHERE next_attempt_at IS NOT NULL OR lease_token IS NOT NULL"
            " UNION ALL SELECT 'event', id FROM webhook_event WHERE next_attempt_at IS NOT NULL"
            " UNION ALL SELECT 'look-up', id FROM purchase WHERE next_look_up_at IS NOT NULL"
            " UNION ALL SELECT 'letter', id FROM email_message WHERE state IN ('queued', 'sending')"
        )
        waiting = [(name, self.world.redis.llen(f"rq:queue:{name}")) for name in QUEUES]
        return [(kind, number) for kind, number in rows] + [(name, length) for name, length in waiting if length]

    def at_rest(self, *, timeout: float = 30) -> None:
        """Wait until nothing waits: what is counted afterwards is final."""

        def rested() -> bool:
            left = self.work_left()
            assert not left, f"still to be done: {left}"
            return True

        self.world.eventually(rested, timeout=timeout)

    def cron_entries(self) -> set[str]:
        """Names of the periodic jobs that stand in Redis."""
        ids = {member.decode() for member in self.world.redis.zrange(SCHEDULED, 0, -1)}
        return {entry.name for entry in SCHEDULE if entry.id in ids}

    def letters(self, to: str) -> Counter[str]:
        """Letters in a mailbox at the mail vendor, by kind."""
        return Counter(letter["kind"] for letter in Visitor(self.world.url).json(f"/dev/outbox.json?to={to}"))

    # What must hold.

    def assert_delivered(
        self,
        *buyers: Buyer,
        grant_calls: int | None = None,
        letters: Iterable[str] = LETTERS,
        to_staff: Mapping[str, int] | None = None,
        timeout: float = 30,
    ) -> None:
        """One purchase each, six verified grants at the vendor itself, each letter exactly once, invariants hold."""
        for buyer in buyers:
            self.world.eventually(functools.partial(self._holds_all, buyer), timeout=timeout)
        self.at_rest(timeout=timeout)
        scripts = self.scripts()
        assert len(scripts) == 6
        for buyer in buyers:
            assert self.status_of(buyer) == ["COMPLETED"]
            assert self.standing(buyer) == 1
            assert self.held(buyer) == scripts
            assert list(buyer.access().values()) == ["Active"] * 6
            assert self.letters(buyer.email) == Counter(letters)
        assert self.letters(STAFF) == Counter({"admin_new_purchase": len(buyers)} | dict(to_staff or {}))
        counted = self.world.sql("SELECT state, count(*) FROM grants GROUP BY state")
        assert [tuple(row) for row in counted] == [("verified", 6 * len(buyers))]
        assert {row[0] for row in self.world.sql("SELECT state FROM webhook_event")} <= {"handled", "ignored"}
        if grant_calls is not None:
            assert self.calls()["grant"] == grant_calls
        self.assert_invariants()

    def _holds_all(self, buyer: Buyer) -> bool:
        held = self.held(buyer)
        assert held == self.scripts(), f"{buyer.email} holds {held}"
        return True

    def assert_nothing_given(self, buyer: Buyer, status: str) -> None:
        """The purchase ended in `status`, and nobody holds or is told of anything."""
        self.at_rest()
        assert self.status_of(buyer) == [status]
        assert self.standing(buyer) == 0
        assert self.held(buyer) == []
        assert "Active" not in buyer.access().values()
        assert "access_granted" not in self.letters(buyer.email)
        self.assert_invariants()

    def assert_invariants(self) -> None:
        with self.world.connect() as connection:
            assert broken(connection, workers_alive=True) == {}


def signed(body: str) -> dict[str, str]:
    """The headers of an event, signed with the secret this store shares with the vendor."""
    signature = stripe.WebhookSignature.generate_signature_header(body, ENV["STRIPE_WEBHOOK_SECRET"], int(time.time()))
    return {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature}
