"""Refunds, disputes and withdrawals as commands show them, and what all commands of billing share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import click

from sts_app.accounts.models import User
from sts_app.accounts.services import user_by_email
from sts_app.billing import evidence, queries, refunds
from sts_app.billing.evidence import Standing
from sts_app.billing.ledger import PAGE
from sts_app.billing.models import Dispute, Purchase, Refund, Withdrawal
from sts_app.catalog import queries as catalog
from sts_app.core.commands import print_json, text
from sts_app.core.db import db
from sts_app.core.errors import NotThere
from sts_app.core.money import as_moment, as_money

NUMBER = click.IntRange(1, 2**63 - 1)

as_json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=PAGE, show_default=True, help="How many at most."
)
before_option = click.option("--before", type=NUMBER, metavar="NUMBER", help="Go on from below this number.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
email_argument = click.argument("email", metavar="[EMAIL]", required=False, callback=text)


def reason_option(help_text: str) -> Callable[[Command], Command]:
    """`--reason TEXT`, without which a command is not carried out. `help_text` says who reads it."""
    return click.option("--reason", required=True, metavar="TEXT", callback=text, help=help_text)


class Numbered(Protocol):
    """One row of a list, which has a number and can be printed for machines."""

    @property
    def id(self) -> int: ...


Command = TypeVar("Command", bound=Callable[..., object])
Row = TypeVar("Row", bound=Numbered)


@dataclass(frozen=True)
class RefundLine:
    """One refund as it is shown; `state` is Stripe's word, or intended or refused."""

    id: int
    purchase: str
    email: str
    amount_cents: int
    currency: str
    state: str
    stripe_id: str | None
    asked_by: str
    reason: str | None
    failed_because: str | None
    asked_at: datetime


@dataclass(frozen=True)
class DisputeLine:
    """One dispute as it is shown; `status` is Stripe's word, `evidence` how far our answer to it is.

    `gathered_at` is when the pack was gathered that was handed in, or is to be; ISO 8601 in UTC.
    """

    id: int
    stripe_id: str
    purchase: str
    email: str
    amount_cents: int
    currency: str
    status: str
    reason: str
    opened_at: datetime
    due_by: datetime | None
    submissions: int
    evidence: str
    evidence_by: str | None
    gathered_at: str | None
    last_reason: str | None


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


def person_called(email: str) -> User:
    """The person with this address. Raises `NotThere`."""
    user = user_by_email(email)
    if user is None:
        raise NotThere(f"There is no account with the address {email}.")
    return user


def purchase_called(purchase: str) -> Purchase:
    """The purchase of this number or reference. Raises `NotThere`."""
    found = queries.purchase_called(purchase)
    if found is None:
        raise NotThere(f"There is no purchase {purchase}. `sts purchases list EMAIL` lists somebody's.")
    return found


def money_back(purchase: Purchase, cents: int) -> list[str]:
    """What a refund of so many cents would do, in sentences, before anybody is asked whether to go ahead."""
    plan, user = queries.plan_of(purchase), db.session.get_one(User, purchase.user_id)
    left = refunds.left_of(purchase) - cents
    lines = [f"{as_money(cents, purchase.currency)} of {purchase.ref}, {plan.name}, goes back to {user.email}."]
    if left:
        lines.append(
            f"{as_money(left, purchase.currency)} of it is left then. What that means for access is decided "
            f"afterwards, by `sts refunds decide {purchase.id}`."
        )
    else:
        covered = ", ".join(strategy.name for strategy in catalog.covered_strategies(plan)) or "nothing"
        lines.append(f"Nothing of it is left then, so the access that it gives ends: {covered}.")
        lines.append("What another purchase or a gift gives stays.")
    return lines


def refund_line(row: Refund, purchase: Purchase, email: str) -> RefundLine:
    """A refund of a purchase of whoever has this address."""
    return RefundLine(
        id=row.id,
        purchase=purchase.ref,
        email=email,
        amount_cents=row.amount_cents,
        currency=row.currency,
        state=row.state,
        stripe_id=row.external_id,
        asked_by=row.asked_by,
        reason=row.reason,
        failed_because=row.failed_because,
        asked_at=row.created_at,
    )


