"""What every way to TradingView promises, and what the live one survives."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from sts_app.core import clock
from sts_app.core.store import MemoryStore
from sts_app.provisioning import simulated
from sts_app.provisioning.gateway import (
    AccessFact,
    NeedsCustomer,
    NeedsStaff,
    ScriptAnswer,
    TradingView,
    TradingViewError,
    TryLater,
)
from sts_app.provisioning.live import LONGEST_WAIT, AccessService
from sts_app.provisioning.simulated import Fault, SimulatedTradingView
from tests.fakes.access_service import SESSION_ID, SIGNATURE, AccessServiceFake, Dialect, Nasty

ALPHA, RIDER = "PUB;test_alpha", "PUB;test_rider"
BOTH = (ALPHA, RIDER)
SECRETS = (SESSION_ID, SIGNATURE)


@dataclass
class World:
    """One way to TradingView, with the levers of whoever stands behind it."""

    gateway: TradingView
    holds: Callable[[str, str], bool]
    break_session: Callable[[], None]
    limit_rate: Callable[[int], None]
    lose_answer: Callable[[], None]
    lie: Callable[[], None]
    refuse: Callable[[], None]
    fail: Callable[[], None]
    says_why_in_every_call: bool = True


def live(
    fake: AccessServiceFake, *, canary: str | None = "Vendor", seconds: float = 10, base_url: str | None = None
) -> AccessService:
    return AccessService(
        base_url or fake.url,
        session_id=SecretStr(SESSION_ID),
        signature=SecretStr(SIGNATURE),
        canary=canary,
        validate_timeout=seconds,
        call_timeout=seconds,
        canary_scripts=[ALPHA],
    )


def simulated_world() -> World:
    store = MemoryStore()
    gateway = SimulatedTradingView(store, sleep=lambda seconds: None)
    return World(
        gateway,
        holds=lambda name, script: (
            (name.lower(), script) in {(held.username.lower(), held.script_id) for held in simulated.holdings(store)}
        ),
        break_session=lambda: simulated.misbehave(store, Fault.DEAD_SESSION),
        limit_rate=lambda seconds: simulated.misbehave(store, Fault.RATE_LIMIT, seconds=seconds),
        lose_answer=lambda: simulated.misbehave(store, Fault.LOSE_ANSWER),
        lie=lambda: simulated.misbehave(store, Fault.LIE),
        refuse=lambda: simulated.misbehave(store, Fault.REFUSE),
        fail=lambda: simulated.misbehave(store, Fault.FAIL),
    )


def live_world(fake: AccessServiceFake) -> World:
    def break_session() -> None:
        fake.session_is_alive = False

    def limit_rate(seconds: int) -> None:
        fake.retry_after = str(seconds)
        fake.be(Nasty.TOO_MANY)

    return World(
        live(fake),
        holds=fake.holds,
        break_session=break_session,
        limit_rate=limit_rate,
        lose_answer=lambda: fake.be(Nasty.DROP_AFTER),
        lie=lambda: fake.be(Nasty.NOTHING_DONE),
        refuse=lambda: fake.be(Nasty.FAILURE),
        fail=lambda: fake.be(Nasty.UNKNOWN_EXCEPTION),
        # The open dialect says no more of an expired session than of any other fault inside.
        says_why_in_every_call=fake.dialect is Dialect.SECURED,
    )


@pytest.fixture(params=["simulated", Dialect.OPEN, Dialect.SECURED])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "simulated":
        yield simulated_world()
        return
    with AccessServiceFake(request.param) as fake:
        yield live_world(fake)


@pytest.fixture(params=list(Dialect))
def fake(request: pytest.FixtureRequest) -> Iterator[AccessServiceFake]:
    with AccessServiceFake(request.param) as fake:
        yield fake


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def facts_of(gateway: TradingView, name: str) -> dict[str, bool]:
    return {fact.script_id: fact.has_access for fact in gateway.has_access(name, BOTH)}


def everything_told_by(error: BaseException) -> str:
    """All that a log, a page or an error tracker could show of an error, hidden context included."""
    told, seen = "", [error]
    while seen:
        one = seen.pop()
        told += f"{one!s} {one!r} {one.args!r} {vars(one)!r}\n"
        seen += [other for other in (one.__cause__, one.__context__) if other is not None]
    return told + "".join(traceback.format_exception(error))


class TestTradingView:
    def test_the_canonical_spelling_is_returned(self, world: World) -> None:
        assert world.gateway.find_name("traderJoe") == "TraderJoe"

    def test_an_unknown_name_is_not_found(self, world: World) -> None:
        assert world.gateway.find_name("Unknown_Trader") is None

    @pytest.mark.parametrize("name", ["", ".", "..", "two words", "a/../b", "%2e%2e", "näme", "x" * 300, "\ud800ab"])
    def test_what_cannot_be_a_name_is_not_found(self, world: World, name: str) -> None:
        assert world.gateway.find_name(name) is None

    def test_granting_to_an_unknown_name_needs_the_customer(self, world: World) -> None:
        with pytest.raises(NeedsCustomer):
            world.gateway.grant("unknown_trader", BOTH)

        assert not world.holds("unknown_trader", ALPHA)

    def test_an_unknown_name_never_shows_access(self, world: World) -> None:
        try:
            facts = world.gateway.has_access("unknown_trader", BOTH)
        except NeedsCustomer:
            return
        assert facts == [AccessFact(ALPHA, has_access=False), AccessFact(RIDER, has_access=False)]

    def test_a_grant_stands_for_life_and_can_be_read(self, world: World) -> None:
        answers = world.gateway.grant("Trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]
        assert world.gateway.has_access("Trader", BOTH) == [
            AccessFact(ALPHA, has_access=True, expires_at=None),
            AccessFact(RIDER, has_access=True, expires_at=None),
        ]
        assert world.holds("Trader", ALPHA)

    def test_answers_come_in_the_order_asked(self, world: World) -> None:
        world.gateway.grant("Trader", [RIDER])

        granted = world.gateway.grant("Trader", [RIDER, ALPHA])
        read = world.gateway.has_access("Trader", [RIDER, "PUB;other", ALPHA])

        assert [answer.script_id for answer in granted] == [RIDER, ALPHA]
        assert [(fact.script_id, fact.has_access) for fact in read] == [
            (RIDER, True),
            ("PUB;other", False),
            (ALPHA, True),
        ]

    def test_granting_twice_equals_once(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])
        again = world.gateway.grant("tRADER", [ALPHA])
        assert again == [ScriptAnswer(ALPHA)]

        world.gateway.revoke("Trader", [ALPHA])

        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: False}

    def test_a_revoked_script_is_absent_and_the_others_stay(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)

        answers = world.gateway.revoke("Trader", [ALPHA])

        assert answers == [ScriptAnswer(ALPHA)]
        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: True}

    def test_revoking_what_is_absent_is_quiet(self, world: World) -> None:
        assert world.gateway.revoke("Trader", BOTH) == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]

    def test_names_are_the_same_in_any_case(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])

        assert facts_of(world.gateway, "TRADER") == {ALPHA: True, RIDER: False}

    def test_one_name_says_nothing_about_another(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)

        assert facts_of(world.gateway, "Trader2") == {ALPHA: False, RIDER: False}

    def test_asking_about_nothing_answers_nothing(self, world: World) -> None:
        world.break_session()

        assert world.gateway.grant("Trader", []) == []
        assert world.gateway.revoke("Trader", []) == []
        assert world.gateway.has_access("Trader", []) == []

    def test_a_lie_about_a_grant_is_visible_by_reading(self, world: World) -> None:
        world.lie()

        answers = world.gateway.grant("Trader", BOTH)

        assert [answer.refused for answer in answers] == [None, None]
        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: False}

    def test_a_lie_about_a_removal_is_visible_by_reading(self, world: World) -> None:
        world.gateway.grant("Trader", BOTH)
        world.lie()

        answers = world.gateway.revoke("Trader", BOTH)

        assert [answer.refused for answer in answers] == [None, None]
        assert facts_of(world.gateway, "Trader") == {ALPHA: True, RIDER: True}

    def test_a_refusal_is_told_for_each_script_and_does_nothing(self, world: World) -> None:
        world.refuse()

        answers = world.gateway.grant("Trader", BOTH)

        assert answers == [ScriptAnswer(ALPHA, "Failure"), ScriptAnswer(RIDER, "Failure")]
        assert facts_of(world.gateway, "Trader") == {ALPHA: False, RIDER: False}

    def test_a_refused_removal_is_told_and_does_nothing(self, world: World) -> None:
        world.gateway.grant("Trader", [ALPHA])
        world.refuse()

        answers = world.gateway.revoke("Trader", [ALPHA])

        assert answers == [ScriptAnswer(ALPHA, "Failure")]
        assert facts_of(world.gateway, "Trader")[ALPHA]

    def test_a_lost_answer_is_for_later_and_the_next_read_shows_the_deed(self, world: World) -> None:
        world.lose_answer()

        with pytest.raises(TryLater):
            world.gateway.grant("Trader", [ALPHA])

        assert facts_of(world.gateway, "Trader")[ALPHA]

    def test_a_failed_call_is_for_later_and_only_once(self, world: World) -> None:
        world.fail()

        with pytest.raises(TryLater):
            world.gateway.grant("Trader", [ALPHA])

        assert not world.holds("Trader", ALPHA)
        assert world.gateway.grant("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

    def test_a_rate_limit_is_for_later_and_says_when(self, world: World) -> None:
        world.limit_rate(90)

        with pytest.raises(TryLater) as caught:
            world.gateway.grant("Trader", [ALPHA])

        assert caught.value.after == timedelta(seconds=90)
        assert not world.holds("Trader", ALPHA)

    def test_a_living_session_is_quiet(self, world: World) -> None:
        world.gateway.check_session()

    def test_a_dead_session_needs_staff(self, world: World) -> None:
        world.break_session()

        with pytest.raises(NeedsStaff):
            world.gateway.check_session()

    @pytest.mark.parametrize("op", ["find_name", "grant", "revoke", "has_access"])
    def test_a_dead_session_is_no_verdict_about_a_name(self, world: World, op: str) -> None:
        world.break_session()

        with pytest.raises(NeedsStaff if world.says_why_in_every_call else TryLater):
            perform(world.gateway, op)

    def test_every_call_leaves_one_line(self, world: World) -> None:
        with capture_logs() as lines:
            world.gateway.grant("Trader", [ALPHA])
            world.fail()
            with pytest.raises(TryLater):
                world.gateway.grant("Trader", [ALPHA])

        assert [(line["event"], line["op"], line["outcome"]) for line in lines] == [
            ("tradingview.call", "grant", "answered"),
            ("tradingview.call", "grant", "try_later"),
        ]
        assert all({"status", "ms"} <= set(line) for line in lines)

    def test_no_secret_is_in_an_error_or_a_log_line(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        levers: list[Callable[[], object]] = [world.fail, lambda: world.limit_rate(5), world.lose_answer]
        told = repr(world.gateway)

        with capture_logs() as lines:
            for lever in [*levers, world.break_session]:
                lever()
                with pytest.raises(TradingViewError) as caught:
                    world.gateway.grant("Trader", BOTH)
                told += everything_told_by(caught.value) + caught.value.reason

        assert len(lines) == 4
        for secret in SECRETS:
            assert secret not in told
            assert secret not in repr(lines)
            assert secret not in caplog.text


def perform(gateway: TradingView, op: str) -> object:
    asked = {"find_name": ("Trader",), "check_session": ()}.get(op, ("Trader", BOTH))
    return getattr(gateway, op)(*asked)


EVERY_OP = ("find_name", "grant", "revoke", "has_access", "check_session")
ABOUT_A_NAME = EVERY_OP[:-1]
WITH_A_LIST = ("grant", "revoke", "has_access")

FOR_LATER = [
    Nasty.BAD_GATEWAY,
    Nasty.TOO_MANY,
    Nasty.EMPTY,
    Nasty.MALFORMED,
    Nasty.DEEP,
    Nasty.OTHER_SHAPE,
    Nasty.ECHO,
    Nasty.HUGE,
    Nasty.DROP_AFTER,
]
FOR_STAFF = [Nasty.UNAUTHORISED, Nasty.FORBIDDEN, Nasty.SIGN_IN, Nasty.CAPTCHA, Nasty.REDIRECT]


class TestLiveAnswers:
    """Each bad answer, to each call: what happens next, with one call made and nothing given away."""

    @pytest.mark.parametrize("op", EVERY_OP)
    @pytest.mark.parametrize(
        ("nasty", "failure"),
        [*((nasty, TryLater) for nasty in FOR_LATER), *((nasty, NeedsStaff) for nasty in FOR_STAFF)],
    )
    def test_a_bad_answer(
        self,
        fake: AccessServiceFake,
        nasty: Nasty,
        failure: type[TradingViewError],
        op: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        gateway = live(fake)
        fake.be(nasty)

        with capture_logs() as lines, pytest.raises(TradingViewError) as caught:
            perform(gateway, op)

        assert type(caught.value) is failure
        assert len(fake.seen) == 1
        assert [line["op"] for line in lines] == [op]
        for secret in SECRETS:
            assert secret not in everything_told_by(caught.value) + repr(lines) + caplog.text

    @pytest.mark.parametrize("op", ABOUT_A_NAME)
    def test_an_unknown_exception_is_for_later(self, fake: AccessServiceFake, op: str) -> None:
        fake.be(Nasty.UNKNOWN_EXCEPTION)

        with pytest.raises(TryLater):
            perform(live(fake), op)

    @pytest.mark.parametrize("nasty", [Nasty.NO_SUCH_NAME, Nasty.NO_SUCH_PAGE])
    @pytest.mark.parametrize("op", WITH_A_LIST)
    def test_a_name_that_is_not_there_needs_the_customer(self, fake: AccessServiceFake, op: str, nasty: Nasty) -> None:
        fake.be(nasty)

        with pytest.raises(NeedsCustomer):
            perform(live(fake), op)

    @pytest.mark.parametrize("nasty", [Nasty.NO_SUCH_NAME, Nasty.NO_SUCH_PAGE])
    def test_a_name_that_is_not_there_is_not_found(self, fake: AccessServiceFake, nasty: Nasty) -> None:
        fake.be(nasty)

        assert live(fake).find_name("Trader") is None

    @pytest.mark.parametrize("canary", ["Vendor", None])
    def test_a_canary_or_an_address_that_is_not_there_needs_staff(
        self, fake: AccessServiceFake, canary: str | None
    ) -> None:
        fake.be(Nasty.NO_SUCH_NAME)

        with pytest.raises(NeedsStaff):
            live(fake, canary=canary).check_session()

    def test_a_script_left_out_is_no_access_and_no_grant(self, fake: AccessServiceFake) -> None:
        gateway = live(fake)
        fake.be(Nasty.MISSING_SCRIPTS, times=3)

        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=False, is_told=False)]
        assert [bool(answer.refused) for answer in gateway.grant("Trader", BOTH)] == [True, True]
        assert gateway.revoke("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

    def test_an_answer_about_somebody_else_proves_nothing(self, fake: AccessServiceFake) -> None:
        gateway = live(fake)
        fake.be(Nasty.ANOTHER_NAME, times=2)

        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=False, is_told=False)]
        assert gateway.grant("Trader", [ALPHA])[0].refused

    @pytest.mark.parametrize("op", ["find_name", "has_access"])
    def test_a_word_where_a_yes_or_no_belongs_is_for_later(self, fake: AccessServiceFake, op: str) -> None:
        fake.be(Nasty.ODD_VALUES)

        with pytest.raises(TryLater):
            perform(live(fake), op)

    def test_an_odd_status_is_a_refusal_and_is_not_repeated(self, fake: AccessServiceFake) -> None:
        fake.be(Nasty.ODD_VALUES)

        answers = live(fake).grant("Trader", BOTH)

        assert all(answer.refused for answer in answers)
        assert SESSION_ID not in repr(answers)

    def test_access_with_an_end_says_when(self, fake: AccessServiceFake) -> None:
        end = datetime(2031, 8, 17, 6, 27, 49, 67935, tzinfo=UTC)
        fake.holders["trader", ALPHA] = end

        assert live(fake).has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True, expires_at=end)]

    def test_access_with_an_end_becomes_access_for_life(self, fake: AccessServiceFake) -> None:
        fake.holders["trader", ALPHA] = clock.now() + timedelta(days=7)
        gateway = live(fake)

        gateway.grant("Trader", [ALPHA])

        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True, expires_at=None)]

    def test_failing_to_remove_what_was_not_there_is_no_refusal(self) -> None:
        with AccessServiceFake(Dialect.OPEN) as fake:
            fake.holders["trader", RIDER] = None

            answers = live(fake).revoke("Trader", BOTH)

            assert answers == [ScriptAnswer(ALPHA), ScriptAnswer(RIDER)]
            assert len(fake.seen) == 1

    def test_a_wait_named_as_a_date_is_understood(self, fake: AccessServiceFake) -> None:
        fake.retry_after = format_datetime(clock.now() + timedelta(seconds=120), usegmt=True)
        fake.be(Nasty.TOO_MANY)

        with pytest.raises(TryLater) as caught:
            live(fake).grant("Trader", [ALPHA])

        assert caught.value.after is not None
        assert timedelta(seconds=90) < caught.value.after <= timedelta(seconds=120)

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
    def test_a_nonsense_wait_is_bounded(
        self, fake: AccessServiceFake, header: str | None, after: timedelta | None
    ) -> None:
        fake.retry_after = header
        fake.be(Nasty.TOO_MANY)

        with pytest.raises(TryLater) as caught:
            live(fake).grant("Trader", [ALPHA])

        assert caught.value.after == after

    @pytest.mark.parametrize("nasty", [Nasty.SLOW, Nasty.DRIBBLE_HEADERS, Nasty.DRIBBLE_BODY])
    @pytest.mark.parametrize("op", ["find_name", "grant"])
    def test_a_service_that_never_finishes_is_cut_off(self, fake: AccessServiceFake, nasty: Nasty, op: str) -> None:
        gateway = live(fake, seconds=0.4)
        fake.be(nasty)
        started = time.monotonic()

        with pytest.raises(TryLater):
            perform(gateway, op)

        assert time.monotonic() - started < 5
        assert len(fake.seen) == 1

    def test_an_endless_answer_is_not_read_to_its_end(self, fake: AccessServiceFake) -> None:
        fake.be(Nasty.HUGE)

        with pytest.raises(TryLater):
            live(fake).has_access("Trader", [ALPHA])

        # What the two sockets hold comes on top of what was read.
        assert fake.bytes_of_huge < 32 * 1024 * 1024

    def test_a_redirect_is_not_followed_nor_read_to_its_end(self, fake: AccessServiceFake) -> None:
        fake.be(Nasty.REDIRECT)

        with pytest.raises(NeedsStaff):
            live(fake).grant("Trader", [ALPHA])

        assert [seen.path for seen in fake.seen] == ["/access/Trader"]
        assert fake.bytes_of_huge < 32 * 1024 * 1024


class TestLiveCalls:
    def test_requests_are_what_the_service_expects(self, fake: AccessServiceFake) -> None:
        gateway = live(fake)

        gateway.find_name("Trader")
        gateway.has_access("Trader", [ALPHA])
        gateway.grant("Trader", BOTH)
        gateway.revoke("Trader", [RIDER])
        gateway.check_session()

        assert [(seen.method, seen.path, seen.body) for seen in fake.seen] == [
            ("GET", "/validate/Trader", None),
            ("GET", "/access/Trader", {"pine_ids": [ALPHA]}),
            ("POST", "/access/Trader", {"pine_ids": [ALPHA, RIDER], "duration": "1L"}),
            ("DELETE", "/access/Trader", {"pine_ids": [RIDER]}),
            ("GET", "/access/Vendor", {"pine_ids": [ALPHA]}),
        ]
        for seen in fake.seen:
            assert (seen.headers["X-Session-Id"], seen.headers["X-Signature"]) == (SESSION_ID, SIGNATURE)

    def test_without_credentials_no_credentials_are_sent(self) -> None:
        with AccessServiceFake(Dialect.OPEN) as fake:
            gateway = AccessService(
                fake.url + "/",
                session_id=None,
                signature=SecretStr(""),
                canary=None,
                validate_timeout=5,
                call_timeout=5,
            )

            gateway.check_session()

            (seen,) = fake.seen
            assert seen.path == "/"
            assert not {"X-Session-Id", "X-Signature"} & set(seen.headers)

    def test_without_a_canary_a_sign_in_page_still_needs_staff(self, fake: AccessServiceFake) -> None:
        fake.be(Nasty.SIGN_IN)

        with pytest.raises(NeedsStaff):
            live(fake, canary=None).check_session()

    def test_bad_credentials_need_staff(self) -> None:
        with AccessServiceFake(Dialect.SECURED) as fake:
            gateway = AccessService(
                fake.url,
                session_id=SecretStr("old"),
                signature=None,
                canary="Vendor",
                validate_timeout=5,
                call_timeout=5,
            )

            with pytest.raises(NeedsStaff):
                gateway.find_name("Trader")

    def test_a_name_is_one_piece_of_the_path(self, fake: AccessServiceFake) -> None:
        assert live(fake).find_name("../access/Trader?x=1#y") is None

        assert all(seen.path.startswith("/validate/") for seen in fake.seen)

    def test_credentials_pass_no_proxy_of_the_environment(
        self, fake: AccessServiceFake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")

        assert live(fake).find_name("trader") == "Trader"

    def test_a_service_that_is_not_there_is_for_later(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            gateway = AccessService(
                f"http://127.0.0.1:{taken.getsockname()[1]}",
                session_id=SecretStr(SESSION_ID),
                signature=None,
                canary=None,
                validate_timeout=5,
                call_timeout=5,
            )

            with pytest.raises(TryLater) as caught:
                gateway.grant("Trader", [ALPHA])

        assert SESSION_ID not in everything_told_by(caught.value)

    @pytest.mark.parametrize(
        "address", ["", "127.0.0.1", "ftp://127.0.0.1", "http://", "http://[::1", "http://127.0.0.1:99999999"]
    )
    def test_an_address_that_is_none_needs_staff(self, fake: AccessServiceFake, address: str) -> None:
        with pytest.raises(NeedsStaff):
            live(fake, base_url=address or " ").grant("Trader", [ALPHA])

        assert fake.seen == []

    @pytest.mark.parametrize("secret", ["two\r\nlines-0a1b", "schlüssel-0a1b", "\x00-0a1b"])
    def test_credentials_that_cannot_be_sent_need_staff_and_stay_secret(
        self, fake: AccessServiceFake, secret: str
    ) -> None:
        gateway = AccessService(
            fake.url, session_id=SecretStr(secret), signature=None, canary=None, validate_timeout=5, call_timeout=5
        )

        with pytest.raises(NeedsStaff) as caught:
            gateway.grant("Trader", [ALPHA])

        assert "0a1b" not in everything_told_by(caught.value)
        assert fake.seen == []

    def test_credentials_in_the_address_stay_secret(self, fake: AccessServiceFake) -> None:
        with_password = fake.url.replace("http://", "http://sts:pass-0a1b@") + "/key-0a1b"

        with capture_logs() as lines, pytest.raises(NeedsCustomer) as caught:
            live(fake, base_url=with_password).grant("Trader", [ALPHA])

        assert "0a1b" not in everything_told_by(caught.value) + repr(lines)

    def test_threads_share_one_adapter(self) -> None:
        with AccessServiceFake(Dialect.SECURED) as fake:
            gateway = live(fake)
            found: set[str | None] = set()

            def look(number: int) -> None:
                found.add(gateway.find_name(f"trader{number}"))

            threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert found == {f"Trader{number}" for number in range(8)}


class TestSimulator:
    """What the simulator adds to the contract: faults on request, and a look at its memory."""

    @staticmethod
    def make(store: MemoryStore) -> tuple[SimulatedTradingView, list[float]]:
        slept: list[float] = []
        simulated.set_latency(store, 0)
        return SimulatedTradingView(store, sleep=slept.append), slept

    @pytest.mark.parametrize(
        ("fault", "failure", "done"),
        [
            (Fault.FAIL, TryLater, False),
            (Fault.RATE_LIMIT, TryLater, False),
            (Fault.LOSE_ANSWER, TryLater, True),
        ],
    )
    def test_a_failing_fault_is_spent_as_often_as_asked(
        self, store: MemoryStore, fault: Fault, failure: type[TradingViewError], done: bool
    ) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, fault, times=2)

        for _ in range(2):
            with pytest.raises(failure):
                gateway.grant("Trader", [ALPHA])

        assert bool(simulated.holdings(store)) is done
        assert simulated.faults_waiting(store) == []
        assert gateway.grant("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

    def test_when_nobody_is_known_no_call_knows_anybody(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.UNKNOWN)

        assert gateway.find_name("Trader") is None
        for act in (gateway.grant, gateway.revoke, gateway.has_access):
            with pytest.raises(NeedsCustomer):
                act("Trader", [ALPHA])

        simulated.behave(store)
        assert gateway.find_name("Trader") == "Trader"

    def test_faults_are_spent_in_the_order_asked(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.REFUSE)
        simulated.misbehave(store, Fault.FAIL)
        assert simulated.faults_waiting(store) == [Fault.REFUSE, Fault.FAIL]

        refused = gateway.revoke("Trader", [ALPHA])

        assert refused == [ScriptAnswer(ALPHA, "Failure")]
        with pytest.raises(TryLater):
            gateway.revoke("Trader", [ALPHA])

    @pytest.mark.parametrize(("fault", "held_while_waiting"), [(Fault.SLOW_BEFORE, 0), (Fault.SLOW_AFTER, 1)])
    def test_a_slow_call_waits_on_its_side_of_the_deed(
        self, store: MemoryStore, fault: Fault, held_while_waiting: int
    ) -> None:
        waits: list[tuple[float, int]] = []
        gateway = SimulatedTradingView(store, sleep=lambda s: waits.append((s, len(simulated.holdings(store)))))
        simulated.set_latency(store, 0)
        simulated.misbehave(store, fault, seconds=40)

        gateway.grant("Trader", [ALPHA])

        assert [wait for wait in waits if wait[0]] == [(40, held_while_waiting)]
        assert len(simulated.holdings(store)) == 1

    def test_reads_stay_honest_while_faults_wait(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("Trader", [ALPHA])
        waiting = [fault for fault in Fault if not fault.stands]
        for fault in waiting:
            simulated.misbehave(store, fault)

        assert gateway.find_name("trader") == "Trader"
        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True)]
        gateway.check_session()
        assert simulated.faults_waiting(store) == waiting

    def test_failing_reads_fail_and_writes_go_on(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.READS_FAIL)

        gateway.grant("Trader", [ALPHA])

        reads: list[Callable[[], Any]] = [
            lambda: gateway.find_name("Trader"),
            lambda: gateway.has_access("Trader", [ALPHA]),
            gateway.check_session,
        ]
        for read in reads:
            with pytest.raises(TryLater):
                read()
        assert len(simulated.holdings(store)) == 1

    def test_behaving_forgets_faults_and_keeps_what_was_granted(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("Trader", [ALPHA])
        for fault in Fault:
            simulated.misbehave(store, fault, times=2)

        simulated.behave(store)

        assert simulated.faults_waiting(store) == []
        gateway.check_session()
        assert gateway.revoke("Trader", [RIDER]) == [ScriptAnswer(RIDER)]
        assert [held.script_id for held in simulated.holdings(store)] == [ALPHA]

    def test_a_dead_session_spends_no_fault_and_does_nothing(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.LOSE_ANSWER)
        simulated.misbehave(store, Fault.DEAD_SESSION)

        with pytest.raises(NeedsStaff):
            gateway.grant("Trader", [ALPHA])

        assert simulated.faults_waiting(store) == [Fault.DEAD_SESSION, Fault.LOSE_ANSWER]
        assert simulated.holdings(store) == []

    def test_granting_again_keeps_the_day_of_the_first_grant(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("trader", [ALPHA])
        (first,) = simulated.holdings(store)

        gateway.grant("TRADER", [ALPHA])

        assert simulated.holdings(store) == [first]
        assert first.username == "Trader"

    def test_every_call_takes_the_latency_of_the_moment(self, store: MemoryStore) -> None:
        slept: list[float] = []
        gateway = SimulatedTradingView(store, sleep=slept.append)

        gateway.find_name("Trader")
        simulated.set_latency(store, 2000)
        gateway.check_session()

        assert slept == [0.15, 2.0]
        assert simulated.latency(store) == 2000

    def test_calls_are_counted_in_few_rows(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.FAIL)
        with pytest.raises(TryLater):
            gateway.grant("Trader", [ALPHA])

        for _ in range(100):
            gateway.find_name("Trader")

        assert simulated.calls(store) == {"grant": 1, "find_name": 100}
        assert len(store.all("calls")) <= 2 * (simulated.COUNT_ROWS + 1)

    def test_two_memories_are_one_vendor_only_if_shared(self, store: MemoryStore) -> None:
        web, _ = self.make(store)
        worker, _ = self.make(store)
        stranger, _ = self.make(MemoryStore())

        worker.grant("Trader", [ALPHA])

        assert facts_of(web, "Trader")[ALPHA]
        assert not facts_of(stranger, "Trader")[ALPHA]
