"""The verbs of staff: answer, note, give a status, a priority or a colleague. Each leaves its audit line."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from sts_app.accounts import services as accounts
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, Refusal
from sts_app.support import drafts, letters
from sts_app.support.models import SupportTicket, TicketMessage
from sts_app.support.pictures import MOST_PICTURES, Picture
from sts_app.support.rules import (
    DEED_FOR,
    PROMISES,
    REPLY_LENGTHS,
    Deed,
    No,
    Priority,
    Side,
    TicketStatus,
    after,
    answer_due,
    fault_of,
)
from sts_app.support.services import add_message, locked, move, promise


class NotInThisStatus(Refusal):
    status = 409
    code = "NOT_IN_THIS_STATUS"


def reply(
    ticket_id: int,
    text: str,
    *,
    actor: str,
    then: TicketStatus | None = None,
    pictures: Sequence[Picture] = (),
    nonce: str | None = None,
) -> TicketMessage:
    """Answer the customer, by one letter; the ticket then waits for them, or has the status `then`.

    The same text from the same form `nonce` is answered once. Raises `FixInput`, `NotInThisStatus` and `NotThere`.
    """
    _refuse_fault(text, pictures)
    ticket = locked(ticket_id)
    if ticket.suspected:
        raise FixInput("This was probably not written by a person. Accept it first, if it was.")
    once = drafts.once(actor, nonce, f"ticket:{ticket.id}", text) if nonce is not None else None
    earlier = db.session.scalar(sa.select(TicketMessage).where(TicketMessage.once == once)) if once else None
    if earlier is not None:
        return earlier
    status = _after(ticket, TicketStatus(ticket.status), Deed.STAFF_REPLIES)
    if then is not None and then is not status:
        status = _after(ticket, status, DEED_FOR[then])
    message = add_message(ticket, Side.STAFF, text, actor=actor, once=once)
    _add_pictures(message, pictures, actor)
    before = ticket.status
    # Where more is to follow, the customer has been heard now and waits anew.
    ticket.waiting_since = None
    move(ticket, status)
    audit.record(actor, "support.replied", f"ticket:{ticket.id}", message=message.id, before=before, to=ticket.status)
    letters.answered(ticket, message)
    return message


def note(ticket_id: int, text: str, *, actor: str, pictures: Sequence[Picture] = ()) -> TicketMessage:
    """Write down what only staff read. Raises `FixInput` and `NotThere`."""
    _refuse_fault(text, pictures)
    ticket = locked(ticket_id)
    message = add_message(ticket, Side.NOTE, text, actor=actor)
    _add_pictures(message, pictures, actor)
    audit.record(actor, "support.noted", f"ticket:{ticket.id}", message=message.id)
    return message


def set_status(ticket_id: int, status: TicketStatus, *, actor: str) -> SupportTicket:
    """Give a ticket another status; a customer is told by letter that it is resolved.

    Raises `AlreadyDone` where it has it, `NotInThisStatus` where its own status forbids it, and `NotThere`.
    """
    ticket = locked(ticket_id)
    before = ticket.status
    move(ticket, _after(ticket, TicketStatus(ticket.status), DEED_FOR[status]))
    audit.record(actor, "support.status_set", f"ticket:{ticket.id}", before=before, to=ticket.status)
    if status is TicketStatus.RESOLVED and not ticket.suspected:
        letters.resolved(ticket)
    return ticket


def set_priority(ticket_id: int, priority: Priority, *, actor: str) -> SupportTicket:
    """Give a ticket another priority: what is promised changes with it, from when the customer wrote.

    Raises `AlreadyDone` and `NotThere`.
    """
    ticket = locked(ticket_id)
    if ticket.priority == priority:
        raise AlreadyDone("The ticket has this priority already.")
    before, ticket.priority = Priority(ticket.priority), priority
    if ticket.first_answered_at is None:
        ticket.first_due_at += PROMISES[priority] - PROMISES[before]
    promise(ticket)
    audit.record(actor, "support.priority_set", f"ticket:{ticket.id}", before=before, to=ticket.priority)
    return ticket


def assign(ticket_id: int, email: str | None, *, actor: str) -> SupportTicket:
    """Give a ticket to the member of staff with this address, or to nobody.

    Raises `FixInput` when they are not of the staff, `AlreadyDone` when they have it, and `NotThere`.
    """
    colleague: User | None = None
    if email is not None:
        colleague = accounts.user_by_email(email)
        if colleague is None or not colleague.is_staff:
            raise FixInput("Nobody on the staff has this address.")
    ticket = locked(ticket_id)
    assignee_id = colleague.id if colleague is not None else None
    if ticket.assignee_id == assignee_id:
        raise AlreadyDone("They have this ticket already." if colleague is not None else "Nobody has this ticket.")
    ticket.assignee_id = assignee_id
    audit.record(actor, "support.assigned", f"ticket:{ticket.id}", to=assignee_id)
    return ticket


def accept(ticket_id: int, *, actor: str) -> SupportTicket:
    """Say that a suspected ticket was written by a person: its letters go out, and its promise runs from now on.

    Raises `AlreadyDone` and `NotThere`.
    """
    ticket = locked(ticket_id)
    if not ticket.suspected:
        raise AlreadyDone("This ticket is no suspected one.")
    ticket.suspected = False
    first = db.session.scalars(
        sa.select(TicketMessage).where(TicketMessage.ticket_id == ticket.id).order_by(TicketMessage.id).limit(1)
    ).one()
    ticket.waiting_since = None
    move(ticket, TicketStatus.OPEN)
    ticket.first_due_at = answer_due(Priority(ticket.priority), clock.now())
    audit.record(actor, "support.accepted", f"ticket:{ticket.id}")
    letters.opened(ticket, first)
    return ticket


def _after(ticket: SupportTicket, status: TicketStatus, deed: Deed) -> TicketStatus:
    found = after(status, deed)
    if isinstance(found, No):
        cause = f"ticket:{ticket.id} is {ticket.status}"
        raise (
            AlreadyDone(found.sentence, cause=cause) if found.already else NotInThisStatus(found.sentence, cause=cause)
        )
    return found


def _refuse_fault(text: str, pictures: Sequence[Picture]) -> None:
    fault = fault_of(text, REPLY_LENGTHS, lines=True)
    if fault is None and len(pictures) > MOST_PICTURES:
        fault = f"At most {MOST_PICTURES} pictures fit into one message."
    if fault is not None:
        raise FixInput(fault)


def _add_pictures(message: TicketMessage, pictures: Sequence[Picture], actor: str) -> None:
    for picture in pictures:
        db.session.add(drafts.row_of(picture, owner=actor, message_id=message.id))
    db.session.flush()
