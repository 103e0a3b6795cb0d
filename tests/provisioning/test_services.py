from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.catalog.models import Plan, StrategyStatus
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.queue import WakeUp, drop_staged, staged_wake_ups
from sts_app.provisioning import cycles, queries, services
from sts_app.provisioning.models import Entitlement, Grant, ManualTask, ProvisioningJob
from sts_app.provisioning.rules import Priority, TaskKind
from sts_app.provisioning.simulated import Fault, calls, misbehave
from tests.builders import count, entitled, grants, holders, kinds, letters, look_over, named, strategy, through, work

NOW_WAKE = WakeUp("provisioning.work", timedelta(0))


def states(name=None) -> set[str]:
    return {grant.state for grant in grants(name)}


class TestEntitle:
    def test_makes_every_script_of_the_plan_wanted_and_due_at_once(self, alice, plan, vendor):
        entitled(alice, plan)

        assert len(grants("anna")) == 6
        assert {(g.wanted, g.state, g.next_attempt_at) for g in grants()} == {(True, "pending", time_source.now())}
        assert NOW_WAKE in staged_wake_ups()

    def test_twice_from_one_source_is_once(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")

        again = services.entitle(alice.id, plan, source="purchase:1", paid_at=time_source.now(), actor="system")

        assert again is None
        assert (count(Entitlement), count(Grant), count(ProvisioningJob)) == (1, 6, 6)

    def test_a_second_reason_changes_no_pair(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")
        drop_staged()

        entitled(alice, plan, "gift:1")

        assert {g.cycle for g in grants()} == {1}
        assert staged_wake_ups() == ()

    def test_a_buyer_without_a_name_is_served_when_there_is_one(self, bob, plan, vendor):
        entitled(bob, plan)
        assert grants() == []

        named(bob, "Bobby")

        assert len(grants("bobby")) == 6

    def test_a_plan_that_covers_nothing_gives_nothing(self, alice, db, vendor):
        narrow = Plan(slug="narrow", name="Narrow", price_cents=100, covers_all=False)
        db.session.add(narrow)
        db.session.flush()

        entitled(alice, narrow)

        assert grants() == []

    def test_leaves_an_audit_line(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:9")

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "provisioning.entitled")).one()
        assert (line.actor, line.subject) == ("system", f"user:{alice.id}")
        assert line.details == {"source": "purchase:9", "plan": "lifetime"}


class TestEndEntitlement:
    def test_before_any_call_is_absent_with_nothing_sent(self, alice, plan, vendor):
        entitled(alice, plan)

        assert services.end_entitlement("gift:1", because="refund", actor="system")
        work("provisioning")

        assert states() == {"absent"}
        assert calls(vendor) == {}

    def test_after_a_call_is_revoking_until_read_as_absent(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        assert len(holders()) == 6

        services.end_entitlement("gift:1", because="refund", actor="system")

        assert states() == {"revoking"}
        assert len(holders()) == 6
        work("provisioning")
        assert states() == {"absent"}
        assert holders() == set()
        assert all(g.absent_at is not None and g.evidence == "read back" for g in grants())

    def test_an_answer_that_was_lost_is_revoked_too(self, alice, plan, vendor):
        entitled(alice, plan)
        misbehave(vendor, Fault.LOSE_ANSWER)
        work("provisioning")
        assert states() == {"pending"}

        services.end_entitlement("gift:1", because="refund", actor="system")
        work("provisioning")

        assert states() == {"absent"}
        assert holders() == set()

    def test_a_revoke_that_did_nothing_is_never_called_done(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        services.end_entitlement("gift:1", because="refund", actor="system")
        misbehave(vendor, Fault.LIE)

        work("provisioning")

        assert states() == {"revoking"}

    def test_another_reason_keeps_access(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")
        entitled(alice, plan, "gift:1")
        work("provisioning")

        services.end_entitlement("purchase:1", because="refund", actor="system")

        assert states() == {"verified"}

    def test_says_when_there_was_nothing_to_end(self, alice, plan, vendor):
        entitled(alice, plan)

        assert not services.end_entitlement("purchase:404", because="x", actor="system")
        assert services.end_entitlement("gift:1", because="x", actor="system")
        assert not services.end_entitlement("gift:1", because="x", actor="system")

    def test_a_gift_with_an_end_is_over_when_its_time_is(self, alice, plan, vendor, clock):
        entitled(alice, plan).ends_at = time_source.now() + timedelta(days=30)
        work("provisioning")

        clock.shift(timedelta(days=30))
        look_over()
        work("provisioning")

        assert states() == {"absent"}
        assert holders() == set()

    def test_a_suspension_takes_access_away_and_its_end_gives_it_back(self, alice, plan, vendor):
        entitlement = entitled(alice, plan)
        work("provisioning")

        entitlement.suspended_at = time_source.now()
        look_over()
        work("provisioning")
        assert holders() == set()

        entitlement.suspended_at = None
        look_over()
        work("provisioning")
        assert len(holders()) == 6


class TestReinstate:
    BACK = {"because": "the refund failed", "actor": "system"}

    def test_what_was_ended_counts_again_and_access_comes_back(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")
        work("provisioning")
        services.end_entitlement("purchase:1", because="it was refunded", actor="system")
        work("provisioning")
        assert holders() == set()

        assert services.reinstate("purchase:1", **self.BACK)
        work("provisioning")

        [reason] = queries.entitlements_of(alice.id)
        assert (reason.ends_at, reason.ended_because) == (None, None)
        assert states() == {"verified"}
        assert kinds() == ["access_granted"]

    def test_twice_is_once(self, alice, plan, vendor):
        entitled(alice, plan)
        services.end_entitlement("gift:1", because="refund", actor="system")

        assert services.reinstate("gift:1", **self.BACK)
        drop_staged()

        assert not services.reinstate("gift:1", **self.BACK)
        assert staged_wake_ups() == ()

    def test_what_nobody_ended_is_left_alone(self, alice, bob, plan, vendor, clock):
        entitled(alice, plan)
        ends_at = time_source.now() + timedelta(days=1)
        services.gift(bob, plan, reason="a month", ends_at=ends_at, actor="user:7")
        [by_date] = queries.entitlements_of(bob.id)
        clock.shift(timedelta(days=2))

        assert [services.reinstate(each, **self.BACK) for each in ("gift:1", by_date.source, "gift:404")] == [False] * 3

        assert by_date.ends_at == ends_at
        look_over()

    def test_a_suspension_stays(self, alice, plan, vendor):
        entitled(alice, plan)
        services.suspend("gift:1", because="a dispute", actor="system")
        services.end_entitlement("gift:1", because="refund", actor="system")

        assert services.reinstate("gift:1", **self.BACK)

        assert not any(grant.wanted for grant in grants())

    def test_leaves_an_audit_line_with_what_had_ended_it(self, alice, plan, vendor):
        entitled(alice, plan)
        services.end_entitlement("gift:1", because="refund", actor="system")
        services.reinstate("gift:1", **self.BACK)

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "provisioning.reinstated")).one()
        assert (line.actor, line.subject) == ("system", f"user:{alice.id}")
        assert line.details == {"source": "gift:1", "because": "the refund failed", "ended_because": "refund"}


class TestSetEnd:
    PAID = {"because": "the subscription was paid", "actor": "system"}

    def test_an_end_that_lies_ahead_keeps_access_until_it_comes(self, alice, plan, vendor, clock):
        entitled(alice, plan)
        work("provisioning")

        assert services.set_end("gift:1", ends_at=time_source.now() + timedelta(days=30), **self.PAID)
        assert (states(), look_over()) == ({"verified"}, 0)

        clock.shift(timedelta(days=30))
        look_over()
        work("provisioning")
        assert holders() == set()

    def test_an_end_that_has_come_ends_access_at_once(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")

        services.set_end("gift:1", ends_at=time_source.now(), **self.PAID)

        assert states() == {"revoking"}
        [job, *_] = database.session.scalars(sa.select(ProvisioningJob).order_by(ProvisioningJob.id.desc()))
        assert job.trigger == "ended"

    @pytest.mark.parametrize("later", [None, timedelta(days=30)])
    def test_what_ended_by_its_date_comes_back_with_a_later_one_or_none(self, alice, plan, vendor, clock, later):
        entitled(alice, plan).ends_at = time_source.now() + timedelta(days=1)
        work("provisioning")
        clock.shift(timedelta(days=2))
        look_over()
        work("provisioning")
        assert states() == {"absent"}

        ends_at = time_source.now() + later if later else None
        assert services.set_end("gift:1", ends_at=ends_at, **self.PAID)
        work("provisioning")

        assert states() == {"verified"}

    def test_the_end_it_has_is_no_change(self, alice, plan, vendor):
        entitled(alice, plan)
        ends_at = time_source.now() + timedelta(days=1)

        assert not services.set_end("gift:1", ends_at=None, **self.PAID)
        assert services.set_end("gift:1", ends_at=ends_at, **self.PAID)
        assert not services.set_end("gift:1", ends_at=ends_at, **self.PAID)
        assert not services.set_end("gift:404", ends_at=ends_at, **self.PAID)

    def test_what_somebody_ended_no_date_gives_back(self, alice, plan, vendor):
        entitled(alice, plan)
        services.end_entitlement("gift:1", because="refund", actor="system")

        assert not services.set_end("gift:1", ends_at=None, **self.PAID)

        assert not any(grant.wanted for grant in grants())

    def test_leaves_an_audit_line_with_both_ends(self, alice, plan, vendor):
        entitled(alice, plan)
        ends_at = time_source.now() + timedelta(days=1)
        services.set_end("gift:1", ends_at=ends_at, **self.PAID)

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "provisioning.end_set")).one()
        assert line.details == {
            "source": "gift:1",
            "because": "the subscription was paid",
            "before": None,
            "after": ends_at.isoformat(),
        }


class TestKeepInStep:
    def test_a_retired_strategy_keeps_its_holders(self, alice, plan, vendor, db):
        entitled(alice, plan)
        work("provisioning")

        strategy_of(grants()[0]).status = StrategyStatus.RETIRED
        db.session.flush()

        assert look_over() == 0
        assert states() == {"verified"}

    def test_a_new_strategy_reaches_every_owner_behind_new_buyers(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        strategy("nq-seventh", status=StrategyStatus.ON_SALE)

        assert look_over() == 1
        [new] = [g for g in grants() if g.script_id == "PUB;nq-seventh"]
        assert (new.state, new.priority) == ("pending", Priority.SPREAD)

        work("provisioning")
        assert ("Anna", "PUB;nq-seventh") in holders()
        assert look_over() == 0

    def test_a_draft_reaches_nobody(self, alice, plan, vendor):
        entitled(alice, plan)
        strategy("nq-seventh", status=StrategyStatus.DRAFT)

        assert look_over() == 0

    def test_a_pair_whose_row_was_never_written_is_made(self, alice, plan, vendor, db):
        db.session.add(Entitlement(user_id=alice.id, plan_id=plan.id, source="gift:7", starts_at=time_source.now()))
        db.session.flush()

        assert look_over() == 1
        assert len(grants("anna")) == 6

    def test_a_store_in_step_is_left_alone(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        drop_staged()

        assert look_over() == 0
        assert staged_wake_ups() == ()


def strategy_of(grant):
    from sts_app.catalog.models import Strategy

    return database.session.get_one(Strategy, grant.strategy_id)


class TestLetters:
    def test_one_letter_when_all_six_stand(self, alice, plan, vendor):
        entitled(alice, plan)

        work("provisioning")

        [letter] = letters("access_granted")
        assert letter.to_address == "alice@customers.example"
        assert "NQ Overnight Edge" in letter.text
        assert kinds() == ["access_granted"]

    def test_two_reasons_at_once_write_one_each_and_no_more(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")
        work("provisioning")
        entitled(alice, plan, "gift:1")
        services.announce(alice.id)
        services.announce(alice.id)

        assert kinds() == ["access_granted", "access_granted"]

    def test_a_partial_letter_after_two_minutes_and_the_whole_one_at_the_end(
        self, app, alice, plan, vendor, clock, monkeypatch
    ):
        slow = Choosy(vendor, refuses="PUB;nq_power_hour_005")
        through(monkeypatch, slow)
        entitled(alice, plan)
        work("provisioning")
        assert kinds() == []

        clock.shift(timedelta(minutes=1, seconds=59))
        look_over()
        assert kinds() == []

        clock.shift(timedelta(seconds=1))
        look_over()
        look_over()
        assert kinds() == ["access_partly_granted"]
        [partial] = letters()
        assert "NQ Power Hour" in partial.text

        slow.refuses = ""
        work("provisioning")
        assert kinds() == ["access_partly_granted", "access_granted"]

    def test_nothing_active_is_nothing_to_tell(self, alice, plan, vendor, clock):
        entitled(alice, plan)
        misbehave(vendor, Fault.FAIL)
        work("provisioning")

        clock.shift(timedelta(minutes=2))
        look_over()

        assert kinds() == []

    def test_a_heal_is_silent(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        strategy("nq-seventh", status=StrategyStatus.ON_SALE)

        look_over()
        work("provisioning")

        assert kinds() == ["access_granted"]

    def test_a_second_purchase_after_a_refund_writes_again(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")
        work("provisioning")
        services.end_entitlement("purchase:1", because="refund", actor="system")
        work("provisioning")

        entitled(alice, plan, "purchase:2")
        work("provisioning")

        assert kinds() == ["access_granted", "access_granted"]
        assert len(holders()) == 6

    def test_an_ended_reason_is_not_announced(self, alice, plan, vendor):
        entitled(alice, plan, "purchase:1")
        services.end_entitlement("purchase:1", because="refund", actor="system")

        work("provisioning")

        assert kinds() == []


class TestTasks:
    def test_at_most_one_task_is_open_for_a_pair(self, alice, plan, vendor):
        entitled(alice, plan)
        [grant, *_] = grants()

        cycles.open_task(grant, TaskKind.EXHAUSTED, "once")
        cycles.open_task(grant, TaskKind.EXHAUSTED, "twice")

        assert count(ManualTask) == 1
        assert queries.open_tasks() == 1

    def test_a_change_of_mind_closes_the_task(self, alice, plan, vendor):
        entitled(alice, plan)
        [grant, *_] = grants()
        cycles.open_task(grant, TaskKind.EXHAUSTED, "a person is needed")

        services.end_entitlement("gift:1", because="refund", actor="system")

        assert queries.open_tasks() == 0


class Choosy:
    """A TradingView that says no for one script and yes for the others."""

    def __init__(self, store, *, refuses: str) -> None:
        from sts_app.provisioning.simulated import SimulatedTradingView

        self._inner = SimulatedTradingView(store)
        self.refuses = refuses

    def grant(self, name, script_ids):
        from sts_app.provisioning.gateway import ScriptAnswer

        answers = self._inner.grant(name, [script for script in script_ids if script != self.refuses])
        if self.refuses in script_ids:
            answers.append(ScriptAnswer(self.refuses, "Failure"))
        return answers

    def __getattr__(self, name):
        return getattr(self._inner, name)
