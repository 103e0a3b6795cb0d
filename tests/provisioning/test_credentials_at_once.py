"""Credentials under races and crashes, on real connections; and all of their life, looked through for what leaked."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, current_app
from pydantic import SecretStr
from structlog.testing import capture_logs

from sts_app import create_app
from sts_app.audit.models import AuditLog
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import Refusal
from sts_app.provisioning import adapter_for, control, credentials, entering
from sts_app.provisioning.credentials import Credentials
from sts_app.provisioning.entering import TooMany
from sts_app.provisioning.gateway import NeedsStaff
from sts_app.provisioning.models import ProvisioningControl
from sts_app.settings import load
from tests.builders import in_a_transaction
from tests.provisioning.test_credentials import KEY, NEXT, SESSION, SIGNATURE, everything_stored, guises, reseal_all
from tests.world import ENV


@pytest.fixture
def house(servers) -> Iterator[Flask]:
    with servers.database(servers.migrated) as url:
        env = {**ENV, "DATABASE_URL": url, "REDIS_URL": servers.redis_url, "DATABASE_POOL_SIZE": "10"}
        made = create_app(load({**env, "CREDENTIAL_ENCRYPTION_KEY": KEY, "LOG_LEVEL": "WARNING"}))
        with made.app_context():
            yield made
            database.session.remove()
            database.engine.dispose()


def at_once(house: Flask, *deeds: Callable[[], Any]) -> list[Any]:
    """What each deed returned or raised, all begun at the same moment, each on a connection of its own."""
    gate = threading.Barrier(len(deeds))
    results: list[Any] = [None] * len(deeds)

    def run(position: int, deed: Callable[[], Any]) -> None:
        with house.app_context():
            gate.wait()
            try:
                results[position] = deed()
            except Exception as error:
                results[position] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(deeds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def save(session_id: str = SESSION, *, actor: str = "user:1") -> int:
    """What a door does."""
    candidate = entering.shaped(session_id=session_id, signature=SIGNATURE)
    with transaction():
        entering.count_try(actor=actor)
        adapter = adapter_for(current_app.config["STS"], candidate)
    accepted = entering.ask(candidate, adapter)
    with transaction():
        return entering.keep(accepted, actor=actor)


def test_five_tries_are_five_over_all_connections(house):
    def one_try() -> str:
        with transaction():
            entering.count_try(actor="user:1")
        return "let in"

    results = at_once(house, *[one_try] * 12)

    assert results.count("let in") == 5
    assert [type(result) for result in results if result != "let in"] == [TooMany] * 7
    with transaction():
        assert database.session.scalar(sa.select(sa.func.count()).select_from(AuditLog)) == 5


def test_of_people_who_save_at_once_the_last_one_stays_and_nobody_sees_an_error(house):
    results = at_once(house, *[lambda number=number: save(f"fake-session-number-{number}") for number in range(5)])

    with transaction():
        sets = credentials.history()
        assert sorted(results) == sorted(each.id for each in sets)
        assert [each.id for each in sets if each.retired_at is None] == [credentials.active().id]
        # Each was replaced by the next one, the last by none: nobody's act was lost in between.
        replaced = {each.id: int(each.retired_because.removeprefix("replaced by ")) for each in sets if each.retired_at}
        assert len(set(replaced.values())) == 4
        active = credentials.active()
        assert active.session_id.get_secret_value() == f"fake-session-number-{results.index(active.id)}"


def test_nothing_is_locked_while_tradingview_is_asked(house):
    """A vendor that takes half a minute must not hold up whoever needs the control row."""

    class Slow:
        def check_session(self) -> None:
            with database.engine.connect() as other:
                other.execute(sa.select(ProvisioningControl.__table__).with_for_update(nowait=True)).one()
                open_transactions = other.scalar(
                    sa.text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
                    )
                )
            assert open_transactions == 0

    candidate = entering.shaped(session_id=SESSION, signature=SIGNATURE)
    with transaction():
        entering.count_try(actor="user:1")

    accepted = entering.ask(candidate, Slow())  # type: ignore[arg-type]  # all that is asked of it

    assert accepted.credentials is candidate


def with_keys(house: Flask, present: str, *older: str) -> None:
    changes = {"credential_encryption_key": SecretStr(present), "credential_encryption_key_fallbacks": older}
    house.config["STS"] = house.config["STS"].model_copy(update=changes)


def a_batch_whose_connection_dies(house: Flask, after: int) -> None:
    with house.app_context(), transaction():
        credentials.reseal(actor="cli", after=after)
        killed = database.session.scalar(sa.text("SELECT pg_backend_pid()"))
        with database.engine.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": killed})


def test_a_rotation_killed_half_way_leaves_everything_readable_and_goes_on(house, monkeypatch):
    monkeypatch.setattr(credentials, "BATCH", 2)
    with transaction():
        for number in range(6):
            given = Credentials(SecretStr(f"fake-session-number-{number}"), SecretStr(SIGNATURE))
            credentials.store(given, accepted_at=time_source.now(), actor="user:1")
    with_keys(house, NEXT, KEY)
    with transaction():
        first = credentials.reseal(actor="cli")

    with pytest.raises(sa.exc.OperationalError):
        a_batch_whose_connection_dies(house, first.last_id)

    with transaction():
        assert [each.key for each in credentials.history()] == ["older"] * 4 + ["present"] * 2
        assert credentials.active().session_id.get_secret_value() == "fake-session-number-5"
    assert reseal_all() == (4, 0, 2)
    with_keys(house, NEXT)
    with transaction():
        assert {each.key for each in credentials.history()} == {"present"}
        assert credentials.active().session_id.get_secret_value() == "fake-session-number-5"


def test_saving_goes_on_while_a_rotation_holds_its_rows(house):
    save("fake-session-number-1")
    with_keys(house, NEXT, KEY)
    begun = threading.Event()

    def rotate() -> int:
        with transaction():
            batch = credentials.reseal(actor="cli")
            begun.set()
            time.sleep(0.3)
        return batch.sealed

    def save_meanwhile() -> int:
        begun.wait(10)
        return save("fake-session-number-2")

    sealed, number = at_once(house, rotate, save_meanwhile)

    with_keys(house, NEXT)
    with transaction():
        assert sealed == 1
        assert credentials.active().id == number
        assert [each.retired_because for each in credentials.history()] == [None, f"replaced by {number}"]
        assert {each.key for each in credentials.history()} == {"present"}


def test_no_secret_is_ever_in_clear_in_any_table_or_log_line(house, caplog):
    caplog.set_level(logging.DEBUG)
    database.engine.echo = "debug"
    secrets = (SESSION, SIGNATURE, KEY, NEXT, "access-address-nobody-reads")

    def told_by_the_life_of_credentials() -> list[str]:
        told = []
        address = "https://access-address-nobody-reads.example"
        house.config["STS"] = house.config["STS"].model_copy(update={"provisioning_mode": "simulated"})
        for attempt in (
            lambda: entering.shaped(session_id=SESSION + " ", signature=SIGNATURE + ";;", api_url=address),
            lambda: entering.shaped(session_id=SESSION, signature="", api_url=address + "?"),
            lambda: save(),
            lambda: save(SESSION + "2"),
            # The session is dead: the same values, refused.
            lambda: entering.ask(entering.shaped(session_id=SESSION, signature=SIGNATURE), Dead()),
            lambda: in_a_transaction(
                lambda: credentials.store(
                    Credentials(SecretStr(SESSION), SecretStr(SIGNATURE), address),
                    accepted_at=time_source.now(),
                    actor="user:1",
                )
            ),
            lambda: [save() for _ in range(6)],
            lambda: with_keys(house, NEXT, KEY),
            reseal_all,
            lambda: in_a_transaction(lambda: credentials.retire(actor="user:1", because="a test")),
            lambda: with_keys(house, KEY),
            lambda: in_a_transaction(lambda: control.refuse_session("a sign-in page", credential_id=None)),
            lambda: in_a_transaction(lambda: database.session.execute(sa.text("UPDATE tradingview_credential SET "
                "retired_at = NULL WHERE id = (SELECT max(id) FROM tradingview_credential)"))),
            credentials.active,
            lambda: [repr(each) for each in credentials.history()],
        ):  # fmt: skip
            try:
                told.append(repr(attempt()))
            except (Refusal, NeedsStaff) as error:
                told.append("".join(traceback.format_exception(error)) + repr(vars(error)))
        return told

    with capture_logs() as lines:
        told = told_by_the_life_of_credentials()
    stored = everything_stored()

    assert sum("Traceback" in each for each in told) >= 5
    assert "provisioning.credentials_saved" in stored
    assert "provisioning.credentials_saved" in str(lines)
    assert "INSERT INTO tradingview_credential" in caplog.text
    written = "\n".join([stored, str(lines), caplog.text, *told])
    for secret in secrets:
        for guise in guises(secret):
            assert guise not in written


class Dead:
    """A TradingView that refuses every session."""

    def check_session(self) -> None:
        raise NeedsStaff("a sign-in page")


def test_the_command_saves_shows_and_rotates_in_a_process_of_its_own(world, tmp_path):
    pasted = tmp_path / "cookies"
    pasted.write_text(f"Cookie: theme=dark; sessionid={SESSION}; sessionid_sign={SIGNATURE}\n")
    world.execute(
        "INSERT INTO provisioning_incident (reason, told, refusals, last_refused_at, created_at) "
        "VALUES ('a sign-in page', '[]', 1, now(), now())"
    )

    said = world.run(f"sts credentials set --session-id-file {pasted}")
    key = world.env["CREDENTIAL_ENCRYPTION_KEY"]
    world.env.update(CREDENTIAL_ENCRYPTION_KEY=NEXT, CREDENTIAL_ENCRYPTION_KEY_FALLBACKS=key)
    rotated = world.run("sts rotate-key")
    world.env["CREDENTIAL_ENCRYPTION_KEY_FALLBACKS"] = ""
    shown = world.run("sts credentials show")

    assert "They are stored as number 1 and active from now on." in said
    assert "CREDENTIAL_ENCRYPTION_KEY_FALLBACKS is needless now." in rotated
    assert "Number 1, entered by cli" in shown
    assert world.sql("SELECT closed_by FROM provisioning_incident") == [("cli",)]
    for text in (*world.logs().values(), str(world.sql("SELECT t::text FROM audit_log t"))):
        assert not any(guise in text for secret in (SESSION, SIGNATURE, key, NEXT) for guise in guises(secret))
