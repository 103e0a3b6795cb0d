"""The evidence of a dispute as a PDF that a bank's clerk can read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from babel.dates import format_datetime
from babel.numbers import format_currency

if TYPE_CHECKING:
    from sts_app.billing.paper import Paper


def as_pdf(pack: dict[str, Any]) -> bytes:
    """A gathered pack as a PDF of A4 pages, in the words of people. The same pack is the same file to the byte.

    An upload is repeated under one key, so the order in which a pack is kept must not matter either.
    """
    from sts_app.billing.paper import Paper

    merchant, dispute, receipt, customer = pack["merchant"], pack["dispute"], pack["receipt"], pack["customer"]
    currency = receipt["currency"]
    paper = Paper(
        f"{merchant['name']}: answer to the dispute {dispute['id']}",
        made_at=datetime.fromisoformat(pack["gathered_at"]),
    )
    paper.say(merchant["name"], size=11, bold=True)
    paper.say(f"Answer to the dispute {dispute['id']}", size=16, bold=True, after=3)
    paper.facts(
        [
            ("Merchant", f"{merchant['name']}, {merchant['website']}"),
            ("Reason given", _words(dispute["reason"])),
            ("Disputed amount", _amount(dispute["amount_cents"], dispute["currency"])),
            ("Payment", receipt["payment_intent"]),
            ("Dispute opened", _moment(dispute["opened_at"])),
            ("Answer due by", _moment(dispute["due_by"])),
            ("Records as of", _moment(pack["gathered_at"])),
        ]
    )
    paper.part("What was bought, and paid")
    paper.facts(
        [
            ("Bought", receipt["bought"]),
            ("Our reference", receipt["reference"]),
            ("Paid", _amount(receipt["amount_cents"], currency)),
            ("Discount", _amount(receipt["discount_cents"], currency) if receipt["discount_cents"] else ""),
            ("Ordered on", _moment(receipt["ordered_at"])),
            ("Paid on", _moment(receipt["paid_at"])),
            ("Checkout", receipt["checkout_session"]),
        ]
    )
    paper.facts(("Refund", _refund(refund, currency)) for refund in receipt["refunds"])
    paper.part("The customer")
    paper.facts(
        [
            ("Name", customer["name"]),
            ("E-mail", customer["email"]),
            ("Account since", _moment(customer["account_since"])),
        ]
    )
    _list(paper, "What the customer agreed to", pack["consents"])
    for consent in pack["consents"]:
        paper.say(f"On {_moment(consent['given_at'])} from {consent['ip_address']}", bold=True)
        paper.say(f"With the browser {consent['browser']}")
        paper.say(f"Terms, disclaimer, privacy and refunds in the wording of version {consent['texts_version']}.")
        for sentence in consent["words"]:
            paper.say(f"\N{EN DASH} {sentence}")
    _list(paper, "Access, as read back at TradingView", pack["access"])
    for line in pack["access"]:
        paper.say(
            f"{_moment(line['at'])}: {line['what']}, {line['strategy']}, to {line['name']} ({line['proof']})", size=8.5
        )
    _list(paper, "Sign-ins of the customer", pack["sign_ins"])
    for moment in pack["sign_ins"]:
        paper.say(_moment(moment))
    _list(paper, "Letters sent to the customer", pack["letters"])
    for letter in pack["letters"]:
        paper.say(f"{_moment(letter['sent_at'])}: {letter['subject']}", bold=True)
        paper.say(letter["text"], size=8, after=3)
    return bytes(paper.output())


def _list(paper: Paper, title: str, things: Sequence[object]) -> None:
    """The heading of a part, which says so when there is nothing in it."""
    paper.part(title)
    if not things:
        paper.say("None.")


def _refund(refund: dict[str, Any], currency: str) -> str:
    parts = (_amount(refund["amount_cents"], currency), refund["state"].replace("_", " "), refund["id"])
    return ", ".join(filter(None, parts))


def _amount(cents: int, currency: str) -> str:
    """`USD 99.00`: a bank anywhere knows which dollars these are."""
    return str(format_currency(cents / 100, currency.upper(), "\xa4\xa4\xa0#,##0.00", locale="en_US"))


def _moment(written: str | None) -> str:
    """`21 November 2026, 20:09 UTC` of a moment in ISO 8601; nothing of none."""
    if written is None:
        return ""
    return str(format_datetime(datetime.fromisoformat(written), "d MMMM y, HH:mm", locale="en_US")) + " UTC"


def _words(code: str) -> str:
    """`Product not received` of `product_not_received`."""
    return code.replace("_", " ").capitalize()
