"""What should be true, reckoned by the machine itself: a page of bookkeeping that shares no code with the store.

The model hears of an act when its transaction is committed, and of money when the buyer pays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

Pair = tuple[str, str]

SKEW = timedelta(seconds=31)


@dataclass
class Reason:
    """Why somebody is to have everything: a payment, a gift. `ends_at` None is for ever."""

    source: str
    begins_at: datetime
    ends_at: datetime | None = None
    suspended: bool = False
    # Whether the store has heard of it; a payment is the buyer's reason from the moment it is made.
    is_known: bool = True
    # Somebody is about to end it: from now on either may be seen.
    is_shaky: bool = False

    def rest(self, suspended: bool) -> None:
        """A dispute has begun, or is over."""
        self.suspended = self.is_shaky = suspended

    def holds(self, now: datetime) -> bool:
        return not self.suspended and (self.ends_at is None or now < self.ends_at)

    def surely_holds(self, now: datetime) -> bool:
        """Whatever clock one reads, a wrong one included."""
        return (
            self.holds(now)
            and self.is_known
            and not self.is_shaky
            and (self.ends_at is None or now + SKEW < self.ends_at)
        )


@dataclass
class Person:
    number: int
    user_id: int
    name: str = ""
    spelling: str = ""
    names: set[str] = field(default_factory=set)
    reasons: dict[str, Reason] = field(default_factory=dict)
    # Whatever for, and whether or not anybody has reckoned with it.
    has_paid: bool = False

    def rename(self, name: str) -> None:
        self.name, self.spelling = name.lower(), name
        self.names.add(self.name)

    def doubt(self, *kinds: str) -> None:
        """From now on either may be seen of what was paid for: nobody knows when the store hears of what happens."""
        for source, reason in self.reasons.items():
            reason.is_shaky = reason.is_shaky or source.startswith(kinds)

    def is_entitled(self, now: datetime) -> bool:
        return any(reason.holds(now) for reason in self.reasons.values())

    def is_surely_entitled(self, now: datetime) -> bool:
        return any(reason.surely_holds(now) for reason in self.reasons.values())


@dataclass
class Script:
    """A strategy by its present script and those it had; `is_live` once it was activated."""

    number: int
    strategy_id: int
    script_id: str
    former: list[str] = field(default_factory=list)
    is_live: bool = False

    @property
    def ids(self) -> list[str]:
        return [self.script_id, *self.former]

    def move(self, script_id: str) -> None:
        if script_id != self.script_id:
            self.former = [self.script_id, *(former for former in self.former if former != script_id)]
            self.script_id = script_id


@dataclass
class Model:
    people: list[Person]
    scripts: list[Script]
    strangers: set[Pair] = field(default_factory=set)
    # Pairs that somebody changed at TradingView behind the store's back, or that a late call may have changed.
    disturbed: set[Pair] = field(default_factory=set)
    # Pairs of which a person said that they did what they did not: until the store has read for itself.
    lies: set[Pair] = field(default_factory=set)
    # Those of them that somebody changed on purpose.
    edited: set[Pair] = field(default_factory=set)
    # (person, strategy) whose access was verified while they were entitled, without a break since.
    secured: set[tuple[int, int]] = field(default_factory=set)

    def desired(self, now: datetime) -> set[Pair]:
        """Every (name, script) that is to stand once all is quiet."""
        return {
            (person.name, script.script_id)
            for person in self.people
            if person.name and person.is_entitled(now)
            for script in self.scripts
            if script.is_live
        }

    def had_reason(self, name: str) -> bool:
        """Whether this name is or was somebody's who ever had a reason for access."""
        return any(name in person.names and (person.reasons or person.has_paid) for person in self.people)

    def working(self, person: Person, script: Script, held: set[Pair]) -> bool:
        """Whether this person can use this strategy under any name and any script of theirs."""
        return any((name, script_id) in held for name in person.names for script_id in script.ids)
