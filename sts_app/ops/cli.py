"""Operator commands: seed, doctor, invariants, run, demo."""

from __future__ import annotations

import sys

import click
from flask import current_app
from flask.cli import with_appcontext

from sts_app.accounts import services as accounts
from sts_app.catalog import services as catalog
from sts_app.core.db import db, transaction
from sts_app.ops import doctor as physician
from sts_app.ops import invariants as checks

MARKS = {"fine": "ok  ", "warning": "warn", "fault": "FAIL"}


@click.command()
@with_appcontext
def seed() -> None:
    """Put strategies, the lifetime plan and the admins in place. Changes nothing that stands."""
    settings = current_app.config["STS"]
    with transaction():
        seeded = catalog.seed_catalog(settings.stripe_price_id)
        for address in settings.admin_emails:
            accounts.make_admin(address, actor="cli")
    click.echo(f"Seeded {seeded.strategies} strategies and {seeded.plans} plans.")


@click.command()
@with_appcontext
def doctor() -> None:
    """Say whether this store is fit to run, and what to do when it is not."""
    faults = 0
    for finding in physician.examine():
        click.echo(f"{MARKS[finding.kind]}  {finding.sentence}")
        faults += finding.kind == "fault"
    if faults:
        click.echo(f"Not fit: {faults} to mend.")
        sys.exit(1)
    click.echo("Fit.")


@click.command()
@with_appcontext
def invariants() -> None:
    """Run every invariant and list the offenders. Non-zero when one is broken."""
    with db.engine.connect() as connection:
        found = checks.broken(connection)
    for name, rows in found.items():
        click.echo(f"BROKEN  {name}")
        for row in rows[:20]:
            click.echo(f"        {', '.join(str(value) for value in row)}")
    if found:
        sys.exit(1)
    click.echo(f"All {len(checks.INVARIANTS)} invariants hold.")


@click.command()
def run() -> None:
    """Run the whole store on this machine, with its own database, Redis and simulated vendors."""
    from sts_app.ops import local  # its servers are no part of what production installs

    sys.exit(local.run())


@click.command()
@click.option("--keep", is_flag=True, help="Keep the demo's folder with its logs.")
def demo(keep: bool) -> None:
    """Make one purchase against running processes, over HTTP only, and check every promise."""
    from sts_app.ops import demo as show

    sys.exit(show.run(keep=keep))


commands: list[click.Command] = [seed, doctor, invariants, run, demo]
