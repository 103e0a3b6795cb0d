"""Money and events that come after somebody has left: handled as ever, and nobody is brought back by them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sts_app.billing import services as billing
from sts_app.billing.models import Purchase, StripeCustomer, Subscription
from sts_app.billing.rules import Access, EventState, PurchaseStatus
from sts_app.core.db import db as database
from sts_app.privacy.rules import ErasureState
from tests.builders import (
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
from tests.privacy.leaving import asked, begun, ended, go_on, traces_of

AN_HOUR = timedelta(hours=1)
pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    return purchase


def to_the_end(rounds: int = 5) -> None:
    for _ in range(rounds):
        work()
        go_on()


class TestAPaymentWhileTheAccountCloses:
    def test_is_on_record_gives_nothing_and_is_told_to_both_sides(self, alice, plan, till, clock):
        page = open_page(alice, plan)
        erasure = begun(alice, clock, after=AN_HOUR)
        till.pay(page.session_id)
        work("billing")

        assert page.status == PurchaseStatus.COMPLETED
        assert [grant for grant in grants() if grant.wanted] == []
        assert "paid_after_closing" in kinds()
        [told] = letters("admin_paid_after_closing")
        assert f"sts refunds ask {page.ref}" in told.text
        assert "purchase_confirmation" not in kinds()
        to_the_end()
        assert erasure.state == ErasureState.DONE
        assert holders() == set()

    def test_cannot_be_made_any_more_once_the_page_is_closed(self, alice, plan, till, clock):
        page = open_page(alice, plan)
        erasure = ended(alice, clock, after=AN_HOUR)

        assert page.status == PurchaseStatus.EXPIRED
        assert till.look_up(page.session_id).session == "expired"
        assert erasure.state == ErasureState.DONE

    def test_for_which_no_page_was_opened_yet_is_given_up(self, alice, plan, clock, db):
        purchase = opened(alice, plan)
        ended(alice, clock, after=AN_HOUR)

        assert purchase.status == PurchaseStatus.EXPIRED

    def test_that_a_bank_confirms_days_later_is_no_reason_to_wait(self, alice, plan, till, clock):
        page = open_page(alice, plan)
        till.pay_later(page.session_id)
        work()
        assert page.with_bank

        erasure = ended(alice, clock)
        assert erasure.state == ErasureState.DONE
        clock.shift(timedelta(days=3))
        till.settle(page.session_id, True)
        work()

        assert page.status == PurchaseStatus.COMPLETED
        assert holders() == set()
        assert "admin_paid_after_closing" in kinds()
        assert traces_of("alice") == {}

    def test_for_a_subscription_ends_it_at_once(self, alice, monthly, till, clock):
        page = open_page(alice, monthly)
        till.pay_later(page.session_id)
        work()
        erasure = ended(alice, clock)
        assert erasure.state == ErasureState.DONE
        till.settle(page.session_id, True)
        to_the_end(3)

        [subscription] = database.session.query(Subscription).all()
        assert subscription.status == "canceled"
        assert till.subscriptions()[0].is_over
        assert holders() == set()
        assert traces_of("alice") == {}


class TestWhatComesAfterTheEnd:
    def test_a_refund_is_entered_without_reviving_anybody(self, alice, bought, till, clock):
        ended(alice, clock)
        till.give_back(bought.session_id)
        work()

        assert (bought.status, bought.access) == (PurchaseStatus.REFUNDED, Access.ENDED)
        assert traces_of("alice") == {}

    def test_a_dispute_is_entered_and_staff_hear_of_it(self, alice, bought, till, clock):
        ended(alice, clock)
        dispute = till.open_dispute(bought.session_id)
        work()
        till.move_dispute(dispute, "lost")
        work()

        assert bought.access == Access.ENDED
        assert "admin_dispute" in kinds()
        assert traces_of("alice") == {}

    def test_the_event_of_the_deleted_customer_makes_no_new_one(self, alice, bought, till, clock):
        ended(alice, clock)
        work()

        [told] = [each for each in events() if each.type == "customer.deleted"]
        assert told.state == EventState.HANDLED
        [row] = database.session.query(StripeCustomer).all()
        assert row.external_id is not None
        assert row.request == {"ref": row.ref, "email": "", "name": ""}

    @pytest.mark.parametrize(
        ("kind", "state"), [("customer.updated", "handled"), ("customer.tax_id.created", "ignored")]
    )
    def test_an_event_with_the_address_loses_its_payload(self, client, alice, bought, clock, kind, state):
        ended(alice, clock)
        customer = database.session.query(StripeCustomer).one().external_id
        about = {"object": "customer", "id": customer, "email": "alice@customers.example"}
        if state == "ignored":
            about = {"object": "tax_id", "id": "txi_1", "customer": customer, "value": "of alice"}
        assert client.post("/api/webhooks/stripe", **signed(event(kind, about))).status_code == 200
        work("billing")

        last = events()[-1]
        assert (last.type, last.state, last.payload) == (kind, state, None)
        assert traces_of("alice") == {}

    def test_events_of_others_keep_theirs(self, client, alice, bought, clock):
        ended(alice, clock)
        about = {"object": "customer", "id": "cus_of_bob", "email": "bob@customers.example"}
        client.post("/api/webhooks/stripe", **signed(event("customer.updated", about)))
        work("billing")

        assert events()[-1].payload is not None

    def test_a_look_at_an_old_payment_finds_its_row(self, alice, bought, till, clock):
        ended(alice, clock)

        in_a_transaction(lambda: billing.take_in(_replayed(till, bought)))
        work()

        assert bought.status == PurchaseStatus.COMPLETED
        assert traces_of("alice") == {}


def _replayed(till, purchase):
    """The event of the payment once more, as Stripe's list has it."""
    from dataclasses import replace

    from sts_app.core import clock

    hour = timedelta(hours=72)
    told = till.events_between(clock.now() - hour, clock.now() + hour)
    found = next(e for e in told if (e.type, e.session_id) == ("checkout.session.completed", purchase.session_id))
    return replace(found, id="evt_once_more")


def test_asking_once_more_after_the_end_is_refused(alice, bought, clock):
    ended(alice, clock)

    again = asked_quietly(alice)

    assert again == "ACCOUNT_CLOSED"


def asked_quietly(user) -> str:
    from sts_app.core.errors import Refusal

    try:
        asked(user)
    except Refusal as refusal:
        return refusal.code
    return "no refusal"
