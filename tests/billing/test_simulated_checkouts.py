"""The simulated Stripe's payment page beyond the contract: promotions, recovery, and what dies half way."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from sts_app.billing.gateway import PaymentFacts, Refused, TryLater
from sts_app.billing.simulated import Fault, misbehave
from tests.contracts.payment_simulated import SimulatedWorld
from tests.contracts.payment_worlds import ALICE, KEY, MONTHLY, REF, a_request, an_open_page


@pytest.fixture
def world() -> SimulatedWorld:
    return SimulatedWorld()


def page(world: SimulatedWorld, key: str = KEY, **changes) -> str:
    return an_open_page(world, key=key, **changes).session_id


class TestPromotions:
    @pytest.mark.parametrize(("code", "left"), [("SAVE20", 7920), (" save20 ", 7920), ("SAVE99", 99), ("FREE100", 0)])
    def test_a_code_takes_its_percent_off(self, world, code, left):
        facts = world.payments.apply_promotion(page(world), code)

        assert (facts.session, facts.amount_total, facts.amount_discount) == ("open", left, 9900 - left)

    @pytest.mark.parametrize("code", ["", "SAVE", "SAVE0", "SAVE101", "CHEAP", "SAVE20X"])
    def test_another_word_is_no_code(self, world, code):
        session_id = page(world)

        with pytest.raises(Refused, match="promotion_code"):
            world.payments.apply_promotion(session_id, code)
        assert world.payments.look_up(session_id).amount_total == 9900

    def test_a_second_code_takes_the_place_of_the_first(self, world):
        session_id = page(world)
        world.payments.apply_promotion(session_id, "FREE100")

        assert world.payments.apply_promotion(session_id, "SAVE20").amount_total == 7920

    @pytest.mark.parametrize("end", ["pay", "pay_later", "expire"])
    def test_nothing_is_taken_off_a_page_that_has_ended(self, world, end):
        session_id = page(world)
        getattr(world.payments, end)(session_id)

        with pytest.raises(Refused):
            world.payments.apply_promotion(session_id, "SAVE20")
        assert world.payments.look_up(session_id).amount_total == 9900

    @pytest.mark.parametrize("way", ["pay", "pay_later"])
    def test_what_is_free_is_complete_at_once_and_rings_once(self, world, way):
        session_id = page(world)
        world.payments.decline(session_id)
        world.payments.apply_promotion(session_id, "FREE100")
        world.bell.rings.clear()

        facts: PaymentFacts = getattr(world.payments, way)(session_id)

        assert (facts.payment, facts.intent_id, facts.invoice_id) == ("no_payment_required", None, None)
        assert world.bell.types == ["checkout.session.completed"]
        assert world.payments.decline(session_id) == facts

    def test_a_free_month_begins_a_subscription_that_costs_from_the_next(self, world):
        session_id = page(world, **MONTHLY)
        world.payments.apply_promotion(session_id, "FREE100")
        begun = world.payments.pay(session_id)

        invoice_id = world.payments.renew(begun.subscription_id)

        assert (begun.payment, begun.intent_id) == ("no_payment_required", None)
        assert world.payments.look_up_invoice(begun.invoice_id).payment == "no_payment_required"
        assert world.payments.look_up_invoice(invoice_id).amount_total == 1900
        assert world.books() == 1900


class TestRecovery:
    def test_a_page_says_how_it_is_recovered_once_it_has_expired(self, world):
        session_id = page(world)
        assert world.payments.checkout(session_id).recovery_url is None

        world.payments.expire(session_id)

        [told] = [event.payload["data"]["object"] for event in world.rings() if event.session_id]
        url = f"https://sts.example/dev/stripe/recover/{session_id}"
        assert told["after_expiration"]["recovery"]["url"] == url
        assert world.payments.checkout(session_id).recovery_url == url

    def test_it_is_the_same_page_as_long_as_that_is_open(self, world):
        session_id = page(world)
        world.payments.expire(session_id)
        first = world.payments.recover(session_id)

        assert world.payments.recover(session_id) == first
        world.payments.expire(first)
        second = world.payments.recover(session_id)

        assert second != first
        assert world.payments.checkout(second).recovered_from == session_id
        assert world.payments.look_up(second).purchase_ref == REF
        assert world.count("checkout") == 3

    @pytest.mark.parametrize("end", ["pay", "pay_later"])
    def test_what_was_recovered_and_completed_is_not_opened_again(self, world, end):
        session_id = page(world)
        world.payments.expire(session_id)
        getattr(world.payments, end)(world.payments.recover(session_id))

        with pytest.raises(Refused):
            world.payments.recover(session_id)
        assert world.count("checkout") == 2

    def test_only_an_expired_page_is_recovered_and_only_for_thirty_days(self, world):
        session_id = page(world)
        with pytest.raises(Refused):
            world.payments.recover(session_id)

        with time_machine.travel(datetime.now(UTC) + timedelta(days=31)), pytest.raises(Refused):
            world.payments.recover(session_id)

    def test_two_tabs_open_one_page(self, world):
        session_id = page(world)
        world.payments.expire(session_id)
        together, found = threading.Barrier(4), set()

        def click():
            together.wait()
            found.add(world.payments.recover(session_id))

        tabs = [threading.Thread(target=click) for _ in range(4)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()

        assert len(found) == 1
        assert world.count("checkout") == 2


class TestKeys:
    def test_a_key_is_forgotten_after_a_day(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")

        with time_machine.travel(datetime.now(UTC) + timedelta(hours=23)):
            assert world.payments.create_customer(ALICE, key="customer-7") == customer_id
        with time_machine.travel(datetime.now(UTC) + timedelta(hours=25)):
            assert world.payments.create_customer(ALICE, key="customer-7") != customer_id
        assert world.count("customer") == 2

    def test_callers_with_one_key_open_one_page(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")
        request, together, found = a_request(customer_id), threading.Barrier(4), set()

        def call():
            together.wait()
            found.add(world.payments.open_checkout(request, key=KEY))

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

        assert len(found) == 1
        assert world.count("checkout") == 1

    def test_a_page_whose_opening_died_half_way_is_opened_by_the_next_call(self, world, monkeypatch):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")
        monkeypatch.setattr(world.store, "put", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            world.payments.open_checkout(a_request(customer_id), key=KEY)
        monkeypatch.undo()

        checkout = world.payments.open_checkout(a_request(customer_id), key=KEY)

        assert world.payments.pay(checkout.session_id).payment == "paid"
        assert world.count("checkout") == 1

    def test_an_answer_is_lost_once_and_by_a_call_that_writes(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")
        misbehave(world.store, Fault.LOSE_ANSWER)

        assert world.payments.find_customer(ALICE) == customer_id
        with pytest.raises(TryLater, match="no answer") as lost:
            world.payments.open_checkout(a_request(customer_id), key=KEY)

        assert not lost.value.answered
        assert world.count("checkout") == 1
        assert world.payments.open_checkout(a_request(customer_id), key=KEY).session_id
        assert world.count("checkout") == 1

    def test_a_request_that_differs_in_its_mode_is_another(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")
        request = a_request(customer_id)
        world.payments.open_checkout(request, key=KEY)

        with pytest.raises(Refused, match="idempotency_error"):
            world.payments.open_checkout(replace(request, mode="subscription"), key=KEY)
