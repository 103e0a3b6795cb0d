"""The two decisions, as tables that read like the policy, and as properties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_app.provisioning.rules import (
    AccessState,
    GrantState,
    Name,
    Outcome,
    Pair,
    Policy,
    Reason,
    Script,
    Standing,
    Step,
    Tell,
    access_state,
    next_step,
    wanted_pairs,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
POLICY = Policy(delays=tuple(timedelta(seconds=s) for s in (30, 120, 600, 1800, 3600)), max_retries=5)
PRESENT, GONE, NOT_TAKEN, LATER = Outcome.PRESENT, Outcome.GONE, Outcome.NOT_TAKEN, Outcome.LATER
UNKNOWN, SESSION, LOST = Outcome.UNKNOWN_NAME, Outcome.SESSION_REFUSED, Outcome.LOST


def life(*outcomes: Outcome, wanted: bool = True) -> list[Step]:
    """The steps of one pair that meets `outcomes`, one after the other."""
    steps, standing = [], Standing(wanted)
    for outcome in outcomes:
        step = next_step(standing, outcome, POLICY)
        steps.append(step)
        standing = Standing(wanted, step.failed_tries, step.spent_tries, step.lost_claims)
    return steps


def seconds(steps: list[Step]) -> list[float | None]:
    return [None if step.after is None else step.after.total_seconds() for step in steps]


class TestAttempts:
    """PRODUCT 5, "Attempts", sentence by sentence."""

    def test_retries_come_after_30_s_2_min_10_min_30_min_and_1_h(self):
        steps = life(*[NOT_TAKEN] * 5)

        assert seconds(steps) == [30, 120, 600, 1800, 3600]
        assert {step.state for step in steps} == {GrantState.PENDING}

    def test_the_last_delay_repeats(self):
        assert seconds(life(*[LATER] * 8))[4:] == [3600, 3600, 3600, 3600]

    def test_one_first_try_and_five_retries_and_then_a_person(self):
        *before, last = life(*[NOT_TAKEN] * 6)

        assert all(step.state is GrantState.PENDING for step in before)
        assert (last.state, last.after) == (GrantState.WITH_STAFF, None)

    def test_the_vendors_longer_wait_is_honoured(self):
        step = next_step(Standing(True), LATER, POLICY, vendor_after=timedelta(minutes=5))

        assert step.after == timedelta(minutes=5)

    def test_the_vendors_shorter_wait_does_not_hurry_us(self):
        step = next_step(Standing(True), LATER, POLICY, vendor_after=timedelta(seconds=1))

        assert step.after == timedelta(seconds=30)

    def test_every_failed_try_steps_the_delay_and_only_answers_about_us_spend_a_retry(self):
        steps = life(LATER, NOT_TAKEN, LATER, NOT_TAKEN)

        assert seconds(steps) == [30, 120, 600, 1800]
        assert [step.spent_tries for step in steps] == [0, 1, 1, 2]
        assert [step.failed_tries for step in steps] == [1, 2, 3, 4]

    def test_trouble_of_the_vendors_is_waited_out_for_ever(self):
        steps = life(*[LATER] * 500)

        assert {step.state for step in steps} == {GrantState.PENDING}
        assert steps[-1].spent_tries == 0

    def test_staff_hear_of_the_third_failure_and_of_the_end_and_of_nothing_between(self):
        told = [step.tell for step in life(*[NOT_TAKEN] * 6)]

        assert told == [
            set(),
            set(),
            {Tell.STAFF_THIRD_FAILURE},
            set(),
            set(),
            {Tell.STAFF_EXHAUSTED, Tell.CUSTOMER_DELAYED},
        ]

    def test_a_revoke_that_ends_with_staff_is_no_news_to_the_customer(self):
        last = life(*[NOT_TAKEN] * 6, wanted=False)[-1]

        assert last.state is GrantState.WITH_STAFF
        assert last.tell == {Tell.STAFF_EXHAUSTED}

    def test_an_unknown_name_is_not_retried_and_the_customer_is_asked(self):
        [step] = life(UNKNOWN)

        assert (step.state, step.after) == (GrantState.NEEDS_CUSTOMER, None)
        assert step.tell == {Tell.CUSTOMER_NAME_UNKNOWN}

    def test_revoking_from_a_name_that_no_longer_exists_is_done(self):
        [step] = life(UNKNOWN, wanted=False)

        assert (step.state, step.after, step.tell) == (GrantState.ABSENT, None, frozenset())

    def test_a_refused_session_consumes_nothing(self):
        before = Standing(True, failed_tries=2, spent_tries=1, lost_claims=1)

        step = next_step(before, SESSION, POLICY)

        assert (step.failed_tries, step.spent_tries, step.lost_claims) == (2, 1, 1)
        assert (step.state, step.after) == (GrantState.PENDING, timedelta(0))
        assert step.tell == frozenset()

    def test_a_lost_claim_is_worked_again_at_once_and_the_third_goes_to_staff(self):
        steps = life(LOST, LOST, LOST)

        assert seconds(steps) == [0, 0, None]
        assert [step.state for step in steps] == [GrantState.PENDING, GrantState.PENDING, GrantState.WITH_STAFF]
        assert Tell.STAFF_EXHAUSTED in steps[-1].tell

    def test_a_lost_claim_is_no_failed_try(self):
        assert [(s.failed_tries, s.spent_tries) for s in life(LOST, LOST)] == [(0, 0), (0, 0)]

    def test_no_retries_at_all_means_one_try(self):
        policy = Policy(delays=POLICY.delays, max_retries=0)

        assert next_step(Standing(True), NOT_TAKEN, policy).state is GrantState.WITH_STAFF

    @pytest.mark.parametrize(
        ("wanted", "outcome", "state"),
        [
            (True, PRESENT, GrantState.VERIFIED),
            (True, GONE, GrantState.PENDING),
            (False, GONE, GrantState.ABSENT),
            (False, PRESENT, GrantState.REVOKING),
        ],
    )
    def test_done_means_read_back(self, wanted, outcome, state):
        assert life(outcome, wanted=wanted)[0].state is state

    def test_success_clears_the_counts(self):
        last = life(LATER, NOT_TAKEN, LOST, PRESENT)[-1]

        assert (last.failed_tries, last.spent_tries, last.lost_claims, last.after) == (0, 0, 0, None)


standings = st.builds(
    Standing,
    wanted=st.booleans(),
    failed_tries=st.integers(0, 30),
    spent_tries=st.integers(0, 8),
    lost_claims=st.integers(0, 4),
)
waits = st.none() | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1))
MOVING = (GrantState.PENDING, GrantState.REVOKING)


class TestNextStepAlways:
    @given(standings, st.sampled_from(Outcome), waits)
    def test_a_pair_is_due_again_or_settled_and_never_both(self, standing, outcome, wait):
        step = next_step(standing, outcome, POLICY, vendor_after=wait)

        assert (step.state in MOVING) == (step.after is not None)

    @given(standings, st.sampled_from(Outcome), waits)
    def test_what_is_wanted_decides_the_family_of_states(self, standing, outcome, wait):
        family = (
            {GrantState.PENDING, GrantState.VERIFIED, GrantState.NEEDS_CUSTOMER, GrantState.WITH_STAFF}
            if standing.wanted
            else {GrantState.REVOKING, GrantState.ABSENT, GrantState.WITH_STAFF}
        )

        assert next_step(standing, outcome, POLICY, vendor_after=wait).state in family

    @given(standings, st.sampled_from(Outcome), waits)
    def test_counts_never_fall_while_the_pair_is_still_worked_on(self, standing, outcome, wait):
        step = next_step(standing, outcome, POLICY, vendor_after=wait)

        if step.state in (*MOVING, GrantState.WITH_STAFF):
            assert step.failed_tries >= standing.failed_tries
            assert step.spent_tries >= standing.spent_tries
            assert step.lost_claims >= standing.lost_claims

    @given(standings, st.sampled_from(Outcome), waits)
    def test_verified_needs_a_reading_of_presence_and_absent_one_of_absence(self, standing, outcome, wait):
        state = next_step(standing, outcome, POLICY, vendor_after=wait).state

        if state is GrantState.VERIFIED:
            assert outcome is PRESENT
        if state is GrantState.ABSENT:
            assert outcome in (GONE, UNKNOWN)

    @given(standings, st.sampled_from([NOT_TAKEN, LATER]), waits)
    def test_no_wait_is_shorter_than_the_vendor_asked(self, standing, outcome, wait):
        after = next_step(standing, outcome, POLICY, vendor_after=wait).after

        if after is not None and wait is not None:
            assert after >= wait

    @given(st.lists(st.sampled_from([NOT_TAKEN, LATER, LOST, SESSION]), min_size=60, max_size=90), st.booleans())
    def test_whoever_is_refused_long_enough_ends_with_a_person(self, outcomes, wanted):
        states = [step.state for step in life(*outcomes, wanted=wanted)]

        refused = sum(outcome is NOT_TAKEN for outcome in outcomes) > POLICY.max_retries
        lost = sum(outcome is LOST for outcome in outcomes) >= POLICY.max_lost_claims
        assert (GrantState.WITH_STAFF in states) == (refused or lost)


# Small worlds: two plans, three scripts, one present name and two former ones at most.

SCRIPT_IDS = ("PUB;a", "PUB;b", "PUB;c")
KEYS = ("anna", "anna2", "anna3")
moments = st.integers(-3, 3).map(lambda hours: NOW + timedelta(hours=hours))
reasons_st = st.lists(
    st.builds(
        Reason,
        plan_id=st.integers(1, 2),
        starts_at=moments,
        ends_at=st.none() | moments,
        suspended=st.booleans(),
    ),
    max_size=4,
)
names_st = st.lists(st.sampled_from(KEYS), unique=True, max_size=3).flatmap(
    lambda keys: st.booleans().map(
        lambda has_current: [Name(key, current=has_current and n == 0) for n, key in enumerate(keys)]
    )
)
scripts_st = st.tuples(*[st.frozensets(st.integers(1, 2)) for _ in SCRIPT_IDS]).map(
    lambda plans: [Script(script, ids) for script, ids in zip(SCRIPT_IDS, plans, strict=True)]
)
verified_st = st.frozensets(st.builds(Pair, st.sampled_from(KEYS), st.sampled_from(SCRIPT_IDS)))


def current(names: list[Name]) -> str | None:
    return next((name.key for name in names if name.current), None)


def held_scripts(reasons: list[Reason], scripts: list[Script]) -> set[str]:
    plans = {reason.plan_id for reason in reasons if reason.holds(NOW)}
    return {script.script_id for script in scripts if script.plan_ids & plans}


class TestWantedPairsAlways:
    @given(reasons_st, names_st, scripts_st, verified_st)
    def test_the_present_name_gets_every_script_of_the_plans_held(self, reasons, names, scripts, verified):
        wanted = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)

        key = current(names)
        got = {pair.script_id for pair in wanted if pair.name_key == key}
        assert got == (held_scripts(reasons, scripts) if key else set())

    @given(reasons_st, names_st, scripts_st, verified_st)
    def test_nothing_is_wanted_for_a_plan_not_held(self, reasons, names, scripts, verified):
        wanted = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)

        assert {pair.script_id for pair in wanted} <= held_scripts(reasons, scripts)

    @given(reasons_st, names_st, scripts_st, verified_st)
    def test_nobody_elses_name_is_ever_wanted(self, reasons, names, scripts, verified):
        wanted = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)

        assert {pair.name_key for pair in wanted} <= {name.key for name in names}

    @given(reasons_st, names_st, scripts_st, verified_st)
    def test_a_former_name_is_wanted_while_it_works_and_until_the_new_one_does(self, reasons, names, scripts, verified):
        wanted = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)

        key = current(names)
        held = held_scripts(reasons, scripts)
        for name in names:
            if name.current:
                continue
            for script in SCRIPT_IDS:
                keeps = script in held and Pair(name.key, script) in verified
                new_works = key is not None and Pair(key, script) in verified
                assert (Pair(name.key, script) in wanted) == (keeps and not new_works)

    @given(reasons_st, names_st, scripts_st, verified_st)
    def test_a_script_that_works_under_some_name_keeps_working_under_one(self, reasons, names, scripts, verified):
        wanted = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)

        own = {name.key for name in names}
        for script in held_scripts(reasons, scripts):
            works = {pair for pair in verified if pair.script_id == script and pair.name_key in own}
            assert not works or works & wanted

    @given(reasons_st, reasons_st, names_st, scripts_st, verified_st)
    def test_another_reason_never_takes_anything_away(self, reasons, more, names, scripts, verified):
        before = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)
        after = wanted_pairs([*reasons, *more], names, scripts, verified=verified, now=NOW)

        assert before <= after

    @given(reasons_st, names_st, scripts_st, verified_st)
    def test_only_the_end_of_every_reason_ends_access(self, reasons, names, scripts, verified):
        over = [
            Reason(r.plan_id, r.starts_at, ends_at=min(r.ends_at or NOW, NOW), suspended=r.suspended) for r in reasons
        ]

        assert wanted_pairs(over, names, scripts, verified=verified, now=NOW) == frozenset()

    @given(reasons_st, names_st, scripts_st, verified_st, st.randoms())
    def test_the_order_of_the_facts_says_nothing(self, reasons, names, scripts, verified, random):
        straight = wanted_pairs(reasons, names, scripts, verified=verified, now=NOW)
        for facts in (reasons, names, scripts):
            random.shuffle(facts)

        assert wanted_pairs(reasons, names, scripts, verified=verified, now=NOW) == straight

    @given(st.permutations(SCRIPT_IDS), st.permutations(SCRIPT_IDS))
    def test_a_change_of_name_never_leaves_a_script_without_a_working_name(self, granted, revoked):
        """Anna becomes Anna2: whatever the order of grants and revokes, each script always works."""
        reasons = [Reason(1, NOW)]
        names = [Name("anna", current=False), Name("anna2", current=True)]
        scripts = [Script(script, frozenset({1})) for script in SCRIPT_IDS]
        verified = {Pair("anna", script) for script in SCRIPT_IDS}

        def wanted() -> frozenset[Pair]:
            return wanted_pairs(reasons, names, scripts, verified=frozenset(verified), now=NOW)

        for new in granted:
            verified.add(Pair("anna2", new))
            for old in revoked:
                if Pair("anna", old) not in wanted():
                    verified.discard(Pair("anna", old))
            assert {pair.script_id for pair in verified & wanted()} == set(SCRIPT_IDS)
        assert verified == {Pair("anna2", script) for script in SCRIPT_IDS}


class TestReason:
    @pytest.mark.parametrize(
        ("starts", "ends", "suspended", "holds"),
        [
            (0, None, False, True),
            (1, None, False, False),
            (-1, 1, False, True),
            (-1, 0, False, False),
            (-1, -1, False, False),
            (-1, None, True, False),
        ],
    )
    def test_a_reason_holds_from_its_start_until_its_end_unless_suspended(self, starts, ends, suspended, holds):
        end = None if ends is None else NOW + timedelta(hours=ends)

        assert Reason(1, NOW + timedelta(hours=starts), end, suspended).holds(NOW) is holds


class TestAccessState:
    @pytest.mark.parametrize(
        ("state", "given_", "word"),
        [
            (None, {"wanted": True}, AccessState.PENDING),
            (None, {"wanted": True, "has_name": False}, AccessState.ACTION_NEEDED),
            (None, {"wanted": False}, AccessState.REVOKED),
            (GrantState.PENDING, {"wanted": True}, AccessState.PENDING),
            (GrantState.VERIFIED, {"wanted": True}, AccessState.ACTIVE),
            (GrantState.NEEDS_CUSTOMER, {"wanted": True}, AccessState.ACTION_NEEDED),
            (GrantState.WITH_STAFF, {"wanted": True}, AccessState.PENDING),
            (GrantState.REVOKING, {"wanted": False}, AccessState.REVOKING),
            (GrantState.WITH_STAFF, {"wanted": False}, AccessState.REVOKING),
            (GrantState.REVOKING, {"wanted": False, "suspended": True}, AccessState.SUSPENDED),
            (GrantState.ABSENT, {"wanted": False, "suspended": True}, AccessState.SUSPENDED),
            (GrantState.ABSENT, {"wanted": False}, AccessState.REVOKED),
            # A row that has not turned yet is on its way.
            (GrantState.VERIFIED, {"wanted": False}, AccessState.REVOKING),
            (GrantState.ABSENT, {"wanted": True}, AccessState.PENDING),
        ],
    )
    def test_the_word_a_customer_sees(self, state, given_, word):
        assert access_state(state, **given_) is word
