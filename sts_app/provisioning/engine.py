"""The step that makes TradingView agree: claim, call, settle.

Each is a transaction of its own, or none: `claim` commits who works on what before anything is sent,
`call` runs with nothing open, `settle` writes down what was seen, if the claim is still ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.orm import aliased

from sts_app.catalog.models import FormerScript
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.queue import wake
from sts_app.provisioning import control, cycles, letters, name_check, pace, queries, services
from sts_app.provisioning.calling import Claim, Seen, call
from sts_app.provisioning.models import Grant, ProvisioningAttempt, ProvisioningJob, TradingViewName
from sts_app.provisioning.rules import (
    GrantState,
    Outcome,
    Policy,
    Priority,
    Standing,
    Step,
    TaskKind,
    Tell,
    Trigger,
    next_step,
)

__all__ = ["Claim", "Seen", "call", "claim_next", "hand_over_due", "settle"]

log = structlog.get_logger()

SETTLED = (GrantState.VERIFIED, GrantState.ABSENT)
# What leaves everything as it was known before.
UNREAD = (Outcome.NO_VERDICT, Outcome.LATER, Outcome.SESSION_REFUSED, Outcome.LOST)
HANDED_OVER_AT_ONCE = 200


def policy() -> Policy:
    settings = current_app.config["STS"]
    return Policy(
        delays=settings.retry_delays,
        max_retries=settings.worker_max_retries,
        hands_over=settings.provisioning_fallback_mode == "manual",
    )


def claim_next(credential_id: int | None = None, *, one_call_for_all: bool = True) -> Claim | None:
    """Take the due grants of one name and one direction, the most urgent name first, as far as the pace allows.

    None when nothing is due or nothing may be done now; a wake-up is staged for when the pace allows
    more. Commits nothing itself. A row whose lease ran out belonged to a worker that died: what it did is
    unknown, so its attempt is closed as lost and the pair is read before anything is sent again.
    """
    standing = control.standing()
    if not standing.may_read:
        return None
    while True:
        now = clock.now()
        due = _due(now) if standing.may_write else _due(now).where(_only_read())
        first = db.session.scalar(due.where(_leads(now, only_read=not standing.may_write)).limit(1))
        if first is None:
            return None
        rows = db.session.scalars(due.where(Grant.name_key == first.name_key, Grant.wanted.is_(first.wanted))).all()
        given_up = [row for row in rows if not _take_over(row, now)]
        handed_over = [row for row in given_up if row.state == GrantState.WITH_STAFF]
        if handed_over:
            _tell_given_up(handed_over)
        rows = [row for row in rows if row not in given_up]
        if rows:
            break
    rows, writable = _affordable(rows, one_call_for_all=one_call_for_all)
    if not rows:
        return None
    settings = current_app.config["STS"]
    claim = Claim(
        token=tokens.new_secret(),
        name=rows[0].name_spelling,
        name_key=rows[0].name_key,
        wanted=rows[0].wanted,
        grant_ids={row.script_id: row.id for row in rows},
        writable=writable,
        until=now + timedelta(seconds=settings.lease_seconds),
        read_first=len(writable) < len(rows) or any(row.called_at is not None for row in rows),
        credential_id=credential_id,
    )
    jobs = _jobs_of(rows)
    for row in rows:
        row.lease_token = claim.token
        row.leased_until = claim.until
        if row.script_id in writable:
            row.called_at = row.called_at or now
        db.session.add(
            ProvisioningAttempt(
                grant_id=row.id, job_id=jobs[row.id], lease_token=claim.token, wanted=row.wanted, created_at=now
            )
        )
    db.session.flush()
    log.info("provisioning.claimed", wanted=claim.wanted, grants=len(rows), read_first=claim.read_first)
    return claim


def settle(claim: Claim, seen: dict[str, Seen]) -> None:
    """Write down what was seen, and decide what follows for each pair that is still ours.

    What the calls showed about TradingView itself comes first: the control row is locked before people. What
    follows for everybody comes last: it takes rows of other people, and nobody is waited for after that.
    """
    opened_incident = _draw_conclusions(claim, seen)
    by_hand = control.standing().by_hand
    now = clock.now()
    user_ids = people_of(claim.name_key)
    for user_id in user_ids:
        services.lock_person(user_id)
    rows = db.session.scalars(
        sa.select(Grant)
        .where(Grant.id.in_(claim.grant_ids.values()))
        .order_by(Grant.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    told: dict[Tell, list[Grant]] = {}
    soonest: timedelta | None = None
    changed = False
    for row in rows:
        view = seen[row.script_id]
        if row.lease_token == claim.token:
            was_settled = row.state in SETTLED
            if view.may_come_late:
                row.late_call_until = _late_until(now)
            step = _step(row, claim, view, by_hand=by_hand)
            _apply(row, step, view, now=now)
            changed = changed or row.state in SETTLED or was_settled
            for tell in step.tell:
                told.setdefault(tell, []).append(row)
            if row.next_attempt_at is not None:
                wait = max(row.next_attempt_at - now, timedelta(0))
                soonest = wait if soonest is None else min(soonest, wait)
        _note_attempt(row, claim, view, now)
    if any(view.outcome is Outcome.PRESENT for view in seen.values()):
        _note_known(claim.name_key, now)
    if Tell.CUSTOMER_NAME_UNKNOWN in told:
        name_check.forget(claim.name)
    db.session.flush()
    for user_id in user_ids:
        if changed:
            move_on(user_id)
        services.announce(user_id)
    _tell(told, claim, seen, user_ids)
    if opened_incident:
        control.make_due()
    if soonest is not None:
        wake("provisioning.work", after=soonest)
    log.info(
        "provisioning.settled",
        wanted=claim.wanted,
        outcomes=sorted({view.outcome.value for view in seen.values()}),
        again_in=soonest.total_seconds() if soonest is not None else None,
    )


def move_on(user_id: int) -> None:
    """What waited for a new name or a new script to be verified: the old one goes."""
    held = queries.names_of(user_id)
    if len(held) > 1 or db.session.scalar(sa.select(sa.exists().where(FormerScript.id.is_not(None)))):
        trigger = Trigger.RENAMED if len(held) > 1 else Trigger.MOVED
        services.recompute(user_id, trigger=trigger, because="the new one is verified")
        services.release_names(user_id)


def hand_over_due() -> int:
    """Make what is due a person's work, while automatic writes are not allowed. Returns how many pairs changed.

    What was said to be done by hand, and what was only to be read once more, is read where TradingView
    can be read; where it cannot, the person's word stands.
    """
    standing = control.standing()
    if not standing.by_hand:
        return 0
    now = clock.now()
    believed = 0 if standing.may_read else _believe(now, look_again=standing.has_adapter)
    rows = db.session.scalars(_due(now).where(~_only_read()).limit(HANDED_OVER_AT_ONCE)).all()
    for row in rows:
        _close_lost_attempt(row, now)
        row.state, row.next_attempt_at = GrantState.WITH_STAFF, None
        # A person may act at any moment from now on, so a later end must be revoked and not skipped.
        row.called_at = row.called_at or now
        row.last_reason = "worked by hand"
        cycles.open_task(row, TaskKind.BY_HAND, "the store works by hand")
    db.session.flush()
    if rows:
        letters.manual_tasks(rows, key=f"manual-tasks:{_mark(rows)}")
    return believed + len(rows)


def _believe(now: datetime, *, look_again: bool) -> int:
    """Nothing can be read: what a person said stands, and what stood already stands without another look.

    With `look_again` TradingView can be read later: then all of it waits for that, and stands meanwhile.
    """
    which = Grant.said_by.is_not(None) if look_again else _only_read()
    due = sa.select(Grant.name_key).where(queries.is_due(now), which).distinct()
    found = db.session.scalars(due.order_by(Grant.name_key).limit(HANDED_OVER_AT_ONCE)).all()
    believed = 0
    # In the order in which everybody else takes people, too.
    for user_ids, name_key in sorted((people_of(name_key), name_key) for name_key in found):
        for user_id in user_ids:
            services.lock_person(user_id)
        rows = db.session.scalars(_due(now).where(Grant.name_key == name_key, which)).all()
        for row in rows:
            _close_lost_attempt(row, now)
            if row.state in SETTLED:
                row.next_attempt_at = None
            else:
                cycles.confirm(row, now, look_at=now if look_again else None)
        db.session.flush()
        for user_id in user_ids:
            move_on(user_id)
            services.announce(user_id)
        believed += len(rows)
    return believed


def _draw_conclusions(claim: Claim, seen: dict[str, Seen]) -> bool:
    """What a try showed about TradingView itself: a refused session, no answer at all, or that it answers.

    True when an incident was opened.
    """
    refused = next((view for view in seen.values() if view.outcome is Outcome.SESSION_REFUSED), None)
    if refused is not None:
        return control.note_refusal(refused.reason, credential_id=claim.credential_id)
    if all(view.outcome is Outcome.LATER for view in seen.values()):
        control.note_failure(next(iter(seen.values())).reason, grant_ids=claim.grant_ids.values())
    elif any(view.outcome is not Outcome.LOST for view in seen.values()):
        control.note_answer()
    return False


def _affordable(rows: Sequence[Grant], *, one_call_for_all: bool) -> tuple[Sequence[Grant], frozenset[str]]:
    """The rows that the pace allows to be worked on now, and the scripts among them that may be written."""
    writes = [row for row in rows if row.state not in SETTLED and row.said_by is None]
    wanted_calls = min(len(writes), 1) if one_call_for_all else len(writes)
    taken, wait = pace.take_writes(wanted_calls, urgent=rows[0].priority <= Priority.RETRY)
    if wait is not None:
        pace.wake_when_full(wait)
        return [], frozenset()
    writable = writes if one_call_for_all else writes[:taken]
    left_out = set(writes) - set(writable)
    return [row for row in rows if row not in left_out], frozenset(row.script_id for row in writable)


def _only_read(grant: type[Grant] = Grant) -> sa.ColumnElement[bool]:
    """True of rows that are looked at and not worked on: what stands already, and what a person says is done."""
    return sa.or_(grant.state.in_(SETTLED), grant.said_by.is_not(None))


def _due(now: datetime) -> sa.Select[Grant]:
    return (
        sa.select(Grant)
        .where(queries.is_due(now))
        .order_by(Grant.priority, Grant.paid_at, Grant.id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )


def _leads(now: datetime, *, only_read: bool) -> sa.ColumnElement[bool]:
    """True of the first due row of each name and direction.

    Only who holds the lock of that row claims the name: two workers who came at once through different
    rows would share its scripts between them, and make two calls and two letters of one.
    """
    earlier = aliased(Grant)
    return ~sa.exists().where(
        queries.is_due(now, earlier),
        _only_read(earlier) if only_read else sa.true(),
        earlier.name_key == Grant.name_key,
        earlier.wanted == Grant.wanted,
        sa.tuple_(earlier.priority, earlier.paid_at, earlier.id) < sa.tuple_(Grant.priority, Grant.paid_at, Grant.id),
    )


def _take_over(row: Grant, now: datetime) -> bool:
    """Deal with a lease that ran out; False when nobody works on the pair now: it goes to a person.

    One that stands already stays as it is, without being looked at once more.
    """
    if not _close_lost_attempt(row, now):
        return True
    row.late_call_until = _late_until(now)
    log.warning("provisioning.lease_lost", grant_id=row.id, lost=row.lost_claims + 1)
    step = next_step(_standing(row), Outcome.LOST, policy())
    row.lost_claims = step.lost_claims
    if step.state is not GrantState.WITH_STAFF:
        return True
    row.next_attempt_at = row.said_by = None
    if row.state in SETTLED:
        row.lost_claims = 0
        return False
    row.state, row.last_reason = step.state, "the worker died three times on this row"
    cycles.open_task(row, TaskKind.EXHAUSTED, row.last_reason)
    return False


def _late_until(now: datetime) -> datetime:
    """Until when a call that nobody waits for any more may still be carried out."""
    return now + timedelta(seconds=current_app.config["STS"].lease_seconds)


def _close_lost_attempt(row: Grant, now: datetime) -> bool:
    """End a lease that ran out and the attempt that was open under it; False when there was none."""
    if row.lease_token is None:
        return False
    db.session.execute(
        sa.update(ProvisioningAttempt)
        .where(ProvisioningAttempt.lease_token == row.lease_token, ProvisioningAttempt.grant_id == row.id)
        .where(ProvisioningAttempt.finished_at.is_(None))
        .values(finished_at=now, outcome=Outcome.LOST, reason="no answer came back before the lease ran out")
    )
    row.lease_token = row.leased_until = None
    return True


def _mark(rows: Sequence[Grant]) -> str:
    """Names one handing over of these rows, for the key of its letter."""
    told = ",".join(sorted(f"{row.id}:{row.cycle}" for row in rows))
    return hashlib.sha256(told.encode()).hexdigest()[:24]


def _turn_of(name_key: str, rows: Sequence[Grant]) -> str:
    """Names one turn of a name to being wanted, for the key of what its holder is told of it once."""
    return f"{name_key}:{max(row.cycle for row in rows)}"


def _tell_given_up(rows: Sequence[Grant]) -> None:
    """One letter for what one dead worker left behind, however many scripts that was."""
    first = rows[0]
    letters.manual_tasks(rows, key=f"manual-tasks:{_mark(rows)}")
    if first.wanted:
        for user_id in people_of(first.name_key):
            key = f"access-delayed:{user_id}:{_turn_of(first.name_key, rows)}"
            letters.access_failed(user_id, first.name_spelling, key=key, name_unknown=False)


def _step(row: Grant, claim: Claim, view: Seen, *, by_hand: bool) -> Step:
    moving = GrantState.PENDING if row.wanted else GrantState.REVOKING
    if row.wanted != claim.wanted:
        # The world changed while the call was under way; what it did is put right at once.
        return Step(moving, timedelta(0))
    step = next_step(_standing(row), view.outcome, policy(), vendor_after=view.after)
    if row.state in SETTLED:
        if view.outcome in UNREAD:
            # A reading that failed says nothing against what was read before.
            return Step(GrantState(row.state), step.after, step.failed_tries, step.spent_tries, step.lost_claims)
        if view.outcome is Outcome.NOT_TAKEN:
            return Step(moving, timedelta(0))
    if row.said_by is not None:
        if view.outcome in UNREAD:
            return Step(GrantState.VERIFIED if row.wanted else GrantState.ABSENT, None)
        if view.outcome is Outcome.UNKNOWN_NAME and not row.wanted:
            # Neither would do alone: TradingView knows nobody of this name, and a person looked.
            return Step(GrantState.ABSENT, None)
        if view.outcome is Outcome.NOT_TAKEN:
            return Step(GrantState.WITH_STAFF, None) if by_hand else Step(moving, timedelta(0))
    return step


def _apply(row: Grant, step: Step, view: Seen, *, now: datetime) -> None:
    was_settled, said_by = row.state in SETTLED, row.said_by
    row.lease_token = row.leased_until = None
    if was_settled and step.state not in SETTLED:
        cycles.turn(row, wanted=row.wanted, trigger=Trigger.DRIFT, because="TradingView shows something else", now=now)
        row.priority = max(row.priority, Priority.HEAL)
    row.state = step.state
    row.failed_tries, row.spent_tries, row.lost_claims = step.failed_tries, step.spent_tries, step.lost_claims
    row.last_reason = view.reason or None
    row.next_attempt_at = now + step.after if step.after is not None else None
    row.said_by = None
    if step.after is not None:
        row.priority = max(row.priority, Priority.RETRY)
    elif step.state is GrantState.WITH_STAFF:
        disputed = said_by is not None and view.outcome is Outcome.NOT_TAKEN
        kind = TaskKind.DISPUTED if disputed else TaskKind.EXHAUSTED
        cycles.open_task(row, kind, view.reason or view.outcome.value)
    elif step.state in SETTLED and view.outcome not in UNREAD:
        cycles.prove(row, "the name is unknown" if view.outcome is Outcome.UNKNOWN_NAME else "read back", now)
    elif step.state in SETTLED and not was_settled:
        cycles.confirm(row, now, look_at=now + policy().delays[0])


def _note_known(name_key: str, now: datetime) -> None:
    """Who holds access is known at TradingView, whatever could be asked when the name was given."""
    db.session.execute(
        sa.update(TradingViewName)
        .where(
            TradingViewName.name_key == name_key,
            TradingViewName.released_at.is_(None),
            TradingViewName.verified_at.is_(None),
        )
        .values(verified_at=now)
        .execution_options(synchronize_session="fetch")
    )


def _note_attempt(row: Grant, claim: Claim, view: Seen, now: datetime) -> None:
    """A worker that lost its lease still tells what it saw."""
    db.session.execute(
        sa.update(ProvisioningAttempt)
        .where(ProvisioningAttempt.lease_token == claim.token, ProvisioningAttempt.grant_id == row.id)
        .values(finished_at=now, outcome=view.outcome, reason=view.reason or None, next_attempt_at=row.next_attempt_at)
    )


def _standing(row: Grant) -> Standing:
    held_once = row.verified_at is not None
    return Standing(row.wanted, row.failed_tries, row.spent_tries, row.lost_claims, held_once=held_once)


def _jobs_of(rows: Sequence[Grant]) -> dict[int, int]:
    statement = sa.select(ProvisioningJob.grant_id, ProvisioningJob.id).join(
        Grant, sa.and_(Grant.id == ProvisioningJob.grant_id, Grant.cycle == ProvisioningJob.cycle)
    )
    found = db.session.execute(statement.where(Grant.id.in_([row.id for row in rows])))
    return {row[0]: row[1] for row in found}


def people_of(name_key: str) -> list[int]:
    """Whoever holds this name, in the order locks are taken."""
    return list(
        db.session.scalars(
            sa.select(TradingViewName.user_id)
            .where(TradingViewName.name_key == name_key, TradingViewName.released_at.is_(None))
            .order_by(TradingViewName.user_id)
        )
    )


def _tell(told: dict[Tell, list[Grant]], claim: Claim, seen: dict[str, Seen], user_ids: list[int]) -> None:
    """One letter for a claim, however many scripts it carried."""
    key = f"{min(claim.grant_ids.values())}:{claim.token[:12]}"
    reason = next((view.reason for view in seen.values() if view.reason), "no reason given")
    if Tell.STAFF_THIRD_FAILURE in told:
        letters.provisioning_failure(told[Tell.STAFF_THIRD_FAILURE], reason, key=f"provisioning-failure:{key}")
    if Tell.STAFF_EXHAUSTED in told:
        rows = told[Tell.STAFF_EXHAUSTED]
        letters.provisioning_failure(rows, reason, key=f"provisioning-exhausted:{key}", final=True)
        letters.manual_tasks(rows, key=f"manual-tasks:{key}")
    for user_id in user_ids:
        for tell, kind in ((Tell.CUSTOMER_NAME_UNKNOWN, "name-unknown"), (Tell.CUSTOMER_DELAYED, "access-delayed")):
            if tell in told:
                turn = f"{kind}:{user_id}:{_turn_of(claim.name_key, told[tell])}"
                letters.access_failed(user_id, claim.name, key=turn, name_unknown=tell is Tell.CUSTOMER_NAME_UNKNOWN)
