"""What waits for TradingView: how fast one worker works it off, what the pace makes of it, and what a worker weighs.

Rows are written straight into the database, because it is the working off that is measured: every person has an
entitlement whose letter is written already, a name, and grants that are due.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import sqlalchemy as sa
from redis import Redis
from rq import Queue

from sts_app import create_app
from sts_app.catalog.queries import strategies_on_sale
from sts_app.core.db import db
from sts_app.core.store import store_for
from sts_app.ops.local import Stack
from sts_app.provisioning import simulated
from sts_app.settings import load

Show = Callable[[str, float, float, str], None]

SCRIPTS = 6
NAMES = 30
BACKLOG = 167  # names: 1,002 rows, six to a call
ROWS = BACKLOG * SCRIPTS
LIFTED = {
    "TV_WRITES_PER_MINUTE": "600000",
    "TV_WRITE_BURST": "10000",
    "TV_READS_PER_MINUTE": "600000",
    "TV_READ_BURST": "10000",
}
# The pace of the settings' defaults, so many times as fast: reads and bursts with it.
SCALE = 20
DEFAULTS = {"TV_WRITES_PER_MINUTE": 10, "TV_WRITE_BURST": 12, "TV_READS_PER_MINUTE": 60, "TV_READ_BURST": 60}
LATENCY_MS = 150
LIMIT_SECONDS = 150


def measure(stack: Stack, show: Show) -> None:
    """One worker with one place for work, in three settings; the site and the scheduler run beside it."""
    engine = sa.create_engine(stack.env["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))
    bench = Bench(stack, engine, show)
    try:
        bench.one_worker()
        bench.drain()
        bench.drain_in_pace()
    finally:
        engine.dispose()


@dataclass
class Weight:
    """Memory seen while a worker worked, in MB: the parent, its place for work, and its work horses."""

    seen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def note(self, role: str, process: psutil.Process) -> None:
        memory = process.memory_full_info()
        self.seen.setdefault(role, []).append((memory.rss / 2**20, memory.uss / 2**20))

    def highest(self, role: str) -> tuple[float, float]:
        """(RSS, USS): USS is what would be free again if this process alone ended."""
        rss, uss = zip(*self.seen[role], strict=True)
        return max(rss), max(uss)


@dataclass
class Bench:
    stack: Stack
    engine: sa.Engine
    show: Show

    def one_worker(self) -> None:
        """Names with six scripts each, with the pace lifted and the vendor as slow as it is by default."""
        with self._worker(NAMES, pace=LIFTED, latency_ms=LATENCY_MS):
            self._finish(NAMES)
        took = self._column(
            "SELECT extract(epoch FROM max(finished_at) - min(created_at)) FROM provisioning_attempt"
            " GROUP BY lease_token"
        )
        began, ended = self._span()
        each = (ended - began) / NAMES
        self.show(
            "six grants of one name by one worker / two vendor calls",
            each,
            2 * LATENCY_MS / 1000,
            f"{SCRIPTS / each:.1f} grants/s; n={NAMES}, claim to settled {min(took):.3f} to {max(took):.3f} s",
        )

    def drain(self) -> None:
        """The backlog with the pace lifted and a vendor that answers at once; before and after it, the calls alone."""
        weight = Weight()
        self._clear()
        alone = [self._calls_alone()]
        with self._worker(BACKLOG, pace=LIFTED, latency_ms=0) as leader, _weighed(leader, weight):
            self._finish(BACKLOG)
        began, ended = self._span()
        alone.append(self._calls_alone())
        self.show(
            f"drain of {ROWS} waiting rows, pace lifted / the calls alone",
            ended - began,
            statistics.mean(alone),
            f"{ROWS / (ended - began):.0f} rows/s by one worker; {BACKLOG} calls and {BACKLOG} readings",
        )
        self._weigh(weight)

    def drain_in_pace(self) -> None:
        """The same with the pace in place and nothing saved up: it cannot be faster than calls / pace."""
        pace = {name: str(value * SCALE) for name, value in DEFAULTS.items()}
        with self._worker(BACKLOG, pace=pace, latency_ms=0, empty_buckets=True):
            self._finish(BACKLOG)
        limit = BACKLOG / (DEFAULTS["TV_WRITES_PER_MINUTE"] * SCALE / 60)
        _, ended = self._span()
        self.show(
            f"drain of {ROWS} waiting rows in pace / calls divided by pace",
            ended - self._filled_at,
            limit,
            f"default pace times {SCALE}, buckets empty at first; at the default itself the limit is "
            f"{BACKLOG / DEFAULTS['TV_WRITES_PER_MINUTE']:.1f} min",
        )

    # The worker.

    @contextmanager
    def _worker(
        self, names: int, *, pace: Mapping[str, str], latency_ms: int, empty_buckets: bool = False
    ) -> Iterator[psutil.Process]:
        """A worker with one place and so much before it, woken once. Ends when the block does."""
        self.stack.stop("worker")
        self._clear()
        self._insert(names, latency_ms)
        self.stack.env.update(pace, WORKER_CONCURRENCY="1")
        self.stack.start("worker")
        leader = psutil.Process(self.stack.pid("worker"))
        _until(lambda: leader.children(), "the worker's place for work")
        with self.engine.begin() as connection:
            self._filled_at = float(connection.scalar(sa.text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
            refilled = "clock_timestamp()" if empty_buckets else "'epoch'"
            connection.execute(
                sa.text(
                    f"UPDATE pace_bucket SET tokens = 0, factor = 1, refilled_at = {refilled},"
                    " limited_at = NULL, held_until = NULL, woken_at = NULL"
                )
            )
        with Redis.from_url(self.stack.env["REDIS_URL"]) as redis:
            Queue("provisioning", connection=redis).enqueue("jobs.provisioning.work", job_timeout=130, result_ttl=60)
        yield leader
        self.stack.stop("worker")

    def _finish(self, names: int) -> None:
        """Wait until every row of so many names is verified."""

        def done() -> bool:
            return self._column("SELECT count(*) FROM grants WHERE state = 'verified'") == [names * SCRIPTS]

        _until(done, f"{names * SCRIPTS} verified rows")

    def _span(self) -> tuple[float, float]:
        """When the first claim was made and the last was settled, in seconds."""
        with self.engine.begin() as connection:
            row = connection.execute(
                sa.text(
                    "SELECT extract(epoch FROM min(created_at)), extract(epoch FROM max(finished_at))"
                    " FROM provisioning_attempt"
                )
            ).one()
        return float(row[0]), float(row[1])

    # The rows.

    def _clear(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text("TRUNCATE grants, users CASCADE"))
            connection.execute(sa.text("DELETE FROM simulator_record WHERE vendor = 'tradingview'"))
        with Redis.from_url(self.stack.env["REDIS_URL"]) as redis:
            redis.delete("rq:queue:provisioning")

    def _insert(self, names: int, latency_ms: int) -> None:
        """People with a name, an entitlement that was announced, and grants that are due since they paid."""
        with self.engine.begin() as connection:
            for statement in _ROWS:
                parameters = {"names": names, "latency": latency_ms}
                used = {name: value for name, value in parameters.items() if f":{name}" in statement}
                connection.execute(sa.text(statement), used)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE"))

    def _calls_alone(self) -> float:
        """What the simulated vendor needs for the same calls, made one after the other by nobody in particular."""
        app = create_app(load({**self.stack.env, "LOG_LEVEL": "WARNING"}))
        with app.app_context():
            store = store_for("tradingview")
            simulated.set_latency(store, 0)
            vendor = simulated.SimulatedTradingView(store)
            scripts = [strategy.script_id for strategy in strategies_on_sale()]
            began = time.perf_counter()
            for number in range(BACKLOG):
                vendor.grant(f"alone_{number}", scripts)
                vendor.has_access(f"alone_{number}", scripts)
            took = time.perf_counter() - began
            db.session.remove()
            db.engine.dispose()
        return took

    def _column(self, query: str) -> list[float]:
        with self.engine.begin() as connection:
            return [float(row[0]) for row in connection.execute(sa.text(query))]

    # What it weighs.

    def _weigh(self, weight: Weight) -> None:
        """Against a process that has imported the same libraries and does nothing."""
        libraries = "import flask, flask_sqlalchemy, psycopg, redis, rq, stripe, resend"
        bare = subprocess.Popen([sys.executable, "-c", f"{libraries}\nprint(flush=True)\ninput()"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        try:
            assert bare.stdout is not None
            bare.stdout.readline()
            idle = psutil.Process(bare.pid).memory_full_info().rss / 2**20
        finally:
            bare.communicate(b"\n")
        for role in ("parent", "place", "horse"):
            rss, uss = weight.highest(role)
            print(f"{f'memory of a worker: {role}':62} RSS {rss:6.1f} MB, USS {uss:6.1f} MB; "
                  f"RSS is {rss / idle:.2f} of the bare libraries' {idle:.1f} MB")  # fmt: skip


@contextmanager
def _weighed(leader: psutil.Process, weight: Weight) -> Iterator[None]:
    """Look at the worker's processes four times a second while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.25):
            try:
                weight.note("parent", leader)
                for place in leader.children():
                    weight.note("place", place)
                    for horse in place.children():
                        weight.note("horse", horse)
            except psutil.NoSuchProcess:
                continue  # it ended between being seen and being weighed

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} after {LIMIT_SECONDS} s")
        time.sleep(0.1)


