"""What a buyer is told after paying, and what those who own a plan are no longer asked."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from sts_app.accounts.models import User
from sts_app.billing import settling
from sts_app.billing.models import Purchase
from sts_app.billing.simulated import SimulatedPayments
from sts_app.catalog.models import Plan
from sts_app.core.db import db as database
from tests.builders import alice, cashier, enter, lifetime, named, open_page, stopped_clock, vendor, work


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def plan(db) -> Plan:
    return lifetime()


@pytest.fixture
def buyer(db) -> User:
    vendor()
    return named(alice(), "Anna")


@pytest.fixture
def browser(client, buyer) -> FlaskClient:
    enter(client, buyer)
    return client


@pytest.fixture
def till(db) -> SimulatedPayments:
    """Stripe, whose events are lost: what we know of a payment is what was looked up."""
    return cashier()


@pytest.fixture
def purchase(buyer, plan, till) -> Purchase:
    return open_page(buyer, plan)


def look_up(clock) -> None:
    """The next appointed look at the open purchase."""
    clock.shift(3600)
    work("billing")


def words(browser: FlaskClient, path: str, **query: str) -> str:
    page = BeautifulSoup(browser.get(path, query_string=query).text, "html.parser")
    return " ".join(page.main.text.split())


def coming_back(browser: FlaskClient, purchase: Purchase) -> str:
    return words(browser, "/dashboard", success="true", session_id=purchase.session_id)


class TestAfterPaying:
    def test_a_decline_from_before_is_not_told_to_who_has_paid_since(self, browser, purchase, till, clock):
        till.decline(purchase.session_id)
        look_up(clock)
        assert "The bank declined the last try. Try again" in words(browser, "/dashboard")
        till.pay(purchase.session_id)

        page = coming_back(browser, purchase)

        assert "We are waiting for the payment to be confirmed" in page
        assert "declined" not in page
        assert "Try again" not in page

    def test_who_comes_back_is_not_asked_to_go_on_paying(self, browser, purchase, till):
        till.pay(purchase.session_id)

        page = coming_back(browser, purchase)

        assert "We are waiting for the payment to be confirmed" in page
        assert "Go on paying" not in page

    def test_a_slow_bank_is_a_reason_to_wait_for_a_letter(self, browser, purchase, till, clock):
        till.pay_later(purchase.session_id)
        look_up(clock)

        for page in (coming_back(browser, purchase), words(browser, "/dashboard")):
            assert "some banks take days" in page
            assert "a letter comes when the payment has arrived" in page
            assert "Go on paying" not in page
        assert "The bank has not confirmed the payment yet" in words(browser, "/dashboard")

    def test_a_page_that_was_only_opened_can_be_gone_on_with(self, browser, purchase, clock):
        look_up(clock)

        page = words(browser, "/dashboard")

        assert "Not paid yet. Go on paying" in page
        assert "waiting for the payment" not in page

    def test_who_finished_is_not_asked_whether_they_did(self, browser, purchase, till, clock):
        till.pay_later(purchase.session_id)
        look_up(clock)

        page = words(browser, "/dashboard")

        assert "You have done your part: a letter comes when it has arrived." in page
        assert "Back to the payment page" not in page

    @pytest.mark.parametrize("path", ["/", "/pricing", "/strategies", "/strategies/nq-power-hour"])
    def test_a_payment_under_way_stands_in_the_place_of_the_price(self, browser, purchase, till, clock, path):
        till.pay_later(purchase.session_id)
        look_up(clock)

        page = words(browser, path)

        assert "Your payment is under way" in page
        assert "Get access for" not in page

    def test_a_page_opened_again_waits_for_its_payment_whatever_the_purchase_says(self, browser, purchase, till):
        page = recovered(browser, purchase, till)
        main = " ".join(page.main.text.split())

        assert "We are waiting for the payment to be confirmed" in main
        assert "See what it costs" not in main
        assert "Try again" not in main
        assert page.find(attrs={"hx-get": lambda address: address and "n=1" in address})
        assert "n=1" in page.find("meta", {"http-equiv": "refresh"})["content"]
        assert purchase.status == "EXPIRED"

    def test_it_tells_when_it_takes_longer_and_stops_looking_in_the_end(self, browser, purchase, till):
        session_id = recovered(browser, purchase, till, name=True)

        late = " ".join(
            browser.get("/dashboard/standing", query_string={"session_id": session_id, "n": 30}).text.split()
        )
        last = browser.get("/dashboard/standing", query_string={"session_id": session_id, "n": 44}).text

        assert "It takes longer than usual. Nothing is lost" in late
        assert "this page has stopped looking" in " ".join(last.split())
        assert "hx-get" not in last

    def test_it_is_thanked_for_once_it_is_known(self, browser, purchase, till):
        session_id = recovered(browser, purchase, till, name=True)
        settling.apply_facts(purchase.id, till.look_up(session_id))
        database.session.commit()

        page = words(browser, "/dashboard", success="true", session_id=session_id)

        assert "Thank you. Your payment of $99.00 has arrived." in page
        assert "waiting for the payment" not in page

    def test_a_declined_card_is_said_first_with_what_to_do(self, browser, purchase, till, clock):
        till.decline(purchase.session_id)
        look_up(clock)

        page = BeautifulSoup(browser.get("/dashboard").text, "html.parser")
        notice = page.find(class_="notice--warning")

        assert "Your bank declined the payment" in notice.text
        assert notice.find("a", href="/checkout?plan=lifetime").text.strip() == "Try again"
        assert [badge.text.strip() for badge in page.select("td.table__beside .badge")] == ["Declined"]
        assert "Your bank declined the payment" in words(browser, "/pricing", canceled="true")

    def test_who_has_paid_does_not_wait_for_a_page_of_an_unknown_name(self, browser, purchase, till):
        till.pay(purchase.session_id)
        settling.apply_facts(purchase.id, till.look_up(purchase.session_id))
        database.session.commit()

        page = words(browser, "/dashboard", success="true", session_id="cs_test_made_up")

        assert "waiting for the payment" not in page

    @pytest.mark.parametrize("named", ["cs_test_made_up", "nonsense", ""])
    def test_who_never_had_a_page_waits_for_nothing(self, browser, plan, named):
        page = words(browser, "/dashboard", success="true", session_id=named)

        assert "waiting for the payment" not in page
        assert "See what it costs" in page


def recovered(browser, purchase, till, *, name: bool = False):
    """The dashboard as Stripe's reopened page leads to it; with `name` that page's name."""
    till.expire(purchase.session_id)
    settling.apply_facts(purchase.id, till.look_up(purchase.session_id))
    session_id = till.recover(purchase.session_id)
    till.pay(session_id)
    database.session.commit()
    if name:
        return session_id
    answer = browser.get("/dashboard", query_string={"success": "true", "session_id": session_id})
    return BeautifulSoup(answer.text, "html.parser")


class TestOwning:
    @pytest.mark.parametrize("path", ["/strategies", "/strategies/nq-power-hour"])
    def test_the_strategies_say_so_too(self, browser, purchase, till, path):
        till.pay(purchase.session_id)
        settling.apply_facts(purchase.id, till.look_up(purchase.session_id))
        database.session.commit()

        page = words(browser, path)

        assert "You own this" in page
        assert "Get access for" not in page

    def test_what_is_disputed_is_not_called_ones_own(self, browser, purchase, till):
        till.pay(purchase.session_id)
        till.open_dispute(purchase.session_id)
        settling.apply_facts(purchase.id, till.look_up(purchase.session_id))
        database.session.commit()

        page = words(browser, "/pricing")

        assert "Your payment is disputed" in page
        assert "Lifetime access is yours" not in page
        assert "Get access for" not in page

    @pytest.mark.parametrize("path", ["/", "/pricing", "/pricing?canceled=true"])
    def test_an_owner_is_offered_the_dashboard_and_not_the_price(self, browser, purchase, till, path):
        till.pay(purchase.session_id)
        coming_back(browser, purchase)
        work("billing")

        page = BeautifulSoup(browser.get(path).text, "html.parser")

        assert "You own this" in page.main.text
        assert page.main.find("a", href="/dashboard")
        assert "Get access" not in page.main.text
        assert not page.main.find("form", action="/checkout")

    @pytest.mark.parametrize("path", ["/", "/pricing"])
    def test_who_has_not_paid_is_offered_the_plan(self, browser, purchase, path):
        page = words(browser, path)

        assert "Get access for $99.00" in page
        assert "You own this" not in page


class TestTheName:
    def test_another_name_is_asked_for_as_a_change(self, browser, plan):
        changing = words(browser, "/onboarding")

        assert changing.startswith("Change your TradingView name")
        assert "Anna keeps what it has until TradingView shows it under the new name, and loses it then" in changing
        assert "before anything is paid" not in changing

    def test_a_name_that_needs_another_look_is_still_a_change(self, browser, plan):
        form = {"name": "Alice", "tradingview_name": "unknown_anna", "terms": "y", "disclaimer": "y"}

        answer = browser.post("/onboarding", data=form)

        assert answer.status_code == 422
        assert "Change your TradingView name" in answer.text

    def test_a_pasted_profile_is_a_name(self, browser, buyer, plan):
        form = {"name": "Alice", "terms": "y", "disclaimer": "y"}

        answer = browser.post(
            "/onboarding", data=form | {"tradingview_name": "https://www.tradingview.com/u/bob_trader/"}
        )

        assert answer.status_code == 303
        assert "Bob_trader" in words(browser, "/dashboard")


def test_a_first_name_is_asked_for_as_such(client, db, plan):
    enter(client, alice())

    page = words(client, "/onboarding")

    assert page.startswith("Your TradingView name")
    assert "before anything is paid" in page


def test_every_fault_of_the_simulated_tradingview_says_what_it_does(browser, plan):
    page = BeautifulSoup(browser.get("/dev/tradingview/").text, "html.parser")

    offered = [option.text for option in page.find("select", id="fault").find_all("option")]
    told = {row.th.text: row.td.text.strip() for row in page.find(id="faults").find_all("tr")}

    assert list(told) == offered
    assert all(len(sentence) > 20 for sentence in told.values())
    assert "sts provisioning resume" in told["dead session"]


def test_a_used_link_offers_a_way_to_a_new_one(client, plan):
    answer = client.get("/sign-in/link/used")
    page = BeautifulSoup(answer.text, "html.parser")

    assert answer.status_code == 410
    assert page.main.find("a", href="/sign-in").text == "Sign in"


def test_nobody_is_sent_to_write_to_nowhere(client, plan):
    for path in ("/privacy", "/refunds"):
        assert "the address our letters come from" in words(client, path)
        assert "support address" not in words(client, path)
