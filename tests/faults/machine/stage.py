"""What the machine plays on: one app, one database, one Redis, the loopback TradingView, one clock.

A stage is made once for each operating-system process and swept clean between histories.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from unittest import mock

import psycopg
import sqlalchemy as sa
import urllib3.connection
from psycopg.pq import TransactionStatus
from redis import Redis

from tests.fakes.access_service import SESSION_ID, SIGNATURE, Dialect
from tests.faults.machine import lockstep, vendor
from tests.faults.machine.lockstep import Actor, Crash, Lockstep
from tests.faults.machine.model import Pair
from tests.world import ENV

# History happens at the same time whenever it is told.
DAY_ONE = datetime(2027, 3, 1, 9, tzinfo=UTC)
BEFORE, AFTER = "before commit", "after commit"
JOBS = {
    "provisioning": ("jobs.provisioning", "work"),
    "billing": ("jobs.billing", "work"),
    "emails": ("jobs.emails", "work"),
    "sweep": ("jobs.ops", "sweep"),
    "session": ("jobs.provisioning", "check_session"),
    "reconcile": ("jobs.provisioning", "reconcile"),
}
# Modules in which a second must be one of the machine's clock.
TIMED = ("jobs.provisioning", "jobs.billing", "jobs.emails", "sts_app.provisioning.calling")


class Clock:
    """The one source of time. What an actor reads is off by its skew; an actor never sees it go backwards."""

    def __init__(self) -> None:
        self.at = DAY_ONE

    def now(self, tz: Any = None) -> datetime:
        actor = lockstep.current()
        return self.at + timedelta(seconds=actor.skew if actor else 0)

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        """Sleep as an actor: at a point of its own. Whoever is let move before its time comes moves the clock there.

        A blink between two calls is no point and takes no time.
        """
        actor = lockstep.current()
        if actor is None or seconds < 1:
            return
        wakes_at = self.at + timedelta(seconds=seconds)
        actor.park("asleep")
        self.at = max(self.at, wakes_at)

    def tick(self) -> None:
        """Two steps never happen at the very same time."""
        self.at += timedelta(milliseconds=1)


class Stage:
    """Use it as a context manager. `tables` and `one_rows` are what sweeping works with."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._url = database_url
        self._redis_url = redis_url
        self.clock = Clock()
        self.gate = vendor.Gate()
        self.service, self.site = vendor.GatedAccessService(), vendor.GatedSite()
        self.service.gate = self.site.gate = self.gate
        # The one of the two that this history has.
        self.vendor: vendor.Gated = self.service
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Stage:
        try:
            return self._build()
        except BaseException:
            self._patches.close()
            raise

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def _build(self) -> Stage:
        import jobs
        from sts_app import create_app
        from sts_app.core import clock, store
        from sts_app.core import db as database
        from sts_app.settings import load

        keep = self._patches.enter_context
        keep(self.service)
        keep(self.site)
        keep(mock.patch.object(clock, "datetime", self.clock))
        keep(mock.patch.object(store, "DatabaseStore", _in_memory))
        keep(mock.patch.object(urllib3.connection.HTTPConnection, "connect", _noting_the_caller()))
        env = {
            **ENV,
            "DATABASE_URL": self._url,
            "REDIS_URL": self._redis_url,
            "DATABASE_POOL_SIZE": "12",
            "LOG_LEVEL": "ERROR",
            "PROVISIONING_MODE": "unofficial-api",
            "TV_ACCESS_API_URL": self.service.url,
            "TV_SESSION_ID": SESSION_ID,
            "TV_SIGNATURE": SIGNATURE,
            "TV_CANARY_USERNAME": "canary",
            "CREDENTIAL_ENCRYPTION_KEY": "6d616368696e65" + "00" * 25,
        }
        self.app = create_app(load(env))
        self.settings = self.app.config["STS"]
        keep(mock.patch.object(jobs, "the_app", return_value=self.app))
        self.app.config.update(TESTING=True, PROPAGATE_EXCEPTIONS=False)
        keep(_quiet())
        self._patch_time()
        with self.app.app_context():
            self.engine = database.db.engine
            self.metadata = database.db.metadata
        # Waiting for a lock costs no time of the machine's clock, so it must not run out by the real one.
        sa.event.remove(self.engine, "begin", database._limit_transaction)
        # Who loses a connection here has it checked out, and finds out by using it.
        self.engine.pool._pre_ping = False
        self._put_points()
        self.redis = Redis.from_url(self._redis_url)
        keep(contextlib.closing(self.redis))
        self.monitor = keep(psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True))
        self.lockstep = Lockstep(self.monitor)
        self.monitor.execute("SET session_replication_role = replica")
        self._read_one_rows()
        self._patches.callback(self.engine.dispose)
        return self

    def _patch_time(self) -> None:
        """Let what a job may take in seconds be seconds of this clock."""
        for name in TIMED:
            module = importlib.import_module(name)
            if hasattr(module, "time"):
                self._patches.enter_context(mock.patch.object(module, "time", self.clock))
        defaults = importlib.import_module("sts_app.provisioning.reconcile").run.__kwdefaults__
        self._patches.enter_context(mock.patch.dict(defaults, sleep=self.clock.sleep))

    def _put_points(self) -> None:
        dialect = self.engine.dialect
        keep = self._patches.enter_context
        keep(mock.patch.object(dialect, "do_commit", functools.partial(_commit, dialect.do_commit)))
        keep(mock.patch.object(dialect, "do_rollback", functools.partial(_rollback, dialect.do_rollback)))
        keep(mock.patch.object(dialect, "do_begin", functools.partial(_begin, dialect.do_begin)))
        for name, listener in (("checkout", _checked_out), ("checkin", _checked_in), ("invalidate", _checked_in)):
            sa.event.listen(self.engine, name, listener)

    # Between two histories.

    def sweep(self) -> None:
        """Forget the history before: every row, every wake-up, what TradingView holds, and the time."""
        self.lockstep.close()
        self.gate.reset()
        self.clock.at = DAY_ONE
        self.monitor.execute(cast(Any, self._forget))
        self.redis.flushall()
        for memory in self.app.extensions.get("sts_stores", {}).values():
            memory._records.clear()
        random.seed(0)

    def _read_one_rows(self) -> None:
        """What a migrated database holds from the start is put back each time."""
        statements = ["SET session_replication_role = replica"]
        with self.app.app_context():
            for table in self.metadata.sorted_tables:
                statements.append(f'DELETE FROM "{table.name}"')
                for row in self._rows(table):
                    statements.append(str(_insert(table, row)))
            for row in self.monitor.execute(
                "SELECT quote_ident(sequencename) FROM pg_sequences WHERE schemaname = 'public'"
            ):
                statements.append(f"SELECT setval('{row[0]}', 1, false)")
        self._forget = ";\n".join(statements)

    def _rows(self, table: sa.Table) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(table)).mappings()]

    # What a history asks of it.

    def choose(self, way: str, *, paced: bool) -> None:
        """Which TradingView this history has (`open` or `secured` service, `direct`), and whether calls are paced."""
        from sts_app.settings import Settings

        lifted = {"tv_writes_per_minute": 60000.0, "tv_write_burst": 1000.0}
        lifted |= {"tv_reads_per_minute": 60000.0, "tv_read_burst": 1000.0}
        usual = {name: Settings.model_fields[name].default for name in lifted}
        mode = "direct" if way == "direct" else "unofficial-api"
        changes = {"provisioning_mode": mode, "tv_base_url": self.site.url, **(usual if paced else lifted)}
        self.app.config["STS"] = self.settings.model_copy(update=changes)
        self.vendor = self.site if way == "direct" else self.service
        self.service.dialect = Dialect.SECURED if way == "secured" else Dialect.OPEN
        self.vendor.reset()

    @property
    def reconciles(self) -> bool:
        """Whether this store compares itself with TradingView by a job."""
        return hasattr(importlib.import_module(JOBS["reconcile"][0]), JOBS["reconcile"][1])

    def behave(self) -> None:
        """TradingView answers properly from now on."""
        self.vendor.behave()

    def letters(self) -> Counter[str]:
        """What arrived in mailboxes, by kind."""
        from sts_app.core.store import store_for

        with self.app.app_context():
            return Counter(record["kind"] for _, record in store_for("mail").all("mailbox"))

    def held(self) -> set[Pair]:
        """What TradingView holds for life."""
        return {pair for pair, end in self.vendor.held().items() if end is None}

    def limit_of(self, name: str) -> float:
        """After how many seconds a job is ended."""
        module, function = JOBS[name]
        from jobs.schedule import SCHEDULE

        by_schedule = {entry.name: entry.timeout for entry in SCHEDULE}
        return by_schedule.get(f"{module.removeprefix('jobs.')}.{function}", self.settings.job_timeout)

    def job(self, name: str) -> Callable[[], None]:
        module, function = JOBS[name]
        return cast(Callable[[], None], getattr(importlib.import_module(module), function))

    def in_transaction(self, deed: Callable[[], Any]) -> Callable[[], Any]:
        """`deed` as a process does it: in an app context of its own, in one transaction."""
        from sts_app.core.db import transaction

        def run() -> Any:
            with self.app.app_context(), transaction():
                return deed()

        return run

    def in_app(self, deed: Callable[[], Any]) -> Callable[[], Any]:
        """`deed` in an app context of its own, as a process has it."""

        def run() -> Any:
            with self.app.app_context():
                return deed()

        return run


