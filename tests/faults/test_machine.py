"""Histories of everything that can go wrong, in both layers; and that the machine sees a store that is broken.

`make faults` makes many more of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.machine import processes, seeded
from tests.faults.machine.driver import stage
from tests.faults.machine.found import FOUND
from tests.faults.machine.mutants import MUTANTS, Mutant, tell
from tests.faults.machine.stage import Stage
from tests.faults.machine.stateful import Histories
from tests.world import Servers

SEEDS = range(1, 16)
PROCESSES = (2, 4)


@pytest.fixture(scope="module")
def built(servers: Servers) -> Iterator[Stage]:
    with stage(servers) as built:
        yield built


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_everything_comes_right_in_the_end(built: Stage, seed: int) -> None:
    outcome = seeded.play(built, seed)

    assert outcome.why is None, "\n".join([*outcome.machine.trace[-60:], f"make faults ONE={seed}"])


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_stays_mended(built: Stage, name: str) -> None:
    outcome = seeded.replay(built, FOUND[name])

    assert outcome.why is None, "\n".join(outcome.machine.trace[-60:])


def test_the_same_seed_is_the_same_history(built: Stage) -> None:
    first, again = (seeded.play(built, 3) for _ in range(2))

    assert first.story == again.story
    assert first.machine.steps == again.machine.steps > 0
    assert first.machine.faults == again.machine.faults


def test_hypothesis_finds_nothing_either(built: Stage) -> None:
    Histories.stage = built

    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=8,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_sees_a_store_with_one_safeguard_less(built: Stage, mutant: Mutant) -> None:
    with mutant.change():
        broken = tell(built, mutant)
    whole = tell(built, mutant)

    assert broken.why is not None
    assert whole.why is None


@pytest.mark.parametrize("seed", PROCESSES)
def test_processes_that_are_killed_and_stopped_lose_nothing(servers: Servers, seed: int) -> None:
    outcome = processes.play(servers, seed)

    assert outcome.why is None, outcome.trace
    assert outcome.faults
