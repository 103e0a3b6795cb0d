"""A sample of each letter that support writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sts_app.accounts.letter_samples import customer
from sts_app.emails.samples import Given, Sample, given
from sts_app.support import letters
from sts_app.support.models import SupportTicket, TicketMessage
from sts_app.support.rules import Category, Priority, Side, TicketStatus

AT = datetime(2026, 11, 21, 15, 4, tzinfo=UTC)
QUESTION = (
    "Four strategies are on my chart, and two are not in the list.\n"
    "I have signed out of TradingView and in again.\n\n"
    "What else can I try?"
)
ANSWER = (
    "Thank you for the picture: it shows the list of your favourites.\n\n"
    "Please open Indicators, then Invite-only scripts. Both strategies stand there by name."
)


def _ticket(status: TicketStatus, *, stranger: bool = False) -> SupportTicket:
    return SupportTicket(
        ref="T-4QZK7PWX",
        once="letter-sample",
        user_id=None if stranger else customer().id,
        email="stranger.sample@customers.example" if stranger else None,
        subject="Two strategies are missing",
        category=Category.ACCESS,
        priority=Priority.HIGH,
        status=status,
        answer_due_at=AT + timedelta(hours=8),
        waiting_since=AT,
        first_due_at=AT + timedelta(hours=8),
        last_message_at=AT,
        times_resolved=1,
    )


def _message(text: str, side: Side) -> TicketMessage:
    return TicketMessage(id=0, ticket_id=0, side=side, actor="user:2", text=text)


def _asked(*, stranger: bool = False) -> Callable[[], Given]:
    return lambda: given(_ticket(TicketStatus.OPEN, stranger=stranger), _message(QUESTION, Side.CUSTOMER))


def _told(status: TicketStatus, *, stranger: bool = False) -> Callable[[], Given]:
    return lambda: given(_ticket(status, stranger=stranger), _message(ANSWER, Side.STAFF))


SAMPLES = (
    Sample("ticket-opened", "A customer opens a ticket", letters.opened, _asked()),
    Sample("ticket-opened-by-a-stranger", "A stranger writes to us", letters.opened, _asked(stranger=True)),
    Sample("ticket-replied", "A customer replies", letters.customer_replied, _asked()),
    Sample("ticket-answered", "We answer", letters.answered, _told(TicketStatus.WAITING_ON_CUSTOMER)),
    Sample("ticket-answered-and-resolved", "We answer and think that it is settled", letters.answered,
           _told(TicketStatus.RESOLVED)),
    Sample("ticket-answered-and-closed", "We answer a stranger and close", letters.answered,
           _told(TicketStatus.CLOSED, stranger=True)),
    Sample("ticket-resolved", "We think that it is settled", letters.resolved,
           lambda: given(_ticket(TicketStatus.RESOLVED))),
    Sample("ticket-resolved-of-a-stranger", "The same for a stranger", letters.resolved,
           lambda: given(_ticket(TicketStatus.RESOLVED, stranger=True))),
)  # fmt: skip
