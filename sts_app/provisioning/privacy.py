"""This room's rows about a person: names, reasons for access, pairs with their history; and the end of all access."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sts_app.accounts.privacy import ERASED
from sts_app.audit import services as audit
from sts_app.catalog.models import Plan, Strategy
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.provisioning import cycles, services
from sts_app.provisioning.models import (
    AllowedHolder,
    Entitlement,
    Grant,
    ManualTask,
    NameCheckRow,
    ProvisioningAttempt,
    ProvisioningJob,
    ReconciliationFinding,
    TradingViewName,
)
from sts_app.provisioning.rules import GrantState, Outcome, Trigger


@dataclass(frozen=True)
class Left:
    """The access of a person who leaves: pairs not read as absent yet, and how many of those a person works on.

    `by_staff` counts, of the `gone` ones, those that staff confirmed where TradingView could not be read; `gone_at`
    is when the last of them went, UTC, None where nothing was ever given.
    """

    waiting: int
    with_staff: int
    gone: int
    by_staff: int
    gone_at: datetime | None


def end_all(user_id: int, *, actor: str) -> int:
    """End every reason for access, for good, and have what stands removed. How many reasons still held.

    What had ended before ends with the account from now on, so that no money that stays after all gives it back.
    Safe to call twice.
    """
    now = clock.now()
    services.lock_person(user_id)
    theirs = sa.select(Entitlement).where(
        Entitlement.user_id == user_id, Entitlement.ended_because.is_distinct_from(ERASED)
    )
    held = 0
    for each in db.session.scalars(theirs.order_by(Entitlement.id).execution_options(populate_existing=True)):
        if each.ends_at is None or each.ends_at > now:
            each.ends_at = now
            held += 1
            audit.record(actor, "provisioning.entitlement_ended", f"user:{user_id}", source=each.source)
        each.ended_because = ERASED
    db.session.flush()
    services.recompute(user_id, trigger=Trigger.ENDED, because=ERASED)
    return held


def left_of(user_id: int) -> Left:
    """How far the removal of a person's access is.

    A pair is gone when it was read as absent, or confirmed by staff where nothing can be read, and no call whose
    answer was lost may still undo that.
    """
    rows = db.session.scalars(
        sa.select(Grant)
        .join(TradingViewName, TradingViewName.name_key == Grant.name_key)
        .where(TradingViewName.user_id == user_id, TradingViewName.released_at.is_(None))
        .execution_options(populate_existing=True)
    ).unique()
    waiting: list[Grant] = []
    gone: list[Grant] = []
    for row in rows:
        settled = row.state == GrantState.ABSENT and row.next_attempt_at is None and row.lease_token is None
        (gone if settled else waiting).append(row)
    return Left(
        waiting=len(waiting),
        with_staff=sum(row.state == GrantState.WITH_STAFF for row in waiting),
        gone=sum(row.absent_at is not None for row in gone),
        by_staff=sum(row.evidence == cycles.CONFIRMED_BY_STAFF for row in gone),
        gone_at=max((row.absent_at for row in gone if row.absent_at is not None), default=None),
    )


def names_of(user_id: int) -> list[str]:
    """Every spelling that this person ever gave."""
    spelled = sa.select(TradingViewName.spelling).where(TradingViewName.user_id == user_id).distinct()
    return sorted(db.session.scalars(spelled))


def forget(user_id: int, *, keep_because: Collection[str] = ()) -> int:
    """Replace a person's names wherever they stand, and what staff wrote about them; how many names there were.

    Only for whose access is gone (`left_of`): from here on nobody knows under which name it stood. The pairs and
    their history stay, under a name that TradingView can have nobody by. One that somebody else has or had stays
    theirs. `keep_because` are the store's own words for why a reason rests. Safe to call twice.
    """
    now = clock.now()
    services.lock_person(user_id)
    names = db.session.scalars(
        sa.select(TradingViewName)
        .where(TradingViewName.user_id == user_id)
        .order_by(TradingViewName.id)
        .execution_options(populate_existing=True)
    ).all()
    alias_of: dict[str, str] = {}
    for name in names:
        if not name.name_key.startswith("erased:"):
            alias_of.setdefault(name.name_key, f"erased:{name.id}")
    for key, alias in alias_of.items():
        if not _is_shared(user_id, key):
            _rename(key, alias)
    for name in names:
        name.spelling = name.name_key = alias_of.get(name.name_key, name.name_key)
        name.replaced_at, name.released_at = name.replaced_at or now, name.released_at or now
    theirs = sa.update(Entitlement).where(Entitlement.user_id == user_id)
    typed = sa.and_(Entitlement.suspended_because.is_not(None), Entitlement.suspended_because.not_in(keep_because))
    _quietly(theirs.values(note=None, suspended_because=sa.case((typed, ""), else_=Entitlement.suspended_because)))
    db.session.flush()
    return len(alias_of)


def rows_of_person(user_id: int) -> dict[str, Any]:
    """What provisioning keeps about a person, ready for JSON, oldest first. Moments are ISO 8601 in UTC."""
    names = db.session.scalars(
        sa.select(TradingViewName).where(TradingViewName.user_id == user_id).order_by(TradingViewName.id)
    ).all()
    # A former name may be somebody else's by now, and so may what stands under it.
    own = [each.name_key for each in names if not _is_shared(user_id, each.name_key)]
    reasons = db.session.execute(
        sa.select(Entitlement, Plan.name)
        .join(Plan, Plan.id == Entitlement.plan_id)
        .where(Entitlement.user_id == user_id)
        .order_by(Entitlement.id)
    )
    grants = db.session.execute(
        sa.select(Grant, Strategy.name)
        .join(Strategy, Strategy.id == Grant.strategy_id)
        .where(Grant.name_key.in_(own))
        .order_by(Grant.id)
    ).all()
    return {
        "tradingview_names": [
            {
                "name": each.spelling,
                "since": each.created_at.isoformat(),
                "checked_at": _iso(each.verified_at),
                "until": _iso(each.replaced_at),
                "released_at": _iso(each.released_at),
            }
            for each in names
        ],
        "name_checks": _checks(own),
        "reasons_for_access": [
            {
                "plan": plan,
                "source": each.source,
                "given_because": each.note,
                "from": each.starts_at.isoformat(),
                "until": _iso(each.ends_at),
                "ended_because": each.ended_because,
                "suspended_at": _iso(each.suspended_at),
                "suspended_because": each.suspended_because,
            }
            for each, plan in reasons
        ],
        "access": [_pair(grant, strategy) for grant, strategy in grants],
        "comparisons_with_tradingview": _findings(own),
        "friend_of_the_house": _friends(own),
    }


def _is_shared(user_id: int, name_key: str) -> bool:
    """Whether somebody else has or had this name."""
    other = sa.exists().where(TradingViewName.name_key == name_key, TradingViewName.user_id != user_id)
    return bool(db.session.scalar(sa.select(other)))


def _rename(key: str, alias: str) -> None:
    """Replace a name in everything that hangs on it. Rows that only cache something about it go."""
    grants = sa.select(Grant.id).where(Grant.name_key == key).order_by(Grant.id).with_for_update()
    ids = list(db.session.scalars(grants))
    # What a vendor answered, or a person typed, may hold the name.
    _quietly(sa.update(ProvisioningAttempt).where(ProvisioningAttempt.grant_id.in_(ids)).values(reason=None))
    _quietly(sa.update(ProvisioningJob).where(ProvisioningJob.grant_id.in_(ids)).values(because=""))
    _quietly(
        sa.update(ManualTask)
        .where(ManualTask.grant_id.in_(ids))
        .values(note=None, because="", closed_because=sa.case((ManualTask.closed_because.is_not(None), "")))
    )
    _quietly(sa.update(Grant).where(Grant.id.in_(ids)).values(name_key=alias, name_spelling=alias, last_reason=None))
    _quietly(
        sa.update(ReconciliationFinding)
        .where(ReconciliationFinding.name_key == key)
        .values(name_key=alias, name_spelling=alias)
    )
    _quietly(sa.delete(NameCheckRow).where(NameCheckRow.name_key == key))
    _quietly(sa.delete(AllowedHolder).where(AllowedHolder.name_key == key))


def _quietly(statement: sa.Update | sa.Delete) -> None:
    db.session.execute(statement.execution_options(synchronize_session="fetch"))


def _pair(grant: Grant, strategy: str) -> dict[str, Any]:
    jobs: Sequence[ProvisioningJob] = db.session.scalars(
        sa.select(ProvisioningJob).where(ProvisioningJob.grant_id == grant.id).order_by(ProvisioningJob.id)
    ).all()
    attempts = db.session.scalars(
        sa.select(ProvisioningAttempt).where(ProvisioningAttempt.grant_id == grant.id).order_by(ProvisioningAttempt.id)
    )
    tasks = db.session.scalars(sa.select(ManualTask).where(ManualTask.grant_id == grant.id).order_by(ManualTask.id))
    return {
        "strategy": strategy,
        "script": grant.script_id,
        "name": grant.name_spelling,
        "should_have_access": grant.wanted,
        "state": grant.state,
        "shown_by": grant.evidence,
        "given_at": _iso(grant.granted_at),
        "verified_at": _iso(grant.verified_at),
        "removed_at": _iso(grant.absent_at),
        "changes": [
            {
                "at": job.created_at.isoformat(),
                "to": "give" if job.wanted else "remove",
                "set_off_by": job.trigger,
                "because": job.because,
                "state": job.state,
                "ended_at": _iso(job.closed_at),
            }
            for job in jobs
        ],
        "tries": [
            {
                "at": each.created_at.isoformat(),
                "to": "give" if each.wanted else "remove",
                "outcome": Outcome(each.outcome).value if each.outcome else None,
                "reason": each.reason,
                "ended_at": _iso(each.finished_at),
            }
            for each in attempts
        ],
        "work_by_people": [
            {
                "from": each.created_at.isoformat(),
                "to": "give" if each.wanted else "remove",
                "because": each.because,
                "ended_at": _iso(each.closed_at),
                "outcome": each.outcome,
            }
            for each in tasks
        ],
    }


def _checks(name_keys: Sequence[str]) -> list[dict[str, Any]]:
    found = db.session.scalars(sa.select(NameCheckRow).where(NameCheckRow.name_key.in_(name_keys)))
    return [
        {"name": each.spelling or each.name_key, "outcome": each.outcome, "checked_at": each.checked_at.isoformat()}
        for each in found
    ]


def _findings(name_keys: Sequence[str]) -> list[dict[str, Any]]:
    found = db.session.scalars(
        sa.select(ReconciliationFinding)
        .where(ReconciliationFinding.name_key.in_(name_keys))
        .order_by(ReconciliationFinding.id)
    )
    return [
        {
            "at": each.created_at.isoformat(),
            "name": each.name_spelling,
            "script": each.script_id,
            "found": each.kind,
            "done": each.act,
        }
        for each in found
    ]


def _friends(name_keys: Sequence[str]) -> list[dict[str, Any]]:
    found = db.session.scalars(sa.select(AllowedHolder).where(AllowedHolder.name_key.in_(name_keys)))
    return [{"name": each.name_key, "since": each.created_at.isoformat(), "because": each.reason} for each in found]


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None
