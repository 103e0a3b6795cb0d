"""The doorbell: what is let in, what is refused, and that nothing unsigned is ever stored."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from sts_app.billing.models import WebhookEvent
from sts_app.core import clock as time_source
from sts_app.core import db as core_db
from sts_app.core.queue import WakeUp
from tests.builders import count, event, events, signed

pytestmark = pytest.mark.usefixtures("clock")
DOOR = "/api/webhooks/stripe"


@pytest.fixture
def knock(client):
    """Call the door as a machine does: without a cookie, without a form's token."""

    def knock(path=DOOR, **call):
        return client.post(path, csrf=False, **call)

    return knock


@pytest.mark.parametrize("path", [DOOR, "/webhooks/stripe"])
def test_a_signed_event_is_stored_and_answered(knock, path):
    answer = knock(path, **signed(event()))

    assert (answer.status_code, answer.json) == (200, {"received": True})
    [kept] = events()
    assert (kept.external_id, kept.type, kept.state) == ("evt_1", "checkout.session.completed", "received")
    assert kept.next_attempt_at == time_source.now()


def test_the_same_event_again_is_answered_and_stored_once(knock):
    answers = [knock(**signed(event())).status_code for _ in range(3)]

    assert answers == [200, 200, 200]
    assert count(WebhookEvent) == 1


def test_a_worker_is_woken_after_the_commit(knock, monkeypatch):
    from sts_app.core import queue

    sent = []
    monkeypatch.setattr(queue, "send", lambda connection, wake_up: sent.append((wake_up, len(events()))))

    knock(**signed(event()))

    assert sent == [(WakeUp("billing.work", timedelta(0)), 1)]


def test_a_type_we_do_not_handle_wakes_nobody(knock, monkeypatch):
    from sts_app.core import queue

    sent = []
    monkeypatch.setattr(queue, "send", lambda connection, wake_up: sent.append(wake_up))

    assert knock(**signed(event("payout.paid", {"object": "payout", "id": "po_1"}))).status_code == 200
    assert sent == []
    assert events()[0].state == "ignored"


class TestRefused:
    @pytest.mark.parametrize(
        "header",
        ["", "t=1,v1=abc", "nonsense", "t=notatime,v1=00", "v1=" + "0" * 64, "t=" + "9" * 400 + ",v1=00", "\xff,=;t"],
    )
    def test_a_bad_signature(self, knock, header):
        answer = knock(data=json.dumps(event()), headers={"Stripe-Signature": header})

        assert answer.status_code == 400
        assert answer.json["error"]["code"] == "REFUSED"
        assert answer.json["requestId"]
        assert events() == []

    def test_no_signature(self, knock):
        assert knock(data=json.dumps(event())).status_code == 400
        assert events() == []

    def test_somebody_elses_secret(self, knock):
        assert knock(**signed(event(), secret="whsec_of_somebody_else")).status_code == 400
        assert events() == []

    def test_a_body_changed_on_the_way(self, knock):
        call = signed(event())
        call["data"] = call["data"].replace("evt_1", "evt_2")

        assert knock(**call).status_code == 400
        assert events() == []

    @pytest.mark.parametrize(("seconds", "status"), [(299, 200), (301, 400), (86_400, 400)])
    def test_a_signature_lasts_five_minutes(self, knock, seconds, status):
        assert knock(**signed(event(), at=time_source.now().timestamp() - seconds)).status_code == status

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "[]",
            "null",
            "7",
            '"event"',
            "{}",
            "{",
            '{"object": "event"}',
            '{"object": "event", "id": 7, "type": "x"}',
            '{"object": "event", "id": "", "type": "x"}',
            '{"object": "v2.core.event", "id": "evt_1", "type": "x"}',
            "[" * 100_000,
            b"\xff\xfe\x00",
            "id=evt_1&type=checkout.session.completed",
            "<xml/>",
        ],
    )
    def test_a_signed_body_that_is_no_event(self, knock, body):
        assert knock(**signed(body)).status_code == 400
        assert events() == []

    def test_a_body_of_two_megabytes(self, knock):
        answer = knock(**signed(json.dumps(event(about={"object": "charge", "id": "x" * 2_000_000}))))

        assert answer.status_code == 413
        assert answer.json["error"]["message"] == "That was more than this store accepts in one piece."
        assert events() == []

    @pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
    def test_another_method(self, client, method):
        answer = getattr(client, method)(DOOR)

        assert answer.status_code == 405
        assert answer.json["error"]["code"] == "METHOD_NOT_ALLOWED"

    def test_a_store_without_a_secret_has_no_door(self, app, knock, monkeypatch):
        bare = app.config["STS"].model_copy(update={"stripe_webhook_secrets": ()})
        call = signed(event())
        monkeypatch.setitem(app.config, "STS", bare)

        assert knock(**call).status_code == 404
        assert events() == []


