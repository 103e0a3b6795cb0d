"""Do what billing has to do with the provider, and compare its lists with ours."""

from __future__ import annotations

import time

import structlog
from flask import current_app

from jobs import job
from jobs.schedule import slot_of
from sts_app.billing import comparing, inbox
from sts_app.billing.services import payments
from sts_app.core import clock
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.core.queue import wake

log = structlog.get_logger()


@job
def work() -> None:
    """Claim, call, settle, until nothing is due or the time is up."""
    over = time.monotonic() + current_app.config["STS"].work_seconds
    while time.monotonic() < over:
        with transaction():
            claimed = inbox.claim_next()
        if claimed is None:
            return
        try:
            claimed.call(payments())
            with transaction():
                claimed.settle()
        except Exception:
            log.exception("billing.settle_broke", work=type(claimed).__name__)
            with transaction():
                claimed.give_back()
    with transaction():
        wake("billing.work")


@job
def compare() -> None:
    """Every day: fetch the events that never came, and see that every payment stands in our books."""
    try:
        comparing.run(payments(), not_since=slot_of("billing.compare", clock.now()))
    except Refusal as refusal:
        log.warning("billing.not_compared", because=refusal.sentence)
