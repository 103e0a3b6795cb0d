"""From a signed event, or from none, to a purchase that is in step with its money."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import inbox, queries, services, settling
from sts_app.billing.gateway import Refused, TryLater
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.rules import PurchaseStatus
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.queue import WakeUp, drop_staged, staged_wake_ups
from sts_app.provisioning.models import Entitlement
from tests.builders import (
    count,
    customer_of,
    event,
    events,
    grants,
    holders,
    in_a_transaction,
    kinds,
    letters,
    open_page,
    opened,
    signed,
    work,
)

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def purchase(alice, plan, till) -> Purchase:
    made = open_page(alice, plan)
    database.session.commit()
    return made


def handled(kind: str = "checkout.session.completed") -> WebhookEvent:
    [found] = [event for event in events() if event.type == kind]
    return found


def take_in(till, payload) -> WebhookEvent:
    call = signed(payload)
    taken = till.read_event(call["data"].encode(), call["headers"]["Stripe-Signature"])
    in_a_transaction(lambda: services.take_in(taken))
    return events()[-1]


class TestPaying:
    def test_money_leads_to_a_completed_purchase_a_reason_for_access_and_two_letters(self, purchase, till):
        till.pay(purchase.session_id)

        work("billing")

        assert purchase.status == "COMPLETED"
        assert purchase.paid_at == time_source.now()
        assert count(Entitlement) == 1
        assert kinds() == ["purchase_confirmation", "admin_new_purchase"]
        assert [letter.to_address for letter in letters()] == ["alice@customers.example", "sam@staff.example"]

    def test_the_whole_way_ends_with_six_scripts_held(self, purchase, till):
        till.pay(purchase.session_id)

        work("billing", "provisioning", "emails")

        assert len(holders()) == 6
        assert {letter.state for letter in letters()} == {"sent"}

    def test_nothing_is_given_before_the_money(self, purchase, till):
        till.decline(purchase.session_id)

        work("billing", "provisioning")

        assert purchase.status == "PENDING"
        assert purchase.declined_because == "insufficient_funds"
        assert grants() == []

    def test_a_decline_and_then_a_payment_is_a_payment(self, purchase, till):
        till.decline(purchase.session_id)
        till.pay(purchase.session_id)

        work("billing")

        assert (purchase.status, purchase.declined_because) == ("COMPLETED", None)

    def test_a_slow_bank_is_waited_for(self, purchase, till):
        till.pay_later(purchase.session_id)
        work("billing")
        assert (purchase.status, count(Entitlement)) == ("PENDING", 0)

        till.settle(purchase.session_id, True)
        work("billing")
        assert (purchase.status, count(Entitlement)) == ("COMPLETED", 1)

    def test_a_slow_banks_no_closes_the_purchase(self, purchase, till):
        till.pay_later(purchase.session_id)
        till.settle(purchase.session_id, False)

        work("billing")

        assert (purchase.status, purchase.closed_at) == ("FAILED", time_source.now())
        assert count(Entitlement) == 0

    def test_an_expired_page_closes_the_purchase(self, purchase, till):
        till.expire(purchase.session_id)

        work("billing")

        assert (purchase.status, purchase.closed_at) == ("EXPIRED", time_source.now())

    @pytest.mark.parametrize("status", ["FAILED", "EXPIRED"])
    def test_money_wins_over_a_purchase_that_was_given_up(self, purchase, till, status):
        purchase.status, purchase.closed_at = status, time_source.now()
        database.session.commit()

        till.pay(purchase.session_id)
        work("billing")

        assert (purchase.status, purchase.closed_at) == ("COMPLETED", None)
        assert count(Entitlement) == 1


class TestRefunds:
    def test_a_full_refund_takes_access_away(self, purchase, till):
        till.pay(purchase.session_id)
        work("billing", "provisioning")

        till.give_back(purchase.session_id)
        work("billing", "provisioning")

        assert (purchase.status, purchase.refunded_cents) == ("REFUNDED", 9900)
        assert holders() == set()

    def test_a_partial_refund_keeps_access(self, purchase, till):
        till.pay(purchase.session_id)
        till.give_back(purchase.session_id, 1000)

        work("billing", "provisioning")

        assert (purchase.status, purchase.refunded_cents) == ("PARTIALLY_REFUNDED", 1000)
        assert len(holders()) == 6

    def test_partial_refunds_that_reach_the_total_are_a_full_one(self, purchase, till):
        till.pay(purchase.session_id)
        till.give_back(purchase.session_id, 1000)
        work("billing", "provisioning")

        till.give_back(purchase.session_id, 8900)
        work("billing", "provisioning")

        assert purchase.status == "REFUNDED"
        assert holders() == set()

    def test_a_buyer_with_their_money_back_may_buy_again(self, purchase, alice, plan, till):
        till.pay(purchase.session_id)
        till.give_back(purchase.session_id)
        work("billing", "provisioning")

        second = open_page(alice, plan)
        till.pay(second.session_id)
        work("billing", "provisioning")

        assert {p.status for p in database.session.scalars(sa.select(Purchase))} == {"REFUNDED", "COMPLETED"}
        assert len(holders()) == 6


class TestOrder:
    @pytest.mark.parametrize("order", [list, reversed, sorted], ids=["in order", "backwards", "shuffled"])
    def test_any_order_of_the_same_events_ends_the_same(self, purchase, till, order):
        misbehave(till.store, Fault.HOLD)
        till.decline(purchase.session_id)
        till.pay(purchase.session_id)
        till.give_back(purchase.session_id)

        till.deliver_held(order=lambda held: sorted(held, key=lambda e: e.id) if order is sorted else order(held))
        work("billing", "provisioning")

        assert purchase.status == "REFUNDED"
        assert holders() == set()

    def test_a_refund_that_is_handled_before_the_payment_gives_no_access(self, purchase, till):
        misbehave(till.store, Fault.HOLD)
        till.pay(purchase.session_id)
        till.give_back(purchase.session_id)
        [refunded] = [each for each in till.events() if each.type == "charge.refunded"]
        [completed] = [each for each in till.events() if each.type == "checkout.session.completed"]

        till.redeliver(refunded.id)
        work("billing", "provisioning")
        till.redeliver(completed.id)
        work("billing", "provisioning")

        assert purchase.status == "REFUNDED"
        assert holders() == set()

    def test_a_late_failure_never_closes_a_paid_purchase(self, purchase, till):
        misbehave(till.store, Fault.HOLD)
        till.decline(purchase.session_id)
        behave(till.store)
        till.pay(purchase.session_id)
        work("billing")

        till.deliver_held()
        work("billing")

        assert purchase.status == "COMPLETED"
        assert handled("payment_intent.payment_failed").state == "handled"

    def test_an_event_delivered_twice_is_one_event_and_one_deed(self, purchase, till):
        misbehave(till.store, Fault.DUPLICATE)

        till.pay(purchase.session_id)
        work("billing")

        assert sorted(each.type for each in events() if each.type != "customer.created") == [
            "charge.succeeded",
            "checkout.session.completed",
            "invoice.paid",
            "payment_intent.succeeded",
        ]
        assert count(Entitlement) == 1
        assert kinds() == ["purchase_confirmation", "admin_new_purchase"]

    def test_an_event_delivered_again_after_it_was_handled_wakes_nobody(self, purchase, till):
        till.pay(purchase.session_id)
        work("billing")

        for each in till.events():
            assert till.redeliver(each.id)
        work("billing")

        assert {each.state for each in events()} == {"handled", "ignored"}
        assert kinds() == ["purchase_confirmation", "admin_new_purchase"]


class TestIgnored:
    def test_types_we_do_not_handle_are_stored_and_left(self, till, db):
        kept = take_in(till, event("payout.paid", {"object": "payout", "id": "po_1"}))

        assert (kept.state, kept.next_attempt_at, kept.last_reason) == ("ignored", None, "no handler for this type")

    def test_a_sale_that_is_none_of_ours_is_ignored(self, purchase, till):
        wanted, _ = services.checkout_request(purchase)
        from dataclasses import replace

        other = till.open_checkout(replace(wanted, purchase_ref="another-shop"), key="another")
        till.pay(other.session_id)

        work("billing")

        assert handled().state == "ignored"
        assert handled().last_reason == "about nothing of ours"
        assert purchase.status == "PENDING"

    def test_a_payment_without_a_checkout_is_ignored(self, till, db):
        about = {"object": "payment_intent", "id": "pi_elsewhere"}
        kept = take_in(till, event("payment_intent.payment_failed", about))

        work("billing")

        assert (kept.state, kept.last_reason) == ("ignored", "about nothing of ours")


class TestTrouble:
    def test_an_outage_is_waited_out_with_growing_delays(self, purchase, till, clock):
        misbehave(till.store, Fault.API_DOWN)
        till.pay(purchase.session_id)

        waited = []
        for _ in range(8):
            work("billing")
            waited.append((handled().next_attempt_at - time_source.now()).total_seconds())
            clock.shift(timedelta(seconds=waited[-1]))

        assert waited == [10, 30, 120, 600, 1800, 3600, 3600, 3600]
        behave(till.store)
        work("billing")
        assert purchase.status == "COMPLETED"

    def test_the_vendors_longer_wait_is_honoured(self, purchase, till, monkeypatch):
        till.pay(purchase.session_id)
        monkeypatch.setattr(till, "look_up", raising(TryLater("429", after=timedelta(minutes=9))))

        work("billing")

        assert handled().next_attempt_at == time_source.now() + timedelta(minutes=9)

    def test_a_retry_wakes_a_worker_when_it_is_due(self, purchase, till, monkeypatch):
        till.pay(purchase.session_id)
        claimed = in_a_transaction(inbox.claim_next)
        drop_staged()

        claimed.trouble = TryLater("503")
        claimed.settle()

        assert staged_wake_ups() == (WakeUp("billing.work", timedelta(seconds=10)),)
        database.session.commit()

    def test_five_refusals_go_to_staff_once(self, till, db, clock):
        kept = take_in(till, event(about={"object": "checkout.session", "id": "cs_gone"}))

        for tries in range(1, 8):
            work("billing")
            assert kept.state == ("received" if tries < 5 else "stuck")
            clock.shift(timedelta(hours=2))

        assert (kept.tries, kept.next_attempt_at) == (5, None)
        assert kept.last_reason == "look_up: resource_missing"
        assert kinds() == ["admin_event_stuck"]
        assert letters()[0].to_address == "sam@staff.example"

    def test_an_outage_spends_none_of_the_five_refusals(self, till, db, clock):
        kept = take_in(till, event(about={"object": "checkout.session", "id": "cs_gone"}))
        misbehave(till.store, Fault.API_DOWN)
        for _ in range(6):
            work("billing")
            clock.shift(timedelta(hours=2))
        behave(till.store)

        work("billing")

        assert (kept.state, kept.tries, kept.refusals) == ("received", 7, 1)

    def test_facts_about_another_purchase_go_to_staff_and_change_nothing(self, purchase, bob, plan, till):
        bobs = open_page(bob, plan)
        session_id, bobs.session_id = bobs.session_id, None
        database.session.flush()
        purchase.session_id = session_id
        database.session.commit()

        kept = take_in(till, event(about={"object": "checkout.session", "id": session_id}, id="evt_odd"))
        work("billing")

        assert (kept.state, kept.last_reason) == ("stuck", "the payment belongs to another purchase")
        assert purchase.status == "PENDING"
        assert kinds().count("admin_event_stuck") == 1

    def test_a_dead_workers_event_is_taken_again_when_its_lease_is_over(self, app, purchase, till, clock):
        till.pay(purchase.session_id)
        while in_a_transaction(inbox.claim_next) is not None:
            pass  # a worker took them all and died
        work("billing")
        assert purchase.status == "PENDING"

        clock.shift(timedelta(seconds=app.config["STS"].lease_seconds))
        work("billing")

        assert purchase.status == "COMPLETED"

    def test_a_worker_that_comes_back_late_changes_nothing(self, app, purchase, till, clock):
        till.pay(purchase.session_id)
        while (late := in_a_transaction(inbox.claim_next)).type != "checkout.session.completed":
            pass
        clock.shift(timedelta(seconds=app.config["STS"].lease_seconds))
        work("billing")

        late.trouble = Refused("no")
        in_a_transaction(late.settle)

        assert handled().state == "handled"
        assert handled().tries == 0

    def test_two_workers_never_take_the_same_event(self, purchase, till):
        till.pay(purchase.session_id)

        claimed = []
        while (each := in_a_transaction(inbox.claim_next)) is not None:
            claimed.append(each.event_id)

        assert len(claimed) == len(set(claimed)) >= 2


class TestLookUps:
    """An open purchase is looked up by itself: the webhook may never come."""

    def test_a_payment_nobody_told_us_of_is_found_after_a_minute(self, purchase, till, clock):
        misbehave(till.store, Fault.DROP)
        till.pay(purchase.session_id)
        work("billing")
        assert purchase.status == "PENDING"

        clock.shift(timedelta(minutes=1))
        work("billing")

        assert purchase.status == "COMPLETED"
        assert purchase.next_look_up_at is None
        assert {each.type for each in events()} == {"customer.created"}

    def test_looks_come_1_2_5_15_and_60_minutes_after_checkout_and_then_every_six_hours(self, purchase, till, clock):
        ages = []
        for _ in range(8):
            ages.append((purchase.next_look_up_at - purchase.created_at).total_seconds() / 60)
            clock.shift(purchase.next_look_up_at - time_source.now())
            work("billing")

        assert ages == [1, 2, 5, 15, 60, 420, 780, 1140]

    def test_a_buyer_who_comes_back_again_and_again_uses_up_no_look(self, purchase, till):
        for _ in range(6):
            services.look_soon(purchase)
            database.session.commit()
            work("billing")

        assert purchase.look_ups == 6
        assert purchase.next_look_up_at == purchase.created_at + timedelta(minutes=1)

    def test_an_abandoned_page_is_closed_when_it_expires(self, purchase, till, clock):
        misbehave(till.store, Fault.DROP)

        clock.shift(timedelta(hours=24))
        work("billing")

        assert (purchase.status, purchase.next_look_up_at) == ("EXPIRED", None)

    def test_an_outage_does_not_end_the_looking(self, purchase, till, clock):
        misbehave(till.store, Fault.API_DOWN)
        clock.shift(timedelta(minutes=1))
        work("billing")
        behave(till.store)
        misbehave(till.store, Fault.DROP)
        till.pay(purchase.session_id)

        clock.shift(timedelta(minutes=2))
        work("billing")

        assert purchase.status == "COMPLETED"

    def test_a_buyer_who_comes_back_is_not_kept_waiting(self, purchase, till):
        misbehave(till.store, Fault.DROP)
        till.pay(purchase.session_id)

        services.look_soon(purchase)
        work("billing")

        assert purchase.status == "COMPLETED"

    def test_coming_back_again_and_again_never_postpones_the_look(self, purchase, till, clock):
        clock.shift(timedelta(minutes=1))
        due = purchase.next_look_up_at

        services.look_soon(purchase)

        assert purchase.next_look_up_at == due

    def test_a_finished_purchase_is_not_looked_up(self, purchase, till, clock):
        till.pay(purchase.session_id)
        work("billing")

        services.look_soon(purchase)

        assert purchase.next_look_up_at is None


class TestOpenPurchase:
    def test_a_second_click_finds_the_first(self, alice, plan, till):
        first = opened(alice, plan)
        second = opened(alice, plan)

        assert second.id == first.id
        assert count(Purchase) == 1

    def test_the_price_asked_is_the_plans(self, alice, plan, till):
        purchase = opened(alice, plan)

        wanted, key = services.checkout_request(purchase)
        assert (wanted.amount_cents, wanted.currency, wanted.customer_email) == (9900, "usd", "alice@customers.example")
        assert (wanted.purchase_ref, key) == (purchase.ref, f"checkout-{purchase.ref}-1")

    @pytest.mark.parametrize("status", ["COMPLETED", "PARTIALLY_REFUNDED"])
    @pytest.mark.breaks_invariants
    def test_an_owner_is_refused(self, alice, plan, till, status):
        owned = opened(alice, plan)
        owned.status, owned.access = status, "stands"
        database.session.flush()

        with pytest.raises(services.AlreadyOwner):
            opened(alice, plan)

    @pytest.mark.parametrize("status", ["FAILED", "EXPIRED", "REFUNDED"])
    def test_a_closed_purchase_does_not_stand_in_the_way(self, alice, plan, till, status):
        first = opened(alice, plan)
        first.status = status
        database.session.flush()

        assert opened(alice, plan).id != first.id

    def test_a_plan_that_is_not_sold_is_not_sold(self, alice, plan, till):
        plan.active = False

        with pytest.raises(services.SalesClosed):
            opened(alice, plan)

    def test_two_people_have_a_purchase_each(self, alice, bob, plan, till):
        assert opened(alice, plan).id != opened(bob, plan).id

    def test_a_page_refused_is_asked_for_anew_under_a_new_key(self, alice, plan, till, clock):
        purchase = opened(alice, plan)
        _, before = services.checkout_request(purchase)
        clock.shift(timedelta(hours=1))

        customer_id = customer_of(alice)
        services.ask_anew(purchase, alice, plan, customer_id=customer_id, because="parameter_invalid")

        wanted, after = services.checkout_request(purchase)
        assert after != before
        assert wanted.expires_at == time_source.now() + services.CHECKOUT_LASTS


class TestTwoPayments:
    def test_a_second_payment_for_the_same_thing_is_told_to_staff(self, alice, plan, till, purchase):
        till.expire(purchase.session_id)
        work("billing")
        second = open_page(alice, plan)
        till.pay(second.session_id)
        wanted, _ = services.checkout_request(purchase)
        recovered = till.open_checkout(wanted, key="recovered")
        till.pay(recovered.session_id)

        work("billing")

        assert (purchase.status, second.status) == ("COMPLETED", "COMPLETED")
        [letter] = [letter for letter in letters() if letter.kind == "admin_paid_twice"]
        assert purchase.ref in letter.text
        assert second.ref in letter.text

    def test_a_reference_that_is_paid_twice_beside_an_older_purchase_keeps_every_refund(
        self, alice, plan, till, purchase
    ):
        till.expire(purchase.session_id)
        work("billing")
        another = open_page(alice, plan)
        till.expire(another.session_id)
        work("billing")
        till.pay(till.recover(purchase.session_id))
        till.pay(till.recover(another.session_id))
        wanted, _ = services.checkout_request(another)
        last = till.open_checkout(wanted, key="recovered").session_id
        till.pay(last)
        work("billing")

        till.give_back(last)
        work("billing")

        assert [event.last_reason for event in events() if event.state == "stuck"] == []
        books = till.books()
        assert queries.sums() == queries.Books(books.charged, books.refunded, books.withheld)
        assert books.refunded == 9900


class TestBrokenHandling:
    def test_an_event_whose_handling_breaks_is_tried_again_and_then_given_to_staff(
        self, purchase, till, clock, monkeypatch
    ):
        def broken(*_):
            raise RuntimeError("a bug")

        till.pay(purchase.session_id)
        monkeypatch.setattr(settling, "settle", broken)

        for _ in range(6):
            work("billing")
            clock.shift(timedelta(hours=2))

        states = {event.type: event.state for event in events()}
        assert states["checkout.session.completed"] == states["payment_intent.succeeded"] == "stuck"
        assert purchase.status == "PENDING"
        assert "admin_event_stuck" in kinds()


class TestRecoveredCheckout:
    def test_an_event_that_names_only_another_intent_is_followed_to_its_own_session(self, purchase, till):
        till.expire(purchase.session_id)
        work("billing")
        wanted, _ = services.checkout_request(purchase)
        recovered = till.open_checkout(wanted, key="recovered")
        misbehave(till.store, Fault.DROP)
        till.pay(recovered.session_id)
        behave(till.store)

        intent = till.look_up(recovered.session_id).intent_id
        about = {"object": "charge", "payment_intent": intent, "metadata": {"purchase_ref": purchase.ref}}
        take_in(till, event(type="charge.refunded", about=about, id="evt_late"))
        work("billing")

        assert (purchase.status, purchase.session_id) == ("COMPLETED", recovered.session_id)

    def test_the_session_that_was_paid_is_the_one_that_counts(self, purchase, till):
        from dataclasses import replace

        wanted, _ = services.checkout_request(purchase)
        recovered = till.open_checkout(replace(wanted, amount_cents=4900), key="recovered")
        till.pay(recovered.session_id)

        work("billing")

        assert (purchase.status, purchase.session_id) == ("COMPLETED", recovered.session_id)
        assert purchase.amount_cents == 4900

    def test_the_first_sessions_expiry_afterwards_changes_nothing(self, purchase, till):
        wanted, _ = services.checkout_request(purchase)
        first = purchase.session_id
        recovered = till.open_checkout(wanted, key="recovered")
        till.pay(recovered.session_id)
        work("billing")

        till.expire(first)
        work("billing")

        assert (purchase.status, purchase.session_id) == (PurchaseStatus.COMPLETED, recovered.session_id)

    def test_a_refund_of_the_recovered_session_is_found(self, purchase, till):
        wanted, _ = services.checkout_request(purchase)
        recovered = till.open_checkout(wanted, key="recovered")
        till.pay(recovered.session_id)
        till.expire(purchase.session_id)
        work("billing")

        till.give_back(recovered.session_id)
        work("billing")

        assert purchase.status == "REFUNDED"


def raising(error):
    def raise_(*arguments, **keywords):
        raise error

    return raise_
