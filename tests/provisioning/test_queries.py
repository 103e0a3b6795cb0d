"""The set-based twins of the decision agree with it in every small world."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sts_app.catalog.models import Plan, Strategy
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.ops import invariants
from sts_app.provisioning import queries
from sts_app.provisioning.models import Entitlement, TradingViewName
from sts_app.provisioning.rules import wanted_pairs
from tests.builders import entitled, named, person, strategy, work

hours = st.integers(-2, 2)
people_st = st.lists(
    st.fixed_dictionaries(
        {
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
plans_st = st.tuples(st.booleans(), st.booleans())
statuses_st = st.lists(st.sampled_from(["draft", "on_sale", "retired"]), max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=people_st, covers=plans_st, statuses=statuses_st)
def test_sql_and_the_pure_function_want_the_same(db, people, covers, statuses):
    world = db.session.begin_nested()
    try:
        users = _build(people, covers, statuses)
        now = time_source.now()

        by_rule = {
            (user.id, pair.name_key, pair.script_id)
            for user in users
            for pair in wanted_pairs(
                queries.reasons_of(queries.entitlements_of(user.id)),
                queries.as_names(queries.names_of(user.id)),
                queries.grantable_scripts(),
                verified=frozenset(),
                now=now,
            )
        }
        by_sql = set(map(tuple, db.session.execute(queries.wanted_now(now))))
        by_invariant = set(map(tuple, db.session.execute(sa.text(invariants._WANTED), {"now": now})))

        assert by_sql == by_rule
        assert by_invariant == {(name, script) for _, name, script in by_rule}
    finally:
        world.rollback()


def _build(people, covers, statuses):
    now = time_source.now()
    plans = [Plan(slug=f"plan-{n}", name="Plan", price_cents=1, covers_all=all_) for n, all_ in enumerate(covers)]
    database.session.add_all(plans)
    for number, status in enumerate(statuses):
        strategy(f"s-{number}", status=status)
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
