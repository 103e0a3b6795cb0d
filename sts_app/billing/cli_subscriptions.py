"""`sts subscriptions`: what is paid again and again, and its end by staff."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import click
from flask.cli import AppGroup

from sts_app.billing import queries, words
from sts_app.billing import subscriptions as subscribing
from sts_app.billing.cli_lines import (
    as_json_option,
    before_option,
    email_argument,
    limit_option,
    person_called,
    print_rows,
    reason_option,
    yes_option,
)
from sts_app.billing.models import Subscription
from sts_app.catalog.models import Plan
from sts_app.core.commands import ACTOR, step, text
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment

subscriptions = AppGroup("subscriptions", help="See who pays again and again, and end it.", no_args_is_help=True)


@dataclass(frozen=True)
class SubscriptionLine:
    """One subscription as it is shown; `status` is Stripe's word, `state` what it means for access."""

    id: int
    stripe_id: str
    email: str
    plan: str
    price: str
    status: str
    state: str
    started_at: datetime
    period_end: datetime | None
    ends_at: datetime | None
    ended_at: datetime | None
    cancel_because: str | None


@subscriptions.command("list")
@email_argument
@limit_option
@before_option
@as_json_option
def list_subscriptions(email: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """List the subscriptions of EMAIL, or of everybody, newest first."""
    with step():
        user_id = person_called(email).id if email is not None else None
        rows = [_line(*row) for row in queries.latest_subscriptions(limit, before=before, user_id=user_id)]
    print_rows(rows, _tell, as_json=as_json, limit=limit)


@subscriptions.command("cancel")
@click.argument("subscription", metavar="ID", callback=text)
@reason_option("Why; it is kept, and the customer reads that staff asked for it.")
@yes_option
def cancel(subscription: str, reason: str, yes: bool) -> None:
    """End a subscription now, with no further charge. Its access ends with it, and nothing goes back."""
    with step():
        found = queries.subscription_called(subscription)
        if found is None:
            raise NotThere(f"There is no subscription {subscription}. `sts subscriptions list EMAIL` lists somebody's.")
        subscribing.check_can_end(found[0])
        line = _line(*found)
    click.echo(f"{line.plan}, {line.price}, of {line.email} ends now, and so does the access that it gives.")
    paid = f" What is paid until {as_moment(line.period_end)} stays paid" if line.period_end else " What was paid stays"
    click.echo(f"Nothing more is charged.{paid}: `sts refunds ask` gives it back.")
    if not yes:
        click.confirm("Go ahead?", abort=True)
    with step():
        subscribing.cancel_by_staff(line.id, reason=reason, actor=ACTOR)
    click.echo(f"Subscription {line.id} is being ended at Stripe.")


def _line(row: Subscription, plan: Plan, email: str) -> SubscriptionLine:
    return SubscriptionLine(
        id=row.id,
        stripe_id=row.external_id,
        email=email,
        plan=plan.name,
        price=words.price_of(plan, queries.subscribed_for(row.id)),
        status=row.status,
        state=row.state,
        started_at=row.started_at,
        period_end=row.period_end,
        ends_at=row.ends_at,
        ended_at=row.ended_at,
        cancel_because=row.cancel_because,
    )


def _tell(row: SubscriptionLine) -> None:
    click.echo(f"{row.id:>6}  {as_moment(row.started_at)}  {row.status}, access {row.state}, {row.stripe_id}")
    click.echo(f"{'':8}{row.email}, {row.plan}, {row.price}{_end_of(row)}")


def _end_of(row: SubscriptionLine) -> str:
    if row.ended_at is not None:
        return f", ended on {as_moment(row.ended_at)}"
    if row.cancel_because is not None:
        return f", is being ended because {row.cancel_because}"
    if row.ends_at is not None:
        return f", ends on {as_moment(row.ends_at)}"
    return f", paid until {as_moment(row.period_end)}" if row.period_end is not None else ""


commands: list[click.Command] = [subscriptions]
