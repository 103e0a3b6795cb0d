"""The guards of every answer: who is counted as one visitor, who sees the pages for developers, what no cache keeps."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import g
from flask_login import AnonymousUserMixin
from sqlalchemy.exc import DBAPIError

from sts_app import create_app
from sts_app.core.security import limiter, visitor_address, who_asks
from sts_app.settings import AppEnv, load
from tests.builders import alice, bob, cashier, enter, event, lifetime, named, open_page, sam, signed
from tests.world import ENV

TOKEN = {"Authorization": f"Bearer {ENV['HEALTH_TOKEN']}"}
FOR_DEVELOPERS = (
    "/dev/patterns",
    "/dev/outbox",
    "/dev/outbox.json",
    "/dev/stripe/",
    "/dev/stripe/state.json",
    "/dev/tradingview/",
    "/dev/tradingview/state.json",
)
DEEDS = ("/dev/stripe/faults", "/dev/stripe/events/deliver-held", "/dev/tradingview/behave")


class TestWhoIsCounted:
    @pytest.mark.parametrize(
        ("address", "counted"),
        [
            ("198.51.100.7", "198.51.100.7"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:0DB8:0001:0002::9", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("unknown", "unknown"),
            ("198.51.100.7:4711", "198.51.100.7:4711"),
            ("", "127.0.0.1"),
        ],
    )
    def test_it_is_an_address_or_the_network_of_one_line(self, app, address, counted):
        with app.test_request_context(environ_base={"REMOTE_ADDR": address}):
            assert visitor_address() == counted

    def test_the_limits_count_so(self):
        assert limiter._key_func is visitor_address

    def test_those_who_are_signed_in_are_counted_one_by_one(self, app, db):
        person = alice()
        with app.test_request_context(environ_base={"REMOTE_ADDR": "198.51.100.7"}):
            g._login_user = person
            assert who_asks() == f"user:{person.id}"
            g._login_user = AnonymousUserMixin()
            assert who_asks() == "198.51.100.7"


@pytest.fixture
def staging(app, db, monkeypatch):
    """The same house with its vendors simulated where anybody can reach it."""
    monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update={"app_env": AppEnv.STAGING}))
    return app


def visitor(house, person=None):
    browser = house.test_client()
    if person is not None:
        enter(browser, person)
    return browser


class TestPagesForDevelopers:
    @pytest.mark.parametrize("path", FOR_DEVELOPERS)
    def test_they_are_open_on_a_persons_own_machine(self, client, path):
        assert client.get(path).status_code == 200

    @pytest.mark.parametrize("path", FOR_DEVELOPERS)
    def test_in_staging_they_are_shut_to_strangers_and_customers(self, staging, path):
        assert visitor(staging).get(path).status_code == 401
        assert visitor(staging, alice()).get(path).status_code == 403

    @pytest.mark.parametrize("path", DEEDS)
    def test_and_so_is_what_can_be_done_there(self, staging, path):
        assert visitor(staging).post(path).status_code == 401
        assert visitor(staging, alice()).post(path).status_code == 403
        assert visitor(staging, sam()).post(path).status_code == 303

    @pytest.mark.parametrize("path", FOR_DEVELOPERS)
    def test_staff_and_whoever_brings_the_token_see_them(self, staging, path):
        assert visitor(staging, sam()).get(path).status_code == 200
        assert visitor(staging).get(path, headers=TOKEN).status_code == 200

    @pytest.mark.parametrize("given", ["Bearer wrong", "Bearer ", "", "Basic abc", "Bearer \xe9"])
    def test_a_wrong_token_opens_nothing(self, staging, given):
        assert visitor(staging).get("/dev/outbox", headers={"Authorization": given}).status_code == 401

    def test_without_a_token_in_the_settings_none_opens(self, staging, monkeypatch):
        without = staging.config["STS"].model_copy(update={"health_token": None})
        monkeypatch.setitem(staging.config, "STS", without)

        assert visitor(staging).get("/dev/outbox", headers={"Authorization": "Bearer "}).status_code == 401
        assert visitor(staging).get("/dev/outbox", headers={"Authorization": "Bearer None"}).status_code == 401

    def test_a_payment_page_is_for_its_buyer_and_nobody_else(self, staging):
        cashier()
        buyer, other = alice(), bob()
        purchase = open_page(named(buyer, "Alice_trades"), lifetime())
        page = f"/dev/stripe/checkout/{purchase.session_id}"

        assert visitor(staging).get(page).status_code == 401
        assert visitor(staging, other).get(page).status_code == 403
        assert visitor(staging, other).post(f"{page}/pay").status_code == 403
        assert visitor(staging, buyer).get(page).status_code == 200
        assert visitor(staging, buyer).post(f"/dev/stripe/sessions/{purchase.session_id}/refund").status_code == 403
        assert visitor(staging, buyer).post(f"{page}/pay").status_code == 303


class TestPlainHttp:
    """A store at an https address, spoken to from inside."""

    @pytest.fixture
    def house(self, app, servers):
        env = {"APP_URL": "https://sts.example", "DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
        return create_app(load({**ENV, **env, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "ERROR"}))

    @pytest.mark.parametrize("path", ["/health", "/healthz", "/api/health?type=live"])
    def test_a_hosts_probe_gets_its_answer(self, house, path):
        assert house.test_client().get(path, base_url="http://127.0.0.1:5000").status_code == 200

    @pytest.mark.parametrize("path", ["/health/ready", "/api/health"])
    def test_a_deploys_gate_hears_of_a_database_that_is_away(self, house, path):
        assert house.test_client().get(path, base_url="http://127.0.0.1:5000").status_code == 503

    @pytest.mark.parametrize("path", ["/api/webhooks/stripe", "/webhooks/stripe"])
    def test_an_event_of_the_simulator_reaches_the_inbox(self, house, path):
        """Here it fails for want of a database, which is where it wanted to go; unsigned it is refused."""
        with house.app_context():
            call = signed(event())
        ringing = house.test_client()

        assert ringing.post(path, base_url="http://127.0.0.1:5000", **call).status_code == 503
        assert ringing.post(path, base_url="http://127.0.0.1:5000", data="{}").status_code == 400

    @pytest.mark.parametrize("path", ["/", "/sign-in", "/dashboard", "/dev/outbox", "/never-was", "/api/never-was"])
    def test_everybody_else_is_sent_to_https(self, house, path):
        answer = house.test_client().get(path, base_url="http://sts.example")

        assert (answer.status_code, answer.location) == (302, f"https://sts.example{path}")


class TestWhatNoCacheKeeps:
    @pytest.mark.parametrize("path", ["/", "/pricing", "/dashboard", "/onboarding", "/checkout"])
    def test_what_was_made_for_somebody(self, app, db, path):
        lifetime()

        assert visitor(app, alice()).get(path).headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("path", ["/admin/", "/admin/access"])
    def test_staff_pages(self, app, db, path):
        assert visitor(app, sam()).get(path).headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("path", ["/sign-in", "/sign-in/sent", "/sign-in/link/forged", "/dev/outbox"])
    def test_pages_with_an_address_or_a_link_on_them(self, client, path):
        assert client.get(path).headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize(
        "path", ["/", "/pricing", "/strategies", "/faq", "/privacy", "/robots.txt", "/sitemap.xml"]
    )
    def test_a_strangers_public_pages_may_be_kept(self, client, path):
        lifetime()

        assert "no-store" not in client.get(path).headers.get("Cache-Control", "")

    @pytest.mark.parametrize("path", ["/robots.txt", "/favicon.ico", "/static/css/app.css"])
    def test_files_may_be_kept_whoever_asks(self, app, db, path):
        with visitor(app, alice()).get(path, buffered=True) as answer:
            assert "no-store" not in answer.headers.get("Cache-Control", "")


def test_an_error_of_the_database_tells_no_values(app):
    """On a connection such as the house makes: that of the `db` fixture is made by the tests."""
    engine = sa.create_engine(app.extensions["sts_tests_engine"].url, **app.config["SQLALCHEMY_ENGINE_OPTIONS"])

    with pytest.raises(DBAPIError) as raised, engine.connect() as connection:
        connection.execute(sa.text("SELECT CAST(:given AS integer) / 0"), {"given": 4711})
    engine.dispose()

    assert "SELECT CAST" in str(raised.value)
    assert "4711" not in str(raised.value)
