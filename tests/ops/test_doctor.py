"""Every finding of the doctor, one at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from pydantic import SecretStr

from sts_app import cli
from sts_app.catalog.models import Plan
from sts_app.core import queue
from sts_app.core.db import db as database
from sts_app.ops.doctor import examine
from sts_app.provisioning import control
from sts_app.provisioning.rules import Switch
from sts_app.settings import AppEnv, SettingsFault
from tests.builders import in_a_transaction, lifetime, sam, stopped_clock
from tests.provisioning.test_credentials import KEY, NEXT, change, id_of, store


@pytest.fixture
def fit(db):
    """A store that is fit to run."""
    lifetime()
    sam()
    db.session.commit()


@pytest.fixture
def settings(app, monkeypatch):
    """Change settings of this store; what `load` would refuse is the test's own business."""

    def settings(**changes):
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=changes))

    return settings


def found(kind: str) -> list[str]:
    return [finding.sentence for finding in examine() if finding.kind == kind]


def test_a_fit_store_has_no_fault_and_says_what_was_looked_at(fit):
    assert found("fault") == []
    fine = " ".join(found("fine"))
    for words in ("Settings are complete", "The database answers", "The schema is at 0", "Redis answers"):
        assert words in fine


def test_simulated_vendors_are_named(fit):
    assert "Simulated here: payments, mail, tradingview. Nothing real happens." in found("warning")


def test_a_replaced_name_is_to_be_removed(fit, monkeypatch):
    monkeypatch.setenv("CLERK_SECRET_KEY", "x")

    assert "CLERK_SECRET_KEY is set but replaced by sign-in by magic link; remove it." in found("warning")


def test_a_schema_behind_the_code_is_a_fault_and_ends_the_examination(fit):
    database.session.execute(sa.text("DELETE FROM alembic_version"))

    [sentence] = found("fault")
    assert sentence.startswith("The schema is at None, this code needs 0")
    assert sentence.endswith(": run `sts db upgrade`.")


def test_a_dead_redis_is_a_fault(app, fit, monkeypatch):
    monkeypatch.setitem(app.extensions, "sts_redis", queue.connection_for_web("redis://127.0.0.1:1/0"))

    assert found("fault") == ["Redis does not answer. Check REDIS_URL. Work waits for it but is not lost."]


def test_a_store_without_staff_is_not_fit(db):
    lifetime()

    assert found("fault") == ["There is no admin: run `sts admin grant EMAIL`."]


def test_a_store_without_a_plan_is_not_fit(db):
    sam()

    assert found("fault") == ["There is no plan on sale: run `sts seed`."]


@pytest.mark.parametrize(
    ("app_env", "kind"), [(AppEnv.DEVELOPMENT, "warning"), (AppEnv.STAGING, "warning"), (AppEnv.PRODUCTION, "fault")]
)
def test_placeholders_are_a_fault_where_money_is_real(fit, settings, app_env, kind):
    settings(app_env=app_env, payments_vendor="live", mail_vendor="live", provisioning_mode="manual")

    sentences = found(kind)
    assert "The plan lifetime has no price at Stripe; the simulator needs none." in sentences
    assert any(sentence.startswith("Placeholder script ids, unknown at TradingView: nq-") for sentence in sentences)


def test_two_prices_for_one_plan_are_a_fault(fit, settings):
    database.session.execute(sa.update(Plan).values(stripe_price_id="price_one"))
    settings(stripe_price_id="price_two")

    assert found("fault") == ["The plan lifetime is sold at price_one, STRIPE_PRICE_ID says price_two."]


def test_what_staff_have_switched_is_named_and_is_no_fault(fit):
    in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:1", because="a test says so"))

    assert any("switched automatic access to MANUAL" in sentence for sentence in found("warning"))
    assert found("fault") == []


def test_an_incident_is_named_with_both_ways_back(fit):
    in_a_transaction(lambda: control.refuse_session("HTTP 401", credential_id=None))

    [sentence] = [sentence for sentence in found("warning") if "refuses our session" in sentence]
    assert "sts credentials set" in sentence
    assert "sts provisioning resume" in sentence


