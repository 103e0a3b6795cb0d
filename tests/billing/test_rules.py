"""What facts make of purchases, refunds, disputes and subscriptions: a table each, and what holds for all paths."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.billing import rules
from sts_app.billing.gateway import (
    DisputeFacts,
    DisputeStatus,
    PaymentFacts,
    RefundFacts,
    RefundStatus,
    SubscriptionStatus,
)
from sts_app.billing.rules import (
    Access,
    Back,
    Disputed,
    Kind,
    Money,
    PurchaseStatus,
    SubscriptionState,
    Verdict,
    merge,
    money_of,
    purchase_step,
    standing_of,
    subscription_standing,
)

P = PurchaseStatus
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def refund(cents=9900, status="succeeded", name="re_1"):
    return RefundFacts(name, cents, "usd", status, NOW)


def dispute(status="needs_response", cents=9900, name="dp_1"):
    return DisputeFacts(name, cents, "usd", status, "fraudulent", NOW)


def facts(
    session="complete",
    payment="unpaid",
    *,
    intent=None,
    refunds=(),
    disputes=(),
    total=9900,
    ref="pur_1",
    currency="usd",
):
    return PaymentFacts(
        "cs_1", ref, session, payment, total, currency, intent=intent, refunds=tuple(refunds), disputes=tuple(disputes)
    )


def paid(*refunds, disputes=(), **more):
    return facts(payment="paid", intent="succeeded", refunds=refunds, disputes=disputes, **more)


def step(known: Money, told: PaymentFacts, *, ref="pur_1", currency="usd", verdict=None):
    return purchase_step(known, told, ref=ref, currency=currency, verdict=verdict)


def rows_of(table: str) -> list[tuple[str, str, str]]:
    head, *lines = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return [(line[0], name, cell) for line in lines for name, cell in zip(head[1:], line[1:], strict=True)]


class TestPurchases:
    FACTS = {
        "open": facts("open"),
        "declined": facts("open", intent="requires_payment_method"),
        "slow bank": facts(intent="processing"),
        "bank no": facts(intent="requires_payment_method"),
        "canceled": facts(intent="canceled"),
        "expired": facts("expired"),
        "paid": paid(),
        "free": facts(payment="no_payment_required", total=0),
        "part back": paid(refund(1, name="re_2")),
        "all back": paid(refund()),
    }
    KNOWN = {
        "PENDING": Money(),
        "FAILED": Money(unpaid=P.FAILED),
        "EXPIRED": Money(unpaid=P.EXPIRED),
        "COMPLETED": Money(paid=True, total=9900),
        "PARTIALLY_REFUNDED": Money(paid=True, total=9900, refunds={"re_2": Back(1, "succeeded")}),
        "REFUNDED": Money(paid=True, total=9900, refunds={"re_1": Back(9900, "succeeded")}),
    }
    # A letter is the new status, `.` a harmless repeat, `+` more of the same is known and nothing changes by it.
    TABLE = """
                       | open | declined | slow bank | bank no | canceled | expired | paid | free | part back | all back
    PENDING            |  .   |    .     |     .     |    F    |    F     |    E    |  C   |  C   |     P     |    R
    FAILED             |  .   |    .     |     .     |    .    |    .     |    .    |  C   |  C   |     P     |    R
    EXPIRED            |  .   |    .     |     .     |    F    |    F     |    .    |  C   |  C   |     P     |    R
    COMPLETED          |  .   |    .     |     .     |    .    |    .     |    .    |  .   |  .   |     P     |    R
    PARTIALLY_REFUNDED |  .   |    .     |     .     |    .    |    .     |    .    |  .   |  .   |     .     |    R
    REFUNDED           |  .   |    .     |     .     |    .    |    .     |    .    |  .   |  .   |     +     |    .
    """
    LETTERS = {"F": P.FAILED, "E": P.EXPIRED, "C": P.COMPLETED, "P": P.PARTIALLY_REFUNDED, "R": P.REFUNDED}

    @pytest.mark.parametrize(("status", "name", "cell"), rows_of(TABLE))
    def test_the_table(self, status, name, cell):
        known = self.KNOWN[status]
        assert standing_of(known).status is P(status)

        decision = step(known, self.FACTS[name])

        assert decision.kind is (Kind.REPEAT if cell == "." else Kind.CHANGE)
        assert decision.status is self.LETTERS.get(cell, P(status))

    def test_the_table_is_complete(self):
        rows = rows_of(self.TABLE)
        assert {status for status, _, _ in rows} == set(P) == set(self.KNOWN)
        assert {name for _, name, _ in rows} == set(self.FACTS)

    @pytest.mark.parametrize("status", list(P))
    @pytest.mark.parametrize("name", list(FACTS))
    def test_facts_of_another_purchase_are_nonsense(self, status, name):
        known = self.KNOWN[status]

        decision = step(known, self.FACTS[name], ref="pur_2")

        assert (decision.kind, decision.status, decision.money) == (Kind.NONSENSE, status, known)
        assert "another purchase" in decision.because

    @pytest.mark.parametrize("status", list(P))
    def test_another_currency_is_nonsense(self, status):
        decision = step(self.KNOWN[status], paid(currency="eur"))

        assert (decision.kind, decision.status) == (Kind.NONSENSE, status)
        assert "eur" in decision.because

    def test_the_currencys_case_is_no_difference(self):
        assert step(Money(), paid(), currency="USD").status is P.COMPLETED

    def test_facts_without_a_reference_are_taken_by_the_session_that_led_to_them(self):
        assert step(Money(), paid(ref=None)).status is P.COMPLETED

    def test_money_on_an_expired_page_is_money(self):
        assert standing_of(money_of(facts("expired", "paid"))).status is P.COMPLETED

    def test_refunds_beyond_the_total_are_a_full_refund(self):
        assert standing_of(money_of(paid(refund(9000), refund(1000, name="re_2")))).status is P.REFUNDED

    @pytest.mark.parametrize("status", list(P))
    def test_paid_means_that_money_is_with_us(self, status):
        assert status.is_paid == (status in (P.COMPLETED, P.PARTIALLY_REFUNDED))
        assert status.was_paid == (status in (P.COMPLETED, P.PARTIALLY_REFUNDED, P.REFUNDED))


class TestRefunds:
    # Down: what is known of a refund of everything; right: what is told. The word that holds, the purchase's status.
    TABLE = """
                    | pending     | requires_action | succeeded   | canceled   | failed
    nothing         | pending R   | requires_action R | succeeded R | canceled C | failed C
    pending         | .           | requires_action R | succeeded R | canceled C | failed C
    requires_action | .           | .               | succeeded R | canceled C | failed C
    succeeded       | .           | .               | .           | canceled C | failed C
    canceled        | .           | .               | .           | .          | failed C
    failed          | .           | .               | .           | .          | .
    """

    @pytest.mark.parametrize(("before", "told", "cell"), rows_of(TABLE))
    def test_the_table(self, before, told, cell):
        known = Money(paid=True, total=9900, refunds={} if before == "nothing" else {"re_1": Back(9900, before)})

        decision = step(known, paid(refund(status=told)))

        if cell == ".":
            assert (decision.kind, decision.money) == (Kind.REPEAT, known)
        else:
            word, letter = cell.split()
            assert (decision.kind, decision.money.refunds["re_1"].status) == (Kind.CHANGE, word)
            assert decision.status is TestPurchases.LETTERS[letter]

    def test_the_table_is_complete(self):
        rows = rows_of(self.TABLE)
        assert {told for _, told, _ in rows} == set(get_args(RefundStatus))
        assert {before for before, _, _ in rows} == {"nothing", *get_args(RefundStatus)}

    def test_parts_that_reach_the_total_are_a_full_refund(self):
        standing = standing_of(money_of(paid(refund(4000), refund(5900, name="re_2"))))
        assert (standing.status, standing.access) == (P.REFUNDED, Access.ENDED)

    @pytest.mark.parametrize(
        ("verdict", "access", "asks"),
        [
            (None, "stands", True),
            (Verdict(True, 4000), "stands", False),
            (Verdict(True, 3999), "stands", True),
            (Verdict(False, 4000), "ended", False),
        ],
    )
    def test_a_part_asks_staff_and_access_follows_their_word(self, verdict, access, asks):
        standing = standing_of(money_of(paid(refund(4000))), verdict=verdict)
        assert (standing.status, standing.access, standing.asks_staff) == (P.PARTIALLY_REFUNDED, access, asks)

    def test_a_word_about_a_part_that_came_back_means_nothing(self):
        standing = standing_of(money_of(paid(refund(4000, "failed"))), verdict=Verdict(False, 4000))
        assert (standing.status, standing.access, standing.asks_staff) == (P.COMPLETED, Access.STANDS, False)

    def test_what_is_known_of_refunds_is_known_once(self):
        assert {status for status in get_args(RefundStatus) if refund(status=status).counts} == rules.BACK


class TestDisputes:
    # Down: what is known of a dispute of everything; right: what is told. `!` suspended, `x` ended, `=` stands.
    NAMES = {
        "asked": "warning_needs_response",
        "answered": "warning_under_review",
        "closed": "warning_closed",
        "prevented": "prevented",
        "open": "needs_response",
        "review": "under_review",
        "lost": "lost",
        "won": "won",
    }
    TABLE = """
              | asked     | answered  | closed    | prevented | open      | review    | lost      | won
    nothing   | =         | =         | =         | =         | !         | !         | x         | =
    asked     | .         | =         | =         | =         | !         | !         | x         | =
    answered  | .         | .         | =         | =         | !         | !         | x         | =
    closed    | .         | .         | .         | =         | !         | !         | x         | =
    prevented | .         | .         | .         | .         | !         | !         | x         | =
    open      | .         | .         | .         | .         | .         | !         | x         | =
    review    | .         | .         | .         | .         | .         | .         | x         | =
    lost      | .         | .         | .         | .         | .         | .         | .         | =
    won       | .         | .         | .         | .         | .         | .         | .         | .
    """
    WORDS = {"!": Access.SUSPENDED, "x": Access.ENDED, "=": Access.STANDS}

    @pytest.mark.parametrize(("before", "told", "cell"), rows_of(TABLE))
    def test_the_table(self, before, told, cell):
        disputes = {} if before == "nothing" else {"dp_1": Disputed(9900, self.NAMES[before])}
        known = Money(paid=True, total=9900, disputes=disputes)

        decision = step(known, paid(disputes=[dispute(self.NAMES[told])]))

        if cell == ".":
            assert (decision.kind, decision.money) == (Kind.REPEAT, known)
        else:
            assert (decision.kind, decision.standing.access) == (Kind.CHANGE, self.WORDS[cell])
            assert decision.status is P.COMPLETED

    def test_the_table_is_complete(self):
        rows = rows_of(self.TABLE)
        assert set(self.NAMES.values()) == set(get_args(DisputeStatus))
        assert {told for _, told, _ in rows} == set(self.NAMES)
        assert {before for before, _, _ in rows} == {"nothing", *self.NAMES}

    def test_a_dispute_of_what_was_left_after_a_refund_ends_access_when_it_is_lost(self):
        standing = standing_of(money_of(paid(refund(4000), disputes=[dispute("lost", 5900)])))
        assert (standing.status, standing.access) == (P.PARTIALLY_REFUNDED, Access.ENDED)

    def test_a_part_lost_to_a_bank_asks_staff(self):
        standing = standing_of(money_of(paid(disputes=[dispute("lost", 5000)])))
        assert (standing.access, standing.asks_staff) == (Access.STANDS, True)

    @pytest.mark.parametrize(
        ("status", "withheld"),
        [(s, s in ("needs_response", "under_review", "lost")) for s in get_args(DisputeStatus)],
    )
    def test_a_bank_holds_the_money_while_it_decides_and_when_it_has_decided_against_us(self, status, withheld):
        assert money_of(paid(disputes=[dispute(status)])).withheld == (9900 if withheld else 0)


class TestSubscriptions:
    # Down: Stripe's word; right: what the latest payment's money says. r running, g grace, p paused, e ended, 0 none.
    TABLE = """
                       | none | stands | suspended | ended
    incomplete         | 0    | 0      | 0         | 0
    incomplete_expired | 0    | 0      | 0         | 0
    trialing           | r    | r      | p         | e
    active             | 0    | r      | p         | e
    past_due           | 0    | g      | p         | e
    unpaid             | 0    | p      | p         | e
    paused             | 0    | p      | p         | e
    canceled           | e    | e      | e         | e
    """
    LETTERS = {
        "0": SubscriptionState.NONE,
        "r": SubscriptionState.RUNNING,
        "g": SubscriptionState.GRACE,
        "p": SubscriptionState.PAUSED,
        "e": SubscriptionState.ENDED,
    }

    @staticmethod
    def standing(status, money="stands", **more):
        known = {"past_due_since": NOW, "ends_at": None, "grace": timedelta(days=7), "now": NOW} | more
        return subscription_standing(status, money=Access(money), **known)

    @pytest.mark.parametrize(("status", "money", "cell"), rows_of(TABLE))
    def test_the_table(self, status, money, cell):
        assert self.standing(status, money).state is self.LETTERS[cell]

    def test_the_table_is_complete(self):
        rows = rows_of(self.TABLE)
        assert {status for status, _, _ in rows} == set(get_args(SubscriptionStatus))
        assert {money for _, money, _ in rows} == set(Access)

    def test_grace_is_over_by_the_clock_alone(self):
        before = self.standing("past_due", now=NOW + timedelta(days=7, seconds=-1))
        after = self.standing("past_due", now=NOW + timedelta(days=7))

        assert (before.state, before.until) == (SubscriptionState.GRACE, NOW + timedelta(days=7))
        assert after.state is SubscriptionState.PAUSED

    def test_an_end_that_is_set_is_told_while_it_runs(self):
        end = NOW + timedelta(days=3)
        assert self.standing("active", ends_at=end).until == end


any_refund = st.builds(
    refund, st.integers(1, 9900), st.sampled_from(get_args(RefundStatus)), st.sampled_from(["re_1", "re_2", "re_3"])
)
any_dispute = st.builds(
    dispute, st.sampled_from(get_args(DisputeStatus)), st.integers(0, 9900), st.sampled_from(["dp_1", "dp_2"])
)
any_facts = st.builds(
    facts,
    session=st.sampled_from(["open", "complete", "expired"]),
    payment=st.sampled_from(["unpaid", "paid", "no_payment_required"]),
    intent=st.sampled_from([None, "processing", "succeeded", "canceled", "requires_payment_method"]),
    refunds=st.lists(any_refund, max_size=3, unique_by=lambda each: each.id),
    disputes=st.lists(any_dispute, max_size=2, unique_by=lambda each: each.id),
    total=st.integers(0, 9900),
)


class TestAllPaths:
    @given(st.lists(any_facts, max_size=6), st.randoms(use_true_random=False))
    def test_neither_order_nor_repeats_make_a_difference(self, told, random):
        shuffled = [*told, *(random.choice(told) for _ in told)]
        random.shuffle(shuffled)

        in_order = reduce(merge, map(money_of, told), Money())
        out_of_order = reduce(merge, map(money_of, shuffled), Money())

        assert in_order == out_of_order
        assert standing_of(in_order) == standing_of(out_of_order)

    @given(any_facts, any_facts, any_facts)
    def test_it_does_not_matter_what_is_put_together_first(self, a, b, c):
        one, two, three = money_of(a), money_of(b), money_of(c)
        assert merge(merge(one, two), three) == merge(one, merge(two, three))

    @given(st.lists(any_facts, min_size=1, max_size=6))
    def test_money_wins(self, told):
        money = reduce(merge, map(money_of, told), Money())

        was_paid = any(each.payment != "unpaid" for each in told)
        assert standing_of(money).status.was_paid == was_paid
        assert (standing_of(money).access is Access.NONE) == (not was_paid)

    @given(any_facts, any_facts)
    def test_facts_that_are_known_are_a_repeat(self, first, second):
        known = merge(money_of(first), money_of(second))
        assert step(known, first).kind is Kind.REPEAT
        assert step(known, second).kind is Kind.REPEAT

    @given(any_facts)
    def test_the_parts_never_exceed_what_is_known_of_them(self, told):
        money = money_of(told)
        assert money.refunded == told.amount_refunded
        assert money.lost <= money.withheld
