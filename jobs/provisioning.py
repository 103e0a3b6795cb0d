"""Work what is due at TradingView, and see that the way there stands."""

from __future__ import annotations

import time

import structlog
from flask import current_app

from jobs import job
from jobs.schedule import slot_of
from sts_app.core import clock
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.core.queue import wake
from sts_app.provisioning import control, credentials, engine, pace, way
from sts_app.provisioning import reconcile as reconciliation

log = structlog.get_logger()


@job
def work() -> None:
    """Claim, call, settle, until nothing is due, nothing may be done, or the time is up."""
    over = time.monotonic() + current_app.config["STS"].work_seconds
    while time.monotonic() < over:
        if not _turn():
            return
    with transaction():
        wake("provisioning.work")


@job
def check_session() -> None:
    """Every quarter of an hour: does TradingView still accept us, and how old are the credentials?"""
    with transaction():
        credentials.tell_age()
        found = way()
        asked = found is not None and control.claim_session_check()
    if found is None or not asked:
        return
    check, reason = control.ask_session(found.adapter)
    with transaction():
        control.settle_check(check, reason, credential_id=found.credential_id)


@job
def reconcile() -> None:
    """Every day: compare who holds what at TradingView with what should stand."""
    with transaction():
        found = way()
    if found is None:
        return
    slot = slot_of("provisioning.reconcile", clock.now())
    try:
        reconciliation.run(
            found.adapter,
            source="daily",
            actor="system",
            dry_run=False,
            credential_id=found.credential_id,
            not_since=slot,
        )
    except Refusal as refusal:
        log.info("provisioning.not_reconciled", because=refusal.sentence)


def _turn() -> bool:
    """One step of whatever may be done now; false when there was none."""
    with transaction():
        standing = control.standing()
        found = way()
        canary = found is not None and standing.circuit_open and control.claim_canary()
        handed_over = engine.hand_over_due() if standing.by_hand and not canary else 0
        claim = None
        if found is not None and not canary:
            claim = engine.claim_next(found.credential_id, one_call_for_all=found.adapter.one_call_for_all)
    if found is not None and canary:
        check, reason = control.ask_session(found.adapter)
        with transaction():
            control.settle_check(check, reason, credential_id=found.credential_id)
        return True
    if found is None or claim is None:
        return handed_over > 0
    seen = engine.call(found.adapter, claim, pause=pace.pause())
    with transaction():
        engine.settle(claim, seen)
    return True
