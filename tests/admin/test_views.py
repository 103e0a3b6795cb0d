"""What staff see of people, money and access; and that nobody else does."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from sts_app.admin import views
from sts_app.billing import settling
from sts_app.catalog.models import Plan
from sts_app.core.db import db as database
from sts_app.provisioning.simulated import Fault, misbehave
from tests.builders import (
    alice,
    bob,
    cashier,
    enter,
    entitled,
    grants,
    lifetime,
    named,
    open_page,
    sam,
    stopped_clock,
    vendor,
    work,
)

HTMX = {"HX-Request": "true"}
PAGES = ("/admin/", "/admin/access", "/admin/access/1")


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def staff(client) -> FlaskClient:
    enter(client, sam())
    return client


@pytest.fixture
def shop(db):
    """Alice has her six; Bob's were refused once."""
    store, plan = vendor(), lifetime()
    entitled(named(alice(), "Anna"), plan, "gift:1")
    work("provisioning")
    entitled(named(bob(), "Bob_by"), plan, "gift:2")
    misbehave(store, Fault.REFUSE)
    work("provisioning")
    db.session.commit()


def rows(answer) -> list[str]:
    return [row.get_text(" ", strip=True) for row in BeautifulSoup(answer.text, "html.parser").select("tbody tr")]


class TestGuard:
    @pytest.mark.parametrize("path", PAGES)
    def test_a_stranger_signs_in_and_comes_back(self, client, path):
        answer = client.get(path)

        assert (answer.status_code, answer.location) == (303, f"/sign-in?next={path}")

    @pytest.mark.parametrize("path", PAGES)
    def test_a_strangers_script_gets_a_short_no(self, client, path):
        answer = client.get(path, headers=HTMX)

        assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/sign-in")

    @pytest.mark.parametrize("path", PAGES)
    def test_a_customer_is_told_that_it_is_not_for_them(self, client, shop, path):
        enter(client, database.session.get_one(*_user("alice@customers.example")))

        answer = client.get(path)

        assert answer.status_code == 403
        assert "This part of the store is for its staff." in answer.text
        assert "Bob_by" not in answer.text

    def test_whoever_was_staff_is_out_at_the_next_click(self, client, db):
        user = sam()
        enter(client, user)
        assert client.get("/admin/").status_code == 200

        user.role = "USER"
        db.session.commit()

        assert client.get("/admin/").status_code == 403


def _user(email: str):
    from sts_app.accounts.models import User
    from sts_app.accounts.services import user_by_email

    found = user_by_email(email)
    assert found is not None
    return User, found.id


class TestOverview:
    def test_an_empty_store_is_a_page_that_says_so(self, staff):
        answer = staff.get("/admin/")

        assert answer.status_code == 200
        assert "$0.00" in answer.text

    def test_it_counts_people_money_access_and_what_waits(self, staff, shop, db):
        user = database.session.get_one(*_user("alice@customers.example"))
        purchase, till = open_page(user, lifetime()), cashier()
        till.pay(purchase.session_id)
        till.give_back(purchase.session_id, 900)
        settling.apply_facts(purchase.id, till.look_up(purchase.session_id))
        db.session.commit()

        text = BeautifulSoup(staff.get("/admin/").text, "html.parser").get_text(" ", strip=True)

        assert "$90.00" in text
        assert "alice@customers.example" in text
        assert "Manual tasks 0" in text

    def test_revenue_is_told_for_each_currency(self, staff, shop, db):
        euro = Plan(slug="euro", name="Euro", price_cents=123450, currency="eur", covers_all=True)
        db.session.add(euro)
        db.session.flush()
        till = cashier()
        for email, plan in (("alice@customers.example", lifetime()), ("bob@customers.example", euro)):
            purchase = open_page(database.session.get_one(*_user(email)), plan)
            till.pay(purchase.session_id)
            settling.apply_facts(purchase.id, till.look_up(purchase.session_id))
        db.session.commit()

        text = BeautifulSoup(staff.get("/admin/").text, "html.parser").get_text(" ", strip=True)

        assert "Revenue after refunds, EUR €1,234.50" in text
        assert "Revenue after refunds, USD $99.00" in text


