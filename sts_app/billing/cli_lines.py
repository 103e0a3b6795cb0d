"""Refunds and disputes as commands show them, and the options that their lists share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import click

from sts_app.billing import evidence
from sts_app.billing.evidence import Standing
from sts_app.billing.models import Dispute, Purchase, Refund
from sts_app.core.money import as_moment, as_money

NUMBER = click.IntRange(1, 2**63 - 1)
PAGE = 50

as_json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=PAGE, show_default=True, help="How many at most."
)
before_option = click.option("--before", type=NUMBER, metavar="NUMBER", help="Go on from below this number.")


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


def tell_refunds(rows: Sequence[RefundLine]) -> None:
    """Print refunds for people."""
    for row in rows:
        amount = as_money(row.amount_cents, row.currency)
        click.echo(f"{row.id:>6}  {as_moment(row.asked_at)}  {row.state:10}  refund of {amount}, {row.purchase}")
        click.echo(f"{'':8}{row.email}, asked by {row.asked_by}: {row.reason or 'no reason was said'}")
        if row.failed_because:
            click.echo(f"{'':8}failed: {row.failed_because}")


def tell_disputes(rows: Sequence[DisputeLine]) -> None:
    """Print disputes for people."""
    for row in rows:
        amount = as_money(row.amount_cents, row.currency)
        click.echo(f"{row.id:>6}  {as_moment(row.opened_at)}  {row.status:14}  dispute of {amount}, {row.purchase}")
        click.echo(f"{'':8}{row.email}, {row.stripe_id}, the reason given is {row.reason.replace('_', ' ')}")
        click.echo(f"{'':8}{_evidence_of(row)}")


def tell_end(rows: Sequence[RefundLine] | Sequence[DisputeLine], limit: int) -> None:
    """Print that there is none, or how to go on after a full page."""
    if not rows:
        click.echo("There is none.")
    if len(rows) == limit:
        click.echo(f"There may be more: add `--before {rows[-1].id}`.")


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
