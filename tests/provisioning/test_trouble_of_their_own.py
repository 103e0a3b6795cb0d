"""Names and rows that go wrong for ever keep nobody else from what they paid for, and wake nobody in vain."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from jobs import ops, provisioning
from sts_app.catalog import services as catalog
from sts_app.core import clock as time_source
from sts_app.core import queue
from sts_app.core.db import db as database
from sts_app.provisioning import services
from sts_app.provisioning.control import CANARY_EVERY, FAILURES_OPEN
from sts_app.provisioning.gateway import TryLater
from sts_app.provisioning.models import ProvisioningControl
from sts_app.provisioning.simulated import Fault, behave, misbehave
from tests.builders import (
    entitled,
    grants,
    in_a_transaction,
    named,
    person,
    served,
    strategy,
    through,
    tradingview,
    work,
)

MINUTE = timedelta(minutes=1)


class Odd:
    """The simulated TradingView, which has something against whoever is called Odd and a number."""

    one_call_for_all = True

    def __init__(self) -> None:
        self.inner = tradingview()

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Failing(Odd):
    """500 for them, the session being fine or not asked about."""

    def __init__(self, *, doubts_session: bool) -> None:
        super().__init__()
        self.doubts_session = doubts_session

    def grant(self, name, script_ids):
        self._fail_for(name)
        return self.inner.grant(name, script_ids)

    def has_access(self, name, script_ids):
        self._fail_for(name)
        return self.inner.has_access(name, script_ids)

    def _fail_for(self, name):
        if name.startswith("Odd"):
            raise TryLater("the service failed (500)", doubts_session=self.doubts_session)


class Silent(Odd):
    """An empty list for them, which proves nothing."""

    def has_access(self, name, script_ids):
        facts = self.inner.has_access(name, script_ids)
        silent = name.startswith("Odd")
        return [replace(fact, has_access=False, is_told=False) if silent else fact for fact in facts]


def odd_buyers(count: int, plan) -> None:
    for number in range(count):
        entitled(named(person(f"odd{number}@customers.example"), f"Odd{number}"), plan, f"purchase:odd{number}")
    database.session.commit()


def minutes(count: int, clock) -> None:
    """So many minutes of a store: a worker each minute, a session check each quarter of an hour."""
    for minute in range(count):
        work("provisioning")
        if minute % 15 == 0:
            provisioning.check_session()
        clock.shift(MINUTE)


def served_within(limit: timedelta, plan, clock) -> timedelta | None:
    """How long a buyer with a good name waits who comes now; None when it is longer than `limit`."""
    entitled(named(person("good@customers.example"), "Goodbuyer"), plan, "purchase:good")
    database.session.commit()
    begun = time_source.now()
    while time_source.now() < begun + limit:
        minutes(1, clock)
        if {grant.state for grant in grants("goodbuyer")} == {"verified"}:
            return time_source.now() - begun
    return None


def circuit_is_open() -> bool:
    return database.session.scalar(sa.select(ProvisioningControl.circuit_opened_at)) is not None


@pytest.mark.parametrize("doubts_session", [True, False])
@pytest.mark.parametrize("odd", [1, 2, 3, FAILURES_OPEN])
def test_names_that_fail_for_ever_keep_no_buyer_waiting(db, plan, vendor, clock, monkeypatch, odd, doubts_session):
    through(monkeypatch, Failing(doubts_session=doubts_session))
    odd_buyers(odd, plan)
    minutes(40, clock)

    assert served_within(CANARY_EVERY + 2 * MINUTE, plan, clock) is not None


def test_names_about_which_nothing_is_said_keep_no_buyer_waiting(db, plan, vendor, clock, monkeypatch):
    odd_buyers(2, plan)
    work("provisioning")
    through(monkeypatch, Silent())
    for number in range(2):
        source = f"purchase:odd{number}"
        in_a_transaction(lambda source=source: services.end_entitlement(source, because="refund", actor="system"))
    minutes(40, clock)

    assert served_within(2 * MINUTE, plan, clock) is not None
    assert not circuit_is_open()


def test_a_name_about_which_nothing_is_said_goes_to_a_person_in_the_end(db, plan, vendor, clock, monkeypatch):
    through(monkeypatch, Failing(doubts_session=True))
    odd_buyers(1, plan)

    minutes(24 * 60, clock)

    assert {grant.state for grant in grants()} == {"with_staff"}
    assert not circuit_is_open()


def test_another_name_that_fails_after_the_canary_opens_the_circuit_again(db, plan, vendor, clock, monkeypatch):
    through(monkeypatch, Failing(doubts_session=False))
    odd_buyers(2, plan)
    while not circuit_is_open():
        minutes(1, clock)
    entitled(named(person("odd@customers.example"), "Odd99"), plan, "purchase:99")
    database.session.commit()
    clock.shift(CANARY_EVERY)

    work("provisioning")

    assert circuit_is_open()


def test_an_outage_after_an_outage_opens_the_circuit_again(db, plan, vendor, clock):
    misbehave(vendor, Fault.READS_FAIL)
    misbehave(vendor, Fault.FAIL, times=100)
    odd_buyers(2, plan)
    for outage in range(2):
        while not circuit_is_open():
            minutes(1, clock)
        behave(vendor)
        clock.shift(CANARY_EVERY)
        work("provisioning")
        assert not circuit_is_open()
        assert {grant.state for grant in grants()} == {"verified"}
        misbehave(vendor, Fault.READS_FAIL)
        misbehave(vendor, Fault.FAIL, times=100)
        entitled(named(person(f"odd{outage}9@customers.example"), f"Odd{outage}9"), plan, f"purchase:{outage}9")
        database.session.commit()
    behave(vendor)


class TestWakeUps:
    """What the queue is asked for while many rows wait for the pace."""

    OWNERS = 40

    @pytest.fixture
    def ordered(self, app, monkeypatch) -> list[datetime]:
        """When each wake-up of the engine is due, in place of a queue; and the pace as it is by default."""
        usual = {
            name: type(app.config["STS"]).model_fields[name].default
            for name in ("tv_writes_per_minute", "tv_write_burst", "tv_reads_per_minute", "tv_read_burst")
        }
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=usual))
        ordered: list[datetime] = []

        def send(connection, wake_up):
            if wake_up.name == "provisioning.work":
                ordered.append(time_source.now() + wake_up.after)

        monkeypatch.setattr(queue, "send", send)
        return ordered

    def test_a_spread_wakes_no_more_than_the_pace_allows(self, db, plan, vendor, clock, ordered):
        for number in range(self.OWNERS):
            served(named(person(f"owner{number}@customers.example"), f"Owner{number:03}"), plan, f"gift:{number}")
        catalog.activate(strategy("nq-seventh").id, "system")
        database.session.commit()
        ordered.clear()

        ops._sweep()
        at_once = len(ordered)
        del ordered[1:]
        ran = self._live(timedelta(minutes=2), ordered, clock)

        assert at_once <= self.OWNERS + 1
        # Ten writes a minute, and now and then one that comes a moment too early.
        assert ran <= 40
        assert sum(grant.state == "verified" for grant in grants() if grant.script_id == "PUB;nq-seventh") >= 22
        assert len(ordered) <= 2

    @staticmethod
    def _live(span: timedelta, ordered: list[datetime], clock) -> int:
        over, ran = time_source.now() + span, 0
        while time_source.now() < over:
            due = [at for at in ordered if at <= time_source.now()]
            for at in due:
                ordered.remove(at)
                provisioning.work()
            ran += len(due)
            clock.shift(timedelta(seconds=1))
        return ran


def test_wake_ups_for_now_do_not_pile_up_before_workers_that_are_busy(app, db):
    for _ in range(50):
        queue.send(queue.redis_connection(), queue.WakeUp("provisioning.work", timedelta(0)))
    assert queue.depths()["provisioning"] == queue.WAITING_ENOUGH

    # Others are not left out for it: each of them does something of its own.
    queue.send(queue.redis_connection(), queue.WakeUp("provisioning.check_session", timedelta(0)))
    queue.send(queue.redis_connection(), queue.WakeUp("billing.work", timedelta(0)))

    assert queue.depths()["provisioning"] == queue.WAITING_ENOUGH + 1
    assert queue.depths()["billing"] == 1
