"""What a mail provider is to us."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True)
class Letter:
    """A finished letter. `sender` and `to` are addresses as a mail header writes them."""

    sender: str
    to: str
    subject: str
    text: str
    html: str
    kind: str


class MailerError(Exception):
    """Named for what happens next; never carries an address, a body or a key."""


class TryLater(MailerError):
    """Not answered, busy or broken. `answered` is False when nobody knows whether it was sent."""

    def __init__(self, reason: str, *, after: timedelta | None = None, answered: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.answered = answered


class Refused(MailerError):
    """The provider answered no.

    `final` is False when the fault lies with our account there (a key, a domain), which a person may
    mend meanwhile; otherwise the same letter will be answered no again.
    """

    def __init__(self, reason: str, *, final: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


class Mailer(Protocol):
    def send(self, letter: Letter, key: str) -> str:
        """Hand one letter over and return the provider's id for it.

        The same `key` sends once, however often it is called with the same letter (the provider
        remembers keys for 24 hours). Raises `TryLater` or `Refused`.
        """
        ...
