"""What a check of a name shows, how long it is kept, and what it costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import control, name_check, pace
from sts_app.provisioning.gateway import NeedsCustomer, NeedsStaff, Trouble, TryLater
from sts_app.provisioning.models import NameCheckRow, PaceBucket
from sts_app.provisioning.name_check import SENTENCES, NameCheck, check, forget
from sts_app.provisioning.rules import NameOutcome, Switch
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests.builders import by_hand, count, through

TROUBLES = [
    (TryLater("timeout", trouble=Trouble.TIMEOUT), NameOutcome.SLOW),
    (TryLater("502"), NameOutcome.DOWN),
    (TryLater("429", trouble=Trouble.RATE_LIMIT, after=timedelta(seconds=9)), NameOutcome.BUSY),
    (TryLater("429", trouble=Trouble.RATE_LIMIT), NameOutcome.BUSY),
    (NeedsStaff("401"), NameOutcome.DOWN),
    (NeedsCustomer("no such name"), NameOutcome.UNKNOWN),
]


class Troubled:
    """A TradingView that answers every question about a name in one way."""

    def __init__(self, trouble: Exception) -> None:
        self.trouble = trouble
        self.asked = 0

    def find_name(self, name: str) -> str | None:
        self.asked += 1
        raise self.trouble


def spend_reads() -> None:
    """Nobody may read for a while."""
    spent = sa.update(PaceBucket).where(PaceBucket.kind == "read")
    database.session.execute(spent.values(tokens=-10.0, refilled_at=time_source.now()))
    database.session.commit()


class TestOutcomes:
    def test_a_known_name_comes_back_in_tradingviews_spelling(self, vendor):
        assert check("anna") == NameCheck(NameOutcome.VALID, "Anna")

    def test_an_unknown_name_is_unknown(self, vendor):
        assert check("unknown_anna").outcome is NameOutcome.UNKNOWN

    @pytest.mark.parametrize(("trouble", "outcome"), TROUBLES)
    def test_trouble_is_an_outcome_and_no_exception(self, vendor, monkeypatch, trouble, outcome):
        through(monkeypatch, Troubled(trouble))

        assert check("anna").outcome is outcome

    def test_a_wait_that_tradingview_names_is_passed_on(self, vendor, monkeypatch):
        through(monkeypatch, Troubled(TROUBLES[2][0]))

        assert check("anna").wait == timedelta(seconds=9)

    def test_where_it_names_none_it_is_a_minute(self, vendor, monkeypatch):
        through(monkeypatch, Troubled(TROUBLES[3][0]))

        assert check("anna").wait == timedelta(minutes=1)

    def test_our_own_budget_of_reads_being_spent_is_busy_and_no_call(self, vendor):
        spend_reads()

        answer = check("anna")

        assert answer.outcome is NameOutcome.BUSY
        assert answer.retry_after > timedelta(0)
        assert calls(vendor) == {}

    def test_a_check_spends_a_read(self, vendor):
        before = pace.figures()["read"]["tokens"]

        check("anna")

        assert pace.figures()["read"]["tokens"] == before - 1

    def test_a_store_without_a_way_to_tradingview_cannot_ask(self, vendor, monkeypatch):
        by_hand(monkeypatch)

        assert check("anna").outcome is NameOutcome.NOT_CONFIGURED

    def test_a_store_that_staff_closed_does_not_ask(self, vendor):
        control.set_switch(Switch.DISABLED, actor="user:1", because="test")
        database.session.commit()

        assert check("anna").outcome is NameOutcome.NOT_CONFIGURED
        assert calls(vendor) == {}

    def test_while_people_do_the_writing_names_are_still_asked_for(self, vendor):
        control.set_switch(Switch.MANUAL, actor="user:1", because="test")
        database.session.commit()

        assert check("anna").outcome is NameOutcome.VALID

    @pytest.mark.parametrize("shut", ["circuit", "incident"])
    def test_what_is_known_to_be_away_is_not_asked(self, vendor, shut):
        if shut == "circuit":
            for _ in range(control.FAILURES_OPEN):
                control.note_failure("502")
        else:
            control.refuse_session("401", credential_id=None)
        database.session.commit()

        assert check("anna").outcome is NameOutcome.DOWN
        assert calls(vendor) == {}

    def test_no_transaction_is_open_while_tradingview_is_asked(self, vendor, monkeypatch):
        class Watching(Troubled):
            def find_name(self, name: str) -> str | None:
                self.saw = database.session().in_transaction()
                return name

        database.session.commit()
        watching = Watching(RuntimeError())
        through(monkeypatch, watching)

        check("anna")

        assert watching.saw is False


class TestKeeping:
    @pytest.mark.parametrize(
        ("name", "outcome", "kept"),
        [
            ("anna", NameOutcome.VALID, timedelta(hours=24)),
            ("unknown_anna", NameOutcome.UNKNOWN, timedelta(hours=1)),
        ],
    )
    def test_what_was_answered_is_kept_for_its_time_and_not_longer(self, vendor, clock, name, outcome, kept):
        check(name)

        clock.shift(kept - timedelta(seconds=1))
        again = check(name.upper())
        clock.shift(timedelta(seconds=1))
        at_last = check(name)

        assert (again.outcome, again.from_cache, at_last.from_cache) == (outcome, True, False)
        assert calls(vendor) == {"find_name": 2}

    @pytest.mark.parametrize(("trouble", "outcome"), TROUBLES[:5])
    def test_what_kept_an_answer_away_is_not_kept(self, vendor, monkeypatch, trouble, outcome):
        troubled = Troubled(trouble)
        through(monkeypatch, troubled)

        check("anna")
        check("anna")

        assert troubled.asked == 2
        assert count(NameCheckRow) == 0

    def test_what_is_kept_is_said_while_tradingview_is_away(self, vendor):
        check("anna")
        misbehave(vendor, Fault.READS_FAIL)
        spend_reads()

        assert check("anna") == NameCheck(NameOutcome.VALID, "Anna", from_cache=True)

    def test_what_is_forgotten_is_asked_again(self, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        assert check("anna").outcome is NameOutcome.UNKNOWN
        behave(vendor)

        forget("ANNA")
        database.session.commit()

        assert check("anna") == NameCheck(NameOutcome.VALID, "Anna")

    def test_a_newer_answer_takes_the_place_of_an_older_one(self, vendor, clock):
        check("anna")
        clock.shift(timedelta(days=2))
        misbehave(vendor, Fault.UNKNOWN)

        check("anna")

        [row] = database.session.scalars(sa.select(NameCheckRow))
        assert (row.outcome, row.spelling, row.checked_at) == ("unknown", None, time_source.now())

    def test_old_answers_are_tidied_away_and_young_ones_are_not(self, vendor, clock):
        check("anna")
        clock.shift(timedelta(hours=24, seconds=1))
        check("bobby")

        name_check.tidy()

        assert database.session.scalars(sa.select(NameCheckRow.name_key)).all() == ["bobby"]


class TestWords:
    @pytest.mark.parametrize("outcome", NameOutcome)
    def test_each_outcome_has_a_sentence_of_its_own(self, outcome):
        sentence = NameCheck(outcome).sentence

        assert sentence.endswith(".")
        assert "{" not in sentence
        assert [each for each in NameOutcome if SENTENCES[each] == SENTENCES[outcome]] == [outcome]

    @pytest.mark.parametrize(
        ("wait", "words"),
        [
            (timedelta(seconds=0.2), "1 second."),
            (timedelta(seconds=41), "41 seconds."),
            (timedelta(seconds=91), "2 minutes."),
            (None, "60 seconds."),
        ],
    )
    def test_who_has_to_wait_is_told_how_long(self, wait, words):
        assert f"has to wait {words}" in NameCheck(NameOutcome.BUSY, retry_after=wait).sentence

    def test_characters_easily_mistaken_are_told_in_tradingviews_spelling(self, vendor):
        assert check("ivan").warnings == (
            "The first character is a capital i, not a small L or the digit one.",
        )  # fmt: skip

    def test_beside_an_unknown_name_stand_those_it_may_have_been_meant_to_be(self, vendor):
        assert check("unknown0").variants == ("unknownO", "unkn0wn0", "unkn0wnO")

    def test_beside_a_valid_one_they_do_not(self, vendor):
        assert check("bob").variants == ()

    def test_they_are_asked_of_nobody(self, vendor):
        check("unknown0")

        assert calls(vendor) == {"find_name": 1}

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=st.text(min_size=0, max_size=40).filter(lambda text: "\x00" not in text))
    def test_whatever_is_asked_has_an_outcome(self, vendor, name):
        assert check(name).outcome in NameOutcome
