"""A TradingView of our own: it remembers who holds what, and misbehaves when told to.

Names of 3 to 30 letters, digits, `_` or `-` are known, except those that begin with "unknown", in any
case. TradingView's own spelling of a name is the typed one with its first letter in upper case, so
that one sees it win over what was typed.

The memory is a `Store`, so web and worker see one vendor. Whoever makes it misbehave (a page, a test,
a demonstration) uses the functions at the end with the same store.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

import structlog

from sts_app.core import clock
from sts_app.core.store import Record, Store
from sts_app.provisioning.gateway import (
    AccessFact,
    CallMade,
    Holder,
    Meter,
    NeedsCustomer,
    NeedsStaff,
    ScriptAnswer,
    TradingViewError,
    Trouble,
    TryLater,
    outcome_of,
    unmetered,
)

log = structlog.get_logger()

DEFAULT_LATENCY_MS = 150
DEFAULT_RATE_LIMIT_SECONDS = 30.0
# Rows of one operation's count before they are folded into one.
COUNT_ROWS = 16

_NAME = re.compile(r"[A-Za-z0-9_-]{3,30}")


class Fault(StrEnum):
    """What can go wrong. All but the last three are spent by one grant or revoke call each."""

    FAIL = "fail"  # nothing is done, TryLater
    RATE_LIMIT = "rate_limit"  # nothing is done, TryLater with a delay
    TIMEOUT = "timeout"  # nothing is done, TryLater as after a wait in vain
    LIE = "lie"  # nothing is done, and the answer says that it was
    LOSE_ANSWER = "lose_answer"  # it is done, TryLater
    REFUSE = "refuse"  # nothing is done, "Failure" for every script
    SLOW_BEFORE = "slow_before"  # a wait, then it is done
    SLOW_AFTER = "slow_after"  # it is done, then a wait
    UNKNOWN = "unknown"  # stands until `behave`: nobody is known
    DEAD_SESSION = "dead_session"  # stands until `behave`: NeedsStaff for every call
    READS_FAIL = "reads_fail"  # stands until `behave`: TryLater for every read

    @property
    def stands(self) -> bool:
        """True for what lasts until `behave`, False for what one call spends."""
        return self in (Fault.UNKNOWN, Fault.DEAD_SESSION, Fault.READS_FAIL)


@dataclass(frozen=True)
class Holding:
    """Access that stands at the simulated vendor. `expires_at` None means for life."""

    username: str
    script_id: str
    granted_at: datetime
    expires_at: datetime | None = None


class SimulatedTradingView:
    """The `TradingView` gateway over a memory. Nothing here opens a connection to anybody.

    Every call waits for the latency of `set_latency` (150 ms unless told otherwise) with `sleep`, which
    takes seconds. Reads stay honest whatever was asked for, except for the faults that stand. `meter` is
    told of every call, as if it had gone over the wire.
    """

    one_call_for_all = True

    def __init__(self, store: Store, *, sleep: Callable[[float], None] = time.sleep, meter: Meter = unmetered) -> None:
        self._store = store
        self._sleep = sleep
        self._meter = meter

    def find_name(self, name: str) -> str | None:
        """TradingView's spelling: the first letter in upper case. None for names nobody there has."""
        with self._call("find_name"):
            self._fail_reads("find_name")
            return None if _stands(self._store, Fault.UNKNOWN) else _spelling(name)

    def grant(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Give access for life, or take the end away from access that has one. Granting again changes
        nothing, the day of the first grant included.
        """

        def give(spelling: str, script_id: str) -> None:
            key, record = _key(spelling, script_id), _access(spelling, script_id, None)
            held = self._store.get("access", key) if not self._store.add("access", key, record) else None
            if held is not None and held.get("expires_at") is not None:
                self._store.put("access", key, held | {"expires_at": None})

        return self._write("grant", name, script_ids, give)

    def revoke(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Take access away; what is absent is passed over in silence."""

        def remove(spelling: str, script_id: str) -> None:
            self._store.delete("access", _key(spelling, script_id))

        return self._write("revoke", name, script_ids, remove)

    def has_access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact]:
        """What stands. Raises `NeedsCustomer` for an unknown name, as a secured access service does."""
        if not script_ids:
            return []
        with self._call("has_access"):
            self._fail_reads("has_access")
            spelling = self._known(name, "has_access")
            found = [(script_id, self._store.get("access", _key(spelling, script_id))) for script_id in script_ids]
            return [
                AccessFact(script_id, has_access=record is not None, expires_at=_end(record))
                for script_id, record in found
            ]

    def list_holders(self, script_id: str) -> list[Holder]:
        """Everybody who holds a script, oldest first."""
        with self._call("list_holders"):
            self._fail_reads("list_holders")
            return [
                Holder(held.username, held.expires_at) for held in holdings(self._store) if held.script_id == script_id
            ]

    def check_session(self) -> None:
        """Quiet unless told to misbehave: `NeedsStaff` when the session is dead, `TryLater` when reads fail."""
        with self._call("check_session"):
            self._fail_reads("check_session")

    def _write(
        self, op: str, name: str, script_ids: Sequence[str], do: Callable[[str, str], None]
    ) -> list[ScriptAnswer]:
        if not script_ids:
            return []
        with self._call(op):
            fault, seconds = _spend(self._store)
            if fault is Fault.FAIL:
                raise TryLater(f"{op}: simulated failure")
            if fault is Fault.RATE_LIMIT:
                raise TryLater(
                    f"{op}: simulated rate limit", after=timedelta(seconds=seconds), trouble=Trouble.RATE_LIMIT
                )
            if fault is Fault.TIMEOUT:
                raise TryLater(f"{op}: simulated wait in vain", trouble=Trouble.TIMEOUT)
            spelling = self._known(name, op)
            if fault is Fault.REFUSE:
                return [ScriptAnswer(script_id, "Failure") for script_id in script_ids]
            if fault is Fault.SLOW_BEFORE:
                self._sleep(seconds)
            if fault is not Fault.LIE:
                for script_id in script_ids:
                    do(spelling, script_id)
            if fault is Fault.SLOW_AFTER:
                self._sleep(seconds)
            if fault is Fault.LOSE_ANSWER:
                raise TryLater(f"{op}: simulated loss of the answer")
            return [ScriptAnswer(script_id) for script_id in script_ids]

    @contextmanager
    def _call(self, op: str) -> Iterator[None]:
        """What every call has: a count, a latency, a dead session perhaps, one log line, and the meter told."""
        started = time.monotonic()
        outcome = "broken"
        after: timedelta | None = None
        try:
            _count(self._store, op)
            self._sleep(latency(self._store) / 1000)
            if _stands(self._store, Fault.DEAD_SESSION):
                raise NeedsStaff(f"{op}: simulated dead session")
            yield
            outcome = "answered"
        except TradingViewError as failure:
            outcome = outcome_of(failure)
            after = failure.after if isinstance(failure, TryLater) else None
            raise
        finally:
            ms = round((time.monotonic() - started) * 1000)
            limited = outcome == Trouble.RATE_LIMIT
            log.info("tradingview.call", op=op, status=None, ms=ms, outcome=outcome, simulated=True)
            kind: Literal["read", "write"] = "write" if op in ("grant", "revoke") else "read"
            self._meter(CallMade(kind, op, outcome, ms, limited=limited, after=after))

    def _known(self, name: str, op: str) -> str:
        if _stands(self._store, Fault.UNKNOWN):
            raise NeedsCustomer(f"{op}: simulated unknown name")
        return _known(name, op)

    def _fail_reads(self, op: str) -> None:
        if _stands(self._store, Fault.READS_FAIL):
            raise TryLater(f"{op}: simulated failure of reads")


