"""Resend's HTTP on the loopback interface: POST /emails with idempotency, its list of suppressed addresses, and ways
to break it.

A reply ordered with `reply()` or `then_lose()` answers the next request only.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

API_KEY = "re_test_of_the_loopback_fake"


class ResendApi:
    """What Resend remembers: `sent` holds the bodies it accepted, `delivered` those it did not keep back, `requests`
    everything it was asked."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.delivered: list[dict[str, Any]] = []
        self.suppressed: dict[str, str] = {}
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.base = ""
        self._keys: dict[str, tuple[str, str]] = {}
        self._orders: list[Callable[[Request], Response]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def reply(
        self, status: int, name: str = "", message: str = "", *, headers: dict[str, str] | None = None, html: str = ""
    ) -> None:
        """Answer the next request with this error instead of doing what it asks."""

        def answer(_: Request) -> Response:
            if html:
                return Response(html, status, headers, mimetype="text/html")
            return _json({"statusCode": status, "name": name, "message": message}, status, headers)

        self._orders.append(answer)

    def suppress(self, address: str) -> None:
        """Keep letters to this address back, as Resend does after a bounce or a complaint."""
        self.suppressed[address.lower()] = str(uuid4())

    def reply_body(self, body: dict[str, Any]) -> None:
        """Answer the next request with 200 and this body."""
        self._orders.append(lambda _: _json(body))

    def lose_answer(self) -> None:
        """Do what the next request asks and drop the connection before the answer."""

        def answer(request: Request) -> Response:
            self._accept(request)
            return self._hang_up(request)

        self._orders.append(answer)

    def hang_up(self) -> None:
        """Drop the connection of the next request without doing anything."""
        self._orders.append(self._hang_up)

    def stall(self) -> None:
        """Accept the next letter, and answer when the test is over."""

        def answer(request: Request) -> Response:
            self._accept(request)
            self._closing.wait(timeout=30)
            return self._hang_up(request)

        self._orders.append(answer)

    def close(self) -> None:
        self._closing.set()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        with self._lock:
            order = self._orders.pop(0) if self._orders else self._accept
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.requests.append((headers, request.get_json(silent=True) or {}))
        return order(request)(environ, start_response)

    def _accept(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return _json({"statusCode": 401, "name": "invalid_api_key", "message": "API key is invalid"}, 401)
        if request.method == "DELETE" and request.path.startswith("/suppressions/"):
            return self._lift(unquote(request.path.removeprefix("/suppressions/")))
        if request.method != "POST" or request.path != "/emails":
            return _json({"statusCode": 404, "name": "not_found", "message": "no such route"}, 404)
        body = request.get_json()
        missing = [name for name in ("from", "to", "subject") if not body.get(name)]
        if missing:
            return _json(
                {"statusCode": 422, "name": "missing_required_field", "message": f"Missing `{missing[0]}` field."}, 422
            )
        bad = [address for address in body["to"] if "@" not in address or address.endswith("@refused.test")]
        if bad:
            # The real one quotes the value it did not like, which is why our errors must not.
            return _json({"statusCode": 422, "name": "validation_error", "message": f"Invalid `to`: {bad[0]}"}, 422)
        key = request.headers.get("Idempotency-Key", "")
        text = json.dumps(body, sort_keys=True)
        with self._lock:
            if key and key in self._keys:
                known, letter_id = self._keys[key]
                if known != text:
                    return _json(
                        {"statusCode": 409, "name": "invalid_idempotent_request", "message": f"{key}: other body"}, 409
                    )
                return _json({"id": letter_id})
            letter_id = str(uuid4())
            self._keys[key] = (text, letter_id)
            self.sent.append(body)
            if not {address.lower() for address in body["to"]} & self.suppressed.keys():
                self.delivered.append(body)
        return _json({"id": letter_id})

    def _lift(self, address: str) -> Response:
        with self._lock:
            number = self.suppressed.pop(address.lower(), None)
        if number is None:
            return _json({"statusCode": 404, "name": "not_found", "message": f"Suppression not found: {address}"}, 404)
        return _json({"object": "suppression", "id": number, "deleted": True})

    @staticmethod
    def _hang_up(request: Request) -> Response:
        request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return Response("")


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, mimetype="application/json")


@contextmanager
def running() -> Iterator[ResendApi]:
    """The fake, answering at `base` until the block ends."""
    api = ResendApi()
    server = make_server("127.0.0.1", 0, api, threaded=True)
    api.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.close()
        server.shutdown()
        server.server_close()
        thread.join()
