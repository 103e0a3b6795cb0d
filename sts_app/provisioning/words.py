"""What a customer is told of their access: why it stands as it does, and what happens next.

Sentences alone, made from facts that were read elsewhere. They name no vendor's insides, no credentials
and no member of staff, and promise no time that is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sts_app.core.money import as_moment
from sts_app.provisioning.control import Standing
from sts_app.provisioning.cycles import CONFIRMED_BY_STAFF
from sts_app.provisioning.models import (
    Entitlement,
    Grant,
    ManualTask,
    ProvisioningAttempt,
    ProvisioningJob,
    TradingViewName,
)
from sts_app.provisioning.queries import Facts, Ledger, StrategyAccess, has_ended, has_money_in
from sts_app.provisioning.rules import AccessState, GrantState, Outcome, Switch, TaskKind, Trigger

WRITE_TO_US = "write to the address our letters come from"
MOVING = (GrantState.PENDING, GrantState.REVOKING)
SILENT = "TradingView does not answer at the moment."
GOES_ON = "There is nothing for you to do: we go on by ourselves."
ON_IT = "A person is on it; you need not do anything."


@dataclass(frozen=True)
class Line:
    """One thing that happened, `times` in a row: at `since` first where that was more than once, and `at` last."""

    at: datetime
    words: str
    times: int = 1
    since: datetime | None = None

    def __str__(self) -> str:
        return self.words if self.times == 1 else f"{self.words.removesuffix('.')}, {self.times} times in a row."


def words_for(access: StrategyAccess, facts: Facts, ledger: Ledger, standing: Standing) -> str:
    """One to three sentences for one strategy: what stands, why, and what happens next."""
    match access.state:
        case AccessState.ACTIVE:
            return _active(access, facts)
        case AccessState.ACTION_NEEDED:
            return _action_needed(access, facts)
        case AccessState.FAILED:
            return _failed(access, facts)
        case AccessState.SUSPENDED:
            return _suspended(access, standing)
        case AccessState.REVOKING:
            return f"Access is being removed at TradingView{_why_over(access.reasons, facts.now)}. " + _removal(
                access, standing
            )
        case AccessState.REVOKED:
            later = [
                each.starts_at
                for each in access.reasons
                if each.starts_at > facts.now and not has_ended(each, facts.now)
            ]
            if later:
                return f"Access begins on {as_moment(min(later))}."
            return f"Access has ended{_why_over(access.reasons, facts.now)}."
        case AccessState.PENDING:
            return _pending(access, facts, ledger, standing) + _meanwhile(access, facts)


def _active(access: StrategyAccess, facts: Facts) -> str:
    assert access.grant is not None
    if access.grant.evidence == CONFIRMED_BY_STAFF:
        said = "A person of ours has given you this strategy. We read it back as soon as TradingView can be asked."
    else:
        said = "TradingView shows this strategy on your account."
    leaving = sorted({row.name_spelling for row in access.rows if _is_leaving(row, access.grant)})
    return said + (f" It is being removed from your earlier name {' and '.join(leaving)}." if leaving else "")


def read_at(access: StrategyAccess) -> datetime | None:
    """When TradingView last showed it; None where it does not stand, or a person's word stands for it."""
    grant = access.grant
    if access.state is not AccessState.ACTIVE or grant is None or grant.evidence == CONFIRMED_BY_STAFF:
        return None
    return grant.verified_at


def _is_leaving(row: Grant, present: Grant) -> bool:
    return row.name_key != present.name_key and row.state != GrantState.ABSENT


def _action_needed(access: StrategyAccess, facts: Facts) -> str:
    if facts.name is None:
        return "We need your TradingView name. Enter it, and access follows by itself."
    unknown = f"TradingView does not know the name {facts.name.spelling}."
    return f"{unknown} Please correct it, and access follows by itself." + _meanwhile(access, facts)


def _failed(access: StrategyAccess, facts: Facts) -> str:
    name = facts.name.spelling if facts.name else ""
    paid = any(has_money_in(each, facts.now) for each in access.reasons)
    return (
        f"A person has tried to give this strategy to {name} at TradingView and could not. "
        "If the name is wrong, correct it, and we try again by ourselves. "
        f"If it is right, {WRITE_TO_US}: you get {'help or your money back' if paid else 'help'}."
    ) + _meanwhile(access, facts)


def _suspended(access: StrategyAccess, standing: Standing) -> str:
    because = " ".join((each.suspended_because or "").lower() for each in access.reasons)
    if "dispute" in because:
        said = "Access is paused while a payment dispute is open. It comes back by itself if the payment stands."
    elif "renewal" in because:
        said = "Access is paused because a renewal of your subscription was not paid. It comes back once it is paid."
    else:
        said = f"Access is paused. It comes back by itself when the pause is over; to ask why, {WRITE_TO_US}."
    if all(row.state == GrantState.ABSENT for row in access.rows):
        return said
    return f"{said} Until then it is removed at TradingView. " + _removal(access, standing)


