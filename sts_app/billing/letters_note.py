"""The plain letter of billing: a heading, some paragraphs, facts in a row, and one button."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from flask import current_app

from sts_app.accounts.models import User
from sts_app.billing import queries
from sts_app.billing.models import Purchase
from sts_app.core.money import as_money
from sts_app.core.web import address_of
from sts_app.emails import services as emails

Facts = Sequence[tuple[str, str]]

TEMPLATE = "billing/letters/note"


def facts_of(purchase: Purchase, *, by: User | None = None) -> list[tuple[str, str]]:
    """What every letter about a purchase names it by; to staff also `by` whom it was made."""
    return [
        *([("Customer", by.email)] if by is not None else []),
        ("Bought", queries.plan_of(purchase).name),
        ("Amount", as_money(purchase.amount_cents, purchase.currency)),
        ("Reference", purchase.ref),
    ]


def to_customer(
    user: User,
    *,
    key: str,
    kind: str,
    heading: str,
    paragraphs: Sequence[str],
    facts: Facts,
    subject: str = "",
    label: str = "Open your dashboard",
    link: str = "",
) -> None:
    """Write to a customer. `key` names the deed: the same deed writes once. The button leads to the dashboard.

    Without a `subject` the heading is it.
    """
    emails.post(
        key=key,
        kind=kind,
        to=user.email,
        user_id=user.id,
        subject=subject or heading,
        template=TEMPLATE,
        context={
            "heading": heading,
            "paragraphs": paragraphs,
            "facts": facts,
            "label": label,
            "link": link or address_of("pages.dashboard"),
            "to_staff": False,
        },
    )


def to_staff(
    *,
    key: str,
    kind: str,
    heading: str,
    paragraphs: Sequence[str],
    facts: Facts,
    subject: str = "",
    about: Collection[int] = (),
) -> None:
    """Write to each admin. `key` names the deed: the same deed writes once. Without a `subject` the heading is it.

    `about` are those whom it calls by a name and not by their address alone.
    """
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"{key}:{number}",
            kind=kind,
            to=address,
            about=about,
            subject=subject or heading,
            template=TEMPLATE,
            context={
                "heading": heading,
                "paragraphs": paragraphs,
                "facts": facts,
                "label": "Open the overview",
                "link": address_of("admin.overview"),
                "to_staff": True,
            },
        )
