"""What facts make of a purchase: one table, and what holds for every path through it."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.billing.gateway import PaymentFacts
from sts_app.billing.rules import _RANK, Kind, PurchaseStatus, purchase_step, status_of

P = PurchaseStatus


def facts(session="complete", payment="unpaid", *, intent=None, refunded=0, total=9900, ref="pur_1", currency="usd"):
    return PaymentFacts("cs_1", ref, session, payment, total, currency, intent=intent, amount_refunded=refunded)


FACTS = {
    "open": facts("open"),
    "declined": facts("open", intent="requires_payment_method"),
    "slow bank": facts(intent="processing"),
    "bank no": facts(intent="requires_payment_method"),
    "canceled": facts(intent="canceled"),
    "expired": facts("expired"),
    "paid": facts(payment="paid", intent="succeeded"),
    "free": facts(payment="no_payment_required", total=0),
    "part back": facts(payment="paid", refunded=1),
    "all back": facts(payment="paid", refunded=9900),
}

# A letter is the new status, `.` a harmless repeat.
TABLE = """
                   | open | declined | slow bank | bank no | canceled | expired | paid | free | part back | all back
PENDING            |  .   |    .     |     .     |    F    |    F     |    E    |  C   |  C   |     P     |    R
FAILED             |  .   |    .     |     .     |    .    |    .     |    .    |  C   |  C   |     P     |    R
EXPIRED            |  .   |    .     |     .     |    .    |    .     |    .    |  C   |  C   |     P     |    R
COMPLETED          |  .   |    .     |     .     |    .    |    .     |    .    |  .   |  .   |     P     |    R
PARTIALLY_REFUNDED |  .   |    .     |     .     |    .    |    .     |    .    |  .   |  .   |     .     |    R
REFUNDED           |  .   |    .     |     .     |    .    |    .     |    .    |  .   |  .   |     .     |    .
"""
LETTERS = {"F": P.FAILED, "E": P.EXPIRED, "C": P.COMPLETED, "P": P.PARTIALLY_REFUNDED, "R": P.REFUNDED}


def _rows():
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip("\n").splitlines()]
    return [(P(line[0]), name, cell) for line in lines for name, cell in zip(head[1:], line[1:], strict=True)]


@pytest.mark.parametrize(("status", "name", "cell"), _rows())
def test_the_table(status, name, cell):
    decision = purchase_step(status, "pur_1", "usd", FACTS[name])

    if cell == ".":
        assert (decision.kind, decision.status) == (Kind.REPEAT, status)
    else:
        assert (decision.kind, decision.status) == (Kind.CHANGE, LETTERS[cell])


def test_the_table_is_complete():
    assert {status for status, _, _ in _rows()} == set(P)
    assert {name for _, name, _ in _rows()} == set(FACTS)


@pytest.mark.parametrize("status", list(P))
@pytest.mark.parametrize("name", list(FACTS))
def test_facts_of_another_purchase_are_nonsense(status, name):
    decision = purchase_step(status, "pur_2", "usd", FACTS[name])

    assert (decision.kind, decision.status) == (Kind.NONSENSE, status)
    assert "another purchase" in decision.because


@pytest.mark.parametrize("status", list(P))
def test_another_currency_is_nonsense(status):
    decision = purchase_step(status, "pur_1", "usd", facts(payment="paid", currency="eur"))

    assert (decision.kind, decision.status) == (Kind.NONSENSE, status)
    assert "eur" in decision.because


def test_the_currencys_case_is_no_difference():
    assert purchase_step(P.PENDING, "pur_1", "USD", FACTS["paid"]).status is P.COMPLETED


def test_facts_without_a_reference_are_taken_by_the_session_that_led_to_them():
    assert purchase_step(P.PENDING, "pur_1", "usd", facts(payment="paid", ref=None)).status is P.COMPLETED


def test_money_on_an_expired_page_is_money():
    assert status_of(facts("expired", "paid")) is P.COMPLETED


def test_refunds_beyond_the_total_are_a_full_refund():
    assert status_of(facts(payment="paid", refunded=10_000)) is P.REFUNDED


@pytest.mark.parametrize("status", list(P))
def test_paid_means_that_money_is_with_us(status):
    assert status.is_paid == (status in (P.COMPLETED, P.PARTIALLY_REFUNDED))


any_facts = st.builds(
    facts,
    session=st.sampled_from(["open", "complete", "expired"]),
    payment=st.sampled_from(["unpaid", "paid", "no_payment_required"]),
    intent=st.sampled_from([None, "processing", "succeeded", "canceled", "requires_payment_method"]),
    refunded=st.integers(0, 10_000),
    total=st.integers(0, 9900),
)


def after(status: P, told: PaymentFacts) -> P:
    return purchase_step(status, "pur_1", "usd", told).status


@given(st.sampled_from(P), any_facts)
def test_no_fact_moves_a_purchase_backwards(status, told):
    assert _RANK[after(status, told)] >= _RANK[status]


@given(st.sampled_from(P), any_facts)
def test_the_same_facts_twice_change_nothing(status, told):
    once = after(status, told)

    assert after(once, told) is once
    assert purchase_step(once, "pur_1", "usd", told).kind is Kind.REPEAT


@given(st.lists(any_facts, max_size=6), st.randoms())
def test_the_order_of_the_facts_does_not_matter(told, random):
    """Where no money came, a page that expired and one whose bank said no are both closed."""

    def ends(order) -> set[P]:
        status = reduce(after, order, P.PENDING)
        return {P.FAILED, P.EXPIRED} if status in (P.FAILED, P.EXPIRED) else {status}

    straight = ends(told)
    random.shuffle(told)

    assert ends(told) == straight


@given(st.lists(any_facts, max_size=6))
def test_whoever_paid_once_is_never_pending_failed_or_expired_again(told):
    paid = [*told, FACTS["paid"]]

    assert reduce(after, paid, P.PENDING) in (P.COMPLETED, P.PARTIALLY_REFUNDED, P.REFUNDED)