def dispute_line(row: Dispute, purchase: Purchase, email: str) -> DisputeLine:
    """A dispute of a purchase of whoever has this address."""
    return DisputeLine(
        id=row.id,
        stripe_id=row.external_id,
        purchase=purchase.ref,
        email=email,
        amount_cents=row.amount_cents,
        currency=row.currency,
        status=row.status,
        reason=row.reason,
        opened_at=row.opened_at,
        due_by=row.due_by,
        submissions=row.submissions,
        evidence=evidence.standing_of(row).value,
        evidence_by=row.evidence_by,
        gathered_at=row.evidence["gathered_at"] if row.evidence else None,
        last_reason=row.last_reason,
    )


def withdrawal_line(row: Withdrawal, purchase: Purchase, email: str) -> WithdrawalLine:
    """A withdrawal from a purchase of whoever has this address."""
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


def tell_refund(row: RefundLine) -> None:
    """Print a refund for people."""
    _tell(
        row,
        row.asked_at,
        f"{row.state:10}  refund of {as_money(row.amount_cents, row.currency)}, {row.purchase}",
        f"{row.email}, asked by {row.asked_by}: {row.reason or 'no reason was said'}",
        f"failed: {row.failed_because}" if row.failed_because else "",
    )


def tell_dispute(row: DisputeLine) -> None:
    """Print a dispute for people."""
    _tell(
        row,
        row.opened_at,
        f"{row.status:14}  dispute of {as_money(row.amount_cents, row.currency)}, {row.purchase}",
        f"{row.email}, {row.stripe_id}, the reason given is {row.reason.replace('_', ' ')}",
        _evidence_of(row),
    )


def tell_withdrawal(row: WithdrawalLine) -> None:
    """Print a withdrawal for people."""
    decided = f" ({row.decided_by}{f': {row.note}' if row.note else ''})" if row.decided_by else ""
    _tell(
        row,
        row.declared_at,
        f"{row.verdict or 'waits':8}  {row.purchase}, {row.email}",
        f"declared by {row.name}{decided}",
    )


def print_rows(
    rows: Sequence[Row],
    tell: Callable[[Row], None],
    *,
    as_json: bool,
    limit: int | None = None,
    go_on: str = "--before",
) -> None:
    """Print a list, for machines or one by one for people, who are told that there is none.

    With `limit` a full page says how to `go_on` from its last row.
    """
    if as_json:
        print_json([asdict(row) for row in rows])  # type: ignore[call-overload]  # every row is a dataclass
        return
    for row in rows:
        tell(row)
    if not rows:
        click.echo("There is none.")
    if len(rows) == limit:
        click.echo(f"There may be more: add `{go_on} {rows[-1].id}`.")


def _tell(row: Numbered, at: datetime, *lines: str) -> None:
    first, *others = filter(None, lines)
    click.echo(f"{row.id:>6}  {as_moment(at)}  {first}")
    for line in others:
        click.echo(f"{'':8}{line}")


def _evidence_of(row: DisputeLine) -> str:
    due = f", due by {as_moment(row.due_by)}" if row.due_by else ""
    trouble = f", the last answer was: {row.last_reason}" if row.last_reason else ""
    match Standing(row.evidence):
        case Standing.HANDED_IN if row.evidence_by and row.gathered_at:
            gathered = as_moment(datetime.fromisoformat(row.gathered_at))
            return f"evidence was handed in by {row.evidence_by}, as gathered on {gathered}"
        case Standing.HANDED_IN:
            return "evidence was handed in at Stripe"
        case Standing.ON_ITS_WAY:
            return f"evidence is on its way{due}{trouble}"
        case Standing.NOT_ACCEPTED:
            return f"evidence was not accepted{due}{trouble}"
        case Standing.TOO_LATE:
            return f"evidence was asked for and not sent{due}"
        case Standing.ASKED_FOR:
            return f"evidence is asked for{due}: `sts disputes submit {row.id}`"
        case Standing.NOT_ASKED_FOR:
            return "no evidence is asked for"
