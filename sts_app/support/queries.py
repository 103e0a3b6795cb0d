"""Reads of support for customers, and what a person takes with them. Staff's own reads are in `desk_queries`."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import undefer

from sts_app.accounts.models import User
from sts_app.billing import queries as billing
from sts_app.billing.models import Purchase
from sts_app.catalog import queries as catalog
from sts_app.catalog.models import Strategy
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment, as_money
from sts_app.support.models import SupportTicket, TicketAttachment, TicketMessage
from sts_app.support.rules import Side, TicketStatus

# What a customer may narrow the list to, in their words.
FILTERS: dict[str, tuple[TicketStatus, ...]] = {
    "open": (TicketStatus.OPEN, TicketStatus.IN_PROGRESS),
    "waiting": (TicketStatus.WAITING_ON_CUSTOMER,),
    "resolved": (TicketStatus.RESOLVED,),
    "closed": (TicketStatus.CLOSED,),
}
PURCHASES, STRATEGIES = "Your purchases", "Strategies"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Topic:
    """What a ticket can be about: `value` goes into the form, `label` is read, `kind` stands above its like."""

    value: str
    label: str
    kind: str


@dataclass(frozen=True)
class Line:
    """One message with its pictures, without their bytes."""

    message: TicketMessage
    pictures: Sequence[TicketAttachment]


@dataclass(frozen=True)
class Thread:
    """A part of a thread, oldest first. `earlier` is the message to go back from, None at the beginning."""

    lines: Sequence[Line]
    earlier: int | None


@dataclass(frozen=True)
class Place:
    """A place in a list that is ordered by the last message, to go on from."""

    at: datetime
    ticket_id: int

    def __str__(self) -> str:
        return f"{(self.at - _EPOCH) // timedelta(microseconds=1)}-{self.ticket_id}"

    @staticmethod
    def read(text: str | None) -> Place | None:
        """The place in an address; None for what is none, which shows the list from its beginning."""
        found = re.fullmatch(r"([0-9]{1,16})-([0-9]{1,18})", text or "")
        return Place(_EPOCH + timedelta(microseconds=int(found[1])), int(found[2])) if found else None


def belongs_to(user: User, *, addresses: Collection[str] = ()) -> sa.ColumnElement[bool]:
    """Their own tickets, and those that were written from their address, or one of `addresses`, without an account.

    Whoever signed in with an address has shown that its letters are theirs, the answers to such a ticket too.
    """
    from_them = SupportTicket.came_from({user.email, *addresses})
    return sa.and_(sa.or_(SupportTicket.user_id == user.id, from_them), ~SupportTicket.suspected)


def tickets_of(user: User, *, show: str = "", before: Place | None = None, limit: int) -> Sequence[SupportTicket]:
    """A person's tickets, the latest message first; `show` is a word of `FILTERS`, anything else shows all."""
    statement = sa.select(SupportTicket).where(belongs_to(user))
    if show in FILTERS:
        statement = statement.where(SupportTicket.status.in_(FILTERS[show]))
    if before is not None:
        place = sa.tuple_(SupportTicket.last_message_at, SupportTicket.id)
        statement = statement.where(place < sa.tuple_(sa.literal(before.at), sa.literal(before.ticket_id)))
    in_order = statement.order_by(SupportTicket.last_message_at.desc(), SupportTicket.id.desc())
    return db.session.scalars(in_order.limit(limit)).all()


def news_of(user: User) -> int:
    """In how many of their tickets staff wrote something that this person has not read."""
    unread = sa.or_(SupportTicket.seen_at.is_(None), SupportTicket.seen_at < SupportTicket.answered_at)
    statement = sa.select(sa.func.count()).select_from(SupportTicket)
    return db.session.scalar(statement.where(belongs_to(user), SupportTicket.answered_at.is_not(None), unread)) or 0


def own_ticket(user: User, ref: str) -> SupportTicket:
    """The ticket of this reference if it is theirs. Raises `NotThere`."""
    ticket = db.session.scalar(sa.select(SupportTicket).where(SupportTicket.ref == ref, belongs_to(user)))
    if ticket is None:
        raise NotThere(cause="no ticket of this person by this reference")
    return ticket


def ticket_by_ref(ref: str) -> SupportTicket:
    """The ticket of this reference, however it is capitalised. Raises `NotThere`."""
    ticket = db.session.scalar(sa.select(SupportTicket).where(SupportTicket.ref == ref.strip().upper()))
    if ticket is None:
        raise NotThere("There is no ticket with this reference.")
    return ticket


def thread_of(ticket_id: int, *, notes: bool, before: int | None = None, limit: int = 100) -> Thread:
    """The latest `limit` messages before the message `before`, oldest first; with staff's `notes` or without."""
    statement = sa.select(TicketMessage).where(TicketMessage.ticket_id == ticket_id)
    if not notes:
        statement = statement.where(TicketMessage.side != Side.NOTE)
    if before is not None:
        statement = statement.where(TicketMessage.id < before)
    found = list(db.session.scalars(statement.order_by(TicketMessage.id.desc()).limit(limit + 1)))
    messages = found[:limit][::-1]
    pictures = pictures_of([message.id for message in messages])
    lines = [Line(message, pictures.get(message.id, [])) for message in messages]
    return Thread(lines, messages[0].id if len(found) > limit else None)


