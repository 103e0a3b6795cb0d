"""`sts events` and `sts replay-webhooks`: what they say, and how they end."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from sts_app.billing.models import Comparison, Purchase, WebhookEvent
from sts_app.billing.rules import EventState
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core.db import db as database
from tests.builders import NOON, count, events, open_page, work

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def paid(alice, plan, till) -> Purchase:
    made = open_page(alice, plan)
    database.session.commit()
    till.pay(made.session_id)
    work("billing")
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


def completed() -> WebhookEvent:
    return next(event for event in events() if event.type == "checkout.session.completed")


class TestEvents:
    def test_are_listed_with_what_they_are_about(self, sts, paid):
        result = sts("events", "list", "--type", "checkout")

        assert result.exit_code == 0
        assert f"handled   checkout.session.completed  {completed().external_id}" in result.output
        assert f"{paid.ref}, alice@customers.example" in result.output

    def test_can_be_narrowed(self, sts, paid):
        given = ("--state", "handled", "--purchase", paid.ref, "--email", "alice@customers.example")

        told = json.loads(sts("events", "list", *given, "--day", "2026-11-21", "--json").output)

        assert {line["purchase"] for line in told} == {paid.ref}
        assert sts("events", "list", "--day", "2026-11-20").output == "There is none.\n"
        assert sts("events", "list", "--id", "evt_nobody").output == "There is none.\n"

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            (("--purchase", "nope"), "There is no purchase nope."),
            (("--email", "nobody@customers.example"), "There is no account with the address nobody@customers.example."),
        ],
    )
    def test_what_nobody_knows_is_no_empty_list(self, sts, paid, given, sentence):
        result = sts("events", "list", *given)

        assert result.exit_code == 1
        assert sentence in result.output

    def test_a_purchase_is_named_by_its_number_as_well(self, sts, paid):
        told = json.loads(sts("events", "list", "--purchase", f"purchase:{paid.id}", "--json").output)

        assert {line["purchase"] for line in told} == {paid.ref}

    def test_come_page_by_page(self, sts, paid):
        first = sts("events", "list", "--limit", "1")
        last = json.loads(sts("events", "list", "--limit", "1", "--json").output)[-1]["id"]

        assert f"add `--after {last}`" in first.output
        rest = json.loads(sts("events", "list", "--after", last, "--json").output)
        assert len(rest) == count(WebhookEvent) - 1

    @pytest.mark.parametrize("given", [("--state", "lost"), ("--day", "today"), ("--limit", "0"), ("--after", "-1")])
    def test_what_cannot_be_meant_is_refused(self, sts, plan, given):
        assert sts("events", "list", *given).exit_code == 2

    def test_one_is_shown_with_its_payload(self, sts, paid):
        output = sts("events", "show", completed().id).output

        assert f"Session       {paid.session_id}" in output
        assert '"type": "checkout.session.completed"' in output
        told = json.loads(sts("events", "show", completed().external_id, "--json").output)
        assert (told["line"]["state"], told["payload"]["id"]) == ("handled", completed().external_id)

    def test_one_whose_payload_is_forgotten(self, sts, paid):
        import sqlalchemy as sa

        database.session.execute(sa.update(WebhookEvent).values(payload=sa.null()))

        assert "Its payload is forgotten" in sts("events", "show", completed().id).output

    def test_one_that_is_not_there(self, sts, plan):
        for words in (("show",), ("replay",), ("ignore", "--reason", "a test")):
            assert sts("events", *words, "evt_nobody").exit_code == 1

    def test_one_is_handled_again(self, sts, paid):
        result = sts("events", "replay", completed().external_id)

        assert (result.exit_code, result.output) == (0, f"{completed().external_id} is handled again.\n")
        assert completed().state == "received"
        work("billing")
        shown = sts("events", "show", completed().id).output
        assert "Staff         21 Nov 2026, 12:00 UTC, cli, replayed" in shown

    def test_one_that_told_something_at_first_says_what_came_of_each_time(self, sts, paid):
        told_news = next(event for event in events() if event.changed)
        assert "it changed something" in sts("events", "show", told_news.id).output
        sts("events", "replay", told_news.id)
        work("billing")

        shown = sts("events", "show", told_news.id).output

        assert "it told nothing new" in shown
        assert "12:00 UTC, after a time before that changed something" in shown
        assert "it changed something" not in shown

    def test_one_that_is_stuck_is_let_be(self, sts, paid):
        stuck = completed()
        stuck.state = EventState.STUCK

        result = sts("events", "ignore", stuck.id, "--reason", "a test")

        assert (result.exit_code, stuck.state) == (0, "ignored")
        assert "ignored: a test" in sts("events", "show", stuck.id).output
        assert sts("events", "ignore", stuck.id, "--reason", "a test").exit_code == 1


class TestReplayWebhooks:
    def test_prints_the_four_counts(self, sts, unheard):
        first = sts("replay-webhooks")
        work("billing")
        second = sts("replay-webhooks")

        stored = count(WebhookEvent)
        assert (first.exit_code, second.exit_code) == (0, 0)
        for words in (
            "From 18 Nov 2026, 12:00 UTC to 21 Nov 2026, 12:00 UTC:",
            f"{stored:>6}  at Stripe\n",
            f"{stored:>6}  stored, {stored} fetched now\n",
            "     0  handled\n",
            "     0  with an effect\n",
            f"{stored:>6}  waiting for the worker\n",
            "which is not paid here. It is looked up again.",
        ):
            assert words in first.output
        for words in (
            f"{stored:>6}  stored, 0 fetched now\n",
            f"{stored:>6}  handled\n",
            "Every payment stands in our books, to the cent.",
        ):
            assert words in second.output
        assert unheard.status == "COMPLETED"

    def test_what_is_stored_and_not_handled_is_explained(self, sts, paid):
        first, second, *rest = (event for event in events() if event.state == EventState.HANDLED)
        first.state, second.state = EventState.IGNORED, EventState.STUCK

        output = sts("replay-webhooks").output

        assert f"{len(rest):>6}  handled\n" in output
        assert "     1  ignored: about nothing that was bought here, or let be by staff\n" in output
        assert "     1  stuck: " in output
        assert "waiting" not in output

    def test_a_dry_run_changes_nothing_and_says_what_a_run_would_change(self, sts, unheard):
        result = sts("replay-webhooks", "--dry-run")

        assert result.exit_code == 1
        assert "     0  stored, " in result.output
        assert "would be fetched" in result.output
        assert "It would be looked up again." in result.output
        assert (count(WebhookEvent), count(Comparison)) == (0, 0)

    def test_for_machines(self, sts, unheard):
        told = json.loads(sts("replay-webhooks", "--json").output)

        assert told["at_stripe"] == told["stored"] == told["fetched"] == count(WebhookEvent)
        assert (told["since"], told["findings"]) == ((NOON - timedelta(days=3)).isoformat(), [])

    def test_a_span_is_given_in_utc(self, sts, unheard):
        told = json.loads(
            sts("replay-webhooks", "--since", "2026-11-20", "--until", "2026-11-21T11:00", "--json").output
        )

        assert (told["since"], told["until"]) == ("2026-11-20T00:00:00+00:00", "2026-11-21T11:00:00+00:00")
        assert told["at_stripe"] == 0

    def test_what_does_not_add_up_is_told_and_ends_with_one(self, sts, paid):
        paid.amount_cents = 9800
        sts("replay-webhooks")

        result = sts("replay-webhooks")

        assert result.exit_code == 1
        assert (
            f"DIFFERS  {paid.intent_id} brought $99.00 for {paid.ref}, which stands here with $98.00." in result.output
        )

    def test_a_provider_that_does_not_answer_is_waited_for(self, sts, plan, till):
        misbehave(till.store, Fault.API_DOWN)

        result = sts("replay-webhooks")

        assert result.exit_code == 75
        assert "Stripe did not answer to the end" in result.output

    def test_a_span_that_cannot_be_is_refused(self, sts, plan, till):
        assert sts("replay-webhooks", "--since", "2026-01-01").exit_code == 1
