"""Manual work: the list, what becomes of a person's word, and moving the switch while people work."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.core.queue import WakeUp, staged_wake_ups
from sts_app.provisioning import control, queries, services, simulated, worklist
from sts_app.provisioning.models import ManualTask, ProvisioningJob, TradingViewName
from sts_app.provisioning.rules import Switch, TaskKind
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests import builders
from tests.builders import entitled, grants, holders, in_a_transaction, kinds, letters, look_over, named, work
from tests.faults.shop import STAFF, Shop

SAM = "user:1"


def open_tasks() -> list[worklist.TaskRow]:
    database.session.expire_all()
    return worklist.open_tasks(100)


def switch(to: Switch) -> None:
    in_a_transaction(lambda: control.set_switch(to, actor=SAM, because="a test"))


def done(task: worklist.TaskRow, **more) -> bool:
    return in_a_transaction(lambda: worklist.done(task.task_id, SAM, **more))


def act(vendor, task: worklist.TaskRow) -> None:
    """Do at TradingView what a task asks for."""
    (simulated.give if task.act == "give" else simulated.take)(vendor, task.name, task.script_id)


def refund(source="purchase:1") -> None:
    in_a_transaction(lambda: services.end_entitlement(source, because="refund", actor="system"))


def states(name=None) -> set[str]:
    return {grant.state for grant in grants(name)}


def evidence() -> set[str | None]:
    return {grant.evidence for grant in grants()}


def shown(user) -> set[str]:
    return {row.state for row in queries.access_of(user.id, time_source.now())}


def tasks_of(grant_id: int) -> list[ManualTask]:
    statement = sa.select(ManualTask).where(ManualTask.grant_id == grant_id).order_by(ManualTask.id)
    return list(database.session.scalars(statement.execution_options(populate_existing=True)))


def audited(action: str) -> list[AuditLog]:
    return list(database.session.scalars(sa.select(AuditLog).where(AuditLog.action == action)))


@pytest.fixture
def bought(alice, plan, vendor):
    """Alice with six pairs that are due."""
    entitled(alice, plan, "purchase:1")
    database.session.commit()
    return alice


@pytest.fixture
def no_adapter(db, monkeypatch):
    builders.by_hand(monkeypatch)


@pytest.fixture
def at_work(bought, no_adapter):
    """Alice's six pairs as tasks of a store that has no way to TradingView."""
    work("provisioning")
    return bought


@pytest.fixture
def switched(bought):
    """Alice's six pairs as tasks of a store that staff switched to MANUAL: TradingView can be read."""
    switch(Switch.MANUAL)
    work("provisioning")
    return bought


@pytest.fixture
def exhausted(bought, vendor, clock):
    """Alice's six pairs after TradingView refused them until the tries ran out."""
    misbehave(vendor, Fault.REFUSE, times=20)
    for _ in range(6):
        work("provisioning")
        clock.shift(timedelta(hours=1))
    behave(vendor)
    assert states() == {"with_staff"}
    return bought


class TestTheList:
    def test_a_row_holds_what_a_person_needs(self, at_work, clock):
        clock.shift(timedelta(minutes=3))
        row = open_tasks()[0]

        assert (row.act, row.name, row.script_id) == ("give", "Anna", "PUB;nq_breakout_pro_003")
        assert (row.strategy, row.email) == ("NQ Breakout Pro", "alice@customers.example")
        assert row.paid_at == row.since == builders.NOON
        assert (row.kind, row.why, row.last_try) == (TaskKind.BY_HAND, "The store works by hand.", None)

    def test_a_removal_says_so(self, at_work):
        refund()
        work("provisioning")

        assert {row.act for row in open_tasks()} == {"remove"}

    def test_what_ran_out_of_tries_says_why_and_what_the_last_try_showed(self, exhausted):
        row = open_tasks()[0]

        assert row.kind == TaskKind.EXHAUSTED
        assert row.why.startswith("The tries ran out: ")
        assert row.last_try == "TradingView did not take it"

    def test_who_paid_first_is_first_page_by_page(self, at_work, bob, plan, clock):
        clock.shift(timedelta(minutes=-5))
        entitled(named(bob, "Bobby"), plan, "purchase:2")
        clock.shift(timedelta(minutes=5))
        work("provisioning")

        pages = [worklist.open_tasks(5)]
        while pages[-1]:
            pages.append(worklist.open_tasks(5, pages[-1][-1].task_id))

        rows = [row for page in pages for row in page]
        assert [len(page) for page in pages] == [5, 5, 2, 0]
        assert [row.name for row in rows] == ["Bobby"] * 6 + ["Anna"] * 6
        assert len({row.task_id for row in rows}) == 12

    def test_a_page_goes_on_after_a_task_that_is_closed_by_now(self, at_work):
        first, *others = open_tasks()
        done(first)

        assert worklist.open_tasks(10, first.task_id) == others

    def test_to_go_on_after_what_never_was_is_refused(self, at_work):
        with pytest.raises(NotThere, match="no task 999"):
            worklist.open_tasks(10, 999)

    def test_the_counts(self, at_work, clock):
        done(open_tasks()[0])

        counts = worklist.counts()

        assert (counts.open, counts.to_give, counts.to_remove) == (5, 5, 0)
        assert (counts.by_kind, counts.waiting_since) == ({TaskKind.BY_HAND: 5}, builders.NOON)

    def test_nothing_to_do_counts_nothing(self, db):
        assert worklist.counts() == worklist.Counts(0, 0, {}, None)


