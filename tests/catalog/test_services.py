"""Activating, retiring, another script: what changes, what is refused, what the audit says."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.catalog import queries, services
from sts_app.catalog.models import FormerScript, OnceOnSale, Strategy, StrategyStatus
from sts_app.catalog.seed import STRATEGIES
from sts_app.catalog.services import NeverOnSale, ScriptInUse, Seeded
from sts_app.core.errors import FixInput, NotThere
from sts_app.settings import AppEnv
from tests.builders import count, lifetime, strategy

DRAFT, ON_SALE, RETIRED = StrategyStatus
SAM = "user:1"


@pytest.fixture
def seventh(db) -> Strategy:
    """A draft beside the six of the seed."""
    lifetime()
    return strategy("nq-seventh")


@pytest.fixture
def vendor_is(app, monkeypatch):
    """Choose how TradingView is reached, and where."""

    def choose(mode: str, env: AppEnv = AppEnv.TESTING) -> None:
        settings = app.config["STS"].model_copy(update={"provisioning_mode": mode, "app_env": env})
        monkeypatch.setitem(app.config, "STS", settings)

    return choose


def deeds(db) -> list[tuple[str, str, dict[str, str]]]:
    """Audit lines about strategies, oldest first."""
    db.session.flush()
    lines = sa.select(AuditLog).where(AuditLog.action != "catalog.seeded").order_by(AuditLog.id)
    return [(line.actor, line.action, line.details) for line in db.session.scalars(lines)]


def former() -> set[str]:
    return set().union(*queries.former_scripts().values())


class TestActivate:
    @pytest.mark.parametrize("before", [DRAFT, RETIRED])
    def test_puts_on_sale_and_says_so_in_the_audit(self, db, seventh, before):
        seventh.status = before

        assert services.activate(seventh.id, SAM)

        assert seventh.status == ON_SALE
        assert deeds(db) == [(SAM, "catalog.strategy_activated", {"before": before})]
        assert seventh in queries.covered_strategies(queries.lifetime_plan())

    def test_twice_is_once(self, db, seventh):
        services.activate(seventh.id, SAM)

        assert not services.activate(seventh.id, SAM)

        assert len(deeds(db)) == 1

    @pytest.mark.parametrize(
        ("mode", "env"),
        [("unofficial-api", AppEnv.STAGING), ("direct", AppEnv.DEVELOPMENT), ("manual", AppEnv.PRODUCTION)],
    )
    def test_a_placeholder_is_refused_where_tradingview_is_the_real_one(self, seventh, vendor_is, mode, env):
        seventh.script_id = "PUB;nq_seventh_007"
        vendor_is(mode, env)

        with pytest.raises(FixInput, match="placeholder"):
            services.activate(seventh.id, SAM)

        assert seventh.status == DRAFT

    @pytest.mark.parametrize("mode", ["simulated", "manual"])
    def test_a_placeholder_will_do_where_it_is_not(self, seventh, vendor_is, mode):
        seventh.script_id = "PUB;nq_seventh_007"
        vendor_is(mode)

        assert services.activate(seventh.id, SAM)

    def test_a_real_script_is_no_placeholder(self, seventh, vendor_is):
        vendor_is("direct", AppEnv.PRODUCTION)

        assert services.activate(seventh.id, SAM)

    def test_nothing_of_that_number_is_not_there(self, db, seventh):
        with pytest.raises(NotThere):
            services.activate(seventh.id + 1000, SAM)


class TestRetire:
    def test_leaves_the_listing_and_stays_covered(self, db, seventh):
        services.activate(seventh.id, SAM)

        assert services.retire(seventh.id, SAM)

        assert seventh not in queries.strategies_on_sale()
        assert seventh in queries.covered_strategies(queries.lifetime_plan())
        assert deeds(db)[-1] == (SAM, "catalog.strategy_retired", {})

    def test_twice_is_once(self, db, seventh):
        services.activate(seventh.id, SAM)
        services.retire(seventh.id, SAM)

        assert not services.retire(seventh.id, SAM)

        assert len(deeds(db)) == 2

    def test_a_draft_has_nothing_to_retire(self, seventh):
        with pytest.raises(NeverOnSale):
            services.retire(seventh.id, SAM)

    @pytest.mark.parametrize("before", [ON_SALE, RETIRED])
    def test_what_was_on_sale_is_never_a_draft_again(self, db, seventh, before):
        seventh.status = before

        with pytest.raises(OnceOnSale, match="strategy:") as refusal:
            seventh.status = DRAFT

        assert "only the end of an entitlement ends access" in refusal.value.sentence
        assert seventh.status == before

    def test_a_draft_may_be_called_a_draft(self, seventh):
        seventh.status = DRAFT

        assert seventh.status == DRAFT


class TestChangeScript:
    @pytest.fixture
    def sold(self, seventh) -> Strategy:
        seventh.status = ON_SALE
        return seventh

    def test_the_old_id_becomes_a_former_one(self, db, sold):
        assert services.change_script(sold.id, "PUB;second", actor=SAM)

        assert sold.script_id == "PUB;second"
        assert queries.former_scripts() == {sold.id: frozenset({"PUB;nq-seventh"})}
        assert deeds(db) == [
            (SAM, "catalog.script_changed", {"before": "PUB;nq-seventh", "after": "PUB;second"}),
        ]

    def test_the_same_id_changes_nothing(self, db, sold):
        assert not services.change_script(sold.id, "PUB;nq-seventh", actor=SAM)

        assert (former(), deeds(db)) == (set(), [])

    def test_going_back_swaps_the_two(self, sold):
        services.change_script(sold.id, "PUB;second", actor=SAM)

        assert services.change_script(sold.id, "PUB;nq-seventh", actor=SAM)

        assert (sold.script_id, former()) == ("PUB;nq-seventh", {"PUB;second"})

    def test_every_id_it_ever_had_is_kept(self, sold):
        for script_id in ("PUB;second", "PUB;third", "PUB;second", "PUB;fourth"):
            services.change_script(sold.id, script_id, actor=SAM)

        assert (sold.script_id, former()) == ("PUB;fourth", {"PUB;nq-seventh", "PUB;second", "PUB;third"})

    def test_the_script_of_another_strategy_is_refused(self, db, sold):
        with pytest.raises(ScriptInUse):
            services.change_script(sold.id, STRATEGIES[0].script_id, actor=SAM)

        assert (sold.script_id, former(), deeds(db)) == ("PUB;nq-seventh", set(), [])

    def test_a_former_script_of_another_strategy_is_refused(self, sold):
        services.change_script(sold.id, "PUB;second", actor=SAM)
        other = strategy("nq-eighth")

        with pytest.raises(ScriptInUse):
            services.change_script(other.id, "PUB;nq-seventh", actor=SAM)

    def test_a_mistyped_id_of_a_draft_stays_free(self, seventh):
        services.change_script(seventh.id, "PUB;meant-for-eight", actor=SAM)
        services.change_script(seventh.id, "PUB;seven", actor=SAM)
        other = strategy("nq-eighth")

        assert services.change_script(other.id, "PUB;meant-for-eight", actor=SAM)

        assert former() == set()

    @pytest.mark.parametrize(
        "text",
        ["", "PUB;", "pub;abc", "abc", "PUB;a b", "PUB;abc ", "PUB;abc\n", "PUB;a;b", "PUB;é", "PUB;" + "a" * 101],
    )
    def test_what_is_no_pine_id_is_refused(self, sold, text):
        with pytest.raises(FixInput, match="script id"):
            services.change_script(sold.id, text, actor=SAM)

        assert sold.script_id == "PUB;nq-seventh"

    def test_a_placeholder_is_refused_where_tradingview_is_the_real_one(self, sold, vendor_is):
        vendor_is("unofficial-api")

        with pytest.raises(FixInput, match="placeholder"):
            services.change_script(sold.id, "PUB;nq_seventh_007", actor=SAM)

    def test_nothing_of_that_number_is_not_there(self, sold):
        with pytest.raises(NotThere):
            services.change_script(sold.id + 1000, "PUB;second", actor=SAM)


class TestReads:
    def test_staff_see_drafts_by_name_and_in_the_list(self, seventh):
        assert queries.strategy_for_staff("nq-seventh") == seventh
        assert seventh in queries.all_strategies()

    def test_staff_hear_that_a_name_is_wrong(self, seventh):
        with pytest.raises(NotThere):
            queries.strategy_for_staff("nq-eighth")

    def test_a_script_is_found_by_what_it_is_and_was(self, seventh):
        seventh.status = ON_SALE
        services.change_script(seventh.id, "PUB;second", actor=SAM)

        assert queries.strategy_with_script("PUB;second") == seventh
        assert queries.strategy_with_script("PUB;nq-seventh") == seventh
        assert queries.strategy_with_script("PUB;third") is None

    def test_a_plan_that_is_not_sold_any_more_covers_still(self, db, seventh):
        lifetime().active = False

        assert [plan.slug for plan in db.session.scalars(queries.plans_covering(seventh))] == ["lifetime"]


def test_seeding_brings_no_strategy_back_under_its_former_script(db):
    lifetime()
    first = queries.strategy_for_staff(STRATEGIES[0].slug)
    services.change_script(first.id, "PUB;real", actor=SAM)
    first.slug = "nq-renamed"
    db.session.flush()

    assert services.seed_catalog(None) == Seeded(strategies=0, plans=0)
    assert count(FormerScript) == 1
