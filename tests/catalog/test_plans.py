"""Plans as data: made, changed, sold or not, and what they cover."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.catalog import queries, services
from sts_app.catalog.models import Mode, Plan, PlanStrategy, StrategyStatus
from sts_app.catalog.services import PlanExists, WouldEndAccess
from sts_app.core.errors import FixInput, NotThere
from sts_app.settings import PLACEHOLDER_PRICE
from tests.builders import count, lifetime, strategy

SAM = "user:1"
LISTED = ("nq-trend-rider", "nq-power-hour")


@pytest.fixture
def all_of_them(db) -> Plan:
    """The seeded plan."""
    return lifetime()


@pytest.fixture
def pair(all_of_them) -> Plan:
    """A plan with two strategies, not on sale yet."""
    return services.create_plan(
        "pair", name="Pair", price_cents=1900, strategies=LISTED, stripe_price_id="price_pair", actor=SAM
    )


@pytest.fixture
def live(app, monkeypatch) -> None:
    """Payments go through the real Stripe."""
    settings = app.config["STS"].model_copy(update={"payments_vendor": "live"})
    monkeypatch.setitem(app.config, "STS", settings)


def deeds(db) -> list[tuple[str, str, dict[str, object]]]:
    """Audit lines about plans after the seed, oldest first."""
    db.session.flush()
    lines = sa.select(AuditLog).where(AuditLog.action != "catalog.seeded").order_by(AuditLog.id)
    return [(line.actor, line.action, line.details) for line in db.session.scalars(lines)]


def named(slug: str):
    return queries.strategy_for_staff(slug)


def slugs(rows) -> list[str]:
    return [each.slug for each in rows]


class TestCreate:
    def test_a_plan_is_not_on_sale_and_comes_after_the_others(self, db, all_of_them):
        plan = services.create_plan(
            "monthly",
            name=" Every month ",
            price_cents=1900,
            mode=Mode.SUBSCRIPTION,
            interval="month",
            covers_all=True,
            stripe_price_id="price_abc",
            actor=SAM,
        )

        assert (plan.name, plan.price_cents, plan.mode, plan.interval) == ("Every month", 1900, "subscription", "month")
        assert (plan.active, plan.position > all_of_them.position, plan.covers_all) == (False, True, True)
        assert slugs(queries.plans_on_sale()) == ["lifetime"]
        [(actor, action, details)] = deeds(db)
        assert (actor, action) == (SAM, "catalog.plan_created")
        assert details == {
            "slug": "monthly",
            "price_cents": 1900,
            "currency": "usd",
            "mode": "subscription",
            "interval": "month",
            "stripe_price_id": "price_abc",
            "covers": "all",
        }

    def test_it_covers_what_is_listed(self, db, pair):
        assert slugs(queries.covered_strategies(pair)) == list(LISTED)
        assert deeds(db)[0][2]["covers"] == list(LISTED)

    def test_a_strategy_listed_twice_stands_there_once(self, all_of_them):
        services.create_plan("one", name="One", price_cents=100, strategies=LISTED[:1] * 2, actor=SAM)

        assert count(PlanStrategy) == 1

    def test_a_name_that_is_taken_is_refused(self, db, pair):
        with pytest.raises(PlanExists):
            services.create_plan("pair", name="Another", price_cents=100, covers_all=True, actor=SAM)

        assert len(deeds(db)) == 1

    def test_a_strategy_nobody_knows_is_refused(self, db, all_of_them):
        with pytest.raises(NotThere):
            services.create_plan("one", name="One", price_cents=100, strategies=["nq-nobody"], actor=SAM)

        assert count(Plan) == 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"slug": ""}, "short name"),
            ({"slug": "Pair"}, "short name"),
            ({"slug": "a--b"}, "short name"),
            ({"slug": "a" * 61}, "short name"),
            ({"name": " "}, "one line"),
            ({"name": "two\nlines"}, "one line"),
            ({"name": "x" * 101}, "one line"),
            ({"price_cents": 0}, "A price lies"),
            ({"price_cents": -1}, "A price lies"),
            ({"price_cents": 100_000_000}, "A price lies"),
            ({"currency": "USD"}, "three lower-case letters"),
            ({"currency": "dollars"}, "three lower-case letters"),
            ({"interval": "month"}, "A subscription renews"),
            ({"mode": Mode.SUBSCRIPTION}, "A subscription renews"),
            ({"mode": Mode.SUBSCRIPTION, "interval": "week"}, "A subscription renews"),
            ({"strategies": LISTED}, "either all strategies"),
            ({"covers_all": False}, "either all strategies"),
            ({"stripe_price_id": "prod_abc"}, "begins with price_"),
            ({"stripe_price_id": ""}, "begins with price_"),
        ],
    )
    def test_what_no_plan_can_be_is_refused(self, all_of_them, changes, words):
        given = {"slug": "new", "name": "New", "price_cents": 100, "covers_all": True, "actor": SAM} | changes

        with pytest.raises(FixInput) as refusal:
            services.create_plan(given.pop("slug"), **given)

        assert words in refusal.value.sentence
        assert count(Plan) == 1


class TestChange:
    def test_only_what_is_given_changes_and_the_audit_says_from_what(self, db, pair):
        assert services.change_plan(pair, price_cents=2900, position=0, actor=SAM)

        assert (pair.name, pair.price_cents, pair.position) == ("Pair", 2900, 0)
        assert deeds(db)[-1] == (
            SAM,
            "catalog.plan_changed",
            {"before": {"price_cents": 1900, "position": 1}, "after": {"price_cents": 2900, "position": 0}},
        )

    def test_what_is_so_already_changes_nothing(self, db, pair):
        assert not services.change_plan(pair, name="Pair", price_cents=1900, actor=SAM)

        assert len(deeds(db)) == 1

    def test_another_amount_needs_another_price_where_payments_are_live(self, pair, live):
        services.change_plan(pair, stripe_price_id="price_first", actor=SAM)

        for same in (None, "price_first"):
            with pytest.raises(FixInput) as refusal:
                services.change_plan(pair, price_cents=2900, stripe_price_id=same, actor=SAM)
            assert "cannot be edited" in refusal.value.sentence
        assert services.change_plan(pair, price_cents=2900, stripe_price_id="price_second", actor=SAM)

        assert (pair.price_cents, pair.stripe_price_id) == (2900, "price_second")

    def test_another_name_needs_none(self, pair, live):
        assert services.change_plan(pair, name="A pair", price_cents=1900, actor=SAM)

    @pytest.mark.parametrize(
        "changes",
        [{"name": ""}, {"price_cents": 0}, {"stripe_price_id": "abc"}, {"position": -1}, {"position": 10**9}],
    )
    def test_what_no_plan_can_be_is_refused(self, db, pair, changes):
        with pytest.raises(FixInput):
            services.change_plan(pair, **changes, actor=SAM)

        assert len(deeds(db)) == 1


class TestSale:
    def test_on_and_off_and_each_once(self, db, pair):
        assert services.put_on_sale(pair, actor=SAM)
        assert not services.put_on_sale(pair, actor=SAM)
        assert slugs(queries.plans_on_sale()) == ["lifetime", "pair"]

        assert services.take_off_sale(pair, actor=SAM)
        assert not services.take_off_sale(pair, actor=SAM)
        assert slugs(queries.plans_on_sale()) == ["lifetime"]
        assert [action for _, action, _ in deeds(db)[1:]] == ["catalog.plan_put_on_sale", "catalog.plan_taken_off_sale"]

    def test_what_is_not_sold_any_more_covers_still(self, pair):
        services.take_off_sale(pair, actor=SAM)

        assert slugs(queries.covered_strategies(pair)) == list(LISTED)

    def test_a_plan_of_drafts_alone_is_not_sold(self, all_of_them):
        strategy("nq-seventh")
        plan = services.create_plan("soon", name="Soon", price_cents=100, strategies=["nq-seventh"], actor=SAM)

        with pytest.raises(FixInput, match="would get nothing"):
            services.put_on_sale(plan, actor=SAM)

        assert not plan.active

    def test_a_plan_without_a_price_is_not_sold(self, db, pair):
        pair.stripe_price_id = None
        db.session.flush()

        with pytest.raises(FixInput, match="`sts stripe-setup` gives it one"):
            services.put_on_sale(pair, actor=SAM)

        assert not pair.active

    def test_the_price_of_the_simulator_is_none_where_payments_are_live(self, db, pair, live):
        pair.stripe_price_id = PLACEHOLDER_PRICE
        db.session.flush()

        with pytest.raises(FixInput, match="no price at Stripe"):
            services.put_on_sale(pair, actor=SAM)

    def test_a_plan_with_its_price_is(self, pair, live):
        services.change_plan(pair, stripe_price_id="price_abc", actor=SAM)

        assert services.put_on_sale(pair, actor=SAM)


class TestCover:
    def test_puts_a_strategy_on_the_list_once(self, db, pair):
        added = named("nq-breakout-pro")

        assert services.cover(pair, added, actor=SAM)
        assert not services.cover(pair, added, actor=SAM)

        assert added in queries.covered_strategies(pair)
        assert deeds(db)[1:] == [(SAM, "catalog.plan_covers", {"strategy": "nq-breakout-pro"})]

    def test_a_plan_that_covers_all_has_no_list(self, all_of_them):
        for verb in (services.cover, lambda *args, **kwargs: services.uncover(*args, confirmed=True, **kwargs)):
            with pytest.raises(FixInput, match="covers every strategy"):
                verb(all_of_them, named("nq-trend-rider"), actor=SAM)


class TestUncover:
    def test_asks_before_it_ends_access(self, db, pair):
        with pytest.raises(WouldEndAccess) as refusal:
            services.uncover(pair, named("nq-trend-rider"), confirmed=False, actor=SAM)

        assert "would lose it" in refusal.value.sentence
        assert slugs(queries.covered_strategies(pair)) == list(LISTED)
        assert len(deeds(db)) == 1

    def test_takes_a_strategy_off_the_list_once(self, db, pair):
        gone = named("nq-trend-rider")

        assert services.uncover(pair, gone, confirmed=True, actor=SAM)
        assert not services.uncover(pair, gone, confirmed=True, actor=SAM)

        assert slugs(queries.covered_strategies(pair)) == ["nq-power-hour"]
        assert deeds(db)[1:] == [(SAM, "catalog.plan_covers_no_more", {"strategy": "nq-trend-rider"})]

    def test_nobody_has_a_draft_so_nobody_is_asked(self, pair):
        draft = strategy("nq-seventh")
        services.cover(pair, draft, actor=SAM)

        assert services.uncover(pair, draft, confirmed=False, actor=SAM)

    def test_a_plan_on_sale_keeps_its_last_one(self, pair):
        services.put_on_sale(pair, actor=SAM)
        services.uncover(pair, named("nq-trend-rider"), confirmed=True, actor=SAM)

        with pytest.raises(FixInput, match="Take it off sale first"):
            services.uncover(pair, named("nq-power-hour"), confirmed=True, actor=SAM)

        services.take_off_sale(pair, actor=SAM)
        assert services.uncover(pair, named("nq-power-hour"), confirmed=True, actor=SAM)


def test_retiring_keeps_a_strategy_on_its_lists(pair):
    services.retire(named("nq-trend-rider").id, SAM)

    assert named("nq-trend-rider").status == StrategyStatus.RETIRED
    assert slugs(queries.covered_strategies(pair)) == list(LISTED)
