"""TradingView through an access service: a small REST service that stands in front of it.

Two dialects are in use and both are understood: the public project, which asks for no credentials and
answers every inner fault with one and the same 500, and secured forks, which want two headers and say
401, 403 and 404.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from pydantic import SecretStr

from sts_app.provisioning.gateway import (
    AccessFact,
    Holder,
    Meter,
    NeedsCustomer,
    NeedsStaff,
    NotOffered,
    ScriptAnswer,
    TryLater,
    unmetered,
)
from sts_app.provisioning.live_http import Answer, Asked, Client, can_be_a_name, json_content, quoted, sendable

T = TypeVar("T")
Kind = Literal["read", "write"]

LIFETIME = "1L"
FAILURE = "Failure"
NOT_MENTIONED = "not mentioned in the answer"
ODD_STATUS = "a status that makes no sense"


class AccessService:
    """The `TradingView` gateway over an access service at `base_url`.

    `validate_timeout` and `call_timeout` are seconds for a whole call, connection included:
    the first for looking a name up and for asking for the session, the second for access, which asks TradingView
    two or three times for each script. `session_id` and `signature` are sent as headers when they are set.

    `canary` is the name of a known holder, for `check_session`; `canary_scripts` are the scripts it is
    asked about. No call is ever repeated here: whoever calls counts, by `meter`, and paces.
    """

    one_call_for_all = True

    def __init__(
        self,
        base_url: str,
        *,
        session_id: SecretStr | None,
        signature: SecretStr | None,
        canary: str | None,
        validate_timeout: float,
        call_timeout: float,
        canary_scripts: Sequence[str] = (),
        meter: Meter = unmetered,
    ) -> None:
        self._credentials = {"X-Session-Id": session_id, "X-Signature": signature}
        self._canary = canary
        self._canary_scripts = list(canary_scripts)
        self._validate_timeout = validate_timeout
        self._call_timeout = call_timeout
        self._client = Client(base_url, meter=meter)

    def close(self) -> None:
        """Let go of what the HTTP client holds. A later call opens it anew."""
        self._client.close()

    def find_name(self, name: str) -> str | None:
        """The name in TradingView's own spelling, or None when it is unknown there. Takes one call, and for a 404 two.

        A yes without that spelling, or with another name's, is no answer (`TryLater`).
        """

        def read(answer: Answer) -> str | None:
            record = answer.record()
            known = record.get("validuser")
            if known is False:
                return None
            spelling = record.get("verifiedusername")
            if known is not True or not isinstance(spelling, str) or spelling.lower() != name.lower():
                raise TryLater("find_name: the answer makes no sense")
            return spelling

        if not can_be_a_name(name):
            return None
        asked = self._asked("read", "find_name", "GET", f"/validate/{quoted(name)}", self._validate_timeout)
        try:
            return self._call(asked, read)
        except NeedsCustomer:
            # A service that is gone, or an address without one, says 404 to whatever it is asked.
            self.check_session()
            return None

    def grant(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for access for life; `Not Applied` is a yes, because it means that it is there already.

        The open dialect says `Failure` for a name that TradingView does not know. So when every script
        is answered so, the name is looked up (a second call): unknown is `NeedsCustomer`.
        """

        def read(answer: Answer) -> list[ScriptAnswer]:
            entries = _entries(answer, name)
            return [ScriptAnswer(script, _refusal(entries.get(script))) for script in script_ids]

        if not script_ids:
            return []
        answers = self._access("write", "grant", "POST", name, script_ids, read, duration=LIFETIME)
        if all(answer.refused == FAILURE for answer in answers) and self.find_name(name) is None:
            raise NeedsCustomer("grant: TradingView does not know this name")
        return answers

    def revoke(self, name: str, script_ids: Sequence[str]) -> list[ScriptAnswer]:
        """Ask for removal. `Failure` for a script that the name did not hold is no refusal, and neither
        is silence about a script: not every dialect answers a removal. Reading back tells.
        """

        def read(answer: Answer) -> list[ScriptAnswer]:
            entries = _entries(answer, name)
            absent = {script for script, entry in entries.items() if entry.get("hasaccess") is False}
            return [
                ScriptAnswer(script, _refusal(entries[script]) if script in entries and script not in absent else None)
                for script in script_ids
            ]

        if not script_ids:
            return []
        return self._access("write", "revoke", "DELETE", name, script_ids, read)

    def has_access(self, name: str, script_ids: Sequence[str]) -> list[AccessFact]:
        """Read what stands. Only an entry under this very name, ignoring case, says that access is there."""

        def read(answer: Answer) -> list[AccessFact]:
            entries = _entries(answer, name)
            return [_fact(answer, script, entries.get(script)) for script in script_ids]

        if not script_ids:
            return []
        return self._access("read", "has_access", "GET", name, script_ids, read)

    def list_holders(self, script_id: str) -> list[Holder]:
        """Raise `NotOffered`: an access service is asked about names and lists nobody. Makes no call."""
        raise NotOffered("list_holders: an access service cannot say who holds a script")

    def check_session(self) -> None:
        """Ask for the access of the canary and see whether the answer is a list.

        The open dialect hides an expired session in the same 500 as every other inner fault, so here,
        and only here, a 500 counts as a dead session (`NeedsStaff`). Without a canary there is
        nobody to ask about: then this only learns whether the service is alive (`GET /`) and lets us in.
        """
        if self._canary is None:
            asked = self._asked("read", "check_session", "GET", "/", self._validate_timeout)
            self._call(asked, _read_sign_of_life, about_a_name=False)
            return

        def read(answer: Answer) -> None:
            answer.records()

        path = f"/access/{quoted(self._canary)}"
        body = {"pine_ids": self._canary_scripts[:1]}
        asked = self._asked("read", "check_session", "GET", path, self._validate_timeout, body)
        self._call(asked, read, about_a_name=False)

    def _access(
        self,
        kind: Kind,
        op: str,
        method: str,
        name: str,
        script_ids: Sequence[str],
        read: Callable[[Answer], T],
        **more: str,
    ) -> T:
        if not can_be_a_name(name):
            raise NeedsCustomer(f"{op}: this cannot be a TradingView name")
        body = {"pine_ids": list(script_ids), **more}
        return self._call(self._asked(kind, op, method, f"/access/{quoted(name)}", self._call_timeout, body), read)

    def _asked(
        self, kind: Kind, op: str, method: str, path: str, seconds: float, body: dict[str, Any] | None = None
    ) -> Asked:
        content, content_type = json_content(body) if body is not None else (None, None)
        return Asked(kind, op, method, path, seconds, content, content_type)

    def _call(self, asked: Asked, read: Callable[[Answer], T], *, about_a_name: bool = True) -> T:
        def judge_and_read(answer: Answer) -> T:
            _judge(answer, about_a_name=about_a_name)
            return read(answer)

        secrets = {header: sendable(secret, asked.op) for header, secret in self._credentials.items()}
        headers = {header: value for header, value in secrets.items() if value}
        return self._client.call(asked, judge_and_read, headers=headers)


