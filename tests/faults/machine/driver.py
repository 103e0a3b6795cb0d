"""`make faults`: many histories of both layers, told by seed, faults by kind, and what did not hold."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing.util import Finalize

from tests.faults.machine import processes, seeded
from tests.faults.machine.stage import Stage
from tests.world import Servers

AT_A_TIME = 10
# One history of killed processes for so many of the others.
ONE_IN = 20


@dataclass
class Told:
    """What some histories came to."""

    histories: int = 0
    steps: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    violations: dict[str, str] = field(default_factory=dict)

    def add(self, other: Told) -> None:
        self.histories += other.histories
        self.steps += other.steps
        self.acts += other.acts
        self.faults += other.faults
        self.violations |= other.violations


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--histories", type=int, default=200, help="how many; a twentieth more with real processes")
    parser.add_argument("--seed", type=int, help="the first seed; a random one unless told")
    parser.add_argument("--one", type=int, metavar="SEED", help="tell one history of the first layer line by line")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    options = parser.parse_args()
    if options.one is not None:
        return _tell_one(options.one)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    _out(f"seed {seed}, {options.histories} histories of the step-scheduler")
    began = time.monotonic()
    first = _in_lockstep(seed, options.histories, options.jobs)
    _say("step-scheduler", first, time.monotonic() - began)
    count = max(1, options.histories // ONE_IN) if options.histories else 0
    began = time.monotonic()
    second = _with_processes(seed, count, options.jobs)
    _say("killed processes", second, time.monotonic() - began)
    return 1 if first.violations or second.violations else 0


def _in_lockstep(seed: int, count: int, jobs: int) -> Told:
    chunks = [range(at, min(at + AT_A_TIME, seed + count)) for at in range(seed, seed + count, AT_A_TIME)]
    return _spread(_play_all, chunks, jobs)


def _with_processes(seed: int, count: int, jobs: int) -> Told:
    # They sleep most of the time.
    return _spread(_run_all, [range(at, at + 1) for at in range(seed, seed + count)], jobs + 1)


def _spread(play: Callable[[range], Told], chunks: list[range], jobs: int) -> Told:
    told = Told()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, max(1, len(chunks))), mp_context=context) as pool:
        for done in as_completed([pool.submit(play, chunk) for chunk in chunks]):
            part = done.result()
            told.add(part)
            for seed, why in part.violations.items():
                _out(f"VIOLATION, seed {seed}: {why}")
    return told


_kept: list[object] = []


def _servers() -> Servers:
    """This process's own PostgreSQL and Redis, until it ends."""
    for each in _kept:
        if isinstance(each, Servers):
            return each
    servers = Servers()
    Finalize(servers, servers.close, exitpriority=1)
    _kept.append(servers.start())
    return servers


@contextlib.contextmanager
def stage(servers: Servers) -> Iterator[Stage]:
    """A stage on a database of its own."""
    with (
        servers.database(servers.migrated) as url,
        Stage(url.replace("postgresql://", "postgresql+psycopg://", 1), servers.redis_url) as built,
    ):
        yield built


def _play_all(seeds: range) -> Told:
    told = Told()
    with stage(_servers()) as built:
        for seed in seeds:
            outcome = seeded.play(built, seed)
            machine = outcome.machine
            told.add(Told(1, machine.steps, machine.acts, machine.faults))
            if outcome.why is not None:
                told.violations[str(seed)] = outcome.why
    return told


def _run_all(seeds: range) -> Told:
    told = Told()
    for seed in seeds:
        outcome = processes.play(_servers(), seed)
        told.add(Told(1, len(outcome.trace), outcome.acts, outcome.faults))
        if outcome.why is not None:
            told.violations[f"{seed} (processes)"] = outcome.why
    return told


def _tell_one(seed: int) -> int:
    servers = Servers()
    try:
        with stage(servers.start()) as built:
            outcome = seeded.play(built, seed)
            _out("\n".join(outcome.machine.trace))
            if outcome.why is None:
                _out("everything held")
                return 0
            _out(f"BROKEN: {outcome.why}")
            kind = seeded.kind_of(outcome.why)
            story = seeded.shrunk(built, outcome.story, same=lambda why: seeded.kind_of(why) == kind)
            _out(f"The acts that matter:\n{json.dumps(story.opening.as_dict())}")
            _out("\n".join(json.dumps(act) for act in story.acts))
            return 1
    finally:
        servers.close()


def _say(layer: str, told: Told, seconds: float) -> None:
    _out(
        f"\n{layer}: {told.histories} histories, {told.steps} steps, {len(told.violations)} violations, {seconds:.0f} s"
    )
    for title, counts in (("acts", told.acts), ("faults injected", told.faults)):
        _out(f"  {title}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())))


def _out(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
