"""What a customer can do with what they bought: papers, a second payment back, withdrawal, Stripe's own page."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
import structlog
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from sts_app.billing import customers, withdrawals
from sts_app.billing.gateway import Refused
from sts_app.billing.models import Purchase, Refund, Withdrawal
from sts_app.billing.simulated import Fault, misbehave
from sts_app.core.db import db as database
from tests.builders import count, enter, in_a_transaction, kinds, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
PAPERS = ("receipt", "invoice")


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    return pay(till, open_page(alice, plan))


@pytest.fixture
def buyer(client, alice, bought) -> FlaskClient:
    enter(client, alice)
    return client


@pytest.fixture
def remembered(client, alice) -> FlaskClient:
    """Alice's browser after it was closed and opened again."""
    enter(client, alice)
    with client.session_transaction() as session:
        session["_fresh"] = False
    return client


@pytest.fixture
def twice(alice, plan, till) -> tuple[Purchase, Purchase]:
    """Alice paid on a page that she recovered, and on the one that she had opened in its place."""
    first = open_page(alice, plan)
    till.expire(first.session_id)
    work("billing")
    second = open_page(alice, plan)
    database.session.commit()
    till.pay(till.recover(first.session_id))
    work()
    return first, pay(till, second)


def pay(till, purchase: Purchase) -> Purchase:
    database.session.commit()
    till.pay(purchase.session_id)
    work()
    return purchase


def text_of(answer) -> str:
    return " ".join(BeautifulSoup(answer.text, "html.parser").main.text.split())


class TestPapers:
    @pytest.mark.parametrize("paper", PAPERS)
    def test_leads_to_the_providers_address_of_today(self, buyer, bought, till, paper):
        facts = till.look_up(bought.session_id)

        answer = buyer.get(f"/purchases/{bought.ref}/{paper}")

        assert answer.status_code == 303
        assert answer.location == {"receipt": facts.receipt_url, "invoice": facts.invoice_url}[paper]

    @pytest.mark.parametrize("paper", PAPERS)
    def test_somebody_elses_is_not_there(self, app, bob, bought, paper):
        visitor = app.test_client()
        enter(visitor, bob)

        assert visitor.get(f"/purchases/{bought.ref}/{paper}").status_code == 404

    @pytest.mark.parametrize("paper", PAPERS)
    def test_a_stranger_signs_in_first_and_comes_back(self, app, bought, paper):
        answer = app.test_client().get(f"/purchases/{bought.ref}/{paper}")

        assert answer.location == f"/sign-in?next=/purchases/{bought.ref}/{paper}"

    def test_what_was_not_paid_has_none_and_a_page_says_so(self, client, alice, plan, till):
        purchase = open_page(alice, plan)
        enter(client, alice)

        answer = client.get(f"/purchases/{purchase.ref}/receipt")

        assert answer.status_code == 200
        assert "There is no receipt of this purchase Nothing was paid for it" in text_of(answer)

    def test_what_cost_nothing_has_no_receipt_and_a_page_says_so(self, client, alice, plan, till):
        purchase = open_page(alice, plan)
        till.apply_promotion(purchase.session_id, "FREE100")
        pay(till, purchase)
        enter(client, alice)

        assert "It cost nothing, so Stripe made none." in text_of(client.get(f"/purchases/{purchase.ref}/receipt"))

    def test_while_stripe_is_silent_the_page_offers_another_try(self, buyer, bought, till):
        misbehave(till.store, Fault.API_DOWN)

        answer = buyer.get(f"/purchases/{bought.ref}/receipt")

        assert answer.status_code == 503
        again = BeautifulSoup(answer.text, "html.parser").main.find("a", string="Try again")
        assert again["href"] == f"/purchases/{bought.ref}/receipt"
        assert "does not answer at this moment" in answer.text

    def test_what_stripe_does_not_know_is_logged_by_the_number_of_the_purchase(self, buyer, bought, till, monkeypatch):
        def refuse(session_id: str) -> None:
            raise Refused("look_up: resource_missing")

        monkeypatch.setattr(till, "look_up", refuse)

        with structlog.testing.capture_logs() as lines:
            buyer.get(f"/purchases/{bought.ref}/receipt")

        [line] = [line for line in lines if line["event"] == "billing.no_papers"]
        assert (line["purchase_id"], "session_id" in line) == (bought.id, False)


