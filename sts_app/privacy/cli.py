"""`sts privacy`: who asked to be erased, how far that is, and a copy of somebody's data for who asks by letter."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from flask.cli import AppGroup

from sts_app.accounts.services import user_by_email
from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.commands import ACTOR, print_json, step
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment
from sts_app.core.web import address_of
from sts_app.privacy import queries, services, words
from sts_app.privacy.export import everything_of
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import is_overdue

NUMBER = click.IntRange(1, 2**63 - 1)

privacy = AppGroup("privacy", help="Look after those who ask to be erased, or for their data.", no_args_is_help=True)
_erasure = click.argument("erasure", metavar="ERASURE")
_json = click.option("--json", "as_json", is_flag=True, help="For machines.")


@privacy.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are done or were taken back.")
@click.option("--overdue", is_flag=True, help="Only those that take too long.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many at most.")
@click.option("--before", type=NUMBER, help="Go on from the last number of a list.")
@_json
def list_(everything: bool, overdue: bool, limit: int, before: int | None, as_json: bool) -> None:
    """List the erasures that are open, newest first."""
    if overdue and everything:
        raise click.UsageError("--overdue shows open erasures alone: leave --all out.")
    with step():
        found = queries.latest(limit, everything=everything, before=before, late_only=overdue)
        rows = [_row(each) for each in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        _tell(row)
    if not rows and before is not None:
        click.echo(f"There is none before {before}.")
    elif not rows and overdue:
        click.echo("No erasure takes too long.")
    elif not rows:
        click.echo("Nobody waits to be erased." if not everything else "Nobody ever asked to be erased.")
    elif len(rows) == limit:
        click.echo(f"More with --before {rows[-1]['number']}.")


@privacy.command("show")
@_erasure
@_json
def show(erasure: str, as_json: bool) -> None:
    """Show one erasure by its number or reference: each step with its time, and what it waits for."""
    with step():
        found = queries.called(erasure)
        row, steps, counts = _row(found), words.steps_of(found), words.counts_of(found)
    if as_json:
        print_json(row | {"steps": [{"what": each.what, "at": each.done_at, "note": each.note} for each in steps]})
        return
    _tell(row)
    for each in steps:
        at = as_moment(each.done_at) if each.done_at else "not yet"
        click.echo(f"    {at}  {each.what}{f' ({each.note})' if each.note else ''}")
    for label, value in counts:
        click.echo(f"    {label}: {value}")
    click.echo(f"    {row['certificate']}")


@privacy.command("retry")
@_erasure
def retry(erasure: str) -> None:
    """Have an erasure looked at now. What it waits for is worked by itself; this loses nothing."""
    with step():
        found = services.retry(queries.called(erasure).id, actor=ACTOR)
        waits = words.waits_for_staff(found)
    click.echo(f"It is looked at now.{f' It waited for: {waits}.' if waits else ''}")


@privacy.command("request")
@click.argument("email")
@click.option("--yes", is_flag=True, help="Do not ask.")
def request(email: str, yes: bool) -> None:
    """Begin the erasure of EMAIL, for somebody who asked by letter. Make sure that it is they who ask.

    They get a letter and have a day to take it back.
    """
    with step():
        user = user_by_email(email)
        if user is None:
            raise NotThere(f"Nobody has the address {email}.")
    if not yes:
        click.confirm(f"Erase {email}, with all access and without a refund?", abort=True)
    with step():
        user = user_by_email(email)
        assert user is not None, "it was found a moment ago"
        found = services.request(user, actor=ACTOR)
        line = f"Erasure {found.id} begins on {as_moment(found.begins_at)}. {email} was told how to take it back."
    click.echo(line)


@privacy.command("export")
@click.argument("email")
@click.option("--to", "to", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The file to write.")
def export(email: str, to: Path) -> None:
    """Write everything kept about EMAIL to a file, for somebody who asked by letter."""
    with step():
        user = user_by_email(email)
        if user is None:
            raise NotThere(f"Nobody has the address {email}.")
        try:
            # Made anew: a file that stands there already may be open to others.
            target = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise click.BadParameter(f"{to} cannot be made: {error.strerror}.", param_hint="--to") from None
        found = everything_of(user)
        audit.record(ACTOR, "privacy.exported", f"user:{user.id}")
    with os.fdopen(target, "w") as file:
        file.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    click.echo(f"Written to {to}. Send it to nobody else, and delete it then.")


def _row(erasure: Erasure) -> dict[str, Any]:
    now: datetime = clock.now()
    return {
        "number": erasure.id,
        "reference": erasure.ref,
        "user": erasure.user_id,
        "state": erasure.state,
        "asked_at": erasure.created_at,
        "asked_by": erasure.asked_by,
        "begins_at": erasure.begins_at,
        "waits_for": words.waits_for_staff(erasure) or None,
        "overdue": erasure.state == "revoking" and is_overdue(erasure.begun_at, erasure.waits, now),
        "certificate": address_of("privacy.certificate", ref=erasure.ref),
    }


def _tell(row: dict[str, Any]) -> None:
    overdue = ", OVERDUE" if row["overdue"] else ""
    click.echo(
        f"{row['number']}  user {row['user']}  {row['state']}{overdue}, asked {as_moment(row['asked_at'])} by "
        f"{row['asked_by']}"
    )
    if row["state"] == "requested":
        click.echo(f"    Begins {as_moment(row['begins_at'])}.")
    if row["waits_for"]:
        click.echo(f"    Waits for {row['waits_for']}.")


commands: list[click.Command] = [privacy]