class TestDoneWhereNothingCanBeRead:
    def test_a_purchase_ends_as_active_confirmed_by_staff_with_one_letter(self, at_work):
        for task in open_tasks():
            assert done(task) is False

        assert (states(), evidence(), shown(at_work)) == ({"verified"}, {"confirmed by staff"}, {"Active"})
        assert open_tasks() == []
        assert kinds() == ["admin_manual_task", "access_granted"]
        assert "a person of ours has confirmed it" in letters("access_granted")[0].text
        assert "read it back from TradingView" not in letters("access_granted")[0].text

    def test_a_refund_becomes_a_removal_and_ends_as_revoked(self, at_work):
        for task in open_tasks():
            done(task)
        refund()
        work("provisioning")
        assert shown(at_work) == {"Revoking"}

        for task in open_tasks():
            done(task)

        assert (states(), evidence(), shown(at_work)) == ({"absent"}, {"confirmed by staff"}, {"Revoked"})
        jobs = database.session.scalars(sa.select(ProvisioningJob)).all()
        assert {job.state for job in jobs} == {"reached"}

    def test_the_task_keeps_who_when_and_the_note(self, at_work, clock):
        clock.shift(timedelta(minutes=7))
        row = open_tasks()[0]

        done(row, note="asked for by phone")

        [task] = tasks_of(row.grant_id)
        assert (task.outcome, task.closed_by, task.closed_at) == ("done", SAM, time_source.now())
        assert (task.closed_because, task.note) == ("confirmed by staff", "asked for by phone")
        [line] = audited("provisioning.task_done")
        assert (line.actor, line.subject) == (SAM, f"grant:{row.grant_id}")
        assert "phone" not in str(line.details)

    def test_six_done_one_after_the_other_are_one_letter_however_late(self, at_work, clock):
        clock.shift(timedelta(hours=3))

        for task in open_tasks():
            done(task)

        assert kinds() == ["admin_manual_task", "access_granted"]

    def test_what_stays_half_done_is_told_of_by_the_sweep(self, at_work, clock):
        clock.shift(timedelta(hours=3))
        for task in open_tasks()[:2]:
            done(task)
        look_over()

        assert kinds() == ["admin_manual_task", "access_partly_granted"]

    def test_a_changed_name_moves_by_hand_and_frees_the_old_one(self, at_work):
        for task in open_tasks():
            done(task)
        named(at_work, "Second")
        work("provisioning")
        assert {row.name for row in open_tasks()} == {"Second"}

        for task in open_tasks():
            done(task)
        work("provisioning")
        assert {(row.act, row.name) for row in open_tasks()} == {("remove", "Anna")}
        for task in open_tasks():
            done(task)

        assert (states("second"), states("anna")) == ({"verified"}, {"absent"})
        old = database.session.scalars(sa.select(TradingViewName).where(TradingViewName.name_key == "anna")).one()
        assert old.released_at == time_source.now()
        assert kinds().count("access_granted") == 1

    def test_an_open_circuit_is_no_reading_either(self, switched, vendor):
        in_a_transaction(lambda: [control.note_failure("no answer") for _ in range(control.FAILURES_OPEN)])

        assert done(open_tasks()[0]) is False

        assert sorted(grant.state for grant in grants()) == ["verified"] + ["with_staff"] * 5
        assert calls(vendor) == {}


