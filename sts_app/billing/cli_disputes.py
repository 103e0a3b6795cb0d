"""`sts disputes` and `sts withdrawals`: what customers want back by their bank or by law."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
from flask.cli import AppGroup

from sts_app.billing import evidence, queries
from sts_app.billing import withdrawals as withdrawing
from sts_app.billing.cli_lines import (
    NUMBER,
    as_json_option,
    before_option,
    dispute_line,
    limit_option,
    money_back,
    print_rows,
    reason_option,
    tell_dispute,
    tell_withdrawal,
    withdrawal_line,
    yes_option,
)
from sts_app.billing.evidence import Pack
from sts_app.billing.evidence_pdf import as_pdf
from sts_app.billing.models import Dispute, Purchase
from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment, as_money

_dispute = click.argument("dispute", metavar="ID", callback=text)

disputes = AppGroup("disputes", help="See what customers dispute at their banks, and answer.", no_args_is_help=True)
withdrawals = AppGroup("withdrawals", help="Decide about customers who withdraw.", no_args_is_help=True)


@disputes.command("list")
@limit_option
@before_option
@as_json_option
def list_disputes(limit: int, before: int | None, as_json: bool) -> None:
    """List disputes, newest first."""
    with step():
        rows = [dispute_line(*row) for row in queries.latest_disputes(limit, before=before)]
    print_rows(rows, tell_dispute, as_json=as_json, limit=limit)


@disputes.command("show")
@_dispute
@as_json_option
def show_dispute(dispute: str, as_json: bool) -> None:
    """Show one dispute and how far its evidence is, by our number or Stripe's id."""
    with step():
        line = dispute_line(*_called(dispute))
    if as_json:
        print_json(asdict(line))
        return
    tell_dispute(line)


@disputes.command("evidence")
@_dispute
@as_json_option
@click.option(
    "--pdf",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it as the bank reads it.",
)
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
def show_evidence(dispute: str, as_json: bool, file: Path | None, force: bool) -> None:
    """Show the evidence: what was handed in, or else what would be handed in now."""
    if as_json and file is not None:
        raise click.UsageError("Say either --json or --pdf.")
    if force and file is None:
        raise click.UsageError("--force is about the file of --pdf.")
    with step():
        pack = evidence.pack_of(_called(dispute)[0].id)
    if as_json:
        print_json(pack)
    elif file is not None:
        _write(file, as_pdf(pack), over=force)
        click.echo(f"Written to {file}. It holds personal data of the customer.")
    else:
        _tell(pack)


@disputes.command("submit")
@_dispute
@yes_option
def submit_evidence(dispute: str, yes: bool) -> None:
    """Hand the evidence in, for good: the bank reads one answer."""
    with step():
        found = _called(dispute)
        evidence.check(found[0])
        dispute_id, line, pack = found[0].id, dispute_line(*found), evidence.gather(found[0].id)
    amount = as_money(line.amount_cents, line.currency)
    click.echo(f"The bank gets one answer to the dispute {line.stripe_id} of {amount}, {line.purchase}, {line.email}:")
    click.echo(f"{'':8}the receipt, {_how_many(pack)}")
    click.echo(f"{'':8}`sts disputes evidence {dispute_id}` shows all of it")
    if line.due_by is not None:
        click.echo(f"{'':8}it is due by {as_moment(line.due_by)}")
    if not yes:
        click.confirm("Nothing can be added afterwards. Go ahead?", abort=True)
    with step():
        evidence.submit(dispute_id, actor=ACTOR)
    click.echo(f"Kept. The worker hands it in; `sts disputes show {dispute_id}` says when it has.")


@withdrawals.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that are decided, too, newest first.")
@limit_option
@as_json_option
def list_withdrawals(everything: bool, limit: int, as_json: bool) -> None:
    """List the withdrawals that wait for a decision, oldest first."""
    with step():
        rows = [withdrawal_line(*row) for row in queries.latest_withdrawals(limit, undecided=not everything)]
    print_rows(rows, tell_withdrawal, as_json=as_json)