class TestHavingASecondPaymentBack:
    @pytest.mark.parametrize(("status", "offered"), [("needs_response", False), ("lost", False), ("won", True)])
    def test_is_on_offer_as_long_as_the_first_gives_access(self, client, alice, twice, till, status, offered):
        first, second = twice
        dispute = till.open_dispute(first.session_id)
        if status != "needs_response":
            till.move_dispute(dispute, status)
        work()
        enter(client, alice)

        assert ("have-back" in client.get("/dashboard").text) == offered
        assert client.post(f"/purchases/{second.ref}/have-back").status_code == (303 if offered else 404)
        work()
        assert second.status == ("REFUNDED" if offered else "COMPLETED")

    def test_goes_back_and_the_first_stands(self, client, alice, twice, till):
        first, second = twice
        enter(client, alice)

        answer = client.post(f"/purchases/{second.ref}/have-back")
        work()

        assert answer.location == "/dashboard"
        assert "goes back to where it came from" in client.get("/dashboard").text
        assert (first.status, second.status, till.books().refunded) == ("COMPLETED", "REFUNDED", 9900)

    def test_a_second_press_changes_nothing(self, client, alice, twice):
        _, second = twice
        enter(client, alice)
        client.post(f"/purchases/{second.ref}/have-back")

        answer = client.post(f"/purchases/{second.ref}/have-back", follow_redirects=True)

        assert "All of this purchase was given back, or is on its way." in answer.text
        assert count(Refund) == 1

    def test_it_is_asked_for_on_a_page_that_says_what_goes_back(self, client, alice, twice):
        enter(client, alice)
        page = BeautifulSoup(client.get(f"/purchases/{twice[1].ref}/have-back").text, "html.parser").main

        assert page.form["action"] == f"/purchases/{twice[1].ref}/have-back"
        assert "$99.00" in page.form.button.text

    def test_the_first_is_not_asked_for(self, client, alice, twice):
        enter(client, alice)

        assert client.get(f"/purchases/{twice[0].ref}/have-back").location == "/dashboard"

    def test_the_only_payment_is_not_on_offer(self, buyer, bought):
        assert buyer.post(f"/purchases/{bought.ref}/have-back").status_code == 404
        assert count(Refund) == 0

    def test_a_remembered_browser_signs_in_again_first(self, remembered, twice):
        _, second = twice

        assert remembered.post(f"/purchases/{second.ref}/have-back").location.startswith("/sign-in")
        assert count(Refund) == 0


class TestWithdrawing:
    def test_the_form_shows_who_what_and_where_the_confirmation_goes(self, buyer, alice, bought):
        page = BeautifulSoup(buyer.get(f"/purchases/{bought.ref}/withdraw").text, "html.parser")

        assert page.h1.text == "Withdraw from this purchase"
        for said in (bought.ref, "$99.00", "Lifetime", alice.email):
            assert said in page.main.text
        assert page.find("input", {"name": "name"})["value"] == "Alice"
        assert page.main.find("button").text == "Confirm withdrawal"

    def test_confirming_takes_it_in_and_says_that_and_when_it_arrived(self, buyer, alice, bought):
        answer = buyer.post(f"/purchases/{bought.ref}/withdraw", data={"name": "Alice Example"})

        assert answer.status_code == 303
        page = text_of(buyer.get(answer.location))
        assert "We have received your withdrawal It arrived on 21 Nov 2026, 12:00 UTC." in page
        assert f"A letter that confirms it is on its way to {alice.email}" in page
        assert "Alice Example" in page
        assert kinds().count("withdrawal_received") == 1

    def test_a_second_press_finds_the_first(self, buyer, bought):
        for name in ("Alice Example", "Somebody", ""):
            buyer.post(f"/purchases/{bought.ref}/withdraw", data={"name": name})

        assert database.session.scalars(sa.select(Withdrawal.name)).all() == ["Alice Example"]

    @pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\x00b"])
    def test_a_name_that_is_none_is_asked_for_again(self, buyer, bought, name):
        answer = buyer.post(f"/purchases/{bought.ref}/withdraw", data={"name": name})

        assert answer.status_code == 422
        assert count(Withdrawal) == 0

    def test_after_the_fourteen_days_it_says_so_and_takes_it_in(self, app, alice, bought, clock):
        clock.shift(timedelta(days=20))
        visitor = app.test_client()
        enter(visitor, alice)
        address = f"/purchases/{bought.ref}/withdraw"

        assert "The 14 days that the law gives are over" in visitor.get(address).text
        assert visitor.post(address, data={"name": "Alice"}).status_code == 303
        assert count(Withdrawal) == 1

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_somebody_elses_purchase_is_not_there(self, app, bob, bought, method):
        visitor = app.test_client()
        enter(visitor, bob)

        answer = getattr(visitor, method)(f"/purchases/{bought.ref}/withdraw", **_name(method))

        assert answer.status_code == 404
        assert count(Withdrawal) == 0

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_what_was_not_paid_has_nothing_to_withdraw_from(self, client, alice, plan, till, method):
        purchase = open_page(alice, plan)
        enter(client, alice)

        answer = getattr(client, method)(f"/purchases/{purchase.ref}/withdraw", **_name(method))

        assert answer.status_code == 409
        assert "There is nothing to withdraw from" in answer.text

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_a_remembered_browser_signs_in_again_first(self, remembered, bought, method):
        answer = getattr(remembered, method)(f"/purchases/{bought.ref}/withdraw", **_name(method))

        assert answer.location.startswith("/sign-in")
        assert count(Withdrawal) == 0

    def test_what_was_declared_is_read_without_a_second_sign_in(self, remembered, alice, bought):
        in_a_transaction(lambda: withdrawals.declare(alice, bought.id, name="Alice", address="203.0.113.7"))

        assert "We have received your withdrawal" in remembered.get(f"/purchases/{bought.ref}/withdraw").text

    @pytest.mark.parametrize(
        ("decide", "said"),
        [
            (lambda each: withdrawals.accept(each, "user:1"), "Your withdrawal is accepted"),
            (
                lambda each: withdrawals.refuse(each, because="It came too late.", actor="user:1"),
                "Your withdrawal was not accepted It came too late.",
            ),
        ],
    )
    def test_the_page_says_what_was_decided(self, buyer, bought, decide, said):
        buyer.post(f"/purchases/{bought.ref}/withdraw", data={"name": "Alice"})
        made = database.session.scalars(sa.select(Withdrawal.id)).one()
        in_a_transaction(lambda: decide(made))

        assert said in text_of(buyer.get(f"/purchases/{bought.ref}/withdraw"))

    def test_a_refused_one_has_a_next_step(self, buyer, bought):
        buyer.post(f"/purchases/{bought.ref}/withdraw", data={"name": "Alice"})
        made = database.session.scalars(sa.select(Withdrawal.id)).one()
        in_a_transaction(lambda: withdrawals.refuse(made, because="It came too late.", actor="user:1"))

        page = BeautifulSoup(buyer.get(f"/purchases/{bought.ref}/withdraw").text, "html.parser").main
        assert page.find("a", href=f"/dashboard/support/new?purchase={bought.ref}")

    def test_what_went_back_already_is_not_withdrawn_again(self, buyer, bought, till):
        till.give_back(bought.session_id, 2000)
        work()

        assert "Left of it, and goes back $79.00" in text_of(buyer.get(f"/purchases/{bought.ref}/withdraw"))


