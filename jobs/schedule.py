"""The table of periodic jobs. The scheduler makes Redis agree with it at start and every minute."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from croniter import croniter


@dataclass(frozen=True)
class Periodic:
    """A job by name, when it runs (cron, UTC), and how long it may take in seconds."""

    name: str
    cron: str
    timeout: int

    @property
    def id(self) -> str:
        """Changes with the definition, so that a changed entry replaces the old one in Redis."""
        mark = hashlib.sha256(f"{self.name} {self.cron} {self.timeout}".encode()).hexdigest()[:10]
        return f"cron-{self.name.replace('.', '-')}-{mark}"


SCHEDULE = (
    Periodic("ops.sweep", "* * * * *", 60),
    Periodic("ops.check_invariants", "*/5 * * * *", 60),
    Periodic("provisioning.check_session", "*/15 * * * *", 60),
    Periodic("provisioning.reconcile", "30 4 * * *", 900),
    Periodic("billing.compare", "15 5 * * *", 300),
    Periodic("ops.tidy", "0 3 * * *", 300),
)


def slot_of(name: str, now: datetime) -> datetime:
    """The slot that `now` falls into: the last moment the schedule named."""
    entry = next(periodic for periodic in SCHEDULE if periodic.name == name)
    # The previous match of a moment later, because a match at `now` itself counts as this slot.
    found: datetime = croniter(entry.cron, now + timedelta(seconds=1)).get_prev(datetime)
    return found
