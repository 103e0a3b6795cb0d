"""The commands about disputes, their evidence, and withdrawals: what they say, and how they end."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.billing import inbox, withdrawals
from sts_app.billing.gateway import Refused
from sts_app.billing.models import Dispute, Purchase, Withdrawal
from sts_app.core.db import db as database
from tests.builders import NOON, in_a_transaction, open_page, work

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def purchase(alice, plan, till) -> Purchase:
    made = open_page(alice, plan)
    database.session.commit()
    till.pay(made.session_id)
    work()
    return made


@pytest.fixture
def dispute(purchase, till) -> Dispute:
    till.open_dispute(purchase.session_id)
    work("billing")
    return database.session.scalars(sa.select(Dispute)).one()


class TestDisputes:
    def test_are_listed_and_shown(self, sts, dispute):
        assert dispute.external_id in sts("disputes", "list").output
        shown = sts("disputes", "show", dispute.id)
        assert shown.exit_code == 0
        assert "needs_response" in shown.output
        assert "evidence is asked for, due by 30 Nov 2026" in shown.output

    def test_for_machines(self, sts, dispute, purchase):
        told = json.loads(sts("disputes", "show", dispute.external_id, "--json").output)

        assert (told["id"], told["purchase"], told["submissions"]) == (dispute.id, purchase.ref, 0)
        assert json.loads(sts("disputes", "list", "--json").output) == [told]

    @pytest.mark.parametrize("name", ["dp_nobody", "4711", "9" * 30])
    def test_one_that_is_not_there(self, sts, plan, name):
        assert sts("disputes", "show", name).exit_code == 1


class TestEvidence:
    def test_is_shown_as_it_would_be_handed_in(self, sts, dispute, purchase):
        result = sts("disputes", "evidence", dispute.id)

        assert result.exit_code == 0
        for words in (
            dispute.external_id,
            purchase.ref,
            "$99.00",
            "203.0.113.7",
            "All sales are final",
            "access given: ",
            "Your purchase: ",
            "Sign-ins\n        none",
        ):
            assert words in result.output

    def test_for_machines(self, sts, dispute, purchase):
        told = json.loads(sts("disputes", "evidence", dispute.external_id, "--json").output)

        assert (told["dispute"]["id"], told["receipt"]["reference"]) == (dispute.external_id, purchase.ref)

    def test_as_a_file_for_its_owner_alone(self, sts, dispute, tmp_path):
        file = tmp_path / "evidence.pdf"

        result = sts("disputes", "evidence", dispute.id, "--pdf", file)

        assert result.exit_code == 0
        assert file.read_bytes().startswith(b"%PDF-")
        assert file.stat().st_mode & 0o077 == 0

    def test_a_file_that_is_there_stays_unless_told_otherwise(self, sts, dispute, tmp_path):
        file = tmp_path / "evidence.pdf"
        file.write_text("something else" * 10_000)

        refused = sts("disputes", "evidence", dispute.id, "--pdf", file)
        assert (refused.exit_code, file.read_text()[:9]) == (1, "something")
        assert "--force" in refused.output

        assert sts("disputes", "evidence", dispute.id, "--pdf", file, "--force").exit_code == 0
        assert file.read_bytes().startswith(b"%PDF-")
        assert b"something" not in file.read_bytes()

    def test_where_no_file_can_be_written(self, sts, dispute, tmp_path):
        result = sts("disputes", "evidence", dispute.id, "--pdf", tmp_path / "nowhere" / "evidence.pdf")

        assert result.exit_code == 1
        assert "cannot be written" in result.output

    @pytest.mark.parametrize("words", [("--json", "--pdf", "evidence.pdf"), ("--force",)])
    def test_options_that_say_nothing_together_are_refused(self, sts, dispute, words):
        assert sts("disputes", "evidence", dispute.id, *words).exit_code == 2

    @pytest.mark.parametrize("command", ["evidence", "submit"])
    def test_of_a_dispute_that_is_not_there(self, sts, plan, command):
        assert sts("disputes", command, "dp_nobody").exit_code == 1

    def test_what_was_handed_in_is_shown_as_it_was(self, sts, dispute, clock):
        sts("disputes", "submit", dispute.id, "--yes")
        on_its_way = json.loads(sts("disputes", "evidence", dispute.id, "--json").output)
        clock.shift(timedelta(hours=1))
        work("billing")
        clock.shift(timedelta(days=1))

        sent = json.loads(sts("disputes", "evidence", dispute.id, "--json").output)

        assert sent == on_its_way
        assert sent["gathered_at"] == NOON.isoformat()


class TestHandingEvidenceIn:
    def standing(self, sts, dispute: Dispute) -> str:
        return json.loads(sts("disputes", "show", dispute.id, "--json").output)["evidence"]

    def test_says_what_and_until_when_and_leaves_it_to_the_worker(self, sts, dispute, till):
        result = sts("disputes", "submit", dispute.external_id, "--yes")

        assert result.exit_code == 0
        for words in ("1 consent", "it is due by", "The worker hands it in"):
            assert words in result.output
        assert till.look_up_dispute(dispute.external_id).submissions == 0
        assert self.standing(sts, dispute) == "on its way"

        work("billing")
        assert till.look_up_dispute(dispute.external_id).submissions == 1
        assert self.standing(sts, dispute) == "handed in"
        assert "handed in by cli, as gathered on 21 Nov 2026, 12:00 UTC" in sts("disputes", "show", dispute.id).output

    def test_asks_first_and_keeps_nothing_without_a_yes(self, sts, dispute):
        result = sts("disputes", "submit", dispute.id)

        assert result.exit_code == 1
        assert "Go ahead?" in result.output
        assert dispute.evidence_ref is None
        assert self.standing(sts, dispute) == "asked for"

    def test_twice_is_refused_before_anything_is_asked(self, sts, dispute):
        sts("disputes", "submit", dispute.id, "--yes")

        result = sts("disputes", "submit", dispute.id)

        assert result.exit_code == 1
        assert "handed in already, or is on its way" in result.output
        assert "Go ahead?" not in result.output

    def test_after_its_time_it_is_too_late(self, sts, dispute, clock):
        clock.move_to(dispute.due_by)

        assert sts("disputes", "submit", dispute.id, "--yes").exit_code == 1
        assert self.standing(sts, dispute) == "too late"
        assert "asked for and not sent" in sts("disputes", "show", dispute.id).output

    def test_of_a_decided_dispute_none_is_asked_for(self, sts, dispute, till):
        till.move_dispute(dispute.external_id, "won")
        work("billing")

        assert sts("disputes", "submit", dispute.id, "--yes").exit_code == 1
        assert self.standing(sts, dispute) == "not asked for"

    def test_what_stripe_refused_is_said_and_may_be_handed_in_again(self, sts, dispute):
        sts("disputes", "submit", dispute.id, "--yes")
        submitting = in_a_transaction(inbox.claim_next)
        submitting.trouble = Refused("submit_evidence: a field is too long")
        in_a_transaction(submitting.settle)

        shown = sts("disputes", "show", dispute.id).output
        assert "evidence was not accepted" in shown
        assert "a field is too long" in shown

        assert sts("disputes", "submit", dispute.id, "--yes").exit_code == 0
        work("billing")
        assert self.standing(sts, dispute) == "handed in"

    def test_what_was_handed_in_at_stripe_is_known(self, sts, dispute):
        dispute.submissions, dispute.status = 1, "under_review"

        assert "handed in at Stripe" in sts("disputes", "show", dispute.id).output


class TestWithdrawals:
    @pytest.fixture
    def withdrawal(self, purchase, alice) -> Withdrawal:
        return in_a_transaction(lambda: withdrawals.declare(alice, purchase.id, name="Alice", address="203.0.113.7"))

    def test_those_that_wait_are_listed(self, sts, withdrawal, purchase):
        assert f"waits     {purchase.ref}, alice@customers.example" in sts("withdrawals", "list").output
        [told] = json.loads(sts("withdrawals", "list", "--json").output)
        assert (told["id"], told["name"], told["verdict"]) == (withdrawal.id, "Alice", None)

    def test_accepted_the_money_goes_back(self, sts, withdrawal, purchase):
        result = sts("withdrawals", "accept", withdrawal.id, "--yes")
        work("billing")

        assert result.exit_code == 0
        assert (withdrawal.verdict, withdrawal.decided_by, purchase.status) == ("accepted", "cli", "REFUNDED")
        assert sts("withdrawals", "list").output == "There is none.\n"
        assert "accepted" in sts("withdrawals", "list", "--all").output

    def test_before_it_is_accepted_it_is_said_what_that_does(self, sts, withdrawal, purchase):
        result = sts("withdrawals", "accept", withdrawal.id)

        assert result.exit_code == 1
        assert f"$99.00 of {purchase.ref}" in result.output
        assert "goes back to alice@customers.example." in result.output
        assert "the access that it gives ends: NQ Momentum Alpha, " in result.output
        assert (withdrawal.verdict, purchase.status) == (None, "COMPLETED")

    def test_nobody_is_asked_about_money_that_a_bank_decides(self, sts, withdrawal, purchase, till):
        till.open_dispute(purchase.session_id)
        work("billing")

        result = sts("withdrawals", "accept", withdrawal.id)

        assert result.exit_code == 1
        assert "Error: The payment is disputed" in result.output
        assert "Go ahead?" not in result.output

    def test_one_of_which_all_went_back_before_is_accepted(self, sts, withdrawal, purchase, till):
        till.give_back(purchase.session_id)
        work("billing")

        result = sts("withdrawals", "accept", withdrawal.id, "--yes")

        assert f"All of {purchase.ref} went back before." in result.output
        assert withdrawal.verdict == "accepted"

    def test_refused_with_the_reason_the_customer_reads(self, sts, withdrawal):
        result = sts("withdrawals", "refuse", withdrawal.id, "--reason", "a test")

        assert result.exit_code == 0
        assert (withdrawal.verdict, withdrawal.note) == ("refused", "a test")
        assert sts("withdrawals", "accept", withdrawal.id, "--yes").exit_code == 1
        assert "(cli: a test)" in sts("withdrawals", "list", "--all").output

    def test_one_that_is_not_there(self, sts, plan):
        assert sts("withdrawals", "accept", 4711).exit_code == 1
        assert sts("withdrawals", "refuse", 4711, "--reason", "a test").exit_code == 1
