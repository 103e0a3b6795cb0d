"""Somebody leaves while something else happens to them at the same moment, on real connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from jobs import billing as billing_job
from jobs import provisioning as provisioning_job
from sts_app.accounts import services as accounts
from sts_app.accounts.models import User, UserSession
from sts_app.accounts.privacy import AccountClosed, Leaving
from sts_app.billing import customers, deletions
from sts_app.billing.models import Purchase, StripeCustomer
from sts_app.catalog.queries import lifetime_plan
from sts_app.core import clock
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.privacy import engine, services
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import ErasureState
from sts_app.provisioning import engine as provisioning_engine
from sts_app.provisioning import services as provisioning
from sts_app.provisioning.models import Entitlement, Grant
from tests import builders
from tests.billing.beside import Beside
from tests.billing.conftest import house as house


@pytest.fixture
def alice(house: Flask) -> int:
    builders.cashier()
    with transaction():
        builders.vendor()
        return builders.named(builders.alice(), "AliceTrades").id


def person(user_id: int) -> User:
    return database.session.get_one(User, user_id)


def begins(user_id: int) -> int:
    """A wish to be erased whose day is over."""
    with transaction():
        erasure = services.request(person(user_id), actor="cli")
        erasure.begins_at = clock.now() - timedelta(seconds=1)
        return erasure.id


def advance(erasure_id: int) -> bool:
    with transaction():
        return engine.advance(erasure_id)


def work(*rooms: Any) -> None:
    """What a worker of these rooms does until nothing is due, in this house."""
    for room in rooms:
        room.work.__wrapped__()
        database.session.rollback()


def somebody_waits() -> bool:
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with database.engine.connect() as connection:
        return bool(connection.scalar(waiting))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.02)


def beside(house: Flask, deed: Callable[[], Any]) -> Beside:
    """Somebody else's deed, begun while this transaction is open; back once it waits for us, or is over."""

    def alone() -> Any:
        try:
            with transaction():
                return deed()
        except Refusal as refusal:
            return refusal.code

    other = Beside(house, alone)
    until(lambda: not other.is_alive() or somebody_waits())
    return other


def test_a_sign_in_that_meets_the_closing_is_refused(house, alice):
    erasure = begins(alice)
    with transaction():
        address = person(alice).email

    def sign_in() -> str:
        user, _ = accounts.account_for(address)
        return accounts.welcome_in(user, way="link", device="", remember=False, next_path=None).secret

    with transaction():
        engine.advance(erasure)
        other = beside(house, sign_in)

    assert other.ends() == AccountClosed.code
    assert database.session.query(UserSession).count() == 0


def test_a_sign_in_just_before_the_closing_ends_with_it(house, alice):
    erasure = begins(alice)

    with transaction():
        user, _ = accounts.account_for(person(alice).email)
        accounts.welcome_in(user, way="link", device="", remember=False, next_path=None)
        other = beside(house, lambda: engine.advance(erasure))

    assert other.ends() is True
    assert database.session.query(UserSession).count() == 0


def test_a_purchase_that_meets_the_wish_is_refused(house, alice):
    with transaction():
        builders.customer_of(person(alice))

    with transaction():
        services.request(person(alice), actor="cli")
        other = beside(house, lambda: builders.opened(person(alice), lifetime_plan()))

    assert other.ends() == Leaving.code
    assert database.session.query(Purchase).count() == 0


def test_a_purchase_just_before_the_wish_is_given_up_when_it_begins(house, alice):
    with transaction():
        builders.customer_of(person(alice))

    with transaction():
        builders.opened(person(alice), lifetime_plan())
        other = beside(house, lambda: services.request(person(alice), actor="cli").id)
    erasure_id = other.ends()
    with transaction():
        database.session.get_one(Erasure, erasure_id).begins_at = clock.now()
    assert advance(erasure_id)
    advance(erasure_id)

    assert database.session.query(Purchase).one().status == "EXPIRED"


def test_a_payment_that_meets_the_closing_gives_nothing(house, alice):
    erasure = begins(alice)

    with transaction():
        engine.advance(erasure)
        other = beside(
            house,
            lambda: provisioning.entitle(
                alice, lifetime_plan(), source="purchase:1", paid_at=clock.now(), actor="system"
            ),
        )
    other.ends()

    [reason] = database.session.query(Entitlement).all()
    assert reason.ends_at is not None
    assert database.session.query(Grant).filter_by(wanted=True).count() == 0


