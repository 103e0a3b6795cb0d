"""What a check of a name shows, how long it is kept, and what it costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import current_app
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq import Queue

from jobs.provisioning import check_session
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.queue import redis_connection
from sts_app.provisioning import control, engine, name_check, pace
from sts_app.provisioning.gateway import NeedsCustomer, NeedsStaff, Trouble, TryLater
from sts_app.provisioning.models import ManualTask, NameCheckRow, PaceBucket, ProvisioningControl, TradingViewName
from sts_app.provisioning.name_check import SENTENCES, NameCheck, check, forget
from sts_app.provisioning.rules import NameOutcome, Switch
from sts_app.provisioning.simulated import Fault, behave, calls, misbehave
from tests.builders import by_hand, count, enter, entitled, in_a_transaction, press, through, work

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


def leave_reads(tokens: float) -> None:
    left = sa.update(PaceBucket).where(PaceBucket.kind == "read")
    database.session.execute(left.values(tokens=tokens, refilled_at=time_source.now()))
    database.session.commit()


def spend_reads() -> None:
    """Nobody may read for a while."""
    leave_reads(-10.0)


def shut(how: str) -> None:
    """TradingView cannot be read: it fails, or it refuses our session."""
    if how == "circuit":
        for _ in range(control.FAILURES_OPEN):
            control.note_failure("502")
    else:
        control.refuse_session("401", credential_id=None)
    database.session.commit()


def switch(to: Switch) -> None:
    control.set_switch(to, actor="user:1", because="test")
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

    @pytest.mark.parametrize("has_adapter", [True, False])
    def test_a_store_that_staff_closed_does_not_ask_and_says_of_nobody_that_they_do(
        self, vendor, monkeypatch, has_adapter
    ):
        if not has_adapter:
            by_hand(monkeypatch)
        switch(Switch.DISABLED)

        assert check("anna").outcome is NameOutcome.DOWN
        assert calls(vendor) == {}

    def test_while_people_do_the_writing_names_are_still_asked_for(self, vendor):
        switch(Switch.MANUAL)

        assert check("anna").outcome is NameOutcome.VALID

    def test_what_is_known_to_be_away_is_not_asked(self, vendor):
        shut("circuit")

        assert check("anna").outcome is NameOutcome.DOWN
        assert calls(vendor) == {}

    @pytest.mark.parametrize("how", ["circuit", "incident"])
    def test_where_people_do_the_writing_meanwhile_they_are_said_to_check_it(self, vendor, how):
        switch(Switch.MANUAL)
        shut(how)

        assert check("anna").outcome is NameOutcome.NOT_CONFIGURED
        assert calls(vendor) == {}

    @pytest.mark.parametrize("fallback", ["manual", "none"])
    def test_an_incident_brings_the_name_before_a_person_whatever_becomes_of_refusals(
        self, alice, plan, vendor, monkeypatch, fallback
    ):
        """PROVISIONING_FALLBACK_MODE is about access that TradingView keeps refusing, not about an incident."""
        changed = current_app.config["STS"].model_copy(update={"provisioning_fallback_mode": fallback})
        monkeypatch.setitem(current_app.config, "STS", changed)
        entitled(alice, plan)
        shut("incident")
        work("provisioning")

        assert check("anna").outcome is NameOutcome.NOT_CONFIGURED
        assert count(ManualTask) == 6

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


class TestShareOfReads:
    """What is typed leaves half of the reads to those who pay and have paid."""

    def test_however_many_names_are_typed_access_can_still_be_given(self, alice, plan, vendor):
        entitled(alice, plan)
        leave_reads(pace.figures()["read"]["burst"] / 2 + 3)

        outcomes = {check(f"typed{number}", urgent=False).outcome for number in range(10)}

        assert outcomes == {NameOutcome.VALID, NameOutcome.BUSY}
        assert in_a_transaction(engine.claim_next) is not None

    def test_a_check_before_the_payment_is_made_from_what_is_left(self, vendor):
        leave_reads(2)

        assert check("anna", urgent=False).outcome is NameOutcome.BUSY
        assert check("anna").outcome is NameOutcome.VALID


class TestDoubt:
    """A refusal is seen by whoever types a name first, and a worker finds out at once what it means."""

    @pytest.fixture
    def asked_lately(self, vendor):
        """A TradingView whose session was found to be fine five minutes ago."""
        self.note_check(timedelta(minutes=5))
        return vendor

    def note_check(self, ago: timedelta) -> None:
        told = {"session_checked_at": time_source.now() - ago, "session_verdict": "fine"}
        database.session.execute(sa.update(ProvisioningControl).values(**told))
        database.session.commit()

    def woken(self) -> list[str]:
        queue = Queue("provisioning", connection=redis_connection())
        return [job.func_name for job in queue.jobs]

    def test_a_refused_session_opens_an_incident_as_soon_as_a_worker_looks(self, asked_lately):
        misbehave(asked_lately, Fault.DEAD_SESSION)

        assert check("anna").outcome is NameOutcome.DOWN

        assert self.woken() == ["jobs.provisioning.check_session"]
        check_session()
        assert control.open_incident() is not None
        assert check("anna").outcome is NameOutcome.NOT_CONFIGURED

    def test_so_does_a_failure_that_a_refusal_hides_behind(self, asked_lately, monkeypatch):
        through(monkeypatch, Troubled(TryLater("500", doubts_session=True)))

        check("anna")

        assert self.woken() == ["jobs.provisioning.check_session"]

    def test_an_ordinary_failure_does_not(self, asked_lately, monkeypatch):
        through(monkeypatch, Troubled(TryLater("502")))

        check("anna")

        assert self.woken() == []

    def test_a_session_that_lives_after_all_is_not_asked_for_again_within_a_minute(self, vendor, clock, monkeypatch):
        through(monkeypatch, Troubled(NeedsStaff("403")))
        self.note_check(timedelta(seconds=59))

        check("anna")
        assert self.woken() == []
        clock.shift(timedelta(seconds=1))
        check("anna")

        assert self.woken() == ["jobs.provisioning.check_session"]

    def test_it_outlasts_a_checkout_that_is_refused(self, client, alice, plan, asked_lately):
        database.session.execute(sa.update(TradingViewName).values(verified_at=None))
        enter(client, alice)
        misbehave(asked_lately, Fault.DEAD_SESSION)

        assert press(client).status_code == 503

        assert self.woken() == ["jobs.provisioning.check_session"]
        check_session()
        assert control.open_incident() is not None


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
