import pytest
import sqlalchemy as sa

from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.catalog.queries import (
    all_plans,
    coverage,
    covered_strategies,
    lifetime_plan,
    listed_strategies,
    plan_named,
    plan_on_sale,
    plans_covering,
    plans_on_sale,
    strategies_on_sale,
    strategy_by_slug,
    strategy_for_staff,
)
from sts_app.catalog.services import create_plan, seed_catalog
from sts_app.core.errors import NotNow, NotThere


@pytest.fixture
def catalog(app, db):
    """The seeded catalog with one draft and one retired strategy."""
    seed_catalog("price_abc")
    _become(db, "nq-trend-rider", StrategyStatus.DRAFT)
    _become(db, "nq-power-hour", StrategyStatus.RETIRED)
    return db


def _become(db, slug, status):
    db.session.execute(sa.update(Strategy).where(Strategy.slug == slug).values(status=status))
    db.session.expire_all()


def slugs(strategies):
    return [strategy.slug for strategy in strategies]


def test_only_what_is_on_sale_is_sold(catalog):
    found = slugs(strategies_on_sale())

    assert len(found) == 4
    assert not {"nq-trend-rider", "nq-power-hour"} & set(found)


def test_staff_choose_the_order(catalog):
    catalog.session.execute(sa.update(Strategy).where(Strategy.slug == "nq-overnight-edge").values(position=0))

    assert slugs(strategies_on_sale())[0] == "nq-overnight-edge"


def test_the_lifetime_plan_covers_retired_strategies_and_no_drafts(catalog):
    found = slugs(covered_strategies(lifetime_plan()))

    assert "nq-power-hour" in found
    assert "nq-trend-rider" not in found
    assert len(found) == 5


def test_a_strategy_activated_later_is_covered(catalog):
    _become(catalog, "nq-trend-rider", StrategyStatus.ON_SALE)

    assert "nq-trend-rider" in slugs(covered_strategies(lifetime_plan()))


def test_a_plan_that_does_not_cover_all_covers_nothing_by_itself(catalog):
    narrow = Plan(slug="narrow", name="Narrow", price_cents=100, covers_all=False)

    assert covered_strategies(narrow) == []


@pytest.fixture
def pair(catalog):
    """A plan with a strategy on sale, a draft, and a retired one on its list."""
    listed = ("nq-mean-reversion", "nq-trend-rider", "nq-power-hour")
    return create_plan("pair", name="Pair", price_cents=1900, strategies=listed, actor="user:1")


def test_a_plan_with_a_list_covers_what_is_on_it_and_no_draft(pair):
    assert slugs(covered_strategies(pair)) == ["nq-mean-reversion", "nq-power-hour"]
    assert slugs(listed_strategies(pair)) == ["nq-trend-rider", "nq-mean-reversion", "nq-power-hour"]


def test_a_draft_on_a_list_is_covered_once_it_is_activated(catalog, pair):
    _become(catalog, "nq-trend-rider", StrategyStatus.ON_SALE)

    assert "nq-trend-rider" in slugs(covered_strategies(pair))


@pytest.mark.parametrize(
    ("slug", "plans"),
    [
        ("nq-trend-rider", ["lifetime", "pair"]),
        ("nq-power-hour", ["lifetime", "pair"]),
        ("nq-breakout-pro", ["lifetime"]),
    ],
)
def test_a_strategy_is_covered_by_plans_with_and_without_a_list(catalog, pair, slug, plans):
    assert slugs(catalog.session.scalars(plans_covering(strategy_for_staff(slug)))) == plans


def test_coverage_is_what_each_plan_covers(catalog, pair):
    of_plan = {plan.id: {each.id for each in covered_strategies(plan)} for plan in all_plans()}

    found = {tuple(row) for row in catalog.session.execute(coverage())}

    assert found == {(plan, each) for plan, covered in of_plan.items() for each in covered}


def test_plans_on_sale_come_in_the_order_staff_chose(catalog, pair):
    assert slugs(plans_on_sale()) == ["lifetime"]

    pair.active, lifetime_plan().position = True, 7
    catalog.session.flush()

    assert slugs(plans_on_sale()) == ["pair", "lifetime"]


def test_a_plan_is_found_by_name_on_sale_or_not(pair):
    assert plan_named("pair") == pair
    with pytest.raises(NotThere, match="no plan called") as refusal:
        plan_named("trio")
    assert refusal.value.sentence == "There is no plan called 'trio'."


def test_a_retired_strategy_keeps_its_page(catalog):
    assert strategy_by_slug("nq-power-hour").name == "NQ Power Hour"


@pytest.mark.parametrize("slug", ["nq-trend-rider", "never-was", ""])
def test_a_draft_is_as_absent_as_an_unknown_name(catalog, slug):
    with pytest.raises(NotThere):
        strategy_by_slug(slug)


def test_a_plan_that_is_not_active_is_not_sold(catalog):
    lifetime_plan().active = False
    catalog.session.flush()

    assert plan_on_sale() is None
    with pytest.raises(NotNow):
        lifetime_plan()
