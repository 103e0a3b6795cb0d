"""What shows in a dispute that somebody bought, agreed and received; and that it is handed in once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.accounts.models import UserSession
from sts_app.audit.models import AuditLog
from sts_app.billing import evidence, inbox
from sts_app.billing.evidence import Standing
from sts_app.billing.evidence_pdf import as_pdf
from sts_app.billing.gateway import EvidenceRequest, Refused
from sts_app.billing.models import Dispute
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone, NotThere
from sts_app.ops import services as operations
from tests.accounts.test_sign_in import ask, link
from tests.builders import count, in_a_transaction, kinds, open_page, work

pytestmark = pytest.mark.usefixtures("clock")
SAM = "user:1"


@pytest.fixture
def bought_by_alice(alice, plan, till) -> Callable[[str], Dispute]:
    """Alice bought, received everything, and tells her bank that it was not she."""

    def dispute(status: str) -> Dispute:
        alice.name = "Alice Å. 李"
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work()
        till.open_dispute(purchase.session_id, status)
        work("billing")
        return database.session.scalars(sa.select(Dispute)).one()

    return dispute


@pytest.fixture
def disputed(bought_by_alice) -> Dispute:
    return bought_by_alice("needs_response")


def submit(dispute: Dispute) -> None:
    in_a_transaction(lambda: evidence.submit(dispute.id, actor=SAM))


def submissions(till, dispute: Dispute) -> int:
    return till.look_up_dispute(dispute.external_id).submissions


class TestThePack:
    def test_it_holds_what_was_bought_agreed_and_received(self, disputed):
        pack = evidence.gather(disputed.id)

        assert pack["receipt"]["amount_cents"] == 9900
        assert pack["customer"]["email"] == "alice@customers.example"
        assert [each["ip_address"] for each in pack["consents"]] == ["203.0.113.7"]
        assert "All sales are final" in " ".join(pack["consents"][0]["words"])
        assert {each["kind"] for each in pack["letters"]} >= {"purchase_confirmation", "access_granted"}
        assert [line["proof"] for line in pack["access"]] == ["read back at TradingView"] * 6
        assert {line["name"] for line in pack["access"]} == {"Anna"}
        assert json.loads(json.dumps(pack)) == pack

    def test_access_that_was_taken_away_again_is_in_it_too(self, disputed, clock):
        clock.shift(timedelta(minutes=1))
        work()

        lines = evidence.gather(disputed.id)["access"]

        assert [line["what"] for line in lines] == ["access given"] * 6 + ["access removed"] * 6
        assert {line["proof"] for line in lines} == {"read back at TradingView"}

    def test_what_nobody_was_asked_for_is_not_in_it(self, alice, plan, till):
        """The payment is disputed before any access was given."""
        purchase = open_page(alice, plan)
        till.pay(purchase.session_id)
        work("billing")
        till.open_dispute(purchase.session_id)
        work("billing")

        assert evidence.gather(database.session.scalars(sa.select(Dispute.id)).one())["access"] == []

    def test_it_holds_no_secret(self, disputed):
        assert "sign_in" not in {each["kind"] for each in evidence.gather(disputed.id)["letters"]}

    def test_sign_ins_are_in_it_long_after_their_sessions_are_gone(self, client, bought_by_alice, clock):
        ask(client)
        assert client.get(link()).location == "/dashboard"
        signed_in_at = time_source.now()
        clock.shift(timedelta(days=45))
        in_a_transaction(operations.tidy)
        assert count(UserSession) == 0

        pack = evidence.gather(bought_by_alice("needs_response").id)

        assert pack["sign_ins"] == [signed_in_at.isoformat()]

    def test_another_persons_sign_ins_are_not(self, client, bob, disputed):
        ask(client, bob.email)
        client.get(link())

        assert evidence.gather(disputed.id)["sign_ins"] == []

    def test_of_an_unknown_dispute_there_is_none(self, db):
        with pytest.raises(NotThere):
            evidence.gather(7)

    def test_the_texts_keep_to_the_providers_limit(self, disputed):
        pack = evidence.gather(disputed.id)
        disputed.evidence = pack | {"access": pack["access"] * 200}

        request = evidence.request_of(disputed)

        assert sum(map(len, request.texts.values())) <= evidence.LONGEST
        assert request.texts["customer_purchase_ip"] == "203.0.113.7"


class TestHandingIn:
    def test_it_reaches_the_bank_once(self, disputed, till):
        submit(disputed)

        work("billing")

        assert (disputed.status, disputed.submissions, disputed.next_attempt_at) == ("under_review", 1, None)
        assert submissions(till, disputed) == 1
        assert "service_documentation" in disputed.evidence_files

    def test_what_was_sent_is_kept_as_it_was(self, disputed):
        submit(disputed)
        work("billing")

        assert disputed.evidence["receipt"]["reference"].startswith("pur_")
        assert disputed.evidence_by == SAM

    def test_what_was_gathered_before_a_pack_named_the_merchant_goes_out_and_can_be_read(self, disputed, till):
        submit(disputed)
        disputed.evidence = {name: value for name, value in disputed.evidence.items() if name != "merchant"}

        work("billing")

        assert (submissions(till, disputed), disputed.last_reason) == (1, None)
        assert as_pdf(evidence.pack_of(disputed.id)).startswith(b"%PDF")

    def test_twice_is_refused(self, disputed):
        submit(disputed)
        with pytest.raises(AlreadyDone):
            submit(disputed)
        work("billing")
        with pytest.raises(AlreadyDone):
            submit(disputed)

    @pytest.mark.parametrize("status", ["under_review", "lost", "won", "warning_closed"])
    def test_what_nobody_asks_for_is_not_sent(self, disputed, till, status):
        if status == "warning_closed":
            disputed.status = status
            database.session.flush()
        else:
            till.move_dispute(disputed.external_id, status)
            work("billing")

        with pytest.raises(evidence.CannotSubmit):
            submit(disputed)
        database.session.rollback()

    def test_after_its_time_nothing_is_sent(self, disputed, clock):
        clock.move_to(disputed.due_by)

        with pytest.raises(evidence.CannotSubmit, match="over"):
            submit(disputed)

    def test_a_worker_that_died_after_the_answer_hands_in_nothing_twice(self, app, disputed, till, clock):
        submit(disputed)
        submitting = in_a_transaction(inbox.claim_next)
        submitting.call(till)
        assert submitting.facts is not None  # and nobody ever settles it

        clock.shift(timedelta(seconds=app.config["STS"].lease_seconds))
        work("billing")

        assert (submissions(till, disputed), disputed.submissions, disputed.status) == (1, 1, "under_review")

    def test_an_answer_that_was_lost_hands_in_nothing_twice(self, disputed, till, clock):
        submit(disputed)
        misbehave(till.store, Fault.LOSE_ANSWER)
        work("billing")
        behave(till.store)
        clock.shift(timedelta(minutes=1))
        work("billing")

        assert (submissions(till, disputed), disputed.submissions, disputed.last_reason) == (1, 1, None)

    def test_an_outage_is_waited_out(self, disputed, till, clock):
        misbehave(till.store, Fault.API_DOWN)
        submit(disputed)
        work("billing")
        assert disputed.next_attempt_at == time_source.now() + timedelta(seconds=10)

        behave(till.store)
        clock.shift(timedelta(seconds=10))
        work("billing")

        assert disputed.status == "under_review"

    def test_the_providers_no_goes_to_staff(self, disputed):
        submit(disputed)
        submitting = in_a_transaction(inbox.claim_next)
        submitting.trouble = Refused("submit_evidence: too late")

        in_a_transaction(submitting.settle)

        assert disputed.next_attempt_at is None
        assert kinds().count("admin_evidence_refused") == 1

    def test_a_chargeback_that_an_answered_inquiry_became_is_answered_again(self, bought_by_alice, till):
        dispute = bought_by_alice("warning_needs_response")
        submit(dispute)
        work("billing")
        assert (dispute.status, dispute.submissions) == ("warning_under_review", 1)

        till.move_dispute(dispute.external_id, "needs_response")
        work("billing")
        submit(dispute)
        work("billing")

        assert (dispute.status, submissions(till, dispute)) == ("under_review", 2)


class TestAnsweredAtStripeMeanwhile:
    """The bank reads one answer: what staff gave in Stripe's own dashboard is not written over."""

    def answer_by_hand(self, till, dispute: Dispute) -> None:
        till.submit_evidence(
            EvidenceRequest(dispute.external_id, "none", {"uncategorized_text": "By hand."}, {}), key="by hand"
        )

    def test_nothing_is_sent_and_the_row_says_why(self, disputed, till):
        submit(disputed)
        self.answer_by_hand(till, disputed)

        work("billing")

        assert till.look_up_dispute(disputed.external_id).evidence_ref == "none"
        assert (submissions(till, disputed), disputed.submissions, disputed.status) == (1, 1, "under_review")
        assert (disputed.next_attempt_at, disputed.evidence_ref) == (None, None)
        assert disputed.last_reason == "the bank was answered at Stripe meanwhile, and reads one answer"
        assert "billing.evidence_not_sent" in database.session.scalars(sa.select(AuditLog.action)).all()

    def test_what_was_gathered_is_not_shown_as_what_was_sent(self, disputed, till, clock):
        submit(disputed)
        self.answer_by_hand(till, disputed)
        work("billing")
        clock.shift(timedelta(minutes=1))

        assert evidence.standing_of(disputed) is Standing.HANDED_IN
        assert evidence.pack_of(disputed.id)["gathered_at"] == time_source.now().isoformat()

    def test_what_the_bank_has_decided_is_not_answered(self, disputed, till):
        submit(disputed)
        till.move_dispute(disputed.external_id, "lost")
        claimed = in_a_transaction(evidence.claim)

        claimed.call(till)
        in_a_transaction(claimed.settle)

        assert (submissions(till, disputed), disputed.status) == (0, "lost")
        assert disputed.last_reason == "the bank does not wait for an answer any more"

    def test_a_bank_that_waits_again_may_be_answered_by_hand_once_more(self, bought_by_alice, till):
        dispute = bought_by_alice("warning_needs_response")
        submit(dispute)
        self.answer_by_hand(till, dispute)
        till.move_dispute(dispute.external_id, "needs_response")
        work("billing")
        assert submissions(till, dispute) == 1

        submit(dispute)
        work("billing")

        assert (submissions(till, dispute), dispute.status, dispute.last_reason) == (2, "under_review", None)
