"""Asking TradingView whether it knows a name: seldom, with its answers kept, and with a sentence for each outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

import sqlalchemy as sa
import structlog
from flask import current_app
from sqlalchemy.dialects.postgresql import insert

from sts_app.core import clock
from sts_app.core.db import db
from sts_app.core.flights import Flights
from sts_app.provisioning import Way, control, pace, way
from sts_app.provisioning.control import Standing
from sts_app.provisioning.gateway import NeedsCustomer, NeedsStaff, TradingView, Trouble, TryLater
from sts_app.provisioning.look_alikes import look_alikes, variants
from sts_app.provisioning.models import NameCheckRow
from sts_app.provisioning.rules import NameOutcome

log = structlog.get_logger()

# PRODUCT 3: cached 24 h when valid, 1 h when not. What kept an answer away is not kept itself.
LASTS = {NameOutcome.VALID: timedelta(hours=24), NameOutcome.UNKNOWN: timedelta(hours=1)}
# How long to wait where TradingView named no time.
USUAL_WAIT = timedelta(seconds=60)

# What a customer reads of each outcome, and what to do next.
SENTENCES = {
    NameOutcome.VALID: "TradingView knows this name.",
    NameOutcome.UNKNOWN: (
        "TradingView does not know this name. Please compare it, letter by letter, with the one on your TradingView "
        "profile."
    ),
    NameOutcome.BUSY: (
        "Many names are being checked at this moment, so this one has to wait {wait}. You can go on meanwhile: it is "
        "checked again before you pay and before access is given to it."
    ),
    NameOutcome.SLOW: (
        "TradingView took too long to answer. Please try once more, or go on: the name is checked again before you "
        "pay and before access is given to it."
    ),
    NameOutcome.DOWN: (
        "TradingView cannot be asked at this moment, which has nothing to do with your name. You can go on: it is "
        "checked before access is given to it, and before you pay as soon as TradingView can be asked again."
    ),
    NameOutcome.NOT_CONFIGURED: (
        "Names are checked by a person at present. Please compare yours, letter by letter, with the one on your "
        "TradingView profile: access is given to exactly this name."
    ),
}
_OUTCOMES = {
    Trouble.RATE_LIMIT: NameOutcome.BUSY,
    Trouble.TIMEOUT: NameOutcome.SLOW,
    Trouble.FAILURE: NameOutcome.DOWN,
}


@dataclass(frozen=True)
class NameCheck:
    """What TradingView says of a name.

    `spelling` is its own when the name is valid, `retry_after` how long to wait when it is busy,
    `from_cache` says that nobody was asked now. `warnings` are sentences about characters that are
    easily mistaken; `variants` are names that an unknown one may have been meant to be, asked of nobody.
    """

    outcome: NameOutcome
    spelling: str | None = None
    retry_after: timedelta | None = None
    from_cache: bool = False
    warnings: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    @property
    def wait(self) -> timedelta:
        """How long to wait before asking again, where nothing else is known."""
        return max(self.retry_after or USUAL_WAIT, timedelta(seconds=1))

    @property
    def sentence(self) -> str:
        """What a customer reads of it."""
        return SENTENCES[self.outcome].format(wait=_wait_words(self.wait))


_flights: Flights[NameCheck] = Flights()


def check(name: str, *, urgent: bool = True) -> NameCheck:
    """Say whether TradingView knows `name`: by what it said lately, or by one call.

    What is not `urgent` (a name that is typed, or entered before the purchase) leaves a share of the reads to
    those who pay and have paid: without reads no access can be given. What is urgent need not wait for it.
    Trouble at TradingView is an outcome and no exception; it takes the validation timeout at most. Call
    it with nothing open, after a view's checkpoint: what it reads, writes and pays is in transactions of
    its own, and none of them lasts over the call. Whoever asks for one name at the same moment shares the
    call with all who do so in this process; another process may make one more, which costs one read.
    """
    # Not shared with the less urgent: the reads may be spent for them alone.
    answer = _flights.share((name.lower(), urgent), lambda: _check(name, urgent=urgent))
    seen = answer.spelling or name
    return replace(
        answer,
        warnings=tuple(look_alikes(seen)),
        variants=tuple(variants(seen)) if answer.outcome is NameOutcome.UNKNOWN else (),
    )


def forget(name: str) -> None:
    """Drop what TradingView said of a name, because it may have changed there: the next check asks again."""
    db.session.execute(sa.delete(NameCheckRow).where(NameCheckRow.name_key == name.lower()))


def denied_lately(name: str) -> bool:
    """Whether TradingView said within the hour that it does not know this name. Asks nobody."""
    since = clock.now() - LASTS[NameOutcome.UNKNOWN]
    denied = sa.exists().where(
        NameCheckRow.name_key == name.lower(),
        NameCheckRow.outcome == NameOutcome.UNKNOWN,
        NameCheckRow.checked_at > since,
    )
    return bool(db.session.scalar(sa.select(denied)))


def tidy() -> None:
    """Drop answers too old to be given again."""
    oldest = clock.now() - max(LASTS.values())
    db.session.execute(sa.delete(NameCheckRow).where(NameCheckRow.checked_at < oldest))


def _check(name: str, *, urgent: bool) -> NameCheck:
    known = _remembered(name)
    if known is not None:
        return known
    standing, found = _way_there()
    if found is None or not standing.may_read:
        # Where everything due is worked by hand (an open incident means that, too), a person sees the name next.
        return NameCheck(NameOutcome.NOT_CONFIGURED if standing.by_hand else NameOutcome.DOWN)
    wait = pace.allow("read", urgent=urgent)
    if wait is not None:
        return NameCheck(NameOutcome.BUSY, retry_after=wait)
    answer = _ask(found.adapter, name)
    if answer.outcome in LASTS:
        _remember(name, answer)
    return answer


def _way_there() -> tuple[Standing, Way | None]:
    """What may be done and by what, read in a session that ends here: none is open while TradingView is asked."""
    with current_app.app_context():
        return control.standing(), way()


def _ask(adapter: TradingView, name: str) -> NameCheck:
    try:
        spelling = adapter.find_name(name)
    except TryLater as trouble:
        if trouble.doubts_session:
            control.doubt_session(trouble.reason)
        return NameCheck(_OUTCOMES[trouble.trouble], retry_after=trouble.after)
    except NeedsStaff as trouble:
        control.doubt_session(trouble.reason)
        return NameCheck(NameOutcome.DOWN)
    except NeedsCustomer:
        spelling = None
    return NameCheck(NameOutcome.VALID, spelling) if spelling is not None else NameCheck(NameOutcome.UNKNOWN)


def _remembered(name: str) -> NameCheck | None:
    with db.engine.begin() as connection:
        row = connection.execute(
            sa.select(NameCheckRow.outcome, NameCheckRow.spelling, NameCheckRow.checked_at).where(
                NameCheckRow.name_key == name.lower()
            )
        ).one_or_none()
    if row is None or row.checked_at + LASTS[NameOutcome(row.outcome)] <= clock.now():
        return None
    return NameCheck(NameOutcome(row.outcome), row.spelling, from_cache=True)


def _remember(name: str, answer: NameCheck) -> None:
    said = {"outcome": answer.outcome, "spelling": answer.spelling, "checked_at": clock.now()}
    with db.engine.begin() as connection:
        connection.execute(
            insert(NameCheckRow)
            .values(name_key=name.lower(), **said)
            .on_conflict_do_update(index_elements=[NameCheckRow.name_key], set_=said)
        )


def _wait_words(wait: timedelta) -> str:
    seconds = math.ceil(wait.total_seconds())
    if seconds < 90:
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    return f"{math.ceil(seconds / 60)} minutes"
