"""Servers for the tests, and `World`: a store of real processes on a database and a Redis of its own.

A world is for what one process cannot show: races, crashes, browsers, commands. Its clock runs fast
(`RETRY_TIME_SCALE`), its vendors are the simulators, and everything in it may be killed.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
import sqlalchemy as sa
from redis import Redis

from sts_app.ops.embedded import EmbeddedPostgres, EmbeddedRedis
from sts_app.ops.local import Stack

Value = TypeVar("Value")

ENV = {
    "APP_ENV": "testing",
    "ADAPTERS_PRESET": "mock",
    "SECRET_KEY": "a key for tests that guards nothing but tests",
    "STRIPE_WEBHOOK_SECRET": "whsec_for_tests",
    "RESEND_WEBHOOK_SECRET": "whsec_" + base64.b64encode(b"guards nothing but tests").decode(),
    "HEALTH_TOKEN": "health-token-for-tests",
    "ADMIN_EMAIL": "sam@staff.example",
    "EMAIL_FROM": "STS Strategies <hello@sts.example>",
    "LOG_LEVEL": "INFO",
    # The pace is lifted, but for the tests of the pace.
    "TV_WRITES_PER_MINUTE": "60000",
    "TV_WRITE_BURST": "1000",
    "TV_READS_PER_MINUTE": "60000",
    "TV_READ_BURST": "1000",
}
FAST = {
    "RETRY_TIME_SCALE": "0.02",
    "TV_CALL_TIMEOUT": "1",
    "TV_VALIDATE_TIMEOUT": "1",
    "WORK_SECONDS": "1",
    "JOB_TIMEOUT": "6",
    "CLOCK_SKEW_SECONDS": "1",
    "LEASE_SECONDS": "8",
    "SCHEDULER_ROUND_SECONDS": "0.5",
    "WORKER_CONCURRENCY": "2",
}


class Servers:
    """One throw-away PostgreSQL and Redis for a whole test run, and the databases that tests are copies of."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sts-tests-"))
        self.folder.chmod(0o711)  # for the user that root's servers run as
        self.stack = Stack(self.folder / "store", env=ENV, throwaway=True)
        self._numbers = count(1)

    def start(self) -> Self:
        self.stack.prepare(data=False)
        return self

    def close(self) -> None:
        self.stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def postgres(self) -> EmbeddedPostgres:
        assert self.stack.postgres is not None
        return self.stack.postgres

    @property
    def redis_url(self) -> str:
        return self.stack.env["REDIS_URL"]

    @cached_property
    def migrated(self) -> str:
        """The database that has every table and no row: built by running the migrations, once."""
        self.stack.run("release")
        self.postgres.create_database("migrated", template=self.postgres.DATABASE)
        return "migrated"

    @cached_property
    def seeded(self) -> str:
        """The same after `sts seed`: the catalog, and the staff of `ADMIN_EMAIL`."""
        assert self.migrated
        self.stack.run("seed", "sts seed")
        return self.postgres.DATABASE

    @contextlib.contextmanager
    def database(self, template: str) -> Iterator[str]:
        """A copy of `template` by its address, gone at the end."""
        name = f"copy_{next(self._numbers)}"
        url = self.postgres.create_database(name, template=template)
        try:
            yield url
        finally:
            self.postgres.drop_database(name)

    def new_folder(self) -> Path:
        return self.folder / f"world-{next(self._numbers)}"


