"""The scheduler process: `python -m jobs.scheduler`.

rq-scheduler's queue of delays and cron entries, moved by our own loop: it survives a Redis that goes
away, compares the schedule with the table every minute (so a flushed Redis has it back), and leaves
a sign of life. A second one alive is a standby: slots are claimed as rows.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import warnings
from datetime import timedelta

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq_scheduler import Scheduler
from sqlalchemy.exc import SQLAlchemyError

from jobs import the_app
from jobs.schedule import SCHEDULE
from sts_app.core import clock
from sts_app.core.db import transaction
from sts_app.core.queue import queue_of
from sts_app.ops import services

log = structlog.get_logger()

RECONCILE_EVERY = timedelta(seconds=60)
KEEP_RESULT_FOR_EVER = -1  # a cron entry's row in Redis must outlive its run


def reconcile(scheduler: Scheduler) -> tuple[int, int]:
    """Make the cron entries in Redis those of the table. Returns (added, removed)."""
    wanted = {periodic.id: periodic for periodic in SCHEDULE}
    standing = {job.id for job in scheduler.get_jobs() if job.id.startswith("cron-")}
    for job_id in standing - set(wanted):
        scheduler.cancel(job_id)
    for job_id in set(wanted) - standing:
        periodic = wanted[job_id]
        scheduler.cron(
            periodic.cron,
            func=f"jobs.{periodic.name}",
            id=job_id,
            queue_name=queue_of(periodic.name),
            timeout=periodic.timeout,
            result_ttl=KEEP_RESULT_FOR_EVER,
            use_local_timezone=False,
        )
    added, removed = len(set(wanted) - standing), len(standing - set(wanted))
    if added or removed:
        log.info("scheduler.reconciled", added=added, removed=removed)
    return added, removed


def main() -> None:
    # rq-scheduler reckons cron times in the process's zone, and warns of a change that UTC does not notice.
    os.environ["TZ"] = "UTC"
    time.tzset()
    warnings.filterwarnings("ignore", category=FutureWarning, module="rq_scheduler")
    app = the_app()
    settings = app.config["STS"]
    connection = Redis.from_url(settings.redis_url)
    scheduler = Scheduler(connection=connection, interval=settings.scheduler_round)
    stopping = threading.Event()
    for received in (signal.SIGTERM, signal.SIGINT):
        signal.signal(received, lambda *_: stopping.set())

    process, started_at = f"{socket.gethostname()}-{os.getpid()}", clock.now()
    log.info("scheduler.started", round=settings.scheduler_round, jobs=[periodic.name for periodic in SCHEDULE])
    every = settings.scaled(RECONCILE_EVERY).total_seconds()
    upkeep_at = 0.0
    while not stopping.is_set():
        try:
            if time.monotonic() >= upkeep_at:
                reconcile(scheduler)
                upkeep_at = time.monotonic() + every
                with app.app_context(), transaction():
                    services.beat(process, "scheduler", started_at=started_at, details={})
            if scheduler.acquire_lock():
                try:
                    scheduler.enqueue_jobs()
                finally:
                    scheduler.remove_lock()
        except (RedisError, SQLAlchemyError) as error:
            log.warning("scheduler.round_failed", error=type(error).__name__)
        stopping.wait(settings.scheduler_round)
    log.info("scheduler.stopped")


if __name__ == "__main__":
    main()
