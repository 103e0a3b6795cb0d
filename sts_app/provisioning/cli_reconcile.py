"""`sts reconcile` and `sts allow`: what TradingView holds against what should stand, and who is a friend."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, BinaryIO, NoReturn

import click
from flask.cli import AppGroup, with_appcontext

from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.core.money import as_moment
from sts_app.provisioning import acting, findings, pasted, way
from sts_app.provisioning import reconcile as reconciliation
from sts_app.provisioning.comparing import CHANGES, Act
from sts_app.provisioning.findings import Line, Report

CLEAN, WAITS, REFUSED = 0, 1, 2
NUMBER = click.IntRange(1, 2**63 - 1)

WORDS = {
    Act.HEAL: "is given again",
    Act.REMOVE: "is being removed",
    Act.RESPELL: "TradingView's spelling is taken",
    Act.AGAIN: "stays until a later reading shows the same",
    Act.LATER: "waits for a later run: one run changes only so much",
    Act.ASK: "stays until a person approves",
    Act.LEAVE: "stays as it is",
    Act.MOVED: "had changed meanwhile, and was left alone",
}
WOULD = {
    Act.HEAL: "would be given again",
    Act.REMOVE: "would be removed",
    Act.RESPELL: "TradingView's spelling would be taken",
}

_as_json = click.option("--json", "as_json", is_flag=True, help="For machines.")
_losses = click.option(
    "--losses-are-real", is_flag=True, help="Most holders of a script are really gone: give them access again."
)


@click.group(cls=AppGroup, invoke_without_command=True)
@click.option("--dry-run", is_flag=True, help="Report what differs and change nothing.")
@_losses
@_as_json
@click.pass_context
def reconcile(ctx: click.Context, dry_run: bool, losses_are_real: bool, as_json: bool) -> None:
    """Compare who holds what at TradingView with what should stand, and put right what may be.

    Takes up to a quarter of an hour. Exit codes: 0 nothing waits for a person, 1 something does (in a dry run
    also what a run would change), 2 the comparison was refused or could not begin.
    """
    if ctx.invoked_subcommand is None:
        _reconcile(dry_run, losses_are_real, as_json)


@with_appcontext
def _reconcile(dry_run: bool, losses_are_real: bool, as_json: bool) -> NoReturn:
    try:
        with transaction():
            found = way()
        report = reconciliation.run(
            found.adapter if found else None,
            source="demand",
            actor=ACTOR,
            dry_run=dry_run,
            credential_id=found.credential_id if found else None,
            losses_are_real=losses_are_real,
        )
    except Refusal as refusal:
        _refuse(refusal)
    _show(report, as_json)


@reconcile.command()
@click.argument("run_id", metavar="RUN", type=NUMBER)
@click.option("--finding", "finding_ids", type=NUMBER, multiple=True, help="This finding alone; may be repeated.")
def approve(run_id: int, finding_ids: tuple[int, ...]) -> None:
    """Have removed what a run found and what waits for a person. Each is looked at again first.

    Exit codes: 0 all of it is being removed, 1 something stays, 2 refused.
    """
    try:
        with transaction():
            done = acting.approve(run_id, actor=ACTOR, finding_ids=finding_ids or None)
    except Refusal as refusal:
        _refuse(refusal)
    for sentence in done.refused:
        click.echo(sentence)
    click.echo(f"{_count(done.removed)} being removed.")
    sys.exit(WAITS if done.refused else CLEAN)


@reconcile.command()
@click.argument("run_id", metavar="RUN", type=NUMBER)
@_as_json
def show(run_id: int, as_json: bool) -> None:
    """Show what a run found and what became of it. Exit codes as of `sts reconcile`."""
    try:
        with transaction():
            report = findings.report(run_id)
    except Refusal as refusal:
        _refuse(refusal)
    _show(report, as_json)


@reconcile.command("pasted")
@click.argument("script_id", metavar="SCRIPT")
@click.argument("file", type=click.File("rb"))
@click.option("--complete", is_flag=True, help="The file holds the whole list: who is not on it has no access.")
@click.option("--apply", is_flag=True, help="Do what the preview shows.")
@_losses
@_as_json
def pasted_list(
    script_id: str, file: BinaryIO, complete: bool, apply: bool, losses_are_real: bool, as_json: bool
) -> None:
    """Compare a list of users that was copied from TradingView ("-" reads what you paste). A preview without --apply.

    Put the script in quotes: it holds a semicolon. Exit codes as of `sts reconcile`.
    """
    try:
        with transaction():
            found = pasted.compare(
                script_id,
                _text_of(file),
                actor=ACTOR,
                complete=complete,
                dry_run=not apply,
                losses_are_real=losses_are_real,
            )
    except Refusal as refusal:
        _refuse(refusal)
    if not as_json:
        verb = "is proven" if apply else "would be proven"
        for names, what in ((found.present, "have access"), (found.absent, "have none")):
            if names:
                click.echo(f"Of {', '.join(names)} it {verb} that they {what}, as people were asked to see to.")
    _show(found.report, as_json, more={"present": found.present, "absent": found.absent})


@click.command()
@click.argument("name", required=False)
@click.option("--reason", metavar="TEXT", callback=text, help="Why this name may hold scripts without a purchase.")
@click.option("--remove", is_flag=True, help="Take the name off the list.")
@with_appcontext
def allow(name: str | None, reason: str | None, remove: bool) -> None:
    """List the friends of the house, whose access is never touched; add one, or take one off the list."""
    if name is None:
        with step():
            friends = findings.allowed_holders()
            for friend in friends:
                click.echo(f"{friend.name_key:30}  {friend.reason} ({friend.added_by}, {as_moment(friend.created_at)})")
            click.echo(f"{len(friends)} on the list.")
        return
    if remove == (reason is not None):
        raise click.UsageError("Say either --reason, to allow the name, or --remove.")
    with step():
        if reason is None:
            findings.disallow(name, actor=ACTOR)
        else:
            findings.allow(name, reason=reason, actor=ACTOR)
    click.echo(f"{name} is off the list." if remove else f"{name} is on the list and is never touched.")


def _text_of(file: BinaryIO) -> str:
    """Raises `NotAList` for bytes that are no text."""
    data = file.read()
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise pasted.NotAList("This file is no text. Save it as UTF-8.") from None


def _refuse(refusal: Refusal) -> NoReturn:
    click.echo(f"Error: {refusal.sentence}", err=True)
    sys.exit(REFUSED)


def _show(report: Report, as_json: bool, *, more: dict[str, Any] | None = None) -> NoReturn:
    if as_json:
        print_json(asdict(report) | {"waiting": len(report.waiting)} | (more or {}))
    else:
        _tell(report)
    if report.state == "refused":
        sys.exit(REFUSED)
    sys.exit(WAITS if report.waiting else CLEAN)


def _tell(report: Report) -> None:
    for line in report.lines:
        click.echo(f"{line.id:>6}  {line.kind:9} {line.name:30}  {line.script_id:30}  {_words(line, report)}")
    if report.state == "refused":
        click.echo(f"Run {report.run_id} was refused: {report.because}")
        return
    if report.state == "running":
        click.echo(f"Run {report.run_id} is under way.")
        return
    reading = report.counts["reading"]
    read = f"{reading['holders']} holders of {len(reading['scripts'])} scripts read"
    click.echo(f"{'Dry run' if report.dry_run else 'Run'} {report.run_id}: {read}, {len(report.lines)} differences.")
    if reading["by"] != "pasted" and (proven := sum(report.counts.get("proven", {}).values())):
        closed = "would be closed" if report.dry_run else "are closed"
        click.echo(f"{_count(proven)} as people were asked to see to: their tasks {closed}.")
    if reading["by"] == "names":
        click.echo(
            "This way to TradingView has no lists: names were asked for one by one, and strangers are not known."
        )
    for script_id in reading.get("unread", ()):
        click.echo(f"The list of {script_id} could not be read; nobody should hold it any more.")
    if any(line.waits and line.act is Act.ASK for line in report.lines):
        click.echo(
            f"To remove what waits: `sts reconcile approve {report.run_id}`. Friends: `sts allow NAME --reason`."
        )


def _words(line: Line, report: Report) -> str:
    end = f" (ends {as_moment(line.expires_at)})" if line.expires_at else ""
    planned = line.act in CHANGES and line.decided_at is None
    return (WOULD[line.act] if planned and report.dry_run else WORDS[line.act]) + end


def _count(pairs: int) -> str:
    return "1 pair is" if pairs == 1 else f"{pairs} pairs are"


commands: list[click.Command] = [reconcile, allow]
