"""The provider's own lists against ours: what never came is fetched, and what differs is told to people once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobs import billing as job
from sts_app.billing import comparing, comparing_payments, ledger, services
from sts_app.billing.comparing import Report
from sts_app.billing.gateway import ChargedFacts, Refused, SignedEvent, TryLater
from sts_app.billing.models import Comparison, Purchase, WebhookEvent
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone, FixInput, NotNow, Refusal
from sts_app.settings import AppEnv
from tests.builders import NOON, count, events, in_a_transaction, kinds, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")

DAY = timedelta(days=1)


@pytest.fixture
def purchase(alice, plan, till) -> Purchase:
    made = open_page(alice, plan)
    database.session.commit()
    return made


@pytest.fixture
def unheard(alice, plan, till) -> Purchase:
    """A purchase that was opened and paid while no event came through."""
    misbehave(till.store, Fault.DROP)
    made = open_page(alice, plan)
    database.session.commit()
    till.pay(made.session_id)
    behave(till.store)
    return made


class Told:
    """Stripe, as it answers here: the simulator, with some of its answers replaced."""

    def __init__(self, till: Any, **replaced: Any) -> None:
        self._till, self._replaced = till, replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced.get(name) or getattr(self._till, name)


def compare(gateway: Any, **given: Any) -> Report:
    database.session.commit()
    report = comparing.run(gateway, **given)
    database.session.expire_all()
    return report


def runs() -> list[Comparison]:
    statement = sa.select(Comparison).order_by(Comparison.id).execution_options(populate_existing=True)
    return list(database.session.scalars(statement))


def charged(purchase: Purchase, **changes: Any) -> ChargedFacts:
    given: dict[str, Any] = {
        "intent_id": purchase.intent_id or "pi_1",
        "amount": purchase.amount_cents,
        "currency": purchase.currency,
        "created_at": time_source.now(),
        "purchase_ref": purchase.ref,
    }
    return ChargedFacts(**{**given, **changes})


def shows(till: Any, *payments: ChargedFacts) -> Told:
    return Told(till, payments_between=lambda since, until: iter(payments))


def paid(till: Any, purchase: Purchase) -> Purchase:
    till.pay(purchase.session_id)
    work("billing")
    return purchase


class TestEvents:
    def test_what_never_came_is_fetched_and_handled(self, unheard, till):
        assert count(WebhookEvent) == 0

        report = compare(till)
        work("billing")

        assert report.fetched == report.stored == report.waiting == report.at_stripe > 0
        assert {event.fetched for event in events()} == {True}
        assert unheard.status == "COMPLETED"

    def test_what_came_is_not_fetched_again(self, purchase, till):
        paid(till, purchase)

        report = compare(till)

        assert (report.fetched, report.waiting) == (0, 0)
        assert report.at_stripe == report.stored == report.handled
        assert 0 < report.effects < report.handled

    def test_types_that_nobody_acts_on_are_neither_counted_nor_stored(self, unheard, till):
        types = {event.type for event in till.events()}
        assert "charge.succeeded" in types

        compare(till)

        assert {event.type for event in events()} == {kind for kind in types if services.is_handled(kind)}

    def test_a_second_run_fetches_nothing(self, unheard, till):
        compare(till)

        assert compare(till).fetched == 0

    def test_a_dry_run_counts_what_is_missing_and_changes_nothing(self, unheard, till):
        report = compare(till, dry_run=True)

        assert (report.comparison_id, report.stored) == (None, 0)
        assert report.fetched == report.at_stripe > 0
        assert (count(WebhookEvent), count(Comparison), unheard.next_look_up_at > NOON) == (0, 0, True)

    def test_nothing_is_open_while_the_provider_is_asked(self, unheard, till, monkeypatch):
        monkeypatch.setattr(comparing, "BATCH", 2)
        asked = []

        class Watched:
            def __getattr__(self, name: str) -> Any:
                def call(*given: Any) -> Any:
                    for each in getattr(till, name)(*given):
                        assert not database.session().in_transaction()
                        asked.append(name)
                        yield each

                return call

        assert compare(Watched()).fetched > 2
        assert set(asked) == {"events_between", "payments_between"}

    def test_the_job_compares_once_a_day(self, unheard, till, clock):
        database.session.commit()
        job.compare()
        job.compare()
        assert len(runs()) == 1

        clock.shift(DAY)
        job.compare()
        assert len(runs()) == 2

    def test_it_says_who_asked_for_it(self, till, plan):
        from sts_app.audit.models import AuditLog

        compare(till, actor="cli")

        assert database.session.scalars(
            sa.select(AuditLog.actor).where(AuditLog.action == "billing.compared")
        ).all() == ["cli"]


class TestTheSpan:
    def test_the_first_one_is_of_three_days(self, till, plan):
        report = compare(till)

        assert (report.since, report.until) == (NOON - 3 * DAY, NOON + timedelta(seconds=1))

    def test_the_next_one_begins_an_hour_before_the_end_of_the_last(self, till, plan, clock):
        first = compare(till)
        clock.shift(DAY)

        assert compare(till).since == first.until - timedelta(hours=1)

    def test_one_that_broke_off_does_not_count(self, till, plan, clock):
        misbehave(till.store, Fault.API_DOWN)
        with pytest.raises(NotNow):
            compare(till)
        behave(till.store)
        clock.shift(DAY)

        assert compare(till).since == NOON + DAY - 3 * DAY

    def test_one_on_demand_about_another_time_leaves_no_gap(self, till, plan, clock):
        first = compare(till)
        clock.shift(DAY)
        compare(till, since=NOON + DAY - timedelta(hours=2))
        compare(till, since=NOON - 9 * DAY, until=NOON - 8 * DAY)

        assert compare(till).since == first.until - timedelta(hours=1)

    def test_what_the_provider_has_forgotten_is_said_once_and_the_next_run_goes_on_from_there(self, till, plan, clock):
        compare(till)
        clock.shift(40 * DAY)

        report = compare(till)

        assert report.since == time_source.now() - 30 * DAY
        assert ["were not compared" in sentence for sentence in report.findings] == [True]
        clock.shift(DAY)
        later = compare(till)
        assert (later.since, later.findings) == (report.until - timedelta(hours=1), ())
        assert kinds() == ["admin_does_not_add_up"]

    @pytest.mark.parametrize(
        "given", [{"since": NOON - 31 * DAY}, {"since": NOON + DAY}, {"since": NOON, "until": NOON - DAY}]
    )
    def test_a_span_that_cannot_be_is_refused(self, till, plan, given):
        with pytest.raises(FixInput):
            compare(till, **given)
        assert count(Comparison) == 0


class TestTrouble:
    def test_a_provider_that_fails_in_the_middle_keeps_what_came_before(self, unheard, till):
        def breaks(since: datetime, until: datetime) -> Iterator[SignedEvent]:
            found = till.events_between(since, until)
            yield from (next(found), next(found), next(found), next(found))
            raise TryLater("events_between: api_error")

        with pytest.raises(NotNow, match="api_error"):
            compare(Told(till, events_between=breaks))

        [run] = runs()
        assert (run.finished_at, run.findings) == (
            None,
            ["Stripe did not answer to the end (events_between: api_error)."],
        )
        assert 0 < run.fetched == count(WebhookEvent)
        again = compare(till)
        assert (again.since, again.stored) == (run.since, again.at_stripe)
        assert again.fetched == again.at_stripe - run.fetched
        assert kinds() == []

    def test_a_provider_that_says_no_is_not_asked_to_be_patient_with(self, till, plan):
        def no(since: datetime, until: datetime) -> Iterator[SignedEvent]:
            raise Refused("events_between: parameter_invalid")
            yield

        with pytest.raises(Refusal) as refusal:
            compare(Told(till, events_between=no))
        assert not isinstance(refusal.value, NotNow)

    def test_the_job_says_so_and_does_not_fail(self, till, plan):
        misbehave(till.store, Fault.API_DOWN)
        database.session.commit()

        job.compare()

        assert [run.finished_at for run in runs()] == [None]

    def test_a_run_whose_process_died_is_taken_over(self, unheard, till, clock, monkeypatch):
        whole = comparing_payments.differing
        monkeypatch.setattr(comparing_payments, "differing", dies)
        monkeypatch.setattr(comparing, "_break_off", lambda running, because: None)  # nobody is left to do it
        with pytest.raises(SystemExit):
            compare(till)
        monkeypatch.setattr(comparing_payments, "differing", whole)
        with pytest.raises(AlreadyDone):
            compare(till)
        clock.shift(timedelta(minutes=7))

        report = compare(till)

        assert runs()[0].findings == ["It broke off: its process died."]
        assert report.stored == report.at_stripe > 0
        assert count(WebhookEvent) == report.stored

    def test_a_run_that_breaks_lets_the_next_one_begin_at_once(self, unheard, till, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(comparing_payments, "differing", dies)
            with pytest.raises(SystemExit):
                compare(till)

        assert compare(till).stored > 0
        assert [run.findings for run in runs()] == [["It broke off (SystemExit)."], runs()[1].findings]


def dies(*_: Any) -> Any:
    raise SystemExit


class TestPayments:
    def test_a_paid_purchase_adds_up(self, purchase, till):
        paid(till, purchase)

        report = compare(till)

        assert (report.findings, report.suspicions) == ((), ())

    def test_a_payment_whose_purchase_is_not_paid_is_looked_up_and_so_healed(self, unheard, till, clock):
        quiet = Told(till, events_between=lambda since, until: iter(()))

        report = compare(quiet)

        assert report.findings == ()
        assert [sentence.partition(" brought ")[2] for sentence in report.suspicions] == [
            f"$99.00 for {unheard.ref}, which is not paid here."
        ]
        work("billing")
        assert unheard.status == "COMPLETED"
        clock.shift(DAY)
        assert compare(quiet).suspicions == ()
        assert "admin_does_not_add_up" not in kinds()

    def test_what_still_differs_is_a_finding_and_told_once(self, purchase, till, clock):
        told = charged(purchase)
        for days in range(3):
            report = compare(shows(till, told))
            work("billing")
            found = (bool(report.suspicions), bool(report.findings))
            assert found == (days == 0, days > 0)
            clock.shift(DAY)

        [letter] = letters("admin_does_not_add_up")
        assert f"{purchase.ref}, which is not paid here." in letter.text
        assert runs()[0].findings[0].endswith("It is looked up again.")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"amount": 9800}, "which stands here with $99.00."),
            ({"currency": "eur"}, "which stands here with $99.00."),
            ({"intent_id": "pi_other"}, "had paid for."),
        ],
    )
    def test_another_payment_than_ours_differs(self, purchase, till, changes, words):
        paid(till, purchase)

        report = compare(shows(till, charged(purchase), charged(purchase, **changes)))

        assert [words in sentence for sentence in report.suspicions] == [True]

    def test_a_refunded_purchase_was_paid(self, purchase, till):
        paid(till, purchase)
        till.give_back(purchase.session_id)
        work("billing")
        assert purchase.status == "REFUNDED"

        report = compare(till)

        assert (report.findings, report.suspicions) == ((), ())

    def test_a_refund_whose_event_was_let_be_is_looked_up_and_so_booked(self, purchase, till, clock):
        paid(till, purchase)
        misbehave(till.store, Fault.DROP)
        till.give_back(purchase.session_id, 4000)
        behave(till.store)

        report = compare(till)
        for event in events():
            if event.state == "received":
                in_a_transaction(lambda event=event: ledger.ignore(str(event.id), because="a mistake", actor="cli"))
        work("billing")

        told = f"{purchase.ref}, of which $40.00 went back at Stripe and $0.00 here."
        assert [sentence.partition(" for ")[2] for sentence in report.suspicions] == [told]
        assert (purchase.status, purchase.refunded_cents) == ("PARTIALLY_REFUNDED", 4000)
        clock.shift(DAY)
        assert compare(till).findings == compare(till).suspicions == ()

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"refunded": 4000}, "of which $40.00 went back at Stripe and $0.00 here."),
            ({"withheld": 9900}, "of which $99.00 were taken by banks at Stripe and $0.00 here."),
        ],
    )
    def test_money_that_is_away_there_and_not_here_is_a_finding_when_it_stays_so(
        self, purchase, till, clock, changes, words
    ):
        paid(till, purchase)
        gateway = shows(till, charged(purchase, **changes))
        compare(gateway)
        work("billing")
        clock.shift(DAY)

        assert [sentence.partition(", ")[2] for sentence in compare(gateway).findings] == [words]

    @pytest.mark.parametrize("status", ["needs_response", "lost", "won", "warning_needs_response"])
    def test_a_disputed_purchase_adds_up(self, purchase, till, status):
        paid(till, purchase)
        dispute_id = till.open_dispute(purchase.session_id, amount_cents=4000)
        till.move_dispute(dispute_id, status, anyway=True)
        work("billing")

        report = compare(till)

        assert (report.findings, report.suspicions) == ((), ())

    def test_money_that_is_away_here_and_not_there_is_one_as_well(self, purchase, till):
        paid(till, purchase)
        till.give_back(purchase.session_id, 4000)
        work("billing")

        [sentence] = compare(shows(till, charged(purchase))).suspicions

        assert sentence.endswith("of which $0.00 went back at Stripe and $40.00 here.")

    def test_a_subscription_and_its_renewals_add_up(self, alice, plan, till, clock):
        monthly = Plan(
            slug="monthly", name="Monthly", price_cents=1900, currency="usd", covers_all=True,
            mode=Mode.SUBSCRIPTION, interval="month",
        )  # fmt: skip
        database.session.add(monthly)
        database.session.flush()
        paid(till, open_page(alice, monthly))
        clock.shift(31 * DAY)
        [subscription] = till.subscriptions()
        till.renew(subscription.facts.id)
        work("billing")
        assert count(Purchase) == 2

        report = compare(till, since=NOON + 2 * DAY)

        assert (report.findings, report.suspicions) == ((), ())

    def test_payments_for_something_else_are_none_of_ours(self, till, plan):
        others = ChargedFacts("pi_1", 500, "usd", NOON), ChargedFacts("pi_2", 500, "usd", NOON, "pur_of_another_store")

        assert compare(shows(till, *others)).suspicions == ()

    def test_in_production_a_payment_for_a_purchase_that_is_gone_is_found(self, app, till, plan, monkeypatch):
        settings = app.config["STS"].model_copy(update={"app_env": AppEnv.PRODUCTION})
        monkeypatch.setitem(app.config, "STS", settings)

        [sentence] = compare(shows(till, ChargedFacts("pi_2", 500, "usd", NOON, "pur_lost"))).suspicions

        assert sentence == "pi_2 brought $5.00 for pur_lost, which is not here."

    def test_a_free_purchase_needs_no_payment(self, purchase, till):
        till.apply_promotion(purchase.session_id, "FREE100")
        paid(till, purchase)
        assert (purchase.status, purchase.amount_cents) == ("COMPLETED", 0)

        assert compare(till).findings == ()

    def test_a_payment_that_is_on_no_list_is_asked_for_by_name(self, purchase, till):
        paid(till, purchase)

        assert compare(shows(till)).findings == ()

    def test_a_paid_purchase_without_money_there_is_a_finding_at_once_and_told_once(self, purchase, till, clock):
        in_a_transaction(lambda: paid(till, purchase))
        purchase.amount_cents = 9800
        database.session.commit()
        silent = shows(till)

        report = compare(silent)

        assert report.findings == (f"{purchase.ref} stands here with $98.00 paid, and Stripe shows no such payment.",)
        clock.shift(DAY)
        assert compare(silent).findings == report.findings
        assert len(letters("admin_does_not_add_up")) == 1

    @pytest.mark.parametrize("answer", [Refused("look_up: resource_missing")])
    def test_a_payment_that_the_provider_does_not_know_is_a_finding(self, purchase, till, answer):
        paid(till, purchase)

        def unknown(session_id: str) -> Any:
            raise answer

        gateway = Told(till, payments_between=lambda since, until: iter(()), look_up=unknown)
        assert len(compare(gateway).findings) == 1

    def test_more_missing_ones_than_can_be_asked_for_are_counted(self, purchase, till, monkeypatch):
        paid(till, purchase)
        monkeypatch.setattr(comparing_payments, "ASKED_FOR", 0)

        assert compare(shows(till)).findings == ("Of 1 further paid purchases there is no payment on Stripe's list.",)
