"""Sign-in by letter: the link, the code, the browser that asked, and everybody who should not get in."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from sts_app.accounts import services
from sts_app.accounts.models import TEXTS_VERSION, LoginToken, Role, User, UserSession
from sts_app.audit.models import AuditLog
from sts_app.core import tokens
from sts_app.core.db import db as database
from sts_app.core.store import store_for
from sts_app.emails.models import EmailMessage
from sts_app.emails.simulated import delivered
from tests.builders import EVIL_PATHS, count, enter, kinds, letters, lifetime, person, sam, work

REFUSED = (422, None)  # an address with a NUL in it
LINK = re.compile(r"http://[^\s\"]+(/sign-in/link/[^\s\"<]+)")


def ask(visitor: FlaskClient, email: str = "alice@customers.example", **fields: str):
    return visitor.post("/sign-in", data={"email": email} | fields)


def last_letter() -> str:
    """The body of the letter that arrived last."""
    work("emails")
    return delivered(store_for("mail"))[0].text


def link() -> str:
    return LINK.search(last_letter()).group(1)


def code() -> str:
    return re.search(r"\b(\d{3} ?\d{3})\b", last_letter()).group(1)


def guess_wrong(visitor: FlaskClient, email: str, *, times: int) -> None:
    """Ask for a letter and type a wrong code so often."""
    ask(visitor, email)
    wrong = "000000" if code().replace(" ", "") != "000000" else "000001"
    for _ in range(times):
        assert visitor.post("/sign-in/code", data={"code": wrong}).status_code == 422


def is_in(visitor: FlaskClient) -> bool:
    return visitor.get("/dashboard").status_code == 200


@pytest.fixture
def phone(app) -> FlaskClient:
    """Another browser of the same person."""
    return app.test_client()


class TestAsking:
    def test_a_letter_is_written_and_the_page_says_where_to(self, client, alice):
        answer = ask(client)

        assert (answer.status_code, answer.location) == (303, "/sign-in/sent")
        assert "alice@customers.example" in client.get("/sign-in/sent").text
        assert kinds() == ["sign_in"]

    def test_known_and_unknown_addresses_get_the_same_answer(self, app, db, alice):
        known, unknown = app.test_client(), app.test_client()

        answers = [ask(known), ask(unknown, "nobody@nowhere.example")]
        pages = [visitor.get("/sign-in/sent").text for visitor in (known, unknown)]

        assert len({(answer.status_code, answer.location) for answer in answers}) == 1
        strip = re.compile(r'value="[^"]{30,}"|alice@customers\.example|nobody@nowhere\.example|[\w.-]{60,}')
        assert strip.sub("", pages[0]) == strip.sub("", pages[1])

    def test_asking_makes_no_account(self, client, db):
        ask(client, "new@customers.example")

        assert count(User) == 0

    @pytest.mark.parametrize(
        "email",
        [
            "",
            " ",
            "alice",
            "alice@",
            "@customers.example",
            "a b@customers.example",
            "alice@customers",
            "alice@customers.example\r\nBcc: everybody@evil.example",
            "alice@customers.example\x00",
            "\x00",
            "a" * 300 + "@customers.example",
            "x" * 10_000,
            "👩‍👩‍👧‍👦",
            "alice@customers.example, mallory@nowhere.example",
        ],
    )
    def test_what_is_no_address_gets_a_sentence_and_no_letter(self, client, db, email):
        answer = ask(client, email)

        assert answer.status_code == 422
        assert 'id="email-error"' in answer.text or "error" in answer.text
        assert (count(LoginToken), count(EmailMessage)) == (0, 0)

    def test_without_the_forms_token_nothing_is_stored(self, client, db):
        answer = client.post("/sign-in", data={"email": "alice@customers.example"}, csrf=False)

        assert answer.status_code == 400
        assert "came from another page" in answer.text
        assert (count(LoginToken), count(EmailMessage)) == (0, 0)

    def test_neither_link_nor_code_stands_in_any_table(self, client, alice):
        ask(client)
        [letter] = letters()
        assert letter.secret
        secret_link, secret_code = link(), code()

        rows = " ".join(
            str(tuple(row))
            for table in (LoginToken, EmailMessage, UserSession, AuditLog)
            for row in database.session.execute(sa.select(*table.__table__.columns))
        )

        assert secret_link.rpartition("/")[2] not in rows
        assert secret_code.replace(" ", "") not in re.sub(r"\D", " ", rows).split()

    def test_the_letter_is_blank_after_it_was_sent(self, client, alice):
        ask(client)
        work("emails")

        assert [(letter.text, letter.html) for letter in letters()] == [("", "")]


class TestLink:
    def test_the_browser_that_asked_goes_straight_in(self, client, alice):
        ask(client)

        answer = client.get(link())

        assert (answer.status_code, answer.location) == (303, "/dashboard")
        assert is_in(client)

    def test_another_browser_is_asked_to_press_a_button(self, client, phone, alice):
        ask(client)
        address = link()

        page = phone.get(address)
        assert page.status_code == 200
        assert "Continue" in page.text
        assert not is_in(phone)

        assert phone.post(address).location == "/dashboard"
        assert is_in(phone)

    def test_a_mail_scanner_that_opens_the_link_ten_times_uses_nothing_up(self, app, client, phone, alice):
        ask(client)
        address = link()

        for _ in range(10):
            assert app.test_client().get(address).status_code == 200

        assert phone.post(address).status_code == 303
        assert is_in(phone)

    def test_it_works_once(self, client, phone, alice):
        ask(client)
        address = link()
        client.get(address)

        for answer in (phone.get(address), phone.post(address), client.get(address)):
            assert answer.status_code == 410
            assert "has been used or is too old" in answer.text
        assert not is_in(phone)

    def test_it_lasts_half_an_hour(self, client, alice, clock):
        ask(client)
        address = link()

        clock.shift(timedelta(minutes=29, seconds=59))
        assert client.get(address).status_code == 303

    def test_it_is_too_old_after_half_an_hour(self, client, alice, clock):
        ask(client)
        address = link()

        clock.shift(timedelta(minutes=30, seconds=1))
        assert client.get(address).status_code == 410
        assert client.post(address).status_code == 410
        assert not is_in(client)

    @pytest.mark.parametrize("purpose", ["sign-in-code", "session", "letter", "email-change"])
    def test_a_token_signed_for_something_else_is_no_link(self, client, alice, purpose):
        ask(client)
        secret = tokens.read(services.LINK_PURPOSE, link().rpartition("/")[2], max_age=60)

        assert client.post(f"/sign-in/link/{tokens.sign(purpose, secret)}").status_code == 410

    @pytest.mark.parametrize("payload", [None, 7, [], {}, "", "\x00", "unknown", ["x"], {"id": 1}])
    def test_a_rightly_signed_link_that_leads_nowhere_is_over(self, client, alice, payload):
        signed = tokens.sign(services.LINK_PURPOSE, payload)

        assert client.get(f"/sign-in/link/{signed}").status_code == 410
        assert client.post(f"/sign-in/link/{signed}").status_code == 410

    @pytest.mark.parametrize("forged", ["x", "a.b.c", ".", "..", "%00", "%FF%FE", "x" * 3000, "👩‍👩‍👧‍👦", "a%0d%0ab"])
    def test_a_forged_link_is_over(self, client, db, forged):
        answer = client.get(f"/sign-in/link/{forged}")

        assert answer.status_code in (404, 410)
        assert client.post(f"/sign-in/link/{forged}").status_code in (404, 410)

    def test_a_link_changed_by_one_letter_is_over(self, client, alice):
        ask(client)
        address = link()
        # Not the last letter: some of its bits stand for nothing.
        changed = address[:-2] + ("A" if address[-2] != "A" else "B") + address[-1]

        assert client.get(changed).status_code == 410
        assert not is_in(client)

    def test_two_letters_are_two_links_and_both_work(self, client, phone, alice):
        ask(client)
        first = link()
        ask(client)
        second = link()

        assert first != second
        assert client.get(first).status_code == 303
        assert phone.post(second).status_code == 303

    def test_another_browsers_cookie_does_not_skip_the_button(self, client, phone, alice):
        ask(client)
        address = link()
        ask(phone, "mallory@nowhere.example")

        assert phone.get(address).status_code == 200
        assert not is_in(phone)


class TestCode:
    def test_it_signs_in_the_browser_that_asked(self, client, alice):
        ask(client)

        answer = client.post("/sign-in/code", data={"code": code()})

        assert (answer.status_code, answer.location) == (303, "/dashboard")
        assert is_in(client)

    def test_five_wrong_codes_end_link_and_code_alike(self, client, phone, alice):
        ask(client)
        address, right = link(), code().replace(" ", "")
        wrong = "000000" if right != "000000" else "000001"

        answers = [client.post("/sign-in/code", data={"code": wrong}).status_code for _ in range(5)]

        assert answers == [422] * 5
        assert client.post("/sign-in/code", data={"code": right}).status_code == 410
        assert phone.post(address).status_code == 410
        assert not is_in(client)

    def test_four_wrong_codes_are_forgiven(self, client, alice):
        ask(client)
        right = code().replace(" ", "")
        wrong = "000000" if right != "000000" else "000001"
        for _ in range(4):
            client.post("/sign-in/code", data={"code": wrong})

        assert client.post("/sign-in/code", data={"code": right}).status_code == 303

    def test_guesses_are_counted_over_all_letters_to_an_address(self, app, client, phone, alice, clock):
        """Twenty wrong tries with four letters; the fifth letter's code is refused and its link works."""
        for typed in ("alice@customers.example", "ALICE@customers.example") * 2:
            guess_wrong(app.test_client(), typed, times=5)
            clock.shift(timedelta(hours=1))
        ask(client)
        right, address = code(), link()

        answer = client.post("/sign-in/code", data={"code": right})

        assert answer.status_code == 429
        assert "codes do not work until tomorrow" in answer.text
        assert not is_in(client)
        assert phone.post(address).status_code == 303
        assert is_in(phone)

    def test_nineteen_wrong_tries_are_not_twenty(self, app, client, alice):
        for times in (5, 5, 5, 4):
            guess_wrong(app.test_client(), "alice@customers.example", times=times)
        ask(client)

        assert client.post("/sign-in/code", data={"code": code()}).status_code == 303

    def test_guesses_are_forgotten_after_a_day(self, app, client, alice, clock):
        for _ in range(4):
            guess_wrong(app.test_client(), "alice@customers.example", times=5)
        clock.shift(timedelta(hours=24))
        ask(client)

        assert client.post("/sign-in/code", data={"code": code()}).status_code == 303

    def test_guesses_at_one_address_are_not_held_against_another(self, app, client, alice):
        for _ in range(4):
            guess_wrong(app.test_client(), "mallory@nowhere.example", times=5)
        ask(client)

        assert client.post("/sign-in/code", data={"code": code()}).status_code == 303

    def test_a_wrong_code_is_remembered_although_the_page_says_no(self, client, alice):
        ask(client)

        client.post("/sign-in/code", data={"code": "000000" if code() != "000000" else "000001"})

        assert database.session.scalars(sa.select(LoginToken)).one().wrong_tries == 1

    @pytest.mark.parametrize(
        "typed",
        ["", "12345", "1234567", "abcdef", "\x00", "12 34 5a", "x" * 10_000, "\uff11\uff12\uff13\uff14\uff15\uff16a"],
    )
    def test_what_has_not_six_digits_is_no_try(self, client, alice, typed):
        ask(client)

        answer = client.post("/sign-in/code", data={"code": typed})

        assert answer.status_code == 422
        assert database.session.scalars(sa.select(LoginToken)).one().wrong_tries == 0

    def test_it_is_worth_nothing_in_a_browser_that_did_not_ask(self, client, phone, alice):
        ask(client)

        answer = phone.post("/sign-in/code", data={"code": code()})

        assert answer.location == "/sign-in"
        assert not is_in(phone)

    def test_it_is_worth_nothing_for_another_letter(self, client, phone, alice):
        ask(client)
        alices = code()
        ask(phone, "mallory@nowhere.example")

        assert phone.post("/sign-in/code", data={"code": alices}).status_code == 422

    def test_it_is_over_after_half_an_hour(self, client, alice, clock):
        ask(client)
        typed = code()
        clock.shift(timedelta(minutes=30))

        assert client.post("/sign-in/code", data={"code": typed}).status_code == 410

    def test_a_used_link_ends_the_code(self, client, phone, alice):
        ask(client)
        address, typed = link(), code()
        phone.post(address)

        assert client.post("/sign-in/code", data={"code": typed}).status_code == 410


