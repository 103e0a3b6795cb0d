"""Processes of the store as threads that move one at a time, from point to point, when they are told to.

A point is a place where a process could die or be overtaken: before and after each commit, and inside
each call to TradingView. Between two points a thread runs freely; a scheduler decides who moves next. A
thread that waits for a lock of another is seen as *blocked* by asking PostgreSQL, never by guessing from
time, so the same choices lead to the same history.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psycopg

_here = threading.local()

PATIENCE = 0.006
STUCK_SECONDS = 60.0


class Crash(BaseException):
    """The process that this thread stands for was killed here."""


class Stuck(AssertionError):
    """A thread neither reached a point nor waits for a lock: the machine itself is broken."""


class Actor:
    """One process doing one thing. `skew` is how far its clock is off, in seconds; `hurry` passes all points."""

    def __init__(self, lockstep: Lockstep, name: str, deed: Callable[[], Any], *, skew: float, began: float) -> None:
        self.lockstep = lockstep
        self.name = name
        self.skew = skew
        self.began = began
        self.hurry = False
        self.point = "start"
        self.phase = ""
        self.is_over = self.is_blocked = False
        self.is_dead = self.is_dropped = self.was_hurt = False
        self.failure: BaseException | None = None
        self.call: Any = None
        self.on_commit: list[Callable[[], None]] = []
        # The server's process of each connection that is checked out, by the connection.
        self.connections: dict[int, int] = {}
        self._deed = deed
        self._is_moving = True
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_parked(self) -> bool:
        return not (self._is_moving or self.is_over)

    def _run(self) -> None:
        _here.actor = self
        try:
            self.park("start")
            self._deed()
        except BaseException as failure:
            # Whatever a killed process would have raised, nobody hears of it.
            self.failure = None if self.is_dead else failure
        finally:
            self.lockstep.report(self, over=True)

    def park(self, point: str) -> None:
        """Wait here until the scheduler lets this actor move on. Raises `Crash` if it was killed meanwhile."""
        if self.is_dead:
            raise Crash
        if self.hurry:
            return
        self.point = point
        self.lockstep.report(self)
        self._go.acquire()
        if self.is_dead:
            raise Crash

    def begin(self) -> None:
        self._thread.start()

    def resume(self) -> None:
        self._is_moving = True
        self._go.release()

    def settle(self, *, over: bool) -> None:
        self._is_moving = False
        self.is_blocked = False
        self.is_over = self.is_over or over

    def join(self) -> None:
        self._thread.join(STUCK_SECONDS)

    def committed(self) -> None:
        """Tell the model what has just become true."""
        self.lockstep.commits += 1
        told, self.on_commit = self.on_commit, []
        for tell in told:
            tell()

    def pids(self) -> list[int]:
        return list(self.connections.values())


def current() -> Actor | None:
    """The actor this thread is, or None outside of the machine."""
    return getattr(_here, "actor", None)


def label(phase: str) -> None:
    """Name what the present actor is about to do, for traces and for choosing where to crash it."""
    actor = current()
    if actor is not None:
        actor.phase = phase


class Lockstep:
    """Moves actors one at a time. `monitor` is a connection of its own, in autocommit, that holds no lock ever."""

    def __init__(self, monitor: psycopg.Connection[Any]) -> None:
        self._monitor = monitor
        self._changed = threading.Condition()
        self.actors: list[Actor] = []
        # Counts what could have changed anything: whoever looks may skip a look when it stands still.
        self.commits = 0

    def add(self, actor: Actor) -> Actor:
        """Let a new actor come as far as its start."""
        self.actors.append(actor)
        actor.begin()
        self.wait()
        return actor

    def report(self, actor: Actor, *, over: bool = False) -> None:
        with self._changed:
            actor.settle(over=over)
            self._changed.notify_all()

    def move(self, actor: Actor) -> None:
        """Let one parked actor go to its next point, its end or a lock, and all it thereby set free."""
        if actor.is_parked:
            actor.resume()
        self.wait()

    def wait(self) -> None:
        """Return when nobody moves: each actor is parked, over, or waits for a lock of another."""
        deadline = time.monotonic() + STUCK_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._moving(), PATIENCE)
                suspects = [actor for actor in self.actors if not (actor.is_parked or actor.is_over)]
            if not suspects:
                break
            # Only an open transaction of somebody else's keeps anybody waiting.
            blocked = self._blocked(suspects) if self._others_hold(suspects) else set()
            with self._changed:
                for actor in suspects:
                    actor.is_blocked = actor._is_moving and actor in blocked
                if not self._moving():
                    break
            if time.monotonic() > deadline:
                told = ", ".join(f"{a.name} after {a.point} {a.phase}" for a in suspects)
                raise Stuck(f"no point reached within {STUCK_SECONDS:.0f} s: {told}")
        for actor in [actor for actor in self.actors if actor.is_over]:
            actor.join()
            self.actors.remove(actor)

    def kill(self, actor: Actor) -> None:
        """End an actor as SIGKILL would: its connections are cut by the server, and it does nothing more."""
        actor.is_dead = True
        self.cut(actor)
        if actor.is_parked:
            actor.resume()
        self.wait()

    def cut(self, actor: Actor) -> None:
        """Drop the database connections of an actor. Returns when the server has rolled back what was open."""
        actor.was_hurt = True
        pids = actor.pids()
        for pid in pids:
            self.ask("SELECT pg_terminate_backend(%s)", pid)
        while pids and self.ask("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", pids):
            time.sleep(0.0005)

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a query on the monitor's connection."""
        return self._monitor.execute(query, values or None).fetchall()

    def close(self) -> None:
        """Kill whoever is left."""
        for actor in list(self.actors):
            if not actor.is_over:
                with suppress(Stuck):
                    self.kill(actor)

    def _moving(self) -> list[Actor]:
        return [actor for actor in self.actors if actor._is_moving and not actor.is_blocked]

    def _others_hold(self, suspects: list[Actor]) -> bool:
        holding = [actor for actor in self.actors if actor.connections and not actor.is_over]
        return len(holding) > 1 or any(actor not in suspects for actor in holding)

    def _blocked(self, suspects: Iterable[Actor]) -> set[Actor]:
        by_pid = {pid: actor for actor in suspects for pid in actor.pids()}
        if not by_pid:
            return set()
        rows = self.ask(
            "SELECT pid FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0", list(by_pid)
        )
        return {by_pid[row[0]] for row in rows}
