"""Looks at payments by the clock: a webhook may never come."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from flask import current_app

from sts_app.accounts import privacy
from sts_app.billing import lease, letters_trouble, queries, services, settling
from sts_app.billing.gateway import PaymentFacts, Payments, PaymentsError, Refused, TryLater
from sts_app.billing.models import Purchase
from sts_app.billing.rules import PurchaseStatus
from sts_app.core import clock
from sts_app.core.queue import wake

log = structlog.get_logger()

# A page that the provider refuses to show is given up so long after it ended, when five looks in a row saw nothing.
UNKNOWN_FOR = timedelta(days=1)
MAX_TRIES = 5


@dataclass
class LookUp:
    """One claimed look at a purchase."""

    token: str
    purchase_id: int
    session_id: str | None
    invoice_id: str | None
    # Its buyer's account has closed: nobody is to pay on its page any more.
    closes: bool = False
    facts: PaymentFacts | None = None
    trouble: PaymentsError | None = None

    def call(self, gateway: Payments) -> None:
        """Fetch the present facts. Raises nothing."""
        try:
            if self.closes and self.session_id is not None:
                with suppress(Refused):  # it has ended by itself, and how is looked up next
                    gateway.close_checkout(self.session_id)
            if self.session_id is not None:
                self.facts = gateway.look_up(self.session_id)
            elif self.invoice_id is not None:
                self.facts = gateway.look_up_invoice(self.invoice_id)
        except PaymentsError as trouble:
            self.trouble = trouble

    def settle(self) -> None:
        """Apply what was fetched and appoint the next look, if the claim is still ours."""
        purchase = settling.locked(self.purchase_id)
        if not lease.release(purchase, self.token):
            return
        purchase.look_ups += 1
        if self.facts is None:
            _not_seen(purchase, self.trouble or TryLater("there is nothing to look it up by"))
            return
        purchase.tries, purchase.last_reason = 0, None
        settling.apply_facts(purchase.id, self.facts)
        if purchase.status == PurchaseStatus.PENDING:
            _appoint(purchase)
        else:
            purchase.next_look_up_at = None

    def give_back(self) -> None:
        """Settling broke on something unforeseen: free the claim, and look again when it is time."""
        purchase = settling.locked(self.purchase_id)
        if lease.release(purchase, self.token):
            _not_seen(purchase, TryLater(lease.BROKE))


def claim() -> LookUp | None:
    """Take one purchase that is due to be looked at."""
    taken = lease.take(Purchase)
    if taken is None:
        return None
    purchase, token = taken
    closes = purchase.status == PurchaseStatus.PENDING and privacy.is_closed(purchase.user_id)
    return LookUp(token, purchase.id, purchase.session_id, purchase.invoice_id, closes)


def _not_seen(purchase: Purchase, trouble: PaymentsError) -> None:
    """The next appointed time comes anyway. What the provider will never know is given up, and staff hear of it."""
    log.warning("billing.look_up_failed", purchase_id=purchase.id, reason=trouble.reason)
    purchase.tries += 1
    purchase.last_reason = trouble.reason
    _appoint(purchase)
    if isinstance(trouble, Refused) and _is_over(purchase) and purchase.tries >= MAX_TRIES:
        letters_trouble.payment_unknown(purchase)
        if purchase.status != PurchaseStatus.PENDING:
            purchase.next_look_up_at = None
        elif not queries.money_may_come(purchase):
            services.close_unknown(purchase.id)


def _is_over(purchase: Purchase) -> bool:
    """Whether its page ended so long ago that nobody can have paid it since. A renewal had none."""
    ended = purchase.checkout_expires_at or purchase.created_at
    over: datetime = ended + current_app.config["STS"].scaled(UNKNOWN_FOR)
    return over <= clock.now()


def _appoint(purchase: Purchase) -> None:
    now = clock.now()
    purchase.next_look_up_at = services.next_look_up(purchase, now)
    wake("billing.work", after=purchase.next_look_up_at - now)
