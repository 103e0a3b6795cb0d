"""The verbs of those who ask: open a ticket, reply, read. Staff's verbs are in `desk`."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import queries as billing
from sts_app.catalog import queries as catalog
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import FixInput, NotThere, Refusal
from sts_app.emails import privacy as outbox
from sts_app.support import drafts, letters
from sts_app.support.models import SupportTicket, TicketAttachment, TicketMessage
from sts_app.support.rules import (
    FIRST_MESSAGE_LENGTHS,
    OWED,
    REPLY_LENGTHS,
    SUBJECT_LENGTHS,
    Category,
    Deed,
    No,
    Priority,
    Side,
    TicketStatus,
    after,
    answer_due,
    fault_of,
    first_priority,
)

# Without letters and digits that are taken for others when they are read out.
_READABLE = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
KEEP_DRAFTS = timedelta(days=1)
KEEP_SUSPECTED = timedelta(days=30)
CLOSE_RESOLVED = timedelta(days=30)
FORGOTTEN = "forgotten"


class TicketClosed(Refusal):
    status = 409
    code = "TICKET_CLOSED"
    title = "This ticket is closed"


@dataclass(frozen=True)
class Opening:
    """What somebody asks. `about` is the `value` of one of their topics, or blank."""

    subject: str
    text: str
    category: Category
    about: str = ""


def open_ticket(user: User, opening: Opening, *, nonce: str, sent: Sequence[str] = ()) -> SupportTicket:
    """Open a ticket of this person, with the pictures that hang on their form `nonce`; a second click finds the first.

    `sent` names the pictures as the request did: what hangs on the form has moved on when the second click
    comes. Raises `FixInput` for a text that cannot be taken, and `NotThere` for somebody else's purchase or a
    strategy that is not shown.
    """
    owner = owner_of(user)
    purchase_id, strategy_id = _tied_to(user.id, opening.about)
    ticket, message = _open(
        opening,
        once=drafts.once(owner, nonce, opening.subject, opening.text, *sent),
        actor=owner,
        user_id=user.id,
        purchase_id=purchase_id,
        strategy_id=strategy_id,
    )
    if message is None:
        drafts.drop(owner, nonce)
        return ticket
    drafts.move_to(message.id, owner, nonce)
    letters.opened(ticket, message)
    return ticket


def write_from_outside(
    opening: Opening, *, email: str, name: str, nonce: str, suspected: bool = False
) -> SupportTicket:
    """Open a ticket that belongs to an address: nobody has shown that it is theirs until they use the letter's link.

    A `suspected` one is kept for staff to look at, and no letter is written. Raises `FixInput` for a text that
    cannot be taken.
    """
    ticket, message = _open(
        opening,
        once=drafts.once(f"address:{email.lower()}", nonce, opening.subject, opening.text),
        actor="address",
        email=email,
        name=name,
        suspected=suspected,
    )
    if message is not None and not suspected:
        letters.opened(ticket, message)
    return ticket


def reply(ticket_id: int, text: str, *, actor: str, owner: str, nonce: str, sent: Sequence[str] = ()) -> TicketMessage:
    """Add a customer's message with the pictures that hang on the form `nonce`; a second click finds the first.

    It reopens a ticket that waited for the customer or was resolved. `sent` as for `open_ticket`. Raises
    `TicketClosed` and `FixInput`.
    """
    _refuse_fault(text, REPLY_LENGTHS, lines=True)
    ticket = locked(ticket_id)
    once = drafts.once(owner, nonce, f"ticket:{ticket.id}", text, *sent)
    earlier = db.session.scalar(sa.select(TicketMessage).where(TicketMessage.once == once))
    if earlier is not None:
        drafts.drop(owner, nonce)
        return earlier
    status = after(TicketStatus(ticket.status), Deed.CUSTOMER_REPLIES)
    if isinstance(status, No):
        raise TicketClosed(status.sentence, cause=f"ticket:{ticket.id}")
    message = add_message(ticket, Side.CUSTOMER, text, actor=actor, once=once)
    drafts.move_to(message.id, owner, nonce)
    move(ticket, status)
    letters.customer_replied(ticket, message)
    return message


def mark_seen(ticket: SupportTicket) -> None:
    """The customer has the thread before them."""
    if ticket.has_news:
        ticket.seen_at = clock.now()


def owner_of(user: User) -> str:
    """Under whose name somebody's pictures are kept."""
    return f"user:{user.id}"


