"""What people paste as credentials: the two cookies of a session, the address of an access service. Pure.

No sentence here repeats anything of what was entered: it goes to screens and logs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sts_app.core.errors import FixInput
from sts_app.settings import crosses_in_clear

# TradingView's own are 32 and about 50 characters. What is far from that is another cookie, or a whole page.
SHORTEST, LONGEST = 8, 512
LONGEST_PASTED = 20_000
LONGEST_ADDRESS = 2_000
# RFC 6265, 4.1.1: what the value of a cookie is made of.
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+")
# The two names wherever cookies are listed: a header, a command copied from the browser, one to a line.
_NAMED = re.compile(r"(?:^|[\s;,'\"])(sessionid(?:_sign)?)\s*=\s*([^\s;,'\"]*)")
_WORDS = {"sessionid": "session id", "sessionid_sign": "signature"}


@dataclass(frozen=True)
class Cookies:
    """The two cookies of a session of TradingView; None for what was not entered."""

    session_id: str | None = field(repr=False)
    signature: str | None = field(repr=False)


def read(*, session_id: str, signature: str) -> Cookies:
    """The two values of two fields, either of which may hold a whole `Cookie` header. Raises FixInput."""
    found: dict[str, set[str]] = {"sessionid": set(), "sessionid_sign": set()}
    for name, text in (("sessionid", session_id), ("sessionid_sign", signature)):
        for named, value in _named(name, text):
            found[named].add(_checked(named, value))
    for name, values in found.items():
        if len(values) > 1:
            raise FixInput(f"Two different values were entered as {_WORDS[name]} (cookie {name}). Enter the newer one.")
    return Cookies(*(next(iter(values), None) for values in found.values()))


def holds_both(text: str) -> bool:
    """True when a pasted text names both cookies, so that nothing more need be asked for."""
    return {name for name, _ in _NAMED.findall(text)} == set(_WORDS)


def address(text: str) -> str | None:
    """The address of an access service without a trailing slash; None when nothing was entered. Raises FixInput.

    Credentials are sent there with every call, so plain http is for names and addresses that the
    Internet does not reach.
    """
    text = text.strip()
    if not text:
        return None
    refusal = FixInput("The address of the access service is no http(s) address of a host, with nothing but a path.")
    if len(text) > LONGEST_ADDRESS or not text.isascii() or re.search(r"[\x00-\x20\x7f\\]", text):
        raise refusal
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise refusal from None
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or "?" in text or "#" in text:
        raise refusal
    if crosses_in_clear(text):
        raise FixInput(
            "The address of the access service starts with http://, and credentials would go there in clear."
        )
    return text.rstrip("/")


def _named(name: str, text: str) -> list[tuple[str, str]]:
    """What a field holds: its own value, or the cookies that were pasted into it."""
    text = text.strip()
    if len(text) > LONGEST_PASTED:
        raise FixInput("What was entered is far too long to be cookies.")
    if pasted := _NAMED.findall(text):
        return pasted
    text = text.strip("'\"")
    if ";" in text and "=" in text:
        raise FixInput(
            f"The cookies that were pasted hold no {_WORDS[name]} (cookie {name}). Copy them while signed in."
        )
    return [(name, text)] if text else []


def _checked(name: str, value: str) -> str:
    words = f"The {_WORDS[name]} (cookie {name})"
    if not value:
        raise FixInput(f"{words} is empty. Copy it while signed in at TradingView.")
    if not _VALUE.fullmatch(value):
        raise FixInput(f"{words} holds characters that no cookie has. Copy its value alone, without blanks or quotes.")
    if not SHORTEST <= len(value) <= LONGEST:
        raise FixInput(f"{words} has {len(value)} characters; a real one has between {SHORTEST} and {LONGEST}.")
    return value
