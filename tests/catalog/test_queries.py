import pytest
import sqlalchemy as sa

from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.catalog.queries import (
    covered_strategies,
    lifetime_plan,
    plan_on_sale,
    strategies_on_sale,
    strategy_by_slug,
)
from sts_app.catalog.services import seed_catalog
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
