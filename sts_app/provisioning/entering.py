"""Enter credentials of TradingView: shape what was pasted, try it, keep it.

Four verbs and not one, because the try calls TradingView and nothing may be open meanwhile. A door says
`shaped` (no I/O), `count_try` (a transaction of its own, so that a refused try counts as well), `ask` (the
call, with nothing open) and `keep` (one transaction). What they raise and write to the log never holds
anything of the credentials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from flask import current_app
from pydantic import SecretStr

from sts_app.audit import services as audit
from sts_app.audit.models import AuditLog
from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.errors import FixInput, NotNow, Refusal, SlowDown
from sts_app.provisioning import control, cookies, credentials
from sts_app.provisioning.credentials import SUBJECT, Credentials
from sts_app.provisioning.gateway import TradingView
from sts_app.provisioning.rules import Switch

log = structlog.get_logger()

TRIED = "provisioning.credentials_tried"
TRIES = 5
TRIES_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True)
class Accepted:
    """Credentials that TradingView accepted at `at`: what `keep` takes and only `ask` makes."""

    credentials: Credentials
    at: datetime


class NotAccepted(Refusal):
    status = 422
    code = "NOT_ACCEPTED"


class TooMany(SlowDown):
    """`retry_after` says in how many seconds the next try may be made."""


def refuse_unready() -> None:
    """Say before anybody copies cookies that they could not be saved: manual mode, or no key (NoKey)."""
    if _mode() == "manual":
        raise Refusal(
            "This store works by hand (PROVISIONING_MODE=manual): nothing could check credentials or use them."
        )
    credentials.present_key_id()


def shaped(*, session_id: str = "", signature: str = "", api_url: str = "") -> Credentials:
    """What was typed or pasted, as credentials that could be right. No I/O.

    Either cookie may be pasted as its value, or both at once as a whole `Cookie` header into either field.
    Only an access service may go without: it may sign in by itself, and then its address is enough.
    Raises FixInput with a sentence that repeats nothing of what was typed.
    """
    pasted = cookies.read(session_id=session_id, signature=signature)
    address = cookies.address(api_url)
    neither = pasted.session_id is None and pasted.signature is None
    if neither and (address is None or _mode() != "unofficial-api"):
        raise FixInput("Neither the session id nor the signature was entered (cookies sessionid and sessionid_sign).")
    if not neither and pasted.session_id is None:
        raise FixInput("The session id (cookie sessionid) is missing; the signature alone opens nothing.")
    if not neither and pasted.signature is None:
        raise FixInput("The signature (cookie sessionid_sign) is missing; TradingView wants both cookies.")
    return Credentials(_secret(pasted.session_id), _secret(pasted.signature), address)


def count_try(*, actor: str) -> None:
    """Spend one of the five tries that all of the store has in a minute. Commit it before `ask`.

    Raises TooMany, what `refuse_unready` raises, and NotNow while staff allow no calls at all.
    """
    refuse_unready()
    # Whoever tries at the same moment waits here, and then counts this try as well.
    if control.control_row().switch == Switch.DISABLED:
        raise NotNow("Calls to TradingView are switched off. Switch to MANUAL first; then credentials can be checked.")
    now = clock.now()
    tried = db.session.scalars(
        sa.select(AuditLog.created_at)
        .where(AuditLog.subject == SUBJECT, AuditLog.action == TRIED, AuditLog.created_at > now - TRIES_WITHIN)
        .order_by(AuditLog.created_at.desc())
        .limit(TRIES)
    ).all()
    if len(tried) == TRIES:
        wait = max(1, math.ceil((tried[-1] + TRIES_WITHIN - now).total_seconds()))
        raise TooMany(f"Credentials were tried {TRIES} times within a minute. Wait {wait} seconds.", retry_after=wait)
    audit.record(actor, TRIED, SUBJECT)
    db.session.flush()


def ask(candidate: Credentials, adapter: TradingView) -> Accepted:
    """Let TradingView say whether it accepts them: one call, by an adapter made of them, with nothing open.

    Raises NotAccepted when it does not, and NotNow when it does not answer.
    """
    verdict, reason = control.ask_session(adapter)
    if verdict is control.Check.REFUSED:
        log.warning("provisioning.credentials_not_accepted", because=reason)
        raise NotAccepted(f"TradingView does not accept these credentials ({reason}). Nothing was changed.")
    if verdict is control.Check.NO_ANSWER:
        log.warning("provisioning.credentials_not_checked", because=reason)
        raise NotNow(f"TradingView did not answer ({reason}). Nothing was stored and nothing was changed; try again.")
    return Accepted(candidate, clock.now())


def keep(accepted: Accepted, *, actor: str) -> int:
    """Store what TradingView accepted as the active set; its id. Ends the open incident: what waited is due.

    Of two people who save at once the later one's set stays. Raises NoKey.
    """
    number = credentials.store(accepted.credentials, accepted_at=accepted.at, actor=actor)
    control.session_restored(actor=actor, because=f"TradingView accepted the credentials {number}")
    return number


def _secret(text: str | None) -> SecretStr | None:
    return None if text is None else SecretStr(text)


def _mode() -> str:
    return str(current_app.config["STS"].provisioning_mode)
