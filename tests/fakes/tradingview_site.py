"""TradingView's own site on the loopback address, as far as its pages for access are known.

It is as particular as the real one: without the cookies of a session, its own `Origin` and `Referer`
and a browser's name it lets nobody in; a list comes in pages, filtered by the beginning of a name; who
is on a list already is answered `exists`, and keeps the end that was there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

from tests.fakes.loopback import Reply, Request
from tests.fakes.vendor import Act, Nasty, Pair, TradingViewFake, in_json

DEAD_LOOKS = (Nasty.UNAUTHORISED, Nasty.FORBIDDEN, Nasty.SENT_AWAY, Nasty.SIGN_IN, Nasty.CAPTCHA)

_ACTS = {
    ("GET", "/tvcoins/details/"): Act.SESSION,
    ("GET", "/username_hint/"): Act.NAME,
    ("POST", "/pine_perm/list_users/"): Act.LIST,
    ("POST", "/pine_perm/add/"): Act.ADD,
    ("POST", "/pine_perm/modify_user_expiration/"): Act.CHANGE_END,
    ("POST", "/pine_perm/remove/"): Act.REMOVE,
}


class TradingViewSite(TradingViewFake):
    """The site. Use it as a context manager: it listens on `url` inside and leaves nothing behind.

    `largest_page` is the most rows of a page, whatever is asked for. `dead_look` is how a session that is
    not alive or not let in looks, one of `DEAD_LOOKS`. `ends_in_silence` leaves `next` out of the last
    page. `is_strict_about_spelling` refuses names that are not in TradingView's own spelling, and
    `refuses_the_absent` says no to the removal of who is not on the list.
    """

    def reset(self) -> None:
        super().reset()
        self.largest_page = 30
        self.ends_in_silence = False
        self.is_strict_about_spelling = False
        self.refuses_the_absent = False
        self._rest: dict[str, tuple[list[dict[str, Any]], int]] = {}

    def behave(self) -> None:
        super().behave()
        self.dead_look = Nasty.UNAUTHORISED

    def act_of(self, request: Request) -> Act | None:
        return _ACTS.get((request.method, request.path))

    def pairs_of(self, request: Request) -> set[Pair]:
        form = request.body or {}
        name = form.get("username_recip") or form.get("username")
        return {(name.lower(), form["pine_id"])} if name else set()

    def properly(self, request: Request, act: Act | None, nasty: Nasty | None) -> Reply:
        if act is None:
            reply = self._plainly_nasty(request, Nasty.NO_SUCH_PAGE)
            assert reply is not None
            return reply
        if not self._lets_in(request):
            reply = self._plainly_nasty(request, self.dead_look)
            assert reply is not None, "not one of DEAD_LOOKS"
            return reply
        if nasty in (Nasty.OTHER_SHAPE, Nasty.ODD_VALUES):
            return _nonsense(nasty, act)
        if act is Act.SESSION:
            return in_json({"coins": 0.0, "currency": "USD"})
        if act is Act.NAME:
            return in_json(self._hints(request.query["s"]))
        if act is Act.LIST:
            return self._list(request, nasty)
        return self._write(act, request.body["username_recip"], request.body["pine_id"], request.body, nasty)

    def _hints(self, typed: str) -> list[dict[str, Any]]:
        """Names that begin as typed, the whole one not first."""
        spelling = self.spelling(typed)
        names = [f"{typed}_2", *([spelling] if spelling else [])]
        return [{"id": number, "username": name, "userpic": ""} for number, name in enumerate(names)]

    def _write(self, act: Act, name: str, script: str, form: dict[str, str], nasty: Nasty | None) -> Reply:
        spelling, key = self.spelling(name), (name.lower(), script)
        is_known = spelling is not None and (not self.is_strict_about_spelling or spelling == name)
        if nasty is Nasty.FAILURE or not is_known:
            return in_json({"code": "invalid", "detail": f"{name} cannot have this"}, 422)
        is_held = key in self.holders
        if act is Act.REMOVE and not is_held and self.refuses_the_absent:
            return in_json({"code": "not_found", "detail": "not on the list"}, 404)
        if act is Act.CHANGE_END and not is_held:
            return in_json({"code": "not_found", "detail": "not on the list"}, 404)
        if act is Act.ADD and is_held:
            return in_json({"status": "exists"})
        if nasty is not Nasty.NOTHING_DONE:
            if act is Act.REMOVE:
                self.holders.pop(key, None)
            else:
                end = form.get("expiration")
                self.holders[key] = datetime.fromisoformat(end) if end else None
        return in_json({"status": "ok"}, 201 if act is Act.ADD else 200)

    def _list(self, request: Request, nasty: Nasty | None) -> Reply:
        query, form = request.query, request.body
        if nasty is Nasty.FAILURE:
            return in_json({"code": "not_found", "detail": "no such script"}, 404)
        if "c" in query:
            rows, size = self._rest[query["c"]]
        else:
            rows, size = self._rows(form["pine_id"], form.get("username", ""), nasty), int(query.get("limit", 10))
        size = min(size, self.largest_page)
        page, rest = rows[:size], rows[size:]
        answer: dict[str, Any] = {"results": page, "next": None, "previous": None}
        if nasty is Nasty.CUT_LIST:
            rest = []
        if rest:
            answer["next"] = self._path_to(rest, size)
        elif self.ends_in_silence:
            del answer["next"]
        if nasty is Nasty.SAME_PAGE:
            answer["next"] = request.target
        if nasty is Nasty.NO_RESULTS:
            del answer["results"]
        if nasty is Nasty.NO_NEXT:
            answer.pop("next", None)
        if nasty is Nasty.ODD_NEXT:
            answer["next"] = {"page": 2}
        return in_json(answer)

    def _rows(self, script: str, begins: str, nasty: Nasty | None) -> list[dict[str, Any]]:
        """Whoever holds the script, newest first, in an order that does not change while it is read."""
        held = [(name, end) for (name, held_script), end in self.holders.items() if held_script == script]
        if nasty is Nasty.ANOTHER_LIST:
            held, begins = [(f"stranger{number}", None) for number in range(3)], ""
        return [
            {
                "id": number,
                "username": self.spelling(name) or name,
                "userpic": "",
                "expiration": end.isoformat() if end is not None else None,
                "created": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
            }
            for number, (name, end) in reversed(list(enumerate(held)))
            if name.startswith(begins.lower())
        ]

    def _path_to(self, rest: list[dict[str, Any]], size: int) -> str:
        if len(self._rest) > 1000:
            self._rest.clear()
        token = f"page={len(self._rest)}+of~{size}"
        self._rest[token] = (rest, size)
        return f"/pine_perm/list_users/?c={quote(token, safe='')}"

    def _lets_in(self, request: Request) -> bool:
        cookies = {key: morsel.value for key, morsel in SimpleCookie(request.headers.get("Cookie", "")).items()}
        return (
            self.session_is_alive
            and (cookies.get("sessionid"), cookies.get("sessionid_sign")) in self.credentials
            and request.headers.get("Origin") == self.url
            and request.headers.get("Referer", "").startswith(self.url)
            and request.headers.get("User-Agent", "").startswith("Mozilla/5.0")
        )


def _nonsense(nasty: Nasty, act: Act) -> Reply:
    if nasty is Nasty.OTHER_SHAPE:
        return in_json({"results": "none"} if act in (Act.NAME, Act.LIST) else [True])
    if act is Act.NAME:
        return in_json([{"username": 7}])
    if act is Act.LIST:
        return in_json({"results": [{"username": 7, "expiration": "some day"}], "next": None})
    return in_json({"status": f"{Act.ADD} says no"})
