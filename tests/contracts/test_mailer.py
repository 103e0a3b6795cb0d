"""What every mailer promises, told to the simulator and to Resend's HTTP alike; then Resend's own oddities."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import resend
import structlog
from pydantic import SecretStr

from sts_app.core.store import MemoryStore
from sts_app.emails.gateway import (
    BadSignature,
    Happened,
    Letter,
    LetterEvent,
    Mailer,
    MailerError,
    Refused,
    TryLater,
)
from sts_app.emails.live import ResendMailer
from sts_app.emails.simulated import Fault, SimulatedMailer, delivered, misbehave
from sts_app.emails.simulated_post import signed_headers
from tests.fakes import resend_api

LETTER = Letter(
    sender="STS Strategies <letters@sts.test>",
    to="alice@customers.test",
    subject="Your strategies are ready",
    text="Hello Alice, this is the body.",
    html="<p>Hello Alice, this is the body.</p>",
    kind="access_granted",
    reply_to="help@sts.test",
)
KEY = "grant-cycle:34:2"
SECRET = "whsec_" + base64.b64encode(b"of a contract test alone").decode()


@dataclass
class Provider:
    """A mailer, what arrived through it, and how to spoil its next answer."""

    mailer: Mailer
    arrived: Callable[[], list[Letter]]
    fail: Callable[[], None]
    refuse: Callable[[], None]
    lose_answer: Callable[[], None]
    bounce: Callable[[], None]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[resend_api.ResendApi]:
    for name in ("api_key", "api_url", "default_http_client"):
        monkeypatch.setattr(resend, name, getattr(resend, name))
    with resend_api.running() as running:
        yield running


@pytest.fixture
def resend_mailer(api: resend_api.ResendApi) -> ResendMailer:
    return ResendMailer(SecretStr(resend_api.API_KEY), webhook_secrets=(SECRET,), api_base=api.base, timeout=1)


def nobody_listens(*_: Any, **__: Any) -> Any:
    raise requests.ConnectionError("nobody listens in this test")


@pytest.fixture(params=["simulated", "resend"])
def provider(request: pytest.FixtureRequest) -> Provider:
    if request.param == "simulated":
        store = MemoryStore()
        return Provider(
            mailer=(mailer := SimulatedMailer(store, webhook_secrets=(SECRET,), post=nobody_listens)),
            arrived=lambda: [
                Letter(d.sender, d.to, d.subject, d.text, d.html, d.kind, d.reply_to) for d in delivered(store)
            ],
            fail=lambda: misbehave(store, Fault.FAIL),
            refuse=lambda: misbehave(store, Fault.REFUSE),
            lose_answer=lambda: misbehave(store, Fault.LOSE_ANSWER),
            bounce=lambda: next(mailer.tell(each.id, Happened.BOUNCED) for each in delivered(store)),
        )
    api: resend_api.ResendApi = request.getfixturevalue("api")
    return Provider(
        mailer=request.getfixturevalue("resend_mailer"),
        arrived=lambda: [
            Letter(b["from"], b["to"][0], b["subject"], b["text"], b["html"], b["tags"][0]["value"], b.get("reply_to"))
            for b in api.delivered
        ],
        fail=lambda: api.reply(500, "internal_server_error", "Something broke"),
        refuse=lambda: api.reply(422, "validation_error", "No"),
        lose_answer=api.lose_answer,
        bounce=lambda: api.suppress(LETTER.to),
    )


class TestMailer:
    def test_a_letter_arrives_as_it_was_written(self, provider: Provider) -> None:
        letter_id = provider.mailer.send(LETTER, KEY)

        assert letter_id
        assert provider.arrived() == [LETTER]

    def test_the_same_key_sends_once_and_answers_the_same(self, provider: Provider) -> None:
        first = provider.mailer.send(LETTER, KEY)
        second = provider.mailer.send(LETTER, KEY)

        assert first == second
        assert len(provider.arrived()) == 1

    def test_the_same_key_with_another_letter_is_refused_for_good(self, provider: Provider) -> None:
        provider.mailer.send(LETTER, KEY)

        with pytest.raises(Refused) as refusal:
            provider.mailer.send(replace(LETTER, text="Something else"), KEY)

        assert refusal.value.final
        assert provider.arrived() == [LETTER]

    def test_another_key_sends_again(self, provider: Provider) -> None:
        first = provider.mailer.send(LETTER, KEY)
        second = provider.mailer.send(LETTER, "grant-cycle:34:3")

        assert first != second
        assert len(provider.arrived()) == 2

    def test_an_outage_is_no_verdict(self, provider: Provider) -> None:
        provider.fail()

        with pytest.raises(TryLater) as outage:
            provider.mailer.send(LETTER, KEY)

        # It may have broken after it had accepted the letter.
        assert not outage.value.answered
        assert provider.mailer.send(LETTER, KEY)
        assert len(provider.arrived()) == 1

    def test_a_refusal_is_final_and_says_nothing_private(self, provider: Provider) -> None:
        provider.refuse()

        with pytest.raises(Refused) as refusal:
            provider.mailer.send(LETTER, KEY)

        assert refusal.value.final
        assert provider.arrived() == []

    def test_a_lost_answer_and_a_second_call_deliver_one_letter(self, provider: Provider) -> None:
        provider.lose_answer()

        with pytest.raises(TryLater) as lost:
            provider.mailer.send(LETTER, KEY)
        provider.mailer.send(LETTER, KEY)

        assert not lost.value.answered
        assert len(provider.arrived()) == 1

    def test_an_address_that_bounced_gets_no_more_until_that_is_lifted(self, provider: Provider) -> None:
        provider.mailer.send(LETTER, "first")
        provider.bounce()
        assert provider.mailer.send(LETTER, "kept back"), "it is taken all the same"
        assert len(provider.arrived()) == 1

        provider.mailer.lift(LETTER.to.upper())
        provider.mailer.send(LETTER, "after")

        assert len(provider.arrived()) == 2

    def test_to_lift_what_is_not_kept_back_is_quiet(self, provider: Provider) -> None:
        provider.mailer.lift("nobody@customers.test")

        assert provider.mailer.send(LETTER, KEY)

    def test_an_event_is_read_once_it_is_proved(self, provider: Provider) -> None:
        body = json.dumps(
            {"type": "email.delivered", "created_at": "2026-11-21T12:00:00Z", "data": {"email_id": "re_1"}}
        )
        headers = signed_headers("msg_1", body, SECRET)

        event = provider.mailer.read_event(body.encode(), headers)

        assert event == LetterEvent("msg_1", "re_1", Happened.DELIVERED, datetime(2026, 11, 21, 12, tzinfo=UTC))
        with pytest.raises(BadSignature):
            provider.mailer.read_event(body.encode() + b" ", headers)
        with pytest.raises(BadSignature):
            provider.mailer.read_event(body.encode(), {})


class TestResend:
    def test_the_request_carries_key_sender_and_kind(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        resend_mailer.send(LETTER, KEY)

        [(headers, body)] = api.requests
        assert headers["idempotency-key"] == KEY
        assert headers["authorization"] == f"Bearer {resend_api.API_KEY}"
        assert body["from"] == LETTER.sender
        assert body["tags"] == [{"name": "kind", "value": "access_granted"}]
        assert body["headers"] == {"Auto-Submitted": "auto-generated"}
        assert body["reply_to"] == "help@sts.test"

    def test_a_letter_without_an_address_for_answers_names_none(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        resend_mailer.send(replace(LETTER, reply_to=None), KEY)

        assert "reply_to" not in api.sent[0]

    @pytest.mark.parametrize(("status", "name"), [(401, "restricted_api_key"), (500, "internal_server_error")])
    def test_what_cannot_be_lifted_says_so_and_names_nobody(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer, status: int, name: str
    ) -> None:
        api.reply(status, name, f"No: {LETTER.to}")

        with pytest.raises(MailerError) as trouble:
            resend_mailer.lift(LETTER.to)

        assert str(trouble.value) == f"{status} {name}"

    @pytest.mark.parametrize("name", ["rate_limit_exceeded", "daily_quota_exceeded", "monthly_quota_exceeded"])
    def test_a_rate_limit_says_how_long(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer, name: str
    ) -> None:
        api.reply(429, name, "Too many", headers={"Retry-After": "42"})

        with pytest.raises(TryLater) as limit:
            resend_mailer.send(LETTER, KEY)

        assert limit.value.after == timedelta(seconds=42)
        assert limit.value.answered

    def test_a_rate_limit_without_a_number_leaves_the_delay_to_us(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.reply(429, "rate_limit_exceeded", "Too many", headers={"Retry-After": "soon"})

        with pytest.raises(TryLater) as limit:
            resend_mailer.send(LETTER, KEY)

        assert limit.value.after is None

    @pytest.mark.parametrize(
        ("status", "name"), [(401, "restricted_api_key"), (403, "validation_error"), (403, "invalid_api_key")]
    )
    def test_trouble_with_our_account_may_be_mended_by_a_person(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer, status: int, name: str
    ) -> None:
        api.reply(status, name, "The domain is not verified")

        with pytest.raises(Refused) as refusal:
            resend_mailer.send(LETTER, KEY)

        assert not refusal.value.final
        assert refusal.value.reason == f"{status} {name}"

    def test_a_call_in_flight_under_the_same_key_is_waited_for(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.reply(409, "concurrent_idempotent_requests", "Another request is in progress")

        with pytest.raises(TryLater) as busy:
            resend_mailer.send(LETTER, KEY)

        assert busy.value.answered

    def test_a_page_from_the_proxy_in_between_is_an_outage(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.reply(502, html="<h1>Bad gateway</h1>")

        with pytest.raises(TryLater) as outage:
            resend_mailer.send(LETTER, KEY)

        assert outage.value.reason == "502 application_error"

    def test_an_answer_without_an_id_is_no_success(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.reply_body({"object": "email"})

        with pytest.raises(TryLater) as odd:
            resend_mailer.send(LETTER, KEY)

        assert not odd.value.answered

    def test_a_success_page_that_is_not_json_is_no_success(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.reply(200, html="<h1>Welcome to the hotel network</h1>")

        with pytest.raises(TryLater) as odd:
            resend_mailer.send(LETTER, KEY)

        assert not odd.value.answered

    def test_a_slow_answer_is_given_up_and_the_letter_sent_once(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.stall()

        with pytest.raises(TryLater) as slow:
            resend_mailer.send(LETTER, KEY)
        resend_mailer.send(LETTER, KEY)

        assert not slow.value.answered
        assert len(api.sent) == 1

    def test_a_connection_dropped_before_the_letter_was_taken(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        api.hang_up()

        with pytest.raises(TryLater) as dropped:
            resend_mailer.send(LETTER, KEY)

        assert not dropped.value.answered
        assert api.sent == []

    def test_nobody_listening_is_an_outage(self, api: resend_api.ResendApi) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            mailer = ResendMailer(SecretStr(resend_api.API_KEY), api_base=f"http://127.0.0.1:{port}", timeout=1)

            with pytest.raises(TryLater) as nobody:
                mailer.send(LETTER, KEY)

        assert not nobody.value.answered

    def test_nothing_private_reaches_an_error_or_the_log(
        self, api: resend_api.ResendApi, resend_mailer: ResendMailer
    ) -> None:
        letter = replace(LETTER, to="alice@refused.test")

        with structlog.testing.capture_logs() as lines, pytest.raises(MailerError) as refusal:
            resend_mailer.send(letter, KEY)

        [line] = lines
        assert line["event"] == "emails.call"
        assert line["outcome"] == "Refused"
        assert line["reason"] == "422 validation_error"
        # A chained vendor error would print its message, which quotes the address.
        assert refusal.value.__cause__ is None
        assert refusal.value.__context__ is None
        said = f"{lines} {refusal.value}"
        for private in (letter.to, letter.text, letter.subject, KEY, resend_api.API_KEY):
            assert private not in said


class TestSimulatedMailer:
    def test_a_key_is_forgotten_after_a_day(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = MemoryStore()
        mailer = SimulatedMailer(store)
        mailer.send(LETTER, KEY)
        [first] = delivered(store)
        monkeypatch.setattr("sts_app.core.clock.now", lambda: first.sent_at + timedelta(hours=24))

        mailer.send(LETTER, KEY)

        assert len(delivered(store)) == 2

    def test_faults_are_met_once_each_and_in_order(self) -> None:
        store = MemoryStore()
        mailer = SimulatedMailer(store)
        misbehave(store, Fault.FAIL, times=2)
        misbehave(store, Fault.REFUSE)

        for expected in (TryLater, TryLater, Refused):
            with pytest.raises(expected):
                mailer.send(LETTER, KEY)

        assert mailer.send(LETTER, KEY)

    def test_the_mailbox_keeps_the_last_five_hundred(self) -> None:
        store = MemoryStore()
        mailer = SimulatedMailer(store)

        for number in range(560):
            mailer.send(replace(LETTER, subject=f"Letter {number}"), f"key:{number}")

        kept = delivered(store)
        assert len(kept) == 500
        assert kept[0].subject == "Letter 559"
        assert kept[-1].subject == "Letter 60"
        assert len(store.all("mailbox")) < 560

    def test_a_mailbox_is_found_by_a_part_of_the_address(self) -> None:
        store = MemoryStore()
        mailer = SimulatedMailer(store)
        mailer.send(LETTER, "key:1")
        mailer.send(replace(LETTER, to="bob@customers.test"), "key:2")

        assert [letter.to for letter in delivered(store, to="ALICE@")] == ["alice@customers.test"]
