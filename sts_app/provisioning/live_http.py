"""One call over HTTP to whoever stands before TradingView: made once, bounded in time and size, counted.

Every answer is read as if a stranger had written it: it may be a sign-in page, an endless one, nothing
at all, or a 200 that did nothing. What it says is never quoted in an error or a log line, because
whoever answers may repeat what was sent.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import requests
import structlog
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import encode_multipart_formdata
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from sts_app.core import clock
from sts_app.provisioning.gateway import (
    CallMade,
    Meter,
    NeedsStaff,
    TradingViewError,
    Trouble,
    TryLater,
    outcome_of,
)

log = structlog.get_logger()

T = TypeVar("T")

CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 1024 * 1024
BAD_ADDRESS = "the address of the service cannot be used"
CHUNK = 64 * 1024
# Long enough for any rate limit worth keeping, short enough that a nonsense header parks no paid order.
LONGEST_WAIT = timedelta(hours=6)

_GATE = re.compile(rb"captcha|challenge|sign[ -]?in|log[ -]?in|password", re.IGNORECASE)
_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


@dataclass(frozen=True)
class Asked:
    """One call to make: whether it can change anything, what it is for, where it goes, and what it sends.

    `op` is the gateway's word for the act. `seconds` is the time for the whole of it, connection included.
    `is_extra` is `CallMade`'s.
    """

    kind: Literal["read", "write"]
    op: str
    method: str
    path: str
    seconds: float
    content: bytes | None = None
    content_type: str | None = None
    is_extra: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back: whatever it is, at most `LARGEST_ANSWER` bytes of it and one chunk."""

    op: str
    status: int
    headers: CaseInsensitiveDict[str]
    content: bytes

    def raise_for_status(self) -> None:
        """Raise what the status alone says; return when the body is worth reading."""
        op, status = self.op, self.status
        if status in (401, 403):
            raise NeedsStaff(f"{op}: the session was refused ({status})")
        if 300 <= status < 400:
            raise NeedsStaff(f"{op}: sent elsewhere ({status}), as to a sign-in page")
        if status == 429:
            raise TryLater(f"{op}: rate limit (429)", after=self.retry_after, trouble=Trouble.RATE_LIMIT)
        if status >= 500:
            raise TryLater(f"{op}: the service failed ({status})", after=self.retry_after)
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
        if self.is_a_page:
            raise NeedsStaff(f"{self.op}: a page where data was expected, as of a sign-in or a captcha")
        raise TryLater(f"{self.op}: an answer that is no JSON")

    def record(self) -> dict[str, Any]:
        """The body as one object, its keys in lower case."""
        return self._record(self.json())

    def records(self) -> list[dict[str, Any]]:
        """The body as a list of objects, their keys in lower case."""
        return self.records_in(self.json())

    def records_in(self, value: object) -> list[dict[str, Any]]:
        """A part of the body as a list of objects, their keys in lower case."""
        if not isinstance(value, list):
            raise TryLater(f"{self.op}: an answer in another shape than asked for")
        return [self._record(entry) for entry in value]

    def _record(self, value: object) -> dict[str, Any]:
        # Versions differ in spelling: `validuser`, `validUser`.
        if not isinstance(value, dict):
            raise TryLater(f"{self.op}: an answer in another shape than asked for")
        return {key.lower(): held for key, held in value.items()}

    def moment(self, value: object) -> datetime:
        """A date of the body, in UTC. One without a zone is taken as UTC; what is no date is `TryLater`."""
        if isinstance(value, str):
            with suppress(ValueError, OverflowError):
                moment = datetime.fromisoformat(value.strip())
                return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        raise TryLater(f"{self.op}: access with an end that cannot be read")

    @property
    def is_json(self) -> bool:
        with suppress(ValueError, RecursionError):
            json.loads(self.content)
            return True
        return False

    @property
    def is_a_page(self) -> bool:
        kind = str(self.headers.get("Content-Type", ""))
        return "html" in kind.lower() or self.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")

    @property
    def is_a_gate(self) -> bool:
        """A page that asks who is there. An ordinary 404 may be a page too."""
        return self.is_a_page and _GATE.search(self.content) is not None

    @property
    def retry_after(self) -> timedelta | None:
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


