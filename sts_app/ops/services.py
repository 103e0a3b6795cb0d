"""The verbs of operations: the minute sweep, signs of life, one run per slot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from flask import current_app
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts import services as accounts
from sts_app.billing import addresses, evidence, ledger, reminders, settling
from sts_app.billing import queries as billing
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import redis_connection, wake
from sts_app.emails import letters as email_letters
from sts_app.emails import queries as emails
from sts_app.emails import services as email_services
from sts_app.ops.models import Heartbeat, PeriodicRun
from sts_app.privacy import queries as privacy
from sts_app.privacy import services as privacy_services
from sts_app.provisioning import control
from sts_app.provisioning import services as provisioning_services
from sts_app.support import services as support

log = structlog.get_logger()

BEAT_EVERY = timedelta(seconds=60)
STALE_AFTER = timedelta(seconds=120)
KEEP_RUNS = timedelta(days=7)
# So long a letter may be on its way back without anybody being told.
LOST_AFTER = timedelta(minutes=15)
KEEP_LETTERS = timedelta(days=180)
SWEEP = "ops.sweep"


def wake_for_due() -> None:
    """Wake a worker for whatever is due and was not waited for: the guarantee behind every wake-up."""
    control.take_back_left_behind()
    now = clock.now()
    for job, due in (
        ("billing.work", billing.work_due(now)),
        ("provisioning.work", control.work_due(now)),
        ("emails.work", emails.letters_due(now)),
        ("privacy.work", len(privacy.due(now))),
    ):
        if due:
            log.info("ops.sweep_found", job=job, due=due)
            wake(job)


def people_to_look_at() -> list[int]:
    """Whose access time alone has changed."""
    return provisioning_services.people_to_look_at()


def keep_in_step(user_id: int) -> None:
    """Put right for one person what time alone has changed."""
    provisioning_services.keep_in_step(user_id)


def purchases_unreckoned() -> Sequence[int]:
    """Paid purchases that code of an earlier version completed during a deploy."""
    return settling.left_behind()


def reckon(purchase_id: int) -> None:
    """Let status, access and entitlement of one of them say what its money says."""
    settling.reckon(purchase_id)


def checkouts_left() -> Sequence[int]:
    """The purchases whose buyers may be reminded now. None while sales are closed: they could not go on."""
    return [] if control.standing().sales_closed else reminders.due(clock.now())


def remind(purchase_id: int) -> None:
    """Write the one letter about a checkout that was left, if it may still be written."""
    reminders.remind(purchase_id)


def disputes_due() -> Sequence[int]:
    """The disputes whose time for an answer runs out, and of which staff were not warned."""
    return evidence.due_soon(clock.now())


def warn_of_dispute(dispute_id: int) -> None:
    """Warn staff of one of them, if it still waits for its answer."""
    evidence.warn(dispute_id)


def letters_lost() -> Sequence[int]:
    """How many letters did not arrive without staff having looked, alone; empty when none, or staff know today."""
    now = clock.now()
    count = emails.count_lost_unseen(now - LOST_AFTER)
    return [count] if count and not emails.is_told_of_lost(now) else []


def warn_of_letters(count: int) -> None:
    """Tell staff of them, once a day."""
    now = clock.now()
    lost = emails.lost_letters(latest=email_letters.SHOWN, unseen=True, until=now - LOST_AFTER)
    email_letters.letters_lost(lost, count=count, on=now)


def erasures_overdue() -> Sequence[int]:
    """The erasures that take too long."""
    return [each.id for each in privacy.overdue(clock.now())]


def warn_of_erasure(erasure_id: int) -> None:
    """Tell staff of one of them, once a day."""
    privacy_services.warn(erasure_id)


def note_new_addresses() -> None:
    """Let Stripe be told the addresses that customers have now."""
    addresses.note_changed()


def drop_held_forms() -> None:
    """Delete what people had typed and did not come back for within the hour."""
    accounts.drop_held()


def claim_slot(name: str, slot: datetime) -> int | None:
    """Take the run of `name` for `slot`; None when somebody has it. Returns the run's id."""
    return db.session.scalar(
        insert(PeriodicRun)
        .values(name=name, slot=slot, created_at=clock.now())
        .on_conflict_do_nothing()
        .returning(PeriodicRun.id)
    )


def finish_run(run_id: int) -> None:
    """Note that a claimed run came to its end."""
    db.session.execute(sa.update(PeriodicRun).where(PeriodicRun.id == run_id).values(finished_at=clock.now()))


def last_run(name: str) -> datetime | None:
    """When a run of `name` was last begun, finished or not."""
    return db.session.scalar(sa.select(sa.func.max(PeriodicRun.created_at)).where(PeriodicRun.name == name))


def sweep_is_stale(now: datetime) -> bool:
    """True when the scheduler seems dead: no sweep for two minutes."""
    last = last_run(SWEEP)
    return last is None or last + current_app.config["STS"].scaled(STALE_AFTER) < now


def claim_rescue_sweep() -> int | None:
    """The sweep of a worker that found the last one stale; one of several workers gets it."""
    now = clock.now()
    # Held to the end of this transaction only, so it works behind a transaction pooler.
    db.session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(SWEEP))))
    if not sweep_is_stale(now):
        return None
    return claim_slot(SWEEP, now)


def beat(process: str, kind: str, *, started_at: datetime, details: dict[str, Any]) -> None:
    """Leave a sign of life as a row, and in Redis for those who look there. A dead Redis is no death of ours."""
    now = clock.now()
    values = {"kind": kind, "seen_at": now, "started_at": started_at, "details": details}
    statement = insert(Heartbeat).values(process=process, **values)
    db.session.execute(statement.on_conflict_do_update(index_elements=["process"], set_=values))
    db.session.execute(sa.delete(Heartbeat).where(Heartbeat.seen_at < now - timedelta(days=1)))
    try:
        redis_connection().set(f"sts:{kind}:heartbeat:{process}", now.isoformat(), ex=STALE_AFTER)
    except RedisError as error:
        log.warning("ops.beat_without_redis", error=type(error).__name__)


def tidy() -> None:
    """Delete what is over: sign-in tokens a day after their end, ended sessions, old runs, letters and payloads."""
    now = clock.now()
    accounts.tidy()
    db.session.execute(sa.delete(PeriodicRun).where(PeriodicRun.created_at < now - KEEP_RUNS))
    email_services.drop_letters_before(now - KEEP_LETTERS)
    provisioning_services.tidy()
    ledger.tidy()
    support.tidy()
