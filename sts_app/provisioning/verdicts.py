"""What staff are told of somebody's access: the verdict on each strategy, and each pair behind it.

Sentences alone, made from facts that `explain` reads; what is wanted and why is the answer of `rules.decide`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sts_app.catalog.models import StrategyStatus
from sts_app.core.money import as_moment
from sts_app.provisioning import queries
from sts_app.provisioning.control import Standing
from sts_app.provisioning.models import Entitlement, Grant, ManualTask, TradingViewName
from sts_app.provisioning.queries import Facts, Ledger, StrategyAccess
from sts_app.provisioning.rules import AccessState, GrantState, Outcome, Pair, Script, Want
from sts_app.provisioning.words import due_words, words_for

TRIES_SHOWN = 5


@dataclass(frozen=True)
class NameTold:
    """One TradingView name of a person, and what holds of it."""

    spelling: str
    words: str


@dataclass(frozen=True)
class ReasonTold:
    """One entitlement, whether it counts now, and why or why not."""

    source: str
    plan: str
    holds: bool
    words: str


@dataclass(frozen=True)
class TryTold:
    """One try at one pair, as staff read it."""

    at: datetime
    act: str
    words: str
    reason: str | None


@dataclass(frozen=True)
class PairTold:
    """One name with one script: what is wanted of it and why, what is known, and what happens next and when."""

    grant_id: int | None
    name: str
    script_id: str
    wanted: bool
    because: str
    state: str | None
    words: str
    evidence: str | None
    since: datetime | None
    next: str
    next_at: datetime | None
    as_wanted: bool
    tries: tuple[TryTold, ...]


@dataclass(frozen=True)
class StrategyTold:
    """One strategy: the verdict for staff, what the customer reads, and the pairs behind both."""

    slug: str
    name: str
    state: AccessState
    wanted: bool
    sources: tuple[str, ...]
    as_wanted: bool
    verdict: str
    customer: str
    pairs: tuple[PairTold, ...]


@dataclass(frozen=True)
class Way:
    """What may be done at TradingView now: in words, what keeps a write from being made, and the pace."""

    standing: Standing
    words: str
    block: str | None
    pace: str


# One strategy.


def of_strategy(access: StrategyAccess, script: Script, facts: Facts, ledger: Ledger, way: Way) -> StrategyTold:
    """The verdict on one strategy. It is as wanted when each of its pairs is, and no change is under way."""
    target = facts.target(script)
    want = facts.wanted.get(target) if target else None
    holding = [reason for reason in queries.reasons_of(access.reasons) if reason.holds(facts.now)]
    sources = want.sources if want else tuple(reason.source for reason in holding)
    pairs = [_pair(grant, facts, ledger, way) for grant in access.rows]
    if target is not None and want is not None and access.grant is None:
        pairs.insert(0, _missing(target, want, facts))
    as_wanted = all(pair.as_wanted for pair in pairs) and (not sources or target is not None)
    return StrategyTold(
        slug=access.strategy.slug,
        name=access.strategy.name,
        state=access.state,
        wanted=bool(sources),
        sources=sources,
        as_wanted=as_wanted,
        verdict=_verdict(access, facts, pairs, sources, as_wanted=as_wanted),
        customer=words_for(access, facts, ledger, way.standing) if access.reasons else "",
        pairs=tuple(pairs),
    )


def _verdict(
    access: StrategyAccess, facts: Facts, pairs: Sequence[PairTold], sources: Sequence[str], *, as_wanted: bool
) -> str:
    strategy, name = access.strategy.name, facts.name.spelling if facts.name else None
    by = f"because of {', '.join(sources)}"
    if sources and name is None:
        return f"{strategy} is wanted {by}, and there is no TradingView name to give it to."
    if sources and as_wanted and access.grant is not None and access.grant.verified_at is not None:
        proof, at = access.grant.evidence, as_moment(access.grant.verified_at)
        return f"{name} has {strategy} {by}: {proof} on {at}."
    unsettled = next((pair for pair in pairs if not pair.as_wanted), None)
    if sources and access.state is AccessState.ACTIVE and unsettled is not None:
        return f"{name} has {strategy} {by}. Still to be removed from {unsettled.name}: {unsettled.next}"
    if sources and unsettled is not None:
        return f"{name} is to have {strategy} {by}, and has it not as wanted yet: {unsettled.next}"
    why_not = _why_not(access, facts.now)
    if unsettled is not None:
        return f"{unsettled.name} is to lose {strategy} ({why_not}), and is not read as absent yet: {unsettled.next}"
    return f"Nobody here is to have {strategy} ({why_not}), and nothing stands."


def _why_not(access: StrategyAccess, now: datetime) -> str:
    if access.strategy.status == StrategyStatus.DRAFT:
        return "the strategy is a draft"
    if not access.reasons:
        return "there is no entitlement to it"
    return "; ".join(f"{each.source} {_reason_words(each, now)}" for each in access.reasons)


def overall(told: Sequence[StrategyTold]) -> str:
    """One sentence about every strategy that was looked at."""
    waiting = [each.name for each in told if not each.as_wanted]
    if not waiting:
        wanted = sum(each.wanted for each in told)
        return f"All is as wanted: {wanted} to have, {len(told) - wanted} not to have."
    return f"Not yet as wanted: {', '.join(waiting)}."


# One pair.


def _pair(grant: Grant, facts: Facts, ledger: Ledger, way: Way) -> PairTold:
    want = facts.wanted.get(Pair(grant.name_key, grant.script_id))
    state = GrantState(grant.state)
    wanted = want is not None
    stands = state is (GrantState.VERIFIED if wanted else GrantState.ABSENT)
    held = state in (GrantState.VERIFIED, GrantState.ABSENT)
    since = (grant.verified_at if state is GrantState.VERIFIED else grant.absent_at) if held else None
    tries = tuple(
        TryTold(
            each.created_at,
            "give" if each.wanted else "remove",
            OUTCOMES[Outcome(each.outcome)] if each.outcome else "under way",
            each.reason,
        )
        for each in ledger.attempts[grant.id][:TRIES_SHOWN]
    )
    return PairTold(
        grant_id=grant.id,
        name=grant.name_spelling,
        script_id=grant.script_id,
        wanted=wanted,
        because=_because(want, facts),
        state=state.value,
        words=STATES[state],
        evidence=grant.evidence if held else None,
        since=since,
        next=_next(grant, want, ledger, way, facts.now),
        next_at=grant.next_attempt_at,
        # A pair that is kept for the time of a change is right as it is, and the change is not over.
        as_wanted=stands and grant.wanted is wanted and (want is None or want.until is None),
        tries=tries,
    )


def _missing(pair: Pair, want: Want, facts: Facts) -> PairTold:
    return PairTold(
        grant_id=None,
        name=facts.name.spelling if facts.name else pair.name_key,
        script_id=pair.script_id,
        wanted=True,
        because=_because(want, facts),
        state=None,
        words="no row yet",
        evidence=None,
        since=None,
        next="The minute sweep adds it.",
        next_at=None,
        as_wanted=False,
        tries=(),
    )


def _because(want: Want | None, facts: Facts) -> str:
    if want is None:
        return "nothing wants it"
    told = f"wanted by {', '.join(want.sources)}"
    if want.until is None:
        return told
    spelling = {name.name_key: name.spelling for name in facts.names}
    return f"{told}, kept until {spelling[want.until.name_key]} with {want.until.script_id} is read back"


def _next(grant: Grant, want: Want | None, ledger: Ledger, way: Way, now: datetime) -> str:
    """What happens next with a pair, and when: the next try, the open task, or what blocks."""
    if grant.wanted is not (want is not None):
        return "It is out of step with what is wanted; the minute sweep turns it."
    task = ledger.open_task(grant)
    if task is not None:
        return f"Task {task.id} ({task.kind}) is open since {as_moment(task.created_at)}: {task.because}."
    match GrantState(grant.state):
        case GrantState.FAILED:
            return _failed(ledger.tasks[grant.id])
        case GrantState.NEEDS_CUSTOMER:
            return "The customer has to correct the name; nothing is tried before."
        case GrantState.WITH_STAFF:
            return "A person is to work on it, and has no task."
    if grant.lease_token is not None and grant.leased_until is not None:
        return f"A worker is on it, until {as_moment(grant.leased_until)} at most."
    if grant.next_attempt_at is None:
        return "Nothing: it stands as it should." if _is_settled(grant) else "Nothing is appointed."
    return _next_try(grant, grant.next_attempt_at, way, now)


def _next_try(grant: Grant, at: datetime, way: Way, now: datetime) -> str:
    only_read = _is_settled(grant) or grant.said_by is not None
    act = "It is read once more" if only_read else "The next try is due"
    when = f"{act} {due_words(at, now)}" if at > now else f"{act} now"
    if way.block is not None and not (only_read and way.standing.may_read):
        return f"{when}, but {way.block}."
    return f"{when}." if at > now or only_read else f"{when} ({way.pace})."


def _failed(tasks: Iterable[ManualTask]) -> str:
    closed = next((task for task in tasks if task.outcome == "cannot"), None)
    if closed is None or closed.closed_at is None:
        return "A person said that it cannot be done; nothing happens by itself."
    note = f": {closed.note}" if closed.note else ""
    return (
        f"{closed.closed_by} closed task {closed.id} as impossible on {as_moment(closed.closed_at)}{note}; "
        "nothing happens by itself."
    )


def _is_settled(grant: Grant) -> bool:
    return grant.state in (GrantState.VERIFIED, GrantState.ABSENT)


# Names and reasons.


def of_name(name: TradingViewName, facts: Facts) -> NameTold:
    """Whether a name is current, still reserved or released, and whether TradingView ever knew it."""
    checked = f"known at TradingView since {as_moment(name.verified_at)}" if name.verified_at else "never verified"
    if name.replaced_at is None:
        return NameTold(name.spelling, f"current since {as_moment(name.created_at)}, {checked}")
    replaced = f"replaced on {as_moment(name.replaced_at)}"
    if name.released_at is not None:
        return NameTold(name.spelling, f"{replaced}, released on {as_moment(name.released_at)}")
    held = sum(grant.name_key == name.name_key and grant.state != GrantState.ABSENT for grant in facts.grants.values())
    return NameTold(name.spelling, f"{replaced}, reserved until its {held} pairs are read as absent")


def of_reason(entitlement: Entitlement, plan: str, now: datetime) -> ReasonTold:
    """Whether an entitlement counts now, and why or why not, with the note that staff left."""
    [reason] = queries.reasons_of([entitlement])
    note = f" ({entitlement.note})" if entitlement.note else ""
    return ReasonTold(entitlement.source, plan, reason.holds(now), _reason_words(entitlement, now) + note)


def _reason_words(entitlement: Entitlement, now: datetime) -> str:
    if queries.has_ended(entitlement, now) and entitlement.ends_at is not None:
        because = f" because {entitlement.ended_because}" if entitlement.ended_because else " by its date"
        return f"ended on {as_moment(entitlement.ends_at)}{because}"
    if entitlement.starts_at > now:
        return f"begins on {as_moment(entitlement.starts_at)}"
    if entitlement.suspended_at is not None:
        because = f" because {entitlement.suspended_because}" if entitlement.suspended_because else ""
        return f"is suspended since {as_moment(entitlement.suspended_at)}{because}"
    until = f" until {as_moment(entitlement.ends_at)}" if entitlement.ends_at else ""
    return f"holds since {as_moment(entitlement.starts_at)}{until}"


STATES = {
    GrantState.PENDING: "to be given, not read back yet",
    GrantState.VERIFIED: "has access",
    GrantState.NEEDS_CUSTOMER: "the name is unknown at TradingView",
    GrantState.WITH_STAFF: "with a person",
    GrantState.FAILED: "a person said that it cannot be done",
    GrantState.REVOKING: "to be removed, not read as absent yet",
    GrantState.ABSENT: "has no access",
}
OUTCOMES = queries.OUTCOME_WORDS
