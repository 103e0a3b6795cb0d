"""Reasons that staff give, end and put to rest: what holds decides, whatever else a person has."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from sts_app import create_app
from sts_app.accounts import services as accounts
from sts_app.audit.models import AuditLog
from sts_app.catalog import queries as catalog
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import AlreadyDone, FixInput
from sts_app.provisioning import queries, services
from sts_app.provisioning.models import Entitlement
from sts_app.settings import load
from tests.builders import NOON, entitled, holders, in_a_transaction, kinds, look_over, work
from tests.world import ENV

SAM = "user:1"
DAY = timedelta(days=1)
WALKS = 12


def give(user, plan, *, ends_at: datetime | None = None) -> str:
    """The source of a gift that was given."""
    return in_a_transaction(
        lambda: services.gift(user, plan, reason="a friend of the house", ends_at=ends_at, actor=SAM).source
    )


def end(source: str) -> bool:
    return in_a_transaction(lambda: services.end_entitlement(source, because="it was enough", actor=SAM))


def suspend(source: str) -> bool:
    return in_a_transaction(lambda: services.suspend(source, because="a dispute", actor=SAM))


def resume(source: str) -> bool:
    return in_a_transaction(lambda: services.resume(source, because="it was won", actor=SAM))


def settle_down() -> None:
    look_over()
    work("provisioning")


def shown(user) -> set[str]:
    return {row.state for row in queries.access_of(user.id, time_source.now())}


@pytest.fixture
def owner(alice, plan, vendor):
    """Alice, who bought and has everything."""
    entitled(alice, plan, "purchase:1")
    work("provisioning")
    return alice


class TestAGift:
    def test_gives_access_and_keeps_its_reason(self, alice, plan, vendor):
        source = give(alice, plan)
        settle_down()

        gift = queries.entitlement_from(source)
        assert (shown(alice), len(holders())) == ({"Active"}, 6)
        assert (gift.note, gift.ends_at) == ("a friend of the house", None)
        assert kinds() == ["access_granted"]

    def test_is_in_the_audit(self, alice, plan):
        source = give(alice, plan)

        [line] = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "provisioning.entitled"))
        assert (line.actor, line.details["source"]) == (SAM, source)

    @pytest.mark.parametrize("reason", ["", " ", "\t\n"])
    def test_needs_a_reason(self, alice, plan, reason):
        with pytest.raises(FixInput, match="needs a reason"):
            services.gift(alice, plan, reason=reason, actor=SAM)

    @pytest.mark.parametrize("ends_at", [NOON, NOON - DAY])
    def test_does_not_end_before_it_begins(self, alice, plan, ends_at):
        with pytest.raises(FixInput, match="lies in the future"):
            services.gift(alice, plan, reason="words", ends_at=ends_at, actor=SAM)

    def test_ends_by_itself_when_its_time_has_come(self, alice, plan, vendor, clock):
        give(alice, plan, ends_at=NOON + DAY)
        settle_down()

        clock.shift(DAY - timedelta(seconds=1))
        settle_down()
        assert (shown(alice), len(holders())) == ({"Active"}, 6)

        clock.shift(timedelta(seconds=1))
        settle_down()
        assert (shown(alice), holders()) == ({"Revoked"}, set())

    def test_may_be_given_again_after_its_end(self, alice, plan, vendor, clock):
        give(alice, plan, ends_at=NOON + DAY)
        clock.shift(DAY)
        settle_down()

        give(alice, plan)
        settle_down()

        assert shown(alice) == {"Active"}

    def test_is_refused_while_another_runs(self, alice, plan):
        source = give(alice, plan)

        with pytest.raises(AlreadyDone, match="running already"):
            give(alice, plan)

        end(source)
        give(alice, plan)

    def test_that_rests_still_runs(self, alice, plan):
        suspend(give(alice, plan))

        with pytest.raises(AlreadyDone):
            give(alice, plan)


class TestBesideAPurchase:
    def test_a_refund_leaves_the_access_of_the_gift(self, owner, plan):
        give(owner, plan)

        end("purchase:1")
        settle_down()

        assert (shown(owner), len(holders())) == ({"Active"}, 6)

    def test_the_end_of_the_gift_leaves_the_access_of_the_purchase(self, owner, plan, clock):
        give(owner, plan, ends_at=NOON + DAY)

        clock.shift(DAY)
        settle_down()

        assert (shown(owner), len(holders())) == ({"Active"}, 6)

    def test_access_goes_with_the_last_of_them(self, owner, plan, clock):
        give(owner, plan, ends_at=NOON + DAY)
        end("purchase:1")
        settle_down()

        clock.shift(DAY)
        settle_down()

        assert (shown(owner), holders()) == ({"Revoked"}, set())

    def test_a_purchase_that_rests_keeps_access_by_the_gift(self, owner, plan):
        give(owner, plan)

        suspend("purchase:1")
        settle_down()

        assert (shown(owner), len(holders())) == ({"Active"}, 6)

    def test_a_purchase_that_rests_alone_is_suspended_and_comes_back_without_a_second_letter(self, owner):
        suspend("purchase:1")
        settle_down()
        assert (shown(owner), holders()) == ({"Suspended"}, set())

        resume("purchase:1")
        settle_down()

        assert (shown(owner), len(holders())) == ({"Active"}, 6)
        assert kinds() == ["access_granted"]

    def test_what_was_refunded_while_it_rested_does_not_come_back(self, owner):
        suspend("purchase:1")
        end("purchase:1")
        resume("purchase:1")
        settle_down()

        assert (shown(owner), holders()) == ({"Revoked"}, set())

    def test_to_suspend_and_resume_twice_is_once(self, owner):
        assert (suspend("purchase:1"), suspend("purchase:1")) == (True, False)
        assert (resume("purchase:1"), resume("purchase:1")) == (True, False)

    def test_suspended_and_resumed_before_anybody_looked_takes_nothing_away(self, owner, vendor):
        suspend("purchase:1")
        resume("purchase:1")
        settle_down()

        assert (shown(owner), len(holders())) == ({"Active"}, 6)
        assert kinds() == ["access_granted"]


@pytest.mark.parametrize("seed", range(WALKS))
def test_there_is_access_while_any_reason_holds_and_at_no_other_time(seed, alice, plan, vendor, clock):
    dice = random.Random(seed)
    ends: dict[str, datetime | None] = {}
    resting: set[str] = set()

    def buy() -> None:
        source = f"purchase:{len(ends)}"
        in_a_transaction(lambda: entitled(alice, plan, source))
        ends[source] = None

    def hand_a_gift() -> None:
        ends_at = time_source.now() + dice.choice([1, 3]) * DAY if dice.random() < 0.7 else None
        runs = any(source.startswith("gift:") and still_runs(source) for source in ends)
        if runs:
            with pytest.raises(AlreadyDone):
                give(alice, plan, ends_at=ends_at)
        else:
            ends[give(alice, plan, ends_at=ends_at)] = ends_at

    def end_one() -> None:
        source = dice.choice(sorted(ends))
        assert end(source) is still_runs(source)
        if still_runs(source):
            ends[source] = time_source.now()

    def suspend_one() -> None:
        source = dice.choice(sorted(ends))
        assert suspend(source) is (source not in resting)
        resting.add(source)

    def resume_one() -> None:
        source = dice.choice(sorted(ends))
        assert resume(source) is (source in resting)
        resting.discard(source)

    def wait() -> None:
        clock.shift(DAY)

    def still_runs(source: str) -> bool:
        ends_at = ends[source]
        return ends_at is None or ends_at > time_source.now()

    buy()
    for _ in range(12):
        dice.choice([buy, hand_a_gift, hand_a_gift, end_one, end_one, suspend_one, resume_one, wait])()
        if dice.random() < 0.6:
            settle_down()
    settle_down()

    holds = any(still_runs(source) and source not in resting for source in ends)
    assert len(holders()) == (6 if holds else 0)
    assert (shown(alice) == {"Active"}) is holds
    assert kinds().count("access_granted") <= len(ends)


class TestARace:
    @pytest.fixture(autouse=True)
    def clock(self) -> None:
        """The real one, which the database has as well."""

    @pytest.fixture
    def house(self, world) -> Iterator[Flask]:
        """An app of this process on a database that other connections see."""
        app = create_app(load(world.env))
        yield app
        with app.app_context():
            database.engine.dispose()

    def test_two_gifts_at_once_are_one(self, world, house):
        ready = threading.Barrier(2)

        def hand_over() -> str:
            with house.app_context():
                try:
                    with transaction():
                        sam = accounts.user_by_email(ENV["ADMIN_EMAIL"])
                        ready.wait(5)
                        return services.gift(sam, catalog.lifetime_plan(), reason="a race", actor="cli").source[:5]
                except AlreadyDone:
                    return "late"

        with world.connect() as somebody, ThreadPoolExecutor(2) as pool:
            somebody.execute(sa.text("SELECT id FROM users FOR UPDATE"))
            both = [pool.submit(hand_over) for _ in range(2)]
            world.eventually(lambda: waiting(world) == 2, timeout=4)
            somebody.rollback()
            outcomes = sorted(each.result(10) for each in both)

        assert outcomes == ["gift:", "late"]
        assert world.sql(f"SELECT count(*) FROM {Entitlement.__tablename__}") == [(1,)]


def waiting(world) -> int:
    """How many connections wait for a lock."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return world.sql(statement)[0][0]
