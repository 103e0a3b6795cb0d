"""The commands of the switch, the worklist, and staff's own reasons: what they say, and how they end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from sts_app import cli
from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from sts_app.provisioning import control, queries
from sts_app.provisioning.models import Entitlement, ManualTask
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests import builders
from tests.builders import NOON, entitled, grants, in_a_transaction, kinds, look_over, work

ALICE = "alice@customers.example"
WHY = ("--reason", "a test")
REASON = ("--reason", "a test")


@pytest.fixture
def sts(app, db, monkeypatch):
    """Run a command of `sts` in this app."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: object) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, [str(word) for word in words])
        assert "Traceback" not in result.output, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        database.session.expire_all()
        return result

    return sts


@pytest.fixture
def bought(alice, plan, vendor):
    """Alice with six pairs that are due."""
    entitled(alice, plan, "purchase:1")
    database.session.commit()
    return alice


@pytest.fixture
def at_work(bought, monkeypatch):
    """Alice's six pairs as tasks of a store that has no way to TradingView."""
    builders.by_hand(monkeypatch)
    work("provisioning")
    return bought


@pytest.fixture
def incident(bought, vendor):
    misbehave(vendor, Fault.DEAD_SESSION)
    work("provisioning")


def switch(to: Switch) -> None:
    in_a_transaction(lambda: control.set_switch(to, actor="user:1", because="a test"))


def stands() -> Switch:
    return control.standing().switch


def task_ids() -> list[int]:
    statement = sa.select(ManualTask.id).where(ManualTask.closed_at.is_(None)).order_by(ManualTask.id)
    return list(database.session.scalars(statement))


def states() -> set[str]:
    return {grant.state for grant in grants()}


def actors(action: str) -> set[str]:
    return set(database.session.scalars(sa.select(AuditLog.actor).where(AuditLog.action == action)))


class TestStatus:
    def test_says_what_stands_in_the_way(self, sts, incident):
        result = sts("provisioning", "status")

        assert result.exit_code == 0
        for words in (
            "MANUAL since 21 Nov 2026, 12:00 UTC, by incident:",
            "simulated dead session",
            "closed, failures in a row: 0",
            "6 open: 6 to give, 0 to remove",
            "6 with_staff",
            "Credentials  none stored",
        ):
            assert words in result.output

    def test_on_a_quiet_day(self, sts, bought):
        work("provisioning")

        output = sts("provisioning", "status").output

        assert "Incident     none" in output
        assert "6 verified" in output
        assert "1 read answered" in output

    def test_an_open_circuit_says_when_the_next_call_is_made(self, sts, bought):
        in_a_transaction(lambda: [control.note_failure("no answer") for _ in range(control.FAILURES_OPEN)])

        output = sts("provisioning", "status").output

        assert "open since 21 Nov 2026, 12:00 UTC: no answer; the next call is made 21 Nov 2026, 12:10 UTC" in output

    def test_without_an_adapter_it_says_so(self, sts, at_work):
        assert "PROVISIONING_MODE is manual" in sts("provisioning", "status").output

    def test_for_machines(self, sts, incident):
        told = json.loads(sts("provisioning", "status", "--json").output)

        assert told["switch"]["is"] == "MANUAL"
        assert told["incident"]["since"] == NOON.isoformat()
        assert told["incident"]["told"] == ["sam@staff.example"]
        assert told["tasks"] == {
            "open": 6,
            "toGive": 6,
            "toRemove": 0,
            "byKind": {"by_hand": 6},
            "waitingSince": NOON.isoformat(),
        }
        assert (told["due"], told["pairs"], told["credentials"]) == (0, {"with_staff": 6}, None)
        assert {"write", "read", "lastHour"} <= told["pace"].keys()


