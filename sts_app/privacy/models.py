"""The record of somebody's wish to be erased, and the certificate of what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row, text_enum
from sts_app.privacy.rules import ErasureState


class Erasure(Row, Base):
    """One wish to be erased; at most one open per person. It holds nothing about the person.

    `ref` is what the certificate is found under, by whoever has it. `begins_at` ends the time in which the wish can be
    taken back. `waits` says what has to happen first, as `rules.Wait`. The moments are when access was verified absent,
    the provider's customer deleted, the data replaced, and the last letter sent and blanked. `report` is what the
    certificate counts up.
    """

    __tablename__ = "erasure"
    __table_args__ = (
        text_enum(*ErasureState, name="known_state"),
        sa.UniqueConstraint("ref"),
        sa.CheckConstraint("(state IN ('revoking', 'done')) = (begun_at IS NOT NULL)", name="begun_at_when_begun"),
        sa.CheckConstraint("(state = 'done') = (done_at IS NOT NULL)", name="done_at_when_done"),
        sa.CheckConstraint("(state = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled_at_when_cancelled"),
        sa.CheckConstraint(
            "replaced_at IS NULL OR (access_gone_at IS NOT NULL AND customer_gone_at IS NOT NULL)",
            name="access_and_customer_first",
        ),
        sa.CheckConstraint("done_at IS NULL OR replaced_at IS NOT NULL", name="replaced_before_done"),
        sa.Index(
            "uq_erasure_open", "user_id", unique=True, postgresql_where=sa.text("state IN ('requested', 'revoking')")
        ),
    )

    ref: Mapped[str]
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("users.id"))
    state: Mapped[str] = mapped_column(default=ErasureState.REQUESTED)
    asked_by: Mapped[str]
    begins_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    waits: Mapped[list[str]] = mapped_column(JSONB, default=list)
    access_gone_at: Mapped[datetime | None]
    customer_gone_at: Mapped[datetime | None]
    replaced_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    report: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)

    @property
    def letter_key(self) -> str:
        """What its last letter is stored under."""
        return f"erasure-done:{self.id}"
