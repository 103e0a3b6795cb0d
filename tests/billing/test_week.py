"""One week at Stripe, heard of in two ways: as it happens; and late, twice, in any order and partly never.

On every morning after a comparison with Stripe's own lists, and in the end, both stores are in the same state.
`STS_WEEK_SEEDS` names other weeks than those that are always tried: `500` the first five hundred, `120:130` ten.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask
from redis import Redis

import jobs
from jobs import billing as billing_job
from sts_app import create_app
from sts_app.accounts.models import User
from sts_app.billing import comparing, inbox, queries
from sts_app.billing.models import Comparison, Dispute, Purchase, Refund, StripeCustomer, Subscription
from sts_app.billing.rules import BACK, INQUIRY, OPEN, PurchaseStatus
from sts_app.billing.services import is_handled
from sts_app.billing.simulated import Fault, SimulatedPayments, behave, misbehave
from sts_app.catalog.models import Mode, Plan, PlanStrategy, Strategy
from sts_app.core import clock, store
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.emails.models import EmailMessage
from sts_app.ops.invariants import broken
from sts_app.provisioning.models import Entitlement, Grant
from sts_app.settings import load
from tests import builders
from tests.billing.week import DAYS, MONDAY, MONTHLY, SINGLE, Story
from tests.conftest import Visitor
from tests.world import ENV, Servers

first, _, last = os.environ.get("STS_WEEK_SEEDS", "16").rpartition(":")
SEEDS = range(int(first or 0), int(last))

State = dict[str, Any]
# Kind, what it is about, and for some which of several.
Letter = tuple[str, str, str]


@dataclass
class Week:
    """What happened, how the store stood on the mornings and in the end, and what it wrote."""

    log: list[str]
    states: list[State] = field(default_factory=list)
    letters: Counter[Letter] = field(default_factory=Counter)


# The two ways to hear of it.


class InOrder:
    """Every event comes when it happens, and a worker is there at once."""

    def __init__(self, seed: int, till: SimulatedPayments, time: time_machine.Traveller) -> None:
        self.till, self.time = till, time

    def before_it(self) -> None:
        """Something is about to happen, half a minute after the last thing or later."""

    def after_it(self) -> None:
        builders.work("billing")

    def morning(self, *, hears_all: bool) -> None:
        database.session.commit()
        billing_job.compare()
        quiet(self.time)
        latest = rows(Comparison)[-1]
        assert (latest.fetched, latest.findings) == (0, []), "every event came, and everything adds up"

    def last_morning(self) -> None:
        self.morning(hears_all=True)

    def afterwards(self) -> None:
        """Everything is known, and what is still under way arrives."""


class AnyOrder(InOrder):
    """Events come late, twice, in any order or never; workers come now and then, and some take their time."""

    def __init__(self, seed: int, till: SimulatedPayments, time: time_machine.Traveller) -> None:
        super().__init__(seed, till, time)
        self.luck = random.Random(f"post {seed}")
        # What Stripe has to tell waits there, and nothing of it comes by itself.
        misbehave(till.store, Fault.DROP)
        self.sorted: set[str] = set()
        self.under_way: list[tuple[float, str]] = []
        self.slow: list[inbox.Work] = []

    def before_it(self) -> None:
        self._deliver()
        if self.luck.random() < 0.5:
            self._settle_slow()

    def after_it(self) -> None:
        self._sort()
        self.time.shift(timedelta(seconds=self.luck.randint(1, 15)))
        self._deliver()
        for _ in range(2):
            if self.luck.random() < 0.3:
                self._begin_slow()
        if self.luck.random() < 0.4:
            builders.work("billing")

    def morning(self, *, hears_all: bool) -> None:
        self._sort()
        self._deliver()
        self._settle_slow()
        # A worker comes once a day at least: what a comparison had looked up again is a finding if it differs still.
        builders.work("billing")
        if hears_all:
            billing_job.compare()
            quiet(self.time)
        elif self.luck.random() < 0.7:
            # Stripe does not answer, or nobody works on what the comparison fetched.
            if self.luck.random() < 0.5:
                misbehave(self.till.store, Fault.API_DOWN)
            billing_job.compare()
            if self.luck.random() < 0.5:
                builders.work("billing")
            behave(self.till.store)
            misbehave(self.till.store, Fault.DROP)

    def last_morning(self) -> None:
        self.morning(hears_all=True)
        for _ in range(5):
            database.session.commit()
            report = comparing.run(self.till)
            quiet(self.time)
            assert report.findings == ()
            if not (report.fetched or report.waiting or report.suspicions):
                return
            self._sort()
        raise AssertionError("the comparison goes on and on finding something")

    def afterwards(self) -> None:
        self.under_way = [(0, event_id) for _, event_id in self.under_way]
        self._deliver()
        while self.slow:
            self._settle_slow()
        quiet(self.time)

    def _sort(self) -> None:
        """Decide for each new event when it comes, if ever, and whether it comes again."""
        now = clock.now().timestamp()
        for event_id, record in self.till.store.all("event"):
            if event_id in self.sorted or not is_handled(record["type"]):
                continue
            self.sorted.add(event_id)
            while self.luck.random() < 0.6:
                longest = self.luck.choice((0, 0, 0, 120, 6 * 3600, 30 * 3600, 3 * 86400))
                self.under_way.append((now + longest * self.luck.random(), event_id))

    def _deliver(self) -> None:
        now = clock.now().timestamp()
        due = [event_id for at, event_id in self.under_way if at <= now]
        self.under_way = [(at, event_id) for at, event_id in self.under_way if at > now]
        self.luck.shuffle(due)
        for event_id in due:
            assert self.till.redeliver(event_id)

    def _begin_slow(self) -> None:
        """A worker takes something and asks Stripe; others go on meanwhile."""
        with transaction():
            work = inbox.claim_next()
        if work is not None:
            work.call(self.till)
            self.slow.append(work)

    def _settle_slow(self) -> None:
        self.luck.shuffle(self.slow)
        for _ in range(self.luck.randint(0, len(self.slow))):
            with transaction():
                self.slow.pop().settle()


def quiet(time: time_machine.Traveller) -> None:
    """Let workers work until nothing is left to be done now. Nothing may have broken or been refused on the way."""
    for _ in range(20):
        builders.work("billing")
        events = builders.events()
        assert [each.last_reason for each in events if each.refusals] == []
        if not queries.work_due(clock.now()) and all(each.state in ("handled", "ignored") for each in events):
            return
        time.shift(timedelta(seconds=61))
    raise AssertionError("it does not become quiet")


# The stage.


class Stage:
    """An app on a database of its own, swept between weeks."""

    def __init__(self, app: Flask, redis_url: str) -> None:
        self.app, self._redis_url = app, redis_url
        with app.app_context(), transaction():
            builders.lifetime()
            once = Plan(slug=SINGLE, name="One of them", price_cents=2900, stripe_price_id="price_single", position=3)
            monthly = Plan(slug=MONTHLY, name="Monthly", price_cents=1900, stripe_price_id="price_monthly", position=2,
                           mode=Mode.SUBSCRIPTION, interval="month", covers_all=True)  # fmt: skip
            database.session.add_all([once, monthly])
            database.session.flush()
            database.session.add(PlanStrategy(plan_id=once.id, strategy_id=rows(Strategy)[0].id))
        with app.app_context():
            # What a store has before anybody comes stays: the catalog, and the single rows of switches.
            count = sa.func.count()
            tables = database.metadata.tables.values()
            kept = {table.name for table in tables if database.session.scalar(sa.select(count).select_from(table))}
            self._swept = [table.name for table in tables if table.name not in kept - {"audit_log"}]

    def sweep(self) -> None:
        deletions = [f'DELETE FROM "{name}"' for name in self._swept]
        with self.app.app_context(), database.engine.begin() as connection:
            connection.exec_driver_sql(";".join(["SET LOCAL session_replication_role = replica", *deletions]))
        with Redis.from_url(self._redis_url) as redis:
            redis.flushdb()
        for memory in self.app.extensions["sts_stores"].values():
            memory._records.clear()


@pytest.fixture(scope="module")
def stage(servers: Servers) -> Iterator[Stage]:
    def in_memory(vendor: str) -> store.Store:
        return store.MemoryStore()

    with servers.database(servers.migrated) as url, contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(store, "DatabaseStore", in_memory))
        app = create_app(load({**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "ERROR"}))
        patches.enter_context(mock.patch.object(jobs, "the_app", return_value=app))
        app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=True)
        app.test_client_class = Visitor
        yield Stage(app, servers.redis_url)
        with app.app_context():
            database.session.remove()
            database.engine.dispose()


def live(stage: Stage, seed: int, way: type[InOrder]) -> Week:
    """Live through the week of a seed, hearing of it in one way."""
    stage.sweep()
    with builders.stopped_clock(MONDAY) as time, stage.app.app_context():
        visitor = stage.app.test_client()

        def ring(url: str, *, data: bytes, headers: dict[str, str], **_: Any) -> Any:
            return visitor.post("/api/webhooks/stripe", data=data, headers=headers, csrf=False)

        till = builders.cashier(ring)
        story = Story(seed, till)
        story.begin()
        post = way(seed, till, time)
        week = Week(story.log)
        for day, hours in enumerate(story.hours):
            time.move_to(MONDAY + timedelta(days=day, hours=5, minutes=15))
            post.morning(hears_all=story.hears_all[day])
            if story.hears_all[day]:
                week.states.append(state_of(story))
                time.move_to(MONDAY + timedelta(days=day, hours=6))
                story.at_the_desk(lambda: builders.work("billing"))
                post.after_it()
            for at in hours:
                post.before_it()
                time.move_to(at)
                story.go_on()
                post.after_it()
            post.before_it()
            time.move_to(MONDAY + timedelta(days=day, hours=22))
            story.close_pages()
            post.after_it()
        time.move_to(MONDAY + timedelta(days=DAYS, hours=5, minutes=15))
        post.last_morning()
        week.states.append(state_of(story))
        post.afterwards()
        week.states.append(state_of(story))
        assert {each.external_id for each in builders.events() if is_handled(each.type)} == {
            event_id for event_id, record in till.store.all("event") if is_handled(record["type"])
        }
        week.letters = letters_of(Names(story))
        database.session.rollback()
        return week


# What is compared.


def state_of(story: Story) -> State:
    """Everything that must not depend on when it was heard of, by names in place of ids.

    Left out is when the store heard of it: `paid_at` of a checkout, `closed_at`, when an entitlement began to rest or
    was ended. So is which of its pages a purchase names that was not paid, and which of two payments for the same
    thing is the second one.
    """
    database.session.expire_all()
    with database.engine.connect() as connection:
        assert broken(connection, workers_alive=False) == {}
    names = Names(story)
    assert our_ledger(names) == their_ledger(names)
    ours, theirs = queries.sums(), story.till.books()
    assert (ours.received, ours.refunded, ours.withheld) == (theirs.charged, theirs.refunded, theirs.withheld)
    found: State = {f"purchase {names.purchases[row.id]}": purchase_of(row, names) for row in rows(Purchase)}
    for row in rows(Refund):
        found[names.refunds[row.id]] = {
            "of": names.purchases[row.purchase_id],
            "is": (row.amount_cents, row.currency, row.state, row.failed_because, row.created_at),
            "asked": (row.reason, names.actor(row.asked_by)),
        }
    for row in rows(Dispute):
        found[names.disputes[row.id]] = {
            "of": names.purchases[row.purchase_id],
            "is": (row.amount_cents, row.currency, row.status, row.reason, row.opened_at, row.due_by, row.submissions),
        }
    for row in rows(Subscription):
        found[names.subscriptions[row.id]] = {
            "of": (names.people[row.user_id], names.plans[row.plan_id]),
            "is": (row.status, row.state, row.past_due_since is not None, row.cancel_because),
            "times": (row.started_at, row.period_end, row.ends_at),
            # The store ends one when it hears why.
            "ended_at": row.ended_at if names.was_ended_by_others(row) else row.ended_at is not None,
        }
    for row in rows(Entitlement):
        found[f"entitlement {names.source(row.source)}"] = {
            "of": (names.people[row.user_id], names.plans[row.plan_id]),
            "rests": row.suspended_because,
            "ended": row.ended_because,
            # An end that is set while a reason rests is noted when it stands again.
            "ends_at": None if row.ended_because or row.suspended_because else row.ends_at,
        }
    for row in rows(StripeCustomer):
        found[f"customer {names.people[row.user_id]}"] = row.external_id is not None
    found["paid twice"] = {names.pair(row) for row in rows(Purchase) if row.duplicate_of_id}
    found["wanted"] = {(row.name_key, row.script_id) for row in rows(Grant) if row.wanted}
    return found


def purchase_of(row: Purchase, names: Names) -> State:
    known: State = {
        "of": (names.people[row.user_id], names.plans[row.plan_id]),
        "is": (row.status, row.access),
        "subscription": names.subscriptions.get(row.subscription_id),
    }
    if not PurchaseStatus(row.status).was_paid:
        return known
    return known | {
        "cents": (row.amount_cents, row.discount_cents, row.currency, row.refunded_cents),
        "paid by": (names.stripe[row.intent_id], names.stripe[row.invoice_id], row.declined_because),
        "verdict": (row.partial_verdict, row.partial_verdict_cents),
        "paid_at": row.paid_at if row.session_id is None else None,
    }


def their_ledger(names: Names) -> State:
    """Of each payment at Stripe: the cents that came in, went back, and are withheld."""
    payments = [shown.payment for shown in names.till.payments(latest=1000)]
    return {names.stripe[each.intent]: (each.amount, each.refunded, each.withheld) for each in payments}


def our_ledger(names: Names) -> State:
    return {
        names.stripe[row.intent_id]: (
            row.amount_cents,
            sum(each.amount_cents for each in queries.refunds_of(row.id) if each.state in BACK),
            sum(each.amount_cents for each in queries.disputes_of(row.id) if each.status in {*OPEN, "lost"}),
        )
        for row in rows(Purchase)
        if PurchaseStatus(row.status).was_paid and row.amount_cents
    }


class Names:
    """What rows and ids are called in a story, the same in every telling of it."""

    def __init__(self, story: Story) -> None:
        self.till = story.till
        self.stripe: dict[str | None, str] = {None: ""}
        self.stripe.update(story.thing_names())
        self.people = {row.id: row.email for row in rows(User)}
        self.plans = {row.id: row.slug for row in rows(Plan)}
        self.subscriptions = {row.id: self.stripe[row.external_id] for row in rows(Subscription)}
        self.refunds = {row.id: self.stripe[row.external_id] for row in rows(Refund)}
        self.disputes = {row.id: self.stripe[row.external_id] for row in rows(Dispute)}
        # By what paid for it, and before that by how it was begun.
        self.purchases = {
            row.id: self.stripe[(row.session_id or row.invoice_id) if PurchaseStatus(row.status).was_paid else row.ref]
            for row in rows(Purchase)
        }

    def source(self, source: str) -> str:
        kind, _, number = source.partition(":")
        return (self.purchases if kind == "purchase" else self.subscriptions)[int(number)]

    def actor(self, actor: str) -> str:
        kind, _, number = actor.partition(":")
        return self.people[int(number)] if kind == "user" else actor

    def pair(self, second: Purchase) -> str:
        return " and ".join(sorted({self.purchases[second.id], self.purchases[second.duplicate_of_id or 0]}))

    def was_ended_by_others(self, subscription: Subscription) -> bool:
        return not any(act.get("why") == "store" for act in self.till._acts(subscription.external_id))


def rows(model: Any) -> list[Any]:
    return list(database.session.scalars(sa.select(model).order_by(model.id)))


def differences(ours: State, theirs: State) -> list[str]:
    """What is otherwise than in order. A reason for access whose end was heard of with its beginning never stood."""
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        never_stood = name.startswith("entitlement ") and one is None and other and (other["rests"] or other["ended"])
        if one != other and not never_stood:
            found.append(f"{name}: {one} in place of {other}")
    return found


# What was written.


def letters_of(names: Names) -> Counter[Letter]:
    found: Counter[Letter] = Counter()
    for key in database.session.scalars(sa.select(EmailMessage.key)):
        kind, number, *rest = key.split(":")
        # Of parts that went back each sum is told, and each verdict of staff at its time.
        which = rest[0] if kind.startswith(("admin-partial", "access")) else ""
        found[kind, about(kind, int(number), names), which] += 1
    return found


def about(kind: str, number: int, names: Names) -> str:
    match kind.removeprefix("admin-").split("-"):
        case ["paid", "twice"]:
            return names.pair(database.session.get_one(Purchase, number))
        case ["purchase" | "new" | "payment" | "partial" | "access", *_] | ["renewed"]:
            return names.purchases[number]
        case ["refunded" | "refund", *_]:
            return names.refunds[number]
        case ["dispute", *_]:
            return names.disputes[number]
        case ["renewal" | "subscription", *_]:
            return names.subscriptions[number]
    raise AssertionError(f"a letter that nobody expected: {kind}")


def letters_amiss(ours: Week, theirs: Week) -> list[str]:
    """The letters that are otherwise than they may be. A letter tells how things stand when the store hears of them.

    So what had passed by then is not told: that a payment failed which has come in; that something was bought which was
    all given back; a refund that came to nothing, a dispute before its last word, a part before more went back; the
    trouble of a subscription that is out of it, or that was never known to run.

    None comes twice about one deed, and none that did not come in order, but for two. That a payment failed is heard of
    before its purchase was paid on another page; and of a subscription's page a decline can be traced only when it is
    complete. And of a subscription that is in two troubles at once the one is told that was heard of first.
    """
    found = []
    for letter in sorted(ours.letters.keys() | theirs.letters.keys()):
        kind, thing, _ = letter
        count, in_order = ours.letters[letter], theirs.letters[letter]
        has_passed = may_have_passed(
            letter, theirs.states[-1], never_stood=f"entitlement {thing}" not in ours.states[-1]
        )
        is_trouble = kind.endswith("renewal-failed") or kind.startswith("subscription-")
        is_decline = kind.endswith("payment-failed")
        may_be_new = (is_trouble and has_passed) or (is_decline and (has_passed or MONTHLY in thing))
        if max(count, in_order) > 1 and not is_trouble:
            found.append(f"{letter} came {in_order} times in order and {count} times in any order")
        elif count > in_order and not may_be_new:
            found.append(f"{letter} came, and did not in order")
        elif in_order and not count and not has_passed:
            found.append(f"{letter} never came")
    return found


def may_have_passed(letter: Letter, end: State, *, never_stood: bool) -> bool:
    """Whether what a letter tells may have passed before it was heard of."""
    kind, name, cents = letter
    known = end.get(name) or end.get(f"purchase {name}") or {}
    match kind.removeprefix("admin-").split("-"):
        case ["payment", "failed"]:
            return "cents" in known
        case ["purchase" | "new", *_]:
            return bool(known["is"][0] == "REFUNDED")
        case ["refunded" | "refund", *_]:
            return known["is"][2] in ("failed", "canceled")
        case ["partial", "refund"]:
            lost = sum(each["is"][0] for each in end.values() if is_lost_of(each, name))
            decided = known["verdict"][1] or 0
            return known["cents"][3] + lost != int(cents) or known["is"][1] == "ended" or int(cents) <= decided
        case ["dispute", "opened"]:
            return known["is"][2] not in OPEN
        case ["dispute", "inquiry"]:
            return known["is"][2] not in INQUIRY
        case ["dispute", "lost"]:
            return bool(known["is"][2] != "lost")
        case ["renewal", "failed"]:
            return bool(known["is"][1] != "grace")
        case ["subscription", word]:
            return never_stood or bool(known["is"][1] != word)
    return False


def is_lost_of(thing: Any, purchase: str) -> bool:
    return isinstance(thing, dict) and thing["of"] == purchase and thing["is"][2] == "lost"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_week_ends_in_the_same_state_however_it_was_heard_of(stage: Stage, seed: int) -> None:
    in_order, in_any_order = live(stage, seed, InOrder), live(stage, seed, AnyOrder)

    story = "\n".join(in_order.log)
    assert in_any_order.log == in_order.log
    for ours, theirs in zip(in_any_order.states, in_order.states, strict=True):
        assert differences(ours, theirs) == [], story
    assert letters_amiss(in_any_order, in_order) == [], story
