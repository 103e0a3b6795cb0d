"""TradingView itself, by the calls that its own pages make, with the session of a person who signed in.

There is no official interface. What is relied on beyond the few calls themselves is little, and comes
from what public clients of the same calls have in common: `add` answers `exists` for somebody who is on
the list already and leaves the end of that access as it is, a list comes in pages of 30 at most, and
`next` is the path of the next page, or nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from sts_app.provisioning.gateway import (
    AccessFact,
    Holder,
    Meter,
    NeedsCustomer,
    NeedsStaff,
    ScriptAnswer,
    Trouble,
    TryLater,
    unmetered,
)
from sts_app.provisioning.live_http import (
    BAD_ADDRESS,
    Answer,
    Asked,
    Client,
    can_be_a_name,
    form_content,
    multipart_content,
    quoted,
    sendable,
)

T = TypeVar("T")
Kind = Literal["read", "write"]

ADD = "/pine_perm/add/"
CHANGE_END = "/pine_perm/modify_user_expiration/"
REMOVE = "/pine_perm/remove/"
LIST = "/pine_perm/list_users/"

ODD_STATUS = "a status that makes no sense"
PAGE_SIZE = 30
# Ten thousand holders and more. A list that goes on beyond that is a list in a circle.
MOST_PAGES = 400

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
# What ends one cookie and begins another, and what the standard for cookies keeps out of a value.
NOT_IN_A_COOKIE = ' ",;\\'

_QUERY = re.compile(r"[!$-~]{1,2000}")


@dataclass(frozen=True)
class _Said:
    """What TradingView said to one write: `exists` when the name was on the list already."""

    refused: str | None = None
    exists: bool = False


@dataclass(frozen=True)
class _Page:
    """One page of a list. `rest` is the query of the next page, None when there is none.

    `is_last` is None when a page does not say whether more follow.
    """

    holders: list[Holder]
    rest: str | None
    is_last: bool | None


@dataclass(frozen=True)
class _Listed:
    """Holders by their name in lower case. `is_whole` is False when it is not sure that these are all."""

    holders: dict[str, Holder]
    is_whole: bool


class DirectTradingView:
    """The `TradingView` gateway over the site at `base_url`. Each script is a call of its own.

    `session_id` and `signature` are the cookies `sessionid` and `sessionid_sign`. `validate_timeout` is
    the seconds for looking a name up and for checking the session, `call_timeout` those for a whole
    grant, revoke or reading, however many scripts it is about, and for each page of a list of holders.
    What could not be asked in that time is left out of the answers; if that is everything it is `TryLater`.
    No call is ever repeated here: whoever calls counts, by `meter`, and paces.
    """

    one_call_for_all = False

    def __init__(
        self,
        base_url: str,
        *,
        session_id: SecretStr | None,
        signature: SecretStr | None,
        validate_timeout: float,
        call_timeout: float,
        meter: Meter = unmetered,
    ) -> None:
        self._origin = base_url.strip().rstrip("/")
        self._cookies = {"sessionid": session_id, "sessionid_sign": signature}
        self._validate_timeout = validate_timeout
        self._call_timeout = call_timeout
        self._client = Client(self._origin, meter=meter)

    def close(self) -> None:
        """Let go of what the HTTP client holds. A later call opens it anew."""
        self._client.close()

    def find_name(self, name: str) -> str | None:
        """The name in TradingView's own spelling, or None when it is unknown there. Takes one call."""
        if not can_be_a_name(name):
            return None
        return self._look_up(name, self._validate_timeout)

    def grant(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for access for life, one call for each script; an answer without an error is only a claim.

        Who is on the list already may be there with an end, which `add` leaves as it is. Then a second
        call takes the end away. Removing and adding again would do so too, and would leave a customer
        with nothing if it broke off in between.

        A refusal may mean that TradingView does not know the name: the first one looks it up. Unknown is
        `NeedsCustomer`, and a name that is spelled otherwise there is asked for in that spelling.
        """

        def give(name: str, script_id: str, *, is_extra: bool = False) -> _Said:
            said = self._write("grant", ADD, name, script_id, left(), is_extra=is_extra)
            if said.exists:
                # Refused or not: the name holds the script, and reading back shows whether with an end.
                self._write("grant", CHANGE_END, name, script_id, left(), is_extra=True)
            return said

        spelling: str | None = None

        def ask(script_id: str) -> ScriptAnswer:
            nonlocal spelling
            said = give(spelling or name, script_id)
            if said.refused and spelling is None:
                spelling = self._look_up(name, min(left(), self._validate_timeout))
                if spelling is None:
                    raise NeedsCustomer("grant: TradingView does not know this name")
                if spelling != name:
                    said = give(spelling, script_id, is_extra=True)
            return ScriptAnswer(script_id, said.refused)

        if script_ids:
            _refuse_what_is_no_name("grant", name)
        left = self._time_for("grant")
        return _each(script_ids, ask)

    def revoke(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for removal, one call for each script. A refusal for what the name does not hold is none:
        the list tells, and it also tells the spelling under which a name that was refused is held.
        """

        def ask(script_id: str) -> ScriptAnswer:
            said = self._write("revoke", REMOVE, name, script_id, left())
            if said.refused:
                listed = self._list("has_access", script_id, left, name=name)
                holder = listed.holders.get(name.lower()) if listed else None
                if holder is not None and holder.name != name:
                    said = self._write("revoke", REMOVE, holder.name, script_id, left(), is_extra=True)
                elif holder is None and listed is not None and listed.is_whole:
                    said = _Said()
            return ScriptAnswer(script_id, said.refused)

        if script_ids:
            _refuse_what_is_no_name("revoke", name)
        left = self._time_for("revoke")
        return _each(script_ids, ask)

    def has_access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact]:
        """Read what stands, one call for each script. Only a row under this very name, ignoring case, is access.

        An end that has passed is told like any other: the row is still on the list.
        """

        def ask(script_id: str) -> AccessFact:
            listed = self._list("has_access", script_id, left, name=name)
            holder = listed.holders.get(name.lower()) if listed else None
            if holder is not None:
                return AccessFact(script_id, has_access=True, expires_at=holder.expires_at)
            return AccessFact(script_id, has_access=False, is_told=listed is not None and listed.is_whole)

        if script_ids:
            _refuse_what_is_no_name("has_access", name)
        left = self._time_for("has_access")
        return _each(script_ids, ask)

    def list_holders(self, script_id: str) -> list[Holder]:
        """Everybody on the list of a script, page by page; an end that has passed is told like any other.

        Any fault, a page that cannot be followed or comes again, and a list of which nobody can say that
        it is whole are `TryLater`.
        """
        # A page that is just full and says nothing of a next one leaves open whether there is one.
        # Pages of another size show: the same list does not fill both.
        for size in (PAGE_SIZE, PAGE_SIZE - 1):
            listed = self._list("list_holders", script_id, lambda: self._call_timeout, size=size)
            if listed is None:
                raise TryLater("list_holders: TradingView refused to list the holders of this script")
            if listed.is_whole:
                return list(listed.holders.values())
        raise TryLater("list_holders: the list does not say where it ends")

    def check_session(self) -> None:
        """Ask for what only who is signed in may see: 200 with JSON. One call."""

        def read(answer: Answer) -> None:
            if 400 <= answer.status < 500 and answer.status not in (408, 429):
                raise NeedsStaff(f"check_session: the session was refused ({answer.status})")
            answer.raise_for_status()
            answer.record()

        self._call(Asked("read", "check_session", "GET", "/tvcoins/details/", self._validate_timeout), read)

    def _look_up(self, name: str, seconds: float) -> str | None:
        def read(answer: Answer) -> str | None:
            if _is_refused(answer):
                raise TryLater(f"find_name: TradingView would not look for this name ({answer.status})")
            answer.raise_for_status()
            hints = [_name(answer, hint) for hint in answer.records()]
            return next((hint for hint in hints if hint.lower() == name.lower()), None)

        return self._call(Asked("read", "find_name", "GET", f"/username_hint/?s={quoted(name)}", seconds), read)

    def _write(self, op: str, path: str, name: str, script_id: str, seconds: float, *, is_extra: bool = False) -> _Said:
        content, content_type = multipart_content({"pine_id": script_id, "username_recip": name})
        return self._call(Asked("write", op, "POST", path, seconds, content, content_type, is_extra), _read_said)

    def _list(
        self,
        op: str,
        script_id: str,
        left: Callable[[], float],
        *,
        name: str | None = None,
        size: int = PAGE_SIZE,
    ) -> _Listed | None:
        """The holders of a script, or of those the one called `name`. None when TradingView refuses to list them.

        `left` says how many seconds the next page may take.
        """
        wanted = name.lower() if name is not None else None
        content, content_type = form_content({"pine_id": script_id} | ({"username": name} if name is not None else {}))
        holders: dict[str, Holder] = {}
        query, asked_for = f"limit={size}&order_by=-created", set[str]()
        while len(asked_for) < MOST_PAGES:
            asked_for.add(query)
            page = self._call(Asked("read", op, "POST", f"{LIST}?{query}", left(), content, content_type), _read_page)
            if page is None:
                return None
            for holder in page.holders:
                if holders.setdefault(holder.name.lower(), holder) != holder:
                    raise TryLater(f"{op}: the list changed while it was read")
            if wanted in holders:
                return _Listed(holders, is_whole=False)
            if page.rest is None:
                # Rows that were not asked for are another list than the one that was, and prove nothing.
                is_answer = wanted is None or all(wanted in key for key in holders)
                return _Listed(holders, is_whole=is_answer and (page.is_last or len(page.holders) < size))
            if page.rest in asked_for or not page.holders:
                raise TryLater(f"{op}: the list goes in a circle")
            query = page.rest
        raise TryLater(f"{op}: the list has no end")

    def _time_for(self, op: str) -> Callable[[], float]:
        """How many seconds are left of the time that one act has for all its calls."""
        until = time.monotonic() + self._call_timeout

        def left() -> float:
            seconds = until - time.monotonic()
            if seconds <= 0:
                raise TryLater(f"{op}: not all was asked within {self._call_timeout:g} s", trouble=Trouble.TIMEOUT)
            return seconds

        return left

    def _call(self, asked: Asked, read: Callable[[Answer], T]) -> T:
        return self._client.call(asked, read, headers=self._headers(asked.op))

    def _headers(self, op: str) -> dict[str, str]:
        cookies = {name: sendable(secret, op, but=NOT_IN_A_COOKIE) for name, secret in self._cookies.items()}
        if not cookies["sessionid"]:
            raise NeedsStaff(f"{op}: no session of TradingView is stored")
        if not (self._origin.isascii() and self._origin.isprintable()):
            raise NeedsStaff(f"{op}: {BAD_ADDRESS}")
        return {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items() if value),
            "Origin": self._origin,
            "Referer": f"{self._origin}/",
            "User-Agent": USER_AGENT,
            # The site's own pages send these two with every such call.
            "X-Requested-With": "XMLHttpRequest",
            "X-Language": "en",
        }


