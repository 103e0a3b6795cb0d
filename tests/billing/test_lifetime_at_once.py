"""Lifetime access and a subscription of one person, settled by two workers at the same moment, on real connections."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from sts_app.accounts.models import User
from sts_app.billing import inbox, queries, services, subscriptions
from sts_app.billing.gateway import SignedEvent
from sts_app.billing.models import Purchase, Subscription, WebhookEvent
from sts_app.billing.simulated import Fault, SimulatedPayments, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.catalog.queries import lifetime_plan
from sts_app.core import clock
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from tests import builders
from tests.billing.beside import Beside


@dataclass(frozen=True)
class Paid:
    """A payment that came in, with its event in the hands of a worker who has fetched the facts."""

    purchase_id: int
    event: inbox.Handling

    def settle(self) -> None:
        self.event.settle()


@pytest.fixture
def till(house) -> SimulatedPayments:
    with transaction():
        builders.vendor()
        database.session.add(
            Plan(
                slug="monthly",
                name="Monthly access",
                price_cents=1900,
                stripe_price_id="price_monthly",
                mode=Mode.SUBSCRIPTION,
                interval="month",
                covers_all=True,
                position=2,
            )
        )
    till = builders.cashier()
    misbehave(till.store, Fault.DROP)  # nobody is told of anything
    return till


@pytest.fixture
def anna(till) -> User:
    return somebody("Anna")


def somebody(name: str) -> User:
    with transaction():
        return builders.named(builders.person(f"{name.lower()}@customers.example"), name)


def paid(till: SimulatedPayments, user: User, slug: str) -> Paid:
    with transaction():
        plan = database.session.scalars(sa.select(Plan).where(Plan.slug == slug)).one()
        purchase = builders.open_page(user, plan)
        purchase_id, session_id = purchase.id, purchase.session_id
    till.pay(session_id)
    hour = timedelta(hours=1)
    told = till.events_between(clock.now() - hour, clock.now() + hour)
    wanted = ("checkout.session.completed", session_id)
    return Paid(purchase_id, in_hand(till, next(each for each in told if (each.type, each.session_id) == wanted)))


def in_hand(till: SimulatedPayments, told: SignedEvent) -> inbox.Handling:
    """An event in the hands of a worker who has fetched the facts. What was due before it is done."""
    with transaction():
        services.take_in(told)
        event_id = database.session.scalar(sa.select(WebhookEvent.id).where(WebhookEvent.external_id == told.id))
    while True:
        with transaction():
            claimed = inbox.claim_next()
        assert claimed is not None
        claimed.call(till)
        if isinstance(claimed, inbox.Handling) and claimed.event_id == event_id:
            return claimed
        with transaction():
            claimed.settle()


def both_ways(till: SimulatedPayments, user: User) -> tuple[Paid, Paid]:
    """A subscription and lifetime access: both pages were open, and both were paid."""
    with transaction():
        for slug in ("monthly", lifetime_plan().slug):
            builders.opened(user, database.session.scalars(sa.select(Plan).where(Plan.slug == slug)).one())
    return paid(till, user, "monthly"), paid(till, user, "lifetime")


def at_once(house: Flask, first: Callable[[], Any], second: Callable[[], Any]) -> None:
    """Both of them, the second begun before the first is committed."""

    def deed() -> None:
        with transaction():
            second()

    with transaction():
        first()
        beside = Beside(house, deed)
        until(lambda: not beside.is_alive() or somebody_waits())
    assert beside.ends() is None


def somebody_waits() -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.engine.connect() as connection:
        return bool(connection.scalar(sa.text(waiting)))


def until(come: Callable[[], bool]) -> None:
    over = time.monotonic() + 4
    while not come() and time.monotonic() < over:
        time.sleep(0.01)
    assert come()


def work(till: SimulatedPayments) -> None:
    """What a worker does until nothing is due."""
    while True:
        with transaction():
            claimed = inbox.claim_next()
        if claimed is None:
            return
        claimed.call(till)
        with transaction():
            claimed.settle()


def stands_at_stripe(till: SimulatedPayments) -> set[str]:
    """The provider's words for all subscriptions."""
    with transaction():
        known = database.session.scalars(sa.select(Subscription.external_id)).all()
    return {till.look_up_subscription(each).status for each in known}


def flagged(payment: Paid) -> int | None:
    with transaction():
        return database.session.get_one(Purchase, payment.purchase_id).duplicate_of_id


def test_lifetime_that_comes_while_a_subscription_begins_ends_it(house, till, anna):
    subscription, lifetime = both_ways(till, anna)

    at_once(house, subscription.settle, lifetime.settle)
    work(till)

    assert stands_at_stripe(till) == {"canceled"}
    assert (flagged(subscription), flagged(lifetime)) == (None, None)


