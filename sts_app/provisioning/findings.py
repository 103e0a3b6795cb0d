"""The rows of reconciliation: what a run found, since when, what was done about it, and who is a friend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import FixInput, NotThere
from sts_app.provisioning.comparing import CHANGES, Act, Difference, Known
from sts_app.provisioning.forms import name_in
from sts_app.provisioning.models import AllowedHolder, ReconciliationFinding, ReconciliationRun
from sts_app.provisioning.rules import Finding, Pair

KEEP = timedelta(days=180)
# A finding older than this says nothing about the present, however many runs agreed with it.
REMEMBERED = timedelta(days=30)
BY_MACHINE = ("daily", "demand")


@dataclass(frozen=True)
class Line:
    """One finding as people and machines read it. `waits` is true while a person has to decide."""

    id: int
    kind: Finding
    name: str
    script_id: str
    expires_at: datetime | None
    act: Act
    decided_at: datetime | None
    decided_by: str | None
    waits: bool


@dataclass(frozen=True)
class Report:
    """One run: what it read, what it found, what was done. `because` says why a run was refused."""

    run_id: int
    source: str
    actor: str
    dry_run: bool
    state: str
    because: str | None
    began_at: datetime
    finished_at: datetime | None
    counts: dict[str, Any]
    lines: tuple[Line, ...]

    @property
    def waiting(self) -> list[Line]:
        return [line for line in self.lines if line.waits]


def report(run_id: int) -> Report:
    """What a run found and did. Raises `NotThere`."""
    run = db.session.get(ReconciliationRun, run_id, populate_existing=True)
    if run is None:
        raise NotThere(f"There is no reconciliation {run_id}.")
    rows = db.session.scalars(
        sa.select(ReconciliationFinding)
        .where(ReconciliationFinding.run_id == run_id)
        .order_by(ReconciliationFinding.kind, ReconciliationFinding.name_key, ReconciliationFinding.script_id)
        .execution_options(populate_existing=True)
    )
    return Report(
        run.id,
        run.source,
        run.actor,
        run.dry_run,
        run.state,
        run.because,
        run.created_at,
        run.finished_at,
        run.counts,
        tuple(_line(row, dry_run=run.dry_run) for row in rows),
    )


def _line(row: ReconciliationFinding, *, dry_run: bool) -> Line:
    act = Act(row.act)
    return Line(
        row.id,
        Finding(row.kind),
        row.name_spelling,
        row.script_id,
        row.expires_at,
        act,
        row.decided_at,
        row.decided_by,
        waits=row.decided_at is None and (act is Act.ASK or (dry_run and act in CHANGES)),
    )


def write(run_id: int, found: Iterable[Difference]) -> None:
    """Write down what a run found and what is to be done about it, before anything is done."""
    rows = [
        {
            "run_id": run_id,
            "kind": each.kind,
            "name_key": each.pair.name_key,
            "name_spelling": each.spelling,
            "script_id": each.pair.script_id,
            "grant_id": each.known.grant_id if each.known else None,
            "expires_at": each.expires_at,
            "act": each.act,
        }
        for each in found
    ]
    if rows:
        db.session.execute(sa.insert(ReconciliationFinding), rows)


def decide(run_id: int, each: Difference, act: Act, *, by: str) -> None:
    """Note what became of a finding: it was acted on by `by`, or nothing was done because the pair had moved."""
    done = act is not Act.MOVED
    db.session.execute(
        sa.update(ReconciliationFinding)
        .where(
            ReconciliationFinding.run_id == run_id,
            ReconciliationFinding.kind == each.kind,
            ReconciliationFinding.name_key == each.pair.name_key,
            ReconciliationFinding.script_id == each.pair.script_id,
        )
        .values(act=act, decided_at=clock.now() if done else None, decided_by=by if done else None)
        .execution_options(synchronize_session=False)
    )


def count(run_id: int) -> dict[str, dict[str, int]]:
    """How many of each kind of finding, and of each act."""
    counted: dict[str, dict[str, int]] = {"findings": {}, "acts": {}}
    for word, column in (("findings", ReconciliationFinding.kind), ("acts", ReconciliationFinding.act)):
        rows = sa.select(column, sa.func.count()).where(ReconciliationFinding.run_id == run_id).group_by(column)
        counted[word] = {row[0]: row[1] for row in db.session.execute(rows.order_by(column))}
    return counted


def count_proven(proven: Iterable[Known]) -> dict[str, dict[str, int]]:
    """How many pairs that people had to work on were shown to be as they should, by what was asked of people."""
    counted = Counter("present" if known.wanted else "absent" for known in proven)
    return {"proven": {word: counted[word] for word in ("present", "absent")}}


def covers(run: ReconciliationRun, pair: Pair) -> bool:
    """True when the reading of a run would have shown this pair, had it been held."""
    reading: dict[str, Any] = run.counts.get("reading", {})
    if pair.script_id not in reading.get("scripts", ()):
        return False
    if reading["by"] == "lists" or (reading["by"] == "pasted" and reading["complete"]):
        return True
    if reading["by"] != "names" or reading["upto"] is None:
        return False
    after, upto, key = reading["after"] or "", reading["upto"], pair.name_key
    return after < key <= upto if after < upto else key > after or key <= upto


def seen_since(found: Collection[Difference], now: datetime) -> dict[Pair, datetime]:
    """Since when complete runs have agreed, without a gap, that a pair is an extra.

    A run that would have shown the pair and did not breaks the row, and nothing counts from before the
    last change of the pair.
    """
    extras = [each for each in found if each.kind is Finding.EXTRA and each.known is not None]
    runs = _runs_by_machine(now)
    shown = _shown([run.id for run in runs], {each.pair.name_key for each in extras}, (Finding.EXTRA,))
    since: dict[Pair, datetime] = {}
    for each in extras:
        assert each.known is not None  # an extra has a row
        for run in runs:
            if run.created_at <= each.known.changed_at:
                break
            if each.pair in shown.get(run.id, ()):
                since[each.pair] = run.created_at
            elif covers(run, each.pair):
                break
    return since


def still_shown(pairs: Iterable[Pair], now: datetime) -> set[Pair]:
    """Those of `pairs` that the latest reading which would have shown them did show as held by nobody of ours."""
    pairs = set(pairs)
    runs = _runs_by_machine(now, also=("pasted",))
    shown = _shown(
        [run.id for run in runs], {pair.name_key for pair in pairs}, (Finding.EXTRA, Finding.STRANGER, Finding.ALLOWED)
    )
    found = set()
    for pair in pairs:
        for run in runs:
            if pair in shown.get(run.id, ()):
                found.add(pair)
                break
            if covers(run, pair):
                break
    return found


def asked_before(run_id: int, now: datetime) -> set[Pair]:
    """The pairs that waited for a person's approval in any earlier run of the machine: staff know of them."""
    runs = [run.id for run in _runs_by_machine(now) if run.id < run_id and not run.dry_run]
    rows = sa.select(ReconciliationFinding.name_key, ReconciliationFinding.script_id).where(
        ReconciliationFinding.run_id.in_(runs), ReconciliationFinding.kind == Finding.STRANGER
    )
    return {Pair(row[0], row[1]) for row in db.session.execute(rows)}


