"""What the machine has to notice: the store with one of its safeguards taken out.

Each is a mistake that somebody could make, or made once, with a history that shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from sts_app.core import tokens
from sts_app.provisioning import calling, cycles, engine, letters, queries, services
from sts_app.provisioning.rules import GrantState, Outcome, Step
from tests.faults.machine import seeded
from tests.faults.machine.history import Opening
from tests.faults.machine.seeded import Story, Told
from tests.faults.machine.stage import Stage


@dataclass(frozen=True)
class Mutant:
    """`history` is the seed or the story of one of the step-scheduler that breaks with it and holds without it."""

    name: str
    history: int | Story
    change: Callable[[], AbstractContextManager[Any]]


def _old_name_goes_first() -> AbstractContextManager[Any]:
    """Former names are taken away as soon as there is a new one."""
    return mock.patch.object(queries, "verified_pairs", return_value=frozenset())


def _a_yes_is_believed() -> AbstractContextManager[Any]:
    """Nothing is read back: what was asked for counts as done."""

    def read(adapter: Any, claim: Any, scripts: Any, refused: Any) -> Any:
        good = Outcome.PRESENT if claim.wanted else Outcome.GONE
        return {script: calling.Seen(good, "") for script in scripts}

    return mock.patch.object(calling, "_read", read)


def _silence_is_absence() -> AbstractContextManager[Any]:
    """A script that the answer leaves out counts as gone."""
    real = calling._read

    def read(adapter: Any, claim: Any, scripts: Any, refused: Any) -> Any:
        seen = real(adapter, claim, scripts, refused)
        if claim.wanted:
            return seen
        silent = (Outcome.NO_VERDICT, Outcome.LATER)
        return {
            script: calling.Seen(Outcome.GONE, "") if view.outcome in silent else view for script, view in seen.items()
        }

    return mock.patch.object(calling, "_read", read)


def _an_old_direction_is_settled() -> AbstractContextManager[Any]:
    """What a call reached counts, although the opposite is wanted since."""
    real = engine._step

    def step(row: Any, claim: Any, view: Any, *, by_hand: bool) -> Any:
        if row.wanted != claim.wanted and view.outcome in (Outcome.PRESENT, Outcome.GONE):
            return Step(GrantState.VERIFIED if row.wanted else GrantState.ABSENT, None)
        return real(row, claim, view, by_hand=by_hand)

    return mock.patch.object(engine, "_step", step)


def _a_late_call_is_forgotten() -> AbstractContextManager[Any]:
    """Who takes over a dead worker's row does not look once more when its call can no longer arrive."""
    real = cycles.prove

    def prove(grant: Any, evidence: str, now: Any) -> None:
        grant.late_call_until = None
        real(grant, evidence, now)

    return mock.patch.object(cycles, "prove", prove)


def _a_letter_for_every_try() -> AbstractContextManager[Any]:
    """The customer hears of an unknown name whenever it is tried."""
    real = letters.access_failed

    def access_failed(*args: Any, key: str, **more: Any) -> None:
        real(*args, key=f"{key}:{tokens.new_secret()}", **more)

    return mock.patch.object(letters, "access_failed", access_failed)


def _the_sweep_looks_at_nobody() -> AbstractContextManager[Any]:
    """What time and the catalog change is never put right."""
    return mock.patch.object(services, "people_to_look_at", list)


def _a_lease_of_no_time() -> AbstractContextManager[Any]:
    """A claim is free for the next worker before its call has come back."""
    real = engine.claim_next

    def claim_next(*args: Any, **more: Any) -> Any:
        claim = real(*args, **more)
        if claim is not None:
            for row in engine.db.session.query(engine.Grant).filter(engine.Grant.lease_token == claim.token):
                row.leased_until = engine.clock.now()
        return claim

    return mock.patch.object(engine, "claim_next", claim_next)


# Somebody has a name and a gift.
_CUSTOMER: tuple[Told, ...] = (
    ("name", {"person": 0, "spelling": 0, "staff": True, "slowly": False}),
    ("gift", {"person": 0, "seconds": None, "slowly": False}),
)
_WORK: Told = ("start", {"slot": "w0", "job": "provisioning", "far": True})
_END: Told = ("end", {"person": 0, "slowly": False})

_SILENT_WHILE_REVOKED = (
    *_CUSTOMER,
    _WORK,
    _END,
    ("nasty", {"kind": "missing scripts", "times": 2, "on": "reads", "wait": "0"}),
    _WORK,
)
_GRANTED_LATE = (
    *_CUSTOMER,
    ("start", {"slot": "w1", "job": "provisioning", "far": False}),
    ("step", {"slot": "w1", "points": 3}),
    ("lose", {"slot": "w1", "late": True}),
    ("finish", {"slot": "w1"}),
    _END,
    _WORK,
    ("late", {"number": 0}),
)
_ASKED_AGAIN = (
    ("name", {"person": 0, "spelling": 4, "staff": True, "slowly": False}),
    _CUSTOMER[1],
    _WORK,
    ("pass_time", {"seconds": 601}),
    ("recheck", {"person": 0}),
    _WORK,
)

_BEGUN: Told = ("start", {"slot": "w2", "job": "provisioning", "far": False})
_ONE_STEP: Told = ("step", {"slot": "w2", "points": 1})
_RENAMED_MEANWHILE = (
    *_CUSTOMER,
    _BEGUN,
    _ONE_STEP,
    ("name", {"person": 0, "spelling": 2, "staff": True, "slowly": False}),
)
_TWO_WORKERS = (
    *_CUSTOMER,
    _BEGUN,
    ("start", {"slot": "w1", "job": "provisioning", "far": False}),
    *[_ONE_STEP] * 3,
)

MUTANTS = (
    Mutant("the old name goes first", 10, _old_name_goes_first),
    Mutant("a yes is believed", 1, _a_yes_is_believed),
    Mutant("silence is absence", Story(Opening(), _SILENT_WHILE_REVOKED), _silence_is_absence),
    Mutant("an old direction is settled", Story(Opening("direct"), _RENAMED_MEANWHILE), _an_old_direction_is_settled),
    Mutant("a late call is forgotten", Story(Opening(), _GRANTED_LATE), _a_late_call_is_forgotten),
    Mutant("a letter for every try", Story(Opening(), _ASKED_AGAIN), _a_letter_for_every_try),
    Mutant("the sweep looks at nobody", 8, _the_sweep_looks_at_nobody),
    Mutant("a lease of no time", Story(Opening(), _TWO_WORKERS), _a_lease_of_no_time),
)


def tell(stage: Stage, mutant: Mutant) -> seeded.Outcome:
    """The history of a mutant, on the store as it is at this moment."""
    history = mutant.history
    return seeded.replay(stage, history) if isinstance(history, Story) else seeded.play(stage, history)
