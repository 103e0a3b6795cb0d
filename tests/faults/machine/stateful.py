"""The same acts under Hypothesis: it chooses and combines them its own way, and shrinks what it finds."""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.faults.machine.history import SLOTS, Machine, Opening
from tests.faults.machine.rest import rest
from tests.faults.machine.seeded import WAYS
from tests.faults.machine.stage import Stage
from tests.faults.machine.table import ACTS, Act, perform

SKEW = st.integers(-15, 15)


class Histories(RuleBasedStateMachine):
    """One rule for each act; when Hypothesis stops, the history is brought to rest and everything is checked."""

    stage: ClassVar[Stage]
    machine: Machine

    @initialize(
        way=st.sampled_from(WAYS),
        skews=st.tuples(*[SKEW] * len(SLOTS)),
        paced=st.booleans(),
        spellings=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    )
    def open(self, way: str, skews: tuple[int, ...], paced: bool, spellings: list[int]) -> None:
        """Somebody has paid before the troubles start."""
        self.machine = Machine(self.stage, Opening(way, skews, paced))
        for person, spelling in enumerate(spellings):
            perform(self.machine, "name", {"person": person, "spelling": spelling, "staff": True, "slowly": False})
            perform(self.machine, "buy", {"person": person})
            perform(self.machine, "deliver", {"number": 0, "again": False, "slowly": False})
        perform(self.machine, "start", {"slot": "w0", "job": "billing", "far": True})

    def teardown(self) -> None:
        if hasattr(self, "machine"):
            try:
                if self.machine.complaint is None:
                    rest(self.machine)
            finally:
                self.machine.lockstep.close()


def _as_rule(act: Act) -> Any:
    def do(self: Histories, **arguments: Any) -> None:
        perform(self.machine, act.name, arguments)

    do.__name__ = act.name
    return rule(**{name: st.sampled_from(options) for name, options in act.options.items()})(do)


for _act in ACTS.values():
    setattr(Histories, _act.name, _as_rule(_act))
