"""What changed for a customer since they were last here, told from facts on record and from nothing kept for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from flask import url_for

from sts_app.accounts.models import User
from sts_app.billing import queries as billing
from sts_app.billing.models import Purchase
from sts_app.catalog.models import Plan
from sts_app.core.money import as_moment, as_money
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning.rules import Trigger
from sts_app.support import queries as support

MOST = 8
TICKETS = 20


@dataclass(frozen=True)
class News:
    """One thing that changed: when, what in a sentence, and where it stands in full."""

    at: datetime
    words: str
    href: str = "#access-title"


def news_since(user: User, since: datetime, now: datetime, bought: Sequence[tuple[Purchase, Plan]]) -> list[News]:
    """What changed after `since` and up to `now`, newest first, at most eight. `bought` is all this person bought."""
    told = [
        *_of_access(user.id, since),
        *_of_reasons(user.id, since, now),
        *_of_money(user.id, since, bought),
        *_of_tickets(user, since),
    ]
    return sorted((each for each in told if each.at <= now), key=lambda each: each.at, reverse=True)[:MOST]


def _of_access(user_id: int, since: datetime) -> Iterator[News]:
    """What TradingView showed at the end of a cycle: given, moved to another name, removed."""
    ends: dict[tuple[bool, Trigger, str], dict[str, datetime]] = {}
    for job, grant, strategy in provisioning.cycles_ended_of(user_id, since):
        key = (job.wanted, Trigger(job.trigger), grant.name_spelling)
        assert job.closed_at is not None
        ends.setdefault(key, {})[strategy.name] = job.closed_at
    for (wanted, trigger, name), strategies in ends.items():
        words = _showed(listed(strategies), len(strategies) > 1, wanted, trigger, name)
        if words:
            yield News(max(strategies.values()), words)


def _showed(strategies: str, are_many: bool, wanted: bool, trigger: Trigger, name: str) -> str:
    """A sentence about how cycles of one kind ended; nothing for what changed nothing for the customer."""
    were = "were" if are_many else "was"
    if wanted:
        match trigger:
            case Trigger.RENAMED:
                return f"{strategies} moved to your name {name}."
            case Trigger.DRIFT:
                return f"{strategies} {were} missing at TradingView for a while, and {were} given to you again."
            case Trigger.RESUMED:
                return f"{strategies} came back: your access is not paused any more."
            case Trigger.MOVED:
                return f"{strategies} got a new script at TradingView, and you have it."
            case Trigger.SPREAD:
                return f"{strategies} {'are' if are_many else 'is'} new in the store, and yours."
            case _:
                return f"{strategies} became active."
    match trigger:
        case Trigger.RENAMED:
            return f"{strategies} {were} removed from your earlier name {name}."
        case Trigger.MOVED | Trigger.DRIFT:
            return ""
        case Trigger.SUSPENDED:
            return f"{strategies} {were} removed at TradingView for as long as your access is paused."
        case _:
            return f"{strategies} {were} removed at TradingView, because your access ended."


def _of_reasons(user_id: int, since: datetime, now: datetime) -> Iterator[News]:
    for each in provisioning.entitlements_of(user_id):
        if each.source.startswith("gift:") and each.created_at > since:
            yield News(each.created_at, "Access was given to you as a gift.")
        if each.suspended_at is not None and each.suspended_at > since:
            yield News(each.suspended_at, "Your access was paused. Why stands beside each strategy.")
        if each.ends_at is not None and since < each.ends_at <= now:
            yield News(each.ends_at, "A reason for your access ended. What that means stands beside each strategy.")


def _of_money(user_id: int, since: datetime, bought: Iterable[tuple[Purchase, Plan]]) -> Iterator[News]:
    money = "#purchases-title"
    for purchase, plan in bought:
        amount = as_money(purchase.amount_cents, purchase.currency)
        if purchase.paid_at is not None and purchase.paid_at > since:
            yield News(purchase.paid_at, f"Your payment of {amount} for {plan.name} arrived.", money)
        elif purchase.closed_at is not None and purchase.closed_at > since and purchase.paid_at is None:
            words = f"Your purchase of {plan.name} was not paid, so nothing was charged."
            yield News(purchase.closed_at, words, money)
    for refund in billing.refunds_of_person(user_id):
        if refund.created_at > since:
            amount = as_money(refund.amount_cents, refund.currency)
            yield News(
                refund.created_at, f"A refund of {amount} was begun. How far it is stands beside the purchase.", money
            )
    for dispute in billing.disputes_of_person(user_id):
        if dispute.created_at > since:
            yield News(dispute.created_at, "Your bank asked us about a payment, or disputes it.", money)
    for withdrawal in billing.withdrawals_of_person(user_id):
        if withdrawal.decided_at is not None and withdrawal.decided_at > since:
            words = f"Your withdrawal of {as_moment(withdrawal.created_at)} was decided on."
            yield News(withdrawal.decided_at, words, money)
    subscriptions = "#subscriptions-title"
    for each in billing.subscriptions_of(user_id):
        if each.past_due_since is not None and each.past_due_since > since:
            yield News(each.past_due_since, "A renewal of your subscription was not paid.", subscriptions)
        if each.ended_at is not None and each.ended_at > since:
            yield News(each.ended_at, "Your subscription ended.", subscriptions)


def _of_tickets(user: User, since: datetime) -> Iterator[News]:
    for ticket in support.tickets_of(user, limit=TICKETS):
        if ticket.answered_at is not None and ticket.answered_at > since:
            words = f"We answered your ticket “{ticket.subject}”."
            yield News(ticket.answered_at, words, url_for("support.ticket", ref=ticket.ref))


def listed(names: Iterable[str]) -> str:
    """One or two names as they are, more of them as their number: `6 strategies`."""
    given = list(names)
    return " and ".join(given) if len(given) < 3 else f"{len(given)} strategies"
