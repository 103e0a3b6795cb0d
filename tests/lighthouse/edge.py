"""The store as visitors meet it in production: behind a host's edge, which speaks https with them.

For gunicorn on loopback, in place of `wsgi:app`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sts_app import create_app

_store = create_app()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.url_scheme"] = "https"
    return _store(environ, start_response)
