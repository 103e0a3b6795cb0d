"""`sts events` and `sts replay-webhooks`: what the provider told of, what became of it, and what never came."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime

import click
from flask.cli import AppGroup, with_appcontext

from sts_app.billing import comparing, ledger, queries
from sts_app.billing.cli_lines import (
    NUMBER,
    as_json_option,
    limit_option,
    person_called,
    print_rows,
    purchase_called,
    reason_option,
)
from sts_app.billing.ledger import Line
from sts_app.billing.rules import EventState, Kind
from sts_app.billing.services import payments
from sts_app.core.commands import ACTOR, Refused, print_json, step, text
from sts_app.core.errors import Refusal
from sts_app.core.money import as_moment

MOMENT = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])
ADDS_UP, DIFFERS = 0, 1
OUTCOMES: dict[str, str] = {Kind.CHANGE: "it changed something", Kind.REPEAT: "it told nothing new"}

_event = click.argument("event", metavar="ID", callback=text)

events = AppGroup(
    "events", help="Search what Stripe told of; have it handled again, or let it be.", no_args_is_help=True
)


@events.command("list")
@click.option("--id", "event", metavar="ID", default="", help="Our number of it, or Stripe's evt_...")
@click.option("--type", "kind", metavar="TYPE", default="", help="What its type begins with: charge.dispute")
@click.option("--state", type=click.Choice([state.value for state in EventState]), help="How far it is.")
@click.option("--purchase", metavar="PURCHASE|REF", default="", help="What it is about.")
@click.option("--email", metavar="EMAIL", default="", help="Whom it is about.")
@click.option("--day", type=click.DateTime(formats=["%Y-%m-%d"]), help="When it happened, in UTC: 2026-11-21")
@limit_option
@click.option("--after", type=NUMBER, metavar="NUMBER", help="Go on after this one.")
@as_json_option
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
    with step():
        found = queries.purchase_called(purchase)
        wanted = ledger.Wanted(
            event=event,
            kind=kind,
            state=EventState(state) if state else None,
            purchase=found.ref if found is not None else purchase,
            email=person_called(email).email if email else "",
            day=day.date() if day else None,
        )
        rows = ledger.search(wanted, limit=limit, after=after)
        if purchase and not rows:
            # Nothing told of it, or it was mistyped: events may name what does not stand here.
            purchase_called(purchase)
    print_rows(rows, _tell, as_json=as_json, limit=limit, go_on="--after")


@events.command()
@_event
@as_json_option
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
        before = ", after a time before that changed something"
        did_before = sheet.line.changed and sheet.line.last_reason == Kind.REPEAT
        click.echo(f"{'':8}{'Ended':13} {as_moment(sheet.handled_at)}{before if did_before else ''}")
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
@reason_option("Why; it is kept with the event.")
def ignore(event: str, reason: str) -> None:
    """Let an event be that is not handled."""
    with step():
        row = ledger.ignore(event, because=reason, actor=ACTOR)
        words = f"{row.external_id} is let be."
    click.echo(words)


@click.command("replay-webhooks")
@click.option("--since", type=MOMENT, metavar="DATE", help="From when, in UTC; at most thirty days ago.")
@click.option("--until", type=MOMENT, metavar="DATE", help="Up to when, in UTC; now without it.")
@click.option("--dry-run", is_flag=True, help="Count and report, and change nothing.")
@as_json_option
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
    for count, words in (
        (report.ignored, "ignored: about nothing that was bought here, or let be by staff"),
        (report.stuck, "stuck: `sts events list --state stuck` lists what waits for a person"),
        (report.waiting, "waiting for the worker"),
    ):
        if count:
            click.echo(f"{count:>6}  {words}")
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
    if row.last_reason in OUTCOMES:
        click.echo(f"{'':8}{OUTCOMES[row.last_reason]}")
    elif row.last_reason:
        again = f", again {as_moment(row.next_attempt_at)}" if row.next_attempt_at else ""
        click.echo(
            f"{'':8}after {row.tries} tries{again}: {row.last_reason}" if row.tries else f"{'':8}{row.last_reason}"
        )


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None else None


commands: list[click.Command] = [events, replay_webhooks]
