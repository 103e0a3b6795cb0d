"""The set-based twins of the decision agree with it in every small world."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sts_app.catalog.models import FormerScript, Plan, PlanStrategy, Strategy
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.ops import invariants
from sts_app.provisioning import picture, queries
from sts_app.provisioning.models import Entitlement, Grant, TradingViewName
from sts_app.provisioning.rules import GrantState, wanted_pairs
from tests.builders import entitled, grants, named, person, strategy, work

hours = st.integers(-2, 2)
people_st = st.lists(
    st.fixed_dictionaries(
        {
            # A former name: whether it is released.
            "names": st.lists(st.booleans(), max_size=2),
            "has_current": st.booleans(),
            "reasons": st.lists(
                st.tuples(st.integers(0, 1), hours, st.none() | hours, st.booleans()),
                max_size=3,
            ),
        }
    ),
    max_size=3,
)
# Each plan: whether it covers all, and which strategies stand on its list.
plan_st = st.tuples(st.booleans(), st.sets(st.integers(0, 2)))
plans_st = st.tuples(plan_st, plan_st)
# Each strategy by its status and how many scripts it had before.
strategies_st = st.lists(st.tuples(st.sampled_from(["draft", "on_sale", "retired"]), st.integers(0, 2)), max_size=3)
# What stands of the pairs there could be, in their order: nothing, or a state and whether it is wanted.
states_st = st.lists(
    st.none()
    | st.tuples(
        st.sampled_from([GrantState.VERIFIED, GrantState.PENDING, GrantState.FAILED, GrantState.ABSENT]), st.booleans()
    ),
    max_size=24,
)


@pytest.mark.breaks_invariants
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=people_st, covers=plans_st, strategies=strategies_st, states=states_st)
def test_sql_and_the_pure_function_want_the_same(db, people, covers, strategies, states):
    world = db.session.begin_nested()
    try:
        users = _build(people, covers, strategies)
        _stand(states)
        now = time_source.now()

        by_rule, targets_by_rule = set(), set()
        for user in users:
            facts = queries.facts_of(user.id, now)
            by_rule |= {(user.id, pair.name_key, pair.script_id) for pair in facts.wanted}
            names, reasons = queries.as_names(facts.names), queries.reasons_of(facts.entitlements)
            targets = wanted_pairs(reasons, names, facts.scripts, verified=frozenset(), now=now)
            targets_by_rule |= {(pair.name_key, pair.script_id) for pair in targets}
        held = {(grant.name_key, grant.script_id) for grant in grants() if grant.wanted}

        in_use = {script.script_id for script in queries.grantable_scripts()}
        held_or_in_motion = {grant.script_id for grant in grants() if grant.wanted or grant.state != GrantState.ABSENT}

        assert picture.scripts_in_use() == in_use | held_or_in_motion
        assert set(map(tuple, db.session.execute(queries.wanted_now(now)))) == by_rule
        assert set(map(tuple, db.session.execute(sa.text(invariants.WANTED), {"now": now}))) == targets_by_rule
        assert set(queries.people_out_of_step(now)) == {
            user.id
            for user in users
            if {(name, script) for owner, name, script in by_rule if owner == user.id}
            != {pair for pair in held if pair[0] in {name.name_key for name in queries.names_of(user.id)}}
        }
    finally:
        world.rollback()


def _build(people, covers, strategies):
    now = time_source.now()
    plans = [Plan(slug=f"plan-{n}", name="Plan", price_cents=1, covers_all=all_) for n, (all_, _) in enumerate(covers)]
    database.session.add_all(plans)
    database.session.flush()
    for number, (status, former) in enumerate(strategies):
        made = strategy(f"s-{number}", status=status)
        for plan, (_, listed) in zip(plans, covers, strict=True):
            if number in listed:
                database.session.add(PlanStrategy(plan_id=plan.id, strategy_id=made.id))
        for which in range(former):
            database.session.add(FormerScript(strategy_id=made.id, script_id=f"PUB;s-{number}-former-{which}"))
    users = []
    for number, each in enumerate(people):
        user = person(f"person{number}@customers.example")
        users.append(user)
        for former, released in enumerate(each["names"]):
            _name(user, f"p{number}former{former}", replaced_at=now, released_at=now if released else None)
        if each["has_current"]:
            _name(user, f"p{number}now")
        for which, (plan, starts, ends, suspended) in enumerate(each["reasons"]):
            database.session.add(
                Entitlement(
                    user_id=user.id,
                    plan_id=plans[plan].id,
                    source=f"gift:{number}-{which}",
                    starts_at=now + timedelta(hours=starts),
                    ends_at=None if ends is None else now + timedelta(hours=ends),
                    suspended_at=now if suspended else None,
                )
            )
    database.session.flush()
    return users


def _stand(states):
    """Put the pairs of all names and all scripts, former ones too, into these states, as far as they reach."""
    names = database.session.scalars(sa.select(TradingViewName.name_key).order_by(TradingViewName.id)).all()
    scripts = [
        *database.session.execute(sa.select(Strategy.id, Strategy.script_id).order_by(Strategy.id)),
        *database.session.execute(
            sa.select(FormerScript.strategy_id, FormerScript.script_id).order_by(FormerScript.id)
        ),
    ]
    for given_, (name, (strategy_id, script)) in zip(states, product(names, scripts), strict=False):
        if given_ is not None:
            state, wanted = given_
            database.session.add(
                Grant(
                    name_key=name,
                    name_spelling=name,
                    script_id=script,
                    strategy_id=strategy_id,
                    wanted=wanted,
                    state=state,
                    paid_at=time_source.now(),
                )
            )
    database.session.flush()


def _name(user, spelling, **changes):
    database.session.add(TradingViewName(user_id=user.id, name_key=spelling, spelling=spelling, **changes))
    database.session.flush()


def test_who_never_had_a_reason_sees_no_rows(alice):
    assert queries.access_of(alice.id, time_source.now()) == []


def test_who_has_a_reason_and_no_name_is_asked_for_one(bob, plan):
    entitled(bob, plan)

    rows = queries.access_of(bob.id, time_source.now())

    assert {row.state for row in rows} == {"Action needed"}
    assert len(rows) == 6


def test_rows_come_in_the_order_staff_chose(alice, plan, vendor):
    entitled(alice, plan)
    database.session.execute(sa.update(Strategy).where(Strategy.slug == "nq-power-hour").values(position=0))

    assert queries.access_of(alice.id, time_source.now())[0].strategy.slug == "nq-power-hour"


def test_active_says_since_when(alice, plan, vendor):
    entitled(alice, plan)
    work("provisioning")

    assert {row.since for row in queries.access_of(alice.id, time_source.now())} == {time_source.now()}


def test_everybody_in_step_is_nobody_out_of_step(alice, bob, plan, vendor):
    entitled(alice, plan)
    entitled(named(bob, "Bobby"), plan, "gift:2")
    work("provisioning")

    assert queries.people_out_of_step(time_source.now()) == []


def test_every_try_is_listed_newest_first(alice, plan, vendor):
    from sts_app.provisioning.services import end_entitlement

    entitled(alice, plan)
    work("provisioning")
    end_entitlement("gift:1", because="refund", actor="system")
    work("provisioning")

    [grant, *_] = queries.grants_of(["anna"])
    assert [attempt.outcome for attempt in queries.attempts_of([grant.id])[grant.id]] == ["gone", "present"]
