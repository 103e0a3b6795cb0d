"""Reconciliation beside others who work at the same moment, on real connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

import jobs
from sts_app import create_app
from sts_app.catalog.models import Plan
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import AlreadyDone
from sts_app.ops.invariants import broken
from sts_app.provisioning import acting, reconcile, services
from sts_app.provisioning.models import ReconciliationRun
from sts_app.provisioning.simulated import give
from sts_app.settings import load
from tests.builders import alice as alice_of
from tests.builders import entitled, grants, holders, named, served, tradingview, vendor, work
from tests.world import ENV

ALPHA = "PUB;nq_momentum_alpha_001"


@pytest.fixture
def house(servers, monkeypatch) -> Iterator[Flask]:
    """An app on a database of its own, where what one connection commits another one sees."""
    with servers.database(servers.seeded) as url:
        env = {**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "WARNING"}
        app = create_app(load({**env, "DATABASE_POOL_SIZE": "10"}))
        monkeypatch.setattr(jobs, "the_app", lambda: app)
        with app.app_context():
            yield app
            assert broken(database.session.connection(), workers_alive=False) == {}
            database.session.remove()
            database.engine.dispose()


class Beside(threading.Thread):
    """Somebody else's work, in a thread and on connections of its own."""

    def __init__(self, house: Flask, deed: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.house, self.deed = house, deed
        self.result: Any = None
        self.start()

    def run(self) -> None:
        with self.house.app_context():
            try:
                self.result = self.deed()
            except Exception as error:
                self.result = error

    def ends(self) -> Any:
        self.join(30)
        assert not self.is_alive()
        return self.result


def reconciled(adapter: Any = None) -> Any:
    return reconcile.run(adapter or tradingview(), source="demand", actor="cli", dry_run=False)


def test_of_four_runs_at_once_one_reads_and_three_are_refused(house):
    reached, others_ended = threading.Event(), threading.Event()

    class Patient:
        inner = tradingview()

        def list_holders(self, script_id: str) -> Any:
            reached.set()
            assert others_ended.wait(30)
            return self.inner.list_holders(script_id)

    runs = [Beside(house, lambda: reconciled(Patient())) for _ in range(4)]
    assert reached.wait(30)
    while sum(run.is_alive() for run in runs) > 1:
        time.sleep(0.01)
    others_ended.set()

    results = [run.ends() for run in runs]
    assert sorted(type(result).__name__ for result in results) == ["AlreadyDone"] * 3 + ["Report"]
    assert database.session.scalars(sa.select(ReconciliationRun.state)).all() == ["complete"]


def test_a_purchase_that_commits_while_a_removal_waits_for_its_person_wins(house, clock, monkeypatch):
    """The removal was planned, the purchase holds the person's lock, and the removal looks again when it has it."""
    memory, plan = vendor(), database.session.scalars(sa.select(Plan)).one()
    alice = named(alice_of(), "Anna")
    served(alice, plan, "purchase:1")
    with transaction():
        services.end_entitlement("purchase:1", because="refund", actor="test")
    work("provisioning")
    give(memory, "Anna", ALPHA)
    clock.shift(timedelta(hours=1))
    reconciled()
    clock.shift(timedelta(hours=12))
    planned, paid = threading.Event(), threading.Event()
    hold = acting.hold

    def held(name_keys: Any, now: Any) -> Any:
        planned.set()
        assert paid.wait(30)
        return hold(name_keys, now)

    monkeypatch.setattr(acting, "hold", held)
    run = Beside(house, reconciled)
    assert planned.wait(30)
    entitled(alice, plan, "purchase:2")
    paid.set()
    # It waits for the lock that this purchase has until it is committed.
    run.join(0.5)
    assert run.is_alive()
    database.session.commit()
    report = run.ends()
    work("provisioning")

    assert [(line.kind, line.act) for line in report.lines] == [("extra", "moved")]
    assert {grant.state for grant in grants("Anna")} == {"verified"}
    assert len(holders()) == 6


def test_a_run_that_is_refused_leaves_the_next_one_free(house):
    class Gone:
        def list_holders(self, script_id: str) -> Any:
            raise RuntimeError("the program is broken")

    assert isinstance(Beside(house, lambda: reconciled(Gone())).ends(), RuntimeError)

    assert reconciled().state == "complete"
    with pytest.raises(AlreadyDone):
        reconcile.run(
            tradingview(), source="demand", actor="cli", dry_run=False, not_since=reconcile.clock.now().replace(hour=0)
        )