@withdrawals.command("accept")
@click.argument("withdrawal_id", metavar="ID", type=NUMBER)
@yes_option
def accept(withdrawal_id: int, yes: bool) -> None:
    """Accept a withdrawal: what is left of the money goes back, and the customer is told."""
    with step():
        purchase, _ = withdrawing.undecided(withdrawal_id)
        cents = withdrawing.to_give_back(purchase)
        lines = money_back(purchase, cents) if cents else [f"All of {purchase.ref} went back before."]
        if purchase.subscription_id is not None:
            lines.append("Its subscription ends, with no further charge.")
    for line in lines:
        click.echo(line)
    if not yes:
        click.confirm("Go ahead?", abort=True)
    with step():
        withdrawing.accept(withdrawal_id, ACTOR)
    click.echo("Accepted. The money goes back, and the customer is told.")


@withdrawals.command("refuse")
@click.argument("withdrawal_id", metavar="ID", type=NUMBER)
@reason_option("Why; the customer reads this.")
def refuse(withdrawal_id: int, reason: str) -> None:
    """Refuse a withdrawal, with the reason that the customer reads."""
    with step():
        withdrawing.refuse(withdrawal_id, because=reason, actor=ACTOR)
    click.echo("Refused. The customer is told why.")


def _called(dispute: str) -> tuple[Dispute, Purchase, str]:
    found = queries.dispute_called(dispute)
    if found is None:
        raise NotThere(f"There is no dispute {dispute}. `sts disputes list` lists them.")
    return found


def _write(file: Path, content: bytes, *, over: bool) -> None:
    """A file that its owner alone can read."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if over else os.O_EXCL)
    try:
        with os.fdopen(os.open(file, flags, 0o600), "wb") as opened:
            opened.write(content)
    except FileExistsError:
        raise click.ClickException(f"{file} is there already: name another file, or say --force.") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from None


def _how_many(pack: Pack) -> str:
    """What is in a pack, counted: an answer in which something is missing shows that before it is sent."""
    return ", ".join(
        f"{len(pack[part])} {one if len(pack[part]) == 1 else many}"
        for part, one, many in (
            ("consents", "consent", "consents"),
            ("access", "change of access", "changes of access"),
            ("sign_ins", "sign-in", "sign-ins"),
            ("letters", "letter", "letters"),
        )
    )


def _tell(pack: Pack) -> None:
    """Print a pack for people. The texts of the letters are in the JSON and the PDF."""
    receipt, customer = pack["receipt"], pack["customer"]
    amount = as_money(receipt["amount_cents"], receipt["currency"])
    click.echo(f"Evidence for {pack['dispute']['id']}, gathered {_moment(pack['gathered_at'])}")
    click.echo(f"{'':8}{receipt['bought']}, {amount}, {receipt['reference']}, paid {_moment(receipt['paid_at'])}")
    for refund in receipt["refunds"]:
        back = as_money(refund["amount_cents"], receipt["currency"])
        click.echo(f"{'':8}refund of {back}, {refund['id'] or 'not sent yet'}, {refund['state']}")
    click.echo(f"{'':8}{customer['email']}, with an account since {_moment(customer['account_since'])}")
    consents = []
    for each in pack["consents"]:
        consents.append(f"{_moment(each['given_at'])}  {each['ip_address']}, texts of {each['texts_version']}")
        consents += [f"  {sentence}" for sentence in each["words"]]
    for title, lines in (
        ("Consents", consents),
        (
            "Access",
            [f"{_moment(e['at'])}  {e['what']}: {e['strategy']}, {e['name']}, {e['proof']}" for e in pack["access"]],
        ),
        ("Sign-ins", [_moment(moment) for moment in pack["sign_ins"]]),
        ("Letters", [f"{_moment(letter['sent_at'])}  {letter['subject']}" for letter in pack["letters"]]),
    ):
        click.echo(title)
        for line in lines or ["none"]:
            click.echo(f"{'':8}{line}")


def _moment(written: str | None) -> str:
    return as_moment(datetime.fromisoformat(written)) if written is not None else "never"


commands: list[click.Command] = [disputes, withdrawals]
