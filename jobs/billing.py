"""Handle events and look-ups that are due, until none is or the time is up."""

from __future__ import annotations

import time

import structlog
from flask import current_app

from jobs import job
from sts_app.billing import inbox
from sts_app.billing.services import payments
from sts_app.core.db import transaction
from sts_app.core.queue import wake

log = structlog.get_logger()


@job
def work() -> None:
    over = time.monotonic() + current_app.config["STS"].work_seconds
    while time.monotonic() < over:
        with transaction():
            claimed = inbox.claim_next()
        if claimed is None:
            return
        found = inbox.fetch(payments(), claimed)
        try:
            with transaction():
                inbox.settle(claimed, found)
        except Exception:
            log.exception("billing.settle_broke", event_id=claimed.event_id, purchase_id=claimed.purchase_id)
            with transaction():
                inbox.give_back(claimed)
    with transaction():
        wake("billing.work")
