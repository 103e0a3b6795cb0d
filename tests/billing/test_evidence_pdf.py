"""The paper that a bank's clerk reads: every name and amount as it is, in words, the same each time."""

from __future__ import annotations

import io
from copy import deepcopy
from typing import Any

import pytest
import sqlalchemy as sa
from pypdf import PdfReader

from sts_app.billing import evidence
from sts_app.billing.evidence_pdf import as_pdf
from sts_app.billing.models import Dispute
from sts_app.core.db import db as database
from tests.builders import open_page, work

Pack = dict[str, Any]

PACK: Pack = {
    "gathered_at": "2026-11-22T08:00:00+00:00",
    "merchant": {"name": "STS Strategies", "website": "https://store.example"},
    "dispute": {
        "id": "dp_1",
        "reason": "product_not_received",
        "amount_cents": 9900,
        "currency": "usd",
        "opened_at": "2026-11-21T20:09:31+00:00",
        "due_by": None,
    },
    "receipt": {
        "reference": "pur_1",
        "bought": "Lifetime Access",
        "amount_cents": 9900,
        "discount_cents": 0,
        "currency": "usd",
        "ordered_at": "2026-11-20T20:00:00+00:00",
        "paid_at": "2026-11-20T20:01:00+00:00",
        "checkout_session": "cs_test_1",
        "payment_intent": "pi_1",
        "refunds": [{"id": None, "amount_cents": 1000, "state": "requires_action"}],
    },
    "customer": {"email": "alice@customers.example", "name": "Alice", "account_since": "2026-11-20T19:00:00+00:00"},
    "consents": [],
    "sign_ins": [],
    "letters": [],
    "access": [],
}


def read(pack: Pack) -> list[str]:
    """The text of each page, its lines put together again."""
    reader = PdfReader(io.BytesIO(as_pdf(pack)))
    return [" ".join(page.extract_text().split()) for page in reader.pages]


def with_letter(text: str, **customer: str) -> Pack:
    letter = {"kind": "note", "subject": "A letter", "sent_at": "2026-11-21T08:00:00+00:00", "text": text}
    return PACK | {"letters": [letter], "customer": PACK["customer"] | customer}


def test_it_tells_the_merchant_and_the_facts_in_words():
    [page] = read(PACK)

    for words in (
        "Merchant STS Strategies, https://store.example",
        "Reason given Product not received",
        "Disputed amount USD 99.00",
        "Payment pi_1",
        "Dispute opened 21 November 2026, 20:09 UTC",
        "Refund USD 10.00, requires action",
        "Sign-ins of the customer None.",
    ):
        assert words in page
    for code in ("product_not_received", "T20:09", "Discount", "Answer due by"):
        assert code not in page


def test_names_and_amounts_of_any_country_are_as_they_are():
    [page] = read(with_letter("Zażółć: €1,234.50 “Ö” Ελλάδα Україна", name="Łukasz Ö'Brien"))

    assert "Name Łukasz Ö'Brien" in page
    assert "Zażółć: €1,234.50 “Ö” Ελλάδα Україна" in page
    assert "?" not in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("東京", "[U+6771][U+4EAC]"),
        ("🚀", "[U+1F680]"),
        ("\u202eevil", "[U+202E]evil"),
        ("a\u200bb", "a[U+200B]b"),
        ("\x1f\x1f{nb}", "[U+001F][U+001F]{nb}"),
        ("\tone\r\ntwo", "one two"),
    ],
)
def test_what_cannot_be_shown_is_written_by_its_number(text, shown):
    [page] = read(with_letter(text))

    assert shown in page


def test_pages_are_numbered_and_named():
    pages = read(PACK | {"letters": with_letter("A line.\n" * 30)["letters"] * 5})

    assert len(pages) > 2
    for number, page in enumerate(pages, start=1):
        assert f"{number} of {len(pages)}" in page
        assert "to the dispute dp_1" in page


def test_the_same_pack_is_the_same_file_in_whatever_order_it_is_kept():
    turned = {name: PACK[name] for name in reversed(PACK)} | {"receipt": dict(reversed(PACK["receipt"].items()))}

    assert as_pdf(turned) == as_pdf(deepcopy(PACK))


@pytest.mark.usefixtures("clock")
def test_what_is_gathered_is_on_it(alice, plan, till):
    alice.name = "Łukasz"
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    till.open_dispute(purchase.session_id)
    work("billing")

    text = " ".join(read(evidence.gather(database.session.scalars(sa.select(Dispute.id)).one())))

    for words in (
        "Merchant STS Strategies",
        "Name Łukasz",
        "On 21 November 2026, 12:00 UTC from 203.0.113.7",
        "All sales are final.",
        "access given, NQ Power Hour, to Anna (read back at TradingView)",
    ):
        assert words in text
