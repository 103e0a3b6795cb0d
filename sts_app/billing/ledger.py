"""The ledger of events, for staff: search it, see one with its payload, have one handled again, or let it be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.audit.models import AuditLog
from sts_app.billing.models import Purchase, StripeCustomer, Subscription, WebhookEvent
from sts_app.billing.rules import EventState
from sts_app.billing.services import is_handled
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.core.queue import wake

KEEP_PAYLOADS = timedelta(days=90)
ENDED = (EventState.HANDLED, EventState.IGNORED, EventState.STUCK)
PAGE = 50
AT_ONCE = 1000


@dataclass(frozen=True)
class Wanted:
    """What is searched for; what is empty narrows nothing. `purchase` is a reference, `day` is in UTC.

    `event` is our number of it or Stripe's id, and `kind` the beginning of its type.
    """

    event: str = ""
    kind: str = ""
    state: EventState | None = None
    purchase: str = ""
    email: str = ""
    day: date | None = None


@dataclass(frozen=True)
class Line:
    """One event as a list shows it. `purchase` is the reference of what it is about, when that is known."""

    id: int
    external_id: str
    type: str
    state: str
    occurred_at: datetime
    received_at: datetime
    fetched: bool
    changed: bool
    purchase: str | None
    email: str | None
    tries: int
    last_reason: str | None
    next_attempt_at: datetime | None


@dataclass(frozen=True)
class Act:
    """What a person did to an event, and what they gave as the reason."""

    at: datetime
    actor: str
    action: str
    because: str | None


@dataclass(frozen=True)
class Sheet:
    """One event with all that is known of it. `payload` is None once its ninety days are over."""

    line: Line
    live: bool
    refusals: int
    handled_at: datetime | None
    session_id: str | None
    intent_id: str | None
    invoice_id: str | None
    subscription_id: str | None
    customer_id: str | None
    acts: tuple[Act, ...]
    payload: dict[str, Any] | None


def search(wanted: Wanted, *, limit: int = PAGE, after: int | None = None) -> list[Line]:
    """The events that fit, newest first, at most `limit`; `after` is the number of the last one of the page before."""
    statement = _lines().order_by(WebhookEvent.occurred_at.desc(), WebhookEvent.id.desc()).limit(limit)
    if wanted.event:
        number = int(wanted.event) if _is_number(wanted.event) else None
        statement = statement.where(sa.or_(WebhookEvent.external_id == wanted.event, WebhookEvent.id == number))
    if wanted.kind:
        statement = statement.where(WebhookEvent.type.startswith(wanted.kind, autoescape=True))
    if wanted.state is not None:
        statement = statement.where(WebhookEvent.state == wanted.state)
    if wanted.purchase:
        statement = statement.where(
            sa.or_(Purchase.ref == wanted.purchase, WebhookEvent.purchase_ref == wanted.purchase)
        )
    if wanted.email:
        statement = statement.where(_about(wanted.email))
    if wanted.day is not None:
        begin = datetime.combine(wanted.day, time(), UTC)
        statement = statement.where(
            WebhookEvent.occurred_at >= begin, WebhookEvent.occurred_at < begin + timedelta(days=1)
        )
    if after is not None:
        last = sa.select(WebhookEvent.occurred_at, WebhookEvent.id).where(WebhookEvent.id == after).scalar_subquery()
        statement = statement.where(sa.tuple_(WebhookEvent.occurred_at, WebhookEvent.id) < last)
    return [_line(*row) for row in db.session.execute(statement)]


def sheet(event: str) -> Sheet:
    """One event by our number or Stripe's id. Raises `NotThere`."""
    row = _found(event)
    [line] = [_line(*each) for each in db.session.execute(_lines().where(WebhookEvent.id == row.id))]
    lines = db.session.scalars(sa.select(AuditLog).where(AuditLog.subject == _subject(row)).order_by(AuditLog.id))
    return Sheet(
        line=line,
        live=row.live,
        refusals=row.refusals,
        handled_at=row.handled_at,
        session_id=row.session_id,
        intent_id=row.intent_id,
        invoice_id=row.invoice_id,
        subscription_id=row.stripe_subscription_id,
        customer_id=row.customer_id,
        acts=tuple(Act(each.created_at, each.actor, each.action, each.details.get("because")) for each in lines),
        payload=row.payload,
    )


