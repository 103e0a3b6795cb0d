"""The verbs of provisioning: give and end a reason for access, keep the wanted pairs in step."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts import privacy as accounts_privacy
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.catalog.models import Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput
from sts_app.core.queue import wake
from sts_app.provisioning import findings, letters, name_check, pace, queries
from sts_app.provisioning.cycles import open_job, turn
from sts_app.provisioning.models import Entitlement, Grant, ProvisioningAttempt, TradingViewName
from sts_app.provisioning.rules import GrantState, Outcome, Pair, Priority, Reason, Script, Trigger, wanted_pairs

log = structlog.get_logger()

PARTIAL_LETTER_AFTER = timedelta(minutes=2)
TRIED_LATELY = timedelta(minutes=5)
GIFT = "gift:"


def entitle(
    user_id: int,
    plan: Plan,
    *,
    source: str,
    paid_at: datetime,
    actor: str,
    trigger: Trigger = Trigger.PAID,
    ends_at: datetime | None = None,
    note: str | None = None,
) -> Entitlement | None:
    """Give a person a reason to hold a plan, and make what is missing due. None when `source` has done so before.

    Takes the plan's row lock (shared), as activating a strategy takes it exclusively, so that neither
    can miss the other. Whose account has closed gets a reason that has ended: what came in late for them is on
    record, and gives nothing.
    """
    _lock_plan(plan)
    lock_person(user_id)
    now = clock.now()
    ended_because = accounts_privacy.ERASED if accounts_privacy.is_closed(user_id) else None
    entitlement_id = db.session.scalar(
        insert(Entitlement)
        .values(
            user_id=user_id,
            plan_id=plan.id,
            source=source,
            note=note,
            starts_at=paid_at,
            ends_at=now if ended_because else ends_at,
            ended_because=ended_because,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Entitlement.id)
    )
    if entitlement_id is None:
        return None
    audit.record(actor, "provisioning.entitled", f"user:{user_id}", source=source, plan=plan.slug)
    recompute(user_id, trigger=trigger, because=source)
    return db.session.get(Entitlement, entitlement_id)


def gift(user: User, plan: Plan, *, reason: str, ends_at: datetime | None = None, actor: str) -> Entitlement:
    """Give a plan without money, for a reason that is kept, for ever or to an end.

    Refuses a second gift of a plan while one runs, no reason, an end that has passed, and an account that has closed.
    """
    now = clock.now()
    if not reason.strip():
        raise FixInput("A gift needs a reason: whoever looks at it in a year wants to know.")
    if ends_at is not None and ends_at <= now:
        raise FixInput("The end of a gift lies in the future.")
    _lock_plan(plan)
    lock_person(user.id)
    if accounts_privacy.is_closed(user.id):
        raise AlreadyDone("This account is being erased, so nothing can be given to it.")
    running = [e for e in queries.entitlements_of(user.id) if e.plan_id == plan.id and e.source.startswith(GIFT)]
    if any(e.ends_at is None or e.ends_at > now for e in running):
        raise AlreadyDone("A gift of this plan is running already. End it first.")
    given = entitle(
        user.id,
        plan,
        source=f"{GIFT}{tokens.new_secret()[:16]}",
        paid_at=now,
        actor=actor,
        trigger=Trigger.GIFT,
        ends_at=ends_at,
        note=reason.strip(),
    )
    assert given is not None  # its source was made a moment ago
    return given


def end_entitlement(source: str, *, because: str, actor: str, instead_of: Collection[str] = ()) -> bool:
    """End a reason. Access ends with it unless another stands. False when there was none to end.

    One that has ended because of something in `instead_of` has ended because of this from now on.
    """
    now = clock.now()
    entitlement = _locked(source)
    if entitlement is None:
        return False
    if entitlement.ends_at is not None and entitlement.ends_at <= now:
        if entitlement.ended_because in instead_of:
            entitlement.ended_because = because
        return False
    entitlement.ends_at, entitlement.ended_because = now, because
    db.session.flush()
    audit.record(actor, "provisioning.entitlement_ended", f"user:{entitlement.user_id}", source=source)
    recompute(entitlement.user_id, trigger=Trigger.ENDED, because=because)
    return True


def suspend(source: str, *, because: str, actor: str, instead_of: Collection[str] = ()) -> bool:
    """Put a reason to rest while something about it is open, as a dispute is: access ends, the reason stays.

    One that rests because of something in `instead_of` rests because of this from now on. Safe to call twice; false
    when there is nothing to suspend or it rests already.
    """
    now = clock.now()
    entitlement = _locked(source)
    if entitlement is None:
        return False
    if entitlement.suspended_at is not None:
        if entitlement.suspended_because in instead_of:
            entitlement.suspended_because = because
        return False
    entitlement.suspended_at, entitlement.suspended_because = now, because
    db.session.flush()
    audit.record(actor, "provisioning.suspended", f"user:{entitlement.user_id}", source=source, because=because)
    recompute(entitlement.user_id, trigger=Trigger.SUSPENDED, because=because)
    return True


def resume(source: str, *, because: str, actor: str) -> bool:
    """Let a suspended reason count again. Safe to call twice; false when it was not suspended.

    What ended meanwhile stays ended: both are asked whenever access is reckoned.
    """
    entitlement = _locked(source)
    if entitlement is None or entitlement.suspended_at is None:
        return False
    entitlement.suspended_at = entitlement.suspended_because = None
    db.session.flush()
    audit.record(actor, "provisioning.resumed", f"user:{entitlement.user_id}", source=source, because=because)
    recompute(entitlement.user_id, trigger=Trigger.RESUMED, because=because)
    return True


def reinstate(source: str, *, because: str, actor: str) -> bool:
    """Let a reason count again that somebody ended, because what ended it came to nothing: a refund that failed.

    It goes on without an end; one by date is for `set_end`. A suspension stays. Writes no letter: whoever knows
    why it came back does. Safe to call twice; false when it was not ended, ended by its date alone, or ended with the
    account.
    """
    entitlement = _locked(source)
    if entitlement is None or entitlement.ended_because in (None, accounts_privacy.ERASED):
        return False
    before = entitlement.ended_because
    entitlement.ends_at = entitlement.ended_because = None
    db.session.flush()
    subject = f"user:{entitlement.user_id}"
    audit.record(actor, "provisioning.reinstated", subject, source=source, because=because, ended_because=before)
    recompute(entitlement.user_id, trigger=Trigger.RESUMED, because=because)
    return True


def set_end(source: str, *, ends_at: datetime | None, because: str, actor: str) -> bool:
    """Let a reason end at a moment, UTC, or never. One that has ended by its date counts again if that lies ahead.

    Safe to call twice; false when it ends then already, when there is none, and when somebody ended it: what
    a refund took, no date gives back.
    """
    entitlement = _locked(source)
    if entitlement is None or entitlement.ended_because is not None or entitlement.ends_at == ends_at:
        return False
    before, entitlement.ends_at = entitlement.ends_at, ends_at
    db.session.flush()
    audit.record(
        actor,
        "provisioning.end_set",
        f"user:{entitlement.user_id}",
        source=source,
        because=because,
        before=before.isoformat() if before else None,
        after=ends_at.isoformat() if ends_at else None,
    )
    over = queries.has_ended(entitlement, clock.now())
    recompute(entitlement.user_id, trigger=Trigger.ENDED if over else Trigger.RESUMED, because=because)
    return True


def recompute(user_id: int, *, trigger: Trigger, because: str, priority: int = Priority.BUYER) -> None:
    """Bring the grant rows of one person in step with `rules.decide`. Safe to call at any time.

    People are taken one at a time by the lock on their names; every other lock comes after it.
    """
    now = clock.now()
    names = lock_person(user_id)
    if not names:
        return
    reasons = queries.reasons_of(queries.entitlements_of(user_id))
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
    wanted = wanted_pairs(reasons, queries.as_names(names), scripts, verified=queries.verified_pairs(grants), now=now)
    targets = {script.script_id: (script, strategy) for script, strategy in scripts.items()}
    paid_at = _paid_at(reasons, now)
    changed = False
    for pair in sorted(wanted):
        grant = by_pair.get(pair)
        if grant is None:
            script, strategy = targets[pair.script_id]
            grant = Grant(
                name_key=pair.name_key,
                name_spelling=spelling[pair.name_key],
                script_id=pair.script_id,
                strategy_id=strategy.id,
                wanted=True,
                state=GrantState.PENDING,
                priority=priority,
                paid_at=paid_at,
                next_attempt_at=now,
            )
            db.session.add(grant)
            db.session.flush()
            open_job(grant, _trigger_of_new(trigger, script), because)
            changed = True
        elif not grant.wanted:
            turn(grant, wanted=True, trigger=trigger, because=because, now=now)
            grant.priority, grant.paid_at, grant.name_spelling = priority, paid_at, spelling[pair.name_key]
            changed = True
    for pair, grant in by_pair.items():
        if grant.wanted and pair not in wanted:
            ended = Trigger.ENDED if trigger is Trigger.STEP else trigger
            turn(grant, wanted=False, trigger=ended, because=because, now=now)
            changed = True
    if changed:
        db.session.flush()
        wake("provisioning.work")


def _lock_plan(plan: Plan) -> None:
    db.session.execute(sa.select(Plan.id).where(Plan.id == plan.id).with_for_update(read=True))


def _trigger_of_new(trigger: Trigger, script: Script) -> Trigger:
    """What sets off the first cycle of a pair that the sweep found missing."""
    if trigger is not Trigger.STEP:
        return trigger
    return Trigger.MOVED if script.former_ids else Trigger.SPREAD


def _paid_at(reasons: Iterable[Reason], now: datetime) -> datetime:
    """Since when this person has a reason that holds: who waits longest comes first."""
    return min((reason.starts_at for reason in reasons if reason.holds(now)), default=now)


def _locked(source: str) -> Entitlement | None:
    """The entitlement of this source with its person's turn taken: the person first, their rows after."""
    entitlement = db.session.scalar(sa.select(Entitlement).where(Entitlement.source == source))
    if entitlement is not None:
        lock_person(entitlement.user_id)
        db.session.refresh(entitlement, with_for_update=True)
    return entitlement


