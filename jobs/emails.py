"""Send the letters that are due."""

from __future__ import annotations

import time

from flask import current_app

from jobs import job
from sts_app.core import clock, queue
from sts_app.core.db import transaction
from sts_app.emails import services


@job
def work() -> None:
    """Claim, call, settle, one letter at a time, until nothing is due or this turn is over."""
    turn_ends = time.monotonic() + current_app.config["STS"].work_seconds
    while time.monotonic() < turn_ends:
        with transaction():
            claim = services.claim_next(now=clock.now())
        if claim is None:
            return
        answer = services.call(claim)
        with transaction():
            services.settle(claim, answer, now=clock.now())
    with transaction():
        queue.wake(services.WORK)
