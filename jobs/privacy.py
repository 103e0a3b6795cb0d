"""Take erasures on, as far as they can go now."""

from __future__ import annotations

import structlog

from jobs import job
from sts_app.core import clock
from sts_app.core.db import transaction
from sts_app.privacy import engine, queries

log = structlog.get_logger()

# Closing, replacing, finishing: nobody's erasure has more steps that can follow each other at once.
STEPS_AT_ONCE = 4


@job
def work() -> None:
    """Each erasure that has begun or is to begin, step by step. One that fails keeps nobody else."""
    with transaction():
        due = queries.due(clock.now())
    for erasure_id in due:
        try:
            for _ in range(STEPS_AT_ONCE):
                with transaction():
                    goes_on = engine.advance(erasure_id)
                if not goes_on:
                    break
        except Exception:  # of whatever kind: the others are not to wait for it
            log.exception("privacy.step_failed", erasure_id=erasure_id)
