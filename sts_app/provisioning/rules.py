"""The two decisions of provisioning, as pure functions: who should have what, and what happens next.

Nothing here reads a clock, a table or a setting; callers hand the facts in. `decide` is the
only place that says what access should stand, and `sts explain` reads the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class GrantState(StrEnum):
    """Where one (name, script) pair stands, as we know it."""

    PENDING = "pending"  # wanted, not yet read back
    VERIFIED = "verified"  # read back from TradingView, or confirmed by staff where nothing can be read
    NEEDS_CUSTOMER = "needs_customer"  # TradingView does not know the name
    WITH_STAFF = "with_staff"  # a manual task is open; wanted or not, a person works on it
    FAILED = "failed"  # a person said that it cannot be done
    REVOKING = "revoking"  # no longer wanted, not yet read as absent
    ABSENT = "absent"  # read as absent, or nothing was ever sent


class Priority:
    """Who goes first when much is due: a new buyer, then retries, then what went wrong, then what is new."""

    BUYER = 0
    RETRY = 1
    HEAL = 2
    SPREAD = 3


class Trigger(StrEnum):
    """What set a cycle of a grant off; the promise is measured by it."""

    PAID = "paid"
    GIFT = "gift"
    ENDED = "ended"  # a refund, a lost dispute, an end that came
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    RENAMED = "renamed"
    MOVED = "moved"  # the strategy has another script now
    SPREAD = "spread"  # a strategy that was activated later
    DRIFT = "drift"  # reconciliation found something else at TradingView
    STEP = "step"  # time has changed what is wanted


class TaskKind(StrEnum):
    """Why a person has a pair to work on."""

    BY_HAND = "by_hand"  # the store runs without automatic calls
    EXHAUSTED = "exhausted"  # the tries ran out
    DISPUTED = "disputed"  # a person said done, and TradingView shows something else


class Switch(StrEnum):
    """What staff allow the machine to do at TradingView."""

    AUTO = "AUTO"
    MANUAL = "MANUAL"  # no automatic writes; reads stay
    DISABLED = "DISABLED"  # no calls at all, no tasks handed out, no sales


class Finding(StrEnum):
    """How a pair differs between TradingView and what should stand."""

    MISSING = "missing"  # wanted and verified once, and not held any more
    EXPIRING = "expiring"  # held, with an end it should not have
    EXTRA = "extra"  # held, not wanted, and once granted by STS
    STRANGER = "stranger"  # held by somebody STS never granted it to
    ALLOWED = "allowed"  # held by a friend of the house
    DRIFTED = "drifted"  # held under another spelling of the name


class NameOutcome(StrEnum):
    """What came of asking TradingView whether it knows a name; each has its own sentence."""

    VALID = "valid"
    UNKNOWN = "unknown"
    BUSY = "busy"  # a limit, TradingView's or our own: wait so long
    SLOW = "slow"  # no answer in time
    DOWN = "down"
    NOT_CONFIGURED = "not_configured"


@dataclass(frozen=True, order=True)
class Pair:
    """A TradingView name, lower-cased, and a script id."""

    name_key: str
    script_id: str


# Two processes' clocks may be so far apart: what one of them has just begun has begun for the other.
CLOCKS_APART = timedelta(minutes=1)


@dataclass(frozen=True)
class Reason:
    """Why a person holds a plan: an entitlement."""

    plan_id: int
    starts_at: datetime
    ends_at: datetime | None = None
    suspended: bool = False
    source: str = ""

    def holds(self, now: datetime) -> bool:
        has_begun = self.starts_at <= now + CLOCKS_APART
        return has_begun and (self.ends_at is None or now < self.ends_at) and not self.suspended


@dataclass(frozen=True)
class Name:
    """A name a person has or had and that is not released yet."""

    key: str
    current: bool


@dataclass(frozen=True)
class Script:
    """A strategy's script that may be granted, the plans it belongs to, and the scripts it had before."""

    script_id: str
    plan_ids: frozenset[int]
    former_ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Want:
    """Why one pair is wanted: the reasons that hold, and the pair it waits for when it is an old one."""

    sources: tuple[str, ...]
    until: Pair | None = None


def decide(
    reasons: Iterable[Reason],
    names: Iterable[Name],
    scripts: Iterable[Script],
    *,
    verified: Set[Pair],
    now: datetime,
) -> dict[Pair, Want]:
    """The pairs one person's entitlements want at `now`, each with why.

    What should stand is the current name on the current script of each strategy. A former name or a
    former script that has access keeps it until that pair is read back, so that a change of either
    never leaves nobody with access.
    """
    holding = [reason for reason in reasons if reason.holds(now)]
    names = tuple(names)
    current = next((name for name in names if name.current), None)
    wanted: dict[Pair, Want] = {}
    for script in scripts:
        sources = tuple(reason.source for reason in holding if reason.plan_id in script.plan_ids)
        if not sources:
            continue
        target = Pair(current.key, script.script_id) if current else None
        if target is not None:
            wanted[target] = Want(sources)
        if target is None or target not in verified:
            for name in names:
                for script_id in (script.script_id, *sorted(script.former_ids)):
                    pair = Pair(name.key, script_id)
                    if pair != target and pair in verified:
                        wanted[pair] = Want(sources, until=target)
    return wanted


def wanted_pairs(
    reasons: Iterable[Reason],
    names: Iterable[Name],
    scripts: Iterable[Script],
    *,
    verified: Set[Pair],
    now: datetime,
) -> frozenset[Pair]:
    """The pairs of `decide`, without why."""
    return frozenset(decide(reasons, names, scripts, verified=verified, now=now))


