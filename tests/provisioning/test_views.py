"""Onboarding: a name is checked while it is typed and when it is sent, and changes when it may."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask.testing import FlaskClient
from flask_limiter import RequestLimit
from flask_limiter.util import get_qualified_name

from sts_app.accounts.models import TEXTS_VERSION, User
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.security import limiter
from sts_app.provisioning import control, names, queries, simulated
from sts_app.provisioning.gateway import Trouble, TryLater
from sts_app.provisioning.models import NameCheckRow, PaceBucket, TradingViewName
from sts_app.provisioning.name_check import SENTENCES
from sts_app.provisioning.rules import NameOutcome
from sts_app.provisioning.simulated import Fault, calls, misbehave
from tests.builders import (
    EVIL_PATHS,
    NOON,
    by_hand,
    count,
    enter,
    grants,
    holders,
    mallory,
    named,
    served,
    through,
    work,
)

FORM = {"name": "Alice", "tradingview_name": "anna2", "terms": "y", "disclaimer": "y"}
BY_SCRIPT = {"HX-Request": "true"}


class Slow:
    def find_name(self, name: str) -> str | None:
        raise TryLater("find_name: timeout", trouble=Trouble.TIMEOUT)


def leave_reads(tokens: float) -> None:
    left = sa.update(PaceBucket).where(PaceBucket.kind == "read")
    database.session.execute(left.values(tokens=tokens, refilled_at=time_source.now()))
    database.session.commit()


def spend_reads() -> None:
    leave_reads(-500.0)


def words(html: str) -> str:
    return " ".join(BeautifulSoup(html, "html.parser").get_text(" ").split())


def name_of(user) -> TradingViewName:
    database.session.expire_all()
    return queries.current_name(user.id)


@pytest.fixture
def newcomer(client, vendor) -> FlaskClient:
    """The browser of somebody who has no TradingView name yet."""
    enter(client, mallory())
    return client


@pytest.fixture
def owner(client, alice, plan, vendor) -> FlaskClient:
    """The browser of Alice, whose name works."""
    served(alice, plan, "gift:1")
    enter(client, alice)
    return client


def type_in(visitor: FlaskClient, name: str):
    return visitor.get("/onboarding/check-name", query_string={"tradingview_name": name}, headers=BY_SCRIPT)


class TestTyping:
    def test_a_known_name_is_told_with_tradingviews_spelling(self, newcomer):
        answer = type_in(newcomer, "anna2")

        assert answer.status_code == 200
        assert "answer--valid" in answer.text
        assert "TradingView knows this name. It is Anna2 there, and so it is here." in words(answer.text)

    def test_the_answer_is_a_piece_and_no_page(self, newcomer):
        assert "<html" not in type_in(newcomer, "anna2").text

    def test_an_unknown_one_stands_beside_what_it_may_have_been_meant_to_be(self, newcomer):
        answer = type_in(newcomer, "unknown0")

        assert "answer--unknown" in answer.text
        told = words(answer.text)
        assert SENTENCES[NameOutcome.UNKNOWN] in told
        assert "Did you mean unknownO , unkn0wn0 or unkn0wnO ?" in told

    def test_what_may_have_been_meant_is_put_into_the_field_without_a_script_too(self, newcomer):
        link = BeautifulSoup(type_in(newcomer, "unknown0").text, "html.parser").find("a", attrs={"data-variant": True})

        page = BeautifulSoup(newcomer.get(link["href"]).text, "html.parser")

        assert page.find("input", {"name": "tradingview_name"})["value"] == "unknownO" == link["data-variant"]

    def test_ones_own_name_is_not_warned_of(self, client, vendor):
        user = named(mallory(), "Ivan")
        enter(client, user)

        assert "The first character" not in words(type_in(client, "ivan").text)

    def test_a_known_name_is_not_promised_to_be_free_here(self, newcomer, alice):
        assert "Whether another account here has it is looked up when you send it." in words(
            type_in(newcomer, "anna2").text
        )

    def test_characters_easily_mistaken_are_told_beside_a_valid_one(self, newcomer):
        assert "The first character is a capital i, not a small L or the digit one." in words(
            type_in(newcomer, "ivan").text
        )

    @pytest.mark.parametrize("outcome", ["busy", "slow", "down", "not_configured"])
    def test_what_cannot_be_asked_now_says_so_and_shuts_no_door(self, newcomer, vendor, monkeypatch, outcome):
        {
            "busy": spend_reads,
            "slow": lambda: through(monkeypatch, Slow()),
            "down": lambda: misbehave(vendor, Fault.READS_FAIL),
            "not_configured": lambda: by_hand(monkeypatch),
        }[outcome]()

        answer = type_in(newcomer, "anna2")

        assert answer.status_code == 200
        assert "answer--open" in answer.text
        assert words(answer.text).startswith(SENTENCES[NameOutcome(outcome)].split("{")[0].strip())

    def test_busy_says_when_to_come_back(self, newcomer):
        spend_reads()

        assert int(type_in(newcomer, "anna2").headers["Retry-After"]) >= 1

    def test_the_reads_of_those_who_pay_are_left_to_them(self, newcomer, vendor):
        leave_reads(2)

        type_in(newcomer, "anna2")
        newcomer.post("/onboarding", data=FORM)

        assert calls(vendor) == {}

    @pytest.mark.parametrize("typed", ["", "a", "ab", "  a "])
    def test_the_beginning_of_a_name_is_not_nagged_at(self, newcomer, vendor, typed):
        answer = type_in(newcomer, typed)

        assert answer.text.strip() == ""
        assert calls(vendor) == {}

    @pytest.mark.parametrize("typed", ["anna 2", "änna", "a" * 31, "anna@shop.example"])
    def test_what_cannot_be_a_name_is_told_so_and_not_asked_for(self, newcomer, vendor, typed):
        assert "A TradingView name has 3 to 30 letters" in words(type_in(newcomer, typed).text)
        assert calls(vendor) == {}

    def test_a_bar_is_explained(self, newcomer):
        told = words(type_in(newcomer, "ann|e").text)

        assert "The fourth character is a vertical bar, not a small L, the digit one or a capital i." in told

    def test_the_address_of_a_profile_is_a_name(self, newcomer):
        assert "answer--valid" in type_in(newcomer, "https://www.tradingview.com/u/anna2/").text

    def test_what_was_asked_before_is_not_asked_again(self, newcomer, vendor):
        for typed in ("anna2", "ANNA2", " @anna2 "):
            type_in(newcomer, typed)

        assert calls(vendor) == {"find_name": 1}

    def test_a_stranger_gets_no_answer(self, client, vendor):
        answer = type_in(client, "anna2")

        assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/sign-in")
        assert calls(vendor) == {}

    def test_it_never_says_that_another_account_has_the_name(self, newcomer, alice):
        assert type_in(newcomer, "anna").text == type_in(newcomer, "annb").text.replace("Annb", "Anna")

    def test_too_many_names_are_told_so_at_the_field_and_shut_no_door(self, app, newcomer):
        limits = limiter.limit_manager.decorated_limits(
            get_qualified_name(app.view_functions["provisioning.check_name"])
        )

        with app.test_request_context():
            answers = [each.on_breach(RequestLimit(limiter, each.limit, [], True, False)) for each in limits]

        for answer in answers:
            told = answer.get_data(as_text=True)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
            assert "answer--open" in told
            assert "the name is checked when you send it" in words(told)
        assert len(answers) == 2

    def test_what_is_typed_is_shown_as_text(self, newcomer):
        assert "<b>" not in type_in(newcomer, "<b>bold</b>").text


class TestFirstName:
    def test_a_known_name_is_kept_in_tradingviews_spelling_and_leads_on(self, newcomer):
        answer = newcomer.post("/onboarding", data=FORM | {"next": "/checkout"})

        assert (answer.status_code, answer.location) == (303, "/checkout")
        [name] = database.session.scalars(sa.select(TradingViewName))
        assert (name.spelling, name.verified_at) == ("Anna2", NOON)

    def test_an_unknown_one_is_not_kept_and_what_may_help_stands_beside_it(self, newcomer):
        answer = newcomer.post("/onboarding", data=FORM | {"tradingview_name": "unknown0"})

        assert answer.status_code == 422
        told = words(answer.text)
        assert told.count(SENTENCES[NameOutcome.UNKNOWN]) == 1
        assert "Did you mean" in told
        assert count(TradingViewName) == 0

    def test_what_typing_found_out_is_not_asked_again(self, newcomer, vendor):
        type_in(newcomer, "anna2")

        newcomer.post("/onboarding", data=FORM)

        assert calls(vendor) == {"find_name": 1}

    def test_who_has_corrected_it_at_tradingview_has_it_asked_again(self, newcomer, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        refused = newcomer.post("/onboarding", data=FORM)
        assert "I have corrected it at TradingView, ask again" in refused.text
        simulated.behave(vendor)
        assert newcomer.post("/onboarding", data=FORM).status_code == 422

        answer = newcomer.post("/onboarding", data=FORM | {"again": "yes"})

        assert answer.status_code == 303
        assert count(TradingViewName) == 1

    @pytest.mark.parametrize("outcome", ["busy", "slow", "down", "not_configured"])
    def test_a_name_that_cannot_be_checked_now_is_kept_unverified_and_the_person_told(
        self, newcomer, vendor, monkeypatch, outcome
    ):
        {
            "busy": spend_reads,
            "slow": lambda: through(monkeypatch, Slow()),
            "down": lambda: misbehave(vendor, Fault.READS_FAIL),
            "not_configured": lambda: by_hand(monkeypatch),
        }[outcome]()

        answer = newcomer.post("/onboarding", data=FORM)

        assert answer.status_code == 303
        [name] = database.session.scalars(sa.select(TradingViewName))
        assert (name.spelling, name.verified_at) == ("anna2", None)
        assert SENTENCES[NameOutcome(outcome)].split("{")[0].strip() in words(newcomer.get("/dashboard").text)

    def test_a_name_of_another_account_is_refused_when_it_is_sent(self, newcomer, alice):
        answer = newcomer.post("/onboarding", data=FORM | {"tradingview_name": "ANNA"})

        assert answer.status_code == 422
        assert "in use by another account of this store" in answer.text

    def test_a_fault_elsewhere_asks_nobody(self, newcomer, vendor):
        assert newcomer.post("/onboarding", data=FORM | {"terms": ""}).status_code == 422
        assert calls(vendor) == {}


class TestTexts:
    def test_the_page_says_which_version_it_asks_for(self, newcomer):
        page = BeautifulSoup(newcomer.get("/onboarding").text, "html.parser")

        assert page.find("input", {"name": "texts"})["value"] == TEXTS_VERSION
        assert f"Version {TEXTS_VERSION} of these texts." in words(str(page.main))

    def test_what_is_agreed_to_is_what_stood_on_the_page(self, newcomer):
        answer = newcomer.post("/onboarding", data=FORM | {"texts": "2020-01-01"})

        assert answer.status_code == 422
        page = BeautifulSoup(answer.text, "html.parser")
        assert "These texts changed while this page was open." in page.find(id="terms-error").text
        assert not page.find(id="terms").has_attr("checked")
        assert page.find(id="tradingview_name")["value"] == "anna2"
        assert count(TradingViewName) == 0

    def test_nobody_agrees_twice_to_the_same_words(self, owner, alice):
        assert BeautifulSoup(owner.get("/onboarding").text, "html.parser").find(id="terms") is None
        agreed_at = alice.texts_accepted_at

        answer = owner.post("/onboarding", data={"name": "Alice", "tradingview_name": "anna2"})

        assert answer.status_code == 303
        assert database.session.get(User, alice.id).texts_accepted_at == agreed_at

    def test_new_words_are_asked_for_without_touching_the_name(self, owner, alice):
        alice.texts_version = "2020-01-01"
        database.session.commit()

        page = owner.get("/onboarding")
        assert "Our texts have changed since you accepted them" in page.text
        assert owner.post("/onboarding", data=FORM | {"tradingview_name": "Anna"}).status_code == 303

        assert database.session.get(User, alice.id).texts_version == TEXTS_VERSION
        assert name_of(alice).spelling == "Anna"


class TestTheWay:
    def test_who_is_buying_sees_how_far_they_are(self, newcomer):
        page = BeautifulSoup(newcomer.get("/onboarding?next=/checkout").text, "html.parser")

        assert words(str(page.find(attrs={"aria-current": "step"}))) == "TradingView name"

    def test_who_only_changes_a_name_sees_no_way(self, owner):
        assert 'aria-current="step"' not in owner.get("/onboarding").text

    def test_a_session_that_ended_leads_back_here_and_on_to_the_purchase(self, client, vendor):
        answer = client.post("/onboarding", data=FORM | {"next": "/checkout?plan=monthly"})

        assert (answer.status_code, count(TradingViewName)) == (303, 0)
        [back] = parse_qs(urlsplit(answer.location).query)["next"]
        assert parse_qs(urlsplit(back).query) == {"next": ["/checkout?plan=monthly"]}
        assert urlsplit(back).path == "/onboarding"

    def test_nobody_is_led_elsewhere_by_it(self, client, vendor):
        for path in EVIL_PATHS:
            answer = client.post("/onboarding", data=FORM | {"next": path})
            assert answer.location == "/sign-in?next=/onboarding", path


class TestChanging:
    def change(self, owner: FlaskClient, spelling: str, **more: str):
        return owner.post("/onboarding", data=FORM | {"tradingview_name": spelling} | more)

    def test_the_old_name_works_until_the_new_one_does_and_pages_say_so(self, owner, alice):
        self.change(owner, "anna2")

        for path in ("/dashboard", "/onboarding"):
            told = words(owner.get(path).text)
            assert "0 of 6 strategies have moved" in told, path
            assert "under" in told
        assert {name for name, _ in holders()} == {"Anna"}
        work("provisioning")
        assert "strategies have moved" not in words(owner.get("/dashboard").text)
        assert {name for name, _ in holders()} == {"Anna2"}

    def test_a_second_change_is_refused_with_the_moment_from_which_it_is_allowed(self, owner, alice, vendor):
        self.change(owner, "anna2")
        work("provisioning")

        answer = self.change(owner, "anna3")

        assert answer.status_code == 422
        field = BeautifulSoup(answer.text, "html.parser").find(id="tradingview_name-error")
        assert "can be changed again from 22 Nov 2026, 12:00 UTC" in words(str(field))
        assert name_of(alice).spelling == "Anna2"

    def test_the_form_says_so_before_anything_is_typed(self, owner):
        self.change(owner, "anna2")
        work("provisioning")

        assert "The name can be changed from 22 Nov 2026, 12:00 UTC" in words(owner.get("/onboarding").text)

    def test_a_day_later_it_says_nothing_of_the_kind(self, owner, alice, clock):
        self.change(owner, "anna2")
        work("provisioning")
        clock.shift(timedelta(days=1))
        enter(owner, alice)

        assert "can be changed from" not in words(owner.get("/onboarding").text)
        assert self.change(owner, "anna3").status_code == 303

    def test_a_name_that_tradingview_does_not_know_any_more_need_not_wait(self, owner, alice, vendor, monkeypatch):
        self.change(owner, "anna2")
        work("provisioning")
        known = simulated._spelling
        monkeypatch.setattr(simulated, "_spelling", lambda name: None if name.lower() == "anna2" else known(name))

        answer = self.change(owner, "anna3")

        assert answer.status_code == 303
        assert name_of(alice).spelling == "Anna3"

    def test_terms_can_be_accepted_meanwhile(self, owner, alice):
        self.change(owner, "anna2")
        work("provisioning")

        assert self.change(owner, "Anna2", name="Alice A.").status_code == 303
        assert name_of(alice).spelling == "Anna2"

    def test_a_name_that_cannot_be_checked_now_takes_nothing_away(self, owner, vendor):
        misbehave(vendor, Fault.READS_FAIL)

        assert self.change(owner, "anna2").status_code == 303
        work("provisioning")

        assert {name for name, _ in holders()} >= {"Anna"}
        assert {grant.wanted for grant in grants("anna")} == {True}

    def test_names_of_before_are_told_with_when_and_how_they_stand(self, owner):
        self.change(owner, "anna2")
        work("provisioning")

        told = words(owner.get("/onboarding").text)

        assert "Anna 21 Nov 2026, 12:00 UTC to 21 Nov 2026, 12:00 UTC: replaced; no access is left under it." in told

    def test_a_correction_asks_anew_when_the_button_says_so(self, owner, alice, vendor):
        names.check("anna2")
        assert count(NameCheckRow) == 1

        self.change(owner, "anna2", again="yes")

        assert calls(vendor)["find_name"] >= 2

    def test_a_name_sent_in_another_case_while_nobody_can_say_keeps_tradingviews_spelling(self, owner, alice, vendor):
        misbehave(vendor, Fault.READS_FAIL)

        assert self.change(owner, "ANNA").status_code == 303

        assert name_of(alice).spelling == "Anna"

    def test_during_an_incident_nobody_is_asked(self, owner, vendor):
        control.refuse_session("401", credential_id=None)
        database.session.commit()
        before = calls(vendor)

        assert "answer--open" in type_in(owner, "anna2").text
        assert calls(vendor) == before


def test_bob_cannot_have_what_alice_gave_up_before_it_is_absent(app, alice, bob, plan, vendor):
    served(alice, plan, "gift:1")
    names.set_name(alice, "Anna2", verified=True)
    database.session.commit()
    visitor = app.test_client()
    enter(visitor, bob)

    refused = visitor.post("/onboarding", data=FORM | {"tradingview_name": "anna"})
    work("provisioning")
    taken = visitor.post("/onboarding", data=FORM | {"tradingview_name": "anna"})

    assert (refused.status_code, taken.status_code) == (422, 303)
    assert named(bob, "Anna").id == bob.id
