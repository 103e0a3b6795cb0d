"""Is this store fit to run? Each finding is one sentence with what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from flask import current_app

from sts_app.billing import setup
from sts_app.billing.gateway import PaymentsError
from sts_app.catalog.models import Plan, Strategy
from sts_app.catalog.queries import LIFETIME
from sts_app.core.db import db
from sts_app.ops import queries
from sts_app.privacy import queries as privacy
from sts_app.provisioning import control, credentials
from sts_app.provisioning import queries as provisioning
from sts_app.settings import PLACEHOLDER_PRICE

REPLACED_NAMES = {
    "UPSTASH_REDIS_REST_URL": "REDIS_URL",
    "UPSTASH_REDIS_REST_TOKEN": "REDIS_URL",
    "QSTASH_TOKEN": "the scheduler process",
    "CLERK_PUBLISHABLE_KEY": "sign-in by magic link",
    "CLERK_SECRET_KEY": "sign-in by magic link",
    "SUPABASE_URL": "DATABASE_URL",
    "SUPABASE_ANON_KEY": "DATABASE_URL",
    "POSTMARK_SERVER_TOKEN": "RESEND_API_KEY",
}

# Seconds to connect, seconds to answer: whoever asks a doctor waits for it.
STRIPE_ANSWERS_WITHIN = (2.0, 5.0)


@dataclass(frozen=True)
class Finding:
    """`fault` makes the store unfit; `warning` does not; `fine` is said so that silence means nothing."""

    kind: Literal["fine", "warning", "fault"]
    sentence: str


def examine() -> Iterator[Finding]:
    """Look at settings, connections, schema and catalog. The settings' own faults have stopped us before."""
    settings = current_app.config["STS"]
    strict: Literal["warning", "fault"] = "fault" if settings.is_production else "warning"
    yield Finding("fine", f"Settings are complete for {settings.app_env.value}.")
    for old, new in REPLACED_NAMES.items():
        if os.environ.get(old):
            yield Finding("warning", f"{old} is set but replaced by {new}; remove it.")
    if settings.simulated_vendors:
        yield Finding("warning", f"Simulated here: {', '.join(settings.simulated_vendors)}. Nothing real happens.")

    if queries.database()["status"] != "healthy":
        yield Finding("fault", "The database does not answer. Check DATABASE_URL.")
        return
    yield Finding("fine", "The database answers.")
    schema = queries.schema()
    if schema["status"] != "healthy":
        yield Finding("fault", f"The schema is at {schema['revision']}, this code needs {schema['code']}: "
                               "run `sts db upgrade`.")  # fmt: skip
        return
    yield Finding("fine", f"The schema is at {schema['revision']}.")
    if queries.redis()["status"] == "healthy":
        yield Finding("fine", "Redis answers.")
    else:
        yield Finding("fault", "Redis does not answer. Check REDIS_URL. Work waits for it but is not lost.")
    if queries.admin_exists()["status"] != "healthy":
        yield Finding("fault", "There is no admin: run `sts admin grant EMAIL`.")

    yield from _catalog(strict)
    yield from _at_stripe(strict)
    yield from _credentials(strict)
    yield from _standing()


def _standing() -> Iterator[Finding]:
    """What keeps access from being given by itself at this moment, though nothing is wrong with the installation."""
    standing = control.standing()
    if standing.incident_id is not None:
        yield Finding(
            "warning",
            f"TradingView refuses our session (incident {standing.incident_id}): run `sts credentials set`, or "
            "`sts provisioning resume` if the cause is gone.",
        )
    elif standing.switch != "AUTO":
        yield Finding("warning", f"Staff have switched automatic access to {standing.switch}: "
                                 "`sts provisioning auto` switches it back.")  # fmt: skip
    if standing.has_adapter and standing.circuit_open:
        yield Finding("warning", "TradingView does not answer: calls rest but for one in ten minutes.")
    if waiting := provisioning.open_tasks():
        yield Finding("warning", f"{waiting} tasks wait for a person: `sts tasks` lists them.")
    if late := len(privacy.overdue()):
        yield Finding("warning", f"{late} {'erasure takes' if late == 1 else 'erasures take'} too long: "
                                 "`sts privacy list --overdue` says what for.")  # fmt: skip


