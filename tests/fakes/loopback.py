"""A small and quick HTTP server on the loopback address, for fakes that answer by hand.

One thread and one connection for each request, no framework: fault machines make many thousands of
calls. What answers may also drop the connection, by raising `ConnectionAbortedError`, or write to it.
"""

from __future__ import annotations

import json
import re
import select
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from requests.structures import CaseInsensitiveDict

PATIENCE = 5.0
_PART = re.compile(rb'name="([^"]+)"[^\r]*\r\n\r\n(.*?)\r\n--', re.DOTALL)


@dataclass
class Request:
    """One request as it arrived. `socket` is its connection, `port` the caller's."""

    method: str
    target: str
    headers: CaseInsensitiveDict[str]
    raw: bytes
    socket: socket.socket
    port: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def body(self) -> Any:
        """What was sent, read as its type says: JSON, or the fields of a form in either of its shapes."""
        kind = self.headers.get("Content-Type", "")
        if not self.raw:
            return None
        if kind.startswith("application/json"):
            return json.loads(self.raw)
        if kind.startswith("multipart/form-data"):
            return {key.decode(): value.decode() for key, value in _PART.findall(self.raw)}
        return dict(parse_qsl(self.raw.decode(), keep_blank_values=True))


@dataclass
class Reply:
    """An answer. A body in pieces has no announced length, and may have no end."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class Loopback:
    """The server. Use it as a context manager: it listens on `url` inside and leaves nothing behind."""

    def answer(self, request: Request) -> Reply:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._talking: set[threading.Thread] = set()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        # A closed socket wakes nobody who waits in `accept`; a visitor does.
        with suppress(OSError), socket.create_connection(self._listener.getsockname(), PATIENCE):
            pass
        self._accepting.join()
        self._listener.close()
        for thread in list(self._talking):
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def wait_for_hang_up(self, request: Request) -> None:
        """Say nothing until the caller has gone or the server ends."""
        while not self.stopping.is_set():
            readable, _, _ = select.select([request.socket], [], [], 0.05)
            if readable and not request.socket.recv(1, socket.MSG_PEEK):
                return

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.stopping.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._talk, args=(connection,))
            self._talking.add(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            # Whoever hangs up in the middle, of either side, ends this conversation and nothing else.
            with suppress(OSError), connection:
                connection.settimeout(PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = _read(connection)
                if request is not None:
                    _send(connection, self.answer(request))
        finally:
            self._talking.discard(threading.current_thread())


def _read(connection: socket.socket) -> Request | None:
    held = b""
    while b"\r\n\r\n" not in held:
        more = connection.recv(65536)
        if not more:
            return None
        held += more
    head, _, raw = held.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = CaseInsensitiveDict[str]()
    for line in lines:
        key, _, value = line.partition(": ")
        headers[key] = value
    while len(raw) < int(headers.get("Content-Length", 0)):
        more = connection.recv(65536)
        if not more:
            return None
        raw += more
    return Request(method, target, headers, raw, connection, connection.getpeername()[1])


def _send(connection: socket.socket, reply: Reply) -> None:
    headers = {"Content-Type": reply.content_type, "Connection": "close", **reply.headers}
    if isinstance(reply.body, bytes):
        headers["Content-Length"] = str(len(reply.body))
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    head = f"HTTP/1.1 {reply.status} So\r\n{lines}\r\n".encode("latin-1")
    if isinstance(reply.body, bytes):
        connection.sendall(head + reply.body)
        return
    connection.sendall(head)
    for piece in reply.body:
        connection.sendall(piece)
