"""What happens to money at the simulated Stripe after it was paid: refunds, disputes, and their evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sts_app.billing import live_facts
from sts_app.billing import simulated_objects as objects
from sts_app.billing.gateway import (
    DisputeFacts,
    DisputeStatus,
    EvidenceRequest,
    RefundFacts,
    RefundRequest,
    RefundStatus,
    Refused,
)
from sts_app.billing.simulated_post import new_id, stamp
from sts_app.billing.simulated_reading import Reading
from sts_app.billing.simulated_stories import (
    ANSWERED,
    CLOSED,
    NEXT_DISPUTE,
    NEXT_REFUND,
    WITHHELD,
    Payment,
    RefundStory,
    told,
)
from sts_app.core.store import Record

ANSWER_TIME = timedelta(days=9)
# The most that a bank is sent in words.
LETTERS_OF_EVIDENCE = 150_000


@dataclass(frozen=True)
class SimulatedPayment:
    """One payment that came in, as the desk shows it: its money, and what may become of each refund and dispute."""

    payment: Payment
    refunds: list[tuple[RefundStory, Sequence[RefundStatus]]]
    disputes: list[tuple[DisputeFacts, Sequence[DisputeStatus]]]


class Money(Reading):
    """Refunds, disputes and evidence."""

    # Refunds.

    def refund(self, request: RefundRequest, *, key: str) -> RefundFacts:
        """Give money back; the same key and request give it once. Raises `Refused` when so much is not left."""
        with self._deed("refund"):
            wanted = [request.refund_ref, request.intent_id, request.amount_cents, request.reason]
            token = self._claim("refund", key, wanted)
            with self._same_answer(token):
                self._give_back(
                    request.intent_id,
                    f"re_{token}",
                    amount=request.amount_cents,
                    status=None,
                    reason=request.reason,
                    metadata={"refund_ref": request.refund_ref},
                )
            # The answer to a repeated call is the first one, whatever has become of the refund since.
            begun = [act for act in self._acts(request.intent_id) if act["id"] == f"re_{token}"][:1]
            payment = told(self._payment(request.intent_id, []), begun)
            return live_facts.refund_of(objects.refund_of(payment, payment.refunds[0]))

    def next_refund(self, status: RefundStatus) -> None:
        """How the next refund of the gateway begins; those after it succeed at once again."""
        self.store.put("setting", "next-refund", {"status": status})

    def give_back(self, paid: str, amount_cents: int | None = None, *, status: RefundStatus = "succeeded") -> str:
        """Refund in the dashboard: of a checkout or a payment intent, by default what is left. Returns the refund's id.

        Raises `Refused` when nothing was paid, and for more than is left.
        """
        refund_id = new_id("re")
        self._give_back(
            self._intent_of(paid),
            refund_id,
            amount=amount_cents,
            status=status,
            reason="requested_by_customer",
            metadata={},
        )
        return refund_id

    def move_refund(self, refund_id: str, status: RefundStatus, *, anyway: bool = False) -> None:
        """Go on with a refund. One that fails or is called off gives its money back to the store.

        Raises `Refused` for a way that no refund goes, as from failed to succeeded, unless it is to go it `anyway`.
        """
        intent_id = self._payment_with("refund", refund_id).intent

        def decide(acts: list[Record]) -> Record | None:
            refund = self._payment(intent_id, acts).refund(refund_id)
            if refund is None:
                raise Refused("move_refund: resource_missing")
            if refund.status == status:
                return None
            if status not in NEXT_REFUND[refund.status] and not anyway:
                raise Refused(f"move_refund: from {refund.status} it does not become {status}")
            return {"act": "refund-status", "id": refund_id, "status": status}

        if self._append(intent_id, decide):
            payment = self._payment(intent_id)
            shown = _refund(payment, refund_id)
            events = [("refund.updated", shown), ("charge.refund.updated", shown)]
            if status == "failed":
                events.append(("refund.failed", shown))
            self._announce(*events)

    def _give_back(
        self,
        intent_id: str,
        refund_id: str,
        *,
        amount: int | None,
        status: RefundStatus | None,
        reason: str,
        metadata: Record,
    ) -> None:
        def decide(acts: list[Record]) -> Record | None:
            payment = self._payment(intent_id, acts)
            if payment.refund(refund_id) is not None:
                return None
            if not payment.is_paid:
                raise Refused("refund: nothing was paid")
            if payment.left == 0:
                raise Refused("refund: charge_disputed" if payment.withheld else "refund: charge_already_refunded")
            wanted = payment.left if amount is None else amount
            if not 0 < wanted <= payment.left:
                raise Refused(f"refund: amount_too_{'large' if wanted > 0 else 'small'}")
            planned = None if status else self.store.take("setting", "next-refund")
            begins = status or (planned["status"] if planned else "succeeded")
            known = {"id": refund_id, "amount": wanted, "status": begins, "reason": reason, "metadata": metadata}
            return {"act": "refund"} | known

        # What leads to the refund stands before it does.
        self.store.put("refund", refund_id, {"intent": intent_id})
        try:
            is_new = self._append(intent_id, decide)
        except Refused:
            self.store.delete("refund", refund_id)
            raise
        if is_new:
            payment = self._payment(intent_id)
            events = [("refund.created", _refund(payment, refund_id))]
            refund = payment.refund(refund_id)
            if refund is not None and refund.counts:
                events.append(("charge.refunded", objects.charge_of(payment)))
            self._announce(*events)

    # Disputes.

    def open_dispute(
        self,
        paid: str,
        status: DisputeStatus = "needs_response",
        amount_cents: int | None = None,
        *,
        reason: str = "fraudulent",
        answer_time: timedelta = ANSWER_TIME,
    ) -> str:
        """The payer's bank disputes a payment, by default the whole of it. Returns the dispute's id.

        `warning_...` is an inquiry, with no money taken yet. Raises `Refused` when nothing was paid, and
        for more than was paid.
        """
        intent_id, dispute_id = self._intent_of(paid), new_id("dp")

        def decide(acts: list[Record]) -> Record:
            payment = self._payment(intent_id, acts)
            amount = payment.amount if amount_cents is None else amount_cents
            if not payment.is_paid:
                raise Refused("open_dispute: nothing was paid")
            if not 0 < amount <= payment.amount:
                raise Refused("open_dispute: amount_invalid")
            due_by = stamp() + int(answer_time.total_seconds())
            known = {"id": dispute_id, "amount": amount, "status": status, "reason": reason, "due_by": due_by}
            return {"act": "dispute"} | known

        self.store.put("dispute", dispute_id, {"intent": intent_id})
        try:
            self._append(intent_id, decide)
        except Refused:
            self.store.delete("dispute", dispute_id)
            raise
        shown = self._dispute(self._payment(intent_id), dispute_id)
        events = [("charge.dispute.created", shown)]
        if status in WITHHELD:
            events.append(("charge.dispute.funds_withdrawn", shown))
        if status in CLOSED:
            events.append(("charge.dispute.closed", shown))
        self._announce(*events)
        return dispute_id

    def move_dispute(self, dispute_id: str, status: DisputeStatus, *, anyway: bool = False) -> None:
        """Go on with a dispute.

        Raises `Refused` for a way that no dispute goes, as from won to lost, unless it is to go it `anyway`.
        """
        intent_id = self._payment_with("dispute", dispute_id).intent
        before: list[DisputeStatus] = []

        def decide(acts: list[Record]) -> Record | None:
            dispute = self._payment(intent_id, acts).dispute(dispute_id)
            if dispute is None:
                raise Refused("move_dispute: resource_missing")
            before[:] = [dispute.status]
            if dispute.status == status:
                return None
            if status not in NEXT_DISPUTE[dispute.status] and not anyway:
                raise Refused(f"move_dispute: from {dispute.status} it does not become {status}")
            return {"act": "dispute-status", "id": dispute_id, "status": status}

        if self._append(intent_id, decide):
            self._tell_move(intent_id, dispute_id, before[0], status)

    def _tell_move(self, intent_id: str, dispute_id: str, before: DisputeStatus, status: DisputeStatus) -> None:
        shown = self._dispute(self._payment(intent_id), dispute_id)
        events = [("charge.dispute.updated", shown)]
        if status in WITHHELD and before not in WITHHELD:
            events.append(("charge.dispute.funds_withdrawn", shown))
        if status in CLOSED:
            events.append(("charge.dispute.closed", shown))
        if status == "won":
            events.append(("charge.dispute.funds_reinstated", shown))
        self._announce(*events)

    # Evidence.

    def upload_evidence(self, name: str, content: bytes, *, key: str) -> str:
        """Keep a file for a dispute. Returns its id; the same key and content return the same one."""
        with self._deed("upload_evidence"):
            mark = hashlib.sha256(content).hexdigest()
            file_id = f"file_{self._claim('upload_evidence', key, [name, mark])}"
            self.store.add("file", file_id, {"name": name, "size": len(content), "sha256": mark, "created": stamp()})
            return file_id

    def submit_evidence(self, request: EvidenceRequest, *, key: str) -> DisputeFacts:
        """Send evidence to the bank, for good; the same key and request send it once.

        Raises `Refused` when the bank takes none any more, and for a file that was not uploaded.
        """
        with self._deed("submit_evidence"):
            wanted = [request.dispute_id, request.evidence_ref, request.texts, request.files]
            token = self._claim("submit_evidence", key, wanted)
            intent_id = self._payment_with("dispute", request.dispute_id).intent

            def decide(acts: list[Record]) -> Record | None:
                if any(act.get("token") == token for act in acts):
                    return None
                dispute = self._payment(intent_id, acts).dispute(request.dispute_id)
                if dispute is None or dispute.status not in ANSWERED or stamp() > dispute.due_by:
                    raise Refused("submit_evidence: the dispute takes no evidence any more")
                if any(self.store.get("file", file_id) is None for file_id in request.files.values()):
                    raise Refused("submit_evidence: resource_missing file")
                if sum(map(len, request.texts.values())) > LETTERS_OF_EVIDENCE:
                    raise Refused("submit_evidence: string_too_long")
                known = {"id": request.dispute_id, "ref": request.evidence_ref, "token": token}
                sent = {"texts": request.texts, "files": request.files, "status": ANSWERED[dispute.status]}
                return {"act": "evidence"} | known | sent

            with self._same_answer(token):
                is_new = self._append(intent_id, decide)
            if is_new:
                shown = self._dispute(self._payment(intent_id), request.dispute_id)
                self._announce(("charge.dispute.updated", shown))
            acts = self._acts(intent_id)
            place = next(index for index, act in enumerate(acts) if act.get("token") == token)
            then = self._payment(intent_id, acts[: place + 1])
            return live_facts.dispute_of(self._dispute(then, request.dispute_id))

    # What the simulator shows of itself.

    def payment(self, intent_id: str) -> SimulatedPayment:
        """One payment with everything its part of the desk shows. Raises `Refused` for an unknown one."""
        return self._shown_payment(self._payment(intent_id))

    def payments(self, *, latest: int = 50) -> list[SimulatedPayment]:
        """The `latest` payments that brought money, newest first."""
        paid = [payment for payment in self._payments() if payment.is_paid]
        return [self._shown_payment(payment) for payment in reversed(paid[-latest:])]

    def _shown_payment(self, payment: Payment) -> SimulatedPayment:
        return SimulatedPayment(
            payment=payment,
            refunds=[(refund, NEXT_REFUND[refund.status]) for refund in payment.refunds],
            disputes=[
                (live_facts.dispute_of(self._dispute(payment, dispute.id)), NEXT_DISPUTE[dispute.status])
                for dispute in payment.disputes
            ],
        )


def _refund(payment: Payment, refund_id: str) -> Record:
    refund = payment.refund(refund_id)
    assert refund is not None, "asked for after it was added"
    return objects.refund_of(payment, refund)
