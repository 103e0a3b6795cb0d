"""Whom a change of the catalog would reach, and the commands that ask before they do it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from sts_app import cli
from sts_app.catalog import queries as catalog_queries
from sts_app.catalog import services as catalog
from sts_app.catalog.models import StrategyStatus
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import NotThere
from sts_app.provisioning import queries
from sts_app.provisioning.reach import reach_of
from tests.builders import entitled, grants, in_a_transaction, look_over, mallory, named, person, strategy, work


@pytest.fixture
def slow(app, monkeypatch):
    """The pace as it is in production, for what is reckoned from it."""
    settings = app.config["STS"].model_copy(update={"tv_writes_per_minute": 10.0})
    monkeypatch.setitem(app.config, "STS", settings)


@pytest.fixture
def owners(alice, bob, plan, vendor, slow):
    """Alice and Bob hold the six; Mallory is entitled and has no name."""
    entitled(alice, plan, "gift:1")
    entitled(named(bob, "Bobby"), plan, "gift:2")
    entitled(mallory(), plan, "gift:3")
    work("provisioning")
    return plan


@pytest.fixture
def first(owners):
    return catalog_queries.strategy_for_staff("nq-momentum-alpha")


class TestActivation:
    def test_of_a_draft_reaches_whoever_holds_a_plan(self, owners):
        reach = reach_of(strategy("nq-seventh").id)

        assert (reach.people, reach.nameless, reach.pairs, reach.holding, reach.leaving) == (3, 1, 2, 0, 0)
        assert (reach.to_give, reach.takes) == (2, timedelta(seconds=12))

    def test_that_is_done_has_nothing_left_to_give(self, first):
        reach = reach_of(first.id)

        assert (reach.pairs, reach.holding, reach.to_give, reach.takes) == (2, 2, 0, timedelta(0))

    def test_half_way_says_how_many_hold_it_already(self, owners):
        seventh = strategy("nq-seventh")
        catalog.activate(seventh.id, "system")
        look_over()
        work("provisioning")
        entitled(named(person("late@customers.example"), "Latecomer"), owners, "gift:4")

        assert (reach_of(seventh.id).pairs, reach_of(seventh.id).holding) == (3, 2)

    @pytest.mark.parametrize(
        "change",
        [
            {"starts_at": timedelta(days=1)},
            {"ends_at": timedelta(0)},
            {"suspended_at": timedelta(0)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_leaves_out_whose_reason_does_not_hold(self, owners, alice, change):
        [reason] = queries.entitlements_of(alice.id)
        [(name, shift)] = change.items()
        setattr(reason, name, time_source.now() + shift)
        database.session.flush()

        assert reach_of(strategy("nq-seventh").id).people == 2
        in_a_transaction(look_over)

    def test_counts_a_person_with_two_reasons_once(self, owners, alice):
        entitled(alice, owners, "gift:again")

        assert reach_of(strategy("nq-seventh").id).people == 3

    def test_of_nothing_is_not_there(self, owners):
        with pytest.raises(NotThere):
            reach_of(0)


class TestChangeOfScript:
    def test_is_a_call_to_give_and_one_to_take_for_each_holder(self, first):
        reach = reach_of(first.id, "PUB;second")

        assert (reach.to_give, reach.holding, reach.leaving, reach.takes) == (2, 0, 2, timedelta(seconds=24))

    def test_that_is_done_has_nothing_left(self, first):
        catalog.change_script(first.id, "PUB;second", actor="system")
        look_over()
        work("provisioning")

        reach = reach_of(first.id)

        assert (reach.to_give, reach.holding, reach.leaving) == (0, 2, 0)

    def test_takes_nothing_from_whom_nothing_was_ever_given(self, alice, plan, vendor, slow):
        entitled(alice, plan)
        first = catalog_queries.strategy_for_staff("nq-momentum-alpha")

        assert reach_of(first.id, "PUB;second").leaving == 0


class TestCommands:
    @pytest.fixture
    def sts(self, app, owners, monkeypatch):
        """Run `sts strategies ...` in this app."""
        monkeypatch.setattr(cli.main, "create_app", lambda: app)

        def sts(*words: str, answer: str | None = None) -> Result:
            database.session.commit()
            result = CliRunner().invoke(cli.main, ["strategies", *words], input=answer)
            database.session.expire_all()
            return result

        return sts

    @pytest.fixture
    def seventh(self, owners):
        return strategy("nq-seventh")

    def test_list_shows_status_script_and_holders(self, sts, first, seventh):
        catalog.change_script(first.id, "PUB;second", actor="system")

        lines = sts("list").output.splitlines()

        assert len(lines) == 7
        assert lines[1].split()[:3] == ["nq-momentum-alpha", "on_sale", "PUB;second"]
        assert lines[1].endswith("held by 0 of 3, former scripts: 1")
        assert lines[2].endswith("held by 2 of 3")
        assert lines[0].split()[1] == "draft"
        in_a_transaction(look_over)

    def test_activate_says_whom_it_reaches_and_asks(self, sts, seventh):
        result = sts("activate", "nq-seventh", answer="n\n")

        assert result.exit_code == 1
        assert "Nq-Seventh would go on sale with PUB;nq-seventh." in result.output
        assert "It reaches 3 people: 2 to give, 0 hold it already, 1 without a TradingView name yet." in result.output
        assert "this takes up to a minute; new buyers go first." in result.output
        assert seventh.status == StrategyStatus.DRAFT

    def test_activate_does_it_after_a_yes(self, sts, seventh):
        assert sts("activate", "nq-seventh", answer="y\n").output.endswith("nq-seventh is on sale.\n")

        assert seventh.status == StrategyStatus.ON_SALE
        in_a_transaction(look_over)

    def test_nobody_there_to_answer_is_no_yes(self, sts, seventh):
        assert sts("activate", "nq-seventh", answer="").exit_code == 1

        assert seventh.status == StrategyStatus.DRAFT

    def test_twice_says_so(self, sts, first):
        assert sts("activate", first.slug, "--yes").output.endswith(f"{first.slug} was on sale already.\n")

    def test_by_hand_it_says_that_people_do_it(self, sts, seventh, app, monkeypatch):
        settings = app.config["STS"].model_copy(update={"provisioning_mode": "manual"})
        monkeypatch.setitem(app.config, "STS", settings)

        assert "each is a task for a person" in sts("activate", "nq-seventh", answer="n\n").output

    def test_retire_says_who_keeps_it(self, sts, first):
        result = sts("retire", first.slug, "--yes")

        assert "3 people keep it, and new owners still get it." in result.output
        assert first.status == StrategyStatus.RETIRED

    def test_retiring_a_draft_is_a_sentence(self, sts, seventh):
        result = sts("retire", "nq-seventh", "--yes")

        assert (result.exit_code, "Only a strategy that is on sale" in result.output) == (1, True)

    def test_change_script_says_who_moves(self, sts, first):
        result = sts("change-script", first.slug, "PUB;second", "--yes")

        assert "2 with another script of it lose that one, each after the new one is read back." in result.output
        assert result.output.endswith("nq-momentum-alpha has PUB;second now.\n")
        look_over()
        work("provisioning")
        assert {g.state for g in grants() if g.script_id == "PUB;second"} == {"verified"}

    @pytest.mark.parametrize("script_id", ["second", "PUB;a b", "PUB;nq_trend_rider_002"])
    def test_a_script_that_cannot_be_is_a_sentence(self, sts, first, script_id):
        result = sts("change-script", first.slug, script_id, "--yes")

        assert (result.exit_code, "Traceback" in result.output) == (1, False)
        assert first.script_id == "PUB;nq_momentum_alpha_001"

    @pytest.mark.parametrize("command", [("activate",), ("retire",), ("change-script", "PUB;second")])
    def test_a_name_nobody_has_is_a_sentence(self, sts, command):
        verb, *rest = command

        result = sts(verb, "nq-eighth", *rest, "--yes")

        assert (result.exit_code, result.output) == (1, "Error: There is no strategy called 'nq-eighth'.\n")
