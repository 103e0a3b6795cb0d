"""`sts reconcile` and `sts allow`: what they say, and the exit codes that machines go by."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from sts_app import cli
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.provisioning import control, reconcile
from sts_app.provisioning.models import ReconciliationRun
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, give, misbehave, take
from tests.builders import count, entitled, grants, holders, served, work

ALPHA = "PUB;nq_momentum_alpha_001"


@pytest.fixture
def sts(app, db, monkeypatch):
    """Run a command of `sts` in this app."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: object, typed: str | bytes | None = None) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, [str(word) for word in words], input=typed)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        database.session.expire_all()
        return result

    return sts


@pytest.fixture
def store(alice, plan, vendor, clock):
    """Alice as Anna with all six since an hour."""
    served(alice, plan, "purchase:1")
    clock.shift(timedelta(hours=1))
    return vendor


class TestReconcile:
    def test_a_store_that_agrees_is_clean(self, sts, store):
        result = sts("reconcile")

        assert (result.exit_code, result.output) == (
            0,
            f"Run {newest()}: 6 holders of 6 scripts read, 0 differences.\n",
        )

    def test_what_is_healed_waits_for_nobody(self, sts, store):
        take(store, "Anna", ALPHA)

        result = sts("reconcile")

        assert result.exit_code == 0
        assert "missing   Anna" in result.output
        assert "is given again" in result.output

    def test_what_a_dry_run_would_change_waits_for_a_person(self, sts, store):
        take(store, "Anna", ALPHA)

        result = sts("reconcile", "--dry-run")

        assert result.exit_code == 1
        assert "would be given again" in result.output
        assert {grant.state for grant in grants()} == {"verified"}

    def test_a_stranger_waits_for_a_person(self, sts, store):
        give(store, "Nobody", ALPHA)

        result = sts("reconcile")

        assert result.exit_code == 1
        assert "stays until a person approves" in result.output
        assert f"sts reconcile approve {newest()}" in result.output

    def test_a_refused_session_refuses_it(self, sts, store):
        misbehave(store, Fault.DEAD_SESSION)

        result = sts("reconcile")

        assert result.exit_code == 2
        assert "was refused: TradingView refuses our session" in result.output

    def test_it_does_not_begin_while_calls_are_forbidden(self, sts, store):
        with transaction():
            control.set_switch(Switch.DISABLED, actor="user:1", because="a test")

        result = sts("reconcile", "--json")

        assert (result.exit_code, count(ReconciliationRun)) == (2, 0)
        assert "may not be asked" in result.output

    def test_machines_read_json(self, sts, store):
        give(store, "Nobody", ALPHA, expires_at=None)

        result = sts("reconcile", "--json")

        report = json.loads(result.output)
        assert (report["state"], report["waiting"], report["dry_run"]) == ("complete", 1, False)
        [line] = report["lines"]
        assert (line["kind"], line["name"], line["script_id"], line["act"]) == ("stranger", "Nobody", ALPHA, "ask")
        assert sts("reconcile", "show", newest(), "--json").output == result.output

    def test_it_says_how_many_tasks_the_reading_closed(self, sts, alice, plan, vendor, clock):
        with transaction():
            control.set_switch(Switch.MANUAL, actor="user:1", because="a test")
        entitled(alice, plan, "purchase:1")
        work("provisioning")
        give(vendor, "Anna", ALPHA)
        clock.shift(timedelta(hours=1))

        assert (
            "1 pair is as people were asked to see to: their tasks would be closed."
            in sts("reconcile", "--dry-run").output
        )
        assert "1 pair is as people were asked to see to: their tasks are closed." in sts("reconcile").output

    def test_a_run_that_is_under_way_can_be_shown(self, sts, store):
        with transaction():
            run_id = reconcile._open("daily", "system", dry_run=False, not_since=None)

        assert sts("reconcile", "show", run_id).output == f"Run {run_id} is under way.\n"

    def test_a_run_that_never_was_cannot_be_shown(self, sts, db):
        assert sts("reconcile", "show", 99).exit_code == 2


