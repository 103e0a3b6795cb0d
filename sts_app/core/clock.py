"""The one source of time. SQL's `now()` is frozen inside a transaction, so nothing here uses it."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)
