"""The promise measured from the ledger: what a deed is, when it is kept, and how the figures are read."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.catalog.models import Strategy
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import control, engine, names, services, slo
from sts_app.provisioning.calling import Seen
from sts_app.provisioning.models import Grant, ProvisioningJob
from sts_app.provisioning.rules import Outcome, Switch, Trigger
from sts_app.provisioning.simulated import Fault, behave, misbehave
from sts_app.provisioning.slo import Promise
from tests.builders import NOON, by_hand, entitled, in_a_transaction, named, person, work


@pytest.fixture
def buy(alice, plan, vendor, clock):
    """One more person who pays, and is given everything so many seconds later."""
    count = iter(range(1, 100))

    def buy(seconds: float | None):
        number = next(count)
        user = named(person(f"buyer{number}@customers.example"), f"Buyer{number}")
        entitled(user, plan, f"purchase:{number}")
        if seconds is not None:
            clock.shift(timedelta(seconds=seconds))
            work("provisioning")
        return user

    return buy


def measured(promise: Promise, days: int = 30):
    """The whole period of one promise."""
    return next(each for each in slo.percentiles(days) if each.promise is promise and each.day is None)


class TestADeed:
    def test_is_one_purchase_however_many_scripts_it_has(self, buy):
        buy(20)

        found = measured(Promise.PAID)
        assert (found.kept, found.p50, found.open) == (1, 20.0, 0)

    def test_is_kept_when_the_slowest_of_its_scripts_is(self, buy, clock):
        buy(None)
        claim = in_a_transaction(engine.claim_next)
        slow, *_ = claim.script_ids
        in_a_transaction(
            lambda: engine.settle(
                claim,
                {script: Seen(Outcome.LATER if script == slow else Outcome.PRESENT, "") for script in claim.script_ids},
            )
        )
        assert (measured(Promise.PAID).kept, measured(Promise.PAID).open) == (0, 1)

        clock.shift(timedelta(seconds=90))
        work("provisioning")
        assert (measured(Promise.PAID).kept, measured(Promise.PAID).p50) == (1, 90.0)

    def test_of_one_name_and_reason_at_another_time_is_another(self, buy, clock):
        user = buy(10)
        for seconds in (30, 50):
            clock.shift(timedelta(hours=1))
            in_a_transaction(lambda: services.end_entitlement(source(user), because="it was refunded", actor="system"))
            clock.shift(timedelta(seconds=seconds))
            work("provisioning")
            database.session.execute(
                sa.text("UPDATE entitlement SET ends_at = NULL, ended_because = NULL WHERE user_id = :id"),
                {"id": user.id},
            )
            in_a_transaction(
                lambda: services.recompute(user.id, trigger=Trigger.RESUMED, because="the test takes it back")
            )
            work("provisioning")

        found = measured(Promise.ENDED)
        assert (found.kept, found.p50) == (2, 40.0)

    def test_that_somebody_changed_their_mind_about_is_not_waited_for(self, buy):
        user = buy(None)
        in_a_transaction(engine.claim_next)
        in_a_transaction(lambda: services.end_entitlement(source(user), because="it was refunded", actor="system"))

        assert [each for each in slo.percentiles() if each.promise is Promise.PAID] == []

    def test_that_a_person_works_on_is_open(self, buy):
        buy(None)
        in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:7", because="a test"))
        work("provisioning")

        assert measured(Promise.PAID).open == 1

    @pytest.mark.parametrize("trigger", [Trigger.SPREAD, Trigger.DRIFT, Trigger.GIFT, Trigger.STEP])
    def test_of_another_trigger_is_no_promise(self, buy, trigger):
        buy(10)
        database.session.execute(sa.update(ProvisioningJob).values(trigger=trigger))

        assert slo.percentiles() == []


def source(user) -> str:
    return database.session.scalar(sa.text("SELECT source FROM entitlement WHERE user_id = :id"), {"id": user.id})


class TestPercentiles:
    def test_lie_between_what_was_measured(self, buy):
        for seconds in (10, 20, 30, 40):
            buy(seconds)

        found = measured(Promise.PAID)
        assert (found.kept, found.p50) == (4, 25.0)
        assert found.p95 == pytest.approx(38.5)
        assert found.p99 == pytest.approx(39.7)

    def test_are_by_day_and_over_the_whole_period(self, buy, clock):
        buy(10)
        clock.shift(timedelta(days=1))
        buy(30)

        days = {each.day: (each.kept, each.p50) for each in slo.percentiles() if each.promise is Promise.PAID}
        assert days == {
            None: (2, 20.0),
            NOON.date(): (1, 10.0),
            NOON.date() + timedelta(days=1): (1, 30.0),
        }

    def test_leave_out_what_was_before_the_period(self, buy, clock):
        buy(10)
        clock.shift(timedelta(days=7))
        buy(30)

        assert measured(Promise.PAID, days=7).p50 == 30.0
        assert measured(Promise.PAID, days=8).p50 == 20.0

    def test_measure_a_refund_until_it_is_read_as_absent(self, buy, clock):
        user = buy(10)
        in_a_transaction(lambda: services.end_entitlement(source(user), because="it was refunded", actor="system"))
        clock.shift(timedelta(seconds=45))
        work("provisioning")

        assert measured(Promise.ENDED).p50 == 45.0

    def test_measure_a_change_of_name_until_the_new_one_is_read_back(self, buy, clock):
        user = buy(10)
        clock.shift(timedelta(hours=1))
        in_a_transaction(lambda: names.set_name(user, "Somebody_else", verified=True))
        clock.shift(timedelta(seconds=15))
        work("provisioning")

        assert (measured(Promise.RENAMED).kept, measured(Promise.RENAMED).p50) == (1, 15.0)

    def test_of_nothing_are_nothing(self, db):
        assert slo.percentiles() == []


class TestOpen:
    def test_is_counted_with_the_age_of_the_oldest(self, buy, clock, vendor):
        misbehave(vendor, Fault.READS_FAIL)
        buy(0)
        clock.shift(timedelta(minutes=3))
        buy(0)

        found = measured(Promise.PAID)
        assert (found.kept, found.open, found.oldest_open) == (0, 2, timedelta(minutes=3))
        assert found.p50 is None

    def test_is_not_forgotten_when_it_is_older_than_the_period(self, buy, clock, vendor):
        misbehave(vendor, Fault.READS_FAIL)
        buy(0)
        clock.shift(timedelta(days=10))

        found = slo.percentiles(7)
        assert [(each.day, each.open, each.oldest_open) for each in found] == [(None, 1, timedelta(days=10))]
        behave(vendor)

    def test_is_over_when_it_is_kept(self, buy, clock, vendor):
        misbehave(vendor, Fault.READS_FAIL)
        buy(0)
        behave(vendor)
        clock.shift(timedelta(hours=2))
        work("provisioning")

        assert (measured(Promise.PAID).open, measured(Promise.PAID).p50) == (0, 7200.0)


class TestHindered:
    @pytest.mark.parametrize("switch", [Switch.MANUAL, Switch.DISABLED])
    def test_by_what_staff_have_chosen(self, db, switch):
        assert not slo.is_hindered()
        in_a_transaction(lambda: control.set_switch(switch, actor="user:7", because="a test"))

        assert slo.is_hindered()

    def test_a_store_without_a_way_to_tradingview_is_hindered_when_it_is_closed_alone(self, db, monkeypatch):
        by_hand(monkeypatch)
        assert not slo.is_hindered()
        in_a_transaction(lambda: control.set_switch(Switch.DISABLED, actor="user:7", because="a test"))

        assert slo.is_hindered()


def test_machines_read_today_and_the_last_seven_days(buy, clock):
    buy(10)
    clock.shift(timedelta(days=1))
    buy(20)

    told = slo.promise(time_source.now())

    assert told["paidToVerified"] == {
        "today": {"kept": 1, "p50": 20.0, "p95": 20.0, "p99": 20.0, "open": 0, "oldestOpenSeconds": None},
        "last7Days": {"kept": 2, "p50": 15.0, "p95": 19.5, "p99": 19.9, "open": 0, "oldestOpenSeconds": None},
    }
    nothing = {"kept": 0, "p50": None, "p95": None, "p99": None, "open": 0, "oldestOpenSeconds": None}
    assert told["endedToAbsent"] == {"today": nothing, "last7Days": nothing}


@pytest.mark.breaks_invariants
def test_a_week_of_a_long_ledger_is_read_by_its_index(plan):
    """10,000 jobs over three years: a week of them must not read the other ones."""
    now = time_source.now()
    strategy_id = database.session.scalar(sa.select(Strategy.id).limit(1))
    made = sa.insert(Grant).values(
        name_key="anna",
        name_spelling="Anna",
        script_id="PUB;one",
        strategy_id=strategy_id,
        wanted=True,
        state="verified",
        paid_at=now,
    )
    grant_id = database.session.scalar(made.returning(Grant.id))
    database.session.execute(
        sa.insert(ProvisioningJob),
        [
            {
                "grant_id": grant_id,
                "cycle": number,
                "wanted": True,
                "trigger": Trigger.PAID if number % 3 else Trigger.SPREAD,
                "because": f"purchase:{number}",
                "state": "reached",
                "created_at": now - timedelta(hours=2.5 * number),
                "closed_at": now - timedelta(hours=2.5 * number) + timedelta(seconds=12),
            }
            for number in range(10_000)
        ],
    )
    database.session.execute(sa.text("ANALYZE provisioning_job"))
    database.session.execute(sa.text("ANALYZE grants"))

    explained = sa.text(f"EXPLAIN {slo.MEASURE.text}").bindparams(since=slo.since(7, now), now=now)
    plan_ = "\n".join(row[0] for row in database.session.execute(explained))

    assert "ix_provisioning_job_measured" in plan_
    assert "Seq Scan on provisioning_job" not in plan_
    assert measured(Promise.PAID, days=7).kept == sum(
        bool(number % 3) and now - timedelta(hours=2.5 * number) >= slo.since(7, now) for number in range(100)
    )
