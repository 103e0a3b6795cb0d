"""One history: acts in a row on one stage, watched all the while, and brought to rest at the end.

What must hold is checked after every act (`look`) and once more when all is quiet (see `rest.py`). The
first thing that does not hold ends the history with `Broken`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
import stripe

from tests.faults.machine import house, vendor
from tests.faults.machine.lockstep import Actor
from tests.faults.machine.model import Model, Pair, Person, Reason, Script
from tests.faults.machine.stage import AFTER, BEFORE, Stage
from tests.world import ENV

WORKERS = ("w0", "w1", "w2")
SLOTS = (*WORKERS, "web", "desk")
PEOPLE = 3
SPELLINGS = ("Alpha", "Bravo", "Shared", "Common", "Unknown")
# A web request and a click of staff are ended by the server after so many seconds.
WEB_SECONDS = 30
WEBHOOK = "/api/webhooks/stripe"
# Events about somebody's customer, or papers: they say nothing about money that others do not say.
UNHEARD = (
    "customer.created",
    "customer.updated",
    "charge.succeeded",
    "charge.failed",
    "invoice.created",
    "invoice.final",
)
# So long after it was sent a request may still be carried out, although nobody waits for its answer any more. The
# store reckons with a lease after it has given up waiting.
LATEST = timedelta(seconds=195)

_ROWS = """
    SELECT g.id, g.name_key, g.script_id, g.state, g.wanted, g.cycle, g.evidence, g.lease_token IS NOT NULL,
           g.next_attempt_at, g.said_by,
           (SELECT n.user_id FROM tradingview_name n WHERE n.name_key = g.name_key AND n.released_at IS NULL)
    FROM grants g ORDER BY g.id
"""
# The model names a subscription by the checkout that began it.
_SOURCES = """
    SELECT source FROM entitlement
    UNION ALL
    SELECT 'subscription:' || p.session_id FROM purchase p
    JOIN entitlement e ON e.source = 'subscription:' || p.subscription_id WHERE p.session_id IS NOT NULL
"""


class Broken(AssertionError):
    """Something that must hold does not."""


@dataclass(frozen=True)
class Opening:
    """What a history begins with. `skews` are seconds that each slot's clock is off."""

    way: str = "open"
    skews: tuple[int, ...] = (0, 0, 0, 0, 0)
    paced: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Bought:
    """A payment page and who paid on it, for which plan."""

    person: int
    session_id: str
    slug: str


@dataclass(frozen=True)
class Row:
    """A grant as the monitor sees it: only what was committed."""

    id: int
    name_key: str
    script_id: str
    state: str
    wanted: bool
    cycle: int
    evidence: str | None
    leased: bool
    due_at: datetime | None
    said_by: str | None
    user_id: int | None

    @property
    def pair(self) -> Pair:
        return self.name_key, self.script_id