def pictures_of(message_ids: Sequence[int]) -> dict[int, list[TicketAttachment]]:
    """The pictures of these messages, without their bytes."""
    statement = sa.select(TicketAttachment).where(TicketAttachment.message_id.in_(message_ids))
    found: dict[int, list[TicketAttachment]] = {}
    for picture in db.session.scalars(statement.order_by(TicketAttachment.id)):
        assert picture.message_id is not None
        found.setdefault(picture.message_id, []).append(picture)
    return found


def picture_in(ticket_id: int, picture_id: int, *, notes: bool) -> TicketAttachment:
    """A picture of this ticket with its bytes; those of notes only with `notes`. Raises `NotThere`."""
    return _picture(picture_id, TicketMessage.ticket_id == ticket_id, notes=notes)


def picture_for(user: User, picture_id: int) -> TicketAttachment:
    """A picture with its bytes, for the owner of its ticket and for staff. Raises `NotThere` for anybody else."""
    if user.is_staff:
        return _picture(picture_id, sa.true(), notes=True)
    return _picture(picture_id, belongs_to(user), notes=False)


def _picture(picture_id: int, condition: sa.ColumnElement[bool], *, notes: bool) -> TicketAttachment:
    statement = (
        sa.select(TicketAttachment)
        .join(TicketMessage, TicketMessage.id == TicketAttachment.message_id)
        .join(SupportTicket, SupportTicket.id == TicketMessage.ticket_id)
        .where(TicketAttachment.id == picture_id, condition)
        .options(undefer(TicketAttachment.data))
    )
    if not notes:
        statement = statement.where(TicketMessage.side != Side.NOTE)
    picture = db.session.scalar(statement)
    if picture is None:
        raise NotThere(cause=f"no picture {picture_id} for whoever asks")
    return picture


def topics_of(user_id: int) -> list[Topic]:
    """What this person can say a ticket is about: their own purchases and every strategy on sale."""
    purchases = [
        Topic(f"purchase:{each.ref}", _purchase_in_words(each), PURCHASES) for each in billing.purchases_of(user_id)
    ]
    return purchases + [Topic(f"strategy:{each.slug}", each.name, STRATEGIES) for each in catalog.strategies_on_sale()]


def _purchase_in_words(purchase: Purchase) -> str:
    """What was bought, when and for how much, by the moment that the dashboard tells."""
    plan, at = billing.plan_of(purchase).name, as_moment(purchase.paid_at or purchase.created_at)
    return f"{plan}, {at}, {_amount(purchase)}"


def about(ticket: SupportTicket) -> tuple[Purchase | None, Strategy | None]:
    """The purchase and the strategy that a ticket is tied to."""
    purchase = db.session.get(Purchase, ticket.purchase_id) if ticket.purchase_id is not None else None
    strategy = db.session.get(Strategy, ticket.strategy_id) if ticket.strategy_id is not None else None
    return purchase, strategy


def rows_of_person(user_id: int, *, addresses: Collection[str] = ()) -> dict[str, Any]:
    """What support keeps about a person, ready for JSON: tickets, messages, pictures (base64), oldest first.

    `addresses` are those they had before, beside the account's own. Moments are ISO 8601 in UTC. Notes that staff
    made for themselves are not in it. Empty for nobody.
    """
    user = db.session.get(User, user_id)
    if user is None:
        return {"tickets": []}
    theirs = sa.select(SupportTicket).where(belongs_to(user, addresses=addresses))
    tickets = db.session.scalars(theirs.order_by(SupportTicket.id))
    return {"tickets": [_row_of(ticket) for ticket in tickets]}


def _row_of(ticket: SupportTicket) -> dict[str, Any]:
    purchase, strategy = about(ticket)
    statement = sa.select(TicketMessage).where(TicketMessage.ticket_id == ticket.id, TicketMessage.side != Side.NOTE)
    messages = db.session.scalars(statement.order_by(TicketMessage.id)).all()
    pictures = (
        sa.select(TicketAttachment)
        .where(TicketAttachment.message_id.in_([message.id for message in messages]))
        .order_by(TicketAttachment.id)
        .options(undefer(TicketAttachment.data))
    )
    by_message: dict[int | None, list[dict[str, Any]]] = {}
    for each in db.session.scalars(pictures):
        by_message.setdefault(each.message_id, []).append(
            {
                "type": f"image/{each.kind}",
                "width": each.width,
                "height": each.height,
                "base64": base64.b64encode(each.data).decode(),
            }
        )
    return {
        "reference": ticket.ref,
        "opened_at": ticket.created_at.isoformat(),
        "address": ticket.email,
        "name": ticket.name or None,
        "subject": ticket.subject,
        "category": ticket.category,
        "priority": ticket.priority,
        "status": ticket.status,
        "purchase": purchase.ref if purchase is not None else None,
        "strategy": strategy.slug if strategy is not None else None,
        "messages": [
            {
                "from": "you" if message.side == Side.CUSTOMER else "support",
                "at": message.created_at.isoformat(),
                "text": message.text,
                "pictures": by_message.get(message.id, []),
            }
            for message in messages
        ],
    }


def _amount(purchase: Purchase) -> str:
    return as_money(purchase.amount_cents, purchase.currency)
