"""What both fakes of TradingView have in common: a memory, the names, bad manners on request, and gates.

Names and their spelling follow the rules of our own simulator, so that one contract can be told to all:
"unknown..." is unknown, and the first letter is in upper case.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tests.fakes.loopback import Loopback, Reply, Request

SESSION_ID = "fake-session-7f3a91c2"
SIGNATURE = "fake-signature-5d08be46"

SIGN_IN_PAGE = b"<!DOCTYPE html><html><title>Sign in</title><form><input type=password name=password></form></html>"
CAPTCHA_PAGE = b"<html><body><h1>Are you a robot?</h1><div class='g-recaptcha'></div></body></html>"
HUGE_BYTES = 64 * 1024 * 1024

Pair = tuple[str, str]


class Act(StrEnum):
    """What a request is for, in whichever way the fake spells it."""

    SESSION = "session"
    NAME = "name"
    LIST = "list"
    ADD = "add"
    CHANGE_END = "change_end"
    REMOVE = "remove"

    @property
    def is_write(self) -> bool:
        return self in WRITES


WRITES = (Act.ADD, Act.CHANGE_END, Act.REMOVE)
READS = (Act.SESSION, Act.NAME, Act.LIST)
ALL = tuple(Act)


class Nasty(StrEnum):
    """How one call is answered instead of properly. Nothing is done unless it says so."""

    # What anybody's server may say.
    BROKEN = "500 with nothing"
    UNKNOWN_EXCEPTION = "500 with an errorMessage"
    BAD_GATEWAY = "502 with a page"
    UNAVAILABLE = "503 with a time to come back"
    UNAUTHORISED = "401"
    FORBIDDEN = "403"
    NO_SUCH_NAME = "404 in JSON"
    NO_SUCH_PAGE = "404 with a page"
    TOO_MANY = "429"
    SIGN_IN = "200 with a sign-in page"
    CAPTCHA = "200 with a captcha page"
    SENT_AWAY = "302 to a sign-in page"
    REDIRECT = "302 to a sign-in page, without an end in sight"
    EMPTY = "200 with nothing"
    MALFORMED = "200 with half a JSON"
    DEEP = "200 with JSON nested too deep to read"
    ECHO = "200 with the headers it was sent"
    HUGE = "200 without an end in sight"
    SLOW = "nothing at all for longer than anybody waits"
    SLOW_AFTER = "it is done, and then nothing at all"
    DRIBBLE_HEADERS = "a header, letter by letter, for ever"
    DRIBBLE_BODY = "a body, space by space, for ever"
    DROP_BEFORE = "the connection is dropped"
    DROP_AFTER = "it is done, and the connection is dropped"
    # What makes sense to one fake or both in a way of their own; elsewhere it is a proper answer.
    OTHER_SHAPE = "200 with an object where a list belongs and a list where an object belongs"
    ODD_VALUES = "200 with strings where booleans belong"
    FAILURE = "no, for every script it is about"
    NOTHING_DONE = "200 as if it had been done"
    ANOTHER_NAME = "200 about somebody else"
    ANOTHER_LIST = "200 with the list of another account"
    MISSING_SCRIPTS = "200 with an empty list"
    CUT_LIST = "200 with the first rows as if they were all"
    SAME_PAGE = "200 with a next page that is this page"
    NO_RESULTS = "200 with a page that has no list"
    NO_NEXT = "200 with a page that does not say whether more follow"
    ODD_NEXT = "200 with a next page that is no address"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived. `at` is in seconds of the monotonic clock."""

    act: Act | None
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    at: float = field(compare=False)


class Gate:
    """One call that waits, before its deed or after it, until it is let go. Its caller may be gone by then."""

    def __init__(self, on: Iterable[Act], *, after_deed: bool) -> None:
        self.on = tuple(on)
        self.after_deed = after_deed
        self._reached, self._open, self._passed = threading.Event(), threading.Event(), threading.Event()

    def wait_until_reached(self, seconds: float = 10) -> None:
        """Return as soon as a call waits here; raise when none comes in `seconds`."""
        if not self._reached.wait(seconds):
            raise AssertionError("no call came to the gate")

    def let_go(self, seconds: float = 10) -> None:
        """Let the call go on, now or when it comes. If it waits here, return when it has been answered."""
        self._open.set()
        if self._reached.is_set() and not self._passed.wait(seconds):
            raise AssertionError("the call did not go on")

    def _hold(self) -> None:
        self._reached.set()
        self._open.wait()


