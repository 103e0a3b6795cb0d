"""The simulated Stripe's customers, products and prices, the set-up of a store, and its post on a bad day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import time_machine

from sts_app.billing.gateway import Refused
from sts_app.billing.simulated import Fault, OnShelf, SimulatedPayments, behave, faults_on, misbehave, shuffled
from sts_app.core.store import MemoryStore
from sts_app.settings import PLACEHOLDER_PRICE
from tests.contracts.payment_simulated import SimulatedWorld
from tests.contracts.payment_worlds import ALICE, a_paid_page, a_request, an_open_page


@pytest.fixture
def world() -> SimulatedWorld:
    return SimulatedWorld()


def with_shelf(offers: list[OnShelf]) -> SimulatedPayments:
    return SimulatedPayments(
        MemoryStore(),
        webhook_secrets=("whsec_shelf",),
        webhook_url="https://sts.example/webhooks/stripe",
        public_url="https://sts.example",
        post=lambda *_, **__: SimpleNamespace(status_code=200),
        shelf=lambda: offers,
    )


class TestPrices:
    def test_what_the_plans_name_exists(self):
        payments = with_shelf(
            [OnShelf("price_life", "Lifetime", 9900), OnShelf("price_month", "Monthly", 1900, "usd", "month")]
        )

        told = [
            (each.name, price.id, price.amount_cents, price.interval)
            for each in payments.products()
            for price in each.prices
        ]

        assert told == [("Lifetime", "price_life", 9900, ""), ("Monthly", "price_month", 1900, "month")]

    def test_a_plan_that_was_set_up_here_stands_in_the_list_once(self):
        """Its product was made, so that the shelf has nothing to add."""
        shelf: list[OnShelf] = []
        payments = with_shelf(shelf)
        product_id = payments.create_product(name="Yearly", description="", key="product-1")
        made = payments.create_price(
            product_id=product_id,
            amount_cents=9900,
            currency="usd",
            interval="year",
            lookup_key="yearly",
            key="price-1",
        )

        shelf.append(OnShelf(made.id, "Yearly", 9900, "usd", "year"))

        assert [(each.id, [price.id for price in each.prices]) for each in payments.products()] == [
            (product_id, [made.id])
        ]

    def test_a_product_of_the_shelf_stays_when_it_gets_another_price(self):
        shelf = [OnShelf("price_old", "Lifetime", 9900)]
        payments = with_shelf(shelf)
        asked = {"product_id": "prod_price_old", "currency": "usd", "interval": "", "lookup_key": "lifetime"}

        made = payments.create_price(amount_cents=4900, key="price-1", **asked)
        shelf[:] = [OnShelf(made.id, "Lifetime", 4900)]

        [product] = payments.products()
        assert (product.id, [price.id for price in product.prices]) == ("prod_price_old", [made.id])

    def test_a_changed_price_is_told_and_shown_and_refuses_pages_of_the_old_one(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")
        world.bell.rings.clear()

        world.payments.change_price("price_lifetime", 4900)

        assert world.bell.types == ["price.updated", "product.updated"]
        assert [price.amount_cents for each in world.payments.products() for price in each.prices] == [4900, 1900]
        with pytest.raises(Refused, match="costs 4900 usd at Stripe and 9900 usd in the store"):
            world.payments.open_checkout(a_request(customer_id), key="late")
        assert world.payments.open_checkout(a_request(customer_id, amount_cents=4900), key="new").session_id

    def test_a_page_that_is_open_keeps_its_price(self, world):
        session_id = an_open_page(world).session_id
        world.payments.change_price("price_lifetime", 4900)

        assert world.payments.pay(session_id).amount_total == 9900

    def test_the_set_up_finds_what_it_made_under_its_key(self, world):
        product_id = world.payments.create_product(name="Lifetime", description="All of it", key="product-1")
        asked = {"product_id": product_id, "currency": "usd", "interval": "", "lookup_key": "lifetime"}
        first = world.payments.create_price(amount_cents=9900, key="price-1", **asked)
        second = world.payments.create_price(amount_cents=4900, key="price-2", **asked)

        assert world.payments.create_price(amount_cents=9900, key="price-1", **asked).id == first.id
        assert world.payments.find_price("lifetime") == second
        assert world.payments.find_price("other") is None
        assert world.bell.types == ["product.created", "price.created", "price.created"]

    def test_an_endpoint_shows_its_secret_once(self, world):
        types = frozenset({"refund.created"})
        made = world.payments.create_endpoint(url="https://sts.example/hook", types=types, key="endpoint-1")
        changed = world.payments.update_endpoint(made.id, types=types | {"refund.failed"})

        assert made.secret is not None
        assert changed.secret is None
        assert world.payments.endpoints() == [changed]
        with pytest.raises(Refused):
            world.payments.update_endpoint("we_unknown", types=types)

    def test_a_customers_page_is_set_up_once(self, world):
        addresses = {"terms_url": "https://sts.example/terms", "privacy_url": "https://sts.example/privacy"}

        made = world.payments.create_portal(key="portal-1", **addresses)

        assert world.payments.create_portal(key="portal-1", **addresses) == made
        assert world.payments.portals() == [world.payments.update_portal(made.id)] == [made]
        assert (made.is_ours, made.fits, world.payments.takes_payments()) == (True, True, True)
        with pytest.raises(Refused):
            world.payments.update_portal("bpc_unknown")


class TestCustomers:
    def test_a_changed_customer_is_told_and_found_by_the_new_address(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")

        world.payments.change_customer(customer_id, email="alice@elsewhere.example")

        assert world.bell.types == ["customer.created", "customer.updated"]
        assert world.payments.find_customer(ALICE) is None
        moved = type(ALICE)(ALICE.ref, "alice@elsewhere.example")
        assert world.payments.find_customer(moved) == customer_id

    def test_deleting_twice_tells_once(self, world):
        customer_id = world.payments.create_customer(ALICE, key="customer-7")

        for _ in range(2):
            world.payments.delete_customer(customer_id)
        world.payments.delete_customer("cus_unknown")

        assert world.bell.types == ["customer.created", "customer.deleted"]
        with pytest.raises(Refused):
            world.payments.change_customer(customer_id, email="alice@elsewhere.example")


class TestPost:
    @pytest.mark.parametrize("seed", range(3))
    def test_held_events_are_shuffled_alike_by_one_seed(self, seed):
        orders = []
        for _ in range(2):
            world = SimulatedWorld()
            misbehave(world.store, Fault.HOLD)
            a_paid_page(world)
            assert world.payments.deliver_held(order=shuffled(seed)) == 5
            orders.append(world.bell.types)

        assert orders[0] == orders[1]
        assert sorted(orders[0]) == sorted(event.type for event in world.payments.events())

    def test_seeds_give_other_orders(self, world):
        misbehave(world.store, Fault.HOLD)
        a_paid_page(world)
        events = world.payments.events()

        assert len({tuple(each.id for each in shuffled(seed)(events)) for seed in range(10)}) > 5

    def test_delayed_events_come_when_their_time_has_come(self, world):
        misbehave(world.store, Fault.DELAY)
        a_paid_page(world)
        assert world.payments.deliver_due() == world.payments.deliver_held() == 0
        assert {event.state for event in world.payments.events()} == {"delayed"}

        with time_machine.travel(datetime.now(UTC) + timedelta(seconds=31)):
            assert world.payments.deliver_due() == 5

        assert {event.state for event in world.payments.events()} == {"delivered"}

    def test_delayed_events_come_before_what_happens_after_their_time(self, world):
        misbehave(world.store, Fault.DELAY)
        session_id = a_paid_page(world)
        behave(world.store)

        with time_machine.travel(datetime.now(UTC) + timedelta(seconds=31)):
            world.payments.give_back(session_id)

        assert world.bell.types[-3:] == ["checkout.session.completed", "refund.created", "charge.refunded"]

    def test_behaving_takes_back_every_fault(self, world):
        misbehave(world.store, *Fault)
        assert faults_on(world.store) == list(Fault)

        behave(world.store)

        assert faults_on(world.store) == []
        assert a_paid_page(world)

    def test_events_older_than_thirty_days_are_forgotten(self, world):
        a_paid_page(world)
        since = datetime.now(UTC) - timedelta(days=1)

        with time_machine.travel(datetime.now(UTC) + timedelta(days=31)):
            assert list(world.payments.events_between(since, datetime.now(UTC))) == []


@pytest.mark.parametrize("price_id", ["price_of_this_store", None])
def test_in_the_store_it_sells_what_the_plans_name(db, till, plan, price_id):
    plan.stripe_price_id = price_id
    db.session.flush()

    [product] = till.products()

    assert product.name == plan.name
    assert [(price.id, price.amount_cents) for price in product.prices] == [(price_id or PLACEHOLDER_PRICE, 9900)]


def test_a_plan_that_names_no_price_is_not_sold_there_in_place_of_the_seeded_one(db, till, plan, monthly):
    monthly.stripe_price_id = None
    db.session.flush()

    assert [(each.name, len(each.prices)) for each in till.products()] == [(plan.name, 1)]
