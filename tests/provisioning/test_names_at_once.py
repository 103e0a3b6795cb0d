"""Two at the same moment: two changes of one person, two people and one name, two questions about one name."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from flask import Flask

from sts_app import create_app
from sts_app.accounts.models import User
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.core.store import store_for
from sts_app.provisioning import names, simulated
from sts_app.settings import load
from tests.builders import alice, bob, lifetime, named, served


@pytest.fixture
def house(world) -> Iterator[Flask]:
    """An app of this process on a database that other connections see."""
    app = create_app(load(world.env))
    yield app
    with app.app_context():
        database.engine.dispose()


def waiting(world) -> int:
    """How many connections wait for a lock."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return int(world.sql(statement)[0][0])


def at_once(house: Flask, *deeds: Callable[[], object]) -> list[str]:
    """The outcomes of deeds in transactions of their own that begin together, refusals by their code; sorted."""
    ready = threading.Barrier(len(deeds))

    def run(deed: Callable[[], object]) -> str:
        with house.app_context():
            try:
                with transaction():
                    ready.wait(5)
                    return str(deed())
            except Refusal as refusal:
                return refusal.code

    with ThreadPoolExecutor(len(deeds)) as pool:
        return sorted(pool.map(run, deeds))


def set_name(user_id: int, spelling: str) -> str:
    return names.set_name(database.session.get_one(User, user_id), spelling, verified=True).spelling


def test_two_changes_of_one_person_at_once_follow_each_other(world, house):
    """Both begin with a name that works. Whoever comes second finds the first one's, under which nothing stands yet."""
    with house.app_context():
        owner = served(named(alice(), "Anna"), lifetime(), "gift:1").id

    def change(spelling: str) -> str:
        with house.app_context(), transaction():
            assert names.changeable_from(owner) is None
            return set_name(owner, spelling)

    with world.connect() as somebody, ThreadPoolExecutor(2) as pool:
        somebody.execute(sa.text("SELECT id FROM users FOR UPDATE"))
        both = [pool.submit(change, spelling) for spelling in ("Anna2", "Anna3")]
        world.eventually(lambda: waiting(world) == 2, timeout=4)
        somebody.rollback()
        assert sorted(each.result(10) for each in both) == ["Anna2", "Anna3"]

    counted = "SELECT details->>'counts' FROM audit_log WHERE action = 'provisioning.name_set' ORDER BY id"
    assert world.sql(counted) == [("false",), ("true",), ("false",)]
    reserved = "SELECT count(*), count(*) FILTER (WHERE replaced_at IS NULL) FROM tradingview_name"
    assert world.sql(f"{reserved} WHERE released_at IS NULL") == [(2, 1)]


def test_two_people_at_once_cannot_have_one_name(world, house):
    with house.app_context():
        people = [alice().id, bob().id]
        database.session.commit()

    outcomes = at_once(house, *(lambda user_id=user_id: set_name(user_id, "Anna") for user_id in people))

    assert outcomes == ["Anna", "NAME_TAKEN"]
    assert world.sql("SELECT count(*) FROM tradingview_name WHERE released_at IS NULL") == [(1,)]


def test_those_who_ask_for_one_name_at_once_make_one_call(world, house):
    with house.app_context():
        simulated.set_latency(store_for("tradingview"), 500)

    outcomes = at_once(house, *[lambda: names.check("anna").spelling] * 4)

    assert outcomes == ["Anna"] * 4
    with house.app_context():
        assert simulated.calls(store_for("tradingview")) == {"find_name": 1}


def test_the_database_answers_others_while_tradingview_is_asked(world, house):
    """A slow TradingView holds no transaction open: nobody idles in one while four names are asked for."""
    with house.app_context():
        simulated.set_latency(store_for("tradingview"), 1500)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"

    def ask(name: str) -> str:
        with house.app_context():
            return names.check(name).outcome

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, f"anna{number}") for number in range(4)]
        with house.app_context():
            store = store_for("tradingview")
            world.eventually(lambda: simulated.calls(store).get("find_name") == 4, timeout=10)
        seen = world.sql(idle)[0][0]
        assert [each.result(10) for each in asked] == ["valid"] * 4

    assert seen == 0
