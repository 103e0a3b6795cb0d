"""A sample of each letter about letters."""

from __future__ import annotations

from datetime import UTC, datetime

from sts_app.emails import letters
from sts_app.emails.gateway import Happened
from sts_app.emails.models import EmailMessage, LetterState
from sts_app.emails.samples import Given, Sample, given

AT = datetime(2026, 11, 21, 15, 4, tzinfo=UTC)


def _lost() -> Given:
    told = {"state": LetterState.SENT, "trouble_at": AT, "trouble_words": ""}
    bounced = EmailMessage(
        id=812,
        kind="purchase_confirmation",
        to_address="anna.sample@customers.example",
        trouble=Happened.BOUNCED,
        **told,
    )
    full = EmailMessage(
        id=809,
        kind="access_granted",
        to_address="bert.sample@customers.example",
        trouble=Happened.BOUNCED_SOFTLY,
        **told,
    )
    return given([bounced, full], count=7, on=AT)


SAMPLES = (
    Sample(
        "confirm-address",
        "A customer wants to show that letters arrive",
        letters.confirm_address,
        lambda: given("anna.sample@customers.example", user_id=1, on=AT),
    ),
    Sample("letters-lost", "Letters did not arrive, and nobody has looked", letters.letters_lost, _lost),
)
