"""What the commands of every room share: one step with its refusal as a sentence, and text that people type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from sts_app.core.db import transaction
from sts_app.core.errors import NotNow, Refusal, SlowDown

# Who an audit line says it was, when it was somebody at a shell.
ACTOR = "cli"
# EX_TEMPFAIL of sysexits.h: the same command may work in a while.
LATER = 75
LONGEST_TEXT = 500


class Refused(click.ClickException):
    """A refusal as a sentence and an exit code: 75 for what may work later, 1 for what will not."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        if isinstance(refusal, (NotNow, SlowDown)):
            self.exit_code = LATER  # type: ignore[misc]  # declared of the class, and read of the instance


@contextmanager
def step() -> Iterator[None]:
    """One transaction. A refusal rolls it back and ends the command."""
    try:
        with transaction():
            yield
    except Refusal as refusal:
        raise Refused(refusal) from None


def text(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """For the `callback` of a parameter: what was typed, without blanks around it. Refuses what nobody can read."""
    if value is None:
        return None
    value = value.strip()
    if not value:
        raise click.BadParameter("say it in some words.")
    if not value.isprintable() or len(value) > LONGEST_TEXT:
        raise click.BadParameter(f"one line of at most {LONGEST_TEXT} characters, please.")
    return value


def print_json(value: Any) -> None:
    """For machines: moments are ISO 8601 in UTC."""
    click.echo(json.dumps(value, indent=2, default=lambda moment: moment.isoformat()))
