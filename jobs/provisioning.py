"""Work what is due at TradingView: claim, call, settle, until nothing is or the time is up."""

from __future__ import annotations

import time

from flask import current_app

from jobs import job
from sts_app.core.db import transaction
from sts_app.core.queue import wake
from sts_app.provisioning import engine, tradingview


@job
def work() -> None:
    adapter = tradingview()
    over = time.monotonic() + current_app.config["STS"].work_seconds
    while time.monotonic() < over:
        if adapter is None:
            with transaction():
                if not engine.hand_over_due():
                    return
            continue
        with transaction():
            claim = engine.claim_next()
        if claim is None:
            return
        seen = engine.call(adapter, claim)
        with transaction():
            engine.settle(claim, seen)
    with transaction():
        wake("provisioning.work")