def misbehave(store: Store, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
    """Make the next `times` grant or revoke calls go wrong, after the faults that wait already.

    `seconds` is the wait of the slow ones and the delay that a rate limit names (30 unless given). A
    fault that stands (`Fault.stands`) ignores both and lasts until `behave`.
    """
    if fault.stands:
        store.put("setting", fault.value, {"on": True})
        return
    if fault is Fault.RATE_LIMIT and not seconds:
        seconds = DEFAULT_RATE_LIMIT_SECONDS
    for _ in range(times):
        store.add("fault", uuid.uuid4().hex, {"fault": fault.value, "seconds": seconds})


def behave(store: Store) -> None:
    """Forget every fault, waiting or standing. What was granted and the latency stay."""
    for key, _ in store.all("fault"):
        store.delete("fault", key)
    for fault in Fault:
        if fault.stands:
            store.delete("setting", fault.value)


def faults_waiting(store: Store) -> list[Fault]:
    """Those that stand, then those that wait to be spent in the order they will be."""
    standing = [fault for fault in Fault if fault.stands and _stands(store, fault)]
    return standing + [Fault(record["fault"]) for _, record in store.all("fault")]


def set_latency(store: Store, ms: int) -> None:
    """Make every call from now on take `ms` milliseconds longer than its work."""
    store.put("setting", "latency_ms", {"ms": ms})


def latency(store: Store) -> int:
    """Milliseconds that every call waits."""
    record = store.get("setting", "latency_ms")
    return DEFAULT_LATENCY_MS if record is None else int(record["ms"])


def holdings(store: Store) -> list[Holding]:
    """All access that stands, oldest first, read from the memory itself: this is no call."""
    return [
        Holding(record["username"], record["script_id"], datetime.fromisoformat(record["granted_at"]), _end(record))
        for _, record in store.all("access")
    ]


def give(store: Store, name: str, script_id: str, *, expires_at: datetime | None = None) -> None:
    """Give access behind everybody's back, as a person does on the vendor's own pages. This is no call."""
    store.put("access", _key(name, script_id), _access(_spelling(name) or name, script_id, expires_at))


def take(store: Store, name: str, script_id: str) -> None:
    """Take access away behind everybody's back."""
    store.delete("access", _key(name, script_id))


def calls(store: Store) -> dict[str, int]:
    """How often each operation was called since the memory began, failed calls included.

    A reader may miss up to `COUNT_ROWS` calls of an operation for the blink in which they are folded.
    """
    counts: Counter[str] = Counter()
    for key, record in store.all("calls"):
        counts[_op_of(key)] += record["count"]
    return dict(counts)


def _count(store: Store, op: str) -> None:
    """Add one to the count of `op`, whichever processes do the same at this moment.

    The store cannot add, and read-then-write would lose counts, so every call is a row of its own. From
    time to time a caller takes the rows away and writes their sum as one. A row can be taken once only,
    so two who fold at the same time share the rows and count none twice.
    """
    _put_count(store, op, 1)
    rows = [key for key, _ in store.all("calls") if _op_of(key) == op]
    if len(rows) > COUNT_ROWS:
        taken: list[Record | None] = [store.take("calls", key) for key in rows]
        _put_count(store, op, sum(record["count"] for record in taken if record is not None))


def _put_count(store: Store, op: str, count: int) -> None:
    if count:
        store.add("calls", f"{op}|{uuid.uuid4().hex}", {"count": count})


def _op_of(key: str) -> str:
    return key.partition("|")[0]


def _spend(store: Store) -> tuple[Fault | None, float]:
    """The oldest waiting fault, now ours alone, and its seconds."""
    for key, _ in store.all("fault"):
        record = store.take("fault", key)
        if record is not None:
            return Fault(record["fault"]), float(record["seconds"])
    return None, 0.0


def _stands(store: Store, fault: Fault) -> bool:
    return store.get("setting", fault.value) is not None


def _access(spelling: str, script_id: str, expires_at: datetime | None) -> Record:
    end = expires_at.isoformat() if expires_at is not None else None
    return {"username": spelling, "script_id": script_id, "granted_at": clock.now().isoformat(), "expires_at": end}


def _end(record: Record | None) -> datetime | None:
    """When access ends. A memory of before there were ends has none."""
    end = record.get("expires_at") if record is not None else None
    return datetime.fromisoformat(end) if end is not None else None


def _spelling(name: str) -> str | None:
    if not _NAME.fullmatch(name) or name.lower().startswith("unknown"):
        return None
    return name[0].upper() + name[1:]


def _known(name: str, op: str) -> str:
    spelling = _spelling(name)
    if spelling is None:
        raise NeedsCustomer(f"{op}: the simulated TradingView does not know this name")
    return spelling


def _key(name: str, script_id: str) -> str:
    return f"{name.lower()}|{script_id}"
