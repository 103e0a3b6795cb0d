"""Claim, call, settle: on good days, on the vendor's bad days, and when a worker dies."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.queue import WakeUp, drop_staged, staged_wake_ups
from sts_app.provisioning import control, cycles, engine, queries, services, worklist
from sts_app.provisioning.gateway import AccessFact, NeedsCustomer, ScriptAnswer
from sts_app.provisioning.models import ManualTask, ProvisioningAttempt, ProvisioningJob
from sts_app.provisioning.rules import Switch, Trigger
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests.builders import (
    by_hand,
    count,
    entitled,
    grants,
    holders,
    in_a_transaction,
    kinds,
    letters,
    look_over,
    named,
    strategy,
    through,
    tradingview,
    work,
)


def states(name=None) -> set[str]:
    return {grant.state for grant in grants(name)}


def attempts() -> list[ProvisioningAttempt]:
    statement = sa.select(ProvisioningAttempt).order_by(ProvisioningAttempt.id)
    return list(database.session.scalars(statement.execution_options(populate_existing=True)))


def outcomes() -> list[str | None]:
    """The outcome of each claim, in order; within a claim all scripts must agree."""
    by_claim: dict[str, set[str | None]] = {}
    for attempt in attempts():
        by_claim.setdefault(attempt.lease_token, set()).add(attempt.outcome)
    assert all(len(found) == 1 for found in by_claim.values())
    return [found.pop() for found in by_claim.values()]


def waits() -> set[float | None]:
    now = time_source.now()
    return {None if g.next_attempt_at is None else (g.next_attempt_at - now).total_seconds() for g in grants()}


def claim() -> engine.Claim | None:
    return in_a_transaction(engine.claim_next)


def switch(to: Switch) -> None:
    in_a_transaction(lambda: control.set_switch(to, actor="user:1", because="a test says so"))


def settle(claimed: engine.Claim, seen) -> None:
    with transaction():
        engine.settle(claimed, seen)


@pytest.fixture
def bought(alice, plan, vendor):
    """Alice with six pairs that are due."""
    entitled(alice, plan, "purchase:1")
    database.session.commit()
    return alice


class TestGoodDay:
    def test_six_scripts_are_one_call_and_one_reading(self, bought, vendor):
        work("provisioning")

        assert len(holders()) == 6
        assert calls(vendor) == {"grant": 1, "has_access": 1}

    def test_verified_means_read_back(self, bought, vendor):
        work("provisioning")

        for grant in grants():
            assert (grant.state, grant.evidence, grant.verified_at) == ("verified", "read back", time_source.now())
            assert (grant.next_attempt_at, grant.lease_token, grant.leased_until) == (None, None, None)

    def test_the_history_says_what_was_tried_and_how_it_ended(self, bought, vendor):
        work("provisioning")

        assert outcomes() == ["present"]
        assert len(attempts()) == 6
        jobs = database.session.scalars(sa.select(ProvisioningJob)).all()
        assert {(job.state, job.because, job.wanted) for job in jobs} == {("reached", "purchase:1", True)}

    def test_work_that_is_done_is_not_done_again(self, bought, vendor):
        work("provisioning")
        before = calls(vendor)

        work("provisioning")

        assert calls(vendor) == before

    def test_each_name_is_a_claim_of_its_own_and_the_first_payer_is_first(self, bought, bob, plan, vendor, clock):
        clock.shift(timedelta(seconds=5))
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        database.session.commit()

        first, second = claim(), claim()

        assert (first.name, second.name) == ("Anna", "Bobby")
        assert claim() is None

    def test_a_new_buyer_goes_before_a_retry(self, bought, bob, plan, vendor, clock):
        misbehave(vendor, Fault.FAIL)
        work("provisioning")
        clock.shift(timedelta(seconds=30))
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        database.session.commit()

        assert claim().name == "Bobby"

    def test_a_claim_is_written_down_before_anything_is_sent(self, bought, vendor):
        claimed = claim()

        assert calls(vendor) == {}
        assert {a.outcome for a in attempts()} == {None}
        assert {g.called_at for g in grants()} == {time_source.now()}
        settle(claimed, engine.call(tradingview(), claimed))

    def test_the_claim_uses_tradingviews_own_spelling(self, plan, vendor, bob):
        entitled(named(bob, "BobBy-7"), plan)

        assert engine.claim_next().name == "BobBy-7"
        database.session.rollback()


class TestBadDay:
    @pytest.mark.parametrize(
        ("fault", "outcome", "spent"),
        [
            (Fault.FAIL, "later", 0),
            (Fault.LIE, "not_taken", 1),
            (Fault.REFUSE, "not_taken", 1),
            (Fault.LOSE_ANSWER, "later", 0),
        ],
    )
    def test_a_failed_try_is_due_again_in_30_seconds(self, bought, vendor, fault, outcome, spent):
        misbehave(vendor, fault)

        work("provisioning")

        assert outcomes() == [outcome]
        assert states() == {"pending"}
        assert waits() == {30}
        assert {(g.failed_tries, g.spent_tries) for g in grants()} == {(1, spent)}

    def test_a_failed_try_wakes_a_worker_when_it_is_due(self, bought, vendor):
        misbehave(vendor, Fault.FAIL)
        claimed = claim()
        seen = engine.call(tradingview(), claimed)
        drop_staged()

        engine.settle(claimed, seen)

        assert WakeUp("provisioning.work", timedelta(seconds=30)) in staged_wake_ups()
        database.session.commit()

    def test_nothing_is_tried_before_its_time(self, bought, vendor, clock):
        misbehave(vendor, Fault.FAIL)
        work("provisioning")

        clock.shift(timedelta(seconds=29))
        work("provisioning")
        assert states() == {"pending"}

        clock.shift(timedelta(seconds=1))
        work("provisioning")
        assert states() == {"verified"}

    def test_after_a_lost_answer_a_reading_is_enough(self, bought, vendor, clock):
        misbehave(vendor, Fault.LOSE_ANSWER)
        work("provisioning")
        clock.shift(timedelta(seconds=30))

        work("provisioning")

        assert states() == {"verified"}
        assert calls(vendor) == {"grant": 1, "has_access": 1}

    def test_a_yes_that_did_nothing_is_no_access(self, bought, vendor):
        misbehave(vendor, Fault.LIE)

        work("provisioning")

        assert holders() == set()
        assert {a.reason for a in attempts()} == {"read back without the change"}

    def test_the_vendors_word_is_kept_as_the_reason(self, bought, vendor):
        misbehave(vendor, Fault.REFUSE)

        work("provisioning")

        assert {g.last_reason for g in grants()} == {"Failure"}

    def test_a_no_that_did_it_all_the_same_counts_as_done(self, app, bought, vendor, monkeypatch):
        class Modest(Wrapper):
            def grant(self, name, script_ids):
                return [ScriptAnswer(answer.script_id, "Failure") for answer in self.inner.grant(name, script_ids)]

        through(monkeypatch, Modest())

        work("provisioning")

        assert states() == {"verified"}

    def test_a_rate_limits_longer_wait_is_honoured(self, bought, vendor):
        misbehave(vendor, Fault.RATE_LIMIT, seconds=300)

        work("provisioning")

        assert waits() == {300}

    def test_six_refusals_are_one_first_try_and_five_retries_and_then_a_person(self, bought, vendor, clock):
        misbehave(vendor, Fault.REFUSE, times=6)

        taken = []
        for _ in range(6):
            work("provisioning")
            taken.append(waits().pop())
            clock.shift(timedelta(seconds=taken[-1] or 0))

        assert taken == [30, 120, 600, 1800, 3600, None]
        assert states() == {"with_staff"}
        assert queries.open_tasks() == 6
        assert outcomes() == ["not_taken"] * 6

    def test_staff_hear_of_the_third_failure_and_at_the_end_and_the_customer_at_the_end(self, bought, vendor, clock):
        misbehave(vendor, Fault.REFUSE, times=6)

        told = []
        for _ in range(6):
            before = len(letters())
            work("provisioning")
            told.append(sorted(kinds()[before:]))
            clock.shift(timedelta(hours=1))

        assert told == [
            [],
            [],
            ["admin_provisioning_failure"],
            [],
            [],
            ["access_failed", "admin_manual_task", "admin_provisioning_failure"],
        ]
        assert letters("admin_provisioning_failure")[0].to_address == "sam@staff.example"
        assert letters("access_failed")[0].to_address == "alice@customers.example"

    def test_what_is_with_a_person_is_worked_by_nobody_else(self, bought, vendor, clock):
        misbehave(vendor, Fault.REFUSE, times=6)
        for _ in range(6):
            work("provisioning")
            clock.shift(timedelta(hours=1))
        before = calls(vendor)

        clock.shift(timedelta(days=30))
        work("provisioning")

        assert calls(vendor) == before

    def test_an_outage_of_days_needs_nobody(self, bought, vendor, clock):
        misbehave(vendor, Fault.FAIL, times=40)
        for _ in range(40):
            work("provisioning")
            clock.shift(timedelta(hours=1))

        work("provisioning")

        assert states() == {"verified"}
        assert count(ManualTask) == 0

    def test_an_unknown_name_asks_the_customer_and_is_left_alone(self, bought, vendor, clock):
        misbehave(vendor, Fault.UNKNOWN)

        work("provisioning")

        assert states() == {"needs_customer"}
        assert waits() == {None}
        [letter] = letters()
        assert (letter.kind, letter.to_address) == ("access_failed", "alice@customers.example")
        assert [row.state for row in queries.access_of(bought.id, time_source.now())] == ["Action needed"] * 6

    def test_a_reading_that_fails_proves_nothing(self, bought, vendor):
        misbehave(vendor, Fault.READS_FAIL)

        work("provisioning")

        assert len(holders()) == 6
        assert states() == {"pending"}

    def test_access_that_ends_is_not_the_access_that_was_sold(self, app, bought, vendor, monkeypatch):
        class Lender(Wrapper):
            def has_access(self, name, script_ids):
                until = time_source.now() + timedelta(days=7)
                return [AccessFact(script, has_access=True, expires_at=until) for script in script_ids]

        through(monkeypatch, Lender())

        work("provisioning")

        assert states() == {"pending"}
        assert {g.last_reason for g in grants()} == {"access has an end"}

    def test_a_call_that_knows_nobody_is_doubted_while_the_name_itself_is_known(self, app, bought, vendor, monkeypatch):
        class Lost(Wrapper):
            def grant(self, name, script_ids):
                raise NeedsCustomer("grant: 404")

        through(monkeypatch, Lost())

        work("provisioning")

        assert states() == {"pending"}
        assert letters() == []

    def test_access_that_was_held_is_not_gone_because_nobody_is_known_any_more(self, bought, vendor, clock):
        work("provisioning")
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="test"))
        misbehave(vendor, Fault.UNKNOWN)

        for _ in range(7):
            work("provisioning")
            clock.shift(timedelta(hours=2))

        assert states() == {"with_staff"}
        assert count(ManualTask) == 6
        assert len(holders()) == 6

    def test_silence_about_a_script_is_no_proof_that_access_is_gone(self, app, bought, vendor, monkeypatch):
        work("provisioning")
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="test"))
        through(monkeypatch, Silent())

        work("provisioning")

        assert states() == {"revoking"}
        assert {g.last_reason for g in grants()} == {"the answer left this script out"}


class TestPartialResults:
    def test_each_script_has_its_own_end(self, app, bought, vendor, monkeypatch):
        through(monkeypatch, Refusing("PUB;nq_power_hour_005"))

        work("provisioning")

        by_state = {g.script_id: (g.state, g.spent_tries) for g in grants()}
        assert by_state.pop("PUB;nq_power_hour_005") == ("pending", 1)
        assert set(by_state.values()) == {("verified", 0)}
        assert len(holders()) == 5

    def test_only_what_is_missing_is_asked_for_again(self, app, bought, vendor, clock, monkeypatch):
        choosy = Refusing("PUB;nq_power_hour_005")
        through(monkeypatch, choosy)
        work("provisioning")
        choosy.scripts = ()
        choosy.asked.clear()

        clock.shift(timedelta(seconds=30))
        work("provisioning")

        assert choosy.asked == [["PUB;nq_power_hour_005"]]
        assert states() == {"verified"}

    def test_a_script_left_out_of_the_answer_is_nobodys_fault(self, app, bought, vendor, monkeypatch):
        class Forgetful(Wrapper):
            def has_access(self, name, script_ids):
                return self.inner.has_access(name, script_ids)[1:]

        through(monkeypatch, Forgetful())

        work("provisioning")

        [left_out] = [g for g in grants() if g.state != "verified"]
        assert (left_out.state, left_out.failed_tries, left_out.spent_tries) == ("pending", 1, 0)

    def test_a_script_that_was_read_as_done_is_not_undone_by_a_later_failure(self, app, bought, vendor, monkeypatch):
        """Five of six stand; the grant of the sixth times out. The five are verified all the same."""
        script_ids = [g.script_id for g in grants()]
        tradingview().grant("Anna", script_ids[:5])
        for grant in grants():
            grant.called_at = time_source.now()
        database.session.commit()
        misbehave(vendor, Fault.FAIL)

        work("provisioning")

        assert sorted(g.state for g in grants()) == ["pending", *["verified"] * 5]


class TestChangeDuringTheCall:
    def test_a_refund_while_the_grant_is_under_way_revokes_at_once(self, bought, vendor):
        claimed = claim()
        seen = engine.call(tradingview(), claimed)
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        assert claim() is None

        settle(claimed, seen)
        assert (states(), waits()) == ({"revoking"}, {0})

        work("provisioning")
        assert states() == {"absent"}
        assert holders() == set()

    def test_no_letter_says_active_after_a_refund(self, bought, vendor):
        claimed = claim()
        seen = engine.call(tradingview(), claimed)
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))

        settle(claimed, seen)

        assert kinds() == []

    def test_a_purchase_while_the_revoke_is_under_way_grants_again(self, bought, plan, vendor):
        work("provisioning")
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        claimed = claim()
        assert not claimed.wanted
        seen = engine.call(tradingview(), claimed)
        in_a_transaction(lambda: entitled(bought, plan, "purchase:2"))

        settle(claimed, seen)
        work("provisioning")

        assert states() == {"verified"}
        assert len(holders()) == 6

    def test_there_and_back_while_the_call_is_under_way_ends_verified(self, bought, plan, vendor):
        claimed = claim()
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        in_a_transaction(lambda: entitled(bought, plan, "purchase:2"))
        seen = engine.call(tradingview(), claimed)

        settle(claimed, seen)
        work("provisioning")

        assert states() == {"verified"}
        assert len(holders()) == 6

    def test_an_attempt_remembers_the_direction_it_was_made_in(self, bought, vendor):
        claimed = claim()
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        settle(claimed, engine.call(tradingview(), claimed))
        work("provisioning")

        assert [(a.wanted, a.outcome) for a in attempts()] == [(True, "present")] * 6 + [(False, "gone")] * 6


class TestTakeOver:
    """A worker dies, or only seems to."""

    @pytest.fixture
    def lease(self, app) -> timedelta:
        return timedelta(seconds=app.config["STS"].lease_seconds)

    def test_a_claim_is_nobody_elses_while_its_lease_runs(self, bought, vendor, clock, lease):
        claimed = claim()
        clock.shift(lease - timedelta(seconds=1))

        assert claim() is None
        settle(claimed, engine.call(tradingview(), claimed))

    def test_a_dead_workers_rows_are_read_before_anything_is_sent(self, bought, vendor, clock, lease):
        dead = claim()
        engine.call(tradingview(), dead)
        clock.shift(lease)

        work("provisioning")

        assert states() == {"verified"}
        assert calls(vendor)["grant"] == 1
        assert outcomes() == ["lost", "present"]

    def test_a_worker_that_died_before_the_call_costs_one_lease(self, bought, vendor, clock, lease):
        claim()
        clock.shift(lease)

        work("provisioning")

        assert states() == {"verified"}
        assert len(holders()) == 6

    def test_the_late_worker_tells_what_it_saw_and_changes_nothing_else(self, bought, vendor, clock, lease):
        slow = claim()
        clock.shift(lease)
        work("provisioning")
        before = [(g.state, g.next_attempt_at, g.verified_at, g.lost_claims) for g in grants()]

        misbehave(vendor, Fault.REFUSE)
        settle(slow, {script: engine.Seen(engine.Outcome.NOT_TAKEN, "Failure") for script in slow.script_ids})

        assert [(g.state, g.next_attempt_at, g.verified_at, g.lost_claims) for g in grants()] == before
        assert outcomes() == ["not_taken", "present"]
        assert kinds() == ["access_granted"]

    def test_the_late_worker_frees_nobody_elses_lease(self, bought, vendor, clock, lease):
        slow = claim()
        clock.shift(lease)
        second = claim()

        settle(slow, engine.call(tradingview(), slow))

        assert {g.lease_token for g in grants()} == {second.token}
        settle(second, engine.call(tradingview(), second))

    def test_a_worker_that_wakes_after_its_lease_writes_nothing_any_more(self, bought, vendor, clock, lease):
        slow = claim()
        clock.shift(lease)

        seen = engine.call(tradingview(), slow)
        settle(slow, seen)

        assert {view.outcome for view in seen.values()} == {engine.Outcome.LOST}
        assert calls(vendor) == {}
        work("provisioning")
        assert states() == {"verified"}

    def test_a_pair_that_was_taken_over_is_read_again_one_lease_later(self, bought, vendor, clock, lease):
        claim()
        clock.shift(lease)
        work("provisioning")
        assert waits() == {lease.total_seconds()}
        reads = calls(vendor)["has_access"]

        clock.shift(lease)
        work("provisioning")

        assert calls(vendor)["has_access"] == reads + 1
        assert (states(), waits()) == ({"verified"}, {None})

    def test_a_late_call_that_undid_our_revoke_is_found_and_put_right(self, bought, vendor, clock, lease):
        slow = claim()
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        clock.shift(lease)
        work("provisioning")
        assert states() == {"absent"}

        # Its call was on the way already when the lease ended.
        tradingview().grant("Anna", slow.script_ids)
        assert len(holders()) == 6
        clock.shift(lease)
        work("provisioning")

        assert states() == {"absent"}
        assert holders() == set()

    def test_a_second_look_that_fails_says_nothing_against_what_was_read(self, bought, vendor, clock, lease):
        claim()
        clock.shift(lease)
        work("provisioning")
        misbehave(vendor, Fault.READS_FAIL)

        clock.shift(lease)
        work("provisioning")

        assert (states(), waits()) == ({"verified"}, {30})
        behave(vendor)
        clock.shift(timedelta(seconds=30))
        work("provisioning")
        assert waits() == {None}

    def test_three_deaths_on_one_row_go_to_a_person(self, bought, vendor, clock, lease):
        for _ in range(3):
            assert claim() is not None
            clock.shift(lease)

        assert claim() is None

        assert states() == {"with_staff"}
        assert queries.open_tasks() == 6
        assert outcomes() == ["lost", "lost", "lost"]

    def test_three_deaths_are_one_letter_to_staff_and_one_to_the_customer(self, bought, vendor, clock, lease):
        for _ in range(3):
            claim()
            clock.shift(lease)
        claim()

        assert sorted(kinds()) == ["access_failed", "admin_manual_task"]
        assert "6 things to do" in letters("admin_manual_task")[0].subject

    def test_rows_of_a_dead_worker_do_not_hold_up_another_buyer(self, bought, bob, plan, vendor, clock, lease):
        for _ in range(3):
            claim()
            clock.shift(lease)
        entitled(named(bob, "Bobby"), plan, "purchase:2")

        work("provisioning")

        assert states("bobby") == {"verified"}

    def test_what_was_read_before_the_lease_was_over_stands(self, bought, vendor, clock, lease):
        work("provisioning")
        missing, *others = grants()
        vendor.delete("access", f"anna|{missing.script_id}")
        cycles.turn(missing, wanted=True, trigger=Trigger.DRIFT, because="a test says so", now=time_source.now())
        for grant in others:
            grant.next_attempt_at = time_source.now()
        database.session.commit()
        claimed = claim()
        clock.shift(lease)

        settle(claimed, engine.call(tradingview(), claimed))

        assert sorted((grant.state, grant.cycle) for grant in grants()) == [("pending", 2), *[("verified", 1)] * 5]

    def test_silence_about_what_stands_is_no_loss(self, app, bought, vendor, monkeypatch):
        work("provisioning")
        through(monkeypatch, Silent())
        in_a_transaction(lambda: services.recheck(bought.id))

        work("provisioning")

        assert states() == {"verified"}
        assert {grant.cycle for grant in grants()} == {1}
        assert outcomes()[-1] == "no_verdict"

    def test_three_deaths_while_looking_once_more_leave_what_stands(self, bought, vendor, clock, lease):
        work("provisioning")
        before = kinds()
        in_a_transaction(lambda: services.recheck(bought.id))
        for _ in range(3):
            assert claim() is not None
            clock.shift(lease)

        assert claim() is None
        assert states() == {"verified"}
        assert kinds() == before

    def test_three_deaths_on_what_a_person_says_is_done_make_it_work_again(self, bought, vendor, clock, lease):
        switch(Switch.MANUAL)
        work("provisioning")
        for task in worklist.open_tasks(10):
            in_a_transaction(lambda task=task: worklist.done(task.task_id, "user:1"))
        for _ in range(3):
            assert claim() is not None
            clock.shift(lease)

        assert claim() is None
        assert states() == {"with_staff"}
        assert {grant.said_by for grant in grants()} == {None}

    def test_a_refund_in_between_does_not_forget_that_a_late_call_may_come(self, bought, vendor, clock, lease):
        slow = claim()
        clock.shift(lease)
        second = claim()
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        settle(second, engine.call(tradingview(), second))
        work("provisioning")
        assert states() == {"absent"}

        tradingview().grant("Anna", slow.script_ids)
        for _ in range(4):
            clock.shift(lease)
            work("provisioning")

        assert (states(), holders()) == ({"absent"}, set())
        assert waits() == {None}


class TestManualMode:
    @pytest.fixture(autouse=True)
    def without_a_way(self, app, db, monkeypatch):
        by_hand(monkeypatch)

    def test_everything_due_becomes_a_persons_work_and_one_letter(self, bought):
        work("provisioning")

        assert states() == {"with_staff"}
        tasks = database.session.scalars(sa.select(ManualTask)).all()
        assert {(t.wanted, t.closed_at) for t in tasks} == {(True, None)}
        assert len(tasks) == 6
        [letter] = letters()
        assert letter.kind == "admin_manual_task"
        assert "Anna" in letter.text
        assert "PUB;nq_momentum_alpha_001" in letter.text

    def test_the_customer_sees_that_a_person_is_on_it(self, bought):
        work("provisioning")

        rows = queries.access_of(bought.id, time_source.now())
        assert {row.state for row in rows} == {"Pending"}

    def test_a_refund_is_a_persons_work_too(self, bought):
        work("provisioning")

        services.end_entitlement("purchase:1", because="refund", actor="system")
        work("provisioning")

        assert states() == {"with_staff"}
        tasks = database.session.scalars(sa.select(ManualTask).where(ManualTask.closed_at.is_(None))).all()
        assert [task.wanted for task in tasks] == [False] * 6

    def test_a_letter_tells_of_new_work_that_comes_with_old(self, bought, bob, plan, clock):
        switch(Switch.MANUAL)
        work("provisioning")
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        in_a_transaction(lambda: control.set_switch(Switch.DISABLED, actor="user:1", because="a test says so"))
        for grant in grants("Anna"):
            cycles.take_back(grant, time_source.now(), because="a test says so")
        database.session.commit()

        switch(Switch.MANUAL)
        work("provisioning")

        assert "Bobby" in letters("admin_manual_task")[-1].text

    def test_a_second_strategy_later_writes_a_letter_of_its_own(self, bought):
        work("provisioning")
        strategy("nq-seventh", status="on_sale")
        look_over()

        work("provisioning")

        assert kinds() == ["admin_manual_task", "admin_manual_task"]


class TestTheWayBackFromManualMode:
    @pytest.fixture
    def lease(self, app) -> timedelta:
        return timedelta(seconds=app.config["STS"].lease_seconds)

    def test_a_call_left_open_by_a_dead_worker_does_not_block_the_way_back(self, app, bought, vendor, clock, lease):
        claim()
        clock.shift(lease)
        switch(Switch.MANUAL)
        engine.hand_over_due()
        assert states() == {"with_staff"}

        switch(Switch.AUTO)
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="test"))
        work("provisioning")

        assert states() == {"absent"}

    def test_what_was_only_to_be_read_once_more_is_no_work_for_a_person(
        self, bought, vendor, clock, lease, monkeypatch
    ):
        claim()
        clock.shift(lease)
        work("provisioning")
        clock.shift(lease)
        by_hand(monkeypatch)

        engine.hand_over_due()

        assert states() == {"verified"}
        assert waits() == {None}
        assert count(ManualTask) == 0


class Wrapper:
    """The simulated TradingView with one habit of its own."""

    def __init__(self) -> None:
        self.inner = tradingview()

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Silent(Wrapper):
    """An answer in which no script is mentioned."""

    def has_access(self, name, script_ids):
        return [AccessFact(script, has_access=False, is_told=False) for script in script_ids]


class Refusing(Wrapper):
    """Says no for some scripts and yes for the others; remembers what it was asked for."""

    def __init__(self, *scripts: str) -> None:
        super().__init__()
        self.scripts = scripts
        self.asked: list[list[str]] = []

    def grant(self, name, script_ids):
        self.asked.append(list(script_ids))
        allowed = [script for script in script_ids if script not in self.scripts]
        given = {answer.script_id: answer for answer in self.inner.grant(name, allowed)}
        return [given.get(script) or ScriptAnswer(script, "Failure") for script in script_ids]
