"""What a mail provider is to us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class Letter:
    """A finished letter. `sender`, `to` and `reply_to` are addresses as a mail header writes them."""

    sender: str
    to: str
    subject: str
    text: str
    html: str
    kind: str
    reply_to: str | None = None


class Happened(StrEnum):
    """What a provider tells of a letter that it took."""

    DELIVERED = "delivered"  # the recipient's server took it
    DELAYED = "delayed"  # that server asks for patience; the provider tries on
    FAILED = "failed"  # it never left the provider
    SUPPRESSED = "suppressed"  # the provider keeps it back: an earlier one bounced or was called spam
    BOUNCED_SOFTLY = "bounced_softly"  # it came back for a reason that may pass, like a full mailbox
    BOUNCED = "bounced"  # it came back, and so will the next
    COMPLAINED = "complained"  # the recipient called it spam


@dataclass(frozen=True)
class LetterEvent:
    """What happened to one letter. `provider_id` is what `Mailer.send` returned for it.

    `id` is the same for every delivery of this event. `words` are the other server's own, as far as it
    said any; they may quote an address.
    """

    id: str
    provider_id: str
    happened: Happened
    at: datetime
    words: str = ""


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


class BadSignature(MailerError):
    """Whoever rang is not our provider, or rang too long ago."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Mailer(Protocol):
    def send(self, letter: Letter, key: str) -> str:
        """Hand one letter over and return the provider's id for it.

        The same `key` sends once, however often it is called with the same letter (the provider
        remembers keys for 24 hours). Raises `TryLater` or `Refused`.
        """
        ...

    def lift(self, address: str) -> None:
        """Let the provider forget that letters to `address` bounced or were called spam.

        Until then it takes letters to it and keeps them back. Quiet when it remembers nothing. Raises
        `TryLater` or `Refused`.
        """
        ...

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> LetterEvent | None:
        """Verify an event over its raw body, then read it; None for one that says nothing of a letter's fate.

        `headers` are those of the request, by their names in lower case. Raises `BadSignature`.
        """
        ...
