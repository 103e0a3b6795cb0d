"""Reconciliation: read who holds what at TradingView, compare it with what should stand, put right what may be.

A driver for the doors: it opens its own transactions, and none while it reads. TradingView is read first and
what should stand is reckoned afterwards, so that nothing that was bought meanwhile can look like too much.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import claim, db, transaction
from sts_app.core.errors import AlreadyDone, NotNow
from sts_app.provisioning import acting, comparing, control, findings, letters, picture
from sts_app.provisioning.comparing import CHANGES, Difference, Known, Limits, Reading
from sts_app.provisioning.findings import Report
from sts_app.provisioning.gateway import NotOffered, TradingView
from sts_app.provisioning.models import ReconciliationRun
from sts_app.provisioning.reading import CannotRead, NoAnswer, OutOfTime, Reader
from sts_app.provisioning.rules import Pair
from sts_app.settings import Settings

log = structlog.get_logger()

# Of the quarter of an hour that the schedule gives a run, so much is for reading; the rest is for acting.
READS_FOR = timedelta(minutes=12)
ENDS_WITHIN = timedelta(minutes=15)
# Where there are no lists, so many names are asked for in one run, and the next run goes on behind them.
NAMES_PER_RUN = 150
# So many missing pairs are asked for once more before a list is believed.
ASKED_ONCE_MORE = 100
LIMITS = Limits()


class CannotBelieve(CannotRead):
    """What was read cannot be right."""


def run(
    adapter: TradingView | None,
    *,
    source: Literal["daily", "demand"],
    actor: str,
    dry_run: bool,
    credential_id: int | None = None,
    losses_are_real: bool = False,
    not_since: datetime | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Read, compare, act and report; takes up to a quarter of an hour and opens its own transactions.

    A dry run writes its report and changes nothing else. A run that could not trust what it read is refused
    and changes nothing either; its report says why. What people were asked to do, and the reading shows as done,
    is taken down as read back. `losses_are_real` is a person's word that most holders of a script, or all there
    were, are really gone, which would otherwise be taken for a list that cannot be right. With `not_since`, a run
    of the same source begun since then is enough.

    Raises `NotNow` when TradingView cannot be asked at all, `AlreadyDone` while another run is under way.
    """
    if adapter is None:
        raise NotNow("This store works by hand: paste TradingView's list of a script with `sts reconcile pasted`.")
    with transaction():
        run_id = _open(source, actor, dry_run=dry_run, not_since=not_since)
    settings: Settings = current_app.config["STS"]
    limits = replace(LIMITS, readings_apart=settings.scaled(LIMITS.readings_apart))
    log.info("provisioning.reconciling", run_id=run_id, source=source, dry_run=dry_run)
    try:
        reader = Reader(adapter, credential_id=credential_id, until=clock.now() + READS_FOR, sleep=sleep)
        reading, notes = _read(reader)
        found, proven = _compare(run_id, reader, reading, notes, limits, losses_are_real=losses_are_real)
        if not dry_run:
            proven = _act(run_id, found, proven, actor=actor)
        with transaction():
            _complete(run_id, proven)
    except CannotRead as trouble:
        with transaction():
            _refuse(run_id, trouble.reason)
    except BaseException as error:
        # The worker's time limit arrives as an exception as well.
        with transaction():
            _refuse(run_id, f"it broke off ({type(error).__name__})")
        raise
    with transaction():
        return findings.report(run_id)


def _open(source: str, actor: str, *, dry_run: bool, not_since: datetime | None) -> int:
    """Open a run, unless one is under way. One whose process died is closed first."""
    control.control_row()
    now = clock.now()
    settings: Settings = current_app.config["STS"]
    overdue = now - ENDS_WITHIN - timedelta(seconds=settings.clock_skew_seconds)
    under_way = ReconciliationRun.state == "running"
    for run_id in db.session.scalars(
        sa.select(ReconciliationRun.id).where(under_way, ReconciliationRun.created_at < overdue)
    ).all():
        _refuse(run_id, "its process died")
    if db.session.scalar(sa.select(sa.exists().where(under_way))):
        raise AlreadyDone("Another reconciliation is under way. Please wait until it has ended.")
    if not_since is not None and db.session.scalar(
        sa.select(sa.exists().where(ReconciliationRun.source == source, ReconciliationRun.created_at >= not_since))
    ):
        raise AlreadyDone("This has been reconciled already.")
    if not control.standing().may_read:
        raise NotNow("TradingView may not be asked at the moment: see the switch, the incident and the circuit.")
    opened = ReconciliationRun(source=source, actor=actor, dry_run=dry_run, counts={})
    db.session.add(opened)
    db.session.flush()
    return opened.id


def _read(reader: Reader) -> tuple[Reading, dict[str, Any]]:
    """What TradingView shows, and a note of what was read."""
    with transaction():
        scripts = set(picture.scripts_to_read())
        needed = picture.scripts_in_use()
    try:
        reading = reader.lists(sorted(needed), sorted(scripts - needed))
        return reading, {"by": "lists", "unread": sorted(scripts - set(reading.holders))}
    except NotOffered:
        pass
    with transaction():
        after = findings.last_round()
        names = picture.names_ever_called()
    begin = bisect.bisect_right([key for key, _ in names], after or "")
    reading, upto = reader.names([*names[begin:], *names[:begin]][:NAMES_PER_RUN], sorted(scripts))
    return reading, {"by": "names", "after": after, "upto": upto, "names": len(names)}


