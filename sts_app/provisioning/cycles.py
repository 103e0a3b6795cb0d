"""The cycles of a grant: each change of what is wanted has its own tries, history, tasks and letters.

Whoever calls these holds the lock of the grant's row, and of its person where there is one.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.provisioning.models import Grant, ManualTask, ProvisioningJob
from sts_app.provisioning.rules import GrantState, TaskKind, Trigger

CONFIRMED_BY_STAFF = "confirmed by staff"


def turn(grant: Grant, *, wanted: bool, trigger: Trigger, because: str, now: datetime) -> None:
    """Begin a new cycle: what is wanted of a pair has changed, or TradingView shows something else than we knew.

    A pair that nothing was ever sent for is absent at once; any other is revoked until read as absent,
    the one whose answer was lost included. A call in flight keeps its lease: its settling sees the change.
    """
    close_job(grant, "superseded", now)
    close_task(grant, "no longer needed", now)
    grant.wanted = wanted
    grant.cycle += 1
    grant.failed_tries = grant.spent_tries = grant.lost_claims = 0
    grant.last_reason = grant.said_by = None
    if not wanted and grant.called_at is None:
        grant.state, grant.next_attempt_at = GrantState.ABSENT, None
        open_job(grant, trigger, because)
        close_job(grant, "reached", now)
        return
    grant.state = GrantState.PENDING if wanted else GrantState.REVOKING
    grant.next_attempt_at = now
    open_job(grant, trigger, because)


def confirm(grant: Grant, now: datetime, *, look_at: datetime | None = None) -> None:
    """Take a person's word for it that the pair is as wanted: TradingView cannot be read at present.

    `look_at` is when it is to be read after all, None where nothing ever can be.
    """
    grant.state = GrantState.VERIFIED if grant.wanted else GrantState.ABSENT
    grant.said_by = None
    prove(grant, CONFIRMED_BY_STAFF, now)
    grant.next_attempt_at = max(filter(None, (grant.next_attempt_at, look_at)), default=None)


def prove(grant: Grant, evidence: str, now: datetime) -> None:
    """Write down since when a pair is known to stand as it should, and by what. Closes its job and its task.

    It is due again only while a late call may still undo it.
    """
    if grant.wanted:
        grant.verified_at = now
        grant.granted_at = grant.granted_at or now
    else:
        grant.absent_at = now
    grant.evidence = evidence
    # A call whose answer never came may still be carried out: look once more when it cannot be any longer.
    if grant.late_call_until is not None and grant.late_call_until <= now:
        grant.late_call_until = None
    grant.next_attempt_at = grant.late_call_until
    close_job(grant, "reached", now)
    close_task(grant, evidence, now)


def open_job(grant: Grant, trigger: Trigger, because: str) -> None:
    """Begin the history of what is tried for this cycle of the grant."""
    db.session.add(
        ProvisioningJob(grant_id=grant.id, cycle=grant.cycle, wanted=grant.wanted, trigger=trigger, because=because)
    )
    db.session.flush()


def close_job(grant: Grant, state: str, now: datetime) -> None:
    """Say how the tries ended, or that staff have them (`with_staff`). Quiet when no job is open."""
    db.session.execute(
        sa.update(ProvisioningJob)
        .where(ProvisioningJob.grant_id == grant.id, ProvisioningJob.state.in_(("open", "with_staff")))
        .values(state=state, closed_at=None if state == "with_staff" else now)
    )


def open_task(grant: Grant, kind: TaskKind, because: str) -> None:
    """Hand a pair to a person. At most one open task per grant; safe to call twice."""
    db.session.execute(
        insert(ManualTask)
        .values(
            grant_id=grant.id,
            cycle=grant.cycle,
            wanted=grant.wanted,
            kind=kind,
            because=because,
            created_at=clock.now(),
        )
        .on_conflict_do_nothing()
    )
    close_job(grant, "with_staff", clock.now())


def close_task(grant: Grant, because: str, now: datetime, *, by: str = "system", **more: str | None) -> None:
    """Take the pair back from the person who was asked. Quiet when nobody was.

    `more` holds `outcome` and `note` where a person closed it.
    """
    db.session.execute(
        sa.update(ManualTask)
        .where(ManualTask.grant_id == grant.id, ManualTask.closed_at.is_(None))
        .values(closed_at=now, closed_because=because, closed_by=by, **more)
    )


def take_back(grant: Grant, now: datetime, *, because: str, by: str = "system") -> None:
    """Try again by machine what a person had, from the start of this cycle's tries."""
    close_task(grant, because, now, by=by)
    db.session.execute(
        sa.update(ProvisioningJob)
        .where(ProvisioningJob.grant_id == grant.id, ProvisioningJob.state == "with_staff")
        .values(state="open")
    )
    grant.state = GrantState.PENDING if grant.wanted else GrantState.REVOKING
    grant.next_attempt_at = now
    grant.failed_tries = grant.spent_tries = grant.lost_claims = 0
    grant.said_by = None
