"""TradingView names: whose one is, what it looks like, and when it may be changed. `name_check` asks TradingView."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.exc import IntegrityError

from sts_app.accounts import privacy
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.audit.models import AuditLog
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, Refusal
from sts_app.core.money import as_moment
from sts_app.core.queue import wake
from sts_app.provisioning import queries, services
from sts_app.provisioning.look_alikes import SKELETON_FROM, SKELETON_TO, skeleton
from sts_app.provisioning.models import Grant, TradingViewName
from sts_app.provisioning.name_check import NameCheck as NameCheck
from sts_app.provisioning.name_check import check as check
from sts_app.provisioning.name_check import denied_lately
from sts_app.provisioning.name_check import forget as forget
from sts_app.provisioning.rules import GrantState, Trigger
from sts_app.settings import Settings

log = structlog.get_logger()

# A name that works is changed at most so often: each change takes twelve calls, and a name on loan is a name shared.
LIMITS = ((1, timedelta(hours=24)), (3, timedelta(days=30)))
NAME_SET = "provisioning.name_set"


class NameTaken(AlreadyDone):
    code = "NAME_TAKEN"
    sentence = (
        "This TradingView name is in use by another account of this store. "
        "If it is yours, sign in with the e-mail address you used then, or write to us by the contact page."
    )


class TooSoon(Refusal):
    """A name that works is not changed again before `allowed_at`."""

    status = 429
    code = "NAME_TOO_SOON"

    def __init__(self, allowed_at: datetime) -> None:
        self.allowed_at = allowed_at
        wait = math.ceil((allowed_at - clock.now()).total_seconds())
        super().__init__(too_soon(allowed_at), cause="cooldown", retry_after=max(wait, 1))


def too_soon(allowed_at: datetime) -> str:
    """Why a name cannot be changed now, and from when on it can, for a customer."""
    return (
        f"Your name works and was changed lately, so it can be changed again from {as_moment(allowed_at)}. "
        "If it cannot wait, write to us by the contact page."
    )


def set_name(user: User, spelling: str, *, verified: bool, actor: str | None = None) -> TradingViewName:
    """Make `spelling` the name this person's access is given to. Safe to call twice.

    An earlier name keeps its access until the new one has it, and stays reserved until it is verified
    absent. A name that was verified keeps TradingView's spelling until a newer one is `verified`. `actor` is
    the person themselves unless named; only they have to wait between two changes. Raises `NameTaken`,
    `TooSoon`, and `AccountClosed` for who is being erased, each with nothing changed.
    """
    now, key, own = clock.now(), spelling.lower(), f"user:{user.id}"
    by = actor or own
    services.lock_person(user.id)
    privacy.refuse_closed(user)
    current = _current_as_stored(user.id)
    if current is not None and current.name_key == key:
        if verified or current.verified_at is None:
            current.spelling = spelling
        if verified:
            current.verified_at = now
        # The customer stands by it, so what TradingView did not know is asked for once more.
        _try_known_name(key, now)
        return current
    counts = current is not None and by == own and _works(current)
    if counts and (allowed_at := _allowed_at(user.id, now)) is not None:
        raise TooSoon(allowed_at)
    try:
        # The old name goes and the new one comes together or not at all: a caller that answers the
        # refusal with a page commits what stands, and that must be the name from before.
        with db.session.begin_nested():
            name = _replace_name(user.id, current, spelling, verified_at=now if verified else None, now=now)
    except IntegrityError:
        raise NameTaken(cause=own) from None
    told: dict[str, object] = {"name": name.id, "verified": verified, "counts": counts}
    if alike := _look_alikes_of_others(user.id, name.spelling):
        told["look_alike_of"] = alike
        log.warning("provisioning.name_looks_like_another", user_id=user.id, look_alike_of=alike)
    audit.record(by, NAME_SET, own, **told)
    services.recompute(user.id, trigger=Trigger.RENAMED, because="name set")
    services.release_names(user.id)
    return name


def changeable_from(user_id: int) -> datetime | None:
    """From when on this person may change their name themselves; None when they may now.

    For a page to say it beforehand: `set_name` decides again, when it is this person's turn.
    """
    current = queries.current_name(user_id)
    if current is None or not _works(current):
        return None
    return _allowed_at(user_id, clock.now())


def next_change_at(changes: Sequence[datetime], now: datetime, *, scale: float = 1.0) -> datetime | None:
    """When the next change may be made after those at `changes`; None when it may be made now.

    `scale` shortens the days of `LIMITS` where a store lives faster than its customers.
    """
    waits = [now]
    for most, within in LIMITS:
        lately = sorted(at for at in changes if at > now - within * scale)
        if len(lately) >= most:
            waits.append(lately[-most] + within * scale)
    return max(waits) if max(waits) > now else None


@dataclass(frozen=True)
class FormerName:
    """A name a person has or had. `state` says in words how it stands now."""

    spelling: str
    since: datetime
    until: datetime | None
    state: str


def history(user_id: int) -> list[FormerName]:
    """Every name of one person, the present one first. A name that came back is there twice."""
    rows = db.session.scalars(
        sa.select(TradingViewName)
        .where(TradingViewName.user_id == user_id)
        .order_by(TradingViewName.replaced_at.desc().nulls_first(), TradingViewName.id.desc())
    ).all()
    present = {row.name_key for row in rows if row.replaced_at is None}
    given = {grant.name_key for grant in queries.grants_of(present) if grant.state == GrantState.VERIFIED}
    return [
        FormerName(
            row.spelling,
            row.created_at,
            row.replaced_at,
            _state(row, is_back=row.name_key in present, has_access=row.name_key in given),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Change:
    """A change of name that is under way: `moved` of `of` strategies stand under `new`; the others work under `old`."""

    old: str
    new: str
    moved: int
    of: int


def change_under_way(user_id: int) -> Change | None:
    """The change that TradingView does not show in full yet; None when no former name is needed any more."""
    new = queries.current_name(user_id)
    if new is None:
        return None
    former = (
        sa.select(TradingViewName.spelling)
        .join(Grant, Grant.name_key == TradingViewName.name_key)
        .where(
            TradingViewName.user_id == user_id,
            TradingViewName.replaced_at.is_not(None),
            TradingViewName.released_at.is_(None),
            Grant.wanted,
            Grant.state == GrantState.VERIFIED,
        )
        .order_by(TradingViewName.replaced_at.desc())
        .limit(1)
    )
    old = db.session.scalar(former)
    if old is None:
        return None
    states = [grant.state for grant in queries.grants_of([new.name_key]) if grant.wanted]
    return Change(old, new.spelling, sum(state == GrantState.VERIFIED for state in states), len(states))


def _current_as_stored(user_id: int) -> TradingViewName | None:
    """As it is now that it is this person's turn, whatever was read of it before."""
    return db.session.scalar(
        sa.select(TradingViewName)
        .where(TradingViewName.user_id == user_id, TradingViewName.replaced_at.is_(None))
        .execution_options(populate_existing=True)
    )


