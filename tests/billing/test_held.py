"""What a person holds, in words: a sentence for each way in which money and access stand to each other."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sts_app.billing.held import Held, held_by
from sts_app.billing.rules import Access
from sts_app.catalog.models import Plan, PlanStrategy, Strategy
from sts_app.core.db import db as database
from sts_app.provisioning import services as provisioning
from tests import builders
from tests.builders import entitled, served

pytestmark = pytest.mark.usefixtures("clock")

A = ("Alpha",)
GOES_ON = "Your access goes on."
WITHOUT_IT = "Your access goes on without this purchase."
COMING = "Your access is on its way, and your dashboard shows how far it is."
WAITS = "Your dashboard shows how your access stands, and what it waits for."
SUSPENDED = "Your access is suspended until the bank has decided, and comes back by itself if the payment stands."
RESTS = "Your access is suspended. Your dashboard says why."
GONE = "This purchase gives no access any more. Your dashboard says Revoked once TradingView shows that."
NEVER = "This purchase gives no access."


@pytest.mark.parametrize(
    ("held", "stands", "suspended", "ended"),
    [
        (Held(given=A), GOES_ON, WITHOUT_IT, WITHOUT_IT),
        (Held(coming=A), COMING, COMING, COMING),
        (Held(given=A, coming=("Beta",)), COMING, COMING, COMING),
        (Held(waiting=A), WAITS, WAITS, WAITS),
        (Held(resting=A), RESTS, SUSPENDED, RESTS),
        (Held(gone=A), GONE, GONE, GONE),
        # A subscription gives its first access a moment after its first payment was written down.
        (Held(), COMING, SUSPENDED, NEVER),
    ],
)
def test_what_stands_decides_and_not_the_money_alone(held, stands, suspended, ended):
    assert held.in_words(Access.STANDS) == stands
    assert held.in_words(Access.SUSPENDED) == suspended
    assert held.in_words(Access.ENDED) == ended


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (Held(given=A, coming=("B", "C"), gone=("D",)), "to Alpha, B and C. Your access to D has ended."),
        (Held(given=A, resting=("B", "C")), "to Alpha. Your access to B and C is suspended."),
    ],
)
def test_who_keeps_some_of_it_reads_which(lost, said):
    assert all(lost.in_words(own) == f"You keep your access {said}" for own in Access)


class TestHeldBy:
    @pytest.fixture
    def single(self, plan) -> Plan:
        """One of the six strategies, sold alone."""
        made = Plan(slug="single", name="One of them", price_cents=2900, stripe_price_id="price_single")
        database.session.add(made)
        database.session.flush()
        first = database.session.scalars(sa.select(Strategy).order_by(Strategy.position)).first()
        database.session.add(PlanStrategy(plan_id=made.id, strategy_id=first.id))
        database.session.flush()
        return made

    def test_counts_what_any_reason_gives(self, alice, plan):
        served(alice, plan, "purchase:1")
        entitled(alice, plan, "gift:1")
        provisioning.end_entitlement("purchase:1", because="a test", actor="system")

        held = held_by(alice.id, plan)

        assert (len(held.given), held.is_all) == (6, True)

    def test_leaves_out_what_the_plan_does_not_cover(self, alice, plan, single):
        served(alice, plan, "purchase:1")

        assert len(held_by(alice.id, single).given) == 1

    def test_tells_what_another_plan_gives_from_what_has_ended(self, alice, plan, single):
        served(alice, plan, "purchase:1")
        entitled(alice, single, "purchase:2")
        provisioning.end_entitlement("purchase:1", because="a test", actor="system")

        held = held_by(alice.id, plan)

        assert (len(held.given), len(held.gone), held.is_all) == (1, 5, False)

    def test_tells_what_rests_from_what_has_ended(self, alice, plan):
        served(alice, plan, "purchase:1")
        provisioning.suspend("purchase:1", because="a test", actor="system")

        assert (len(held_by(alice.id, plan).resting), held_by(alice.id, plan).rests) == (6, True)

    def test_tells_what_waits_for_its_buyer(self, plan):
        nameless = builders.bob()
        entitled(nameless, plan, "purchase:1")

        assert len(held_by(nameless.id, plan).waiting) == 6
