"""`sts stripe-setup`: what the store needs at Stripe, found, made or put right."""

from __future__ import annotations

from dataclasses import asdict

import click
from flask import current_app
from flask.cli import with_appcontext

from sts_app.billing import setup
from sts_app.billing.gateway import PaymentsError, TryLater
from sts_app.catalog import queries as catalog
from sts_app.core.commands import ACTOR, Refused, print_json
from sts_app.core.db import transaction
from sts_app.core.errors import NotNow, Refusal


@click.command("stripe-setup")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--yes-live", is_flag=True, help="Go ahead with a live key outside production.")
@click.option("--json", "as_json", is_flag=True, help="For machines. Holds the secret of an endpoint that was made.")
@with_appcontext
def stripe_setup(dry_run: bool, yes_live: bool, as_json: bool) -> None:
    """Find or make the product and price of every plan, the webhook endpoint and the customer portal, at Stripe.

    Plans are sold at these prices from then on. A second run changes nothing. The secret of an endpoint is
    printed when it is made, and never again. Exit codes: 0 done, 1 refused, 75 Stripe did not answer.
    """
    settings = current_app.config["STS"]
    if setup.has_live_key() and not settings.is_production and not yes_live:
        raise click.ClickException("STRIPE_SECRET_KEY is a live key, and this is not production: say --yes-live.")
    lines: list[setup.Line] = []
    try:
        with setup.gateways() as (maker, reader):
            for line in setup.run(maker, reader, dry_run=dry_run, actor=ACTOR):
                lines.append(line)
                if not as_json:
                    _tell(line)
    except PaymentsError as trouble:
        sentence = f"Stripe did not do it ({trouble.reason}). What was done until then stays, and is found next time."
        raise Refused(NotNow(sentence) if isinstance(trouble, TryLater) else Refusal(sentence)) from None
    except Refusal as refusal:
        raise Refused(refusal) from None
    finally:
        # What was made may hold a secret that nobody can read again, whatever came after it.
        if as_json:
            print_json([asdict(line) for line in lines])
    if not as_json:
        _tell_settings()


def _tell(line: setup.Line) -> None:
    click.echo(f"{line.deed:12} {line.thing:8} {line.id or '':30} {line.words}")
    if line.secret:
        click.echo(
            "Put this secret into STRIPE_WEBHOOK_SECRET, beside a former one with a comma between, and start the web "
            "processes again. It is shown this once:"
        )
        click.echo(line.secret)


def _tell_settings() -> None:
    settings = current_app.config["STS"]
    if settings.payments_vendor != "live":
        return
    with transaction():
        plan = catalog.plan_on_sale()
        price_id = plan.stripe_price_id if plan is not None else None
    if price_id is not None and settings.stripe_price_id != price_id:
        click.echo(f"Put {price_id} into STRIPE_PRICE_ID: it names the price of the lifetime plan.")
    if not settings.stripe_webhook_secrets:
        click.echo("STRIPE_WEBHOOK_SECRET is not set, so every event is refused. Stripe shows it beside the endpoint.")


commands: list[click.Command] = [stripe_setup]
