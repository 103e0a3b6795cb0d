"""Customers at the provider whose person has another e-mail address now: noted by the sweep, told by the worker.

Accounts knows nothing of payments, so whoever changes an address there leaves no word here. What counts is the
difference: the address that the provider was last told is kept in the request of its customer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts.models import EmailChange, User
from sts_app.audit import services as audit
from sts_app.billing import customers, lease
from sts_app.billing.gateway import NoSuchCustomer, Payments, PaymentsError, TryLater
from sts_app.billing.models import AddressUpdate, StripeCustomer
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import wake

log = structlog.get_logger()

# Until a change can be called off no longer, and so much longer: a sweep may have been away. Accounts keeps it a day.
LOOK_BACK = timedelta(days=2)


def note_changed() -> int:
    """Note everybody whose address was changed, or changed back, and is not the provider's. How many were new."""
    now = clock.now()
    moment = AddressUpdate.next_attempt_at.type
    behind = (
        sa.select(StripeCustomer.user_id, sa.literal(now, moment), sa.literal(now, moment), sa.literal(0))
        .join(EmailChange, EmailChange.user_id == StripeCustomer.user_id)
        .join(User, User.id == StripeCustomer.user_id)
        .where(EmailChange.call_off_until > now - LOOK_BACK, _is_behind())
        .distinct()
        # Two sweeps at once take them in one order, so that neither waits for the other in turn.
        .order_by(StripeCustomer.user_id)
    )
    noted = db.session.scalars(
        insert(AddressUpdate)
        .from_select(["user_id", "next_attempt_at", "created_at", "tries"], behind)
        .on_conflict_do_nothing()
        .returning(AddressUpdate.id)
    ).all()
    if noted:
        wake("billing.work")
    return len(noted)


@dataclass
class Telling:
    """One claimed address. Told twice it is the same; nothing is told when the provider has it by now."""

    token: str
    row_id: int
    user_id: int
    external_id: str | None
    email: str
    trouble: PaymentsError | None = None

    def call(self, gateway: Payments) -> None:
        """Tell the provider the address that stood at the claim. Raises nothing."""
        try:
            if self.external_id is not None:
                gateway.update_customer(self.external_id, self.email)
        except PaymentsError as trouble:
            self.trouble = trouble

    def settle(self) -> None:
        """Note what was told, and be done unless the address has changed again meanwhile."""
        customer = db.session.scalars(
            sa.select(StripeCustomer)
            .where(StripeCustomer.user_id == self.user_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        ).one()
        row = self._locked()
        if self.trouble is None:
            # Without the claim too: an older address may have reached the provider last, and then the sweep sees it.
            self._note(customer)
        if row is None or not lease.release(row, self.token):
            return
        if isinstance(self.trouble, NoSuchCustomer):
            customers.forget(self.external_id or "")
        elif self.trouble is not None:
            _again(row, self.trouble)
            return
        if _behind(self.user_id) is None:
            db.session.delete(row)
            return
        row.due_at, row.tries, row.last_reason = clock.now(), 0, None
        wake("billing.work")

    def give_back(self) -> None:
        """Settling broke on something unforeseen: free the claim for a later try."""
        row = self._locked()
        if row is not None and lease.release(row, self.token):
            _again(row, TryLater(lease.BROKE))

    def _note(self, customer: StripeCustomer) -> None:
        """Of a customer that is deleted nothing is kept that names anybody."""
        if self.external_id is None or customer.external_id != self.external_id or customer.deleted_at is not None:
            return
        if customer.request["email"] != self.email:
            customer.request = customer.request | {"email": self.email}
            audit.record(
                "system", "billing.customer_address_changed", f"user:{self.user_id}", customer=self.external_id
            )

    def _locked(self) -> AddressUpdate | None:
        """None once the person was erased, or whoever had the claim afterwards is done."""
        return db.session.get(AddressUpdate, self.row_id, with_for_update=True, populate_existing=True)


def claim() -> Telling | None:
    """Take one customer whose address is to be told."""
    taken = lease.take(AddressUpdate)
    if taken is None:
        return None
    row, token = taken
    external_id, email = _behind(row.user_id) or (None, "")
    return Telling(token, row.id, row.user_id, external_id, email)


def _behind(user_id: int) -> tuple[str, str] | None:
    """The provider's id of this person and the address that it is still to be told; None when there is nothing to."""
    found = db.session.execute(
        sa.select(StripeCustomer.external_id, User.email)
        .join(User, User.id == StripeCustomer.user_id)
        .where(StripeCustomer.user_id == user_id, _is_behind())
    ).one_or_none()
    return None if found is None else (found.external_id, found.email)


def _is_behind() -> sa.ColumnElement[bool]:
    """Whether the provider knows this customer, is to keep it, and was last told another address."""
    return sa.and_(
        StripeCustomer.external_id.is_not(None),
        StripeCustomer.delete_at.is_(None),
        StripeCustomer.deleted_at.is_(None),
        StripeCustomer.request["email"].astext != User.email,
        User.closed_at.is_(None),
    )


def _again(row: AddressUpdate, trouble: PaymentsError) -> None:
    """Trouble is waited out, for as long as it takes. The health of the store counts it meanwhile."""
    log.warning("billing.address_not_told", user_id=row.user_id, reason=trouble.reason)
    lease.put_off(row, trouble)