def _name(method: str) -> dict[str, object]:
    return {"data": {"name": "Somebody"}} if method == "post" else {}


class TestThePortal:
    def test_loaded_again_it_is_the_dashboard(self, buyer):
        assert buyer.get("/billing/portal").location == "/dashboard"

    def test_leads_to_stripes_page_of_this_customer(self, buyer, alice, till):
        answer = buyer.post("/billing/portal")

        assert answer.status_code == 303
        portal = till.portal(answer.location.rpartition("/")[2])
        assert portal.customer["id"] == customers.of(alice)
        assert portal.return_url.endswith("/dashboard")

    def test_a_customer_that_stripe_does_not_know_any_more_is_forgotten(self, buyer, alice, till):
        till.remove_customer(customers.of(alice))

        answer = buyer.post("/billing/portal", follow_redirects=True)

        assert "Stripe has nothing to show about you yet." in answer.text
        assert customers.of(alice) is None

    def test_who_never_bought_is_told_that_there_is_nothing(self, client, bob):
        enter(client, bob)

        answer = client.post("/billing/portal", follow_redirects=True)

        assert "Stripe has nothing to show about you yet." in answer.text

    def test_while_stripe_is_silent_the_page_offers_another_try(self, buyer, till):
        misbehave(till.store, Fault.API_DOWN)

        answer = buyer.post("/billing/portal")

        assert answer.status_code == 503
        assert BeautifulSoup(answer.text, "html.parser").find("form", action="/billing/portal")

    def test_a_page_that_stripe_refuses_is_not_to_be_tried_again_but_asked_for_by_letter(
        self, buyer, till, monkeypatch
    ):
        def refuse(customer_id: str, *, return_url: str) -> str:
            raise Refused("open_portal: invalid_request_error")

        monkeypatch.setattr(till, "open_portal", refuse)

        answer = buyer.post("/billing/portal")

        page = BeautifulSoup(answer.text, "html.parser").main
        assert answer.status_code == 502
        assert "Your page at Stripe does not open" in page.h1.text
        assert "write to the address our letters come from" in page.text
        assert not page.find("form")
        assert page.find("a", string="Your dashboard")

    def test_a_remembered_browser_signs_in_again_first(self, remembered):
        assert remembered.post("/billing/portal").location.startswith("/sign-in")