class TestTheSwitch:
    @pytest.mark.parametrize("to", ["manual", "disabled"])
    def test_moves_and_says_from_where(self, sts, bought, to):
        result = sts("provisioning", to, *WHY)

        assert (result.exit_code, stands()) == (0, to.upper())
        assert f"The switch went from AUTO to {to.upper()}." in result.output
        assert actors("provisioning.switched") == {"cli"}

    def test_to_auto_makes_everything_due(self, sts, bought):
        switch(Switch.MANUAL)
        work("provisioning")

        assert sts("provisioning", "auto", *WHY).exit_code == 0

        work("provisioning")
        assert states() == {"verified"}

    def test_twice_is_once(self, sts, db):
        result = sts("provisioning", "auto", *WHY)

        assert (result.exit_code, result.output) == (0, "The switch stood at AUTO already.\n")

    def test_auto_is_refused_while_tradingview_refuses_the_session(self, sts, incident):
        result = sts("provisioning", "auto", *WHY)

        assert (result.exit_code, stands()) == (75, Switch.MANUAL)
        assert "Save credentials that it accepts" in result.output

    @pytest.mark.parametrize("words", [(), ("--reason", " "), ("--reason", "two\nlines"), ("--reason", "x" * 501)])
    def test_why_is_asked_for_in_words(self, sts, db, words):
        result = sts("provisioning", "disabled", *words)

        assert (result.exit_code, stands()) == (2, Switch.AUTO)
        assert "--reason" in result.output


class TestResume:
    def test_ends_the_incident_once_tradingview_accepts_the_session(self, sts, incident, vendor):
        behave(vendor)

        result = sts("provisioning", "resume")

        assert (result.exit_code, stands()) == (0, Switch.AUTO)
        assert "The incident is over." in result.output
        work("provisioning")
        assert states() == {"verified"}
        assert actors("provisioning.incident_closed") == {"cli"}

    def test_says_what_tradingview_answered(self, sts, incident):
        result = sts("provisioning", "resume")

        assert (result.exit_code, stands()) == (1, Switch.MANUAL)
        assert "TradingView refuses the session: check_session: simulated dead session" in result.output
        assert kinds().count("admin_session_refused") == 1

    def test_no_answer_changes_nothing(self, sts, incident, vendor):
        behave(vendor)
        misbehave(vendor, Fault.READS_FAIL)

        result = sts("provisioning", "resume")

        assert (result.exit_code, stands()) == (1, Switch.MANUAL)
        assert "did not answer" in result.output

    def test_closes_an_open_circuit(self, sts, bought):
        in_a_transaction(lambda: [control.note_failure("no answer") for _ in range(control.FAILURES_OPEN)])

        result = sts("provisioning", "resume")

        assert (result.exit_code, control.standing().circuit_open) == (0, False)
        assert "No incident was open." in result.output

    def test_asks_nothing_while_disabled(self, sts, bought, vendor):
        switch(Switch.DISABLED)

        result = sts("provisioning", "resume")

        assert (result.exit_code, calls(vendor)) == (1, {})
        assert "stands at DISABLED" in result.output

    def test_has_nothing_to_ask_without_an_adapter(self, sts, at_work):
        result = sts("provisioning", "resume")

        assert result.exit_code == 1
        assert "no way to TradingView" in result.output


