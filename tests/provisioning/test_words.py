"""What a customer is told in every state: why, and what happens next, in words that are true then."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.catalog import services as catalog
from sts_app.catalog.models import Strategy
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.money import as_moment
from sts_app.provisioning import control, cycles, engine, explain, names, services, simulated, words, worklist
from sts_app.provisioning.calling import Seen, call
from sts_app.provisioning.control import Check
from sts_app.provisioning.models import Entitlement, Grant, ManualTask, ProvisioningControl, TradingViewCredential
from sts_app.provisioning.rules import Outcome, Switch, TaskKind, Trigger
from sts_app.provisioning.simulated import Fault, behave, misbehave
from tests.builders import entitled, grants, in_a_transaction, look_over, named, strategy, tradingview, work


@pytest.fixture
def bought(alice, plan, vendor):
    """Alice has paid; nothing has been asked of TradingView yet."""
    entitled(alice, plan, "purchase:1")
    return alice


@pytest.fixture
def owner(bought):
    """Alice has her six strategies."""
    work("provisioning")
    return bought


def seen(user):
    return explain.as_customer_sees(user.id, time_source.now())


def said(user) -> str:
    """The one sentence that all strategies share."""
    [told] = {row.words for row in seen(user)}
    return told


def about(user, grant) -> str:
    """The sentence about the strategy of one pair."""
    return next(row.words for row in seen(user) if row.strategy.id == grant.strategy_id)


def states(user) -> set[str]:
    return {str(row.state) for row in seen(user)}


def switch_to(switch: Switch) -> None:
    in_a_transaction(lambda: control.set_switch(switch, actor="user:7", because="a test"))


def open_the_circuit() -> None:
    in_a_transaction(lambda: [control.note_failure("HTTP 502") for _ in range(control.FAILURES_OPEN)])


def open_an_incident() -> None:
    in_a_transaction(lambda: control.refuse_session("HTTP 401", credential_id=None))


def give_up(count: int = 6) -> None:
    switch_to(Switch.MANUAL)
    work("provisioning")
    first, *others = database.session.scalars(sa.select(ManualTask.id).order_by(ManualTask.id)).all()[:count]
    in_a_transaction(lambda: worklist.cannot(first, "user:7", reason="secret of the staff", also=others))


def say_done() -> Grant:
    """A person closes one task as done; its pair."""
    task = database.session.scalars(sa.select(ManualTask)).first()
    in_a_transaction(lambda: worklist.done(task.id, "user:7"))
    return next(grant for grant in grants() if grant.id == task.grant_id)


class TestPending:
    def test_before_the_first_try(self, bought):
        assert said(bought) == "We are asking TradingView now."

    def test_a_turn_that_does_not_come_at_once_says_in_which_order_turns_come(self, bought, clock):
        clock.shift(timedelta(minutes=2))

        assert "who paid first comes first" in said(bought)

    def test_between_two_tries_the_next_one_is_named(self, bought, vendor):
        misbehave(vendor, Fault.FAIL)
        work("provisioning")

        assert said(bought) == "TradingView did not answer properly. The next try is due within a minute."

    def test_a_try_that_is_not_near_is_named_by_its_minute(self, bought, vendor, clock):
        misbehave(vendor, Fault.FAIL, times=100)
        for _ in range(3):
            work("provisioning")
            clock.shift(timedelta(minutes=10))
        work("provisioning")
        behave(vendor)

        assert said(bought).endswith(" The next try is due on 21 Nov 2026, 13:00 UTC.")

    @pytest.mark.parametrize("seconds", range(0, 600, 7))
    def test_no_minute_is_named_that_has_begun(self, clock, seconds):
        clock.shift(timedelta(seconds=43))
        now = time_source.now()
        at = now + timedelta(seconds=seconds)

        told = words.due_words(at, now)

        assert told == ("within a minute" if seconds < 60 else f"on {as_moment(at)}")
        assert seconds < 60 or at.replace(second=0) > now

    def test_when_the_next_try_is_due(self, bought, vendor, clock):
        misbehave(vendor, Fault.FAIL)
        work("provisioning")
        clock.shift(timedelta(seconds=30))

        assert said(bought) == "TradingView did not answer properly. We are trying again now."

    def test_a_yes_that_did_nothing(self, bought, vendor):
        misbehave(vendor, Fault.LIE)
        work("provisioning")

        assert said(bought) == "TradingView has not taken it yet. The next try is due within a minute."

    def test_while_the_circuit_is_open(self, bought):
        open_the_circuit()

        assert said(bought) == (
            "TradingView does not answer at the moment. There is nothing for you to do: we go on by ourselves."
        )

    def test_while_an_incident_is_open(self, bought):
        open_an_incident()

        assert said(bought) == "Access is given by hand at the moment. A person is on it; you need not do anything."

    def test_when_a_person_has_it_on_the_list(self, bought):
        switch_to(Switch.MANUAL)
        work("provisioning")

        assert said(bought) == "Access is given by hand at the moment. A person is on it; you need not do anything."

    def test_when_the_tries_ran_out(self, bought):
        grant = grants()[0]
        grant.state, grant.next_attempt_at = "with_staff", None
        database.session.add(
            ManualTask(grant_id=grant.id, cycle=1, wanted=True, kind="exhausted", because="refused six times")
        )
        database.session.flush()

        assert about(bought, grant) == (
            "TradingView did not take it by itself. A person is on it; you need not do anything."
        )

    def test_when_a_person_said_done_and_it_is_read_back(self, bought):
        switch_to(Switch.MANUAL)
        work("provisioning")
        grant = say_done()

        assert about(bought, grant) == (
            "A person has given it to you. We are reading back whether TradingView shows it."
        )

    def test_when_a_person_said_done_and_tradingview_shows_otherwise(self, bought):
        switch_to(Switch.MANUAL)
        work("provisioning")
        grant = say_done()
        work("provisioning")

        assert about(bought, grant).startswith("TradingView does not show it yet, so a person looks once more.")

    def test_while_everything_is_switched_off(self, bought):
        switch_to(Switch.DISABLED)

        assert said(bought) == "Giving access is paused at the moment. Your turn is kept, and it goes on by itself."

    def test_a_new_strategy_joins_soon_before_and_after_the_sweep_has_found_it(self, owner):
        strategy("nq-seventh", status="on_sale", position=9)
        database.session.flush()
        joins = "This strategy is new and joins your access soon. You need not do anything."

        assert seen(owner)[-1].words == joins
        in_a_transaction(look_over)
        assert grants()[-1].strategy_id == seen(owner)[-1].strategy.id
        assert seen(owner)[-1].words == joins

    def test_what_tradingview_lost_is_given_again(self, owner, vendor):
        for held in simulated.holdings(vendor):
            simulated.take(vendor, held.username, held.script_id)
        in_a_transaction(lambda: services.recheck(owner.id))
        claim = in_a_transaction(engine.claim_next)
        in_a_transaction(lambda: engine.settle(claim, call(tradingview(), claim)))

        assert said(owner) == "TradingView does not show it any more. We are giving it to you again."


class TestActive:
    def test_read_back(self, owner):
        assert (states(owner), said(owner)) == ({"Active"}, "TradingView shows this strategy on your account.")

    def test_confirmed_by_a_person_where_nothing_can_be_read(self, bought):
        open_an_incident()
        work("provisioning")
        for task in worklist.open_tasks(10):
            in_a_transaction(lambda task=task: worklist.done(task.task_id, "user:7"))

        assert states(bought) == {"Active"}
        assert said(bought) == (
            "A person of ours has given you this strategy. We read it back as soon as TradingView can be asked."
        )

    def test_while_it_leaves_an_earlier_name(self, owner, vendor, clock):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        claim = in_a_transaction(engine.claim_next)
        in_a_transaction(lambda: engine.settle(claim, {s: Seen(Outcome.PRESENT, "") for s in claim.script_ids}))

        assert said(owner) == (
            "TradingView shows this strategy on your account. It is being removed from your earlier name Anna."
        )


class TestActionNeeded:
    def test_no_name_yet(self, bob, plan):
        entitled(bob, plan)

        assert (states(bob), said(bob)) == (
            {"Action needed"},
            "We need your TradingView name. Enter it, and access follows by itself.",
        )

    def test_an_unknown_name(self, bought, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        work("provisioning")

        assert said(bought) == (
            "TradingView does not know the name Anna. Please correct it, and access follows by itself."
        )

    def test_an_unknown_new_name_leaves_the_earlier_one_working(self, owner, vendor):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=False))
        misbehave(vendor, Fault.UNKNOWN)
        work("provisioning")

        assert said(owner).endswith(" Until then your earlier name Anna keeps its access.")


class TestAChange:
    def test_of_the_name_keeps_the_earlier_one_until_the_new_one_works(self, owner):
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))

        assert states(owner) == {"Pending"}
        assert said(owner) == "We are asking TradingView now. Until then your earlier name Anna keeps its access."

    def test_of_the_script_keeps_what_there_is(self, owner):
        first = database.session.scalars(sa.select(Strategy).order_by(Strategy.position)).first()
        in_a_transaction(lambda: catalog.change_script(first.id, "PUB;another", actor="user:7"))
        in_a_transaction(look_over)

        assert seen(owner)[0].words.endswith(" Until then what you have of it keeps working.")
        assert {str(row.state) for row in seen(owner)[1:]} == {"Active"}


class TestFailed:
    def test_who_paid_hears_what_to_do(self, bought):
        give_up()

        assert states(bought) == {"Failed"}
        told = said(bought)
        assert "A person has tried to give this strategy to Anna at TradingView and could not." in told
        assert "If the name is wrong, correct it" in told
        assert told.endswith("you get help or your money back.")

    def test_who_was_given_a_gift_is_promised_no_money(self, alice, plan, vendor):
        entitled(alice, plan, "gift:1")
        give_up()

        assert said(alice).endswith("you get help.")


class TestSuspended:
    def test_while_it_is_being_removed(self, owner):
        in_a_transaction(lambda: services.suspend("purchase:1", because="dispute dp_1 is open", actor="system"))

        assert states(owner) == {"Suspended"}
        assert said(owner) == (
            "Access is paused while a payment dispute is open. It comes back by itself if the payment stands. "
            "Until then it is removed at TradingView. You need not do anything."
        )

    def test_when_it_is_removed(self, owner):
        in_a_transaction(lambda: services.suspend("purchase:1", because="dispute dp_1 is open", actor="system"))
        work("provisioning")

        assert said(owner) == (
            "Access is paused while a payment dispute is open. It comes back by itself if the payment stands."
        )

    def test_for_another_reason_which_is_the_staffs(self, owner):
        in_a_transaction(lambda: services.suspend("purchase:1", because="he shouted at us", actor="user:7"))
        work("provisioning")

        assert said(owner).startswith("Access is paused. It comes back by itself when the pause is over")
        assert "shouted" not in said(owner)


class TestTheEnd:
    @pytest.mark.parametrize(
        ("because", "why"),
        [
            ("the purchase was refunded", ", because the payment was refunded"),
            ("the dispute was lost", ", because the payment was taken back"),
            ("he shouted at us", ""),
        ],
    )
    def test_says_why_as_far_as_it_is_the_customers_own_deed(self, owner, because, why):
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because=because, actor="system"))
        assert (states(owner), said(owner)) == (
            {"Revoking"},
            f"Access is being removed at TradingView{why}. You need not do anything.",
        )

        work("provisioning")
        assert (states(owner), said(owner)) == ({"Revoked"}, f"Access has ended{why}.")

    def test_of_a_gift_comes_by_its_date(self, alice, plan, vendor, clock):
        in_a_transaction(
            lambda: services.gift(
                alice, plan, reason="a friend", ends_at=time_source.now() + timedelta(days=1), actor="user:7"
            )
        )
        work("provisioning")
        clock.shift(timedelta(days=1))
        in_a_transaction(look_over)
        work("provisioning")

        assert said(alice) == "Access has ended, because its time is over."

    def test_is_a_persons_work_while_the_store_works_by_hand(self, owner):
        switch_to(Switch.MANUAL)
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        work("provisioning")

        assert said(owner).endswith("A person is on it; you need not do anything.")

    def test_waits_for_tradingview(self, owner):
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        open_the_circuit()

        assert "TradingView does not answer at the moment." in said(owner)

    def test_a_reason_that_begins_later_names_its_day(self, alice, plan, vendor):
        tomorrow = time_source.now() + timedelta(days=1)
        entitled(alice, plan, "gift:1")
        database.session.execute(sa.update(Entitlement).values(starts_at=tomorrow))
        in_a_transaction(look_over)

        assert said(alice) == "Access begins on 22 Nov 2026, 12:00 UTC."


class TestHistory:
    def lines(self, user, number=0) -> list[str]:
        return [str(line) for line in seen(user)[number].history]

    def test_tells_a_life_newest_first(self, owner, clock):
        clock.shift(timedelta(hours=1))
        in_a_transaction(lambda: services.end_entitlement("purchase:1", because="refund", actor="system"))
        clock.shift(timedelta(minutes=1))
        work("provisioning")

        assert self.lines(owner) == [
            "TradingView did not show it on Anna any more.",
            "Access ended: it was to be removed from Anna.",
            "TradingView showed it on Anna.",
            "Your payment arrived: it was to be given to Anna.",
        ]

    def test_the_first_of_several_in_a_row_is_not_lost(self, bought, vendor, clock):
        first = time_source.now()
        misbehave(vendor, Fault.FAIL, times=100)
        for _ in range(3):
            work("provisioning")
            last = time_source.now()
            clock.shift(timedelta(hours=1))
        behave(vendor)

        [line, *_] = seen(bought)[0].history
        assert (line.since, line.at, line.times) == (first, last, 3)

    def test_counts_what_happened_several_times_in_a_row(self, bought, vendor, clock):
        misbehave(vendor, Fault.FAIL, times=100)
        for _ in range(3):
            work("provisioning")
            clock.shift(timedelta(hours=1))
        behave(vendor)

        assert self.lines(bought)[0] == "TradingView did not answer properly, 3 times in a row."

    def test_tells_of_a_person_and_never_which_or_why(self, bought, clock):
        clock.shift(timedelta(minutes=1))
        give_up()

        told = " ".join(self.lines(bought))
        assert "The person found that it could not be given to Anna." in told
        assert "A person was asked to give it to Anna." in told
        assert "user:7" not in told
        assert "secret of the staff" not in told

    def test_of_a_name_that_was_somebody_elses_before_begins_with_its_present_holder(self, owner, bob, plan, clock):
        services.end_entitlement("purchase:1", because="refund", actor="system")
        in_a_transaction(lambda: names.set_name(owner, "Elsewhere", verified=True))
        work("provisioning")
        clock.shift(timedelta(days=40))
        entitled(named(bob, "Anna"), plan, "purchase:2")
        work("provisioning")

        assert self.lines(bob)[-1] == "Your payment arrived: it was to be given to Anna."
        assert len(self.lines(bob)) == 2

    def test_is_not_lost_when_the_name_changes(self, owner, clock):
        clock.shift(timedelta(days=2))
        in_a_transaction(lambda: names.set_name(owner, "Anna2", verified=True))
        work("provisioning")

        assert self.lines(owner)[-2:] == [
            "TradingView showed it on Anna.",
            "Your payment arrived: it was to be given to Anna.",
        ]
        assert "TradingView did not show it on Anna any more." in self.lines(owner)

    def test_of_a_name_that_comes_back_keeps_its_first_life(self, owner, clock):
        for name in ("Anna2", "Anna"):
            clock.shift(timedelta(days=2))
            in_a_transaction(lambda name=name: names.set_name(owner, name, verified=True))
            work("provisioning")

        assert self.lines(owner)[-1] == "Your payment arrived: it was to be given to Anna."
        assert self.lines(owner).count("TradingView showed it on Anna.") == 2

    def test_of_a_name_that_is_somebody_elses_by_now_ends_with_its_release(self, owner, bob, plan, clock):
        clock.shift(timedelta(days=2))
        in_a_transaction(lambda: names.set_name(owner, "Elsewhere", verified=True))
        work("provisioning")
        before = self.lines(owner)
        clock.shift(timedelta(days=40))
        entitled(named(bob, "Anna"), plan, "purchase:2")
        work("provisioning")

        assert self.lines(owner) == before
        assert self.lines(bob) == [
            "TradingView showed it on Anna.",
            "Your payment arrived: it was to be given to Anna.",
        ]

    def test_every_trigger_has_its_words(self, bought):
        from sts_app.provisioning.models import ProvisioningJob

        jobs = [
            ProvisioningJob(wanted=wanted, trigger=trigger, because="")
            for wanted in (True, False)
            for trigger in Trigger
        ]

        assert all(words._began(job, "Anna").endswith(" Anna.") for job in jobs)


class TestRecheck:
    def test_asks_again(self, owner):
        assert self.press(owner) == "We are asking TradingView again. This page shows what it says."

    def test_while_the_circuit_is_open(self, owner):
        open_the_circuit()

        assert self.press(owner) == (
            "TradingView does not answer at the moment. Your access is looked at by itself as soon as it does."
        )

    def test_while_an_incident_is_open(self, owner):
        open_an_incident()

        assert "A person looks after access at the moment." in self.press(owner)

    def test_while_everything_is_switched_off(self, owner):
        switch_to(Switch.DISABLED)

        assert "Looking is paused at the moment." in self.press(owner)

    def test_with_nothing_to_ask_about(self, bob):
        assert self.press(bob) == "There is nothing to ask TradingView about at the moment."

    def test_while_a_person_has_everything_on_the_list(self, bought):
        switch_to(Switch.MANUAL)
        work("provisioning")

        assert self.press(bought) == "What is still to be done is on a person's list; you need not do anything."

    def test_before_a_person_has_it_and_the_machine_may_only_read(self, bought):
        switch_to(Switch.MANUAL)

        assert self.press(bought) == "What is still to be done is on a person's list; you need not do anything."

    def test_while_a_person_has_a_part_of_it(self, owner):
        grant = grants()[0]
        cycles.turn(grant, wanted=True, trigger=Trigger.DRIFT, because="a test", now=time_source.now())
        cycles.open_task(grant, TaskKind.EXHAUSTED, "refused six times")
        grant.state, grant.next_attempt_at = "with_staff", None
        database.session.flush()

        assert self.press(owner) == (
            "We are asking TradingView again. This page shows what it says. "
            "What is still to be done is on a person's list; you need not do anything."
        )

    def test_what_failed_and_is_not_tried_before_its_time(self, bought, vendor):
        misbehave(vendor, Fault.FAIL)
        work("provisioning")

        assert words.recheck_words(grants(), control.standing(), time_source.now()) == (
            "What failed is tried again by itself: the next try is due within a minute."
        )

    def test_when_a_person_gave_up(self, bought):
        give_up()

        assert self.press(bought) == (
            "There is nothing to ask TradingView about at the moment. What you can do stands beside each strategy."
        )

    def test_when_it_is_for_the_customer_to_correct_the_name(self, bought, vendor):
        misbehave(vendor, Fault.UNKNOWN)
        work("provisioning")

        assert words.recheck_words(grants(), control.standing(), time_source.now()).endswith(
            "What you can do stands beside each strategy."
        )

    def press(self, user) -> str:
        in_a_transaction(lambda: services.recheck(user.id))
        return explain.after_recheck(user.id, time_source.now())


def test_no_words_name_the_insides_of_anything(bought, vendor):
    """Whatever stands in the way, a customer reads nothing of sessions, pages and people."""
    told = []
    for trouble in (open_the_circuit, open_an_incident, lambda: switch_to(Switch.DISABLED)):
        trouble()
        told.append(said(bought))
    assert database.session.scalar(sa.select(sa.func.count()).select_from(TradingViewCredential)) == 0
    assert database.session.scalar(sa.select(ProvisioningControl.circuit_because)) is None

    for word in ("HTTP", "session", "credential", "cookie", "user:", "sam", "circuit", "incident", Check.REFUSED.value):
        assert not any(word.lower() in sentence.lower() for sentence in told), word
