"""What the machine has found: each history under the name of the mistake, shrunk to the acts that matter."""

from __future__ import annotations

from tests.faults.machine.history import Opening
from tests.faults.machine.seeded import Story

FOUND: dict[str, Story] = {
    # The old name, still needed, was looked at once more; TradingView refused to list it, which was taken for a loss.
    "silence about a name that is kept is no loss (seed 501196)": Story(
        Opening("direct"),
        (
            ("name", {"person": 1, "spelling": 2, "staff": True, "slowly": False}),
            ("gift", {"person": 1, "seconds": None, "slowly": False}),
            ("start", {"slot": "w0", "job": "provisioning", "far": False}),
            ("finish", {"slot": "w0"}),
            ("name", {"person": 1, "spelling": 0, "staff": True, "slowly": True}),
            ("step", {"slot": "desk", "points": 4}),
            ("recheck", {"person": 1}),
            ("nasty", {"kind": "failure", "times": 6, "on": "all", "wait": "900"}),
            ("start", {"slot": "w1", "job": "provisioning", "far": True}),
        ),
    ),
}