@dataclass
class _Asked:
    nasty: Nasty | None
    times: int
    on: tuple[Act, ...]


class TradingViewFake(Loopback):
    """A vendor with a memory. Levers may be moved from any thread while calls are under way.

    `holders` maps (lower-cased name, script) to the end of the access, None for life, oldest first.
    `unknown` are names in lower case that nobody there has (any longer). `credentials` are the pairs of
    session id and signature that are let in. `latency` is the seconds that every answer takes longer.
    """

    def __init__(self) -> None:
        self.holders: dict[Pair, datetime | None] = {}
        self.unknown: set[str] = set()
        self.seen: list[Seen] = []
        self.lock = threading.RLock()
        self._gates: list[Gate] = []
        self._held: list[Gate] = []
        self.reset()

    def reset(self) -> None:
        """Forget everything: who holds what, what was seen, who was let in, and every lever that was moved."""
        with self.lock:
            self.holders.clear()
            self.unknown.clear()
            self.seen.clear()
            self.credentials = {(SESSION_ID, SIGNATURE)}
            self.bytes_of_huge = 0
            self.behave()

    def behave(self) -> None:
        """Answer properly from now on. What is held and who is let in stay."""
        with self.lock:
            self._asked: list[_Asked] = []
            self.session_is_alive = True
            self.retry_after: str | None = "17"
            self.latency = 0.0
            held = [*self._gates, *self._held]
            self._gates, self._held = [], []
        for gate in held:
            gate._open.set()

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self.behave()
        super().__exit__(*error)

    # Levers.

    def be(self, nasty: Nasty | None, *, times: int = 1, on: Iterable[Act] = ALL) -> None:
        """Answer the next `times` calls of these acts so, after those that were asked for before.

        None lets a call pass properly, to make the one after it nasty.
        """
        with self.lock:
            self._asked.append(_Asked(nasty, times, tuple(on)))

    def hold(self, *, on: Iterable[Act] = ALL, after_deed: bool = False) -> Gate:
        """Make the next call of these acts wait at a gate, before its deed or after it."""
        gate = Gate(on, after_deed=after_deed)
        with self.lock:
            self._gates.append(gate)
        return gate

    def holds(self, name: str, script: str) -> bool:
        return (name.lower(), script) in self.holders

    def give(self, name: str, script: str, *, until: datetime | None = None) -> None:
        """Give access behind everybody's back."""
        with self.lock:
            self.holders[name.lower(), script] = until

    def take(self, name: str, script: str) -> None:
        """Take access away behind everybody's back."""
        with self.lock:
            self.holders.pop((name.lower(), script), None)

    def held(self) -> dict[Pair, datetime | None]:
        """All access that stands, as it is at this moment."""
        with self.lock:
            return dict(self.holders)

    def spelling(self, name: str) -> str | None:
        """TradingView's spelling of a name, None when nobody there has it."""
        lower = name.lower()
        if not re.fullmatch(r"[A-Za-z0-9_-]{3,30}", name) or lower.startswith("unknown") or lower in self.unknown:
            return None
        return name[0].upper() + name[1:]

    # What a fake fills in.

    def act_of(self, request: Request) -> Act | None:
        """What a request is for; None for an address that is not there."""
        raise NotImplementedError

    def pairs_of(self, request: Request) -> set[Pair]:
        """The names, in lower case, and scripts that a request is about."""
        raise NotImplementedError

    def properly(self, request: Request, act: Act | None, nasty: Nasty | None) -> Reply:
        """The deed and its answer, under `lock`."""
        raise NotImplementedError

    def carry(self, request: Request, act: Act | None, answer: Callable[[], Reply]) -> Reply:
        """Bring a request to its answer. A scheduler that interleaves calls puts itself in between here."""
        return answer()

    # What it does.

    def answer(self, request: Request) -> Reply:
        act = self.act_of(request)
        with self.lock:
            self.seen.append(
                Seen(
                    act,
                    request.method,
                    request.path,
                    request.query,
                    dict(request.headers),
                    request.body,
                    time.monotonic(),
                )
            )
        return self.carry(request, act, lambda: self._answer(request, act))

    def _answer(self, request: Request, act: Act | None) -> Reply:
        with self.lock:
            nasty, gate = self._next_nasty(act), self._next_gate(act)
        if self.latency:
            self.stopping.wait(self.latency)
        try:
            if gate is not None and not gate.after_deed:
                gate._hold()
            reply = self._plainly_nasty(request, nasty)
            if reply is None:
                with self.lock:
                    reply = self.properly(request, act, nasty)
            if gate is not None and gate.after_deed:
                gate._hold()
        finally:
            if gate is not None:
                gate._passed.set()
        if nasty is Nasty.SLOW_AFTER:
            self.wait_for_hang_up(request)
        if nasty in (Nasty.SLOW_AFTER, Nasty.DROP_AFTER):
            raise ConnectionAbortedError
        return reply

    def _next_nasty(self, act: Act | None) -> Nasty | None:
        for asked in self._asked:
            if act is None or act in asked.on:
                asked.times -= 1
                if asked.times <= 0:
                    self._asked.remove(asked)
                return asked.nasty
        return None

    def _next_gate(self, act: Act | None) -> Gate | None:
        for gate in self._gates:
            if act in gate.on:
                self._gates.remove(gate)
                self._held.append(gate)
                return gate
        return None

    def _plainly_nasty(self, request: Request, nasty: Nasty | None) -> Reply | None:
        """The answers that need neither memory nor credentials; None for all others."""
        match nasty:
            case Nasty.BROKEN:
                return Reply(500)
            case Nasty.UNKNOWN_EXCEPTION:
                return in_json({"errorMessage": "Unknown Exception Occurred"}, 500)
            case Nasty.BAD_GATEWAY:
                return page(b"<html><h1>502 Bad Gateway</h1></html>", 502)
            case Nasty.UNAVAILABLE:
                return self._come_back(page(b"<html><h1>503 Service Unavailable</h1></html>", 503))
            case Nasty.UNAUTHORISED:
                # A careless server repeats what it was sent.
                sent = request.headers.get("X-Session-Id") or request.headers.get("Cookie")
                return in_json({"error": f"bad session {sent}"}, 401)
            case Nasty.FORBIDDEN:
                return page(SIGN_IN_PAGE, 403)
            case Nasty.NO_SUCH_NAME:
                return in_json({"error": "no such user"}, 404)
            case Nasty.NO_SUCH_PAGE:
                return page(b"<!doctype html><title>404 Not Found</title><h1>Not Found</h1>", 404)
            case Nasty.TOO_MANY:
                return self._come_back(in_json({"error": "too many requests"}, 429))
            case Nasty.SIGN_IN:
                return page(SIGN_IN_PAGE)
            case Nasty.CAPTCHA:
                return page(CAPTCHA_PAGE)
            case Nasty.SENT_AWAY:
                return Reply(302, headers={"Location": f"{self.url}/accounts/signin/"})
            case Nasty.REDIRECT:
                return Reply(302, self._huge(), headers={"Location": f"{self.url}/accounts/signin/"})
            case Nasty.EMPTY:
                return Reply(200)
            case Nasty.MALFORMED:
                return Reply(200, b'[{"pine_id": "PUB;')
            case Nasty.DEEP:
                return Reply(200, b"[" * 200_000)
            case Nasty.ECHO:
                return in_json({"you sent": dict(request.headers)})
            case Nasty.HUGE:
                return Reply(200, self._huge())
            case Nasty.DRIBBLE_BODY:
                return Reply(200, self._dribble())
            case Nasty.DRIBBLE_HEADERS:
                request.socket.sendall(b"HTTP/1.1 200 OK\r\nX-Patience: ")
                for _ in self._dribble():
                    request.socket.sendall(b"a")
                raise ConnectionAbortedError
            case Nasty.SLOW:
                self.wait_for_hang_up(request)
                raise ConnectionAbortedError
            case Nasty.DROP_BEFORE:
                raise ConnectionAbortedError
            case _:
                return None

    def _come_back(self, reply: Reply) -> Reply:
        if self.retry_after is not None:
            reply.headers["Retry-After"] = self.retry_after
        return reply

    def _huge(self) -> Iterator[bytes]:
        chunk = b" " * 64 * 1024
        while self.bytes_of_huge < HUGE_BYTES and not self.stopping.is_set():
            self.bytes_of_huge += len(chunk)
            yield chunk

    def _dribble(self) -> Iterator[bytes]:
        while not self.stopping.wait(0.02):
            yield b" "


def in_json(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), "application/json; charset=utf-8")


def page(html: bytes, status: int = 200) -> Reply:
    return Reply(status, html, "text/html; charset=utf-8")