class TestTaken:
    @pytest.mark.parametrize(
        "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "", "\x7f"]
    )
    def test_the_content_type_is_no_reason_to_lose_an_event(self, knock, kind):
        call = signed(event())
        call["headers"]["Content-Type"] = kind

        assert knock(**call).status_code == 200
        assert count(WebhookEvent) == 1

    def test_either_secret_works_while_one_is_replaced(self, app, knock, monkeypatch):
        till = app.extensions["sts_payments"]
        monkeypatch.setattr(till, "_webhook_secrets", ("whsec_new", "whsec_old"))

        for number, secret in enumerate(("whsec_new", "whsec_old")):
            assert knock(**signed(event(id=f"evt_{number}"), secret=secret)).status_code == 200
        assert knock(**signed(event(id="evt_9"), secret="whsec_older")).status_code == 400
        assert count(WebhookEvent) == 2

    @pytest.mark.parametrize(
        "changes",
        [
            {"created": None},
            {"created": "yesterday"},
            {"created": 10**30},
            {"created": -(10**30)},
            {"livemode": "yes"},
            {"data": None},
            {"data": []},
            {"data": {"object": None}},
            {"data": {"object": "cs_1"}},
            {"data": {"object": {"object": "checkout.session", "id": {"a": 1}}}},
            {"data": {"object": {"object": "charge", "payment_intent": 7}}},
            {"data": {"object": {"object": "checkout.session", "id": "cs\x00_1"}}},
            {"data": {"object": {"object": "checkout.session", "client_reference_id": "\udcff"}}},
            {"api\x00version": "\x00"},
            {"extra": "👩‍👩‍👧‍👦" * 500},
            {"number": 1e308},
            {"id": "evt_" + "x" * 5000},
            {"id": "evt_\x00"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_odd_insides_of_a_signed_event_are_stored_all_the_same(self, knock, changes):
        assert knock(**signed(event(**changes))).status_code == 200
        assert count(WebhookEvent) == 1

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
    def test_numbers_that_json_does_not_know_do_no_harm(self, knock, number):
        body = json.dumps(event()).replace('"livemode": false', f'"livemode": false, "odd": {number}')

        assert knock(**signed(body)).status_code in (200, 400)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=st.fixed_dictionaries({}, optional={
    "id": json_values, "object": st.just("event") | json_values, "type": json_values,
    "created": json_values, "livemode": json_values, "data": json_values,
}))  # fmt: skip
def test_no_signed_body_breaks_the_door(knock, payload):
    assert knock(**signed(json.dumps(payload))).status_code in (200, 400)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), header=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_no_unsigned_body_gets_past_the_door(knock, body, header):
    assert knock(data=body, headers={"Stripe-Signature": header}).status_code == 400
    assert events() == []


def test_when_the_commit_fails_stripe_is_not_told_that_it_worked(app, knock, monkeypatch):
    def broken():
        core_db.rollback()
        raise OperationalError("COMMIT", {}, Exception("the database went away"))

    with monkeypatch.context() as patch:
        patch.setattr(core_db, "commit", broken)
        patch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
        answer = knock(**signed(event()))

    assert answer.status_code >= 500
    assert answer.json["error"]["message"]
    assert events() == []
