"""Google in our words: a visitor is sent there and comes back with a code that tells who they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Errand:
    """One visitor's way to Google and back. `address` is where to send them; the rest stays with their browser.

    `state` comes back with them and shows that it is the same browser, `nonce` comes back inside what Google signs,
    and `verifier` shows to Google that whoever brings the code is who asked for it (PKCE).
    """

    address: str
    state: str
    nonce: str
    verifier: str = field(repr=False)


@dataclass(frozen=True)
class GooglePerson:
    """Who came back, as Google signed it. `subject` is Google's lasting name for the account."""

    subject: str
    email: str
    email_is_verified: bool
    name: str


class GoogleError(Exception):
    """Something of Google's that keeps somebody from signing in by it."""


class TryLater(GoogleError):
    """Google does not answer, or says that it cannot now."""


class Refused(GoogleError):
    """Google refused the code, or what it signed does not hold: not for us, not of now, or not signed by Google."""


class Google(Protocol):
    """Who tells us who somebody is, by OpenID Connect."""

    def begin(self, *, back_to: str, hint: str = "") -> Errand:
        """Where to send a visitor who shall return to the full address `back_to`. `hint` is the address that Google
        should suggest. Raises `TryLater`."""
        ...

    def finish(self, errand: Errand, code: str, *, back_to: str) -> GooglePerson:
        """Who the visitor with this code is. A code works once. Raises `TryLater` and `Refused`."""
        ...
