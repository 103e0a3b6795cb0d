"""Periodic upkeep. Each function runs at most once for each slot of its schedule."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs import job
from jobs.schedule import slot_of
from sts_app.core import clock
from sts_app.core.db import db, transaction
from sts_app.ops import invariants, services

log = structlog.get_logger()


@job
def sweep() -> None:
    _once("ops.sweep", _sweep)


@job
def rescue_sweep() -> None:
    """The sweep of a worker that found the scheduler dead."""
    with transaction():
        run_id = services.claim_rescue_sweep()
    if run_id is not None:
        log.warning("ops.rescue_sweep")
        _sweep()
        with transaction():
            services.finish_run(run_id)


@job
def check_invariants() -> None:
    _once("ops.check_invariants", _check_invariants)


@job
def tidy() -> None:
    def deed() -> None:
        with transaction():
            services.tidy()

    _once("ops.tidy", deed)


def _sweep() -> None:
    """Wake first: what is due must not wait for what is only looked over, and may fail."""
    with transaction():
        services.wake_for_due()
    for find, deed in (
        (services.people_to_look_at, services.keep_in_step),
        (services.purchases_unreckoned, services.reckon),
        (services.checkouts_left, services.remind),
        (services.disputes_due, services.warn_of_dispute),
        (services.letters_lost, services.warn_of_letters),
        (services.erasures_overdue, services.warn_of_erasure),
    ):
        with transaction():
            found = find()
        for each in found:
            try:
                with transaction():
                    deed(each)
            except SQLAlchemyError:
                log.exception("ops.sweep_step_failed", step=deed.__name__, id=each)
    for deed_of_all in (services.note_new_addresses, services.drop_held_forms):
        with transaction():
            deed_of_all()


def _check_invariants() -> None:
    with transaction():
        for name, rows in invariants.broken(db.session.connection()).items():
            log.error("ops.invariant_broken", invariant=name, offenders=len(rows), first=[str(v) for v in rows[0]])


def _once(name: str, deed: Callable[[], None]) -> None:
    with transaction():
        run_id = services.claim_slot(name, slot_of(name, clock.now()))
    if run_id is None:
        return
    deed()
    with transaction():
        services.finish_run(run_id)
