"""Stripe's HTTP interface on this machine: what the live adapter meets in the tests.

It is written from the outside in. What may be sent is derived from the typed parameters of the
installed package, so a parameter that Stripe dropped is refused here as well; what comes back has the
shapes of the package's resources. Fault switches make it answer the way Stripe and what stands
between do on a bad day.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from enum import Enum, auto
from typing import Any
from urllib.parse import parse_qsl

import stripe
import typing_extensions
from stripe import RequestOptions
from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionListParams,
    SessionRetrieveParams,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

API_VERSION = stripe.api_version


class Fault(Enum):
    RATE_LIMITED = auto()
    BROKEN = auto()
    LOCKED = auto()
    KEY_IN_USE = auto()
    SILENT = auto()
    HTML = auto()
    HTML_BUT_OK = auto()
    LOST = auto()  # the deed is done, and its answer is lost on the way
    UNAUTHORIZED = auto()
    FORBIDDEN = auto()


class Problem(Exception):
    """An answer that is an error, in Stripe's words."""

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error", **fields: str) -> None:
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **fields}}
        super().__init__(message)


class FakeStripe:
    """A small Stripe behind a loopback address. Use `running()`."""

    def __init__(self, secret_key: str = "sk_test_ContractKey") -> None:
        self.secret_key = secret_key
        self.url = ""
        self.prices: dict[str, tuple[int, str]] = {"price_lifetime": (9900, "usd")}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.intents: dict[str, dict[str, Any]] = {}
        self.charges: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.keys_seen: list[str] = []
        self.broken_by: list[Exception] = []  # faults of the fake's own: to be empty after a test
        self._kept: dict[str, tuple[str, int, dict[str, Any]]] = {}
        self._faults: list[Fault] = []
        self._let_go = threading.Event()
        self._lock = threading.RLock()

    @contextmanager
    def running(self) -> Iterator[FakeStripe]:
        """Serve on a free port of the loopback until the block ends."""
        server = make_server("127.0.0.1", 0, self._answer_wsgi, threaded=True)
        server.daemon_threads = True
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

    def recover(self) -> None:
        """Answer properly from now on."""
        self._faults.clear()

    # What buyers and banks do.

    def pay(self, session_id: str) -> None:
        intent = self._tried(session_id)
        charge = self._charge(intent, status="succeeded")
        intent.update(status="succeeded", latest_charge=charge["id"], last_payment_error=None)
        self.sessions[session_id].update(status="complete", payment_status="paid", url=None)

    def decline(self, session_id: str, because: str) -> None:
        intent = self._tried(session_id)
        charge = self._charge(intent, status="failed")
        intent.update(status="requires_payment_method", latest_charge=charge["id"])
        intent["last_payment_error"] = {
            "type": "card_error",
            "code": "card_declined",
            "decline_code": because,
            "message": "Your card was declined.",
        }

    def pay_later(self, session_id: str) -> None:
        intent = self._tried(session_id)
        intent.update(status="processing", last_payment_error=None, latest_charge=None)
        self.sessions[session_id].update(status="complete", payment_status="unpaid", url=None)

    def settle(self, session_id: str, succeeded: bool) -> None:
        if succeeded:
            self.pay(session_id)
        else:
            self.decline(session_id, "insufficient_funds")

    def expire(self, session_id: str) -> None:
        self.sessions[session_id].update(status="expired", url=None)

    def refund(self, session_id: str, amount: int | None = None) -> None:
        intent = self.intents[self.sessions[session_id]["payment_intent"]]
        charge = self.charges[intent["latest_charge"]]
        charge["amount_refunded"] += charge["amount"] - charge["amount_refunded"] if amount is None else amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]

    def give_away(self, session_id: str) -> None:
        """A promotion code of 100 %: complete, and no payment was ever made."""
        self.sessions[session_id].update(
            status="complete", payment_status="no_payment_required", amount_total=0, url=None
        )

    def _tried(self, session_id: str) -> dict[str, Any]:
        session = self.sessions[session_id]
        if session["payment_intent"] is None:
            intent = {
                "id": _new_id("pi"),
                "object": "payment_intent",
                "amount": session["amount_total"],
                "created": int(time.time()),
                "currency": session["currency"],
                "last_payment_error": None,
                "latest_charge": None,
                "livemode": False,
                "metadata": session["metadata"],
                "status": "requires_payment_method",
            }
            self.intents[intent["id"]] = intent
            session["payment_intent"] = intent["id"]
        return self.intents[session["payment_intent"]]

    def _charge(self, intent: dict[str, Any], *, status: str) -> dict[str, Any]:
        charge = {
            "id": _new_id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_refunded": 0,
            "currency": intent["currency"],
            "metadata": intent["metadata"],
            "paid": status == "succeeded",
            "payment_intent": intent["id"],
            "refunded": False,
            "status": status,
        }
        self.charges[charge["id"]] = charge
        return charge

    # What the wire carries.

    def _answer_wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with Request(environ) as request:
            response = self._answer(request)
        response.headers["Request-Id"] = "req_" + secrets.token_hex(7)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        # Read the body in any case, or a kept connection would take it for the next request.
        text = request.get_data(as_text=True)
        fault = self._faults.pop(0) if self._faults else None
        if fault is Fault.SILENT:
            self._let_go.wait(timeout=10)
        if fault is not None and fault in _FAULTY:
            return _FAULTY[fault](self)
        try:
            with self._lock:
                status, body, replayed = self._handle(request, text)
        except Problem as problem:
            return _as_json(problem.status, problem.body)
        except Exception as error:
            self.broken_by.append(error)
            raise
        if fault is Fault.LOST:
            return Response("<html><body>Bad Gateway</body></html>", 502, mimetype="text/html")
        response = _as_json(status, body)
        if replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    def _handle(self, request: Request, text: str) -> tuple[int, dict[str, Any], bool]:
        if request.headers.get("Authorization") != f"Bearer {self.secret_key}":
            # The real one masks most of the key. This one does not, so that a leak shows.
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            raise Problem(401, f"Invalid API Key provided: {given}")
        if request.headers.get("Stripe-Version") != API_VERSION:
            raise Problem(400, f"Invalid Stripe API version: {request.headers.get('Stripe-Version')}")
        params = unfold(text or request.query_string.decode())
        self.calls.append((request.method, request.path, params))
        if request.method == "POST":
            return self._once(request, params)
        return 200, self._route(request, params), False

    def _once(self, request: Request, params: dict[str, Any]) -> tuple[int, dict[str, Any], bool]:
        key = request.headers.get("Idempotency-Key", "")
        sent = json.dumps([request.path, params], sort_keys=True)
        if key:
            self.keys_seen.append(key)
        if key in self._kept:
            before, status, body = self._kept[key]
            if before != sent:
                raise Problem(
                    400,
                    "Keys for idempotent requests can only be used with the same parameters"
                    f" they were first used with. Try using a key other than '{key}'.",
                    kind="idempotency_error",
                )
            return status, deepcopy(body), True
        body = self._route(request, params)
        if key:
            self._kept[key] = (sent, 200, deepcopy(body))
        return 200, body, False

    def _route(self, request: Request, params: dict[str, Any]) -> dict[str, Any]:
        one = re.fullmatch(r"/v1/checkout/sessions/(\w+)", request.path)
        if request.path == "/v1/checkout/sessions" and request.method == "POST":
            check(params, SessionCreateParams)
            return self._create(params)
        if request.path == "/v1/checkout/sessions":
            check(params, SessionListParams)
            return self._list(params)
        if one and request.method == "GET":
            check(params, SessionRetrieveParams)
            return self._retrieve(one[1], params.get("expand", []))
        closing = re.fullmatch(r"/v1/checkout/sessions/(\w+)/expire", request.path)
        if closing and request.method == "POST":
            check(params, SessionExpireParams)
            return self._close(closing[1])
        raise Problem(404, f"Unrecognized request URL ({request.method}: {request.path}).")

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        for name in ("mode", "line_items", "success_url"):
            if name not in params:
                raise Problem(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
        for name in ("success_url", "cancel_url"):
            if not re.match(r"https?://[\w.:-]+/", params.get(name, "")):
                raise Problem(400, "Not a valid URL", code="url_invalid", param=name)
        expires_at = int(params.get("expires_at", time.time() + 86400))
        if not 29 * 60 <= expires_at - time.time() <= 24 * 3600 + 60:
            raise Problem(
                400,
                "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
                param="expires_at",
            )
        if "allow_promotion_codes" in params and "discounts" in params:
            raise Problem(400, "You may only specify one of these parameters: allow_promotion_codes, discounts.")
        line = params["line_items"][0]
        if line["price"] not in self.prices:
            raise Problem(
                400, f"No such price: '{line['price']}'", code="resource_missing", param="line_items[0][price]"
            )
        cents, currency = self.prices[line["price"]]
        total = cents * int(line.get("quantity", 1))
        session_id = _new_id("cs_test")
        session = {
            "id": session_id,
            "object": "checkout.session",
            "adaptive_pricing": {"enabled": params.get("adaptive_pricing", {}).get("enabled") == "true"},
            "amount_subtotal": total,
            "amount_total": total,
            "cancel_url": params.get("cancel_url"),
            "client_reference_id": params.get("client_reference_id"),
            "created": int(time.time()),
            "currency": currency,
            "customer_email": params.get("customer_email"),
            "expires_at": expires_at,
            "livemode": False,
            "metadata": params.get("metadata", {}),
            "mode": params["mode"],
            "payment_intent": None,
            "payment_status": "unpaid",
            "status": "open",
            "success_url": params["success_url"],
            "ui_mode": params.get("ui_mode", "hosted_page"),
            "url": f"https://checkout.stripe.com/c/pay/{session_id}",
        }
        self.sessions[session_id] = session
        return deepcopy(session)

    def _close(self, session_id: str) -> dict[str, Any]:
        session = self._retrieve(session_id, [])
        if session["status"] != "open":
            raise Problem(400, "Only Checkout Sessions with a status in [`open`] can be expired.")
        self.expire(session_id)
        return self._retrieve(session_id, [])

    def _retrieve(self, session_id: str, expand: list[str]) -> dict[str, Any]:
        if session_id not in self.sessions:
            raise Problem(404, f"No such checkout.session: '{session_id}'", code="resource_missing", param="session")
        session = deepcopy(self.sessions[session_id])
        for path in expand:
            if path not in ("payment_intent", "payment_intent.latest_charge"):
                raise Problem(400, f"This property cannot be expanded ({path}).")
        intent = deepcopy(self.intents.get(session["payment_intent"] or ""))
        if intent is not None and expand:
            if "payment_intent.latest_charge" in expand:
                intent["latest_charge"] = deepcopy(self.charges.get(intent["latest_charge"] or ""))
            session["payment_intent"] = intent
        return session

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("payment_intent")
        if wanted is not None and wanted not in self.intents:
            raise Problem(400, f"No such payment_intent: '{wanted}'", code="resource_missing", param="payment_intent")
        found = [one for one in self.sessions.values() if wanted in (None, one["payment_intent"])]
        limit = int(params.get("limit", 10))
        return {
            "object": "list",
            "data": deepcopy(found[:limit]),
            "has_more": len(found) > limit,
            "url": "/v1/checkout/sessions",
        }


def _as_json(status: int, body: dict[str, Any], **headers: str) -> Response:
    return Response(json.dumps(body), status, headers=headers, mimetype="application/json")


def _error(status: int, kind: str, code: str | None = None, **headers: str) -> Response:
    error = {"type": kind, "message": "Something went wrong."} | ({"code": code} if code else {})
    return _as_json(status, {"error": error}, **headers)


_FAULTY: dict[Fault, typing.Callable[[FakeStripe], Response]] = {
    Fault.RATE_LIMITED: lambda fake: _error(429, "invalid_request_error", "rate_limit", **{"Retry-After": "7"}),
    Fault.BROKEN: lambda fake: _error(500, "api_error"),
    Fault.LOCKED: lambda fake: _error(409, "invalid_request_error", "lock_timeout"),
    Fault.KEY_IN_USE: lambda fake: _error(409, "idempotency_error", "idempotency_key_in_use"),
    Fault.SILENT: lambda fake: _error(500, "api_error"),
    Fault.HTML: lambda fake: Response("<html>Bad Gateway</html>", 502, mimetype="text/html"),
    Fault.HTML_BUT_OK: lambda fake: Response("<html>Sign in to the hotel</html>", 200, mimetype="text/html"),
    Fault.UNAUTHORIZED: lambda fake: _as_json(
        401,
        {"error": {"type": "invalid_request_error", "message": f"Invalid API Key provided: {fake.secret_key}"}},
    ),
    Fault.FORBIDDEN: lambda fake: _as_json(
        403,
        {
            "error": {
                "type": "invalid_request_error",
                "code": fake.secret_key,
                "message": f"The provided key '{fake.secret_key}' does not have access.",
            }
        },
    ),
}


def unfold(form: str) -> dict[str, Any]:
    """`a[b][0][c]=x` becomes `{"a": {"b": [{"c": "x"}]}}`."""
    root: dict[str, Any] = {}
    for name, value in parse_qsl(form, keep_blank_values=True):
        path = [part for part in re.split(r"[\[\]]+", name) if part]
        here = root
        for part in path[:-1]:
            here = here.setdefault(part, {})
        here[path[-1]] = value
    return {name: _listed(value) for name, value in root.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(name.isdigit() for name in value):
        return [_listed(value[name]) for name in sorted(value, key=int)]
    return {name: _listed(item) for name, item in value.items()}


# The names a caller may give to the package itself; they are never sent.
_NOT_SENT = frozenset(RequestOptions.__annotations__)


def check(params: dict[str, Any], shape: Any, where: str = "") -> None:
    """Raise the error Stripe raises if `params` are not what the package's typed parameters allow."""
    hints = typing_extensions.get_type_hints(shape, localns={"StripeContext": object, "Mapping": Mapping})
    allowed = {name: hint for name, hint in hints.items() if name not in _NOT_SENT}
    for name in shape.__required_keys__ & allowed.keys():
        if name not in params:
            raise Problem(
                400,
                f"Missing required param: {_path(where, name)}.",
                code="parameter_missing",
                param=_path(where, name),
            )
    for name, value in params.items():
        path = _path(where, name)
        if name not in allowed:
            raise Problem(400, f"Received unknown parameter: {path}", code="parameter_unknown", param=path)
        _check_value(value, allowed[name], path)


def _check_value(value: Any, hint: Any, path: str) -> None:
    problems = []
    options = _options(hint)
    closed = [option for option in options if typing_extensions.get_origin(option) is typing.Literal]
    # The package leaves its enums open (`Literal | str`); the API does not.
    for option in [one for one in options if not (closed and one is str)]:
        try:
            _check_option(value, option, path)
        except Problem as problem:
            problems.append(problem)
        else:
            return
    raise problems[-1]


def _check_option(value: Any, option: Any, path: str) -> None:
    origin, args = typing_extensions.get_origin(option), typing_extensions.get_args(option)
    fits = True
    if typing_extensions.is_typeddict(option):
        if isinstance(value, dict):
            check(value, option, path)
            return
        fits = False
    elif origin is list:
        fits = isinstance(value, list)
        for index, item in enumerate(value if fits else []):
            _check_value(item, args[0], f"{path}[{index}]")
    elif origin is dict:
        fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    elif origin is typing.Literal:
        fits = value in args
    elif option is int:
        fits = isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None
    elif option is bool:
        fits = value in ("true", "false")
    else:
        fits = isinstance(value, str)
    if not fits:
        raise Problem(400, f"Invalid value for {path}", code="parameter_invalid", param=path)


def _options(hint: Any) -> list[Any]:
    if typing_extensions.get_origin(hint) in (typing.Union, types.UnionType):
        return [option for part in typing_extensions.get_args(hint) for option in _options(part)]
    return [hint]


def _path(where: str, name: str) -> str:
    return f"{where}[{name}]" if where else name


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(14)}"
