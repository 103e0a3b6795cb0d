"""What TradingView is to us, whichever way it is reached.

Granting twice equals once. Revoking what is absent is quiet. `has_access` is the only proof: a
`grant` that returned without an error is a claim by the vendor, nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol


@dataclass(frozen=True)
class ScriptAnswer:
    """What the vendor said about one script in a grant or revoke call.

    `refused` holds the vendor's word when it said no for this script (`Failure`), else None.
    """

    script_id: str
    refused: str | None = None


@dataclass(frozen=True)
class AccessFact:
    """What a name holds on one script as read back. `expires_at` None means for life.

    `is_told` is False when the vendor left the script out: no access as far as granting goes, and no
    proof of absence.
    """

    script_id: str
    has_access: bool
    expires_at: datetime | None = None
    is_told: bool = True


@dataclass(frozen=True)
class Holder:
    """Somebody who holds a script, in TradingView's own spelling. `expires_at` None means for life."""

    name: str
    expires_at: datetime | None = None


@dataclass(frozen=True)
class CallMade:
    """One call over the wire as it ended: whether it could change anything, what it was for, and how long it took.

    `outcome` is `answered` or the kind of trouble; `limited` is true when the vendor asked for a slower pace,
    `after` is how long it asked us to wait. `is_extra` marks a write beyond the one for each script that whoever
    calls has reckoned with.
    """

    kind: Literal["read", "write"]
    op: str
    outcome: str
    ms: int
    limited: bool = False
    after: timedelta | None = None
    is_extra: bool = False


Meter = Callable[[CallMade], None]


def unmetered(_: CallMade) -> None:
    """For an adapter whose calls nobody counts, as in a test."""


class TradingViewError(Exception):
    """Named for what happens next. `reason` is fit for staff and holds no secret and no address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Trouble(StrEnum):
    """What kept an answer away, for whoever must say so to a person."""

    FAILURE = "failure"  # a 5xx, a connection refused or lost, an answer that makes no sense
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"


class TryLater(TradingViewError):
    """A timeout, a 5xx, a rate limit, an answer that makes no sense: nobody's fault and no verdict.

    `doubts_session` is true for a failure that is also what an expired session looks like (the access
    service's one 500 for everything): whoever gets it asks `check_session` which of the two it is.
    """

    def __init__(
        self,
        reason: str,
        *,
        after: timedelta | None = None,
        trouble: Trouble = Trouble.FAILURE,
        doubts_session: bool = False,
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.trouble = trouble
        self.doubts_session = doubts_session


class NotOffered(TradingViewError):
    """This way to TradingView has no such call: an access service cannot list who holds a script."""


class NeedsCustomer(TradingViewError):
    """TradingView does not know the name. Only the customer can mend that."""


class NeedsStaff(TradingViewError):
    """The session is dead or refused (401, 403, sign-in page, captcha). Only a person can mend that."""


def outcome_of(failure: TradingViewError) -> str:
    """How a call that ended so is written down: the kind of trouble, or who has to mend it."""
    if isinstance(failure, TryLater):
        return failure.trouble.value
    return {NeedsCustomer: "needs_customer", NeedsStaff: "needs_staff"}.get(type(failure), "refused")


class TradingView(Protocol):
    @property
    def one_call_for_all(self) -> bool:
        """True when one write call carries all scripts of a name, False when each script is a call of its own."""
        ...

    def find_name(self, name: str) -> str | None:
        """The name in TradingView's own spelling, or None when it is unknown there."""
        ...

    def grant(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for access for life to each script; one answer per script, in the order asked.

        Where each script is a call of its own, those left over when the time is up have no answer.
        """
        ...

    def revoke(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for removal from each script, answered as `grant` is; absent already is not a refusal."""
        ...

    def has_access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact]:
        """Read what stands; a script the vendor does not mention counts as no access.

        Where each script is a call of its own, those left over when the time is up are missing from the facts.
        """
        ...

    def list_holders(self, script_id: str) -> list[Holder]:
        """Everybody who holds a script, all pages of it. Raises `NotOffered` where no such call exists.

        A list that could not be read to its end is never returned: that is `TryLater`.
        """
        ...

    def check_session(self) -> None:
        """Return quietly when the session works; raise `NeedsStaff` or `TryLater` when not. One call."""
        ...