class Machine:
    """One history on a stage. `do` takes an act by its name; `trace` tells what happened, line by line."""

    def __init__(self, stage: Stage, opening: Opening) -> None:
        self.stage = stage
        self.opening = opening
        self.clock, self.gate, self.lockstep = stage.clock, stage.gate, stage.lockstep
        self.slots: dict[str, Actor] = {}
        self.post: list[tuple[str, bytes]] = []
        self.untold: bytes | None = None
        # Who paid on which page for which plan; and the pages that somebody left, which may be recovered.
        self.bought: list[Bought] = []
        self.left: list[Bought] = []
        self.rows: dict[int, Row] = {}
        self.trace: list[str] = []
        self.acts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.steps = 0
        self.numbers = 0
        self.is_resting = False
        self.complaint: str | None = None
        self.deeds = 0
        # Events delivered that billing was not started for since.
        self.delivered = 0
        self._seen: tuple[int, int] | None = None
        stage.sweep()
        stage.choose(opening.way, paced=opening.paced)
        self.model = self._cast()
        self.gate.on_deed, self.gate.now = self._on_deed, lambda: self.clock.at
        with stage.app.app_context():
            cast(Any, house.cashier())._post = self._ring
        self.look()

    # The cast.

    def _cast(self) -> Model:
        from sts_app.accounts.models import TEXTS_VERSION

        now = self.clock.at
        people = [
            {"email": f"p{n}@customers.example", "name": f"P{n}", "role": "USER", "created_at": now,
             "texts_version": TEXTS_VERSION, "texts_accepted_at": now}
            for n in range(PEOPLE)
        ]  # fmt: skip
        words = dict.fromkeys(("style", "session", "summary", "description", "methodology", "best_for"), "words")
        strategies = [
            words | {"slug": f"s{n}", "name": f"S{n}", "script_id": f"PUB;{n}a", "position": n, "market": "NQ",
                     "timeframe": "5m", "features": [], "status": "on_sale" if n < 2 else "draft",
                     "created_at": now, "updated_at": now}
            for n in range(3)
        ]  # fmt: skip
        plan = {"slug": house.LIFETIME, "name": "Lifetime", "price_cents": 9900, "currency": "usd", "covers_all": True,
                "active": True, "position": 0, "created_at": now, "stripe_price_id": "price_machine"}  # fmt: skip
        monthly = {"slug": house.MONTHLY, "name": "Monthly", "price_cents": 1900, "mode": "subscription",
                   "interval": "month", "position": 1, "stripe_price_id": "price_monthly"}  # fmt: skip
        tables = self.stage.metadata.tables
        with self.stage.engine.begin() as connection:
            connection.execute(sa.insert(tables["users"]).values(people))
            connection.execute(sa.insert(tables["strategy"]).values(strategies))
            connection.execute(sa.insert(tables["plan"]), [{"mode": "payment", "interval": ""} | plan, plan | monthly])
        scripts = [Script(n, n + 1, f"PUB;{n}a", is_live=n < 2) for n in range(3)]
        return Model([Person(n, n + 1) for n in range(PEOPLE)], scripts)

    # Telling.

    def say(self, what: str) -> None:
        passed = (self.clock.at - stage_began()).total_seconds()
        self.trace.append(f"{passed:10.3f}  {what}")

    def fail(self, why: str) -> None:
        self.say(f"BROKEN: {why}")
        raise Broken(why)

    def complain(self, why: str) -> None:
        """The same from a thread of an actor or of the vendor: the history ends as soon as it looks."""
        self.complaint = self.complaint or why

    # Actors.

    def start(self, slot: str, name: str, deed: Callable[[], Any]) -> Actor | None:
        """Put somebody to work in a free slot; None when the slot is taken."""
        if slot in self.slots:
            return None
        self.numbers += 1
        skew = self.opening.skews[SLOTS.index(slot)]
        actor = Actor(self.lockstep, f"{name}#{self.numbers}", deed, skew=skew, began=self.clock.monotonic())
        self.slots[slot] = actor
        self.lockstep.add(actor)
        return actor

    def step(self, slot: str) -> bool:
        """Let the actor in a slot go on to its next point."""
        actor = self.slots.get(slot)
        if actor is None or not actor.is_parked:
            return False
        limit = self.stage.limit_of(actor.name.partition("#")[0]) if slot in WORKERS else WEB_SECONDS
        if self.clock.monotonic() - actor.began > limit:
            self.say(f"{actor.name} is ended: it took longer than {limit} s")
            self.faults["time ran out"] += 1
            self.kill(slot)
            return True
        self.steps += 1
        self.clock.tick()
        before = actor.point
        self.lockstep.move(actor)
        now = "over" if actor.is_over else "blocked" if actor.is_blocked else actor.point
        self.say(f"{slot} {actor.name}: {before} -> {now}{self._of(actor)}")
        self.look()
        return True

    def run(self, slot: str) -> bool:
        """Let the actor in a slot go on until it is done, without a stop at any point, unless it is blocked."""
        actor = self.slots.get(slot)
        if actor is None:
            return False
        actor.hurry = True
        return self.step(slot) or actor.is_blocked

    def kill(self, slot: str) -> bool:
        actor = self.slots.get(slot)
        if actor is None:
            return False
        point = "blocked" if actor.is_blocked else actor.point
        self.say(f"{slot} {actor.name} is killed at {point}{self._of(actor)}")
        if actor.call is not None and point == vendor.DONE:
            actor.call.is_lost = True
        self.lockstep.kill(actor)
        self.look()
        return True

    def drop(self, slot: str) -> bool:
        """Cut the database connections of an actor that lives on."""
        actor = self.slots.get(slot)
        if actor is None or not actor.connections or not actor.is_parked:
            return False
        self.say(f"{slot} {actor.name} loses its database at {actor.point}")
        actor.was_hurt = True
        if actor.point == AFTER:
            actor.is_dropped = True
        else:
            self.lockstep.cut(actor)
        return True

    def lose(self, slot: str, *, late: bool) -> bool:
        """Cut the connection of a call: before its deed, which may then still happen late, or after it."""
        actor = self.slots.get(slot)
        if actor is None or actor.call is None or not actor.is_parked:
            return False
        call: vendor.Call = actor.call
        self.say(f"{slot} {actor.name}: {call.what} is lost at {actor.point}{' and may come late' if late else ''}")
        call.is_lost, call.is_late = True, late and actor.point == vendor.ARRIVED
        self.lockstep.move(actor)
        self.look()
        return True

    def _of(self, actor: Actor) -> str:
        call: vendor.Call | None = actor.call
        return f" [{call.what}]" if call is not None and actor.point in (vendor.ARRIVED, vendor.DONE) else ""

    def _reap(self) -> None:
        for slot, actor in list(self.slots.items()):
            if not actor.is_over:
                continue
            del self.slots[slot]
            if slot == "web" and self.untold is not None:
                self.post.append((json.loads(self.untold)["type"], self.untold))
                self.untold = None
            failure = actor.failure
            if failure is None or isinstance(failure, house.expected_refusals()):
                if failure is not None:
                    self.say(f"{actor.name} was refused: {failure}")
                continue
            if not actor.was_hurt:
                self.fail(f"{actor.name} raised {type(failure).__name__}: {str(failure).splitlines()[0]}")

    # Time.

    def pass_time(self, seconds: float) -> None:
        """Move the clock; whoever waits for an answer longer than its timeout stops waiting."""
        self.clock.at += timedelta(seconds=seconds)
        patience = timedelta(seconds=self.stage.settings.tv_call_timeout)
        for slot, actor in list(self.slots.items()):
            call: vendor.Call | None = actor.call
            if call is not None and actor.is_parked and call.sent_at + patience < self.clock.at:
                self.faults["no answer in time"] += 1
                self.lose(slot, late=True)
        self.forget_old_calls()

    def forget_old_calls(self) -> None:
        for call in list(self.gate.late):
            if call.sent_at + LATEST < self.clock.at:
                self.gate.give_up(call)

    # Money.

    def _ring(self, url: str, *, data: bytes, headers: dict[str, str], **_: Any) -> Any:
        """The simulated Stripe has an event to tell: it waits in the post until it is delivered."""
        kind = json.loads(data)["type"]
        if not kind.startswith(UNHEARD):
            self.post.append((kind, data))
        return _Taken()

    def deliver(self, body: bytes) -> bool:
        """Stripe rings with an event; what is not answered 2xx it tells again."""

        def ring() -> None:
            actor = self.slots["web"]
            answer = self.stage.app.test_client().post(WEBHOOK, data=body, headers=_signed(body))
            if answer.status_code // 100 == 2:
                self.untold = None
            elif not actor.was_hurt:
                self.complain(f"a signed event was answered {answer.status_code}")

        if "web" in self.slots:
            return False
        self.untold = body
        return self.start("web", "webhook", ring) is not None

    # Looking.

    def look(self) -> None:
        """See what was committed, and that it is true."""
        self._reap()
        if self.complaint is not None:
            self.fail(self.complaint)
        if self.gate.overlaps:
            self.fail(f"two calls for one pair: {self.gate.overlaps[0]}")
        seen = (self.lockstep.commits, self.deeds)
        if seen == self._seen:
            return
        if self._seen is None or seen[0] != self._seen[0]:
            rows = {row[0]: Row(*row) for row in self.lockstep.ask(_ROWS)}
            self._tell_changes(rows)
            self.rows = rows
            self._learn_of_payments()
        self._seen = seen
        held, rows = self.stage.held(), self.rows
        for row in rows.values():
            if row.state != "verified" and not row.leased:
                # Whoever has it may have read it before it was changed.
                self.model.disturbed.discard(row.pair)
            elif row.evidence == "read back":
                self.model.lies.discard(row.pair)
            if row.state == "absent":
                self.model.lies.discard(row.pair)
            if row.state != "verified" or row.evidence != "read back":
                continue
            if row.pair not in held and row.pair not in self.model.disturbed:
                self.fail(f"{row.pair} is Active in our rows, and TradingView does not hold it")
        self._look_at_people()

    def _learn_of_payments(self) -> None:
        unknown = [(who, reason) for who in self.model.people for reason in who.reasons.values() if not reason.is_known]
        if not unknown:
            return
        sources = {row[0] for row in self.lockstep.ask(_SOURCES)}
        for who, reason in unknown:
            reason.is_known = reason.source in sources
            if reason.is_known and reason.source.startswith("purchase"):
                # From now on the store may end what this purchase replaces.
                who.doubt("subscription")

    def _without_access(self) -> list[tuple[Person, Script]]:
        """Who had verified access, is entitled ever since, and cannot use it now under any name."""
        held = self.stage.held()
        return [
            (self.model.people[person], self.model.scripts[script])
            for person, script in self.model.secured
            if self.model.people[person].is_surely_entitled(self.clock.at)
            and not self._is_disturbed(self.model.people[person], self.model.scripts[script])
            and not self.model.working(self.model.people[person], self.model.scripts[script], held)
        ]

    def _look_at_people(self) -> None:
        now = self.clock.at
        for person, script in self._without_access():
            self.fail(f"P{person.number} had S{script.number} verified, is entitled, and has no working name")
        by_user = {person.user_id: person for person in self.model.people}
        for key in list(self.model.secured):
            person, script = self.model.people[key[0]], self.model.scripts[key[1]]
            if not person.is_surely_entitled(now) or self._is_disturbed(person, script):
                self.model.secured.discard(key)
        for row in self.rows.values():
            holder = by_user.get(row.user_id) if row.user_id is not None else None
            if holder is None or row.state != "verified" or not holder.is_surely_entitled(now):
                continue
            for script in self.model.scripts:
                if row.script_id in script.ids and not self._is_disturbed(holder, script):
                    self.model.secured.add((holder.number, script.number))

    def _is_disturbed(self, person: Person, script: Script) -> bool:
        doubted = self.model.disturbed | self.model.lies
        return any((name, script_id) in doubted for name in person.names for script_id in script.ids)

    def _tell_changes(self, rows: dict[int, Row]) -> None:
        for row in rows.values():
            before = self.rows.get(row.id)
            is_new = before is None or (before.state, before.wanted, before.cycle, before.leased) != (
                row.state, row.wanted, row.cycle, row.leased)  # fmt: skip
            if is_new:
                want = "wanted" if row.wanted else "unwanted"
                self.say(f"    {row.name_key} {row.script_id}: {row.state}, {want}, cycle {row.cycle}"
                         f"{', leased' if row.leased else ''}")  # fmt: skip

    def _on_deed(self, call: vendor.Call, given: set[Pair], taken: set[Pair]) -> None:
        """TradingView has just done something because a call of ours said so."""
        self.deeds += 1
        late = call.is_late or call.actor.is_dead
        self.say(f"    TradingView{' (late)' if late else ''}: gives {sorted(given)} takes {sorted(taken)}")
        for name, script_id in given:
            if not self.model.had_reason(name):
                self.complain(f"{script_id} was given to {name}, who never had a reason")
        if late:
            self.model.disturbed |= given | taken
            return
        if taken & self.model.strangers:
            self.complain(f"access of strangers was taken: {sorted(taken & self.model.strangers)}")
        for person, script in self._without_access():
            self.complain(f"P{person.number} had S{script.number} verified, is entitled, and has no working name")

    @property
    def needs_reconciling(self) -> bool:
        """Whether something at TradingView may differ that no row of ours knows of."""
        began = self.lockstep.ask("SELECT 1 FROM reconciliation_run WHERE state = 'running'")
        return bool(began or self.model.edited)

    def open_tasks(self) -> list[tuple[int, Pair, bool]]:
        """Id, pair and direction of what waits for a person."""
        rows = self.lockstep.ask(
            "SELECT t.id, g.name_key, g.script_id, g.wanted FROM manual_task t JOIN grants g ON g.id = t.grant_id"
            " WHERE t.closed_at IS NULL ORDER BY t.id"
        )
        return [(row[0], (row[1], row[2]), row[3]) for row in rows]

    def turns_to_wanted(self, name: str) -> int:
        """How often access for a name began to be wanted: the odd cycles of its rows."""
        return max(((row.cycle + 1) // 2 for row in self.rows.values() if row.name_key == name), default=0)

    def can_be_done(self, pair: Pair, *, wanted: bool) -> bool:
        """Nobody can give to a name that is not there."""
        return not wanted or self.stage.vendor.spelling(pair[0]) is not None

    def by_hand(self, pair: Pair, *, wanted: bool) -> None:
        """A person gives or removes at TradingView itself."""
        if wanted:
            self.stage.vendor.give(*pair)
        else:
            self.stage.vendor.take(*pair)
        self.model.disturbed.add(pair)

    # Model.

    def reason(self, person: Person, source: str, ends_at: datetime | None = None) -> None:
        person.reasons[source] = Reason(source, self.clock.at, ends_at)


def _signed(body: bytes) -> dict[str, str]:
    # Stripe's library reads the real clock.
    secret, now = ENV["STRIPE_WEBHOOK_SECRET"], int(time.time())
    signature = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, now)
    return {"Stripe-Signature": signature, "Content-Type": "application/json"}


class _Taken:
    status_code = 200


def stage_began() -> datetime:
    from tests.faults.machine.stage import DAY_ONE

    return DAY_ONE


__all__ = ["AFTER", "BEFORE", "Broken", "Machine", "Opening"]
