"""`sts admin`: make somebody staff or not, or let them in when no letter can be sent."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from sts_app.accounts import services
from sts_app.core.commands import ACTOR, step
from sts_app.core.web import address_of

admin = AppGroup("admin", help="Make somebody staff or not, or let them in when no letter can be sent.")


def _checked_email(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    from email_validator import EmailNotValidError, validate_email

    try:
        return str(validate_email(value.strip(), check_deliverability=False).normalized)
    except EmailNotValidError as error:
        raise click.BadParameter(f"{value!r} is not an e-mail address: {error}") from None


@admin.command()
@click.argument("email", callback=_checked_email)
def grant(email: str) -> None:
    """Give EMAIL the admin role, creating the account if needed."""
    with step():
        is_new = services.user_by_email(email) is None
        user = services.make_admin(email, actor=ACTOR)
    click.echo(f"{user.email} is an admin.{' New account: nobody had this address before.' if is_new else ''}")


@admin.command()
@click.argument("email", callback=_checked_email)
def revoke(email: str) -> None:
    """Make EMAIL a customer again, and sign it out everywhere."""
    with step():
        user = services.revoke_admin(email, actor=ACTOR)
    click.echo(f"{user.email} is a customer, and signed out everywhere.")


@admin.command()
@click.argument("email", callback=_checked_email)
def link(email: str) -> None:
    """Print a sign-in link for a member of staff. It works once, for half an hour."""
    with step():
        secret = services.link_for_staff(email, actor=ACTOR)
    click.echo(address_of("accounts.continue_sign_in", link=secret))


commands: list[click.Command] = [admin]
