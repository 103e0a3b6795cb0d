"""The signed link that opens one ticket to a person without an account."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from sts_app.core import tokens
from sts_app.core.db import db
from sts_app.core.errors import Refusal
from sts_app.support.models import SupportTicket

PURPOSE = "ticket-link"
AGE = timedelta(days=90)


class LinkOver(Refusal):
    """One sentence for old, changed and unknown links."""

    status = 404
    code = "LINK_EXPIRED"
    title = "This link does not work any more"
    sentence = (
        f"A link in our letters opens its ticket for {AGE.days} days. Please write to us again through the contact "
        "page, and name the ticket's reference: it stands in each letter about it."
    )


def link_to(ticket: SupportTicket) -> str:
    """A signed text that opens this one ticket to whoever holds it, for 90 days. It signs nobody in."""
    return tokens.sign(PURPOSE, ticket.ref)


def ticket_behind(link: str) -> SupportTicket:
    """The ticket that a link of ours opens. Raises `LinkOver`, also once the person is forgotten."""
    try:
        ref = tokens.read(PURPOSE, link, max_age=int(AGE.total_seconds()))
    except (tokens.TokenExpired, tokens.TokenInvalid):
        raise LinkOver from None
    ticket = db.session.scalar(sa.select(SupportTicket).where(SupportTicket.ref == str(ref)))
    if ticket is None or ticket.email is None or ticket.suspected:
        raise LinkOver
    return ticket
