"""The plain letter of billing: a heading, some paragraphs, facts in a row, and one button."""

from __future__ import annotations

from collections.abc import Sequence

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing.models import Purchase
from sts_app.core.money import as_money
from sts_app.core.web import address_of
from sts_app.emails import services as emails

Facts = Sequence[tuple[str, str]]


def facts_of(purchase: Purchase) -> list[tuple[str, str]]:
    """What every letter about a purchase names it by."""
    return [("Amount", as_money(purchase.amount_cents, purchase.currency)), ("Reference", purchase.ref)]


def to_customer(
    user: User,
    *,
    key: str,
    kind: str,
    subject: str,
    heading: str,
    paragraphs: Sequence[str],
    facts: Facts,
    label: str = "Open your dashboard",
    link: str = "",
) -> None:
    """Write to a customer. `key` names the deed: the same deed writes once. The button leads to the dashboard."""
    emails.post(
        key=key,
        kind=kind,
        to=user.email,
        user_id=user.id,
        subject=subject,
        template="billing/letters/note",
        context={
            "heading": heading,
            "paragraphs": paragraphs,
            "facts": facts,
            "label": label,
            "link": link or address_of("pages.dashboard"),
            "to_staff": False,
        },
    )


def to_staff(*, key: str, kind: str, subject: str, heading: str, paragraphs: Sequence[str], facts: Facts) -> None:
    """Write to each admin. `key` names the deed: the same deed writes once."""
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"{key}:{number}",
            kind=kind,
            to=address,
            subject=subject,
            template="billing/letters/note",
            context={
                "heading": heading,
                "paragraphs": paragraphs,
                "facts": facts,
                "label": "Open the overview",
                "link": address_of("admin.overview"),
                "to_staff": True,
            },
        )
