"""Money and time as people read them."""

from __future__ import annotations

from datetime import datetime

from babel.dates import format_datetime
from babel.numbers import format_currency


def as_money(cents: int, currency: str = "usd") -> str:
    """`9900` becomes `$99.00`."""
    return str(format_currency(cents / 100, currency.upper(), locale="en_US"))


def as_moment(moment: datetime) -> str:
    """`21 Nov 2026, 07:38 UTC`: staff and customers are spread over the world."""
    return str(format_datetime(moment, "d MMM y, HH:mm", locale="en_US")) + " UTC"