def _judge(answer: Answer, *, about_a_name: bool) -> None:
    """Raise what the status alone says in these dialects; return when the body is worth reading."""
    op = answer.op
    if answer.status == 404 and about_a_name and not answer.is_a_gate:
        raise NeedsCustomer(f"{op}: TradingView does not know this name")
    if answer.status == 404:
        raise NeedsStaff(f"{op}: nothing there (404): wrong address, or a canary that TradingView does not know")
    if answer.status == 500:
        if not about_a_name:
            raise NeedsStaff(f"{op}: the service could not ask TradingView: the session has probably expired")
        raise TryLater(
            f"{op}: the service could not ask TradingView (500)", after=answer.retry_after, doubts_session=True
        )
    answer.raise_for_status()


def _entries(answer: Answer, name: str) -> dict[str, dict[str, Any]]:
    """The entries about `name`, by script id. One about another name says nothing about this one."""
    found = {}
    for entry in answer.records():
        script, username = entry.get("pine_id"), entry.get("username")
        if isinstance(script, str) and isinstance(username, str) and username.lower() == name.lower():
            found[script] = entry
    return found


def _read_sign_of_life(answer: Answer) -> None:
    if answer.is_a_gate:
        raise NeedsStaff(f"{answer.op}: a sign-in or captcha page")


def _refusal(entry: dict[str, Any] | None) -> str | None:
    if entry is None:
        return NOT_MENTIONED
    status = entry.get("status")
    word = status.strip().lower() if isinstance(status, str) else status
    if word in ("success", "not applied", None):
        return None
    return FAILURE if word == "failure" else ODD_STATUS


def _fact(answer: Answer, script_id: str, entry: dict[str, Any] | None) -> AccessFact:
    if entry is None:
        return AccessFact(script_id, has_access=False, is_told=False)
    held = entry.get("hasaccess")
    if not isinstance(held, bool):
        raise TryLater("has_access: the answer says neither yes nor no")
    # Without access, or with access for life, the date in the answer means nothing.
    if not held or entry.get("noexpiration") is True:
        return AccessFact(script_id, has_access=held)
    return AccessFact(script_id, has_access=True, expires_at=answer.moment(entry.get("currentexpiration")))
