"""Histories from seeds: a seed chooses the opening, which faults this history has, and every act.

The same seed gives the same history on the same code. A list of acts (`Story`) gives it on other code as
well, so what a seed has found is kept as its story, shrunk to the acts that matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.machine import acts as _acts  # noqa: F401 - its acts are in the table once it is imported
from tests.faults.machine import money as _money  # noqa: F401 - as above
from tests.faults.machine import vendor
from tests.faults.machine.history import SLOTS, WORKERS, Broken, Machine, Opening
from tests.faults.machine.rest import rest
from tests.faults.machine.stage import Stage
from tests.faults.machine.table import ACTS, Act, perform

Told = tuple[str, dict[str, Any]]

SHORTEST, LONGEST = 40, 120
WAYS = ("open", "secured", "direct")
# What a history may be without, so that what remains happens more often together.
CAUSES = ("people", "money", "months", "gifts", "shop", "staff", "edits", "time")
OPTIONAL = (
    "crash",
    "database",
    "lost",
    "nasty",
    "session",
    "edits",
    "gifts",
    "shop",
    "staff",
    "redis",
    "banks",
    "months",
)

MONEY = {"money", "banks", "months"}


@dataclass(frozen=True)
class Story:
    """An opening and the acts after it, as data."""

    opening: Opening
    acts: tuple[Told, ...]


@dataclass
class Outcome:
    """What became of one history. `why` is None when everything held."""

    story: Story
    machine: Machine
    why: str | None = None
    told: list[Told] = field(default_factory=list)


def opening_of(chance: random.Random, ways: tuple[str, ...]) -> Opening:
    skewed = chance.random() < 0.5
    return Opening(
        way=chance.choice(ways),
        skews=tuple(chance.randint(-15, 15) if skewed else 0 for _ in SLOTS),
        paced=chance.random() < 0.15,
    )


class Director:
    """Chooses acts by chance, with an eye on what is going on so that few choices make no sense."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.length = chance.randint(SHORTEST, LONGEST)
        left_out = {group for group in OPTIONAL if chance.random() < 0.45}
        # Some histories are about money above all: it takes several acts in a row to get far with it.
        self.money_first = chance.random() < 0.4
        if self.money_first:
            left_out -= MONEY
        self.acts = [act for act in ACTS.values() if act.group not in left_out]
        self.weights = [self._weight(act) * chance.choice((0.3, 1, 1, 2)) for act in self.acts]
        self.patience = chance.choice((0.3, 0.6, 0.9))

    def beginning(self, machine: Machine) -> list[Told]:
        """Somebody is a customer before the troubles start."""
        acts: list[Told] = []
        for person in range(self.chance.choice((1, 2, 3))):
            spelling = self.chance.randrange(4)
            acts.append(("name", {"person": person, "spelling": spelling, "staff": True, "slowly": False}))
            if self.chance.random() < 0.7:
                acts.append(("buy", {"person": person}))
                acts.append(("deliver", {"number": 0, "again": False, "slowly": False}))
                acts.append(("start", {"slot": "w0", "job": "billing", "far": True}))
            else:
                acts.append(("gift", {"person": person, "seconds": None, "slowly": False}))
        if self.chance.random() < 0.6:
            acts.append(("start", {"slot": "w0", "job": "provisioning", "far": True}))
        return acts

    def next(self, machine: Machine) -> Told:
        at_vendor = [s for s, a in machine.slots.items() if a.is_parked and a.point in (vendor.ARRIVED, vendor.DONE)]
        parked = [slot for slot, actor in machine.slots.items() if actor.is_parked]
        free = [slot for slot in WORKERS if slot not in machine.slots]
        if machine.gate.late and self.chance.random() < 0.15:
            return "late", {"number": 0}
        if free and self.chance.random() < (0.8 if self._is_due(machine) and not parked else 0.4):
            job = self._job_with_work(machine)
            if job is not None:
                return "start", {"slot": self.chance.choice(free), "job": job, "far": self.chance.random() < 0.2}
        if parked and self.chance.random() < self.patience:
            return self._about(machine, parked, at_vendor)
        acts, weights = self.acts, self.weights
        if not (parked or self._is_due(machine)):
            # Nothing is going on: what waits comes to be due, or somebody wants something, or time passes.
            waiting = [row.due_at for row in machine.rows.values() if row.due_at is not None]
            if waiting and self.chance.random() < 0.5:
                wait = (min(waiting) - machine.clock.at).total_seconds()
                return "pass_time", {"seconds": int(wait) + 1}
            acts = [act for act in self.acts if act.group in CAUSES or (self.money_first and act.group in MONEY)]
            weights = [self._weight(act) for act in acts]
        [act] = self.chance.choices(acts, weights)
        arguments = {name: self.chance.choice(options) for name, options in act.options.items()}
        if act.name == "pass_time" and parked and self.chance.random() < 0.7:
            # Seldom so long that whoever is at work is ended for it.
            arguments["seconds"] = self.chance.choice((1, 5, 20))
        return act.name, arguments

    def _weight(self, act: Act) -> float:
        return act.weight * 4 if self.money_first and act.group in MONEY else act.weight

    def _about(self, machine: Machine, parked: list[str], at_vendor: list[str]) -> Told:
        names = {act.name for act in self.acts}
        begun = [slot for slot in parked if machine.slots[slot].point != "start"]
        if at_vendor and "lose" in names and self.chance.random() < 0.3:
            return "lose", {"slot": self.chance.choice(at_vendor), "late": self.chance.random() < 0.5}
        if at_vendor and "nasty" in names and self.chance.random() < 0.2:
            kind, times = self.chance.choice(ACTS["nasty"].options["kind"]), self.chance.choice((1, 1, 2))
            return "nasty", {"kind": kind, "times": times, "on": "all", "wait": self.chance.choice(("0", "17"))}
        if begun and "kill" in names and self.chance.random() < (0.15 if at_vendor else 0.06):
            return "kill", {"slot": self.chance.choice(at_vendor or begun)}
        if begun and "drop" in names and self.chance.random() < 0.07:
            return "drop", {"slot": self.chance.choice(begun)}
        if self.chance.random() < 0.15:
            return "finish", {"slot": self.chance.choice(parked)}
        slot = self.chance.choice(at_vendor or parked)
        # The way to TradingView and back is where most can go wrong: it is gone in single steps.
        at_work = machine.slots[slot].name.startswith("provisioning")
        return "step", {"slot": slot, "points": 1 if at_work else self.chance.choice((1, 2, 3, 5))}

    def _job_with_work(self, machine: Machine) -> str | None:
        busy = any(actor.name.startswith("provisioning") for actor in machine.slots.values())
        if self._is_due(machine) and (not busy or self.chance.random() < 0.4):
            return "provisioning"
        if machine.delivered > 0:
            return "billing"
        return "sweep" if self.chance.random() < 0.1 else None

    def _is_due(self, machine: Machine) -> bool:
        return any(row.due_at is not None and row.due_at <= machine.clock.at for row in machine.rows.values())


