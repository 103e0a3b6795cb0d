"""One letter about a checkout that was left, to those who asked for it, and to nobody else."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobs import ops as ops_job
from sts_app.billing import reminders
from sts_app.billing.models import Purchase
from sts_app.catalog.models import Mode, Plan
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.provisioning import control
from sts_app.provisioning.rules import Switch
from tests.builders import in_a_transaction, letters, open_page, opened, work

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def left(alice, plan, till, clock) -> Purchase:
    """Alice closed the page, after she said that one letter may be written about it."""
    return leave(alice, plan, till)


def leave(user, plan: Plan, till, *, may_remind: bool = True) -> Purchase:
    purchase = open_page(user, plan, may_remind=may_remind)
    till.expire(purchase.session_id)
    work("billing")
    assert purchase.status == "EXPIRED"
    return purchase


def sweep() -> list[str]:
    """What the minute sweep writes: the references of the purchases."""
    database.session.commit()
    ops_job._sweep()
    database.session.expire_all()
    return [letter.key for letter in letters("checkout_left")]


def key_of(purchase: Purchase) -> str:
    return f"checkout-left:{purchase.id}"


def test_an_hour_after_leaving_one_letter_is_written(left, alice, clock):
    clock.shift(timedelta(minutes=59))
    assert sweep() == []

    clock.shift(timedelta(minutes=1))
    assert sweep() == [key_of(left)]
    [letter] = letters("checkout_left")
    assert letter.to_address == alice.email
    assert "/checkout?plan=lifetime" in letter.text


def test_it_is_the_only_one(left, clock):
    clock.shift(timedelta(hours=2))

    assert sweep() == sweep() == [key_of(left)]
    assert not in_a_transaction(lambda: reminders.remind(left.id))


def test_after_three_days_nobody_is_written_to(left, clock):
    clock.shift(timedelta(days=3))

    assert sweep() == []


def test_the_sweep_reads_what_expired_lately_and_not_all_that_ever_did(db):
    """It comes by every minute, and most checkouts are never paid."""
    sent: list[tuple[str, object]] = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        sent.append((f"EXPLAIN {statement}", parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    reminders.due(time_source.now())
    sa.event.remove(database.engine, "before_cursor_execute", note)
    database.session.execute(sa.text("SET LOCAL enable_seqscan = off"))

    asked = next(each for each in sent if "FROM purchase" in each[0])
    plan = database.session.connection().exec_driver_sql(*asked).scalars().all()

    scan = next(number for number, line in enumerate(plan) if "Bitmap Index Scan on ix_purchase_expired" in line)
    assert "Index Cond: ((closed_at >" in plan[scan + 1]


def test_who_did_not_say_so_is_not_written_to(alice, plan, till, clock):
    leave(alice, plan, till, may_remind=False)
    clock.shift(timedelta(hours=2))

    assert sweep() == []


def test_the_last_word_counts(alice, plan, till, clock):
    purchase = open_page(alice, plan, may_remind=True)
    opened(alice, plan, may_remind=False)
    till.expire(purchase.session_id)
    work("billing")
    clock.shift(timedelta(hours=2))

    assert sweep() == []


def test_a_page_that_ran_out_counts_as_left_even_if_nobody_told_us(alice, plan, till, clock):
    purchase = open_page(alice, plan, may_remind=True)
    purchase.next_look_up_at = None
    clock.shift(timedelta(hours=25))

    assert sweep() == [key_of(purchase)]


def test_who_waits_for_a_slow_bank_has_not_left(alice, plan, till, clock):
    purchase = open_page(alice, plan, may_remind=True)
    till.pay_later(purchase.session_id)
    work("billing")
    assert purchase.status == "PENDING"
    clock.shift(timedelta(hours=25))

    assert sweep() == []


def test_who_is_paying_again_is_left_in_peace(left, alice, plan, clock):
    clock.shift(timedelta(minutes=30))
    open_page(alice, plan)
    clock.shift(timedelta(minutes=40))

    assert sweep() == []


def test_who_has_paid_since_is_left_in_peace(left, alice, plan, till, clock):
    again = open_page(alice, plan)
    till.pay(again.session_id)
    work("billing")
    clock.shift(timedelta(hours=2))

    assert sweep() == []


def test_who_left_again_within_thirty_days_is_not_written_to_again(left, alice, plan, till, clock):
    clock.shift(timedelta(hours=2))
    sweep()
    clock.shift(timedelta(days=27))
    leave(alice, plan, till)
    clock.shift(timedelta(hours=2))

    assert sweep() == [key_of(left)]


def test_who_leaves_after_thirty_days_again_may_be_written_to_again(left, alice, plan, till, clock):
    clock.shift(timedelta(hours=2))
    sweep()
    clock.shift(timedelta(days=31))
    again = leave(alice, plan, till)
    clock.shift(timedelta(hours=2))

    assert sweep() == [key_of(left), key_of(again)]


def test_who_holds_everything_for_good_is_not_asked_to_subscribe(alice, plan, till, clock):
    monthly = Plan(
        slug="monthly",
        name="Monthly access",
        price_cents=1900,
        stripe_price_id="price_monthly",
        mode=Mode.SUBSCRIPTION,
        interval="month",
        covers_all=True,
    )
    database.session.add(monthly)
    database.session.flush()
    leave(alice, monthly, till)
    bought = open_page(alice, plan)
    till.pay(bought.session_id)
    work("billing")
    clock.shift(timedelta(hours=2))

    assert sweep() == []


def test_a_plan_that_is_no_longer_sold_is_not_written_about(left, clock):
    database.session.execute(sa.update(Plan).values(active=False))
    clock.shift(timedelta(hours=2))

    assert sweep() == []


def test_while_sales_are_closed_nobody_is_called_to_buy(left, clock):
    in_a_transaction(lambda: control.set_switch(Switch.DISABLED, actor="user:7", because="a test"))
    clock.shift(timedelta(hours=2))

    assert sweep() == []