def owner_by_link(ticket: SupportTicket) -> str:
    """The same for whoever holds the link of a ticket."""
    return f"ticket:{ticket.id}"


def forget(user_id: int, *, addresses: Collection[str] = (), actor: str = audit.SYSTEM) -> int:
    """Erase a person from their tickets and those from their addresses; how many there were. Safe to call twice.

    `addresses` are those they had before, beside the account's own. What is left is that there were tickets, of which
    category and when. To be called while the account still holds its address.
    """
    user = db.session.get(User, user_id)
    if user is None:
        return 0
    _delete_pictures(TicketAttachment.owner == owner_of(user))
    # Those that were kept back as suspected are erased as well.
    from_them = SupportTicket.came_from({user.email, *addresses})
    theirs = sa.select(SupportTicket).where(sa.or_(SupportTicket.user_id == user_id, from_them)).with_for_update()
    tickets = db.session.scalars(theirs.order_by(SupportTicket.id)).all()
    for ticket in tickets:
        _erase(ticket)
    if tickets:
        audit.record(actor, "support.forgotten", f"user:{user_id}", tickets=len(tickets))
    return len(tickets)


def tidy() -> None:
    """Close what has been resolved for a month, and delete unsent pictures and what was suspected a month ago."""
    now = clock.now()
    drafts.drop_before(now - KEEP_DRAFTS)
    old = sa.and_(SupportTicket.suspected, SupportTicket.created_at < now - KEEP_SUSPECTED)
    db.session.execute(sa.delete(SupportTicket).where(old).execution_options(synchronize_session="fetch"))
    resolved = sa.and_(SupportTicket.status == TicketStatus.RESOLVED, SupportTicket.resolved_at < now - CLOSE_RESOLVED)
    for ticket in db.session.scalars(sa.select(SupportTicket).where(resolved).with_for_update(skip_locked=True)):
        move(ticket, TicketStatus.CLOSED)
        audit.record(audit.SYSTEM, "support.status_set", f"ticket:{ticket.id}", to=TicketStatus.CLOSED)


def locked(ticket_id: int) -> SupportTicket:
    """The ticket, held to the end of this transaction so that deeds follow one another. Raises `NotThere`."""
    ticket = db.session.get(SupportTicket, ticket_id, with_for_update=True, populate_existing=True)
    if ticket is None or ticket.forgotten_at is not None:
        raise NotThere(cause=f"ticket:{ticket_id}")
    return ticket


def move(ticket: SupportTicket, status: TicketStatus) -> None:
    """Give a ticket its status and what goes with it: who waits since when, until when, and when it ended."""
    now = clock.now()
    before, ticket.status = TicketStatus(ticket.status), status
    if status not in OWED:
        ticket.waiting_since = ticket.answer_due_at = None
    elif ticket.waiting_since is None:
        ticket.waiting_since = now
    promise(ticket)
    if status is TicketStatus.RESOLVED and before is not status:
        ticket.resolved_at = now
        ticket.times_resolved += 1
    ticket.closed_at = (ticket.closed_at or now) if status is TicketStatus.CLOSED else None
    db.session.flush()


def promise(ticket: SupportTicket) -> None:
    """Reckon until when an answer is promised, from the ticket's priority and since when somebody waits."""
    if ticket.waiting_since is not None:
        ticket.answer_due_at = answer_due(Priority(ticket.priority), ticket.waiting_since)


def add_message(ticket: SupportTicket, side: Side, text: str, *, actor: str, once: str | None = None) -> TicketMessage:
    """Write a message into a thread. A note leaves the ticket as old as it was."""
    now = clock.now()
    message = TicketMessage(ticket_id=ticket.id, side=side, actor=actor, text=text, once=once)
    db.session.add(message)
    if side is not Side.NOTE:
        ticket.last_message_at = now
    if side is Side.STAFF:
        ticket.answered_at = now
        ticket.first_answered_at = ticket.first_answered_at or now
    db.session.flush()
    return message


