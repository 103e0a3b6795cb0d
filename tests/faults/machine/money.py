"""Money that goes to and fro: what buyers, banks, Stripe's dashboard and staff do with a payment.

What it means in the end is read from the simulated Stripe's own books (`settled`), by a reckoning that shares
no code with the store. In between either may be seen, because nobody knows when the store hears of it.
"""

from __future__ import annotations

from typing import Any

from tests.faults.machine import house
from tests.faults.machine.acts import BOTH, _desk, _fault, act
from tests.faults.machine.history import PEOPLE, Machine
from tests.faults.machine.model import Reason

EVERYBODY = tuple(range(PEOPLE))
PART = 1000


@act("banks", 2, person=EVERYBODY, slowly=BOTH, part=BOTH)
def store_refund(m: Machine, person: int, slowly: bool, part: bool) -> bool:
    """Staff give money back, all or a part."""
    session_id = _paid(m, person)
    if session_id is None:
        return False
    _doubt(m)
    return _desk(m, "refund", lambda: house.ask_refund(session_id, PART if part else None), slowly=slowly)


@act("banks", 1, person=EVERYBODY)
def part_back(m: Machine, person: int) -> bool:
    """A part goes back at Stripe's dashboard."""
    session_id = _paid(m, person)
    return session_id is not None and _at_stripe(m, lambda till: till.give_back(session_id, PART))


@act("banks", 1)
def slow_refunds(m: Machine) -> bool:
    """The next refund is on its way for a while."""
    return _at_stripe(m, lambda till: till.next_refund("pending"))


@act("banks", 1.5, person=EVERYBODY, arrives=BOTH)
def refund_moves(m: Machine, person: int, arrives: bool) -> bool:
    """The bank takes a refund that was on its way, or sends it back."""
    session_id = _paid(m, person)
    if session_id is None:
        return False
    facts = _look(m, session_id)
    waiting = next((each.id for each in facts.refunds if each.status == "pending"), None)
    if waiting is None:
        return False
    done = _at_stripe(m, lambda till: till.move_refund(waiting, "succeeded" if arrives else "failed"))
    return done and (arrives or _fault(m, "refund came back"))


@act("banks", 1.5, person=EVERYBODY, inquiry=(False, False, True))
def dispute(m: Machine, person: int, inquiry: bool) -> bool:
    session_id = _paid(m, person)
    if session_id is None or _look(m, session_id).disputes:
        return False
    status = "warning_needs_response" if inquiry else "needs_response"
    return _at_stripe(m, lambda till: till.open_dispute(session_id, status)) and _fault(m, "dispute")


@act("banks", 1.5, person=EVERYBODY, verdict=("under_review", "won", "lost", "needs_response", "warning_closed"))
def dispute_moves(m: Machine, person: int, verdict: str) -> bool:
    session_id = _paid(m, person)
    known = _look(m, session_id).disputes if session_id is not None else ()
    return bool(known) and _at_stripe(m, lambda till: till.move_dispute(known[0].id, verdict))


@act("banks", 0.7, person=EVERYBODY, slowly=BOTH)
def answer_bank(m: Machine, person: int, slowly: bool) -> bool:
    """Staff hand in the evidence."""
    session_id = _paid(m, person)
    if session_id is None or not _look(m, session_id).disputes:
        return False
    return _desk(m, "evidence", lambda: house.submit_evidence(session_id), slowly=slowly)


@act("banks", 1.5, person=EVERYBODY)
def leave(m: Machine, person: int) -> bool:
    """Somebody opens a payment page and lets it run out."""
    who = m.model.people[person]
    opened: list[tuple[int, str]] = []
    if not who.name or not _desk(m, "checkout", lambda: opened.append(house.open_page(who.user_id)), slowly=False):
        return False
    if not opened or opened[0][1] in {session_id for _, session_id in m.payments}:
        return False
    m.left.append((person, opened[0][1]))
    return _at_stripe(m, lambda till: till.expire(opened[0][1]))


@act("banks", 2, number=(0, 1, 2))
def come_back(m: Machine, number: int) -> bool:
    """Somebody goes on with a page that had run out, and pays: perhaps for the second time."""
    if number >= len(m.left):
        return False
    person, left = m.left[number]
    paid: list[str] = []

    def deed(till: Any) -> None:
        paid.append(till.recover(left))
        till.pay(paid[0])

    if not _at_stripe(m, deed):
        return False
    m.payments.append((person, paid[0]))
    return _fault(m, "recovered checkout")


def settled(m: Machine) -> None:
    """Put what Stripe's books say in the end into the model."""
    for person, session_id in m.payments:
        facts = _look(m, session_id)
        back = sum(each.amount for each in facts.refunds if each.status in ("pending", "requires_action", "succeeded"))
        lost = sum(each.amount for each in facts.disputes if each.status == "lost")
        disputed = any(each.status in ("needs_response", "under_review") for each in facts.disputes)
        rows = m.lockstep.ask(f"SELECT id, status, refunded_cents FROM purchase WHERE session_id = '{session_id}'")
        if len(rows) != 1:
            m.fail(f"{session_id} was paid and has {len(rows)} purchases")
        purchase_id, status, refunded = rows[0]
        source = f"purchase:{purchase_id}"
        who = m.model.people[person]
        reason = who.reasons.setdefault(source, Reason(source, m.clock.at))
        over = facts.amount_total <= back + lost
        reason.ends_at = (reason.ends_at or m.clock.at) if over else None
        reason.suspended = disputed and not over
        wanted = "REFUNDED" if facts.amount_total <= back else "PARTIALLY_REFUNDED" if back else "COMPLETED"
        if (status, refunded) != (wanted, back):
            m.fail(f"{source} is {status} with {refunded} back, and by Stripe's books {wanted} with {back} back")
        entitled = m.lockstep.ask(f"SELECT count(*) FROM entitlement WHERE source = '{source}'")[0][0]
        if entitled > 1 or (entitled == 0 and not over):
            m.fail(f"{source} entitles {entitled} times")
    ours, theirs = house.our_books(m), house.their_books(m)
    if ours != theirs:
        m.fail(f"our books say {ours}, and Stripe's {theirs}")


def _paid(m: Machine, person: int) -> str | None:
    """The latest payment of a person."""
    return next((session_id for number, session_id in reversed(m.payments) if number == person), None)


def _look(m: Machine, session_id: str) -> Any:
    with m.stage.app.app_context():
        return house.cashier().look_up(session_id)


def _at_stripe(m: Machine, deed: Any) -> bool:
    """Something that happens at Stripe. False where Stripe itself says no."""
    _doubt(m)
    with m.stage.app.app_context():
        return house.at_stripe(deed)


def _doubt(m: Machine) -> None:
    """From now on either may be seen of what was paid for: nobody knows when the store hears of what happens."""
    for who in m.model.people:
        for source, reason in who.reasons.items():
            reason.is_shaky = reason.is_shaky or source.startswith("purchase")
