"""`sts access`: the reasons why a person has access, and those that staff give, end and put to rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from sts_app.accounts import services as accounts
from sts_app.accounts.models import User
from sts_app.catalog import queries as catalog
from sts_app.core import clock
from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.core.money import as_moment
from sts_app.provisioning import queries, services
from sts_app.provisioning.models import Entitlement

access = AppGroup("access", help="See why a person has access; give it, end it, put it to rest.", no_args_is_help=True)
_reason = click.option(
    "--reason", required=True, metavar="TEXT", callback=text, help="Why; it is kept with the access and in the audit."
)
_source = click.argument("source", metavar="SOURCE", callback=text)


@dataclass(frozen=True)
class Told:
    """One reason as it is shown; `state` is holds, rests or ended."""

    source: str
    state: str
    since: datetime
    until: datetime | None
    because: str | None


@access.command()
@click.argument("email", callback=text)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def reasons(email: str, as_json: bool) -> None:
    """List every reason EMAIL has or had: its SOURCE, since when, until when, whether it rests."""
    with step():
        found = queries.entitlements_of(_person(email).id)
        rows = [_told(each, clock.now()) for each in found]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        until = f" until {as_moment(row.until)}" if row.until else ""
        why = f": {row.because}" if row.because else ""
        click.echo(f"{row.source:24} {row.state:6} since {as_moment(row.since)}{until}{why}")
    if not rows:
        click.echo(f"{email} has never had a reason for access.")


@access.command()
@click.argument("email", callback=text)
@_reason
@click.option(
    "--until",
    type=click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]),
    metavar="DATE",
    help="When it ends, in UTC: 2027-01-31, which is the first minute of that day, or 2027-01-31T18:00. "
    "Without it the gift is for ever.",
)
def gift(email: str, reason: str, until: datetime | None) -> None:
    """Give EMAIL, who has an account, every strategy without money."""
    ends_at = until.replace(tzinfo=UTC) if until is not None else None
    with step():
        person = _person(email)
        given = services.gift(person, catalog.lifetime_plan(), reason=reason, ends_at=ends_at, actor=ACTOR)
        source, has_name = given.source, queries.current_name(person.id) is not None
    click.echo(f"Given as {source}, {f'until {as_moment(ends_at)}' if ends_at else 'for ever'}.")
    if not has_name:
        click.echo(f"{email} has no TradingView name yet: access follows when they enter one.")


@access.command()
@_source
@_reason
def end(source: str, reason: str) -> None:
    """End the gift SOURCE. Access ends with it unless another reason stands."""
    with step():
        if not source.startswith(services.GIFT):
            raise FixInput(
                f"{source} is not a gift. What was bought ends by its refund; `sts access suspend` puts it to rest."
            )
        _reason_of(source)
        if not services.end_entitlement(source, because=reason, actor=ACTOR):
            raise AlreadyDone(f"{source} has ended already.")
    click.echo(f"{source} has ended.")


@access.command()
@_source
@_reason
def suspend(source: str, reason: str) -> None:
    """Put SOURCE to rest: access ends unless another reason stands, and `resume` brings it back."""
    with step():
        _reason_of(source)
        if not services.suspend(source, because=reason, actor=ACTOR):
            raise AlreadyDone(f"{source} rests already.")
    click.echo(f"{source} rests.")


@access.command()
@_source
@_reason
def resume(source: str, reason: str) -> None:
    """Let SOURCE, which rests, count again. What has ended meanwhile stays ended."""
    with step():
        _reason_of(source)
        if not services.resume(source, because=reason, actor=ACTOR):
            raise AlreadyDone(f"{source} does not rest.")
    click.echo(f"{source} counts again.")


def _person(email: str) -> User:
    user = accounts.user_by_email(email)
    if user is None:
        raise NotThere(f"Nobody has an account under {email}. Ask them to sign in once.")
    return user


def _reason_of(source: str) -> Entitlement:
    entitlement = queries.entitlement_from(source)
    if entitlement is None:
        raise NotThere(f"There is no reason called {source}. `sts access reasons EMAIL` lists them.")
    return entitlement


def _told(each: Entitlement, now: datetime) -> Told:
    state = "rests" if each.suspended_at is not None else "holds"
    return Told(
        source=each.source,
        state="ended" if queries.has_ended(each, now) else state,
        since=each.starts_at,
        until=each.ends_at,
        because=each.ended_because or each.suspended_because or each.note,
    )


commands: list[click.Command] = [access]
