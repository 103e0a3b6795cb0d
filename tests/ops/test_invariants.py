"""Each invariant, broken on purpose: a guard that never barks guards nothing, and one that always barks neither."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import refunds, settling
from sts_app.billing.models import Subscription
from sts_app.catalog.models import Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.ops.invariants import INVARIANTS, broken
from sts_app.provisioning import control, engine, names, services, simulated, worklist
from sts_app.provisioning.calling import call
from sts_app.provisioning.models import (
    Grant,
    ManualTask,
    ProvisioningAttempt,
    ReconciliationRun,
    TradingViewCredential,
)
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, behave, misbehave
from tests.builders import (
    alice,
    bob,
    cashier,
    entitled,
    grants,
    in_a_transaction,
    lifetime,
    named,
    open_page,
    person,
    stopped_clock,
    tradingview,
    vendor,
    work,
)
from tests.ops.corruptions import CORRUPTIONS, first


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def sound(db, clock):
    """A small world in which much has happened and all is well.

    Alice has what she paid for, Carol was refunded, Bob changes his name while nobody can be read,
    and of Dora's strategies, which TradingView refused, a person has some, gave one up and did one.
    """
    store, plan = vendor(), lifetime()
    paid(named(alice(), "Anna"), plan)
    carols = paid(named(person("carol@customers.example"), "Carol"), plan)
    work("provisioning", "emails")
    in_a_transaction(lambda: refunds.ask(carols.id, reason="she asked", actor="user:7"))
    work("billing", "provisioning")
    erin = paid(named(person("erin@customers.example"), "Erin"), plan)
    till = cashier()
    till.open_dispute(erin.session_id)
    in_a_transaction(lambda: settling.apply_facts(erin.id, till.look_up(erin.session_id)))
    franks = paid(named(person("frank@customers.example"), "Frank"), monthly())
    assert database.session.scalars(sa.select(Subscription)).one().state == "running"
    in_a_transaction(lambda: refunds.ask(franks.id, reason="a part", actor="user:7", amount_cents=100))
    work("billing", "provisioning")

    in_a_transaction(lambda: control.refuse_session("HTTP 401", credential_id=None))
    in_a_transaction(lambda: control.session_restored(actor="user:7", because="new ones"))
    clock.shift(timedelta(minutes=1))
    dora = named(person("dora@customers.example"), "Dora")
    entitled(dora, plan, "gift:dora")
    misbehave(store, Fault.REFUSE, times=100)
    while {grant.state for grant in grants("Dora")} != {"with_staff"}:
        clock.shift(timedelta(hours=1))
        work("provisioning")
    behave(store)
    done, cannot, *_ = [task.task_id for task in worklist.open_tasks(10)]
    in_a_transaction(lambda: worklist.cannot(cannot, "user:7", reason="it is banned there"))

    bob_ = named(bob(), "Bobby")
    entitled(bob_, plan, "gift:bob")
    work("provisioning")
    misbehave(store, Fault.READS_FAIL)
    in_a_transaction(lambda: names.set_name(bob_, "Bobby2", verified=True))
    work("provisioning", "emails")

    in_a_transaction(lambda: worklist.done(done, "user:7"))
    for retired in (time_source.now(), None):
        row = TradingViewCredential(
            key_id="k1", sealed=b"", entered_by="user:7", validated_at=time_source.now(), retired_at=retired
        )
        database.session.add(row)
    database.session.add(ReconciliationRun(source="daily", actor="system", dry_run=True, state="complete", counts={}))
    database.session.commit()


def paid(user, plan):
    purchase = open_page(user, plan)
    till = cashier()
    till.pay(purchase.session_id)
    in_a_transaction(lambda: settling.apply_facts(purchase.id, till.look_up(purchase.session_id)))
    work("billing")
    return purchase


def monthly() -> Plan:
    plan = Plan(
        slug="monthly", name="Monthly", price_cents=1900, mode="subscription", interval="month",
        stripe_price_id="price_monthly", covers_all=True,
    )  # fmt: skip
    database.session.add(plan)
    database.session.flush()
    return plan


def execute(statement: str) -> None:
    values = {
        "now": time_source.now(),
        "long_ago": time_source.now() - timedelta(minutes=30),
        "days_ago": time_source.now() - timedelta(days=2),
    }
    given = {name: value for name, value in values.items() if f":{name}" in statement}
    found = database.session.execute(sa.text(statement), given)
    assert found.rowcount != 0, f"this changes nothing: {statement}"


def test_a_sound_world_breaks_none(sound):
    assert broken(database.session.connection()) == {}


@pytest.mark.breaks_invariants
def test_each_is_noticed(sound, subtests):
    for corruption in CORRUPTIONS:
        with subtests.test(corruption.deed):
            spoilt = database.session.begin_nested()
            try:
                for statement in corruption.loosen:
                    database.session.execute(sa.text(statement))
                execute(corruption.sql)

                assert corruption.invariant in broken(database.session.connection())
            finally:
                spoilt.rollback()


def test_there_are_enough_of_them_and_every_invariant_is_broken_by_one():
    assert len(CORRUPTIONS) >= 30
    assert {each.invariant for each in CORRUPTIONS} == {invariant.name for invariant in INVARIANTS}


@pytest.mark.breaks_invariants
def test_what_needs_workers_is_not_asked_while_there_are_none(sound):
    execute("UPDATE reconciliation_run SET state = 'running', created_at = :long_ago")

    assert broken(database.session.connection(), workers_alive=False) == {}


@pytest.mark.breaks_invariants
def test_the_present_may_be_given(sound):
    execute("UPDATE reconciliation_run SET state = 'running', created_at = :now")
    later = time_source.now() + timedelta(hours=1)
    late = "no reconciliation under way for longer than it may take"

    assert late in broken(database.session.connection(), now=later)
    assert broken(database.session.connection()) == {}


class TestWhatIsNoFault:
    def test_a_clock_half_a_minute_behind_the_one_that_wrote(self, sound):
        ahead = time_source.now() - timedelta(seconds=30)

        assert broken(database.session.connection(), now=ahead) == {}

    def test_an_end_by_its_date_before_the_next_sweep(self, sound, clock):
        user = named(person("eve@customers.example"), "Evelyn")
        plan = lifetime()
        soon = time_source.now() + timedelta(seconds=90)
        in_a_transaction(lambda: services.gift(user, plan, reason="a friend", ends_at=soon, actor="user:7"))

        assert broken(database.session.connection(), now=soon + timedelta(seconds=50)) == {}

    def test_a_strategy_that_is_moved_before_the_next_sweep(self, sound, clock):
        clock.shift(timedelta(seconds=1))
        execute("UPDATE strategy SET script_id = 'PUB;another', updated_at = :now WHERE slug = 'nq-power-hour'")
        execute(
            "INSERT INTO former_script (strategy_id, script_id, created_at) "
            "SELECT id, 'PUB;nq_power_hour_005', :now FROM strategy WHERE slug = 'nq-power-hour'"
        )

        assert broken(database.session.connection()) == {}

    @pytest.mark.parametrize(
        "held_up",
        [
            "UPDATE provisioning_control SET switch = 'DISABLED'",
            "UPDATE provisioning_control SET circuit_opened_at = :now, canary_at = :now",
            "UPDATE pace_bucket SET held_until = :now",
        ],
    )
    def test_work_that_waits_because_nothing_may_be_tried(self, sound, held_up):
        execute(f"UPDATE grants SET next_attempt_at = :long_ago WHERE {first('bobby2')}")
        execute("UPDATE provisioning_attempt SET created_at = :long_ago")
        execute(held_up)

        assert broken(database.session.connection()) == {}


class TestOnTheWay:
    """The invariants hold at every step of a life, and not only at its end."""

    def held(self) -> bool:
        return broken(database.session.connection(), workers_alive=False) == {}

    def steps(self, *deeds: Callable[[], object]) -> None:
        for number, deed in enumerate(deeds):
            in_a_transaction(deed)
            assert self.held(), number

    def test_of_a_grant_a_refund_and_a_second_purchase(self, db, clock):
        vendor()
        plan, user = lifetime(), named(alice(), "Anna")
        self.steps(lambda: entitled(user, plan, "gift:1"))
        claimed = in_a_transaction(engine.claim_next)
        self.steps(
            lambda: services.end_entitlement("gift:1", because="over", actor="system"),
            lambda: engine.settle(claimed, call(tradingview(), claimed)),
            lambda: entitled(user, plan, "gift:2"),
            lambda: names.set_name(user, "Anna2", verified=True),
        )
        work("provisioning")
        assert self.held()

    def test_of_a_pair_that_goes_to_a_person(self, db, clock):
        vendor()
        entitled(named(alice(), "Anna"), lifetime())
        for _ in range(3):
            in_a_transaction(engine.claim_next)
            assert self.held()
            clock.shift(timedelta(hours=1))
        in_a_transaction(engine.claim_next)

        assert database.session.scalar(sa.select(sa.func.count()).select_from(ManualTask)) == 6
        assert self.held()

    def test_of_a_pair_that_is_given_up_tried_again_and_done_by_hand(self, db, clock):
        store = vendor()
        entitled(named(alice(), "Anna"), lifetime())
        self.steps(lambda: control.set_switch(Switch.MANUAL, actor="user:7", because="a test"))
        work("provisioning")
        [task, *_] = worklist.open_tasks(1)
        self.steps(
            lambda: worklist.cannot(task.task_id, "user:7", reason="it is banned there"),
            lambda: worklist.retry(task.grant_id, "user:7"),
        )
        work("provisioning")
        again = next(each for each in worklist.open_tasks(10) if each.grant_id == task.grant_id)
        simulated.give(store, again.name, again.script_id)
        self.steps(lambda: worklist.done(again.task_id, "user:7"))
        work("provisioning")
        self.steps(lambda: control.set_switch(Switch.AUTO, actor="user:7", because="a test"))
        work("provisioning")

        assert {grant.state for grant in grants()} == {"verified"}

    def test_of_an_incident_and_of_a_circuit(self, db, clock):
        vendor()
        user = named(alice(), "Anna")
        self.steps(
            lambda: entitled(user, lifetime(), "gift:1"),
            lambda: control.refuse_session("HTTP 401", credential_id=None),
            lambda: control.set_switch(Switch.DISABLED, actor="user:7", because="a test"),
            lambda: control.session_restored(actor="user:7", because="new ones"),
            lambda: control.set_switch(Switch.AUTO, actor="user:7", because="a test"),
            lambda: [control.note_failure("HTTP 502") for _ in range(control.FAILURES_OPEN)],
            control.close_circuit,
        )
        assert database.session.scalar(sa.select(sa.func.count()).select_from(ProvisioningAttempt)) == 0
        assert database.session.scalar(sa.select(sa.func.count()).select_from(Grant)) == 6