def _why_over(reasons: Sequence[Entitlement], now: datetime) -> str:
    """Why the last reason ended, as far as a customer's own deeds explain it."""
    over = sorted((each for each in reasons if has_ended(each, now)), key=lambda each: each.ends_at or now)
    if not over:
        return ""
    because = over[-1].ended_because
    if because is None:
        return ", because its time is over"
    if "refund" in because:
        return ", because the payment was refunded"
    if "dispute" in because:
        return ", because the payment was taken back"
    return ""


def _removal(access: StrategyAccess, standing: Standing) -> str:
    """What happens next with a removal that is under way."""
    if any(row.state in (GrantState.WITH_STAFF, GrantState.FAILED) for row in access.rows) or standing.by_hand:
        return ON_IT
    if standing.circuit_open:
        return f"{SILENT} {GOES_ON}"
    return "You need not do anything."


def _meanwhile(access: StrategyAccess, facts: Facts) -> str:
    """What works until what should stand does: an earlier name, or the strategy as it was."""
    kept = [row for row in access.rows if row is not access.grant and row.state == GrantState.VERIFIED]
    names = sorted({row.name_spelling for row in kept if facts.name and row.name_key != facts.name.name_key})
    if names:
        return f" Until then your earlier name {' and '.join(names)} keeps its access."
    return " Until then what you have of it keeps working." if kept else ""


def _pending(access: StrategyAccess, facts: Facts, ledger: Ledger, standing: Standing) -> str:
    grant = access.grant
    if standing.switch is Switch.DISABLED:
        return "Giving access is paused at the moment. Your turn is kept, and it goes on by itself."
    if grant is None:
        has_others = any(row.name_key == facts.name.name_key for row in facts.grants.values()) if facts.name else False
        return _joins_soon() if has_others else "We are asking TradingView now."
    task = ledger.open_task(grant)
    if grant.state == GrantState.WITH_STAFF and task is not None:
        return {
            TaskKind.BY_HAND: f"Access is given by hand at the moment. {ON_IT}",
            TaskKind.EXHAUSTED: f"TradingView did not take it by itself. {ON_IT}",
            TaskKind.DISPUTED: f"TradingView does not show it yet, so a person looks once more. {ON_IT}",
        }[TaskKind(task.kind)]
    if grant.said_by is not None:
        return "A person has given it to you. We are reading back whether TradingView shows it."
    if standing.incident_id is not None or standing.by_hand:
        return f"Access is given by hand at the moment. {ON_IT}"
    if standing.circuit_open:
        return f"{SILENT} {GOES_ON}"
    return _between_tries(grant, ledger, facts.now)


def _between_tries(grant: Grant, ledger: Ledger, now: datetime) -> str:
    last, job = ledger.last_try(grant), ledger.job(grant)
    trigger = Trigger(job.trigger) if job is not None else Trigger.STEP
    if last is None:
        if trigger is Trigger.SPREAD:
            return _joins_soon()
        if trigger is Trigger.DRIFT:
            return "TradingView does not show it any more. We are giving it to you again."
        if grant.lease_token is None and job is not None and (now - job.created_at).total_seconds() > 60:
            return "Your turn comes by itself: TradingView is asked step by step, and who paid first comes first."
        return "We are asking TradingView now."
    said = TRIED.get(Outcome(last.outcome), SAID_NOTHING) if last.outcome else SAID_NOTHING
    if grant.next_attempt_at is not None and grant.next_attempt_at > now:
        return f"{said} The next try is due {due_words(grant.next_attempt_at, now)}."
    return f"{said} We are trying again now."


def due_words(at: datetime, now: datetime) -> str:
    """When something to come is due. What is near is not named by its minute, which may have begun already."""
    return "within a minute" if at - now < timedelta(minutes=1) else f"on {as_moment(at)}"


def _joins_soon() -> str:
    return "This strategy is new and joins your access soon. You need not do anything."


SAID_NOTHING = "TradingView did not answer properly."
TRIED = {
    Outcome.NOT_TAKEN: "TradingView has not taken it yet.",
    Outcome.PRESENT: "TradingView has not shown the change yet.",
    Outcome.GONE: "TradingView has not shown the change yet.",
    Outcome.LOST: "The last try was interrupted.",
}


# History.


