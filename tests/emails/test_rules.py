"""What becomes of a letter whatever order it is told in, and which letters go to an address that had trouble."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.emails.gateway import Happened
from sts_app.emails.rules import TRIAL_EVERY, Fate, Standing, Trust, fate_of, may_go, merged

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
D = Happened

# What stands after both, whichever came first: (delivered, trouble).
PAIRS = {
    (D.DELIVERED, D.DELIVERED): (True, None),
    (D.DELIVERED, D.DELAYED): (True, None),
    (D.DELIVERED, D.FAILED): (True, None),
    (D.DELIVERED, D.SUPPRESSED): (True, None),
    (D.DELIVERED, D.BOUNCED_SOFTLY): (True, D.BOUNCED_SOFTLY),
    (D.DELIVERED, D.BOUNCED): (True, D.BOUNCED),
    (D.DELIVERED, D.COMPLAINED): (True, D.COMPLAINED),
    (D.DELAYED, D.DELAYED): (False, D.DELAYED),
    (D.DELAYED, D.FAILED): (False, D.FAILED),
    (D.DELAYED, D.SUPPRESSED): (False, D.SUPPRESSED),
    (D.DELAYED, D.BOUNCED_SOFTLY): (False, D.BOUNCED_SOFTLY),
    (D.DELAYED, D.BOUNCED): (False, D.BOUNCED),
    (D.DELAYED, D.COMPLAINED): (False, D.COMPLAINED),
    (D.FAILED, D.FAILED): (False, D.FAILED),
    (D.FAILED, D.SUPPRESSED): (False, D.SUPPRESSED),
    (D.FAILED, D.BOUNCED_SOFTLY): (False, D.BOUNCED_SOFTLY),
    (D.FAILED, D.BOUNCED): (False, D.BOUNCED),
    (D.FAILED, D.COMPLAINED): (False, D.COMPLAINED),
    (D.SUPPRESSED, D.SUPPRESSED): (False, D.SUPPRESSED),
    (D.SUPPRESSED, D.BOUNCED_SOFTLY): (False, D.BOUNCED_SOFTLY),
    (D.SUPPRESSED, D.BOUNCED): (False, D.BOUNCED),
    (D.SUPPRESSED, D.COMPLAINED): (False, D.COMPLAINED),
    (D.BOUNCED_SOFTLY, D.BOUNCED_SOFTLY): (False, D.BOUNCED_SOFTLY),
    (D.BOUNCED_SOFTLY, D.BOUNCED): (False, D.BOUNCED),
    (D.BOUNCED_SOFTLY, D.COMPLAINED): (False, D.COMPLAINED),
    (D.BOUNCED, D.BOUNCED): (False, D.BOUNCED),
    (D.BOUNCED, D.COMPLAINED): (False, D.COMPLAINED),
    (D.COMPLAINED, D.COMPLAINED): (False, D.COMPLAINED),
}


def test_the_table_holds_every_pair():
    assert {frozenset(pair) for pair in PAIRS} == {frozenset(pair) for pair in product(Happened, repeat=2)}


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda each: each.value)
@pytest.mark.parametrize("turned", [False, True], ids=["as-happened", "turned-round"])
def test_of_two_events_the_same_stands_whichever_is_heard_first(one, other, turned):
    first, second = fate_of(one, NOON, "one"), fate_of(other, LATER, "other")
    heard = (second, first) if turned else (first, second)

    stands = merged(merged(Fate(), heard[0]), heard[1])

    delivered, trouble = PAIRS[one, other]
    assert (stands.delivered_at is not None, stands.trouble) == (delivered, trouble)
    assert (stands.trouble_at is not None) == (trouble is not None)


def test_the_first_delivery_and_the_last_of_two_delays_are_kept():
    arrived = merged(fate_of(D.DELIVERED, LATER), fate_of(D.DELIVERED, NOON))
    delayed = merged(fate_of(D.DELAYED, LATER, "still full"), fate_of(D.DELAYED, NOON, "full"))

    assert arrived.delivered_at == NOON
    assert (delayed.trouble_at, delayed.words) == (LATER, "still full")


events = st.builds(
    fate_of,
    st.sampled_from(Happened),
    st.integers(0, 10**9).map(lambda milliseconds: NOON + timedelta(milliseconds=milliseconds)),
    st.sampled_from(["", "full", "no such user"]),
)


@given(st.lists(events, min_size=1, max_size=4))
def test_any_order_and_any_number_of_repeats_lead_to_the_same(told):
    def heard(fates):
        stands = Fate()
        for fate in fates:
            stands = merged(stands, fate)
        return stands

    expected = heard(told)

    assert all(heard(order) == expected for order in permutations(told))
    assert heard([*told, *told, told[0]]) == expected


class TestStanding:
    @pytest.mark.parametrize(
        ("standing", "trust"),
        [
            (Standing(), Trust.FINE),
            (Standing(bounced_at=NOON), Trust.BOUNCES),
            (Standing(complained_at=NOON), Trust.COMPLAINED),
            (Standing(bounced_at=NOON, complained_at=LATER), Trust.BOUNCES),
            (Standing(bounced_at=NOON, confirmed_at=LATER), Trust.FINE),
            (Standing(bounced_at=LATER, confirmed_at=NOON), Trust.BOUNCES),
            (Standing(bounced_at=NOON, confirmed_at=NOON), Trust.BOUNCES),
            (Standing(complained_at=NOON, confirmed_at=LATER), Trust.FINE),
            (Standing(bounced_at=NOON, complained_at=LATER + timedelta(1), confirmed_at=LATER), Trust.COMPLAINED),
        ],
    )
    def test_a_proof_outweighs_what_was_before_it(self, standing, trust):
        assert standing.trust is trust
        assert standing.is_fine == (trust is Trust.FINE)


BOUNCING = Standing(bounced_at=NOON)
COMPLAINING = Standing(complained_at=NOON)


@pytest.mark.parametrize(
    ("need", "fine", "complained", "bounces"),
    [("asked", True, True, True), ("needed", True, True, False), ("spare", True, False, False)],
)
def test_who_is_written_to(need, fine, complained, bounces):
    assert [may_go(standing, LATER, need=need) for standing in (Standing(), COMPLAINING, BOUNCING)] == [
        fine,
        complained,
        bounces,
    ]


def test_letters_that_were_asked_for_go_once_an_hour_while_letters_come_back():
    tried = Standing(bounced_at=NOON, tried_at=LATER)

    assert not may_go(tried, LATER + TRIAL_EVERY - timedelta(seconds=1), need="asked")
    assert may_go(tried, LATER + TRIAL_EVERY, need="asked")
    assert may_go(Standing(complained_at=NOON, tried_at=LATER), LATER, need="asked")
