"""Fewer bytes on the way: static files compressed once, and pages that were made for everybody.

A page that carries somebody's secret beside text that a stranger chose can be made to tell the secret by its length
(BREACH). So nothing is compressed that was made for a person who is signed in, that answers a form, or that was asked
for with a query.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.headers import Headers
from wsgiref.util import FileWrapper

from flask import Flask, Response, g, request
from flask_login import current_user
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header
from whitenoise import WhiteNoise
from whitenoise.responders import StaticFile

from sts_app.core.security import NEVER_KEPT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FILES = {"text/css", "text/javascript", "image/svg+xml"}
PAGES = {"text/html", "text/plain", "text/javascript", "application/xml", "application/manifest+json"}
STATIC = Path(__file__).resolve().parents[2] / "static"
YEAR = 365 * 24 * 3600
SMALLEST = 600  # bytes, below which the frame of a packet costs as much
LEVEL = 9


class StaticFiles(WhiteNoise):  # type: ignore[misc]  # whitenoise carries no types
    """WhiteNoise that compresses a text file when it is first asked for, and remembers it.

    Its own way wants compressed twins on the disk beside the source: a step before the start, and files to forget.
    """

    FOREVER = YEAR  # what is said of a file that never changes; whitenoise says ten years

    @staticmethod
    def serve(file: StaticFile, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = file.get_response(environ["REQUEST_METHOD"], environ)
        headers = Headers(list(answer.headers))
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
        and not ("_login_user" in g and current_user.is_authenticated)
        and response.status_code in (200, 404)
        and response.mimetype in PAGES
        and not response.is_streamed
        and not response.direct_passthrough
        and "Content-Encoding" not in response.headers
        and (response.content_length or 0) >= SMALLEST
    )