class TestTasks:
    def test_lists_what_is_to_be_copied(self, sts, at_work):
        result = sts("tasks")

        assert result.exit_code == 0
        for words in ("Give", "Anna", "PUB;nq_power_hour_005", ALICE, "The store works by hand.", "6 open: 6 to give"):
            assert words in result.output

    def test_nothing_to_do(self, sts, db):
        assert sts("tasks").output == "0 open: 0 to give, 0 to remove.\n"

    def test_page_by_page(self, sts, at_work):
        ids = task_ids()

        output = sts("tasks", "--limit", 4).output
        assert f"`sts tasks --after {ids[3]}`" in output

        told = json.loads(sts("tasks", "--after", ids[3], "--json").output)
        assert [task["task_id"] for task in told["tasks"]] == ids[4:]
        assert told["open"] == 6

    def test_for_machines(self, sts, at_work):
        task, *_ = json.loads(sts("tasks", "--json").output)["tasks"]

        assert (task["act"], task["name"], task["kind"]) == ("give", "Anna", "by_hand")
        assert datetime.fromisoformat(task["paid_at"]) == NOON

    def test_all_done_at_once(self, sts, at_work):
        result = sts("tasks", "done", *task_ids(), "--note", "by Sam")

        assert (result.exit_code, states(), task_ids()) == (0, {"verified"}, [])
        assert result.output.count("Confirmed by staff") == 6
        assert set(database.session.scalars(sa.select(ManualTask.note))) == {"by Sam"}
        assert kinds() == ["admin_manual_task", "access_granted"]

    def test_one_that_is_closed_does_not_keep_the_others(self, sts, at_work):
        first, *others = task_ids()
        sts("tasks", "done", first)

        result = sts("tasks", "done", first, *others)

        assert (result.exit_code, states()) == (1, {"verified"})
        assert f"{first}: cli said at 21 Nov 2026, 12:00 UTC that task {first} was done." in result.output

    def test_where_tradingview_can_be_read_it_is(self, sts, bought):
        switch(Switch.MANUAL)
        work("provisioning")

        result = sts("tasks", "done", task_ids()[0])

        assert "TradingView is read back now." in result.output

    def test_given_up_in_one_act(self, sts, at_work):
        result = sts("tasks", "cannot", *task_ids(), *REASON)

        assert (result.exit_code, states()) == (0, {"failed"})
        assert kinds() == ["admin_manual_task", "access_cannot"]

    def test_tried_again(self, sts, at_work):
        sts("tasks", "cannot", *task_ids(), *REASON)

        result = sts("tasks", "retry", grants()[0].id)

        assert result.exit_code == 0
        assert sorted(grant.state for grant in grants()) == ["failed"] * 5 + ["pending"]

    def test_a_note(self, sts, at_work):
        assert sts("tasks", "note", task_ids()[0], "--text", "asked TradingView").exit_code == 0

        assert "Note: asked TradingView" in sts("tasks").output

    @pytest.mark.parametrize(
        "words",
        [
            ("tasks", "done", "999"),
            ("tasks", "cannot", "999", *REASON),
            ("tasks", "retry", "999"),
            ("tasks", "note", "999", "--text", "words"),
            ("tasks", "--after", "999"),
        ],
    )
    def test_what_is_not_there_is_a_sentence(self, sts, db, words):
        result = sts(*words)

        assert result.exit_code == 1
        assert "There is no" in result.output

    @pytest.mark.parametrize("number", ["0", "-1", "seven", "99999999999999999999999", ""])
    def test_what_is_no_number_is_a_usage_error(self, sts, db, number):
        assert sts("tasks", "done", "--", number).exit_code == 2

    @pytest.mark.parametrize("command", ["done", "cannot", "retry", "note"])
    def test_help_needs_no_settings(self, command):
        assert CliRunner().invoke(cli.main, ["tasks", command, "--help"]).exit_code == 0