class TestDoneWhereTradingViewCanBeRead:
    def test_the_word_is_read_back_and_nothing_is_written(self, switched, vendor):
        for task in open_tasks():
            act(vendor, task)
            assert done(task) is True
        assert states() == {"pending"}

        work("provisioning")

        assert (states(), evidence()) == ({"verified"}, {"read back"})
        assert calls(vendor) == {"has_access": 1}
        assert kinds() == ["admin_manual_task", "access_granted"]

    def test_a_worker_is_woken_to_read(self, switched):
        worklist.done(open_tasks()[0].task_id, SAM)

        assert WakeUp("provisioning.work", timedelta(0)) in staged_wake_ups()
        assert {grant.said_by for grant in grants()} == {None, SAM}
        database.session.commit()

    def test_what_tradingview_does_not_show_comes_back_as_disputed(self, switched, vendor):
        first = open_tasks()[0]
        done(first, note="invited")

        work("provisioning")

        again = next(row for row in open_tasks() if row.grant_id == first.grant_id)
        assert (again.kind, again.act) == (TaskKind.DISPUTED, "give")
        assert "TradingView shows something else" in again.why
        assert again.last_try == "TradingView did not take it"
        assert [task.outcome for task in tasks_of(first.grant_id)] == ["done", None]
        assert len(open_tasks()) == 6
        assert "grant" not in calls(vendor)

    def test_what_is_disputed_is_the_machines_again_when_it_may(self, switched, vendor):
        [task] = open_tasks()[:1]
        done(task)
        work("provisioning")
        assert TaskKind.DISPUTED in {row.kind for row in open_tasks()}

        switch(Switch.AUTO)
        work("provisioning")

        assert open_tasks() == []
        assert len(holders()) == 6

    def test_a_removal_that_did_not_happen_comes_back_as_disputed(self, switched, vendor):
        for task in open_tasks():
            act(vendor, task)
            done(task)
        work("provisioning")
        refund()
        work("provisioning")

        for task in open_tasks():
            done(task)
        work("provisioning")
        assert {(row.kind, row.act) for row in open_tasks()} == {(TaskKind.DISPUTED, "remove")}

        for task in open_tasks():
            act(vendor, task)
            done(task)
        work("provisioning")
        assert (states(), holders(), open_tasks()) == ({"absent"}, set(), [])
        assert "revoke" not in calls(vendor)

    def test_a_removal_from_a_name_that_is_gone_ends_with_a_persons_word(self, switched, vendor):
        for task in open_tasks():
            act(vendor, task)
            done(task)
        work("provisioning")
        refund()
        work("provisioning")
        misbehave(vendor, Fault.UNKNOWN)

        for task in open_tasks():
            done(task)
        work("provisioning")

        assert (states(), evidence(), open_tasks()) == ({"absent"}, {"the name is unknown"}, [])

    def test_a_reading_that_fails_leaves_the_word_standing(self, switched, vendor):
        for task in open_tasks():
            act(vendor, task)
            done(task)
        misbehave(vendor, Fault.READS_FAIL)

        work("provisioning")

        assert (states(), evidence()) == ({"verified"}, {"confirmed by staff"})

    def test_with_automatic_calls_the_machine_reads_and_writes_nothing_more(self, exhausted, vendor):
        before = calls(vendor)["grant"]
        for task in open_tasks():
            act(vendor, task)
            done(task)

        work("provisioning")

        assert (states(), evidence()) == ({"verified"}, {"read back"})
        assert calls(vendor)["grant"] == before

    def test_with_automatic_calls_the_machine_tries_what_is_not_there(self, exhausted, vendor):
        before = calls(vendor)["grant"]
        for task in open_tasks():
            done(task)

        work("provisioning")

        assert (states(), evidence(), open_tasks()) == ({"verified"}, {"read back"}, [])
        assert calls(vendor)["grant"] == before + 1

    def test_what_ended_before_it_was_read_back_is_removed(self, switched, vendor):
        for task in open_tasks():
            act(vendor, task)
            done(task)
        refund()

        work("provisioning")

        assert {row.act for row in open_tasks()} == {"remove"}


