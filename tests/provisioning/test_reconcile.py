"""A run of reconciliation: what it reads, what it reports, what it changes, and when it refuses."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobs import provisioning as job
from sts_app.catalog.models import FormerScript, Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import AlreadyDone, FixInput, NotNow, NotThere
from sts_app.provisioning import acting, control, findings, pace, queries, reconcile, services, worklist
from sts_app.provisioning.comparing import Limits
from sts_app.provisioning.gateway import Holder, NeedsCustomer, NeedsStaff, NotOffered, TryLater
from sts_app.provisioning.models import AllowedHolder, Entitlement, ManualTask, ProvisioningIncident, ReconciliationRun
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, calls, give, misbehave, take
from tests.builders import count, entitled, grants, holders, kinds, letters, named, person, served, tradingview, work

ALPHA = "PUB;nq_momentum_alpha_001"
RIDER = "PUB;nq_trend_rider_002"
HALF_A_DAY = timedelta(hours=12)


def reconciled(adapter=None, **options):
    """A run now. Whatever waits of the pace is slept through by the clock."""
    given = {"source": "daily", "actor": "system", "dry_run": False} | options
    return reconcile.run(adapter or tradingview(), **given)


def found(report) -> dict[str, list[str]]:
    """What a report says, by kind: the act and the name on the script."""
    told: dict[str, list[str]] = {}
    for line in report.lines:
        told.setdefault(line.kind, []).append(f"{line.act} {line.name} {line.script_id}")
    return told


def states(name: str) -> dict[str, str]:
    return {grant.script_id: grant.state for grant in grants(name)}


class Wrapper:
    """A TradingView that is the simulated one but for what a test says."""

    def __init__(self):
        self.inner = tradingview()

    def __getattr__(self, name):
        return getattr(self.inner, name)


class NoLists(Wrapper):
    """As an access service is: who holds a script cannot be listed."""

    def list_holders(self, script_id):
        raise NotOffered("no lists")


@pytest.fixture
def store(alice, bob, plan, vendor, clock):
    """Alice as Anna, Bob as Bobby and two more with all six strategies since an hour."""
    served(alice, plan, "purchase:1")
    served(named(bob, "Bobby"), plan, "purchase:2")
    for number in (3, 4):
        served(named(person(f"customer-{number}@customers.example"), f"Customer{number}"), plan, f"purchase:{number}")
    clock.shift(timedelta(hours=1))
    return vendor


@pytest.fixture
def left(store, alice, clock):
    """Anna was refunded, TradingView said that her access was gone, and it is there again on one script."""
    with transaction():
        services.end_entitlement("purchase:1", because="refund", actor="test")
    work("provisioning")
    give(store, "Anna", ALPHA)
    clock.shift(timedelta(hours=1))
    return store


class TestNothingToDo:
    def test_a_store_that_agrees_with_tradingview_has_nothing_to_report(self, store):
        report = reconciled()

        assert (report.state, report.lines, report.waiting) == ("complete", (), [])
        assert report.counts["reading"]["by"] == "lists"
        assert report.counts["reading"]["holders"] == 24

    def test_it_writes_no_letter_and_touches_no_pair(self, store):
        before = [(grant.cycle, grant.state, grant.next_attempt_at) for grant in grants()]
        told = kinds()

        reconciled()

        assert [(grant.cycle, grant.state, grant.next_attempt_at) for grant in grants()] == before
        assert kinds() == told


class TestMissing:
    def test_it_leaves_active_at_once_and_is_given_again(self, store):
        take(store, "Anna", ALPHA)

        report = reconciled()

        assert found(report) == {"missing": [f"heal Anna {ALPHA}"]}
        [healed] = [grant for grant in grants("Anna") if grant.script_id == ALPHA]
        assert (healed.state, healed.wanted, healed.cycle) == ("pending", True, 2)
        work("provisioning")
        assert ("Anna", ALPHA) in holders()
        assert set(states("Anna").values()) == {"verified"}

    def test_the_customer_gets_no_letter_for_it(self, store):
        told = kinds()
        take(store, "Anna", ALPHA)

        reconciled()
        work("provisioning")

        assert kinds() == told

    def test_a_list_that_the_name_itself_contradicts_changes_nothing(self, store):
        class Cut(Wrapper):
            def list_holders(self, script_id):
                return self.inner.list_holders(script_id)[1:]

        report = reconciled(Cut())

        assert report.state == "refused"
        assert "cannot be whole" in report.because
        assert report.lines == ()
        assert {grant.state for grant in grants()} == {"verified"}

    def test_a_list_without_most_of_its_holders_is_the_list_of_somebody_else(self, store):
        for name in ("Anna", "Bobby", "Customer3"):
            take(store, name, ALPHA)

        report = reconciled()

        assert report.state == "refused"
        assert f"3 of 4 known holders of {ALPHA}" in report.because
        assert {grant.state for grant in grants()} == {"verified"}

    @pytest.mark.parametrize("customers", [1, 2])
    def test_a_young_store_of_which_nothing_is_left_changes_nothing(self, plan, vendor, clock, customers):
        for name in ("Anna", "Bobby")[:customers]:
            served(named(person(f"{name}@customers.example"), name), plan, f"purchase:{name}")
            for script in states(name):
                take(vendor, name, script)
        clock.shift(timedelta(hours=1))

        report = reconciled()

        assert (report.state, report.lines) == ("refused", ())
        assert f"Of {6 * customers} pairs that are known to stand not one is left" in report.because
        assert {grant.state for grant in grants()} == {"verified"}
        assert reconciled(losses_are_real=True).counts["acts"] == {"heal": 6 * customers}

    def test_a_person_can_say_that_the_losses_are_real(self, store):
        for name in ("Anna", "Bobby", "Customer3"):
            take(store, name, ALPHA)

        report = reconciled(losses_are_real=True)

        assert report.counts["acts"] == {"heal": 3}

    def test_an_empty_list_changes_nothing(self, store):
        class Empty(Wrapper):
            def list_holders(self, script_id):
                return []

        report = reconciled(Empty())

        assert report.state == "refused"
        assert {grant.state for grant in grants()} == {"verified"}

    def test_the_list_of_another_account_changes_nothing(self, store):
        class Foreign(Wrapper):
            def list_holders(self, script_id):
                return [Holder("Somebody"), Holder("Else"), Holder("Entirely")]

            def has_access(self, name, script_ids):
                return [fact.__class__(fact.script_id, False) for fact in self.inner.has_access(name, script_ids)]

        report = reconciled(Foreign())

        assert report.state == "refused"
        assert {grant.state for grant in grants()} == {"verified"}

    def test_a_run_heals_no_more_than_its_cap_and_who_paid_first_first(self, store, monkeypatch):
        monkeypatch.setattr(reconcile, "LIMITS", Limits(heal_least=1, heal_share=0))
        for name in ("Bobby", "Anna"):
            take(store, name, ALPHA)

        report = reconciled()

        assert found(report) == {"missing": [f"heal Anna {ALPHA}", f"later Bobby {ALPHA}"]}


class TestExpiring:
    def test_access_with_an_end_is_given_for_life_again(self, store):
        give(store, "Anna", ALPHA, expires_at=time_source.now() + timedelta(days=7))

        report = reconciled()

        assert found(report) == {"expiring": [f"heal Anna {ALPHA}"]}
        work("provisioning")
        assert states("Anna")[ALPHA] == "verified"
        assert reconciled(source="demand").lines == ()

    def test_access_whose_end_has_passed_is_given_again(self, store):
        give(store, "Anna", ALPHA, expires_at=time_source.now() - timedelta(days=7))

        assert found(reconciled()) == {"expiring": [f"heal Anna {ALPHA}"]}


class TestExtra:
    def test_it_is_removed_after_two_readings_that_agree_half_a_day_apart(self, left, clock):
        assert found(reconciled()) == {"extra": [f"again Anna {ALPHA}"]}
        clock.shift(HALF_A_DAY)

        assert found(reconciled()) == {"extra": [f"remove Anna {ALPHA}"]}

        assert states("Anna")[ALPHA] == "revoking"
        assert ("Anna", ALPHA) in holders()
        work("provisioning")
        assert ("Anna", ALPHA) not in holders()
        assert states("Anna")[ALPHA] == "absent"

    def test_two_readings_sooner_after_each_other_are_one(self, left, clock):
        reconciled()
        clock.shift(HALF_A_DAY - timedelta(minutes=1))

        assert found(reconciled()) == {"extra": [f"again Anna {ALPHA}"]}
        work("provisioning")
        assert ("Anna", ALPHA) in holders()

    def test_a_dry_run_is_a_reading_as_well(self, left, clock):
        reconciled(dry_run=True)
        clock.shift(HALF_A_DAY)

        assert found(reconciled()) == {"extra": [f"remove Anna {ALPHA}"]}

    def test_a_refused_run_is_no_reading(self, left, clock, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(findings, "count", lambda run_id: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                reconciled()
        clock.shift(HALF_A_DAY)

        assert found(reconciled()) == {"extra": [f"again Anna {ALPHA}"]}

    def test_a_reading_between_them_that_does_not_show_it_begins_anew(self, left, clock):
        reconciled()
        clock.shift(HALF_A_DAY)
        take(left, "Anna", ALPHA)
        assert found(reconciled()) == {}
        clock.shift(HALF_A_DAY)
        give(left, "Anna", ALPHA)

        assert found(reconciled()) == {"extra": [f"again Anna {ALPHA}"]}

    def test_what_was_found_before_it_was_bought_again_and_refunded_again_does_not_count(
        self, left, alice, plan, clock
    ):
        reconciled()
        entitled(alice, plan, "purchase:9")
        work("provisioning")
        with transaction():
            services.end_entitlement("purchase:9", because="refund", actor="test")
        work("provisioning")
        give(left, "Anna", ALPHA)
        clock.shift(HALF_A_DAY)

        assert found(reconciled()) == {"extra": [f"again Anna {ALPHA}"]}

    def test_a_run_removes_no_more_than_its_cap_and_what_was_found_first_first(self, left, clock, monkeypatch):
        monkeypatch.setattr(reconcile, "LIMITS", Limits(remove_least=1))
        reconciled()
        clock.shift(timedelta(hours=1))
        give(left, "Anna", RIDER)
        reconciled()
        clock.shift(HALF_A_DAY)

        report = reconciled()

        assert found(report) == {"extra": [f"remove Anna {ALPHA}", f"later Anna {RIDER}"]}

    def test_access_whose_end_has_passed_is_nobodys(self, left):
        give(left, "Anna", ALPHA, expires_at=time_source.now() - timedelta(days=1))

        assert reconciled().lines == ()

    def test_it_is_left_alone_when_somebody_buys_it_between_reading_and_acting(self, left, alice, plan, clock):
        reconciled()
        clock.shift(HALF_A_DAY)

        class Slow(Wrapper):
            bought = False

            def list_holders(self, script_id):
                listed = self.inner.list_holders(script_id)
                if not self.bought:
                    self.bought = True
                    entitled(alice, plan, "purchase:9")
                    database.session.commit()
                return listed

        report = reconciled(Slow())
        work("provisioning")

        assert report.lines == ()
        assert {grant.state for grant in grants("Anna")} == {"verified"}
        assert len([held for held in holders() if held[0] == "Anna"]) == 6

    def test_it_is_left_alone_when_it_is_bought_between_comparing_and_acting(
        self, left, alice, plan, clock, monkeypatch
    ):
        reconciled()
        clock.shift(HALF_A_DAY)
        act = reconcile._act

        def bought_first(*arguments, **options):
            entitled(alice, plan, "purchase:9")
            database.session.commit()
            return act(*arguments, **options)

        monkeypatch.setattr(reconcile, "_act", bought_first)
        report = reconciled()
        work("provisioning")

        assert found(report) == {"extra": [f"moved Anna {ALPHA}"]}
        assert {grant.state for grant in grants("Anna")} == {"verified"}


class TestProven:
    """What people were asked to do is shown to be done by whatever reading comes by."""

    @pytest.fixture
    def asked(self, store, clock):
        """Staff are asked to give Dora all six, and have given her ALPHA without a word."""
        with transaction():
            control.set_switch(Switch.MANUAL, actor="user:1", because="a test")
        dora = named(person("dora@customers.example"), "Dora")
        entitled(dora, database.session.scalars(sa.select(Plan)).one(), "purchase:9")
        work("provisioning")
        give(store, "Dora", ALPHA)
        clock.shift(timedelta(hours=1))
        return store

    @pytest.fixture
    def ended(self, store, clock):
        """Anna was refunded, and staff are asked to take all six away and have done so for ALPHA."""
        with transaction():
            control.set_switch(Switch.MANUAL, actor="user:1", because="a test")
            services.end_entitlement("purchase:1", because="refund", actor="test")
        work("provisioning")
        take(store, "Anna", ALPHA)
        clock.shift(timedelta(hours=1))
        return store

    @pytest.mark.parametrize("way", [None, NoLists])
    def test_what_was_to_be_given_and_is_there_is_verified(self, asked, way):
        report = reconciled(way and way())

        assert report.counts["proven"] == {"present": 1, "absent": 0}
        assert states("Dora") == dict.fromkeys(states("Anna"), "with_staff") | {ALPHA: "verified"}
        assert {grant.evidence for grant in grants("Dora") if grant.script_id == ALPHA} == {"read back"}

    def test_its_task_is_closed_by_the_reading_and_by_nobody(self, asked):
        reconciled()

        [task] = [task for task in database.session.scalars(sa.select(ManualTask)) if task.closed_at]
        assert (task.closed_because, task.closed_by, task.outcome) == ("read back", "system", None)

    def test_who_has_all_of_it_is_told_once(self, asked):
        for script in states("Dora"):
            give(asked, "Dora", script)
        told = len(letters("access_granted"))

        reconciled()
        reconciled()

        assert len(letters("access_granted")) == told + 1

    def test_access_with_an_end_is_not_what_was_sold(self, asked):
        give(asked, "Dora", ALPHA, expires_at=time_source.now() + timedelta(days=7))

        assert reconciled().counts["proven"] == {"present": 0, "absent": 0}
        assert states("Dora")[ALPHA] == "with_staff"

    def test_a_dry_run_counts_it_and_changes_nothing(self, asked):
        assert reconciled(dry_run=True).counts["proven"] == {"present": 1, "absent": 0}
        assert states("Dora")[ALPHA] == "with_staff"

    def test_a_task_that_was_handed_out_while_tradingview_was_read_is_left_for_the_next_run(self, asked, alice, plan):
        class Slow(Wrapper):
            def list_holders(self, script_id):
                listed = self.inner.list_holders(script_id)
                if script_id == ALPHA:
                    with transaction():
                        worklist.retry(next(grant.id for grant in grants("Dora") if grant.script_id == ALPHA), "user:1")
                return listed

        assert reconciled(Slow()).counts["proven"] == {"present": 0, "absent": 0}
        assert states("Dora")[ALPHA] == "pending"

    @pytest.mark.parametrize("way", [None, NoLists])
    def test_what_was_to_be_removed_and_is_gone_is_absent(self, ended, way):
        report = reconciled(way and way())

        assert report.counts["proven"] == {"present": 0, "absent": 1}
        assert states("Anna") == dict.fromkeys(states("Anna"), "with_staff") | {ALPHA: "absent"}

    def test_a_list_alone_shows_nobody_to_be_absent(self, ended):
        class Cut(Wrapper):
            def list_holders(self, script_id):
                return [held for held in self.inner.list_holders(script_id) if held.name != "Anna"]

        assert reconciled(Cut()).counts["proven"] == {"present": 0, "absent": 1}
        assert set(states("Anna").values()) == {"with_staff", "absent"}

    def test_silence_of_the_name_shows_nobody_to_be_absent(self, ended):
        class Silent(Wrapper):
            def has_access(self, name, script_ids):
                raise TryLater("500")

        report = reconciled(Silent(), sleep=lambda seconds: None)

        assert (report.state, report.counts["proven"]) == ("complete", {"present": 0, "absent": 0})
        assert set(states("Anna").values()) == {"with_staff"}

    def test_a_name_that_tradingview_does_not_know_any_more_is_not_shown_to_have_nothing(self, ended):
        class Renamed(NoLists):
            def has_access(self, name, script_ids):
                if name == "Anna":
                    raise NeedsCustomer("unknown")
                return self.inner.has_access(name, script_ids)

            def find_name(self, name):
                return None if name == "Anna" else self.inner.find_name(name)

        assert reconciled(Renamed()).counts["proven"] == {"present": 0, "absent": 0}
        assert set(states("Anna").values()) == {"with_staff"}


class TestStranger:
    @pytest.fixture
    def stranger(self, store):
        give(store, "Nobody", ALPHA)
        return store

    def test_it_is_reported_and_never_removed_by_itself(self, stranger, clock):
        for _ in range(4):
            assert found(reconciled()) == {"stranger": [f"ask Nobody {ALPHA}"]}
            work("provisioning")
            clock.shift(HALF_A_DAY)

        assert ("Nobody", ALPHA) in holders()

    def test_staff_hear_of_it_once(self, stranger, clock):
        reconciled()
        clock.shift(HALF_A_DAY)
        reconciled()

        [letter] = letters("admin_reconciliation")
        assert letter.to_address == "sam@staff.example"
        assert "Nobody" in letter.text

    def test_who_approves_has_it_removed(self, stranger):
        report = reconciled()

        with transaction():
            done = acting.approve(report.run_id, actor="user:1")

        assert (done.removed, done.refused) == (1, ())
        [row] = grants("Nobody")
        assert (row.state, row.wanted, row.granted_at) == ("revoking", False, None)
        work("provisioning")
        assert ("Nobody", ALPHA) not in holders()
        assert findings.report(report.run_id).waiting == []

    def test_approving_twice_removes_once(self, stranger):
        report = reconciled()
        with transaction():
            acting.approve(report.run_id, actor="user:1")

        with transaction():
            done = acting.approve(report.run_id, actor="user:1")

        assert (done.removed, done.refused) == (0, ())
        assert [row.cycle for row in grants("Nobody")] == [1]

    def test_one_that_comes_back_waits_for_a_person_again(self, stranger, clock):
        with transaction():
            acting.approve(reconciled().run_id, actor="user:1")
        work("provisioning")
        give(stranger, "Nobody", ALPHA)

        for _ in range(3):
            clock.shift(HALF_A_DAY)
            assert found(reconciled()) == {"stranger": [f"ask Nobody {ALPHA}"]}

    def test_who_became_a_customer_meanwhile_is_not_removed(self, stranger, plan):
        report = reconciled()
        entitled(named(person("nobody@customers.example"), "Nobody"), plan, "purchase:9")

        with transaction():
            done = acting.approve(report.run_id, actor="user:1")

        assert done.refused == (f"Nobody on {ALPHA} stays: the name is entitled to it now.",)
        work("provisioning")
        assert set(states("Nobody").values()) == {"verified"}

    def test_who_became_a_friend_meanwhile_is_not_removed(self, stranger):
        report = reconciled()

        with transaction():
            findings.allow("nobody", reason="helped us", actor="user:1")
            done = acting.approve(report.run_id, actor="user:1")

        assert done.refused == (f"Nobody on {ALPHA} stays: the name is on the list of friends.",)

    def test_what_the_latest_reading_does_not_show_any_more_is_not_removed(self, stranger, clock):
        report = reconciled()
        take(stranger, "Nobody", ALPHA)
        clock.shift(timedelta(hours=1))
        reconciled()

        with transaction():
            done = acting.approve(report.run_id, actor="user:1")

        assert done.refused == (f"Nobody on {ALPHA} stays: the latest reading does not show it any more.",)

    def test_one_finding_can_be_approved_alone(self, stranger):
        give(stranger, "Nobody", RIDER)
        report = reconciled()
        [line] = [line for line in report.lines if line.script_id == RIDER]

        with transaction():
            acting.approve(report.run_id, actor="user:1", finding_ids=[line.id])

        assert [row.script_id for row in grants("Nobody")] == [RIDER]

    def test_a_finding_of_another_run_is_refused(self, stranger):
        report = reconciled()

        with pytest.raises(NotThere):
            acting.approve(report.run_id, actor="user:1", finding_ids=[report.lines[0].id + 1000])

    def test_nothing_of_a_refused_run_can_be_approved(self, store):
        misbehave(store, Fault.READS_FAIL)
        report = reconciled(sleep=lambda seconds: None)

        with pytest.raises(FixInput):
            acting.approve(report.run_id, actor="user:1")

    def test_a_name_that_is_about_to_be_granted_is_no_stranger(self, store, plan, clock):
        """Its person is entitled, and the sweep has not made the row yet."""
        newcomer = named(person("new@customers.example"), "Newcomer")
        begun = time_source.now() - timedelta(minutes=1)
        database.session.add(Entitlement(user_id=newcomer.id, plan_id=plan.id, source="gift:9", starts_at=begun))
        database.session.commit()
        give(store, "Newcomer", ALPHA)

        assert reconciled().lines == ()
        with transaction():
            services.keep_in_step(newcomer.id)


class TestFriends:
    def test_a_friend_is_reported_and_never_touched(self, store, clock):
        with transaction():
            findings.allow(" Friend ", reason="tests for us", actor="user:1")
        give(store, "Friend", ALPHA)

        for _ in range(3):
            assert found(reconciled()) == {"allowed": [f"leave Friend {ALPHA}"]}
            work("provisioning")
            clock.shift(HALF_A_DAY)

        assert ("Friend", ALPHA) in holders()
        assert letters("admin_reconciliation") == []

    def test_not_even_what_sts_once_granted(self, left, clock):
        with transaction():
            findings.allow("ANNA", reason="was a customer", actor="user:1")

        for _ in range(3):
            assert found(reconciled()) == {"allowed": [f"leave Anna {ALPHA}"]}
            clock.shift(HALF_A_DAY)

    def test_a_friend_made_between_comparing_and_acting_is_left_alone(self, left, clock, monkeypatch):
        reconciled()
        clock.shift(HALF_A_DAY)
        act = reconcile._act

        def befriended_first(*arguments, **options):
            with transaction():
                findings.allow("Anna", reason="was a customer", actor="user:1")
            return act(*arguments, **options)

        monkeypatch.setattr(reconcile, "_act", befriended_first)

        assert found(reconciled()) == {"extra": [f"moved Anna {ALPHA}"]}

    def test_a_friend_who_bought_is_healed_like_anybody(self, store):
        with transaction():
            findings.allow("Anna", reason="was a customer", actor="user:1")
        take(store, "Anna", ALPHA)

        assert found(reconciled()) == {"missing": [f"heal Anna {ALPHA}"]}

    def test_who_is_no_friend_any_more_is_an_extra_from_then_on(self, left, clock):
        with transaction():
            findings.allow("Anna", reason="was a customer", actor="user:1")
        reconciled()
        clock.shift(HALF_A_DAY)
        with transaction():
            findings.disallow("anna", actor="user:1")

        assert found(reconciled()) == {"extra": [f"again Anna {ALPHA}"]}

    @pytest.mark.parametrize("pasted", ["@Friend", "https://www.tradingview.com/u/Friend/"])
    def test_a_friend_may_be_pasted_as_tradingview_shows_them(self, store, pasted):
        with transaction():
            findings.allow(pasted, reason="tests for us", actor="user:1")
        give(store, "Friend", ALPHA)

        assert found(reconciled()) == {"allowed": [f"leave Friend {ALPHA}"]}

    def test_a_friend_needs_a_reason_and_a_name(self, db):
        for name, reason in (("Friend", " "), (" ", "why"), ("two names", "why")):
            with pytest.raises(FixInput):
                findings.allow(name, reason=reason, actor="user:1")
        with pytest.raises(NotThere):
            findings.disallow("Friend", actor="user:1")
        assert count(AllowedHolder) == 0


class TestSpelling:
    def test_tradingviews_spelling_is_taken_on_the_name_and_its_pairs(self, store, bob):
        class Shouting(Wrapper):
            def list_holders(self, script_id):
                listed = self.inner.list_holders(script_id)
                return [Holder("BOBBY") if holder.name == "Bobby" else holder for holder in listed]

        report = reconciled(Shouting())

        assert report.counts["acts"] == {"respell": 6}
        assert {grant.name_spelling for grant in grants("bobby")} == {"BOBBY"}
        assert queries.current_name(bob.id).spelling == "BOBBY"
        assert {grant.state for grant in grants("bobby")} == {"verified"}


class TestInMotion:
    @pytest.mark.parametrize("deed", ["bought", "refunded", "leased"])
    def test_a_pair_that_is_being_worked_on_is_passed_over(self, store, alice, plan, deed):
        if deed == "bought":
            entitled(named(person("new@customers.example"), "Newcomer"), plan, "purchase:9")
            give(store, "Newcomer", ALPHA)
        elif deed == "refunded":
            services.end_entitlement("purchase:1", because="refund", actor="test")
        else:
            for grant in grants("Anna"):
                grant.lease_token, grant.leased_until = "x", time_source.now() + timedelta(minutes=3)
            take(store, "Anna", ALPHA)
        database.session.commit()

        report = reconciled()

        assert report.lines == ()
        for grant in grants("Anna"):
            grant.lease_token = grant.leased_until = None
        database.session.commit()

    def test_what_was_read_back_after_the_reading_began_is_passed_over(self, store, alice, plan, clock):
        """A list read before a grant does not hold what was granted afterwards."""
        before = tradingview().list_holders(ALPHA)
        entitled(named(person("new@customers.example"), "Newcomer"), plan, "purchase:9")
        work("provisioning")

        class Late(Wrapper):
            def list_holders(self, script_id):
                return before if script_id == ALPHA else self.inner.list_holders(script_id)

        assert reconciled(Late()).lines == ()

    def test_so_is_what_another_clock_says_was_a_moment_before(self, store, alice, plan, clock):
        before = tradingview().list_holders(ALPHA)
        entitled(named(person("new@customers.example"), "Newcomer"), plan, "purchase:9")
        work("provisioning")
        clock.shift(timedelta(seconds=30))

        class Late(Wrapper):
            def list_holders(self, script_id):
                return before if script_id == ALPHA else self.inner.list_holders(script_id)

        assert reconciled(Late()).lines == ()


class TestBetweenComparingAndActing:
    @pytest.fixture
    def first(self, monkeypatch):
        """Do something just before a run acts on what it compared."""
        act = reconcile._act

        def first(deed):
            def acting_later(*arguments, **options):
                with transaction():
                    deed()
                return act(*arguments, **options)

            monkeypatch.setattr(reconcile, "_act", acting_later)

        return first

    @pytest.mark.parametrize(
        "changes", [{"next_attempt_at": 0}, {"lease_token": "x", "leased_until": 1}, {"verified_at": 0}]
    )
    def test_a_pair_that_somebody_looks_at_again_is_left_alone(self, store, first, changes):
        [pair] = [grant for grant in grants("Anna") if grant.script_id == ALPHA]
        now = time_source.now()
        given = {name: now if isinstance(value, int) else value for name, value in changes.items()}

        def change(values):
            for name, value in values.items():
                setattr(pair, name, value)

        take(store, "Anna", ALPHA)
        first(lambda: change(given))

        assert found(reconciled()) == {"missing": [f"moved Anna {ALPHA}"]}
        assert (pair.state, pair.cycle) == ("verified", 1)
        change(dict.fromkeys(("next_attempt_at", "lease_token", "leased_until")))
        database.session.commit()

    def test_an_entitlement_that_begins_keeps_what_was_to_be_removed(self, left, first, alice, plan, clock):
        """It has begun, and the sweep has not come by."""
        reconciled()
        clock.shift(HALF_A_DAY)
        begun = time_source.now()
        gift = Entitlement(user_id=alice.id, plan_id=plan.id, source="gift:9", starts_at=begun, announced_at=begun)
        first(lambda: database.session.add(gift))

        assert found(reconciled()) == {"extra": [f"moved Anna {ALPHA}"]}
        assert states("Anna")[ALPHA] == "absent"
        with transaction():
            services.keep_in_step(alice.id)


class TestDryRun:
    def test_it_reports_and_changes_nothing_else(self, left):
        take(left, "Bobby", RIDER)
        give(left, "Nobody", ALPHA)
        before = [(grant.cycle, grant.state, grant.next_attempt_at) for grant in grants()]
        told = kinds()

        report = reconciled(dry_run=True)

        assert found(report) == {
            "extra": [f"again Anna {ALPHA}"],
            "missing": [f"heal Bobby {RIDER}"],
            "stranger": [f"ask Nobody {ALPHA}"],
        }
        assert {line.kind for line in report.waiting} == {"missing", "stranger"}
        assert {line.decided_at for line in report.lines} == {None}
        assert [(grant.cycle, grant.state, grant.next_attempt_at) for grant in grants()] == before
        assert kinds() == told
        assert len(holders()) == 19


class TestRefused:
    def test_a_list_that_cannot_be_read_refuses_the_run_and_staff_hear_of_it(self, store):
        class OnePageFails(Wrapper):
            def list_holders(self, script_id):
                if script_id == RIDER:
                    raise TryLater("the third page: 502")
                return self.inner.list_holders(script_id)

        take(store, "Anna", ALPHA)

        report = reconciled(OnePageFails(), sleep=lambda seconds: None)

        assert (report.state, report.because, report.lines) == ("refused", "the third page: 502", ())
        assert states("Anna")[ALPHA] == "verified"
        assert "the third page: 502" in letters("admin_reconciliation")[0].text

    def test_one_bad_moment_is_waited_out(self, store):
        naps = []

        class Moody(Wrapper):
            failed = False

            def list_holders(self, script_id):
                if not self.failed:
                    self.failed = True
                    raise TryLater("a bad moment", after=timedelta(seconds=7))
                return self.inner.list_holders(script_id)

        assert reconciled(Moody(), sleep=naps.append).state == "complete"
        assert naps == [7]

    def test_a_script_that_tradingview_forgot_and_nobody_should_hold_is_left_out(self, store, plan):
        database.session.add(FormerScript(strategy_id=grants()[0].strategy_id, script_id="PUB;old"))
        database.session.commit()

        class Forgot(Wrapper):
            def list_holders(self, script_id):
                if script_id == "PUB;old":
                    raise TryLater("no such script")
                return self.inner.list_holders(script_id)

        report = reconciled(Forgot(), sleep=lambda seconds: None)

        assert report.state == "complete"
        assert report.counts["reading"]["unread"] == ["PUB;old"]

    def test_a_refused_session_opens_an_incident_and_refuses_the_run(self, store):
        misbehave(store, Fault.DEAD_SESSION)

        report = reconciled()

        assert report.state == "refused"
        assert count(ProvisioningIncident) == 1

    def test_a_failure_behind_which_a_dead_session_hides_opens_one_too(self, store):
        class Dying(Wrapper):
            def list_holders(self, script_id):
                raise TryLater("500", doubts_session=True)

            def check_session(self):
                raise NeedsStaff("403")

        assert reconciled(Dying(), sleep=lambda seconds: None).state == "refused"
        assert count(ProvisioningIncident) == 1

    def test_it_waits_for_its_turn_at_the_pace_and_gives_up_when_its_time_is_over(self, store, clock, monkeypatch):
        naps = []
        monkeypatch.setattr(pace, "allow", lambda kind, *, urgent: timedelta(minutes=5))

        def sleep(seconds):
            naps.append(seconds)
            clock.shift(timedelta(seconds=seconds))

        report = reconciled(sleep=sleep)

        assert (report.state, sum(naps)) == ("refused", 720)
        assert "not enough time" in report.because
        assert calls(store).get("list_holders", 0) == 0

    def test_it_leaves_their_share_of_the_pace_to_buyers(self, app, store, clock, monkeypatch):
        pace_of_a_store = {"tv_reads_per_minute": 60.0, "tv_read_burst": 10.0}
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=pace_of_a_store))
        left = []

        class Counting(Wrapper):
            def list_holders(self, script_id):
                listed = self.inner.list_holders(script_id)
                left.append(pace.figures()["read"]["tokens"])
                return listed

        report = reconciled(Counting(), sleep=lambda seconds: clock.shift(timedelta(seconds=seconds)))

        assert report.state == "complete"
        assert len(left) == 6
        assert min(left) == 5

    def test_it_stops_when_staff_forbid_calls_meanwhile(self, store):
        class Interrupted(Wrapper):
            def list_holders(self, script_id):
                with transaction():
                    control.set_switch(Switch.DISABLED, actor="user:1", because="a test")
                return self.inner.list_holders(script_id)

        assert reconciled(Interrupted()).because == "TradingView may not be asked at the moment."
        assert calls(store)["list_holders"] == 1

    def test_it_does_not_begin_while_calls_are_forbidden(self, store):
        with transaction():
            control.set_switch(Switch.DISABLED, actor="user:1", because="a test")

        with pytest.raises(NotNow):
            reconciled()
        assert count(ReconciliationRun) == 0

    def test_it_does_not_begin_where_people_do_the_work(self, store):
        with pytest.raises(NotNow):
            reconcile.run(None, source="daily", actor="system", dry_run=False)

    def test_it_reads_on_while_writes_are_done_by_hand_and_gives_the_work_to_people(self, store):
        with transaction():
            control.set_switch(Switch.MANUAL, actor="user:1", because="a test")
        take(store, "Anna", ALPHA)

        reconciled()
        work("provisioning")

        assert states("Anna")[ALPHA] == "with_staff"


class TestOneAtATime:
    def test_the_second_of_two_at_once_is_refused(self, store):
        class Meanwhile(Wrapper):
            def list_holders(self, script_id):
                with pytest.raises(AlreadyDone):
                    reconciled()
                return self.inner.list_holders(script_id)

        assert reconciled(Meanwhile()).state == "complete"
        assert count(ReconciliationRun) == 1

    def test_one_whose_process_died_is_closed_by_the_next(self, store, clock):
        with transaction():
            dead = reconcile._open("daily", "system", dry_run=False, not_since=None)
        clock.shift(timedelta(minutes=16))

        assert reconciled().state == "complete"
        assert (findings.report(dead).state, findings.report(dead).because) == ("refused", "its process died")

    def test_one_that_was_closed_over_its_head_changes_nothing(self, store, clock):
        take(store, "Anna", ALPHA)

        class Overtaken(Wrapper):
            def has_access(self, name, script_ids):
                clock.shift(timedelta(minutes=16))
                with transaction():
                    reconcile._open("demand", "user:1", dry_run=True, not_since=None)
                return self.inner.has_access(name, script_ids)

        report = reconciled(Overtaken())

        assert (report.state, report.because) == ("refused", "its process died")
        assert states("Anna")[ALPHA] == "verified"

    def test_one_a_day_is_enough_for_two_schedulers(self, store, clock):
        slot = time_source.now() - timedelta(minutes=1)
        reconciled(not_since=slot)

        with pytest.raises(AlreadyDone):
            reconciled(not_since=slot)
        clock.shift(timedelta(days=1))
        assert reconciled(not_since=slot + timedelta(days=1)).state == "complete"


class TestTheJob:
    def test_it_runs_once_for_each_day_whichever_scheduler_asks(self, store, clock):
        clock.move_to(time_source.now().replace(day=22, hour=4, minute=30))
        for _ in range(2):
            job.reconcile()
        clock.shift(timedelta(days=1))
        job.reconcile()

        assert [run.source for run in database.session.scalars(sa.select(ReconciliationRun))] == ["daily"] * 2

    def test_what_cannot_begin_is_no_failure_of_the_job(self, store):
        with transaction():
            control.set_switch(Switch.DISABLED, actor="user:1", because="a test")

        job.reconcile()

        assert count(ReconciliationRun) == 0

    def test_where_people_do_the_work_it_has_nothing_to_do(self, app, db, monkeypatch):
        settings = app.config["STS"].model_copy(update={"provisioning_mode": "manual"})
        monkeypatch.setitem(app.config, "STS", settings)

        job.reconcile()

        assert count(ReconciliationRun) == 0


class TestWithoutLists:
    def test_names_are_asked_for_one_by_one(self, left):
        take(left, "Bobby", RIDER)

        report = reconciled(NoLists())

        assert found(report) == {"extra": [f"again Anna {ALPHA}"], "missing": [f"heal Bobby {RIDER}"]}
        assert report.counts["reading"]["by"] == "names"
        assert calls(left)["has_access"] >= 4

    def test_it_knows_no_strangers(self, store):
        give(store, "Nobody", ALPHA)

        assert reconciled(NoLists()).lines == ()

    def test_each_run_goes_on_where_the_last_one_ended(self, store, monkeypatch):
        monkeypatch.setattr(reconcile, "NAMES_PER_RUN", 3)
        asked = []

        class Noting(NoLists):
            def has_access(self, name, script_ids):
                asked.append(name)
                return self.inner.has_access(name, script_ids)

        for _ in range(4):
            reconciled(Noting())

        everybody = ["Anna", "Bobby", "Customer3", "Customer4"]
        assert asked == everybody * 3

    def test_a_dry_run_does_not_move_the_round(self, store, monkeypatch):
        monkeypatch.setattr(reconcile, "NAMES_PER_RUN", 2)

        first = reconciled(NoLists(), dry_run=True)
        second = reconciled(NoLists())

        assert first.counts["reading"]["upto"] == second.counts["reading"]["upto"] == "bobby"

    def test_an_extra_is_removed_after_two_rounds_that_agree(self, left, clock, monkeypatch):
        monkeypatch.setattr(reconcile, "NAMES_PER_RUN", 2)
        told = []
        for _ in range(3):
            told.append(found(reconciled(NoLists())))
            clock.shift(HALF_A_DAY)

        assert told == [{"extra": [f"again Anna {ALPHA}"]}, {}, {"extra": [f"remove Anna {ALPHA}"]}]

    def test_silence_about_a_script_is_no_finding(self, store):
        class Silent(NoLists):
            def has_access(self, name, script_ids):
                return [
                    fact.__class__(fact.script_id, has_access=False, is_told=False)
                    for fact in self.inner.has_access(name, script_ids)
                ]

        assert reconciled(Silent()).lines == ()

    def test_a_service_that_knows_nobody_any_more_changes_nothing(self, store):
        misbehave(store, Fault.UNKNOWN)

        assert reconciled(NoLists()).state == "refused"
        assert {grant.state for grant in grants()} == {"verified"}

    def test_a_name_that_tradingview_does_not_know_any_more_holds_nothing(self, store):
        class Renamed(NoLists):
            def has_access(self, name, script_ids):
                if name == "Anna":
                    raise NeedsCustomer("unknown")
                return self.inner.has_access(name, script_ids)

            def find_name(self, name):
                return None if name == "Anna" else self.inner.find_name(name)

        assert reconciled(Renamed()).counts["acts"] == {"heal": 6}
        assert set(states("Anna").values()) == {"pending"}

    def test_a_name_that_is_unknown_for_a_moment_holds_what_it_held(self, store):
        class Flickering(NoLists):
            asked = 0

            def has_access(self, name, script_ids):
                self.asked += name == "Anna"
                if name == "Anna" and self.asked == 1:
                    raise NeedsCustomer("unknown")
                return self.inner.has_access(name, script_ids)

            def find_name(self, name):
                return None if self.asked == 1 else self.inner.find_name(name)

        assert reconciled(Flickering()).lines == ()

    def test_one_that_is_unknown_in_one_answer_and_known_in_another_is_left_for_the_next_round(self, store):
        class Contradicting(NoLists):
            def has_access(self, name, script_ids):
                if name == "Anna":
                    raise NeedsCustomer("unknown")
                return self.inner.has_access(name, script_ids)

        assert reconciled(Contradicting()).lines == ()

    def test_a_service_that_forgets_everybody_on_the_way_changes_nothing(self, store):
        class Forgetting(NoLists):
            def has_access(self, name, script_ids):
                if name == "Customer4":
                    misbehave(store, Fault.UNKNOWN)
                return self.inner.has_access(name, script_ids)

        report = reconciled(Forgetting())

        assert (report.state, report.because) == ("refused", "TradingView seems to know nobody any more.")

    def test_a_name_without_an_answer_is_left_for_the_next_round(self, store):
        take(store, "Anna", ALPHA)
        take(store, "Bobby", ALPHA)

        class Moody(NoLists):
            def has_access(self, name, script_ids):
                if name == "Anna":
                    raise TryLater("500")
                return self.inner.has_access(name, script_ids)

        assert found(reconciled(Moody(), sleep=lambda seconds: None)) == {"missing": [f"heal Bobby {ALPHA}"]}

    def test_a_run_whose_time_is_over_acts_on_what_it_read(self, store, clock):
        take(store, "Anna", ALPHA)

        class Slow(NoLists):
            def has_access(self, name, script_ids):
                clock.shift(timedelta(minutes=5))
                return self.inner.has_access(name, script_ids)

        report = reconciled(Slow())

        assert found(report) == {"missing": [f"heal Anna {ALPHA}"]}
        assert report.counts["reading"]["upto"] == "customer3"

    def test_a_run_whose_time_is_over_leaves_unknown_names_for_the_next_round(self, store, clock):
        take(store, "Bobby", ALPHA)

        class Slow(NoLists):
            def has_access(self, name, script_ids):
                clock.shift(timedelta(minutes=5))
                if name == "Anna":
                    raise NeedsCustomer("unknown")
                return self.inner.has_access(name, script_ids)

            def find_name(self, name):
                return None if name == "Anna" else self.inner.find_name(name)

        report = reconciled(Slow())

        assert found(report) == {"missing": [f"heal Bobby {ALPHA}"]}
        assert findings.last_round() == "customer3"
        assert set(states("Anna").values()) == {"verified"}

    def test_an_unknown_name_that_has_no_second_answer_is_left_for_the_next_round(self, store):
        take(store, "Bobby", ALPHA)

        class Moody(NoLists):
            asked = 0

            def has_access(self, name, script_ids):
                self.asked += name == "Anna"
                if name == "Anna":
                    raise NeedsCustomer("unknown") if self.asked == 1 else TryLater("500")
                return self.inner.has_access(name, script_ids)

            def find_name(self, name):
                return None if name == "Anna" else self.inner.find_name(name)

        assert found(reconciled(Moody(), sleep=lambda seconds: None)) == {"missing": [f"heal Bobby {ALPHA}"]}


class TestRows:
    def test_runs_are_forgotten_after_180_days_with_what_they_found(self, store, clock):
        give(store, "Nobody", ALPHA)
        old = reconciled().run_id
        clock.shift(timedelta(days=180, minutes=1))
        new = reconciled().run_id

        findings.tidy()

        assert findings.report(new).lines != ()
        with pytest.raises(NotThere):
            findings.report(old)

    def test_a_name_that_fails_keeps_no_other_from_its_turn(self, store, monkeypatch):
        take(store, "Anna", ALPHA)
        take(store, "Bobby", ALPHA)
        change = acting.change

        def broken(run_id, todo, held, *, by):
            if todo[0].pair.name_key == "anna":
                database.session.execute(sa.text("SELECT 1 / 0"))
            change(run_id, todo, held, by=by)

        monkeypatch.setattr(acting, "change", broken)
        report = reconciled()

        assert {line.name: line.decided_at is not None for line in report.lines} == {"Anna": False, "Bobby": True}