class TestAccess:
    def test_a_gift_for_ever(self, sts, alice, plan):
        result = sts("access", "gift", ALICE, *REASON)

        [gift] = database.session.scalars(sa.select(Entitlement))
        assert result.exit_code == 0
        assert result.output == f"Given as {gift.source}, for ever.\n"
        assert (gift.user_id, gift.note, gift.ends_at) == (alice.id, "a test", None)

    @pytest.mark.parametrize(
        ("until", "ends_at"),
        [
            ("2026-12-24", datetime(2026, 12, 24, tzinfo=UTC)),
            ("2026-12-24T18:00", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ],
    )
    def test_a_gift_with_an_end(self, sts, alice, plan, until, ends_at):
        assert sts("access", "gift", ALICE.upper(), *REASON, "--until", until).exit_code == 0

        assert database.session.scalars(sa.select(Entitlement.ends_at)).all() == [ends_at]

    def test_a_gift_without_a_name_says_that_access_waits_for_it(self, sts, plan):
        builders.mallory()

        assert "has no TradingView name yet" in sts("access", "gift", "mallory@nowhere.example", *REASON).output

    @pytest.mark.parametrize(
        ("words", "sentence", "code"),
        [
            (("gift", "nobody@nowhere.example", *REASON), "Nobody has an account", 1),
            (("gift", ALICE, *REASON, "--until", "2026-11-20"), "lies in the future", 1),
            (("gift", ALICE, *REASON, "--until", "soon"), "--until", 2),
            (("gift", ALICE), "--reason", 2),
            (("end", "purchase:1", *REASON), "ends by its refund", 1),
            (("end", "gift:none", *REASON), "no reason called gift:none", 1),
            (("suspend", "purchase:9", *REASON), "no reason called purchase:9", 1),
            (("resume", "purchase:9", *REASON), "no reason called purchase:9", 1),
            (("reasons", "nobody@nowhere.example"), "Nobody has an account", 1),
        ],
    )
    def test_refusals_are_sentences(self, sts, alice, plan, words, sentence, code):
        result = sts("access", *words)

        assert result.exit_code == code
        assert sentence in result.output

    def test_a_second_gift_is_refused(self, sts, alice, plan):
        sts("access", "gift", ALICE, *REASON)

        result = sts("access", "gift", ALICE, *REASON)

        assert result.exit_code == 1
        assert "running already" in result.output

    def test_a_gift_is_ended_once(self, sts, alice, plan):
        sts("access", "gift", ALICE, *REASON)
        [source] = database.session.scalars(sa.select(Entitlement.source))

        assert sts("access", "end", source, *REASON).exit_code == 0

        result = sts("access", "end", source, *REASON)
        assert (result.exit_code, f"{source} has ended already" in result.output) == (1, True)
        assert actors("provisioning.entitlement_ended") == {"cli"}

    def test_a_purchase_is_put_to_rest_and_counts_again(self, sts, bought, vendor):
        work("provisioning")

        assert sts("access", "suspend", "purchase:1", *REASON).exit_code == 0
        work("provisioning")
        assert states() == {"absent"}
        assert "rests already" in sts("access", "suspend", "purchase:1", *REASON).output

        assert sts("access", "resume", "purchase:1", *REASON).exit_code == 0
        work("provisioning")
        assert states() == {"verified"}
        assert "does not rest" in sts("access", "resume", "purchase:1", *REASON).output

    def test_reasons_are_listed_with_what_they_are_called(self, sts, bought, clock):
        sts("access", "gift", ALICE, *REASON, "--until", "2026-11-22")
        sts("access", "suspend", "purchase:1", "--reason", "a dispute")
        clock.shift(timedelta(days=1))
        look_over()

        told = json.loads(sts("access", "reasons", ALICE, "--json").output)

        assert [(each["state"], each["because"]) for each in told] == [("rests", "a dispute"), ("ended", "a test")]
        output = sts("access", "reasons", ALICE).output
        assert "purchase:1" in output
        assert "since 21 Nov 2026, 12:00 UTC until 22 Nov 2026, 00:00 UTC: a test" in output

    def test_nobody_without_a_reason_is_left_without_a_word(self, sts, alice):
        assert sts("access", "reasons", ALICE).output == f"{ALICE} has never had a reason for access.\n"


def test_a_store_without_an_adapter_from_the_purchase_to_the_refund(sts, at_work):
    """The whole of manual mode at a shell: give, confirm, remove, confirm."""
    assert sts("tasks", "done", *task_ids()).exit_code == 0
    assert {row.state for row in queries.access_of(at_work.id, NOON)} == {"Active"}
    assert {grant.evidence for grant in grants()} == {"confirmed by staff"}

    sts("access", "suspend", "purchase:1", "--reason", "a dispute that was lost")
    work("provisioning")
    assert "0 to give, 6 to remove" in sts("tasks").output

    assert sts("tasks", "done", *task_ids()).exit_code == 0
    assert {row.state for row in queries.access_of(at_work.id, NOON)} == {"Suspended"}
    assert states() == {"absent"}
