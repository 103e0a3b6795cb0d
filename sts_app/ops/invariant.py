"""What an invariant is; `invariants.py` runs them all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Invariant:
    """`sql` returns one row for each offender: nothing when all is well.

    `needs_workers` marks what only holds while workers are alive, such as nothing being overdue.
    """

    name: str
    sql: str
    needs_workers: bool = False
