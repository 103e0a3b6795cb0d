"""The page about one's own data, the addresses for programs, the certificate, and the cookies that are set."""

from __future__ import annotations

import pytest

from sts_app.core.db import db as database
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import ErasureState
from tests.builders import enter, lifetime, open_page, sam, work
from tests.privacy.leaving import asked, begun, ended

pytestmark = pytest.mark.usefixtures("clock")
PHRASE = "erase my account"
NECESSARY = {"sts_session", "sts_remember"}


@pytest.fixture
def visitor(client, alice):
    enter(client, alice)
    return client


def remembered_only(visitor) -> None:
    with visitor.session_transaction() as session:
        session["_fresh"] = False


class TestThePage:
    def test_is_for_who_is_signed_in(self, client):
        assert client.get("/dashboard/privacy").location.startswith("/sign-in")

    def test_says_what_happens_and_what_is_lost(self, visitor):
        text = visitor.get("/dashboard/privacy").text

        assert "For 24 hours you can change your mind." in text
        assert "An erasure is no refund." in text
        assert "Erase my account" in text

    def test_counts_what_is_held(self, visitor, alice, plan, till):
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work()

        assert "You hold 6 strategies." in visitor.get("/dashboard/privacy").text

    def test_asks_who_was_only_remembered_to_sign_in_once_more(self, visitor):
        remembered_only(visitor)

        text = visitor.get("/dashboard/privacy").text

        assert "Confirm that it is you" in text
        assert "You have not shown lately that it is you." in text
        assert 'action="/dashboard/privacy/erase"' not in text
        assert visitor.post("/dashboard/privacy/erase", data={"phrase": PHRASE}).location.startswith("/sign-in")
        assert database.session.query(Erasure).count() == 0

    @pytest.mark.parametrize("typed", ["", "erase", "erase my acount", "\x00"])
    def test_wants_the_words_typed(self, visitor, typed):
        answer = visitor.post("/dashboard/privacy/erase", data={"phrase": typed})

        assert answer.status_code == 422
        assert "type these words: erase my account" in answer.text
        assert database.session.query(Erasure).count() == 0

    def test_takes_them_however_they_are_capitalised(self, visitor, alice):
        answer = visitor.post("/dashboard/privacy/erase", data={"phrase": "  Erase  my ACCOUNT "})

        assert (answer.status_code, answer.location) == (303, "/dashboard/privacy")
        text = visitor.get("/dashboard/privacy").text
        assert "You have asked for your account to be erased" in text
        assert "Keep my account" in text

    def test_takes_it_back(self, visitor, alice):
        erasure = asked(alice)

        visitor.post("/dashboard/privacy/keep")

        assert erasure.state == ErasureState.CANCELLED
        assert "Erase your account" in visitor.get("/dashboard/privacy").text

    def test_tells_staff_that_their_account_stays(self, client, db):
        enter(client, sam())

        answer = client.post("/dashboard/privacy/erase", data={"phrase": PHRASE})

        assert answer.status_code == 409
        assert "belongs to the staff" in answer.text


class TestForPrograms:
    def test_delete_takes_the_wish_in(self, visitor, alice):
        answer = visitor.delete("/user/data", json={"confirm": PHRASE})

        assert answer.status_code == 202
        [erasure] = database.session.query(Erasure).all()
        assert answer.json["state"] == "requested"
        assert answer.json["reference"] == erasure.ref
        assert answer.json["beginsAt"] == "2026-11-22T12:00:00+00:00"
        assert visitor.get(answer.json["progress"]).status_code == 200

    def test_twice_is_the_same_answer(self, visitor):
        first, second = (visitor.delete("/user/data", json={"confirm": PHRASE}) for _ in range(2))

        assert first.json == second.json

    @pytest.mark.parametrize("body", [None, {}, {"confirm": "yes"}, {"confirm": 1}, [PHRASE], "text"])
    def test_delete_wants_the_words(self, visitor, body):
        answer = visitor.delete("/user/data", json=body)

        assert answer.status_code == 422
        assert answer.json["error"]["code"] == "INVALID_INPUT"
        assert database.session.query(Erasure).count() == 0

    def test_delete_wants_the_token_of_a_form(self, visitor):
        answer = visitor.delete("/user/data", json={"confirm": PHRASE}, csrf=False)

        assert answer.status_code == 400
        assert "This form was not taken" in answer.json["error"]["message"]
        assert database.session.query(Erasure).count() == 0

    def test_delete_is_for_who_is_signed_in_freshly(self, client, alice):
        assert client.delete("/user/data", json={"confirm": PHRASE}).status_code == 401
        enter(client, alice)
        remembered_only(client)

        answer = client.delete("/user/data", json={"confirm": PHRASE})

        assert (answer.status_code, answer.json["error"]["code"]) == (401, "FRESH_SIGN_IN_REQUIRED")

    def test_staff_are_refused(self, client, db):
        enter(client, sam())

        assert client.delete("/user/data", json={"confirm": PHRASE}).json["error"]["code"] == "STAFF_STAYS"


class TestTheCertificate:
    def test_names_nobody_and_is_open_to_who_has_its_address(self, client, alice, clock):
        erasure = ended(alice, clock)

        answer = client.get(f"/erasure/{erasure.ref}")

        assert answer.status_code == 200
        assert "Certificate of erasure" in answer.text
        assert "Personal data replaced in every part of the store" in answer.text
        assert 'name="robots" content="noindex"' in answer.text
        assert f"erased-{alice.id}" not in answer.text

    def test_says_what_it_waits_for_until_then(self, client, alice, plan, till, clock):
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work()
        erasure = begun(alice, clock)

        text = client.get(f"/erasure/{erasure.ref}").text

        assert "How far the erasure is" in text
        assert "Your access at TradingView is being removed" in text
        assert "Not yet." in text
        assert "alice" not in text.lower()

    def test_says_that_it_was_taken_back(self, visitor, client, alice):
        erasure = asked(alice)
        visitor.post("/dashboard/privacy/keep")

        assert "nothing was erased" in client.get(f"/erasure/{erasure.ref}").text

    def test_is_not_there_by_another_name(self, client):
        assert client.get("/erasure/era_of_nobody").status_code == 404


class TestCookies:
    """Consent would be needed for any other: there is none to ask for."""

    @pytest.mark.parametrize("path", ["/", "/pricing", "/strategies", "/faq", "/privacy", "/contact", "/sign-in"])
    def test_public_pages_set_only_what_is_necessary(self, client, path, db):
        lifetime()
        client.get(path)

        assert {cookie.key for cookie in jar(client)} <= NECESSARY

    def test_the_whole_way_of_a_customer_sets_only_what_is_necessary(self, visitor, plan):
        for path in ("/dashboard", "/onboarding", "/checkout", "/dashboard/privacy", "/dashboard/support"):
            visitor.get(path)
        visitor.post("/sign-in", data={"email": "alice@customers.example", "remember": "y"})

        assert {cookie.key for cookie in jar(visitor)} <= NECESSARY

    def test_no_page_loads_anything_from_elsewhere(self, client, db):
        lifetime()
        policy = client.get("/").headers["Content-Security-Policy"]

        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "https:" not in policy


def jar(visitor):
    return visitor._cookies.values()