def _open(opening: Opening, *, once: str, actor: str, **whose: Any) -> tuple[SupportTicket, TicketMessage | None]:
    """The ticket named `once`, made with its first message when there is none; the message is None when there was."""
    _refuse_fault(opening.subject, SUBJECT_LENGTHS, lines=False)
    _refuse_fault(opening.text, FIRST_MESSAGE_LENGTHS, lines=True)
    now = clock.now()
    priority = first_priority(opening.category, has_account="user_id" in whose)
    due = answer_due(priority, now)
    values = {
        "ref": _new_ref(),
        "once": once,
        "subject": opening.subject,
        "category": opening.category,
        "priority": priority,
        "status": TicketStatus.OPEN,
        "waiting_since": now,
        "answer_due_at": due,
        "first_due_at": due,
        "last_message_at": now,
        "created_at": now,
    }
    statement = insert(SupportTicket).values(**{"name": "", "suspected": False, "times_resolved": 0} | values | whose)
    unless_there = statement.on_conflict_do_nothing(index_elements=["once"])
    is_new = db.session.scalar(unless_there.returning(SupportTicket.id)) is not None
    ticket = db.session.scalars(sa.select(SupportTicket).where(SupportTicket.once == once)).one()
    return ticket, add_message(ticket, Side.CUSTOMER, opening.text, actor=actor) if is_new else None


def _new_ref() -> str:
    """Eight signs that can be read out, of 30 kinds: 6.5e11 of them, so that no two meet."""
    return "T-" + "".join(secrets.choice(_READABLE) for _ in range(8))


def _tied_to(user_id: int, about: str) -> tuple[int | None, int | None]:
    """(purchase, strategy) of a topic. Raises `NotThere`."""
    kind, _, name = about.partition(":")
    if not about:
        return None, None
    if "\x00" in name:
        raise NotThere(cause="a topic with a character that no name holds")
    if kind == "purchase":
        own = next((each for each in billing.purchases_of(user_id) if each.ref == name), None)
        if own is None:
            raise NotThere("There is no purchase of yours with this reference.", cause="purchase of a ticket")
        return own.id, None
    if kind == "strategy":
        return None, catalog.strategy_by_slug(name).id
    raise NotThere(cause=f"a ticket cannot be about a {kind!r}")


def _refuse_fault(text: str, lengths: tuple[int, int], *, lines: bool) -> None:
    fault = fault_of(text, lengths, lines=lines)
    if fault is not None:
        raise FixInput(fault)


def _erase(ticket: SupportTicket) -> None:
    now = clock.now()
    messages = db.session.scalars(sa.select(TicketMessage.id).where(TicketMessage.ticket_id == ticket.id)).all()
    told = [f"{letters.OPENED_KEY}:{ticket.id}:", *(f"{letters.REPLIED_KEY}:{each}:" for each in messages)]
    outbox.take_back(told)
    sent_by_link = TicketAttachment.owner == owner_by_link(ticket)
    _delete_pictures(sa.or_(TicketAttachment.message_id.in_(messages), sent_by_link))
    db.session.execute(
        sa.update(TicketMessage)
        .where(TicketMessage.ticket_id == ticket.id)
        .values(
            text="",
            once=None,
            actor=sa.case((TicketMessage.side == Side.CUSTOMER, FORGOTTEN), else_=TicketMessage.actor),
        )
    )
    move(ticket, TicketStatus.CLOSED)
    ticket.user_id = ticket.email = ticket.purchase_id = None
    ticket.subject = ticket.name = ""
    ticket.once = f"{FORGOTTEN}:{ticket.id}"
    ticket.forgotten_at = now
    db.session.flush()


def _delete_pictures(condition: sa.ColumnElement[bool]) -> None:
    statement = sa.delete(TicketAttachment).where(condition)
    db.session.execute(statement.execution_options(synchronize_session="fetch"))
