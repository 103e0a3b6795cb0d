"""The one style sheet of every page, put together from its parts: five files to read, one request to make.

Parts of a kind of page (`public.css`, `support.css`) stay files of their own.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache

from flask import Flask, Response, request

from sts_app.core.compression import LEVEL, STATIC, kept_for

# In the order in which a later part may overrule an earlier one.
PARTS = ("tokens", "frame", "words", "parts", "rows")
PATH = "/style.css"


@dataclass(frozen=True)
class _Sheet:
    text: bytes
    gzipped: bytes
    version: str


def init_app(app: Flask) -> None:
    app.add_url_rule(PATH, "style", _answer)
    app.jinja_env.globals.update(style_url=style_url)


def style_url() -> str:
    """The address of the style sheet with its content's hash, so that it may be kept for a year."""
    return f"{PATH}?v={_sheet().version}"


def _answer() -> Response:
    sheet = _sheet()
    response = Response(sheet.text, mimetype="text/css")
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.set_data(sheet.gzipped)
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Cache-Control"] = kept_for(is_asked_for=request.args.get("v") == sheet.version)
    return response


def _sheet() -> _Sheet:
    """The sheet as the files are now: somebody at work on them need not start the store again."""
    return _put_together(tuple((STATIC / "css" / f"{part}.css").stat().st_mtime_ns for part in PARTS))


@cache
def _put_together(_changed_at: tuple[int, ...]) -> _Sheet:
    parts = "\n".join((STATIC / "css" / f"{part}.css").read_text() for part in PARTS)
    # What is only for those who read the source; no string in it holds a comment's marks or begins a line.
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", parts, flags=re.S)).strip().encode()
    return _Sheet(text, gzip.compress(text, LEVEL, mtime=0), hashlib.sha256(text).hexdigest()[:12])