def test_a_subscription_that_begins_while_lifetime_comes_is_ended_and_its_money_on_offer(house, till, anna):
    subscription, lifetime = both_ways(till, anna)

    at_once(house, lifetime.settle, subscription.settle)
    work(till)

    assert stands_at_stripe(till) == {"canceled"}
    assert (flagged(subscription), flagged(lifetime)) == (lifetime.purchase_id, None)


@pytest.mark.parametrize(("slug", "live"), [("monthly", 1), ("lifetime", 0)])
def test_a_second_payment_for_the_same_at_the_same_moment_is_on_offer(house, till, anna, slug, live):
    first = paid(till, anna, slug)
    with transaction():
        # Its page ran out, as far as the store knows, and so another one was opened.
        database.session.get_one(Purchase, first.purchase_id).status = "EXPIRED"
    second = paid(till, anna, slug)

    at_once(house, first.settle, second.settle)
    work(till)

    assert (flagged(first), flagged(second)) == (None, first.purchase_id)
    with transaction():
        assert len(queries.live_subscriptions_of(anna.id)) == live


def test_in_whatever_order_they_come_nobody_waits_for_ever(house, till):
    """A payment for good, a look at the subscription and an event about it: a deadlock would end one of them."""
    chance = random.Random(7)
    for number in range(8):
        subscription, lifetime = both_ways(till, somebody(f"Buyer{number}"))
        with transaction():
            subscription.settle()
        deeds = [lifetime.settle, *(claimed.settle for claimed in two_looks(till, subscription))]
        chance.shuffle(deeds)
        start = threading.Barrier(len(deeds))

        def settle(deed: Callable[[], None], after: float, start: threading.Barrier = start) -> None:
            start.wait(10)
            time.sleep(after)
            with transaction():
                deed()

        beside = [Beside(house, partial(settle, deed, chance.uniform(0, 0.01))) for deed in deeds]

        assert [each.ends() for each in beside] == [None] * len(deeds)
    work(till)
    assert stands_at_stripe(till) == {"canceled"}


def test_a_second_payment_and_an_event_about_the_first_do_not_wait_for_each_other(house, till, anna, monkeypatch):
    """The one holds the payer's turn and names the other's purchase; that holds its purchase and wants the turn."""
    with transaction():
        database.session.add(
            Plan(
                slug="yearly",
                name="Yearly access",
                price_cents=9900,
                stripe_price_id="price_yearly",
                mode=Mode.SUBSCRIPTION,
                interval="year",
                covers_all=True,
                position=3,
            )
        )
    first, second = paid(till, anna, "monthly"), paid(till, anna, "yearly")
    with transaction():
        first.settle()
    work(till)
    again = event_about(till, first)
    take_turn, beside = subscriptions.lock_payer, []

    def settle_second() -> None:
        with transaction():
            second.settle()

    def lock_payer(user_id: int) -> None:
        if threading.current_thread() is threading.main_thread() and not beside:
            beside.append(Beside(house, settle_second))
            until(lambda: not beside[0].is_alive() or somebody_waits())
        take_turn(user_id)

    monkeypatch.setattr(subscriptions, "lock_payer", lock_payer)
    with transaction():
        again.settle()

    assert beside[0].ends() is None
    assert flagged(second) == first.purchase_id


def event_about(till: SimulatedPayments, payment: Paid) -> inbox.Handling:
    """An event about the invoice of a payment that is settled, in the hands of a worker."""
    with transaction():
        external_id = subscription_of(payment)
    hour = timedelta(hours=1)
    told = till.events_between(clock.now() - hour, clock.now() + hour)
    return in_hand(
        till, next(each for each in told if (each.type, each.subscription_id) == ("invoice.paid", external_id))
    )


def subscription_of(payment: Paid) -> str:
    """The provider's id of the subscription that a payment began."""
    [known] = queries.subscriptions_of(database.session.get_one(Purchase, payment.purchase_id).user_id)
    return known.external_id


def two_looks(till: SimulatedPayments, payment: Paid) -> list[inbox.Work]:
    """The subscription that a payment began in the hands of two workers: by an event, and by the clock."""
    with transaction():
        external_id = subscription_of(payment)
    told = SignedEvent(f"evt_{external_id}", "customer.subscription.updated", clock.now(), False, {})
    by_event = in_hand(till, replace(told, subscription_id=external_id))
    with transaction():
        database.session.execute(
            sa.update(Subscription).where(Subscription.external_id == external_id).values(next_look_up_at=clock.now())
        )
    with transaction():
        by_clock = subscriptions.claim()
    assert by_clock is not None
    by_clock.call(till)
    return [by_event, by_clock]
