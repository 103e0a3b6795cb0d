"""An access service on the loopback address, with a memory and bad manners on request.

It speaks the two dialects that are in use: the open one, which asks for no credentials, hides every
inner fault in one 500 and refuses unknown names with `Failure`, and the secured one, which wants two
headers and says 401 and 404. Names and their spelling follow the rules of our own simulator, so that
one contract can be told to both: "unknown..." is unknown, and the first letter is in upper case.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

SESSION_ID = "fake-session-7f3a91c2"
SIGNATURE = "fake-signature-5d08be46"

SIGN_IN_PAGE = "<!DOCTYPE html><html><title>Sign in</title><form><input type=password name=password></form></html>"
CAPTCHA_PAGE = "<html><body><h1>Are you a robot?</h1><div class='g-recaptcha'></div></body></html>"
HUGE_BYTES = 64 * 1024 * 1024


class Dialect(StrEnum):
    OPEN = "open"
    SECURED = "secured"


class Nasty(StrEnum):
    """How one call is answered instead of properly. Nothing is done unless it says so."""

    UNKNOWN_EXCEPTION = "500 with an errorMessage"
    BAD_GATEWAY = "502 with a page"
    UNAUTHORISED = "401"
    FORBIDDEN = "403"
    NO_SUCH_NAME = "404 in JSON"
    NO_SUCH_PAGE = "404 with a page"
    TOO_MANY = "429"
    SIGN_IN = "200 with a sign-in page"
    CAPTCHA = "200 with a captcha page"
    REDIRECT = "302 to a sign-in page, without an end in sight"
    EMPTY = "200 with nothing"
    MALFORMED = "200 with half a JSON"
    DEEP = "200 with JSON nested too deep to read"
    OTHER_SHAPE = "200 with an object where a list belongs and a list where an object belongs"
    ODD_VALUES = "200 with strings where booleans belong"
    ECHO = "200 with the headers it was sent"
    FAILURE = "200 with Failure for every script"
    NOTHING_DONE = "200 with Success, nothing done"
    ANOTHER_NAME = "200 about somebody else"
    MISSING_SCRIPTS = "200 with an empty list"
    HUGE = "200 without an end in sight"
    SLOW = "nothing at all for longer than anybody waits"
    DRIBBLE_HEADERS = "a header, letter by letter, for ever"
    DRIBBLE_BODY = "a body, space by space, for ever"
    DROP_AFTER = "it is done, and the connection is dropped"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class AccessServiceFake:
    """The service. Use it as a context manager: it listens on `url` inside and leaves nothing behind.

    `holders` maps (lower-cased name, script) to the end of the access, None for life.
    """

    dialect: Dialect = Dialect.OPEN
    session_is_alive: bool = True
    retry_after: str | None = "17"
    holders: dict[tuple[str, str], datetime | None] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    bytes_of_huge: int = 0

    def __post_init__(self) -> None:
        self._nasty: deque[Nasty] = deque()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._routes = Map(
            [
                Rule("/", endpoint="root", methods=["GET"]),
                Rule("/validate/<name>", endpoint="validate", methods=["GET"]),
                Rule("/access/<name>", endpoint="access", methods=["GET", "POST", "DELETE"]),
            ]
        )

    def __enter__(self) -> AccessServiceFake:
        self._server = make_server("127.0.0.1", 0, self._wsgi, threaded=True, request_handler=_QuietHandler)
        assert isinstance(self._server, ThreadedWSGIServer)
        # Threads that are not daemons are waited for when the server is closed.
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def be(self, nasty: Nasty, *, times: int = 1) -> None:
        """Answer the next `times` calls so, after those that were asked for before."""
        self._nasty.extend([nasty] * times)

    def holds(self, name: str, script: str) -> bool:
        return (name.lower(), script) in self.holders

    # What it does.

    def _wsgi(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        raw = request.get_data()
        body = json.loads(raw) if raw else None
        with self._lock:
            self.seen.append(Seen(request.method, request.path, dict(request.headers), body))
            nasty = self._nasty.popleft() if self._nasty else None
        response = self._plainly_nasty(request, nasty)
        if response is None and nasty is Nasty.SLOW:
            self._stopping.wait()
        if response is None and nasty is Nasty.DRIBBLE_HEADERS:
            self._dribble_headers(environ["werkzeug.socket"])
        if response is None:
            response = self._answer(request, body, nasty)
        if nasty is Nasty.DROP_AFTER:
            raise ConnectionAbortedError
        return response(environ, start_response)

    def _answer(self, request: Request, body: Any, nasty: Nasty | None) -> Response:
        secured = self.dialect is Dialect.SECURED
        if secured and not self._lets_in(request):
            return _json({"error": "bad credentials"}, 401)
        if not self.session_is_alive:
            return _json({"error": "session expired"}, 401) if secured else _unknown_exception()
        try:
            endpoint, values = self._routes.bind("fake").match(request.path, method=request.method)
        except HTTPException as error:
            return Response(error.get_body(), error.code or 500, content_type="text/html")
        if endpoint == "root":
            return Response("Your bot is alive!", content_type="text/html")
        name = values["name"]
        spelling = _spelling(name)
        if secured and spelling is None:
            return _json({"error": "no such user"}, 404)
        if endpoint == "validate":
            return _json({"validUser" if secured else "validuser": bool(spelling), "verifiedUserName": spelling or ""})
        with self._lock:
            return self._access(request.method, spelling, name, body, nasty)

    def _access(self, method: str, spelling: str | None, name: str, body: Any, nasty: Nasty | None) -> Response:
        if nasty is Nasty.MISSING_SCRIPTS:
            return _json([])
        username = "Somebody" if nasty is Nasty.ANOTHER_NAME else name
        entries = []
        for script in body["pine_ids"]:
            entry = self._entry(username, name, script)
            if nasty is Nasty.ANOTHER_NAME:
                entry |= {"hasAccess": True, "noExpiration": True}
            if method == "POST":
                entry |= self._add(spelling, name, script, body["duration"], nasty)
            if method == "DELETE":
                entry |= self._remove(spelling, name, script, nasty)
            entries.append(entry)
        return _json(entries)

    def _entry(self, username: str, name: str, script: str) -> dict[str, Any]:
        has_access = self.holds(name, script)
        end = self.holders.get((name.lower(), script))
        moment = end or datetime.now(UTC)
        return {
            "pine_id": script,
            "username": username,
            "hasAccess": has_access,
            "noExpiration": has_access and end is None,
            "currentExpiration": self._written(moment),
        }

    def _add(self, spelling: str | None, name: str, script: str, duration: str, nasty: Nasty | None) -> dict[str, Any]:
        key = (name.lower(), script)
        if nasty is Nasty.FAILURE or spelling is None:
            return {"status": "Failure"}
        if self.holds(name, script) and self.holders[key] is None:
            return {"status": "Not Applied"}
        end = None if duration.endswith("L") else datetime.now(UTC) + timedelta(days=7)
        if nasty not in (Nasty.NOTHING_DONE, Nasty.ANOTHER_NAME):
            self.holders[key] = end
        return {"status": "Success", "expiration": self._written(end or datetime.now(UTC))}

    def _remove(self, spelling: str | None, name: str, script: str, nasty: Nasty | None) -> dict[str, Any]:
        key = (name.lower(), script)
        if nasty is Nasty.FAILURE or spelling is None:
            return {"status": "Failure"}
        absent = key not in self.holders
        if nasty not in (Nasty.NOTHING_DONE, Nasty.ANOTHER_NAME):
            self.holders.pop(key, None)
        if self.dialect is Dialect.SECURED:
            return {}
        return {"status": "Failure" if absent else "Success"}

    def _written(self, moment: datetime) -> str:
        """A date as this dialect writes it: with a space or with a T."""
        return moment.isoformat(sep="T" if self.dialect is Dialect.SECURED else " ")

    def _lets_in(self, request: Request) -> bool:
        return (request.headers.get("X-Session-Id"), request.headers.get("X-Signature")) == (SESSION_ID, SIGNATURE)

    # How it misbehaves.

    def _plainly_nasty(self, request: Request, nasty: Nasty | None) -> Response | None:
        """The answers that need neither memory nor credentials; None for all others."""
        match nasty:
            case Nasty.UNKNOWN_EXCEPTION:
                return _unknown_exception()
            case Nasty.BAD_GATEWAY:
                return _page("<html><h1>502 Bad Gateway</h1></html>", 502)
            case Nasty.UNAUTHORISED:
                return _json({"error": f"bad session {request.headers.get('X-Session-Id')}"}, 401)
            case Nasty.FORBIDDEN:
                return _page(SIGN_IN_PAGE, 403)
            case Nasty.NO_SUCH_NAME:
                return _json({"error": "no such user"}, 404)
            case Nasty.NO_SUCH_PAGE:
                return _page("<!doctype html><title>404 Not Found</title><h1>Not Found</h1>", 404)
            case Nasty.TOO_MANY:
                response = _json({"error": "too many requests"}, 429)
                if self.retry_after is not None:
                    response.headers["Retry-After"] = self.retry_after
                return response
            case Nasty.SIGN_IN:
                return _page(SIGN_IN_PAGE)
            case Nasty.CAPTCHA:
                return _page(CAPTCHA_PAGE)
            case Nasty.REDIRECT:
                return Response(self._huge(), 302, headers={"Location": f"{self.url}/signin"})
            case Nasty.EMPTY:
                return Response(b"", content_type="application/json")
            case Nasty.MALFORMED:
                return Response(b'[{"pine_id": "PUB;', content_type="application/json")
            case Nasty.DEEP:
                return Response(b"[" * 200_000, content_type="application/json")
            case Nasty.OTHER_SHAPE:
                return _json([True] if "/validate/" in request.path else {"pine_ids": "none"})
            case Nasty.ODD_VALUES:
                name = request.path.rpartition("/")[2]
                entry = {"username": name, "hasAccess": "true", "validuser": "true", "verifiedUserName": name}
                if "/validate/" in request.path:
                    return _json(entry)
                scripts = json.loads(request.get_data())["pine_ids"]
                return _json([entry | {"pine_id": script, "status": f"{SESSION_ID} says no"} for script in scripts])
            case Nasty.ECHO:
                return _json({"you sent": dict(request.headers)})
            case Nasty.HUGE:
                return Response(self._huge(), content_type="application/json")
            case Nasty.DRIBBLE_BODY:
                return Response(self._dribble(), content_type="application/json")
            case _:
                return None

    def _huge(self) -> Iterator[bytes]:
        chunk = b" " * 64 * 1024
        while self.bytes_of_huge < HUGE_BYTES and not self._stopping.is_set():
            self.bytes_of_huge += len(chunk)
            yield chunk

    def _dribble(self) -> Iterator[bytes]:
        while not self._stopping.wait(0.02):
            yield b" "

    def _dribble_headers(self, socket: Any) -> None:
        socket.sendall(b"HTTP/1.1 200 OK\r\nX-Patience: ")
        while not self._stopping.wait(0.02):
            socket.sendall(b"a")
        raise ConnectionAbortedError


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: the tests read `seen`."""


def _spelling(name: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{3,30}", name) or name.lower().startswith("unknown"):
        return None
    return name[0].upper() + name[1:]


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type="application/json; charset=utf-8")


def _page(html: str, status: int = 200) -> Response:
    return Response(html, status, content_type="text/html; charset=utf-8")


def _unknown_exception() -> Response:
    return _json({"errorMessage": "Unknown Exception Occurred"}, 500)