def _insert(table: sa.Table, row: dict[str, Any]) -> Any:
    statement = sa.insert(table).values(row)
    from sqlalchemy.dialects import postgresql

    return statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})


def _in_memory(vendor: str) -> Any:
    from sts_app.core.store import MemoryStore

    return MemoryStore()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What goes wrong here goes wrong on purpose: the trace tells of it, not the log."""
    import logging

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers[:] = [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level


def _noting_the_caller() -> Callable[[Any], None]:
    connect = urllib3.connection.HTTPConnection.connect

    def noting(self: Any) -> None:
        connect(self)
        vendor.remember_caller(self.sock)

    return noting


def _checked_out(connection: Any, record: Any, proxy: Any) -> None:
    actor = lockstep.current()
    if actor is not None:
        actor.connections[id(connection)] = connection.pgconn.backend_pid


def _checked_in(connection: Any, record: Any, error: BaseException | None = None) -> None:
    actor = lockstep.current()
    if actor is not None:
        actor.connections.pop(id(connection), None)


def _in_transaction(connection: Any) -> bool:
    return bool(connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR))


def _begin(real: Callable[[Any], None], connection: Any) -> None:
    _refuse_the_dead(lockstep.current())
    real(connection)


def _commit(real: Callable[[Any], None], connection: Any) -> None:
    actor = lockstep.current()
    if actor is None or not _in_transaction(connection):
        real(connection)
        return
    _refuse_the_dead(actor)
    actor.park(BEFORE)
    real(connection)
    actor.committed()
    actor.park(AFTER)
    if actor.is_dropped:
        actor.is_dropped = False
        connection.pgconn.finish()
        raise psycopg.OperationalError("the connection was lost before the answer to COMMIT")


def _rollback(real: Callable[[Any], None], connection: Any) -> None:
    actor = lockstep.current()
    if actor is not None and actor.is_dead:
        connection.pgconn.finish()
        raise psycopg.OperationalError("the process was killed")
    was_open = _in_transaction(connection)
    real(connection)
    if actor is not None and was_open:
        actor.on_commit.clear()


def _refuse_the_dead(actor: Actor | None) -> None:
    if actor is not None and actor.is_dead:
        raise Crash
