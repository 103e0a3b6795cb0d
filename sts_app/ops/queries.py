"""What health and doctor look at."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from flask import current_app
from redis.exceptions import RedisError

from sts_app.accounts.models import Role, User
from sts_app.billing import queries as billing
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import depths, redis_connection
from sts_app.emails import queries as emails
from sts_app.ops.models import Heartbeat
from sts_app.ops.services import STALE_AFTER, SWEEP, last_run
from sts_app.privacy import queries as privacy
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning import slo

Check = dict[str, Any]


def schema() -> Check:
    """Whether the database is at least as new as this code. An unknown revision is a newer one.

    Old code must run on the new schema for the length of a deploy, and for as long as a rollback lasts.
    """
    scripts = ScriptDirectory(str(current_app.extensions["migrate"].directory))
    head = scripts.get_current_head()
    try:
        at = db.session.scalar(sa.text("SELECT version_num FROM alembic_version"))
    except sa.exc.ProgrammingError:
        db.session.rollback()
        at = None
    known = {script.revision for script in scripts.walk_revisions()}
    behind = at is None or (at in known and at != head)
    return {"status": "unhealthy" if behind else "healthy", "revision": at, "code": head}


def database() -> Check:
    began = time.monotonic()
    try:
        db.session.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError:
        db.session.rollback()
        return {"status": "unhealthy"}
    return {"status": "healthy", "ms": _ms(began)}


def redis() -> Check:
    began = time.monotonic()
    try:
        redis_connection().ping()
    except RedisError:
        # The store keeps selling and delivering without it, only later.
        return {"status": "degraded"}
    return {"status": "healthy", "ms": _ms(began)}


def heartbeat(kind: str, now: datetime) -> Check:
    seen = db.session.scalar(sa.select(sa.func.max(Heartbeat.seen_at)).where(Heartbeat.kind == kind))
    fresh = seen is not None and now - seen <= STALE_AFTER
    return {"status": "healthy" if fresh else "degraded", "lastSeen": seen.isoformat() if seen else None}


def queues() -> Check:
    try:
        waiting = depths()
    except RedisError:
        return {"status": "degraded"}
    return {"status": "healthy", "depths": waiting}


def provisioning_state(now: datetime, *, detail: bool) -> Check:
    """What stands between us and TradingView, and how the promise is kept. Degraded while a person is needed."""
    tasks = provisioning.open_tasks()
    check: Check = {"status": "degraded" if tasks or slo.is_hindered() else "healthy"}
    if not detail:
        return check
    return check | {
        "mode": current_app.config["STS"].provisioning_mode,
        "grants": provisioning.count_by_state(),
        "due": provisioning.grants_due(now),
        "manualTasks": tasks,
        **slo.figures(now),
    }


def backlog(now: datetime) -> Check:
    swept = last_run(SWEEP)
    return {
        "status": "healthy" if swept is not None and now - swept <= STALE_AFTER * 2 else "degraded",
        "events": billing.work_due(now),
        "letters": emails.letters_due(now),
        "lastSweep": swept.isoformat() if swept else None,
    }


def vendor(chosen: str, in_trouble: int, *, is_away: bool = False, **more: Any) -> Check:
    """How a vendor treats us, by what our rows have seen of it: a question from outside asks no vendor.

    `is_away` says that nothing can be in trouble any more, because nothing is asked of it.
    """
    status = "degraded" if in_trouble or is_away else "healthy"
    return {"status": status, "vendor": chosen, "inTrouble": in_trouble, **more}


def erasures(now: datetime) -> Check:
    """Whether everybody who asked to be erased is, in time."""
    late = len(privacy.overdue(now))
    return {"status": "degraded" if late else "healthy", "open": privacy.open_count(), "overdue": late}


def admin_exists() -> Check:
    found = db.session.scalar(sa.select(User.id).where(User.role == Role.ADMIN).limit(1))
    return {"status": "healthy" if found is not None else "unhealthy"}


def all_checks(*, detail: bool) -> dict[str, Check]:
    """Every check by name. The database comes first: without it nothing else can be asked.

    `detail` says whether figures are reckoned that take the database a while; strangers do not see them.
    """
    now = clock.now()
    first = database()
    if first["status"] != "healthy":
        return {"database": first, "redis": redis()}
    settings = current_app.config["STS"]
    return {
        "database": first,
        "schema": schema(),
        "redis": redis(),
        "worker": heartbeat("worker", now),
        "scheduler": heartbeat("scheduler", now),
        "queues": queues(),
        "backlog": backlog(now),
        "provisioning": provisioning_state(now, detail=detail),
        "adminUser": admin_exists(),
        "erasures": erasures(now),
        "stripe": vendor(settings.payments_vendor, billing.work_in_trouble()),
        "resend": vendor(settings.mail_vendor, emails.letters_in_trouble()),
        "tradingview": vendor(
            settings.provisioning_mode,
            provisioning.grants_in_trouble(),
            is_away=slo.is_away(),
            lastCall=slo.last_call(),
        ),
    }


def worst(checks: dict[str, Check]) -> str:
    found = {check["status"] for check in checks.values()}
    return next((status for status in ("unhealthy", "degraded") if status in found), "healthy")


def _ms(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)
