"""Money given back by the store: asked for once, sent once, and what the bank makes of it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.billing import covered, inbox, queries, refunds, settling
from sts_app.billing.gateway import Refused, TryLater
from sts_app.billing.models import Purchase, Refund
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from tests.builders import grants, holders, in_a_transaction, kinds, letters, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"


@pytest.fixture
def bought(alice, plan, till) -> Purchase:
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    assert len(holders()) == 6
    return purchase


def ask(purchase: Purchase, cents: int | None = None, **more) -> Refund:
    given = {"reason": "a test", "actor": SAM, "amount_cents": cents} | more
    return in_a_transaction(lambda: refunds.ask(purchase.id, **given))


def made(till) -> int:
    """Cents that went back at the provider, whoever asked for it."""
    return till.books().refunded


def rows() -> list[Refund]:
    return list(database.session.scalars(sa.select(Refund).order_by(Refund.id)))


class TestAsking:
    def test_all_that_is_left_goes_back_and_access_ends(self, bought, till):
        ask(bought)

        work()

        assert (bought.status, bought.access, bought.refunded_cents) == ("REFUNDED", "ended", 9900)
        assert (made(till), holders()) == (9900, set())
        assert [(row.state, row.amount_cents, row.asked_by) for row in rows()] == [("succeeded", 9900, SAM)]
        assert kinds().count("refund_notice") == 1

    def test_the_intent_stands_before_the_provider_hears_of_it(self, bought, till):
        ask(bought)

        assert [(row.state, row.external_id) for row in rows()] == [("intended", None)]
        assert (made(till), bought.status) == (0, "COMPLETED")
        work("billing")

    def test_a_part_keeps_access_and_asks_staff(self, bought, till):
        ask(bought, 4000)

        work()

        assert (bought.status, bought.access, bought.refunded_cents) == ("PARTIALLY_REFUNDED", "stands", 4000)
        assert len(holders()) == 6
        assert kinds().count("admin_partial_refund") == 1

    def test_parts_that_reach_the_total_are_a_full_refund(self, bought, till):
        ask(bought, 4000)
        work()
        ask(bought, 5900)
        work()

        assert (bought.status, bought.access, holders()) == ("REFUNDED", "ended", set())

    def test_who_asked_and_why_is_kept(self, bought):
        ask(bought, 100, reason="  goodwill ")

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "billing.refund_asked")).one()
        assert (line.actor, line.details["cents"], line.details["reason"]) == (SAM, 100, "goodwill")
        work("billing")

    def test_without_a_reason_nothing_goes_back(self, bought):
        with pytest.raises(FixInput, match="reason"):
            ask(bought, reason="  ")

    @pytest.mark.parametrize(
        ("cents", "words"),
        [
            (0, "more than nothing"),
            (-1, "more than nothing"),
            (9901, r"\$99\.01 is more than the \$99\.00 that is left"),
        ],
    )
    def test_an_amount_out_of_what_is_left_is_refused(self, bought, cents, words):
        with pytest.raises(FixInput, match=words):
            ask(bought, cents)

    def test_what_is_intended_is_not_left_any_more(self, bought):
        ask(bought, 9000)

        with pytest.raises(FixInput, match=r"9\.00"):
            ask(bought, 1000)
        work("billing")

    def test_what_is_back_is_not_given_twice(self, bought):
        ask(bought)
        work("billing")

        with pytest.raises(refunds.CannotRefund, match="All of this"):
            ask(bought)

    def test_an_unpaid_purchase_has_nothing_to_give_back(self, bob, plan, till):
        with pytest.raises(refunds.CannotRefund, match="No money"):
            ask(open_page(bob, plan))

    def test_a_disputed_payment_is_the_banks(self, bought, till):
        till.open_dispute(bought.session_id)
        work("billing")

        with pytest.raises(refunds.CannotRefund, match="disputed"):
            ask(bought)

    def test_an_unknown_purchase_is_not_there(self, db):
        with pytest.raises(NotThere):
            in_a_transaction(lambda: refunds.ask(99, reason="x", actor=SAM))


class TestSending:
    def test_an_answer_that_was_lost_is_no_second_refund(self, bought, till, clock):
        ask(bought, 4000)
        misbehave(till.store, Fault.LOSE_ANSWER)
        work("billing")
        assert [row.external_id for row in rows() if row.ref] in ([None], [rows()[0].external_id])

        behave(till.store)
        clock.shift(timedelta(minutes=1))
        work("billing")

        assert (made(till), bought.refunded_cents, len(rows())) == (4000, 4000, 1)

    def test_a_worker_that_died_after_the_answer_is_no_second_refund(self, app, bought, till, clock):
        ask(bought, 4000)
        sending = in_a_transaction(inbox.claim_next)
        sending.call(till)
        assert sending.made is not None  # and nobody ever settles it

        clock.shift(timedelta(seconds=app.config["STS"].lease_seconds))
        work("billing")

        assert (made(till), bought.refunded_cents, len(rows())) == (4000, 4000, 1)

    def test_a_key_the_provider_may_have_forgotten_is_not_trusted(self, app, bought, till, clock):
        misbehave(till.store, Fault.DROP)
        ask(bought, 4000)
        sending = in_a_transaction(inbox.claim_next)
        sending.call(till)
        clock.shift(timedelta(days=2))
        till.store.delete("key", sending.key)

        work("billing")

        assert (made(till), bought.refunded_cents, len(rows())) == (4000, 4000, 1)

    def test_a_late_worker_changes_nothing(self, app, bought, till, clock):
        ask(bought, 4000)
        late = in_a_transaction(inbox.claim_next)
        clock.shift(timedelta(seconds=app.config["STS"].lease_seconds))
        work("billing")

        late.trouble = Refused("no")
        in_a_transaction(late.settle)

        assert [row.state for row in rows()] == ["succeeded"]

    def test_an_outage_is_waited_out(self, bought, till, clock):
        misbehave(till.store, Fault.API_DOWN)
        ask(bought)
        waited = []
        for _ in range(7):
            work("billing")
            waited.append((rows()[0].next_attempt_at - time_source.now()).total_seconds())
            clock.shift(timedelta(seconds=waited[-1]))
        behave(till.store)
        work("billing")

        assert waited == [10, 30, 120, 600, 1800, 3600, 3600]
        assert bought.status == "REFUNDED"

    def test_the_providers_own_failure_is_asked_about_under_a_new_key(self, bought, till, clock):
        refund = ask(bought)
        first = in_a_transaction(inbox.claim_next)
        first.trouble = TryLater("500", answered=True)
        in_a_transaction(first.settle)
        clock.shift(timedelta(minutes=1))

        second = in_a_transaction(inbox.claim_next)

        assert (second.look_first, second.key != first.key) == (True, True)
        second.call(till)
        in_a_transaction(second.settle)
        assert refund.state == "succeeded"

    def test_the_providers_no_is_final_and_staff_hear_of_it(self, bought, till):
        till.give_back(bought.session_id)
        refund = ask(bought)

        work("billing")

        assert refund.state == "refused"
        assert kinds().count("admin_refund_refused") == 1
        assert (bought.status, made(till)) == ("REFUNDED", 9900)


class TestOtherStates:
    def test_a_refund_on_its_way_counts(self, bought, till):
        till.next_refund("pending")
        ask(bought)

        work()

        assert (rows()[0].state, bought.status, holders()) == ("pending", "REFUNDED", set())

    def test_a_refund_that_fails_restores_the_purchase_and_its_access(self, bought, till):
        till.next_refund("pending")
        ask(bought)
        work()

        till.move_refund(rows()[0].external_id, "failed")
        work()

        assert (rows()[0].state, bought.status, bought.access) == ("failed", "COMPLETED", "stands")
        assert (bought.refunded_cents, len(holders()), made(till)) == (0, 6, 0)
        assert {"refund_failed", "admin_refund_failed"} <= set(kinds())
        assert {grant.state for grant in grants()} == {"verified"}

    def test_a_refund_made_at_the_provider_is_a_row_as_well(self, bought, till):
        till.give_back(bought.session_id, 2500)

        work("billing")

        assert [(row.asked_by, row.ref, row.amount_cents) for row in rows()] == [("stripe", None, 2500)]
        assert (bought.status, queries.sums().kept) == ("PARTIALLY_REFUNDED", 7400)

    def test_the_ledger_says_what_the_providers_books_say(self, bought, till):
        till.give_back(bought.session_id, 2500)
        ask(bought, 400)
        work("billing")

        ours, theirs = queries.sums(), till.books()
        assert (ours.received, ours.refunded, ours.withheld) == (theirs.charged, theirs.refunded, theirs.withheld)


class TestMoneyThatStaysAfterAll:
    def test_a_payment_that_was_refunded_before_anybody_heard_of_it_gives_access_when_the_refund_fails(
        self, alice, plan, till
    ):
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        refund_id = till.give_back(purchase.session_id, status="pending")
        work()
        assert (purchase.status, holders()) == ("REFUNDED", set())

        till.move_refund(refund_id, "failed")
        work()

        assert (purchase.status, purchase.access) == ("COMPLETED", "stands")
        assert len(holders()) == 6
        assert kinds().count("purchase_confirmation") == 1


class TestLifetimeAccessThatStandsAgain:
    """Its refund failed, and its buyer has bought anew meanwhile."""

    @pytest.fixture
    def refund_id(self, bought, till) -> str:
        refund_id = till.give_back(bought.session_id, status="pending")
        work()
        assert (bought.access, holders()) == ("ended", set())
        return refund_id

    def buy(self, till, alice, plan) -> Purchase:
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work()
        return purchase

    def test_it_ends_a_subscription_begun_meanwhile_before_it_is_charged_again(
        self, bought, refund_id, alice, monthly, till
    ):
        month = self.buy(till, alice, monthly)

        till.move_refund(refund_id, "failed")
        work()

        assert [each.facts.status for each in till.subscriptions()] == ["canceled"]
        assert (bought.access, month.duplicate_of_id, len(holders())) == ("stands", None, 6)
        assert "It ended because what you bought for good stands again." in letters("subscription_ended")[0].text

    @pytest.mark.parametrize("meanwhile", ["monthly", "plan"])
    def test_staff_hear_of_what_was_bought_meanwhile(self, request, refund_id, alice, till, meanwhile):
        other = self.buy(till, alice, request.getfixturevalue(meanwhile))

        till.move_refund(refund_id, "failed")
        work()

        [letter] = letters("admin_held_twice")
        assert other.ref in letter.text
        assert "admin_refund_failed" in kinds()

    def test_without_another_holding_staff_hear_of_the_refund_alone(self, bought, refund_id, till):
        till.move_refund(refund_id, "failed")
        work()

        assert (bought.access, "admin_held_twice" in kinds()) == ("stands", False)


class TestAPart:
    @pytest.fixture
    def part(self, bought, till) -> Purchase:
        ask(bought, 4000)
        work()
        return bought

    def decide(self, purchase: Purchase, keeps: bool) -> None:
        in_a_transaction(lambda: refunds.decide_part(purchase.id, keeps_access=keeps, reason="so be it", actor=SAM))

    def test_staff_may_end_the_access(self, part):
        self.decide(part, keeps=False)
        work()

        assert (part.status, part.access, holders()) == ("PARTIALLY_REFUNDED", "ended", set())

    def test_and_think_better_of_it(self, part):
        self.decide(part, keeps=False)
        work()

        self.decide(part, keeps=True)
        work()

        assert (part.access, len(holders())) == ("stands", 6)

    def test_what_is_decided_is_not_decided_again(self, part):
        self.decide(part, keeps=True)

        with pytest.raises(AlreadyDone):
            self.decide(part, keeps=True)

    def test_what_was_decided_of_a_refund_that_failed_says_nothing_of_a_later_one(self, bought, till):
        refund_id = till.give_back(bought.session_id, 4000, status="pending")
        work()
        self.decide(bought, keeps=False)
        work()
        till.move_refund(refund_id, "failed")
        work()
        assert (bought.access, bought.partial_verdict, bought.partial_verdict_cents) == ("stands", None, None)
        asked = kinds().count("admin_partial_refund")

        ask(bought, 500)
        work()

        assert (bought.access, len(holders())) == ("stands", 6)
        assert kinds().count("admin_partial_refund") == asked + 1

    def test_what_was_decided_holds_while_a_part_is_away(self, part, till):
        refund_id = till.give_back(part.session_id, 500, status="pending")
        work()
        self.decide(part, keeps=False)
        work()

        till.move_refund(refund_id, "failed")
        work()

        assert (part.access, part.partial_verdict) == ("ended", "end")

    def test_where_no_part_went_back_there_is_nothing_to_decide(self, bought):
        with pytest.raises(refunds.CannotRefund):
            self.decide(bought, keeps=False)


class TestDisputes:
    def test_one_that_is_opened_suspends_access_and_tells_both_sides(self, bought, till):
        till.open_dispute(bought.session_id)

        work()

        assert (bought.status, bought.access, holders()) == ("COMPLETED", "suspended", set())
        assert {"dispute_opened", "admin_dispute"} <= set(kinds())
        assert queries.sums().kept == 0

    @pytest.mark.parametrize(("verdict", "held", "kept"), [("won", 6, 9900), ("lost", 0, 0)])
    def test_the_banks_word_decides(self, bought, till, verdict, held, kept):
        dispute = till.open_dispute(bought.session_id)
        work()

        till.move_dispute(dispute, verdict)
        work()

        assert (len(holders()), queries.sums().kept) == (held, kept)
        assert kinds().count(f"dispute_{verdict}") == 1
        assert bought.access == ("stands" if verdict == "won" else "ended")

    def test_an_inquiry_takes_nothing_and_tells_staff(self, bought, till):
        till.open_dispute(bought.session_id, "warning_needs_response")

        work()

        assert (bought.access, len(holders())) == ("stands", 6)
        assert "admin_dispute" in kinds()
        assert "dispute_opened" not in kinds()

    def test_one_opened_before_anybody_looked_gives_no_access_and_keeps_the_reason(self, alice, plan, till):
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        till.open_dispute(purchase.session_id)

        work()

        assert (purchase.status, purchase.access, holders()) == ("COMPLETED", "suspended", set())

    def test_a_suspended_buyer_owns_it_still(self, bought, alice, plan, till):
        till.open_dispute(bought.session_id)
        work()

        assert covered.owns(alice.id, plan)

    def test_each_letter_comes_once(self, bought, till):
        till.open_dispute(bought.session_id)
        work()
        for each in till.events():
            till.redeliver(each.id)
        work()

        assert [letter.kind for letter in letters() if "dispute" in letter.kind] == ["dispute_opened", "admin_dispute"]


class TestADeploy:
    @pytest.mark.breaks_invariants
    def test_what_older_code_completed_is_reckoned_by_the_sweep(self, bought, plan, alice):
        bought.access = "none"
        database.session.commit()
        assert not covered.owns(alice.id, plan)

        for purchase_id in settling.left_behind():
            in_a_transaction(partial(settling.reckon, purchase_id))

        assert (bought.access, covered.owns(alice.id, plan), settling.left_behind()) == ("stands", True, [])