def play(stage: Stage, seed: int, *, ways: tuple[str, ...] = WAYS) -> Outcome:
    """The history of one seed, from its opening to its rest."""
    chance = random.Random(seed)
    opening = opening_of(chance, ways)
    director = Director(chance)
    machine = Machine(stage, opening)
    outcome = Outcome(Story(opening, ()), machine)

    def go() -> None:
        for told in director.beginning(machine):
            outcome.told.append(told)
            perform(machine, *told)
        for _ in range(director.length):
            told = director.next(machine)
            outcome.told.append(told)
            if not perform(machine, *told):
                outcome.told.pop()
        rest(machine)

    return _ended(outcome, go)


def replay(stage: Stage, story: Story) -> Outcome:
    """Tell a story again."""
    machine = Machine(stage, story.opening)
    outcome = Outcome(story, machine)

    def go() -> None:
        for name, arguments in story.acts:
            outcome.told.append((name, arguments))
            if not perform(machine, name, arguments):
                outcome.told.pop()
        rest(machine)

    return _ended(outcome, go)


def _ended(outcome: Outcome, go: Callable[[], None]) -> Outcome:
    try:
        go()
    except Broken as broken:
        outcome.why = str(broken)
    finally:
        outcome.machine.lockstep.close()
    outcome.story = Story(outcome.story.opening, tuple(outcome.told))
    return outcome


def shrunk(stage: Stage, story: Story, *, same: Callable[[str], bool], tries: int = 400) -> Story:
    """The fewest acts of a story that still break it the same way, as far as `tries` replays find them."""
    acts = list(story.acts)
    size = max(1, len(acts) // 2)
    while size and tries > 0:
        begin = 0
        while begin < len(acts) and tries > 0:
            fewer = acts[:begin] + acts[begin + size :]
            tries -= 1
            why = replay(stage, Story(story.opening, tuple(fewer))).why
            if why is not None and same(why):
                acts = fewer
            else:
                begin += size
        size //= 2
    plain = Story(Opening(story.opening.way), tuple(acts))
    why = replay(stage, plain).why
    return plain if why is not None and same(why) else Story(story.opening, tuple(acts))


def kind_of(why: str) -> str:
    """What kind of thing did not hold, without whom it was about."""
    return " ".join(word for word in why.split() if word.isalpha())[:60]
