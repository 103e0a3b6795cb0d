"""What the simulated Stripe's own books say: a reckoning that shares no code with the store, and holds it to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sts_app.billing.gateway import PaymentFacts, SubscriptionFacts
from sts_app.billing.simulated_stories import NEXT_DISPUTE, NEXT_REFUND
from tests.faults.machine import house
from tests.faults.machine.history import Bought, Machine
from tests.faults.machine.model import Reason

# A refund that has arrived comes back so seldom that it is one way among several.
ON_ITS_WAY = ("pending", "requires_action", "succeeded")


@dataclass(frozen=True)
class Paid:
    """One payment: who paid it, for which plan, on which page or for which invoice."""

    person: int
    slug: str
    ref: str
    intent: str
    began: Bought
    paid_at: datetime | None = None


def payments(m: Machine) -> list[Paid]:
    """Every payment that brought money, renewals included, oldest first."""
    found = []
    for bought in m.bought:
        first = _of_page(m, bought)
        found += [first] if first is not None else []
        told = subscription(m, bought) if bought.slug == house.MONTHLY else None
        for invoice in told.invoices if told is not None else ():
            if invoice.status == "paid" and not invoice.is_first:
                intent = str(invoice.intent_id)
                found.append(Paid(bought.person, bought.slug, invoice.id, intent, bought, invoice.paid_at))
    return found


def payment(m: Machine, number: int) -> Paid | None:
    """One of the latest payments; None when there is none."""
    paid = payments(m)
    return paid[-1 - number % len(paid)] if paid else None


def facts(m: Machine, paid: Paid) -> PaymentFacts:
    with m.stage.app.app_context():
        return house.look(paid.ref)


def subscription(m: Machine, bought: Bought) -> SubscriptionFacts | None:
    with m.stage.app.app_context():
        return house.subscription(bought.session_id)


def running(m: Machine) -> list[tuple[Bought, SubscriptionFacts]]:
    """Subscriptions that have not ended."""
    told = [(bought, subscription(m, bought)) for bought in m.bought if bought.slug == house.MONTHLY]
    return [(bought, known) for bought, known in told if known is not None and known.ended_at is None]


def refunds_that_move(m: Machine) -> list[tuple[Paid, str, tuple[Any, ...]]]:
    """Each refund that may still go on, with the ways that are open to it; those on their way first."""
    found = [
        (paid, refund.id, NEXT_REFUND[refund.status], refund.status)
        for paid in payments(m)
        for refund in facts(m, paid).refunds
        if NEXT_REFUND[refund.status]
    ]
    return [each[:3] for each in sorted(found, key=lambda each: ON_ITS_WAY.index(each[3]))]


def disputes_that_move(m: Machine) -> list[tuple[Paid, str, tuple[Any, ...]]]:
    """Each dispute that may still go on, with the ways that are open to it."""
    return [
        (paid, dispute.id, NEXT_DISPUTE[dispute.status])
        for paid in payments(m)
        for dispute in facts(m, paid).disputes
        if NEXT_DISPUTE[dispute.status]
    ]


def settled(m: Machine) -> None:
    """Hold the store to what Stripe's books say in the end, and put what it means for access into the model."""
    owners: set[int] = set()
    for paid in payments(m):
        access = _check_payment(m, paid)
        if paid.slug == house.LIFETIME and access == "stands":
            owners.add(paid.person)
    for bought in m.bought:
        if bought.slug == house.MONTHLY:
            _check_subscription(m, bought)
    live = [bought.person for bought, _ in running(m)]
    for person in set(live):
        if live.count(person) > 1:
            m.fail(f"P{person} is charged for {live.count(person)} subscriptions to the same")
    if owners & set(live):
        m.fail(f"P{min(owners & set(live))} owns everything and is charged every month")
    ours, theirs = house.our_books(m), house.their_books(m)
    if ours != theirs:
        m.fail(f"our books say {ours}, and Stripe's {theirs}")


def _of_page(m: Machine, bought: Bought) -> Paid | None:
    with m.stage.app.app_context():
        told = house.look(bought.session_id)
    if told.payment != "paid" or told.intent_id is None:
        return None
    return Paid(bought.person, bought.slug, bought.session_id, told.intent_id, bought)


def _check_payment(m: Machine, paid: Paid) -> str:
    """Hold the purchase of a payment to its facts. Returns what its money says of access."""
    told = facts(m, paid)
    back, access = _money(told)
    column = "session_id" if paid.ref == paid.began.session_id else "invoice_id"
    rows = m.lockstep.ask(f"SELECT id, status, refunded_cents, access FROM purchase WHERE {column} = '{paid.ref}'")
    if len(rows) != 1:
        m.fail(f"{paid.ref} was paid and has {len(rows)} purchases")
    purchase_id, status, refunded, ours = rows[0]
    wanted = "REFUNDED" if told.amount_total <= back else "PARTIALLY_REFUNDED" if back else "COMPLETED"
    if (status, refunded, ours) != (wanted, back, access):
        m.fail(
            f"purchase:{purchase_id} is {status} with {refunded} back, access {ours};"
            f" by Stripe's books {wanted} with {back} back, access {access}"
        )
    if paid.slug == house.LIFETIME:
        source = f"purchase:{purchase_id}"
        _into_model(m, paid.person, source, source, access, None)
    return access


def _check_subscription(m: Machine, bought: Bought) -> None:
    told = subscription(m, bought)
    if told is None:
        return
    source = f"subscription:{bought.session_id}"
    rows = m.lockstep.ask(f"SELECT id, status FROM subscription WHERE external_id = '{told.id}'")
    if len(rows) != 1 or rows[0][1] != told.status:
        m.fail(f"{told.id} is {told.status} and stands here as {rows}")
    own = [paid for paid in payments(m) if paid.began == bought]
    # The page's payment came before every renewal.
    latest = max(own[1:], key=lambda paid: str(paid.paid_at), default=own[0] if own else None)
    money = _money(facts(m, latest))[1] if latest is not None else "none"
    if told.status == "canceled":
        access = "ended"
    elif money == "ended":
        access = "ended"
        m.fail(f"{told.id} is charged on, and the money of its latest payment went back")
    elif money == "suspended" or told.status in ("past_due", "unpaid"):
        access = "suspended"
    else:
        access = "stands"
    _into_model(m, bought.person, source, f"subscription:{rows[0][0]}", access, told.ends_at)


def _into_model(m: Machine, person: int, key: str, source: str, access: str, ends_at: datetime | None) -> None:
    who = m.model.people[person]
    reason = who.reasons.setdefault(key, Reason(key, m.clock.at))
    over = access == "ended"
    reason.ends_at = (reason.ends_at or m.clock.at) if over else ends_at
    reason.suspended = access == "suspended"
    entitled = m.lockstep.ask(f"SELECT count(*) FROM entitlement WHERE source = '{source}'")[0][0]
    if entitled > 1 or (entitled == 0 and access == "stands"):
        m.fail(f"{source} entitles {entitled} times")


def _money(told: PaymentFacts) -> tuple[int, str]:
    """Cents that are back or on their way, and what the money says of access."""
    back = sum(each.amount for each in told.refunds if each.status in ("pending", "requires_action", "succeeded"))
    lost = sum(each.amount for each in told.disputes if each.status == "lost")
    if told.amount_total <= back + lost:
        return back, "ended"
    disputed = any(each.status in ("needs_response", "under_review") for each in told.disputes)
    return back, "suspended" if disputed else "stands"
