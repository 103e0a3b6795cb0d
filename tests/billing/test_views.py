"""The checkout's one button, on good days and on the neighbours' bad days."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from sts_app.billing import services
from sts_app.billing.gateway import Refused, TryLater
from sts_app.billing.models import Purchase
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.catalog.models import Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import control
from sts_app.provisioning import simulated as simulated_tradingview
from sts_app.provisioning.gateway import Trouble
from sts_app.provisioning.gateway import TryLater as TVTryLater
from sts_app.provisioning.models import TradingViewName
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import calls
from tests.builders import by_hand, count, customer_of, enter, mallory, open_page, opened, press, through, work

pytestmark = pytest.mark.usefixtures("clock")
TV = simulated_tradingview.Fault


@pytest.fixture
def buyer(client, alice, plan, till) -> FlaskClient:
    """A browser in which Alice is signed in."""
    enter(client, alice)
    return client


def purchases() -> list[Purchase]:
    statement = sa.select(Purchase).order_by(Purchase.id).execution_options(populate_existing=True)
    return list(database.session.scalars(statement))


def unverify(user) -> None:
    database.session.execute(
        sa.update(TradingViewName).where(TradingViewName.user_id == user.id).values(verified_at=None)
    )
    database.session.commit()


class Troubled:
    """A TradingView that has one answer."""

    def __init__(self, trouble: Exception) -> None:
        self.trouble = trouble

    def find_name(self, name: str) -> str | None:
        raise self.trouble


class TestOnTheWay:
    @pytest.mark.parametrize("method", ["get", "post"])
    def test_a_stranger_signs_in_first_and_comes_back(self, client, plan, till, method):
        answer = getattr(client, method)("/checkout")

        assert answer.status_code == 303
        assert answer.location == "/sign-in?next=/checkout"
        assert count(Purchase) == 0

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_who_has_no_tradingview_name_is_asked_for_it_first(self, client, plan, till, method):
        enter(client, mallory())

        answer = getattr(client, method)("/checkout")

        assert answer.location == "/onboarding?next=/checkout"
        assert count(Purchase) == 0

    def test_who_agreed_to_older_texts_reads_the_new_ones_first(self, buyer, alice):
        alice.texts_version = "2020-01-01"
        database.session.commit()

        assert press(buyer).location == "/onboarding?next=/checkout"

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_an_owner_is_told_so_and_not_charged(self, buyer, alice, plan, till, method):
        till.pay(open_page(alice, plan).session_id)
        work("billing")

        answer = getattr(buyer, method)("/checkout")

        assert answer.location == "/dashboard"
        assert "You have this already" in buyer.get("/dashboard").text
        assert count(Purchase) == 1

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_a_closed_shop_sells_nothing(self, buyer, method):
        database.session.execute(sa.update(Plan).values(active=False))

        answer = getattr(buyer, method)("/checkout")

        assert answer.status_code == 503
        assert "not on sale at the moment" in answer.text
        assert count(Purchase) == 0

    def test_the_page_shows_what_is_bought_for_whom_and_the_price(self, buyer):
        page = buyer.get("/checkout")

        assert page.status_code == 200
        for words in ("$99.00", "Anna", "alice@customers.example"):
            assert words in page.text
        assert count(Purchase) == 0


class TestPressing:
    def test_the_button_leads_to_the_payment_page(self, buyer, till):
        answer = press(buyer)

        [purchase] = purchases()
        assert answer.status_code == 303
        assert answer.location == purchase.checkout_url
        assert till.look_up(purchase.session_id).purchase_ref == purchase.ref

    def test_a_second_click_finds_the_same_page(self, buyer, till):
        first, second = press(buyer), press(buyer)

        assert second.location == first.location
        assert len(purchases()) == len(till.checkouts()) == 1

    def test_a_script_is_sent_there_by_a_header(self, buyer):
        answer = press(buyer, headers={"HX-Request": "true"})

        assert answer.status_code == 204
        assert answer.headers["HX-Redirect"] == purchases()[0].checkout_url

    def test_without_the_forms_token_nothing_happens(self, buyer):
        answer = press(buyer, csrf=False)

        assert answer.status_code == 400
        assert purchases() == []

    def test_the_purchase_is_looked_after_from_now_on(self, buyer):
        press(buyer)

        assert purchases()[0].next_look_up_at == time_source.now() + timedelta(minutes=1)


class TestTheName:
    def test_it_is_asked_for_before_the_money_moves_and_once_a_day(self, buyer, alice, vendor, clock):
        assert press(buyer).status_code == 303
        clock.shift(timedelta(hours=23, minutes=59))
        press(buyer)
        assert calls(vendor) == {"find_name": 1}

        clock.shift(timedelta(minutes=1))
        enter(buyer, alice)
        press(buyer)

        assert calls(vendor) == {"find_name": 2}

    def test_one_that_tradingview_does_not_know_is_a_400_with_a_way_to_correct_it(self, buyer, alice, vendor):
        simulated_tradingview.misbehave(vendor, TV.UNKNOWN)

        answer = press(buyer)

        assert answer.status_code == 400
        page = BeautifulSoup(answer.text, "html.parser").main
        assert "TradingView does not know the name Anna, so nothing was charged." in page.text
        assert page.find("a", string="Correct the name")["href"] == "/onboarding?next=/checkout"
        assert purchases() == []

    def test_corrected_the_purchase_goes_on(self, buyer, alice, vendor):
        simulated_tradingview.misbehave(vendor, TV.UNKNOWN)
        press(buyer)
        simulated_tradingview.behave(vendor)

        form = {"name": "Alice", "tradingview_name": "Anna2", "terms": "y", "disclaimer": "y", "next": "/checkout"}
        assert buyer.post("/onboarding", data=form).location == "/checkout"

        assert press(buyer).location == purchases()[0].checkout_url

    def test_a_name_that_could_not_be_checked_before_is_checked_now(self, buyer, alice):
        unverify(alice)

        assert press(buyer).status_code == 303
        assert database.session.scalars(sa.select(TradingViewName)).one().verified_at == time_source.now()

    @pytest.mark.parametrize("is_verified", [True, False])
    def test_a_limit_of_tradingviews_or_of_ours_is_a_429_that_says_when(
        self, buyer, alice, vendor, monkeypatch, is_verified
    ):
        if not is_verified:
            unverify(alice)
        limited = TVTryLater("find_name: 429", trouble=Trouble.RATE_LIMIT, after=timedelta(seconds=41.2))
        through(monkeypatch, Troubled(limited))

        answer = press(buyer)

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "42")
        assert "Nothing was charged" in answer.text
        assert purchases() == []

    @pytest.mark.parametrize("trouble", [Trouble.TIMEOUT, Trouble.FAILURE])
    def test_while_tradingview_is_slow_or_away_an_unverified_name_must_wait(self, buyer, alice, monkeypatch, trouble):
        unverify(alice)
        through(monkeypatch, Troubled(TVTryLater("find_name", trouble=trouble)))

        answer = press(buyer)

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        assert "could not be checked. Nothing was charged" in " ".join(answer.text.split())
        again = BeautifulSoup(answer.text, "html.parser").main.find("form")
        assert (again["action"], again["method"], again.button.text.strip()) == ("/checkout", "post", "Try again")
        assert purchases() == []

    @pytest.mark.parametrize("trouble", [Trouble.TIMEOUT, Trouble.FAILURE])
    def test_while_it_is_a_name_verified_before_goes_on(self, buyer, vendor, monkeypatch, trouble):
        long_ago = time_source.now() - timedelta(days=40)
        database.session.execute(sa.update(TradingViewName).values(verified_at=long_ago))
        through(monkeypatch, Troubled(TVTryLater("find_name", trouble=trouble)))

        assert press(buyer).status_code == 303

    def test_a_dead_session_keeps_an_unverified_name_waiting(self, buyer, alice, vendor):
        unverify(alice)
        simulated_tradingview.misbehave(vendor, TV.DEAD_SESSION)

        assert press(buyer).status_code == 503

    def test_manual_mode_takes_a_name_nobody_can_check_as_unverified(self, buyer, alice, monkeypatch):
        unverify(alice)
        by_hand(monkeypatch)

        assert press(buyer).status_code == 303
        assert database.session.scalars(sa.select(TradingViewName)).one().verified_at is None


class TestSalesPaused:
    @pytest.fixture(params=["staff closed the store", "an incident, and staff chose to stop then"])
    def closed(self, app, db, request, monkeypatch):
        if request.param == "staff closed the store":
            control.set_switch(Switch.DISABLED, actor="user:1", because="test")
        else:
            stopping = app.config["STS"].model_copy(update={"block_checkout_when_degraded": True})
            monkeypatch.setitem(app.config, "STS", stopping)
            control.refuse_session("401", credential_id=None)
        database.session.commit()

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_nobody_begins_to_pay(self, buyer, vendor, closed, method):
        answer = getattr(buyer, method)("/checkout")

        assert answer.status_code == 503
        assert "Sales are paused at the moment" in answer.text
        assert purchases() == []
        assert calls(vendor) == {}

    def test_a_stranger_hears_of_it_before_signing_in(self, client, plan, closed):
        assert client.post("/checkout").status_code == 503

    def test_an_owner_is_told_that_nothing_is_left_to_pay(self, buyer, alice, plan, till):
        till.pay(open_page(alice, plan).session_id)
        work("billing")
        control.set_switch(Switch.DISABLED, actor="user:1", because="test")
        database.session.commit()

        assert press(buyer).location == "/dashboard"

    def test_an_incident_alone_stops_nobody(self, buyer, vendor):
        control.refuse_session("401", credential_id=None)
        database.session.commit()

        assert press(buyer).status_code == 303


class TestStripeIsAway:
    def test_nobody_is_charged_who_could_not_be_made_known(self, buyer, till):
        misbehave(till.store, Fault.API_DOWN)

        answer = press(buyer)

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        assert "Nothing was charged" in answer.text
        assert purchases() == []

    def test_the_buyer_is_asked_to_try_again_and_nothing_is_lost(self, buyer, alice, till):
        customer_of(alice)
        misbehave(till.store, Fault.API_DOWN)

        answer = press(buyer)

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        assert "Nothing was charged" in answer.text
        assert "Try again" in answer.text
        [purchase] = purchases()
        assert (purchase.status, purchase.session_id, purchase.checkout_url) == ("PENDING", None, None)

    def test_the_next_click_opens_the_page_of_the_same_purchase(self, buyer, till):
        misbehave(till.store, Fault.API_DOWN)
        press(buyer)
        behave(till.store)

        answer = press(buyer)

        [purchase] = purchases()
        assert answer.location == purchase.checkout_url
        assert till.look_up(purchase.session_id).purchase_ref == purchase.ref

    def test_a_page_whose_answer_was_lost_is_found_again_by_its_key(self, buyer, till, monkeypatch):
        """Stripe opened it; our answer got lost with the process. The same key gives the same page."""
        honest = till.open_checkout

        def crash(request, *, key):
            honest(request, key=key)
            raise RuntimeError("the process died here")

        monkeypatch.setattr(till, "open_checkout", crash)
        with pytest.raises(RuntimeError):
            press(buyer)
        monkeypatch.setattr(till, "open_checkout", honest)

        press(buyer)

        assert len(till.checkouts()) == 1

    def test_a_page_refused_is_asked_for_with_a_new_key_next_time(self, buyer, till, monkeypatch):
        asked = []

        def refuse(request, *, key):
            asked.append(key)
            raise Refused("parameter_invalid")

        monkeypatch.setattr(till, "open_checkout", refuse)

        answers = [press(buyer) for _ in range(2)]

        assert {answer.status_code for answer in answers} == {503}
        [purchase] = purchases()
        assert asked == [f"checkout-{purchase.ref}-1", f"checkout-{purchase.ref}-2"]

    @pytest.mark.parametrize(("answered", "keys"), [(True, ["1", "2"]), (False, ["1", "1"])])
    def test_an_answered_error_is_kept_under_its_key_so_the_next_click_takes_another(
        self, buyer, till, monkeypatch, answered, keys
    ):
        asked = []

        def fail(request, *, key):
            asked.append(key.rpartition("-")[2])
            raise TryLater("status 500", answered=answered)

        monkeypatch.setattr(till, "open_checkout", fail)

        for _ in range(2):
            assert press(buyer).status_code == 503

        assert asked == keys

    def test_a_wrong_price_is_asked_for_no_longer_than_it_stands(self, buyer, plan, till, monkeypatch):
        asked = []
        honest = till.open_checkout

        def check(request, *, key):
            asked.append(request.price_id)
            if request.price_id == "price_wrong":
                raise Refused("resource_missing")
            return honest(request, key=key)

        monkeypatch.setattr(till, "open_checkout", check)
        plan.stripe_price_id = "price_wrong"
        press(buyer)
        plan.stripe_price_id = "price_right"

        answer = press(buyer)

        assert answer.status_code == 303
        assert asked == ["price_wrong", "price_right"]


class TestFromTheReleaseBefore:
    """A deploy finds pages that code older than this has opened, and a rollback those of newer code."""

    def test_a_purchase_that_it_opened_without_a_customer_gets_a_page_anew(self, buyer, till):
        press(buyer)
        [old] = purchases()
        stored = dict(old.checkout_request)
        del stored["customer_id"], stored["mode"]
        old.checkout_request = stored

        answer = press(buyer)

        old, new = purchases()
        assert (old.status, new.status, answer.location) == ("EXPIRED", "PENDING", new.checkout_url)
        assert till.look_up(old.session_id).session == "expired"

    def test_what_a_newer_release_stored_is_passed_over(self, buyer):
        press(buyer)
        [purchase] = purchases()
        purchase.checkout_request = purchase.checkout_request | {"tax_id": "unheard of"}

        assert press(buyer).location == purchase.checkout_url


class TestNewPrice:
    def test_the_old_page_is_closed_and_the_price_shown_is_the_price_charged(self, buyer, plan, till):
        press(buyer)
        plan.price_cents = 4900

        answer = press(buyer)

        first, second = purchases()
        assert till.look_up(first.session_id).session == "expired"
        assert (first.status, second.status, second.amount_cents) == ("EXPIRED", "PENDING", 4900)
        assert answer.location == second.checkout_url
        assert till.look_up(second.session_id).amount_total == 4900

    def test_a_page_that_was_paid_meanwhile_is_the_one_that_counts(self, buyer, plan, till):
        press(buyer)
        misbehave(till.store, Fault.DROP)
        till.pay(purchases()[0].session_id)
        plan.price_cents = 4900

        answer = press(buyer)

        assert answer.status_code == 409
        assert [purchase.status for purchase in purchases()] == ["COMPLETED"]

    def test_a_page_that_stripe_knows_no_more_is_let_go(self, buyer, plan, till, monkeypatch):
        def unknown(session_id):
            raise Refused("resource_missing")

        press(buyer)
        plan.price_cents = 4900
        monkeypatch.setattr(till, "look_up", unknown)

        answer = press(buyer)

        assert answer.status_code == 303
        assert [purchase.status for purchase in purchases()] == ["EXPIRED", "PENDING"]


class TestPlaceholders:
    def test_scripts_that_tradingview_does_not_know_are_not_sold_where_it_is_real(self, app, buyer, monkeypatch):
        real = app.config["STS"].model_copy(update={"provisioning_mode": "unofficial-api"})
        monkeypatch.setitem(app.config, "STS", real)

        answer = press(buyer)

        assert answer.status_code == 503
        assert "not selling at this moment" in answer.text
        assert purchases() == []


class TestOldPage:
    """A day later the payment page is closed. Before another opens, how it ended is looked up."""

    @pytest.fixture
    def old(self, buyer, alice, till, clock) -> Purchase:
        misbehave(till.store, Fault.DROP)
        press(buyer)
        clock.shift(services.CHECKOUT_LASTS)
        enter(buyer, alice)
        return purchases()[0]

    def test_one_that_nobody_paid_is_closed_and_a_new_one_opened(self, buyer, old):
        answer = press(buyer)

        first, second = purchases()
        assert (first.status, second.status) == ("EXPIRED", "PENDING")
        assert answer.location == second.checkout_url != first.checkout_url

    def test_one_that_was_paid_charges_nobody_twice(self, buyer, till, clock, old):
        clock.shift(timedelta(minutes=-1))
        till.pay(old.session_id)
        clock.shift(timedelta(minutes=1))

        answer = press(buyer)

        assert answer.status_code == 409
        assert "nothing was charged" in answer.text
        assert [purchase.status for purchase in purchases()] == ["COMPLETED"]

    def test_while_stripe_is_away_nothing_is_opened(self, buyer, till, old):
        misbehave(till.store, Fault.API_DOWN)

        assert press(buyer).status_code == 503
        assert [purchase.status for purchase in purchases()] == ["PENDING"]

    def test_one_that_was_never_opened_is_asked_for_with_a_new_date(self, buyer, alice, till, clock):
        misbehave(till.store, Fault.API_DOWN)
        press(buyer)
        behave(till.store)
        clock.shift(services.CHECKOUT_LASTS)
        enter(buyer, alice)

        answer = press(buyer)

        [purchase] = purchases()
        assert answer.location == purchase.checkout_url
        assert purchase.checkout_expires_at == time_source.now() + services.CHECKOUT_LASTS


class TestComingBack:
    def test_the_dashboard_finds_a_payment_that_nobody_told_us_of(self, buyer, till):
        misbehave(till.store, Fault.DROP)
        press(buyer)
        [purchase] = purchases()
        till.pay(purchase.session_id)

        page = buyer.get("/dashboard", query_string={"success": "true", "session_id": purchase.session_id})
        work("billing")

        assert page.status_code == 200
        assert purchases()[0].status == "COMPLETED"

    def test_somebody_elses_session_id_says_and_does_nothing(self, buyer, bob, plan, till):
        misbehave(till.store, Fault.DROP)
        bobs = open_page(bob, plan)
        due = bobs.next_look_up_at

        page = buyer.get("/dashboard", query_string={"success": "true", "session_id": bobs.session_id})

        assert page.status_code == 200
        assert purchases()[0].next_look_up_at == due

    def test_coming_back_fulfils_nothing_by_itself(self, buyer, till):
        press(buyer)
        [purchase] = purchases()

        buyer.get("/dashboard", query_string={"success": "true", "session_id": purchase.session_id})
        work("billing")

        assert purchases()[0].status == "PENDING"


def test_a_request_is_replayed_as_it_was_stored(alice, plan, till):
    """A key with other parameters is an error at Stripe, so a changed price must not change the call."""
    purchase = opened(alice, plan)
    before, key = services.checkout_request(purchase)
    plan.price_cents = 19_900
    database.session.flush()

    again, same_key = services.checkout_request(opened(alice, plan))

    assert (again, same_key) == (before, key)
    assert replace(again, amount_cents=19_900) != before
