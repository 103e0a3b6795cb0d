"""The letters about letters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flask import current_app

from sts_app.core.web import address_of
from sts_app.emails import services as emails
from sts_app.emails.models import EmailMessage, lost_key
from sts_app.emails.words import in_words

SHOWN = 20


def confirm_address(to: str, *, user_id: int, on: datetime) -> bool:
    """Ask somebody whose letters came back to show that this one arrived; False within a minute of the last."""
    key = f"confirm-address:{user_id}:{int(on.timestamp()) // 60}"
    return emails.post(
        key=key,
        kind="confirm_address",
        to=to,
        user_id=user_id,
        subject="Do our letters reach you?",
        template="emails/letters/confirm_address",
        context={"link": address_of("pages.letter_arrived", token=emails.confirmation_of(key)), "to": to},
        secret=True,
        need="asked",
    )


def letters_lost(lost: Sequence[EmailMessage], *, count: int, on: datetime) -> None:
    """Staff hear once a day that letters did not arrive and nobody has looked. `lost` are the latest of `count`."""
    lines = [
        {"number": each.id, "kind": each.kind, "to": each.to_address, "why": in_words(each)} for each in lost[:SHOWN]
    ]
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"{lost_key(on)}:{number}",
            kind="admin_letters_lost",
            to=address,
            subject="A letter did not arrive" if count == 1 else f"{count} letters did not arrive",
            template="emails/letters/letters_lost",
            context={"lost": lines, "count": count, "link": address_of("admin.overview")},
        )
