"""Where one is signed in: told, ended one by one, ended everywhere; and what a fresh sign-in is."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from jobs import ops as ops_job
from sts_app.accounts import services
from sts_app.accounts.models import HeldForm, LoginToken, UserSession
from sts_app.audit.models import AuditLog
from sts_app.core import clock as house_clock
from sts_app.core.db import db as database
from sts_app.provisioning.names import set_name
from tests.accounts.coming_in import FIREFOX, SAFARI, is_in, letter_to, link_in, sign_in
from tests.builders import NOON, bob, count, enter
from tests.privacy import leaving

SETTINGS = "/dashboard/settings"


@pytest.fixture
def phone(app):
    """Another browser of the same person."""
    return app.test_client()


def rows() -> list[UserSession]:
    return list(database.session.scalars(sa.select(UserSession).order_by(UserSession.id)))


def stale(visitor):
    """The browser after it was closed and opened again."""
    with visitor.session_transaction() as session:
        session["_fresh"] = False


class TestListed:
    def test_each_says_its_device_how_one_got_in_and_which_is_this(self, client, phone, alice):
        sign_in(client, alice.email, agent=FIREFOX)
        phone.post("/sign-in", data={"email": alice.email})
        phone.post(link_in(letter_to(alice.email, "sign_in"), "/sign-in/link/"), headers={"User-Agent": SAFARI})

        page = client.get(SETTINGS).text

        assert page.index("Firefox on Windows") < page.index("Safari on iPhone")
        assert page.count("This device") == 1
        assert "by the link of a letter" in page

    def test_a_browser_that_says_nothing_is_called_so(self, client, alice):
        enter(client, alice)

        assert "A browser that did not say which" in client.get(SETTINGS).text

    def test_nothing_else_of_the_browser_is_kept(self, client, alice):
        sign_in(client, alice.email, agent=FIREFOX + " serial/0815")

        [row] = rows()
        assert row.device == "Firefox on Windows"

    def test_one_over_or_ended_or_of_somebody_else_is_not(self, app, client, alice, clock):
        enter(client, alice)
        for number, what in enumerate(("over", "ended", "bob's")):
            database.session.add(
                UserSession(
                    user_id=bob().id if what == "bob's" else alice.id,
                    digest=what,
                    device=f"Browser {number}",
                    expires_at=house_clock.now() + timedelta(days=0 if what == "over" else 1),
                    revoked_at=house_clock.now() if what == "ended" else None,
                )
            )

        page = client.get(SETTINGS).text

        assert "Browser " not in page
        assert "Sign out all other devices" not in page

    @pytest.mark.parametrize(("days", "words"), [(0, "Within a day"), (1, "A day ago"), (5, "5 days ago")])
    def test_when_it_was_last_seen_is_told_by_the_day(self, client, phone, alice, clock, days, words):
        sign_in(phone, alice.email, agent=SAFARI, remember="y")
        clock.shift(timedelta(days=days))
        enter(client, alice)

        row = client.get(SETTINGS).text.partition("Safari on iPhone")[2]

        assert f'data-label="Last seen">{words}<' in row

    def test_two_minutes_across_midnight_are_no_day(self, client, alice, clock):
        clock.move_to(NOON.replace(hour=23, minute=59))
        enter(client, alice)
        clock.shift(timedelta(minutes=2))

        assert 'data-label="Last seen">Within a day<' in client.get(SETTINGS).text

    def test_being_seen_is_written_once_an_hour(self, client, alice, clock):
        sign_in(client, alice.email)
        [row] = rows()
        first = row.seen_at

        clock.shift(timedelta(minutes=59))
        client.get(SETTINGS)
        assert rows()[0].seen_at == first

        clock.shift(timedelta(minutes=1))
        client.get(SETTINGS)
        assert rows()[0].seen_at == first + timedelta(hours=1)


class TestEnded:
    def test_a_device_that_is_signed_out_is_out_at_its_next_click(self, client, phone, alice):
        enter(client, alice)
        enter(phone, alice)

        answer = client.post(f"{SETTINGS}/sessions/{rows()[1].id}/end")

        assert answer.location == SETTINGS
        assert not is_in(phone)
        assert is_in(client)

    def test_a_remembered_device_is_out_as_well(self, client, phone, alice):
        enter(client, alice)
        sign_in(phone, alice.email, remember="y")

        client.post(f"{SETTINGS}/sessions/{rows()[1].id}/end")
        phone.delete_cookie("sts_session")

        assert not is_in(phone)

    def test_ones_own_is_ended_as_by_signing_out(self, client, alice):
        enter(client, alice)

        answer = client.post(f"{SETTINGS}/sessions/{rows()[0].id}/end")

        assert answer.location == "/"
        assert not is_in(client)

    @pytest.mark.parametrize("whose", ["bob's", "nobody's"])
    def test_somebody_elses_is_not_there(self, client, phone, alice, whose):
        enter(client, alice)
        enter(phone, bob())
        number = rows()[1].id if whose == "bob's" else 987654321

        assert client.post(f"{SETTINGS}/sessions/{number}/end").status_code == 404
        assert is_in(phone)

    def test_ending_twice_is_quiet_and_one_line_of_audit(self, client, phone, alice):
        enter(client, alice)
        enter(phone, alice)
        address = f"{SETTINGS}/sessions/{rows()[1].id}/end"

        assert [client.post(address).status_code for _ in range(2)] == [303, 303]

        lines = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.session_ended")).all()
        assert [line.details for line in lines] == [{"session": rows()[1].id}]

    def test_all_others_end_and_this_one_stays(self, app, client, phone, alice):
        other = app.test_client()
        for visitor in (client, phone, other):
            enter(visitor, alice)

        answer = client.post(f"{SETTINGS}/sessions/end", data={"keep": "this"})

        assert answer.location == SETTINGS
        assert "2 other devices are signed out." in client.get(SETTINGS).text
        assert [is_in(visitor) for visitor in (client, phone, other)] == [True, False, False]

    def test_everywhere_is_here_too_and_nobody_else(self, app, client, phone, alice):
        other = app.test_client()
        enter(client, alice)
        enter(phone, alice)
        enter(other, bob())

        answer = client.post(f"{SETTINGS}/sessions/end")

        assert answer.location == "/"
        assert [is_in(visitor) for visitor in (client, phone, other)] == [False, False, True]

    def test_a_letter_under_way_opens_nothing_any_more(self, client, phone, alice):
        enter(client, alice)
        phone.post("/sign-in", data={"email": "ALICE@customers.example"})
        address = link_in(letter_to("ALICE@customers.example", "sign_in"), "/sign-in/link/")

        client.post(f"{SETTINGS}/sessions/end")

        assert phone.post(address).status_code == 410

    def test_it_is_audited_with_how_many(self, client, phone, alice):
        enter(client, alice)
        enter(phone, alice)

        client.post(f"{SETTINGS}/sessions/end")

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.sessions_ended")).one()
        assert (line.actor, line.details) == (f"user:{alice.id}", {"ended": 2, "kept_own": False})

    def test_it_needs_no_fresh_sign_in(self, client, phone, alice):
        """Whoever fears a thief shall not wait for a letter first."""
        enter(client, alice)
        enter(phone, alice)
        stale(client)

        client.post(f"{SETTINGS}/sessions/end", data={"keep": "this"})

        assert not is_in(phone)


class TestFresh:
    def test_it_lasts_two_hours(self, client, alice, clock):
        sign_in(client, alice.email)

        clock.shift(timedelta(hours=2) - timedelta(seconds=1))
        assert client.get(f"{SETTINGS}/email").status_code == 200
        clock.shift(timedelta(seconds=1))
        assert client.get(f"{SETTINGS}/email").location == f"/sign-in?next={SETTINGS}/email"
        assert client.get(SETTINGS).status_code == 200, "what is not sensitive stays open"

    def test_a_new_sign_in_makes_it_fresh_and_leads_back(self, client, alice):
        sign_in(client, alice.email)
        stale(client)
        asked = client.get(f"{SETTINGS}/email").location

        page = client.get(asked).text
        answer = sign_in(client, alice.email, next=f"{SETTINGS}/email")

        assert "Confirm that it is you" in page
        assert answer.location == f"{SETTINGS}/email"
        assert client.get(answer.location).status_code == 200

    def test_whoever_was_remembered_is_offered_to_be_again(self, client, alice):
        sign_in(client, alice.email, remember="y")
        stale(client)

        assert "checked" in client.get("/sign-in").text

    def test_whoever_does_not_want_to_be_remembered_any_more_is_not(self, client, alice):
        sign_in(client, alice.email, remember="y")
        stale(client)
        sign_in(client, alice.email)

        assert client.get_cookie("sts_remember") is None

    def test_another_network_is_not_fresh(self, client, alice):
        sign_in(client, alice.email)

        answer = client.get(f"{SETTINGS}/email", environ_overrides={"REMOTE_ADDR": "203.0.113.7"})

        assert answer.location == f"/sign-in?next={SETTINGS}/email"
        assert "Confirm that it is you" in client.get(answer.location).text


class TestHeld:
    """What was typed when the store asked who is there."""

    @pytest.fixture
    def asked(self, client, alice):
        """Alice sent her new address from a browser that was not fresh any more."""
        sign_in(client, alice.email)
        stale(client)
        answer = client.post(
            f"{SETTINGS}/email", data={"email": "new@customers.example", "csrf_token": client.csrf_token()}
        )
        assert answer.location == "/sign-in?next=/sign-in/go-on"
        return answer

    def test_it_is_there_after_the_sign_in_and_nothing_is_done_yet(self, client, alice, asked):
        answer = sign_in(client, alice.email, next="/sign-in/go-on")
        page = client.get(answer.location).text

        assert answer.location == "/sign-in/go-on"
        assert f'action="{SETTINGS}/email"' in page
        assert 'name="email" value="new@customers.example"' in page
        assert page.count('name="csrf_token"') == 1
        assert "Your address" not in page

    def test_the_code_of_the_letter_leads_there_too(self, client, alice, asked):
        client.post("/sign-in", data={"email": alice.email, "next": "/sign-in/go-on"})
        text = letter_to(alice.email, "sign_in")
        code = text.partition("Type these digits there: ")[2].split()[0]

        assert client.post("/sign-in/code", data={"code": code}).location == "/sign-in/go-on"
        assert "new@customers.example" in client.get("/sign-in/go-on").text

    def test_it_rests_encrypted(self, alice, asked):
        [row] = database.session.scalars(sa.select(HeldForm))

        assert "new@customers.example" not in row.sealed
        assert row.path == f"{SETTINGS}/email"

    def test_another_browser_of_the_same_person_does_not_get_it(self, phone, alice, asked):
        sign_in(phone, alice.email, next="/sign-in/go-on")

        answer = phone.get("/sign-in/go-on")

        assert answer.location == "/dashboard"
        assert "in the browser you typed it in" in phone.get(SETTINGS).text

    def test_another_person_in_this_browser_does_not_get_it(self, client, asked):
        somebody = bob()
        sign_in(client, somebody.email)

        assert client.get("/sign-in/go-on").location == "/dashboard"

    def test_what_is_shown_of_it_has_the_words_of_the_form(self, client, alice):
        set_name(alice, "Alice_trades", verified=True)
        alice.texts_version = None
        sign_in(client, alice.email)
        stale(client)
        client.post(
            "/onboarding",
            data={"name": "Ally", "tradingview_name": "Other", "terms": "y", "texts": "hidden", "next": "/"},
        )
        sign_in(client, alice.email)

        page = BeautifulSoup(client.get("/sign-in/go-on").text, "html.parser")

        shown = [(label.text.strip(), label.find_next("dd").text.strip()) for label in page.find_all("dt")]
        assert shown == [
            ("Your name", "Ally"),
            ("TradingView name", "Other"),
            ("I have read and accept the terms and the refund policy. All sales are final.", "Yes"),
        ]

    def test_what_the_page_shows_again_can_be_sent_and_is_kept_no_longer(self, client, alice, asked):
        sign_in(client, alice.email)
        form = BeautifulSoup(client.get("/sign-in/go-on").text, "html.parser").find("form", action=f"{SETTINGS}/email")
        sent = {field["name"]: field["value"] for field in form.find_all("input")}

        answer = client.post(form["action"], data=sent)

        assert answer.location == SETTINGS
        assert letter_to("new@customers.example", "email_change")
        assert count(HeldForm) == 0
        assert client.get("/sign-in/go-on").location == "/dashboard"

    def test_a_deed_that_is_refused_leaves_it_there(self, client, alice, asked):
        sign_in(client, alice.email)
        leaving.asked(alice)

        assert client.post(f"{SETTINGS}/email", data={"email": "new@customers.example"}).status_code == 409
        assert "new@customers.example" in client.get("/sign-in/go-on").text

    def test_it_is_deleted_within_a_minute_of_its_hour(self, asked, clock):
        services.drop_held()
        assert count(HeldForm) == 1
        clock.shift(timedelta(hours=1))
        database.session.commit()
        ops_job._sweep()

        assert count(HeldForm) == 0

    def test_it_is_forgotten_after_an_hour(self, client, alice, asked, clock):
        clock.shift(timedelta(hours=1))
        sign_in(client, alice.email)

        assert client.get("/sign-in/go-on").location == "/dashboard"

    def test_the_last_takes_the_place_of_the_one_before(self, client, alice, asked):
        client.post(f"{SETTINGS}/email", data={"email": "newer@customers.example"})
        sign_in(client, alice.email)

        assert "newer@customers.example" in client.get("/sign-in/go-on").text
        assert count(HeldForm) == 1

    def test_what_no_form_is_as_long_as_is_not_kept(self, client, alice):
        sign_in(client, alice.email)
        stale(client)

        answer = client.post(f"{SETTINGS}/email", data={"email": "x" * 30_000})

        assert answer.location == "/sign-in"
        assert count(HeldForm) == 0

    def test_it_asks_who_is_there_itself(self, client, alice, asked):
        assert client.get("/sign-in/go-on").location == "/sign-in?next=/sign-in/go-on"

    def test_markup_in_it_is_only_text(self, client, alice):
        sign_in(client, alice.email)
        stale(client)
        client.post(f"{SETTINGS}/email", data={"email": '"><script>alert(1)</script>'})
        sign_in(client, alice.email)

        assert "<script>alert" not in client.get("/sign-in/go-on").text

    def test_a_form_sent_by_script_is_led_there_as_well(self, client, alice):
        sign_in(client, alice.email)
        stale(client)

        answer = client.post(
            f"{SETTINGS}/email", data={"email": "new@customers.example"}, headers={"HX-Request": "true"}
        )

        assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/sign-in?next=/sign-in/go-on")


class TestTidy:
    @pytest.mark.parametrize(
        ("model", "lasts"), [(LoginToken, timedelta(minutes=30)), (UserSession, timedelta(days=1))]
    )
    def test_what_is_over_is_deleted_a_day_later_and_no_sooner(self, client, alice, clock, model, lasts):
        sign_in(client, alice.email)

        clock.shift(lasts + timedelta(days=1))
        services.tidy()
        assert count(model) == 1

        clock.shift(timedelta(seconds=1))
        services.tidy()
        assert count(model) == 0

    def test_what_is_not_stays(self, client, alice, clock):
        sign_in(client, alice.email, remember="y")
        clock.shift(timedelta(days=25))

        services.tidy()

        assert count(UserSession) == 1
