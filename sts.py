"""The command door: `sts`. It stands outside the house, so that Ctrl-C while the house is imported stops quietly."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of `sts_app/cli.py`."""
    try:
        from sts_app.cli import main as house
    except KeyboardInterrupt:
        sys.exit(130)
    house()
