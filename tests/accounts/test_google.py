"""Sign-in with Google through the pages: who gets in, as whom, and what the others read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from sts_app import create_app
from sts_app.accounts import identities
from sts_app.accounts.live import LiveGoogle
from sts_app.accounts.models import GoogleIdentity, User, UserSession
from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from sts_app.core.security import limiter
from sts_app.settings import load
from tests.accounts.coming_in import come_back, go_to_google, is_in, letter_to, sign_in
from tests.builders import EVIL_PATHS, bob, count, enter, kinds, person
from tests.fakes.google import ANNA, CLIENT_ID, CLIENT_SECRET, GoogleFake
from tests.world import ENV

AT_HOME = {"email": "alice@customers.example", "sub": "1", "name": "Alice at Google"}


@pytest.fixture(autouse=True)
def clock():
    """Tokens are checked against the time of day, so it does not stand here."""


@pytest.fixture
def fake():
    with GoogleFake() as fake:
        yield fake


@pytest.fixture
def google(app, db, fake, monkeypatch):
    """The store of the tests, with Google on."""
    live = LiveGoogle(CLIENT_ID, CLIENT_SECRET, discovery_url=fake.discovery)
    monkeypatch.setitem(app.extensions, identities.EXTENSION, live)
    return live


@pytest.fixture
def phone(app):
    return app.test_client()


def with_google(visitor, **fields):
    return come_back(visitor, go_to_google(visitor, **fields))


def identity() -> GoogleIdentity:
    return database.session.scalars(sa.select(GoogleIdentity)).one()


def actions() -> list[str]:
    return list(database.session.scalars(sa.select(AuditLog.action).order_by(AuditLog.id)))


class TestOffered:
    def test_nothing_of_it_is_there_without_settings(self, client):
        assert "Google" not in client.get("/sign-in").text
        assert client.post("/sign-in/google").status_code == 404
        assert client.get("/sign-in/google/callback").status_code == 404

    def test_the_page_has_the_button_with_them(self, client, google):
        page = client.get("/sign-in?next=/checkout").text

        assert 'formaction="/sign-in/google"' in page
        assert "Continue with Google" in page

    def test_the_settings_turn_it_on_and_let_the_form_lead_there(self, servers, fake):
        before = dict(vars(limiter))
        try:
            house = create_app(
                load(
                    ENV
                    | {
                        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
                        "REDIS_URL": servers.redis_url,
                        "LOG_LEVEL": "ERROR",
                        "GOOGLE_CLIENT_ID": CLIENT_ID,
                        "GOOGLE_CLIENT_SECRET": CLIENT_SECRET,
                        "GOOGLE_DISCOVERY_URL": fake.discovery,
                    }
                )
            )
            page = house.test_client().get("/sign-in")
        finally:
            vars(limiter).clear()
            vars(limiter).update(before)

        assert "Continue with Google" in page.text
        assert f"form-action 'self' {fake.url}" in page.headers["Content-Security-Policy"]


class TestGettingIn:
    def test_the_first_time_makes_the_account_and_welcomes(self, client, google):
        answer = with_google(client)

        assert (answer.status_code, answer.location) == (303, "/dashboard")
        assert is_in(client)
        user = database.session.scalars(sa.select(User)).one()
        assert (user.email, user.name) == (ANNA["email"], ANNA["name"])
        assert (identity().subject, identity().user_id) == (ANNA["sub"], user.id)
        assert kinds() == ["welcome"]
        assert actions() == ["accounts.google_linked", "accounts.signed_in"]

    def test_an_account_of_the_same_address_is_linked_and_told(self, client, google, fake, alice):
        fake.lies = AT_HOME | {"email": "ALICE@Customers.example"}

        with_google(client)

        assert count(User) == 1
        assert identity().user_id == alice.id
        assert database.session.get_one(User, alice.id).name == "Alice", "the name she chose stays"
        assert "You can sign in with Google now" in letter_to(alice.email, "google_linked")

    def test_the_second_time_finds_the_link_and_writes_nothing(self, client, phone, google):
        with_google(client)
        with_google(phone)

        assert (count(User), count(GoogleIdentity), count(UserSession)) == (1, 1, 2)
        assert kinds() == ["welcome"]

    def test_the_link_counts_whatever_becomes_of_googles_address(self, client, phone, google, fake):
        with_google(client)
        fake.lies = {"email": "anna.new@customers.example"}
        with_google(phone)

        assert count(User) == 1
        assert identity().email == "anna.new@customers.example"

    def test_the_link_counts_after_the_address_here_has_changed(self, client, phone, google):
        with_google(client)
        user = database.session.scalars(sa.select(User)).one()
        user.email = "anna@elsewhere.example"
        with_google(phone)

        assert count(User) == 1
        assert "anna@elsewhere.example" in phone.get("/dashboard/settings").text

    def test_it_leads_back_to_where_one_was(self, client, google):
        assert with_google(client, next="/pricing").location == "/pricing"

    @pytest.mark.parametrize("path", EVIL_PATHS)
    def test_it_leads_nowhere_but_to_us(self, client, google, path):
        assert with_google(client, next=path).location == "/dashboard"

    @pytest.mark.parametrize(("fields", "stays"), [({}, False), ({"remember": "y"}, True)])
    def test_remember_me_counts_here_too(self, client, google, fields, stays):
        with_google(client, **fields)
        client.delete_cookie("sts_session")

        assert is_in(client) is stays

    def test_what_the_cookie_held_before_is_dropped(self, client, google):
        with client.session_transaction() as planted:
            planted["planted"] = "by somebody"
        with_google(client)

        with client.session_transaction() as after:
            assert "planted" not in after
            assert "google_errand" not in after

    def test_a_name_of_google_that_nobody_can_be_called_by_is_made_fit(self, client, google, fake):
        fake.lies = {"name": "  A\x00nna\u202e " + "x" * 200}
        with_google(client)

        name = database.session.scalars(sa.select(User.name)).one()
        assert name.startswith("Anna")
        assert len(name) == 100

    def test_the_sessions_say_how_one_got_in(self, client, google):
        with_google(client)

        assert "with Google" in client.get("/dashboard/settings").text

    def test_it_is_a_fresh_sign_in(self, client, google):
        with_google(client)

        assert client.get("/dashboard/settings/email").status_code == 200


class TestRefused:
    def test_whoever_cancels_reads_that_nothing_happened(self, client, google, fake):
        fake.person = None

        answer = with_google(client, next="/pricing")

        assert answer.status_code == 403
        assert "You did not sign in with Google" in answer.text
        assert 'href="/sign-in?next=/pricing"' in answer.text
        assert not is_in(client)

    @pytest.mark.parametrize(
        "lies", [{"email_verified": False}, {"email_verified": None}, {"email": None}, {"email": "anna"}]
    )
    def test_an_address_that_google_has_not_verified_opens_nothing(self, client, google, fake, alice, lies):
        fake.lies = AT_HOME | lies

        answer = with_google(client)

        assert answer.status_code == 403
        assert "Google has not verified your address" in answer.text
        assert not is_in(client)
        assert (count(User), count(GoogleIdentity), count(UserSession)) == (1, 0, 0)

    def test_an_address_that_is_not_verified_any_more_opens_nothing_either(self, client, phone, google, fake):
        with_google(client)
        fake.lies = {"email_verified": False}

        assert with_google(phone).status_code == 403

    def test_another_google_account_does_not_take_the_place_of_the_first(self, client, phone, google, fake, alice):
        fake.lies = AT_HOME
        with_google(client)
        fake.lies = AT_HOME | {"sub": "2"}

        answer = with_google(phone)

        assert answer.status_code == 403
        assert "Another Google account is linked" in answer.text
        assert identity().subject == "1"
        assert not is_in(phone)

    @pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/certs"])
    def test_google_away_has_a_page_and_the_letter_as_another_way(self, client, google, fake, path):
        fake.down = {path}

        answer = client.post("/sign-in/google", data={"next": "/pricing"})
        if answer.status_code == 303:
            answer = come_back(client, answer.location)

        assert answer.status_code == 503
        assert "Google does not answer" in answer.text
        assert 'href="/sign-in?next=/pricing"' in answer.text
        assert not is_in(client)

    def test_an_answer_meant_for_another_store_has_a_page(self, client, google, fake):
        fake.lies = {"aud": "another.apps.example"}

        answer = with_google(client)

        assert answer.status_code == 400
        assert "Signing in with Google did not work" in answer.text
        assert not is_in(client)

    @pytest.mark.parametrize(
        ("error", "status"), [("server_error", 503), ("interaction_required", 400), ("x" * 3000, 400)]
    )
    def test_other_errors_of_google_have_a_page(self, client, google, error, status):
        go_to_google(client)
        with client.session_transaction() as session:
            state = session["google_errand"]["state"]

        answer = client.get("/sign-in/google/callback", query_string={"state": state, "error": error})

        assert answer.status_code == status
        assert "Back to sign-in" in answer.text

    def test_without_a_code_there_is_nothing_to_ask_google(self, client, google):
        go_to_google(client)
        with client.session_transaction() as session:
            state = session["google_errand"]["state"]

        assert client.get("/sign-in/google/callback", query_string={"state": state}).status_code == 400


class TestAnotherBrowser:
    @pytest.mark.parametrize(
        "query",
        [{}, {"code": "x"}, {"state": "", "code": "x"}, {"state": "x" * 3000, "code": "x"}, {"state": "\u2603"}],
    )
    def test_whoever_was_not_sent_there_gets_a_page(self, client, google, query):
        answer = client.get("/sign-in/google/callback", query_string=query)

        assert answer.status_code == 400
        assert "This sign-in was not begun here" in answer.text

    def test_a_strangers_way_back_signs_nobody_in_as_the_stranger(self, client, phone, google, alice):
        """Somebody sends the link of their own way back to a victim, so that she works in their account."""
        theirs = go_to_google(client)
        go_to_google(phone)

        answer = come_back(phone, theirs)

        assert answer.status_code == 400
        assert not is_in(phone)
        assert not is_in(client)

    def test_a_forged_way_back_does_not_spoil_the_real_one(self, client, google):
        address = go_to_google(client)
        client.get("/sign-in/google/callback?error=access_denied&state=forged")

        assert come_back(client, address).location == "/dashboard"

    def test_the_way_back_leads_in_once(self, client, google):
        with_google(client)
        with client.session_transaction() as session:
            assert "google_errand" not in session

        answer = client.get("/sign-in/google/callback?code=x&state=x")

        assert answer.status_code == 400

    def test_the_way_there_needs_the_forms_token(self, client, google):
        assert client.post("/sign-in/google", csrf=False).status_code == 400


class TestUnlinking:
    @pytest.fixture
    def unlinked(self, client, google):
        with_google(client)
        answer = client.post("/dashboard/settings/google/unlink")
        assert answer.location == "/dashboard/settings"
        assert actions()[-1] == "accounts.google_unlinked"
        return client

    @pytest.mark.parametrize("subject", [ANNA["sub"], "another"])
    def test_google_opens_the_account_no_more(self, unlinked, phone, fake, subject):
        fake.lies = {"sub": subject}

        answer = with_google(phone)

        assert answer.status_code == 403
        assert "Google is unlinked from this account" in answer.text
        assert not is_in(phone)
        assert count(User) == 1

    @pytest.mark.parametrize("subject", [ANNA["sub"], "another"])
    def test_until_one_is_linked_again_in_the_settings(self, unlinked, phone, fake, subject):
        assert "when you unlinked it" in unlinked.get("/dashboard/settings").text
        fake.lies = {"sub": subject}

        answer = come_back(unlinked, unlinked.post("/dashboard/settings/google/link").location)

        assert answer.location == "/dashboard/settings"
        assert identity().unlinked_at is None
        with_google(phone)
        assert is_in(phone)
        assert count(User) == 1

    def test_linking_wants_a_fresh_sign_in_there_and_back(self, unlinked):
        address = unlinked.post("/dashboard/settings/google/link").location
        with unlinked.session_transaction() as session:
            session["_fresh"] = False

        assert come_back(unlinked, address).status_code == 400
        assert unlinked.post("/dashboard/settings/google/link").location == "/sign-in?next=/sign-in/go-on"
        assert identity().unlinked_at is not None

    def test_what_signs_in_to_another_account_is_not_linked(self, app, client, google):
        with_google(client)
        other = app.test_client()
        enter(other, bob())

        answer = come_back(other, other.post("/dashboard/settings/google/link").location)

        assert answer.status_code == 409
        assert "This Google account is linked already" in answer.text

    def test_one_of_another_address_can_be_linked(self, app, phone, google):
        somebody, visitor = bob(), app.test_client()
        enter(visitor, somebody)
        come_back(visitor, visitor.post("/dashboard/settings/google/link").location)

        with_google(phone)

        assert somebody.email in phone.get("/dashboard/settings").text

    def test_unlinking_twice_is_quiet(self, client, google):
        with_google(client)
        client.post("/dashboard/settings/google/unlink")
        client.post("/dashboard/settings/google/unlink")

        assert actions().count("accounts.google_unlinked") == 1

    def test_ones_own_alone_is_unlinked(self, app, client, google):
        with_google(client)
        other = app.test_client()
        enter(other, bob())

        other.post("/dashboard/settings/google/unlink")

        assert identity().unlinked_at is None

    def test_it_asks_for_a_fresh_sign_in(self, client, google):
        with_google(client)
        with client.session_transaction() as session:
            session["_fresh"] = False

        answer = client.post("/dashboard/settings/google/unlink")

        assert answer.location == "/sign-in?next=/sign-in/go-on"
        assert identity().unlinked_at is None


@pytest.mark.breaks_invariants  # closed by nobody's wish
def test_a_closed_account_stays_shut_to_google(client, phone, google):
    with_google(client)
    user = database.session.scalars(sa.select(User)).one()
    user.closed_at = user.created_at

    answer = with_google(phone)

    assert answer.status_code == 403
    assert "being erased" in answer.text


def test_two_windows_at_once_link_one_account_once(google, fake, alice):
    """The second comes when the first has linked already, and has asked before."""
    told = replace(_told(google), email=alice.email)
    identities.sign_in(told, device="", remember=False, next_path=None)

    linked = identities._link(alice, told.subject, told.email, is_new=False)

    assert linked.subject == told.subject
    assert count(GoogleIdentity) == 1


def _told(google: LiveGoogle):
    from tests.accounts.test_google_adapter import shown

    return shown(google)


def test_staff_by_address_are_staff_by_google(client, google, fake):
    fake.lies = {"email": "sam@staff.example"}
    with_google(client)

    assert client.get("/admin/").status_code == 200


def test_a_letter_signs_in_whom_google_brought(client, phone, google):
    with_google(client)
    sign_in(phone, ANNA["email"])

    assert is_in(phone)
    assert count(User) == 1


@pytest.mark.parametrize("has_account", [True, False])
def test_who_is_asked_whether_it_is_them_gets_into_no_other_account(client, google, has_account):
    """Somebody with two Google accounts takes the wrong one."""
    if has_account:
        person(ANNA["email"])
    enter(client, person("earlier@customers.example"))
    before = count(User)

    answer = with_google(client, next="/dashboard/settings/email")

    assert answer.status_code == 403
    assert "You are signed in as earlier@customers.example" in answer.text
    assert "earlier@customers.example" in client.get("/dashboard/settings").text
    assert (count(User), count(GoogleIdentity)) == (before, 0)


def test_who_shows_that_it_is_them_by_google_goes_on(client, google):
    with_google(client)
    with client.session_transaction() as session:
        session["_fresh"] = False

    assert with_google(client, next="/dashboard/settings/email").location == "/dashboard/settings/email"
    assert client.get("/dashboard/settings/email").status_code == 200
