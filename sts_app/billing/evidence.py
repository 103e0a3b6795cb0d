"""What shows in a dispute that somebody bought, agreed, and received what was sold; and its way to the bank.

The pack is gathered from our records alone, kept as it was sent, and handed in once: the intent is on
the dispute's row before the provider hears of it, and where an answer was lost the dispute is looked at
before anything is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from flask import current_app

from sts_app.accounts import queries as accounts
from sts_app.accounts.models import User
from sts_app.audit import services as audit
from sts_app.billing import lease, letters, letters_trouble, queries, settling
from sts_app.billing.evidence_pdf import as_pdf
from sts_app.billing.gateway import DisputeFacts, EvidenceRequest, Payments, PaymentsError, Refused, TryLater
from sts_app.billing.models import Dispute, Purchase
from sts_app.billing.rules import ANSWERABLE
from sts_app.catalog.models import Plan
from sts_app.core import clock, tokens
from sts_app.core.db import db
from sts_app.core.errors import AlreadyDone, NotThere, Refusal
from sts_app.core.money import as_moment, as_money
from sts_app.core.queue import wake
from sts_app.core.web import address_of
from sts_app.emails import queries as emails
from sts_app.provisioning import queries as provisioning
from sts_app.provisioning.models import Grant

# The outcomes of a try that showed how a pair stands.
PRESENT, GONE = "present", "gone"
# Stripe reads at most so many letters of all texts together.
LONGEST = 20_000
# Staff are warned so long before a bank stops waiting for an answer (PRODUCT 8).
WARN_BEFORE = timedelta(hours=48)

Pack = dict[str, Any]


class Standing(StrEnum):
    """How far the evidence of a dispute is."""

    ASKED_FOR = "asked for"
    ON_ITS_WAY = "on its way"
    HANDED_IN = "handed in"
    NOT_ACCEPTED = "not accepted"
    TOO_LATE = "too late"
    NOT_ASKED_FOR = "not asked for"


class CannotSubmit(Refusal):
    status = 409
    code = "CANNOT_SUBMIT_EVIDENCE"


def standing_of(dispute: Dispute) -> Standing:
    """How far the evidence of a dispute is. What was not accepted may be handed in again while the bank waits.

    So may an answer to a chargeback that an answered inquiry became.
    """
    if dispute.next_attempt_at is not None:
        return Standing.ON_ITS_WAY
    if dispute.status not in ANSWERABLE:
        return Standing.HANDED_IN if dispute.submissions else Standing.NOT_ASKED_FOR
    if dispute.last_reason is not None:
        return Standing.NOT_ACCEPTED
    return Standing.TOO_LATE if _is_over(dispute) else Standing.ASKED_FOR


def pack_of(dispute_id: int) -> Pack:
    """What was sent to the bank or is on its way to it; before that, what `gather` finds now. Raises `NotThere`."""
    dispute = db.session.get(Dispute, dispute_id)
    if dispute is None:
        raise NotThere(cause=f"dispute:{dispute_id}")
    is_sent = standing_of(dispute) in (Standing.HANDED_IN, Standing.ON_ITS_WAY)
    return _kept(dispute) if is_sent and dispute.evidence is not None else gather(dispute_id)


def gather(dispute_id: int) -> Pack:
    """Everything our records say about a disputed purchase, as JSON. Times are ISO 8601 in UTC. Raises `NotThere`."""
    dispute = db.session.get(Dispute, dispute_id)
    if dispute is None:
        raise NotThere(cause=f"dispute:{dispute_id}")
    purchase = db.session.get_one(Purchase, dispute.purchase_id)
    user = db.session.get_one(User, purchase.user_id)
    plan = db.session.get_one(Plan, purchase.plan_id)
    return {
        "gathered_at": _iso(clock.now()),
        "merchant": _merchant(),
        "dispute": {
            "id": dispute.external_id,
            "reason": dispute.reason,
            "amount_cents": dispute.amount_cents,
            "currency": dispute.currency,
            "opened_at": _iso(dispute.opened_at),
            "due_by": _iso(dispute.due_by),
        },
        "receipt": {
            "reference": purchase.ref,
            "bought": plan.name,
            "amount_cents": purchase.amount_cents,
            "discount_cents": purchase.discount_cents,
            "currency": purchase.currency,
            "ordered_at": _iso(purchase.created_at),
            "paid_at": _iso(purchase.paid_at),
            "checkout_session": purchase.session_id,
            "payment_intent": purchase.intent_id,
            "refunds": [
                {"id": each.external_id, "amount_cents": each.amount_cents, "state": each.state}
                for each in queries.refunds_of(purchase.id)
            ],
        },
        "customer": {"email": user.email, "name": user.name, "account_since": _iso(user.created_at)},
        "consents": [
            {
                "given_at": _iso(each.created_at),
                "texts_version": each.texts_version,
                "texts_accepted_at": _iso(each.texts_accepted_at),
                "words": each.words,
                "ip_address": each.address,
                "browser": each.browser,
            }
            for each in queries.consents_of(purchase.id)
        ],
        "sign_ins": [_iso(moment) for moment in accounts.sign_ins_of(user.id)],
        "letters": [
            {"kind": each.kind, "subject": each.subject, "sent_at": _iso(each.sent_at), "text": each.text}
            for each in emails.letters_to(user.id)
        ],
        "access": _access(user.id),
    }


def submit(dispute_id: int, *, actor: str) -> Dispute:
    """Hand the evidence in, for good: the bank reads one answer. It goes out by the worker.

    Raises `NotThere`; `AlreadyDone` when it was handed in or is on its way; `CannotSubmit` when nobody asks for it.
    """
    dispute = db.session.get(Dispute, dispute_id, with_for_update=True, populate_existing=True)
    if dispute is None:
        raise NotThere(cause=f"dispute:{dispute_id}")
    check(dispute)
    dispute.evidence = gather(dispute_id)
    dispute.evidence_ref = f"evi_{tokens.new_secret()[:24]}"
    dispute.evidence_by = actor
    dispute.evidence_files = {}
    dispute.attempt, dispute.tries, dispute.last_reason, dispute.next_attempt_at = 1, 0, None, clock.now()
    audit.record(actor, "billing.evidence_submitted", f"purchase:{dispute.purchase_id}", dispute=dispute.external_id)
    wake("billing.work")
    return dispute


def check(dispute: Dispute) -> None:
    """Raise what `submit` would refuse this dispute with: `AlreadyDone` or `CannotSubmit`."""
    if standing_of(dispute) in (Standing.HANDED_IN, Standing.ON_ITS_WAY):
        raise AlreadyDone("The evidence was handed in already, or is on its way.")
    if dispute.status not in ANSWERABLE:
        raise CannotSubmit("The bank does not wait for an answer to this dispute.")
    if dispute.due_by is not None and _is_over(dispute):
        raise CannotSubmit(f"The time for an answer was over on {as_moment(dispute.due_by)}.")


def due_soon(now: datetime) -> Sequence[int]:
    """The ids of disputes that a bank waits only two days more for an answer to, and that nobody was warned of."""
    return db.session.scalars(_due_soon(now).with_only_columns(Dispute.id).order_by(Dispute.due_by)).all()


def warn(dispute_id: int) -> bool:
    """Tell staff that the time for an answer runs out. False when it was answered, or they were told, meanwhile."""
    statement = _due_soon(clock.now()).where(Dispute.id == dispute_id).with_for_update(skip_locked=True)
    dispute = db.session.scalar(statement.execution_options(populate_existing=True))
    if dispute is None:
        return False
    dispute.warned_of = dispute.due_by
    letters_trouble.dispute_due(db.session.get_one(Purchase, dispute.purchase_id), dispute)
    return True


def _merchant() -> dict[str, str]:
    settings = current_app.config["STS"]
    return {"name": settings.app_name, "website": settings.public_url}


def _kept(dispute: Dispute) -> Pack:
    """The pack as it was gathered. One that was gathered before packs named the merchant has today's name."""
    return {"merchant": _merchant()} | (dispute.evidence or {})


