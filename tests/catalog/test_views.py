import pytest
import sqlalchemy as sa

from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.catalog.seed import STRATEGIES
from sts_app.catalog.services import seed_catalog
from sts_app.provisioning.control import set_switch
from sts_app.provisioning.rules import Switch


@pytest.fixture
def visitor(app, db):
    seed_catalog("price_abc")
    return app.test_client()


def test_the_listing_names_every_strategy_on_sale(visitor):
    page = visitor.get("/strategies").text

    for strategy in STRATEGIES:
        assert strategy.name in page
        assert f"/strategies/{strategy.slug}" in page


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.slug)
def test_a_strategy_page_tells_all_and_ends_with_the_offer(visitor, strategy):
    page = visitor.get(f"/strategies/{strategy.slug}").text

    for feature in strategy.features:
        assert feature in page
    assert page.index("CFTC rule 4.41") < page.index("All sales are final") < page.index("Get access for $99.00")
    assert 'action="/checkout"' in page
    assert "This is not investment advice" in page
    assert "Risk of futures trading" in page


def test_a_retired_strategy_says_so_and_leaves_the_listing(visitor, db):
    db.session.execute(
        sa.update(Strategy).where(Strategy.slug == "nq-power-hour").values(status=StrategyStatus.RETIRED)
    )

    assert "no longer listed" in visitor.get("/strategies/nq-power-hour").text
    assert "NQ Power Hour" not in visitor.get("/strategies").text


def test_a_draft_has_no_page(visitor, db):
    db.session.execute(sa.update(Strategy).where(Strategy.slug == "nq-power-hour").values(status=StrategyStatus.DRAFT))

    answer = visitor.get("/strategies/nq-power-hour")

    assert answer.status_code == 404
    assert "There is nothing at this address." in answer.text


def test_nothing_is_offered_while_sales_are_closed(visitor, db):
    db.session.execute(sa.update(Plan).values(active=False))

    page = visitor.get("/strategies/nq-power-hour").text

    assert "Sales are closed at the moment" in page
    assert 'action="/checkout"' not in page


@pytest.mark.parametrize("path", ["/strategies", "/strategies/nq-power-hour"])
def test_no_page_sells_while_sales_are_paused(visitor, db, path):
    set_switch(Switch.DISABLED, actor="user:1", because="test")
    db.session.commit()

    page = visitor.get(path).text

    assert "Sales are paused at the moment" in page
    assert "$99.00" in page
    assert 'action="/checkout"' not in page


def test_an_empty_catalog_says_so(app, db):
    db.session.execute(sa.delete(Strategy))

    assert "No strategies yet" in app.test_client().get("/strategies").text
