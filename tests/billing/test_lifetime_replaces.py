"""Lifetime access bought by somebody who subscribes: no gap, no later charge, and locks in their order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import inbox, subscriptions
from sts_app.billing.models import Purchase, Subscription
from sts_app.billing.simulated import Fault, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from tests.builders import holders, in_a_transaction, open_page, work

pytestmark = pytest.mark.usefixtures("clock")


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


@pytest.fixture
def lifetime(alice, plan, subscription) -> Purchase:
    return open_page(alice, plan)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Every statement from here on, as it is sent."""
    sent: list[str] = []

    def note(connection, cursor, statement, *rest) -> None:
        sent.append(" ".join(statement.split()))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield sent
    sa.event.remove(database.engine, "before_cursor_execute", note)


def test_the_subscription_ends_at_stripe_and_access_goes_on(lifetime, subscription, alice, till):
    held = holders()

    till.pay(lifetime.session_id)
    work()

    assert till.look_up_subscription(subscription.external_id).status == "canceled"
    assert (subscription.state, subscription.cancel_because) == ("ended", None)
    assert holders() == held
    assert held


@pytest.mark.parametrize("is_told", [True, False])
def test_the_payers_turn_is_taken_before_the_subscription(subscription, till, statements, clock, is_told):
    """A payment takes the turn first and the subscription afterwards: the other way round both would wait."""
    if not is_told:
        misbehave(till.store, Fault.DROP)
    clock.shift(timedelta(days=30))
    till.renew(subscription.external_id)
    work_in_hand = in_a_transaction(inbox.claim_next)
    assert isinstance(work_in_hand, inbox.Handling if is_told else subscriptions.LookUp)
    work_in_hand.call(till)
    statements.clear()

    in_a_transaction(work_in_hand.settle)

    turn = next(number for number, each in enumerate(statements) if "pg_advisory_xact_lock" in each)
    row = next(n for n, each in enumerate(statements) if "FROM subscription" in each and "FOR NO KEY UPDATE" in each)
    assert turn < row


def test_the_subscription_is_locked_before_plans_and_people(lifetime, till, statements):
    """A look at the subscription locks it first and the person afterwards: the other way round both would wait."""
    till.pay(lifetime.session_id)
    work("billing")

    first = statements.index(next(each for each in statements if "cancel_because=" in each))
    person = next(n for n, each in enumerate(statements) if "FROM users" in each and "FOR NO KEY UPDATE" in each)

    assert first < person
