"""The promise, measured from the ledger: how long what was wanted took to be so at TradingView.

What counts is a *deed*: one purchase, one refund, one change of name. It opens a job for each script
within one transaction, and is kept when the slowest of them is. The rows do not name their deed, so jobs
of one TradingView name with the same trigger and the same reason belong together when no more than a
minute lies between one and the next. A superseded job (somebody changed their mind, or their name)
counts neither as kept nor as open: nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.provisioning import control, credentials, pace
from sts_app.provisioning.models import ProvisioningControl, VendorCall


class Promise(StrEnum):
    """What is promised, by the trigger of its jobs."""

    PAID = "paid"  # a payment known to us, until every strategy is read back
    ENDED = "ended"  # a refund or another end, until every strategy is read as absent
    RENAMED = "renamed"  # a name given or changed, until every strategy is read back under it


@dataclass(frozen=True)
class Measured:
    """One promise on one day (UTC) by when its deeds began; `day` None is the whole period.

    Times are seconds, None while there was nothing to measure. `open` counts deeds not kept yet; that of
    the whole period has also those that are older than the period.
    """

    promise: Promise
    day: date | None
    kept: int
    p50: float | None
    p95: float | None
    p99: float | None
    open: int
    oldest_open: timedelta | None


# What is older than the period is looked for among the grants that have not settled: they are few, and each
# leads to its one job, while a search by age alone would read the whole ledger.
MEASURE = sa.text("""
    WITH jobs AS (
        SELECT j.trigger, g.name_key, j.because, j.state, j.created_at, j.closed_at
        FROM provisioning_job j JOIN grants g ON g.id = j.grant_id
        WHERE j.trigger IN ('paid', 'ended', 'renamed') AND j.created_at >= :since
          AND j.wanted = (j.trigger <> 'ended') AND j.state <> 'superseded'
        UNION ALL
        SELECT j.trigger, g.name_key, j.because, j.state, j.created_at, j.closed_at
        FROM grants g JOIN provisioning_job j ON j.grant_id = g.id AND j.cycle = g.cycle
        WHERE g.state NOT IN ('verified', 'absent') AND j.created_at < :since
          AND j.trigger IN ('paid', 'ended', 'renamed')
          AND j.wanted = (j.trigger <> 'ended') AND j.state IN ('open', 'with_staff')
    ), marked AS (
        SELECT *, created_at - lag(created_at) OVER deed > interval '1 minute' AS begins
        FROM jobs WINDOW deed AS (PARTITION BY trigger, name_key, because ORDER BY created_at)
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY trigger, name_key, because ORDER BY created_at
        ) AS deed
        FROM marked
    ), deeds AS (
        SELECT trigger, min(created_at) AS began_at, max(closed_at) AS kept_at, bool_and(state = 'reached') AS kept
        FROM numbered GROUP BY trigger, name_key, because, deed
    ), measured AS (
        SELECT trigger, kept, (began_at AT TIME ZONE 'UTC')::date AS day, :now - began_at AS age,
               extract(epoch FROM kept_at - began_at)::double precision AS seconds
        FROM deeds
    )
    SELECT trigger, day, grouping(day) = 1 AS is_whole, count(*) FILTER (WHERE kept) AS kept,
           percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE kept) AS seconds,
           count(*) FILTER (WHERE NOT kept) AS open, max(age) FILTER (WHERE NOT kept) AS oldest
    FROM measured GROUP BY GROUPING SETS ((trigger, day), (trigger))
    ORDER BY trigger, is_whole DESC, day
""").bindparams(
    sa.bindparam("since", type_=sa.DateTime(timezone=True)), sa.bindparam("now", type_=sa.DateTime(timezone=True))
)


def since(days: int, now: datetime) -> datetime:
    """The beginning (UTC) of the period of so many days that ends with today."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days - 1)


def percentiles(days: int = 30, *, now: datetime | None = None) -> Sequence[Measured]:
    """Each promise by day and over the last `days` days with today, in one query.

    A promise without any deed is left out. Of a period, `day` None comes first.
    """
    now = now or clock.now()
    first = since(days, now)
    measured = []
    for row in db.session.execute(MEASURE, {"since": first, "now": now}):
        if not row.is_whole and row.day < first.date():
            continue
        p50, p95, p99 = row.seconds or (None, None, None)
        day = None if row.is_whole else row.day
        measured.append(Measured(Promise(row.trigger), day, row.kept, p50, p95, p99, row.open, row.oldest))
    return measured


def promise(now: datetime) -> dict[str, Any]:
    """The promises of today and of the last seven days, for machines: seconds and counts."""
    found = percentiles(7, now=now)
    today = now.astimezone(UTC).date()
    return {
        name: {
            "today": _shown(found, each, today),
            "last7Days": _shown(found, each, None),
        }
        for each, name in _NAMES.items()
    }


_NAMES = {
    Promise.PAID: "paidToVerified",
    Promise.ENDED: "endedToAbsent",
    Promise.RENAMED: "nameChangeToVerified",
}


def is_hindered() -> bool:
    """Whether something keeps the store from its work: sales are closed, or automatic calls may not be made.

    A store without any way to TradingView makes none, and is not hindered by that.
    """
    standing = control.standing()
    return standing.sales_closed or (standing.has_adapter and not standing.may_write)


def is_away() -> bool:
    """Whether TradingView refuses our session (an incident), or none of the calls we could make is answered."""
    standing = control.standing()
    return standing.incident_id is not None or (standing.has_adapter and standing.circuit_open)


def figures(now: datetime) -> dict[str, Any]:
    """What stands between us and TradingView and how the promise is kept, for machines. Reads stored rows alone."""
    row = db.session.scalars(sa.select(ProvisioningControl)).one()
    incident = control.open_incident()
    kept = credentials.kept()
    return {
        "switch": row.switch,
        "incident": None
        if incident is None
        else {"id": incident.id, "since": incident.created_at.isoformat(), "refusals": incident.refusals},
        "circuit": {
            "open": row.circuit_opened_at is not None,
            "since": _moment(row.circuit_opened_at),
            "nextCanary": _moment(row.canary_at),
        },
        "session": {"verdict": row.session_verdict, "checkedAt": _moment(row.session_checked_at)},
        "credentials": None if kept is None else {"ageDays": kept.age.days, "key": kept.key},
        "pace": pace.figures(),
        "promise": promise(now),
    }


def last_call() -> dict[str, Any] | None:
    """The last call to TradingView as it ended, None while none was made: what health shows in place of a probe."""
    call = db.session.scalar(sa.select(VendorCall).order_by(VendorCall.id.desc()).limit(1))
    if call is None:
        return None
    return {"op": call.op, "outcome": call.outcome, "ms": call.ms, "at": call.created_at.isoformat()}


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _shown(found: Sequence[Measured], promise: Promise, day: date | None) -> dict[str, Any]:
    row = next((each for each in found if each.promise is promise and each.day == day), None)
    if row is None:
        return {"kept": 0, "p50": None, "p95": None, "p99": None, "open": 0, "oldestOpenSeconds": None}
    return {
        "kept": row.kept,
        **{
            name: None if value is None else round(value, 1)
            for name, value in (("p50", row.p50), ("p95", row.p95), ("p99", row.p99))
        },
        "open": row.open,
        "oldestOpenSeconds": None if row.oldest_open is None else round(row.oldest_open.total_seconds()),
    }