def last_round() -> str | None:
    """The name at which the last round over the names ended, if there was one."""
    statement = (
        sa.select(ReconciliationRun.counts)
        .where(
            ReconciliationRun.state == "complete",
            ReconciliationRun.dry_run.is_(False),
            ReconciliationRun.counts["reading"]["by"].astext == "names",
        )
        .order_by(ReconciliationRun.id.desc())
        .limit(1)
    )
    counts = db.session.scalar(statement)
    upto: str | None = counts["reading"]["upto"] if counts else None
    return upto


def allow(name: str, *, reason: str, actor: str) -> None:
    """Put a friend of the house on the list of those who are never touched, or give the reason anew."""
    key = _key_of(name)
    if not key:
        raise FixInput("Whom? A TradingView name is needed.")
    if len(key.split()) > 1:
        raise FixInput(f"{name.strip()} cannot be a TradingView name: it has a blank in it. Allow one name at a time.")
    if not reason.strip():
        raise FixInput("A friend needs a reason: whoever looks at the list in a year wants to know.")
    values = {"reason": reason.strip(), "added_by": actor}
    statement = insert(AllowedHolder).values(name_key=key, created_at=clock.now(), **values)
    friend_id = db.session.scalar(
        statement.on_conflict_do_update(index_elements=["name_key"], set_=values).returning(AllowedHolder.id)
    )
    audit.record(actor, "provisioning.friend_allowed", f"friend:{friend_id}")


def disallow(name: str, *, actor: str) -> None:
    """Take a friend off the list. Raises `NotThere`."""
    key = _key_of(name)
    friend_id = db.session.scalar(
        sa.delete(AllowedHolder).where(AllowedHolder.name_key == key).returning(AllowedHolder.id)
    )
    if friend_id is None:
        raise NotThere(f"{name} is not on the list of friends.")
    audit.record(actor, "provisioning.friend_disallowed", f"friend:{friend_id}")


def _key_of(name: str) -> str:
    """What is compared of a name, however it was pasted: as `@name`, or as the address of a profile."""
    return (name_in(name) or "").lower()


def allowed_holders() -> Sequence[AllowedHolder]:
    """The friends of the house, by name."""
    return db.session.scalars(sa.select(AllowedHolder).order_by(AllowedHolder.name_key)).all()


def tidy() -> None:
    """Forget runs older than 180 days with what they found."""
    db.session.execute(sa.delete(ReconciliationRun).where(ReconciliationRun.created_at < clock.now() - KEEP))


def _runs_by_machine(now: datetime, *, also: tuple[str, ...] = ()) -> Sequence[ReconciliationRun]:
    """Complete runs that are remembered, the latest first."""
    return db.session.scalars(
        sa.select(ReconciliationRun)
        .where(
            ReconciliationRun.state == "complete",
            ReconciliationRun.source.in_((*BY_MACHINE, *also)),
            ReconciliationRun.created_at > now - REMEMBERED,
        )
        .order_by(ReconciliationRun.created_at.desc(), ReconciliationRun.id.desc())
    ).all()


def _shown(run_ids: Sequence[int], name_keys: Collection[str], kinds: tuple[Finding, ...]) -> Mapping[int, set[Pair]]:
    shown: dict[int, set[Pair]] = {}
    if run_ids and name_keys:
        rows = sa.select(
            ReconciliationFinding.run_id, ReconciliationFinding.name_key, ReconciliationFinding.script_id
        ).where(
            ReconciliationFinding.run_id.in_(run_ids),
            ReconciliationFinding.name_key.in_(name_keys),
            ReconciliationFinding.kind.in_(kinds),
        )
        for run_id, name_key, script_id in db.session.execute(rows):
            shown.setdefault(run_id, set()).add(Pair(name_key, script_id))
    return shown
