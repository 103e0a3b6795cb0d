"""The outbox row and how long a letter waits, what a provider told of it, and addresses that had trouble."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import get_args

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row, text_enum
from sts_app.emails.gateway import Happened
from sts_app.emails.rules import TRIAL_EVERY as TRIAL_EVERY
from sts_app.emails.rules import TROUBLES, Fate, Need, Standing

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
    WITHHELD = "withheld"  # not sent: letters to this address come back, or are not wanted


IN_MOTION = (LetterState.QUEUED, LetterState.SENDING)


class EmailMessage(Row, Base):
    """One letter, under a key that names the deed it tells of.

    `next_attempt_at` is when a worker may take it; while one has it, that is the end of its lease,
    so a letter whose worker was killed becomes due by itself. `tries` counts refusals, `waits`
    counts the answers that were no verdict. `unanswered_since` is the start of the first call whose
    outcome nobody knows. The body of a `secret` letter is sealed, and blank once it is done with. `need`
    says what becomes of it where letters come back. `about` are the people whom a letter to staff calls by a name.

    `delivered_at` and `trouble` are what the provider told afterwards, merged by `rules.merged`; `trouble_words`
    are the other server's own. `seen_at` is when staff looked at a letter that did not arrive.
    """

    __tablename__ = "email_message"
    __table_args__ = (
        text_enum(*LetterState, name="known_state"),
        text_enum(*TROUBLES, name="known_trouble"),
        text_enum(*get_args(Need), name="known_need"),
        sa.UniqueConstraint("key"),
        sa.CheckConstraint("(trouble IS NULL) = (trouble_at IS NULL)", name="trouble_has_its_time"),
        sa.CheckConstraint(
            "(state IN ('queued', 'sending')) = (next_attempt_at IS NOT NULL)", name="due_while_in_motion"
        ),
        sa.CheckConstraint(
            "(state = 'sending') = (lease_token IS NOT NULL AND leased_until IS NOT NULL)", name="leased_while_sending"
        ),
        sa.CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="sent_at_when_sent"),
        sa.CheckConstraint(
            "NOT secret OR state IN ('queued', 'sending', 'withheld') OR (text = '' AND html = '')",
            name="secret_blank_when_done",
        ),
        sa.Index(
            "ix_email_message_due",
            "next_attempt_at",
            "id",
            postgresql_where=sa.text("state IN ('queued', 'sending')"),
        ),
        sa.Index("ix_email_message_user_id", "user_id", "id"),
        sa.Index("ix_email_message_provider_id", "provider_id"),
        sa.Index(
            "ix_email_message_withheld",
            sa.func.lower(sa.text("to_address")),
            postgresql_where=sa.text("state = 'withheld'"),
        ),
        # Those that did not arrive are few; the sweep asks for them every minute.
        sa.Index(
            "ix_email_message_lost",
            "id",
            postgresql_where=sa.text("state IN ('failed', 'unsure', 'withheld') OR trouble IS NOT NULL"),
        ),
    )

    key: Mapped[str]
    kind: Mapped[str]
    # The sender is kept too: a key replayed with another body is an error at the provider.
    sender: Mapped[str]
    reply_to: Mapped[str | None]
    to_address: Mapped[str]
    # No foreign key: people live on a floor above.
    user_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    about: Mapped[list[int] | None] = mapped_column(ARRAY(sa.BigInteger))
    subject: Mapped[str]
    text: Mapped[str]
    html: Mapped[str]
    secret: Mapped[bool] = mapped_column(default=False)
    need: Mapped[str] = mapped_column(server_default="needed")
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
    delivered_at: Mapped[datetime | None]
    trouble: Mapped[str | None]
    trouble_at: Mapped[datetime | None]
    trouble_words: Mapped[str] = mapped_column(server_default="")
    seen_at: Mapped[datetime | None]
    seen_by: Mapped[str | None]

    @property
    def fate(self) -> Fate:
        """What the provider told of it until now."""
        trouble = Happened(self.trouble) if self.trouble else None
        return Fate(self.delivered_at, trouble, self.trouble_at, self.trouble_words)

    @fate.setter
    def fate(self, fate: Fate) -> None:
        self.delivered_at, self.trouble = fate.delivered_at, fate.trouble
        self.trouble_at, self.trouble_words = fate.trouble_at, fate.words

    @staticmethod
    def due(now: datetime) -> sa.ColumnElement[bool]:
        """Waiting letters whose time has come, and letters whose lease ran out."""
        return sa.and_(EmailMessage.state.in_(IN_MOTION), EmailMessage.next_attempt_at <= now)

    @staticmethod
    def goes_to(address: str) -> sa.ColumnElement[bool]:
        """Letters to this address, however it is capitalised."""
        return sa.func.lower(EmailMessage.to_address) == sa.func.lower(sa.literal(address))

    def is_past_asking(self, now: datetime) -> bool:
        """True when an answer has been missing for so long that the provider may have forgotten the key."""
        return self.unanswered_since is not None and now - self.unanswered_since >= KEY_MEMORY


class MailEvent(Row, Base):
    """What the provider told once of one letter; `external_id` is the same for every delivery of it.

    It is kept, because it may come before our own record of what the letter is called there.
    """

    __tablename__ = "mail_event"
    __table_args__ = (
        text_enum(*Happened, name="known_happened"),
        sa.UniqueConstraint("external_id"),
        sa.Index("ix_mail_event_provider_id", "provider_id"),
    )

    external_id: Mapped[str]
    provider_id: Mapped[str]
    happened: Mapped[str]
    at: Mapped[datetime]
    words: Mapped[str]


class MailAddress(Row, Base):
    """An address that had trouble, by its spelling without capitals; most addresses have no row.

    `words` are what was said when the last letter came back. `tried_at` is when a letter that was asked for last
    went to it though letters to it come back.
    """

    __tablename__ = "mail_address"
    __table_args__ = (sa.UniqueConstraint("address"),)

    address: Mapped[str]
    bounced_at: Mapped[datetime | None]
    complained_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    tried_at: Mapped[datetime | None]
    words: Mapped[str] = mapped_column(default="")

    @property
    def standing(self) -> Standing:
        """What the rules look at."""
        return Standing(self.bounced_at, self.complained_at, self.confirmed_at, self.tried_at)


def lost_key(now: datetime) -> str:
    """What the letters to staff about letters that did not arrive begin their keys with: one day's are one deed."""
    return f"admin-letters-lost:{now:%Y%m%d}"


def delay_before_next(attempts: int) -> timedelta:
    """How long a letter waits after its first, second, ... attempt without success; the last delay repeats."""
    return DELAYS[min(attempts, len(DELAYS)) - 1]
