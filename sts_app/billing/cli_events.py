"""`sts events` and `sts replay-webhooks`: what the provider told of, what became of it, and what never came."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime

import click
from flask.cli import AppGroup, with_appcontext

from sts_app.billing import comparing, ledger
from sts_app.billing.ledger import Line
from sts_app.billing.rules import EventState
from sts_app.billing.services import payments
from sts_app.core.commands import ACTOR, Refused, print_json, step, text
from sts_app.core.errors import Refusal
from sts_app.core.money import as_moment

NUMBER = click.IntRange(1, 2**63 - 1)
MOMENT = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])
ADDS_UP, DIFFERS = 0, 1

_as_json = click.option("--json", "as_json", is_flag=True, help="For machines.")
_event = click.argument("event", metavar="ID", callback=text)

events = AppGroup(
    "events", help="Search what Stripe told of; have it handled again, or let it be.", no_args_is_help=True
)


@events.command("list")
@click.option("--id", "event", metavar="ID", default="", help="Our number of it, or Stripe's evt_...")
@click.option("--type", "kind", metavar="TYPE", default="", help="What its type begins with: charge.dispute")
@click.option("--state", type=click.Choice([state.value for state in EventState]), help="How far it is.")
@click.option("--purchase", metavar="REF", default="", help="What it is about.")
@click.option("--email", metavar="EMAIL", default="", help="Whom it is about.")
@click.option("--day", type=click.DateTime(formats=["%Y-%m-%d"]), help="When it happened, in UTC: 2026-11-21")
@click.option("--limit", type=click.IntRange(1, 1000), default=ledger.PAGE, show_default=True, help="How many at most.")
@click.option("--after", type=NUMBER, metavar="NUMBER", help="Go on after this one.")
@_as_json
def list_events(
    event: str,
    kind: str,
    state: str | None,
    purchase: str,
    email: str,
    day: datetime | None,
    limit: int,
    after: int | None,
    as_json: bool,
) -> None:
    """List events, newest first. What is given narrows the list."""
    wanted = ledger.Wanted(
        event=event,
        kind=kind,
        state=EventState(state) if state else None,
        purchase=purchase,
        email=email,
        day=day.date() if day else None,
    )
    with step():
        rows = ledger.search(wanted, limit=limit, after=after)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        _tell(row)
    if not rows:
        click.echo("There is none.")
    if len(rows) == limit:
        click.echo(f"There may be more: add `--after {rows[-1].id}`.")


@events.command()
@_event
@_as_json
def show(event: str, as_json: bool) -> None:
    """Show one event with all that is known of it, its payload last."""
    with step():
        sheet = ledger.sheet(event)
    if as_json:
        print_json(asdict(sheet))
        return
    _tell(sheet.line)
    for name, value in (
        ("Session", sheet.session_id),
        ("Payment", sheet.intent_id),
        ("Invoice", sheet.invoice_id),
        ("Subscription", sheet.subscription_id),
        ("Customer", sheet.customer_id),
    ):
        if value:
            click.echo(f"{'':8}{name:13} {value}")
    click.echo(f"{'':8}{'Came':13} {as_moment(sheet.line.received_at)}{', fetched' if sheet.line.fetched else ''}")
    if sheet.handled_at:
        changed = "changed something" if sheet.line.changed else "changed nothing"
        click.echo(f"{'':8}{'Ended':13} {as_moment(sheet.handled_at)}, {changed}")
    for act in sheet.acts:
        why = f": {act.because}" if act.because else ""
        click.echo(f"{'':8}{'Staff':13} {as_moment(act.at)}, {act.actor}, {act.action.rpartition('_')[2]}{why}")
    if sheet.payload is None:
        click.echo("Its payload is forgotten: it is kept for ninety days.")
    else:
        print_json(sheet.payload)


@events.command()
@_event
def replay(event: str) -> None:
    """Have an event handled again from the start. Facts are fetched afresh, so that is safe."""
    with step():
        row = ledger.replay(event, actor=ACTOR)
        words = f"{row.external_id} is handled again."
    click.echo(words)


@events.command()
@_event
@click.option("--because", required=True, metavar="TEXT", callback=text, help="Why; it is kept with the event.")
def ignore(event: str, because: str) -> None:
    """Let an event be that is not handled."""
    with step():
        row = ledger.ignore(event, because=because, actor=ACTOR)
        words = f"{row.external_id} is let be."
    click.echo(words)


@click.command("replay-webhooks")
@click.option("--since", type=MOMENT, metavar="DATE", help="From when, in UTC; at most thirty days ago.")
@click.option("--until", type=MOMENT, metavar="DATE", help="Up to when, in UTC; now without it.")
@click.option("--dry-run", is_flag=True, help="Count and report, and change nothing.")
@_as_json
@with_appcontext
def replay_webhooks(since: datetime | None, until: datetime | None, dry_run: bool, as_json: bool) -> None:
    """Compare Stripe's own lists with ours, and fetch the events that never came.

    Without --since it begins where the last comparison ended. It also runs every day. Exit codes: 0 all adds
    up, 1 something does not (in a dry run also what a run would change), 75 Stripe did not answer.
    """
    try:
        report = comparing.run(payments(), since=_utc(since), until=_utc(until), dry_run=dry_run, actor=ACTOR)
    except Refusal as refusal:
        raise Refused(refusal) from None
    if as_json:
        print_json(asdict(report))
    else:
        _tell_report(report, dry_run)
    would = dry_run and bool(report.fetched or report.suspicions)
    sys.exit(DIFFERS if report.findings or would else ADDS_UP)


def _tell_report(report: comparing.Report, dry_run: bool) -> None:
    fetched = "would be fetched" if dry_run else "fetched now"
    click.echo(f"From {as_moment(report.since)} to {as_moment(report.until)}:")
    click.echo(f"{report.at_stripe:>6}  at Stripe")
    click.echo(f"{report.stored:>6}  stored, {report.fetched} {fetched}")
    click.echo(f"{report.handled:>6}  handled")
    click.echo(f"{report.effects:>6}  with an effect")
    if report.waiting:
        click.echo(f"{report.waiting} wait for the worker.")
    for sentence in report.suspicions:
        click.echo(f"{sentence} {'It would be looked up again.' if dry_run else comparing.LOOKED_UP.strip()}")
    for sentence in report.findings:
        click.echo(f"DIFFERS  {sentence}")
    if not report.suspicions and not report.findings:
        click.echo("Every payment stands in our books, to the cent.")


def _tell(row: Line) -> None:
    click.echo(f"{row.id:>6}  {as_moment(row.occurred_at)}  {row.state:8}  {row.type}  {row.external_id}")
    whose = ", ".join(filter(None, (row.purchase, row.email)))
    if whose:
        click.echo(f"{'':8}{whose}")
    if row.last_reason:
        again = f", again {as_moment(row.next_attempt_at)}" if row.next_attempt_at else ""
        click.echo(
            f"{'':8}after {row.tries} tries{again}: {row.last_reason}" if row.tries else f"{'':8}{row.last_reason}"
        )


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None else None


commands: list[click.Command] = [events, replay_webhooks]