def test_a_payment_just_before_the_closing_is_taken_back_by_it(house, alice):
    erasure = begins(alice)

    with transaction():
        provisioning.entitle(alice, lifetime_plan(), source="purchase:1", paid_at=clock.now(), actor="system")
        other = beside(house, lambda: engine.advance(erasure))
    other.ends()

    assert database.session.query(Grant).filter_by(wanted=True).count() == 0


def test_access_that_is_being_given_at_the_moment_of_closing_is_removed_again(house, alice):
    """A worker has the call in hand; what it brings is settled afterwards, and read back as gone in the end."""
    with transaction():
        provisioning.entitle(alice, lifetime_plan(), source="gift:1", paid_at=clock.now(), actor="system")
    erasure = begins(alice)
    adapter = builders.tradingview()
    with transaction():
        claim = provisioning_engine.claim_next(None, one_call_for_all=adapter.one_call_for_all)
    assert claim is not None

    advance(erasure)
    seen = provisioning_engine.call(adapter, claim)
    with transaction():
        provisioning_engine.settle(claim, seen)
    assert builders.holders()
    for _ in range(4):
        work(provisioning_job, billing_job)
        while advance(erasure):
            pass

    assert builders.holders() == set()
    assert database.session.get_one(Erasure, erasure).replaced_at is not None


def test_two_wishes_at_once_are_one(house, alice):
    with transaction():
        first = services.request(person(alice), actor="cli").id
        other = beside(house, lambda: services.request(person(alice), actor="cli").id)

    assert other.ends() == first
    assert database.session.query(Erasure).count() == 1


def test_two_workers_at_one_erasure_follow_each_other(house, alice):
    erasure = begins(alice)
    advance(erasure)

    with transaction():
        assert engine.advance(erasure), "replaced"
        other = beside(house, lambda: engine.advance(erasure))
    other.ends()

    assert len(builders.letters("erasure_done")) == 1
    lines = database.session.scalars(sa.text("SELECT action FROM audit_log WHERE action = 'privacy.erased'")).all()
    assert len(lines) == 1


def test_taking_it_back_and_beginning_at_once_end_in_one_of_them(house, alice):
    erasure = begins(alice)

    with transaction():
        services.cancel(person(alice), actor="cli")
        other = beside(house, lambda: engine.advance(erasure))

    assert other.ends() is False
    assert person(alice).closed_at is None
    assert database.session.get_one(Erasure, erasure).state == ErasureState.CANCELLED


def test_a_page_that_was_being_opened_while_the_wish_came_is_shut_again(house, alice, monkeypatch):
    """The wish arrives while the provider is asked for the page: nobody is sent to it, and it is closed there."""
    till = builders.cashier()
    open_checkout = till.open_checkout
    visitor = house.test_client()
    house.config["WTF_CSRF_ENABLED"] = False
    builders.enter(visitor, person(alice))

    def slowly(request, *, key):
        page = open_checkout(request, key=key)
        with house.app_context(), transaction():
            services.request(person(alice), actor="cli")
        return page

    monkeypatch.setattr(till, "open_checkout", slowly)
    answer = builders.press(visitor)

    assert answer.status_code == 409
    database.session.rollback()
    [purchase] = database.session.query(Purchase).all()
    assert till.look_up(purchase.session_id).session == "expired"


def test_a_customer_that_is_made_known_after_the_deletion_is_deleted_as_well(house, alice):
    """A view had asked Stripe for the customer before the account closed, and its answer comes last."""
    till = builders.cashier()
    with transaction():
        wanted = customers.want(person(alice))
    erasure = begins(alice)
    advance(erasure)
    with transaction():
        row = database.session.query(StripeCustomer).one()
        row.asked_at = clock.now() - timedelta(minutes=5)
    with transaction():
        assert deletions.want(alice) is False
    work(billing_job)
    made = wanted.make(till)
    with transaction():
        customers.remember(alice, made)
    work(billing_job)

    assert [each["gone"] for each in till.customers()] == [True]
    database.session.rollback()
    assert database.session.query(StripeCustomer).one().deleted_at is not None
