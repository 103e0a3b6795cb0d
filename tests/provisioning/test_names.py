"""Whose a name is, how it changes without a gap, and when it may."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sts_app.audit.models import AuditLog
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import names, queries, services, worklist
from sts_app.provisioning.models import ProvisioningJob, TradingViewName
from sts_app.provisioning.names import LIMITS, NameTaken, TooSoon, next_change_at
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests.builders import (
    NOON,
    by_hand,
    entitled,
    grants,
    holders,
    in_a_transaction,
    kinds,
    letters,
    named,
    sam,
    served,
    work,
)

DAY = timedelta(days=1)


def states(name=None) -> set[str]:
    return {grant.state for grant in grants(name)}


def set_lines() -> list[AuditLog]:
    """The audit lines of every name that was set, oldest first."""
    return list(
        database.session.scalars(sa.select(AuditLog).where(AuditLog.action == names.NAME_SET).order_by(AuditLog.id))
    )


class TestSetName:
    def test_a_name_of_another_account_is_taken_ignoring_case(self, alice, bob, vendor):
        with pytest.raises(NameTaken):
            names.set_name(bob, "aNNA", verified=True)

        assert queries.current_name(bob.id) is None
        assert queries.current_name(alice.id).spelling == "Anna"

    def test_a_name_refused_keeps_the_one_before(self, alice, bob, vendor):
        named(bob, "Bobby")
        database.session.commit()

        with pytest.raises(NameTaken):
            names.set_name(bob, "anna", verified=True)
        database.session.rollback()

        assert queries.current_name(bob.id).spelling == "Bobby"

    def test_the_same_name_twice_is_once_and_takes_the_better_spelling(self, alice, plan, vendor):
        entitled(alice, plan)

        first = queries.current_name(alice.id)
        second = names.set_name(alice, "ANNA", verified=True)

        assert second.id == first.id
        assert second.spelling == "ANNA"
        assert len(grants()) == 6

    def test_a_name_that_could_not_be_checked_keeps_tradingviews_spelling(self, alice, vendor):
        names.set_name(alice, "ANNA", verified=False)

        current = queries.current_name(alice.id)
        assert (current.spelling, current.verified_at) == ("Anna", NOON)

    def test_and_takes_what_is_typed_while_tradingviews_is_not_known(self, bob, vendor):
        names.set_name(bob, "bobby", verified=False)

        assert names.set_name(bob, "Bobby", verified=False).spelling == "Bobby"

    def test_an_unverified_name_becomes_verified_later(self, bob, vendor):
        names.set_name(bob, "bobby", verified=False)
        assert queries.current_name(bob.id).verified_at is None

        names.set_name(bob, "Bobby", verified=True)

        assert queries.current_name(bob.id).verified_at == time_source.now()

    def test_the_old_name_keeps_access_until_the_new_one_has_it(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")

        names.set_name(alice, "Anna2", verified=True)

        assert {(g.name_key, g.state) for g in grants()} == {("anna", "verified"), ("anna2", "pending")}
        assert {name for name, _ in holders()} == {"Anna"}
        work("provisioning")
        assert {(g.name_key, g.state) for g in grants()} == {("anna", "absent"), ("anna2", "verified")}
        assert {name for name, _ in holders()} == {"Anna2"}
        assert len(holders()) == 6

    def test_a_change_of_name_is_silent(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        before = len(letters())

        names.set_name(alice, "Anna2", verified=True)
        work("provisioning")

        assert len(letters()) == before

    def test_an_old_name_is_reserved_until_its_access_is_verified_absent(self, alice, bob, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        names.set_name(alice, "Anna2", verified=True)
        database.session.commit()

        with pytest.raises(NameTaken):
            names.set_name(bob, "Anna", verified=True)
        database.session.rollback()

        work("provisioning")
        assert names.set_name(bob, "Anna", verified=True).user_id == bob.id

    def test_a_name_that_never_had_access_is_free_at_once(self, alice, bob, vendor):
        names.set_name(alice, "Anna2", verified=True)

        assert names.set_name(bob, "Anna", verified=True).user_id == bob.id

    def test_going_back_before_the_change_went_through_changes_nothing_at_tradingview(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")
        sent = calls(vendor)["grant"]

        names.set_name(alice, "Anna2", verified=True)
        names.set_name(alice, "Anna", verified=True)
        work("provisioning")

        assert {(g.name_key, g.state) for g in grants()} == {("anna", "verified"), ("anna2", "absent")}
        assert calls(vendor)["grant"] == sent

    def test_a_change_to_an_unknown_name_keeps_the_old_one_working(self, alice, plan, vendor):
        entitled(alice, plan)
        work("provisioning")

        names.set_name(alice, "unknown_anna", verified=False)
        work("provisioning")

        assert {(g.name_key, g.state) for g in grants()} == {("anna", "verified"), ("unknown_anna", "needs_customer")}
        assert {name for name, _ in holders()} == {"Anna"}
        assert kinds().count("access_failed") == 1

    def test_a_corrected_name_is_served(self, alice, plan, vendor):
        names.set_name(alice, "unknown_anna", verified=False)
        entitled(alice, plan)
        work("provisioning")
        assert states("unknown_anna") == {"needs_customer"}

        names.set_name(alice, "Anna", verified=True)
        work("provisioning")

        assert states("anna") == {"verified"}
        assert states("unknown_anna") == {"absent"}

    @pytest.mark.parametrize("verified", [True, False])
    def test_confirming_the_name_is_tried_again_whether_or_not_tradingview_answers_now(
        self, alice, plan, vendor, verified
    ):
        entitled(alice, plan)
        misbehave(vendor, Fault.UNKNOWN)
        work("provisioning")
        assert states() == {"needs_customer"}
        behave(vendor)

        names.set_name(alice, "Anna", verified=verified)
        work("provisioning")

        assert states() == {"verified"}


class TestCoalescing:
    """A to B to C before B was ever called: nothing stands under B, so there is nothing to take away."""

    def test_a_name_that_was_never_called_needs_no_revoking(self, alice, plan, vendor):
        served(alice, plan, "gift:1")

        names.set_name(alice, "Anna2", verified=True)
        names.set_name(alice, "Anna3", verified=True)
        work("provisioning")

        assert {(g.name_key, g.state, g.called_at is None) for g in grants("anna2")} == {("anna2", "absent", True)}
        assert {name for name, _ in holders()} == {"Anna3"}
        # One call takes all six from Anna, one gives them to Anna3, and each is read back.
        assert (calls(vendor)["grant"], calls(vendor)["revoke"]) == (1, 1)

    def test_and_is_free_for_others_at_once(self, alice, bob, plan, vendor):
        served(alice, plan, "gift:1")

        names.set_name(alice, "Anna2", verified=True)
        names.set_name(alice, "Anna3", verified=True)

        assert names.set_name(bob, "Anna2", verified=True).user_id == bob.id

    def test_the_oldest_keeps_working_until_the_newest_does(self, alice, plan, vendor):
        served(alice, plan, "gift:1")

        names.set_name(alice, "Anna2", verified=True)
        names.set_name(alice, "Anna3", verified=True)

        assert {name for name, _ in holders()} == {"Anna"}
        assert {g.wanted for g in grants("anna")} == {True}

    def test_one_that_was_called_is_revoked_like_any_other(self, alice, plan, vendor):
        served(alice, plan, "gift:1")
        names.set_name(alice, "Anna2", verified=True)
        misbehave(vendor, Fault.LOSE_ANSWER)
        work("provisioning")
        assert {name for name, _ in holders()} == {"Anna", "Anna2"}

        names.set_name(alice, "Anna3", verified=True)
        work("provisioning")

        assert {name for name, _ in holders()} == {"Anna3"}
        assert states("anna2") == {"absent"}


class TestTrigger:
    def test_a_change_of_name_sets_off_its_own_cycles(self, alice, plan, vendor):
        served(alice, plan, "gift:1")
        names.set_name(alice, "Anna2", verified=True)
        work("provisioning")

        triggers = sa.select(ProvisioningJob.trigger).where(ProvisioningJob.created_at >= NOON).distinct()
        begun = database.session.scalars(triggers.where(ProvisioningJob.because == "name set")).all()
        assert begun == ["renamed"]


class TestTooSoon:
    @pytest.fixture
    def owner(self, alice, plan, vendor):
        """Alice, whose name works and was never changed."""
        return served(alice, plan, "gift:1")

    def rename(self, user, spelling: str) -> None:
        names.set_name(user, spelling, verified=True)
        work("provisioning")

    def test_a_name_that_works_is_changed_once_in_24_hours(self, owner, clock):
        self.rename(owner, "Anna2")
        clock.shift(DAY - timedelta(seconds=1))

        with pytest.raises(TooSoon) as refusal:
            names.set_name(owner, "Anna3", verified=True)

        assert refusal.value.allowed_at == time_source.now() + timedelta(seconds=1)
        assert refusal.value.retry_after == 1
        assert "can be changed again from 22 Nov 2026, 12:00 UTC" in refusal.value.sentence
        assert queries.current_name(owner.id).spelling == "Anna2"
        clock.shift(timedelta(seconds=1))
        assert names.set_name(owner, "Anna3", verified=True).spelling == "Anna3"

    def test_and_three_times_in_30_days(self, owner, clock):
        for spelling in ("Anna2", "Anna3", "Anna4"):
            self.rename(owner, spelling)
            clock.shift(DAY)

        with pytest.raises(TooSoon) as refusal:
            names.set_name(owner, "Anna5", verified=True)

        assert refusal.value.allowed_at == NOON + timedelta(days=30)

    def test_the_page_says_the_same_beforehand(self, owner, clock):
        assert names.changeable_from(owner.id) is None

        self.rename(owner, "Anna2")

        assert names.changeable_from(owner.id) == NOON + DAY

    def test_going_back_to_a_name_of_ones_own_is_a_change(self, owner, vendor, clock):
        names.set_name(owner, "Anna2", verified=True)
        misbehave(vendor, Fault.FAIL, times=1)
        work("provisioning")
        clock.shift(timedelta(minutes=1))
        work("provisioning")
        assert states("anna2") == {"verified"}

        with pytest.raises(TooSoon):
            names.set_name(owner, "Anna", verified=True)

    def test_nothing_granted_yet_is_no_reason_to_wait(self, owner, clock):
        names.set_name(owner, "Anna2", verified=True)

        names.set_name(owner, "Anna3", verified=True)

        assert names.changeable_from(owner.id) is None

    def test_nor_is_a_name_without_a_purchase(self, alice, vendor):
        for spelling in ("Anna2", "Anna3", "Anna4", "Anna5"):
            names.set_name(alice, spelling, verified=True)

        assert queries.current_name(alice.id).spelling == "Anna5"

    def test_a_name_entered_while_nobody_could_check_it_waits_like_any_other(self, owner, clock):
        names.set_name(owner, "Anna2", verified=False)
        work("provisioning")
        assert states("anna2") == {"verified"}

        assert names.changeable_from(owner.id) == NOON + DAY
        with pytest.raises(TooSoon):
            names.set_name(owner, "Anna3", verified=False)

    def test_so_does_one_that_people_gave_access_to_in_manual_mode(self, bob, plan, vendor, monkeypatch):
        by_hand(monkeypatch)
        names.set_name(bob, "Bobby", verified=False)
        entitled(bob, plan)
        self.work_by_hand()
        names.set_name(bob, "Bobby2", verified=False)
        self.work_by_hand()
        assert states("bobby2") == {"verified"}

        with pytest.raises(TooSoon):
            names.set_name(bob, "Bobby3", verified=False)

    def work_by_hand(self) -> None:
        work("provisioning")
        for task in worklist.open_tasks(100):
            in_a_transaction(lambda task_id=task.task_id: worklist.done(task_id, "user:9"))
        work("provisioning")

    def test_nor_is_one_that_tradingview_does_not_know_when_it_is_given_access(self, owner, vendor, clock):
        self.rename(owner, "Anna2")
        database.session.execute(sa.update(TradingViewName).values(verified_at=time_source.now()))
        one = grants("anna2")[0]
        one.state, one.next_attempt_at, one.verified_at = "needs_customer", None, None

        assert names.changeable_from(owner.id) is None
        one.state, one.verified_at = "verified", time_source.now()

    def test_nor_is_one_that_a_check_has_not_found_within_the_hour(self, owner, vendor, clock):
        self.rename(owner, "Anna2")
        database.session.commit()
        misbehave(vendor, Fault.UNKNOWN)
        names.check("Anna2")

        assert names.changeable_from(owner.id) is None
        clock.shift(timedelta(hours=1))
        assert names.changeable_from(owner.id) == NOON + DAY

    def test_the_correction_of_a_name_that_never_worked_does_not_count(self, owner, vendor, clock):
        names.set_name(owner, "Anna2", verified=False)
        names.set_name(owner, "Anna3", verified=True)

        assert [line.details["counts"] for line in set_lines()] == [False, True, False]

    def test_staff_need_not_wait_and_what_they_change_does_not_count(self, owner, clock):
        staff = f"user:{sam().id}"
        for spelling in ("Anna2", "Anna3"):
            names.set_name(owner, spelling, verified=True, actor=staff)
            work("provisioning")

        assert names.changeable_from(owner.id) is None
        assert [line.actor for line in set_lines()[1:]] == [staff, staff]

    def test_confirming_the_present_name_is_no_change(self, owner, clock):
        self.rename(owner, "Anna2")

        assert names.set_name(owner, "ANNA2", verified=True).spelling == "ANNA2"

    def test_the_same_name_for_somebody_else_says_nothing_about_whose_it_is(self, owner, bob, clock):
        named(bob, "Bobby")
        self.rename(owner, "Anna2")

        with pytest.raises(TooSoon):
            names.set_name(owner, "Bobby", verified=True)


@given(st.lists(st.integers(0, 60 * 24), max_size=8), st.integers(0, 60 * 24))
def test_a_change_at_the_moment_told_keeps_every_limit(hours, now):
    """Whatever came before: a change at the moment that was named breaks no limit, and none before it is allowed."""
    changes = [NOON + timedelta(hours=each) for each in hours if each <= now]
    moment = NOON + timedelta(hours=now)

    told = next_change_at(changes, moment)

    def room_at(at) -> bool:
        return all(sum(change > at - within for change in changes) < most for most, within in LIMITS)

    assert room_at(told or moment)
    if told is not None:
        assert told > moment
        assert not room_at(told - timedelta(seconds=1))


class TestLookAlikes:
    def test_staff_are_warned_of_a_name_that_looks_like_another_accounts(self, alice, bob, vendor):
        named(alice, "BiII")

        names.set_name(bob, "Bill", verified=True)

        assert set_lines()[-1].details["look_alike_of"] == [alice.id]

    def test_a_former_name_that_is_still_reserved_counts(self, alice, bob, plan, vendor):
        served(named(alice, "BiII"), plan, "gift:1")
        names.set_name(alice, "Anna", verified=True)

        names.set_name(bob, "Bill", verified=True)

        assert set_lines()[-1].details["look_alike_of"] == [alice.id]

    def test_names_of_ones_own_and_free_ones_do_not(self, alice, bob, vendor):
        named(alice, "BiII")
        named(alice, "Bill")

        names.set_name(bob, "Biil", verified=True)

        assert ["look_alike_of" in line.details for line in set_lines()] == [False] * 4


class TestHistory:
    def test_the_names_of_a_person_with_when_and_how_they_stand(self, alice, plan, vendor, clock):
        served(alice, plan, "gift:1")
        clock.shift(timedelta(hours=1))
        names.set_name(alice, "Anna2", verified=False)

        told = [(each.spelling, each.since, each.until, each.state) for each in names.history(alice.id)]

        later = NOON + timedelta(hours=1)
        assert told == [
            ("Anna2", later, None, "in use; TradingView has not confirmed it yet"),
            ("Anna", NOON, later, "replaced; kept for you until TradingView shows no access under it"),
        ]

    def test_a_name_that_came_back_is_there_for_each_time(self, alice, plan, vendor, clock):
        served(alice, plan, "gift:1")
        for spelling in ("Anna2", "Anna"):
            clock.shift(timedelta(hours=1))
            names.set_name(alice, spelling, verified=True)

        told = [(each.spelling, each.until is None, each.state) for each in names.history(alice.id)]

        assert told == [
            ("Anna", True, "in use; TradingView knew it on 21 Nov 2026, 14:00 UTC"),
            ("Anna2", False, "replaced; no access is left under it"),
            ("Anna", False, "came back into use later"),
        ]

    def test_coming_back_keeps_what_was_known_of_the_name(self, alice, plan, vendor, clock):
        served(alice, plan, "gift:1")
        clock.shift(timedelta(hours=1))
        names.set_name(alice, "Anna2", verified=True)

        back = names.set_name(alice, "anna", verified=False)

        assert (back.spelling, back.verified_at) == ("Anna", NOON)

    def test_one_that_comes_back_verified_takes_the_newer_spelling(self, alice, plan, vendor, clock):
        served(alice, plan, "gift:1")
        names.set_name(alice, "Anna2", verified=True)

        assert names.set_name(alice, "ANNA", verified=True).spelling == "ANNA"

    def test_a_name_that_was_never_checked_is_told_by_the_access_under_it(self, bob, plan, vendor):
        names.set_name(bob, "Bobby", verified=False)
        served(bob, plan, "gift:1")
        database.session.execute(sa.update(TradingViewName).values(verified_at=None))

        assert [each.state for each in names.history(bob.id)] == ["in use; access stands under it"]


class TestUnderWay:
    def test_a_change_is_told_as_it_goes(self, alice, plan, vendor):
        served(alice, plan, "gift:1")
        names.set_name(alice, "Anna2", verified=True)

        assert names.change_under_way(alice.id) == names.Change("Anna", "Anna2", moved=0, of=6)
        work("provisioning")
        assert names.change_under_way(alice.id) is None

    def test_without_a_former_name_that_works_none_is(self, alice, bob, plan, vendor):
        entitled(alice, plan)
        names.set_name(alice, "Anna2", verified=True)

        assert names.change_under_way(alice.id) is None
        assert names.change_under_way(bob.id) is None

    def test_one_to_a_name_that_turns_out_unknown_goes_on_until_it_is_corrected(self, alice, plan, vendor):
        served(alice, plan, "gift:1")
        names.set_name(alice, "unknown_anna", verified=False)
        work("provisioning")

        assert names.change_under_way(alice.id) == names.Change("Anna", "unknown_anna", moved=0, of=6)


def test_the_end_of_everything_ends_the_wait(alice, plan, vendor, clock):
    """Who owns nothing any more changes the name as often as before the purchase."""
    served(alice, plan, "gift:1")
    names.set_name(alice, "Anna2", verified=True)
    work("provisioning")
    services.end_entitlement("gift:1", because="refund", actor="system")
    work("provisioning")

    assert names.changeable_from(alice.id) is None
