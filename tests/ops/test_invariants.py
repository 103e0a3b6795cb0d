"""Each invariant, broken once on purpose: a guard that never barks guards nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.services import open_purchase
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.emails.models import EmailMessage
from sts_app.ops.invariants import INVARIANTS, broken
from sts_app.provisioning import engine, services
from sts_app.provisioning.models import Entitlement, Grant, ManualTask, ProvisioningAttempt, TradingViewName
from tests.builders import alice, entitled, event, in_a_transaction, lifetime, named, stopped_clock, vendor, work

LONG_AGO = timedelta(minutes=6)


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def store(db):
    """Alice has paid and has her six strategies; one letter waits."""
    vendor()
    plan = lifetime()
    user = named(alice(), "Anna")
    purchase = open_purchase(user, plan)
    purchase.status = "COMPLETED"
    entitled(user, plan, f"purchase:{purchase.id}")
    work("provisioning", "emails")
    return user


def execute(statement) -> None:
    database.session.execute(sa.text(statement) if isinstance(statement, str) else statement)


def update(model, **values) -> None:
    execute(sa.update(model).values(**values).execution_options(synchronize_session=False))


def first_grant(**values) -> None:
    smallest = sa.select(sa.func.min(Grant.id)).scalar_subquery()
    execute(sa.update(Grant).where(Grant.id == smallest).values(**values).execution_options(synchronize_session=False))


def completed_without_entitlement() -> None:
    update(Entitlement, source="gift:9")


def refunded_that_entitles() -> None:
    update(Purchase, status="REFUNDED")


def desired_without_a_row() -> None:
    smallest = "(SELECT min(id) FROM grants)"
    for table in ("provisioning_attempt", "provisioning_job"):
        execute(f"DELETE FROM {table} WHERE grant_id = {smallest}")
    execute(f"DELETE FROM grants WHERE id = {smallest}")


def desired_with_a_row_that_stands_still() -> None:
    first_grant(state="pending", next_attempt_at=None)


def desired_with_staff_and_no_task() -> None:
    first_grant(state="with_staff")


def verified_without_evidence() -> None:
    first_grant(evidence=None)


def verified_by_old_evidence() -> None:
    first_grant(verified_at=time_source.now() - timedelta(days=1))


def absent_without_evidence() -> None:
    first_grant(wanted=False, state="absent", absent_at=None)
    update(Entitlement, ends_at=time_source.now())
    update(Purchase, status="REFUNDED")


def unwanted_and_left() -> None:
    first_grant(wanted=False, state="verified")


def wanted_after_the_end() -> None:
    update(Entitlement, ends_at=time_source.now())


def two_calls_in_flight() -> None:
    execute("DROP INDEX uq_provisioning_attempt_in_flight")
    first = database.session.scalars(sa.select(ProvisioningAttempt).limit(1)).one()
    first_grant(lease_token="lease", leased_until=time_source.now())
    for _ in range(2):
        database.session.add(
            ProvisioningAttempt(grant_id=first.grant_id, job_id=first.job_id, lease_token="lease", wanted=True)
        )


def open_attempt_without_lease() -> None:
    execute("UPDATE provisioning_attempt SET finished_at = NULL WHERE id = (SELECT min(id) FROM provisioning_attempt)")


def two_open_purchases() -> None:
    execute("DROP INDEX uq_purchase_open")
    user = database.session.scalars(sa.select(TradingViewName)).one().user_id
    plan = database.session.scalars(sa.select(Purchase)).one().plan_id
    for number in range(2):
        database.session.add(
            Purchase(
                ref=f"pur_{number}",
                user_id=user,
                plan_id=plan,
                amount_cents=9900,
                currency="usd",
                checkout_request={},
                checkout_expires_at=time_source.now(),
            )
        )


def a_name_without_a_successor() -> None:
    execute("UPDATE tradingview_name SET replaced_at = now()")


def a_letter_twice() -> None:
    execute("ALTER TABLE email_message DROP CONSTRAINT uq_email_message_key")
    columns = [c.name for c in EmailMessage.__table__.columns if c.name != "id"]
    names = ", ".join(columns)
    execute(f"INSERT INTO email_message ({names}) SELECT {names} FROM email_message LIMIT 1")


def a_secret_kept() -> None:
    execute("ALTER TABLE email_message DROP CONSTRAINT ck_email_message_secret_blank_when_done")
    update(EmailMessage, secret=True)


def an_old_lease() -> None:
    first_grant(lease_token="lease", leased_until=time_source.now() - LONG_AGO)


def an_old_lease_on_a_purchase() -> None:
    update(Purchase, lease_token="lease", leased_until=time_source.now() - LONG_AGO)


def an_overdue_grant() -> None:
    first_grant(next_attempt_at=time_source.now() - LONG_AGO)


def an_overdue_letter() -> None:
    update(EmailMessage, state="queued", sent_at=None, next_attempt_at=time_source.now() - LONG_AGO)


def _take_in() -> None:
    payload = event()
    database.session.add(
        WebhookEvent(
            source="stripe",
            external_id="evt_1",
            type=payload["type"],
            live=False,
            occurred_at=time_source.now(),
            payload=payload,
            next_attempt_at=time_source.now(),
        )
    )
    database.session.flush()


def an_overdue_event() -> None:
    _take_in()
    update(WebhookEvent, next_attempt_at=time_source.now() - LONG_AGO, tries=1)


def an_event_nobody_looks_at() -> None:
    _take_in()
    update(WebhookEvent, next_attempt_at=None)


def an_event_never_tried() -> None:
    _take_in()
    update(WebhookEvent, created_at=time_source.now() - LONG_AGO)


BREAKS: list[tuple[str, Callable[[], None]]] = [
    ("no completed purchase without its entitlement", completed_without_entitlement),
    ("no refunded purchase that still entitles", refunded_that_entitles),
    (
        "no desired pair without a grant row that is moving, verified, or waiting for a named person",
        desired_without_a_row,
    ),
    (
        "no desired pair without a grant row that is moving, verified, or waiting for a named person",
        desired_with_a_row_that_stands_still,
    ),
    (
        "no desired pair without a grant row that is moving, verified, or waiting for a named person",
        desired_with_staff_and_no_task,
    ),
    ("no verified access without evidence newer than its last grant", verified_without_evidence),
    ("no verified access without evidence newer than its last grant", verified_by_old_evidence),
    ("no absent pair without evidence, unless nothing was ever sent for it", absent_without_evidence),
    ("no unwanted pair that is neither being revoked, with a person, nor absent", unwanted_and_left),
    ("no pair that keeps being wanted after its entitlements ended", wanted_after_the_end),
    ("no two calls in flight for one pair", two_calls_in_flight),
    ("no open attempt without its lease", open_attempt_without_lease),
    ("no two open purchases of one plan per person", two_open_purchases),
    ("no name still held by somebody who has no current one", a_name_without_a_successor),
    ("no letter written twice under one key", a_letter_twice),
    ("no secret letter kept after it was sent", a_secret_kept),
    ("no lease older than its length", an_old_lease),
    ("no lease older than its length", an_old_lease_on_a_purchase),
    ("no due row older than five minutes", an_overdue_grant),
    ("no due row older than five minutes", an_overdue_letter),
    ("no due row older than five minutes", an_overdue_event),
    ("no stored event unhandled without an end state", an_event_nobody_looks_at),
    ("no stored event unhandled without an end state", an_event_never_tried),
]


@pytest.mark.breaks_invariants
@pytest.mark.parametrize(("name", "break_it"), BREAKS, ids=[deed.__name__ for _, deed in BREAKS])
def test_it_is_noticed(store, name, break_it):
    assert broken(database.session.connection()) == {}

    break_it()
    database.session.flush()

    assert name in broken(database.session.connection())


def test_every_invariant_is_broken_by_some_test():
    assert {name for name, _ in BREAKS} == {invariant.name for invariant in INVARIANTS}


def test_what_needs_workers_is_not_asked_while_there_are_none(store):
    an_overdue_grant()

    assert broken(database.session.connection(), workers_alive=False) == {}


def test_the_present_may_be_given(store):
    later = time_source.now() + timedelta(hours=1)
    first_grant(next_attempt_at=time_source.now())

    assert "no due row older than five minutes" in broken(database.session.connection(), now=later)
    assert broken(database.session.connection()) == {}


class TestOnTheWay:
    """The invariants hold at every step of a life, and not only at its end."""

    def held(self) -> bool:
        return broken(database.session.connection(), workers_alive=False) == {}

    def test_of_a_grant_a_refund_and_a_second_purchase(self, db, clock):
        vendor()
        plan, user = lifetime(), named(alice(), "Anna")
        entitled(user, plan, "gift:1")
        assert self.held()
        claimed = in_a_transaction(engine.claim_next)
        assert self.held()
        in_a_transaction(lambda: services.end_entitlement("gift:1", because="over", actor="system"))
        assert self.held()
        in_a_transaction(lambda: engine.settle(claimed, engine.call(engine_adapter(), claimed)))
        assert self.held()
        in_a_transaction(lambda: entitled(user, plan, "gift:2"))
        assert self.held()
        in_a_transaction(lambda: services.set_name(user, "Anna2", verified=True))
        assert self.held()
        work("provisioning")
        assert self.held()

    def test_of_a_pair_that_goes_to_a_person(self, db, clock):
        vendor()
        entitled(named(alice(), "Anna"), lifetime())
        for _ in range(3):
            in_a_transaction(engine.claim_next)
            clock.shift(timedelta(hours=1))
        in_a_transaction(engine.claim_next)

        assert database.session.scalar(sa.select(sa.func.count()).select_from(ManualTask)) == 6
        assert self.held()


def engine_adapter():
    from sts_app.provisioning import tradingview

    return tradingview()