class TestRefusals:
    def test_a_closed_task_says_what_became_of_it(self, at_work):
        first, second, third, *_ = open_tasks()
        done(first)
        in_a_transaction(lambda: worklist.cannot(second.task_id, SAM, reason="blocked"))
        refund()

        with pytest.raises(AlreadyDone, match=r"user:1 said at 21 Nov 2026, 12:00 UTC that task \d+ was done"):
            worklist.done(first.task_id, SAM)
        with pytest.raises(AlreadyDone, match=r"user:1 said at .* that task \d+ cannot be done"):
            worklist.done(second.task_id, SAM)
        with pytest.raises(AlreadyDone, match=r"Task \d+ was closed at .*: no longer needed"):
            worklist.done(third.task_id, SAM)

    def test_a_task_that_was_taken_back_says_so(self, switched):
        row = open_tasks()[0]
        switch(Switch.AUTO)

        with pytest.raises(AlreadyDone, match="automatic calls work again"):
            worklist.done(row.task_id, SAM)

    @pytest.mark.parametrize(
        "deed",
        [
            lambda: worklist.done(999, SAM),
            lambda: worklist.cannot(999, SAM, reason="blocked"),
            lambda: worklist.note(999, SAM, text="words"),
            lambda: worklist.retry(999, SAM),
        ],
    )
    def test_what_is_not_there(self, db, deed):
        with pytest.raises(NotThere, match="There is no"):
            deed()

    def test_one_refusal_in_twenty_leaves_the_others_done(self, at_work):
        rows = open_tasks()
        done(rows[0])

        refused = 0
        for row in rows:
            try:
                done(row)
            except AlreadyDone:
                refused += 1

        assert (refused, states()) == (1, {"verified"})


class TestCannot:
    def test_the_customer_sees_failed_and_is_told_once_for_all_of_it(self, at_work):
        first, second, *others = open_tasks()

        in_a_transaction(lambda: worklist.cannot(first.task_id, SAM, reason="blocked", also=[second.task_id]))

        assert sorted(grant.state for grant in grants()) == ["failed"] * 2 + ["with_staff"] * 4
        assert shown(at_work) == {"Failed", "Pending"}
        [letter] = letters("access_cannot")
        assert letter.to_address == "alice@customers.example"
        assert first.strategy in letter.text
        assert second.strategy in letter.text
        assert others[0].strategy not in letter.text
        assert "/onboarding" in letter.text
        assert "blocked" not in letter.text

    def test_the_task_keeps_the_reason_and_the_audit_the_deed(self, at_work):
        row = open_tasks()[0]

        in_a_transaction(lambda: worklist.cannot(row.task_id, SAM, reason="blocked"))

        [task] = tasks_of(row.grant_id)
        assert (task.outcome, task.note, task.closed_by) == ("cannot", "blocked", SAM)
        assert [line.subject for line in audited("provisioning.task_given_up")] == [f"grant:{row.grant_id}"]

    def test_it_needs_a_reason(self, at_work):
        with pytest.raises(FixInput, match="needs a reason"):
            worklist.cannot(open_tasks()[0].task_id, SAM, reason=" ")

    def test_a_removal_cannot_be_given_up(self, at_work):
        refund()
        work("provisioning")
        row = open_tasks()[0]

        with pytest.raises(FixInput, match="A removal cannot be given up"):
            worklist.cannot(row.task_id, SAM, reason="blocked")

        assert row in open_tasks()

    def test_one_that_cannot_be_given_up_keeps_the_others_open(self, at_work):
        first, second, *_ = open_tasks()
        done(second)

        with pytest.raises(AlreadyDone):
            in_a_transaction(lambda: worklist.cannot(first.task_id, SAM, reason="blocked", also=[second.task_id]))

        assert first in open_tasks()
        assert letters("access_cannot") == []

    def test_what_was_given_up_is_tried_no_more_and_still_ends(self, at_work, clock):
        for task in open_tasks():
            in_a_transaction(lambda task=task: worklist.cannot(task.task_id, SAM, reason="blocked"))
        clock.shift(timedelta(days=1))
        look_over()
        work("provisioning")
        assert (states(), open_tasks()) == ({"failed"}, [])

        refund()
        work("provisioning")

        assert {row.act for row in open_tasks()} == {"remove"}

    def test_a_corrected_name_is_tried(self, at_work):
        for task in open_tasks():
            in_a_transaction(lambda task=task: worklist.cannot(task.task_id, SAM, reason="no such name"))

        named(at_work, "Second")
        work("provisioning")

        assert {(row.act, row.name) for row in open_tasks()} == {("give", "Second")} | {("remove", "Anna")}

    def test_staff_see_it_on_the_access_pages(self, at_work, client):
        row = open_tasks()[0]
        in_a_transaction(lambda: worklist.cannot(row.task_id, SAM, reason="blocked there"))
        builders.enter(client, builders.sam())

        assert "Failed" in client.get("/admin/access?state=failed").text
        page = client.get(f"/admin/access/{row.grant_id}").text
        assert "it cannot be done, by user:1" in page
        assert "blocked there" in page


