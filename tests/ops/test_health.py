"""Health for the host's probe, for a deploy's gate, and for people."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app import create_app
from sts_app.core import clock as time_source
from sts_app.core import queue
from sts_app.core.db import db as database
from sts_app.ops import queries
from sts_app.ops.services import SWEEP, beat, claim_slot
from sts_app.provisioning import control
from sts_app.provisioning.models import TradingViewCredential, VendorCall
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, misbehave
from sts_app.settings import load
from tests.builders import (
    alice,
    by_hand,
    count,
    enter,
    entitled,
    in_a_transaction,
    lifetime,
    named,
    sam,
    vendor,
    work,
)
from tests.world import ENV

TOKEN = {"Authorization": f"Bearer {ENV['HEALTH_TOKEN']}"}


@pytest.fixture(scope="module")
def lost_house(app):
    """A house whose PostgreSQL and Redis do not answer."""
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    return create_app(load({**ENV, **away, "LOG_LEVEL": "ERROR"}))


@pytest.fixture
def no_redis(app, monkeypatch):
    monkeypatch.setitem(app.extensions, "sts_redis", queue.connection_for_web("redis://127.0.0.1:1/0"))


def at_revision(text: str | None) -> None:
    database.session.execute(sa.text("DELETE FROM alembic_version"))
    if text is not None:
        database.session.execute(sa.text("INSERT INTO alembic_version VALUES (:at)"), {"at": text})
    database.session.commit()


class TestLive:
    """These fixtures ask for no `db`: touching the database would fail the test."""

    @pytest.mark.parametrize("path", ["/health", "/api/health?type=live"])
    def test_it_does_no_io(self, app, path):
        answer = app.test_client().get(path)

        assert answer.status_code == 200
        assert answer.json["status"] == "ok"

    @pytest.mark.parametrize("path", ["/health", "/healthz", "/api/health?type=live"])
    def test_it_answers_while_everything_is_away(self, lost_house, path):
        assert lost_house.test_client().get(path).status_code == 200

    def test_healthz_and_the_front_page_say_ok_to_a_probe(self, app):
        probe = app.test_client()

        assert probe.get("/healthz").text == "OK"
        assert probe.get("/", headers={"Accept": "text/plain"}).text == "OK"


class TestReady:
    def test_all_is_well(self, client):
        answer = client.get("/health/ready")

        assert answer.status_code == 200
        assert answer.json == {
            "status": "healthy",
            "services": {name: {"status": "healthy"} for name in ("database", "schema", "redis")},
        }
        assert client.get("/api/health?type=ready").json == answer.json

    def test_a_database_behind_the_code_is_not_ready(self, client, db):
        at_revision(None)

        answer = client.get("/health/ready")

        assert (answer.status_code, answer.json["services"]["schema"]) == (503, {"status": "unhealthy"})

    def test_a_database_newer_than_the_code_is_ready(self, client, db):
        at_revision("9999_from_the_future")

        assert client.get("/health/ready").status_code == 200

    def test_a_dead_redis_is_degraded_and_ready(self, client, no_redis):
        answer = client.get("/health/ready")

        assert (answer.status_code, answer.json["status"]) == (200, "degraded")
        assert answer.json["services"]["redis"] == {"status": "degraded"}

    def test_a_dead_database_is_not_ready(self, lost_house):
        answer = lost_house.test_client().get("/health/ready")

        assert (answer.status_code, answer.json["status"]) == (503, "unhealthy")
        assert "schema" not in answer.json["services"]


class TestFull:
    KEYS = {"database", "schema", "redis", "worker", "scheduler", "queues", "backlog", "provisioning", "adminUser",
            "erasures", "stripe", "resend", "tradingview"}  # fmt: skip

    def test_a_store_without_staff_is_unhealthy(self, client):
        answer = client.get("/api/health")

        assert (answer.status_code, answer.json["status"]) == (503, "unhealthy")
        assert answer.json["checks"]["adminUser"] == {"status": "unhealthy"}

    def test_a_store_without_workers_is_degraded(self, client, db):
        sam()

        answer = client.get("/api/health")

        assert (answer.status_code, answer.json["status"]) == (200, "degraded")
        assert answer.json["checks"]["worker"] == {"status": "degraded"}

    def test_a_store_that_lives_is_healthy(self, client, db):
        sam()
        for kind in ("worker", "scheduler"):
            beat(f"{kind}-1", kind, started_at=time_source.now(), details={})
        claim_slot(SWEEP, time_source.now())

        answer = client.get("/api/health")

        assert (answer.status_code, answer.json["status"]) == (200, "healthy")

    def test_a_stranger_sees_words_and_no_numbers(self, client, db):
        sam()

        checks = client.get("/api/health").json["checks"]

        assert set(checks) == self.KEYS
        assert all(set(check) == {"status"} for check in checks.values())

    @pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "},
                                       {"Authorization": "Basic abc"}, {"Authorization": "Bearer \xe9"}])  # fmt: skip
    def test_a_wrong_token_shows_no_detail(self, client, given):
        assert set(client.get("/api/health", headers=given).json["checks"]["database"]) == {"status"}

    def test_the_token_shows_detail(self, client, db):
        vendor()
        entitled(named(alice(), "Anna"), lifetime())

        checks = client.get("/api/health", headers=TOKEN).json["checks"]

        assert checks["provisioning"].items() >= {
            "mode": "simulated", "grants": {"pending": 6}, "due": 6, "manualTasks": 0, "switch": "AUTO",
            "incident": None, "credentials": None, "session": {"verdict": None, "checkedAt": None},
            "circuit": {"open": False, "since": None, "nextCanary": None},
        }.items()  # fmt: skip
        assert checks["provisioning"]["promise"]["paidToVerified"]["today"]["open"] == 1
        assert set(checks["provisioning"]["pace"]) == {"write", "read", "lastHour"}
        assert checks["queues"]["depths"] == dict.fromkeys(("billing", "provisioning", "emails", "default"), 0) | {
            "provisioning": checks["queues"]["depths"]["provisioning"]
        }
        assert checks["database"]["ms"] >= 0

    def test_staff_see_detail_and_customers_do_not(self, app, db):
        staff, customer = app.test_client(), app.test_client()
        enter(staff, sam())
        enter(customer, alice())

        assert "ms" in staff.get("/api/health").json["checks"]["database"]
        assert "ms" not in customer.get("/api/health").json["checks"]["database"]

    @pytest.mark.parametrize("vendor_name", ["stripe", "resend", "tradingview"])
    def test_a_vendor_nobody_had_trouble_with_is_healthy(self, client, db, vendor_name):
        check = client.get("/api/health", headers=TOKEN).json["checks"][vendor_name]

        assert check.items() >= {"status": "healthy", "vendor": "simulated", "inTrouble": 0}.items()

    def test_tradingviews_trouble_shows_by_what_our_rows_saw_of_it(self, client, db):
        store = vendor()
        entitled(named(alice(), "Anna"), lifetime())
        misbehave(store, Fault.FAIL)
        work("provisioning")

        check = client.get("/api/health", headers=TOKEN).json["checks"]["tradingview"]

        assert (check["status"], check["inTrouble"]) == ("degraded", 6)

    def test_tradingview_is_in_trouble_while_it_answers_nobody_and_while_it_refuses_our_session(self, client, db):
        def status() -> str:
            return client.get("/api/health").json["checks"]["tradingview"]["status"]

        assert status() == "healthy"
        for _ in range(control.FAILURES_OPEN):
            in_a_transaction(lambda: control.note_failure("HTTP 502"))
        assert status() == "degraded"

        in_a_transaction(lambda: control.refuse_session("HTTP 401", credential_id=None))
        assert not control.standing().circuit_open
        assert status() == "degraded"

    def test_a_store_that_sells_nothing_is_degraded_where_people_do_the_work_too(self, client, db, monkeypatch):
        by_hand(monkeypatch)
        in_a_transaction(lambda: control.set_switch(Switch.DISABLED, actor="user:7", because="a test"))

        assert client.get("/api/health").json["checks"]["provisioning"] == {"status": "degraded"}

    def test_tradingviews_last_call_is_shown_in_place_of_a_probe(self, client, db):
        vendor()
        entitled(named(alice(), "Anna"), lifetime())
        assert client.get("/api/health", headers=TOKEN).json["checks"]["tradingview"]["lastCall"] is None
        work("provisioning")
        made = count(VendorCall)

        call = client.get("/api/health", headers=TOKEN).json["checks"]["tradingview"]["lastCall"]

        assert (call["op"], call["outcome"]) == ("has_access", "answered")
        assert count(VendorCall) == made, "a question from outside asks no vendor"

    def test_the_circuit_and_the_incident_are_told_and_leave_the_store_degraded(self, client, db):
        sam()
        for _ in range(control.FAILURES_OPEN):
            in_a_transaction(lambda: control.note_failure("HTTP 502"))
        check = client.get("/api/health", headers=TOKEN).json["checks"]["provisioning"]
        assert check["status"] == "degraded"
        assert check["circuit"]["open"]
        assert check["circuit"]["nextCanary"] > check["circuit"]["since"]

        in_a_transaction(lambda: control.refuse_session("HTTP 401", credential_id=None))
        check = client.get("/api/health", headers=TOKEN).json["checks"]["provisioning"]
        assert (check["status"], check["switch"], check["circuit"]["open"]) == ("degraded", "MANUAL", False)
        assert check["incident"]["refusals"] == 1
        assert client.get("/api/health").json["checks"]["provisioning"] == {"status": "degraded"}

    def test_the_age_of_the_credentials_is_told_and_nothing_of_them(self, client, db):
        aged = time_source.now() - timedelta(days=8)
        database.session.add(
            TradingViewCredential(key_id="k1", sealed=b"sealed", entered_by="user:7", validated_at=aged)
        )
        database.session.commit()

        check = client.get("/api/health", headers=TOKEN).json["checks"]["provisioning"]

        assert check["credentials"] == {"ageDays": 8, "key": "lost"}

    def test_a_dead_database_leaves_what_can_still_be_asked(self, lost_house):
        answer = lost_house.test_client().get("/api/health")

        assert answer.status_code == 503
        assert set(answer.json["checks"]) == {"database", "redis"}

    def test_a_dead_database_can_be_asked_about_with_the_token(self, lost_house):
        assert lost_house.test_client().get("/api/health", headers=TOKEN).status_code == 503

    def test_a_dead_redis_is_degraded(self, client, db, no_redis):
        sam()

        answer = client.get("/api/health", headers=TOKEN)

        assert (answer.status_code, answer.json["status"]) == (200, "degraded")
        assert answer.json["checks"]["queues"] == {"status": "degraded"}

    def test_an_unknown_type_gets_a_sentence(self, client):
        answer = client.get("/api/health?type=never")

        assert answer.status_code == 422
        assert answer.json["error"]["message"] == "The type of a health check is live, ready or full."


def test_a_sign_of_life_is_fresh_for_two_minutes(db):
    now = time_source.now()
    beat("worker-1", "worker", started_at=now, details={})

    assert queries.heartbeat("worker", now + timedelta(seconds=100))["status"] == "healthy"
    assert queries.heartbeat("worker", now + timedelta(seconds=130))["status"] == "degraded"
    assert queries.heartbeat("scheduler", now)["status"] == "degraded"
