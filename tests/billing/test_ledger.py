"""The ledger of events as staff use it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.billing import ledger, services
from sts_app.billing.gateway import SignedEvent
from sts_app.billing.ledger import Wanted
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.rules import EventState
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.core.queue import staged_wake_ups
from sts_app.ops import services as operations
from tests.builders import NOON, count, events, in_a_transaction, open_page, work

pytestmark = pytest.mark.usefixtures("clock", "db")


def happened(number: int, kind: str = "invoice.paid", **changes: Any) -> WebhookEvent:
    given: dict[str, Any] = {"created_at": time_source.now(), "live": False, "payload": {"id": f"evt_{number}"}}
    event = SignedEvent(f"evt_{number}", kind, **{**given, **changes})
    in_a_transaction(lambda: services.take_in(event))
    return events()[-1]


def found(**wanted: Any) -> list[str]:
    return [line.external_id for line in ledger.search(Wanted(**wanted))]


@pytest.fixture
def paid(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    database.session.commit()
    till.pay(purchase.session_id)
    work("billing")
    return purchase


class TestSearch:
    def test_newest_first_by_when_it_happened(self):
        for number, hours in ((1, 0), (2, 2), (3, 1)):
            happened(number, created_at=NOON - timedelta(hours=hours))

        assert found() == ["evt_1", "evt_3", "evt_2"]

    def test_pages_go_on_behind_the_last_line_also_among_events_of_one_second(self):
        for number in range(5):
            happened(number)

        pages, after = [], None
        while lines := ledger.search(Wanted(), limit=2, after=after):
            pages.append([line.external_id for line in lines])
            after = lines[-1].id

        assert pages == [["evt_4", "evt_3"], ["evt_2", "evt_1"], ["evt_0"]]

    def test_by_our_number_and_by_stripes_id(self):
        happened(1)
        wanted = happened(2)

        assert found(event=str(wanted.id)) == found(event="evt_2") == ["evt_2"]

    @pytest.mark.parametrize("nonsense", ["evt_3", "0", "99999999999999999999999", "²"])
    def test_what_is_not_there_is_not_found(self, nonsense):
        happened(1)

        assert found(event=nonsense) == []

    def test_by_the_beginning_of_its_type_taken_literally(self):
        happened(1, "charge.dispute.created")
        happened(2, "charge.refunded")

        assert found(kind="charge.dispute") == ["evt_1"]
        assert found(kind="charge%") == []

    def test_by_state(self):
        happened(1)
        happened(2, "payout.paid")

        assert found(state=EventState.IGNORED) == ["evt_2"]

    def test_by_day_in_utc(self):
        happened(1, created_at=NOON - timedelta(hours=13))
        happened(2, created_at=NOON)

        assert found(day=date(2026, 11, 20)) == ["evt_1"]

    def test_by_purchase_and_by_whose_it_is(self, paid, bob):
        happened(1)
        about = {line.type for line in ledger.search(Wanted(purchase=paid.ref))}

        assert "checkout.session.completed" in about
        assert "customer.created" not in about
        assert {line.type for line in ledger.search(Wanted(email=" Alice@customers.example"))} == {
            *about,
            "customer.created",
        }
        assert found(email=bob.email) == []

    def test_by_a_purchase_that_an_event_names_and_nobody_has_found_yet(self):
        happened(1, purchase_ref="pur_1")

        [line] = ledger.search(Wanted(purchase="pur_1"))
        assert (line.external_id, line.purchase) == ("evt_1", "pur_1")


class TestSheet:
    def test_shows_payload_attempts_and_what_staff_did(self, alice, plan, till):
        purchase = open_page(alice, plan)
        database.session.commit()
        till.pay(purchase.session_id)
        misbehave(till.store, Fault.API_DOWN)
        work("billing")
        behave(till.store)
        row = next(event for event in events() if event.type == "checkout.session.completed")
        in_a_transaction(lambda: ledger.ignore(row.external_id, because="a test", actor="cli"))

        sheet = ledger.sheet(str(row.id))

        assert sheet.payload["type"] == "checkout.session.completed"
        assert (sheet.line.tries, sheet.line.last_reason) == (1, "a test")
        assert sheet.session_id == purchase.session_id
        assert [(act.actor, act.action, act.because) for act in sheet.acts] == [
            ("cli", "billing.event_ignored", "a test")
        ]

    def test_one_that_is_not_there(self):
        with pytest.raises(NotThere):
            ledger.sheet("evt_1")


class TestReplay:
    @pytest.mark.parametrize("state", [EventState.HANDLED, EventState.IGNORED, EventState.STUCK])
    def test_any_end_becomes_due_from_the_start(self, state):
        row = happened(1)
        row.state, row.tries, row.refusals, row.last_reason, row.next_attempt_at = state, 5, 5, "no", None

        ledger.replay("evt_1", actor="user:1")

        assert (row.state, row.next_attempt_at, row.tries, row.refusals) == ("received", NOON, 0, 0)
        assert [wake_up.name for wake_up in staged_wake_ups()] == ["billing.work"]
        [line] = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "billing.event_replayed"))
        assert (line.actor, line.subject, line.details) == ("user:1", f"event:{row.id}", {"before": state})

    def test_an_event_that_is_handled_again_changes_nothing(self, paid):
        before = count(Purchase), paid.paid_at
        row = next(event for event in events() if event.changed)
        in_a_transaction(lambda: ledger.replay(row.external_id, actor="cli"))

        work("billing")

        assert (row.state, row.last_reason, row.changed) == ("handled", "repeat", True)
        assert (count(Purchase), paid.paid_at) == before

    def test_one_whose_next_try_is_far_is_tried_now(self):
        row = happened(1)
        row.tries, row.next_attempt_at = 4, NOON + timedelta(hours=1)

        ledger.replay("evt_1", actor="cli")

        assert (row.tries, row.next_attempt_at) == (0, NOON)

    def test_one_that_is_due_is_not_replayed(self):
        happened(1)

        with pytest.raises(AlreadyDone):
            ledger.replay("evt_1", actor="cli")

    def test_one_in_a_workers_hands_is_left_there(self):
        row = happened(1)
        row.lease_token, row.leased_until, row.next_attempt_at = "x", NOON + timedelta(minutes=1), NOON

        with pytest.raises(AlreadyDone):
            ledger.replay("evt_1", actor="cli")

    def test_a_type_that_nobody_acts_on_is_refused(self):
        happened(1, "payout.paid")

        with pytest.raises(FixInput, match=r"payout\.paid"):
            ledger.replay("evt_1", actor="cli")


class TestIgnore:
    def test_one_that_is_stuck_is_let_be_with_the_reason(self):
        row = happened(1)
        row.state, row.next_attempt_at = EventState.STUCK, None

        ledger.ignore("evt_1", because=" of another store ", actor="cli")

        assert (row.state, row.last_reason, row.handled_at) == ("ignored", "of another store", NOON)

    def test_a_worker_that_has_it_in_hand_finds_its_claim_gone(self, alice, plan, till):
        from sts_app.billing import inbox

        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        claimed = in_a_transaction(inbox.claim_next)
        claimed.call(till)
        row = next(event for event in events() if event.lease_token is not None)

        in_a_transaction(lambda: ledger.ignore(row.external_id, because="a test", actor="cli"))
        in_a_transaction(claimed.settle)

        assert (row.state, row.last_reason) == ("ignored", "a test")

    @pytest.mark.parametrize("state", [EventState.HANDLED, EventState.IGNORED])
    def test_what_has_ended_stays(self, state):
        row = happened(1)
        row.state, row.next_attempt_at = state, None

        with pytest.raises(AlreadyDone):
            ledger.ignore("evt_1", because="a test", actor="cli")

    def test_a_reason_is_needed(self):
        happened(1)

        with pytest.raises(FixInput):
            ledger.ignore("evt_1", because=" ", actor="cli")


class TestTidy:
    def test_payloads_of_what_ended_are_forgotten_after_ninety_days(self, clock, monkeypatch):
        monkeypatch.setattr(ledger, "AT_ONCE", 2)
        for number in range(1, 7):
            row = happened(number)
            if number < 6:
                row.state, row.next_attempt_at = EventState.HANDLED, None
        database.session.commit()
        clock.shift(timedelta(days=90, seconds=1))
        young = happened(7)
        young.state, young.next_attempt_at = EventState.STUCK, None

        in_a_transaction(operations.tidy)

        is_null = sa.select(WebhookEvent.external_id).where(WebhookEvent.payload.is_(sa.null()))
        assert database.session.scalars(is_null.order_by(WebhookEvent.id)).all() == [f"evt_{n}" for n in range(1, 6)]
        assert ledger.sheet("evt_1").payload is None

    def test_what_has_no_payload_any_more_can_still_be_handled(self, paid, clock):
        clock.shift(timedelta(days=91))
        in_a_transaction(ledger.tidy)
        row = next(event for event in events() if event.type == "checkout.session.completed")

        in_a_transaction(lambda: ledger.replay(row.external_id, actor="cli"))
        work("billing")

        assert (row.payload, row.state) == (None, "handled")
