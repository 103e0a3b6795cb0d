"""Customers to be deleted at the provider, because the person was erased: asked for as a row, done by the worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
import structlog
from flask import current_app

from sts_app.audit import services as audit
from sts_app.billing import lease, letters_trouble
from sts_app.billing.gateway import CustomerRequest, Payments, PaymentsError, TryLater
from sts_app.billing.models import StripeCustomer
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.queue import wake

log = structlog.get_logger()


def want(user_id: int) -> bool:
    """Have this person's customer deleted at the provider; true once it is gone, or there never was one.

    One that may have been made without its answer reaching us is looked for, once no call can be under way any more.
    Safe to call again and again.
    """
    row = db.session.scalar(
        sa.select(StripeCustomer)
        .where(StripeCustomer.user_id == user_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None or row.deleted_at is not None:
        return True
    if row.external_id is None and row.asked_at is None:
        row.deleted_at = clock.now()
        return True
    if row.delete_at is None:
        row.delete_at = clock.now()
        if row.external_id is None and row.asked_at is not None:
            may_be_under_way = timedelta(seconds=current_app.config["STS"].lease_seconds)
            row.delete_at = max(row.delete_at, row.asked_at + may_be_under_way)
        wake("billing.work")
    return False


@dataclass
class Deletion:
    """One claimed deletion. Asked for twice it is the same: who is unknown there is deleted already."""

    token: str
    row_id: int
    external_id: str | None
    request: CustomerRequest
    trouble: PaymentsError | None = None

    def call(self, gateway: Payments) -> None:
        """Delete the customer, found first where its id never reached us. Raises nothing."""
        try:
            self.external_id = self.external_id or gateway.find_customer(self.request)
            if self.external_id is not None:
                gateway.delete_customer(self.external_id)
        except PaymentsError as trouble:
            self.trouble = trouble

    def settle(self) -> None:
        """Note that it is gone, if the claim is still ours: whoever lost it deleted the same."""
        row = self._locked()
        if not lease.release(row, self.token):
            return
        if self.trouble is not None:
            _again(row, self.trouble)
            return
        row.external_id = row.external_id or self.external_id
        if row.external_id != self.external_id:
            # One was made and noted while none was found.
            row.delete_at = clock.now()
            wake("billing.work")
            return
        row.deleted_at, row.delete_at, row.tries, row.last_reason = clock.now(), None, 0, None
        audit.record("system", "billing.customer_deleted", f"user:{row.user_id}", customer=row.external_id)

    def give_back(self) -> None:
        row = self._locked()
        if lease.release(row, self.token):
            _again(row, TryLater(lease.BROKE))

    def _locked(self) -> StripeCustomer:
        return db.session.get_one(StripeCustomer, self.row_id, with_for_update=True, populate_existing=True)


def claim() -> Deletion | None:
    """Take one customer that is to be deleted."""
    taken = lease.take(StripeCustomer)
    if taken is None:
        return None
    row, token = taken
    return Deletion(token, row.id, row.external_id, CustomerRequest(**row.request))


def _again(row: StripeCustomer, trouble: PaymentsError) -> None:
    """Trouble is waited out, for as long as it takes; staff hear of it when it lasts."""
    log.warning("billing.customer_not_deleted", user_id=row.user_id, reason=trouble.reason)
    lease.put_off(row, trouble)
    if row.trouble_lasts:
        letters_trouble.customer_stays(row)