def _due_soon(now: datetime) -> sa.Select[Dispute]:
    return sa.select(Dispute).where(
        Dispute.status.in_(ANSWERABLE),
        Dispute.due_by > now,
        Dispute.due_by <= now + WARN_BEFORE,
        Dispute.warned_of.is_distinct_from(Dispute.due_by),
    )


def request_of(dispute: Dispute) -> EvidenceRequest:
    """What is sent to the bank: short texts in the provider's fields, and the pack as files."""
    pack = dispute.evidence or {}
    receipt, customer = pack["receipt"], pack["customer"]
    consents = pack["consents"]
    paid = as_money(receipt["amount_cents"], receipt["currency"])
    texts = {
        "customer_email_address": customer["email"],
        "product_description": (
            f"{receipt['bought']}: access to invite-only TradingView scripts, given to the customer's TradingView name "
            f"and read back. {paid}, reference {receipt['reference']}."
        ),
        "service_date": (receipt["paid_at"] or receipt["ordered_at"])[:10],
        "refund_policy_disclosure": " ".join(consents[0]["words"]) if consents else address_of("pages.refunds"),
        "access_activity_log": "\n".join(
            f"{each['at']} {each['what']}: {each['strategy']} to {each['name']}, {each['proof']}"
            for each in pack["access"]
        ),
        "uncategorized_text": (
            f"Account since {customer['account_since']}; signed in {len(pack['sign_ins'])} times; "
            f"{len(pack['letters'])} letters sent. The files hold each of them."
        ),
    }
    if customer["name"]:
        texts["customer_name"] = customer["name"]
    if consents:
        texts["customer_purchase_ip"] = consents[0]["ip_address"]
    share = LONGEST // len(texts)
    return EvidenceRequest(
        dispute.external_id,
        dispute.evidence_ref or "",
        {name: text[:share] for name, text in texts.items() if text},
        dict(dispute.evidence_files),
    )


