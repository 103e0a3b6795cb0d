"""Reading who holds what at TradingView: whole lists, or name by name where there are none.

Nothing is open while a call is made. Every call waits its turn at the pace that all share, and is made
only while TradingView may be asked at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog
from flask import current_app

from sts_app.core import clock
from sts_app.core.db import transaction
from sts_app.provisioning import control, pace
from sts_app.provisioning.comparing import Reading
from sts_app.provisioning.gateway import AccessFact, Holder, NeedsCustomer, NeedsStaff, TradingView, TryLater
from sts_app.provisioning.rules import Pair
from sts_app.settings import Settings

log = structlog.get_logger()

T = TypeVar("T")

# One bad moment in a long reading is no reason to begin it again tomorrow.
TRIES = 2
TRY_AGAIN_AFTER = timedelta(seconds=30)
# So many names in a row without an answer say that none will have one.
UNANSWERED_IN_ROW = 3


class CannotRead(Exception):
    """The reading is given up; `reason` is fit for staff."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutOfTime(CannotRead):
    """The time of the run is over."""


class NoAnswer(CannotRead):
    """One question was not answered, whatever becomes of the next."""


class Reader:
    """Reads through `adapter`, which was built with the credentials of `credential_id`, until the moment `until`.

    `sleep` takes seconds.
    """

    def __init__(
        self,
        adapter: TradingView,
        *,
        credential_id: int | None,
        until: datetime,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._adapter = adapter
        self._credential_id = credential_id
        self._until = until
        self._sleep = sleep

    def lists(self, needed: Sequence[str], others: Sequence[str] = ()) -> Reading:
        """The whole list of each script. Raises `CannotRead` when one of `needed` cannot be read to its end.

        One of `others`, which nobody should hold any more, is left out when it cannot be read: TradingView
        may have forgotten the script. Raises the gateway's `NotOffered` where this way to it has no lists.
        """
        began_at = clock.now()
        holders: dict[str, Sequence[Holder]] = {}
        for script_id in (*needed, *others):
            try:
                holders[script_id] = self._ask(partial(self._adapter.list_holders, script_id))
            except NoAnswer:
                if script_id in needed:
                    raise
                log.warning("provisioning.list_left_out", script_id=script_id)
        return Reading(began_at, holders)

    def names(self, names: Sequence[tuple[str, str]], script_ids: Sequence[str]) -> tuple[Reading, str | None]:
        """What each of `names` (key and spelling) holds of the scripts, and the key of the last that was asked for.

        Ends early when the time is over, with what was read until then: each answer stands alone, but for the
        unknown names, which are left for the next round where they cannot be asked for again. Raises `CannotRead`
        when several names in a row had no answer, or when nobody seems to be known any more.
        """
        began_at = clock.now()
        answers: dict[str, tuple[str, Sequence[AccessFact]]] = {}
        unknown: list[tuple[str, str]] = []
        last: str | None = None
        unanswered = 0
        for key, spelling in names:
            try:
                facts, unanswered = self.access(spelling, script_ids), 0
            except OutOfTime:
                break
            except NoAnswer:
                unanswered += 1
                if unanswered == UNANSWERED_IN_ROW:
                    raise
            else:
                if facts is None:
                    unknown.append((key, spelling))
                else:
                    answers[key] = spelling, facts
            last = key
        gone: set[str] = set()
        if unknown:
            try:
                gone = self._still_unknown(unknown, answers, script_ids)
            except (OutOfTime, NoAnswer) as trouble:
                log.info("provisioning.unknown_left", names=len(unknown), because=trouble.reason)
        for key, spelling in unknown:
            if key in gone:
                answers[key] = spelling, [AccessFact(script_id, has_access=False) for script_id in script_ids]
        holders: dict[str, list[Holder]] = {script_id: [] for script_id in script_ids}
        answered: set[Pair] = set()
        for key, (spelling, held) in answers.items():
            answered |= {Pair(key, fact.script_id) for fact in held if fact.is_told}
            for fact in held:
                if fact.has_access:
                    holders[fact.script_id].append(Holder(spelling, fact.expires_at))
        return Reading(began_at, holders, frozenset(answered), frozenset(gone)), last

    def _still_unknown(
        self,
        unknown: Sequence[tuple[str, str]],
        answers: dict[str, tuple[str, Sequence[AccessFact]]],
        script_ids: Sequence[str],
    ) -> set[str]:
        """The names that hold nothing: they are still unknown, and TradingView still knows somebody else.

        A service that is deployed anew, or that lost its way to TradingView, knows nobody for a while.
        """
        somebody = next((spelling for spelling, _ in reversed(answers.values())), None)
        gone = {key for key, spelling in unknown if self.access(spelling, script_ids) is None}
        if somebody is None or self.access(somebody, script_ids) is None:
            raise CannotRead("TradingView seems to know nobody any more.")
        return gone

    def access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact] | None:
        """What one name holds, None when TradingView does not know the name. Raises `CannotRead`.

        An answer that the name is unknown counts when asking for the name itself says the same.
        """
        try:
            return self._ask(partial(self._adapter.has_access, name, script_ids))
        except NeedsCustomer:
            pass
        try:
            if self._ask(partial(self._adapter.find_name, name)) is None:
                return None
        except NeedsCustomer:
            return None
        raise NoAnswer("TradingView knows the name, and said in another answer that it does not.")

    def _ask(self, question: Callable[[], T]) -> T:
        for tries_left in reversed(range(TRIES)):
            self._wait_for_turn()
            try:
                return question()
            except NeedsStaff as trouble:
                with transaction():
                    control.refuse_session(trouble.reason, credential_id=self._credential_id)
                raise CannotRead(f"TradingView refuses our session: {trouble.reason}") from None
            except TryLater as trouble:
                log.info("provisioning.reading_failed", because=trouble.reason, tries_left=tries_left)
                if trouble.doubts_session:
                    self._ask_session()
                if not tries_left:
                    raise NoAnswer(trouble.reason) from None
                settings: Settings = current_app.config["STS"]
                self._rest(trouble.after or settings.scaled(TRY_AGAIN_AFTER))
        raise AssertionError("the last try returns or raises")

    def _wait_for_turn(self) -> None:
        while True:
            if clock.now() >= self._until:
                raise OutOfTime("There was not enough time to read everything.")
            with transaction():
                may_read = control.standing().may_read
            if not may_read:
                raise CannotRead("TradingView may not be asked at the moment.")
            wait = pace.allow("read", urgent=False)
            if wait is None:
                return
            self._rest(wait)

    def _rest(self, wait: timedelta) -> None:
        left = max(self._until - clock.now(), timedelta(0))
        self._sleep(min(wait, left).total_seconds())

    def _ask_session(self) -> None:
        """A failure behind which an expired session may hide: ask for the session."""
        check, reason = control.ask_session(self._adapter)
        if check is control.Check.REFUSED:
            with transaction():
                control.refuse_session(reason, credential_id=self._credential_id)
