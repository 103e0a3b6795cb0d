"""`sts purchases` and `sts refunds`: where the money is, and what staff give back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import cast, get_args

import click
from flask.cli import AppGroup

from sts_app.accounts.models import User
from sts_app.billing import queries, stripe_pages
from sts_app.billing import refunds as refunding
from sts_app.billing.cli_lines import (
    DisputeLine,
    RefundLine,
    as_json_option,
    before_option,
    dispute_line,
    email_argument,
    limit_option,
    money_back,
    person_called,
    print_rows,
    purchase_called,
    reason_option,
    refund_line,
    tell_dispute,
    tell_refund,
    yes_option,
)
from sts_app.billing.models import Purchase
from sts_app.catalog.models import Plan
from sts_app.core.commands import ACTOR, print_json, step, text
from sts_app.core.db import db
from sts_app.core.money import as_moment, as_money

_purchase = click.argument("purchase", metavar="PURCHASE|REF", callback=text)
_reason = reason_option("Why; it is kept, and nobody else reads it.")

purchases = AppGroup("purchases", help="Find purchases, and see where their money is.", no_args_is_help=True)
refunds = AppGroup("refunds", help="Give money back, and say what a part of it means.", no_args_is_help=True)


@dataclass(frozen=True)
class PurchaseLine:
    """One purchase as a list shows it. Cents."""

    id: int
    ref: str
    email: str
    plan: str
    status: str
    access: str
    amount_cents: int
    currency: str
    opened_at: datetime
    paid_at: datetime | None


@dataclass(frozen=True)
class PurchaseSheet:
    """One purchase with all that happened to its money. Cents."""

    id: int
    ref: str
    email: str
    plan: str
    status: str
    access: str
    amount_cents: int
    discount_cents: int
    refunded_cents: int
    left_cents: int
    currency: str
    opened_at: datetime
    paid_at: datetime | None
    closed_at: datetime | None
    declined_because: str | None
    duplicate_of: str | None
    partial_verdict: str | None
    subscription_id: int | None
    session_id: str | None
    intent_id: str | None
    invoice_id: str | None
    at_stripe: str | None
    agreed_at: datetime | None
    refunds: tuple[RefundLine, ...]
    disputes: tuple[DisputeLine, ...]


def _cents(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """An amount as people write it, 19.90, read as cents."""
    if value is None:
        return None
    try:
        cents = Decimal(value) * 100
    except InvalidOperation:
        raise click.BadParameter("write it as 19.90.") from None
    if not cents.is_finite() or cents != cents.to_integral_value() or not 0 < cents < 10**11:
        raise click.BadParameter("write it as 19.90.")
    return int(cents)


@purchases.command("list")
@email_argument
@limit_option
@before_option
@as_json_option
def list_purchases(email: str | None, limit: int, before: int | None, as_json: bool) -> None:
    """List the purchases of EMAIL, or of everybody, newest first."""
    with step():
        user_id = person_called(email).id if email is not None else None
        rows = [_line(*row) for row in queries.latest_purchases(limit, before=before, user_id=user_id)]
    print_rows(rows, _tell, as_json=as_json, limit=limit)


@purchases.command("show")
@_purchase
@as_json_option
def show_purchase(purchase: str, as_json: bool) -> None:
    """Show one purchase with its money, its refunds and its disputes."""
    with step():
        sheet = _sheet(purchase_called(purchase))
    if as_json:
        print_json(asdict(sheet))
        return
    click.echo(f"Purchase {sheet.id}, {sheet.ref}, {sheet.plan}, {sheet.email}")
    for name, value in (
        ("Status", f"{sheet.status}, access {sheet.access}"),
        ("Amount", _amount_of(sheet)),
        ("Left", as_money(sheet.left_cents, sheet.currency)),
        ("Opened", as_moment(sheet.opened_at)),
        ("Agreed", as_moment(sheet.agreed_at) if sheet.agreed_at else None),
        ("Paid", as_moment(sheet.paid_at) if sheet.paid_at else None),
        ("Closed", as_moment(sheet.closed_at) if sheet.closed_at else None),
        ("Declined", sheet.declined_because),
        ("Paid before", sheet.duplicate_of),
        ("Staff said", sheet.partial_verdict),
        ("Subscription", str(sheet.subscription_id) if sheet.subscription_id else None),
        ("Session", sheet.session_id),
        ("Payment", sheet.intent_id),
        ("Invoice", sheet.invoice_id),
        ("At Stripe", sheet.at_stripe),
    ):
        if value:
            click.echo(f"{'':8}{name:13} {value}")
    for refund in sheet.refunds:
        tell_refund(refund)
    for dispute in sheet.disputes:
        tell_dispute(dispute)


@refunds.command("ask")
@_purchase
@click.option("--amount", callback=_cents, help="How much, as 19.90. Without it all that is left.")
@_reason
@click.option(
    "--kind",
    type=click.Choice(get_args(refunding.Reason)),
    default="requested_by_customer",
    show_default=True,
    help="What Stripe is told.",
)
@yes_option
def ask(purchase: str, amount: int | None, reason: str, kind: str, yes: bool) -> None:
    """Give money of a purchase back. A full refund ends its access; for a part staff decide."""
    with step():
        found = purchase_called(purchase)
        cents = refunding.check(found, amount)
        purchase_id, ref, lines = found.id, found.ref, money_back(found, cents)
        if found.subscription_id is not None:
            lines.append("A subscription whose latest payment went back altogether ends, with no further charge.")
    for line in lines:
        click.echo(line)
    if not yes:
        click.confirm("Go ahead?", abort=True)
    with step():
        # As much as was said, whatever went back meanwhile.
        refund = refunding.ask(
            purchase_id, reason=reason, actor=ACTOR, amount_cents=cents, kind=cast(refunding.Reason, kind)
        )
        words = f"Refund {refund.id} of {as_money(refund.amount_cents, refund.currency)} goes out for {ref}."
    click.echo(words)


@refunds.command("list")
@limit_option
@before_option
@as_json_option
def list_refunds(limit: int, before: int | None, as_json: bool) -> None:
    """List refunds, newest first."""
    with step():
        rows = [refund_line(*row) for row in queries.latest_refunds(limit, before=before)]
    print_rows(rows, tell_refund, as_json=as_json, limit=limit)


@refunds.command("decide")
@_purchase
@click.option("--keep-access/--end-access", "keeps_access", default=None, help="What becomes of it.")
@_reason
def decide(purchase: str, keeps_access: bool | None, reason: str) -> None:
    """Say what a part that went back means for access. It may be said again, the other way round."""
    if keeps_access is None:
        raise click.UsageError("Say either --keep-access or --end-access.")
    with step():
        found = purchase_called(purchase)
        refunding.decide_part(found.id, keeps_access=keeps_access, reason=reason, actor=ACTOR)
        words = f"Access of {found.ref} {'stays' if keeps_access else 'ends'}."
    click.echo(words)


def _line(purchase: Purchase, plan: str, email: str) -> PurchaseLine:
    return PurchaseLine(
        id=purchase.id,
        ref=purchase.ref,
        email=email,
        plan=plan,
        status=purchase.status,
        access=purchase.access,
        amount_cents=purchase.amount_cents,
        currency=purchase.currency,
        opened_at=purchase.created_at,
        paid_at=purchase.paid_at,
    )


def _tell(row: PurchaseLine) -> None:
    amount = as_money(row.amount_cents, row.currency)
    at = as_moment(row.paid_at or row.opened_at)
    click.echo(f"{row.id:>6}  {at}  {row.status}, access {row.access}, {amount}, {row.ref}")
    click.echo(f"{'':8}{row.email}, {row.plan}")


def _sheet(purchase: Purchase) -> PurchaseSheet:
    email = db.session.get_one(User, purchase.user_id).email
    earlier = db.session.get(Purchase, purchase.duplicate_of_id) if purchase.duplicate_of_id else None
    consent = queries.latest_consent(purchase.id)
    return PurchaseSheet(
        id=purchase.id,
        ref=purchase.ref,
        email=email,
        plan=db.session.get_one(Plan, purchase.plan_id).slug,
        status=purchase.status,
        access=purchase.access,
        amount_cents=purchase.amount_cents,
        discount_cents=purchase.discount_cents,
        refunded_cents=purchase.refunded_cents,
        left_cents=refunding.left_of(purchase),
        currency=purchase.currency,
        opened_at=purchase.created_at,
        paid_at=purchase.paid_at,
        closed_at=purchase.closed_at,
        declined_because=purchase.declined_because,
        duplicate_of=earlier.ref if earlier is not None else None,
        partial_verdict=purchase.partial_verdict,
        subscription_id=purchase.subscription_id,
        session_id=purchase.session_id,
        intent_id=purchase.intent_id,
        invoice_id=purchase.invoice_id,
        at_stripe=stripe_pages.page_of(purchase),
        agreed_at=consent.created_at if consent is not None else None,
        refunds=tuple(refund_line(row, purchase, email) for row in queries.refunds_of(purchase.id)),
        disputes=tuple(dispute_line(row, purchase, email) for row in queries.disputes_of(purchase.id)),
    )


def _amount_of(sheet: PurchaseSheet) -> str:
    back = f", {as_money(sheet.refunded_cents, sheet.currency)} given back" if sheet.refunded_cents else ""
    off = f", {as_money(sheet.discount_cents, sheet.currency)} off" if sheet.discount_cents else ""
    return as_money(sheet.amount_cents, sheet.currency) + off + back


commands: list[click.Command] = [purchases, refunds]