def _compare(
    run_id: int, reader: Reader, reading: Reading, notes: dict[str, Any], limits: Limits, *, losses_are_real: bool
) -> tuple[list[Difference], list[Known]]:
    """Every difference with what is to be done about it, and what people have done; written down.

    Raises `CannotRead`.
    """
    settings: Settings = current_app.config["STS"]
    skew = timedelta(seconds=settings.clock_skew_seconds)
    with transaction():
        taken = picture.take(clock.now(), reading.holders)
    found = comparing.compare(
        reading, taken.knowns, expected=taken.expected, friends=taken.friends, skew=skew, now=clock.now()
    )
    doubt = comparing.doubt(reading, taken.knowns, found, skew=skew, limits=limits)
    if doubt is not None and not losses_are_real:
        raise CannotBelieve(doubt)
    if reading.answered is None:
        _ask_once_more(reader, found)
    proven = _proven(reader, reading, taken.knowns, skew)
    notes |= {"scripts": sorted(reading.holders), "holders": sum(map(len, reading.holders.values()))}
    with transaction():
        opened = _held(run_id)
        planned = comparing.plan(
            found,
            seen_since=findings.seen_since(found, clock.now()),
            began_at=reading.began_at,
            verified=comparing.holders_known(reading, taken.knowns, skew).total(),
            held=notes["holders"],
            limits=limits,
        )
        findings.write(run_id, planned)
        opened.counts = {"reading": notes}
    return planned, proven


def _ask_once_more(reader: Reader, found: Sequence[Difference]) -> None:
    """Ask for names that a list does not hold: an answer that contradicts the list says that it is not whole."""
    for missing in comparing.sample(found, ASKED_ONCE_MORE).values():
        for fact in reader.access(missing[0].spelling, [each.pair.script_id for each in missing]) or ():
            if fact.has_access:
                raise CannotBelieve(
                    f"The list of {fact.script_id} does not hold somebody who has access when asked for by name: "
                    "it cannot be whole."
                )


def _proven(reader: Reader, reading: Reading, knowns: Sequence[Known], skew: timedelta) -> list[Known]:
    """What people were asked to do and the reading shows as done.

    Who is on no list has no access only when asking for the name says the same: nothing else would tell that a
    list is not whole.
    """
    resting = [known for known in knowns if not comparing.in_motion(known, reading, skew)]
    proven = comparing.proven(reading, resting, fresh=skew, now=reading.began_at)
    if reading.answered is not None:
        return proven
    gone: dict[str, list[Known]] = {}
    for known in [known for known in proven if not known.wanted][:ASKED_ONCE_MORE]:
        gone.setdefault(known.pair.name_key, []).append(known)
    sure: set[Pair] = set()
    try:
        for name_key, of_name in gone.items():
            spelling = min(of_name[0].spellings, default=name_key)
            facts = reader.access(spelling, [known.pair.script_id for known in of_name]) or ()
            sure |= {Pair(name_key, fact.script_id) for fact in facts if fact.is_told and not fact.has_access}
    except (OutOfTime, NoAnswer) as trouble:
        log.info("provisioning.absence_left", because=trouble.reason)
    return [known for known in proven if known.wanted or known.pair in sure]


def _act(run_id: int, planned: Sequence[Difference], proven: Sequence[Known], *, actor: str) -> list[Known]:
    """Do what is planned and note what is proven, one name at a time: one that fails keeps no other from its turn.

    Returns what of `proven` had not moved meanwhile.
    """
    todo: dict[str, list[Difference]] = {}
    done: dict[str, list[Known]] = {}
    for each in planned:
        if each.act in CHANGES:
            todo.setdefault(each.pair.name_key, []).append(each)
    for known in proven:
        done.setdefault(known.pair.name_key, []).append(known)
    proven = []
    for name_key in sorted({*todo, *done}):
        try:
            with transaction():
                _held(run_id)
                held = acting.hold([name_key], clock.now())
                acting.change(run_id, todo.get(name_key, ()), held, by=actor)
                noted = acting.prove(done.get(name_key, ()), held)
            proven += noted
        except SQLAlchemyError:
            log.exception("provisioning.drift_left", run_id=run_id)
    return proven


def _held(run_id: int) -> ReconciliationRun:
    """This run's row, ours until the transaction ends. Raises `CannotRead` when it was closed over our head."""
    opened = db.session.scalar(
        sa.select(ReconciliationRun)
        .where(ReconciliationRun.id == run_id, ReconciliationRun.state == "running")
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if opened is None:
        raise CannotRead("it took too long, and was closed meanwhile")
    return opened


def _complete(run_id: int, proven: Sequence[Known]) -> None:
    opened = _held(run_id)
    counted = findings.count(run_id) | findings.count_proven(proven)
    opened.state, opened.finished_at = "complete", clock.now()
    opened.counts = opened.counts | counted
    db.session.flush()
    log.info("provisioning.reconciled", run_id=run_id, dry_run=opened.dry_run, **counted)
    if opened.dry_run:
        return
    audit.record(opened.actor, "provisioning.reconciled", f"reconciliation:{run_id}", **counted)
    found = findings.report(run_id)
    known = findings.asked_before(run_id, clock.now())
    if any(Pair(line.name.lower(), line.script_id) not in known for line in found.waiting):
        letters.reconciliation(found, refused=False)


def _refuse(run_id: int, because: str) -> None:
    """Close a run that changed nothing, or that was broken off. Quiet when it is closed already."""
    closed = claim(
        sa.update(ReconciliationRun)
        .where(ReconciliationRun.id == run_id, ReconciliationRun.state == "running")
        .values(state="refused", because=because, finished_at=clock.now())
    )
    if not closed:
        return
    log.warning("provisioning.reconciliation_refused", run_id=run_id, because=because)
    found = findings.report(run_id)
    if not found.dry_run:
        letters.reconciliation(found, refused=True)
