"""Plans with a list: who gets what they cover, who keeps it, and the commands that say so first."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from sts_app import cli
from sts_app.audit.models import AuditLog
from sts_app.catalog import queries as catalog_queries
from sts_app.catalog import services as catalog
from sts_app.catalog.models import Plan, Strategy
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import explain, queries
from sts_app.provisioning.reach import Turn, turn_of
from tests.builders import entitled, grants, holders, in_a_transaction, look_over, mallory, named, strategy, work

RIDER, HOUR, ALPHA = "PUB;nq_trend_rider_002", "PUB;nq_power_hour_005", "PUB;nq_momentum_alpha_001"


@pytest.fixture
def pair(plan, vendor) -> Plan:
    """A plan with two of the six beside the lifetime plan."""
    listed = ("nq-trend-rider", "nq-power-hour")
    return catalog.create_plan(
        "pair", name="Pair", price_cents=1900, strategies=listed, stripe_price_id="price_pair", actor="user:7"
    )


@pytest.fixture
def owner(alice, pair):
    """Alice holds the pair."""
    entitled(alice, pair)
    work("provisioning")
    return alice


def one(slug: str) -> Strategy:
    return catalog_queries.strategy_for_staff(slug)


def held() -> set[str]:
    return {script for _, script in holders()}


def sweep_and_work() -> None:
    in_a_transaction(look_over)
    work("provisioning")


class TestWhoHolds:
    def test_a_buyer_gets_what_is_listed(self, owner):
        assert held() == {RIDER, HOUR}
        assert {row.strategy.slug for row in queries.access_of(owner.id, time_source.now())} == {
            "nq-trend-rider",
            "nq-power-hour",
        }
        assert look_over() == 0

    def test_what_is_covered_later_reaches_its_holders(self, owner, pair):
        in_a_transaction(lambda: catalog.cover(pair, one("nq-momentum-alpha"), actor="user:7"))
        sweep_and_work()

        assert held() == {RIDER, HOUR, ALPHA}

    def test_a_draft_that_is_listed_reaches_them_once_it_is_activated(self, owner, pair):
        draft = strategy("nq-seventh")
        in_a_transaction(lambda: catalog.cover(pair, draft, actor="user:7"))
        assert look_over() == 0

        in_a_transaction(lambda: catalog.activate(draft.id, "user:7"))
        sweep_and_work()

        assert "PUB;nq-seventh" in held()

    def test_an_activation_elsewhere_does_not(self, owner):
        seventh = strategy("nq-seventh")
        in_a_transaction(lambda: catalog.activate(seventh.id, "user:7"))

        assert look_over() == 0

    def test_what_is_covered_no_more_is_taken_and_explained(self, owner, pair):
        rider = one("nq-trend-rider")
        in_a_transaction(lambda: catalog.uncover(pair, rider, confirmed=True, actor="user:7"))
        in_a_transaction(look_over)
        [going] = explain.explain(owner.id, rider.id).strategies
        work("provisioning")

        assert held() == {HOUR}
        assert going.verdict.startswith("Anna is to lose NQ Trend Rider (there is no entitlement to it)")
        assert {grant.script_id: grant.state for grant in grants()}[RIDER] == "absent"

    def test_another_plan_keeps_it(self, owner, plan, pair):
        entitled(owner, plan, "gift:2")
        work("provisioning")

        in_a_transaction(lambda: catalog.uncover(pair, one("nq-trend-rider"), confirmed=True, actor="user:7"))

        assert look_over() == 0
        assert RIDER in held()


class TestWhomItReaches:
    def test_holders_of_this_plan_alone(self, owner, bob, plan, pair):
        entitled(mallory(), pair, "gift:2")
        named(bob, "Bobby")
        entitled(bob, pair, "gift:3")
        entitled(bob, plan, "gift:4")

        assert turn_of(pair, one("nq-trend-rider")) == Turn(people=2, nameless=1)
        assert turn_of(pair, one("nq-momentum-alpha")) == Turn(people=2, nameless=1)
        work("provisioning")

    def test_nobody_of_a_plan_that_nobody_bought(self, pair):
        assert turn_of(pair, one("nq-trend-rider")) == Turn(people=0, nameless=0)


class TestCommands:
    @pytest.fixture
    def sts(self, app, plan, monkeypatch):
        """Run `sts plans ...` in this app."""
        monkeypatch.setattr(cli.main, "create_app", lambda: app)

        def sts(*words: object, answer: str | None = None) -> Result:
            database.session.commit()
            result = CliRunner().invoke(cli.main, ["plans", *map(str, words)], input=answer)
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            database.session.expire_all()
            return result

        return sts

    def test_list_says_price_coverage_and_holders(self, sts, owner):
        lifetime, pair = sts("list").output.splitlines()

        assert lifetime.split()[:5] == ["lifetime", "on", "sale", "$99.00", "once"]
        assert "no price at Stripe" in lifetime
        assert lifetime.endswith("held by 0, covers every strategy")
        assert pair.split()[:5] == ["pair", "not", "sold", "$19.00", "once"]
        assert pair.endswith("price_pair                     held by 1, covers nq-trend-rider, nq-power-hour")

    def test_list_for_machines(self, sts, owner):
        _, pair = json.loads(sts("list", "--json").output)

        assert pair == {
            "slug": "pair",
            "name": "Pair",
            "on_sale": False,
            "price_cents": 1900,
            "currency": "usd",
            "mode": "payment",
            "interval": "",
            "stripe_price_id": "price_pair",
            "position": 1,
            "covers": ["nq-trend-rider", "nq-power-hour"],
            "holders": 1,
        }

    def test_a_store_without_plans_says_what_makes_one(self, sts, plan):
        database.session.delete(plan)

        assert sts("list").output == "There is no plan. `sts seed` makes the first one.\n"

    def test_add_makes_a_subscription_to_everything(self, sts):
        given = (
            "--name",
            "Every month",
            "--price",
            "19.50",
            "--every",
            "month",
            "--all",
            "--stripe-price",
            "price_abc",
        )
        result = sts("add", "monthly", *given)

        made = catalog_queries.plan_named("monthly")
        assert (result.exit_code, result.output) == (0, "monthly is made. `sts plans on-sale monthly` sells it.\n")
        assert (made.price_cents, made.mode, made.interval, made.covers_all) == (1950, "subscription", "month", True)
        assert (made.stripe_price_id, made.active) == ("price_abc", False)

    def test_add_makes_a_plan_with_a_list(self, sts):
        listed = ("--covers", "nq-trend-rider", "--covers", "nq-power-hour")

        result = sts("add", "pair", "--name", "Pair", "--price", "19", *listed)

        assert result.output == (
            "pair is made. `sts stripe-setup` gives it a price at Stripe; then `sts plans on-sale pair` sells it.\n"
        )
        made = catalog_queries.plan_named("pair")
        assert [each.slug for each in catalog_queries.listed_strategies(made)] == ["nq-trend-rider", "nq-power-hour"]
        assert (made.price_cents, made.mode, made.interval) == (1900, "payment", "")

    @pytest.mark.parametrize(
        ("words", "sentence", "code"),
        [
            (("add", "new", "--name", "New", "--price", "19"), "either all strategies", 1),
            (("add", "new", "--name", "New", "--price", "19", "--covers", "nq-no"), "no strategy called 'nq-no'", 1),
            (("add", "lifetime", "--name", "New", "--price", "19", "--all"), "a plan of this name already", 1),
            (("add", "New!", "--name", "New", "--price", "19", "--all"), "short name", 1),
            (("add", "new", "--name", "New", "--price", "0", "--all"), "A price lies", 1),
            (("add", "new", "--name", "New", "--price", "1.999", "--all"), "such as 99 or 19.50", 2),
            (("add", "new", "--name", "New", "--price", "-1", "--all"), "such as 99 or 19.50", 2),
            (("add", "new", "--name", "New", "--price", "1e5", "--all"), "such as 99 or 19.50", 2),
            (("add", "new", "--name", "New", "--price", "nan", "--all"), "such as 99 or 19.50", 2),
            (("add", "new", "--name", " ", "--price", "1", "--all"), "--name", 2),
            (("add", "new", "--name", "New", "--price", "1", "--all", "--every", "week"), "--every", 2),
            (("change", "lifetime"), "Say what to change", 2),
            (("change", "lifetime", "--position", "-1"), "--position", 2),
            (("change", "nothing", "--name", "New"), "no plan called 'nothing'", 1),
            (("on-sale", "nothing"), "no plan called 'nothing'", 1),
            (("off-sale", "nothing"), "no plan called 'nothing'", 1),
            (("cover", "lifetime", "nq-power-hour", "--yes"), "covers every strategy", 1),
            (("uncover", "lifetime", "nq-power-hour", "--yes"), "covers every strategy", 1),
            (("cover", "lifetime", "nq-nobody", "--yes"), "no strategy called 'nq-nobody'", 1),
        ],
    )
    def test_refusals_are_sentences(self, sts, words, sentence, code):
        result = sts(*words)

        assert result.exit_code == code
        assert sentence in result.output

    def test_change_says_whether_anything_changed(self, sts, pair):
        assert sts("change", "pair", "--price", "29", "--position", "0").output == "pair is changed.\n"
        assert sts("change", "pair", "--price", "29").output == "pair was so already.\n"

        assert (pair.price_cents, pair.position) == (2900, 0)

    def test_change_of_an_amount_without_another_price_is_refused_where_payments_are_live(
        self, sts, pair, app, monkeypatch
    ):
        settings = app.config["STS"].model_copy(update={"payments_vendor": "live"})
        monkeypatch.setitem(app.config, "STS", settings)

        result = sts("change", "pair", "--price", "29")

        assert (result.exit_code, pair.price_cents) == (1, 1900)
        assert "A price at Stripe cannot be edited." in result.output

    def test_a_plan_without_a_price_is_not_put_on_sale(self, sts, pair):
        pair.stripe_price_id = None

        result = sts("on-sale", "pair")

        assert result.exit_code == 1
        assert "no price at Stripe yet. `sts stripe-setup` gives it one." in result.output

    def test_on_and_off_sale(self, sts, pair):
        assert sts("on-sale", "pair").output == "pair is on sale.\n"
        assert sts("on-sale", "pair").output == "pair was on sale already.\n"
        assert pair.active

        assert sts("off-sale", "pair").output == "pair is not sold any more.\n"
        assert sts("off-sale", "pair").output == "pair was not on sale.\n"
        assert not pair.active

    def test_cover_says_whom_it_reaches_and_asks(self, sts, owner):
        result = sts("cover", "pair", "nq-momentum-alpha", answer="n\n")

        assert result.exit_code == 1
        assert "Pair would cover NQ Momentum Alpha. 1 person gets it, 0 of them without a TradingView name" in (
            result.output
        )
        assert look_over() == 0

    def test_cover_does_it_after_a_yes_and_once(self, sts, owner):
        assert sts("cover", "pair", "nq-momentum-alpha", answer="y\n").output.endswith(
            "pair covers nq-momentum-alpha.\n"
        )
        assert sts("cover", "pair", "nq-momentum-alpha", "--yes").output.endswith(
            "pair covered nq-momentum-alpha already.\n"
        )
        sweep_and_work()
        assert ALPHA in held()

    def test_uncover_says_whom_it_reaches_and_asks(self, sts, owner):
        entitled(mallory(), catalog_queries.plan_named("pair"), "gift:2")

        result = sts("uncover", "pair", "nq-trend-rider", answer="")

        assert result.exit_code == 1
        assert (
            "Pair would not cover NQ Trend Rider any more. 2 people lose it, 1 of them without a TradingView name; "
            "who has it by another plan keeps that.\n"
        ) in result.output
        assert look_over() == 0

    def test_uncover_does_it_after_a_yes_and_once(self, sts, owner):
        assert sts("uncover", "pair", "nq-trend-rider", answer="y\n").output.endswith(
            "pair does not cover nq-trend-rider any more.\n"
        )
        assert sts("uncover", "pair", "nq-trend-rider", "--yes").output.endswith("pair did not cover nq-trend-rider.\n")
        sweep_and_work()
        assert held() == {HOUR}

    def test_of_a_draft_nobody_is_reached(self, sts, pair):
        strategy("nq-seventh")

        assert "It is a draft, which nobody has." in sts("cover", "pair", "nq-seventh", "--yes").output

    def test_somebody_at_a_shell_is_in_the_audit(self, sts, pair):
        for words in (("on-sale",), ("change", "--name", "A pair"), ("cover", "nq-momentum-alpha", "--yes")):
            sts(words[0], "pair", *words[1:])

        written = sa.select(AuditLog.actor).where(AuditLog.action.like("catalog.plan_%")).order_by(AuditLog.id)
        assert list(database.session.scalars(written)) == ["user:7", "cli", "cli", "cli"]

    @pytest.mark.parametrize("command", ["list", "add", "change", "on-sale", "off-sale", "cover", "uncover"])
    def test_help_needs_no_settings(self, command):
        assert CliRunner().invoke(cli.main, ["plans", command, "--help"]).exit_code == 0
