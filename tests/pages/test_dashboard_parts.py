"""The parts of the dashboard: how far a purchase is, both names of a change, tickets, the pictures, other addresses."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.core.db import db as database
from sts_app.pages.dashboard_names import names_standing
from sts_app.provisioning import names, worklist
from sts_app.provisioning import services as provisioning
from sts_app.provisioning.models import ManualTask
from sts_app.provisioning.simulated import Fault, behave, misbehave
from sts_app.support.rules import Category
from sts_app.support.services import Opening, open_ticket
from tests.builders import (
    alice,
    by_hand,
    cashier,
    enter,
    entitled,
    in_a_transaction,
    lifetime,
    mallory,
    named,
    open_page,
    rings,
    stopped_clock,
    work,
)
from tests.builders import vendor as tradingview


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def vendor(db):
    return tradingview()


@pytest.fixture
def anna(vendor):
    return named(alice(), "Anna")


@pytest.fixture
def visitor(client, anna):
    enter(client, anna)
    return client


def soup(visitor, path: str = "/dashboard", **query: str) -> BeautifulSoup:
    return BeautifulSoup(visitor.get(path, query_string=query).text, "html.parser")


def text_of(element) -> str:
    return " ".join(element.text.split())


class TestHowFarAPurchaseIs:
    @pytest.fixture
    def purchase(self, app, anna):
        self.till = cashier(rings(app.test_client()))
        return open_page(anna, lifetime())

    def coming_back(self, visitor, purchase) -> BeautifulSoup:
        return soup(visitor, success="true", session_id=purchase.session_id)

    def steps(self, page) -> list[str]:
        return [text_of(step.find(class_="progress__title")) for step in page.select(".progress__step")]

    def test_before_the_money_is_there_nothing_is_said_to_be_done(self, visitor, purchase):
        page = self.coming_back(visitor, purchase)

        assert self.steps(page) == [
            "We are waiting for the payment to be confirmed",
            "Access at TradingView",
            "On your chart",
        ]
        assert not page.select(".progress__step--done")

    def test_it_counts_what_tradingview_shows(self, visitor, purchase, vendor, clock):
        misbehave(vendor, Fault.FAIL)
        self.till.pay(purchase.session_id)
        work()
        page = self.coming_back(visitor, purchase)
        assert self.steps(page)[:2] == [
            "Thank you. Your payment of $99.00 has arrived.",
            "0 of 6 strategies are active",
        ]
        assert page.progress["value"] == "0"

        behave(vendor)
        clock.shift(timedelta(minutes=1))
        work()
        page = self.coming_back(visitor, purchase)
        assert self.steps(page)[1] == "All your access is active."
        assert page.find("a", string="Put a strategy on your chart")["href"] == "/dashboard/how-to"

    def test_what_a_person_gave_is_not_said_to_be_what_tradingview_shows(self, visitor, purchase, monkeypatch):
        by_hand(monkeypatch)
        self.till.pay(purchase.session_id)
        work()
        waiting = text_of(self.coming_back(visitor, purchase).main)
        assert "A person of ours gives them to Anna at TradingView." in waiting
        assert "two minutes" not in waiting

        for task in database.session.scalars(sa.select(ManualTask)).all():
            in_a_transaction(lambda task=task: worklist.done(task.id, "sam@staff.example"))
        page = self.coming_back(visitor, purchase)

        assert self.steps(page)[1] == "All your access is active."
        assert "a person of ours has confirmed it" in text_of(page.main)
        assert "TradingView was asked" not in text_of(page.main)

    def test_what_takes_longer_than_usual_says_so_and_what_happens_then(self, visitor, anna, purchase, vendor, clock):
        misbehave(vendor, Fault.FAIL)
        self.till.pay(purchase.session_id)
        work()
        assert "longer than the usual" not in text_of(self.coming_back(visitor, purchase).main)
        clock.shift(timedelta(minutes=3))

        told = text_of(self.coming_back(visitor, purchase).main)
        assert "It takes longer than the usual two minutes." in told
        assert "a letter tells you when all of them are active" in told

    def test_it_is_gone_from_an_ordinary_visit(self, visitor, purchase):
        self.till.pay(purchase.session_id)
        work()

        assert not soup(visitor).select(".progress__step")

    def test_somebody_elses_session_shows_nothing(self, app, purchase):
        self.till.pay(purchase.session_id)
        work()
        other = app.test_client()
        enter(other, mallory())

        assert not self.coming_back(other, purchase).select(".progress__step")


class TestNames:
    def test_both_are_shown_until_the_old_one_is_removed(self, visitor, anna, vendor):
        entitled(anna, lifetime(), "gift:1")
        work("provisioning")
        in_a_transaction(lambda: names.set_name(anna, "Anna2", verified=True))

        section = soup(visitor).find("section", {"aria-labelledby": "names-title"})
        first, second = section.select(".names__list li")
        assert "Anna2 0 of 6 active" in text_of(first)
        assert (
            text_of(second)
            == "Anna Your earlier name keeps 6 strategies until TradingView shows them under the new name."
        )

        work("provisioning")
        assert [text_of(each) for each in soup(visitor).select(".names__name")] == ["Anna2"]

    def test_an_old_one_that_is_no_longer_needed_is_being_removed(self, anna, vendor):
        entitled(anna, lifetime(), "gift:1")
        work("provisioning")
        in_a_transaction(lambda: names.set_name(anna, "Anna2", verified=True))
        in_a_transaction(lambda: provisioning.end_entitlement("gift:1", because="over", actor="system"))

        [_, old] = names_standing(anna.id)
        assert (old.is_kept, old.words) == (False, "is being removed from 6 strategies")

    def test_who_gave_none_has_none(self, vendor):
        assert names_standing(mallory().id) == []


class TestWhoHasNothing:
    def test_is_shown_the_way_and_where_they_are_on_it(self, visitor, client, vendor):
        page = soup(visitor)
        assert "Your TradingView name: Anna" in text_of(page.find(class_="begin__steps"))

        enter(client, mallory())
        assert "Enter your TradingView name." in text_of(soup(client).find(class_="begin__steps"))


class TestWhatNeedsItsReader:
    def test_a_pause_and_a_removal_are_told_above_everything(self, visitor, anna):
        entitled(anna, lifetime(), "purchase:1")
        work("provisioning")
        in_a_transaction(lambda: provisioning.suspend("purchase:1", because="dispute", actor="system"))
        assert "Your access is paused" in text_of(soup(visitor).main)

        in_a_transaction(lambda: provisioning.end_entitlement("purchase:1", because="refunded", actor="system"))
        assert "Access is being removed" in text_of(soup(visitor).main)
        work("provisioning")
        assert "Access is being removed" not in text_of(soup(visitor).main)

    def test_a_declined_card_is_told_with_what_to_do(self, app, visitor, anna):
        till = cashier(rings(app.test_client()))
        till.decline(open_page(anna, lifetime()).session_id)
        work()

        told = text_of(soup(visitor).find(id="standing"))
        assert "Your bank declined the payment Nothing was charged" in told
        assert soup(visitor).find(id="standing").find("a", string="Try again")["href"] == "/checkout?plan=lifetime"

    def test_a_name_that_tradingview_does_not_know_is_not_said_to_be_known(self, visitor, anna, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        entitled(anna, lifetime(), "purchase:1")
        work("provisioning")

        told = text_of(soup(visitor).find("section", {"aria-labelledby": "names-title"}))
        assert "TradingView does not know it now" in told
        assert "knew it" not in told


class TestTickets:
    def test_the_latest_three_stand_here(self, visitor, anna):
        for number in range(4):
            opening = Opening(f"Question {number}", "It does not stand in the list of my chart.", Category.OTHER, "")
            in_a_transaction(lambda opening=opening, n=number: open_ticket(anna, opening, nonce=f"n{n}", sent=[]))

        section = soup(visitor).find("section", {"aria-labelledby": "tickets-title"})
        assert [text_of(each) for each in section.select("tbody a")] == ["Question 3", "Question 2", "Question 1"]
        assert section.find("a", string="All tickets")["href"] == "/dashboard/support"


class TestHowTo:
    def test_the_drawn_list_holds_what_this_visitor_has(self, visitor, anna):
        entitled(anna, lifetime(), "gift:1")
        drawn = soup(visitor, "/dashboard/how-to").find_all("svg", class_="shot")

        assert len(drawn) == 4
        assert all(picture["role"] == "img" and picture["aria-label"] for picture in drawn)
        assert "NQ Overnight Edge" in drawn[2].text

    def test_it_names_the_name_that_has_access(self, visitor, anna):
        entitled(anna, lifetime(), "gift:1")

        assert "Be signed in at TradingView as Anna" in text_of(soup(visitor, "/dashboard/how-to").main)

    def test_who_has_nothing_is_told_so(self, visitor, vendor):
        lifetime()

        assert "You have no strategy yet" in text_of(soup(visitor, "/dashboard/how-to").main)

    def test_it_is_for_those_who_are_signed_in(self, client, db):
        assert client.get("/dashboard/how-to").location == "/sign-in?next=/dashboard/how-to"


def test_the_other_address_of_the_strategies_leads_to_them(visitor):
    assert visitor.get("/dashboard/strategies").location == "/dashboard#access-title"
