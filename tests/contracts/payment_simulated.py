"""The simulated Stripe, as a world that the contract is told to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sts_app.billing.gateway import DisputeStatus, RefundStatus, SignedEvent
from sts_app.billing.live_events import read_signed_event
from sts_app.billing.simulated import Fault, SimulatedPayments, behave, misbehave
from sts_app.core.store import MemoryStore
from tests.contracts.payment_worlds import SECRETS


@dataclass
class Taken:
    status_code: int = 200


@dataclass
class Doorbell:
    """Stands for the webhook address: takes down every ring and answers as told."""

    rings: list[tuple[bytes, str]] = field(default_factory=list)
    status: int = 200
    error: Exception | None = None

    def __call__(self, url: str, *, data: bytes, headers: dict[str, str], timeout: float, **_: Any) -> Taken:
        assert url == "https://sts.example/webhooks/stripe"
        assert 0 < timeout <= 5
        if self.error:
            raise self.error
        self.rings.append((data, headers["Stripe-Signature"]))
        return Taken(self.status)

    @property
    def events(self) -> list[SignedEvent]:
        return [read_signed_event(body, signature, SECRETS) for body, signature in self.rings]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


class SimulatedWorld:
    """The simulator, over a memory of its own."""

    def __init__(self) -> None:
        self.bell = Doorbell()
        self.store = MemoryStore()
        self.payments = SimulatedPayments(
            self.store,
            webhook_secrets=SECRETS,
            webhook_url="https://sts.example/webhooks/stripe",
            public_url="https://sts.example",
            post=self.bell,
        )
        self.payments.stock("price_lifetime", name="Lifetime access", amount_cents=9900)
        self.payments.stock("price_monthly", name="Monthly access", amount_cents=1900, interval="month")

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.payments, verb)

    def decline(self, session_id: str, because: str) -> object:
        return self.payments.decline(session_id, because=because)

    def apply_promotion(self, session_id: str, percent: int) -> object:
        return self.payments.apply_promotion(session_id, f"SAVE{percent}")

    def refund(self, paid: str, amount: int | None = None, status: RefundStatus = "succeeded") -> str:
        return self.payments.give_back(paid, amount, status=status)

    def set_refund(self, refund_id: str, status: RefundStatus) -> None:
        self.payments.move_refund(refund_id, status, anyway=True)

    def open_dispute(self, paid: str, status: DisputeStatus = "needs_response", amount: int | None = None) -> str:
        return self.payments.open_dispute(paid, status, amount)

    def move_dispute(self, dispute_id: str, status: DisputeStatus) -> None:
        self.payments.move_dispute(dispute_id, status, anyway=True)

    def delete_customer(self, customer_id: str) -> None:
        self.payments.remove_customer(customer_id)

    def save_portal(self) -> None:
        """The page is there in any case."""

    def fail_renewal(self, subscription_id: str) -> str:
        return self.payments.renew(subscription_id, succeeded=False)

    def reach_the_end(self, subscription_id: str) -> None:
        self.payments.cancel_at_period_end(subscription_id)
        self.payments.reach_the_end(subscription_id)

    def go_down(self) -> None:
        misbehave(self.store, Fault.API_DOWN)

    def come_back(self) -> None:
        behave(self.store)

    def lose_answers(self, times: int = 1) -> None:
        misbehave(self.store, Fault.LOSE_ANSWER, times=times)

    def rings(self) -> list[SignedEvent]:
        return self.bell.events

    def shapes(self) -> list[dict[str, Any]]:
        return [event.payload["data"]["object"] for event in self.bell.events]

    def books(self) -> int:
        return self.payments.books().left
