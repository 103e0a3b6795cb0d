"""Entering credentials: tried a few times a minute, accepted by TradingView or not stored at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import current_app
from pydantic import SecretStr
from redis import Redis

from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import FixInput, NotNow, Refusal
from sts_app.provisioning import adapter_for, control, credentials, entering
from sts_app.provisioning.credentials import NoKey
from sts_app.provisioning.entering import Accepted, NotAccepted, TooMany
from sts_app.provisioning.models import ProvisioningControl, ProvisioningIncident, TradingViewCredential
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests.builders import count, in_a_transaction
from tests.fakes.access_service import AccessServiceFake, Dialect
from tests.fakes.tradingview_site import TradingViewSite
from tests.fakes.vendor import SESSION_ID, SIGNATURE, Nasty

KEY, NEXT = "5ec4e7" + "0" * 58, "5ec4e7" + "1" * 58


@pytest.fixture
def settings(app, monkeypatch) -> Callable[..., None]:
    def settings(**changes):
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=changes))

    return settings


@pytest.fixture(autouse=True)
def ready(settings, vendor) -> None:
    settings(credential_encryption_key=SecretStr(KEY))


def tried(session_id: str, signature: str, *, api_url: str | None, actor: str) -> Accepted:
    candidate = entering.shaped(session_id=session_id, signature=signature, api_url=api_url or "")
    with transaction():
        if api_url is None:
            candidate = entering.at_the_address_kept(candidate)
        entering.count_try(actor=actor)
        adapter = adapter_for(current_app.config["STS"], candidate)
    return entering.ask(candidate, adapter)


def enter(
    session_id: str = SESSION_ID, signature: str = SIGNATURE, *, api_url: str | None = None, actor: str = "user:1"
) -> int:
    """What a door does."""
    accepted = tried(session_id, signature, api_url=api_url, actor=actor)
    with transaction():
        return entering.keep(accepted, actor=actor)


def tries() -> list[AuditLog]:
    return list(database.session.scalars(sa.select(AuditLog).where(AuditLog.action == entering.TRIED)))


def refuse_session() -> None:
    held = credentials.active()
    in_a_transaction(lambda: control.refuse_session("a sign-in page", credential_id=held.id if held else None))


def row() -> ProvisioningControl:
    database.session.expire_all()
    return database.session.scalars(sa.select(ProvisioningControl)).one()


def open_incidents() -> int:
    statement = sa.select(sa.func.count()).select_from(ProvisioningIncident)
    return database.session.scalar(statement.where(ProvisioningIncident.closed_at.is_(None))) or 0


class TestAccepted:
    def test_what_tradingview_accepts_is_active(self, clock):
        number = enter()

        held = credentials.active()
        assert held is not None
        assert (held.id, held.age) == (number, timedelta(0))
        assert held.session_id.get_secret_value() == SESSION_ID
        assert held.signature.get_secret_value() == SIGNATURE
        assert held.api_url is None

    def test_one_call_is_made(self, vendor):
        enter()

        assert calls(vendor) == {"check_session": 1}

    def test_the_set_before_is_retired_and_kept(self):
        first, second = enter(), enter(SESSION_ID + "2")

        newer, older = credentials.history()
        assert (newer.id, newer.retired_at) == (second, None)
        assert (older.id, older.retired_because) == (first, f"replaced by {second}")

    def test_the_try_and_the_saving_are_audited_without_content(self):
        number = enter(actor="user:7")

        lines = database.session.scalars(sa.select(AuditLog).order_by(AuditLog.id)).all()
        assert [(line.actor, line.action, line.subject) for line in lines] == [
            ("user:7", "provisioning.credentials_tried", "tradingview:credentials"),
            ("user:7", "provisioning.credentials_saved", f"credentials:{number}"),
        ]
        assert lines[1].details == {"key_id": credentials.present_key_id(), "replaced": None}

    def test_it_ends_the_incident_and_leads_back_to_auto(self):
        enter()
        refuse_session()
        assert row().switch == Switch.MANUAL

        enter(SESSION_ID + "2", actor="user:7")

        assert open_incidents() == 0
        assert row().switch == Switch.AUTO
        assert database.session.scalars(sa.select(ProvisioningIncident)).one().closed_by == "user:7"

    def test_what_staff_switched_themselves_stays_as_they_chose(self):
        in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:1", because="a quiet week"))
        refuse_session()

        enter()

        assert open_incidents() == 0
        assert row().switch == Switch.MANUAL


class TestNotAccepted:
    def test_a_refused_session_changes_nothing_and_says_why(self, vendor):
        before = enter()
        refuse_session()
        misbehave(vendor, Fault.DEAD_SESSION)

        with pytest.raises(NotAccepted) as refused:
            enter(SESSION_ID + "2")

        assert "TradingView does not accept these credentials (check_session: simulated dead session)" in (
            refused.value.sentence
        )
        assert credentials.active().id == before
        assert open_incidents() == 1
        assert row().switch == Switch.MANUAL
        assert count(TradingViewCredential) == 1

    def test_no_answer_is_no_verdict_and_nothing_is_stored(self, vendor):
        misbehave(vendor, Fault.READS_FAIL)

        with pytest.raises(NotNow) as refused:
            enter()

        assert refused.value.sentence.startswith("TradingView did not answer (")
        assert "Nothing was stored" in refused.value.sentence
        assert count(TradingViewCredential) == 0

    @pytest.mark.parametrize("fault", [Fault.DEAD_SESSION, Fault.READS_FAIL])
    def test_a_try_in_vain_leaves_its_line(self, vendor, fault):
        misbehave(vendor, fault)
        with pytest.raises(Refusal):
            enter(actor="user:7")

        [line] = tries()
        assert (line.actor, line.details) == ("user:7", {})

    def test_the_same_person_may_succeed_afterwards(self, vendor):
        misbehave(vendor, Fault.DEAD_SESSION)
        with pytest.raises(NotAccepted):
            enter()
        behave(vendor)

        assert enter() == credentials.active().id


class TestRefusedBeforeTheCall:
    @pytest.fixture(autouse=True)
    def uncalled(self, vendor) -> Iterator[None]:
        yield
        assert calls(vendor) == {}

    def test_without_a_key_nothing_is_tried(self, settings):
        settings(credential_encryption_key=None)

        with pytest.raises(NoKey, match="CREDENTIAL_ENCRYPTION_KEY is not set"):
            enter()

        assert tries() == []

    def test_in_manual_mode_nothing_could_check_them(self, settings):
        settings(provisioning_mode="manual")

        with pytest.raises(Refusal, match="PROVISIONING_MODE=manual"):
            enter()

    def test_while_all_calls_are_off_this_one_is_as_well(self):
        in_a_transaction(lambda: control.set_switch(Switch.DISABLED, actor="user:1", because="a test"))

        with pytest.raises(NotNow, match="switched off"):
            enter()

    @pytest.mark.parametrize("mode", ["simulated", "direct", "unofficial-api"])
    @pytest.mark.parametrize(
        ("session_id", "signature", "missing"),
        [
            ("", "", "Neither the session id nor the signature"),
            (SESSION_ID, "", "The signature"),
            ("", SIGNATURE, "The session id"),
        ],
    )
    def test_half_a_session_is_none(self, settings, mode, session_id, signature, missing):
        settings(provisioning_mode=mode)

        with pytest.raises(FixInput) as refused:
            enter(session_id, signature)

        assert refused.value.sentence.startswith(missing)

    def test_what_cannot_be_right_costs_no_try(self):
        for _ in range(10):
            with pytest.raises(FixInput):
                enter("short")

        assert tries() == []


class TestFiveTriesAMinute:
    def test_the_sixth_has_to_wait_for_the_first_to_be_a_minute_old(self, clock, vendor):
        for _ in range(5):
            enter()
            clock.shift(timedelta(seconds=5))

        with pytest.raises(TooMany) as refused:
            enter(actor="user:8")

        assert (refused.value.status, refused.value.retry_after) == (429, 35)
        assert "Wait 35 seconds" in refused.value.sentence
        assert calls(vendor) == {"check_session": 5}

    def test_whoever_waited_as_told_is_let_in(self, clock):
        for _ in range(5):
            enter()
        with pytest.raises(TooMany) as refused:
            enter()

        clock.shift(timedelta(seconds=refused.value.retry_after))

        assert enter() == credentials.active().id

    def test_knocking_does_not_make_the_wait_longer(self, clock):
        for _ in range(5):
            enter()
        for _ in range(59):
            clock.shift(timedelta(seconds=1))
            with pytest.raises(TooMany):
                enter()

        clock.shift(timedelta(seconds=1))

        assert enter() == credentials.active().id
        assert len(tries()) == 6

    def test_a_flushed_redis_gives_no_further_tries(self, servers):
        for _ in range(5):
            enter()
        with Redis.from_url(servers.redis_url) as redis:
            redis.flushall()

        with pytest.raises(TooMany):
            enter()


class TestOverTheWire:
    """The live adapters, each with what it was given and not with what is stored or set."""

    @pytest.fixture
    def service(self, settings) -> Iterator[AccessServiceFake]:
        with AccessServiceFake(Dialect.SECURED) as fake:
            settings(provisioning_mode="unofficial-api", tv_access_api_url=fake.url, tv_canary_username="Vendor")
            yield fake

    @pytest.fixture
    def site(self, settings) -> Iterator[TradingViewSite]:
        with TradingViewSite() as fake:
            settings(provisioning_mode="direct", tv_base_url=fake.url)
            yield fake

    @pytest.mark.parametrize("way", ["service", "site"])
    def test_the_right_ones_are_kept_and_wrong_ones_are_not(self, request, way):
        request.getfixturevalue(way)
        number = enter()

        with pytest.raises(NotAccepted):
            enter("wrong-session-id", SIGNATURE)

        assert credentials.active().id == number

    @pytest.mark.parametrize("way", ["service", "site"])
    def test_what_is_tried_is_what_was_typed_and_not_what_stands(self, request, way, settings):
        fake = request.getfixturevalue(way)
        settings(tv_session_id=SecretStr(SESSION_ID), tv_signature=SecretStr(SIGNATURE))
        fake.credentials = {("another-session", "another-signature")}

        with pytest.raises(NotAccepted):
            enter()

        assert enter("another-session", "another-signature") == credentials.active().id

    @pytest.mark.parametrize("nasty", [Nasty.BAD_GATEWAY, Nasty.TOO_MANY, Nasty.DROP_BEFORE, Nasty.EMPTY])
    def test_a_site_in_trouble_stores_nothing(self, site, nasty):
        site.be(nasty)

        with pytest.raises(Refusal):
            enter()

        assert count(TradingViewCredential) == 0

    def test_an_address_that_was_entered_is_asked_and_kept(self, settings, service):
        settings(tv_access_api_url="http://127.0.0.1:1")

        enter(api_url=service.url + "/")

        assert credentials.active().api_url == service.url

    def test_newer_cookies_are_tried_and_kept_at_the_address_that_is_stored(self, settings, service):
        settings(tv_access_api_url="http://127.0.0.1:1")
        enter(api_url=service.url)

        number = enter()

        held = credentials.active()
        assert (held.id, held.api_url) == (number, service.url)

    def test_an_empty_address_leads_back_to_that_of_the_environment(self, service):
        with AccessServiceFake(Dialect.SECURED) as other:
            enter(api_url=other.url)

        enter(api_url="")

        assert credentials.active().api_url is None

    def test_another_address_takes_the_place_of_the_one_that_is_stored(self, settings, service):
        settings(tv_access_api_url="http://127.0.0.1:1")
        with AccessServiceFake(Dialect.SECURED) as other:
            enter(api_url=other.url)

        enter(api_url=service.url)

        assert credentials.active().api_url == service.url

    def test_an_address_that_cannot_be_read_is_asked_for_and_nobody_else_is_called(self, settings, service):
        before = enter(api_url=service.url)
        asked = len(service.seen)
        settings(credential_encryption_key=SecretStr(NEXT))

        with pytest.raises(FixInput, match="nobody knows which access service they name"):
            enter()

        assert len(service.seen) == asked
        assert [(each.id, each.retired_at) for each in credentials.history()] == [(before, None)]
        assert enter(api_url="") == credentials.active().id

    def test_the_direct_way_needs_no_address_in_place_of_a_lost_one(self, settings, site):
        enter()
        settings(credential_encryption_key=SecretStr(NEXT))

        assert enter() == credentials.active().id

    def test_cookies_that_were_forgotten_are_not_dropped_because_an_address_is_stored(self, service):
        enter(api_url=service.url)

        with pytest.raises(FixInput, match="Neither the session id nor the signature"):
            enter("", "")

    @pytest.mark.parametrize("dialect", Dialect)
    def test_without_a_canary_only_the_service_was_checked(self, settings, dialect):
        with AccessServiceFake(dialect) as fake:
            settings(provisioning_mode="unofficial-api", tv_access_api_url=fake.url, tv_canary_username=None)

            accepted = tried(SESSION_ID, SIGNATURE, api_url=None, actor="user:1")

        assert accepted.sentence == (
            "The access service answers. That is all that was checked, because TV_CANARY_USERNAME is not set: whether "
            "it is signed in at TradingView is not known."
        )

    def test_an_incident_that_ends_without_a_canary_says_what_ended_it(self, settings):
        with AccessServiceFake(Dialect.OPEN) as fake:
            settings(provisioning_mode="unofficial-api", tv_access_api_url=fake.url, tv_canary_username=None)
            refuse_session()

            number = enter()

        ended = database.session.scalars(sa.select(ProvisioningIncident)).one()
        assert ended.closed_because == (
            f"the access service answered with the credentials {number}; its session could not be checked"
        )

    @pytest.mark.parametrize("way", ["service", "site"])
    def test_with_one_or_without_a_service_tradingview_was_asked(self, request, way):
        request.getfixturevalue(way)

        assert tried(SESSION_ID, SIGNATURE, api_url=None, actor="user:1").sentence == (
            "TradingView accepts the credentials."
        )

    def test_a_service_that_signs_in_itself_needs_its_address_alone(self, settings):
        with AccessServiceFake(Dialect.OPEN) as fake:
            settings(provisioning_mode="unofficial-api", tv_access_api_url=fake.url, tv_canary_username="Vendor")
            refuse_session()

            enter("", "", api_url=fake.url)

            held = credentials.active()
            assert (held.session_id, held.signature, held.api_url) == (None, None, fake.url)

        assert open_incidents() == 0
