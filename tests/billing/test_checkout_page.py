"""The last look before paying: what stands beside the button is what is kept."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from sts_app.billing.models import Consent, Purchase
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.provisioning.models import TradingViewName
from sts_app.provisioning.simulated import Fault, misbehave
from tests.builders import enter

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


def sent(visitor, form, **more: str) -> Consent:
    """What was kept when the form is sent as it stands, with `more`."""
    values = {
        field["name"]: field["value"]
        for field in form.find_all("input")
        if field["type"] != "checkbox" and field["name"] != "csrf_token"
    }
    assert visitor.post(form["action"], data=values | more).status_code == 303
    return database.session.scalars(sa.select(Consent)).one()


@pytest.mark.parametrize("address", ["/checkout", "/checkout?plan=monthly"])
def test_the_sentences_beside_the_button_are_those_that_are_kept(buyer, monthly, address):
    form = page(buyer, address).main.form

    shown = [line.text for line in form.select(".agreed li")]
    kept = sent(buyer, form)
    assert shown == kept.words
    assert len(shown) == 4


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

    answer = buyer.post("/checkout", data={"plan": "monthly"})

    assert answer.status_code == 503
    assert BeautifulSoup(answer.text, "html.parser").main.form["action"] == "/checkout?plan=monthly"