def history_of(grants: Iterable[Grant], ledger: Ledger, *, names: Sequence[TradingViewName]) -> tuple[Line, ...]:
    """What happened to these pairs, newest first, in a customer's words.

    `names` are this person's, each for the time from its beginning to its release: what was before or after
    is of somebody else, who had the name then, and is left out. The same thing several times in a row is one
    line.
    """
    lines = sorted(
        (
            line
            for grant in grants
            for line in _lines(grant, ledger)
            if any(name.name_key == grant.name_key and _was_held(name, line.at) for name in names)
        ),
        key=lambda line: line.at,
    )
    told: list[Line] = []
    for line in lines:
        if told and told[-1].words == line.words:
            told[-1] = replace(line, times=told[-1].times + 1, since=told[-1].since or told[-1].at)
        else:
            told.append(line)
    return tuple(reversed(told))


def _was_held(name: TradingViewName, at: datetime) -> bool:
    return name.created_at <= at and (name.released_at is None or at <= name.released_at)


def _lines(grant: Grant, ledger: Ledger) -> Iterator[Line]:
    name = grant.name_spelling
    for job in ledger.jobs[grant.id]:
        yield Line(job.created_at, _began(job, name))
    for attempt in ledger.attempts[grant.id]:
        if attempt.finished_at is not None and attempt.outcome is not None:
            yield Line(attempt.finished_at, _showed(attempt, name))
    for task in ledger.tasks[grant.id]:
        act = "give it to" if task.wanted else "remove it from"
        yield Line(task.created_at, f"A person was asked to {act} {name}.")
        if task.closed_at is not None and task.outcome is not None:
            yield Line(task.closed_at, _closed(task, name))


def _began(job: ProvisioningJob, name: str) -> str:
    trigger = Trigger(job.trigger)
    if not job.wanted:
        why = {
            Trigger.SUSPENDED: "Access was paused",
            Trigger.RENAMED: f"{name} is no longer your TradingView name",
            Trigger.MOVED: "The strategy has a new script at TradingView, and the one before is not needed any more",
        }.get(trigger, "Access ended")
        return f"{why}: it was to be removed from {name}."
    why = {
        Trigger.PAID: "Your payment arrived",
        Trigger.GIFT: "Access was given to you as a gift",
        Trigger.RESUMED: "Your access counted again",
        Trigger.RENAMED: f"Your TradingView name became {name}",
        Trigger.MOVED: "The strategy has a new script at TradingView",
        Trigger.SPREAD: "The strategy was new in the store",
        Trigger.DRIFT: "TradingView did not show it any more",
    }.get(trigger, "You became entitled to it")
    return f"{why}: it was to be given to {name}."


def _showed(attempt: ProvisioningAttempt, name: str) -> str:
    match attempt.outcome:
        case Outcome.PRESENT:
            return f"TradingView showed it on {name}."
        case Outcome.GONE:
            return f"TradingView did not show it on {name} any more."
        case Outcome.NOT_TAKEN:
            return "TradingView did not take it." if attempt.wanted else "TradingView still showed it."
        case Outcome.UNKNOWN_NAME:
            return f"TradingView did not know the name {name}."
        case Outcome.LOST:
            return "A try was interrupted."
        case _:
            return SAID_NOTHING


def _closed(task: ManualTask, name: str) -> str:
    if task.outcome == "cannot":
        return f"The person found that it could not be {'given to' if task.wanted else 'removed from'} {name}."
    return f"The person said that it was {'given to' if task.wanted else 'removed from'} {name}."


def recheck_words(grants: Iterable[Grant], standing: Standing, now: datetime) -> str:
    """What pressing *Recheck* led to, told from a person's pairs as they stand after it."""
    if standing.switch is Switch.DISABLED:
        return "Looking is paused at the moment. Your access is looked at by itself as soon as it goes on."
    if standing.incident_id is not None or not standing.has_adapter:
        return "A person looks after access at the moment. What is still missing is on their list."
    if standing.circuit_open:
        return f"{SILENT} Your access is looked at by itself as soon as it does."
    told, grants = [], list(grants)
    by_people = [grant for grant in grants if _is_for_people(grant, standing)]
    by_machine = [(grant, grant.next_attempt_at) for grant in grants if grant not in by_people]
    if any(at is not None and at <= now for _, at in by_machine):
        told.append("We are asking TradingView again. This page shows what it says.")
    if later := [at for grant, at in by_machine if at is not None and at > now and grant.state in MOVING]:
        told.append(f"What failed is tried again by itself: the next try is due {due_words(min(later), now)}.")
    if by_people:
        told.append("What is still to be done is on a person's list; you need not do anything.")
    if not told:
        told.append("There is nothing to ask TradingView about at the moment.")
        if any(grant.state in (GrantState.FAILED, GrantState.NEEDS_CUSTOMER) for grant in grants):
            told.append("What you can do stands beside each strategy.")
    return " ".join(told)


def _is_for_people(grant: Grant, standing: Standing) -> bool:
    """Whether a person has this pair on their list, or gets it because the machine may only read."""
    to_be_written = grant.state in MOVING and grant.said_by is None
    return grant.state == GrantState.WITH_STAFF or (to_be_written and not standing.may_write)
