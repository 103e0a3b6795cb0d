"""Somebody to whom everything has happened that the store keeps a record of.

Each text holds their name somewhere, so that whoever looks for it finds every place it is kept in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sts_app.accounts import services as accounts
from sts_app.accounts.models import EmailChange, GoogleIdentity, HeldForm, User, UserSession, Visit
from sts_app.billing import queries as billing
from sts_app.billing import refunds, withdrawals
from sts_app.billing.models import AddressUpdate, Dispute, Purchase
from sts_app.billing.simulated import SimulatedPayments
from sts_app.catalog.models import Plan
from sts_app.core import clock as time_source
from sts_app.core import tokens
from sts_app.core.db import db as database
from sts_app.emails import arrivals
from sts_app.emails.gateway import Happened, LetterEvent
from sts_app.emails.models import EmailMessage, LetterState
from sts_app.privacy import services as privacy
from sts_app.provisioning import names
from sts_app.provisioning import services as provisioning
from sts_app.provisioning.models import (
    AllowedHolder,
    ManualTask,
    NameCheckRow,
    ProvisioningAttempt,
    ProvisioningJob,
    ReconciliationFinding,
    ReconciliationRun,
)
from sts_app.provisioning.rules import Finding, NameOutcome, TaskKind
from sts_app.support import desk, drafts
from sts_app.support import services as support
from sts_app.support.rules import Category
from sts_app.support.services import Opening
from tests.builders import customer_of, grants, in_a_transaction, open_page, sam, work
from tests.support.conftest import picture

SECRETS = ("a secret of the session", "a secret of the form")
ADDRESS = "203.0.113.7"


def everything_happened_to(alice: User, *, plan: Plan, monthly: Plan, till: SimulatedPayments, clock: Any) -> None:
    """Let all of it happen, ended and settled, so that an erasure waits for nothing but access."""
    staff = sam()
    alice.name = "Alice Archer"
    _signs_in(alice)
    names.set_name(alice, "alice_was_here", verified=True)
    _buys(alice, plan, monthly, till, staff)
    names.set_name(alice, "AliceTrades", verified=True)
    _has_access(alice, staff)
    _asks(alice, staff)
    _gets_letters(alice)
    _changes_her_mind(alice)
    work()
    clock.shift(timedelta(minutes=10))
    work()
    _is_not_heard_at_stripe(alice)
    database.session.commit()


def _signs_in(alice: User) -> None:
    now = time_source.now()
    database.session.add_all(
        [
            UserSession(
                user_id=alice.id,
                digest=tokens.digest("session", SECRETS[0]),
                expires_at=now + timedelta(days=1),
                device="Firefox of Alice",
                way="link",
            ),
            GoogleIdentity(user_id=alice.id, subject="google-of-alice", email="alice@mail.example"),
            EmailChange(
                user_id=alice.id,
                old_email="alice.before@customers.example",
                new_email=alice.email,
                digest=tokens.digest("email-change", "a secret"),
                expires_at=now,
                confirmed_at=now,
                call_off_digest=tokens.digest("email-change-call-off", "a secret"),
                call_off_until=now,
            ),
            HeldForm(
                user_id=alice.id,
                digest=tokens.digest("held-form", SECRETS[1]),
                path="/alice",
                sealed=tokens.seal("held-form", "alice"),
                expires_at=now,
            ),
            Visit(user_id=alice.id, seen_at=now),
        ]
    )
    in_a_transaction(
        lambda: accounts.ask_for_link(alice.email, browser=None, next_path="/dashboard?q=alice", remember=False)
    )


def _buys(alice: User, plan: Plan, monthly: Plan, till: SimulatedPayments, staff: User) -> None:
    """A subscription that lifetime access ended, one payment back in full, one in part, one disputed and won."""
    staff_name = f"user:{staff.id}"
    paid = [_pays(alice, each, till) for each in (monthly, plan)]
    lifetime = paid[1]
    in_a_transaction(lambda: refunds.ask(lifetime.id, reason="Alice was kind", actor=staff_name, amount_cents=900))
    work()
    in_a_transaction(
        lambda: refunds.decide_part(lifetime.id, keeps_access=True, reason="Alice keeps it", actor=staff_name)
    )
    dispute = till.open_dispute(lifetime.session_id or "")
    work("billing")
    till.move_dispute(dispute, "won")
    work("billing")
    known = database.session.query(Dispute).one()
    known.evidence = {"customer": {"email": alice.email}}
    known.last_reason = "Alice said no"
    in_a_transaction(lambda: withdrawals.declare(alice, lifetime.id, name="Alice Archer", address=ADDRESS))
    [withdrawal] = billing.withdrawals_of_person(alice.id)
    in_a_transaction(lambda: withdrawals.refuse(withdrawal.id, because="Alice used it.", actor=staff_name))
    work()


def _pays(alice: User, plan: Plan, till: SimulatedPayments) -> Purchase:
    database.session.flush()
    customer_of(alice)
    purchase = open_page(alice, plan, browser="A browser of Alice", address=ADDRESS)
    till.pay(purchase.session_id or "")
    work()
    return purchase


def _is_not_heard_at_stripe(alice: User) -> None:
    """Her new address is on its way there, and Stripe does not take it for now."""
    tomorrow = time_source.now() + timedelta(days=1)
    database.session.add(
        AddressUpdate(user_id=alice.id, next_attempt_at=tomorrow, tries=1, last_reason="not for Alice")
    )


def _has_access(alice: User, staff: User) -> None:
    now = time_source.now()
    in_a_transaction(
        lambda: provisioning.gift(
            alice, plan=_any_plan(), reason="Alice found a fault", ends_at=now + timedelta(minutes=5), actor="cli"
        )
    )
    work()
    grant = grants("AliceTrades")[0]
    job = database.session.query(ProvisioningJob).filter_by(grant_id=grant.id).first()
    run = ReconciliationRun(source="demand", actor="cli", dry_run=True, state="complete")
    database.session.add(run)
    database.session.flush()
    assert job is not None
    database.session.add_all(
        [
            ProvisioningAttempt(
                grant_id=grant.id,
                job_id=job.id,
                lease_token="of a try",
                wanted=True,
                outcome="not_taken",
                reason="TradingView said: AliceTrades cannot be added",
                finished_at=now,
            ),
            ManualTask(
                grant_id=grant.id,
                cycle=grant.cycle,
                wanted=True,
                kind=TaskKind.EXHAUSTED,
                because="Alice waited",
                closed_at=now,
                closed_by=f"user:{staff.id}",
                closed_because="Alice wrote",
                outcome="done",
                note="a note about Alice",
            ),
            ReconciliationFinding(
                run_id=run.id,
                kind=Finding.ALLOWED,
                name_key="alicetrades",
                name_spelling="AliceTrades",
                script_id=grant.script_id,
                act="none",
            ),
            AllowedHolder(name_key="alicetrades", reason="a friend, Alice", added_by="cli"),
        ]
    )
    if database.session.get(NameCheckRow, "alicetrades") is None:
        database.session.add(
            NameCheckRow(name_key="alicetrades", outcome=NameOutcome.VALID, spelling="AliceTrades", checked_at=now)
        )
    grant.last_reason = "AliceTrades was busy"
    database.session.flush()


def _any_plan() -> Plan:
    from sts_app.catalog.queries import lifetime_plan

    return lifetime_plan()


def _asks(alice: User, staff: User) -> None:
    owner = support.owner_of(alice)
    in_a_transaction(lambda: drafts.keep(owner, "form", [picture()], still=()))
    ticket = in_a_transaction(
        lambda: support.open_ticket(
            alice, Opening("Alice asks", "This is Alice. Where is it, please?", Category.ACCESS), nonce="form"
        )
    )
    in_a_transaction(lambda: desk.note(ticket.id, "a note about Alice", actor=f"user:{staff.id}"))
    in_a_transaction(lambda: desk.reply(ticket.id, "Dear Alice, it is there.", actor=f"user:{staff.id}"))
    in_a_transaction(
        lambda: support.write_from_outside(
            Opening("Alice again", "It is me, Alice, by the form.", Category.OTHER),
            email="Alice@customers.example",
            name="Alice",
            nonce="outside",
        )
    )


def _changes_her_mind(alice: User) -> None:
    in_a_transaction(lambda: privacy.request(alice, actor=f"user:{alice.id}"))
    in_a_transaction(lambda: privacy.cancel(alice, actor=f"user:{alice.id}"))


def _gets_letters(alice: User) -> None:
    work("emails")
    letter = database.session.query(EmailMessage).filter_by(user_id=alice.id, state=LetterState.SENT).first()
    assert letter is not None
    assert letter.provider_id is not None
    told = LetterEvent(
        id="told-1",
        provider_id=letter.provider_id,
        happened=Happened.BOUNCED_SOFTLY,
        at=time_source.now(),
        words="alice@customers.example: mailbox full",
    )
    bounced = LetterEvent(
        id="told-2",
        provider_id=letter.provider_id,
        happened=Happened.BOUNCED,
        at=time_source.now() - timedelta(days=1),
        words="alice@customers.example: no such user",
    )
    for each in (told, bounced):
        in_a_transaction(lambda each=each: arrivals.take_in(each))