class TestApprove:
    def test_all_that_waits_is_removed(self, sts, store):
        give(store, "Nobody", ALPHA)
        sts("reconcile")

        result = sts("reconcile", "approve", newest())

        assert (result.exit_code, result.output) == (0, "1 pair is being removed.\n")
        work("provisioning")
        assert ("Nobody", ALPHA) not in holders()

    def test_what_stays_is_told_with_its_reason(self, sts, store):
        give(store, "Nobody", ALPHA)
        sts("reconcile")
        sts("allow", "Nobody", "--reason", "helps us")

        result = sts("reconcile", "approve", newest())

        assert result.exit_code == 1
        assert f"Nobody on {ALPHA} stays: the name is on the list of friends." in result.output

    def test_a_run_that_never_was_is_refused(self, sts, db):
        assert sts("reconcile", "approve", 99).exit_code == 2


class TestPasted:
    @pytest.fixture
    def asked(self, alice, plan, vendor):
        with transaction():
            control.set_switch(Switch.MANUAL, actor="user:1", because="a test")
        entitled(alice, plan, "purchase:1")
        work("provisioning")
        return vendor

    def test_a_preview_first_and_then_the_deed(self, sts, asked, tmp_path):
        file = tmp_path / "list.txt"
        file.write_bytes("\ufeffAnna\r\nLifetime\r\nNobody\r\n".encode())

        preview = sts("reconcile", "pasted", ALPHA, file)
        assert preview.exit_code == 1
        assert "Of Anna it would be proven that they have access" in preview.output
        assert {grant.state for grant in grants()} == {"with_staff"}

        deed = sts("reconcile", "pasted", ALPHA, file, "--apply")
        assert "Of Anna it is proven that they have access" in deed.output
        assert {grant.script_id for grant in grants() if grant.state == "verified"} == {ALPHA}

    def test_a_list_can_be_pasted_into_the_shell(self, sts, asked):
        result = sts("reconcile", "pasted", ALPHA, "-", "--complete", "--json", typed="Anna\n")

        assert result.exit_code == 0
        assert json.loads(result.output)["present"] == ["Anna"]

    def test_a_file_of_a_spreadsheet_is_read(self, sts, asked, tmp_path):
        file = tmp_path / "list.csv"
        file.write_bytes("Username\tExpires\r\nAnna\t\r\n".encode("utf-16"))

        assert "Of Anna" in sts("reconcile", "pasted", ALPHA, file).output

    @pytest.mark.parametrize("content", [b"", b"\x80\x81", b"<html>", b"dear all\nthank you"])
    def test_what_is_no_list_is_refused_with_a_sentence(self, sts, asked, tmp_path, content):
        file = tmp_path / "list.txt"
        file.write_bytes(content)

        result = sts("reconcile", "pasted", ALPHA, file)

        assert result.exit_code == 2
        assert result.output.startswith("Error: ")
        assert count(ReconciliationRun) == 0

    def test_a_script_of_nobody_is_refused(self, sts, asked):
        assert sts("reconcile", "pasted", "PUB;nobody", "-", typed="Anna").exit_code == 2


class TestAllow:
    def test_a_friend_comes_and_goes(self, sts, db):
        assert sts("allow", "Friend", "--reason", "helps us").exit_code == 0
        assert "friend" in sts("allow").output
        assert "helps us" in sts("allow").output
        assert sts("allow", "--remove", "FRIEND").exit_code == 0
        assert sts("allow").output == "0 on the list.\n"

    def test_who_was_never_a_friend_cannot_go(self, sts, db):
        assert sts("allow", "--remove", "Nobody").exit_code == 1

    @pytest.mark.parametrize(
        "words", [("Friend",), ("Friend", "--reason", "why", "--remove"), ("Friend", "--reason", " ")]
    )
    def test_a_friend_needs_one_reason(self, sts, db, words):
        assert sts("allow", *words).exit_code == 2


def newest() -> int:
    return max(row.id for row in database.session.query(ReconciliationRun))
