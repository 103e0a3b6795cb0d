"""`sts disputes` and `sts withdrawals`: what customers want back by their bank or by law."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import click
from flask.cli import AppGroup

from sts_app.billing import queries
from sts_app.billing import withdrawals as withdrawing
from sts_app.billing.cli_lines import (
    NUMBER,
    as_json_option,
    before_option,
    dispute_line,
    limit_option,
    tell_disputes,
    tell_end,
)
from sts_app.billing.models import Purchase, Withdrawal
from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment

disputes = AppGroup("disputes", help="See what customers dispute at their banks.", no_args_is_help=True)
withdrawals = AppGroup("withdrawals", help="Decide about customers who withdraw.", no_args_is_help=True)


@dataclass(frozen=True)
class WithdrawalLine:
    """One declaration as it is shown; `verdict` is accepted, refused or None."""

    id: int
    purchase: str
    email: str
    name: str
    declared_at: datetime
    verdict: str | None
    decided_by: str | None
    note: str | None


@disputes.command("list")
@limit_option
@before_option
@as_json_option
def list_disputes(limit: int, before: int | None, as_json: bool) -> None:
    """List disputes, newest first."""
    with step():
        rows = [dispute_line(*row) for row in queries.latest_disputes(limit, before=before)]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    tell_disputes(rows)
    tell_end(rows, limit)


@disputes.command("show")
@click.argument("dispute", metavar="ID", callback=text)
@as_json_option
def show_dispute(dispute: str, as_json: bool) -> None:
    """Show one dispute, by our number or Stripe's id."""
    with step():
        found = queries.dispute_called(dispute)
        if found is None:
            raise NotThere(f"There is no dispute {dispute}. `sts disputes list` lists them.")
        line = dispute_line(*found)
    if as_json:
        print_json(asdict(line))
        return
    tell_disputes([line])


@withdrawals.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are decided, too, newest first.")
@limit_option
@as_json_option
def list_withdrawals(everything: bool, limit: int, as_json: bool) -> None:
    """List the withdrawals that wait for a decision, oldest first."""
    with step():
        rows = [_withdrawal(*row) for row in queries.latest_withdrawals(limit, undecided=not everything)]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        click.echo(
            f"{row.id:>6}  {as_moment(row.declared_at)}  {row.verdict or 'waits':8}  {row.purchase}, {row.email}"
        )
        decided = f" ({row.decided_by}{f': {row.note}' if row.note else ''})" if row.decided_by else ""
        click.echo(f"{'':8}declared by {row.name}{decided}")
    if not rows:
        click.echo("There is none.")


@withdrawals.command("accept")
@click.argument("withdrawal_id", metavar="ID", type=NUMBER)
def accept(withdrawal_id: int) -> None:
    """Accept a withdrawal: what is left of the money goes back, and the customer is told."""
    with step():
        withdrawing.accept(withdrawal_id, ACTOR)
    click.echo("Accepted. The money goes back, and the customer is told.")


@withdrawals.command("refuse")
@click.argument("withdrawal_id", metavar="ID", type=NUMBER)
@click.option("--because", required=True, metavar="TEXT", callback=text, help="Why; the customer reads this.")
def refuse(withdrawal_id: int, because: str) -> None:
    """Refuse a withdrawal, with the reason that the customer reads."""
    with step():
        withdrawing.refuse(withdrawal_id, because=because, actor=ACTOR)
    click.echo("Refused. The customer is told why.")


def _withdrawal(row: Withdrawal, purchase: Purchase, email: str) -> WithdrawalLine:
    return WithdrawalLine(
        id=row.id,
        purchase=purchase.ref,
        email=email,
        name=row.name,
        declared_at=row.created_at,
        verdict=row.verdict,
        decided_by=row.decided_by,
        note=row.note,
    )


commands: list[click.Command] = [disputes, withdrawals]
