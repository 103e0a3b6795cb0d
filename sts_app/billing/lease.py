"""How one worker at a time has a row in hand, and when it is tried again after trouble.

Refunds, evidence, events, subscriptions and looks at purchases are all taken by a lease, called about with
nothing open, and settled only by whoever has the lease still. What is called and settled is their own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from flask import current_app
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.billing.gateway import PaymentsError, TryLater
from sts_app.core import clock, tokens
from sts_app.core.db import Row, db
from sts_app.core.queue import wake

DELAYS = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 120, 600, 1800, 3600))
# Stripe forgets keys after a day at the earliest.
KEY_LASTS = timedelta(hours=20)
# The reason that is noted when settling fails on something unforeseen.
BROKE = "settling it broke; the log has the trace"


class Leased(Row):
    """A row that a worker takes in hand when it is due. `tries` counts those that failed, one after the other.

    Each table names its own `due_at`.
    """

    if TYPE_CHECKING:
        due_at: Mapped[datetime | None]

    lease_token: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    tries: Mapped[int] = mapped_column(default=0)
    last_reason: Mapped[str | None]

    @property
    def trouble_lasts(self) -> bool:
        """Whether it has failed so often that a person should know, though it is tried again."""
        return self.tries >= len(DELAYS)


class Keyed(Leased):
    """One whose call makes something at the provider: `attempt` numbers the keys that it was made under."""

    attempt: Mapped[int] = mapped_column(default=1)


Some = TypeVar("Some", bound=Leased)


def is_due(model: type[Leased], now: datetime) -> sa.ColumnElement[bool]:
    """Whether a row waits for a worker: its time has come, and nobody has it in hand."""
    return sa.and_(model.due_at <= now, sa.or_(model.leased_until.is_(None), model.leased_until <= now))


def take(model: type[Some]) -> tuple[Some, str] | None:
    """Take the row that is due longest, with the token that stands for having it; None when none is due."""
    now = clock.now()
    row = db.session.scalar(
        sa.select(model)
        .where(is_due(model, now))
        .order_by(model.due_at, model.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
        .execution_options(populate_existing=True)
    )
    if row is None:
        return None
    row.lease_token = token = tokens.new_secret()
    row.leased_until = now + timedelta(seconds=current_app.config["STS"].lease_seconds)
    return row, token


def release(row: Leased, token: str) -> bool:
    """Give a locked row back. False when it is not this token's any more: whoever lost it settles nothing."""
    if row.lease_token != token:
        return False
    row.lease_token = row.leased_until = None
    return True


def put_off(row: Leased, trouble: PaymentsError) -> None:
    """Note what went wrong, and try again later: the last delay repeats, and the provider may ask for a longer one."""
    row.tries += 1
    row.last_reason = trouble.reason
    delay: timedelta = current_app.config["STS"].scaled(DELAYS[min(row.tries, len(DELAYS)) - 1])
    if isinstance(trouble, TryLater):
        delay = max(delay, trouble.after or delay)
        if trouble.answered and isinstance(row, Keyed):
            # The provider keeps a failure of its own under the key and would repeat it.
            row.attempt += 1
    row.due_at = clock.now() + delay
    wake("billing.work", after=delay)


def is_forgotten(asked_at: datetime | None, now: datetime) -> bool:
    """Whether the provider may have forgotten the key of a call that was first made at `asked_at`."""
    return asked_at is not None and now - asked_at > KEY_LASTS
