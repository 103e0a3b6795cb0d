"""`explain` and `sts explain`: why somebody has access or has not, from the function that decides."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from sts_app import cli
from sts_app.catalog import services as catalog
from sts_app.catalog.models import Strategy
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import control, engine, explain, names, services, worklist
from sts_app.provisioning.models import Entitlement, ManualTask
from sts_app.provisioning.rules import Switch
from sts_app.provisioning.simulated import Fault, misbehave
from tests.builders import entitled, grants, in_a_transaction, look_over, named, strategy, work


@pytest.fixture
def bought(alice, plan, vendor):
    entitled(alice, plan, "purchase:1")
    return alice


@pytest.fixture
def owner(bought):
    work("provisioning")
    return bought


@pytest.fixture
def sts(app, db, monkeypatch):
    """Run a command of `sts` in this app."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: str) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, words)
        database.session.expire_all()
        return result

    return sts


def first_of(user):
    """What is told of the first strategy and of its first pair."""
    told = explain.explain(user.id).strategies[0]
    return told, told.pairs[0]


def next_of(user) -> str:
    return first_of(user)[1].next


class TestVerdict:
    def test_of_what_stands_names_the_proof_and_the_reasons(self, owner, plan):
        entitled(owner, plan, "gift:2")
        told, pair = first_of(owner)

        assert told.verdict == (
            "Anna has NQ Momentum Alpha because of purchase:1, gift:2: read back on 21 Nov 2026, 12:00 UTC."
        )
        assert (told.as_wanted, told.sources, pair.because) == (
            True,
            ("purchase:1", "gift:2"),
            "wanted by purchase:1, gift:2",
        )
        assert (pair.evidence, pair.since) == ("read back", time_source.now())

    def test_of_what_is_on_its_way_says_what_happens_next(self, bought):
        told, _ = first_of(bought)

        assert told.verdict.startswith(
            "Anna is to have NQ Momentum Alpha because of purchase:1, and has it not as wanted yet: "
            "The next try is due now ("
        )
        assert not told.as_wanted

    def test_of_what_nobody_is_entitled_to(self, alice, plan):
        told = explain.explain(alice.id).strategies[0]

        assert told.verdict == (
            "Nobody here is to have NQ Momentum Alpha (there is no entitlement to it), and nothing stands."
        )
        assert (told.as_wanted, told.wanted, told.customer, told.pairs) == (True, False, "", ())

    def test_of_what_ended_says_when_and_why(self, owner):
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="it was refunded", actor="system"))
        going = first_of(owner)[0].verdict
        work("provisioning")

        ended = "(purchase:1 ended on 21 Nov 2026, 12:00 UTC because it was refunded)"
        assert going.startswith(f"Anna is to lose NQ Momentum Alpha {ended}, and is not read as absent yet: ")
        assert first_of(owner)[0].verdict == f"Nobody here is to have NQ Momentum Alpha {ended}, and nothing stands."

    def test_of_what_was_ended_and_counts_again_says_nothing_of_the_end(self, owner):
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="it was refunded", actor="system"))
        work("provisioning")
        in_a_transaction(lambda: services.reinstate("purchase:1", because="the refund failed", actor="system"))
        coming = first_of(owner)[0].verdict
        work("provisioning")

        told = explain.explain(owner.id)
        assert coming.startswith(
            "Anna is to have NQ Momentum Alpha because of purchase:1, and has it not as wanted yet"
        )
        assert told.strategies[0].verdict == (
            "Anna has NQ Momentum Alpha because of purchase:1: read back on 21 Nov 2026, 12:00 UTC."
        )
        assert [each.words for each in told.reasons] == ["holds since 21 Nov 2026, 12:00 UTC"]
        [seen, *_] = explain.as_customer_sees(owner.id, time_source.now())
        assert seen.words == "TradingView shows this strategy on your account."
        assert "Your access counted again: it was to be given to Anna." in [line.words for line in seen.history]

    def test_of_a_person_without_a_name(self, bob, plan):
        entitled(bob, plan, "gift:2")
        told = explain.explain(bob.id)

        assert told.strategies[0].verdict == (
            "NQ Momentum Alpha is wanted because of gift:2, and there is no TradingView name to give it to."
        )
        assert not told.as_wanted

    def test_of_a_draft_that_is_asked_for_by_name(self, owner):
        draft = strategy("nq-seventh")
        [told] = explain.explain(owner.id, draft.id).strategies

        assert told.verdict == "Nobody here is to have Nq-Seventh (the strategy is a draft), and nothing stands."

    def test_of_everything_counts_what_is_not_as_wanted(self, owner):
        assert explain.explain(owner.id).verdict == "All is as wanted: 6 to have, 0 not to have."
        grants()[0].state = "pending"
        grants()[0].next_attempt_at = time_source.now()
        database.session.flush()

        assert explain.explain(owner.id).verdict == "Not yet as wanted: NQ Breakout Pro."


