"""`sts tasks`: what people have to do at TradingView, and what they say became of it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
from flask.cli import AppGroup, with_appcontext

from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.core.money import as_moment
from sts_app.provisioning import worklist

PAGE = 50

# What a row's number can be, so that a slip of the hand is a sentence and no fault of the database.
NUMBER = click.IntRange(1, 2**63 - 1)
_ids = click.argument("task_ids", metavar="ID...", nargs=-1, required=True, type=NUMBER)


@click.group(cls=AppGroup, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--limit", type=click.IntRange(1, 1000), default=PAGE, show_default=True, help="How many at most.")
@click.option("--after", type=NUMBER, metavar="ID", help="Go on after this task.")
@click.pass_context
def tasks(ctx: click.Context, as_json: bool, limit: int, after: int | None) -> None:
    """List what people have to do at TradingView, and say what became of it.

    Without a command it lists the open tasks, who paid first before the others. Copy name and script as
    they stand.
    """
    if ctx.invoked_subcommand is None:
        _list(as_json, limit, after)


@with_appcontext
def _list(as_json: bool, limit: int, after: int | None) -> None:
    with step():
        rows, counts = worklist.open_tasks(limit, after=after), worklist.counts()
    if as_json:
        print_json({"open": counts.open, "tasks": [asdict(row) for row in rows]})
        return
    for row in rows:
        click.echo(f"{row.task_id:>6}  {row.act.capitalize():6}  {row.name:30}  {row.script_id}")
        whose = row.email or "nobody now"
        click.echo(f"{'':8}{row.strategy}, {whose}, since {as_moment(row.since)}, grant {row.grant_id}")
        click.echo(f"{'':8}{row.why}" + (f" The last try: {row.last_try}." if row.last_try else ""))
        for line in (row.note or "").splitlines():
            click.echo(f"{'':8}Note: {line}")
    click.echo(f"{counts.open} open: {counts.to_give} to give, {counts.to_remove} to remove.")
    if len(rows) == limit:
        click.echo(f"There may be more: `sts tasks --after {rows[-1].task_id}`.")


@tasks.command()
@_ids
@click.option("--note", metavar="TEXT", callback=text, help="What is worth knowing about it.")
def done(task_ids: tuple[int, ...], note: str | None) -> None:
    """Say that tasks are done. TradingView is read where it can be; where not, your word stands.

    Each is a step of its own. Exit codes: 0 all were taken down, 1 at least one was not.
    """
    refused = 0
    for task_id in dict.fromkeys(task_ids):
        try:
            with transaction():
                read = worklist.done(task_id, ACTOR, note=note)
        except Refusal as refusal:
            refused += 1
            click.echo(f"{task_id}: {refusal.sentence}", err=True)
        else:
            follows = "TradingView is read back now." if read else "Confirmed by staff: TradingView cannot be read."
            click.echo(f"{task_id}: done. {follows}")
    if refused:
        sys.exit(1)


@tasks.command()
@_ids
@click.option("--reason", required=True, metavar="TEXT", callback=text, help="Why; the customer is not told this.")
def cannot(task_ids: tuple[int, ...], reason: str) -> None:
    """Give up on giving access: the customer sees Failed, and gets one letter for all of these tasks.

    All are given up or none. A removal cannot be given up. `sts tasks retry` takes it back.
    """
    with step():
        worklist.cannot(task_ids[0], ACTOR, reason=reason, also=task_ids[1:])
    click.echo("Given up. The customer is told.")


@tasks.command()
@_ids
@click.option("--text", "words", required=True, metavar="TEXT", callback=text, help="What to write down.")
def note(task_ids: tuple[int, ...], words: str) -> None:
    """Write a line to open tasks, for whoever looks at them next."""
    with step():
        for task_id in task_ids:
            worklist.note(task_id, ACTOR, text=words)
    click.echo("Noted.")


@tasks.command()
@click.argument("grant_id", metavar="GRANT", type=NUMBER)
def retry(grant_id: int) -> None:
    """Let the machine try again what a person has, or what was given up.

    `sts tasks` and `sts explain EMAIL` say the number of each GRANT.
    """
    with step():
        worklist.retry(grant_id, ACTOR)
    click.echo("It is tried again from the start.")


commands: list[click.Command] = [tasks]
