"""What staff change in the catalog reaches everybody it concerns: once, behind new buyers, and never through a gap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from sts_app import create_app
from sts_app.accounts.models import User
from sts_app.catalog import queries as catalog_queries
from sts_app.catalog import services as catalog
from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.catalog.services import ScriptInUse
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.provisioning import control, engine, queries
from sts_app.provisioning import services as provisioning
from sts_app.provisioning.models import Grant, ProvisioningAttempt
from sts_app.provisioning.rules import GrantState, Outcome, Pair, Priority
from sts_app.provisioning.simulated import Fault, calls, misbehave
from sts_app.settings import load
from tests.builders import alice as alice_of
from tests.builders import entitled, grants, holders, kinds, look_over, named, opened, person, strategy, work
from tests.world import ENV

OWNERS = 120
SEVENTH = "PUB;nq-seventh"


def rows_of(script_id: str) -> dict[str, Grant]:
    """The grants of one script by name."""
    return {grant.name_key: grant for grant in grants() if grant.script_id == script_id}


def names_of(script_id: str) -> list[str]:
    """Who holds a script at TradingView, in the order they got it."""
    from sts_app.core.store import store_for
    from sts_app.provisioning import simulated

    return [held.username for held in simulated.holdings(store_for("tradingview")) if held.script_id == script_id]


def sweep_and_work() -> None:
    look_over()
    work("provisioning")


class TestActivation:
    @pytest.fixture
    def seventh(self, alice, plan, vendor) -> Strategy:
        """A draft; Alice holds the six that are on sale."""
        entitled(alice, plan)
        work("provisioning")
        return strategy("nq-seventh")

    def test_a_draft_reaches_nobody_and_its_activation_everybody(self, seventh):
        sweep_and_work()
        assert names_of(SEVENTH) == []

        catalog.activate(seventh.id, "system")
        sweep_and_work()

        assert names_of(SEVENTH) == ["Anna"]
        assert rows_of(SEVENTH)["anna"].state == GrantState.VERIFIED

    def test_it_is_given_once_however_often_it_is_activated_and_swept(self, seventh, vendor):
        before = calls(vendor)["grant"]

        for _ in range(3):
            catalog.activate(seventh.id, "system")
            look_over()
        sweep_and_work()

        assert calls(vendor)["grant"] == before + 1
        assert look_over() == 0

    def test_a_retired_strategy_keeps_its_holders_and_goes_to_new_buyers(self, bob, plan, seventh):
        catalog.activate(seventh.id, "system")
        sweep_and_work()

        catalog.retire(seventh.id, "system")
        sweep_and_work()
        assert names_of(SEVENTH) == ["Anna"]

        entitled(named(bob, "Bobby"), plan, "gift:2")
        work("provisioning")
        assert names_of(SEVENTH) == ["Anna", "Bobby"]

    def test_what_spreads_writes_no_letter(self, seventh):
        before = kinds()

        catalog.activate(seventh.id, "system")
        sweep_and_work()

        assert kinds() == before


class TestManyOwners:
    """One plan with one strategy, so that so many owners are made in a moment."""

    @pytest.fixture
    def owners(self, request, db, vendor, clock) -> Plan:
        plan = Plan(slug="small", name="Small", price_cents=100, covers_all=True)
        first = strategy("nq-first", status=StrategyStatus.ON_SALE)
        db.session.add(plan)
        db.session.flush()
        assert [one.id for one in catalog_queries.strategies_on_sale()] == [first.id]
        for number in range(request.param):
            entitled(named(person(f"owner{number}@customers.example"), f"Owner{number:03}"), plan, f"gift:o{number}")
        work_all(clock)
        assert len(holders("PUB;nq-first")) == request.param
        return plan

    @pytest.mark.parametrize("owners", [OWNERS], indirect=True)
    def test_one_new_strategy_reaches_each_once_and_a_new_buyer_waits_for_none_of_them(
        self, owners, vendor, monkeypatch, db, clock
    ):
        buyer = named(person("newcomer@customers.example"), "Newcomer")
        seventh = strategy("nq-seventh")
        catalog.activate(seventh.id, "system")
        while look_over():
            pass
        before = calls(vendor)["grant"]

        after_so_many_given(vendor, monkeypatch, 100, lambda: entitled(buyer, owners, "gift:newcomer"))
        work_all(clock)

        got = names_of(SEVENTH)
        assert got[:100] == [f"Owner{number:03}" for number in range(100)]
        assert got[100] == "Newcomer"
        assert sorted(got) == sorted([f"Owner{number:03}" for number in range(OWNERS)] + ["Newcomer"])
        assert calls(vendor)["grant"] == before + OWNERS + 1
        tries = db.session.execute(
            sa.select(sa.func.count(ProvisioningAttempt.id))
            .join(Grant, Grant.id == ProvisioningAttempt.grant_id)
            .where(Grant.script_id == SEVENTH)
            .group_by(Grant.id)
        )
        assert {row[0] for row in tries} == {1}
        assert {grant.priority for name, grant in rows_of(SEVENTH).items() if name != "newcomer"} == {Priority.SPREAD}
        assert look_over() == 0

    @pytest.mark.parametrize("owners", [60], indirect=True)
    def test_a_new_script_moves_each_through_no_gap_and_a_new_buyer_waits_for_none_of_them(
        self, owners, vendor, monkeypatch, clock
    ):
        buyer = named(person("newcomer@customers.example"), "Newcomer")
        first = catalog_queries.strategy_for_staff("nq-first")
        catalog.change_script(first.id, "PUB;second", actor="system")
        while look_over_once_needed():
            pass

        after_so_many_given(vendor, monkeypatch, 20, lambda: entitled(buyer, owners, "gift:newcomer"))
        taken = watch_what_is_taken(vendor, monkeypatch)
        work_all(clock)

        assert names_of("PUB;second")[20] == "Newcomer"
        assert len(holders("PUB;second")) == 61
        assert names_of("PUB;nq-first") == []
        assert sorted(taken) == [(f"owner{number:03}|PUB;nq-first", True) for number in range(60)]


def work_all(clock: time_machine.Traveller) -> None:
    """Work until nothing is due, however many times the pace must be waited for."""
    for _ in range(100):
        work("provisioning")
        if not queries.grants_due(time_source.now()):
            return
        clock.shift(timedelta(seconds=1))
    raise AssertionError("it never ends")


def look_over_once_needed() -> bool:
    """One look at whoever has no row yet for what is wanted; those who hold on to a former script are in step."""
    look_over()
    wanted = {(row[1], row[2]) for row in database.session.execute(queries.wanted_now(time_source.now()))}
    return not wanted <= {(grant.name_key, grant.script_id) for grant in grants()}


def after_so_many_given(vendor: Any, monkeypatch: pytest.MonkeyPatch, number: int, deed: Callable[[], Any]) -> None:
    """Do `deed` when TradingView has given so many scripts from now on: something happens in the midst of work."""
    give, given = vendor.add, 0

    def add(kind: str, key: str, record: Any) -> bool:
        nonlocal given
        added: bool = give(kind, key, record)
        given += kind == "access" and added
        if given == number and kind == "access":
            with transaction():
                deed()
        return added

    monkeypatch.setattr(vendor, "add", add)


def watch_what_is_taken(
    vendor: Any, monkeypatch: pytest.MonkeyPatch, script_id: str = "PUB;second"
) -> list[tuple[str, bool]]:
    """Every pair that TradingView takes away from now on, and whether `script_id` was held and read back before."""
    take, taken = vendor.delete, []

    def watched(kind: str, key: str) -> None:
        if kind == "access":
            name = key.partition("|")[0]
            state = database.session.scalar(
                sa.select(Grant.state).where(Grant.name_key == name, Grant.script_id == script_id)
            )
            held = vendor.get("access", f"{name}|{script_id}") is not None
            taken.append((key, held and state == GrantState.VERIFIED))
        take(kind, key)

    monkeypatch.setattr(vendor, "delete", watched)
    return taken


class TestChangeOfScript:
    @pytest.fixture
    def first(self, alice, plan, vendor) -> Strategy:
        """The first of the six that Alice holds."""
        entitled(alice, plan)
        work("provisioning")
        return catalog_queries.strategy_for_staff("nq-momentum-alpha")

    def test_the_new_script_is_read_back_before_the_old_one_is_taken(self, first, vendor, monkeypatch):
        old = first.script_id
        taken = watch_what_is_taken(vendor, monkeypatch)

        catalog.change_script(first.id, "PUB;second", actor="system")
        sweep_and_work()

        assert taken == [(f"anna|{old}", True)]
        assert (names_of("PUB;second"), names_of(old)) == (["Anna"], [])
        assert rows_of("PUB;second")["anna"].state == GrantState.VERIFIED
        assert rows_of(old)["anna"].state == GrantState.ABSENT
        assert look_over() == 0

    def test_the_old_script_stays_while_the_new_one_is_not_taken(self, first, vendor, monkeypatch, clock):
        old, give = first.script_id, vendor.add
        monkeypatch.setattr(
            vendor, "add", lambda kind, key, record: key.endswith("PUB;second") or give(kind, key, record)
        )

        catalog.change_script(first.id, "PUB;second", actor="system")
        for _ in range(4):
            sweep_and_work()
            clock.shift(timedelta(hours=1))

        assert (names_of("PUB;second"), names_of(old)) == ([], ["Anna"])
        assert rows_of("PUB;second")["anna"].failed_tries == 4

    def test_going_back_before_anybody_moved_asks_tradingview_for_nothing(self, first, vendor):
        old, sent = first.script_id, calls(vendor)["grant"]

        catalog.change_script(first.id, "PUB;second", actor="system")
        look_over()
        catalog.change_script(first.id, old, actor="system")
        sweep_and_work()

        assert calls(vendor)["grant"] == sent
        assert (names_of("PUB;second"), names_of(old)) == ([], ["Anna"])
        assert rows_of("PUB;second")["anna"].state == GrantState.ABSENT

    def test_going_back_after_everybody_moved_moves_them_back(self, first, vendor):
        old = first.script_id
        catalog.change_script(first.id, "PUB;second", actor="system")
        sweep_and_work()

        catalog.change_script(first.id, old, actor="system")
        sweep_and_work()

        assert (names_of("PUB;second"), names_of(old)) == ([], ["Anna"])

    def test_two_changes_in_a_row_leave_the_last_one_alone(self, first, vendor, monkeypatch):
        old = first.script_id
        catalog.change_script(first.id, "PUB;second", actor="system")
        misbehave(vendor, Fault.FAIL)
        sweep_and_work()
        taken = watch_what_is_taken(vendor, monkeypatch, "PUB;third")

        catalog.change_script(first.id, "PUB;third", actor="system")
        sweep_and_work()

        assert (f"anna|{old}", True) in taken
        assert names_of("PUB;third") == ["Anna"]
        assert (names_of("PUB;second"), names_of(old)) == ([], [])

    def test_a_new_name_and_a_new_script_at_once_end_with_the_new_of_both(self, alice, first, vendor):
        catalog.change_script(first.id, "PUB;second", actor="system")
        named(alice, "Anna2")
        sweep_and_work()
        sweep_and_work()

        mine = {script.script_id for script in queries.grantable_scripts()}
        assert holders() == {("Anna2", script_id) for script_id in mine}

    def test_a_new_buyer_never_sees_the_old_script(self, bob, plan, first):
        old = first.script_id
        catalog.change_script(first.id, "PUB;second", actor="system")

        entitled(named(bob, "Bobby"), plan, "gift:2")
        sweep_and_work()

        assert "Bobby" in names_of("PUB;second")
        assert "bobby" not in rows_of(old)

    def test_who_loses_every_reason_in_the_midst_of_it_loses_both(self, first, vendor):
        old = first.script_id
        misbehave(vendor, Fault.LOSE_ANSWER)
        catalog.change_script(first.id, "PUB;second", actor="system")
        sweep_and_work()
        assert (names_of("PUB;second"), names_of(old)) == (["Anna"], ["Anna"])

        provisioning.end_entitlement("gift:1", because="refund", actor="system")
        sweep_and_work()

        assert holders() == set()
        assert {grant.state for grant in grants()} == {GrantState.ABSENT}

    def test_a_former_script_shows_nowhere_in_what_is_wanted_once_all_have_moved(self, first):
        old = first.script_id
        catalog.change_script(first.id, "PUB;second", actor="system")
        sweep_and_work()

        assert not rows_of(old)["anna"].wanted
        assert Pair("anna", old) not in queries.verified_pairs(grants())


# Two real connections.


@pytest.fixture
def house(servers) -> Iterator[Flask]:
    """An app on a database of its own, where what one connection commits another one sees."""
    with servers.database(servers.seeded) as url:
        app = create_app(load({**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "WARNING"}))
        with app.app_context():
            yield app
            database.session.remove()
            database.engine.dispose()


class Rival(threading.Thread):
    """Somebody else's transaction, in a thread and on a connection of its own."""

    def __init__(self, house: Flask, deed: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.house, self.deed = house, deed
        self.result: Any = None
        self.start()

    def run(self) -> None:
        with self.house.app_context():
            try:
                with transaction():
                    self.result = self.deed()
            except Exception as error:
                self.result = error

    def waits(self) -> None:
        """Return once this thread's connection waits for a lock of ours."""
        waiting = sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        for _ in range(400):
            with database.engine.connect() as connection:
                if connection.scalar(waiting):
                    return
            assert self.is_alive(), f"it did not wait: {self.result!r}"
            time.sleep(0.01)
        raise AssertionError("it never came to wait for a lock")

    def ends(self) -> Any:
        self.join(10)
        assert not self.is_alive()
        return self.result


def entitle(user_id: int, source: str = "gift:1", plan: str = "lifetime") -> Any:
    bought = catalog_queries.plan_named(plan)
    return provisioning.entitle(user_id, bought, source=source, paid_at=time_source.now(), actor="system") is not None


def scripts_wanted(name: str) -> set[str]:
    with transaction():
        return {grant.script_id for grant in grants(name) if grant.wanted}


def sweep() -> int:
    with transaction():
        people = provisioning.people_to_look_at()
    for user_id in people:
        with transaction():
            provisioning.keep_in_step(user_id)
    return len(people)


class TestRaces:
    @pytest.fixture
    def anna(self, house) -> int:
        with transaction():
            return named(alice_of(), "Anna").id

    @pytest.fixture
    def seventh(self, house) -> int:
        with transaction():
            return strategy("nq-seventh").id

    def test_an_activation_waits_for_a_purchase_that_was_first_and_the_sweep_finds_its_owner(
        self, house, anna, seventh
    ):
        with transaction():
            entitle(anna)
            activation = Rival(house, lambda: catalog.activate(seventh, "system"))
            activation.waits()
        assert activation.ends() is True
        assert SEVENTH not in scripts_wanted("anna")

        assert sweep() == 1

        assert SEVENTH in scripts_wanted("anna")

    def test_a_purchase_waits_for_an_activation_that_was_first_and_has_the_strategy_at_once(self, house, anna, seventh):
        with transaction():
            catalog.activate(seventh, "system")
            purchase = Rival(house, lambda: entitle(anna))
            purchase.waits()
        assert purchase.ends() is True

        assert SEVENTH in scripts_wanted("anna")
        with transaction():
            assert rows_of(SEVENTH)["anna"].priority == Priority.BUYER
        assert sweep() == 0

    @pytest.mark.parametrize("first", ["script", "purchase"])
    def test_a_purchase_beside_a_change_of_script_ends_with_the_new_one_alone(self, house, anna, seventh, first):
        def change() -> bool:
            return catalog.change_script(seventh, "PUB;second", actor="system")

        with transaction():
            catalog.activate(seventh, "system")
        mine, other = (change, lambda: entitle(anna)) if first == "script" else (lambda: entitle(anna), change)
        with transaction():
            mine()
            rival = Rival(house, other)
            rival.waits()
        assert rival.ends() is True

        sweep()

        assert "PUB;second" in scripts_wanted("anna")
        assert SEVENTH not in scripts_wanted("anna")

    @pytest.fixture
    def single(self, house, seventh) -> str:
        """A plan that covers the seventh alone, a draft yet."""
        with transaction():
            given = {"name": "Single", "price_cents": 100, "strategies": ["nq-seventh"]}
            return catalog.create_plan("single", **given, actor="system").slug

    def test_an_activation_waits_for_a_purchase_of_a_plan_that_lists_the_strategy(self, house, anna, seventh, single):
        with transaction():
            entitle(anna, plan=single)
            activation = Rival(house, lambda: catalog.activate(seventh, "system"))
            activation.waits()
        assert activation.ends() is True
        assert scripts_wanted("anna") == set()

        assert sweep() == 1

        assert scripts_wanted("anna") == {SEVENTH}

    @pytest.mark.parametrize("order", ["cover first", "activation first"])
    def test_a_purchase_misses_nothing_of_a_strategy_that_is_listed_and_activated_at_once(
        self, house, anna, seventh, single, order
    ):
        """Whoever comes second knows the plan whose holders the strategy concerns."""
        with transaction():
            eighth = strategy("nq-eighth").id

        def cover() -> bool:
            found = catalog_queries.plan_named(single), catalog_queries.strategy_for_staff("nq-eighth")
            return catalog.cover(*found, actor="system")

        def activate() -> bool:
            return catalog.activate(eighth, "system")

        mine, other = (cover, activate) if order == "cover first" else (activate, cover)
        with transaction():
            mine()
            rival = Rival(house, other)
            rival.waits()
        assert rival.ends() is True
        assert Rival(house, lambda: entitle(anna, plan=single)).ends() is True

        assert scripts_wanted("anna") == {"PUB;nq-eighth"}
        assert sweep() == 0

    def test_a_purchase_waits_for_a_list_that_grows_and_has_the_strategy_at_once(self, house, anna, single):
        with transaction():
            found = catalog_queries.plan_named(single), catalog_queries.strategy_for_staff("nq-power-hour")
            catalog.cover(*found, actor="system")
            purchase = Rival(house, lambda: entitle(anna, plan=single))
            purchase.waits()
        assert purchase.ends() is True

        assert scripts_wanted("anna") == {"PUB;nq_power_hour_005"}
        assert sweep() == 0

    def test_two_who_activate_at_once_are_one_activation(self, house, anna, seventh):
        with transaction():
            assert catalog.activate(seventh, "user:1")
            rival = Rival(house, lambda: catalog.activate(seventh, "user:2"))
            rival.waits()

        assert rival.ends() is False

    def test_two_strategies_that_want_one_script_get_it_once(self, house, seventh):
        with transaction():
            eighth = strategy("nq-eighth").id
        with transaction():
            catalog.change_script(seventh, "PUB;second", actor="user:1")
            rival = Rival(house, lambda: catalog.change_script(eighth, "PUB;second", actor="user:2"))
            rival.waits()

        assert isinstance(rival.ends(), ScriptInUse)

    def test_an_incident_and_a_refund_of_somebody_else_wait_for_each_other_in_one_order(self, house, anna):
        """A refused session makes everybody's rows due: after it has its own people, not before."""
        entitled_to = Rival(house, lambda: entitle(anna))
        assert entitled_to.ends()
        with transaction():
            for grant in grants("Anna")[1:]:
                grant.next_attempt_at = time_source.now() + timedelta(minutes=10)
        with transaction():
            claim = engine.claim_next()
        assert claim is not None
        has_anna, go_on = threading.Event(), threading.Event()

        def refund() -> bool:
            provisioning.lock_person(anna)
            has_anna.set()
            go_on.wait(5)
            return provisioning.end_entitlement("gift:1", because="refund", actor="system")

        def settle() -> str:
            refused = {script: engine.Seen(Outcome.SESSION_REFUSED, "401") for script in claim.script_ids}
            engine.settle(claim, refused)
            return "settled"

        refunding = Rival(house, refund)
        assert has_anna.wait(5)
        settling = Rival(house, settle)
        settling.waits()
        go_on.set()

        assert (refunding.ends(), settling.ends()) == (True, "settled")
        with transaction():
            assert control.open_incident() is not None

    def test_a_checkout_need_not_wait_for_an_activation(self, house, anna, seventh):

        with transaction():
            catalog.activate(seventh, "system")
            checkout = Rival(
                house,
                lambda: opened(database.session.get_one(User, anna), catalog_queries.lifetime_plan()).status,
            )
            assert checkout.ends() == "PENDING"

    def test_nobody_is_missed_whoever_comes_first_by_a_hair(self, house):
        for number in range(8):
            with transaction():
                buyer = named(person(f"b{number}@customers.example"), f"Buyer{number}").id
                new = strategy(f"nq-new-{number}").id
            together = threading.Barrier(2)

            def at_once(deed: Callable[[], Any], together: threading.Barrier = together) -> Any:
                together.wait(5)
                return deed()

            rivals = [
                Rival(house, lambda new=new, go=at_once: go(lambda: catalog.activate(new, "system"))),
                Rival(house, lambda b=buyer, n=number, go=at_once: go(lambda: entitle(b, f"gift:{n}"))),
            ]
            assert [rival.ends() for rival in rivals] == [True, True]
            sweep()

        with transaction():
            on_sale = {one.script_id for one in catalog_queries.strategies_on_sale()}
        assert len(on_sale) == 14
        for number in range(8):
            assert scripts_wanted(f"Buyer{number}") == on_sale
