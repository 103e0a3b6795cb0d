"""A payment provider, and what buyers, banks, staff and bad days do to it: what the contract is told to."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import stripe
from pydantic import SecretStr

from sts_app.billing.gateway import (
    Checkout,
    CheckoutRequest,
    CustomerRequest,
    DisputeStatus,
    EvidenceRequest,
    Payments,
    RefundRequest,
    RefundStatus,
    SignedEvent,
)
from sts_app.billing.live import StripePayments
from tests.fakes import stripe_api

SECRET = "whsec_contract"
OLD_SECRET = "whsec_contract_before"
SECRETS = (SECRET, OLD_SECRET)
KEY = "checkout-17-1"
REF = "pur_17"
ALICE = CustomerRequest(ref="per_7", email="alice@customers.example", name="Alice")
PDF = b"%PDF-1.7\nreceipt \xe2\x82\xac \x00 and the rest\n%%EOF"


class World(Protocol):
    """A provider. `paid` is the id of a checkout or of a payment intent.

    "price_lifetime" costs 9900 cents once, "price_monthly" 1900 cents a month, both in usd.
    """

    payments: Payments

    # The buyer, on the hosted page.
    def pay(self, session_id: str) -> object: ...
    def decline(self, session_id: str, because: str) -> object: ...
    def pay_later(self, session_id: str) -> object: ...
    def settle(self, session_id: str, succeeded: bool) -> object: ...
    def expire(self, session_id: str) -> object: ...
    def recover(self, session_id: str) -> str:
        """Follow the recovery link of an expired page. Returns the new page's id."""
        ...

    def apply_promotion(self, session_id: str, percent: int) -> object: ...

    # Staff in the dashboard, and the banks. Refunds without an amount give back what is left.
    def refund(self, paid: str, amount: int | None = None, status: RefundStatus = "succeeded") -> str: ...
    def set_refund(self, refund_id: str, status: RefundStatus) -> object: ...
    def next_refund(self, status: RefundStatus) -> object:
        """How the next refund that the store asks for begins."""
        ...

    def open_dispute(self, paid: str, status: DisputeStatus = "needs_response", amount: int | None = None) -> str: ...
    def move_dispute(self, dispute_id: str, status: DisputeStatus) -> object: ...
    def delete_customer(self, customer_id: str) -> object: ...
    def change_price(self, price_id: str, amount_cents: int) -> object: ...
    def save_portal(self) -> object:
        """Save how the page of a customer is set up."""
        ...

    # The clock of a subscription.
    def renew(self, subscription_id: str) -> str:
        """The next period is paid. Returns the invoice's id."""
        ...

    def fail_renewal(self, subscription_id: str) -> str:
        """The next period is not paid. Returns the open invoice's id."""
        ...

    def pay_invoice(self, invoice_id: str) -> object: ...
    def give_up(self, subscription_id: str) -> object: ...
    def cancel_at_period_end(self, subscription_id: str) -> object: ...
    def reach_the_end(self, subscription_id: str) -> object: ...

    # Bad days.
    def go_down(self) -> None: ...
    def come_back(self) -> None: ...
    def lose_answers(self, times: int = 1) -> None:
        """The next `times` calls of the store do their deed and are not answered."""
        ...

    # What happened.
    def count(self, kind: str) -> int:
        """How many of a kind were ever made: customer, checkout, refund, file."""
        ...

    def rings(self) -> list[SignedEvent]:
        """Every event, oldest first, as the webhook would read it."""
        ...

    def shapes(self) -> list[dict[str, Any]]:
        """The objects as the provider shows them."""
        ...

    def books(self) -> int:
        """Cents charged, less refunds that count and disputes whose money the bank has."""
        ...


class LiveWorld:
    """The live adapter over the loopback fake."""

    def __init__(self, fake: stripe_api.FakeStripe) -> None:
        self.fake = fake
        self.payments = StripePayments(
            SecretStr(fake.secret_key), webhook_secrets=SECRETS, api_base=fake.url, timeout=(1, 5)
        )
        self.come_back = fake.heal

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.fake, verb)

    def go_down(self) -> None:
        self.fake.fail(stripe_api.Fault.BROKEN, times=100)

    def lose_answers(self, times: int = 1) -> None:
        # The package asks once more by itself.
        self.fake.fail(stripe_api.Fault.LOST, times=2 * times)

    def count(self, kind: str) -> int:
        return len(self.fake.things["checkout.session" if kind == "checkout" else kind])

    def rings(self) -> list[SignedEvent]:
        bodies = [json.dumps(event) for event in self.fake.things["event"].values()]
        return [self.payments.read_event(body.encode(), signed(body)) for body in bodies]

    def shapes(self) -> list[dict[str, Any]]:
        return [thing for kept in self.fake.things.values() for thing in kept.values()]


def signed(body: str, *, secret: str = SECRET, age: int = 0) -> str:
    return str(stripe.WebhookSignature.generate_signature_header(body, secret, int(time.time()) - age))


def an_event(thing: Any = None, **changes: Any) -> str:
    event = {
        "id": "evt_1",
        "object": "event",
        "created": 1_790_000_000,
        "data": {"object": thing},
        "livemode": False,
        "type": "checkout.session.completed",
    }
    return json.dumps(event | changes)


def a_request(customer_id: str, **changes: Any) -> CheckoutRequest:
    return replace(
        CheckoutRequest(
            purchase_ref=REF,
            price_id="price_lifetime",
            product_name="Lifetime access",
            amount_cents=9900,
            currency="usd",
            customer_id=customer_id,
            customer_email=ALICE.email,
            success_url="https://sts.example/purchases/return?session={CHECKOUT_SESSION_ID}",
            cancel_url="https://sts.example/pricing",
            expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
        ),
        **changes,
    )


MONTHLY: dict[str, Any] = {"price_id": "price_monthly", "amount_cents": 1900, "mode": "subscription"}


def an_open_page(world: World, *, key: str = KEY, **changes: Any) -> Checkout:
    customer_id = world.payments.create_customer(ALICE, key="customer-7")
    return world.payments.open_checkout(a_request(customer_id, **changes), key=key)


def a_paid_page(world: World, *, key: str = KEY, **changes: Any) -> str:
    """The id of a checkout that was paid."""
    session_id = an_open_page(world, key=key, **changes).session_id
    world.pay(session_id)
    return session_id


def a_subscription(world: World, *, key: str = KEY) -> str:
    """The id of a subscription whose first month was paid."""
    found = world.payments.look_up(a_paid_page(world, key=key, **MONTHLY)).subscription_id
    assert found is not None
    return found


def intent_of(world: World, session_id: str) -> str:
    found = world.payments.look_up(session_id).intent_id
    assert found is not None
    return found


def a_refund(world: World, session_id: str, *, amount: int, ref: str = "ref_3") -> RefundRequest:
    return RefundRequest(
        refund_ref=ref, intent_id=intent_of(world, session_id), amount_cents=amount, reason="requested_by_customer"
    )


def some_evidence(dispute_id: str, file_id: str) -> EvidenceRequest:
    return EvidenceRequest(
        dispute_id=dispute_id,
        evidence_ref="dis_5",
        texts={"product_description": "Access to six strategies", "customer_name": "Alice"},
        files={"receipt": file_id},
    )
