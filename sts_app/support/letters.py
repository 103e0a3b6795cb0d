"""The letters support writes, each once for its deed.

Letters to an address that nobody has shown to be theirs repeat nothing of what was written in its name, or the
contact form would be a way to send anything to anybody. They carry the ticket's link, so they rest encrypted, and so
do letters to staff: what a customer wrote is kept in the ticket alone, from where it can be erased.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import current_app

from sts_app.accounts.models import User
from sts_app.core.db import db
from sts_app.core.money import as_moment
from sts_app.core.web import address_of
from sts_app.emails import services as emails
from sts_app.support import links, queries
from sts_app.support.models import SupportTicket, TicketMessage
from sts_app.support.rules import TicketStatus

LONGEST_SUBJECT = 80
# What the keys of letters to staff begin with; the number of the ticket or of the message follows.
OPENED_KEY, REPLIED_KEY = "ticket-opened-staff", "ticket-replied-staff"


def opened(ticket: SupportTicket, message: TicketMessage) -> None:
    """The customer hears that it arrived and until when we answer, staff what it says."""
    assert ticket.answer_due_at is not None
    _to_customer(
        ticket,
        key=f"ticket-opened:{ticket.id}",
        kind="ticket_created" if ticket.user_id is not None else "contact_received",
        subject=f"We have your message, {ticket.ref}",
        template="support/letters/opened",
        context={"due": as_moment(ticket.answer_due_at)},
    )
    _to_staff(
        ticket,
        message,
        key=f"{OPENED_KEY}:{ticket.id}",
        kind="admin_new_ticket",
        subject=f"New ticket {ticket.ref}: {ticket.category}, {ticket.priority.lower()} priority",
        news="Somebody has opened a ticket.",
    )


def customer_replied(ticket: SupportTicket, message: TicketMessage) -> None:
    """Staff hear that somebody answered: whoever has the ticket, or all of them."""
    _to_staff(
        ticket,
        message,
        key=f"{REPLIED_KEY}:{message.id}",
        kind="admin_ticket_user_reply",
        subject=f"A customer replied in {ticket.ref}",
        news="A customer has replied.",
    )


def answered(ticket: SupportTicket, message: TicketMessage) -> None:
    """The customer reads our answer, and whether we think that it ends the matter."""
    _to_customer(
        ticket,
        key=f"ticket-answered:{message.id}",
        kind="ticket_reply",
        subject=f"Our answer to {ticket.ref}",
        template="support/letters/answered",
        context={
            "paragraphs": _paragraphs(message.text),
            "pictures": len(queries.pictures_of([message.id]).get(message.id, [])),
            "resolved": ticket.status == TicketStatus.RESOLVED,
            "closed": ticket.status == TicketStatus.CLOSED,
        },
    )


def resolved(ticket: SupportTicket) -> None:
    """The customer hears that we think the matter is settled, and how to say that it is not."""
    _to_customer(
        ticket,
        key=f"ticket-resolved:{ticket.id}:{ticket.times_resolved}",
        kind="ticket_resolved",
        subject=f"{ticket.ref} is resolved",
        template="support/letters/resolved",
        context={},
    )


def _to_customer(
    ticket: SupportTicket, *, key: str, kind: str, subject: str, template: str, context: dict[str, Any]
) -> None:
    user = db.session.get(User, ticket.user_id) if ticket.user_id is not None else None
    to = user.email if user is not None else ticket.email
    assert to is not None, "a ticket of nobody is not written about"
    if user is not None:
        link = address_of("support.ticket", ref=ticket.ref)
    else:
        link = address_of("support.thread_by_link", link=links.link_to(ticket))
    emails.post(
        key=key,
        kind=kind,
        to=to,
        user_id=ticket.user_id,
        subject=subject,
        template=template,
        context={
            "ref": ticket.ref,
            # What a stranger wrote is not sent to the address they gave.
            "subject": _line(ticket.subject) if user is not None else None,
            "link": link,
            "link_days": links.AGE.days if user is None else None,
        }
        | context,
        secret=user is None,
    )


def _to_staff(ticket: SupportTicket, message: TicketMessage, *, key: str, kind: str, subject: str, news: str) -> None:
    assert ticket.answer_due_at is not None
    user = db.session.get(User, ticket.user_id) if ticket.user_id is not None else None
    purchase, strategy = queries.about(ticket)
    facts = [
        ("Reference", ticket.ref),
        ("Subject", _line(ticket.subject)),
        ("From", user.email if user is not None else f"{ticket.email} (contact form, address not shown to be theirs)"),
        ("About", ticket.category),
        ("Priority", ticket.priority),
        ("Answer promised until", as_moment(ticket.answer_due_at)),
    ]
    if purchase is not None:
        facts.append(("Purchase", purchase.ref))
    if strategy is not None:
        facts.append(("Strategy", strategy.name))
    for number, address in enumerate(_staff_of(ticket)):
        emails.post(
            key=f"{key}:{number}",
            kind=kind,
            to=address,
            subject=subject,
            template="support/letters/staff",
            context={
                "news": news,
                "facts": facts,
                "paragraphs": _paragraphs(message.text),
                "pictures": len(queries.pictures_of([message.id]).get(message.id, [])),
                "ref": ticket.ref,
                "link": address_of("admin.overview"),
            },
            secret=True,
        )


def _staff_of(ticket: SupportTicket) -> Sequence[str]:
    """Who is written to about a ticket: the colleague who has it, or everybody."""
    colleague = db.session.get(User, ticket.assignee_id) if ticket.assignee_id is not None else None
    if colleague is not None and colleague.is_staff:
        return [colleague.email]
    admins: Sequence[str] = current_app.config["STS"].admin_emails
    return admins


def _line(text: str) -> str:
    """A text as one line of signs that a mail program shows, not too long for a subject."""
    shown = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
    return shown if len(shown) <= LONGEST_SUBJECT else shown[: LONGEST_SUBJECT - 1].rstrip() + "…"


def _paragraphs(text: str) -> list[list[str]]:
    """The lines of each paragraph."""
    return [part.split("\n") for part in text.split("\n\n") if part.strip()]
