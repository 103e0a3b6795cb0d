"""Nobody pays twice for what they hold: at the checkout, and when a payment comes in all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.billing import covered
from sts_app.billing.models import Consent, Purchase, Subscription
from sts_app.catalog.models import Mode, Plan, PlanStrategy, Strategy
from sts_app.catalog.queries import strategy_by_slug
from sts_app.core.db import db as database
from tests.builders import enter, kinds, open_page, press, work

pytestmark = pytest.mark.usefixtures("clock")

ONE, TWO, THREE = "nq-trend-rider", "nq-power-hour", "nq-breakout-pro"


def made(slug: str, *strategies: str, interval: str = "") -> Plan:
    """A plan of these strategies, or of all."""
    plan = Plan(
        slug=slug,
        name=slug.title(),
        price_cents=4900,
        stripe_price_id=f"price_{slug}",
        mode=Mode.SUBSCRIPTION if interval else Mode.PAYMENT,
        interval=interval,
        covers_all=not strategies,
    )
    database.session.add(plan)
    database.session.flush()
    for each in strategies:
        database.session.add(PlanStrategy(plan_id=plan.id, strategy_id=strategy_by_slug(each).id))
    database.session.flush()
    return plan


@pytest.fixture
def yearly(plan) -> Plan:
    return made("yearly", interval="year")


@pytest.fixture
def buy(alice, plan, till):
    def buy(plan: Plan) -> Purchase:
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work()
        return purchase

    return buy


@pytest.fixture
def visitor(client, alice):
    enter(client, alice)
    return client


def told(visitor, plan: Plan) -> str:
    """What the checkout of a plan says to who is led away from it; nothing for who may go on."""
    answer = visitor.get(f"/checkout?plan={plan.slug}")
    if answer.status_code == 200:
        return ""
    assert answer.location == "/dashboard"
    return " ".join(BeautifulSoup(visitor.get("/dashboard").text, "html.parser").find(id="toasts").text.split())


class TestAtTheCheckout:
    def test_a_longer_interval_of_the_same_is_refused_with_what_to_do(self, visitor, buy, monthly, yearly):
        buy(monthly)

        assert "To change over, end it under Manage the subscription" in told(visitor, yearly)
        assert press(visitor, yearly).location == "/dashboard"

    def test_a_part_of_what_is_subscribed_to_is_refused(self, visitor, buy, monthly):
        buy(monthly)

        assert "covers this already" in told(visitor, made("two", ONE, TWO, interval="month"))

    def test_who_subscribes_may_always_buy_for_good(self, visitor, buy, monthly, plan):
        buy(monthly)

        assert told(visitor, plan) == ""
        assert told(visitor, made("pair", ONE, TWO)) == ""

    def test_more_than_is_subscribed_to_is_sold_and_what_runs_beside_it_is_said(self, visitor, buy, monthly):
        buy(made("two", ONE, TWO, interval="month"))

        assert told(visitor, monthly) == ""
        page = visitor.get("/checkout?plan=monthly").text
        assert "You subscribe to Two already" in page
        assert "Both are charged until you end the other one" in " ".join(page.split())

    def test_several_together_cover_what_each_has_a_part_of(self, visitor, buy):
        pair = made("pair", ONE, TWO)
        buy(made("one", ONE))
        assert told(visitor, pair) == ""
        buy(made("other", TWO, THREE))

        assert "Your One and Other includes all of this." in told(visitor, pair)

    def test_all_strategies_of_today_are_not_those_of_later(self, visitor, buy, plan):
        buy(made("six", *(each.slug for each in database.session.scalars(sa.select(Strategy)))))

        assert told(visitor, plan) == ""

    def test_what_ended_covers_nothing(self, visitor, buy, monthly, yearly, till):
        buy(monthly)
        till.end_now(till.subscriptions()[0].facts.id)
        work()

        assert told(visitor, yearly) == ""

    def test_one_that_is_to_end_says_from_when_on(self, visitor, buy, monthly, yearly, till):
        buy(monthly)
        till.cancel_at_period_end(till.subscriptions()[0].facts.id)
        work()

        assert "covers this until 21 Dec 2026, 12:00 UTC" in told(visitor, yearly)

    def test_a_renewal_that_is_unpaid_is_to_be_paid_first(self, visitor, buy, monthly, yearly, till, clock):
        buy(monthly)
        till.renew(till.subscriptions()[0].facts.id, succeeded=False)
        work()

        assert "Please pay that one" in told(visitor, yearly)

    def test_a_payment_under_way_is_not_made_again(self, visitor, alice, plan, till):
        till.pay_later(open_page(alice, plan).session_id)
        work()

        assert "is with your bank, which has not confirmed it yet" in told(visitor, plan)
        assert press(visitor).location == "/dashboard"

    def test_one_that_failed_is(self, visitor, alice, plan, till):
        purchase = open_page(alice, plan)
        till.pay_later(purchase.session_id)
        work()
        till.settle(purchase.session_id, succeeded=False)
        work()

        assert told(visitor, plan) == ""


class TestWhatIsAgreedTo:
    def test_a_subscription_says_how_it_renews_and_how_it_is_ended(self, visitor, alice, monthly):
        press(visitor, monthly)

        words = " ".join(database.session.scalars(sa.select(Consent)).one().words)
        assert "it renews by itself and $19.00 are charged every month, until you end it" in words
        assert "You can end it at any time on your dashboard, under Manage the subscription." in words

    def test_lifetime_access_says_what_becomes_of_the_subscription(self, visitor, buy, alice, monthly, plan):
        buy(monthly)
        form = BeautifulSoup(visitor.get("/checkout").text, "html.parser").main.form
        values = {each["name"]: each["value"] for each in form.find_all("input", type="hidden")}
        visitor.post("/checkout", data={name: value for name, value in values.items() if name != "csrf_token"})

        [consent] = database.session.scalars(
            sa.select(Consent).join(Purchase, Purchase.id == Consent.purchase_id).where(Purchase.plan_id == plan.id)
        )
        [said] = [each for each in consent.words if "Monthly access" in each]
        assert said == (
            "Your subscription to Monthly access ends at once when this payment arrives, and is not charged again. "
            "What you paid for the rest of its time is not given back."
        )


class TestAPaymentThatComesInAllTheSame:
    def test_another_interval_is_ended_and_its_money_offered_back(self, alice, monthly, yearly, till):
        first, second = open_page(alice, monthly), open_page(alice, yearly)
        for page in (first, second):
            till.pay(page.session_id)
            work()

        assert second.duplicate_of_id == first.id
        assert kinds().count("paid_twice") == 1
        assert [each.facts.status for each in till.subscriptions()].count("active") == 1

    def test_more_than_before_stands_beside_it(self, alice, monthly, till):
        first = open_page(alice, made("two", ONE, TWO, interval="month"))
        second = open_page(alice, monthly)
        for page in (first, second):
            till.pay(page.session_id)
            work()

        assert second.duplicate_of_id is None

    def test_a_part_of_what_is_held_for_good_is_offered_back(self, alice, plan, till):
        lifetime, pair = open_page(alice, plan), open_page(alice, made("pair", ONE, TWO))
        for page in (lifetime, pair):
            till.pay(page.session_id)
            work()

        assert (pair.duplicate_of_id, lifetime.duplicate_of_id) == (lifetime.id, None)

    def test_a_renewal_gives_way_to_the_larger_one_that_runs(self, alice, monthly, till, clock):
        small = open_page(alice, made("two", ONE, TWO, interval="month"))
        till.pay(small.session_id)
        work()
        large = open_page(alice, monthly)
        till.pay(large.session_id)
        work()
        clock.shift(timedelta(days=30))
        till.renew(database.session.get(Subscription, small.subscription_id).external_id)
        work()

        renewal = database.session.scalars(sa.select(Purchase).order_by(Purchase.id.desc())).first()
        assert (renewal.subscription_id, renewal.duplicate_of_id) == (small.subscription_id, large.id)
        assert database.session.get(Subscription, small.subscription_id).status == "canceled"
        assert database.session.get(Subscription, large.subscription_id).status == "active"

    def test_a_renewal_that_is_paid_does_not_give_way_to_a_larger_one_that_is_not(self, alice, monthly, till, clock):
        small = open_page(alice, made("two", ONE, TWO, interval="month"))
        till.pay(small.session_id)
        work()
        large = open_page(alice, monthly)
        till.pay(large.session_id)
        work()
        clock.shift(timedelta(days=30))
        till.renew(database.session.get(Subscription, large.subscription_id).external_id, succeeded=False)
        work()
        till.renew(database.session.get(Subscription, small.subscription_id).external_id)
        work()

        renewal = database.session.scalars(sa.select(Purchase).order_by(Purchase.id.desc())).first()
        assert (renewal.subscription_id, renewal.duplicate_of_id) == (small.subscription_id, None)
        assert database.session.get(Subscription, large.subscription_id).state == "grace"
        assert database.session.get(Subscription, small.subscription_id).status == "active"


def test_a_renewal_says_until_when_it_pays(buy, monthly, till, clock):
    buy(monthly)
    clock.shift(timedelta(days=30))
    till.renew(till.subscriptions()[0].facts.id)
    work()

    renewal = database.session.scalars(sa.select(Purchase).order_by(Purchase.id.desc())).first()
    assert renewal.period_end is not None
    assert renewal.period_end > renewal.paid_at


def test_somebody_elses_holdings_are_not_ones_own(buy, bob, plan):
    buy(plan)

    assert not covered.owns(bob.id, plan)
