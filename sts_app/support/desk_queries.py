"""Reads of support for staff: who waits and until when, what there is, and how promises are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from sts_app.accounts.models import User
from sts_app.core.db import db
from sts_app.support.models import SupportTicket
from sts_app.support.queries import Place
from sts_app.support.rules import OWED, TicketStatus

ENDED = (TicketStatus.RESOLVED, TicketStatus.CLOSED)
_Assignee = aliased(User)


@dataclass(frozen=True)
class DeskRow:
    """A ticket as staff list it. `email` is None once the person is forgotten, `assignee` an address or None.

    `has_account` says whether it was written by somebody signed in. `is_late` says that a promise is broken.
    """

    ticket: SupportTicket
    email: str | None
    has_account: bool
    assignee: str | None
    is_late: bool


@dataclass(frozen=True)
class DeskCounts:
    """How many tickets wait for us, how many of those longer than promised, without a colleague, and so on."""

    waiting: int
    late: int
    unassigned: int
    waiting_on_customer: int
    suspected: int


@dataclass(frozen=True)
class Promises:
    """Of the first answers that were due in a time: how many, and how many of them came in time."""

    due: int
    kept: int


def waiting_for_staff(
    now: datetime, *, assignee_id: int | None = None, after: Place | None = None, limit: int
) -> list[DeskRow]:
    """Tickets that wait for our answer, the oldest promise first, of one colleague or of all.

    `after` is the place to go on from: the promise and the id of the last row that was shown.
    """
    statement = _rows().where(SupportTicket.answer_due_at.is_not(None), ~SupportTicket.suspected)
    if assignee_id is not None:
        statement = statement.where(SupportTicket.assignee_id == assignee_id)
    if after is not None:
        place = sa.tuple_(SupportTicket.answer_due_at, SupportTicket.id)
        statement = statement.where(place > sa.tuple_(sa.literal(after.at), sa.literal(after.ticket_id)))
    in_order = statement.order_by(SupportTicket.answer_due_at, SupportTicket.id).limit(limit)
    return [_row(found, now) for found in db.session.execute(in_order)]


def tickets_matching(
    now: datetime,
    *,
    search: str = "",
    status: str = "",
    priority: str = "",
    category: str = "",
    assignee_id: int | None = None,
    suspected: bool = False,
    before: Place | None = None,
    limit: int,
) -> list[DeskRow]:
    """Every ticket that fits, the latest message first.

    Blank choices fit all; `search` is looked for in reference, address and subject.
    """
    statement = _rows().where(SupportTicket.suspected == suspected)
    for column, chosen in (
        (SupportTicket.status, status),
        (SupportTicket.priority, priority),
        (SupportTicket.category, category),
    ):
        if chosen:
            statement = statement.where(column == chosen)
    if assignee_id is not None:
        statement = statement.where(SupportTicket.assignee_id == assignee_id)
    if search:
        like = "%" + search.lower().replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
        columns = (SupportTicket.ref, SupportTicket.subject, SupportTicket.email, User.email)
        statement = statement.where(sa.or_(*(sa.func.lower(column).like(like) for column in columns)))
    if before is not None:
        place = sa.tuple_(SupportTicket.last_message_at, SupportTicket.id)
        statement = statement.where(place < sa.tuple_(sa.literal(before.at), sa.literal(before.ticket_id)))
    in_order = statement.order_by(SupportTicket.last_message_at.desc(), SupportTicket.id.desc()).limit(limit)
    return [_row(found, now) for found in db.session.execute(in_order)]


def desk_row(ticket_id: int, now: datetime) -> DeskRow | None:
    """One ticket as staff list it."""
    found = db.session.execute(_rows().where(SupportTicket.id == ticket_id)).one_or_none()
    return _row(found, now) if found is not None else None


def counts(now: datetime) -> DeskCounts:
    """What waits, for an overview."""
    is_real, owed = ~SupportTicket.suspected, SupportTicket.status.in_(OWED)
    wanted = {
        "waiting": sa.and_(is_real, owed),
        "late": sa.and_(is_real, SupportTicket.answer_due_at < now),
        "unassigned": sa.and_(is_real, owed, SupportTicket.assignee_id.is_(None)),
        "waiting_on_customer": sa.and_(is_real, SupportTicket.status == TicketStatus.WAITING_ON_CUSTOMER),
        "suspected": sa.and_(~is_real, SupportTicket.status.not_in(ENDED)),
    }
    columns = [sa.func.count().filter(condition).label(name) for name, condition in wanted.items()]
    return DeskCounts(**db.session.execute(sa.select(*columns).select_from(SupportTicket)).one()._mapping)


def promises(since: datetime, until: datetime) -> Promises:
    """How the promise of a first answer was kept, of those due from `since` to before `until`."""
    kept = SupportTicket.first_answered_at <= SupportTicket.first_due_at
    # Who closed or resolved a ticket without a word owed its answer no more.
    settled = sa.and_(SupportTicket.first_answered_at.is_(None), SupportTicket.status.in_(ENDED))
    statement = sa.select(sa.func.count(), sa.func.count().filter(kept)).where(
        SupportTicket.first_due_at >= since,
        SupportTicket.first_due_at < until,
        ~SupportTicket.suspected,
        ~settled,
    )
    return Promises(*db.session.execute(statement).one())


def _rows() -> sa.Select[SupportTicket, str | None, str | None]:
    return (
        sa.select(SupportTicket, User.email, _Assignee.email)
        .outerjoin(User, User.id == SupportTicket.user_id)
        .outerjoin(_Assignee, _Assignee.id == SupportTicket.assignee_id)
    )


def _row(found: sa.Row[SupportTicket, str | None, str | None], now: datetime) -> DeskRow:
    ticket, account, assignee = found
    return DeskRow(
        ticket=ticket,
        email=account or ticket.email,
        has_account=account is not None,
        assignee=assignee,
        is_late=ticket.answer_due_at is not None and ticket.answer_due_at < now,
    )
