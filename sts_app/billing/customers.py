"""Who a person is at the provider: one customer each, made before anything is charged."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sts_app.accounts import privacy
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import lease
from sts_app.billing.gateway import CustomerRequest, Payments, TryLater
from sts_app.billing.models import StripeCustomer
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.queue import wake


@dataclass(frozen=True)
class Wanted:
    """A customer to be made: the stored parameters, and the key they go with."""

    user_id: int
    request: CustomerRequest
    key: str
    look_first: bool

    def make(self, gateway: Payments) -> str:
        """The provider's id of the customer, found if it was made before. Raises what the provider raises."""
        found = gateway.find_customer(self.request) if self.look_first else None
        return found or gateway.create_customer(self.request, key=self.key)


def of(user: User) -> str | None:
    """The provider's id of this person, None when none is known (yet, or any more)."""
    return db.session.scalar(sa.select(StripeCustomer.external_id).where(StripeCustomer.user_id == user.id))


def want(user: User) -> Wanted:
    """Write down that this person is to be made known, with the exact parameters. Safe to call twice."""
    now = clock.now()
    ref = f"cus_{tokens.new_secret()[:24]}"
    request = CustomerRequest(ref, user.email, user.name)
    db.session.execute(
        insert(StripeCustomer)
        .values(user_id=user.id, ref=ref, request=asdict(request), attempt=1, created_at=now)
        .on_conflict_do_nothing()
    )
    row = db.session.scalars(
        sa.select(StripeCustomer)
        .where(StripeCustomer.user_id == user.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if row.asked_at is None:
        # Nobody was asked with it so far, and the person may have changed their address since it was written down.
        row.request = asdict(CustomerRequest(row.ref, user.email, user.name))
    look_first = row.attempt > 1 or lease.is_forgotten(row.asked_at, now)
    row.asked_at = row.asked_at or now
    return Wanted(user.id, CustomerRequest(**row.request), f"customer-{row.ref}-{row.attempt}", look_first)


def remember(user_id: int, external_id: str) -> None:
    """Note the customer that was made. Two clicks at once made the same one: the key was the same."""
    row = _locked(user_id)
    if row.external_id is None:
        row.external_id = external_id
        audit.record(f"user:{user_id}", "billing.customer_made", f"user:{user_id}", customer=external_id)
        if privacy.is_closed(user_id):
            # Made while its person was on the way out: it goes as well.
            row.delete_at, row.deleted_at = clock.now(), None
            wake("billing.work")


def failed(user_id: int, trouble: TryLater) -> None:
    """Note that making one failed: what the provider keeps under a key, it repeats."""
    if trouble.answered:
        _locked(user_id).attempt += 1


def forget(external_id: str) -> bool:
    """The provider does not know this customer any more. The next purchase makes a new one. False for a stranger.

    And for somebody whose account has closed: no further one is made, and the id is kept for what comes late.
    """
    row = db.session.scalar(
        sa.select(StripeCustomer).where(StripeCustomer.external_id == external_id).with_for_update()
    )
    if row is None or privacy.is_closed(row.user_id):
        return False
    user = db.session.get_one(User, row.user_id)
    ref = f"cus_{tokens.new_secret()[:24]}"
    row.external_id, row.ref, row.attempt, row.asked_at = None, ref, 1, None
    row.request = asdict(CustomerRequest(ref, user.email, user.name))
    audit.record("system", "billing.customer_gone", f"user:{row.user_id}", customer=external_id)
    return True


def _locked(user_id: int) -> StripeCustomer:
    return db.session.scalars(
        sa.select(StripeCustomer)
        .where(StripeCustomer.user_id == user_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