def _each(script_ids: Sequence[str], ask: Callable[[str], T]) -> list[T]:
    """What `ask` says of each script until the time is up. `TryLater` only when not even the first was answered."""
    done: list[T] = []
    for script_id in script_ids:
        try:
            done.append(ask(script_id))
        except TryLater as trouble:
            if not done or trouble.trouble is not Trouble.TIMEOUT:
                raise
            break
    return done


def _refuse_what_is_no_name(op: str, name: str) -> None:
    if not can_be_a_name(name):
        raise NeedsCustomer(f"{op}: this cannot be a TradingView name")


def _is_refused(answer: Answer) -> bool:
    """True for an answer about this name or script: a 4xx in JSON that is neither about the session nor the pace.

    A page in its place is no answer about anything (`NeedsStaff`).
    """
    if not 400 <= answer.status < 500 or answer.status in (401, 403, 408, 429):
        return False
    if answer.is_json:
        return True
    if answer.is_a_page:
        raise NeedsStaff(f"{answer.op}: a page where data was expected, as of a sign-in or a captcha")
    return False


def _read_said(answer: Answer) -> _Said:
    if _is_refused(answer):
        return _Said(refused=f"refused ({answer.status})")
    answer.raise_for_status()
    if not answer.content.strip():
        # The status says it all, and reading back is the proof either way.
        return _Said()
    status = answer.record().get("status")
    word = status.strip().lower() if isinstance(status, str) else status
    if word in ("ok", None):
        return _Said()
    return _Said(exists=True) if word == "exists" else _Said(refused=ODD_STATUS)


def _read_page(answer: Answer) -> _Page | None:
    if _is_refused(answer):
        return None
    answer.raise_for_status()
    body = answer.record()
    holders = [_holder(answer, row) for row in answer.records_in(body.get("results"))]
    following = body.get("next")
    if following in (None, "", False):
        return _Page(holders, rest=None, is_last=True if "next" in body and following is None else None)
    return _Page(holders, rest=_query_of(answer, following), is_last=False)


def _holder(answer: Answer, row: dict[str, Any]) -> Holder:
    end = row.get("expiration")
    return Holder(_name(answer, row), answer.moment(end) if end is not None else None)


def _name(answer: Answer, row: dict[str, Any]) -> str:
    name = row.get("username")
    if not isinstance(name, str) or not name:
        raise TryLater(f"{answer.op}: a list with a row that names nobody")
    return name


def _query_of(answer: Answer, following: object) -> str:
    """What a path of the next page asks for. Only that is taken: where it is asked, and with which cookies, is ours."""
    if isinstance(following, str):
        try:
            query = urlsplit(following).query
        except ValueError:
            query = ""
        if _QUERY.fullmatch(query):
            return query
    raise TryLater(f"{answer.op}: a list whose next page cannot be asked for")
