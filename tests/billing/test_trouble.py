"""Money that stops on its way: staff hear of it once, health counts it, and it goes on by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobs import ops as ops_job
from sts_app.billing import account, evidence, lease, queries, refunds
from sts_app.billing.gateway import PaymentsError, Refused, TryLater
from sts_app.billing.models import Dispute, Purchase, Subscription
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from tests.builders import in_a_transaction, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"
NO_RIGHT = "permission_error"


@pytest.fixture
def without(till, monkeypatch) -> Callable[..., list[PaymentsError]]:
    """Let Stripe not do what `verbs` ask for, as with a key that lacks the right. Returns all its answers to come."""

    def without(*verbs: str, say: Callable[[int], PaymentsError] = lambda _: TryLater(NO_RIGHT)) -> list[PaymentsError]:
        answers: list[PaymentsError] = []

        def no(*_: Any, **__: Any) -> None:
            answers.append(say(len(answers) + 1))
            raise answers[-1]

        for verb in verbs:
            monkeypatch.setattr(till, verb, no)
        return answers

    return without


@pytest.fixture
def mend(till, monkeypatch) -> Callable[[str], None]:
    return lambda verb: monkeypatch.delattr(till, verb)


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    return purchase


@pytest.fixture
def disputed(bought, till) -> Dispute:
    till.open_dispute(bought.session_id)
    work()
    return database.session.scalars(sa.select(Dispute)).one()


@pytest.fixture
def subscription(alice, plan, till) -> Subscription:
    monthly = Plan(
        slug="monthly",
        name="Monthly access",
        price_cents=1900,
        stripe_price_id="price_monthly",
        mode=Mode.SUBSCRIPTION,
        interval="month",
        covers_all=True,
        position=2,
    )
    database.session.add(monthly)
    database.session.flush()
    till.pay(open_page(alice, monthly).session_id)
    work()
    return database.session.scalars(sa.select(Subscription)).one()


def hours(clock, number: int) -> None:
    """Let a worker come by every hour."""
    for _ in range(number):
        work("billing")
        clock.shift(timedelta(hours=1, seconds=1))


def sweep() -> None:
    database.session.commit()
    ops_job._sweep()
    database.session.expire_all()


class TestARefund:
    def ask(self, bought: Purchase) -> None:
        in_a_transaction(lambda: refunds.ask(bought.id, reason="a test", actor=SAM))

    def test_that_does_not_go_out_is_told_once_and_counted(self, bought, without, clock):
        without("refund")
        self.ask(bought)

        hours(clock, 24)

        [letter] = letters("admin_refund_held_up")
        assert NO_RIGHT in letter.text
        assert queries.work_in_trouble() == 1

    def test_that_does_not_go_out_shows_in_the_health_of_the_store(self, bought, without, client):
        assert client.get("/api/health").json["checks"]["stripe"] == {"status": "healthy"}
        without("refund")
        self.ask(bought)

        work()

        assert client.get("/api/health").json["checks"]["stripe"] == {"status": "degraded"}

    def test_is_no_news_before_its_trouble_lasts(self, bought, without, clock):
        without("refund")
        self.ask(bought)

        hours(clock, len(lease.DELAYS) - 1)

        assert letters("admin_refund_held_up") == []

    def test_goes_out_once_the_key_is_mended(self, bought, without, mend, clock):
        without("refund")
        self.ask(bought)
        hours(clock, 24)

        mend("refund")
        work()

        assert (bought.status, queries.work_in_trouble()) == ("REFUNDED", 0)

    def test_that_is_held_up_is_not_told_to_be_on_its_way(self, alice, bought, without, clock):
        without("refund")
        self.ask(bought)
        hours(clock, 24)

        [shown] = account.purchases_of(alice.id, time_source.now())

        assert "A refund of $99.00 could not be sent yet." in shown.lines[0]


class TestEvidence:
    def test_that_does_not_go_out_is_told_while_the_bank_still_waits(self, disputed, without, clock):
        without("submit_evidence")
        in_a_transaction(lambda: evidence.submit(disputed.id, actor=SAM))

        hours(clock, 24)

        [letter] = letters("admin_evidence_held_up")
        assert disputed.external_id in letter.text
        assert letter.created_at < disputed.due_by - timedelta(days=2)
        assert queries.work_in_trouble() == 1

    def test_that_nobody_handed_in_is_asked_for_once_within_two_days_of_its_end(self, disputed, clock):
        clock.move_to(disputed.due_by - evidence.WARN_BEFORE - timedelta(minutes=1))
        sweep()
        assert letters("admin_dispute_due") == []

        clock.shift(timedelta(minutes=1))
        sweep()
        sweep()

        [letter] = letters("admin_dispute_due")
        assert f"sts disputes submit {disputed.id}" in letter.text

    def test_that_was_handed_in_is_not_asked_for(self, disputed, clock):
        in_a_transaction(lambda: evidence.submit(disputed.id, actor=SAM))
        work()

        clock.move_to(disputed.due_by - timedelta(hours=1))
        sweep()

        assert letters("admin_dispute_due") == []

    def test_that_is_held_up_is_asked_for_in_other_words(self, disputed, without, clock):
        without("submit_evidence")
        in_a_transaction(lambda: evidence.submit(disputed.id, actor=SAM))
        work("billing")

        clock.move_to(disputed.due_by - timedelta(hours=1))
        sweep()

        [letter] = letters("admin_dispute_due")
        assert "on its way" in letter.text

    def test_is_asked_for_no_more_when_the_time_is_over(self, disputed, clock):
        clock.move_to(disputed.due_by)

        sweep()

        assert letters("admin_dispute_due") == []

    def test_is_asked_for_again_when_the_bank_sets_another_time(self, disputed, clock):
        clock.move_to(disputed.due_by - timedelta(hours=1))
        sweep()
        disputed.due_by += timedelta(days=7)
        database.session.commit()

        clock.move_to(disputed.due_by - timedelta(hours=1))
        sweep()

        assert len(letters("admin_dispute_due")) == 2


class TestTheEndOfASubscription:
    @pytest.fixture
    def to_end(self, alice, plan, subscription, till) -> Subscription:
        till.pay(open_page(alice, plan).session_id)
        return subscription

    def test_that_does_not_come_is_told_whatever_the_sixth_answer_was(self, to_end, without, clock):
        without("cancel_subscription", say=lambda n: TryLater("no answer") if n == 6 else Refused("400"))

        hours(clock, 24)

        [letter] = letters("admin_subscription_stuck")
        assert "lifetime access was bought" in letter.text
        assert queries.work_in_trouble() == 1

    def test_that_only_meets_silence_is_told_as_well(self, to_end, without, clock):
        without("cancel_subscription")

        hours(clock, 24)

        assert len(letters("admin_subscription_stuck")) == 1

    def test_is_told_though_events_come_in_meanwhile(self, to_end, without, till, clock):
        answers = without("cancel_subscription")

        for _ in range(8):
            till.redeliver(next(each.id for each in till.events() if each.type == "customer.subscription.created"))
            hours(clock, 1)

        assert len(answers) >= 6
        assert len(letters("admin_subscription_stuck")) == 1

    def test_comes_once_the_key_is_mended(self, to_end, without, mend, clock):
        without("cancel_subscription")
        hours(clock, 24)

        mend("cancel_subscription")
        work()

        assert (to_end.status, to_end.tries, queries.work_in_trouble()) == ("canceled", 0, 0)

    def test_looks_that_meet_silence_alone_are_counted_and_told_by_nobody(self, subscription, without, clock):
        without("look_up_subscription")
        clock.shift(timedelta(days=2))

        hours(clock, 24)

        assert letters("admin_subscription_stuck") == []
        assert queries.work_in_trouble() == 1


class TestEvents:
    def test_that_cannot_be_looked_up_for_long_are_told_once_a_day(self, alice, bob, plan, till, without, clock):
        for buyer in (alice, bob):
            till.pay(open_page(buyer, plan).session_id)
        without("look_up", "find_origin")

        hours(clock, 10)
        assert len(letters("admin_events_held_up")) == 1

        hours(clock, 10)
        assert len(letters("admin_events_held_up")) == 2

    def test_of_a_short_outage_nobody_hears(self, alice, plan, till, clock):
        till.pay(open_page(alice, plan).session_id)
        misbehave(till.store, Fault.API_DOWN)
        hours(clock, 3)
        behave(till.store)
        hours(clock, 1)

        assert letters("admin_events_held_up") == []
        assert queries.work_in_trouble() == 0
