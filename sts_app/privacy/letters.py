"""The letters privacy writes."""

from __future__ import annotations

from datetime import datetime

from flask import current_app

from sts_app.accounts.models import EmailChange, User
from sts_app.core.money import as_moment
from sts_app.core.web import address_of
from sts_app.emails import services as emails
from sts_app.privacy.models import Erasure
from sts_app.privacy.words import waits_for_staff


def requested(user: User, erasure: Erasure) -> None:
    """That the wish arrived, when it begins, and how it is taken back: it may not have been theirs."""
    emails.post(
        key=f"erasure-requested:{erasure.id}",
        kind="erasure_requested",
        to=user.email,
        user_id=user.id,
        subject="You asked for your account to be erased",
        template="privacy/letters/requested",
        context={
            "begins_at": as_moment(erasure.begins_at),
            "link": address_of("privacy.page"),
            "progress": address_of("privacy.certificate", ref=erasure.ref),
        },
    )


def requested_elsewhere(change: EmailChange, erasure: Erasure) -> None:
    """The same to a mailbox that can still call off a change of the account's address, and how it is stopped there."""
    assert change.confirmed_at is not None
    emails.post(
        key=f"erasure-requested:{erasure.id}:{change.id}",
        kind="erasure_requested_elsewhere",
        to=change.old_email,
        user_id=change.user_id,
        subject="Somebody asked for your account to be erased",
        template="privacy/letters/requested_elsewhere",
        context={
            "begins_at": as_moment(erasure.begins_at),
            "old": change.old_email,
            "changed_at": as_moment(change.confirmed_at),
            "link": address_of("support.contact"),
        },
    )


def cancelled(user: User, erasure: Erasure) -> None:
    emails.post(
        key=f"erasure-cancelled:{erasure.id}",
        kind="erasure_cancelled",
        to=user.email,
        user_id=user.id,
        subject="Your account stays",
        template="privacy/letters/cancelled",
        context={"link": address_of("pages.dashboard")},
    )


def done(user: User, erasure: Erasure) -> None:
    """The last letter, with the certificate. Nothing of it is kept once it is sent."""
    times = (erasure.created_at, erasure.access_gone_at, erasure.customer_gone_at, erasure.replaced_at)
    asked_at, access_gone_at, customer_gone_at, replaced_at = (as_moment(at) if at else "" for at in times)
    emails.post(
        key=erasure.letter_key,
        kind="erasure_done",
        to=user.email,
        user_id=user.id,
        subject="Your data has been erased",
        template="privacy/letters/done",
        context={
            "link": address_of("privacy.certificate", ref=erasure.ref),
            "facts": [
                ("Reference", erasure.ref),
                ("Asked for", asked_at),
                ("Access verified absent", access_gone_at),
                ("Customer deleted at Stripe", customer_gone_at),
                ("Personal data replaced", replaced_at),
            ],
            "payments": erasure.report.get("payments_kept", 0),
        },
        secret=True,
    )


def overdue(erasure: Erasure, *, on: datetime) -> None:
    """Staff hear once a day that an erasure takes too long."""
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"admin-erasure-overdue:{erasure.id}:{on:%Y%m%d}:{number}",
            kind="admin_erasure_overdue",
            to=address,
            subject="An erasure takes too long",
            template="privacy/letters/overdue",
            context={
                "number": erasure.id,
                "begun_at": as_moment(erasure.begun_at) if erasure.begun_at else "not yet",
                "waits": waits_for_staff(erasure) or "nothing that is known",
                "link": address_of("admin.overview"),
            },
        )
