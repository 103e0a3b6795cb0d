"""Money given back by the store: intended first, sent once, whatever crashes in between.

The intent is a row with the exact parameters of the call, under a reference that the provider carries
round. A call whose answer was lost is made again under the same key; where the provider may have
forgotten the key, or keeps a failure under it, the payment's refunds are looked through first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import lease, letters, letters_trouble, queries, settling, telling
from sts_app.billing.gateway import PaymentFacts, Payments, PaymentsError, RefundFacts, RefundRequest, Refused, TryLater
from sts_app.billing.models import Purchase, Refund
from sts_app.billing.rules import OPEN, Access, PurchaseStatus, RefundState
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, FixInput, NotThere, Refusal
from sts_app.core.money import as_money
from sts_app.core.queue import wake

Reason = Literal["duplicate", "fraudulent", "requested_by_customer"]


class CannotRefund(Refusal):
    status = 409
    code = "CANNOT_REFUND"


def ask(
    purchase_id: int,
    *,
    reason: str,
    actor: str,
    amount_cents: int | None = None,
    kind: Reason = "requested_by_customer",
) -> Refund:
    """Give back `amount_cents` of a purchase, or all that is left of it. The money goes out by the worker.

    `reason` is kept with the refund; `kind` is what the provider is told. Raises `NotThere`; `FixInput`
    without a reason, or for an amount that is not within what is left; `CannotRefund` for a purchase that
    brought no money, and while a bank decides about it.
    """
    purchase = settling.find_locked(purchase_id)
    if purchase is None:
        raise NotThere(cause=f"purchase:{purchase_id}")
    if not reason.strip():
        raise FixInput("A refund needs a reason: whoever looks at it in a year wants to know.")
    amount = check(purchase, amount_cents)
    assert purchase.intent_id is not None, "checked with the amount"
    ref = f"ref_{tokens.new_secret()[:24]}"
    refund = Refund(
        purchase_id=purchase.id,
        ref=ref,
        amount_cents=amount,
        currency=purchase.currency,
        state=RefundState.INTENDED,
        reason=reason.strip(),
        asked_by=actor,
        request=asdict(RefundRequest(ref, purchase.intent_id, amount, kind)),
        next_attempt_at=clock.now(),
    )
    db.session.add(refund)
    db.session.flush()
    audit.record(actor, "billing.refund_asked", f"purchase:{purchase.id}", cents=amount, reason=reason.strip())
    wake("billing.work")
    return refund


def check(purchase: Purchase, amount_cents: int | None = None) -> int:
    """The cents that `ask` gives back: those that are wanted, or all that is left. Raises what it would refuse."""
    if not PurchaseStatus(purchase.status).was_paid or purchase.amount_cents == 0 or purchase.intent_id is None:
        raise CannotRefund("No money came in with this purchase, so there is none to give back.")
    if any(dispute.status in OPEN for dispute in queries.disputes_of(purchase.id)):
        raise CannotRefund(
            "The payment is disputed, so the bank decides about its money. To give it back, accept the dispute there."
        )
    left = left_of(purchase)
    if left == 0:
        raise CannotRefund("All of this purchase was given back, or is on its way.")
    amount = left if amount_cents is None else amount_cents
    if amount <= 0:
        raise FixInput("The amount is to be more than nothing.")
    if amount > left:
        said, there = as_money(amount, purchase.currency), as_money(left, purchase.currency)
        raise FixInput(f"{said} is more than the {there} that is left.")
    return amount


def left_of(purchase: Purchase) -> int:
    """Cents of a purchase that are neither back, nor on their way, nor lost to a dispute, nor intended to go."""
    refunds, disputes = queries.refunds_of(purchase.id), queries.disputes_of(purchase.id)
    money = settling.known_money(purchase, refunds, disputes)
    intended = sum(
        refund.amount_cents for refund in refunds if refund.state == RefundState.INTENDED and refund.external_id is None
    )
    return max(money.total - money.refunded - money.withheld - intended, 0)


def decide_part(purchase_id: int, *, keeps_access: bool, reason: str, actor: str) -> Purchase:
    """Say what a part that went back means for access. May be said again, and the other way round.

    Raises `NotThere`; `FixInput` without a reason; `CannotRefund` where no part went back.
    """
    purchase = settling.find_locked(purchase_id)
    if purchase is None:
        raise NotThere(cause=f"purchase:{purchase_id}")
    if not reason.strip():
        raise FixInput("The decision needs a reason: whoever looks at it in a year wants to know.")
    if purchase.status != PurchaseStatus.PARTIALLY_REFUNDED and not any(
        dispute.status == "lost" for dispute in queries.disputes_of(purchase.id)
    ):
        raise CannotRefund("No part of this purchase went back, so there is nothing to decide.")
    verdict = "keep" if keeps_access else "end"
    refunds, disputes = queries.refunds_of(purchase.id), queries.disputes_of(purchase.id)
    money = settling.known_money(purchase, refunds, disputes)
    back = money.refunded + money.lost
    if purchase.partial_verdict == verdict and (purchase.partial_verdict_cents or 0) >= back:
        raise AlreadyDone("That is decided already.")
    purchase.partial_verdict, purchase.partial_verdict_cents = verdict, back
    audit.record(actor, f"billing.part_{verdict}", f"purchase:{purchase.id}", reason=reason.strip())
    before = purchase.access
    settling.reckon_again(purchase)
    if purchase.access != before:
        telling.part_was_decided(purchase)
    return purchase


def take_offer(purchase: Purchase, user: User) -> Refund:
    """Give a customer back what was paid a second time for the same thing. Raises `NotThere` and what `ask` raises."""
    earlier = db.session.get(Purchase, purchase.duplicate_of_id) if purchase.duplicate_of_id else None
    if purchase.user_id != user.id or earlier is None or earlier.access != Access.STANDS:
        raise NotThere(cause=f"purchase:{purchase.id} has no refund on offer")
    return ask(purchase.id, reason="paid twice", actor=f"user:{user.id}", kind="duplicate")


@dataclass
class Sending:
    """One claimed refund on its way to the provider."""

    token: str
    refund_id: int
    purchase_id: int
    request: RefundRequest
    key: str
    look_first: bool
    session_id: str | None
    invoice_id: str | None
    made: RefundFacts | None = None
    looked: PaymentFacts | None = None
    trouble: PaymentsError | None = None

    def call(self, gateway: Payments) -> None:
        """Ask for the refund, unless it is found among those that stand. Raises nothing."""
        try:
            if self.look_first:
                self.looked = self._look(gateway)
                if self.looked is not None and any(r.ref == self.request.refund_ref for r in self.looked.refunds):
                    return
            self.made = gateway.refund(self.request, key=self.key)
        except PaymentsError as trouble:
            self.trouble = trouble

    def settle(self) -> None:
        """Write down what came of it, if the claim is still ours."""
        purchase, refund = self._locked()
        if not lease.release(refund, self.token):
            return
        if self.made is not None:
            settling.apply_refund(purchase, self.made)
        elif self.trouble is None and self.looked is not None:
            settling.apply_facts(purchase.id, self.looked)
        else:
            _again(purchase, refund, self.trouble or TryLater("the payment could not be looked up"))

    def give_back(self) -> None:
        """Settling broke on something unforeseen: free the claim for a later try."""
        purchase, refund = self._locked()
        if lease.release(refund, self.token):
            _again(purchase, refund, TryLater(lease.BROKE))

    def _locked(self) -> tuple[Purchase, Refund]:
        purchase = settling.locked(self.purchase_id)
        return purchase, db.session.get_one(Refund, self.refund_id, with_for_update=True, populate_existing=True)

    def _look(self, gateway: Payments) -> PaymentFacts | None:
        if self.session_id is not None:
            return gateway.look_up(self.session_id)
        return gateway.look_up_invoice(self.invoice_id) if self.invoice_id is not None else None


def claim() -> Sending | None:
    """Take one refund that is due to be sent."""
    taken = lease.take(Refund)
    if taken is None:
        return None
    refund, token = taken
    now = clock.now()
    purchase = db.session.get_one(Purchase, refund.purchase_id)
    look_first = refund.attempt > 1 or lease.is_forgotten(refund.asked_at, now)
    refund.asked_at = refund.asked_at or now
    return Sending(
        token,
        refund.id,
        purchase.id,
        RefundRequest(**(refund.request or {})),
        f"refund-{refund.ref}-{refund.attempt}",
        look_first,
        purchase.session_id,
        purchase.invoice_id,
    )


def _again(purchase: Purchase, refund: Refund, trouble: PaymentsError) -> None:
    """Trouble of the provider's is waited out, and staff hear of it when it lasts; its no is final."""
    lease.put_off(refund, trouble)
    if isinstance(trouble, Refused):
        refund.state, refund.failed_because, refund.next_attempt_at = RefundState.REFUSED, trouble.reason, None
        audit.record("system", "billing.refund_refused", f"purchase:{purchase.id}", because=trouble.reason)
        letters.refund_refused(purchase, refund)
    elif refund.trouble_lasts:
        letters_trouble.refund_held_up(purchase, refund)