@dataclass
class Submitting:
    """One claimed dispute whose evidence is on its way. `submissions` is how often the bank was answered till then."""

    token: str
    dispute_id: int
    purchase_id: int
    pack: Pack
    request: EvidenceRequest
    attempt: int
    submissions: int
    files: dict[str, str] = field(default_factory=dict)
    facts: DisputeFacts | None = None
    not_sent_because: str | None = None
    trouble: PaymentsError | None = None

    def call(self, gateway: Payments) -> None:
        """Look how the dispute stands, then upload and submit, unless the bank was answered. Raises nothing."""
        ref = self.request.evidence_ref
        try:
            standing = gateway.look_up_dispute(self.request.dispute_id)
            was_ours = standing.evidence_ref == ref and standing.submissions > 0
            if not was_ours:
                self.not_sent_because = self._stands_against(standing)
            if was_ours or self.not_sent_because is not None:
                self.facts = standing
                return
            files = dict(self.request.files)
            if "service_documentation" not in files:
                content = as_pdf(self.pack)
                uploaded = gateway.upload_evidence("evidence.pdf", content, key=f"upload-{ref}-{self.attempt}")
                files["service_documentation"] = uploaded
            self.files = files
            request = EvidenceRequest(self.request.dispute_id, ref, self.request.texts, files)
            self.facts = gateway.submit_evidence(request, key=f"evidence-{ref}-{self.attempt}")
        except PaymentsError as trouble:
            self.trouble = trouble

    def settle(self) -> None:
        """Write down what came of it, if the claim is still ours."""
        purchase, dispute = self._locked()
        if not lease.release(dispute, self.token):
            return
        # A file that was uploaded is not uploaded again.
        dispute.evidence_files = dispute.evidence_files | self.files
        if self.facts is None:
            _again(purchase, dispute, self.trouble or TryLater("nothing came back"))
            return
        dispute.next_attempt_at, dispute.tries, dispute.last_reason = None, 0, self.not_sent_because
        if self.not_sent_because is not None:
            # What was gathered for it never went out, and must not be shown as what did.
            dispute.evidence = dispute.evidence_ref = dispute.evidence_by = None
            because = self.not_sent_because
            audit.record("system", "billing.evidence_not_sent", f"purchase:{purchase.id}", because=because)
        settling.apply_dispute(purchase, self.facts)

    def give_back(self) -> None:
        """Settling broke on something unforeseen: free the claim for a later try."""
        purchase, dispute = self._locked()
        if lease.release(dispute, self.token):
            _again(purchase, dispute, TryLater(lease.BROKE))

    def _stands_against(self, standing: DisputeFacts) -> str | None:
        """Why nothing may be sent any more: the bank reads one answer, and somebody gave it at the provider."""
        if standing.submissions > self.submissions:
            return "the bank was answered at Stripe meanwhile, and reads one answer"
        return None if standing.status in ANSWERABLE else "the bank does not wait for an answer any more"

    def _locked(self) -> tuple[Purchase, Dispute]:
        purchase = settling.locked(self.purchase_id)
        return purchase, db.session.get_one(Dispute, self.dispute_id, with_for_update=True, populate_existing=True)