class TestRetry:
    def test_what_was_given_up_is_tried_from_the_start(self, exhausted, vendor):
        row = open_tasks()[0]
        in_a_transaction(lambda: worklist.cannot(row.task_id, SAM, reason="blocked"))

        in_a_transaction(lambda: worklist.retry(row.grant_id, SAM))
        work("provisioning")

        assert sorted(grant.state for grant in grants()) == ["verified"] + ["with_staff"] * 5
        assert [line.actor for line in audited("provisioning.retried")] == [SAM]

    def test_what_a_person_has_is_taken_back(self, exhausted, vendor):
        row = open_tasks()[0]

        in_a_transaction(lambda: worklist.retry(row.grant_id, SAM))

        [task] = tasks_of(row.grant_id)
        assert (task.closed_by, task.outcome, task.closed_because) == (SAM, None, "tried again")
        grant = next(grant for grant in grants() if grant.id == row.grant_id)
        assert (grant.state, grant.spent_tries, grant.next_attempt_at) == ("pending", 0, time_source.now())

    def test_while_the_store_works_by_hand_it_comes_back_as_a_task(self, at_work):
        row = open_tasks()[0]
        in_a_transaction(lambda: worklist.cannot(row.task_id, SAM, reason="blocked"))

        in_a_transaction(lambda: worklist.retry(row.grant_id, SAM))
        work("provisioning")

        assert len(open_tasks()) == 6

    def test_what_stands_or_moves_is_refused_with_the_reason(self, bought, vendor):
        [grant, *_] = grants()
        with pytest.raises(AlreadyDone, match="tried already"):
            worklist.retry(grant.id, SAM)

        work("provisioning")
        with pytest.raises(AlreadyDone, match="stands there as it should"):
            worklist.retry(grant.id, SAM)

    def test_an_unknown_name_waits_for_the_customer(self, bought, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        work("provisioning")

        with pytest.raises(AlreadyDone, match="once the customer corrects it"):
            worklist.retry(grants()[0].id, SAM)


class TestNote:
    def test_notes_stand_one_below_the_other(self, at_work):
        row = open_tasks()[0]

        for text in ("asked TradingView", " they answered "):
            in_a_transaction(lambda text=text: worklist.note(row.task_id, SAM, text=text))

        assert open_tasks()[0].note == "asked TradingView\nthey answered"

    def test_a_note_of_the_end_is_added(self, at_work):
        row = open_tasks()[0]
        in_a_transaction(lambda: worklist.note(row.task_id, SAM, text="asked"))

        done(row, note="answered")

        assert [task.note for task in tasks_of(row.grant_id)] == ["asked\nanswered"]

    def test_an_empty_note_is_refused(self, at_work):
        with pytest.raises(FixInput):
            worklist.note(open_tasks()[0].task_id, SAM, text="\n")


class TestAStoreWithoutAnAdapter:
    @pytest.fixture(autouse=True)
    def clock(self) -> None:
        """The real one, which the processes have as well."""

    def test_sells_and_delivers(self, world):
        """The whole of manual mode with real processes: a purchase over HTTP, a person at a shell, a refund."""
        world.env["PROVISIONING_MODE"] = "manual"
        shop = Shop(world.start())
        buyer = shop.buyer()
        buyer.pay()
        world.eventually(lambda: in_words(world) == {"pending": 0, "with_staff": 6}, timeout=60)
        assert set(buyer.access().values()) == {"Pending"}

        do_all(world)

        world.eventually(lambda: shop.letters(buyer.email)["access_granted"] == 1, timeout=60)
        assert set(buyer.access().values()) == {"Active"}
        assert world.sql("SELECT DISTINCT evidence FROM grants") == [("confirmed by staff",)]

        shop.desk("/dev/stripe/").submit(f"/sessions/{buyer.session_id}/refund")
        world.eventually(lambda: in_words(world) == {"pending": 0, "with_staff": 6}, timeout=60)
        assert set(buyer.access().values()) == {"Revoking"}

        do_all(world)

        assert set(buyer.access().values()) == {"Revoked"}
        assert shop.letters(STAFF)["admin_manual_task"] == 2
        shop.assert_invariants()


def in_words(world) -> dict[str, int]:
    """How many pairs move, and how many people have."""
    moving = world.sql("SELECT count(*) FROM grants WHERE state IN ('pending', 'revoking')")[0][0]
    return {"pending": moving, "with_staff": len(listed(world))}


def listed(world) -> list[int]:
    return [row[0] for row in world.sql("SELECT id FROM manual_task WHERE closed_at IS NULL ORDER BY id")]


def do_all(world) -> None:
    world.run(f"sts tasks done {' '.join(map(str, listed(world)))} --note shell")
