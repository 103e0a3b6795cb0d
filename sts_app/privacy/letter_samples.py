"""A sample of each letter that privacy writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sts_app.accounts.letter_samples import changed, customer
from sts_app.emails.samples import Sample, given
from sts_app.privacy import letters
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import ErasureState, Wait

AT = datetime(2026, 11, 21, 15, 4, tzinfo=UTC)
REPORT = {
    "access_removed": 6,
    "access_confirmed_by_staff": 0,
    "names_replaced": 1,
    "tickets_erased": 2,
    "letters_blanked": 9,
    "payments_kept": 1,
}


def _erasure(**changes: Any) -> Erasure:
    known: dict[str, Any] = {
        "id": 3,
        "ref": "era_of_a_sample",
        "created_at": AT,
        "begins_at": AT + timedelta(hours=24),
        "state": ErasureState.REQUESTED,
        "waits": [],
        "report": {},
    }
    return Erasure(**known | changes)


def _begun(**changes: Any) -> Erasure:
    return _erasure(state=ErasureState.REVOKING, begun_at=AT + timedelta(hours=24), **changes)


def _over() -> Erasure:
    gone = AT + timedelta(hours=24, minutes=3)
    return _begun(access_gone_at=gone, customer_gone_at=gone, replaced_at=gone, report=REPORT)


SAMPLES = (
    Sample(
        "erasure-requested", "A customer asks to be erased", letters.requested, lambda: given(customer(), _erasure())
    ),
    Sample(
        "erasure-requested-elsewhere",
        "The same, to the address that the account had until lately",
        letters.requested_elsewhere,
        lambda: given(changed(), _erasure()),
    ),
    Sample("erasure-cancelled", "The customer stays", letters.cancelled, lambda: given(customer(), _erasure())),
    Sample("erasure-done", "The customer is erased", letters.done, lambda: given(customer(), _over())),
    Sample(
        "erasure-overdue",
        "An erasure takes too long",
        letters.overdue,
        lambda: given(_begun(waits=[Wait.ACCESS, Wait.WITHDRAWAL]), on=AT + timedelta(days=4)),
    ),
)
