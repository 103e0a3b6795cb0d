"""What every live way to TradingView survives: bad answers, slow ones, endless ones, and odd settings."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from sts_app.core import clock
from sts_app.provisioning.gateway import NeedsStaff, TradingViewError, Trouble, TryLater
from sts_app.provisioning.live_http import LONGEST_WAIT
from tests.contracts.ways import (
    ALPHA,
    BOTH,
    EVERY_OP,
    LIVE,
    OPEN,
    SECRETS,
    Live,
    everything_told_by,
    live_way,
    perform,
)
from tests.fakes.vendor import SESSION_ID, Nasty

FOR_LATER = [
    Nasty.BAD_GATEWAY,
    Nasty.UNAVAILABLE,
    Nasty.TOO_MANY,
    Nasty.MALFORMED,
    Nasty.DEEP,
    Nasty.OTHER_SHAPE,
    Nasty.HUGE,
    Nasty.DROP_BEFORE,
    Nasty.DROP_AFTER,
]
FOR_STAFF = [
    Nasty.UNAUTHORISED,
    Nasty.FORBIDDEN,
    Nasty.SIGN_IN,
    Nasty.CAPTCHA,
    Nasty.SENT_AWAY,
    Nasty.REDIRECT,
]


@pytest.fixture(params=LIVE)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with live_way(request.param) as live:
        yield live


class TestAnswers:
    """Each bad answer, to each call: what happens next, with one call made and nothing given away."""

    @pytest.mark.parametrize("op", EVERY_OP)
    @pytest.mark.parametrize(
        ("nasty", "failure"),
        [*((nasty, TryLater) for nasty in FOR_LATER), *((nasty, NeedsStaff) for nasty in FOR_STAFF)],
    )
    def test_a_bad_answer(
        self, live: Live, nasty: Nasty, failure: type[TradingViewError], op: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        gateway = live.gateway()
        live.fake.be(nasty)

        with capture_logs() as lines, pytest.raises(TradingViewError) as caught:
            perform(gateway, op)

        assert type(caught.value) is failure
        assert len(live.fake.seen) == len(live.metered) == 1
        assert [line["op"] for line in lines] == [op]
        told = everything_told_by(caught.value) + repr(lines) + repr(live.metered) + repr(gateway) + caplog.text
        assert not [secret for secret in SECRETS if secret in told]

    @pytest.mark.parametrize(
        ("op", "nasty"),
        [
            ("find_name", Nasty.EMPTY),
            ("has_access", Nasty.EMPTY),
            ("check_session", Nasty.EMPTY),
            ("find_name", Nasty.ODD_VALUES),
            ("has_access", Nasty.ODD_VALUES),
        ],
    )
    def test_a_reading_that_says_nothing_is_for_later(self, live: Live, op: str, nasty: Nasty) -> None:
        live.fake.be(nasty)

        with pytest.raises(TryLater):
            perform(live.gateway(), op)

    @pytest.mark.parametrize("op", ["grant", "revoke"])
    def test_an_odd_word_is_a_refusal_that_is_not_repeated(self, live: Live, op: str) -> None:
        live.fake.give("Trader", ALPHA)
        live.fake.be(Nasty.ODD_VALUES)

        (answer,) = getattr(live.gateway(), op)("Trader", [ALPHA])

        assert answer.refused
        assert "says no" not in repr(answer)

    @pytest.mark.parametrize("nasty", [Nasty.TOO_MANY, Nasty.UNAVAILABLE])
    def test_a_wait_named_as_a_date_is_understood(self, live: Live, nasty: Nasty) -> None:
        live.fake.retry_after = format_datetime(clock.now() + timedelta(seconds=120), usegmt=True)
        live.fake.be(nasty)

        with pytest.raises(TryLater) as caught:
            live.gateway().grant("Trader", [ALPHA])

        assert caught.value.after is not None
        assert timedelta(seconds=90) < caught.value.after <= timedelta(seconds=120)
        assert [(made.limited, made.after) for made in live.metered] == [(nasty is Nasty.TOO_MANY, caught.value.after)]

    @pytest.mark.parametrize(
        ("header", "after"),
        [
            (None, None),
            ("soon", None),
            ("-5", None),
            ("0", timedelta(0)),
            ("9" * 400, LONGEST_WAIT),
            ("Wed, 21 Oct 2015 07:28:00 GMT", timedelta(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ],
    )
    def test_a_nonsense_wait_is_bounded(self, live: Live, header: str | None, after: timedelta | None) -> None:
        live.fake.retry_after = header
        live.fake.be(Nasty.TOO_MANY)

        with pytest.raises(TryLater) as caught:
            live.gateway().grant("Trader", [ALPHA])

        assert caught.value.after == after
        assert caught.value.trouble is Trouble.RATE_LIMIT

    @pytest.mark.parametrize("nasty", [Nasty.SLOW, Nasty.SLOW_AFTER, Nasty.DRIBBLE_HEADERS, Nasty.DRIBBLE_BODY])
    @pytest.mark.parametrize("op", ["find_name", "grant"])
    def test_an_answer_that_never_ends_is_cut_off(self, live: Live, nasty: Nasty, op: str) -> None:
        gateway = live.gateway(seconds=0.3)
        live.fake.be(nasty)
        started = time.monotonic()

        with pytest.raises(TryLater) as caught:
            perform(gateway, op)

        assert caught.value.trouble is Trouble.TIMEOUT
        assert time.monotonic() - started < 5
        assert [made.outcome for made in live.metered] == ["timeout"]
        assert len(live.fake.seen) <= 1

    def test_an_endless_answer_is_not_read_to_its_end(self, live: Live) -> None:
        live.fake.be(Nasty.HUGE)

        with pytest.raises(TryLater):
            live.gateway().has_access("Trader", [ALPHA])

        # What the two sockets hold comes on top of what was read.
        assert live.fake.bytes_of_huge < 32 * 1024 * 1024

    def test_a_redirect_is_not_followed_nor_read_to_its_end(self, live: Live) -> None:
        live.fake.be(Nasty.REDIRECT)

        with pytest.raises(NeedsStaff):
            live.gateway().grant("Trader", [ALPHA])

        assert len(live.fake.seen) == 1
        assert live.fake.bytes_of_huge < 32 * 1024 * 1024

    def test_a_deed_that_comes_late_is_done_and_seen_by_reading(self, live: Live) -> None:
        gate = live.fake.hold()
        with pytest.raises(TryLater):
            live.gateway(seconds=0.5).grant("Trader", [ALPHA])
        gate.wait_until_reached()
        assert not live.fake.holds("Trader", ALPHA)

        gate.let_go()

        assert live.gateway().has_access("Trader", [ALPHA])[0].has_access


class TestCalls:
    def test_bad_credentials_need_staff(self, live: Live) -> None:
        live.fake.credentials = {("new", "new")}
        if live.way == OPEN:
            live.fake.session_is_alive = False

        with pytest.raises(NeedsStaff):
            live.gateway().check_session()

    @pytest.mark.parametrize("secret", ["two\r\nlines-0a1b", "schlüssel-0a1b", "\x00-0a1b"])
    @pytest.mark.parametrize("op", EVERY_OP)
    def test_credentials_that_cannot_be_sent_need_staff_and_stay_secret(self, live: Live, secret: str, op: str) -> None:
        gateway = live.gateway(session_id=secret)

        with capture_logs() as lines, pytest.raises(NeedsStaff) as caught:
            perform(gateway, op)

        assert "0a1b" not in everything_told_by(caught.value) + repr(lines) + repr(gateway)
        assert (live.fake.seen, live.metered) == ([], [])

    @pytest.mark.parametrize(
        "address",
        ["", "127.0.0.1", "ftp://127.0.0.1", "http://", "http://[::1", "http://127.0.0.1:99999999", "http://a\r\nb: c"],
    )
    def test_an_address_that_is_none_needs_staff(self, live: Live, address: str) -> None:
        with pytest.raises(NeedsStaff):
            live.gateway(base_url=address).grant("Trader", [ALPHA])

        assert (live.fake.seen, live.metered) == ([], [])

    def test_credentials_in_the_address_stay_secret(self, live: Live) -> None:
        with_password = live.fake.url.replace("http://", "http://sts:pass-0a1b@") + "/key-0a1b"

        with capture_logs() as lines, pytest.raises(TradingViewError) as caught:
            live.gateway(base_url=with_password).grant("Trader", [ALPHA])

        assert "0a1b" not in everything_told_by(caught.value) + repr(lines) + repr(live.metered)

    def test_credentials_pass_no_proxy_of_the_environment(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")

        assert live.gateway().find_name("trader") == "Trader"

    def test_a_vendor_that_is_not_there_is_for_later(self, live: Live) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            gateway = live.gateway(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}")

            with pytest.raises(TryLater) as caught:
                gateway.grant("Trader", [ALPHA])

        assert SESSION_ID not in everything_told_by(caught.value)
        assert [made.outcome for made in live.metered] == ["failure"]

    def test_a_handshake_that_never_ends_is_cut_off(self, live: Live) -> None:
        over = threading.Event()

        def dribble(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KB is announced
                while not over.wait(0.02):
                    connection.sendall(b"\x02")

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=dribble, args=(listener,))
            thread.start()
            started = time.monotonic()
            with pytest.raises(TryLater) as caught:
                live.gateway(base_url=f"https://127.0.0.1:{listener.getsockname()[1]}", seconds=0.4).find_name("Trader")
            took = time.monotonic() - started
            over.set()
            thread.join()

        assert caught.value.trouble is Trouble.TIMEOUT
        assert took < 5

    def test_each_call_is_a_connection_of_its_own(self, live: Live) -> None:
        gateway = live.gateway()

        gateway.has_access("Trader", BOTH)
        gateway.close()
        gateway.find_name("Trader")

        assert all(seen.headers["Connection"] == "close" for seen in live.fake.seen)

    def test_no_cookie_is_taken_from_an_answer(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        properly = live.fake.properly

        def with_a_cookie(*asked: object) -> object:
            reply = properly(*asked)  # type: ignore[arg-type]  # what the fake itself hands over
            reply.headers["Set-Cookie"] = "sessionid=somebody-else; Path=/"
            return reply

        monkeypatch.setattr(live.fake, "properly", with_a_cookie)
        gateway = live.gateway()
        gateway.find_name("Trader")
        gateway.find_name("Trader")

        assert "somebody-else" not in repr(live.fake.seen)

    def test_threads_share_one_adapter(self, live: Live) -> None:
        gateway = live.gateway()
        found: set[str | None] = set()

        def look(number: int) -> None:
            found.add(gateway.find_name(f"trader{number}"))

        threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert found == {f"Trader{number}" for number in range(8)}
        assert len(live.metered) == 8
