"""The folder of the local store: whether a store runs in it, with which settings, and how it is cleared away.

Standard library only and nothing of ours, because `make clean` runs this very file with whatever Python
there is, also when the virtual environment is broken or gone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".sts"
# Where root's servers live when their user cannot reach HOME, beside the copies of their programs.
SHARED = Path("/var/lib/sts-embedded")
SERVERS = {"postgres": "postgres", "redis": "valkey-server"}  # folder: program


def holder_of(folder: Path) -> str | None:
    """What the store that runs in `folder` says of itself; None when none runs there, whatever a crash left."""
    try:
        lock = (folder / "lock").open()
    except OSError:
        return None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read().strip() or "it is just starting"
    return None


def remember(folder: Path, settings: Mapping[str, str]) -> None:
    """Leave the running store's settings for commands that are typed beside it. Only its owner may read them."""
    forget(folder)
    aside = folder / "running.env.new"
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={json.dumps(value)}\n" for name, value in sorted(settings.items()))
    aside.replace(folder / "running.env")


def forget(folder: Path) -> None:
    """Remove what `remember` left. Quiet when there is nothing."""
    (folder / "running.env").unlink(missing_ok=True)


def settings_of_running(folder: Path) -> dict[str, str] | None:
    """The settings of the store that runs in `folder`; None when none does, or when they are not ours to read."""
    try:
        lines = (folder / "running.env").read_text().splitlines()
    except OSError:
        return None
    if holder_of(folder) is None:
        return None
    return {name: json.loads(value) for name, _, value in (line.partition("=") for line in lines)}


def home_for_root(folder: Path, program: str, *, shared: Path = SHARED) -> Path:
    """Where a server that was asked to live in `folder` lives when root starts it and its user cannot go there."""
    return shared / f"{program}-data-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"


def clear(folder: Path, *, shared: Path = SHARED) -> int:
    """Remove the local store with its data, root's share of it included, saying what went.

    Non-zero, with the reason, when a store runs there (then nothing is touched) or something stays.
    """
    places = [home_for_root(folder / name, program, shared=shared) for name, program in SERVERS.items()]
    for place in (folder, *(folder / name for name in SERVERS), *places):
        holder = holder_of(place)
        if holder is not None:
            sys.stderr.write(f"A store runs here ({holder}): stop it first. Nothing was removed.\n")
            return 1
    stays = 0
    for place in (*places, folder):
        if not place.exists():
            continue
        try:
            shutil.rmtree(place)
            sys.stdout.write(f"Removed {place}\n")
        except OSError as error:
            sys.stderr.write(f"{place} could not be removed ({error.strerror}): whoever owns it has to.\n")
            stays = 1
    return stays


if __name__ == "__main__":
    sys.exit(clear(HOME))
