"""`sts letters`: what did not arrive."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import click
from flask.cli import AppGroup

from sts_app.core import clock
from sts_app.core.commands import ACTOR, print_json, step
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment
from sts_app.emails import arrivals, queries
from sts_app.emails.models import EmailMessage
from sts_app.emails.words import in_words

NUMBER = click.IntRange(1, 2**63 - 1)

letters = AppGroup("letters", help="See the letters that did not arrive.", no_args_is_help=True)


@dataclass(frozen=True)
class Line:
    """One letter as people and machines read it."""

    id: int
    kind: str
    to: str
    subject: str
    written_at: datetime
    sent_at: datetime | None
    what_became_of_it: str
    said: str
    seen_at: datetime | None
    seen_by: str | None


@letters.command("list")
@click.option("--unseen", is_flag=True, help="Only those that nobody on the staff has looked at.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many at most.")
@click.option("--before", type=NUMBER, help="Go on from the last number of a list.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_letters(unseen: bool, limit: int, before: int | None, as_json: bool) -> None:
    """List letters that did not arrive or were called spam, newest first."""
    with step():
        lines = [_line(each) for each in queries.lost_letters(latest=limit, before=before, unseen=unseen)]
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    for line in lines:
        _tell(line)
    if not lines:
        click.echo("Every letter arrived, as far as we were told.")
    elif len(lines) == limit:
        click.echo(f"More with --before {lines[-1].id}.")


@letters.command("show")
@click.argument("number", type=NUMBER)
def show(number: int) -> None:
    """Show one letter, what became of it, and its text unless that held a secret."""
    with step():
        letter = db.session.get(EmailMessage, number)
        if letter is None:
            raise NotThere(f"There is no letter {number}.")
        line, text = _line(letter), "" if letter.secret else letter.text
    _tell(line)
    if text:
        click.echo(f"\n{text}")


@letters.command("seen")
@click.argument("numbers", metavar="NUMBER...", nargs=-1, type=NUMBER)
@click.option("--all", "all_of_them", is_flag=True, help="All that did not arrive.")
def seen(numbers: tuple[int, ...], all_of_them: bool) -> None:
    """Note that somebody has looked, so that staff are not reminded again."""
    if bool(numbers) == all_of_them:
        raise click.UsageError("Name letters by their numbers, or say --all.")
    with step():
        count = arrivals.look_at(None if all_of_them else numbers, by=ACTOR, now=clock.now())
    click.echo("One letter noted as seen." if count == 1 else f"{count} letters noted as seen.")


def _line(letter: EmailMessage) -> Line:
    return Line(
        id=letter.id,
        kind=letter.kind,
        to=letter.to_address,
        subject=letter.subject,
        written_at=letter.created_at,
        sent_at=letter.sent_at,
        what_became_of_it=in_words(letter),
        said=letter.trouble_words or letter.last_error or "",
        seen_at=letter.seen_at,
        seen_by=letter.seen_by,
    )


def _tell(line: Line) -> None:
    seen = f", seen {as_moment(line.seen_at)} by {line.seen_by}" if line.seen_at else ""
    click.echo(f"{line.id}  {as_moment(line.written_at)}  {line.kind} to {line.to}{seen}")
    click.echo(f"    {line.subject}")
    click.echo(f"    {line.what_became_of_it}{f' They said: {line.said}' if line.said else ''}")


commands: list[click.Command] = [letters]
