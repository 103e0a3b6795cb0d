"""The comparison itself: a table of what each pair is called, the guards, the caps, and what must hold of any input."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.provisioning.comparing import (
    Act,
    Difference,
    Known,
    Limits,
    Reading,
    compare,
    doubt,
    plan,
    proven,
    sample,
)
from sts_app.provisioning.gateway import Holder
from sts_app.provisioning.rules import Finding, GrantState, Pair

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=3)
SKEW = timedelta(seconds=30)
ANNA = Pair("anna", "PUB;a")
VERIFIED, ABSENT = GrantState.VERIFIED, GrantState.ABSENT


def known(pair: Pair = ANNA, state: GrantState = VERIFIED, **changes) -> Known:
    given = {
        "grant_id": 1,
        "cycle": 1,
        "wanted": state is not ABSENT,
        "rests": True,
        "granted": True,
        "changed_at": LONG_AGO,
        "paid_at": LONG_AGO,
        "spellings": frozenset({pair.name_key.title()}),
    }
    return Known(pair=pair, state=state, **given | changes)


def held(*names: str, ends: datetime | None = None, script: str = "PUB;a") -> Reading:
    return Reading(NOW, {script: [Holder(name, ends) for name in names]})


def kinds(reading: Reading, *knowns: Known, **options) -> list[str]:
    return [each.kind.value for each in compare(reading, knowns, skew=SKEW, now=NOW, **options)]


@pytest.mark.parametrize(
    ("row", "reading", "told"),
    [
        (known(), held("Anna"), []),
        (known(), held(), ["missing"]),
        (known(), held("Anna", ends=NOW + timedelta(days=1)), ["expiring"]),
        (known(), held("Anna", ends=NOW - timedelta(days=1)), ["expiring"]),
        (known(), held("ANNA"), ["drifted"]),
        (known(state=ABSENT), held("Anna"), ["extra"]),
        (known(state=ABSENT), held("ANNA"), ["extra", "drifted"]),
        (known(state=ABSENT), held(), []),
        (known(state=ABSENT, granted=False), held("Anna"), ["stranger"]),
        (known(state=ABSENT), held("Anna", ends=NOW + timedelta(days=1)), ["extra"]),
        (known(state=ABSENT), held("Anna", ends=NOW), []),
        (None, held("Anna"), ["stranger"]),
        (None, held("Anna", ends=NOW), []),
        *((known(state=state), held(), []) for state in GrantState if state not in (VERIFIED, ABSENT)),
        *((known(state=state), held("Anna"), []) for state in GrantState if state not in (VERIFIED, ABSENT)),
        *(
            (known(state=state, wanted=False), held("Anna"), [])
            for state in GrantState
            if state not in (VERIFIED, ABSENT)
        ),
    ],
)
def test_what_a_pair_is_called(row, reading, told):
    assert kinds(reading, *([row] if row else [])) == told


@pytest.mark.parametrize("row", [known(), known(state=ABSENT)])
@pytest.mark.parametrize(
    "changes",
    [
        {"rests": False},
        {"changed_at": NOW},
        {"changed_at": NOW + timedelta(seconds=5)},
        {"changed_at": NOW - SKEW},
    ],
)
def test_a_pair_in_motion_is_passed_over(row, changes):
    assert kinds(held("ANNA" if row.state is ABSENT else "Bob"), replace(row, **changes)) in ([], ["stranger"])
    assert not any(each.pair == ANNA for each in compare(held(), [replace(row, **changes)], skew=SKEW, now=NOW))


def test_a_friend_is_called_a_friend_whether_sts_knows_the_pair_or_not():
    friends = frozenset({"anna"})

    assert kinds(held("Anna"), friends=friends) == ["allowed"]
    assert kinds(held("Anna"), known(state=ABSENT), friends=friends) == ["allowed"]
    assert kinds(held("Anna"), known(), friends=friends) == []


def test_a_pair_that_is_about_to_be_granted_is_nobodys_finding():
    assert kinds(held("Anna"), expected=frozenset({ANNA})) == []


def test_a_script_that_was_not_read_is_not_spoken_of():
    assert kinds(held("Anna"), known(), known(Pair("anna", "PUB;b"))) == []


def test_where_names_are_asked_for_only_what_was_answered_is_spoken_of():
    reading = Reading(NOW, {"PUB;a": []}, frozenset({ANNA}))

    assert kinds(reading, known(), known(Pair("bob", "PUB;a"))) == ["missing"]


def test_where_names_are_asked_for_the_spelling_is_our_own():
    reading = Reading(NOW, {"PUB;a": [Holder("ANNA")]}, frozenset({ANNA}))

    assert kinds(reading, known()) == []


def test_a_name_that_is_listed_twice_counts_once():
    assert kinds(held("Nobody", "NOBODY")) == ["stranger"]


class TestDoubt:
    def doubted(self, of: int, missing: int, **changes) -> str | None:
        rows = [known(Pair(f"name{number}", "PUB;a")) for number in range(of)]
        reading = held(*(row.pair.name_key.title() for row in rows[missing:]))
        found = compare(reading, rows, skew=SKEW, now=NOW)
        return doubt(reading, rows, found, skew=SKEW, limits=Limits(**changes))

    @pytest.mark.parametrize(("of", "missing"), [(1, 1), (2, 2), (3, 1), (4, 2), (100, 50)])
    def test_a_loss_that_can_be_believed(self, of, missing):
        assert self.doubted(of, missing) is None

    @pytest.mark.parametrize(("of", "missing"), [(3, 2), (3, 3), (4, 3), (100, 51)])
    def test_a_loss_that_cannot(self, of, missing):
        assert f"{missing} of {of} known holders of PUB;a" in self.doubted(of, missing)

    @pytest.mark.parametrize(("customers", "scripts"), [(1, 4), (2, 2), (1, 6), (2, 6)])
    def test_a_young_store_of_which_nothing_is_left_is_doubted_as_well(self, customers, scripts):
        rows = self.young(customers, scripts)

        assert "not one is left" in self.doubt_of(rows, rows)
        assert self.doubt_of(rows, rows[1:]) is None

    def test_who_was_not_asked_for_may_still_be_there(self):
        rows = self.young(2, 6)
        answered = frozenset(row.pair for row in rows[:6])

        assert self.doubt_of(rows, rows, answered=answered) is None

    def young(self, customers: int, scripts: int) -> list[Known]:
        return [known(Pair(f"name{n}", f"PUB;{s}")) for n in range(customers) for s in range(scripts)]

    def doubt_of(self, rows: list[Known], lost: list[Known], **options) -> str | None:
        holders: dict[str, list[Holder]] = {row.pair.script_id: [] for row in rows}
        for row in rows:
            if row not in lost:
                holders[row.pair.script_id].append(Holder(row.pair.name_key.title()))
        reading = Reading(NOW, holders, **options)
        found = compare(reading, rows, skew=SKEW, now=NOW)
        return doubt(reading, rows, found, skew=SKEW, limits=Limits())


class TestPlan:
    def planned(self, found: list[Difference], *, since=None, verified=0, held=0, **limits) -> list[str]:
        acted = plan(
            found,
            seen_since=since or {},
            began_at=NOW,
            verified=verified,
            held=held,
            limits=Limits(**limits),
        )
        return [each.act.value for each in acted]

    def pairs(self, kind: Finding, count: int) -> list[Difference]:
        pairs = [Pair(f"name{number:03}", "PUB;a") for number in range(count)]
        return [
            Difference(kind, pair, pair.name_key, known(pair, paid_at=NOW - timedelta(days=number)))
            for number, pair in enumerate(pairs)
        ]

    @pytest.mark.parametrize(
        ("kind", "act"),
        [
            (Finding.MISSING, "heal"),
            (Finding.EXPIRING, "heal"),
            (Finding.EXTRA, "again"),
            (Finding.STRANGER, "ask"),
            (Finding.ALLOWED, "leave"),
            (Finding.DRIFTED, "respell"),
        ],
    )
    def test_what_is_done_about_each_kind(self, kind, act):
        assert self.planned(self.pairs(kind, 1)) == [act]

    @pytest.mark.parametrize(("verified", "healed"), [(0, 200), (1000, 200), (1500, 300)])
    def test_the_cap_of_healing(self, verified, healed):
        acts = self.planned(self.pairs(Finding.MISSING, 400), verified=verified)

        assert (acts.count("heal"), acts.count("later")) == (healed, 400 - healed)
        assert acts[-healed:] == ["heal"] * healed  # who paid first

    @pytest.mark.parametrize(("held", "removed"), [(0, 5), (250, 5), (500, 10)])
    def test_the_cap_of_removing(self, held, removed):
        extras = self.pairs(Finding.EXTRA, 20)
        since = {each.pair: LONG_AGO + timedelta(minutes=number) for number, each in enumerate(extras)}

        acts = self.planned(extras, since=since, held=held)

        assert acts == ["remove"] * removed + ["later"] * (20 - removed)

    @pytest.mark.parametrize(("hours", "act"), [(0, "again"), (11.99, "again"), (12, "remove"), (400, "remove")])
    def test_two_readings_have_to_agree_half_a_day_apart(self, hours, act):
        extras = self.pairs(Finding.EXTRA, 1)

        assert self.planned(extras, since={extras[0].pair: NOW - timedelta(hours=hours)}) == [act]

    def test_no_history_makes_a_stranger_or_a_friend_removable(self):
        for kind in (Finding.STRANGER, Finding.ALLOWED):
            found = self.pairs(kind, 1)
            assert self.planned(found, since={found[0].pair: LONG_AGO}) != ["remove"]


class TestSample:
    def test_few_are_all_asked_for_and_many_are_spread(self):
        missing = [
            Difference(Finding.MISSING, Pair(f"name{number:03}", "PUB;a"), "x", known()) for number in range(100)
        ]

        assert len(sample(missing, 200)) == 100
        assert list(sample(missing, 4)) == ["name000", "name025", "name050", "name075"]

    def test_only_what_is_missing_is_asked_for(self):
        assert sample([Difference(Finding.STRANGER, ANNA, "Anna")], 5) == {}


class TestProven:
    @pytest.mark.parametrize("state", [GrantState.WITH_STAFF, GrantState.FAILED, GrantState.NEEDS_CUSTOMER])
    def test_what_people_were_asked_to_give(self, state):
        row = known(state=state)

        assert proven(held("Anna"), [row], fresh=SKEW, now=NOW) == [row]
        assert proven(held("Bob"), [row], fresh=SKEW, now=NOW) == []
        assert proven(held("Anna", ends=NOW + timedelta(days=1)), [row], fresh=SKEW, now=NOW) == []

    @pytest.mark.parametrize("state", [VERIFIED, ABSENT, GrantState.PENDING, GrantState.REVOKING])
    def test_what_nobody_was_asked_for_is_not(self, state):
        assert proven(held("Anna"), [known(state=state, wanted=True)], fresh=SKEW, now=NOW) == []

    def test_what_people_were_asked_to_remove(self):
        row = known(state=GrantState.WITH_STAFF, wanted=False)

        assert proven(held("Bob"), [row], fresh=SKEW, now=NOW) == [row]
        assert proven(held("Anna"), [row], fresh=SKEW, now=NOW) == []
        assert proven(held("Bob"), [replace(row, changed_at=NOW - SKEW)], fresh=SKEW, now=NOW) == []

    def test_a_name_that_is_unknown_is_not_proven_to_hold_nothing(self):
        row = known(state=GrantState.WITH_STAFF, wanted=False)
        reading = Reading(NOW, {"PUB;a": []}, frozenset({ANNA}), frozenset({"anna"}))

        assert proven(reading, [row], fresh=SKEW, now=NOW) == []

    def test_what_was_removed_a_moment_ago_may_be_on_an_older_list(self):
        row = known(state=GrantState.WITH_STAFF, absent_at=NOW - SKEW)

        assert proven(held("Anna"), [row], fresh=SKEW, now=NOW) == []


NAMES = st.sampled_from(["anna", "bob", "carl", "dora"])
PAIRS = st.builds(Pair, NAMES, st.sampled_from(["PUB;a", "PUB;b"]))
ROWS = st.lists(
    st.builds(
        known,
        PAIRS,
        st.sampled_from(GrantState),
        wanted=st.booleans(),
        rests=st.booleans(),
        granted=st.booleans(),
        changed_at=st.sampled_from([LONG_AGO, NOW]),
    ),
    unique_by=lambda row: row.pair,
)
HOLDERS = st.lists(
    st.builds(Holder, NAMES.map(str.title), st.sampled_from([None, LONG_AGO, NOW + timedelta(days=1)])), max_size=4
)
READINGS = st.builds(Reading, st.just(NOW), st.fixed_dictionaries({}, optional={"PUB;a": HOLDERS, "PUB;b": HOLDERS}))


@given(
    READINGS,
    ROWS,
    st.frozensets(PAIRS),
    st.frozensets(NAMES),
    st.dictionaries(PAIRS, st.sampled_from([LONG_AGO, NOW - timedelta(hours=1)])),
)
def test_whatever_was_read_only_what_sts_gave_and_nobody_wants_is_removed(reading, rows, expected, friends, since):
    found = compare(reading, rows, expected=expected, friends=friends, skew=SKEW, now=NOW)
    planned = plan(found, seen_since=since, began_at=NOW, verified=0, held=0, limits=Limits())

    shown = {(holder.name.lower(), script) for script, holders in reading.holders.items() for holder in holders}
    for each in planned:
        if each.act is Act.REMOVE:
            row = each.known
            assert row is not None
            assert (row.granted, row.rests, row.wanted, row.state) == (True, True, False, ABSENT)
            assert (each.pair.name_key, each.pair.script_id) in shown
            assert each.pair.name_key not in friends
            assert since[each.pair] <= NOW - timedelta(hours=12)
        if each.act is Act.HEAL:
            assert each.known is not None
            assert (each.known.wanted, each.known.state) == (True, VERIFIED)
            assert each.pair.script_id in reading.holders
    assert len({(each.kind, each.pair) for each in planned}) == len(planned)
