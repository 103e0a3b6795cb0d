"""Rows that say which process is alive and which periodic job ran when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row


class PeriodicRun(Row, Base):
    """One run of a periodic job. `(name, slot)` is unique: two schedulers alive give one run."""

    __tablename__ = "periodic_run"
    __table_args__ = (
        sa.UniqueConstraint("name", "slot"),
        sa.Index("ix_periodic_run_name_created_at", "name", "created_at"),
    )

    name: Mapped[str]
    slot: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Heartbeat(Base):
    """The last sign of life of a process."""

    __tablename__ = "heartbeat"

    process: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    seen_at: Mapped[datetime]
    started_at: Mapped[datetime]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