class TestNext:
    def test_names_the_next_try(self, bought, vendor):
        misbehave(vendor, Fault.FAIL)
        work("provisioning")

        assert next_of(bought) == "The next try is due within a minute."

    def test_names_the_task_a_person_has(self, bought):
        in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:7", because="a test"))
        work("provisioning")
        [task] = database.session.scalars(
            sa.select(ManualTask.id).where(ManualTask.grant_id == first_of(bought)[1].grant_id)
        )

        assert next_of(bought) == (
            f"Task {task} (by_hand) is open since 21 Nov 2026, 12:00 UTC: the store works by hand."
        )

    def test_names_what_the_person_wrote_who_gave_up(self, bought):
        in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:7", because="a test"))
        work("provisioning")
        pair = first_of(bought)[1]
        task = database.session.scalar(sa.select(ManualTask.id).where(ManualTask.grant_id == pair.grant_id))
        in_a_transaction(lambda: worklist.cannot(task, "user:7", reason="the name is banned there"))

        assert next_of(bought) == (
            f"user:7 closed task {task} as impossible on 21 Nov 2026, 12:00 UTC: the name is banned there; "
            "nothing happens by itself."
        )

    def test_names_the_switch(self, bought):
        in_a_transaction(lambda: control.set_switch(Switch.DISABLED, actor="user:7", because="a test"))

        assert next_of(bought) == "The next try is due now, but staff have switched all calls to TradingView off."

    def test_names_the_circuit_and_its_next_canary(self, bought):
        in_a_transaction(lambda: [control.note_failure("HTTP 502") for _ in range(control.FAILURES_OPEN)])

        assert next_of(bought) == (
            "The next try is due now, but the circuit is open and the next canary call is due on "
            "21 Nov 2026, 12:10 UTC."
        )

    def test_names_the_incident(self, bought):
        in_a_transaction(lambda: control.refuse_session("HTTP 401", credential_id=None))
        told = explain.explain(bought.id)
        incident = control.standing().incident_id

        assert told.strategies[0].pairs[0].next == (
            f"The next try is due now, but incident {incident} is open until a person saves credentials that "
            "TradingView accepts."
        )
        assert f"incident {incident} is open since 21 Nov 2026, 12:00 UTC (HTTP 401)" in told.vendor

    def test_names_the_pace(self, bought):
        assert next_of(bought) == "The next try is due now (60000 write calls a minute, 1000 to be had now)."

    def test_names_the_worker_that_has_it(self, bought, app):
        in_a_transaction(engine.claim_next)

        assert next_of(bought).startswith("A worker is on it, until 21 Nov 2026, 12:03 UTC at most.")

    def test_names_the_customer_where_the_name_is_unknown(self, bought, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        work("provisioning")

        assert next_of(bought) == "The customer has to correct the name; nothing is tried before."

    def test_of_what_stands_is_nothing_or_another_reading(self, owner):
        assert next_of(owner) == "Nothing: it stands as it should."
        in_a_transaction(lambda: services.recheck(owner.id))

        assert next_of(owner) == "It is read once more now."

    def test_says_when_a_row_is_missing_or_out_of_step(self, owner):
        strategy("nq-seventh", status="on_sale", position=9)
        database.session.execute(sa.update(Strategy).where(Strategy.slug == "nq-power-hour").values(status="draft"))
        told = {each.slug: each for each in explain.explain(owner.id).strategies}

        assert told["nq-seventh"].pairs[0].next == "The minute sweep adds it."
        assert "out of step" in told["nq-power-hour"].pairs[0].next
        assert not told["nq-power-hour"].as_wanted
        in_a_transaction(look_over)


class TestAChange:
    def test_of_the_name_shows_both_names_and_what_the_old_one_waits_for(self, owner):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        told, new = first_of(owner)
        _, old = told.pairs

        assert (new.name, new.wanted, new.as_wanted) == ("Anna2", True, False)
        assert (old.name, old.wanted, old.as_wanted) == ("Anna", True, False)
        assert old.because == f"wanted by purchase:1, kept until Anna2 with {new.script_id} is read back"
        assert {name.spelling: name.words for name in explain.explain(owner.id).names} == {
            "Anna2": "current since 21 Nov 2026, 12:00 UTC, known at TradingView since 21 Nov 2026, 12:00 UTC",
            "Anna": "replaced on 21 Nov 2026, 12:00 UTC, reserved until its 6 pairs are read as absent",
        }

    def test_of_the_name_is_over_when_the_old_one_is_gone(self, owner):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        work("provisioning")
        told = explain.explain(owner.id)

        assert told.as_wanted
        assert told.names[1].words == "replaced on 21 Nov 2026, 12:00 UTC, released on 21 Nov 2026, 12:00 UTC"

    def test_of_the_script_shows_both_scripts(self, owner):
        first = database.session.scalars(sa.select(Strategy).order_by(Strategy.position)).first()
        before = first.script_id
        in_a_transaction(lambda: catalog.change_script(first.id, "PUB;another", actor="user:7"))
        in_a_transaction(look_over)
        told, _ = first_of(owner)

        assert [(pair.script_id, pair.state) for pair in told.pairs] == [
            ("PUB;another", "pending"),
            (before, "verified"),
        ]


class TestReasons:
    @pytest.mark.parametrize(
        ("changes", "holds", "words"),
        [
            ({}, True, "holds since 21 Nov 2026, 12:00 UTC"),
            ({"ends_at": 1}, True, "holds since 21 Nov 2026, 12:00 UTC until 21 Nov 2026, 13:00 UTC"),
            ({"ends_at": 0}, False, "ended on 21 Nov 2026, 12:00 UTC by its date"),
            (
                {"ends_at": 0, "ended_because": "refund"},
                False,
                "ended on 21 Nov 2026, 12:00 UTC because refund",
            ),
            ({"starts_at": 1}, False, "begins on 21 Nov 2026, 13:00 UTC"),
            (
                {"suspended_at": 0, "suspended_because": "a dispute"},
                False,
                "is suspended since 21 Nov 2026, 12:00 UTC because a dispute",
            ),
            ({"note": "a friend"}, True, "holds since 21 Nov 2026, 12:00 UTC (a friend)"),
        ],
    )
    def test_each_has_its_verdict_in_words(self, bob, plan, changes, holds, words):
        entitled(bob, plan, "gift:2")
        hours = {
            name: time_source.now() + timedelta(hours=value) if isinstance(value, int) else value
            for name, value in changes.items()
        }
        if hours:
            database.session.execute(sa.update(Entitlement).values(hours))
        [reason] = explain.explain(bob.id).reasons

        assert (reason.source, reason.plan, reason.holds, reason.words) == ("gift:2", "lifetime", holds, words)


class TestCommand:
    def test_all_as_wanted_is_0_and_can_be_read(self, sts, owner):
        result = sts("explain", "Alice@customers.example")

        assert result.exit_code == 0
        lines = result.output.splitlines()
        assert lines[1] == "All is as wanted: 6 to have, 0 not to have."
        assert lines[2] == "At TradingView the switch is at AUTO."
        assert (
            "  Anna: current since 21 Nov 2026, 12:00 UTC, known at TradingView since 21 Nov 2026, 12:00 UTC." in lines
        )
        assert "  purchase:1 (lifetime) counts: it holds since 21 Nov 2026, 12:00 UTC." in lines
        assert "NQ Trend Rider (nq-trend-rider): Active" in lines
        assert "  The customer reads: TradingView shows this strategy on your account." in lines
        assert "    21 Nov 2026, 12:00 UTC  give: read back: has access" in lines

    def test_something_on_its_way_is_1(self, sts, bought):
        assert sts("explain", "alice@customers.example").exit_code == 1

    @pytest.mark.parametrize("who", ["nobody@customers.example", "nobody", ""])
    def test_nobody_is_2(self, sts, alice, who):
        result = sts("explain", who)

        assert result.exit_code == 2
        assert "Nobody has the" in result.output

    def test_one_strategy_alone(self, sts, owner):
        result = sts("explain", "alice@customers.example", "nq-power-hour")

        assert result.exit_code == 0
        assert "NQ Power Hour" in result.output
        assert "NQ Trend Rider" not in result.output

    def test_an_unknown_strategy_is_2(self, sts, owner):
        result = sts("explain", "alice@customers.example", "nq-none")

        assert result.exit_code == 2
        assert "There is no strategy called 'nq-none'." in result.output

    def test_a_tradingview_name_finds_its_person_whatever_its_case(self, sts, owner):
        assert "alice@customers.example" in sts("explain", "ANNA").output

    def test_a_name_that_had_two_holders_is_its_present_ones(self, sts, owner, bob):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        work("provisioning")
        in_a_transaction(lambda: named(bob, "Anna"))

        assert "bob@customers.example" in sts("explain", "Anna").output

    def test_the_same_for_machines(self, sts, owner):
        result = sts("explain", "alice@customers.example", "--json")
        told = json.loads(result.output)

        assert (result.exit_code, told["as_wanted"], len(told["strategies"])) == (0, True, 6)
        assert told["strategies"][0]["pairs"][0]["state"] == "verified"
        assert told["at"] == "2026-11-21T12:00:00+00:00"
