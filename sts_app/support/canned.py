"""Answers that staff give often, as data. `{ref}` and `{dashboard}` are filled in; the rest is for staff to edit."""

from __future__ import annotations

from dataclasses import dataclass

from sts_app.core.web import address_of
from sts_app.support.models import SupportTicket
from sts_app.support.rules import Category


@dataclass(frozen=True)
class CannedReply:
    """One such answer. `categories` says where it is offered first."""

    slug: str
    title: str
    categories: tuple[Category, ...]
    text: str

    def for_ticket(self, ticket: SupportTicket) -> str:
        """The text with what is known of this ticket filled in."""
        return (
            self.text.replace("{ref}", ticket.ref)
            .replace("{dashboard}", address_of("pages.dashboard"))
            .replace("{refunds}", address_of("pages.refunds"))
        )


CANNED = (
    CannedReply(
        "name-unknown",
        "TradingView does not know the name",
        (Category.ACCESS,),
        "TradingView tells us that it does not know the name in your account. Your purchase is safe.\n\n"
        "Please open {dashboard}, follow “Correct the name”, and enter the name as your TradingView profile shows it. "
        "Access then follows by itself, and a letter tells you when it is active.",
    ),
    CannedReply(
        "where-scripts-are",
        "Where the scripts are found",
        (Category.ACCESS, Category.TECHNICAL),
        "We have looked at TradingView, and your access stands there.\n\n"
        "On TradingView, open a chart, choose Indicators, then Invite-only scripts: each strategy you hold is listed "
        "by its name. Please check that you are signed in there with the name that your dashboard shows: "
        "{dashboard}\n\n"
        "If the list is empty with that name, send us a picture of it.",
    ),
    CannedReply(
        "access-takes-longer",
        "Access takes longer than usual",
        (Category.ACCESS,),
        "TradingView does not answer us at the moment, so your access waits. It is tried again by itself, and a person "
        "gives it by hand if that does not help. You need do nothing: your dashboard shows each try, and a letter "
        "comes when it is active.",
    ),
    CannedReply(
        "receipt-and-invoice",
        "Where receipt and invoice are",
        (Category.BILLING,),
        "Receipt and invoice stand beside the purchase on your dashboard: {dashboard}\n\n"
        "If a name or an address is missing on the invoice, tell us what it should say.",
    ),
    CannedReply(
        "refund-rules",
        "What the refund policy says",
        (Category.BILLING,),
        "All sales are final, because access cannot be handed back once it was used. Any right of withdrawal that the "
        "law of your country gives you stays untouched: “Withdraw from contract here” stands beside the purchase on "
        "the page of refunds, {refunds}. If you were charged twice, or if we cannot give you access, you get your "
        "money back.",
    ),
    CannedReply(
        "no-advice",
        "We give no advice on trades",
        (Category.TECHNICAL, Category.OTHER),
        "We can tell you how a strategy works and how to set it up. We cannot tell you whether, when or how much to "
        "trade: this is software for research and education, and no investment advice. Every decision is your own.",
    ),
    CannedReply(
        "need-more",
        "We need to know more",
        (Category.ACCESS, Category.BILLING, Category.TECHNICAL, Category.OTHER),
        "To find out what happened we need a little more from you: what did you do, what did you expect, and what did "
        "you see instead? A picture of the screen helps. Please reply in ticket {ref}.",
    ),
)


def canned_for(category: Category) -> tuple[CannedReply, ...]:
    """All of them, those for this category first."""
    return tuple(sorted(CANNED, key=lambda each: category not in each.categories))
