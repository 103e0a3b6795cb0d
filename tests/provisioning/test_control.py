"""The staff switch, the circuit and the incident: three things that are kept apart."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobs import provisioning as door
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import NotNow
from sts_app.ops import services as ops
from sts_app.provisioning import control, engine, services, worklist
from sts_app.provisioning.control import CANARY_EVERY, FAILURES_OPEN
from sts_app.provisioning.models import ManualTask, ProvisioningControl, ProvisioningIncident
from sts_app.provisioning.rules import Outcome, Switch
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests.builders import entitled, grants, holders, in_a_transaction, kinds, letters, named, person, work

SECOND = timedelta(seconds=1)


@pytest.fixture
def bought(alice, plan, vendor):
    entitled(alice, plan, "purchase:1")
    database.session.commit()
    return alice


def row() -> ProvisioningControl:
    database.session.expire_all()
    return database.session.scalars(sa.select(ProvisioningControl)).one()


def incidents() -> list[ProvisioningIncident]:
    database.session.expire_all()
    return list(database.session.scalars(sa.select(ProvisioningIncident).order_by(ProvisioningIncident.id)))


def open_tasks() -> int:
    return len(database.session.scalars(sa.select(ManualTask).where(ManualTask.closed_at.is_(None))).all())


def states() -> set[str]:
    return {grant.state for grant in grants()}


def switch(to: Switch) -> None:
    in_a_transaction(lambda: control.set_switch(to, actor="user:1", because="a test says so"))


def dead(vendor) -> None:
    """TradingView answers nobody: no write, no read, no canary."""
    misbehave(vendor, Fault.READS_FAIL)
    misbehave(vendor, Fault.FAIL, times=100)


def until_open(vendor, clock) -> None:
    dead(vendor)
    for _ in range(FAILURES_OPEN):
        work("provisioning")
        clock.shift(timedelta(hours=1))


class TestCircuit:
    def test_failures_in_a_row_open_it_and_stop_every_call(self, bought, vendor, clock):
        until_open(vendor, clock)
        before = calls(vendor)

        assert row().circuit_opened_at is not None
        assert in_a_transaction(engine.claim_next) is None
        assert calls(vendor) == before

    def test_an_answer_in_between_means_that_they_were_not_in_a_row(self, bought, vendor, clock):
        misbehave(vendor, Fault.FAIL, times=FAILURES_OPEN - 1)
        misbehave(vendor, Fault.REFUSE)
        misbehave(vendor, Fault.FAIL)

        for _ in range(FAILURES_OPEN + 1):
            work("provisioning")
            clock.shift(timedelta(hours=1))

        assert row().circuit_opened_at is None
        assert row().failures_in_row == 1

    def test_one_canary_is_one_call_for_each_ten_minutes(self, bought, vendor, clock):
        until_open(vendor, clock)
        before = sum(calls(vendor).values())

        for _ in range(60):
            work("provisioning")
            clock.shift(timedelta(minutes=1))

        assert sum(calls(vendor).values()) - before <= 6
        assert calls(vendor)["check_session"] >= 5

    def test_the_canary_that_comes_back_closes_it_and_makes_everything_due(self, bought, vendor, clock):
        until_open(vendor, clock)
        behave(vendor)

        work("provisioning")

        assert row().circuit_opened_at is None
        assert states() == {"verified"}
        assert len(holders()) == 6

    def test_one_more_failure_after_the_canary_opens_it_again(self, bought, bob, plan, vendor, clock):
        until_open(vendor, clock)
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        database.session.commit()
        behave(vendor)
        misbehave(vendor, Fault.FAIL, times=2)

        work("provisioning")

        assert row().circuit_opened_at is not None
        assert calls(vendor)["check_session"] == 1

    def test_a_canary_is_sent_in_manual_mode_too(self, bought, vendor, clock):
        until_open(vendor, clock)
        switch(Switch.MANUAL)
        work("provisioning")
        behave(vendor)
        clock.shift(CANARY_EVERY)

        assert control.work_due(time_source.now()) == 1
        work("provisioning")

        assert row().circuit_opened_at is None
        assert states() == {"with_staff"}

    def test_it_spends_no_attempt_of_anybody(self, bought, vendor, clock):
        until_open(vendor, clock)

        assert {grant.spent_tries for grant in grants()} == {0}
        assert states() == {"pending"}
        assert open_tasks() == 0

    def test_what_ran_out_of_tries_meanwhile_is_tried_again(self, bought, bob, plan, vendor, clock):
        until_open(vendor, clock)
        opened = row().circuit_opened_at
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        database.session.commit()
        rows = grants("Bobby")
        with database.session.begin_nested():
            for grant in rows:
                grant.state, grant.next_attempt_at, grant.called_at = "with_staff", None, time_source.now()
                engine.cycles.open_task(grant, engine.TaskKind.EXHAUSTED, "ran out")
        database.session.commit()
        behave(vendor)
        assert opened is not None

        work("provisioning")

        assert states() == {"verified"}
        assert open_tasks() == 0

    def test_the_sweep_wakes_nobody_while_only_the_canary_may_call(self, bought, vendor, clock):
        until_open(vendor, clock)
        work("provisioning")

        assert control.work_due(time_source.now()) == 0
        clock.shift(CANARY_EVERY)
        assert control.work_due(time_source.now()) == 1


class TestIncident:
    @pytest.fixture
    def refused(self, bought, vendor):
        misbehave(vendor, Fault.DEAD_SESSION)
        work("provisioning")
        return bought

    def test_a_refused_session_opens_one_and_moves_the_switch(self, refused):
        incident = incidents()[0]

        assert (incident.closed_at, incident.told) == (None, ["sam@staff.example"])
        assert "dead session" in incident.reason
        assert (row().switch, row().switched_by) == ("MANUAL", f"incident:{incident.id}")

    def test_staff_are_told_once_however_often_it_is_refused(self, refused, bob, plan, vendor):
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        work("provisioning")
        work("provisioning")

        assert kinds().count("admin_session_refused") == 1
        assert len(incidents()) == 1

    def test_what_is_due_goes_to_people_and_spends_no_attempt(self, refused):
        assert states() == {"with_staff"}
        assert open_tasks() == 6
        assert {grant.spent_tries for grant in grants()} == {0}

    def test_no_call_is_made_while_it_is_open(self, refused, bob, plan, vendor, clock):
        before = calls(vendor)
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        for _ in range(5):
            clock.shift(timedelta(minutes=20))
            work("provisioning")
            door.check_session()

        assert calls(vendor) == before

    def test_there_is_no_way_back_to_auto_without_credentials(self, refused):
        with pytest.raises(NotNow, match="refuses our session"):
            switch(Switch.AUTO)

        assert row().switch == "MANUAL"

    def test_a_person_who_restored_the_session_brings_everything_back(self, refused, vendor):
        behave(vendor)

        in_a_transaction(lambda: control.session_restored(actor="user:1", because="new credentials"))
        work("provisioning")

        assert (incidents()[0].closed_by, row().switch) == ("user:1", "AUTO")
        assert states() == {"verified"}
        assert open_tasks() == 0
        assert kinds().count("admin_session_restored") == 1

    def test_what_staff_switched_themselves_stays_as_they_chose(self, bought, vendor):
        switch(Switch.MANUAL)
        misbehave(vendor, Fault.DEAD_SESSION)
        door.check_session()
        assert len(incidents()) == 1
        behave(vendor)

        in_a_transaction(lambda: control.session_restored(actor="user:1", because="new credentials"))

        assert row().switch == "MANUAL"

    def test_the_oldest_payment_is_served_first_after_it(self, refused, bob, plan, vendor, clock):
        clock.shift(SECOND)
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        work("provisioning")
        behave(vendor)
        in_a_transaction(lambda: control.session_restored(actor="user:1", because="new credentials"))

        claims = [in_a_transaction(engine.claim_next) for _ in range(2)]

        assert [claim.name for claim in claims] == ["Anna", "Bobby"]

    def test_a_refusal_of_credentials_that_were_replaced_is_a_late_echo(self, bought, vendor):
        in_a_transaction(lambda: control.refuse_session("refused (401)", credential_id=4711))

        assert incidents() == []
        assert row().switch == "AUTO"

    def test_two_in_a_row_are_two_incidents_with_two_letters(self, refused, vendor):
        behave(vendor)
        in_a_transaction(lambda: control.session_restored(actor="user:1", because="new credentials"))
        misbehave(vendor, Fault.DEAD_SESSION)
        work("provisioning")

        assert len(incidents()) == 2
        assert kinds().count("admin_session_refused") == 2
        assert len(letters("admin_session_restored")) == 1


class TestSwitch:
    def test_manual_makes_no_write_and_hands_out_what_is_due(self, bought, vendor):
        switch(Switch.MANUAL)

        work("provisioning")

        assert calls(vendor) == {}
        assert (states(), open_tasks()) == ({"with_staff"}, 6)

    def test_disabled_makes_no_call_and_hands_out_nothing(self, bought, vendor, clock):
        switch(Switch.DISABLED)

        for _ in range(3):
            work("provisioning")
            door.check_session()
            clock.shift(timedelta(hours=1))

        assert calls(vendor) == {}
        assert (states(), open_tasks()) == ({"pending"}, 0)
        assert control.work_due(time_source.now()) == 0
        assert control.standing().sales_closed

    def test_what_staff_choose_during_an_incident_is_theirs_and_stays(self, bought, vendor):
        misbehave(vendor, Fault.DEAD_SESSION)
        work("provisioning")
        switch(Switch.MANUAL)
        behave(vendor)

        in_a_transaction(lambda: control.session_restored(actor="user:2", because="new credentials"))

        assert (row().switch, row().switched_by) == (Switch.MANUAL, "user:1")

    def test_a_look_that_was_promised_is_taken_when_the_incident_is_over(self, bought, vendor):
        work("provisioning")
        misbehave(vendor, Fault.DEAD_SESSION)
        door.check_session()
        assert in_a_transaction(lambda: services.recheck(bought.id)) == 6
        vendor.delete("access", f"anna|{grants()[0].script_id}")
        work("provisioning")
        assert states() == {"verified"}
        assert control.work_due(time_source.now()) == 0

        behave(vendor)
        in_a_transaction(lambda: control.session_restored(actor="user:2", because="new credentials"))
        work("provisioning")

        assert (states(), len(holders())) == ({"verified"}, 6)

    def test_what_a_person_did_while_nothing_could_be_read_is_read_when_it_can(self, bought, vendor):
        misbehave(vendor, Fault.DEAD_SESSION)
        work("provisioning")
        work("provisioning")
        for task in worklist.open_tasks(10):
            in_a_transaction(lambda task=task: worklist.done(task.task_id, "user:1"))
        assert states() == {"verified"}
        assert holders() == set()

        behave(vendor)
        in_a_transaction(lambda: control.session_restored(actor="user:2", because="new credentials"))
        work("provisioning")

        assert (states(), len(holders())) == ({"verified"}, 6)

    def test_what_was_passed_over_on_the_way_back_is_taken_back_by_the_sweep(self, bought, vendor):
        switch(Switch.MANUAL)
        work("provisioning")
        control_row = row()
        control_row.switch = Switch.AUTO  # as it is when somebody held the rows at that moment
        database.session.commit()

        in_a_transaction(ops.wake_for_due)
        work("provisioning")

        assert (states(), open_tasks()) == ({"verified"}, 0)

    def test_the_way_back_takes_back_what_was_handed_out_and_does_it_once(self, bought, vendor):
        switch(Switch.MANUAL)
        work("provisioning")
        wanted = [grant.wanted for grant in grants()]

        switch(Switch.AUTO)
        work("provisioning")

        assert [grant.wanted for grant in grants()] == wanted
        assert (states(), open_tasks()) == ({"verified"}, 0)
        assert calls(vendor)["grant"] == 1

    def test_manual_still_reads_what_stands(self, bought, vendor, clock):
        work("provisioning")
        switch(Switch.MANUAL)
        vendor.delete("access", f"anna|{grants()[0].script_id}")
        with database.session.begin_nested():
            for grant in grants():
                grant.next_attempt_at = time_source.now()

        work("provisioning")

        assert sorted(grant.state for grant in grants()) == ["verified"] * 5 + ["with_staff"]
        assert calls(vendor)["grant"] == 1

    def test_a_call_in_flight_is_settled_whatever_was_switched_meanwhile(self, bought, vendor):
        claim = in_a_transaction(engine.claim_next)
        seen = engine.call(door.way().adapter, claim)
        switch(Switch.DISABLED)

        in_a_transaction(lambda: engine.settle(claim, seen))

        assert {view.outcome for view in seen.values()} == {Outcome.PRESENT}
        assert states() == {"verified"}


class TestSessionCheck:
    def test_it_asks_once_in_a_quarter_of_an_hour(self, db, vendor, clock):
        for _ in range(3):
            door.check_session()
        assert calls(vendor) == {"check_session": 1}

        clock.shift(timedelta(minutes=15))
        door.check_session()

        assert calls(vendor) == {"check_session": 2}
        assert row().session_verdict == "fine"

    def test_a_dead_session_is_found_before_anybody_buys(self, db, vendor):
        misbehave(vendor, Fault.DEAD_SESSION)

        door.check_session()

        assert len(incidents()) == 1
        assert row().session_verdict == "refused"

    def test_no_answer_is_a_failure_and_no_incident(self, db, vendor):
        misbehave(vendor, Fault.READS_FAIL)

        door.check_session()

        assert incidents() == []
        assert row().failures_in_row == 1


def test_everybody_who_waited_six_hours_is_served_oldest_first_within_the_pace(
    db, plan, vendor, clock, app, monkeypatch
):
    """The outage of PRODUCT: circuit open, people keep buying, one call in ten minutes, then everybody in turn."""
    changes = {"tv_writes_per_minute": 10.0, "tv_write_burst": 12.0, "tv_reads_per_minute": 60.0, "tv_read_burst": 60.0}
    monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=changes))
    dead(vendor)
    began = time_source.now()
    made: list[int] = []
    for minute in range(360):
        if minute % 9 == 0:
            user = named(person(f"buyer{minute}@customers.example"), f"Buyer{minute:03}")
            entitled(user, plan, f"purchase:{minute}")
        work("provisioning")
        made.append(sum(calls(vendor).values()))
        clock.shift(timedelta(minutes=1))
    opened = row().circuit_opened_at
    assert opened is not None
    first = int((opened - began).total_seconds() // 60)
    assert made[-1] - made[first] <= (360 - first) / 10 + 1

    behave(vendor)
    served: list[str] = []
    back = time_source.now()
    while len(served) < 40 and time_source.now() < back + timedelta(hours=1):
        work("provisioning")
        done = sorted({grant.name_key for grant in grants() if grant.state == "verified"} - set(served))
        served += done
        clock.shift(timedelta(seconds=3))

    # Ten minutes at most until the canary, then a burst of twelve and ten a minute, with jitter.
    assert served == sorted(served)
    assert len(served) == 40
    assert time_source.now() - back <= timedelta(minutes=10) + (40 - 12) * timedelta(seconds=6) * 1.25
