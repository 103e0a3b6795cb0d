"""The commands about purchases and refunds: what they say, and how they end."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from sts_app.audit.models import AuditLog
from sts_app.billing.models import Purchase, Refund
from sts_app.core.db import db as database
from tests.builders import NOON, count, open_page, opened, work

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

    @pytest.mark.parametrize(
        ("session_id", "intent_id", "invoice_id", "page"),
        [
            ("cs_test_1", "pi_1", "in_1", "https://dashboard.stripe.com/test/payments/pi_1"),
            ("cs_live_1", "pi_1", "in_1", "https://dashboard.stripe.com/payments/pi_1"),
            ("cs_live_1", None, "in_1", "https://dashboard.stripe.com/invoices/in_1"),
            (None, "pi_1", "in_1", "https://dashboard.stripe.com/test/payments/pi_1"),
            ("cs_live_1", None, None, None),
        ],
    )
    def test_tells_where_it_stands_in_stripes_dashboard(
        self, app, sts, alice, plan, till, monkeypatch, session_id, intent_id, invoice_id, page
    ):
        made = opened(alice, plan)
        made.session_id, made.intent_id, made.invoice_id = session_id, intent_id, invoice_id
        database.session.flush()
        key = SecretStr("sk_test_of_nobody")
        changes = {"payments_vendor": "live", "stripe_secret_key": key}
        monkeypatch.setitem(app.config, "STS", app.config["STS"].model_copy(update=changes))

        assert json.loads(sts("purchases", "show", made.ref, "--json").output)["at_stripe"] == page
        assert ("At Stripe" in sts("purchases", "show", made.ref).output) == (page is not None)

    def test_of_a_simulated_payment_the_desk_is_shown(self, sts, purchase):
        assert "/dev/stripe/\n" in sts("purchases", "show", purchase.ref).output

    @pytest.mark.parametrize("name", ["pur_nobody", "4711", "9" * 30])
    def test_one_that_is_not_there(self, sts, plan, name):
        result = sts("purchases", "show", name)

        assert result.exit_code == 1
        assert f"Error: There is no purchase {name}." in result.output

    def test_are_found_by_the_buyers_address(self, sts, purchase, bob, plan):
        others = opened(bob, plan)

        mine = sts("purchases", "list", " Alice@customers.example")
        everybodys = json.loads(sts("purchases", "list", "--json").output)

        assert mine.exit_code == 0
        assert f"COMPLETED, access stands, $99.00, {purchase.ref}" in mine.output
        assert others.ref not in mine.output
        assert [line["ref"] for line in everybodys] == [others.ref, purchase.ref]

    def test_of_an_address_that_nobody_has(self, sts, plan):
        result = sts("purchases", "list", "nobody@customers.example")

        assert result.exit_code == 1
        assert "There is no account with the address nobody@customers.example." in result.output

    def test_one_is_called_as_the_record_of_deeds_calls_it(self, sts, purchase):
        assert purchase.ref in sts("purchases", "show", f"purchase:{purchase.id}").output


class TestRefunds:
    def test_all_that_is_left_goes_back(self, sts, purchase):
        result = sts("refunds", "ask", purchase.ref, "--yes", *REASON)
        work("billing")

        assert result.exit_code == 0
        assert result.output.endswith(f"Refund {refund().id} of $99.00 goes out for {purchase.ref}.\n")
        assert purchase.status == "REFUNDED"
        assert (refund().asked_by, refund().reason) == ("cli", "a test")

    def test_before_money_moves_it_is_said_what_that_does(self, sts, purchase):
        result = sts("refunds", "ask", purchase.ref, *REASON)

        assert result.exit_code == 1
        for words in (
            f"$99.00 of {purchase.ref}, STS Strategies - Lifetime Access, goes back to alice@customers.example.",
            "the access that it gives ends: NQ Momentum Alpha, ",
            "Go ahead? [y/N]",
        ):
            assert words in result.output
        assert count(Refund) == 0

    def test_of_a_part_it_is_said_what_stays(self, sts, purchase):
        output = sts("refunds", "ask", purchase.ref, "--amount", "10", *REASON).output

        assert "$89.00 of it is left then." in output
        assert f"is decided afterwards, by `sts refunds decide {purchase.id}`." in output

    def test_what_would_be_refused_is_refused_before_anybody_is_asked(self, sts, purchase, till):
        till.open_dispute(purchase.session_id)
        work("billing")

        output = sts("refunds", "ask", purchase.ref, *REASON).output

        assert "Error: The payment is disputed" in output
        assert "Go ahead?" not in output

    @pytest.mark.parametrize(("amount", "cents"), [("10", 1000), ("10.5", 1050), ("0.01", 1), ("99.00", 9900)])
    def test_a_part_is_said_as_people_write_it(self, sts, purchase, amount, cents):
        result = sts("refunds", "ask", purchase.id, "--amount", amount, "--kind", "duplicate", "--yes", *REASON)

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
        assert "$100.00 is more than the $99.00 that is left." in result.output

    def test_a_reason_is_needed(self, sts, purchase):
        assert sts("refunds", "ask", purchase.id).exit_code == 2

    def test_are_listed_newest_first_page_by_page(self, sts, purchase):
        for amount in ("1", "2", "3"):
            sts("refunds", "ask", purchase.id, "--amount", amount, "--yes", *REASON)

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