def _works(name: TradingViewName) -> bool:
    """Whether something stands under this name, and nothing says that TradingView does not know it.

    Whether it was checked when it was entered says nothing of that: in manual mode none ever is.
    """
    if denied_lately(name.name_key):
        return False
    states = {grant.state for grant in queries.grants_of([name.name_key]) if grant.wanted}
    return GrantState.VERIFIED in states and GrantState.NEEDS_CUSTOMER not in states


def _allowed_at(user_id: int, now: datetime) -> datetime | None:
    """Read from the audit lines: the rows of names do not say whether a name worked when it was replaced."""
    settings: Settings = current_app.config["STS"]
    longest = max(within for _, within in LIMITS)
    changes = db.session.scalars(
        sa.select(AuditLog.created_at).where(
            AuditLog.subject == f"user:{user_id}",
            AuditLog.action == NAME_SET,
            AuditLog.created_at > now - longest,
            AuditLog.details["counts"].as_boolean(),
        )
    ).all()
    return next_change_at(changes, now, scale=settings.retry_time_scale)


def _replace_name(
    user_id: int, current: TradingViewName | None, spelling: str, *, verified_at: datetime | None, now: datetime
) -> TradingViewName:
    """Retire `current` and put `spelling` in its place.

    A former name that comes back begins a new row, which takes over the reservation and what was known,
    so that each row stays the record of one time it was in use.
    """
    key = spelling.lower()
    if current is not None:
        current.replaced_at = now
    before = db.session.scalar(
        sa.select(TradingViewName).where(
            TradingViewName.user_id == user_id, TradingViewName.name_key == key, TradingViewName.released_at.is_(None)
        )
    )
    if before is not None:
        before.released_at = now
        if verified_at is None and before.verified_at is not None:
            spelling, verified_at = before.spelling, before.verified_at
    db.session.flush()
    name = TradingViewName(user_id=user_id, name_key=key, spelling=spelling, verified_at=verified_at)
    db.session.add(name)
    db.session.flush()
    return name


def _look_alikes_of_others(user_id: int, spelling: str) -> list[int]:
    """Ids of other people who have a name reserved that looks like this one."""
    alike = sa.func.lower(sa.func.translate(TradingViewName.spelling, SKELETON_FROM, SKELETON_TO))
    return list(
        db.session.scalars(
            sa.select(TradingViewName.user_id)
            .where(
                alike == skeleton(spelling), TradingViewName.released_at.is_(None), TradingViewName.user_id != user_id
            )
            .distinct()
            .order_by(TradingViewName.user_id)
        )
    )


def _state(name: TradingViewName, *, is_back: bool, has_access: bool) -> str:
    if name.replaced_at is None:
        if name.verified_at is not None:
            return f"in use; TradingView knew it on {as_moment(name.verified_at)}"
        # Read back or confirmed by staff: either way it is more than an answer about the name alone.
        return "in use; access stands under it" if has_access else "in use; TradingView has not confirmed it yet"
    if is_back:
        return "came back into use later"
    if name.released_at is None:
        return "replaced; kept for you until TradingView shows no access under it"
    return "replaced; no access is left under it"


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
