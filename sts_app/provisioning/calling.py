"""The calls of one claim: nothing is open while they are made, and nothing here knows the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sts_app.core import clock
from sts_app.provisioning.gateway import NeedsCustomer, NeedsStaff, TradingView, TryLater
from sts_app.provisioning.rules import Outcome


@dataclass(frozen=True)
class Claim:
    """What one worker holds for one lease: scripts of one name in one direction.

    `writable` are the scripts that writes were paid for; the others are read and never written.
    `until` is the end of the lease, and `credential_id` names the credentials the calls will be made with.
    """

    token: str
    name: str
    name_key: str
    wanted: bool
    grant_ids: dict[str, int]
    writable: frozenset[str]
    read_first: bool
    until: datetime
    credential_id: int | None = None

    @property
    def script_ids(self) -> tuple[str, ...]:
        return tuple(self.grant_ids)


@dataclass(frozen=True)
class Seen:
    """What a try showed about one script. `may_come_late`: a write without an answer may still be carried out."""

    outcome: Outcome
    reason: str
    after: timedelta | None = None
    may_come_late: bool = False


def call(adapter: TradingView, claim: Claim, *, pause: float = 0.0) -> dict[str, Seen]:
    """Make TradingView agree about one claim and read back what it says. Raises nothing.

    What was called before is read first: the answer to an earlier call may have been lost after it
    took effect. A worker that was stopped until its lease was over writes nothing any more. `pause` is how
    many seconds to wait before a write.
    """
    seen: dict[str, Seen] = {}
    todo = list(claim.script_ids)
    refused: dict[str, str] = {}
    is_unanswered = False
    try:
        if claim.read_first:
            seen.update(_read(adapter, claim, todo, refused))
            todo = [script for script in todo if seen[script].outcome in (Outcome.NOT_TAKEN, Outcome.NO_VERDICT)]
        todo = [script for script in todo if script in claim.writable]
        if todo:
            time.sleep(pause)
            if clock.now() >= claim.until:
                # What was read stands; what was to be called is nobody's any more.
                return seen | {script: Seen(Outcome.LOST, "the lease was over before the call") for script in todo}
            act = adapter.grant if claim.wanted else adapter.revoke
            is_unanswered = True
            answers = act(claim.name, todo)
            is_unanswered = len(answers) < len(todo)
            for answer in answers:
                if answer.refused:
                    refused[answer.script_id] = answer.refused
            seen.update(_read(adapter, claim, todo, refused))
    except TryLater as trouble:
        view = replace(_doubt_session(adapter, trouble), may_come_late=is_unanswered)
        seen.update((script, view) for script in todo)
    except NeedsStaff as trouble:
        seen.update((script, Seen(Outcome.SESSION_REFUSED, trouble.reason)) for script in todo)
    except NeedsCustomer as trouble:
        view = _doubt_unknown(adapter, claim, trouble.reason)
        seen.update((script, view) for script in todo)
    return seen


def _doubt_session(adapter: TradingView, trouble: TryLater) -> Seen:
    """A failure that an expired session hides behind as well: ask for the session before it is called a failure."""
    if trouble.doubts_session:
        try:
            adapter.check_session()
        except NeedsStaff as refusal:
            return Seen(Outcome.SESSION_REFUSED, refusal.reason)
        except TryLater:
            pass
        else:
            # TradingView answers everybody else: this is about this name or script, and no outage.
            return Seen(Outcome.NO_VERDICT, trouble.reason, trouble.after)
    return Seen(Outcome.LATER, trouble.reason, trouble.after)


def _doubt_unknown(adapter: TradingView, claim: Claim, reason: str) -> Seen:
    """A call said that the name is unknown; ask for the name itself before a customer is troubled with it."""
    try:
        known = adapter.find_name(claim.name)
    except TryLater as trouble:
        return Seen(Outcome.LATER, trouble.reason, trouble.after)
    except NeedsStaff as trouble:
        return Seen(Outcome.SESSION_REFUSED, trouble.reason)
    except NeedsCustomer:
        known = None
    if known is not None:
        return Seen(Outcome.NO_VERDICT, "TradingView knows the name, and said in the call that it does not")
    return Seen(Outcome.UNKNOWN_NAME, reason)


def _read(adapter: TradingView, claim: Claim, scripts: Sequence[str], refused: dict[str, str]) -> dict[str, Seen]:
    """Read back; `has_access` is the only proof. Access that expires is not the access that was sold."""
    seen = {}
    for fact in adapter.has_access(claim.name, scripts):
        if not fact.has_access and not fact.is_told:
            # Silence may be an empty list of a sick service: no proof that access is gone.
            seen[fact.script_id] = Seen(Outcome.NO_VERDICT, "the answer left this script out")
            continue
        if not claim.wanted:
            outcome = Outcome.NOT_TAKEN if fact.has_access else Outcome.GONE
        else:
            outcome = Outcome.PRESENT if fact.has_access and fact.expires_at is None else Outcome.NOT_TAKEN
        reason = refused.get(fact.script_id, "")
        if outcome is Outcome.NOT_TAKEN and not reason:
            reason = "access has an end" if fact.has_access and claim.wanted else "read back without the change"
        seen[fact.script_id] = Seen(outcome, reason)
    for script in scripts:
        seen.setdefault(script, Seen(Outcome.LATER, "the time was over before this script was asked about"))
    return seen
