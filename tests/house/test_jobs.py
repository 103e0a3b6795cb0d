"""Every job that is named somewhere is there, and both ends of the queue agree about it."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from datetime import timedelta
from importlib import import_module

import pytest
from croniter import croniter
from redis import Redis
from rq import Queue
from rq_scheduler import Scheduler

import jobs
from jobs.schedule import SCHEDULE, slot_of
from sts_app.core import clock
from sts_app.core.queue import FAILURE_TTL, QUEUES, RESULT_TTL, WakeUp, send
from tests.house.source import APP, JOBS, argument, calls, files, shown, strings

PROCESSES = {"worker", "scheduler", "schedule"}
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]+")


def woken() -> dict[str, str]:
    """Every name that is woken, with the place that says it."""
    found = {}
    for path in files(APP, JOBS):
        if path == APP / "core" / "queue.py":
            continue
        for call in calls(path, "wake", "WakeUp"):
            for name in strings(argument(call, 0, "name"), path):
                found[name] = f"{shown(path)}:{call.lineno}"
    return found


WOKEN = woken()
SCHEDULED = {periodic.name for periodic in SCHEDULE}


def function_of(name: str):
    room, _, verb = name.partition(".")
    return getattr(import_module(f"jobs.{room}"), verb)


def is_job(function) -> bool:
    return getattr(function, "__code__", None) is jobs.job(lambda: None).__code__


def public_jobs() -> set[str]:
    rooms = {module.name for module in pkgutil.iter_modules(jobs.__path__)} - PROCESSES
    return {
        f"{room}.{node.name}"
        for room in rooms
        for node in ast.parse((JOBS / f"{room}.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def test_the_names_are_read_from_the_source():
    assert {"provisioning.work", "billing.work", "emails.work", "ops.rescue_sweep"} <= WOKEN.keys()


@pytest.mark.parametrize("name", sorted(WOKEN.keys() | SCHEDULED))
def test_a_name_that_is_woken_is_a_job(name):
    assert is_job(function_of(name)), f"jobs.{name}, named by {WOKEN.get(name, 'the schedule')}"


def test_every_public_function_of_a_queue_door_is_a_job_that_somebody_names():
    assert {name for name in public_jobs() if not is_job(function_of(name))} == set()
    assert public_jobs() == WOKEN.keys() | SCHEDULED


@pytest.mark.parametrize("name", sorted(public_jobs()))
def test_a_job_takes_nothing_and_so_carries_no_decision(name):
    assert inspect.signature(function_of(name)).parameters == {}


@pytest.mark.parametrize("name", sorted(public_jobs()))
def test_producer_and_consumer_agree(app, servers, name):
    room = name.partition(".")[0]
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
        with app.app_context():
            send(redis, WakeUp(name, timedelta(0)))
            send(redis, WakeUp(name, timedelta(minutes=2)))
        (now,) = Queue(room if room in QUEUES else "default", connection=redis).jobs
        (later,) = Scheduler(connection=redis).get_jobs()

        for job in (now, later):
            assert job.func is function_of(name)
            assert (job.args, job.kwargs) == ((), {})
            assert job.origin in QUEUES
            assert LEGAL_ID.fullmatch(job.id)
            assert job.timeout == app.config["STS"].job_timeout
            assert (job.result_ttl, job.failure_ttl) == (RESULT_TTL, FAILURE_TTL)
        assert now.id != later.id
        redis.flushdb()


@pytest.mark.filterwarnings("ignore::FutureWarning:rq_scheduler")
def test_the_schedule_reaches_redis_once_and_is_taken_back_when_it_changes(servers, monkeypatch):
    from jobs import scheduler as process

    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
        scheduler = Scheduler(connection=redis)

        assert process.reconcile(scheduler) == (len(SCHEDULE), 0)
        assert process.reconcile(scheduler) == (0, 0)
        assert {job.func_name for job in scheduler.get_jobs()} == {f"jobs.{name}" for name in SCHEDULED}
        assert all(job.func and job.args == () for job in scheduler.get_jobs())

        monkeypatch.setattr(process, "SCHEDULE", SCHEDULE[1:])
        assert process.reconcile(scheduler) == (0, 1)
        redis.flushdb()


@pytest.mark.parametrize("periodic", SCHEDULE, ids=lambda periodic: periodic.name)
def test_an_entry_of_the_schedule_is_well_formed(periodic):
    assert len(periodic.cron.split()) == 5
    assert croniter.is_valid(periodic.cron)
    assert LEGAL_ID.fullmatch(periodic.id)
    assert 0 < periodic.timeout <= 1800
    now = clock.now()
    assert slot_of(periodic.name, now) <= now
    assert slot_of(periodic.name, slot_of(periodic.name, now)) == slot_of(periodic.name, now)


def test_no_two_entries_of_the_schedule_share_a_name_or_an_id():
    assert len({periodic.name for periodic in SCHEDULE}) == len({periodic.id for periodic in SCHEDULE}) == len(SCHEDULE)


def test_the_minute_sweep_is_scheduled_every_minute():
    assert [periodic.cron for periodic in SCHEDULE if periodic.name == "ops.sweep"] == ["* * * * *"]


def test_lease_outlasts_job_and_job_outlasts_its_work(app):
    settings = app.config["STS"]

    assert settings.lease_seconds > settings.job_timeout > settings.work_seconds
