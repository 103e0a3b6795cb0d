"""What reconciliation changes: each pair is looked at again with the locks taken, and goes the engine's way.

Nothing here is done at TradingView. A pair is given or taken away by the same cycles as any other: claimed,
read first, called, read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import FixInput, NotThere
from sts_app.core.queue import wake
from sts_app.provisioning import cycles, engine, findings, picture, queries, services
from sts_app.provisioning.comparing import Act, Difference, Known
from sts_app.provisioning.models import Grant, ReconciliationFinding, ReconciliationRun, TradingViewName
from sts_app.provisioning.rules import Finding, GrantState, Pair, Priority, Trigger

MISSING = "TradingView does not show it any more"
EXPIRING = "TradingView shows it with an end"
EXTRA = "TradingView shows it, and nobody is entitled to it"


@dataclass(frozen=True)
class Held:
    """People and their pairs while their locks are ours: what should stand, and the rows, as of now."""

    user_ids: tuple[int, ...]
    wanted: frozenset[Pair]
    rows: dict[Pair, Grant]

    def as_compared(self, pair: Pair, known: Known | None) -> Grant | None:
        """The row, unless it is no longer what it was when it was compared."""
        row = self.rows.get(pair)
        if row is None or known is None or not _rests(row):
            return None
        if not row.wanted == known.wanted == (pair in self.wanted):
            return None
        stamps = [stamp for stamp in (row.verified_at, row.absent_at) if stamp is not None]
        if max(stamps, default=known.changed_at) > known.changed_at:
            return None
        return row if (row.cycle, row.state) == (known.cycle, known.state) else None


@dataclass(frozen=True)
class Approved:
    """What became of an approval: how many pairs are being removed, and why each other one is not."""

    removed: int
    refused: tuple[str, ...]


def hold(name_keys: Iterable[str], now: datetime) -> Held:
    """Take the turns of whoever holds these names, then their rows."""
    name_keys = list(name_keys)
    user_ids = db.session.scalars(
        sa.select(TradingViewName.user_id)
        .where(TradingViewName.name_key.in_(name_keys), TradingViewName.released_at.is_(None))
        .distinct()
        .order_by(TradingViewName.user_id)
    ).all()
    for user_id in user_ids:
        services.lock_person(user_id)
    rows = db.session.scalars(
        sa.select(Grant)
        .where(Grant.name_key.in_(name_keys))
        .order_by(Grant.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    wanted = {pair for user_id in user_ids for pair in queries.facts_of(user_id, now).wanted}
    return Held(tuple(user_ids), frozenset(wanted), {Pair(row.name_key, row.script_id): row for row in rows})


def change(run_id: int, found: Iterable[Difference], held: Held, *, by: str) -> None:
    """Do what is planned, as far as nothing has changed since the pairs were compared.

    Safe to call twice: a pair that was changed is in motion.
    """
    now = clock.now()
    friends = picture.friends()
    # The spelling first, because it leaves the pair as it is for what else is to be done.
    for each in sorted(found, key=lambda each: each.act is not Act.RESPELL):
        row = held.as_compared(each.pair, each.known)
        if row is None or (each.act is Act.REMOVE and each.pair.name_key in friends):
            findings.decide(run_id, each, Act.MOVED, by=by)
            continue
        if each.act is Act.RESPELL:
            _respell(held, each.pair.name_key, each.spelling)
        elif each.act is Act.HEAL:
            heal(row, MISSING if each.kind is Finding.MISSING else EXPIRING, now)
        else:
            remove(row, EXTRA, now)
        findings.decide(run_id, each, each.act, by=by)
    db.session.flush()


def prove(proven: Iterable[Known], held: Held, *, pasted_by: str | None = None) -> list[Known]:
    """What people were asked to do is done: a reading of ours shows it, or the list that somebody pasted.

    Returns what had not moved since it was compared.
    """
    now = clock.now()
    done = []
    for known in proven:
        row = held.as_compared(known.pair, known)
        if row is None:
            continue
        evidence = "read back"
        if pasted_by is not None:
            evidence = f"{'seen' if row.wanted else 'not'} on a list pasted by {pasted_by}"
            cycles.close_task(row, evidence, now, by=pasted_by, outcome="done")
        row.called_at = row.called_at or now
        row.state = GrantState.VERIFIED if row.wanted else GrantState.ABSENT
        row.said_by = None
        cycles.prove(row, evidence, now)
        done.append(known)
    db.session.flush()
    for user_id in held.user_ids if done else ():
        engine.move_on(user_id)
        services.announce(user_id)
    return done


def heal(row: Grant, because: str, now: datetime) -> None:
    """Give again what should stand and does not: it leaves Active at once, and nobody gets a letter."""
    cycles.turn(row, wanted=True, trigger=Trigger.DRIFT, because=because, now=now)
    row.priority = Priority.HEAL
    wake("provisioning.work")


def remove(row: Grant, because: str, now: datetime) -> None:
    """Take away what stands and should not, with the care of any revocation."""
    row.called_at = row.called_at or now
    cycles.turn(row, wanted=False, trigger=Trigger.DRIFT, because=because, now=now)
    row.priority = Priority.HEAL
    wake("provisioning.work")


def approve(run_id: int, *, actor: str, finding_ids: Sequence[int] | None = None) -> Approved:
    """A person wants what a run found to be removed: everything that waits, or these findings alone.

    Each is looked at again: a friend, a name that is entitled now, a pair that is being worked on or that the
    latest reading does not show any more is left alone, with a sentence. Safe to call twice. Raises
    `NotThere`, and `FixInput` for a run that was not completed.
    """
    run = db.session.get(ReconciliationRun, run_id)
    if run is None:
        raise NotThere(f"There is no reconciliation {run_id}.")
    if run.state != "complete":
        raise FixInput(f"Reconciliation {run_id} was not completed, so nothing of it can be approved.")
    rows = _waiting(run_id, finding_ids)
    now = clock.now()
    held = hold({row.name_key for row in rows}, now)
    friends = picture.friends()
    shown = findings.still_shown({Pair(row.name_key, row.script_id) for row in rows}, now)
    strategies = picture.scripts_to_read()
    refused = []
    for row in rows:
        pair = Pair(row.name_key, row.script_id)
        why = _why_not(
            pair, held.rows.get(pair), wanted=pair in held.wanted, friend=row.name_key in friends, shown=pair in shown
        )
        grant = held.rows.get(pair) or (None if why else _row_for(row, strategies[row.script_id], now))
        if why is None and grant is None:
            why = "somebody has just begun to use the name"
        if why is not None or grant is None:
            refused.append(f"{row.name_spelling} on {row.script_id} stays: {why}.")
            continue
        remove(grant, f"approved by {actor}", now)
        row.act, row.decided_at, row.decided_by = Act.REMOVE, now, actor
        audit.record(actor, "provisioning.removal_approved", f"grant:{grant.id}", run=run_id, finding=row.id)
    db.session.flush()
    return Approved(len(rows) - len(refused), tuple(refused))


def _waiting(run_id: int, finding_ids: Sequence[int] | None) -> Sequence[ReconciliationFinding]:
    """The undecided findings of a run: those that wait for a person, or the ones that are named."""
    statement = (
        sa.select(ReconciliationFinding)
        .where(
            ReconciliationFinding.run_id == run_id,
            ReconciliationFinding.decided_at.is_(None),
            ReconciliationFinding.kind.in_((Finding.STRANGER, Finding.EXTRA, Finding.ALLOWED)),
        )
        .order_by(ReconciliationFinding.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if finding_ids is None:
        return db.session.scalars(statement.where(ReconciliationFinding.act == Act.ASK)).all()
    rows = db.session.scalars(statement.where(ReconciliationFinding.id.in_(finding_ids))).all()
    if len(rows) < len(set(finding_ids)):
        raise NotThere("Not every finding you named waits in this run.")
    return rows


def _why_not(pair: Pair, grant: Grant | None, *, wanted: bool, friend: bool, shown: bool) -> str | None:
    """Why this pair is not removed, as the end of a sentence, or None."""
    if friend:
        return "the name is on the list of friends"
    if wanted or (grant is not None and grant.wanted):
        return "the name is entitled to it now"
    if grant is not None and (grant.state != GrantState.ABSENT or not _rests(grant)):
        return "it is being worked on already"
    if not shown:
        return "the latest reading does not show it any more"
    return None


def _row_for(row: ReconciliationFinding, strategy_id: int, now: datetime) -> Grant | None:
    """A row for a pair that STS never had, to be turned to its removal. None when another was quicker."""
    grant_id = db.session.scalar(
        insert(Grant)
        .values(
            name_key=row.name_key,
            name_spelling=row.name_spelling,
            script_id=row.script_id,
            strategy_id=strategy_id,
            wanted=False,
            state=GrantState.ABSENT,
            cycle=0,
            priority=Priority.HEAL,
            paid_at=now,
            failed_tries=0,
            spent_tries=0,
            lost_claims=0,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Grant.id)
    )
    return db.session.get(Grant, grant_id) if grant_id is not None else None


def _rests(row: Grant) -> bool:
    return row.lease_token is None and row.next_attempt_at is None


def _respell(held: Held, name_key: str, spelling: str) -> None:
    """TradingView's spelling of a name is the right one: on the person's name, and on every pair of it."""
    for row in held.rows.values():
        if row.name_key == name_key:
            row.name_spelling = spelling
    db.session.execute(
        sa.update(TradingViewName)
        .where(TradingViewName.name_key == name_key, TradingViewName.released_at.is_(None))
        .values(spelling=spelling)
        .execution_options(synchronize_session="fetch")
    )
