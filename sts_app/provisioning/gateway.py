"""What TradingView is to us, whichever way it is reached.

Granting twice equals once. Revoking what is absent is quiet. `has_access` is the only proof: a
`grant` that returned without an error is a claim by the vendor, nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


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


class TradingViewError(Exception):
    """Named for what happens next. `reason` is fit for staff and holds no secret and no address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TryLater(TradingViewError):
    """A timeout, a 5xx, a rate limit, an answer that makes no sense: nobody's fault and no verdict."""

    def __init__(self, reason: str, *, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.after = after


class NeedsCustomer(TradingViewError):
    """TradingView does not know the name. Only the customer can mend that."""


class NeedsStaff(TradingViewError):
    """The session is dead or refused (401, 403, sign-in page, captcha). Only a person can mend that."""


class TradingView(Protocol):
    def find_name(self, name: str) -> str | None:
        """The name in TradingView's own spelling, or None when it is unknown there."""
        ...

    def grant(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for access for life to each script; one answer per script, in the order asked."""
        ...

    def revoke(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for removal from each script; absent already is not a refusal."""
        ...

    def has_access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact]:
        """Read what stands; a script the vendor does not mention counts as no access."""
        ...

    def check_session(self) -> None:
        """Return quietly when the session works; raise `NeedsStaff` or `TryLater` when not."""
        ...
