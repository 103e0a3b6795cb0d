"""The step that makes TradingView agree: claim, call, settle.

Each is a transaction of its own, or none: `claim` commits who works on what before anything is sent,
`call` runs with nothing open, `settle` writes down what was seen, if the claim is still ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.orm import aliased

from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.queue import wake
from sts_app.provisioning import letters, queries, services
from sts_app.provisioning.gateway import NeedsCustomer, NeedsStaff, TradingView, TryLater
from sts_app.provisioning.models import Grant, ProvisioningAttempt, ProvisioningJob, TradingViewName
from sts_app.provisioning.rules import GrantState, Outcome, Policy, Standing, Step, Tell, next_step

log = structlog.get_logger()

SESSION_DELAY = timedelta(minutes=10)


@dataclass(frozen=True)
class Claim:
    """What one worker holds for one lease: scripts of one name in one direction."""

    token: str
    name: str
    name_key: str
    wanted: bool
    grant_ids: dict[str, int]
    read_first: bool

    @property
    def script_ids(self) -> tuple[str, ...]:
        return tuple(self.grant_ids)


@dataclass(frozen=True)
class Seen:
    """What a try showed about one script."""

    outcome: Outcome
    reason: str
    after: timedelta | None = None


def policy() -> Policy:
    settings = current_app.config["STS"]
    return Policy(
        delays=settings.retry_delays,
        max_retries=settings.worker_max_retries,
        session_delay=settings.scaled(SESSION_DELAY),
    )


def claim_next() -> Claim | None:
    """Take the due grants of one name and one direction, the most urgent name first.

    Commits nothing itself. A row whose lease ran out belonged to a worker that died: what it did is
    unknown, so its attempt is closed as lost and the pair is read before anything is sent again.
    """
    settings = current_app.config["STS"]
    while True:
        now = clock.now()
        first = db.session.scalar(_due(now).where(_leads(now)).limit(1))
        if first is None:
            return None
        rows = db.session.scalars(
            _due(now).where(Grant.name_key == first.name_key, Grant.wanted.is_(first.wanted))
        ).all()
        given_up = [row for row in rows if not _take_over(row, now)]
        if given_up:
            _tell_given_up(given_up)
        rows = [row for row in rows if row not in given_up]
        if rows:
            break
    claim = Claim(
        token=tokens.new_secret(),
        name=rows[0].name_spelling,
        name_key=rows[0].name_key,
        wanted=rows[0].wanted,
        grant_ids={row.script_id: row.id for row in rows},
        read_first=any(row.called_at is not None for row in rows),
    )
    jobs = _jobs_of(rows)
    for row in rows:
        row.lease_token = claim.token
        row.leased_until = now + timedelta(seconds=settings.lease_seconds)
        row.called_at = row.called_at or now
        db.session.add(
            ProvisioningAttempt(
                grant_id=row.id, job_id=jobs[row.id], lease_token=claim.token, wanted=row.wanted, created_at=now
            )
        )
    db.session.flush()
    log.info("provisioning.claimed", wanted=claim.wanted, grants=len(rows), read_first=claim.read_first)
    return claim


def call(adapter: TradingView, claim: Claim) -> dict[str, Seen]:
    """Make TradingView agree about one claim and read back what it says. Raises nothing.

    What was called before is read first: the answer to an earlier call may have been lost after it
    took effect.
    """
    seen: dict[str, Seen] = {}
    todo = list(claim.script_ids)
    refused: dict[str, str] = {}
    try:
        if claim.read_first:
            seen.update(_read(adapter, claim, todo, refused))
            todo = [script for script in todo if seen[script].outcome is Outcome.NOT_TAKEN]
        if todo:
            act = adapter.grant if claim.wanted else adapter.revoke
            for answer in act(claim.name, todo):
                if answer.refused:
                    refused[answer.script_id] = answer.refused
            seen.update(_read(adapter, claim, todo, refused))
    except TryLater as trouble:
        seen.update((script, Seen(Outcome.LATER, trouble.reason, trouble.after)) for script in todo)
    except NeedsStaff as trouble:
        seen.update((script, Seen(Outcome.SESSION_REFUSED, trouble.reason)) for script in todo)
    except NeedsCustomer as trouble:
        view = _doubt_unknown(adapter, claim, trouble.reason)
        seen.update((script, view) for script in todo)
    return seen


def settle(claim: Claim, seen: dict[str, Seen]) -> None:
    """Write down what was seen, and decide what follows for each pair that is still ours."""
    now = clock.now()
    user_ids = _people_of(claim.name_key)
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
    reached = False
    for row in rows:
        view = seen[row.script_id]
        ours = row.lease_token == claim.token
        if ours:
            was_taken_over = row.lost_claims > 0
            step = _step(row, claim, view)
            _apply(row, step, view, was_taken_over=was_taken_over, now=now)
            reached = reached or step.after is None
            for tell in step.tell:
                told.setdefault(tell, []).append(row)
            if row.next_attempt_at is not None:
                wait = max(row.next_attempt_at - now, timedelta(0))
                soonest = wait if soonest is None else min(soonest, wait)
        _note_attempt(row, claim, view, now)
    db.session.flush()
    for user_id in user_ids:
        if reached and len(queries.names_of(user_id)) > 1:
            services.recompute(user_id, because="verified under the new name")
            services.release_names(user_id)
        services.announce(user_id)
    _tell(told, claim, seen, user_ids)
    if soonest is not None:
        wake("provisioning.work", after=soonest)
    log.info(
        "provisioning.settled",
        wanted=claim.wanted,
        outcomes=sorted({view.outcome.value for view in seen.values()}),
        again_in=soonest.total_seconds() if soonest is not None else None,
    )


def hand_over_due() -> int:
    """Without an adapter everything due is a person's work. Returns how many pairs were handed over."""
    rows = db.session.scalars(_due(clock.now()).limit(200)).all()
    for row in rows:
        _close_lost_attempt(row, clock.now())
    # What stands as it should and was only to be read once more is no work for a person.
    settled = [row for row in rows if row.state in (GrantState.VERIFIED, GrantState.ABSENT)]
    for row in settled:
        row.next_attempt_at = None
    rows = [row for row in rows if row not in settled]
    for row in rows:
        row.state, row.next_attempt_at = GrantState.WITH_STAFF, None
        # A person may act at any moment from now on, so a later end must be revoked and not skipped.
        row.called_at = row.called_at or clock.now()
        row.last_reason = "worked by hand"
        services.open_task(row, "the store runs in manual mode")
    db.session.flush()
    if rows:
        letters.manual_tasks(rows, key=f"manual-tasks:{_mark(rows)}")
    return len(rows) + len(settled)