def claim() -> Submitting | None:
    """Take one dispute whose evidence is due to be handed in."""
    taken = lease.take(Dispute)
    if taken is None:
        return None
    dispute, token = taken
    return Submitting(
        token,
        dispute.id,
        dispute.purchase_id,
        _kept(dispute),
        request_of(dispute),
        dispute.attempt,
        dispute.submissions,
    )


def _again(purchase: Purchase, dispute: Dispute, trouble: PaymentsError) -> None:
    """Trouble of the provider's is waited out for as long as the bank waits, and staff hear of it when it lasts.

    Its no goes to staff at once.
    """
    lease.put_off(dispute, trouble)
    if isinstance(trouble, Refused) or _is_over(dispute):
        dispute.next_attempt_at = None
        audit.record("system", "billing.evidence_refused", f"purchase:{purchase.id}", because=trouble.reason)
        letters.evidence_refused(purchase, dispute)
    elif dispute.trouble_lasts:
        letters_trouble.evidence_held_up(purchase, dispute)


def _is_over(dispute: Dispute) -> bool:
    return dispute.due_by is not None and dispute.due_by <= clock.now()


def _access(user_id: int) -> list[dict[str, str | None]]:
    """Each time access was given or taken at TradingView, and what proves it, oldest first.

    A pair that was called off before anybody had called TradingView for it was neither.
    """
    grants = {grant.id: grant for grant in provisioning.grants_of(n.name_key for n in provisioning.names_of(user_id))}
    ledger = provisioning.ledger_of(grants.values())
    names = {strategy.id: strategy.name for strategy in provisioning.grantable_scripts().values()}
    lines = []
    for grant_id, jobs in ledger.jobs.items():
        grant = grants[grant_id]
        seen = {attempt.job_id for attempt in ledger.attempts[grant_id] if attempt.outcome in (PRESENT, GONE)}
        for job in reversed(jobs):
            if job.state != "reached" or job.closed_at is None:
                continue
            if grant.called_at is None or grant.called_at > job.closed_at:
                continue
            lines.append(
                {
                    "at": _iso(job.closed_at),
                    "what": "access given" if job.wanted else "access removed",
                    "strategy": names.get(grant.strategy_id, grant.script_id),
                    "name": grant.name_spelling,
                    "proof": _proof(grant, is_last=job.cycle == grant.cycle, was_seen=job.id in seen),
                }
            )
    return sorted(lines, key=lambda line: line["at"] or "")


def _proof(grant: Grant, *, is_last: bool, was_seen: bool) -> str:
    if was_seen or (is_last and grant.evidence == "read back"):
        return "read back at TradingView"
    # The grant tells of the last proof alone.
    return grant.evidence if is_last and grant.evidence else "on record"


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment is not None else None
