"""Every finding of the doctor, one at a time."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from sts_app import cli
from sts_app.catalog.models import Plan
from sts_app.core import queue
from sts_app.core.db import db as database
from sts_app.ops.doctor import examine
from sts_app.settings import AppEnv, SettingsFault
from tests.builders import lifetime, sam


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
