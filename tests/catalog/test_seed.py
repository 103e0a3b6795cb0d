import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.catalog.models import Plan, Strategy, StrategyStatus
from sts_app.catalog.queries import lifetime_plan, strategies_on_sale
from sts_app.catalog.seed import STRATEGIES
from sts_app.catalog.services import Seeded, seed_catalog
from sts_app.settings import PLACEHOLDER_PRICE


def test_an_empty_store_gets_six_strategies_and_one_plan(app, db):
    db.session.execute(sa.delete(Strategy))
    db.session.execute(sa.delete(Plan))

    seeded = seed_catalog("price_abc")

    assert seeded == Seeded(strategies=6, plans=1)
    assert [strategy.slug for strategy in strategies_on_sale()] == [
        "nq-momentum-alpha",
        "nq-trend-rider",
        "nq-breakout-pro",
        "nq-mean-reversion",
        "nq-power-hour",
        "nq-overnight-edge",
    ]
    plan = lifetime_plan()
    assert (plan.name, plan.price_cents, plan.currency, plan.covers_all, plan.stripe_price_id) == (
        "STS Strategies - Lifetime Access",
        9900,
        "usd",
        True,
        "price_abc",
    )


def test_seeding_again_adds_nothing_and_writes_no_audit_line(app, db):
    seed_catalog("price_abc")
    lines = db.session.scalar(sa.select(sa.func.count()).select_from(AuditLog))

    seeded = seed_catalog("price_abc")

    assert seeded == Seeded(strategies=0, plans=0)
    assert db.session.scalar(sa.select(sa.func.count()).select_from(AuditLog)) == lines


def test_what_staff_changed_is_left_alone(app, db):
    seed_catalog("price_abc")
    strategy = db.session.scalars(sa.select(Strategy).where(Strategy.slug == "nq-power-hour")).one()
    strategy.name, strategy.script_id, strategy.status = "Last Hour", "PUB;real", StrategyStatus.RETIRED
    plan = lifetime_plan()
    plan.price_cents = 12900
    db.session.flush()

    seed_catalog("price_other")

    db.session.expire_all()
    assert (strategy.name, strategy.script_id, strategy.status) == ("Last Hour", "PUB;real", "retired")
    assert plan.price_cents == 12900


def test_a_script_id_in_use_elsewhere_does_not_stop_the_seeding(app, db):
    seed_catalog(None)
    strategy = db.session.scalars(sa.select(Strategy).where(Strategy.slug == "nq-power-hour")).one()
    strategy.slug = "final-hour"
    db.session.flush()

    assert seed_catalog(None) == Seeded(strategies=0, plans=0)


def test_the_price_at_stripe_is_filled_in_once(app, db):
    db.session.execute(sa.delete(Plan))
    seen = []

    for price_id in (None, PLACEHOLDER_PRICE, None, "price_real", "price_other"):
        seed_catalog(price_id)
        seen.append(lifetime_plan().stripe_price_id)

    assert seen == [None, PLACEHOLDER_PRICE, PLACEHOLDER_PRICE, "price_real", "price_real"]


def test_every_seeded_strategy_is_described_in_full():
    for strategy in STRATEGIES:
        assert len(set(strategy.features)) == 5
        assert len(strategy.description) > 200
        assert len(strategy.methodology) > 200
        assert (strategy.market, strategy.timeframe) == ("NQ", "5m")
        assert "15 years" in strategy.methodology
        assert strategy.script_id.startswith("PUB;" + strategy.slug.replace("-", "_"))


def test_no_two_strategies_share_their_words():
    for part in ("description", "methodology", "best_for", "summary"):
        assert len({getattr(strategy, part) for strategy in STRATEGIES}) == len(STRATEGIES)
