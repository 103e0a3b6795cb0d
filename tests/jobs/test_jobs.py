"""The clock and queue door: each job is a few steps, and one run per slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import structlog

from jobs import billing, emails, ops, provisioning
from jobs.schedule import slot_of
from sts_app.accounts.models import LoginToken
from sts_app.core import clock as time_source
from sts_app.core import queue
from sts_app.core.db import db as database
from sts_app.ops import services
from sts_app.ops.models import PeriodicRun
from sts_app.provisioning.models import Grant
from tests.builders import alice, by_hand, count, entitled, grants, lifetime, named, stopped_clock, through, vendor


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(queue, "send", lambda connection, wake_up: names.append(wake_up.name))
    return names


@pytest.fixture
def owner(db):
    vendor()
    user = named(alice(), "Anna")
    entitled(user, lifetime())
    db.session.commit()
    return user


def run(job) -> None:
    """Run a job as a worker would; what it did is read afresh."""
    database.session.commit()
    job()
    database.session.expire_all()


def runs(name: str) -> list[PeriodicRun]:
    return list(database.session.scalars(sa.select(PeriodicRun).where(PeriodicRun.name == name)))


class TestWork:
    @pytest.mark.parametrize("job", [billing.work, provisioning.work, emails.work])
    def test_nothing_due_is_quickly_done(self, db, sent, job):
        run(job)

        assert sent == []

    @pytest.mark.parametrize(
        ("job", "name"),
        [(billing.work, "billing.work"), (provisioning.work, "provisioning.work"), (emails.work, "emails.work")],
    )
    def test_a_turn_that_is_over_asks_for_another_one(self, app, db, sent, monkeypatch, job, name):
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update={"work_seconds": -1.0}))

        run(job)

        assert sent == [name]

    def test_manual_mode_hands_over_and_ends(self, app, owner, sent, monkeypatch):
        by_hand(monkeypatch)

        run(provisioning.work)

        assert {g.state for g in grants()} == {"with_staff"}

    def test_a_worker_that_dies_in_the_call_leaves_its_claim_behind(self, app, owner, monkeypatch):
        class Deadly:
            one_call_for_all = True

            def __getattr__(self, name):
                raise SystemExit

        through(monkeypatch, Deadly())

        with pytest.raises(SystemExit):
            run(provisioning.work)

        assert {g.lease_token is not None for g in grants()} == {True}


class TestPeriodic:
    @pytest.mark.parametrize(
        ("job", "name"),
        [(ops.sweep, "ops.sweep"), (ops.check_invariants, "ops.check_invariants"), (ops.tidy, "ops.tidy")],
    )
    def test_two_schedulers_give_one_run_per_slot(self, db, job, name):
        run(job)
        run(job)

        [only] = runs(name)
        assert only.finished_at is not None

    def test_the_next_minute_is_another_slot(self, db, clock):
        run(ops.sweep)
        clock.shift(timedelta(minutes=1))
        run(ops.sweep)

        assert len(runs("ops.sweep")) == 2

    def test_the_sweep_wakes_for_what_is_due_and_heals_what_is_missing(self, owner, sent):
        for table in ("provisioning_job", "grants"):
            database.session.execute(sa.text(f"DELETE FROM {table}"))  # names of our own

        run(ops.sweep)

        assert count(Grant) == 6
        assert "provisioning.work" in sent

    def test_what_is_due_is_woken_for_although_the_healing_fails(self, owner, sent, monkeypatch):
        def broken():
            raise RuntimeError("a bug")

        monkeypatch.setattr(services, "people_to_look_at", broken)
        sent.clear()

        with pytest.raises(RuntimeError):
            run(ops.sweep)

        assert sent == ["provisioning.work"]

    def test_a_broken_invariant_is_an_error_in_the_log_that_names_rows_and_nobody(self, owner):
        database.session.execute(sa.text("UPDATE grants SET next_attempt_at = :then"), {"then": long_ago()})

        with structlog.testing.capture_logs() as lines:
            run(ops.check_invariants)

        [line] = [line for line in lines if line["event"] == "ops.invariant_broken"]
        assert (line["log_level"], line["invariant"], line["offenders"]) == (
            "error",
            "no due pair older than five minutes while nothing is tried",
            6,
        )
        assert "alice" not in str(line)

    def test_tidying_deletes_what_is_over(self, db):
        token = LoginToken(email="a@b.example", link_digest="l", code_digest="c", expires_at=long_ago())
        db.session.add(token)

        run(ops.tidy)

        assert count(LoginToken) == 0


def long_ago() -> datetime:
    return time_source.now() - timedelta(days=2)


class TestRescue:
    def test_a_worker_sweeps_itself_while_the_scheduler_is_dead(self, owner, sent):
        sent.clear()

        run(ops.rescue_sweep)

        assert sent == ["provisioning.work"]
        assert len(runs("ops.sweep")) == 1

    def test_not_while_the_scheduler_lives(self, owner, sent):
        run(ops.sweep)
        sent.clear()

        run(ops.rescue_sweep)

        assert sent == []
        assert len(runs("ops.sweep")) == 1


class TestSlots:
    @pytest.mark.parametrize(
        ("name", "now", "slot"),
        [
            ("ops.sweep", (12, 0, 0), (12, 0)),
            ("ops.sweep", (12, 0, 59), (12, 0)),
            ("ops.sweep", (12, 1, 0), (12, 1)),
            ("ops.check_invariants", (12, 4, 59), (12, 0)),
            ("ops.check_invariants", (12, 5, 0), (12, 5)),
            ("ops.tidy", (12, 0, 0), (3, 0)),
            ("ops.tidy", (3, 0, 0), (3, 0)),
        ],
    )
    def test_a_slot_is_the_last_moment_the_schedule_named(self, name, now, slot):
        day = datetime(2026, 11, 21, tzinfo=UTC)

        found = slot_of(name, day.replace(hour=now[0], minute=now[1], second=now[2]))

        assert found == day.replace(hour=slot[0], minute=slot[1])

    def test_before_three_it_is_yesterdays(self):
        assert slot_of("ops.tidy", datetime(2026, 11, 21, 2, 59, tzinfo=UTC)) == datetime(2026, 11, 20, 3, tzinfo=UTC)


def test_every_line_of_a_job_names_the_job(owner, monkeypatch):
    seen = {}
    monkeypatch.setattr(services, "wake_for_due", lambda: seen.update(structlog.contextvars.get_contextvars()))

    run(ops.sweep)

    assert seen["job"] == "ops.sweep"
    assert "job" not in structlog.contextvars.get_contextvars()
