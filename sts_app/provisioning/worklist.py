"""Manual work: what only a person can do at TradingView, and what becomes of it when they say so.

A person's word is checked wherever TradingView can be read: the engine reads the pair, and what it finds
otherwise comes back as another task or is tried by machine. Where nothing can be read, the word stands as
*confirmed by staff*. Nothing here changes what is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
import structlog

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.catalog.models import Strategy
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.core.money import as_moment
from sts_app.core.queue import wake
from sts_app.provisioning import control, cycles, engine, letters, queries, services
from sts_app.provisioning.models import Grant, ManualTask, ProvisioningAttempt, TradingViewName
from sts_app.provisioning.rules import GrantState, Outcome, TaskKind

log = structlog.get_logger()

DONE = "done"
CANNOT = "cannot"

NOTHING_TO_RETRY = {
    GrantState.VERIFIED: "Access stands there as it should: there is nothing to try again.",
    GrantState.ABSENT: "Access is gone there as it should be: there is nothing to try again.",
    GrantState.PENDING: "That is being tried already.",
    GrantState.REVOKING: "That is being tried already.",
    GrantState.NEEDS_CUSTOMER: "TradingView does not know the name. It is tried again once the customer corrects it.",
}


@dataclass(frozen=True)
class TaskRow:
    """One open task with all that a person needs: `name` and `script_id` are to be copied as they stand.

    `paid_at` is since when the holder has a reason, `since` when the task was opened; both are UTC. `email`
    is None when nobody holds the name any more. `last_try` tells of the newest try by machine, None without one.
    """

    task_id: int
    grant_id: int
    act: Literal["give", "remove"]
    name: str
    script_id: str
    strategy: str
    email: str | None
    paid_at: datetime
    since: datetime
    kind: TaskKind
    why: str
    last_try: str | None
    note: str | None


@dataclass(frozen=True)
class Counts:
    """How much waits for a person. `waiting_since` is when the task that waits longest was opened."""

    to_give: int
    to_remove: int
    by_kind: dict[TaskKind, int]
    waiting_since: datetime | None

    @property
    def open(self) -> int:
        return self.to_give + self.to_remove


def open_tasks(limit: int, after: int | None = None) -> list[TaskRow]:
    """Up to `limit` open tasks, who paid first before the others.

    `after` is the id of the last task of the page before, which may be closed by now. Refuses one that never was.
    """
    statement = (
        sa.select(ManualTask, Grant, Strategy.name, User.email)
        .join(Grant, Grant.id == ManualTask.grant_id)
        .join(Strategy, Strategy.id == Grant.strategy_id)
        .outerjoin(
            TradingViewName,
            sa.and_(TradingViewName.name_key == Grant.name_key, TradingViewName.released_at.is_(None)),
        )
        .outerjoin(User, User.id == TradingViewName.user_id)
        .where(ManualTask.closed_at.is_(None))
        .order_by(Grant.paid_at, ManualTask.id)
        .limit(limit)
    )
    if after is not None:
        last = db.session.execute(
            sa.select(Grant.paid_at, ManualTask.id)
            .join(ManualTask, ManualTask.grant_id == Grant.id)
            .where(ManualTask.id == after)
        ).one_or_none()
        if last is None:
            raise _no_task(after)
        statement = statement.where(sa.tuple_(Grant.paid_at, ManualTask.id) > tuple(last))
    found = db.session.execute(statement).all()
    tries = _last_tries([task.grant_id for task, _, _, _ in found])
    return [
        TaskRow(
            task_id=task.id,
            grant_id=grant.id,
            act="give" if task.wanted else "remove",
            name=grant.name_spelling,
            script_id=grant.script_id,
            strategy=strategy,
            email=email,
            paid_at=grant.paid_at,
            since=task.created_at,
            kind=TaskKind(task.kind),
            why=_why(task),
            last_try=tries.get(grant.id),
            note=task.note,
        )
        for task, grant, strategy, email in found
    ]


def counts() -> Counts:
    """What the open tasks are, by what is to be done and by why a person has them. One query."""
    statement = (
        sa.select(ManualTask.wanted, ManualTask.kind, sa.func.count(), sa.func.min(ManualTask.created_at))
        .where(ManualTask.closed_at.is_(None))
        .group_by(ManualTask.wanted, ManualTask.kind)
    )
    rows = db.session.execute(statement).all()
    by_kind = {kind: sum(row[2] for row in rows if row[1] == kind) for kind in TaskKind}
    return Counts(
        to_give=sum(row[2] for row in rows if row[0]),
        to_remove=sum(row[2] for row in rows if not row[0]),
        by_kind={kind: count for kind, count in by_kind.items() if count},
        waiting_since=min((row[3] for row in rows), default=None),
    )


def done(task_id: int, actor: str, *, note: str | None = None) -> bool:
    """A person says that a task is done. True when TradingView is read next, False when their word stands.

    Read back, the pair is verified, or comes back as a task of its own when TradingView shows something
    else; with automatic calls allowed the machine then tries itself. Refuses a task that is closed.
    """
    standing = control.standing()
    can_be_read = standing.may_read
    now = clock.now()
    [(task, grant)] = _take([task_id])
    because = "said to be done, to be read back" if can_be_read else cycles.CONFIRMED_BY_STAFF
    _close(task, grant, because, now, actor=actor, outcome=DONE, note=note)
    audit.record(actor, "provisioning.task_done", f"grant:{grant.id}", task=task.id, wanted=grant.wanted)
    if can_be_read:
        cycles.take_back(grant, now, because=because, by=actor)
        grant.said_by = actor
        db.session.flush()
        wake("provisioning.work")
    else:
        cycles.confirm(grant, now, look_at=now if standing.has_adapter else None)
        db.session.flush()
        for user_id in engine.people_of(grant.name_key):
            engine.move_on(user_id)
            # Whoever clears six tasks in a minute causes one letter; the sweep tells of what stays half done.
            if not _more_to_give(grant.name_key):
                services.announce(user_id)
    log.info("provisioning.task_done", task_id=task.id, grant_id=grant.id, read_back=can_be_read)
    return can_be_read


def cannot(task_id: int, actor: str, *, reason: str, also: Sequence[int] = ()) -> None:
    """A person gives up on giving access: the customer sees *Failed*, and is told what they can do.

    `also` names further tasks given up in the same act, so that a customer gets one letter for all of them. All
    are given up or none. Refuses no reason, a closed task, and a removal: what has ended must not stay open.
    """
    if not reason.strip():
        raise FixInput("Giving up needs a reason: whoever talks to the customer wants to know.")
    now = clock.now()
    taken = _take([task_id, *also])
    if any(not grant.wanted for _, grant in taken):
        raise FixInput(
            "A removal cannot be given up: somebody would keep what is not theirs any more. It stays on the list "
            "until it is done."
        )
    for task, grant in taken:
        _close(task, grant, "it cannot be done", now, actor=actor, outcome=CANNOT, note=reason)
        grant.state, grant.next_attempt_at = GrantState.FAILED, None
        grant.last_reason = "staff say that it cannot be done"
        audit.record(actor, "provisioning.task_given_up", f"grant:{grant.id}", task=task.id)
        log.warning("provisioning.task_given_up", task_id=task.id, grant_id=grant.id)
    db.session.flush()
    for name_key in sorted({grant.name_key for _, grant in taken}):
        grants = [grant for _, grant in taken if grant.name_key == name_key]
        first = min(task.id for task, grant in taken if grant.name_key == name_key)
        for user_id in engine.people_of(name_key):
            letters.access_cannot(user_id, grants, key=f"access-cannot:{first}")


def retry(grant_id: int, actor: str) -> None:
    """Let the machine try from the start what a person has, or what a person gave up.

    While the store works by hand it comes back as a task. Refuses a pair that stands as it should or is
    being tried, with a sentence that says which.
    """
    grant = _lock([grant_id])[grant_id]
    if grant.state not in (GrantState.FAILED, GrantState.WITH_STAFF):
        raise AlreadyDone(NOTHING_TO_RETRY[GrantState(grant.state)])
    cycles.take_back(grant, clock.now(), because="tried again", by=actor)
    audit.record(actor, "provisioning.retried", f"grant:{grant.id}")
    db.session.flush()
    wake("provisioning.work")


def note(task_id: int, actor: str, *, text: str) -> None:
    """Add a line to what people wrote about an open task. Refuses an empty one and a closed task."""
    if not text.strip():
        raise FixInput("There is nothing in this note.")
    [(task, _)] = _take([task_id])
    task.note = _joined(task.note, text)
    audit.record(actor, "provisioning.task_noted", f"grant:{task.grant_id}", task=task.id)
    db.session.flush()


def _take(task_ids: Sequence[int]) -> list[tuple[ManualTask, Grant]]:
    """These tasks, open, with their pairs, and both ours until the transaction ends.

    Whoever closes a task holds the lock of its pair, so what is read after that lock is as it stands.
    """
    grant_of: dict[int, int] = {}
    for task_id in dict.fromkeys(task_ids):
        task = db.session.get(ManualTask, task_id)
        if task is None:
            raise _no_task(task_id)
        grant_of[task_id] = task.grant_id
    grants = _lock(sorted(set(grant_of.values())))
    fresh = {
        task.id: task
        for task in db.session.scalars(
            sa.select(ManualTask).where(ManualTask.id.in_(grant_of)).execution_options(populate_existing=True)
        )
    }
    for task_id in grant_of:
        if fresh[task_id].closed_at is not None:
            raise AlreadyDone(_what_became(fresh[task_id]))
    return [(fresh[task_id], grants[grant_id]) for task_id, grant_id in grant_of.items()]


def _lock(grant_ids: Sequence[int]) -> dict[int, Grant]:
    """These pairs by id, locked: their people first, then the rows. Raises NotThere for an unknown one."""
    known = db.session.execute(sa.select(Grant.id, Grant.name_key).where(Grant.id.in_(grant_ids))).all()
    if len(known) < len(grant_ids):
        raise NotThere("There is no grant with this number. `sts tasks` and `sts explain EMAIL` show them.")
    people = {user_id for _, name_key in known for user_id in engine.people_of(name_key)}
    for user_id in sorted(people):
        services.lock_person(user_id)
    rows = db.session.scalars(
        sa.select(Grant)
        .where(Grant.id.in_(grant_ids))
        .order_by(Grant.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in rows}


def _close(
    task: ManualTask, grant: Grant, because: str, now: datetime, *, actor: str, outcome: str, note: str | None
) -> None:
    # A person may have acted, so a later end must be revoked and not skipped.
    grant.called_at = grant.called_at or now
    written = _joined(task.note, note)
    cycles.close_task(grant, because, now, by=actor, outcome=outcome, note=written)


def _more_to_give(name_key: str) -> bool:
    """Whether people still have something to give to this name."""
    waits = sa.exists().where(
        ManualTask.grant_id == Grant.id, Grant.name_key == name_key, ManualTask.wanted, ManualTask.closed_at.is_(None)
    )
    return db.session.scalar(sa.select(waits)) or False


def _joined(before: str | None, text: str | None) -> str | None:
    lines = [line.strip() for line in (before, text) if line and line.strip()]
    return "\n".join(lines) or None


def _no_task(task_id: int) -> NotThere:
    return NotThere(f"There is no task {task_id}. `sts tasks` lists those that are open.")


def _what_became(task: ManualTask) -> str:
    assert task.closed_at is not None
    when = as_moment(task.closed_at)
    if task.outcome == DONE:
        return f"{task.closed_by} said at {when} that task {task.id} was done."
    if task.outcome == CANNOT:
        return f"{task.closed_by} said at {when} that task {task.id} cannot be done."
    return f"Task {task.id} was closed at {when}: {task.closed_because}."


def _why(task: ManualTask) -> str:
    if task.kind == TaskKind.EXHAUSTED:
        return f"The tries ran out: {task.because}."
    if task.kind == TaskKind.DISPUTED:
        return f"Somebody said that this was done, and TradingView shows something else: {task.because}."
    return "The store works by hand."


def _last_tries(grant_ids: Sequence[int]) -> dict[int, str]:
    """What the newest try of each pair showed, in words."""
    newest = (
        sa.select(sa.func.max(ProvisioningAttempt.id))
        .where(ProvisioningAttempt.grant_id.in_(grant_ids))
        .group_by(ProvisioningAttempt.grant_id)
    )
    statement = sa.select(ProvisioningAttempt).where(ProvisioningAttempt.id.in_(newest))
    return {
        attempt.grant_id: queries.OUTCOME_WORDS[Outcome(attempt.outcome)] if attempt.outcome else "under way"
        for attempt in db.session.scalars(statement)
    }
