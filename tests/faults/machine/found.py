"""What the machine has found: each history under the name of the mistake, shrunk to the acts that matter."""

from __future__ import annotations

from tests.faults.machine.seeded import Story

FOUND: dict[str, Story] = {}
