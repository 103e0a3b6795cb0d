"""What the simulated Stripe promises beyond the contract."""

from __future__ import annotations

import json
import threading

import pytest
import requests
import time_machine

from sts_app.billing import live_client
from sts_app.billing.gateway import Checkout, Refused
from sts_app.billing.simulated import Fault, behave, misbehave
from tests.contracts.payment_simulated import SimulatedWorld
from tests.contracts.payment_worlds import KEY, REF, an_open_page


def a_page(world: SimulatedWorld, *, key: str = KEY) -> Checkout:
    """An open page, and nothing told of it yet."""
    checkout = an_open_page(world, key=key)
    world.bell.rings.clear()
    return checkout


class TestSimulated:
    def test_events_are_signed_and_say_which_purchase_they_are_about(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        first, second = (a_page(simulated_world, key=key) for key in ("one", "two"))

        payments.decline(first.session_id)
        payments.pay(first.session_id)
        payments.pay_later(second.session_id)
        payments.settle(second.session_id, False)
        payments.give_back(first.session_id, 100)

        assert simulated_world.bell.types == [
            "charge.failed",
            "payment_intent.payment_failed",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice.paid",
            "checkout.session.completed",
            "payment_intent.processing",
            "checkout.session.completed",
            "charge.failed",
            "payment_intent.payment_failed",
            "checkout.session.async_payment_failed",
            "refund.created",
            "charge.refunded",
        ]
        for event in simulated_world.bell.events:
            assert event.purchase_ref == REF or event.type == "refund.created"
            assert event.intent_id is not None or event.type == "invoice.paid"
            assert event.payload["api_version"] == live_client.API_VERSION
        assert {event.state for event in payments.events()} == {"delivered"}

    def test_a_delayed_payment_completes_unpaid_and_then_succeeds(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)

        payments.pay_later(checkout.session_id)
        payments.settle(checkout.session_id, True)
        payments.settle(checkout.session_id, False)

        told = [e.payload["data"]["object"] for e in simulated_world.bell.events if e.type.startswith("checkout.")]
        assert [one["payment_status"] for one in told] == ["unpaid", "paid"]
        assert simulated_world.bell.types[-1] == "checkout.session.async_payment_succeeded"

    def test_two_tabs_that_pay_at_once_charge_once(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)
        together = threading.Barrier(4)

        def click() -> None:
            together.wait()
            payments.pay(checkout.session_id)

        tabs = [threading.Thread(target=click) for _ in range(4)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()

        assert simulated_world.bell.types.count("charge.succeeded") == 1
        assert payments.look_up(checkout.session_id).payment == "paid"

    def test_the_first_end_of_a_page_is_its_end(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        paid, expired = (a_page(simulated_world, key=key) for key in ("one", "two"))

        payments.pay(paid.session_id)
        payments.expire(expired.session_id)
        simulated_world.bell.rings.clear()
        for act in (payments.expire, payments.pay_later, payments.decline):
            assert act(paid.session_id).payment == "paid"
        for act in (payments.pay, payments.pay_later, payments.decline):
            assert act(expired.session_id).session == "expired"

        assert simulated_world.bell.types == []

    def test_a_page_expires_by_itself_when_somebody_looks(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)

        with time_machine.travel(checkout.expires_at, tick=False):
            assert payments.pay(checkout.session_id).session == "expired"
            assert simulated_world.bell.types == ["checkout.session.expired"]

    def test_no_more_is_refunded_than_was_paid(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)
        with pytest.raises(Refused, match="nothing was paid"):
            payments.give_back(checkout.session_id)
        payments.pay(checkout.session_id)
        for amount in (0, -1, 9901):
            with pytest.raises(Refused):
                payments.give_back(checkout.session_id, amount)

        payments.give_back(checkout.session_id)

        with pytest.raises(Refused, match="already_refunded"):
            payments.give_back(checkout.session_id)

    def test_refunds_at_once_never_give_back_more_than_was_paid(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)
        payments.pay(checkout.session_id)
        together = threading.Barrier(4)
        refused: list[Refused] = []

        def click() -> None:
            together.wait()
            try:
                payments.give_back(checkout.session_id, 4000)
            except Refused as no:
                refused.append(no)

        desks = [threading.Thread(target=click) for _ in range(4)]
        for desk in desks:
            desk.start()
        for desk in desks:
            desk.join()

        assert payments.look_up(checkout.session_id).amount_refunded == 8000
        assert len(refused) == 2

    @pytest.mark.parametrize("trouble", ["refusal", "silence"])
    def test_a_failed_delivery_is_kept_and_can_be_repeated(self, simulated_world: SimulatedWorld, trouble: str) -> None:
        payments, bell = simulated_world.payments, simulated_world.bell
        checkout = a_page(simulated_world)
        if trouble == "refusal":
            bell.status = 500
        else:
            bell.error = requests.ConnectionError("nobody there")

        assert payments.pay(checkout.session_id).payment == "paid"

        assert {event.state for event in payments.events()[1:]} == {"undelivered"}
        bell.status, bell.error = 200, None
        completed = payments.events()[-1]
        assert payments.redeliver(completed.id)
        assert bell.events[-1].id == completed.id
        assert payments.events()[-1].state == "delivered"
        with pytest.raises(Refused):
            payments.redeliver("evt_unknown")

    def test_dropped_events_are_recorded_and_never_delivered(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)

        misbehave(simulated_world.store, Fault.DROP)
        payments.pay(checkout.session_id)

        assert simulated_world.bell.rings == []
        assert [event.state for event in payments.events()] == ["delivered"] + ["dropped"] * 4
        assert payments.look_up(checkout.session_id).payment == "paid"

    def test_doubled_events_arrive_twice_with_one_id(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)

        misbehave(simulated_world.store, Fault.DUPLICATE)
        payments.expire(checkout.session_id)

        first, second = simulated_world.bell.events
        assert first.id == second.id

    def test_held_events_arrive_once_and_in_the_order_asked_for(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)
        misbehave(simulated_world.store, Fault.HOLD)
        payments.pay(checkout.session_id)
        payments.give_back(checkout.session_id)
        assert simulated_world.bell.rings == []
        behave(simulated_world.store)

        assert payments.deliver_held(order=reversed) == 6
        assert payments.deliver_held() == 0

        assert simulated_world.bell.types == [
            "charge.refunded",
            "refund.created",
            "checkout.session.completed",
            "invoice.paid",
            "payment_intent.succeeded",
            "charge.succeeded",
        ]

    def test_buyers_can_pay_while_the_interface_is_down(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)

        misbehave(simulated_world.store, Fault.API_DOWN)
        payments.pay(checkout.session_id)
        behave(simulated_world.store)

        assert simulated_world.bell.types[-1] == "checkout.session.completed"
        assert payments.look_up(checkout.session_id).payment == "paid"

    def test_every_record_is_plain_json(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = a_page(simulated_world)
        payments.decline(checkout.session_id)
        payments.pay_later(checkout.session_id)
        payments.settle(checkout.session_id, True)
        payments.give_back(checkout.session_id, 1)

        kept = list(simulated_world.store._records.values())

        assert len(kept) > 20
        for record in kept:
            assert json.loads(json.dumps(record)) == record
