"""The credentials of TradingView: sealed in a table, one set active, and read afresh by every job.

How they get here is told in `entering.py`. Nothing that this raises, writes to the log or shows to people
holds anything of what is inside a set.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, cast

import sqlalchemy as sa
import structlog
from flask import current_app
from pydantic import SecretStr

from sts_app.audit import services as audit
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import NotThere, Refusal
from sts_app.core.sealing import CannotOpen, Keyring, Sealed
from sts_app.provisioning import control, letters
from sts_app.provisioning.gateway import NeedsStaff
from sts_app.provisioning.models import TradingViewCredential
from sts_app.settings import Settings

log = structlog.get_logger()

PURPOSE = "tradingview.credentials"
SUBJECT = "tradingview:credentials"
OLD_AFTER = timedelta(days=7)
TOO_OLD_AFTER = timedelta(days=14)
BATCH = 100


@dataclass(frozen=True)
class Credentials:
    """One set, in clear for as long as a job lasts. `id` is None for what is not stored, as in the environment.

    An access service that signs in by itself needs no session; `api_url` None means `TV_ACCESS_API_URL`.
    """

    session_id: SecretStr | None
    signature: SecretStr | None
    api_url: str | None = field(default=None, repr=False)
    id: int | None = None
    validated_at: datetime | None = None

    @property
    def age(self) -> timedelta | None:
        """How long ago TradingView accepted them when they were entered; None when nobody knows."""
        return None if self.validated_at is None else clock.now() - self.validated_at


@dataclass(frozen=True)
class Kept:
    """What people may see of a stored set: never what is inside. `key` says whether we hold the key called `key_id`."""

    id: int
    entered_at: datetime
    entered_by: str
    validated_at: datetime
    retired_at: datetime | None
    retired_because: str | None
    key_id: str
    key: Literal["present", "older", "lost"]

    @property
    def age(self) -> timedelta:
        return clock.now() - self.validated_at

    @property
    def is_old(self) -> bool:
        return self.age >= OLD_AFTER

    @property
    def is_too_old(self) -> bool:
        return self.age >= TOO_OLD_AFTER


@dataclass(frozen=True)
class Resealed:
    """What one batch of `reseal` did; `last_id` is where the next one goes on."""

    sealed: int
    unreadable: int
    last_id: int


class CannotRead(NeedsStaff):
    """Credentials are stored and do not open: their key is lost, or the row was changed.

    It is a refused session to whoever wants to call TradingView: only a person can mend it.
    """

    def __init__(self, reason: str, credential_id: int) -> None:
        super().__init__(reason)
        self.credential_id = credential_id


class NoKey(Refusal):
    status = 503
    code = "NOT_CONFIGURED"
    sentence = (
        "CREDENTIAL_ENCRYPTION_KEY is not set, and credentials are stored encrypted or not at all. Set it on the web "
        "and the worker alike; `openssl rand -hex 32` makes one."
    )


# What stands.


def store(candidate: Credentials, *, accepted_at: datetime, actor: str) -> int:
    """Seal a set that TradingView accepted at `accepted_at`, as the active one in place of the one before; its id.

    Of two people who store at once the later one's set stays. Raises NoKey.
    """
    ring = _ring()
    # Two of them meet here: the second reads what the first has committed, and retires it.
    control.control_row()
    number = int(
        db.session.scalars(
            sa.select(sa.func.nextval(sa.func.pg_get_serial_sequence(TradingViewCredential.__tablename__, "id")))
        ).one()
    )
    # The id comes first, because it is part of what is sealed: a sealed set opens in its own row alone.
    sealed = _sealed(ring, candidate, number)
    before = _retire_active(f"replaced by {number}")
    row = TradingViewCredential(
        id=number, key_id=sealed.key_id, sealed=sealed.data, entered_by=actor, validated_at=accepted_at
    )
    db.session.add(row)
    db.session.flush()
    audit.record(
        actor, "provisioning.credentials_saved", f"credentials:{number}", key_id=sealed.key_id, replaced=before
    )
    log.info("provisioning.credentials_saved", credential_id=number, replaced=before)
    return number


def retire(*, actor: str, because: str) -> int:
    """Use the active set no more, and have none; the id it had. Raises NotThere when there is none.

    Nothing is deleted. What the environment holds, if anything, is used from then on.
    """
    control.control_row()
    retired = _retire_active(because)
    if retired is None:
        raise NotThere("No credentials are stored, so there are none to retire.")
    audit.record(actor, "provisioning.credentials_retired", f"credentials:{retired}", because=because)
    log.warning("provisioning.credentials_retired", credential_id=retired)
    return retired


# Reading.


def active() -> Credentials | None:
    """The set to call TradingView with, read afresh; None when there is none.

    What is stored comes first; the environment's `TV_SESSION_ID` and `TV_SIGNATURE` count only while
    nothing is. Raises CannotRead when the stored set does not open, and never falls back to another.
    """
    row = db.session.scalar(_active_row().execution_options(populate_existing=True))
    if row is not None:
        return _opened(row)
    settings = _settings()
    if settings.tv_session_id is None and settings.tv_signature is None:
        return None
    return Credentials(settings.tv_session_id, settings.tv_signature)


def warn_of_environment(settings: Settings) -> None:
    """Say once at start that credentials do not belong into the environment any more."""
    if settings.tv_session_id is not None or settings.tv_signature is not None:
        log.warning(
            "provisioning.credentials_in_environment",
            deprecated=["TV_SESSION_ID", "TV_SIGNATURE"],
            instead="sts credentials set",
        )


def kept() -> Kept | None:
    """What people may see of the active set; None when none is stored. Opens nothing."""
    row = db.session.scalar(_active_row())
    return None if row is None else _shown(row, _ring_or_none())


def history() -> list[Kept]:
    """Every set that ever was stored, the newest first, without what is inside."""
    ring = _ring_or_none()
    rows = db.session.scalars(sa.select(TradingViewCredential).order_by(TradingViewCredential.id.desc()))
    return [_shown(row, ring) for row in rows]


def tell_age() -> None:
    """Tell staff once a day when the active set is seven days old, and in stronger words from fourteen.

    TradingView ends sessions without a word, and nobody is glad to hear of it by a customer's letter.
    """
    found = kept()
    if found is None or not found.is_old or _settings().provisioning_mode == "manual":
        return
    level = "critical" if found.is_too_old else "warning"
    if letters.credential_age(
        found.age.days, critical=found.is_too_old, key=f"credential-age:{level}:{clock.now():%Y-%m-%d}"
    ):
        log.warning("provisioning.credentials_old", credential_id=found.id, days=found.age.days, level=level)


# Another key.


def reseal(*, actor: str, after: int = 0) -> Resealed | None:
    """Seal the next sets under the present key, those with an id above `after`; None when there are no more.

    Retired sets are sealed as well, so that an older key is needless afterwards. Safe to call twice and
    to stop anywhere: each batch is a step of its own. Raises NoKey.
    """
    ring = _ring()
    rows = db.session.scalars(
        sa.select(TradingViewCredential)
        .where(TradingViewCredential.id > after, TradingViewCredential.key_id != ring.present_id)
        .order_by(TradingViewCredential.id)
        .limit(BATCH)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if not rows:
        return None
    unreadable = sum(not _reseal(ring, row) for row in rows)
    db.session.flush()
    sealed = len(rows) - unreadable
    if sealed:
        audit.record(actor, "provisioning.credentials_resealed", SUBJECT, key_id=ring.present_id, count=sealed)
    log.info("provisioning.credentials_resealed", count=sealed, unreadable=unreadable, key_id=ring.present_id)
    return Resealed(sealed, unreadable, rows[-1].id)


def present_key_id() -> str:
    """The name of the key that seals at present. Raises NoKey where nothing could be stored."""
    return _ring().present_id


def _reseal(ring: Keyring, row: TradingViewCredential) -> bool:
    try:
        sealed = _sealed(ring, _opened(row), row.id)
    except CannotRead:
        return False
    row.key_id, row.sealed = sealed.key_id, sealed.data
    return True


def _active_row() -> sa.Select[TradingViewCredential]:
    return sa.select(TradingViewCredential).where(TradingViewCredential.retired_at.is_(None))


def _retire_active(because: str) -> int | None:
    return db.session.scalar(
        sa.update(TradingViewCredential)
        .where(TradingViewCredential.retired_at.is_(None))
        .values(retired_at=clock.now(), retired_because=because)
        .returning(TradingViewCredential.id)
        .execution_options(synchronize_session="fetch")
    )


def _sealed(ring: Keyring, credentials: Credentials, number: int) -> Sealed:
    content = {
        "session_id": _in_clear(credentials.session_id),
        "signature": _in_clear(credentials.signature),
        "api_url": credentials.api_url,
    }
    return ring.seal(json.dumps(content).encode(), purpose=PURPOSE, place=_place(number))


def _opened(row: TradingViewCredential) -> Credentials:
    ring = _ring_or_none()
    if ring is None or not ring.knows(row.key_id):
        raise CannotRead(
            f"the stored credentials cannot be read: their key {row.key_id} is neither CREDENTIAL_ENCRYPTION_KEY nor "
            "among its fallbacks. Bring the key back, or enter the credentials again",
            row.id,
        )
    try:
        content = json.loads(ring.open(Sealed(row.key_id, row.sealed), purpose=PURPOSE, place=_place(row.id)))
    except CannotOpen:
        raise CannotRead(
            "the stored credentials cannot be read: what is stored was changed or damaged. Enter them again", row.id
        ) from None
    return Credentials(
        _secret(content["session_id"]), _secret(content["signature"]), content["api_url"], row.id, row.validated_at
    )


def _shown(row: TradingViewCredential, ring: Keyring | None) -> Kept:
    key: Literal["present", "older", "lost"] = "lost"
    if ring is not None and ring.knows(row.key_id):
        key = "present" if row.key_id == ring.present_id else "older"
    return Kept(
        id=row.id,
        entered_at=row.created_at,
        entered_by=row.entered_by,
        validated_at=row.validated_at,
        retired_at=row.retired_at,
        retired_because=row.retired_because,
        key_id=row.key_id,
        key=key,
    )


def _place(number: int) -> str:
    return f"{TradingViewCredential.__tablename__}:{number}"


def _secret(text: str | None) -> SecretStr | None:
    return None if text is None else SecretStr(text)


def _in_clear(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _ring() -> Keyring:
    ring = _ring_or_none()
    if ring is None:
        raise NoKey
    return ring


def _ring_or_none() -> Keyring | None:
    return Keyring.of(_settings())


def _settings() -> Settings:
    return cast(Settings, current_app.config["STS"])