class TestCredentials:
    """What signs us in at TradingView: whether it can be read, its age, its keys."""

    @pytest.fixture
    def clock(self):
        with stopped_clock() as traveller:
            yield traveller

    @pytest.fixture
    def stored(self, fit, clock, settings):
        settings(credential_encryption_key=SecretStr(KEY))
        return store()

    def test_readable_ones_are_fine(self, stored, clock):
        clock.shift(timedelta(days=2))

        assert "The credentials of TradingView are 2 days old and can be read." in found("fine")

    @pytest.mark.parametrize(("days", "when"), [(7, "soon"), (13, "soon"), (14, "now")])
    def test_old_ones_are_to_be_replaced(self, stored, clock, days, when):
        clock.shift(timedelta(days=days))

        sentence = f"The credentials of TradingView are {days} days old: run `sts credentials set` {when}."
        assert sentence in found("warning")

    @pytest.mark.parametrize("mode", ["simulated", "direct", "unofficial-api"])
    @pytest.mark.parametrize("key", [None, SecretStr(NEXT)])
    @pytest.mark.parametrize("app_env", [AppEnv.DEVELOPMENT, AppEnv.PRODUCTION])
    def test_a_key_that_is_missing_or_another_is_a_fault(self, stored, settings, mode, key, app_env):
        settings(provisioning_mode=mode, credential_encryption_key=key, app_env=app_env)

        told = f"Credentials {stored}: the stored credentials cannot be read: their key {id_of(KEY)} is neither "
        assert any(sentence.startswith(told) for sentence in found("fault"))

    def test_a_damaged_row_is_a_fault(self, stored):
        change(stored, sealed=b"damaged")

        [sentence] = found("fault")
        assert "what is stored was changed or damaged" in sentence

    def test_nobody_needs_them_in_manual_mode(self, stored, settings):
        settings(provisioning_mode="manual", credential_encryption_key=None)

        assert found("fault") == []
        assert any("cannot be read" in sentence for sentence in found("warning"))

    def test_a_missing_key_is_no_matter_while_nothing_is_stored(self, fit, settings):
        settings(credential_encryption_key=None, app_env=AppEnv.PRODUCTION)

        assert not any("CREDENTIAL_ENCRYPTION_KEY" in sentence for sentence in found("fault"))

    def test_an_older_key_is_to_be_rotated_away(self, stored, settings):
        store()
        settings(credential_encryption_key=SecretStr(NEXT), credential_encryption_key_fallbacks=(KEY,))

        told = "Stored credentials rest under an older key (2 in all): run `sts rotate-key`, then remove the older key."
        assert told in found("warning")
        assert found("fault") == []

    def test_lost_ones_that_are_retired_are_named(self, stored, settings):
        settings(credential_encryption_key=SecretStr(NEXT))
        store()

        assert f"Retired credentials whose key is lost: {stored}. Nothing needs them." in found("warning")
        assert found("fault") == []

    def test_those_of_the_environment_are_deprecated(self, fit, settings):
        settings(tv_session_id=SecretStr("fake-session"), tv_signature=SecretStr("fake-signature"))

        told = "TV_SESSION_ID and TV_SIGNATURE are deprecated: run `sts credentials set`, then remove them."
        assert told in found("warning")

    def test_those_of_the_environment_are_to_go_once_some_are_stored(self, stored, settings):
        settings(tv_session_id=SecretStr("fake-session"), tv_signature=SecretStr("fake-signature"))

        told = "TV_SESSION_ID and TV_SIGNATURE are not read while credentials are stored: remove them."
        assert told in found("warning")

    def test_the_direct_way_needs_some(self, fit, settings):
        settings(provisioning_mode="direct")

        assert "No credentials of TradingView are stored: run `sts credentials set`." in found("fault")

    @pytest.mark.parametrize(
        ("app_env", "kind"),
        [(AppEnv.DEVELOPMENT, "warning"), (AppEnv.STAGING, "warning"), (AppEnv.PRODUCTION, "fault")],
    )
    def test_an_access_service_needs_somebody_to_ask_about(self, fit, settings, app_env, kind):
        settings(provisioning_mode="unofficial-api", tv_canary_username=None, app_env=app_env)

        [sentence] = [each for each in found(kind) if each.startswith("TV_CANARY_USERNAME is not set")]
        assert "an expired session opens no incident" in sentence

    @pytest.mark.parametrize("app_env", [AppEnv.DEVELOPMENT, AppEnv.PRODUCTION])
    def test_with_somebody_to_ask_about_nothing_is_said(self, fit, settings, app_env):
        settings(provisioning_mode="unofficial-api", tv_canary_username="Vendor", app_env=app_env)

        assert not any("TV_CANARY_USERNAME" in finding.sentence for finding in examine())

    @pytest.mark.parametrize("mode", ["direct", "manual", "simulated"])
    def test_any_other_way_needs_nobody_to_ask_about(self, fit, settings, mode):
        settings(provisioning_mode=mode, tv_canary_username=None, app_env=AppEnv.PRODUCTION)

        assert not any("TV_CANARY_USERNAME" in finding.sentence for finding in examine())


class TestCommand:
    @pytest.fixture
    def sts(self, app, db, monkeypatch):
        monkeypatch.setattr(cli.main, "create_app", lambda: app)

        def sts(*words):
            database.session.commit()
            return CliRunner().invoke(cli.main, words)

        return sts

    def test_fit_is_zero(self, sts, fit):
        result = sts("doctor")

        assert result.exit_code == 0
        assert result.output.endswith("Fit.\n")

    def test_not_fit_is_one_and_says_how_much_there_is_to_mend(self, sts):
        result = sts("doctor")

        assert result.exit_code == 1
        assert "FAIL  There is no admin" in result.output
        assert "Not fit: 2 to mend." in result.output

    def test_invariants_are_counted(self, sts, fit):
        result = sts("invariants")

        assert result.exit_code == 0
        assert "invariants hold." in result.output

    def test_seed_twice_is_once(self, sts):
        first, second = sts("seed"), sts("seed")

        assert "Seeded 6 strategies and 1 plans." in first.output
        assert "Seeded 0 strategies and 0 plans." in second.output


def test_settings_faults_are_a_list_and_no_trace(monkeypatch):
    def refuse():
        raise SettingsFault(["SECRET_KEY is required", "REDIS_URL is required"])

    monkeypatch.setattr(cli.main, "create_app", refuse)

    result = CliRunner().invoke(cli.main, ["doctor"])

    assert result.exit_code == 78
    assert "  - SECRET_KEY is required\n  - REDIS_URL is required" in result.output
    assert "Traceback" not in result.output