_ROWS = (
    "INSERT INTO users (email, name, role, created_at)"
    " SELECT 'waiting' || n || '@example.com', '', 'USER', now() FROM generate_series(1, :names) n",
    "INSERT INTO tradingview_name (user_id, name_key, spelling, verified_at, created_at)"
    " SELECT id, 'waiting_' || id, 'waiting_' || id, now(), now() FROM users",
    "INSERT INTO entitlement (user_id, plan_id, source, starts_at, announced_at, created_at)"
    " SELECT u.id, p.id, 'bench:' || u.id, now(), now(), now() FROM users u, plan p",
    "INSERT INTO grants (name_key, name_spelling, script_id, strategy_id, wanted, state, cycle, priority, paid_at,"
    " next_attempt_at, failed_tries, spent_tries, lost_claims, created_at)"
    " SELECT n.name_key, n.spelling, s.script_id, s.id, true, 'pending', 1, 0, now(), now(), 0, 0, 0, now()"
    " FROM tradingview_name n, strategy s WHERE s.status = 'on_sale' ORDER BY n.id, s.id",
    "INSERT INTO provisioning_job (grant_id, cycle, wanted, trigger, because, state, created_at)"
    " SELECT id, 1, true, 'paid', 'bench', 'open', now() FROM grants",
    "INSERT INTO simulator_record (vendor, kind, key, record, created_at)"
    " VALUES ('tradingview', 'setting', 'latency_ms', jsonb_build_object('ms', CAST(:latency AS int)), now())",
)
