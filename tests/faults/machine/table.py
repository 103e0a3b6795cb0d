"""The table of acts: each has a name, its parameters, and what it does.

An act can be asked for at any time; one that makes no sense at the moment does nothing and says so by
returning False. So any list of acts is a history, and a list with some acts taken out is one as well,
which is what makes a long history shrink to the few acts that matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.machine import lockstep
from tests.faults.machine.history import Machine

Options = tuple[Any, ...]

BOTH = (False, True)


@dataclass(frozen=True)
class Act:
    """`options` are the values each parameter may have; `group` is what a history may do without."""

    name: str
    do: Callable[..., bool]
    options: dict[str, Options]
    group: str
    weight: float


ACTS: dict[str, Act] = {}


def act(group: str, weight: float, **options: Options) -> Callable[[Callable[..., bool]], Callable[..., bool]]:
    def keep(do: Callable[..., bool]) -> Callable[..., bool]:
        name = do.__name__
        ACTS[name] = Act(name, do, options, group, weight)
        return do

    return keep


def perform(machine: Machine, name: str, arguments: dict[str, Any]) -> bool:
    """Do one act, and look at what became of it. False when it made no sense."""
    machine.clock.tick()
    machine.say(f"> {name} {' '.join(f'{key}={value}' for key, value in arguments.items())}")
    if not ACTS[name].do(machine, **arguments):
        machine.trace.pop()
        return False
    machine.acts[name] += 1
    machine.look()
    return True


def fault(m: Machine, kind: str, times: int = 1) -> bool:
    m.faults[kind] += times
    return True


def desk(m: Machine, what: str, deed: Callable[[], Any], *, slowly: bool) -> bool:
    """A person's act: one transaction at the desk. `slowly` leaves it open for others to come in between."""
    if "desk" in m.slots:
        return False
    m.start("desk", what, m.stage.in_transaction(deed))
    return slowly or m.run("desk")


def on_commit(tell: Callable[[], None]) -> None:
    actor = lockstep.current()
    assert actor is not None
    actor.on_commit.append(tell)
