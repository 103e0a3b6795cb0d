"""Signed tokens, digests and sealed text: one place for what must not be guessed or read.

Every token is signed with its purpose as salt, so a link for one act is worthless for another, and
`SECRET_KEY_FALLBACKS` keep older ones readable while a key is being replaced.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import current_app
from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer


class TokenExpired(Exception):
    """The signature is ours, the time is over."""


class TokenInvalid(Exception):
    """Not ours, or changed on the way."""


def new_secret() -> str:
    """32 random bytes, fit for an address."""
    return secrets.token_urlsafe(32)


def new_code() -> str:
    """Six random digits, for typing on another device."""
    return f"{secrets.randbelow(1_000_000):06d}"


def digest(purpose: str, value: str) -> str:
    """What is stored in place of a secret: keyed, so that a stolen table alone cannot be searched by guess."""
    key = _keys()[0].encode()
    return hmac.new(key, f"{purpose}:{value}".encode(), hashlib.sha256).hexdigest()


def digests(purpose: str, value: str) -> tuple[str, ...]:
    """The digests under the present key and every key it may have been stored with."""
    text = f"{purpose}:{value}".encode()
    return tuple(hmac.new(key.encode(), text, hashlib.sha256).hexdigest() for key in _keys())


def matches(purpose: str, value: str, stored: str) -> bool:
    """Compare in constant time."""
    return any(hmac.compare_digest(candidate, stored) for candidate in digests(purpose, value))


def sign(purpose: str, payload: Any) -> str:
    return _serializer(purpose).dumps(payload)


def read(purpose: str, token: str, *, max_age: int) -> Any:
    """The payload of a token signed for `purpose` at most `max_age` seconds ago."""
    try:
        return _serializer(purpose).loads(token, max_age=max_age)
    except SignatureExpired as error:
        raise TokenExpired from error
    except BadSignature as error:
        raise TokenInvalid from error


def seal(purpose: str, text: str) -> str:
    """Encrypt text that must rest in a table for a while (a sign-in letter before it is sent)."""
    return _box(purpose).encrypt(text.encode()).decode()


def unseal(purpose: str, sealed: str) -> str:
    try:
        return _box(purpose).decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise TokenInvalid from error


def _keys() -> Sequence[str]:
    settings = current_app.config["STS"]
    return (settings.secret_key.get_secret_value(), *settings.secret_key_fallbacks)


def _serializer(purpose: str) -> URLSafeTimedSerializer:
    # The newest key is last: itsdangerous signs with it and reads with all.
    return URLSafeTimedSerializer(list(reversed(_keys())), salt=f"sts.{purpose}")


def _box(purpose: str) -> MultiFernet:
    def derive(key: str) -> Fernet:
        derived = HKDF(SHA256(), 32, salt=None, info=f"sts.{purpose}".encode()).derive(key.encode())
        return Fernet(base64.urlsafe_b64encode(derived))

    return MultiFernet([derive(key) for key in _keys()])
