"""The evidence of a dispute as a PDF that a bank's clerk can read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sts_app.core.money import as_money


def as_pdf(pack: dict[str, Any]) -> bytes:
    """A gathered pack as a PDF of A4 pages. Letters beyond Latin-1 are shown as `?`; the JSON has them all."""
    # Some 20 MB of libraries that nobody else needs.
    from fpdf import FPDF
    from fpdf.enums import XPos, YPos

    pdf = FPDF(format="A4")
    pdf.set_auto_page_break(True, margin=18)
    # The same pack is the same file to the byte: an upload is repeated under one key.
    pdf.set_creation_date(datetime.fromisoformat(pack["gathered_at"]))
    pdf.set_title(f"Evidence for {pack['dispute']['id']}")
    pdf.add_page()

    def say(text: object, *, size: int = 10, bold: bool = False, after: float = 1) -> None:
        shown = str(text).encode("latin-1", "replace").decode("latin-1")
        pdf.set_font("Helvetica", "B" if bold else "", size)
        pdf.multi_cell(0, size * 0.5, shown, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        pdf.ln(after)

    def part(title: str) -> None:
        pdf.ln(3)
        say(title, size=13, bold=True, after=2)

    def table(pairs: dict[str, object]) -> None:
        for name, value in pairs.items():
            say(f"{name.replace('_', ' ').capitalize()}: {value if value not in (None, '') else 'none'}")

    dispute, receipt, customer = pack["dispute"], pack["receipt"], pack["customer"]
    say(f"Evidence for the dispute {dispute['id']}", size=17, bold=True, after=3)
    say(f"Gathered on {pack['gathered_at']}. Times are UTC.")
    part("The dispute")
    table(_money(dispute))
    part("What was bought, and paid")
    table({name: value for name, value in _money(receipt).items() if name != "refunds"})
    for refund in receipt["refunds"]:
        say(f"Refund {refund['id']}: {as_money(refund['amount_cents'], receipt['currency'])}, {refund['state']}")
    part("The customer")
    table(customer)
    part("What the customer agreed to")
    for consent in pack["consents"]:
        say(f"On {consent['given_at']} from {consent['ip_address']} with {consent['browser']}:", bold=True)
        say(f"Terms, disclaimer, privacy and refunds in the wording of {consent['texts_version']}.")
        for sentence in consent["words"]:
            say(f"- {sentence}")
    part("Access, as read back at TradingView")
    for line in pack["access"]:
        say(f"{line['at']}: {line['what']}, {line['strategy']}, to {line['name']} ({line['proof']})")
    part("Sign-ins")
    say(", ".join(str(moment) for moment in pack["sign_ins"]) or "none")
    part("Letters sent to the customer")
    for letter in pack["letters"]:
        say(f"{letter['sent_at']}: {letter['subject']}", bold=True)
        say(letter["text"], size=8, after=3)
    return bytes(pdf.output())


def _money(record: dict[str, Any]) -> dict[str, object]:
    """The same with amounts as people read them."""
    currency = record["currency"]
    return {
        name.removesuffix("_cents"): as_money(value, currency) if name.endswith("_cents") else value
        for name, value in record.items()
    }
