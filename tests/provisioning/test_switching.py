"""Moving the switch while people and workers are at it: nothing wanted changes, nothing is done twice."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone
from sts_app.provisioning import control, engine, services, simulated, worklist
from sts_app.provisioning.models import ManualTask, ProvisioningIncident
from sts_app.provisioning.rules import GrantState, Switch, TaskKind
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests import builders
from tests.builders import entitled, grants, holders, in_a_transaction, kinds, letters, named, tradingview, work

SAM = "user:1"
WALKS = 12


class Watched:
    """The simulated TradingView, that notes the order of its writes and objects to one that people did by hand."""

    one_call_for_all = True

    def __init__(self) -> None:
        self.inner = tradingview()
        self.written: list[tuple[str, str]] = []
        self.by_hand: set[tuple[str, str, str]] = set()
        self.doubled: list[tuple[str, str, str]] = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def grant(self, name, script_ids):
        return self._write("give", name, script_ids)

    def revoke(self, name, script_ids):
        return self._write("remove", name, script_ids)

    def _write(self, act, name, script_ids):
        self.written.append((act, name))
        self.doubled += [(act, name, script) for script in script_ids if (act, name, script) in self.by_hand]
        return (self.inner.grant if act == "give" else self.inner.revoke)(name, script_ids)


@pytest.fixture
def watched(db, vendor, monkeypatch):
    watched = Watched()
    builders.through(monkeypatch, watched)
    return watched


@pytest.fixture
def bought(alice, plan, vendor):
    entitled(alice, plan, "purchase:1")
    database.session.commit()
    return alice


@pytest.fixture
def both(bought, bob, plan, clock, watched):
    """Alice waits for six pairs, and Bob, who paid a minute later and was refunded, for six removals."""
    clock.shift(timedelta(minutes=1))
    entitled(named(bob, "Bobby"), plan, "purchase:2")
    switch(Switch.DISABLED)
    for grant in grants("bobby"):
        grant.called_at = time_source.now()
        simulated.give(builders.vendor(), "Bobby", grant.script_id)
    database.session.commit()
    in_a_transaction(lambda: services.end_entitlement("purchase:2", because="refund", actor="system"))
    switch(Switch.AUTO)
    return bought


def switch(to: Switch) -> None:
    in_a_transaction(lambda: control.set_switch(to, actor=SAM, because="a test"))


def open_tasks() -> list[worklist.TaskRow]:
    database.session.expire_all()
    return worklist.open_tasks(100)


def act(vendor, task: worklist.TaskRow) -> None:
    (simulated.give if task.act == "give" else simulated.take)(vendor, task.name, task.script_id)


def done(task: worklist.TaskRow) -> None:
    in_a_transaction(lambda: worklist.done(task.task_id, SAM))


def wanted() -> set[tuple[str, str, bool, int]]:
    return {(grant.name_key, grant.script_id, grant.wanted, grant.cycle) for grant in grants()}


def states(name=None) -> set[str]:
    return {grant.state for grant in grants(name)}


class TestTheSwitch:
    def test_a_round_with_tasks_open_and_half_done_changes_nothing_that_is_wanted(self, bought, vendor, watched):
        before = wanted()
        switch(Switch.MANUAL)
        work("provisioning")
        acted_on, said_done, *_ = open_tasks()
        act(vendor, acted_on)  # and does not say so
        act(vendor, said_done)
        done(said_done)
        watched.by_hand = {("give", row.name, row.script_id) for row in (acted_on, said_done)}

        for to in (Switch.AUTO, Switch.DISABLED, Switch.AUTO, Switch.MANUAL, Switch.AUTO):
            switch(to)
            assert wanted() == before
        work("provisioning")

        assert (wanted(), states(), open_tasks()) == (before, {"verified"}, [])
        assert watched.written == [("give", "Anna")]
        assert watched.doubled == []
        assert kinds() == ["admin_manual_task", "access_granted"]

    def test_coming_back_to_manual_hands_out_the_same_without_another_letter(self, bought):
        for to in (Switch.MANUAL, Switch.AUTO, Switch.MANUAL):
            switch(to)
            in_a_transaction(engine.hand_over_due)

        assert len(open_tasks()) == 6
        assert kinds() == ["admin_manual_task"]

    def test_disabled_calls_nothing_and_hands_nothing_out(self, bought, vendor, clock):
        switch(Switch.DISABLED)
        clock.shift(timedelta(hours=1))
        work("provisioning")

        assert (states(), open_tasks(), calls(vendor), kinds()) == ({"pending"}, [], {}, [])

    def test_what_is_said_to_be_done_while_disabled_is_recorded_without_a_call(self, bought, vendor):
        switch(Switch.MANUAL)
        work("provisioning")
        switch(Switch.DISABLED)

        for task in open_tasks():
            done(task)
        work("provisioning")

        assert ({grant.evidence for grant in grants()}, calls(vendor)) == ({"confirmed by staff"}, {})

    def test_what_is_to_be_read_back_waits_while_disabled(self, bought, vendor):
        switch(Switch.MANUAL)
        work("provisioning")
        for task in open_tasks():
            act(vendor, task)
            done(task)
        switch(Switch.DISABLED)
        work("provisioning")
        assert (states(), calls(vendor)) == ({"pending"}, {})

        switch(Switch.AUTO)
        work("provisioning")

        assert ({grant.evidence for grant in grants()}, calls(vendor)) == ({"read back"}, {"has_access": 1})

    @pytest.mark.parametrize("to", [Switch.MANUAL, Switch.DISABLED])
    def test_a_claim_in_flight_is_settled_as_it_was_seen(self, bought, vendor, to):
        claim = in_a_transaction(engine.claim_next)
        switch(to)
        work("provisioning")
        assert open_tasks() == []

        seen = engine.call(tradingview(), claim)
        in_a_transaction(lambda: engine.settle(claim, seen))

        assert (states(), open_tasks(), kinds()) == ({"verified"}, [], ["access_granted"])

    def test_a_claim_in_flight_that_fails_becomes_a_task_and_no_second_call(self, bought, vendor, clock):
        misbehave(vendor, Fault.REFUSE)
        claim = in_a_transaction(engine.claim_next)
        switch(Switch.MANUAL)
        seen = engine.call(tradingview(), claim)
        in_a_transaction(lambda: engine.settle(claim, seen))
        clock.shift(timedelta(seconds=30))

        work("provisioning")

        assert [row.kind for row in open_tasks()] == [TaskKind.BY_HAND] * 6
        assert calls(vendor)["grant"] == 1


class TestAnIncident:
    @pytest.fixture
    def dead(self, bought, bob, plan, clock, watched, vendor):
        """Two buyers while the session is dead, the second of them first in the tables."""
        clock.shift(timedelta(minutes=-1))
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        clock.shift(timedelta(minutes=1))
        misbehave(vendor, Fault.DEAD_SESSION)
        work("provisioning")
        return bought

    def test_it_is_told_once_and_hands_everything_to_people(self, dead):
        assert [letter.kind for letter in letters() if letter.kind == "admin_session_refused"] == [
            "admin_session_refused"
        ]
        assert control.standing().switch is Switch.MANUAL
        assert [row.name for row in open_tasks()] == ["Bobby"] * 6 + ["Anna"] * 6
        assert database.session.scalar(sa.select(sa.func.count()).select_from(ProvisioningIncident)) == 1

    def test_what_people_do_meanwhile_is_taken_at_their_word(self, dead, vendor):
        for task in open_tasks():
            act(vendor, task)
            done(task)

        assert {grant.evidence for grant in grants()} == {"confirmed by staff"}
        assert kinds().count("access_granted") == 2

    def test_the_way_back_takes_the_rest_from_people_and_the_oldest_payer_is_first(self, dead, vendor, watched, clock):
        before = wanted()
        by_hand = next(row for row in open_tasks() if row.name == "Anna")
        act(vendor, by_hand)
        done(by_hand)
        watched.by_hand = {("give", by_hand.name, by_hand.script_id)}
        clock.shift(timedelta(hours=6))
        behave(vendor)
        watched.written.clear()

        in_a_transaction(lambda: control.session_restored(actor=SAM, because="new credentials"))
        work("provisioning")

        assert control.standing().switch is Switch.AUTO
        assert (wanted(), states(), open_tasks()) == (before, {"verified"}, [])
        assert watched.written == [("give", "Bobby"), ("give", "Anna")]
        assert watched.doubled == []
        told = Counter(kinds())
        assert (told["access_granted"], told["admin_session_refused"], told["admin_session_restored"]) == (2, 1, 1)

    def test_what_staff_switched_themselves_stays_as_they_chose(self, dead, vendor):
        switch(Switch.DISABLED)
        switch(Switch.MANUAL)
        behave(vendor)

        in_a_transaction(lambda: control.session_restored(actor=SAM, because="new credentials"))

        assert control.standing().switch is Switch.MANUAL
        assert len(open_tasks()) == 12


class Walk:
    """A random walk of staff, workers, trouble and time over two people's pairs."""

    def __init__(self, seed: int, vendor, watched: Watched, clock) -> None:
        self.dice = random.Random(seed)
        self.vendor, self.watched, self.clock = vendor, watched, clock
        self.held: engine.Claim | None = None
        self.told: list[str] = []

    def run(self, steps: int) -> None:
        deeds = [self.switch, self.switch, self.work, self.work, self.claim, self.settle, self.by_hand, self.by_hand]
        deeds += [self.say_done_without, self.wait, self.die, self.live]
        for _ in range(steps):
            deed = self.dice.choice(deeds)
            self.told.append(deed.__name__)
            before = (calls(self.vendor), len(open_tasks())) if self.is_disabled else None
            deed()
            if before is not None and deed == self.work:
                assert (calls(self.vendor), len(open_tasks())) == before
            self.check()

    def check(self) -> None:
        open_per_grant = Counter(
            database.session.scalars(sa.select(ManualTask.grant_id).where(ManualTask.closed_at.is_(None)))
        )
        with_staff = {grant.id for grant in grants() if grant.state == GrantState.WITH_STAFF}
        assert set(open_per_grant) == with_staff, self.told
        assert set(open_per_grant.values()) <= {1}
        assert self.watched.doubled == [], self.told

    @property
    def is_disabled(self) -> bool:
        return control.standing().switch is Switch.DISABLED

    def switch(self) -> None:
        if control.standing().incident_id is None:
            switch(self.dice.choice(list(Switch)))

    def work(self) -> None:
        work("provisioning")

    def claim(self) -> None:
        if self.held is None and control.standing().may_read:
            self.held = in_a_transaction(engine.claim_next)

    def settle(self) -> None:
        claim, self.held = self.held, None
        if claim is None:
            return
        [until] = {grant.leased_until for grant in grants() if grant.lease_token == claim.token} or {None}
        if until is not None and until > time_source.now():
            seen = engine.call(self.watched, claim)
            in_a_transaction(lambda: engine.settle(claim, seen))

    def by_hand(self) -> None:
        for task in self.some_tasks():
            act(self.vendor, task)
            self.watched.by_hand.add((task.act, task.name, task.script_id))
            if self.dice.random() < 0.7:
                done(task)

    def say_done_without(self) -> None:
        """Somebody is mistaken. TradingView is read later, or their word is all there is: so only where it is read."""
        if control.standing().may_read and not simulated.faults_waiting(self.vendor):
            for task in self.some_tasks()[:1]:
                done(task)
                work("provisioning")

    def some_tasks(self) -> list[worklist.TaskRow]:
        rows = open_tasks()
        return self.dice.sample(rows, min(len(rows), self.dice.randint(1, 4)))

    def wait(self) -> None:
        self.clock.shift(timedelta(seconds=self.dice.choice([30, 120, 600])))

    def die(self) -> None:
        misbehave(self.vendor, Fault.DEAD_SESSION)

    def live(self) -> None:
        behave(self.vendor)
        in_a_transaction(lambda: control.session_restored(actor=SAM, because="new credentials"))

    def come_to_rest(self) -> None:
        self.live()
        self.settle()
        switch(Switch.AUTO)
        for _ in range(10):
            self.clock.shift(timedelta(minutes=10))
            work("provisioning")
            for row in open_tasks():
                in_a_transaction(lambda row=row: worklist.retry(row.grant_id, SAM))


@pytest.mark.parametrize("seed", range(WALKS))
def test_any_walk_ends_where_it_should_and_doubles_nothing(seed, both, vendor, watched, clock):
    before = wanted()
    walk = Walk(seed, vendor, watched, clock)

    walk.run(steps=30)
    assert wanted() == before
    walk.come_to_rest()

    assert ({g.state for g in grants("anna")}, {g.state for g in grants("bobby")}) == ({"verified"}, {"absent"})
    assert holders() == {("Anna", grant.script_id) for grant in grants("anna")}
    assert wanted() == before
    assert kinds().count("access_granted") == 1
    assert watched.doubled == []
    keys = [letter.key for letter in letters()]
    assert len(keys) == len(set(keys))


def test_two_who_say_done_at_once_are_one(bought):
    switch(Switch.MANUAL)
    work("provisioning")
    task = open_tasks()[0]
    done(task)

    with pytest.raises(AlreadyDone):
        done(task)