class Outcome(StrEnum):
    """What one try showed about one pair."""

    PRESENT = "present"  # read back: has access
    GONE = "gone"  # read back: has none
    NOT_TAKEN = "not_taken"  # an answer about this name or script: refused, or a yes that did nothing
    NO_VERDICT = "no_verdict"  # TradingView answers, and says nothing of use about this name or script
    LATER = "later"  # timeout, 5xx, rate limit, nonsense: nobody's fault
    UNKNOWN_NAME = "unknown_name"
    SESSION_REFUSED = "session_refused"
    LOST = "lost"  # the worker died with the claim; nothing is known


class Tell(StrEnum):
    """Who hears of a step."""

    CUSTOMER_NAME_UNKNOWN = "customer_name_unknown"
    CUSTOMER_DELAYED = "customer_delayed"
    STAFF_THIRD_FAILURE = "staff_third_failure"
    STAFF_EXHAUSTED = "staff_exhausted"


@dataclass(frozen=True)
class Standing:
    """What `next_step` must know of a grant. Counts are of the present cycle.

    `held_once` is true when access was ever read back, in this cycle or an earlier one.
    """

    wanted: bool
    failed_tries: int = 0
    spent_tries: int = 0
    lost_claims: int = 0
    held_once: bool = False


@dataclass(frozen=True)
class Policy:
    """The numbers of the retry policy. The last delay repeats.

    Without `hands_over` (PROVISIONING_FALLBACK_MODE=none) what ran out of retries goes on being tried.
    """

    delays: tuple[timedelta, ...]
    max_retries: int
    max_lost_claims: int = 3
    hands_over: bool = True


@dataclass(frozen=True)
class Step:
    """What becomes of the grant: its state, when it is due again, its counts, who is told."""

    state: GrantState
    after: timedelta | None
    failed_tries: int = 0
    spent_tries: int = 0
    lost_claims: int = 0
    tell: frozenset[Tell] = field(default_factory=frozenset)


STAFF_HEARS_AT = 3


def next_step(grant: Standing, outcome: Outcome, policy: Policy, *, vendor_after: timedelta | None = None) -> Step:
    """Decide what follows a try. `vendor_after` is the vendor's own *retry after*, honoured if longer.

    Every failed try steps the delay. Only an answer about this name or script spends one of the
    retries; trouble of the vendor's is tried for as long as it takes (PRODUCT 5).
    """
    moving = GrantState.PENDING if grant.wanted else GrantState.REVOKING
    if outcome is (Outcome.PRESENT if grant.wanted else Outcome.GONE):
        return Step(GrantState.VERIFIED if grant.wanted else GrantState.ABSENT, None)
    if outcome is Outcome.UNKNOWN_NAME:
        if grant.wanted:
            return Step(GrantState.NEEDS_CUSTOMER, None, tell=frozenset({Tell.CUSTOMER_NAME_UNKNOWN}))
        if not grant.held_once:
            # What TradingView never knew never held anything.
            return Step(GrantState.ABSENT, None)
        # Somebody who was renamed, or a service that knows nobody any more, proves no absence: the
        # tries below run out, and a person looks.
    if outcome is Outcome.SESSION_REFUSED:
        # Nobody's attempt: the incident that follows decides when and by whom this is worked on.
        return Step(moving, timedelta(0), grant.failed_tries, grant.spent_tries, grant.lost_claims)
    if outcome is Outcome.LOST:
        lost = grant.lost_claims + 1
        if lost >= policy.max_lost_claims:
            return _hand_over(grant, grant.failed_tries, grant.spent_tries, lost)
        return Step(moving, timedelta(0), grant.failed_tries, grant.spent_tries, lost)

    failed = grant.failed_tries + 1
    spent = grant.spent_tries + (outcome is not Outcome.LATER)
    if spent > policy.max_retries and policy.hands_over:
        return _hand_over(grant, failed, spent, grant.lost_claims)
    delay = policy.delays[min(failed, len(policy.delays)) - 1]
    if vendor_after is not None:
        delay = max(delay, vendor_after)
    tell = frozenset({Tell.STAFF_THIRD_FAILURE}) if failed == STAFF_HEARS_AT else frozenset()
    return Step(moving, delay, failed, spent, grant.lost_claims, tell)


def _hand_over(grant: Standing, failed: int, spent: int, lost: int) -> Step:
    tell = {Tell.STAFF_EXHAUSTED}
    if grant.wanted:
        tell.add(Tell.CUSTOMER_DELAYED)
    return Step(GrantState.WITH_STAFF, None, failed, spent, lost, frozenset(tell))


class AccessState(StrEnum):
    """What a customer sees for one strategy (PRODUCT 2)."""

    PENDING = "Pending"
    ACTIVE = "Active"
    ACTION_NEEDED = "Action needed"
    SUSPENDED = "Suspended"
    FAILED = "Failed"
    REVOKING = "Revoking"
    REVOKED = "Revoked"


def access_state(
    state: GrantState | None, *, wanted: bool, suspended: bool = False, has_name: bool = True
) -> AccessState:
    """The customer's word for a pair; `state` None means that no row stands yet."""
    if wanted:
        if state is GrantState.VERIFIED:
            return AccessState.ACTIVE
        if state is GrantState.NEEDS_CUSTOMER or not has_name:
            return AccessState.ACTION_NEEDED
        if state is GrantState.FAILED:
            return AccessState.FAILED
        return AccessState.PENDING
    if suspended:
        return AccessState.SUSPENDED
    if state in (None, GrantState.ABSENT):
        return AccessState.REVOKED
    return AccessState.REVOKING
