"""The last look before paying: what stands beside the button is what is kept."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from sts_app.billing import services
from sts_app.billing.models import Consent, Purchase
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.provisioning.models import TradingViewName
from sts_app.provisioning.simulated import Fault, behave, misbehave
from tests.builders import count, enter, press, through, tradingview

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def buyer(client, alice, plan, till) -> FlaskClient:
    enter(client, alice)
    return client


@pytest.fixture
def monthly(db) -> Plan:
    made = Plan(
        slug="monthly",
        name="Monthly access",
        price_cents=1900,
        stripe_price_id="price_monthly",
        mode=Mode.SUBSCRIPTION,
        interval="month",
        covers_all=True,
    )
    db.session.add(made)
    db.session.flush()
    return made


def page(visitor, address: str = "/checkout") -> BeautifulSoup:
    return BeautifulSoup(visitor.get(address).text, "html.parser")


def press_of(visitor, form, **more: str) -> TestResponse:
    """Send the form as it stands, with `more`."""
    values = {
        field["name"]: field["value"]
        for field in form.find_all("input")
        if field["type"] != "checkbox" and field["name"] != "csrf_token"
    }
    return visitor.post(form["action"], data=values | more)


def sent(visitor, form, **more: str) -> Consent:
    """What was kept when the form is sent so."""
    assert press_of(visitor, form, **more).status_code == 303
    return database.session.scalars(sa.select(Consent)).one()


def unverified(visitor) -> None:
    """Nobody has heard yet whether TradingView knows the name."""
    database.session.execute(sa.update(TradingViewName).values(verified_at=None))
    database.session.commit()


@pytest.mark.parametrize("address", ["/checkout", "/checkout?plan=monthly"])
def test_the_sentences_beside_the_button_are_those_that_are_kept(buyer, monthly, address):
    form = page(buyer, address).main.form

    shown = [line.text for line in form.select(".agreed li")]
    kept = sent(buyer, form)
    assert shown == kept.words
    assert len(shown) >= 4


def test_the_form_buys_the_plan_that_it_shows(buyer, monthly):
    form = page(buyer, "/checkout?plan=monthly").main.form

    sent(buyer, form)
    assert database.session.scalars(sa.select(Purchase.plan_id)).one() == monthly.id


def test_nobody_is_written_to_who_did_not_tick_the_box(buyer):
    form = page(buyer).main.form
    box = form.find("input", {"name": "may_remind"})

    assert not box.has_attr("checked")
    assert form.find("label", {"for": box["id"]}).text == (
        "If I leave before paying, you may write to me once about it."
    )
    assert not sent(buyer, form).may_remind


def test_a_ticked_box_is_kept(buyer):
    form = page(buyer).main.form

    assert sent(buyer, form, may_remind=form.find("input", {"name": "may_remind"})["value"]).may_remind


def test_what_is_paid_once_says_so(buyer):
    main = page(buyer).main

    assert "$99.00, once" in main.text
    assert main.form.button.text == "Pay $99.00"


def test_what_is_paid_again_and_again_says_how_often_and_never_once(buyer, monthly):
    main = page(buyer, "/checkout?plan=monthly").main

    assert main.form.button.text == "Pay $19.00 every month"
    assert "$19.00 every month" in main.find("dl").text
    assert "once" not in main.find("dl").text


def test_the_way_over_the_name_leads_back_to_this_plan(buyer, monthly):
    link = page(buyer, "/checkout?plan=monthly").main.find("a", string="Change it")

    assert link["href"] == "/onboarding?next=/checkout?plan%3Dmonthly"


def test_another_try_while_tradingview_is_silent_is_for_the_same_plan(buyer, monthly, vendor):
    database.session.execute(sa.update(TradingViewName).values(verified_at=None))
    misbehave(vendor, Fault.READS_FAIL)

    answer = press(buyer, monthly)

    assert answer.status_code == 503
    assert BeautifulSoup(answer.text, "html.parser").main.form["action"] == "/checkout?plan=monthly"


def test_another_try_agrees_to_what_stood_on_the_page_and_to_nothing_else(buyer, plan, vendor):
    unverified(buyer)
    form = page(buyer).main.form
    misbehave(vendor, Fault.READS_FAIL)
    again = BeautifulSoup(press_of(buyer, form, may_remind="yes").text, "html.parser").main.form
    behave(vendor)

    kept = sent(buyer, again)
    assert (kept.words, kept.may_remind) == ([line.text for line in form.select(".agreed li")], True)


class TestAnotherOfferThanThePageShows:
    """Between the page and the press the plan is changed: nobody agrees to what did not stand on their page."""

    def test_the_page_comes_again_and_says_from_what_to_what(self, buyer, plan, till):
        form = page(buyer).main.form
        plan.price_cents = 12900

        answer = press_of(buyer, form)

        main = BeautifulSoup(answer.text, "html.parser").main
        assert answer.status_code == 409
        assert main.find(role="alert").text.strip() == (
            "The price has changed since this page was opened, from $99.00 once to $129.00 once. Nothing was charged."
        )
        assert main.form.select_one(".agreed li").text.startswith("You pay $129.00, once")
        assert (count(Purchase), count(Consent), till.checkouts()) == (0, 0, [])

    def test_pressing_that_page_buys_at_the_new_price(self, buyer, plan):
        form = page(buyer).main.form
        plan.price_cents = 12900
        anew = BeautifulSoup(press_of(buyer, form).text, "html.parser").main.form

        assert sent(buyer, anew).words[0].startswith("You pay $129.00, once")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"currency": "eur"}, "from $19.00 every month to €19.00 every month"),
            ({"interval": "year"}, "from $19.00 every month to $19.00 every year"),
            ({"name": "Every strategy"}, "What you agree to has changed"),
        ],
    )
    def test_so_for_everything_that_stands_beside_the_button(self, buyer, monthly, changes, words):
        form = page(buyer, "/checkout?plan=monthly").main.form
        for name, value in changes.items():
            setattr(monthly, name, value)

        answer = press_of(buyer, form)

        assert answer.status_code == 409
        assert words in answer.text
        assert count(Consent) == 0

    def test_a_price_that_changes_while_the_name_is_checked_is_no_price_that_was_agreed_to(
        self, buyer, plan, monkeypatch
    ):
        unverified(buyer)
        adapter = tradingview()

        class Slow:
            def find_name(self, name: str) -> str | None:
                database.session.execute(sa.update(Plan).values(price_cents=12900))
                database.session.commit()
                return adapter.find_name(name)

        form = page(buyer).main.form
        through(monkeypatch, Slow())

        assert press_of(buyer, form).status_code == 409
        assert (count(Purchase), count(Consent)) == (0, 0)

    def test_a_tick_is_not_lost_with_the_page(self, buyer, plan):
        form = page(buyer).main.form
        plan.price_cents = 12900

        anew = BeautifulSoup(press_of(buyer, form, may_remind="yes").text, "html.parser").main.form

        assert anew.find("input", {"name": "may_remind"}).has_attr("checked")

    @pytest.mark.parametrize(
        "fields",
        [
            {"amount": "-1"},
            {"amount": "1" * 30},
            {"amount": "\u0661"},
            {"currency": "<b>"},
            {"interval": "fortnight"},
            {"agreed": "x" * 16},
        ],
    )
    def test_what_no_page_sends_leads_to_the_page(self, buyer, fields):
        form = page(buyer).main.form

        answer = press_of(buyer, form, **fields)

        assert (answer.status_code, answer.location) == (303, "/checkout")
        assert count(Purchase) == 0


class TestAButtonElsewhere:
    """Pages without the sentences have a button as well: it leads to them, or on to what was agreed to already."""

    def test_it_leads_to_the_words_that_are_agreed_to(self, buyer, monthly):
        assert buyer.post("/checkout").location == "/checkout"
        assert buyer.post("/checkout", data={"plan": "monthly"}).location == "/checkout?plan=monthly"
        assert count(Purchase) == 0

    def test_it_leads_on_to_the_page_that_stands_open(self, buyer):
        sent(buyer, page(buyer).main.form, may_remind="yes")

        answer = buyer.post("/checkout")

        assert answer.location == database.session.scalars(sa.select(Purchase)).one().checkout_url
        assert database.session.scalars(sa.select(Consent)).one().may_remind

    @pytest.mark.parametrize("changes", [{"price_cents": 12900}, {"name": "Every strategy"}])
    def test_not_so_when_what_was_agreed_to_is_not_offered_any_more(self, buyer, plan, changes):
        sent(buyer, page(buyer).main.form)
        for name, value in changes.items():
            setattr(plan, name, value)

        assert buyer.post("/checkout").location == "/checkout"

    def test_nor_when_its_time_is_over(self, buyer, alice, clock):
        sent(buyer, page(buyer).main.form)
        clock.shift(services.CHECKOUT_LASTS)
        enter(buyer, alice)

        assert buyer.post("/checkout").location == "/checkout"