def replay(event: str, *, actor: str) -> WebhookEvent:
    """Have an event handled again from the start, whatever came of it. Facts are fetched afresh, so that is safe.

    Raises `NotThere`; `FixInput` for a type the store does not act on; `AlreadyDone` for one that is due.
    """
    row = _found(event, lock=True)
    if not is_handled(row.type):
        raise FixInput(f"The store does not act on events of the type {row.type}: there is nothing to do again.")
    now = clock.now()
    is_due = row.next_attempt_at is not None and row.next_attempt_at <= now
    if row.state == EventState.RECEIVED and (is_due or row.lease_token is not None):
        raise AlreadyDone("This event is being handled at this moment, or is about to be.")
    audit.record(actor, "billing.event_replayed", _subject(row), before=row.state)
    row.state, row.next_attempt_at, row.handled_at = EventState.RECEIVED, now, None
    row.tries = row.refusals = 0
    row.lease_token = row.leased_until = row.last_reason = None
    db.session.flush()
    wake("billing.work")
    return row


def ignore(event: str, *, because: str, actor: str) -> WebhookEvent:
    """Let an event be that is not handled. Raises `NotThere`; `FixInput` without a reason; `AlreadyDone`."""
    if not because.strip():
        raise FixInput("An event that is let be needs a reason: whoever looks at it in a year wants to know.")
    row = _found(event, lock=True)
    if row.state in (EventState.HANDLED, EventState.IGNORED):
        raise AlreadyDone(f"This event is {row.state} already.")
    audit.record(actor, "billing.event_ignored", _subject(row), before=row.state, because=because.strip())
    row.state, row.last_reason, row.handled_at = EventState.IGNORED, because.strip(), clock.now()
    # A worker that has it in hand finds its claim gone, and leaves it.
    row.next_attempt_at = row.lease_token = row.leased_until = None
    db.session.flush()
    return row


def tidy() -> None:
    """Forget the payloads of events that ended and are older than ninety days. What was done with them stays."""
    old = (
        sa.select(WebhookEvent.id)
        .where(
            WebhookEvent.created_at < clock.now() - KEEP_PAYLOADS,
            WebhookEvent.state.in_(ENDED),
            WebhookEvent.payload.is_not(None),
        )
        .order_by(WebhookEvent.id)
        .limit(AT_ONCE)
    )
    # `None` would be stored as the word null of JSON.
    forget = sa.update(WebhookEvent).where(WebhookEvent.id.in_(old)).values(payload=sa.null())
    while True:
        forgotten = db.session.execute(forget.execution_options(synchronize_session=False))
        if cast("sa.CursorResult[Any]", forgotten).rowcount < AT_ONCE:
            return


def _found(event: str, *, lock: bool = False) -> WebhookEvent:
    statement = sa.select(WebhookEvent).execution_options(populate_existing=True)
    named = WebhookEvent.id == int(event) if _is_number(event) else WebhookEvent.external_id == event
    row = db.session.scalar(statement.where(named).with_for_update() if lock else statement.where(named))
    if row is None:
        raise NotThere(f"There is no event {event}. `sts events list` lists them.")
    return row


def _is_number(event: str) -> bool:
    return event.isascii() and event.isdigit() and 0 < int(event) < 2**63


def _subject(row: WebhookEvent) -> str:
    return f"event:{row.id}"


def _lines() -> sa.Select[WebhookEvent, str | None, str | None]:
    return (
        sa.select(WebhookEvent, Purchase.ref, User.email)
        .outerjoin(Purchase, Purchase.id == WebhookEvent.purchase_id)
        .outerjoin(Subscription, Subscription.id == WebhookEvent.subscription_id)
        .outerjoin(StripeCustomer, StripeCustomer.external_id == WebhookEvent.customer_id)
        .outerjoin(User, User.id == sa.func.coalesce(Purchase.user_id, Subscription.user_id, StripeCustomer.user_id))
    )


def _about(email: str) -> sa.ColumnElement[bool]:
    return User.email == email.strip().lower()


def _line(row: WebhookEvent, purchase: str | None, email: str | None) -> Line:
    return Line(
        id=row.id,
        external_id=row.external_id,
        type=row.type,
        state=row.state,
        occurred_at=row.occurred_at,
        received_at=row.created_at,
        fetched=row.fetched,
        changed=row.changed,
        purchase=purchase or row.purchase_ref,
        email=email,
        tries=row.tries,
        last_reason=row.last_reason,
        next_attempt_at=row.next_attempt_at,
    )
