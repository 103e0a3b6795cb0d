"""An access service on the loopback address, with a memory and bad manners on request.

It speaks the two dialects that are in use: the open one, which asks for no credentials, hides every
inner fault in one 500 and refuses unknown names with `Failure`, and the secured one, which wants two
headers and says 401 and 404.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import unquote

from tests.fakes.loopback import Reply, Request
from tests.fakes.vendor import SESSION_ID, SIGNATURE, Act, Nasty, Pair, TradingViewFake, in_json

__all__ = ["SESSION_ID", "SIGNATURE", "AccessServiceFake", "Act", "Dialect", "Nasty"]

_ACTS = {"GET": Act.LIST, "POST": Act.ADD, "DELETE": Act.REMOVE}


class Dialect(StrEnum):
    OPEN = "open"
    SECURED = "secured"


class AccessServiceFake(TradingViewFake):
    """The service. Use it as a context manager: it listens on `url` inside and leaves nothing behind."""

    def __init__(self, dialect: Dialect = Dialect.OPEN) -> None:
        self.dialect = dialect
        super().__init__()

    def act_of(self, request: Request) -> Act | None:
        if request.path == "/":
            return Act.SESSION
        if request.path.startswith("/validate/"):
            return Act.NAME
        return _ACTS.get(request.method) if request.path.startswith("/access/") else None

    def pairs_of(self, request: Request) -> set[Pair]:
        if not request.path.startswith("/access/"):
            return set()
        return {(_name_in(request).lower(), script) for script in request.body["pine_ids"]}

    def properly(self, request: Request, act: Act | None, nasty: Nasty | None) -> Reply:
        secured = self.dialect is Dialect.SECURED
        if secured and not self._lets_in(request):
            return in_json({"error": "bad credentials"}, 401)
        if not self.session_is_alive:
            return in_json({"error": "session expired"}, 401) if secured else _unknown_exception()
        if act is None:
            return in_json({"error": "not found"}, 404)
        if act is Act.SESSION:
            return Reply(200, b"Your bot is alive!", "text/html")
        name = _name_in(request)
        spelling = self.spelling(name)
        if nasty in (Nasty.OTHER_SHAPE, Nasty.ODD_VALUES):
            return _nonsense(nasty, act, name, request)
        if secured and spelling is None:
            return in_json({"error": "no such user"}, 404)
        if act is Act.NAME:
            known = {"validUser" if secured else "validuser": bool(spelling), "verifiedUserName": spelling or ""}
            return in_json(known)
        if nasty is Nasty.MISSING_SCRIPTS:
            return in_json([])
        return in_json([self._entry(act, spelling, name, script, request.body, nasty) for script in _scripts(request)])

    def _entry(
        self, act: Act, spelling: str | None, name: str, script: str, body: dict[str, Any], nasty: Nasty | None
    ) -> dict[str, Any]:
        end = self.holders.get((name.lower(), script))
        has_access = self.holds(name, script)
        entry = {
            "pine_id": script,
            "username": name,
            "hasAccess": has_access,
            "noExpiration": has_access and end is None,
            "currentExpiration": self._written(end or datetime.now(UTC)),
        }
        if nasty is Nasty.ANOTHER_NAME:
            entry |= {"username": "Somebody", "hasAccess": True, "noExpiration": True}
        if act is Act.ADD:
            entry |= self._add(spelling, name, script, body["duration"], nasty)
        if act is Act.REMOVE:
            entry |= self._remove(spelling, name, script, nasty)
        return entry

    def _add(self, spelling: str | None, name: str, script: str, duration: str, nasty: Nasty | None) -> dict[str, Any]:
        key = (name.lower(), script)
        if nasty is Nasty.FAILURE or spelling is None:
            return {"status": "Failure"}
        if self.holds(name, script) and self.holders[key] is None:
            return {"status": "Not Applied"}
        end = None if duration.endswith("L") else datetime.now(UTC) + timedelta(days=7)
        if nasty not in (Nasty.NOTHING_DONE, Nasty.ANOTHER_NAME):
            self.holders[key] = end
        return {"status": "Success", "expiration": self._written(end or datetime.now(UTC))}

    def _remove(self, spelling: str | None, name: str, script: str, nasty: Nasty | None) -> dict[str, Any]:
        key = (name.lower(), script)
        if nasty is Nasty.FAILURE or spelling is None:
            return {"status": "Failure"}
        absent = key not in self.holders
        if nasty not in (Nasty.NOTHING_DONE, Nasty.ANOTHER_NAME):
            self.holders.pop(key, None)
        if self.dialect is Dialect.SECURED:
            return {}
        return {"status": "Failure" if absent else "Success"}

    def _written(self, moment: datetime) -> str:
        """A date as this dialect writes it: with a space or with a T."""
        return moment.isoformat(sep="T" if self.dialect is Dialect.SECURED else " ")

    def _lets_in(self, request: Request) -> bool:
        return (request.headers.get("X-Session-Id"), request.headers.get("X-Signature")) in self.credentials


def _name_in(request: Request) -> str:
    return unquote(request.path.split("/", 2)[2])


def _scripts(request: Request) -> list[str]:
    scripts: list[str] = request.body["pine_ids"]
    return scripts


def _unknown_exception() -> Reply:
    return in_json({"errorMessage": "Unknown Exception Occurred"}, 500)


def _nonsense(nasty: Nasty, act: Act, name: str, request: Request) -> Reply:
    if nasty is Nasty.OTHER_SHAPE:
        return in_json([True] if act is Act.NAME else {"pine_ids": "none"})
    entry = {"username": name, "hasAccess": "true", "validuser": "true", "verifiedUserName": name}
    if act is Act.NAME:
        return in_json(entry)
    return in_json([entry | {"pine_id": script, "status": f"{SESSION_ID} says no"} for script in _scripts(request)])
