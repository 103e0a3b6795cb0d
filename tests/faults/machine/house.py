"""The store's verbs as the machine uses them: one function each, so that a renamed verb is mended in one place.

Each runs inside a transaction and an app context that the caller opened.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from sts_app.accounts.models import User
from sts_app.billing import comparing, evidence, refunds
from sts_app.billing import queries as billing_queries
from sts_app.billing import services as billing
from sts_app.billing.gateway import PaymentFacts, Refused, SubscriptionFacts
from sts_app.billing.models import Dispute, Purchase
from sts_app.billing.simulated import SimulatedPayments
from sts_app.catalog import services as catalog
from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.db import checkpoint, db
from sts_app.provisioning import control, credentials, names, reconcile, services, way, worklist
from sts_app.provisioning.rules import Switch
from tests.builders import opened
from tests.fakes.access_service import SESSION_ID, SIGNATURE

STAFF = "staff:sam@staff.example"
LIFETIME, MONTHLY = "lifetime", "monthly"


def user(user_id: int) -> User:
    return db.session.get_one(User, user_id)


def plan(slug: str = LIFETIME) -> Plan:
    return db.session.scalars(sa.select(Plan).where(Plan.slug == slug)).one()


def cashier() -> SimulatedPayments:
    adapter = billing.payments()
    assert isinstance(adapter, SimulatedPayments)
    return adapter


def open_page(user_id: int, slug: str) -> tuple[int, str]:
    """Open a purchase and its payment page, as the checkout does; its id and the session's."""
    purchase = opened(user(user_id), plan(slug))
    purchase_id = purchase.id
    if purchase.session_id is None:
        wanted, key = billing.checkout_request(purchase)
        checkpoint()
        page = cashier().open_checkout(wanted, key=key)
        purchase = db.session.get_one(Purchase, purchase_id)
        billing.remember_checkout(purchase, page)
        return purchase_id, page.session_id
    return purchase_id, purchase.session_id


def at_stripe(deed: Callable[[SimulatedPayments], Any]) -> bool:
    """Let something happen at Stripe; false where Stripe says that it cannot."""
    try:
        deed(cashier())
    except Refused:
        return False
    return True


def look(ref: str) -> PaymentFacts:
    """What Stripe says of a payment, by its checkout or its invoice."""
    return cashier().look_up(ref) if ref.startswith("cs_") else cashier().look_up_invoice(ref)


def subscription(session_id: str) -> SubscriptionFacts | None:
    """What Stripe says of the subscription that a checkout began."""
    named = cashier().look_up(session_id).subscription_id
    return cashier().look_up_subscription(named) if named is not None else None


def ask_refund(ref: str, cents: int | None) -> None:
    purchase_id = db.session.scalar(sa.select(Purchase.id).where(_paid_as(ref)))
    if purchase_id is not None:
        refunds.ask(purchase_id, reason="the machine said so", actor=STAFF, amount_cents=cents)


def submit_evidence(dispute_id: str) -> None:
    known = db.session.scalar(sa.select(Dispute.id).where(Dispute.external_id == dispute_id))
    if known is not None:
        evidence.submit(known, actor=STAFF)


def _paid_as(ref: str) -> sa.ColumnElement[bool]:
    return Purchase.session_id == ref if ref.startswith("cs_") else Purchase.invoice_id == ref


def compare() -> None:
    """Compare with Stripe's own lists, as far back as it remembers."""
    comparing.run(cashier(), since=clock.now() - timedelta(days=29))


def our_books(m: Any) -> tuple[int, int, int]:
    """(received, refunded, withheld) in cents, by the store's rows."""
    with m.stage.app.app_context():
        books = billing_queries.sums()
        db.session.rollback()
    return books.received, books.refunded, books.withheld


def their_books(m: Any) -> tuple[int, int, int]:
    """The same by the simulated Stripe's own."""
    with m.stage.app.app_context():
        books = cashier().books()
    return books.charged, books.refunded, books.withheld


def set_name(user_id: int, spelling: str, *, by_staff: bool = True) -> None:
    """Staff need not wait between two changes."""
    names.set_name(user(user_id), spelling, verified=True, actor=STAFF if by_staff else None)


def gift(user_id: int, ends_at: datetime | None) -> str:
    """The source of a new gift."""
    given = services.gift(user(user_id), plan(), reason="a friend", ends_at=ends_at, actor=STAFF)
    return given.source


def end(source: str) -> bool:
    return services.end_entitlement(source, because="staff ended it", actor=STAFF)


def suspend(source: str) -> bool:
    return services.suspend(source, because="a dispute", actor=STAFF)


def resume(source: str) -> bool:
    return services.resume(source, because="the dispute was won", actor=STAFF)


def recheck(user_id: int) -> None:
    services.recheck(user_id)


def activate(strategy_id: int) -> bool:
    return catalog.activate(strategy_id, STAFF)


def change_script(strategy_id: int, script_id: str) -> bool:
    return catalog.change_script(strategy_id, script_id, actor=STAFF)


def switch(to: str) -> None:
    control.set_switch(Switch(to), actor=STAFF, because="the machine said so")


def new_credentials() -> None:
    """Save credentials that TradingView has just accepted."""
    candidate = credentials.Credentials(SecretStr(SESSION_ID), SecretStr(SIGNATURE))
    credentials.store(candidate, accepted_at=clock.now(), actor=STAFF)
    control.session_restored(actor=STAFF, because="new credentials")


def reconcile_losses() -> None:
    found = way()
    assert found is not None
    reconcile.run(
        found.adapter,
        source="demand",
        actor=STAFF,
        dry_run=False,
        credential_id=found.credential_id,
        losses_are_real=True,
        sleep=lambda seconds: None,
    )


def task_done(task_id: int) -> None:
    worklist.done(task_id, actor=STAFF)


def task_cannot(task_id: int) -> None:
    worklist.cannot(task_id, actor=STAFF, reason="no way")


def retry(grant_id: int) -> None:
    worklist.retry(grant_id, actor=STAFF)


def expected_refusals() -> tuple[type[BaseException], ...]:
    """What a verb answers when it may not be done now: no fault of anybody's."""
    from sts_app.core.errors import Refusal

    return (Refusal,)


def invariants(connection: sa.Connection, now: datetime) -> dict[str, list[tuple[Any, ...]]]:
    from sts_app.ops.invariants import broken

    return broken(connection, now=now, workers_alive=True)