class TestAccount:
    def test_the_first_sign_in_makes_the_account_and_welcomes(self, client, db):
        ask(client, "New@Customers.example")
        client.get(link())

        user = database.session.scalars(sa.select(User)).one()
        assert (user.email, user.role, user.texts_version) == ("New@customers.example", Role.USER, None)
        assert kinds() == ["sign_in", "welcome"]

    def test_the_second_finds_it_ignoring_case_and_is_not_welcomed(self, client, alice):
        ask(client, "ALICE@customers.example")
        client.get(link())

        assert count(User) == 1
        assert kinds() == ["sign_in"]

    def test_one_address_has_one_spelling(self, client, db):
        """A letter and its accent, as one character and as two; the host in capitals."""
        ask(client, "ren\u00e9@CUSTOMERS.example")
        client.get(link())
        ask(client, "rene\u0301@customers.example")
        client.get(link())

        assert database.session.scalars(sa.select(User.email)).all() == ["ren\u00e9@customers.example"]

    @pytest.mark.parametrize(
        "stored", ["\u0130@customers.example", "\u039f\u03a3@customers.example", "I@customers.example"]
    )
    def test_an_account_is_found_where_python_and_the_database_lower_differently(self, db, stored):
        person(stored)

        assert services.user_by_email(stored) is not None

    def test_whoever_admin_email_names_is_staff(self, client, db):
        ask(client, "SAM@staff.example")
        client.get(link())

        assert client.get("/admin/").status_code == 200

    def test_becoming_staff_by_the_settings_leaves_one_audit_line(self, client, db):
        person("sam@staff.example")
        for _ in range(2):
            ask(client, "sam@staff.example")
            client.get(link())

        user = database.session.scalars(sa.select(User)).one()
        [line] = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.admin_granted"))
        assert (line.actor, line.subject, line.details) == ("system", f"user:{user.id}", {"because": "ADMIN_EMAIL"})

    def test_an_account_made_as_staff_leaves_it_too(self, client, db):
        ask(client, "sam@staff.example")
        client.get(link())

        actions = database.session.scalars(sa.select(AuditLog.action).order_by(AuditLog.id)).all()
        assert actions == ["accounts.admin_granted", "accounts.signed_in"]

    def test_nobody_else_is(self, client, alice):
        ask(client)
        client.get(link())

        assert client.get("/admin/").status_code == 403

    def test_agreeing_to_the_texts_is_noted_once_with_the_wording(self, alice):
        alice.texts_version = None

        services.accept_texts(alice)
        services.accept_texts(alice)
        database.session.flush()

        assert alice.texts_version == TEXTS_VERSION
        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.texts_accepted")).one()
        assert line.details == {"version": TEXTS_VERSION}