class TestAccessList:
    def test_every_pair_newest_first_with_its_holder_and_its_tries(self, staff, shop):
        found = rows(staff.get("/admin/access"))

        assert len(found) == 12
        assert "bob@customers.example" in found[0]
        assert "Failure" in found[0]
        assert "alice@customers.example" in found[-1]

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("alice@customers.example", 6),
            ("ALICE@", 6),
            ("anna", 6),
            ("ANNA", 6),
            ("bob_", 6),
            ("Power Hour", 2),
            ("power", 2),
            ("nobody", 0),
            ("%", 0),
            ("_", 0),
            ("\\", 0),
            ("", 12),
            ("   ", 12),
            ("'; DROP TABLE grants; --", 0),
        ],
    )
    def test_search_finds_by_address_name_or_strategy(self, staff, shop, query, count):
        assert len(rows(staff.get("/admin/access", query_string={"q": query}))) == count

    @pytest.mark.parametrize(
        ("state", "count"), [("verified", 6), ("pending", 6), ("absent", 0), ("", 12), ("nonsense", 12)]
    )
    def test_one_state_can_be_chosen(self, staff, shop, state, count):
        assert len(rows(staff.get("/admin/access", query_string={"state": state}))) == count

    def test_search_and_state_go_together(self, staff, shop):
        assert len(rows(staff.get("/admin/access?q=power&state=pending"))) == 1

    def test_nothing_found_is_said(self, staff, shop):
        assert "Nothing matches" in staff.get("/admin/access?q=nobody").text

    def test_a_script_gets_the_results_alone(self, staff, shop):
        answer = staff.get("/admin/access?q=anna", headers=HTMX)

        assert "<html" not in answer.text
        assert len(rows(answer)) == 6
        assert "HX-Request" in answer.headers["Vary"]

    def test_pages_show_every_pair_once(self, staff, shop, monkeypatch):
        monkeypatch.setattr(views, "PAGE", 5)
        seen, path, sizes = [], "/admin/access?state=", []

        while path:
            answer = staff.get(path)
            found = rows(answer)
            seen += found
            sizes.append(len(found))
            onward = [link["href"] for link in BeautifulSoup(answer.text, "html.parser").select("a[href*='before=']")]
            path = onward[0] if onward else None

        assert sizes == [5, 5, 2]
        assert len(set(seen)) == len(seen) == 12

    def test_the_next_page_keeps_search_and_state(self, staff, shop, monkeypatch):
        monkeypatch.setattr(views, "PAGE", 2)

        answer = staff.get("/admin/access?q=anna&state=verified")

        [onward] = [link["href"] for link in BeautifulSoup(answer.text, "html.parser").select("a[href*='before=']")]
        assert "q=anna" in onward
        assert "state=verified" in onward

    @pytest.mark.parametrize("before", ["abc", "-1", "0", "", "9" * 30, "1.5"])
    def test_a_page_number_that_is_none_shows_the_first(self, staff, shop, before):
        assert len(rows(staff.get("/admin/access", query_string={"before": before}))) == 12

    def test_what_a_customer_typed_is_escaped(self, staff, shop):
        answer = staff.get("/admin/access", query_string={"q": '"><script>alert(1)</script>'})

        assert "<script>alert(1)" not in answer.text


class TestOneGrant:
    def test_its_whole_history_is_on_one_page(self, staff, shop):
        [grant, *_] = grants("bob_by")

        text = BeautifulSoup(staff.get(f"/admin/access/{grant.id}").text, "html.parser").get_text(" ", strip=True)

        assert "bob@customers.example" in text
        assert "Failure" in text
        assert "gift:2" in text

    @pytest.mark.parametrize("number", ["0", "999999", "9" * 30, "abc", "-1"])
    def test_one_that_is_not_there_is_a_404(self, staff, shop, number):
        assert staff.get(f"/admin/access/{number}").status_code == 404
