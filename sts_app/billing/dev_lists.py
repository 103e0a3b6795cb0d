"""The lists of the simulated Stripe's desk: searched by one word, some at a time, the newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sts_app.billing.simulated import (
    Event,
    SimulatedCheckout,
    SimulatedPayment,
    SimulatedPayments,
    SimulatedSubscription,
)
from sts_app.core.store import Record

T = TypeVar("T")

AT_ONCE = 10
EVENTS_AT_ONCE = 25


@dataclass(frozen=True)
class Part(Generic[T]):
    """Some of a list. `older` is the key to go on from when there are more, `is_first` says that none is newer."""

    rows: Sequence[T]
    older: str | None
    is_first: bool


@dataclass(frozen=True)
class Lists:
    """What the desk shows of each list, and by payment intent the payments that belong to it."""

    checkouts: Part[SimulatedCheckout]
    subscriptions: Part[SimulatedSubscription]
    customers: Part[Record]
    events: Part[Event]
    payments: dict[str, SimulatedPayment]


def lists(stripe: SimulatedPayments, *, search: str, after: Callable[[str], str]) -> Lists:
    """The lists as far as they hold `search`. `after` tells of each by its name behind which row it goes on."""
    ids = _part(stripe.checkout_ids(search), str, after("checkouts"))
    checkouts = Part([stripe.checkout(session_id) for session_id in ids.rows], ids.older, ids.is_first)
    subscriptions = _part(
        _holding(
            search,
            stripe.subscriptions(),
            lambda one: (one.facts.id, one.customer_email, one.product_name, one.facts.purchase_ref),
        ),
        lambda one: one.facts.id,
        after("subscriptions"),
    )
    intents = [one.facts.intent_id for one in checkouts.rows]
    intents += [invoice.intent_id for one in subscriptions.rows for invoice in one.facts.invoices]
    tried = [stripe.payment(intent_id) for intent_id in dict.fromkeys(intents) if intent_id is not None]
    return Lists(
        checkouts=checkouts,
        subscriptions=subscriptions,
        customers=_part(
            _holding(
                search, reversed(stripe.customers()), lambda one: (one["id"], one["name"], one["ref"], *one["emails"])
            ),
            lambda one: str(one["id"]),
            after("customers"),
        ),
        events=_part(
            _holding(search, reversed(stripe.events()), lambda one: (one.id, one.type, one.about)),
            lambda one: one.id,
            after("events"),
            size=EVENTS_AT_ONCE,
        ),
        payments={shown.payment.intent: shown for shown in tried if shown.payment.is_paid},
    )


def _holding(search: str, rows: Iterable[T], words: Callable[[T], Iterable[Any]]) -> list[T]:
    return [row for row in rows if any(search.lower() in str(word).lower() for word in words(row))]


def _part(rows: Sequence[T], key: Callable[[T], str], after: str, *, size: int = AT_ONCE) -> Part[T]:
    """Those behind the row whose key is `after`; the first ones when there is no such row."""
    keys = [key(row) for row in rows]
    first = keys.index(after) + 1 if after in keys else 0
    shown = rows[first : first + size]
    return Part(shown, key(shown[-1]) if len(rows) > first + size else None, first == 0)