def _due(now: datetime) -> sa.Select[Grant]:
    return (
        sa.select(Grant)
        .where(queries.is_due(now))
        .order_by(Grant.priority, Grant.paid_at, Grant.id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )


def _leads(now: datetime) -> sa.ColumnElement[bool]:
    """True of the first due row of each name and direction.

    Only who holds the lock of that row claims the name: two workers who came at once through different
    rows would share its scripts between them, and make two calls and two letters of one.
    """
    earlier = aliased(Grant)
    return ~sa.exists().where(
        queries.is_due(now, earlier),
        earlier.name_key == Grant.name_key,
        earlier.wanted == Grant.wanted,
        sa.tuple_(earlier.priority, earlier.paid_at, earlier.id) < sa.tuple_(Grant.priority, Grant.paid_at, Grant.id),
    )


def _take_over(row: Grant, now: datetime) -> bool:
    """Deal with a lease that ran out; False when the pair goes to a person instead."""
    if not _close_lost_attempt(row, now):
        return True
    log.warning("provisioning.lease_lost", grant_id=row.id, lost=row.lost_claims + 1)
    step = next_step(_standing(row), Outcome.LOST, policy())
    row.lost_claims = step.lost_claims
    if step.state is not GrantState.WITH_STAFF:
        return True
    row.state, row.next_attempt_at = step.state, None
    row.last_reason = "the worker died three times on this row"
    services.open_task(row, row.last_reason)
    return False


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
    first = min(rows, key=lambda row: row.id)
    return f"{first.id}:{first.cycle}"


def _tell_given_up(rows: Sequence[Grant]) -> None:
    """One letter for what one dead worker left behind, however many scripts that was."""
    first = rows[0]
    key = _mark(rows)
    letters.manual_tasks(rows, key=f"manual-tasks:{key}")
    if first.wanted:
        for user_id in _people_of(first.name_key):
            letters.access_failed(user_id, first.name_spelling, key=f"access-failed:{key}", name_unknown=False)


def _doubt_unknown(adapter: TradingView, claim: Claim, reason: str) -> Seen:
    """A call said that the name is unknown; ask for the name itself before a customer is troubled with it."""
    try:
        known = adapter.find_name(claim.name)
    except TryLater as trouble:
        return Seen(Outcome.LATER, trouble.reason, trouble.after)
    except NeedsStaff as trouble:
        return Seen(Outcome.SESSION_REFUSED, trouble.reason)
    except NeedsCustomer:
        known = None
    if known is not None:
        return Seen(Outcome.LATER, "TradingView knows the name, and said in the call that it does not")
    return Seen(Outcome.UNKNOWN_NAME, reason)


def _read(adapter: TradingView, claim: Claim, scripts: Sequence[str], refused: dict[str, str]) -> dict[str, Seen]:
    """Read back; `has_access` is the only proof. Access that expires is not the access that was sold."""
    seen = {}
    for fact in adapter.has_access(claim.name, scripts):
        if not claim.wanted and not fact.is_told:
            # Silence may be an empty list of a sick service: no proof that access is gone.
            continue
        if not claim.wanted:
            outcome = Outcome.NOT_TAKEN if fact.has_access else Outcome.GONE
        else:
            outcome = Outcome.PRESENT if fact.has_access and fact.expires_at is None else Outcome.NOT_TAKEN
        reason = refused.get(fact.script_id, "")
        if outcome is Outcome.NOT_TAKEN and not reason:
            reason = "access has an end" if fact.has_access and claim.wanted else "read back without the change"
        seen[fact.script_id] = Seen(outcome, reason)
    for script in scripts:
        seen.setdefault(script, Seen(Outcome.LATER, "the answer left this script out"))
    return seen


def _step(row: Grant, claim: Claim, view: Seen) -> Step:
    if row.wanted != claim.wanted:
        # The world changed while the call was under way; what it did is put right at once.
        return Step(GrantState.PENDING if row.wanted else GrantState.REVOKING, timedelta(0))
    step = next_step(_standing(row), view.outcome, policy(), vendor_after=view.after)
    settled = row.state in (GrantState.VERIFIED, GrantState.ABSENT)
    if settled and view.outcome in (Outcome.LATER, Outcome.SESSION_REFUSED):
        # A reading that failed says nothing against what was read before.
        return Step(GrantState(row.state), step.after, step.failed_tries, step.spent_tries, step.lost_claims)
    return step


def _apply(row: Grant, step: Step, view: Seen, *, was_taken_over: bool, now: datetime) -> None:
    settings = current_app.config["STS"]
    row.lease_token = row.leased_until = None
    row.state = step.state
    row.failed_tries, row.spent_tries, row.lost_claims = step.failed_tries, step.spent_tries, step.lost_claims
    row.last_reason = view.reason or None
    row.next_attempt_at = now + step.after if step.after is not None else None
    if step.after is not None:
        row.priority = max(row.priority, services.Priority.RETRY)
        return
    if step.state in (GrantState.VERIFIED, GrantState.ABSENT):
        if step.state is GrantState.VERIFIED:
            row.verified_at = now
        else:
            row.absent_at = now
        row.evidence = "the name is unknown" if view.outcome is Outcome.UNKNOWN_NAME else "read back"
        services.close_job(row, "reached", now)
        services.close_task(row, "read back", now)
        if was_taken_over:
            # The first worker's call may still arrive; look once more when it cannot any longer.
            row.next_attempt_at = now + timedelta(seconds=settings.lease_seconds)
    elif step.state is GrantState.WITH_STAFF:
        services.open_task(row, view.reason or view.outcome.value)


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


def _people_of(name_key: str) -> list[int]:
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
    if Tell.STAFF_SESSION in told:
        letters.session_refused(reason, key=f"session-refused:{clock.now().date().isoformat()}")
    for user_id in user_ids:
        if Tell.CUSTOMER_NAME_UNKNOWN in told:
            letters.access_failed(user_id, claim.name, key=f"access-failed:{key}", name_unknown=True)
        if Tell.CUSTOMER_DELAYED in told:
            letters.access_failed(user_id, claim.name, key=f"access-failed:{key}", name_unknown=False)
