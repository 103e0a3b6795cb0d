"""The commands about subscriptions: who has one, and its end by staff."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.billing.models import Subscription
from sts_app.core.db import db as database
from tests.builders import holders, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")

REASON = ("--reason", "a test")


@pytest.fixture
def subscription(alice, monthly, till) -> Subscription:
    page = open_page(alice, monthly)
    database.session.commit()
    till.pay(page.session_id)
    work()
    return database.session.scalars(sa.select(Subscription)).one()


def test_they_are_listed_by_the_payers_address(sts, subscription, bob):
    mine = sts("subscriptions", "list", "alice@customers.example")

    assert mine.exit_code == 0
    assert f"active, access running, {subscription.external_id}" in mine.output
    assert (
        "alice@customers.example, Monthly access, $19.00 every month, paid until 21 Dec 2026, 12:00 UTC" in mine.output
    )
    assert sts("subscriptions", "list", bob.email).output == "There is none.\n"
    assert sts("subscriptions", "list", "nobody@customers.example").exit_code == 1


def test_for_machines(sts, subscription):
    [told] = json.loads(sts("subscriptions", "list", "--json").output)

    assert (told["id"], told["status"], told["ends_at"]) == (subscription.id, "active", None)


def test_before_one_is_ended_it_is_said_what_that_does(sts, subscription):
    result = sts("subscriptions", "cancel", subscription.id, *REASON)

    assert result.exit_code == 1
    for words in (
        "Monthly access, $19.00 every month, of alice@customers.example ends now",
        "What is paid until 21 Dec 2026, 12:00 UTC stays paid",
        "Go ahead? [y/N]",
    ):
        assert words in result.output
    assert subscription.cancel_because is None


def test_it_ends_at_the_provider_with_its_access_and_the_reason_is_kept(sts, subscription, till):
    result = sts("subscriptions", "cancel", subscription.external_id, "--yes", *REASON)
    work()

    assert result.exit_code == 0
    assert till.look_up_subscription(subscription.external_id).status == "canceled"
    assert (subscription.state, holders()) == ("ended", set())
    line = database.session.scalars(
        sa.select(AuditLog).where(AuditLog.action == "billing.subscription_cancel_asked")
    ).one()
    assert (line.actor, line.details["reason"]) == ("cli", "a test")
    [letter] = letters("subscription_ended")
    assert "It ended because our staff asked for it." in letter.text
    assert "a test" not in letter.text


def test_one_that_has_ended_is_not_ended_again(sts, subscription):
    sts("subscriptions", "cancel", subscription.id, "--yes", *REASON)
    assert "is being ended already" in sts("subscriptions", "cancel", subscription.id, "--yes", *REASON).output
    work()

    again = sts("subscriptions", "cancel", subscription.id, "--yes", *REASON)

    assert again.exit_code == 1
    assert "has ended already" in again.output


@pytest.mark.parametrize("name", ["4711", "sub_nobody", "9" * 30])
def test_one_that_is_not_there(sts, plan, name):
    result = sts("subscriptions", "cancel", name, *REASON)

    assert result.exit_code == 1
    assert f"There is no subscription {name}." in result.output


def test_a_reason_is_needed(sts, subscription):
    assert sts("subscriptions", "cancel", subscription.id, "--yes").exit_code == 2
