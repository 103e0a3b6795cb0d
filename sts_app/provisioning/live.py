"""TradingView through an access service: a small REST service that stands in front of it.

Two dialects are in use and both are understood: the public project, which asks for no credentials and
answers every inner fault with one and the same 500, and secured forks, which want two headers and say
401, 403 and 404. Every answer is read as if a stranger had written it: it may be a sign-in page, an
endless one, nothing at all, or a 200 that did nothing. What it says is never quoted in an error or a
log line, because a service may repeat what it was sent.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import requests
import structlog
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from sts_app.core import clock
from sts_app.provisioning.gateway import (
    AccessFact,
    NeedsCustomer,
    NeedsStaff,
    ScriptAnswer,
    TradingViewError,
    TryLater,
)

log = structlog.get_logger()

T = TypeVar("T")

LIFETIME = "1L"
FAILURE = "Failure"
NOT_MENTIONED = "not mentioned in the answer"
ODD_STATUS = "a status that makes no sense"

CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 1024 * 1024
CHUNK = 64 * 1024
# Long enough for any rate limit worth keeping, short enough that a nonsense header parks no paid order.
LONGEST_WAIT = timedelta(hours=6)

_GATE = re.compile(rb"captcha|challenge|sign[ -]?in|log[ -]?in|password", re.IGNORECASE)
_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)
_OUTCOMES = {TryLater: "try_later", NeedsCustomer: "needs_customer", NeedsStaff: "needs_staff"}


class AccessService:
    """The `TradingView` gateway over an access service at `base_url`.

    `validate_timeout` and `call_timeout` are seconds for a whole call, connection included:
    the first for looking a name up, the second for access, which asks TradingView two or three times
    for each script. `session_id` and `signature` are sent as headers when they are set.

    `canary` is the name of a known holder, for `check_session`; `canary_scripts` are the scripts it is
    asked about. No call is ever repeated here: whoever calls counts and paces.
    """

    def __init__(
        self,
        base_url: str,
        *,
        session_id: SecretStr | None,
        signature: SecretStr | None,
        canary: str | None,
        validate_timeout: float,
        call_timeout: float,
        canary_scripts: Sequence[str] = (),
    ) -> None:
        self._base_url = base_url.strip().rstrip("/")
        self._credentials = {"X-Session-Id": session_id, "X-Signature": signature}
        self._canary = canary
        self._canary_scripts = list(canary_scripts)
        self._validate_timeout = validate_timeout
        self._call_timeout = call_timeout
        self._session = _Session()

    def close(self) -> None:
        """Let go of what the HTTP client holds. A later call opens it anew."""
        self._session.close()

    def find_name(self, name: str) -> str | None:
        """The name in TradingView's own spelling, or None when it is unknown there. Takes one call.

        A yes without that spelling, or with another name's, is no answer (`TryLater`).
        """

        def read(answer: _Answer) -> str | None:
            record = answer.record(answer.json())
            known = record.get("validuser")
            if known is False:
                return None
            spelling = record.get("verifiedusername")
            if known is not True or not isinstance(spelling, str) or spelling.lower() != name.lower():
                raise TryLater("find_name: the answer makes no sense")
            return spelling

        if not _can_be_a_name(name):
            return None
        try:
            return self._call("find_name", "GET", f"/validate/{_quoted(name)}", read, self._validate_timeout)
        except NeedsCustomer:
            return None

    def grant(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for access for life; `Not Applied` is a yes, because it means that it is there already.

        The open dialect says `Failure` for a name that TradingView does not know. So when every script
        is answered so, the name is looked up (a second call): unknown is `NeedsCustomer`.
        """

        def read(answer: _Answer) -> list[ScriptAnswer]:
            entries = answer.entries(name)
            return [ScriptAnswer(script, _refusal(entries.get(script))) for script in script_ids]

        if not script_ids:
            return []
        answers = self._access("grant", "POST", name, script_ids, read, duration=LIFETIME)
        if all(answer.refused == FAILURE for answer in answers) and self.find_name(name) is None:
            raise NeedsCustomer("grant: TradingView does not know this name")
        return answers

    def revoke(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for removal. `Failure` for a script that the name did not hold is no refusal, and neither
        is silence about a script: not every dialect answers a removal. Reading back tells.
        """

        def read(answer: _Answer) -> list[ScriptAnswer]:
            entries = answer.entries(name)
            absent = {script for script, entry in entries.items() if entry.get("hasaccess") is False}
            return [
                ScriptAnswer(script, _refusal(entries[script]) if script in entries and script not in absent else None)
                for script in script_ids
            ]

        if not script_ids:
            return []
        return self._access("revoke", "DELETE", name, script_ids, read)

    def has_access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact]:
        """Read what stands. Only an entry under this very name, ignoring case, says that access is there."""

        def read(answer: _Answer) -> list[AccessFact]:
            entries = answer.entries(name)
            return [_fact(script, entries.get(script)) for script in script_ids]

        if not script_ids:
            return []
        return self._access("has_access", "GET", name, script_ids, read)

    def check_session(self) -> None:
        """Ask for the access of the canary and see whether the answer is a list.

        The open dialect hides an expired session in the same 500 as every other inner fault, so here,
        and only here, that answer counts as a dead session (`NeedsStaff`). Without a canary there is
        nobody to ask about: then this only learns whether the service is alive (`GET /`) and lets us in.
        """
        if self._canary is None:
            self._call("check_session", "GET", "/", _read_sign_of_life, self._validate_timeout, about_a_name=False)
            return

        def read(answer: _Answer) -> None:
            answer.records()

        body = {"pine_ids": self._canary_scripts}
        path = f"/access/{_quoted(self._canary)}"
        self._call("check_session", "GET", path, read, self._call_timeout, body=body, about_a_name=False)

    def _access(
        self,
        op: str,
        method: str,
        name: str,
        script_ids: Sequence[str],
        read: Callable[[_Answer], T],
        **more: str,
    ) -> T:
        if not _can_be_a_name(name):
            raise NeedsCustomer(f"{op}: this cannot be a TradingView name")
        body: dict[str, Any] = {"pine_ids": list(script_ids), **more}
        return self._call(op, method, f"/access/{_quoted(name)}", read, self._call_timeout, body=body)

    def _call(
        self,
        op: str,
        method: str,
        path: str,
        read: Callable[[_Answer], T],
        seconds: float,
        *,
        body: dict[str, Any] | None = None,
        about_a_name: bool = True,
    ) -> T:
        """Make one call, write one log line, and return what `read` makes of the answer."""
        started = time.monotonic()
        status: int | None = None
        outcome = "broken"
        try:
            answer = self._exchange(op, method, path, body, seconds)
            status = answer.status
            answer.raise_for_status(about_a_name=about_a_name)
            result = read(answer)
            outcome = "answered"
            return result
        except TradingViewError as failure:
            outcome = _OUTCOMES[type(failure)]
            raise
        finally:
            ms = round((time.monotonic() - started) * 1000)
            log.info("tradingview.call", op=op, status=status, ms=ms, outcome=outcome)

    def _exchange(self, op: str, method: str, path: str, body: dict[str, Any] | None, seconds: float) -> _Answer:
        headers = self._headers(op)
        failure: TradingViewError = TryLater(f"{op}: no answer within {seconds:g} s")
        with _Deadline(seconds) as deadline:
            try:
                with self._session.request(
                    method,
                    self._base_url + path,
                    json=body,
                    headers=headers,
                    timeout=(min(CONNECT_SECONDS, seconds), seconds),
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    content = bytearray()
                    for chunk in response.iter_content(CHUNK):
                        content += chunk
                        if len(content) > LARGEST_ANSWER:
                            break
                # Cut off in the middle of a body without a length, it would look complete.
                if not deadline.passed:
                    return _Answer(op, response.status_code, response.headers, bytes(content))
            except requests.Timeout:
                pass
            except _BAD_ADDRESS:
                failure = NeedsStaff(f"{op}: the address of the access service cannot be used")
            except (requests.RequestException, HTTPError):
                if not deadline.passed:
                    failure = TryLater(f"{op}: the connection failed or was lost")
        # Raised out here so that the client's own error, which knows address and headers, is not its context.
        raise failure

    def _headers(self, op: str) -> dict[str, str]:
        # One connection per call: at this pace a kept one is mostly found dead, and nothing here may
        # try again. It also keeps sockets out of the worker's forks.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        for header, secret in self._credentials.items():
            value = secret.get_secret_value().strip() if secret else ""
            # The client's own complaint about a header shows the header.
            if not (value.isascii() and value.isprintable()):
                raise NeedsStaff(f"{op}: the stored credentials cannot be sent: they hold odd characters")
            if value:
                headers[header] = value
        return headers


@dataclass(frozen=True)
class _Answer:
    """What came back: whatever it is, at most `LARGEST_ANSWER` bytes of it and one chunk."""

    op: str
    status: int
    headers: CaseInsensitiveDict[str]
    content: bytes

    def raise_for_status(self, *, about_a_name: bool) -> None:
        """Raise what the status alone says; return when the body is worth reading."""
        op, status = self.op, self.status
        if status in (401, 403):
            raise NeedsStaff(f"{op}: the session was refused ({status})")
        if 300 <= status < 400:
            raise NeedsStaff(f"{op}: sent elsewhere ({status}), as to a sign-in page")
        if status == 404 and about_a_name and not self.is_a_gate:
            raise NeedsCustomer(f"{op}: TradingView does not know this name")
        if status == 404:
            raise NeedsStaff(f"{op}: nothing there (404): wrong address, or a canary that TradingView does not know")
        if status == 500 and not about_a_name and self._says_unknown_fault:
            raise NeedsStaff(f"{op}: the service could not ask TradingView: the session has probably expired")
        if status == 429:
            raise TryLater(f"{op}: rate limit (429)", after=self._retry_after)
        if status >= 500:
            raise TryLater(f"{op}: the service failed ({status})", after=self._retry_after)
        if not 200 <= status < 300:
            raise TryLater(f"{op}: an answer that makes no sense ({status})")
        if len(self.content) > LARGEST_ANSWER:
            raise TryLater(f"{op}: an answer far too long")

    def json(self) -> object:
        """The body as JSON. A page in its place is a sign-in or captcha page: `NeedsStaff`."""
        if not self.content.strip():
            raise TryLater(f"{self.op}: an empty answer")
        with suppress(ValueError, RecursionError):
            answer: object = json.loads(self.content)
            return answer
        if self._is_a_page:
            raise NeedsStaff(f"{self.op}: a page where data was expected, as of a sign-in or a captcha")
        raise TryLater(f"{self.op}: an answer that is no JSON")

    def record(self, value: object) -> dict[str, Any]:
        """An object by its keys in lower case, since versions differ in spelling (`validuser`, `validUser`)."""
        if not isinstance(value, dict):
            raise TryLater(f"{self.op}: an answer in another shape than asked for")
        return {key.lower(): held for key, held in value.items()}

    def records(self) -> list[dict[str, Any]]:
        value = self.json()
        if not isinstance(value, list):
            raise TryLater(f"{self.op}: an answer in another shape than asked for")
        return [self.record(entry) for entry in value]

    def entries(self, name: str) -> dict[str, dict[str, Any]]:
        """The entries about `name`, by script id. One about another name says nothing about this one."""
        found = {}
        for entry in self.records():
            script, username = entry.get("pine_id"), entry.get("username")
            if isinstance(script, str) and isinstance(username, str) and username.lower() == name.lower():
                found[script] = entry
        return found

    @property
    def is_a_gate(self) -> bool:
        """A page that asks who is there. An ordinary 404 of the service may be a page too."""
        return self._is_a_page and _GATE.search(self.content) is not None

    @property
    def _is_a_page(self) -> bool:
        kind = str(self.headers.get("Content-Type", ""))
        return "html" in kind.lower() or self.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")

    @property
    def _says_unknown_fault(self) -> bool:
        with suppress(ValueError, RecursionError):
            answer = json.loads(self.content)
            return isinstance(answer, dict) and "errorMessage" in answer
        return False

    @property
    def _retry_after(self) -> timedelta | None:
        """`Retry-After` in either of its forms, between nothing and `LONGEST_WAIT`; None when unreadable."""
        value = str(self.headers.get("Retry-After", "")).strip()
        if re.fullmatch(r"[0-9]+", value):
            # A number of a thousand digits is a long wait, not an overflow.
            wait = timedelta(seconds=int(value)) if len(value) < 7 else LONGEST_WAIT
        else:
            try:
                when = parsedate_to_datetime(value)
            except (ValueError, OverflowError):
                return None
            wait = (when if when.tzinfo else when.replace(tzinfo=UTC)) - clock.now()
        return min(max(wait, timedelta(0)), LONGEST_WAIT)


def _read_sign_of_life(answer: _Answer) -> None:
    if answer.is_a_gate:
        raise NeedsStaff(f"{answer.op}: a sign-in or captcha page")


def _refusal(entry: dict[str, Any] | None) -> str | None:
    if entry is None:
        return NOT_MENTIONED
    status = entry.get("status")
    word = status.strip().lower() if isinstance(status, str) else status
    if word in ("success", "not applied", None):
        return None
    return FAILURE if word == "failure" else ODD_STATUS


def _fact(script_id: str, entry: dict[str, Any] | None) -> AccessFact:
    if entry is None:
        return AccessFact(script_id, has_access=False, is_told=False)
    held = entry.get("hasaccess")
    if not isinstance(held, bool):
        raise TryLater("has_access: the answer says neither yes nor no")
    # Without access, or with access for life, the date in the answer means nothing.
    if not held or entry.get("noexpiration") is True:
        return AccessFact(script_id, has_access=held)
    return AccessFact(script_id, has_access=True, expires_at=_moment(entry.get("currentexpiration")))


def _moment(value: object) -> datetime:
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(value.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    raise TryLater("has_access: access with an end that cannot be read")


def _can_be_a_name(name: str) -> bool:
    """False for what would change the path instead of naming somebody in it."""
    return bool(name.strip(". "))


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="replace")


class _Deadline:
    """Cut a call off after `seconds`, whatever the other side does meanwhile.

    The client's own timeout begins anew with every byte, so a service that dribbles could hold a worker
    until its lease is over. This shuts the socket of the call instead, through a second descriptor of
    it, and works on the calls of its own thread only. Looking the host's address up is not covered.
    """

    _running = threading.local()

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._twins: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @classmethod
    def watch(cls, sock: Any) -> None:
        """Put a socket that was just connected under the deadline of this thread, if one is running."""
        deadline: _Deadline | None = getattr(cls._running, "deadline", None)
        if deadline is not None:
            deadline._watch(socket.socket(fileno=os.dup(sock.fileno())))

    def _watch(self, twin: socket.socket) -> None:
        with self._lock:
            self._twins.append(twin)
        if self.passed:
            self._cut()

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            for twin in self._twins:
                with suppress(OSError):
                    twin.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> _Deadline:
        self._running.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.deadline = None
        self._timer.cancel()
        with self._lock:
            for twin in self._twins:
                twin.close()
            self._twins.clear()


class _WatchedHTTP(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _Deadline.watch(self.sock)


class _WatchedHTTPS(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _Deadline.watch(self.sock)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPS


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


class _Session(requests.Session):
    """A client that calls once, the address it was given, with the credentials it was given."""

    def __init__(self) -> None:
        super().__init__()
        # No proxy, no `.netrc` and no cookies: secrets go where staff said, and come from nowhere else.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(max_retries=0))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: even a redirect that is not followed would be prepared, and its body read to the end."""
        return None
