"""Sealed bytes: AES-256-GCM under keys of their own, for secrets that rest in a table for months.

What `core.tokens` seals lives for minutes and dies with `SECRET_KEY`. What is sealed here says which key
sealed it, so that keys can be replaced one after the other, and is bound to its purpose and its place:
moved to another row or read for another end, it does not open.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sts_app.settings import Settings, encryption_key

# The layout: one byte that says which, the nonce, what is encrypted with its tag.
LAYOUT = b"\x01"
# NIST SP 800-38D, 8.2.2: a random nonce of 96 bits is safe for 2^32 seals under one key.
NONCE_BYTES = 12


class CannotOpen(Exception):
    """Sealed for another place or under a key we do not have, or changed or cut since. Tells nothing of the content."""


@dataclass(frozen=True)
class Sealed:
    """`data` may rest anywhere; `key_id` names the key that opens it and tells nothing about the key."""

    key_id: str
    data: bytes = field(repr=False)


class Keyring:
    """The present key, which seals, and older ones, which only open. Each is 32 bytes."""

    def __init__(self, present: bytes, *older: bytes) -> None:
        self.present_id = _id_of(present)
        self._keys = {_id_of(key): AESGCM(key) for key in (*older, present)}

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The keys of `CREDENTIAL_ENCRYPTION_KEY` and its fallbacks; None when no present key is set."""
        if settings.credential_encryption_key is None:
            return None
        texts = (
            settings.credential_encryption_key.get_secret_value(),
            *settings.credential_encryption_key_fallbacks,
        )
        return cls(*(encryption_key(text) for text in texts))

    def knows(self, key_id: str) -> bool:
        """True when what this key sealed can be opened, unless it was changed since."""
        return key_id in self._keys

    def seal(self, content: bytes, *, purpose: str, place: str) -> Sealed:
        """Encrypt `content` under the present key. `place` names the row it is for, `purpose` what it is for."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        encrypted = self._keys[self.present_id].encrypt(nonce, content, _bound(self.present_id, purpose, place))
        return Sealed(self.present_id, LAYOUT + nonce + encrypted)

    def open(self, sealed: Sealed, *, purpose: str, place: str) -> bytes:
        """The content, when it was sealed for this purpose and place under a key of this ring. Raises `CannotOpen`."""
        key = self._keys.get(sealed.key_id)
        if key is None or not sealed.data.startswith(LAYOUT):
            raise CannotOpen
        nonce, encrypted = sealed.data[1 : 1 + NONCE_BYTES], sealed.data[1 + NONCE_BYTES :]
        try:
            return key.decrypt(nonce, encrypted, _bound(sealed.key_id, purpose, place))
        except (InvalidTag, ValueError):  # ValueError: cut so short that no nonce is left
            raise CannotOpen from None


def _id_of(key: bytes) -> str:
    return hashlib.sha256(b"sts.sealing.key-id:" + key).hexdigest()[:8]


def _bound(key_id: str, purpose: str, place: str) -> bytes:
    """What is authenticated beside the content. JSON, because joined words could be cut elsewhere."""
    return json.dumps(["sts.sealing", LAYOUT.hex(), key_id, purpose, place]).encode()