def _catalog(strict: Literal["warning", "fault"]) -> Iterator[Finding]:
    settings = current_app.config["STS"]
    plans = db.session.scalars(sa.select(Plan).where(Plan.active)).all()
    if not plans:
        yield Finding("fault", "There is no plan on sale: run `sts seed`.")
    for plan in plans:
        if plan.stripe_price_id in (None, PLACEHOLDER_PRICE):
            kind = strict if settings.payments_vendor == "live" else "fine"
            yield Finding(kind, f"The plan {plan.slug} has no price at Stripe; the simulator needs none.")
        elif plan.slug == LIFETIME and settings.stripe_price_id and plan.stripe_price_id != settings.stripe_price_id:
            yield Finding(
                "fault",
                f"The plan {plan.slug} is sold at {plan.stripe_price_id}, STRIPE_PRICE_ID says "
                f"{settings.stripe_price_id}.",
            )
    placeholders = [s.slug for s in db.session.scalars(sa.select(Strategy)) if s.has_placeholder_script]
    if placeholders and settings.provisioning_mode != "simulated":
        yield Finding(strict, f"Placeholder script ids, unknown at TradingView: {', '.join(placeholders)}.")


def _at_stripe(strict: Literal["warning", "fault"]) -> Iterator[Finding]:
    """Whether Stripe charges, what pages show, and rings us. Asked only where payments are live."""
    settings = current_app.config["STS"]
    if settings.payments_vendor != "live" or settings.stripe_secret_key is None:
        return
    try:
        with setup.gateways(STRIPE_ANSWERS_WITHIN) as (maker, reader):
            found = setup.at_stripe(maker, reader)
    except PaymentsError as trouble:
        yield Finding("warning", f"Stripe does not say what stands there ({trouble.reason}). Check STRIPE_SECRET_KEY.")
        return
    for sentence in found.prices:
        yield Finding("fault", sentence)
    if found.plans and not found.prices:
        yield Finding("fine", "Stripe charges for each plan what its page shows.")
    if found.endpoint is not None:
        yield Finding(strict, found.endpoint)
    else:
        yield Finding("fine", f"Stripe rings {found.url} with every event that the store acts on.")
    if found.portal is not None:
        yield Finding(strict, found.portal)
    if found.account_unknown is not None:
        yield Finding("warning", "Stripe does not say whether this account takes payments "
                                 f"({found.account_unknown}). Let STRIPE_SECRET_KEY read the account, or look at "
                                 "Stripe's dashboard.")  # fmt: skip
    elif found.account is not None:
        yield Finding(strict, found.account)
    else:
        yield Finding("fine", "Stripe lets this account take payments.")


def _credentials(strict: Literal["warning", "fault"]) -> Iterator[Finding]:
    """Whether what signs us in at TradingView can be read, how old it is, and under which keys it rests."""
    settings = current_app.config["STS"]
    sets = credentials.history()
    active = next((each for each in sets if each.retired_at is None), None)
    in_environment = settings.tv_session_id is not None or settings.tv_signature is not None
    if active is not None:
        yield _condition(active)
        if in_environment:
            yield Finding("warning", "TV_SESSION_ID and TV_SIGNATURE are not read while credentials are stored: "
                                     "remove them.")  # fmt: skip
    elif in_environment:
        yield Finding("warning", "TV_SESSION_ID and TV_SIGNATURE are deprecated: run `sts credentials set`, "
                                 "then remove them.")  # fmt: skip
    elif settings.provisioning_mode == "direct":
        yield Finding("fault", "No credentials of TradingView are stored: run `sts credentials set`.")
    if older := sum(each.key == "older" for each in sets):
        yield Finding("warning", f"Stored credentials rest under an older key ({older} in all): run `sts rotate-key`, "
                                 "then remove the older key.")  # fmt: skip
    if lost := [str(each.id) for each in sets if each.key == "lost" and each is not active]:
        yield Finding("warning", f"Retired credentials whose key is lost: {', '.join(lost)}. Nothing needs them.")
    if settings.provisioning_mode == "unofficial-api" and settings.tv_canary_username is None:
        yield Finding(strict, "TV_CANARY_USERNAME is not set: nothing tells whether the access service is still signed "
                              "in at TradingView, and an expired session opens no incident. Name somebody who holds a "
                              "strategy for certain, as the account that owns them.")  # fmt: skip


def _condition(active: credentials.Kept) -> Finding:
    try:
        credentials.active()
    except credentials.CannotRead as trouble:
        needed = current_app.config["STS"].provisioning_mode != "manual"
        return Finding("fault" if needed else "warning", f"Credentials {active.id}: {trouble.reason}.")
    aged = f"The credentials of TradingView are {active.age.days} days old"
    if active.is_old:
        return Finding("warning", f"{aged}: run `sts credentials set`{' now' if active.is_too_old else ' soon'}.")
    return Finding("fine", f"{aged} and can be read.")
