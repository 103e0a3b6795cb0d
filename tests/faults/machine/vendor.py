"""TradingView over HTTP for the machine: the loopback fakes, with a gate in front of every call.

A call stops at two points, when it has *arrived* and when its deed is *done*. There the scheduler may let
it go on, lose it, or lose its answer. A call whose caller is gone may still be carried out later: a *late*
deed. The gate also watches what no row can tell: two writes of one pair under way at once, and access
given to somebody who never had a reason.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.access_service import AccessServiceFake
from tests.fakes.loopback import Reply, Request
from tests.fakes.tradingview_site import TradingViewSite
from tests.fakes.vendor import Act, TradingViewFake
from tests.faults.machine import lockstep
from tests.faults.machine.lockstep import Actor, Crash

Pair = tuple[str, str]

ARRIVED, DONE = "vendor:arrived", "vendor:done"
_callers: dict[int, Actor] = {}


def remember_caller(sock: socket.socket) -> None:
    """Note which actor the connection that was just opened belongs to."""
    actor = lockstep.current()
    if actor is not None:
        _callers[sock.getsockname()[1]] = actor


@dataclass(eq=False)
class Call:
    """One request on its way. `is_lost` cuts its connection; `is_late` when its caller no longer waits for it."""

    actor: Actor
    what: str
    pairs: frozenset[Pair]
    is_write: bool
    sent_at: datetime
    is_lost: bool = False
    is_late: bool = False
    is_given_up: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    done: threading.Event = field(default_factory=threading.Event)


class Gate:
    """What stands between the store and a fake: parks calls, loses them, and notes each deed."""

    def __init__(self) -> None:
        self.late: list[Call] = []
        self.flying: list[Call] = []
        self.overlaps: list[str] = []
        self.calls = 0
        self.on_deed: Callable[[Call, set[Pair], set[Pair]], None] = lambda call, given, taken: None
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget everything of the history before; what still waits is never carried out."""
        for call in list(self.late):
            self.give_up(call)
        self.late, self.flying, self.overlaps, self.calls = [], [], [], 0

    def carry_out(self, call: Call) -> None:
        """Let a late deed happen now."""
        self.late.remove(call)
        call.go.release()
        call.done.wait(10)

    def give_up(self, call: Call) -> None:
        """A late call that will never be carried out."""
        self.late.remove(call)
        call.is_given_up = True
        call.go.release()

    def pass_through(
        self,
        request: Request,
        answer: Callable[[], Reply],
        *,
        what: str,
        pairs: frozenset[Pair],
        is_write: bool,
        holders: dict[Pair, Any],
    ) -> Reply:
        """Let the fake answer between the two points. Raises what cuts the connection."""
        actor = _callers.get(request.port)
        if actor is None or actor.is_over:
            return answer()
        call = Call(actor, what, pairs, is_write, self.now())

        def deed() -> Reply:
            before = {pair for pair in call.pairs if pair in holders}
            whole = {pair for pair in before if holders[pair] is None}
            try:
                return answer()
            finally:
                after = {pair for pair in call.pairs if pair in holders}
                given = {pair for pair in after if holders[pair] is None} - whole
                if given or before - after:
                    self.on_deed(call, given, before - after)

        self.calls += 1
        self._take_off(call)
        actor.call = call
        try:
            response = self._go_through(actor, call, request, deed)
        finally:
            self._land(call)
            if actor.call is call:
                actor.call = None
            call.done.set()
        if call.is_lost or call.is_late or response is None:
            raise ConnectionAbortedError
        return response

    def _go_through(self, actor: Actor, call: Call, request: Request, deed: Callable[[], Reply]) -> Reply | None:
        with suppress(Crash):
            actor.park(ARRIVED)
        if actor.is_dead or call.is_lost:
            self._cut(call, request)
            if not call.is_late and not actor.is_dead:
                return None
            # Nobody waits for it any more, and it may be carried out all the same.
            call.is_late = True
            self.late.append(call)
            call.go.acquire()
            if call.is_given_up:
                return None
            return deed()
        answer = deed()
        with suppress(Crash):
            actor.park(DONE)
        if actor.is_dead or call.is_lost:
            self._cut(call, request)
        return answer

    def _cut(self, call: Call, request: Request) -> None:
        """The caller sees a broken connection at once, whatever becomes of the request."""
        call.is_lost = True
        self._land(call)
        if call.actor.call is call:
            call.actor.call = None
        with suppress(OSError):
            request.socket.shutdown(socket.SHUT_RDWR)

    def _take_off(self, call: Call) -> None:
        with self._lock:
            for other in self.flying:
                if call.is_write and other.is_write and call.pairs & other.pairs:
                    self.overlaps.append(
                        f"{call.actor.name} sends {call.what} while {other.actor.name} waits for {other.what}"
                    )
            self.flying.append(call)

    def _land(self, call: Call) -> None:
        with self._lock, suppress(ValueError):
            self.flying.remove(call)


class Gated(TradingViewFake):
    """A fake behind a gate."""

    gate: Gate

    def carry(self, request: Request, act: Act | None, answer: Callable[[], Reply]) -> Reply:
        pairs = frozenset(self.pairs_of(request))
        return self.gate.pass_through(
            request,
            answer,
            what=" ".join([request.method, request.path, *(f"{name} {script}" for name, script in sorted(pairs))]),
            pairs=pairs,
            is_write=act is not None and act.is_write,
            holders=self.holders,
        )


class GatedAccessService(Gated, AccessServiceFake):
    """The access service, in either dialect."""


class GatedSite(Gated, TradingViewSite):
    """TradingView's own site."""