def recheck(user_id: int) -> int:
    """Look at this person's access again now: read what stands, try what waits. How many pairs that is.

    Safe to press: nothing is forgotten and nothing written that stands, and what cannot be asked now is
    asked as soon as it can. Pairs that a person works on stay with the person, and one that was tried within
    the last five minutes waits for its turn: pressing again and again would spend its tries.
    """
    now = clock.now()
    names = lock_person(user_id)
    tried_lately = sa.exists().where(
        ProvisioningAttempt.grant_id == Grant.id,
        ProvisioningAttempt.finished_at > now - current_app.config["STS"].scaled(TRIED_LATELY),
        ProvisioningAttempt.outcome.not_in((Outcome.LOST, Outcome.SESSION_REFUSED)),
    )
    rows = db.session.scalars(
        sa.select(Grant)
        .where(
            Grant.name_key.in_([name.name_key for name in names]),
            Grant.lease_token.is_(None),
            sa.or_(
                sa.and_(Grant.wanted, Grant.state == GrantState.VERIFIED),
                sa.and_(
                    sa.or_(
                        Grant.state.in_((GrantState.PENDING, GrantState.REVOKING)),
                        sa.and_(Grant.wanted, Grant.state == GrantState.NEEDS_CUSTOMER),
                    ),
                    sa.or_(Grant.next_attempt_at <= now, ~tried_lately),
                ),
            ),
        )
        .order_by(Grant.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    for grant in rows:
        if grant.state == GrantState.NEEDS_CUSTOMER:
            grant.state = GrantState.PENDING
            grant.failed_tries = grant.spent_tries = grant.lost_claims = 0
        grant.next_attempt_at = now
    if rows:
        db.session.flush()
        wake("provisioning.work")
    return len(rows)


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
    recompute(user_id, trigger=Trigger.STEP, because="time or catalog changed", priority=Priority.SPREAD)
    lock_person(user_id)
    announce(user_id)


def people_to_look_at() -> list[int]:
    """Ids of people whose pairs are out of step, or whose letter about access is due."""
    now = clock.now()
    settings = current_app.config["STS"]
    unannounced = queries.entitlements_unannounced(now - settings.scaled(PARTIAL_LETTER_AFTER))
    return sorted({*queries.people_out_of_step(now), *unannounced})


def tidy() -> None:
    """Forget what has served its time: calls, checks of names, reports of reconciliation."""
    pace.tidy()
    name_check.tidy()
    findings.tidy()


def lock_person(user_id: int) -> list[TradingViewName]:
    """Take this person's turn: the lock that every change of their pairs goes through first."""
    db.session.execute(sa.select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    return list(queries.names_of(user_id))