class Client:
    """Calls to one address. Each leaves one log line and one count, whatever becomes of it.

    No call is ever repeated here: whoever calls counts and paces. A `base_url` that cannot be one is
    `NeedsStaff` at the first call, and since nothing was sent then, nothing is counted.
    """

    def __init__(self, base_url: str, *, meter: Meter) -> None:
        self._base_url = base_url.strip().rstrip("/")
        self._meter = meter
        self._session = _Session()

    def close(self) -> None:
        """Let go of what the HTTP client holds. A later call opens it anew."""
        self._session.close()

    def call(self, asked: Asked, read: Callable[[Answer], T], *, headers: Mapping[str, str]) -> T:
        """Make one call with these headers and return what `read` makes of the answer.

        Raises what `read` raises; `TryLater` for an answer that did not come in time or did not come.
        """
        request = self._prepared(asked, headers)
        started = time.monotonic()
        status: int | None = None
        outcome = "broken"
        after: timedelta | None = None
        try:
            answer = self._exchange(asked, request)
            status = answer.status
            result = read(answer)
            outcome = "answered"
            return result
        except TradingViewError as failure:
            outcome = outcome_of(failure)
            after = failure.after if isinstance(failure, TryLater) else None
            raise
        finally:
            ms = round((time.monotonic() - started) * 1000)
            log.info("tradingview.call", op=asked.op, status=status, ms=ms, outcome=outcome)
            limited = status == 429
            self._meter(CallMade(asked.kind, asked.op, outcome, ms, limited, after, is_extra=asked.is_extra))

    def _prepared(self, asked: Asked, headers: Mapping[str, str]) -> requests.PreparedRequest:
        # One connection per call: at this pace a kept one is mostly found dead, and nothing here may
        # try again. It also keeps sockets out of the worker's forks.
        every = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", **headers}
        if asked.content_type:
            every["Content-Type"] = asked.content_type
        with suppress(requests.RequestException, ValueError):
            request = self._session.prepare_request(
                requests.Request(asked.method, self._base_url + asked.path, headers=every, data=asked.content)
            )
            self._session.get_adapter(request.url or "")
            return request
        # Raised out here so that the client's own error, which knows address and headers, is not its context.
        raise NeedsStaff(f"{asked.op}: {BAD_ADDRESS}")

    def _exchange(self, asked: Asked, request: requests.PreparedRequest) -> Answer:
        op, seconds = asked.op, asked.seconds
        failure: TradingViewError = TryLater(f"{op}: no answer within {seconds:.3g} s", trouble=Trouble.TIMEOUT)
        with _Deadline(seconds) as deadline:
            try:
                with self._session.send(
                    request, timeout=(min(CONNECT_SECONDS, seconds), seconds), allow_redirects=False, stream=True
                ) as response:
                    content = bytearray()
                    for chunk in response.iter_content(CHUNK):
                        content += chunk
                        if len(content) > LARGEST_ANSWER:
                            break
                # Cut off in the middle of a body without a length, it would look complete.
                if not deadline.passed:
                    return Answer(op, response.status_code, response.headers, bytes(content))
            except requests.Timeout:
                pass
            except _BAD_ADDRESS:
                failure = NeedsStaff(f"{op}: {BAD_ADDRESS}")
            except (requests.RequestException, HTTPError):
                if not deadline.passed:
                    failure = TryLater(f"{op}: the connection failed or was lost")
        # Raised out here for the same reason as above.
        raise failure


def json_content(value: object) -> tuple[bytes, str]:
    """A body of JSON and its type."""
    return json.dumps(value).encode(), "application/json"


def form_content(fields: Mapping[str, str]) -> tuple[bytes, str]:
    """A body as a plain form sends it, and its type."""
    return urlencode(fields, errors="replace").encode(), "application/x-www-form-urlencoded"


def multipart_content(fields: Mapping[str, str]) -> tuple[bytes, str]:
    """A body as a form of several parts sends it, and its type."""
    return encode_multipart_formdata({key: value.encode(errors="replace") for key, value in fields.items()})


def quoted(name: str) -> str:
    """A name as one piece of a path or of a query."""
    return quote(name, safe="", errors="replace")


def can_be_a_name(name: str) -> bool:
    """False for what would change the path instead of naming somebody in it."""
    return bool(name.strip(". "))


def sendable(secret: SecretStr | None, op: str, *, but: str = "") -> str:
    """The stored credential as a header may carry it, empty when there is none.

    Raises `NeedsStaff` for odd characters and those of `but`: the client's own complaint about a
    header shows the header.
    """
    value = secret.get_secret_value().strip() if secret else ""
    if not (value.isascii() and value.isprintable()) or set(value) & set(but):
        raise NeedsStaff(f"{op}: the stored credentials cannot be sent: they hold odd characters")
    return value


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
    def watch(cls, sock: socket.socket) -> None:
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
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _Deadline.watch(sock)
        return sock


class _WatchedHTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        # Before the handshake, which a slow service could draw out as well.
        sock = super()._new_conn()
        _Deadline.watch(sock)
        return sock


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
