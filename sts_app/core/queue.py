"""Wake-ups. PostgreSQL holds the work; Redis only says "look now".

`wake("provisioning.work")` stages a wake-up that is sent after the commit. Losing one costs at most
a minute, because the sweep wakes for whatever is due; so a Redis that does not answer is logged and
forgotten, within a budget of 0.3 s. Only this module and `jobs/` know RQ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import structlog
from flask import Flask, current_app, g
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq_scheduler import Scheduler

log = structlog.get_logger()

# A place for work takes from these in this order. What waits for TradingView is last: one call of it may take
# half a minute, while a letter or the sweep is done in a moment.
PATIENT = "provisioning"
QUEUES = ("billing", "emails", "default", PATIENT)
RESULT_TTL = 300
FAILURE_TTL = 3600
SEND_BUDGET = 0.3
# So many wake-ups that nobody has taken yet find every row that is committed by now: one more finds nothing else.
WAITING_ENOUGH = 8


@dataclass(frozen=True)
class WakeUp:
    name: str
    after: timedelta


class _Delayed(Job):
    """A job of rq-scheduler, which has no word for how long a failed one is kept: RQ would keep it for a year."""

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Job:
        return super().create(*args, **{"failure_ttl": FAILURE_TTL, **kwargs})


def connection_for_web(url: str) -> Redis:
    """A connection that gives up at once: a visitor never waits for the queue."""
    return Redis.from_url(
        url,
        socket_connect_timeout=SEND_BUDGET / 2,
        socket_timeout=SEND_BUDGET,
        retry=Retry(ConstantBackoff(0.01), 1),
    )


def init_app(app: Flask, redis_url: str) -> None:
    app.extensions["sts_redis"] = connection_for_web(redis_url)


def redis_connection() -> Redis:
    return cast(Redis, current_app.extensions["sts_redis"])


def depths() -> dict[str, int]:
    """How many wake-ups wait in each queue. Raises `RedisError` when Redis does not answer."""
    return {name: len(Queue(name, connection=redis_connection())) for name in QUEUES}


def queue_of(name: str) -> str:
    """The queue that a job waits in: its room's own, or the one for all others."""
    room = name.partition(".")[0]
    return room if room in QUEUES else "default"


def wake(name: str, *, after: timedelta = timedelta(0)) -> None:
    """Stage a wake-up for the job `jobs.<name>`, now or `after` some time, once this transaction commits."""
    staged = _staged()
    wake_up = WakeUp(name, after)
    if wake_up not in staged:
        staged.append(wake_up)


def staged_wake_ups() -> tuple[WakeUp, ...]:
    return tuple(_staged())


def drop_staged() -> None:
    _staged().clear()


def send_staged() -> None:
    """Send what was staged. Never raises: the rows are committed and the sweep is the guarantee."""
    staged = _staged()
    wake_ups = tuple(staged)
    staged.clear()
    deadline = time.monotonic() + SEND_BUDGET
    for position, wake_up in enumerate(wake_ups):
        try:
            send(redis_connection(), wake_up)
        except RedisError as error:
            log.warning("queue.send_failed", job=wake_up.name, error=type(error).__name__)
            if time.monotonic() > deadline:
                log.warning("queue.left_to_sweep", count=len(wake_ups) - position - 1)
                return


def send(connection: Redis, wake_up: WakeUp) -> None:
    """Put one wake-up into RQ, or hand it to rq-scheduler when it is for later.

    A `work` job takes whatever is due, so one for now is left out when enough of them wait already.
    """
    queue_name = queue_of(wake_up.name)
    function = f"jobs.{wake_up.name}"
    # One id per wake-up: a job that re-used its own id would keep its old arguments and could be
    # deleted by its own result's time to live.
    job_id = f"{wake_up.name.replace('.', '-')}-{uuid4().hex}"
    timeout = current_app.config["STS"].job_timeout
    if wake_up.after > timedelta(0):
        Scheduler(queue_name=queue_name, connection=connection, job_class=_Delayed).enqueue_in(
            wake_up.after, function, job_id=job_id, job_result_ttl=RESULT_TTL, timeout=timeout
        )
        return
    queue = Queue(queue_name, connection=connection)
    if function.endswith(".work") and queue.count >= WAITING_ENOUGH:
        return
    queue.enqueue(function, job_id=job_id, result_ttl=RESULT_TTL, failure_ttl=FAILURE_TTL, job_timeout=timeout)


def _staged() -> list[WakeUp]:
    staged: list[WakeUp] | None = g.get("staged_wake_ups")
    if staged is None:
        staged = g.staged_wake_ups = []
    return staged
