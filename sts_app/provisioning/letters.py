"""The letters provisioning writes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask import current_app

from sts_app.accounts.models import User
from sts_app.catalog.models import Strategy
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.web import address_of
from sts_app.emails import services as emails
from sts_app.provisioning import queries
from sts_app.provisioning.cycles import CONFIRMED_BY_STAFF
from sts_app.provisioning.models import Entitlement, Grant, TradingViewName

if TYPE_CHECKING:
    from sts_app.provisioning.findings import Report


def access_granted(user: User, entitlement: Entitlement, name: str, rows: Sequence[Any]) -> None:
    _access(user, f"access-granted:{entitlement.id}", "access_granted", "Your strategies are active", name, rows)


def access_partly_granted(user: User, entitlement: Entitlement, name: str, rows: Sequence[Any]) -> None:
    _access(
        user, f"access-partly:{entitlement.id}", "access_partly_granted", "Your first strategies are active", name, rows
    )


def _access(user: User, key: str, kind: str, subject: str, name: str, rows: Sequence[Any]) -> None:
    active = [row for row in rows if row.state == "Active"]
    emails.post(
        key=key,
        kind=kind,
        to=user.email,
        user_id=user.id,
        subject=subject,
        template="provisioning/letters/access_granted",
        context={
            "name": name,
            "active": [row.strategy.name for row in active],
            "was_read": not any(row.grant.evidence == CONFIRMED_BY_STAFF for row in active),
            "waiting": [row.strategy.name for row in rows if row.state in ("Pending", "Action needed")],
            "link": address_of("pages.dashboard"),
        },
    )


def access_failed(user_id: int, name: str, *, key: str, name_unknown: bool) -> None:
    """Tell the customer that something stands in the way, and whether they must do anything."""
    user = db.session.get_one(User, user_id)
    subject = "Please check your TradingView name" if name_unknown else "Your access takes longer than usual"
    emails.post(
        key=f"{key}:{user_id}",
        kind="access_failed",
        to=user.email,
        user_id=user.id,
        subject=subject,
        template="provisioning/letters/access_failed",
        context={
            "name": name,
            "name_unknown": name_unknown,
            "link": address_of("provisioning.onboarding" if name_unknown else "pages.dashboard"),
        },
    )


def access_cannot(user_id: int, grants: Sequence[Grant], *, key: str) -> None:
    """Tell the customer that a person could not give access, and what they can do: the same as their dashboard."""
    user = db.session.get_one(User, user_id)
    now = clock.now()
    emails.post(
        key=f"{key}:{user_id}",
        kind="access_cannot",
        to=user.email,
        user_id=user.id,
        subject="We could not give you access",
        template="provisioning/letters/access_cannot",
        context={
            "name": grants[0].name_spelling,
            "strategies": [line["strategy"] for line in _lines(grants)],
            "paid": any(queries.has_money_in(each, now) for each in queries.entitlements_of(user_id)),
            "name_link": address_of("provisioning.onboarding"),
            "link": address_of("pages.dashboard"),
        },
    )


def provisioning_failure(grants: Sequence[Grant], reason: str, *, key: str, final: bool = False) -> None:
    subject = "Access could not be given by itself" if final else "Access has failed three times"
    _to_staff(
        key,
        "admin_provisioning_failure",
        subject,
        "provisioning/letters/provisioning_failure",
        {"lines": _lines(grants), "reason": reason, "final": final},
        names=[grant.name_key for grant in grants],
    )


def manual_tasks(grants: Sequence[Grant], *, key: str) -> None:
    count = len(grants)
    subject = "One thing to do at TradingView" if count == 1 else f"{count} things to do at TradingView"
    _to_staff(
        key,
        "admin_manual_task",
        subject,
        "provisioning/letters/manual_tasks",
        {"lines": _lines(grants)},
        names=[grant.name_key for grant in grants],
    )


def session_refused(incident_id: int, reason: str) -> None:
    """Staff are told once for each incident."""
    _to_staff(
        f"session-refused:{incident_id}",
        "admin_session_refused",
        "TradingView refuses our session",
        "provisioning/letters/session_refused",
        {"incident_id": incident_id, "reason": reason},
    )


def session_restored(incident_id: int, *, by: str, automatic: bool) -> None:
    """Staff hear that an incident is over, and whether the machine works again."""
    _to_staff(
        f"session-restored:{incident_id}",
        "admin_session_restored",
        "TradingView accepts our session again",
        "provisioning/letters/session_restored",
        {"incident_id": incident_id, "by": by, "automatic": automatic},
    )


def credential_age(days: int, *, critical: bool, key: str) -> bool:
    """Staff hear once under each key how old the credentials are; False when they have heard it."""
    subject = f"TradingView's credentials are {days} days old"
    return _to_staff(
        key,
        "admin_credential_age",
        f"{subject}: replace them now" if critical else subject,
        "provisioning/letters/credential_age",
        {"days": days, "critical": critical},
    )


def reconciliation(found: Report, *, refused: bool) -> None:
    """Staff hear of a run that was refused, or of holders whom a person has to decide about."""
    count = len(found.waiting)
    if refused:
        subject = "The comparison with TradingView was refused"
    elif count == 1:
        subject = "One holder at TradingView waits for your decision"
    else:
        subject = f"{count} holders at TradingView wait for your decision"
    _to_staff(
        f"reconciliation:{found.run_id}",
        "admin_reconciliation",
        subject,
        "provisioning/letters/reconciliation",
        {"run_id": found.run_id, "refused": refused, "reason": found.because, "lines": found.waiting},
        names=[line.name.lower() for line in found.waiting],
    )


def _to_staff(
    key: str, kind: str, subject: str, template: str, context: dict[str, Any], *, names: Collection[str] = ()
) -> bool:
    """True when at least one of them had no letter under this key yet. `names` are the keys of those it names."""
    owners = sa.select(TradingViewName.user_id).where(TradingViewName.name_key.in_(names)).distinct()
    about = db.session.scalars(owners).all() if names else ()
    posted = [
        emails.post(
            key=f"{key}:{number}",
            kind=kind,
            to=address,
            about=about,
            subject=subject,
            template=template,
            context=context | {"link": address_of("admin.access")},
        )
        for number, address in enumerate(current_app.config["STS"].admin_emails)
    ]
    return any(posted)


def _lines(grants: Sequence[Grant]) -> list[dict[str, Any]]:
    """What a person needs to act: name and script to copy, and what is wanted of them."""
    ids = {grant.strategy_id for grant in grants}
    strategies = sa.select(Strategy.id, Strategy.name).where(Strategy.id.in_(ids))
    names = {row[0]: row[1] for row in db.session.execute(strategies)}
    return [
        {
            "act": "give" if grant.wanted else "remove",
            "name": grant.name_spelling,
            "strategy": names[grant.strategy_id],
            "script_id": grant.script_id,
        }
        for grant in grants
    ]
