"""Money that goes to and fro: what buyers, banks, Stripe's dashboard and staff do with a payment.

What it means in the end is read from the simulated Stripe's own books (see `books.py`). In between either
may be seen, because nobody knows when the store hears of it.
"""

from __future__ import annotations

from typing import Any

from tests.faults.machine import books, house
from tests.faults.machine.history import PEOPLE, Bought, Machine
from tests.faults.machine.table import BOTH, act, desk, fault

PART = 1000
# Which payment, the latest first; and which of what waits.
LATEST = (0, 0, 1, 2, 4)
ANY = (0, 0, 1, 2)


@act("banks", 2, payment=LATEST, slowly=BOTH, part=BOTH)
def store_refund(m: Machine, payment: int, slowly: bool, part: bool) -> bool:
    """Staff give money back, all or a part."""
    paid = books.payment(m, payment)
    if paid is None:
        return False
    _doubt(m, paid.person)
    return desk(m, "refund", lambda: house.ask_refund(paid.ref, PART if part else None), slowly=slowly)


@act("money", 2, payment=LATEST, part=(False, False, True), slow=(False, False, True))
def dashboard_refund(m: Machine, payment: int, part: bool, slow: bool) -> bool:
    """Money goes back at Stripe's dashboard, at once or on a slow way."""
    paid = books.payment(m, payment)
    if paid is None:
        return False
    cents, status = PART if part else None, "pending" if slow else "succeeded"
    if not _at_stripe(m, paid.person, lambda till: till.give_back(paid.intent, cents, status=status)):
        return False
    for source, reason in m.model.people[paid.person].reasons.items():
        if paid.slug == house.LIFETIME and not part and source.startswith("purchase"):
            reason.ends_at = reason.ends_at or m.clock.at
    return True


@act("banks", 1)
def slow_refunds(m: Machine) -> bool:
    """The next refund of the store's own is on its way for a while."""
    with m.stage.app.app_context():
        return house.at_stripe(lambda till: till.next_refund("pending"))


@act("banks", 4, number=ANY, way=ANY)
def refund_moves(m: Machine, number: int, way: int) -> bool:
    """A refund that was on its way arrives, or waits for somebody, or comes back; one that arrived may still come back.

    `way` chooses among those that are open to it.
    """
    moves = books.refunds_that_move(m)
    if not moves:
        return False
    paid, refund_id, ways = moves[number % len(moves)]
    status = ways[way % len(ways)]
    done = _at_stripe(m, paid.person, lambda till: till.move_refund(refund_id, status))
    return done and fault(m, f"refund {status}")


@act("banks", 2.5, payment=LATEST, inquiry=(False, False, True))
def dispute(m: Machine, payment: int, inquiry: bool) -> bool:
    paid = books.payment(m, payment)
    if paid is None or books.facts(m, paid).disputes:
        return False
    status = "warning_needs_response" if inquiry else "needs_response"
    return _at_stripe(m, paid.person, lambda till: till.open_dispute(paid.intent, status)) and fault(m, "dispute")


@act("banks", 3, number=ANY, way=ANY)
def dispute_moves(m: Machine, number: int, way: int) -> bool:
    """The bank goes on with a dispute."""
    moves = books.disputes_that_move(m)
    if not moves:
        return False
    paid, dispute_id, ways = moves[number % len(moves)]
    status = ways[way % len(ways)]
    done = _at_stripe(m, paid.person, lambda till: till.move_dispute(dispute_id, status))
    return done and fault(m, f"dispute {status}")


@act("banks", 2, number=ANY, slowly=BOTH)
def answer_bank(m: Machine, number: int, slowly: bool) -> bool:
    """Staff hand in the evidence."""
    moves = books.disputes_that_move(m)
    if not moves:
        return False
    paid, dispute_id, _ = moves[number % len(moves)]
    _doubt(m, paid.person)
    return desk(m, "evidence", lambda: house.submit_evidence(dispute_id), slowly=slowly)


@act("banks", 3, person=tuple(range(PEOPLE)), monthly=(False, False, True))
def leave(m: Machine, person: int, monthly: bool) -> bool:
    """Somebody opens a payment page and lets it run out."""
    who = m.model.people[person]
    slug = house.MONTHLY if monthly else house.LIFETIME
    opened: list[tuple[int, str]] = []
    if not who.name:
        return False
    if not desk(m, "checkout", lambda: opened.append(house.open_page(who.user_id, slug)), slowly=False):
        return False
    if not opened or opened[0][1] in {each.session_id for each in m.bought}:
        return False
    m.left.append(Bought(person, opened[0][1], slug))
    return _at_stripe(m, person, lambda till: till.expire(opened[0][1])) and fault(m, "expired checkout")


@act("banks", 5, number=ANY)
def come_back(m: Machine, number: int) -> bool:
    """Somebody goes on with a page that had run out, and pays: perhaps for the second time."""
    if not m.left:
        return False
    left = m.left[number % len(m.left)]
    paid: list[str] = []

    def deed(till: Any) -> None:
        paid.append(till.recover(left.session_id))
        till.pay(paid[0])

    if not _at_stripe(m, left.person, deed):
        return False
    m.left.remove(left)
    m.bought.append(Bought(left.person, paid[0], left.slug))
    m.model.people[left.person].has_paid = True
    return fault(m, "recovered checkout")


# Month by month.


@act("months", 3, number=ANY, succeeds=(True, True, False))
def renew(m: Machine, number: int, succeeds: bool) -> bool:
    """Another month begins, and is charged."""
    begun = books.running(m)
    if not begun:
        return False
    bought, told = begun[number % len(begun)]
    return _month(m, bought, lambda till: till.renew(told.id, succeeds)) and (succeeds or fault(m, "failed renewal"))


@act("months", 3, number=ANY, succeeds=BOTH)
def try_again(m: Machine, number: int, succeeds: bool) -> bool:
    """The payment of a renewal that failed is tried once more."""
    late = [(bought, told) for bought, told in books.running(m) if told.status in ("past_due", "unpaid")]
    if not late:
        return False
    bought, told = late[number % len(late)]
    return _month(m, bought, lambda till: till.pay_invoice(told.invoices[-1].id, succeeds))


@act("months", 2, number=ANY)
def give_up(m: Machine, number: int) -> bool:
    """Stripe tries no more."""
    late = [(bought, told) for bought, told in books.running(m) if told.status == "past_due"]
    if not late:
        return False
    bought, told = late[number % len(late)]
    return _month(m, bought, lambda till: till.give_up(told.id)) and fault(m, "subscription unpaid")


@act("months", 1.5, number=ANY, how=("with the month", "with the month", "not after all", "now"))
def unsubscribe(m: Machine, number: int, how: str) -> bool:
    """A customer ends a subscription on Stripe's page."""
    begun = books.running(m)
    if not begun:
        return False
    bought, told = begun[number % len(begun)]
    if how == "now":
        return _month(m, bought, lambda till: till.end_now(told.id))
    return _month(m, bought, lambda till: till.cancel_at_period_end(told.id, how == "with the month"))


def _month(m: Machine, bought: Bought, deed: Any) -> bool:
    return _at_stripe(m, bought.person, deed)


def _at_stripe(m: Machine, person: int, deed: Any) -> bool:
    """Something that happens at Stripe to what this person paid for. False where Stripe itself says no."""
    _doubt(m, person)
    with m.stage.app.app_context():
        return house.at_stripe(deed)


def _doubt(m: Machine, person: int) -> None:
    m.model.people[person].doubt("purchase", "subscription")
