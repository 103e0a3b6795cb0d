"""Enter credentials of TradingView: shape what was pasted, try it, keep it.

Several verbs and not one, because the try calls TradingView and nothing may be open meanwhile. A door says
`shaped` (no I/O), `at_the_address_kept` if no address was entered, and `count_try` (in a transaction of their
own, so that a refused try counts as well), `ask` (the call, with nothing open) and `keep` (one transaction).
What they raise and write to the log never holds anything of the credentials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

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
    """Credentials that were asked about at `at` and not refused: what `keep` takes and only `ask` makes.

    `session_was_checked` is False where only the access service's being there could be asked for.
    """

    credentials: Credentials
    at: datetime
    session_was_checked: bool

    @property
    def sentence(self) -> str:
        """What a person may conclude from it."""
        if self.session_was_checked:
            return "TradingView accepts the credentials."
        return (
            "The access service answers. That is all that was checked, because TV_CANARY_USERNAME is not set: whether "
            "it is signed in at TradingView is not known."
        )


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


def at_the_address_kept(candidate: Credentials) -> Credentials:
    """The candidate with the address of the active set: for whoever enters cookies and says nothing of the service.

    Raises FixInput where an access service is in use and the active set, which may name one, cannot be read.
    """
    try:
        active = credentials.active()
    except credentials.CannotRead:
        if _mode() != "unofficial-api":
            return candidate
        raise FixInput(
            "The stored credentials cannot be read, and so nobody knows which access service they name. Enter its "
            "address as well, or an empty one for that of TV_ACCESS_API_URL."
        ) from None
    return replace(candidate, api_url=active.api_url) if active is not None else candidate


def service_of(candidate: Credentials) -> str | None:
    """The host of the access service that credentials would be sent to; None where none is in use. For people.

    Whatever else its address holds is part of the credentials.
    """
    if _mode() != "unofficial-api":
        return None
    return urlsplit(candidate.api_url or current_app.config["STS"].tv_access_api_url or "").hostname


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

    An access service can be asked for its session only with a `TV_CANARY_USERNAME`; what comes back says
    whether it was. Raises NotAccepted when it does not, and NotNow when it does not answer.
    """
    verdict, reason = control.ask_session(adapter)
    if verdict is control.Check.REFUSED:
        log.warning("provisioning.credentials_not_accepted", because=reason)
        raise NotAccepted(f"TradingView does not accept these credentials ({reason}). Nothing was changed.")
    if verdict is control.Check.NO_ANSWER:
        log.warning("provisioning.credentials_not_checked", because=reason)
        raise NotNow(f"TradingView did not answer ({reason}). Nothing was stored and nothing was changed; try again.")
    return Accepted(candidate, clock.now(), session_was_checked=_session_is_checked())


def keep(accepted: Accepted, *, actor: str) -> int:
    """Store what was accepted as the active set; its id. Ends the open incident: what waited is due.

    Of two people who save at once the later one's set stays. Raises NoKey.
    """
    number = credentials.store(accepted.credentials, accepted_at=accepted.at, actor=actor)
    if accepted.session_was_checked:
        because = f"TradingView accepted the credentials {number}"
    else:
        because = f"the access service answered with the credentials {number}; its session could not be checked"
    control.session_restored(actor=actor, because=because)
    return number


def _secret(text: str | None) -> SecretStr | None:
    return None if text is None else SecretStr(text)


def _session_is_checked() -> bool:
    """Whether asking for the session says anything of TradingView, and not only of a service in front of it."""
    return _mode() != "unofficial-api" or current_app.config["STS"].tv_canary_username is not None


def _mode() -> str:
    return str(current_app.config["STS"].provisioning_mode)
