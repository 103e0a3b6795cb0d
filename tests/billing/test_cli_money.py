"""The commands about purchases, refunds, disputes and withdrawals: what they say, and how they end."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.billing import withdrawals
from sts_app.billing.models import Dispute, Purchase, Refund, Withdrawal
from sts_app.core.db import db as database
from tests.builders import NOON, in_a_transaction, open_page, work

pytestmark = pytest.mark.usefixtures("clock")

REASON = ("--reason", "a test")


@pytest.fixture
def purchase(alice, plan, till) -> Purchase:
    made = open_page(alice, plan)
    database.session.commit()
    till.pay(made.session_id)
    work("billing")
    return made


def refund() -> Refund:
    return database.session.scalars(sa.select(Refund)).one()


def actors(action: str) -> set[str]:
    return set(database.session.scalars(sa.select(AuditLog.actor).where(AuditLog.action == action)))


class TestPurchases:
    def test_shows_where_the_money_is(self, sts, purchase, till):
        till.give_back(purchase.session_id, 1000)
        till.open_dispute(purchase.session_id)
        work("billing")

        result = sts("purchases", "show", purchase.ref)

        assert result.exit_code == 0
        for words in (
            f"{purchase.ref}, lifetime, alice@customers.example",
            "PARTIALLY_REFUNDED, access suspended",
            "$99.00, $10.00 given back",
            purchase.intent_id,
            "refund of $10.00",
            "dispute of ",
        ):
            assert words in result.output

    def test_by_number_and_for_machines(self, sts, purchase):
        told = json.loads(sts("purchases", "show", purchase.id, "--json").output)

        assert (told["ref"], told["status"], told["left_cents"]) == (purchase.ref, "COMPLETED", 9900)
        assert (told["paid_at"], told["refunds"]) == (NOON.isoformat(), [])

    @pytest.mark.parametrize("name", ["pur_nobody", "4711", "9" * 30])
    def test_one_that_is_not_there(self, sts, plan, name):
        result = sts("purchases", "show", name)

        assert (result.exit_code, result.output) == (1, f"Error: There is no purchase {name}.\n")


class TestRefunds:
    def test_all_that_is_left_goes_back(self, sts, purchase):
        result = sts("refunds", "ask", purchase.ref, *REASON)
        work("billing")

        assert (result.exit_code, result.output) == (
            0,
            f"Refund {refund().id} of $99.00 goes out for {purchase.ref}.\n",
        )
        assert purchase.status == "REFUNDED"
        assert (refund().asked_by, refund().reason) == ("cli", "a test")

    @pytest.mark.parametrize(("amount", "cents"), [("10", 1000), ("10.5", 1050), ("0.01", 1), ("99.00", 9900)])
    def test_a_part_is_said_as_people_write_it(self, sts, purchase, amount, cents):
        result = sts("refunds", "ask", purchase.id, "--amount", amount, "--kind", "duplicate", *REASON)

        assert result.exit_code == 0
        assert (refund().amount_cents, refund().request["reason"]) == (cents, "duplicate")

    @pytest.mark.parametrize("amount", ["0", "-1", "1.999", "a lot", "NaN", "Infinity", "1e40", ""])
    def test_what_is_no_amount_is_refused(self, sts, purchase, amount):
        result = sts("refunds", "ask", purchase.id, "--amount", amount, *REASON)

        assert result.exit_code == 2
        assert "write it as 19.90" in result.output

    def test_more_than_there_is_is_refused(self, sts, purchase):
        result = sts("refunds", "ask", purchase.id, "--amount", "100", *REASON)

        assert result.exit_code == 1
        assert "at most $99.00" in result.output

    def test_a_reason_is_needed(self, sts, purchase):
        assert sts("refunds", "ask", purchase.id).exit_code == 2

    def test_are_listed_newest_first_page_by_page(self, sts, purchase):
        for amount in ("1", "2", "3"):
            sts("refunds", "ask", purchase.id, "--amount", amount, *REASON)

        first = json.loads(sts("refunds", "list", "--limit", "2", "--json").output)
        rest = sts("refunds", "list", "--before", first[-1]["id"]).output

        assert [line["amount_cents"] for line in first] == [300, 200]
        assert "intended" in rest
        assert "refund of $1.00" in rest
        assert "asked by cli: a test" in rest
        assert "There may be more" in sts("refunds", "list", "--limit", "2").output

    def test_an_empty_list_says_so(self, sts, plan):
        assert sts("refunds", "list").output == "There is none.\n"

    def test_a_part_that_went_back_is_decided(self, sts, purchase, till):
        till.give_back(purchase.session_id, 1000)
        work("billing")

        ended = sts("refunds", "decide", purchase.id, "--end-access", *REASON)
        assert (ended.output, purchase.access) == (f"Access of {purchase.ref} ends.\n", "ended")
        kept = sts("refunds", "decide", purchase.ref, "--keep-access", *REASON)
        assert (kept.output, purchase.access) == (f"Access of {purchase.ref} stays.\n", "stands")
        assert sts("refunds", "decide", purchase.ref, "--keep-access", *REASON).exit_code == 1
        assert actors("billing.part_end") == {"cli"}

    def test_a_decision_says_one_or_the_other(self, sts, purchase):
        assert sts("refunds", "decide", purchase.id, *REASON).exit_code == 2


class TestDisputes:
    @pytest.fixture
    def dispute(self, purchase, till) -> Dispute:
        till.open_dispute(purchase.session_id)
        work("billing")
        return database.session.scalars(sa.select(Dispute)).one()

    def test_are_listed_and_shown(self, sts, dispute):
        assert dispute.external_id in sts("disputes", "list").output
        shown = sts("disputes", "show", dispute.id)
        assert shown.exit_code == 0
        assert "needs_response" in shown.output
        assert "evidence is due by" in shown.output

    def test_for_machines(self, sts, dispute, purchase):
        told = json.loads(sts("disputes", "show", dispute.external_id, "--json").output)

        assert (told["id"], told["purchase"], told["submissions"]) == (dispute.id, purchase.ref, 0)
        assert json.loads(sts("disputes", "list", "--json").output) == [told]

    @pytest.mark.parametrize("name", ["dp_nobody", "4711", "9" * 30])
    def test_one_that_is_not_there(self, sts, plan, name):
        assert sts("disputes", "show", name).exit_code == 1


class TestWithdrawals:
    @pytest.fixture
    def withdrawal(self, purchase, alice) -> Withdrawal:
        return in_a_transaction(lambda: withdrawals.declare(alice, purchase.id, name="Alice", address="203.0.113.7"))

    def test_those_that_wait_are_listed(self, sts, withdrawal, purchase):
        assert f"waits     {purchase.ref}, alice@customers.example" in sts("withdrawals", "list").output
        [told] = json.loads(sts("withdrawals", "list", "--json").output)
        assert (told["id"], told["name"], told["verdict"]) == (withdrawal.id, "Alice", None)

    def test_accepted_the_money_goes_back(self, sts, withdrawal, purchase):
        result = sts("withdrawals", "accept", withdrawal.id)
        work("billing")

        assert result.exit_code == 0
        assert (withdrawal.verdict, withdrawal.decided_by, purchase.status) == ("accepted", "cli", "REFUNDED")
        assert sts("withdrawals", "list").output == "There is none.\n"
        assert "accepted" in sts("withdrawals", "list", "--all").output

    def test_refused_with_the_reason_the_customer_reads(self, sts, withdrawal):
        result = sts("withdrawals", "refuse", withdrawal.id, "--because", "a test")

        assert result.exit_code == 0
        assert (withdrawal.verdict, withdrawal.note) == ("refused", "a test")
        assert sts("withdrawals", "accept", withdrawal.id).exit_code == 1
        assert "(cli: a test)" in sts("withdrawals", "list", "--all").output

    def test_one_that_is_not_there(self, sts, plan):
        assert sts("withdrawals", "accept", 4711).exit_code == 1
        assert sts("withdrawals", "refuse", 4711, "--because", "a test").exit_code == 1
