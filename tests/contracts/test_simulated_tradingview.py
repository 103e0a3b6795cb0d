"""What the simulated TradingView adds to the contract: faults on request, and a look at its memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from sts_app.core.store import MemoryStore
from sts_app.provisioning import simulated
from sts_app.provisioning.gateway import AccessFact, NeedsCustomer, NeedsStaff, ScriptAnswer, TradingViewError, TryLater
from sts_app.provisioning.simulated import Fault, SimulatedTradingView
from tests.contracts.ways import ALPHA, RIDER, facts_of

END = datetime(2031, 8, 17, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class TestSimulator:
    @staticmethod
    def make(store: MemoryStore) -> tuple[SimulatedTradingView, list[float]]:
        slept: list[float] = []
        simulated.set_latency(store, 0)
        return SimulatedTradingView(store, sleep=slept.append), slept

    @pytest.mark.parametrize(
        ("fault", "failure", "done"),
        [
            (Fault.FAIL, TryLater, False),
            (Fault.RATE_LIMIT, TryLater, False),
            (Fault.TIMEOUT, TryLater, False),
            (Fault.LOSE_ANSWER, TryLater, True),
        ],
    )
    def test_a_failing_fault_is_spent_as_often_as_asked(
        self, store: MemoryStore, fault: Fault, failure: type[TradingViewError], done: bool
    ) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, fault, times=2)

        for _ in range(2):
            with pytest.raises(failure):
                gateway.grant("Trader", [ALPHA])

        assert bool(simulated.holdings(store)) is done
        assert simulated.faults_waiting(store) == []
        assert gateway.grant("Trader", [ALPHA]) == [ScriptAnswer(ALPHA)]

    def test_when_nobody_is_known_no_call_knows_anybody(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.UNKNOWN)

        assert gateway.find_name("Trader") is None
        for act in (gateway.grant, gateway.revoke, gateway.has_access):
            with pytest.raises(NeedsCustomer):
                act("Trader", [ALPHA])

        simulated.behave(store)
        assert gateway.find_name("Trader") == "Trader"

    def test_faults_are_spent_in_the_order_asked(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.REFUSE)
        simulated.misbehave(store, Fault.FAIL)
        assert simulated.faults_waiting(store) == [Fault.REFUSE, Fault.FAIL]

        refused = gateway.revoke("Trader", [ALPHA])

        assert refused == [ScriptAnswer(ALPHA, "Failure")]
        with pytest.raises(TryLater):
            gateway.revoke("Trader", [ALPHA])

    @pytest.mark.parametrize(("fault", "held_while_waiting"), [(Fault.SLOW_BEFORE, 0), (Fault.SLOW_AFTER, 1)])
    def test_a_slow_call_waits_on_its_side_of_the_deed(
        self, store: MemoryStore, fault: Fault, held_while_waiting: int
    ) -> None:
        waits: list[tuple[float, int]] = []
        gateway = SimulatedTradingView(store, sleep=lambda s: waits.append((s, len(simulated.holdings(store)))))
        simulated.set_latency(store, 0)
        simulated.misbehave(store, fault, seconds=40)

        gateway.grant("Trader", [ALPHA])

        assert [wait for wait in waits if wait[0]] == [(40, held_while_waiting)]
        assert len(simulated.holdings(store)) == 1

    def test_reads_stay_honest_while_faults_wait(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("Trader", [ALPHA])
        waiting = [fault for fault in Fault if not fault.stands]
        for fault in waiting:
            simulated.misbehave(store, fault)

        assert gateway.find_name("trader") == "Trader"
        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True)]
        gateway.check_session()
        assert simulated.faults_waiting(store) == waiting

    def test_failing_reads_fail_and_writes_go_on(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.READS_FAIL)

        gateway.grant("Trader", [ALPHA])

        reads: list[Callable[[], Any]] = [
            lambda: gateway.find_name("Trader"),
            lambda: gateway.has_access("Trader", [ALPHA]),
            lambda: gateway.list_holders(ALPHA),
            gateway.check_session,
        ]
        for read in reads:
            with pytest.raises(TryLater):
                read()
        assert len(simulated.holdings(store)) == 1

    def test_behaving_forgets_faults_and_keeps_what_was_granted(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("Trader", [ALPHA])
        for fault in Fault:
            simulated.misbehave(store, fault, times=2)

        simulated.behave(store)

        assert simulated.faults_waiting(store) == []
        gateway.check_session()
        assert gateway.revoke("Trader", [RIDER]) == [ScriptAnswer(RIDER)]
        assert [held.script_id for held in simulated.holdings(store)] == [ALPHA]

    def test_a_dead_session_spends_no_fault_and_does_nothing(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.LOSE_ANSWER)
        simulated.misbehave(store, Fault.DEAD_SESSION)

        with pytest.raises(NeedsStaff):
            gateway.grant("Trader", [ALPHA])

        assert simulated.faults_waiting(store) == [Fault.DEAD_SESSION, Fault.LOSE_ANSWER]
        assert simulated.holdings(store) == []

    def test_granting_again_keeps_the_day_of_the_first_grant(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("trader", [ALPHA])
        (first,) = simulated.holdings(store)

        gateway.grant("TRADER", [ALPHA])

        assert simulated.holdings(store) == [first]
        assert first.username == "Trader"

    def test_every_call_takes_the_latency_of_the_moment(self, store: MemoryStore) -> None:
        slept: list[float] = []
        gateway = SimulatedTradingView(store, sleep=slept.append)

        gateway.find_name("Trader")
        simulated.set_latency(store, 2000)
        gateway.check_session()

        assert slept == [0.15, 2.0]
        assert simulated.latency(store) == 2000

    def test_calls_are_counted_in_few_rows(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.misbehave(store, Fault.FAIL)
        with pytest.raises(TryLater):
            gateway.grant("Trader", [ALPHA])

        for _ in range(100):
            gateway.find_name("Trader")

        assert simulated.calls(store) == {"grant": 1, "find_name": 100}
        assert len(store.all("calls")) <= 2 * (simulated.COUNT_ROWS + 1)

    def test_two_memories_are_one_vendor_only_if_shared(self, store: MemoryStore) -> None:
        web, _ = self.make(store)
        worker, _ = self.make(store)
        stranger, _ = self.make(MemoryStore())

        worker.grant("Trader", [ALPHA])

        assert facts_of(web, "Trader")[ALPHA]
        assert not facts_of(stranger, "Trader")[ALPHA]

    def test_what_people_do_at_the_vendor_is_no_call(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        simulated.give(store, "trader", ALPHA, expires_at=END)
        simulated.give(store, "trader", RIDER)
        simulated.take(store, "TRADER", RIDER)

        assert [(held.username, held.script_id, held.expires_at) for held in simulated.holdings(store)] == [
            ("Trader", ALPHA, END)
        ]
        assert simulated.calls(store) == {}
        assert gateway.has_access("Trader", [ALPHA])[0].expires_at == END

    def test_a_memory_of_before_there_were_ends_is_for_life(self, store: MemoryStore) -> None:
        gateway, _ = self.make(store)
        gateway.grant("Trader", [ALPHA])
        ((key, record),) = store.all("access")
        store.put("access", key, {name: value for name, value in record.items() if name != "expires_at"})

        gateway.grant("Trader", [ALPHA])

        assert gateway.has_access("Trader", [ALPHA]) == [AccessFact(ALPHA, has_access=True)]
