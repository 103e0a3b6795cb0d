"""Fewer bytes on the way: static files compressed once, and pages that were made for everybody.

A page that carries somebody's secret beside text that a stranger chose can be made to tell the secret by its length
(BREACH). So nothing is compressed that was made for a person who is signed in, that carries a form's token, that no
cache may keep, that answers a form, or that was asked for with a query.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from functools import cache, lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from wsgiref.headers import Headers
from wsgiref.util import FileWrapper

from flask import Flask, Response, current_app, g, request
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header
from whitenoise import WhiteNoise
from whitenoise.responders import StaticFile

from sts_app.core.security import NEVER_KEPT, YEAR, is_made_for_somebody

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FILES = {"text/css", "text/javascript", "image/svg+xml"}
PAGES = {"text/html", "text/plain", "text/javascript", "application/xml", "application/manifest+json"}
STATIC = Path(__file__).resolve().parents[2] / "static"
SMALLEST = 600  # bytes, below which the frame of a packet costs as much
LEVEL = 9


def kept_for(*, is_asked_for: bool) -> str:
    """How long an answer may be kept, as `Cache-Control` has it: a year if it is the version that was asked for.

    While the store is renewed, an older process is asked for what only the newer one has.
    """
    return f"max-age={YEAR}, public, immutable" if is_asked_for else "no-cache, public"


def version_of(path: Path) -> str:
    """The hash of a file's content that its address carries."""
    return _version(path, path.stat().st_mtime_ns)


@cache
def _version(path: Path, _modified_ns: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class StaticFiles(WhiteNoise):  # type: ignore[misc]  # whitenoise carries no types
    """WhiteNoise that compresses a text file when it is first asked for, and remembers it.

    Its own way wants compressed twins on the disk beside the source: a step before the start, and files to forget.
    """

    FOREVER = YEAR  # what is said of a file that never changes; whitenoise says ten years

    @staticmethod
    def serve(file: StaticFile, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = file.get_response(environ["REQUEST_METHOD"], environ)
        headers = Headers(list(answer.headers))
        asked_for = parse_qs(environ.get("QUERY_STRING", "")).get("v")
        if asked_for is not None and "Cache-Control" in headers:
            is_it = asked_for == [version_of(Path(file.alternatives[-1][1]))]
            headers["Cache-Control"] = kept_for(is_asked_for=is_it)
        body: Iterable[bytes] = FileWrapper(answer.file) if answer.file is not None else []
        kind = headers.get("Content-Type", "").partition(";")[0]
        if answer.status == HTTPStatus.OK and kind in FILES and int(headers.get("Content-Length", "0")) >= SMALLEST:
            headers["Vary"] = "Accept-Encoding"
            if answer.file is not None and _takes_gzip(environ):
                with answer.file:
                    small = _gzipped(answer.file.read())
                headers["Content-Encoding"] = "gzip"
                headers["Content-Length"] = str(len(small))
                body = [small]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers.items())
        return body


def _takes_gzip(environ: WSGIEnvironment) -> bool:
    return bool(parse_accept_header(environ.get("HTTP_ACCEPT_ENCODING"), Accept)["gzip"] > 0)


@lru_cache(maxsize=32)
def _gzipped(content: bytes) -> bytes:
    return gzip.compress(content, LEVEL, mtime=0)


def init_app(app: Flask) -> None:
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    if not _may_be_compressed(response):
        return response
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(response.get_data(), 6, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


def _may_be_compressed(response: Response) -> bool:
    return (
        request.method in ("GET", "HEAD")
        and not request.query_string
        and not request.path.startswith(NEVER_KEPT)
        and not is_made_for_somebody()
        and current_app.config["WTF_CSRF_FIELD_NAME"] not in g  # where the token is kept that a page asked for
        and not response.cache_control.no_store
        and response.status_code in (200, 404)
        and response.mimetype in PAGES
        and not response.is_streamed
        and not response.direct_passthrough
        and "Content-Encoding" not in response.headers
        and (response.content_length or 0) >= SMALLEST
    )
