"""The letters provisioning writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from flask import current_app

from sts_app.accounts.models import User
from sts_app.catalog.models import Strategy
from sts_app.core.db import db
from sts_app.core.web import address_of
from sts_app.emails import services as emails
from sts_app.provisioning.models import Entitlement, Grant


def access_granted(user: User, entitlement: Entitlement, name: str, rows: Sequence[Any]) -> None:
    _access(user, f"access-granted:{entitlement.id}", "access_granted", "Your strategies are active", name, rows)


def access_partly_granted(user: User, entitlement: Entitlement, name: str, rows: Sequence[Any]) -> None:
    _access(
        user, f"access-partly:{entitlement.id}", "access_partly_granted", "Your first strategies are active", name, rows
    )


def _access(user: User, key: str, kind: str, subject: str, name: str, rows: Sequence[Any]) -> None:
    emails.post(
        key=key,
        kind=kind,
        to=user.email,
        user_id=user.id,
        subject=subject,
        template="provisioning/letters/access_granted",
        context={
            "name": name,
            "active": [row.strategy.name for row in rows if row.state == "Active"],
            "waiting": [row.strategy.name for row in rows if row.state != "Active"],
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


def provisioning_failure(grants: Sequence[Grant], reason: str, *, key: str, final: bool = False) -> None:
    subject = "Access could not be given by itself" if final else "Access has failed three times"
    _to_staff(
        key,
        "admin_provisioning_failure",
        subject,
        "provisioning/letters/provisioning_failure",
        {"lines": _lines(grants), "reason": reason, "final": final},
    )


def manual_tasks(grants: Sequence[Grant], *, key: str) -> None:
    count = len(grants)
    subject = "One thing to do at TradingView" if count == 1 else f"{count} things to do at TradingView"
    _to_staff(key, "admin_manual_task", subject, "provisioning/letters/manual_tasks", {"lines": _lines(grants)})


def session_refused(reason: str, *, key: str) -> None:
    _to_staff(
        key,
        "admin_session_refused",
        "TradingView refuses our session",
        "provisioning/letters/session_refused",
        {"reason": reason},
    )


def _to_staff(key: str, kind: str, subject: str, template: str, context: dict[str, Any]) -> None:
    for number, address in enumerate(current_app.config["STS"].admin_emails):
        emails.post(
            key=f"{key}:{number}",
            kind=kind,
            to=address,
            subject=subject,
            template=template,
            context=context | {"link": address_of("admin.access")},
        )


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
