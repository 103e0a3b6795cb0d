"""Why access rests or has ended is what the money says now, by whichever way it came there."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing.models import Purchase, Subscription
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.provisioning.models import Entitlement, ProvisioningJob
from tests.builders import count, open_page, work

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    return purchase


@pytest.fixture
def month(alice, plan, till) -> Purchase:
    monthly = Plan(
        slug="monthly", name="Monthly", price_cents=1900, mode=Mode.SUBSCRIPTION, interval="month", covers_all=True
    )
    database.session.add(monthly)
    database.session.flush()
    purchase = open_page(alice, monthly)
    till.pay(purchase.session_id)
    work()
    return purchase


def why() -> tuple[str | None, str | None]:
    """Why the one entitlement rests, and why it has ended."""
    entitlement = database.session.scalars(sa.select(Entitlement).execution_options(populate_existing=True)).one()
    return entitlement.suspended_because, entitlement.ended_because


def test_what_was_disputed_and_is_lost_rests_no_longer(bought, till):
    dispute = till.open_dispute(bought.session_id)
    work()
    assert why() == ("the payment is disputed", None)

    till.move_dispute(dispute, "lost")
    work()

    assert why() == (None, "the dispute was lost")


def test_what_was_lost_and_then_refunded_ended_because_of_the_refund(bought, till):
    dispute = till.open_dispute(bought.session_id, "lost")
    work()
    misbehave(till.store, Fault.DROP)
    till.move_dispute(dispute, "won")
    behave(till.store)

    till.give_back(bought.session_id)
    work()

    assert why() == (None, "the purchase was refunded")


def test_a_subscription_that_is_no_longer_disputed_rests_for_what_is_left(month, till, clock):
    clock.shift(timedelta(days=30))
    subscription = database.session.scalars(sa.select(Subscription)).one()
    till.renew(subscription.external_id, succeeded=False)
    till.give_up(subscription.external_id)
    dispute = till.open_dispute(month.session_id)
    work()
    assert (subscription.state, why()) == ("paused", ("its payment is disputed", None))

    till.move_dispute(dispute, "won")
    work()

    assert (subscription.state, why()) == ("paused", ("a renewal was not paid", None))


def test_access_that_had_ended_and_rests_now_was_not_given_in_between(bought, till):
    refund = till.give_back(bought.session_id, status="pending")
    work()
    till.open_dispute(bought.session_id)
    work()
    jobs = count(ProvisioningJob)

    till.move_refund(refund, "failed")
    work()

    assert (bought.access, why()) == ("suspended", ("the payment is disputed", None))
    assert count(ProvisioningJob) == jobs