class TestNext:
    def test_signing_in_leads_back_to_where_one_was(self, client, alice):
        lifetime()
        assert client.get("/checkout").location == "/sign-in?next=/checkout"
        assert 'value="/checkout"' in client.get("/sign-in?next=/checkout").text

        ask(client, next="/checkout")

        assert client.get(link()).location == "/checkout"

    @pytest.mark.parametrize("path", EVIL_PATHS)
    def test_it_leads_nowhere_but_to_us(self, client, alice, path):
        page = client.get("/sign-in", query_string={"next": path})
        assert "evil" not in page.text

        ask(client, next=path)

        assert client.get(link()).location == "/dashboard"

    @pytest.mark.parametrize("path", EVIL_PATHS)
    def test_nor_when_one_is_signed_in_already(self, client, alice, path):
        enter(client, alice)

        answer = client.get("/sign-in", query_string={"next": path})

        assert (answer.status_code, answer.location) in ((303, "/dashboard"), REFUSED)

    @pytest.mark.parametrize("path", EVIL_PATHS)
    def test_nor_by_the_old_address(self, client, db, path):
        answer = client.get("/login", query_string={"next": path})

        assert (answer.status_code, answer.location) in ((303, "/sign-in"), REFUSED)


class TestSession:
    def test_the_old_cookie_is_dead_after_signing_out(self, client, app, alice):
        ask(client)
        client.get(link())
        stolen = client.get_cookie("sts_session").value
        assert is_in(client)

        client.post("/sign-out")

        thief = app.test_client()
        thief.set_cookie("sts_session", stolen)
        assert not is_in(thief)
        assert not is_in(client)

    def test_a_remembered_browser_is_out_as_well(self, client, app, alice):
        ask(client, remember="y")
        client.get(link())
        stolen = client.get_cookie("sts_remember").value

        client.post("/sign-out")

        thief = app.test_client()
        thief.set_cookie("sts_remember", stolen)
        assert not is_in(thief)

    def test_a_new_sign_in_is_a_new_session_and_drops_what_the_cookie_held(self, client, alice):
        with client.session_transaction() as planted:
            planted["planted"] = "by somebody"
        ask(client)
        client.get(link())
        with client.session_transaction() as first:
            before = dict(first)
        client.post("/sign-out")
        ask(client)
        client.get(link())
        with client.session_transaction() as second:
            after = dict(second)

        assert "planted" not in before
        assert before["_user_id"] != after["_user_id"]
        assert count(UserSession) == 2

    @pytest.mark.parametrize("cookie", ["sts_session", "sts_remember"])
    def test_a_new_sign_in_ends_the_session_this_browser_had(self, client, app, alice, cookie):
        ask(client, remember="y")
        client.get(link())
        former = client.get_cookie(cookie).value
        ask(client, "bob@customers.example")
        client.get(link())

        thief = app.test_client()
        thief.set_cookie(cookie, former)
        assert not is_in(thief)
        assert is_in(client)

    def test_and_that_of_no_other_browser(self, client, phone, alice):
        enter(phone, alice)
        ask(client)
        client.get(link())

        assert is_in(phone)

    def test_signing_out_ends_this_browser_and_no_other(self, client, phone, alice):
        enter(client, alice)
        enter(phone, alice)

        client.post("/sign-out")

        assert not is_in(client)
        assert is_in(phone)

    def test_signing_out_needs_the_forms_token(self, client, alice):
        enter(client, alice)

        assert client.post("/sign-out", csrf=False).status_code == 400
        assert is_in(client)

    def test_signing_out_twice_is_quiet(self, client, alice):
        assert client.post("/sign-out").location == "/"
        assert client.post("/sign-out").location == "/"

    def test_a_remembered_browser_is_known_without_its_session_cookie(self, client, alice):
        ask(client, remember="y")
        client.get(link())
        client.delete_cookie("sts_session")

        assert is_in(client)

    @pytest.mark.parametrize(("remember", "days"), [("", 1), ("y", 30)])
    def test_how_long_it_lasts(self, client, alice, clock, remember, days):
        ask(client, remember=remember)
        client.get(link())

        clock.shift(timedelta(days=days) - timedelta(seconds=1))
        assert is_in(client)
        clock.shift(timedelta(seconds=1))
        assert not is_in(client)

    def test_a_forged_cookie_is_nobody(self, client, alice):
        client.set_cookie("sts_session", "eyJfdXNlcl9pZCI6IjEifQ.aaaa.bbbb")
        client.set_cookie("sts_remember", f"{alice.id}|deadbeef")

        assert not is_in(client)

    def test_a_persons_number_in_a_signed_cookie_is_no_session(self, client, alice):
        with client.session_transaction() as session:
            session["_user_id"] = str(alice.id)

        assert not is_in(client)

    def test_the_cookie_is_out_of_scripts_reach_and_stays_at_home(self, client, alice):
        answer = ask(client)

        [cookie] = [value for value in answer.headers.getlist("Set-Cookie") if value.startswith("sts_session=")]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie

    def test_every_sign_in_leaves_an_audit_line_without_an_address(self, client, alice):
        ask(client)
        client.get(link())

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.signed_in")).one()
        assert (line.actor, line.subject) == (f"user:{alice.id}", f"user:{alice.id}")
        assert line.request_id
        assert "alice@" not in str(line.details)


class TestShutDoors:
    @pytest.mark.parametrize("path", ["/dashboard", "/onboarding"])
    def test_a_page_sends_a_stranger_to_sign_in_and_back(self, client, db, path):
        answer = client.get(path)

        assert (answer.status_code, answer.location) == (303, f"/sign-in?next={path}")

    def test_a_fragment_gets_a_short_no_and_the_address_to_go_to(self, client, db):
        answer = client.get("/dashboard/standing", headers={"HX-Request": "true"})

        assert answer.status_code == 401
        assert answer.headers["HX-Redirect"] == "/sign-in"
        assert "<html" not in answer.text

    def test_staff_links_are_for_staff(self, db):
        user = sam()

        assert services.link_for_staff("Sam@staff.example", actor="cli")
        line = database.session.scalars(sa.select(AuditLog)).one()
        assert (line.action, line.subject) == ("accounts.staff_link_printed", f"user:{user.id}")
