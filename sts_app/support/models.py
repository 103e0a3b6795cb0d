"""Tickets, what is written in them, and the pictures that belong to it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from sts_app.core.db import Base, Row, text_enum
from sts_app.support.rules import OWED, Category, Priority, Side, TicketStatus

LARGEST_PICTURE = 6 * 1024 * 1024
PICTURE_KINDS = ("png", "jpeg", "webp")
_OWED = ", ".join(f"'{status}'" for status in OWED)


class SupportTicket(Row, Base):
    """One question and what becomes of it.

    It belongs to an account (`user_id`) or, from the contact form, to an address (`email`); to neither once
    the person is forgotten. While its status is one in which we owe an answer, `waiting_since` is when the
    customer wrote what is not answered, and `answer_due_at` what they are promised. `first_due_at` is the
    promise of the first answer, whenever it came, and runs from when a suspected ticket was accepted. A `suspected`
    ticket was probably not written by a person: it is kept for staff to look at, and nobody is written to about it.
    """

    __tablename__ = "support_ticket"
    __table_args__ = (
        sa.UniqueConstraint("ref"),
        sa.UniqueConstraint("once"),
        text_enum(*TicketStatus, name="known_status"),
        text_enum(*Priority, name="known_priority"),
        text_enum(*Category, name="known_category"),
        sa.CheckConstraint(
            "num_nonnulls(user_id, email) = CASE WHEN forgotten_at IS NULL THEN 1 ELSE 0 END", name="belongs_to_one"
        ),
        sa.CheckConstraint(
            f"(status IN ({_OWED})) = (waiting_since IS NOT NULL AND answer_due_at IS NOT NULL)"
            " AND (waiting_since IS NULL) = (answer_due_at IS NULL)",
            name="promised_while_owed",
        ),
        sa.CheckConstraint("(status = 'CLOSED') = (closed_at IS NOT NULL)", name="closed_at_when_closed"),
        sa.Index("ix_support_ticket_of_user", "user_id", "last_message_at", "id"),
        sa.Index("ix_support_ticket_of_email", sa.func.lower(sa.text("email")), "last_message_at"),
        sa.Index(
            "ix_support_ticket_owed", "answer_due_at", "id", postgresql_where=sa.text("answer_due_at IS NOT NULL")
        ),
        sa.Index("ix_support_ticket_activity", "last_message_at", "id"),
    )

    ref: Mapped[str]
    # Names the form that was sent and what was in it: a second click finds the first one's ticket.
    once: Mapped[str]
    user_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"))
    email: Mapped[str | None]
    name: Mapped[str] = mapped_column(default="")
    subject: Mapped[str]
    category: Mapped[str]
    priority: Mapped[str]
    status: Mapped[str] = mapped_column(default=TicketStatus.OPEN)
    purchase_id: Mapped[int | None] = mapped_column(sa.ForeignKey("purchase.id"), index=True)
    strategy_id: Mapped[int | None] = mapped_column(sa.ForeignKey("strategy.id"))
    assignee_id: Mapped[int | None] = mapped_column(sa.ForeignKey("users.id"), index=True)
    suspected: Mapped[bool] = mapped_column(default=False)

    waiting_since: Mapped[datetime | None]
    answer_due_at: Mapped[datetime | None]
    first_due_at: Mapped[datetime]
    first_answered_at: Mapped[datetime | None]
    last_message_at: Mapped[datetime]
    # When staff wrote last, and when the customer last had the thread before them.
    answered_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    times_resolved: Mapped[int] = mapped_column(default=0)
    closed_at: Mapped[datetime | None]
    forgotten_at: Mapped[datetime | None]

    @staticmethod
    def came_from(addresses: Collection[str]) -> sa.ColumnElement[bool]:
        """Tickets of the contact form in the name of one of these addresses, however it is capitalised."""
        return sa.func.lower(SupportTicket.email).in_([sa.func.lower(sa.literal(each)) for each in addresses])

    @property
    def has_news(self) -> bool:
        """Whether staff wrote something that the customer has not had before them."""
        return self.answered_at is not None and (self.seen_at is None or self.seen_at < self.answered_at)


class TicketMessage(Row, Base):
    """One message of a thread, or a note that no customer sees. `actor` is who wrote it, as audit lines say it."""

    __tablename__ = "ticket_message"
    __table_args__ = (
        text_enum(*Side, name="known_side"),
        sa.UniqueConstraint("once"),
        sa.Index("ix_ticket_message_ticket_id", "ticket_id", "id"),
    )

    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey("support_ticket.id", ondelete="CASCADE"))
    side: Mapped[str]
    actor: Mapped[str]
    text: Mapped[str]
    once: Mapped[str | None]


class TicketAttachment(Row, Base):
    """A picture as we encoded it ourselves: nothing of the file it came in is kept but what can be seen.

    `owner` is who may send it (`user:7`, `ticket:12`). Until the message it belongs to is sent it hangs on the
    form it was chosen in (`draft`), so that a form with faults does not lose it.
    """

    __tablename__ = "ticket_attachment"
    __table_args__ = (
        text_enum(*PICTURE_KINDS, name="known_kind"),
        sa.CheckConstraint("(message_id IS NULL) = (draft IS NOT NULL)", name="in_a_message_or_a_draft"),
        sa.CheckConstraint(f"octet_length(data) BETWEEN 1 AND {LARGEST_PICTURE}", name="size"),
        sa.Index("ix_ticket_attachment_message_id", "message_id", "id"),
        sa.Index("ix_ticket_attachment_owner", "owner", "created_at"),
    )

    message_id: Mapped[int | None] = mapped_column(sa.ForeignKey("ticket_message.id", ondelete="CASCADE"))
    owner: Mapped[str]
    draft: Mapped[str | None]
    kind: Mapped[str]
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[int]
    digest: Mapped[str]
    data: Mapped[bytes] = mapped_column(sa.LargeBinary, deferred=True)
