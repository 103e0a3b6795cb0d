"""One account at Stripe: what it keeps, and what buyers, banks, staff and the clock do to it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from tests.fakes.stripe_api import objects
from tests.fakes.stripe_api.objects import MONTH, now
from tests.fakes.stripe_api.showing import RESOURCES, older

COUNTING = ("pending", "requires_action", "succeeded")  # refunds whose money is back or on its way
WITHHELD = ("needs_response", "under_review", "lost")  # disputes whose money the bank has taken
ENDED = ("canceled", "incomplete_expired")

Thing = dict[str, Any]


class Account:
    """Objects by kind and id, in the order in which they were made; and every event about them."""

    def __init__(self) -> None:
        self.things: dict[str, dict[str, Thing]] = {kind: {} for kind in RESOURCES}
        self.page_size = 100
        self.shows_older_shapes = False
        self.next_refund_is = "succeeded"
        self._asked: dict[str, Thing] = {}  # what each checkout was opened with
        self._prices_of: dict[str, str] = {}
        self.me = self.add(objects.account())
        self.add(objects.product({"id": "prod_1", "name": "All strategies"}), "product.created")
        for price_id, amount, interval in (("price_lifetime", "9900", ""), ("price_monthly", "1900", "month")):
            params: Thing = {"currency": "usd", "product": "prod_1", "unit_amount": amount}
            params |= {"recurring": {"interval": interval}} if interval else {}
            self.add(objects.price(params, price_id=price_id), "price.created")

    # What it keeps.

    def add(self, thing: Thing, *events: str) -> Thing:
        self.things[thing["object"]][thing["id"]] = thing
        for kind in events:
            self.ring(kind, thing)
        return thing

    def ring(self, kind: str, thing: Thing) -> None:
        seen = older(self, deepcopy(thing)) if self.shows_older_shapes else deepcopy(thing)
        event = objects.event(kind, seen)
        self.things["event"][event["id"]] = event

    def find(self, thing_id: str) -> Thing | None:
        return next((kept[thing_id] for kept in self.things.values() if thing_id in kept), None)

    def newest(self, kind: str) -> list[Thing]:
        return [*reversed(self.things[kind].values())]

    def refunds_of(self, paid: str) -> list[Thing]:
        """Refunds of a charge or an intent, newest first."""
        return [one for one in self.newest("refund") if paid in (one["charge"], one["payment_intent"])]

    def disputes_of(self, paid: str) -> list[Thing]:
        return [one for one in self.newest("dispute") if paid in (one["charge"], one["payment_intent"])]

    def payments_of(self, invoice_id: str) -> list[Thing]:
        return [one for one in self.newest("invoice_payment") if one["invoice"] == invoice_id]

    def books(self) -> int:
        """Cents that the store has in the end: charged, less what went back or was taken by a bank."""
        charged = sum(one["amount"] for one in self.things["charge"].values() if one["status"] == "succeeded")
        refunded = sum(one["amount"] for one in self.things["refund"].values() if one["status"] in COUNTING)
        withheld = sum(one["amount"] for one in self.things["dispute"].values() if one["status"] in WITHHELD)
        return int(charged - refunded - withheld)

    # The buyer, on the hosted page.

    def pay(self, session_id: str) -> None:
        session = self._open(session_id)
        if session["mode"] == "subscription":
            invoice = self._begin_subscription(session)
            self._pay(invoice)
            session["payment_status"] = "paid" if invoice["amount_paid"] else "no_payment_required"
        elif session["amount_total"] == 0:
            session["payment_status"] = "no_payment_required"
        else:
            intent = self._tried(session)
            self._charge(intent)
            session["payment_status"] = "paid"
            self._write_invoice(session, intent)
        session.update(status="complete", url=None)
        self.ring("checkout.session.completed", session)

    def decline(self, session_id: str, because: str) -> None:
        self._charge(self._tried(self._open(session_id)), because=because)

    def pay_later(self, session_id: str) -> None:
        session = self._open(session_id)
        if session["mode"] == "subscription":
            intent = self._intent_of(self._begin_subscription(session))
        else:
            intent = self._tried(session)
        intent.update(status="processing", last_payment_error=None, latest_charge=None)
        session.update(status="complete", url=None)
        self.ring("payment_intent.processing", intent)
        self.ring("checkout.session.completed", session)

    def settle(self, session_id: str, succeeded: bool) -> None:
        session = self.things["checkout.session"][session_id]
        because = None if succeeded else "insufficient_funds"
        if session["mode"] == "subscription":
            self._pay(self.things["invoice"][session["invoice"]], because=because)
            self._move(session["subscription"], status="active" if succeeded else "past_due")
        else:
            intent = self.things["payment_intent"][session["payment_intent"]]
            self._charge(intent, because=because)
            if succeeded:
                self._write_invoice(session, intent)
        if succeeded:
            session["payment_status"] = "paid"
        self.ring(f"checkout.session.async_payment_{'succeeded' if succeeded else 'failed'}", session)

    def expire(self, session_id: str) -> None:
        session = self._open(session_id)
        recovery = session["after_expiration"]["recovery"]
        if recovery["enabled"]:
            recovery.update(expires_at=now() + MONTH, url=f"https://buy.stripe.com/r/{session_id}")
        session.update(status="expired", url=None)
        if session["payment_intent"]:
            self.things["payment_intent"][session["payment_intent"]]["status"] = "canceled"
        self.ring("checkout.session.expired", session)

    def recover(self, session_id: str) -> str:
        """Follow the recovery link of an expired page: a copy of it under a new id."""
        gone = self.things["checkout.session"][session_id]
        if not gone["after_expiration"]["recovery"]["url"]:
            raise ValueError("there is no way back to this page")
        asked = self._asked[session_id]
        price = self.things["price"][self._prices_of[session_id]]
        copy = self.open_session(asked, price, expires_at=now() + 86400)
        copy["recovered_from"] = session_id
        return str(copy["id"])

    def apply_promotion(self, session_id: str, percent: int) -> None:
        session = self._open(session_id)
        off = session["amount_subtotal"] * percent // 100
        session["amount_total"] = session["amount_subtotal"] - off
        session["total_details"]["amount_discount"] = off

    # Staff in the dashboard, and the banks.

    def refund(self, paid: str, amount: int | None = None, status: str = "succeeded") -> str:
        charge = self.charge_of(paid)
        left = charge["amount"] - charge["amount_refunded"]
        return str(self.give_back(charge, left if amount is None else amount, status, {})["id"])

    def give_back(self, charge: Thing, amount: int, status: str, params: Thing) -> Thing:
        refund = self.add(objects.refund(charge, amount=amount, status=status, params=params))
        self._sum_up(charge)
        self.ring("refund.created", refund)
        if status in COUNTING:
            self.ring("charge.refunded", charge)
        return refund

    def set_refund(self, refund_id: str, status: str) -> None:
        refund = self.things["refund"][refund_id]
        refund["status"] = status
        if status == "failed":
            refund["failure_reason"] = "expired_or_canceled_card"
        self._sum_up(self.things["charge"][refund["charge"]])
        self.ring("refund.updated", refund)
        if status == "failed":
            self.ring("refund.failed", refund)

    def next_refund(self, status: str) -> None:
        self.next_refund_is = status

    def open_dispute(self, paid: str, status: str = "needs_response", amount: int | None = None) -> str:
        charge = self.charge_of(paid)
        charge["disputed"] = True
        dispute = self.add(
            objects.dispute(charge, amount=charge["amount"] if amount is None else amount, status=status),
            "charge.dispute.created",
        )
        if status in WITHHELD:
            self.ring("charge.dispute.funds_withdrawn", dispute)
        return str(dispute["id"])

    def move_dispute(self, dispute_id: str, status: str) -> None:
        dispute = self.things["dispute"][dispute_id]
        before, dispute["status"] = dispute["status"], status
        self.ring("charge.dispute.updated", dispute)
        if (before in WITHHELD) != (status in WITHHELD):
            self.ring(f"charge.dispute.funds_{'withdrawn' if status in WITHHELD else 'reinstated'}", dispute)
        if status in ("won", "lost", "warning_closed", "prevented"):
            self.ring("charge.dispute.closed", dispute)

    def delete_customer(self, customer_id: str) -> None:
        for subscription in self.things["subscription"].values():
            if subscription["customer"] == customer_id and subscription["status"] not in ENDED:
                self.end(subscription)
        customer = self.things["customer"][customer_id]
        self.ring("customer.deleted", customer)
        customer["deleted"] = True

    def change_price(self, price_id: str, amount_cents: int) -> None:
        price = self.things["price"][price_id]
        price.update(unit_amount=amount_cents, unit_amount_decimal=str(amount_cents))
        self.ring("price.updated", price)

    def save_portal(self, **features: Any) -> str:
        """Save the portal's settings in the dashboard, which is the default from then on."""
        params = {"features": {name: {"enabled": "true"} | given for name, given in features.items()}}
        return str(self.add(objects.portal_configuration(params, is_default=True))["id"])

    # The clock of a subscription.

    def renew(self, subscription_id: str) -> str:
        invoice = self._next_invoice(subscription_id)
        self.pay_invoice(invoice["id"])
        return str(invoice["id"])

    def fail_renewal(self, subscription_id: str) -> str:
        invoice = self._next_invoice(subscription_id)
        self._pay(invoice, because="insufficient_funds")
        self._move(subscription_id, status="past_due")
        return str(invoice["id"])

    def pay_invoice(self, invoice_id: str) -> None:
        invoice = self.things["invoice"][invoice_id]
        self._pay(invoice)
        self._move(invoice["parent"]["subscription_details"]["subscription"], status="active")

    def give_up(self, subscription_id: str) -> None:
        self._move(subscription_id, status="unpaid")

    def cancel_at_period_end(self, subscription_id: str) -> None:
        [item] = self.things["subscription"][subscription_id]["items"]["data"]
        self._move(subscription_id, cancel_at_period_end=True, cancel_at=item["current_period_end"])

    def reach_the_end(self, subscription_id: str) -> None:
        self.end(self.things["subscription"][subscription_id])

    def end(self, subscription: Thing) -> None:
        subscription.update(status="canceled", canceled_at=now(), ended_at=now())
        self.ring("customer.subscription.deleted", subscription)

    # Below the counter.

    def open_session(self, asked: Thing, price: Thing, *, expires_at: int) -> Thing:
        session = self.add(objects.session(asked, price, expires_at))
        self._asked[session["id"]] = asked
        self._prices_of[session["id"]] = price["id"]
        return session

    def charge_of(self, paid: str) -> Thing:
        """The charge of a checkout or an intent."""
        session = self.things["checkout.session"].get(paid)
        if session and session["invoice"] and session["subscription"]:
            [payment] = self.payments_of(session["invoice"])
            paid = payment["payment"]["payment_intent"]
        elif session:
            paid = session["payment_intent"]
        return self.things["charge"][self.things["payment_intent"][paid]["latest_charge"]]

    def _open(self, session_id: str) -> Thing:
        session = self.things["checkout.session"][session_id]
        if session["status"] != "open":
            raise ValueError(f"the page is {session['status']}")
        return session

    def _tried(self, session: Thing) -> Thing:
        known = self.things["payment_intent"].get(session["payment_intent"] or "")
        if known:
            return known
        # A subscription's payments carry nothing of ours.
        once = session["mode"] == "payment"
        metadata = self._asked[session["id"]].get("payment_intent_data", {}).get("metadata", {})
        intent = self.add(
            objects.intent(
                amount=session["amount_total"],
                currency=session["currency"],
                customer_id=session["customer"],
                metadata=metadata if once else {},
            )
        )
        session["payment_intent"] = intent["id"] if once else None
        return intent

    def _charge(self, intent: Thing, *, because: str | None = None) -> None:
        charge = self.add(objects.charge(intent, succeeded=because is None))
        intent["latest_charge"] = charge["id"]
        if because is None:
            intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
            self.ring("charge.succeeded", charge)
            self.ring("payment_intent.succeeded", intent)
            return
        error = {"type": "card_error", "code": "card_declined", "decline_code": because, "message": "Declined."}
        intent.update(status="requires_payment_method", last_payment_error=error)
        self.ring("charge.failed", charge)
        self.ring("payment_intent.payment_failed", intent)

    def _write_invoice(self, session: Thing, intent: Thing) -> None:
        creation = self._asked[session["id"]].get("invoice_creation", {})
        if creation.get("enabled") != "true":
            return
        invoice = self.add(
            objects.invoice(
                customer_id=session["customer"],
                amount=intent["amount"],
                currency=intent["currency"],
                reason="manual",
                metadata=creation.get("invoice_data", {}).get("metadata", {}),
            )
        )
        self.add(objects.invoice_payment(invoice, intent, status="paid"))
        session["invoice"] = invoice["id"]
        self._mark_paid(invoice)

    def _begin_subscription(self, session: Thing) -> Thing:
        """Begin what the page sells. Returns its first invoice, still open."""
        asked = self._asked[session["id"]]
        subscription = objects.subscription(
            customer_id=session["customer"],
            price=self.things["price"][self._prices_of[session["id"]]],
            metadata=asked.get("subscription_data", {}).get("metadata", {}),
        )
        self.add(subscription)
        discount = session["total_details"]["amount_discount"]
        invoice = self._bill(subscription, session["amount_total"], reason="subscription_create", discount=discount)
        session.update(subscription=subscription["id"], invoice=invoice["id"])
        self.ring("customer.subscription.created", subscription)
        return invoice

    def _next_invoice(self, subscription_id: str) -> Thing:
        subscription = self.things["subscription"][subscription_id]
        if subscription["status"] in ENDED:
            raise ValueError("the subscription has ended")
        [item] = subscription["items"]["data"]
        start = item["current_period_end"]
        item.update(current_period_start=start, current_period_end=start + MONTH)
        return self._bill(subscription, item["price"]["unit_amount"], reason="subscription_cycle")

    def _bill(self, subscription: Thing, amount: int, *, reason: str, discount: int = 0) -> Thing:
        invoice = objects.invoice(
            customer_id=subscription["customer"],
            amount=amount,
            currency=subscription["currency"],
            reason=reason,
            metadata={},
            subscription=subscription,
            discount=discount,
        )
        subscription["latest_invoice"] = invoice["id"]
        return self.add(invoice, "invoice.created", "invoice.finalized")

    def _pay(self, invoice: Thing, *, because: str | None = None) -> None:
        if invoice["amount_due"]:
            self._charge(self._intent_of(invoice), because=because)
        if because is None:
            for payment in self.payments_of(invoice["id"]):
                payment.update(status="paid", amount_paid=invoice["amount_due"])
            self._mark_paid(invoice)
        else:
            self.ring("invoice.payment_failed", invoice)

    def _intent_of(self, invoice: Thing) -> Thing:
        """The payment intent of an invoice, made when it is first asked for."""
        for payment in self.payments_of(invoice["id"]):
            return self.things["payment_intent"][payment["payment"]["payment_intent"]]
        intent = self.add(
            objects.intent(
                amount=invoice["amount_due"],
                currency=invoice["currency"],
                customer_id=invoice["customer"],
                metadata={},
            )
        )
        self.add(objects.invoice_payment(invoice, intent, status="open"))
        return intent

    def _mark_paid(self, invoice: Thing) -> None:
        invoice.update(status="paid", amount_paid=invoice["amount_due"], amount_remaining=0)
        invoice["status_transitions"]["paid_at"] = now()
        self.ring("invoice.paid", invoice)

    def _move(self, subscription_id: str, **changes: Any) -> None:
        subscription = self.things["subscription"][subscription_id]
        subscription.update(changes)
        self.ring("customer.subscription.updated", subscription)

    def _sum_up(self, charge: Thing) -> None:
        refunds = self.refunds_of(charge["id"])
        charge["amount_refunded"] = sum(one["amount"] for one in refunds if one["status"] in COUNTING)
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
