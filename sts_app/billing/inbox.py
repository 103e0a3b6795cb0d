"""The worker's side of billing: events and look-ups, claimed, fetched and applied.

Both kinds of work end in the same place. The vendor is asked with nothing open; the effects and
"handled" are one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog
from flask import current_app

from sts_app.billing import letters, queries, services
from sts_app.billing.gateway import PaymentFacts, Payments, PaymentsError, Refused, TryLater
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.rules import Decision, Kind, PurchaseStatus
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.queue import wake

log = structlog.get_logger()

DELAYS = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 120, 600, 1800, 3600))
MAX_REFUSALS = 5


@dataclass(frozen=True)
class Work:
    """One claimed event or look-up. `session_id` is what to ask for; `intent_id` leads to it if that is all we have."""

    token: str
    event_id: int | None
    purchase_id: int | None
    session_id: str | None
    intent_id: str | None


@dataclass(frozen=True)
class Found:
    """What the vendor said: facts, or the trouble there was."""

    facts: PaymentFacts | None = None
    trouble: PaymentsError | None = None


def claim_next() -> Work | None:
    """Take one due event, else one due look-up; None when there is neither."""
    return _claim_event() or _claim_look_up()


def fetch(gateway: Payments, work: Work) -> Found:
    """Ask the vendor for the present facts. Raises nothing."""
    try:
        session_id = work.session_id
        if session_id is None and work.intent_id is not None:
            session_id = gateway.find_session(work.intent_id)
        if session_id is None:
            return Found()
        return Found(gateway.look_up(session_id))
    except PaymentsError as trouble:
        return Found(trouble=trouble)


def settle(work: Work, found: Found) -> None:
    """Apply what was fetched and close the claim, if it is still ours."""
    if work.event_id is not None:
        _settle_event(work, found)
    else:
        _settle_look_up(work, found)


def give_back(work: Work) -> None:
    """Settling broke on something unforeseen: free the claim for a later try, and after five let staff know."""
    now = clock.now()
    if work.event_id is None:
        purchase = db.session.get_one(Purchase, work.purchase_id, with_for_update=True, populate_existing=True)
        if purchase.lease_token == work.token:
            purchase.lease_token = purchase.leased_until = None
            purchase.next_look_up_at = services.next_look_up(purchase, now)
        return
    event = db.session.get_one(WebhookEvent, work.event_id, with_for_update=True, populate_existing=True)
    if event.lease_token == work.token:
        event.lease_token = event.leased_until = None
        _again(event, Refused("handling it broke; the log has the trace"))


def _claim_event() -> Work | None:
    now = clock.now()
    event = db.session.scalar(
        sa.select(WebhookEvent)
        .where(queries.event_is_due(now))
        .order_by(WebhookEvent.next_attempt_at, WebhookEvent.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if event is None:
        return None
    event.lease_token = tokens.new_secret()
    event.leased_until = now + timedelta(seconds=current_app.config["STS"].lease_seconds)
    purchase = services.find_purchase(event)
    event.purchase_id = purchase.id if purchase else None
    # What the event itself names comes first: a recovered checkout has a session of its own, and so has
    # an intent that is not the one we know.
    session_id = event.session_id
    if session_id is None and purchase is not None and event.intent_id in (None, purchase.intent_id):
        session_id = purchase.session_id
    return Work(event.lease_token, event.id, event.purchase_id, session_id, event.intent_id)


def _claim_look_up() -> Work | None:
    now = clock.now()
    purchase = db.session.scalar(
        sa.select(Purchase)
        .where(queries.look_up_is_due(now))
        .order_by(Purchase.next_look_up_at, Purchase.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if purchase is None:
        return None
    purchase.lease_token = tokens.new_secret()
    purchase.leased_until = now + timedelta(seconds=current_app.config["STS"].lease_seconds)
    return Work(purchase.lease_token, None, purchase.id, purchase.session_id, None)


def _settle_event(work: Work, found: Found) -> None:
    now = clock.now()
    event = db.session.scalars(
        sa.select(WebhookEvent)
        .where(WebhookEvent.id == work.event_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if event.lease_token != work.token:
        return
    event.lease_token = event.leased_until = None
    if found.trouble is not None:
        _again(event, found.trouble)
        return
    event.next_attempt_at = None
    purchase_id = work.purchase_id
    if purchase_id is None and found.facts is not None and found.facts.purchase_ref is not None:
        purchase_id = db.session.scalar(sa.select(Purchase.id).where(Purchase.ref == found.facts.purchase_ref))
    if purchase_id is None or found.facts is None:
        # The account at the vendor may sell other things; those are none of our purchases.
        event.state, event.last_reason, event.handled_at = "ignored", "about no purchase of ours", now
        return
    event.purchase_id = purchase_id
    decision = services.apply_facts(purchase_id, found.facts)
    if decision.kind is Kind.NONSENSE:
        _stick(event, decision.because)
        return
    _tell_decline(event, decision)
    event.state, event.handled_at, event.last_reason = "handled", now, decision.kind.value


def _settle_look_up(work: Work, found: Found) -> None:
    now = clock.now()
    purchase = db.session.scalars(
        sa.select(Purchase)
        .where(Purchase.id == work.purchase_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if purchase.lease_token != work.token:
        return
    purchase.lease_token = purchase.leased_until = None
    purchase.look_ups += 1
    if found.facts is not None:
        services.apply_facts(purchase.id, found.facts)
    if purchase.status == PurchaseStatus.PENDING:
        purchase.next_look_up_at = services.next_look_up(purchase, now)
        wake("billing.work", after=purchase.next_look_up_at - now)


def _again(event: WebhookEvent, trouble: PaymentsError) -> None:
    """Trouble of the vendor's is waited out; five answers of no go to staff."""
    event.last_reason = trouble.reason
    event.tries += 1
    event.refusals += isinstance(trouble, Refused)
    if event.refusals >= MAX_REFUSALS:
        _stick(event, trouble.reason)
        return
    settings = current_app.config["STS"]
    delay = settings.scaled(DELAYS[min(event.tries, len(DELAYS)) - 1])
    if isinstance(trouble, TryLater) and trouble.after is not None:
        delay = max(delay, trouble.after)
    event.next_attempt_at = clock.now() + delay
    wake("billing.work", after=delay)


def _stick(event: WebhookEvent, because: str) -> None:
    event.state, event.last_reason, event.next_attempt_at = "stuck", because, None
    log.error("billing.event_stuck", event_id=event.id, because=because)
    letters.event_stuck(event)


def _tell_decline(event: WebhookEvent, decision: Decision) -> None:
    """A decline on an open page is the customer's to see there; it changes no purchase and closes none."""
    if event.type == "payment_intent.payment_failed":
        log.info("billing.declined", purchase_id=event.purchase_id, status=decision.status.value)
