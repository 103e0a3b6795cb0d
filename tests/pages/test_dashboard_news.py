"""What changed since the last visit: told from facts, once, and never what was there before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bs4 import BeautifulSoup

from sts_app.accounts import visits
from sts_app.accounts.models import Visit
from sts_app.core.db import db as database
from sts_app.core.money import as_moment
from sts_app.provisioning import names
from sts_app.provisioning import services as provisioning
from tests.builders import (
    NOON,
    alice,
    bob,
    cashier,
    enter,
    entitled,
    in_a_transaction,
    lifetime,
    named,
    open_page,
    rings,
    stopped_clock,
    work,
)
from tests.builders import vendor as tradingview

A_DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def vendor(db):
    return tradingview()


@pytest.fixture
def till(app, vendor):
    return cashier(rings(app.test_client()))


@pytest.fixture
def anna(vendor):
    return named(alice(), "Anna")


@pytest.fixture
def visitor(client, anna):
    enter(client, anna)
    return client


def news(visitor) -> list[str]:
    """The lines of the news on the dashboard, without their moments."""
    page = BeautifulSoup(visitor.get("/dashboard").text, "html.parser")
    return [" ".join(line.a.text.split()) for line in page.select(".news__lines li")]


def later(visitor, user, clock, wait: timedelta = A_DAY) -> None:
    clock.shift(wait)
    enter(visitor, user)


class TestVisits:
    def test_the_first_has_no_news(self, visitor, anna):
        entitled(anna, lifetime(), "gift:1")
        work("provisioning")

        assert news(visitor) == []

    def test_within_half_an_hour_it_is_the_same_visit_and_the_same_news(self, visitor, anna, clock):
        news(visitor)
        later(visitor, anna, clock)
        entitled(anna, lifetime(), "purchase:1")
        work("provisioning")
        first = news(visitor)

        clock.shift(timedelta(minutes=20))

        assert first == news(visitor) == ["6 strategies became active."]

    def test_what_was_shown_is_seen_by_the_next_visit(self, visitor, anna, clock):
        news(visitor)
        later(visitor, anna, clock)
        entitled(anna, lifetime(), "purchase:1")
        work("provisioning")
        news(visitor)
        later(visitor, anna, clock)

        assert news(visitor) == []

    def test_the_page_says_since_when(self, visitor, anna, clock):
        news(visitor)
        later(visitor, anna, clock)
        entitled(anna, lifetime(), "purchase:1")
        work("provisioning")

        page = BeautifulSoup(visitor.get("/dashboard").text, "html.parser")
        assert " ".join(page.find(id="news-title").text.split()) == f"Since you were here on {as_moment(NOON)}"

    def test_looks_of_a_page_that_waits_belong_to_the_visit(self, visitor, anna, clock):
        visitor.get("/dashboard")
        for _ in range(3):
            clock.shift(timedelta(minutes=20))
            enter(visitor, anna)
            visitor.get("/dashboard/standing")

        assert in_a_transaction(lambda: visits.note(anna.id)) is None
        assert database.session.get(Visit, anna.id).seen_at == NOON + timedelta(hours=1)

    def test_are_of_one_person_alone(self, visitor, anna, clock):
        in_a_transaction(lambda: visits.note(anna.id))
        clock.shift(A_DAY)

        assert in_a_transaction(lambda: visits.note(bob().id)) is None


class TestAccess:
    @pytest.fixture
    def owner(self, visitor, anna):
        """Anna, who has all six and was here."""
        entitled(anna, lifetime(), "purchase:1")
        work("provisioning")
        news(visitor)
        return anna

    def test_what_ended_and_why_it_was_removed(self, visitor, owner, clock):
        later(visitor, owner, clock)
        in_a_transaction(lambda: provisioning.end_entitlement("purchase:1", because="refunded", actor="system"))
        work("provisioning")

        told = news(visitor)
        assert "6 strategies were removed at TradingView, because your access ended." in told

    def test_a_change_of_name_tells_of_both_names(self, visitor, owner, clock):
        later(visitor, owner, clock)
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        work("provisioning")

        assert set(news(visitor)) == {
            "6 strategies moved to your name Anna2.",
            "6 strategies were removed from your earlier name Anna.",
        }

    def test_what_somebody_else_had_under_a_name_before_is_not_told(self, app, visitor, owner, clock):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        work("provisioning")
        news(visitor)
        clock.shift(timedelta(hours=2))
        other = app.test_client()
        heir = bob()
        enter(other, heir)
        assert news(other) == []
        clock.shift(timedelta(hours=2))
        in_a_transaction(lambda: names.set_name(heir, "Anna", verified=True))
        enter(other, heir)

        assert news(other) == []


class TestMoney:
    def test_a_payment_that_arrived_and_a_refund(self, visitor, anna, till, clock):
        news(visitor)
        later(visitor, anna, clock)
        purchase = open_page(anna, lifetime())
        till.pay(purchase.session_id)
        work()
        till.give_back(purchase.session_id, 2000)
        work()

        told = news(visitor)
        assert "Your payment of $99.00 for STS Strategies - Lifetime Access arrived." in told
        assert "A refund of $20.00 was begun. How far it is stands beside the purchase." in told

    def test_a_page_that_ran_out(self, visitor, anna, till, clock):
        purchase = open_page(anna, lifetime())
        news(visitor)
        later(visitor, anna, clock)
        till.expire(purchase.session_id)
        work()

        assert "was not paid, so nothing was charged." in news(visitor)[0]

    def test_it_leads_to_where_the_whole_of_it_stands(self, visitor, anna, till, clock):
        news(visitor)
        later(visitor, anna, clock)
        till.pay(open_page(anna, lifetime()).session_id)
        work()

        page = BeautifulSoup(visitor.get("/dashboard").text, "html.parser")
        anchors = {link["href"] for link in page.select(".news__lines a")}
        assert anchors == {"#purchases-title", "#access-title"}
        assert all(page.find(id=anchor.removeprefix("#")) for anchor in anchors)
