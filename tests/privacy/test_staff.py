"""What staff see of erasures: `sts privacy`, the alarm of what takes too long, doctor and health."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from jobs import ops as ops_job
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.ops import doctor, queries
from sts_app.ops import services as ops
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import ErasureState, Wait, is_overdue
from tests.builders import NOON, kinds, letters, open_page, work
from tests.privacy.leaving import asked, begun, ended, go_on

pytestmark = pytest.mark.usefixtures("clock")
DAY = timedelta(days=1)


@pytest.fixture
def waiting(alice, plan, till, clock) -> Erasure:
    """An erasure that waits for access that nobody removes."""
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    return begun(alice, clock)


@pytest.mark.parametrize(
    ("days", "waits", "late"),
    [
        (2.9, [Wait.ACCESS], False),
        (3, [Wait.ACCESS], True),
        (3, [], True),
        (3, [Wait.DISPUTE], False),
        (3, [Wait.DISPUTE, Wait.ACCESS], True),
        (24.9, [Wait.DISPUTE], False),
        (25, [Wait.DISPUTE], True),
    ],
)
def test_what_takes_too_long(days, waits, late):
    assert is_overdue(NOON, waits, NOON + days * DAY) is late


def test_what_has_not_begun_is_not_late():
    assert not is_overdue(None, [], NOON + 100 * DAY)


class TestTheAlarm:
    def test_is_a_letter_to_staff_once_a_day(self, waiting, clock):
        assert ops.erasures_overdue() == []
        clock.shift(3 * DAY)
        for _ in range(2):
            for each in ops.erasures_overdue():
                ops.warn_of_erasure(each)
        assert kinds().count("admin_erasure_overdue") == 1
        clock.shift(DAY)
        for each in ops.erasures_overdue():
            ops.warn_of_erasure(each)

        assert kinds().count("admin_erasure_overdue") == 2
        assert "verified absent" in letters("admin_erasure_overdue")[0].text
        assert "alice" not in letters("admin_erasure_overdue")[0].text.lower()

    def test_is_rung_by_the_minute_sweep(self, waiting, clock):
        clock.shift(3 * DAY)
        database.session.commit()
        ops_job._sweep()

        assert "admin_erasure_overdue" in kinds()

    def test_shows_in_doctor_and_health(self, waiting, clock):
        assert queries.erasures(time_source.now()) == {"status": "healthy", "open": 1, "overdue": 0}
        clock.shift(3 * DAY)

        assert queries.erasures(time_source.now())["status"] == "degraded"
        assert any("erasure takes too long" in finding.sentence for finding in doctor._standing())

    def test_ends_with_the_erasure(self, waiting, clock):
        clock.shift(3 * DAY)
        for _ in range(4):
            work()
            go_on()

        assert waiting.state == ErasureState.DONE
        assert ops.erasures_overdue() == []


class TestCommands:
    def test_list_shows_who_waits_and_for_what(self, sts, waiting):
        told = sts("privacy", "list").output

        assert f"{waiting.id}  user {waiting.user_id}  revoking" in told
        assert "access at TradingView that is not verified absent" in told
        assert "alice" not in told.lower()

    def test_list_of_nobody(self, sts):
        assert sts("privacy", "list").output == "Nobody waits to be erased.\n"

    def test_list_of_the_overdue(self, sts, waiting, clock):
        assert sts("privacy", "list", "--overdue").output == "No erasure takes too long.\n"
        clock.shift(3 * DAY)

        assert "OVERDUE" in sts("privacy", "list", "--overdue").output
        assert sts("privacy", "list", "--overdue", "--before", str(waiting.id)).output.startswith(
            "There is none before"
        )
        assert sts("privacy", "list", "--overdue", "--all").exit_code == 2

    def test_list_for_machines(self, sts, waiting):
        [row] = json.loads(sts("privacy", "list", "--json").output)

        assert (row["number"], row["state"], row["overdue"]) == (waiting.id, "revoking", False)

    def test_show_has_each_step_with_its_time(self, sts, alice, clock):
        erasure = ended(alice, clock)
        told = sts("privacy", "show", erasure.ref).output

        assert "22 Nov 2026, 12:00 UTC  Personal data replaced" in told
        assert f"/erasure/{erasure.ref}" in told

    def test_show_for_machines(self, sts, alice, clock):
        erasure = ended(alice, clock)

        told = json.loads(sts("privacy", "show", str(erasure.id), "--json").output)

        assert (told["number"], told["state"], told["reference"]) == (erasure.id, "done", erasure.ref)
        assert [step["what"].partition(":")[0] for step in told["steps"]][:2] == ["Asked for", "Account closed"]
        assert all(step["at"] for step in told["steps"])

    def test_show_of_what_is_not_there(self, sts):
        result = sts("privacy", "show", "era_of_nobody")

        assert result.exit_code == 1
        assert "There is no erasure called era_of_nobody." in result.output

    def test_retry_is_audited(self, sts, waiting):
        result = sts("privacy", "retry", str(waiting.id))

        assert result.exit_code == 0
        line = database.session.execute(
            database.text("SELECT actor, subject FROM audit_log WHERE action = 'privacy.erasure_retried'")
        ).one()
        assert tuple(line) == ("cli", f"erasure:{waiting.id}")

    def test_retry_of_what_is_over_is_refused(self, sts, alice, clock):
        erasure = ended(alice, clock)

        assert sts("privacy", "retry", str(erasure.id)).exit_code == 1

    def test_request_for_somebody_who_asked_by_letter(self, sts, alice):
        result = sts("privacy", "request", alice.email, given="y\n")

        assert result.exit_code == 0, result.output
        [erasure] = database.session.query(Erasure).all()
        assert (erasure.state, erasure.asked_by) == ("requested", "cli")
        assert kinds() == ["erasure_requested"]

    def test_request_that_is_not_confirmed_does_nothing(self, sts, alice):
        assert sts("privacy", "request", alice.email, given="n\n").exit_code == 1
        assert database.session.query(Erasure).count() == 0

    def test_export_writes_a_file_that_others_cannot_read(self, sts, alice, tmp_path):
        target = tmp_path / "alice.json"
        result = sts("privacy", "export", alice.email, "--to", str(target))

        assert result.exit_code == 0, result.output
        assert json.loads(target.read_text())["account"]["email"] == alice.email
        assert target.stat().st_mode & 0o077 == 0

    def test_export_leaves_a_file_that_stands_there_alone(self, sts, alice, tmp_path):
        target = tmp_path / "alice.json"
        target.write_text("open to all")
        result = sts("privacy", "export", alice.email, "--to", str(target))

        assert result.exit_code == 2
        assert "File exists" in result.output
        assert target.read_text() == "open to all"


def test_the_sweep_wakes_for_what_is_due(alice, clock, monkeypatch):
    woken = []
    monkeypatch.setattr(ops, "wake", woken.append)
    asked(alice)
    ops.wake_for_due()
    assert "privacy.work" not in woken
    clock.shift(DAY)
    ops.wake_for_due()

    assert "privacy.work" in woken
