"""One picture of every pair: what should stand, and what we know does. What a comparison is made with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from sts_app.catalog import queries as catalog
from sts_app.catalog.models import FormerScript, Strategy
from sts_app.core.db import db
from sts_app.provisioning import queries
from sts_app.provisioning.comparing import Known
from sts_app.provisioning.models import AllowedHolder, Grant, ProvisioningJob, TradingViewName
from sts_app.provisioning.rules import GrantState, Pair


@dataclass(frozen=True)
class Picture:
    """`knowns` are the pairs that have a row; `expected` should stand and have none yet."""

    knowns: tuple[Known, ...]
    expected: frozenset[Pair]
    friends: frozenset[str]


def take(now: datetime, script_ids: Iterable[str]) -> Picture:
    """The picture of these scripts at one moment.

    One statement sees one moment, so nobody needs to be locked out: whoever acts on it looks again with
    the locks taken.
    """
    wanted = queries.wanted_now(now).subquery()
    name_key = sa.func.coalesce(Grant.name_key, wanted.c.name_key)
    script_id = sa.func.coalesce(Grant.script_id, wanted.c.script_id)
    statement = (
        sa.select(
            Grant.id,
            name_key,
            script_id,
            Grant.name_spelling,
            TradingViewName.spelling,
            Grant.cycle,
            Grant.state,
            Grant.wanted,
            wanted.c.user_id,
            Grant.next_attempt_at,
            Grant.lease_token,
            Grant.granted_at,
            Grant.paid_at,
            Grant.absent_at,
            sa.func.greatest(Grant.verified_at, Grant.absent_at, ProvisioningJob.created_at, Grant.created_at),
        )
        .select_from(Grant)
        .outerjoin(
            wanted,
            sa.and_(Grant.name_key == wanted.c.name_key, Grant.script_id == wanted.c.script_id),
            full=True,
        )
        .outerjoin(ProvisioningJob, sa.and_(ProvisioningJob.grant_id == Grant.id, ProvisioningJob.cycle == Grant.cycle))
        .outerjoin(
            TradingViewName, sa.and_(TradingViewName.name_key == name_key, TradingViewName.released_at.is_(None))
        )
        .where(script_id.in_(list(script_ids)))
    )
    knowns: list[Known] = []
    expected: set[Pair] = set()
    for row in db.session.execute(statement):
        (
            grant_id,
            key,
            script,
            ours,
            theirs,
            cycle,
            state,
            is_wanted,
            user_id,
            due_at,
            lease,
            granted_at,
            paid_at,
            gone_at,
            at,
        ) = row
        pair, should_stand = Pair(key, script), user_id is not None
        if grant_id is None:
            expected.add(pair)
            continue
        knowns.append(
            Known(
                pair,
                grant_id,
                cycle,
                GrantState(state),
                wanted=should_stand,
                rests=due_at is None and lease is None and is_wanted == should_stand,
                granted=granted_at is not None,
                changed_at=at,
                paid_at=paid_at,
                absent_at=gone_at,
                spellings=frozenset(filter(None, (ours, theirs))),
            )
        )
    return Picture(tuple(knowns), frozenset(expected), friends())


def friends() -> frozenset[str]:
    """The names, lower-cased, that are never touched."""
    return frozenset(db.session.scalars(sa.select(AllowedHolder.name_key)))


def scripts_to_read() -> dict[str, int]:
    """Every script that a plan covers or covered, or that any pair names, with the strategy it is or was of."""
    # A later one wins: whose a script is now counts before whose it was.
    return dict(_rows(sa.select(Grant.script_id, Grant.strategy_id), *_former_and_covered()))


def scripts_in_use() -> set[str]:
    """Those of `scripts_to_read` that somebody holds or may have at any moment."""
    _, covered = _former_and_covered()
    held = sa.select(Grant.script_id, Grant.strategy_id).where(sa.or_(Grant.wanted, Grant.state != GrantState.ABSENT))
    return {script_id for script_id, _ in _rows(held, covered)}


def _former_and_covered() -> tuple[sa.Select[str, int], sa.Select[str, int]]:
    former = sa.select(FormerScript.script_id, FormerScript.strategy_id)
    of_plans = catalog.coverage().subquery()
    covered = sa.select(Strategy.script_id, Strategy.id).join(of_plans, of_plans.c.strategy_id == Strategy.id)
    return former, covered


def _rows(*statements: sa.Select[str, int]) -> list[tuple[str, int]]:
    return [(row[0], row[1]) for statement in statements for row in db.session.execute(statement.distinct())]


def names_ever_called() -> list[tuple[str, str]]:
    """(key, spelling) of every name a call was ever made for, in the order of the keys."""
    statement = (
        sa.select(Grant.name_key, sa.func.max(Grant.name_spelling))
        .where(Grant.called_at.is_not(None))
        .group_by(Grant.name_key)
    )
    return sorted((row[0], row[1]) for row in db.session.execute(statement))
