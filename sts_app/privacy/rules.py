"""What an erasure is at, and when it takes too long: pure, without a clock, a table or a setting."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum


class ErasureState(StrEnum):
    """How far somebody's wish to be erased is (PRODUCT 3)."""

    REQUESTED = "requested"  # may be taken back until it begins
    REVOKING = "revoking"  # sign-in and buying are closed, access is being removed
    DONE = "done"
    CANCELLED = "cancelled"


OPEN = (ErasureState.REQUESTED, ErasureState.REVOKING)


class Wait(StrEnum):
    """What an erasure waits for before anything can be replaced."""

    CHECKOUT = "checkout"
    SUBSCRIPTION = "subscription"
    ACCESS = "access"
    REFUND = "refund"
    WITHDRAWAL = "withdrawal"
    DISPUTE = "dispute"
    CUSTOMER = "customer"
    LETTERS = "letters"


# A day to change one's mind, or to notice that somebody else asked: access that was paid for cannot be given back.
GRACE = timedelta(hours=24)
# The machine takes minutes, people at TradingView a working day or two.
LATE_AFTER = timedelta(days=3)
# GDPR, article 12 (3): within one month, or the person hears why not.
LAW_NEAR_AFTER = timedelta(days=25)


def is_overdue(begun_at: datetime | None, waits: Collection[str], now: datetime) -> bool:
    """Whether staff must look at an erasure that began at `begun_at`, None for one that has not.

    One that waits for a bank's decision alone is nobody's fault, until the time that the law gives runs out.
    """
    if begun_at is None:
        return False
    if set(waits) == {Wait.DISPUTE}:
        return now - begun_at >= LAW_NEAR_AFTER
    return now - begun_at >= LATE_AFTER
