"""The outbox row, and the pure rules of how long a letter waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row, text_enum

# The first two are the delays of the product's schedule; an outage is waited out with the rest.
DELAYS = tuple(timedelta(seconds=s) for s in (5, 10, 30, 60, 300, 900))
REFUSALS_ALLOWED = 3
# The provider remembers a key for 24 hours. An hour less, so that a slow call cannot cross the line.
KEY_MEMORY = timedelta(hours=23)


class LetterState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"  # the provider answered no
    UNSURE = "unsure"  # nobody knows whether it was sent, and asking again could send it twice


IN_MOTION = (LetterState.QUEUED, LetterState.SENDING)


class EmailMessage(Row, Base):
    """One letter, under a key that names the deed it tells of.

    `next_attempt_at` is when a worker may take it; while one has it, that is the end of its lease,
    so a letter whose worker was killed becomes due by itself. `tries` counts refusals, `waits`
    counts the answers that were no verdict. `unanswered_since` is the start of the first call whose
    outcome nobody knows. The body of a `secret` letter is sealed, and blank once it is done with.
    """

    __tablename__ = "email_message"
    __table_args__ = (
        text_enum(*LetterState, name="known_state"),
        sa.UniqueConstraint("key"),
        sa.CheckConstraint(
            "(state IN ('queued', 'sending')) = (next_attempt_at IS NOT NULL)", name="due_while_in_motion"
        ),
        sa.CheckConstraint(
            "(state = 'sending') = (lease_token IS NOT NULL AND leased_until IS NOT NULL)", name="leased_while_sending"
        ),
        sa.CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="sent_at_when_sent"),
        sa.CheckConstraint(
            "NOT secret OR state IN ('queued', 'sending') OR (text = '' AND html = '')", name="secret_blank_when_done"
        ),
        sa.Index(
            "ix_email_message_due",
            "next_attempt_at",
            "id",
            postgresql_where=sa.text("state IN ('queued', 'sending')"),
        ),
        sa.Index("ix_email_message_user_id", "user_id", "id"),
    )

    key: Mapped[str]
    kind: Mapped[str]
    # The sender is kept too: a key replayed with another body is an error at the provider.
    sender: Mapped[str]
    to_address: Mapped[str]
    # No foreign key: people live on a floor above.
    user_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    subject: Mapped[str]
    text: Mapped[str]
    html: Mapped[str]
    secret: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default=LetterState.QUEUED)
    tries: Mapped[int] = mapped_column(default=0)
    waits: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    first_tried_at: Mapped[datetime | None]
    unanswered_since: Mapped[datetime | None]
    provider_id: Mapped[str | None]
    last_error: Mapped[str | None]
    sent_at: Mapped[datetime | None]

    @staticmethod
    def due(now: datetime) -> sa.ColumnElement[bool]:
        """Waiting letters whose time has come, and letters whose lease ran out."""
        return sa.and_(EmailMessage.state.in_(IN_MOTION), EmailMessage.next_attempt_at <= now)

    def is_past_asking(self, now: datetime) -> bool:
        """True when an answer has been missing for so long that the provider may have forgotten the key."""
        return self.unanswered_since is not None and now - self.unanswered_since >= KEY_MEMORY


def delay_before_next(attempts: int) -> timedelta:
    """How long a letter waits after its first, second, ... attempt without success; the last delay repeats."""
    return DELAYS[min(attempts, len(DELAYS)) - 1]
