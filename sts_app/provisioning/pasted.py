"""A list of holders that a person copied from TradingView: proof for what was asked of people, and a comparison.

It is the way to reconcile where the store works by hand. Nothing is removed because of it without an
approval, and nothing at all changes before somebody has seen the preview and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from flask import current_app

from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.provisioning import acting, comparing, findings, picture
from sts_app.provisioning.comparing import CHANGES, Act, Difference, Known, Reading
from sts_app.provisioning.findings import Report
from sts_app.provisioning.models import ReconciliationRun
from sts_app.provisioning.pasted_list import NotAList, parse
from sts_app.provisioning.reconcile import LIMITS
from sts_app.provisioning.rules import Finding, Pair
from sts_app.settings import Settings

__all__ = ["NotAList", "Pasted", "compare", "parse"]

log = structlog.get_logger()

# From copying a list to pasting it a person takes no longer than this.
COPIED_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Pasted:
    """What a pasted list shows: the report of its comparison, and the names of proven gifts and removals.

    In a preview these would be proven; applied, they are.
    """

    report: Report
    present: tuple[str, ...]
    absent: tuple[str, ...]


def compare(
    script_id: str, text: str, *, actor: str, complete: bool, dry_run: bool = True, losses_are_real: bool = False
) -> Pasted:
    """Compare one script's pasted list with what should stand; a preview unless `dry_run` is false.

    What people were asked to give and the list shows is *verified*, with the list as evidence. Only a list
    that is said to be `complete` shows that somebody is absent: what was to be removed is then proven, and what
    is missing is healed within the guards of any reconciliation. Raises `NotAList`, and `NotThere` for a script
    that no plan covers and no pair names. The caller's transaction; makes no calls.
    """
    now = clock.now()
    if script_id not in picture.scripts_to_read():
        raise NotThere(f"No strategy has or had the script {script_id!r}.")
    settings: Settings = current_app.config["STS"]
    fresh = settings.scaled(COPIED_WITHIN)
    taken = picture.take(now, [script_id])
    known = {known.pair.name_key for known in taken.knowns} | {pair.name_key for pair in taken.expected}
    holders = parse(text, known=known, now=now)
    shown = frozenset(Pair(holder.name.lower(), script_id) for holder in holders)
    reading = Reading(now, {script_id: holders}, None if complete else shown)
    found = comparing.compare(
        reading, taken.knowns, expected=taken.expected, friends=taken.friends, skew=fresh, now=now
    )
    proven = comparing.proven(reading, taken.knowns, fresh=fresh, now=now)
    doubt = comparing.doubt(reading, taken.knowns, found, skew=fresh, limits=LIMITS)
    refused = doubt if not losses_are_real else None
    planned = [] if refused else _plan(found, reading, taken.knowns, fresh=fresh)
    proven = [] if refused else proven
    run = ReconciliationRun(
        source="pasted",
        actor=actor,
        dry_run=dry_run,
        state="refused" if refused else "complete",
        because=refused,
        finished_at=now,
        counts={"reading": {"by": "pasted", "scripts": [script_id], "holders": len(holders), "complete": complete}},
    )
    db.session.add(run)
    db.session.flush()
    findings.write(run.id, planned)
    if not dry_run and not refused:
        proven = _apply(run, planned, proven, actor=actor)
    present, absent = ([known for known in proven if known.wanted is wanted] for wanted in (True, False))
    run.counts = run.counts | findings.count(run.id) | findings.count_proven(proven)
    db.session.flush()
    log.info("provisioning.list_pasted", run_id=run.id, dry_run=dry_run, state=run.state, proven=len(proven))
    return Pasted(findings.report(run.id), _names(present), _names(absent))


def _plan(
    found: Sequence[Difference], reading: Reading, knowns: Sequence[Known], *, fresh: timedelta
) -> list[Difference]:
    planned = comparing.plan(
        found,
        seen_since={},
        began_at=reading.began_at,
        verified=comparing.holders_known(reading, knowns, fresh).total(),
        held=len(reading.listed()),
        limits=LIMITS,
    )
    # A person's file is no reading of ours: what it shows too much is removed when a person says so, and its
    # spelling may be their own.
    acts = {Finding.EXTRA: Act.ASK, Finding.DRIFTED: Act.LEAVE}
    return [replace(each, act=acts.get(each.kind, each.act)) for each in planned]


def _apply(
    run: ReconciliationRun, planned: Sequence[Difference], proven: Sequence[Known], *, actor: str
) -> list[Known]:
    todo = [each for each in planned if each.act in CHANGES]
    held = acting.hold({each.pair.name_key for each in todo} | {known.pair.name_key for known in proven}, clock.now())
    acting.change(run.id, todo, held, by=actor)
    done = acting.prove(proven, held, pasted_by=actor)
    audit.record(actor, "provisioning.list_pasted", f"reconciliation:{run.id}", **findings.count(run.id))
    return done


def _names(knowns: Sequence[Known]) -> tuple[str, ...]:
    return tuple(sorted(min(known.spellings, default=known.pair.name_key) for known in knowns))
