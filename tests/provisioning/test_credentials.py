"""Stored credentials: sealed, one set active, read afresh, never shown, and carried over from key to key."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from structlog.testing import capture_logs

from jobs import provisioning as provisioning_job
from sts_app.audit.models import AuditLog
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import NotThere
from sts_app.core.sealing import Keyring
from sts_app.provisioning import control, credentials, way
from sts_app.provisioning.credentials import CannotRead, Credentials, NoKey, Resealed
from sts_app.provisioning.gateway import NeedsStaff
from sts_app.provisioning.models import TradingViewCredential
from sts_app.provisioning.simulated import calls
from sts_app.settings import encryption_key
from tests.builders import entitled, grants, in_a_transaction, kinds, letters, work
from tests.fakes.access_service import AccessServiceFake, Dialect
from tests.fakes.tradingview_site import TradingViewSite
from tests.fakes.vendor import TradingViewFake

SESSION, SIGNATURE, ADDRESS = "fake-session-7f3a91c2", "v3:fake/signature-5d08be46=", "https://access.sts.example"
KEY, NEXT = "5ec4e7" + "0" * 58, "5ec4e7" + "1" * 58
DAY = timedelta(days=1)


@pytest.fixture
def settings(app, monkeypatch) -> Callable[..., None]:
    def settings(**changes):
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=changes))

    return settings


@pytest.fixture
def keys(settings) -> Callable[..., None]:
    """Make these the keys: the first seals, the others are fallbacks. None at all takes every key away."""

    def keys(present: str | None = None, *older: str) -> None:
        key = None if present is None else SecretStr(present)
        settings(credential_encryption_key=key, credential_encryption_key_fallbacks=older)

    return keys


@pytest.fixture
def keyed(keys, db) -> None:
    keys(KEY)


def id_of(key: str) -> str:
    return Keyring(encryption_key(key)).present_id


def store(session_id: str = SESSION, *, actor: str = "user:1") -> int:
    given = Credentials(SecretStr(session_id), SecretStr(SIGNATURE), ADDRESS)
    return in_a_transaction(lambda: credentials.store(given, accepted_at=time_source.now(), actor=actor))


def change(number: int, **values: Any) -> None:
    statement = sa.update(TradingViewCredential).where(TradingViewCredential.id == number).values(**values)
    in_a_transaction(lambda: database.session.execute(statement))
    database.session.expire_all()


def row(number: int) -> TradingViewCredential:
    database.session.expire_all()
    return database.session.get_one(TradingViewCredential, number)


def everything_stored() -> str:
    """Every row of every table as text."""
    told = []
    for table in database.metadata.sorted_tables:
        told += database.session.scalars(sa.text(f'SELECT t::text FROM "{table.name}" t'))
    return "\n".join(told)


def guises(secret: str) -> set[str]:
    """How a text may stand somewhere: as it is, and as bytes are usually written."""
    raw = secret.encode()
    return {secret, raw.hex(), base64.b64encode(raw).decode().rstrip("=")}


@pytest.mark.usefixtures("keyed")
class TestActive:
    def test_without_any_there_is_none(self):
        assert credentials.active() is None
        assert credentials.kept() is None

    def test_what_was_stored_is_read_back_with_its_age(self, clock):
        number = store()
        clock.shift(3 * DAY)

        held = credentials.active()

        assert (held.id, held.age, held.api_url) == (number, 3 * DAY, ADDRESS)
        assert (held.session_id.get_secret_value(), held.signature.get_secret_value()) == (SESSION, SIGNATURE)

    def test_it_is_read_afresh(self):
        store()
        credentials.active()
        second = store("fake-session-number-two")

        assert credentials.active().id == second
        assert credentials.active().session_id.get_secret_value() == "fake-session-number-two"

    def test_nothing_of_it_shows_when_it_is_written_somewhere(self):
        store()

        held = credentials.active()

        for shown in (repr(held), str(held), f"{held}", repr(credentials.kept()), repr(credentials.history())):
            assert SESSION not in shown
            assert SIGNATURE not in shown
            assert ADDRESS not in shown


@pytest.mark.usefixtures("keyed")
class TestEnvironment:
    @pytest.fixture(autouse=True)
    def in_environment(self, settings) -> None:
        settings(tv_session_id=SecretStr("of-the-environment"), tv_signature=SecretStr("its-signature"))

    def test_it_is_used_while_nothing_is_stored(self):
        held = credentials.active()

        assert held.session_id.get_secret_value() == "of-the-environment"
        assert (held.id, held.age) == (None, None)

    def test_what_is_stored_comes_first(self):
        store()

        assert credentials.active().session_id.get_secret_value() == SESSION

    def test_it_is_used_again_when_what_was_stored_is_retired(self):
        store()
        in_a_transaction(lambda: credentials.retire(actor="user:1", because="a test"))

        assert credentials.active().session_id.get_secret_value() == "of-the-environment"

    def test_it_never_stands_in_for_what_cannot_be_read(self, keys):
        store()
        keys(NEXT)

        with pytest.raises(CannotRead):
            credentials.active()

    def test_it_is_said_to_be_deprecated_without_being_told(self, app):
        with capture_logs() as lines:
            credentials.warn_of_environment(app.config["STS"])

        [line] = lines
        assert (line["event"], line["log_level"]) == ("provisioning.credentials_in_environment", "warning")
        assert "of-the-environment" not in str(line)

    def test_whoever_has_none_there_hears_nothing(self, app, settings):
        settings(tv_session_id=None, tv_signature=None)

        with capture_logs() as lines:
            credentials.warn_of_environment(app.config["STS"])

        assert lines == []


@pytest.mark.usefixtures("keyed")
class TestUnreadable:
    @pytest.fixture
    def two(self) -> tuple[int, int]:
        """A retired set and the active one."""
        return store("fake-session-of-before"), store()

    def test_a_lost_key_is_named(self, keys, two):
        keys(NEXT)

        with pytest.raises(CannotRead) as refused:
            credentials.active()

        assert f"their key {id_of(KEY)} is neither CREDENTIAL_ENCRYPTION_KEY nor" in refused.value.reason
        assert refused.value.credential_id == two[1]
        assert credentials.kept().key == "lost"

    def test_no_key_at_all_is_the_same(self, keys, two):
        keys()

        with pytest.raises(CannotRead, match=id_of(KEY)):
            credentials.active()

    @pytest.mark.parametrize("cut", [0, 1, 12, 13, 28, -1])
    def test_a_row_cut_short(self, two, cut):
        change(two[1], sealed=row(two[1]).sealed[:cut])

        with pytest.raises(CannotRead, match="changed or damaged"):
            credentials.active()

    @pytest.mark.parametrize("position", [0, 1, 12, 13, 40, -1])
    def test_a_row_with_one_bit_changed(self, two, position):
        changed = bytearray(row(two[1]).sealed)
        changed[position] ^= 1
        change(two[1], sealed=bytes(changed))

        with pytest.raises(CannotRead, match="changed or damaged"):
            credentials.active()

    def test_the_content_of_another_row(self, two):
        """Whoever can write to the table cannot bring back an older session that way."""
        change(two[1], sealed=row(two[0]).sealed)

        with pytest.raises(CannotRead, match="changed or damaged"):
            credentials.active()

    def test_the_name_of_another_key_we_have(self, keys, two):
        keys(KEY, NEXT)
        change(two[1], key_id=id_of(NEXT))

        with pytest.raises(CannotRead, match="changed or damaged"):
            credentials.active()

    def test_it_is_trouble_that_staff_mend_and_no_trace_holds_anything(self, keys, two):
        keys(NEXT)

        with pytest.raises(NeedsStaff) as refused:
            credentials.active()

        told = "".join(traceback.format_exception(refused.value))
        assert not any(guise in told for secret in (SESSION, SIGNATURE, KEY, NEXT) for guise in guises(secret))

    def test_new_ones_take_the_place_of_unreadable_ones(self, keys, two):
        keys(NEXT)

        number = store()

        assert credentials.active().id == number


@pytest.mark.usefixtures("keyed")
class TestWayWithALostKey:
    """Whoever comes to TradingView while the stored set does not open is refused, and nobody at all is called."""

    @pytest.fixture
    def number(self, keys) -> int:
        stored = store()
        keys(NEXT)
        return stored

    @pytest.fixture(params=["unofficial-api", "direct"])
    def elsewhere(self, request, settings) -> Iterator[TradingViewFake]:
        """Somebody who would answer: the service or the site that the environment names."""
        with AccessServiceFake(Dialect.OPEN) if request.param == "unofficial-api" else TradingViewSite() as fake:
            settings(provisioning_mode=request.param, tv_access_api_url=fake.url, tv_base_url=fake.url)
            yield fake

    @pytest.fixture
    def bought(self, number, elsewhere, alice, plan) -> None:
        entitled(alice, plan, "purchase:1")

    def test_every_call_is_refused_with_the_reason(self, number, elsewhere):
        adapter = way().adapter

        for call in (
            lambda: adapter.find_name("Anna"),
            lambda: adapter.grant("Anna", ["PUB;1"]),
            lambda: adapter.revoke("Anna", ["PUB;1"]),
            lambda: adapter.has_access("Anna", ["PUB;1"]),
            lambda: adapter.list_holders("PUB;1"),
            adapter.check_session,
        ):
            with pytest.raises(NeedsStaff, match=f"their key {id_of(KEY)} is neither"):
                call()
        assert elsewhere.seen == []

    def test_nobody_else_is_called_in_its_place(self, bought, elsewhere):
        work("provisioning")

        assert elsewhere.seen == []

    def test_an_incident_opens_and_names_the_lost_key(self, bought, number):
        work("provisioning")

        incident = control.open_incident()
        assert incident.credential_id == number
        assert f"their key {id_of(KEY)} is neither CREDENTIAL_ENCRYPTION_KEY nor" in incident.reason
        [letter] = letters("admin_session_refused")
        assert id_of(KEY) in letter.text

    def test_what_was_due_goes_to_people(self, bought):
        work("provisioning")

        assert {grant.state for grant in grants()} == {"with_staff"}

    def test_the_session_check_opens_the_incident_as_well(self, number, elsewhere):
        provisioning_job.check_session()

        assert control.open_incident().credential_id == number
        assert elsewhere.seen == []

    def test_the_simulator_is_as_strict(self, number, vendor, alice, plan):
        entitled(alice, plan, "purchase:1")

        work("provisioning")

        assert calls(vendor) == {}
        assert control.open_incident().credential_id == number

    def test_manual_mode_has_no_way_to_refuse(self, number, settings):
        settings(provisioning_mode="manual")

        assert way() is None


@pytest.mark.usefixtures("keyed")
class TestHistory:
    def test_it_tells_who_when_why_and_which_key_and_nothing_else(self, clock, keys):
        first = store(actor="user:7")
        clock.shift(DAY)
        keys(NEXT, KEY)
        second = store(actor="cli")

        newer, older = credentials.history()
        assert (newer.id, newer.entered_by, newer.retired_at, newer.key) == (second, "cli", None, "present")
        assert (older.id, older.entered_by, older.key, older.key_id) == (first, "user:7", "older", id_of(KEY))
        assert (older.retired_at - older.validated_at, older.retired_because) == (DAY, f"replaced by {second}")
        assert not hasattr(newer, "sealed")

    def test_a_retired_set_is_not_used_and_not_lost(self):
        number = store()

        retired = in_a_transaction(lambda: credentials.retire(actor="user:7", because="somebody left"))

        assert retired == number
        assert credentials.active() is None
        assert credentials.history()[0].retired_because == "somebody left"
        line = database.session.scalars(sa.select(AuditLog).order_by(AuditLog.id.desc())).first()
        assert (line.actor, line.action, line.subject) == (
            "user:7",
            "provisioning.credentials_retired",
            f"credentials:{number}",
        )

    def test_nothing_to_retire_is_said(self):
        with pytest.raises(NotThere, match="there are none to retire"):
            credentials.retire(actor="user:7", because="a test")

    def test_without_a_key_nothing_is_stored(self, keys):
        keys()

        with pytest.raises(NoKey):
            store()

        assert credentials.history() == []


def reseal_all() -> tuple[int, int, int]:
    """(sets sealed, sets not readable, batches): what `sts rotate-key` does."""
    done: list[Resealed] = []
    while True:
        with transaction():
            batch = credentials.reseal(actor="cli", after=done[-1].last_id if done else 0)
        if batch is None:
            return sum(each.sealed for each in done), sum(each.unreadable for each in done), len(done)
        done.append(batch)


@pytest.mark.usefixtures("keyed")
class TestAnotherKey:
    @pytest.fixture
    def seven(self, monkeypatch) -> list[int]:
        """Six retired sets and an active one, in batches of three."""
        monkeypatch.setattr(credentials, "BATCH", 3)
        return [store(f"fake-session-number-{number}") for number in range(7)]

    def test_every_set_is_sealed_anew_and_the_older_key_is_needless(self, keys, seven):
        keys(NEXT, KEY)
        assert reseal_all() == (7, 0, 3)

        keys(NEXT)

        assert credentials.active().session_id.get_secret_value() == "fake-session-number-6"
        assert {each.key for each in credentials.history()} == {"present"}
        for number, expected in zip(seven, range(7), strict=True):
            assert credentials._opened(row(number)).session_id.get_secret_value() == f"fake-session-number-{expected}"

    def test_what_else_is_known_of_a_set_stays(self, keys, clock, seven):
        before = credentials.history()
        clock.shift(DAY)
        keys(NEXT, KEY)

        reseal_all()

        def known(each):
            return (each.id, each.entered_at, each.entered_by, each.validated_at, each.retired_at, each.retired_because)

        assert [known(each) for each in credentials.history()] == [known(each) for each in before]

    def test_twice_is_once(self, keys, seven):
        keys(NEXT, KEY)
        reseal_all()
        before = everything_stored()

        assert reseal_all() == (0, 0, 0)
        assert everything_stored() == before

    def test_what_does_not_open_is_counted_and_stops_nothing(self, keys, seven):
        change(seven[1], sealed=b"damaged")
        keys(NEXT, KEY)

        assert reseal_all() == (6, 1, 3)
        assert row(seven[1]).sealed == b"damaged"
        assert reseal_all() == (0, 1, 1)

    def test_without_the_older_key_nothing_is_touched(self, keys, seven):
        before = [row(number).sealed for number in seven]
        keys(NEXT)

        assert reseal_all() == (0, 7, 3)
        assert [row(number).sealed for number in seven] == before

    def test_each_batch_leaves_its_line(self, keys, seven):
        keys(NEXT, KEY)

        reseal_all()

        statement = sa.select(AuditLog).where(AuditLog.action == "provisioning.credentials_resealed")
        lines = database.session.scalars(statement).all()
        assert sum(line.details["count"] for line in lines) == 7
        assert {line.details["key_id"] for line in lines} == {id_of(NEXT)}

    def test_without_a_key_there_is_nothing_to_seal_with(self, keys):
        keys()

        with pytest.raises(NoKey):
            credentials.reseal(actor="cli")


@pytest.mark.usefixtures("keyed")
class TestAge:
    @pytest.mark.parametrize(
        ("age", "subject"),
        [
            (timedelta(0), None),
            (7 * DAY - timedelta(seconds=1), None),
            (7 * DAY, "TradingView's credentials are 7 days old"),
            (14 * DAY - timedelta(seconds=1), "TradingView's credentials are 13 days old"),
            (14 * DAY, "TradingView's credentials are 14 days old: replace them now"),
            (40 * DAY, "TradingView's credentials are 40 days old: replace them now"),
        ],
    )
    def test_staff_hear_of_it_in_time(self, clock, age, subject):
        store()
        clock.shift(age)

        in_a_transaction(credentials.tell_age)

        assert [letter.subject for letter in letters("admin_credential_age")] == ([subject] if subject else [])
        assert {letter.to_address for letter in letters()} <= {"sam@staff.example"}

    def test_once_a_day_however_often_it_is_asked(self, clock):
        store()
        clock.shift(8 * DAY)
        for _ in range(3 * 96):
            in_a_transaction(credentials.tell_age)
            clock.shift(timedelta(minutes=15))

        # Noon to noon three times over: four calendar days.
        assert kinds() == ["admin_credential_age"] * 4

    def test_the_day_on_which_it_becomes_urgent_brings_both(self, clock):
        store()
        clock.shift(14 * DAY - timedelta(minutes=15))
        in_a_transaction(credentials.tell_age)
        clock.shift(timedelta(minutes=15))
        in_a_transaction(credentials.tell_age)

        assert [letter.key.split(":")[1] for letter in letters()] == ["warning", "critical"]

    def test_the_letter_says_how_to_mend_it(self, clock):
        store()
        clock.shift(15 * DAY)
        in_a_transaction(credentials.tell_age)

        [letter] = letters()
        for text in (letter.text, letter.html):
            assert "15 days old" in text
            assert "sts credentials set" in text
            assert "Replace the credentials now" in text

    def test_new_ones_end_it(self, clock):
        store()
        clock.shift(15 * DAY)
        store()

        in_a_transaction(credentials.tell_age)

        assert kinds() == []

    def test_those_that_cannot_be_read_age_as_well(self, clock, keys):
        store()
        keys()
        clock.shift(15 * DAY)

        in_a_transaction(credentials.tell_age)

        assert kinds() == ["admin_credential_age"]

    def test_nobody_is_bothered_about_credentials_that_nobody_uses(self, clock, settings):
        store()
        settings(provisioning_mode="manual")
        clock.shift(15 * DAY)

        in_a_transaction(credentials.tell_age)

        assert kinds() == []
