"""The worker process: `python -m jobs.worker`.

A parent with `WORKER_CONCURRENCY` RQ workers under it, its places for work. Where there are several, one
of them never waits for TradingView. The app is built before the fork, so that they share its memory; the
parent opens database connections only for a moment and never across a fork.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import socket
import time
from multiprocessing.process import BaseProcess
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.worker_pool import ForkProcess, WorkerPool
from sqlalchemy.exc import SQLAlchemyError

import jobs
from sts_app.core import clock
from sts_app.core.db import db, transaction
from sts_app.core.queue import PATIENT, QUEUES, WakeUp, send
from sts_app.ops import services

log = structlog.get_logger()

EVERYTHING = tuple(QUEUES)
SWIFT = tuple(queue for queue in QUEUES if queue != PATIENT)


class House(WorkerPool):
    """RQ's pool of workers, which also leaves signs of life and notices a dead scheduler."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.app = jobs.the_app()
        self.settings = self.app.config["STS"]
        self.process_name = f"{socket.gethostname()}-{os.getpid()}"
        self.started_at = clock.now()
        self.beat_at = 0.0
        self.swift_worker = ""

    def get_worker_process(self, name: str, burst: bool, *args: Any, **kwargs: Any) -> BaseProcess:
        """RQ's own version starts RQ's scheduler as well; delays here are rq-scheduler's."""
        arguments = (name, self.settings.redis_url, burst, self._queues_for(name))
        return ForkProcess(target=_work, args=arguments, name=f"worker {name}")

    def _queues_for(self, name: str) -> tuple[str, ...]:
        """What a new worker takes: one of several is swift, and who replaces it after its death is as well."""
        if self.num_workers == 1 or self.swift_worker in self.worker_dict:
            return EVERYTHING
        self.swift_worker = name
        return SWIFT

    def check_workers(self, respawn: bool = True) -> None:
        super().check_workers(respawn)
        if time.monotonic() < self.beat_at:
            return
        self.beat_at = time.monotonic() + self.settings.scaled(services.BEAT_EVERY).total_seconds()
        with self.app.app_context():
            try:
                self._beat()
            except (SQLAlchemyError, RedisError) as error:
                log.warning("worker.beat_failed", error=type(error).__name__)
            finally:
                # The next fork must not inherit a connection.
                db.session.remove()
                db.engine.dispose()

    def _beat(self) -> None:
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        with transaction():
            services.beat(
                self.process_name,
                "worker",
                started_at=self.started_at,
                details={"places": self.num_workers, "memory_mb": memory_mb},
            )
            # A store that has just started has a scheduler that waits for its first full minute.
            settled = clock.now() - self.started_at > self.settings.scaled(1.5 * services.BEAT_EVERY)
            stale = settled and services.sweep_is_stale(clock.now())
        if stale:
            log.warning("worker.sweep_is_stale")
            send(self.connection, WakeUp("ops.rescue_sweep", services.BEAT_EVERY * 0))


def _work(name: str, redis_url: str, burst: bool, queues: tuple[str, ...]) -> None:
    connection = Redis.from_url(redis_url)
    taken = [Queue(queue, connection=connection) for queue in queues]
    Worker(taken, name=name, connection=connection).work(burst=burst, with_scheduler=False, logging_level="WARNING")


def _connect(url: str) -> Redis:
    """Wait for Redis as long as it takes: it may be starting beside us."""
    connection = Redis.from_url(url)
    while True:
        try:
            connection.ping()
        except RedisError as error:
            log.warning("worker.no_redis_yet", error=type(error).__name__)
            time.sleep(1)
        else:
            return connection


def main() -> None:
    app = jobs.the_app()
    for module in pkgutil.iter_modules(jobs.__path__, "jobs."):
        if module.name not in ("jobs.worker", "jobs.scheduler"):
            importlib.import_module(module.name)
    settings = app.config["STS"]
    log.info("STS Strategies Worker Started", places=settings.worker_concurrency, mode=settings.provisioning_mode)
    connection = _connect(settings.redis_url)
    log.info("Connected to Redis")
    House(QUEUES, connection=connection, num_workers=settings.worker_concurrency).start(logging_level="WARNING")


if __name__ == "__main__":
    main()
