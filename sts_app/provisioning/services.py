"""The verbs of provisioning: give and end a reason for access, keep the wanted pairs in step, hold a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone
from sts_app.core.queue import wake
from sts_app.provisioning import letters, queries, tradingview
from sts_app.provisioning.gateway import NeedsCustomer, NeedsStaff, TryLater
from sts_app.provisioning.models import Entitlement, Grant, ManualTask, ProvisioningJob, TradingViewName
from sts_app.provisioning.rules import GrantState, Pair, wanted_pairs

log = structlog.get_logger()

PARTIAL_LETTER_AFTER = timedelta(minutes=2)
NAME_CHECK_LASTS = timedelta(hours=24)


class Priority:
    """Who goes first when much is due: a new buyer before a retry, upkeep last."""

    BUYER = 0
    RETRY = 1
    SPREAD = 2


class NameTaken(AlreadyDone):
    code = "NAME_TAKEN"
    sentence = (
        "This TradingView name is in use by another account of this store. "
        "If it is yours, sign in with the e-mail address you used then, or write to the address our letters come from."
    )


class NameOutcome(StrEnum):
    VALID = "valid"
    UNKNOWN = "unknown"
    BUSY = "busy"
    DOWN = "down"
    NOT_CONFIGURED = "not_configured"


@dataclass(frozen=True)
class NameCheck:
    """What TradingView says of a name. `spelling` is its own when the name is valid."""

    outcome: NameOutcome
    spelling: str | None = None
    retry_after: timedelta | None = None


def check_name(name: str) -> NameCheck:
    """Ask TradingView whether it knows `name`. Never raises; takes up to the validation timeout.

    Call it with nothing locked: a visitor's transaction must not wait for the vendor.
    """
    adapter = tradingview()
    if adapter is None:
        return NameCheck(NameOutcome.NOT_CONFIGURED)
    try:
        spelling = adapter.find_name(name)
    except TryLater as trouble:
        return NameCheck(NameOutcome.BUSY if trouble.after else NameOutcome.DOWN, retry_after=trouble.after)
    except NeedsStaff:
        return NameCheck(NameOutcome.DOWN)
    except NeedsCustomer:
        return NameCheck(NameOutcome.UNKNOWN)
    if spelling is None:
        return NameCheck(NameOutcome.UNKNOWN)
    return NameCheck(NameOutcome.VALID, spelling)


def set_name(user: User, spelling: str, *, verified: bool) -> TradingViewName:
    """Make `spelling` the name this person's access is given to. Safe to call twice.

    An earlier name keeps its access until the new one has it, and stays reserved until it is
    verified absent. Raises `NameTaken`.
    """
    now = clock.now()
    key = spelling.lower()
    lock_person(user.id)
    current = queries.current_name(user.id)
    if current is not None and current.name_key == key:
        current.spelling = spelling
        if verified:
            current.verified_at = now
        # The customer stands by it, so what TradingView did not know is asked for once more.
        _try_known_name(key, now)
        return current
    try:
        # The old name goes and the new one comes together or not at all: a caller that answers the
        # refusal with a page commits what stands, and that must be the name from before.
        with db.session.begin_nested():
            name = _replace_name(user.id, current, spelling, verified_at=now if verified else None, now=now)
    except IntegrityError:
        raise NameTaken(cause=f"user:{user.id}") from None
    audit.record(f"user:{user.id}", "provisioning.name_set", f"user:{user.id}", name=name.id, verified=verified)
    recompute(user.id, because="name set")
    release_names(user.id)
    return name


def entitle(user_id: int, plan: Plan, *, source: str, paid_at: datetime, actor: str) -> Entitlement | None:
    """Give a person a reason to hold a plan, and make what is missing due. None when `source` has done so before.

    Takes the plan's row lock (shared), as activating a strategy takes it exclusively, so that neither
    can miss the other.
    """
    db.session.execute(sa.select(Plan.id).where(Plan.id == plan.id).with_for_update(read=True))
    entitlement_id = db.session.scalar(
        insert(Entitlement)
        .values(user_id=user_id, plan_id=plan.id, source=source, starts_at=paid_at, created_at=clock.now())
        .on_conflict_do_nothing()
        .returning(Entitlement.id)
    )
    if entitlement_id is None:
        return None
    audit.record(actor, "provisioning.entitled", f"user:{user_id}", source=source, plan=plan.slug)
    recompute(user_id, because=source)
    return db.session.get(Entitlement, entitlement_id)


def end_entitlement(source: str, *, because: str, actor: str) -> bool:
    """End a reason. Access ends with it unless another stands. False when there was none to end."""
    now = clock.now()
    entitlement = db.session.scalar(sa.select(Entitlement).where(Entitlement.source == source))
    if entitlement is None:
        return False
    # The person first, their rows after: the order that every change of access keeps.
    lock_person(entitlement.user_id)
    db.session.refresh(entitlement, with_for_update=True)
    if entitlement.ends_at is not None and entitlement.ends_at <= now:
        return False
    entitlement.ends_at, entitlement.ended_because = now, because
    db.session.flush()
    audit.record(actor, "provisioning.entitlement_ended", f"user:{entitlement.user_id}", source=source)
    recompute(entitlement.user_id, because=because)
    return True


def recompute(user_id: int, *, because: str, priority: int = Priority.BUYER) -> None:
    """Bring the grant rows of one person in step with `rules.wanted_pairs`. Safe to call at any time.

    People are taken one at a time by the lock on their names; every other lock comes after it.
    """
    now = clock.now()
    names = lock_person(user_id)
    if not names:
        return
    entitlements = queries.entitlements_of(user_id)
    scripts = queries.grantable_scripts()
    spelling = {name.name_key: name.spelling for name in names}
    grants = db.session.scalars(
        sa.select(Grant)
        .where(Grant.name_key.in_(spelling))
        .order_by(Grant.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    by_pair = {Pair(grant.name_key, grant.script_id): grant for grant in grants}
    wanted = wanted_pairs(
        queries.reasons_of(entitlements),
        queries.as_names(names),
        scripts,
        verified=queries.verified_pairs(grants),
        now=now,
    )
    strategies = {script.script_id: strategy.id for script, strategy in scripts.items()}
    paid_at = min((e.starts_at for e in entitlements), default=now)
    changed = False
    for pair in sorted(wanted):
        grant = by_pair.get(pair)
        if grant is None:
            grant = Grant(
                name_key=pair.name_key,
                name_spelling=spelling[pair.name_key],
                script_id=pair.script_id,
                strategy_id=strategies[pair.script_id],
                wanted=True,
                state=GrantState.PENDING,
                priority=priority,
                paid_at=paid_at,
                next_attempt_at=now,
            )
            db.session.add(grant)
            db.session.flush()
            open_job(grant, because)
            changed = True
        elif not grant.wanted:
            turn(grant, wanted=True, because=because, now=now)
            grant.priority, grant.paid_at, grant.name_spelling = priority, paid_at, spelling[pair.name_key]
            changed = True
    for pair, grant in by_pair.items():
        if grant.wanted and pair not in wanted:
            turn(grant, wanted=False, because=because, now=now)
            changed = True
    if changed:
        db.session.flush()
        wake("provisioning.work")


def turn(grant: Grant, *, wanted: bool, because: str, now: datetime) -> None:
    """Change what is wanted of a pair: a new cycle with its own tries and history.

    A pair that nothing was ever sent for is absent at once; any other is revoked until read as absent,
    the one whose answer was lost included. A call in flight keeps its lease: its settling sees the change.
    """
    close_job(grant, "superseded", now)
    close_task(grant, "no longer needed", now)
    grant.wanted = wanted
    grant.cycle += 1
    grant.failed_tries = grant.spent_tries = grant.lost_claims = 0
    grant.last_reason = None
    if not wanted and grant.called_at is None:
        grant.state, grant.next_attempt_at = GrantState.ABSENT, None
        open_job(grant, because)
        close_job(grant, "reached", now)
        return
    grant.state = GrantState.PENDING if wanted else GrantState.REVOKING
    grant.next_attempt_at = now
    open_job(grant, because)


def open_job(grant: Grant, because: str) -> None:
    """Begin the history of what is tried for this cycle of the grant."""
    db.session.add(ProvisioningJob(grant_id=grant.id, cycle=grant.cycle, wanted=grant.wanted, because=because))
    db.session.flush()


def close_job(grant: Grant, state: str, now: datetime) -> None:
    """Say how the tries ended, or that staff have them (`with_staff`). Quiet when no job is open."""
    db.session.execute(
        sa.update(ProvisioningJob)
        .where(ProvisioningJob.grant_id == grant.id, ProvisioningJob.state.in_(("open", "with_staff")))
        .values(state=state, closed_at=None if state == "with_staff" else now)
    )


def open_task(grant: Grant, because: str) -> None:
    """Hand a pair to a person. At most one open task per grant; safe to call twice."""
    db.session.execute(
        insert(ManualTask)
        .values(grant_id=grant.id, cycle=grant.cycle, wanted=grant.wanted, because=because, created_at=clock.now())
        .on_conflict_do_nothing()
    )
    close_job(grant, "with_staff", clock.now())


def close_task(grant: Grant, because: str, now: datetime) -> None:
    """Take the pair back from the person who was asked. Quiet when nobody was."""
    db.session.execute(
        sa.update(ManualTask)
        .where(ManualTask.grant_id == grant.id, ManualTask.closed_at.is_(None))
        .values(closed_at=now, closed_because=because)
    )


def release_names(user_id: int) -> None:
    """Give former names free whose every access is verified absent."""
    held = sa.exists().where(Grant.name_key == TradingViewName.name_key, Grant.state != GrantState.ABSENT)
    db.session.execute(
        sa.update(TradingViewName)
        .where(
            TradingViewName.user_id == user_id,
            TradingViewName.replaced_at.is_not(None),
            TradingViewName.released_at.is_(None),
            ~held,
        )
        .values(released_at=clock.now())
        .execution_options(synchronize_session="fetch")
    )


def announce(user_id: int) -> None:
    """Write the access letters that have come due: one when all stands, a partial one after two minutes."""
    now = clock.now()
    settings = current_app.config["STS"]
    waiting = db.session.scalars(
        sa.select(Entitlement)
        .where(Entitlement.user_id == user_id, Entitlement.announced_at.is_(None))
        .order_by(Entitlement.id)
        .with_for_update()
    ).all()
    waiting = [e for e in waiting if queries.reasons_of([e])[0].holds(now)]
    if not waiting:
        return
    name = queries.current_name(user_id)
    user = db.session.get_one(User, user_id)
    if name is None:
        return
    rows = queries.access_of(user_id, now)
    active = [row for row in rows if row.state == "Active"]
    for entitlement in waiting:
        if rows and len(active) == len(rows):
            letters.access_granted(user, entitlement, name.spelling, rows)
            entitlement.announced_at = now
        elif (
            active
            and entitlement.partly_announced_at is None
            and entitlement.starts_at + settings.scaled(PARTIAL_LETTER_AFTER) <= now
        ):
            letters.access_partly_granted(user, entitlement, name.spelling, rows)
            entitlement.partly_announced_at = now


def keep_in_step(user_id: int) -> None:
    """Put right what time or the catalog has changed for one person, and write the letters come due.

    One of the minute sweep's duties, a transaction for each person: one that fails keeps nobody else.
    """
    recompute(user_id, because="time or catalog changed", priority=Priority.SPREAD)
    lock_person(user_id)
    announce(user_id)


def people_to_look_at() -> list[int]:
    """Ids of people whose pairs are out of step, or whose letter about access is due."""
    now = clock.now()
    settings = current_app.config["STS"]
    unannounced = queries.entitlements_unannounced(now - settings.scaled(PARTIAL_LETTER_AFTER))
    return sorted({*queries.people_out_of_step(now), *unannounced})


def _replace_name(
    user_id: int, current: TradingViewName | None, spelling: str, *, verified_at: datetime | None, now: datetime
) -> TradingViewName:
    """Retire `current` and put `spelling` in its place: a new row, or a former name that comes back."""
    if current is not None:
        current.replaced_at = now
        db.session.flush()
    key = spelling.lower()
    name = db.session.scalar(
        sa.select(TradingViewName).where(
            TradingViewName.user_id == user_id, TradingViewName.name_key == key, TradingViewName.released_at.is_(None)
        )
    )
    if name is None:
        name = TradingViewName(user_id=user_id, name_key=key, spelling=spelling, verified_at=verified_at)
        db.session.add(name)
    else:
        name.replaced_at, name.spelling = None, spelling
        name.verified_at = verified_at or name.verified_at
    db.session.flush()
    return name


def _try_known_name(name_key: str, now: datetime) -> None:
    """What waited for the customer is tried again from the start."""
    waiting = db.session.execute(
        sa.update(Grant)
        .where(Grant.name_key == name_key, Grant.wanted, Grant.state == GrantState.NEEDS_CUSTOMER)
        .values(state=GrantState.PENDING, next_attempt_at=now, failed_tries=0, spent_tries=0, lost_claims=0)
        .execution_options(synchronize_session="fetch")
        .returning(Grant.id)
    )
    if waiting.all():
        wake("provisioning.work")


def lock_person(user_id: int) -> list[TradingViewName]:
    """Take this person's turn: the lock that every change of their pairs goes through first."""
    db.session.execute(sa.select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    return list(queries.names_of(user_id))
