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
    # A name that TradingView does not know, by a person's false word: its removal went to and fro and never ended.
    "a removal from a name that nobody has comes to an end (seed 700676)": Story(
        Opening("secured"),
        (
            ("name", {"person": 0, "spelling": 4, "staff": True, "slowly": False}),
            ("gift", {"person": 0, "seconds": None, "slowly": False}),
            ("switch", {"to": "MANUAL", "slowly": False}),
            ("start", {"slot": "w0", "job": "provisioning", "far": True}),
            ("session_dies", {}),
            ("task", {"number": 0, "verdict": "a lie", "slowly": False}),
            ("start", {"slot": "w0", "job": "provisioning", "far": True}),
            ("end", {"person": 0, "slowly": False}),
        ),
    ),
}