class World:
    """A whole store for one test. Nothing of it is shared with another test but the PostgreSQL server."""

    def __init__(self, folder: Path, database_url: str, env: Mapping[str, str] | None = None) -> None:
        self._redis = EmbeddedRedis(folder / "redis", throwaway=True).start()
        self._engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
        self.stack = Stack(
            folder,
            env={**ENV, **FAST, "DATABASE_URL": database_url, "REDIS_URL": self._redis.url, **(env or {})},
        ).prepare(data=False)

    @property
    def url(self) -> str:
        """The address of the site, without a trailing slash."""
        return self.stack.url

    @property
    def env(self) -> dict[str, str]:
        """The environment its processes get; change it before `start()`."""
        return self.stack.env

    def start(self, *names: str) -> Self:
        """Start `web`, `worker`, `scheduler`, or those named. Returns once the site is ready, if it is among them."""
        self.stack.start(*names)
        if not names or "web" in names:
            self.stack.wait_ready()
        return self

    def start_twin(self, name: str) -> str:
        """Start a second process of a kind, and return its name for `kill` and `log`."""
        twin = f"{name}-twin"
        self.stack._start(twin, self.stack._command(name), echo=False)
        return twin

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """SIGSTOP a process and all it started: alive, and doing nothing until the block ends."""
        leader = psutil.Process(self.stack.pid(name))
        stopped: list[psutil.Process] = []
        # The parent first, so that it starts nothing new while its children are stopped.
        for process in (leader, *leader.children(recursive=True)):
            process.suspend()
            stopped.append(process)
        try:
            yield
        finally:
            for process in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def stop(self, *names: str) -> None:
        """SIGTERM, and wait until they are gone."""
        self.stack.stop(*names)

    def kill(self, name: str) -> None:
        """SIGKILL to the process and all it started, at once."""
        self.stack.kill(name)

    def run(self, command: str) -> str:
        """Run a command in this store's environment, such as `sts doctor`, and return what it printed."""
        return self.stack.run(f"command-{time.monotonic_ns()}", command)

    def log(self, name: str) -> str:
        return self.stack.log(name)

    def sql(self, query: str, **params: Any) -> list[sa.Row[Any]]:
        """The rows of a query, in a transaction of its own."""
        with self._engine.begin() as connection:
            return list(connection.execute(sa.text(query), params))

    def execute(self, statement: str, **params: Any) -> int:
        """Run a statement, commit it, and return how many rows it touched."""
        with self._engine.begin() as connection:
            return connection.execute(sa.text(statement), params).rowcount

    def connect(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A connection that begins and holds what it is told to: for locks and long transactions."""
        return self._engine.connect()

    @property
    def redis_url(self) -> str:
        return self._redis.url

    @cached_property
    def redis(self) -> Redis:
        return Redis.from_url(self._redis.url)

    def flush_redis(self) -> None:
        self.redis.flushall()

    def stop_redis(self) -> None:
        """Take Redis away as a crash would; what it knew is lost."""
        self.redis.close()
        self._redis.stop()

    def start_redis(self) -> None:
        """Bring an empty Redis back at the same address."""
        self._redis.start()

    @contextlib.contextmanager
    def hung_redis(self) -> Iterator[None]:
        """Redis takes connections and answers nobody until the block ends."""
        assert self._redis.process is not None
        self._redis.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._redis.process.send_signal(signal.SIGCONT)

    def eventually(self, condition: Callable[[], Value], timeout: float = 20) -> Value:
        """What `condition()` returns, once it is true. Fails when that takes longer than `timeout` seconds.

        A condition may raise AssertionError to say what is still missing.
        """
        deadline = time.monotonic() + timeout
        while True:
            missing: AssertionError | None = None
            try:
                value = condition()
            except AssertionError as error:
                missing = error
            else:
                if value:
                    return value
            if time.monotonic() > deadline:
                raise AssertionError(f"still not so after {timeout} s: {missing or condition}") from missing
            time.sleep(0.05)

    def broken_invariants(self) -> dict[str, list[tuple[Any, ...]]]:
        from sts_app.ops.invariants import broken

        with self._engine.connect() as connection:
            # Some rows may be due: this asks after the workers were stopped.
            return broken(connection, workers_alive=False)

    def logs(self) -> dict[str, str]:
        """The log of every process that ever ran here, by name."""
        return {path.stem: path.read_text(errors="replace") for path in sorted((self.stack.folder / "log").glob("*"))}

    def halt(self) -> None:
        """Stop the processes and leave the data to be looked at."""
        for name in ("web", "scheduler", "worker", "scheduler-twin", "worker-twin"):
            self.stack.kill(name)

    def close(self) -> None:
        self.stack.close()
        if "redis" in self.__dict__:
            self.redis.close()
        self._redis.stop()
        self._engine.dispose()
        shutil.rmtree(self.stack.folder, ignore_errors=True)
