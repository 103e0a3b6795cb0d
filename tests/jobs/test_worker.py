"""The places for work: which queues each one takes, in which order, and who takes the place of a dead one."""

from __future__ import annotations

import math
from itertools import count

import pytest
from redis import Redis
from rq.worker_pool import WorkerPool

from jobs import worker
from sts_app.core.queue import QUEUES

PATIENT = "provisioning"


class Idle:
    """A process that was started, and lives until it is told otherwise."""

    numbers = count(1)

    def __init__(self, *, target, args, name) -> None:
        self.queues = args[-1]
        self.pid = next(self.numbers)
        self.alive = True

    def start(self) -> None:
        pass

    def join(self, timeout: float) -> None:
        pass

    def is_alive(self) -> bool:
        return self.alive


@pytest.fixture
def pool_of(app, servers, monkeypatch):
    monkeypatch.setattr(worker, "ForkProcess", Idle)
    with Redis.from_url(servers.redis_url) as redis:

        def build(places: int) -> worker.House:
            pool = worker.House(QUEUES, connection=redis, num_workers=places)
            pool.beat_at = math.inf  # signs of life are for the database
            pool.status = WorkerPool.Status.STARTED
            pool.start_workers(burst=False)
            return pool

        yield build


def processes(pool) -> list[Idle]:
    return [data.process for data in pool.worker_dict.values()]


def swift(pool) -> list[Idle]:
    return [process for process in processes(pool) if PATIENT not in process.queues]


def test_what_waits_for_tradingview_is_taken_last():
    assert QUEUES == ("billing", "emails", "default", PATIENT)


def test_a_single_place_takes_everything(pool_of):
    pool = pool_of(1)

    assert [process.queues for process in processes(pool)] == [QUEUES]


@pytest.mark.parametrize("places", [2, 3, 8])
def test_of_several_places_one_never_waits_for_tradingview(pool_of, places):
    pool = pool_of(places)

    assert sorted(len(process.queues) for process in processes(pool)) == [3] + [4] * (places - 1)
    assert [process.queues for process in swift(pool)] == [("billing", "emails", "default")]


@pytest.mark.parametrize("dead", ["swift", "another", "all"])
def test_it_stays_so_when_somebody_dies(pool_of, dead):
    pool = pool_of(3)
    before = processes(pool)
    for process in before:
        process.alive = not (dead == "all" or (process in swift(pool)) == (dead == "swift"))

    pool.check_workers()

    assert len(processes(pool)) == 3
    assert len(swift(pool)) == 1
    assert (swift(pool)[0] in before) == (dead == "another")


def test_a_single_place_that_dies_takes_everything_again(pool_of):
    pool = pool_of(1)
    processes(pool)[0].alive = False

    pool.check_workers()

    assert [process.queues for process in processes(pool)] == [QUEUES]


def test_a_worker_listens_to_the_queues_it_was_given(servers, monkeypatch):
    taken = []

    class Worker:
        def __init__(self, queues, **_) -> None:
            taken.extend(queue.name for queue in queues)

        def work(self, **options) -> None:
            assert options["with_scheduler"] is False

    monkeypatch.setattr(worker, "Worker", Worker)

    worker._work("w", servers.redis_url, False, ("billing", "default"))

    assert taken == ["billing", "default"]
