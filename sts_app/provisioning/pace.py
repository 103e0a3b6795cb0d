"""The pace: one token bucket for all workers, for calls that change something and for calls that read.

A write is paid for when it is claimed, in the claim's own transaction, so that no two workers spend one
token. Reads are paid for as they are made: the read that proves a write must not wait for the next
minute, so it may be made on credit, and whoever comes next waits for it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import wake
from sts_app.provisioning.gateway import CallMade
from sts_app.provisioning.models import PaceBucket, VendorCall
from sts_app.settings import Settings

log = structlog.get_logger()

Kind = Literal["write", "read"]

# A rate limit halves the pace, down to this share of it; it doubles again for each quiet spell.
SMALLEST_FACTOR = 1 / 16
# Answers that come so close together belong to calls that were under way at once, and say one thing.
ONE_LIMIT = timedelta(seconds=5)
QUIET_SPELL = timedelta(minutes=10)
# What only keeps the store tidy leaves this share of the burst to buyers.
BUYERS_SHARE = 0.5
# No two calls in step with each other or with the minute: a wait is stretched by up to so much of itself.
JITTER = 0.2
LONGEST_PAUSE = 0.5
KEEP_CALLS = timedelta(days=7)
ROUNDING = 1e-6


@dataclass(frozen=True)
class Bucket:
    """What `refilled` reckons with. `per_minute` and `burst` are the settings, `factor` what is left of the pace."""

    tokens: float
    per_minute: float
    burst: float
    factor: float
    refilled_at: datetime
    limited_at: datetime | None
    held_until: datetime | None

    @property
    def rate(self) -> float:
        """Tokens a minute at present."""
        return self.per_minute * self.factor

    @property
    def capacity(self) -> float:
        """The most it holds at present; never so little that a call could not be made at all."""
        return max(1.0, self.burst * self.factor)

    def needed(self, *, urgent: bool) -> float:
        """How many tokens must be there for one call. What is not urgent leaves its share to buyers."""
        return 1.0 if urgent else min(self.capacity, 1 + self.capacity * BUYERS_SHARE)


def refilled(bucket: Bucket, now: datetime) -> Bucket:
    """The bucket as it is at `now`: filled by the time that passed, its pace recovered by the quiet.

    A clock that stands behind the one that filled it last adds nothing and takes nothing.
    """
    passed = max(now - bucket.refilled_at, timedelta(0))
    factor, limited_at = bucket.factor, bucket.limited_at
    while limited_at is not None and factor < 1 and now - limited_at >= QUIET_SPELL:
        factor, limited_at = min(1.0, factor * 2), limited_at + QUIET_SPELL
    recovered = replace(bucket, factor=factor, limited_at=limited_at if factor < 1 else None)
    # To the brim of today: filled to that of the smaller pace, it would never hold what upkeep must leave to buyers.
    tokens = min(recovered.capacity, bucket.tokens + passed.total_seconds() / 60 * bucket.rate)
    return replace(recovered, tokens=tokens, refilled_at=max(now, bucket.refilled_at))


def wait_for(bucket: Bucket, tokens: float, now: datetime) -> timedelta | None:
    """How long until so many tokens are there; None when they are there now."""
    held = bucket.held_until
    if held is not None and held > now:
        return held - now
    missing = tokens - bucket.tokens
    return None if missing <= ROUNDING else timedelta(minutes=missing / bucket.rate)


def limited(bucket: Bucket, now: datetime, after: timedelta | None) -> Bucket:
    """The bucket after TradingView asked for less: half the pace, nothing saved up, nobody before `after`.

    Several calls under way at once that are told so halve it once.
    """
    held = now + after if after is not None else None
    is_told_already = bucket.limited_at is not None and now - bucket.limited_at < ONE_LIMIT
    return replace(
        bucket,
        tokens=min(bucket.tokens, 0.0),
        factor=bucket.factor if is_told_already else max(bucket.factor / 2, SMALLEST_FACTOR),
        limited_at=now,
        held_until=max(filter(None, (held, bucket.held_until)), default=None),
    )


def stretched(wait: timedelta) -> timedelta:
    """A wait with its jitter, never shorter than asked."""
    return wait * (1 + random.uniform(0, JITTER))


def allow(kind: Kind, *, urgent: bool = True) -> timedelta | None:
    """None when a call may be made now, else how long to wait. The call itself pays, through `meter`.

    What is not urgent leaves their share to buyers, whose writes wait for reads as well.
    """
    with db.engine.begin() as connection:
        bucket = _locked(connection, kind)
        return wait_for(bucket, bucket.needed(urgent=urgent), clock.now())


def take_writes(calls: int, *, urgent: bool) -> tuple[int, timedelta | None]:
    """Take tokens for as many of `calls` writes as there are, in the caller's transaction.

    Returns how many may be made and None, or 0 and how long to wait. Without calls it asks only whether
    a read may be made: reads on credit hold writes up as well, since each write needs its read.
    """
    connection = db.session.connection()
    now = clock.now()
    write, read = _locked(connection, "write"), _locked(connection, "read")
    needed = write.needed(urgent=urgent) if calls else 0.0
    waits = [wait_for(write, needed, now) if calls else None, wait_for(read, 1, now)]
    wait = max(filter(None, waits), default=None)
    if wait is not None:
        return 0, wait
    taken = min(calls, int(write.tokens - needed + 1 + ROUNDING)) if calls else 0
    _store(connection, "write", replace(write, tokens=write.tokens - taken))
    return taken, None


def wake_when_full(wait: timedelta) -> None:
    """Order one wake-up for when `wait` is over, in the caller's transaction, unless an earlier one is ordered.

    Everybody who finds the bucket empty would order one of their own, and each of those the next.
    """
    now = clock.now()
    connection = db.session.connection()
    is_ordered = sa.and_(PaceBucket.woken_at > now, PaceBucket.woken_at <= now + wait * (1 + JITTER))
    delay = stretched(wait)
    ordered = connection.execute(
        sa.update(PaceBucket)
        .where(PaceBucket.kind == "write", sa.or_(PaceBucket.woken_at.is_(None), ~is_ordered))
        .values(woken_at=now + delay)
    )
    if ordered.rowcount:
        wake("provisioning.work", after=delay)


def pause() -> float:
    """Seconds to wait before a write, so that calls do not come in step: at most half a second, less at a fast pace."""
    settings: Settings = current_app.config["STS"]
    return random.uniform(0, min(LONGEST_PAUSE, 60 / settings.tv_writes_per_minute))


def meter(made: CallMade) -> None:
    """Count one call as it ended, pay for it unless it was paid for, and shrink the pace when TradingView asked for it.

    In a transaction of its own: the call was made, whatever becomes of ours. Raises nothing: what
    TradingView answered counts for more than the counting of it.
    """
    try:
        _count(made)
    except SQLAlchemyError as error:
        log.warning("provisioning.call_not_counted", op=made.op, error=type(error).__name__)
    if made.limited:
        log.warning("provisioning.pace_halved", op=made.op, after=made.after.total_seconds() if made.after else None)


def _count(made: CallMade) -> None:
    now = clock.now()
    # The write of each script was paid for when it was claimed. What comes on top is made on credit, as reads are.
    pays = made.kind == "read" or made.is_extra
    kinds: tuple[Kind, ...] = ("write", "read") if made.limited else (made.kind,) if pays else ()
    with db.engine.begin() as connection:
        for kind in kinds:
            bucket = _locked(connection, kind)
            if pays and kind == made.kind:
                bucket = replace(bucket, tokens=bucket.tokens - 1)
            _store(connection, kind, limited(bucket, now, made.after) if made.limited else bucket)
        connection.execute(
            sa.insert(VendorCall).values(kind=made.kind, op=made.op, outcome=made.outcome, ms=made.ms, created_at=now)
        )


def figures() -> dict[str, Any]:
    """What the pace is at this moment, by kind, and how many calls of the last hour ended how. For people to see."""
    now = clock.now()
    shown: dict[str, Any] = {}
    for row in db.session.scalars(sa.select(PaceBucket).order_by(PaceBucket.kind.desc())):
        bucket = refilled(_bucket(row), now)
        held = bucket.held_until if bucket.held_until is not None and bucket.held_until > now else None
        shown[row.kind] = {
            "tokens": round(bucket.tokens, 1),
            "perMinute": round(bucket.rate, 2),
            "burst": bucket.burst,
            "factor": bucket.factor,
            "heldUntil": held.isoformat() if held else None,
        }
    counted = db.session.execute(
        sa.select(VendorCall.kind, VendorCall.outcome, sa.func.count())
        .where(VendorCall.created_at > now - timedelta(hours=1))
        .group_by(VendorCall.kind, VendorCall.outcome)
        .order_by(VendorCall.kind, VendorCall.outcome)
    )
    shown["lastHour"] = [{"kind": kind, "outcome": outcome, "calls": calls} for kind, outcome, calls in counted]
    return shown


def tidy() -> None:
    """Forget calls older than a week."""
    db.session.execute(sa.delete(VendorCall).where(VendorCall.created_at < clock.now() - KEEP_CALLS))


def _locked(connection: sa.Connection, kind: str) -> Bucket:
    """The bucket as it is now, and ours until the transaction ends."""
    row = connection.execute(sa.select(PaceBucket.__table__).where(PaceBucket.kind == kind).with_for_update()).one()
    return refilled(_bucket(row), clock.now())


def _bucket(row: Any) -> Bucket:
    settings: Settings = current_app.config["STS"]
    per_minute, burst = (
        (settings.tv_writes_per_minute, settings.tv_write_burst)
        if row.kind == "write"
        else (settings.tv_reads_per_minute, settings.tv_read_burst)
    )
    return Bucket(row.tokens, per_minute, burst, row.factor, row.refilled_at, row.limited_at, row.held_until)


def _store(connection: sa.Connection, kind: str, bucket: Bucket) -> None:
    connection.execute(
        sa.update(PaceBucket)
        .where(PaceBucket.kind == kind)
        .values(
            tokens=bucket.tokens,
            factor=bucket.factor,
            refilled_at=bucket.refilled_at,
            limited_at=bucket.limited_at,
            held_until=bucket.held_until,
        )
    )
