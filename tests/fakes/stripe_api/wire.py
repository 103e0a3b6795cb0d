"""Stripe's HTTP interface: keys, versions, idempotency, and the ways it answers on a bad day."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import stripe
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from tests.fakes.stripe_api import routes
from tests.fakes.stripe_api.account import Account
from tests.fakes.stripe_api.params import Problem, unfold


class Fault(Enum):
    RATE_LIMITED = auto()
    BROKEN = auto()
    BROKEN_UNDER_KEY = auto()  # a 500 that is remembered under the idempotency key
    LOCKED = auto()
    KEY_IN_USE = auto()
    SILENT = auto()
    HTML = auto()
    HTML_BUT_OK = auto()
    EMPTY_BUT_OK = auto()
    REFUSED = auto()
    LOST = auto()  # the deed is done, and its answer is lost on the way
    UNAUTHORIZED = auto()
    FORBIDDEN = auto()


@dataclass(frozen=True)
class Call:
    """One request that was understood. `replayed` ones did nothing: their answer was known."""

    method: str
    path: str
    params: dict[str, Any]
    key: str
    replayed: bool


class FakeStripe(Account):
    """A small Stripe behind a loopback address. Use `running()`."""

    def __init__(self, secret_key: str = "sk_test_ContractKey") -> None:
        super().__init__()
        self.secret_key = secret_key
        self.url = ""
        self.calls: list[Call] = []
        self.broken_by: list[Exception] = []  # faults of the fake's own: to be empty after a test
        self.forbidden: set[str] = set()  # addresses that the key has no right to
        self._kept: dict[str, tuple[str, int, dict[str, Any]]] = {}
        self._faults: list[Fault] = []
        self._let_go = threading.Event()
        self._lock = threading.RLock()

    @contextmanager
    def running(self) -> Iterator[FakeStripe]:
        """Serve on a free port of the loopback until the block ends."""
        server = make_server("127.0.0.1", 0, self._answer_wsgi, threaded=True)
        server.daemon_threads = True  # type: ignore[attr-defined]  # threaded ones have it
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self._let_go.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def fail(self, fault: Fault, *, times: int = 1) -> None:
        """Answer the next `times` requests with a fault."""
        self._faults.extend([fault] * times)

    def heal(self) -> None:
        """Answer properly from now on."""
        self._faults.clear()

    @property
    def deeds(self) -> list[Call]:
        """The calls that did something: those that only read and those that were replayed left out."""
        return [call for call in self.calls if call.method != "GET" and not call.replayed]

    def _answer_wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with Request(environ) as request:
            response = self._answer(request)
        response.headers["Request-Id"] = "req_" + secrets.token_hex(7)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        # Read the body in any case, or a kept connection would take it for the next request.
        request.get_data()
        fault = self._faults.pop(0) if self._faults else None
        if fault is Fault.SILENT:
            self._let_go.wait(timeout=10)
        if fault is Fault.BROKEN_UNDER_KEY:
            self._kept[request.headers["Idempotency-Key"]] = (_fingerprint(request), 500, _error("api_error"))
        if fault is not None and fault in _FAULTY:
            return _FAULTY[fault](self)
        try:
            with self._lock:
                status, body, replayed = self._handle(request)
        except Problem as problem:
            status, body, replayed = problem.status, problem.body, False
        except Exception as error:
            self.broken_by.append(error)
            raise
        if fault is Fault.LOST:
            return Response("<html><body>Bad Gateway</body></html>", 502, mimetype="text/html")
        response = _as_json(status, body)
        if replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def _handle(self, request: Request) -> tuple[int, dict[str, Any], bool]:
        if request.headers.get("Authorization") != f"Bearer {self.secret_key}":
            # The real one masks most of the key. This one does not, so that a leak shows.
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            raise Problem(401, f"Invalid API Key provided: {given}")
        if request.headers.get("Stripe-Version") != stripe.api_version:
            raise Problem(400, f"Invalid Stripe API version: {request.headers.get('Stripe-Version')}")
        if request.path in self.forbidden:
            raise Problem(403, "The provided key does not have the required permissions.")
        params = _params_of(request)
        key = request.headers.get("Idempotency-Key", "") if request.method == "POST" else ""
        self.calls.append(Call(request.method, request.path, params, key, replayed=key in self._kept))
        if key in self._kept:
            before, status, body = self._kept[key]
            if before != _fingerprint(request):
                raise Problem(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters"
                    f" they were first used with. Try using a key other than '{key}'.",
                    kind="idempotency_error",
                )
            return status, deepcopy(body), True
        try:
            status, body = 200, routes.answer(self, request.method, request.path, params)
        except Problem as problem:
            if not problem.kept:
                raise
            status, body = problem.status, problem.body
        if key:
            self._kept[key] = (_fingerprint(request), status, deepcopy(body))
        return status, body, False


def _params_of(request: Request) -> dict[str, Any]:
    if request.mimetype == "multipart/form-data":
        files = {name: (file.filename, file.read()) for name, file in request.files.items()}
        return {**request.form.to_dict(), **files}
    return unfold(request.get_data(as_text=True) or request.query_string.decode())


def _fingerprint(request: Request) -> str:
    if request.mimetype == "multipart/form-data":
        # The boundary is another one each time.
        for file in request.files.values():
            file.seek(0)
    sent = json.dumps([request.path, _params_of(request)], sort_keys=True, default=bytes.hex)
    return hashlib.sha256(sent.encode()).hexdigest()


def _as_json(status: int, body: dict[str, Any], **headers: str) -> Response:
    return Response(json.dumps(body), status, headers=headers, mimetype="application/json")


def _error(kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"type": kind, "message": "Something went wrong."} | ({"code": code} if code else {})}


def _faulty(status: int, kind: str, code: str | None = None, **headers: str) -> Callable[[FakeStripe], Response]:
    return lambda fake: _as_json(status, _error(kind, code), **headers)


def _telling(status: int, **fields: str) -> Callable[[FakeStripe], Response]:
    """An error that repeats the key, where a careless reader would pass it on."""
    return lambda fake: _as_json(
        status,
        {
            "error": {
                "type": "invalid_request_error",
                "message": f"The provided key '{fake.secret_key}' does not have access.",
                **{name: value.format(key=fake.secret_key) for name, value in fields.items()},
            }
        },
    )


_FAULTY: dict[Fault, Callable[[FakeStripe], Response]] = {
    Fault.RATE_LIMITED: _faulty(429, "invalid_request_error", "rate_limit", **{"Retry-After": "7"}),
    Fault.BROKEN: _faulty(500, "api_error"),
    Fault.BROKEN_UNDER_KEY: _faulty(500, "api_error"),
    Fault.LOCKED: _faulty(409, "invalid_request_error", "lock_timeout"),
    Fault.KEY_IN_USE: _faulty(409, "idempotency_error", "idempotency_key_in_use"),
    Fault.SILENT: _faulty(500, "api_error"),
    Fault.HTML: lambda fake: Response("<html>Bad Gateway</html>", 502, mimetype="text/html"),
    Fault.HTML_BUT_OK: lambda fake: Response("<html>Sign in to the hotel</html>", 200, mimetype="text/html"),
    Fault.EMPTY_BUT_OK: lambda fake: _as_json(200, {}),
    Fault.REFUSED: _faulty(400, "invalid_request_error"),
    Fault.UNAUTHORIZED: _telling(401),
    Fault.FORBIDDEN: _telling(403, code="{key}"),
}
