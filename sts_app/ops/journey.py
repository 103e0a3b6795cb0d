"""A visitor who knows nothing of the house: follows links, fills in forms, reads pages, over HTTP only.

The demo, the journey tests and the smoke test walk the store with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urljoin

import requests
from bs4 import BeautifulSoup, Tag

T = TypeVar("T")
TIMEOUT = 30.0


class JourneyFault(Exception):
    """The store did not do what it promises; the sentence says where."""


class Visitor:
    """One browser without script: cookies, one present page, forms as they stand on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = requests.Session()
        self.http.trust_env = False  # a proxy of the surroundings is not for loopback
        self.answer: requests.Response | None = None

    @property
    def page(self) -> BeautifulSoup:
        assert self.answer is not None
        return BeautifulSoup(self.answer.content, "html.parser")

    @property
    def path(self) -> str:
        assert self.answer is not None
        return self.answer.url.removeprefix(self.url)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", self.page.get_text(" ")).strip()

    def open(self, path: str) -> Visitor:
        """Go to a page of the store and expect it to be there."""
        self.answer = self.http.get(urljoin(self.url, path), timeout=TIMEOUT)
        return self._expect_well()

    def submit(self, action: str, *, well: bool = True, **values: str) -> Visitor:
        """Send the form of this page whose action holds `action`, with what it carries and `values`."""
        form = next((f for f in self.page.find_all("form") if action in str(f.get("action", ""))), None)
        if not isinstance(form, Tag):
            raise JourneyFault(f"{self.path} has no form for {action}: {self.text[:300]}")
        fields = {
            str(field["name"]): str(field.get("value", ""))
            for field in form.find_all("input")
            if field.get("name") and (field.get("type") not in ("checkbox", "radio") or field.has_attr("checked"))
        }
        target = urljoin(self.answer.url if self.answer is not None else self.url, str(form["action"]))
        method = str(form.get("method", "get")).upper()
        body: dict[str, Any] = {"data" if method == "POST" else "params": fields | values}
        self.answer = self.http.request(method, target, timeout=TIMEOUT, **body)
        return self._expect_well() if well else self

    def json(self, path: str) -> Any:
        answer = self.http.get(urljoin(self.url, path), timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    def _expect_well(self) -> Visitor:
        assert self.answer is not None
        if self.answer.status_code >= 400:
            raise JourneyFault(f"{self.path} answered {self.answer.status_code}: {self.text[:300]}")
        return self


class Customer(Visitor):
    """Buys lifetime access, step by step. Needs simulated payments and mail."""

    def __init__(self, url: str, *, email: str, tradingview_name: str) -> None:
        super().__init__(url)
        self.email = email
        self.tradingview_name = tradingview_name

    def browse(self) -> None:
        for path in ("/", "/strategies", "/strategies/nq-momentum-alpha", "/pricing"):
            self.open(path)

    def ask_for_access(self) -> None:
        self.open("/pricing").submit("/checkout")
        if not self.path.startswith("/sign-in"):
            raise JourneyFault(f"a stranger's click on Get access led to {self.path}")

    def sign_in(self) -> None:
        """By the link in the letter, as the browser that asked for it."""
        self.submit("/sign-in", email=self.email)
        letter = self.wait_for(lambda: self.letter("sign_in"), "the sign-in letter", seconds=60)
        link = re.search(r"https?://\S+/sign-in/link/\S+", letter["text"])
        if link is None:
            raise JourneyFault("the sign-in letter holds no link")
        self.open(link.group(0))

    def onboard(self) -> None:
        if not self.path.startswith("/onboarding"):
            raise JourneyFault(f"after the first sign-in came {self.path}, not onboarding")
        self.submit(
            "/onboarding", name="Alice Example", tradingview_name=self.tradingview_name, terms="y", disclaimer="y"
        )

    def check_out(self) -> None:
        """From the last look at what is bought to the payment page."""
        if not self.path.startswith("/checkout"):
            raise JourneyFault(f"onboarding led to {self.path} and not back to the purchase")
        self.submit("/checkout")
        if not self.path.startswith("/dev/stripe/checkout/"):
            raise JourneyFault(f"the pay button led to {self.path}")

    def pay(self) -> None:
        self.submit("/pay")
        if not self.path.startswith("/dashboard?success=true"):
            raise JourneyFault(f"after paying came {self.path}")

    def buy(self) -> None:
        """Everything up to the payment."""
        self.ask_for_access()
        self.sign_in()
        self.onboard()
        self.check_out()
        self.pay()

    def access(self) -> dict[str, str]:
        """State by strategy, as the dashboard shows it."""
        self.open("/dashboard")
        rows = self.page.select("#access tbody tr")
        return {self._words(row.select_one("th")): self._words(row.select_one("td")) for row in rows}

    def letters(self, to: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json(f"/dev/outbox.json?to={to or self.email}")
        return found

    def letter(self, kind: str, to: str | None = None) -> dict[str, Any] | None:
        return next((letter for letter in self.letters(to) if letter["kind"] == kind), None)

    def wait_for(self, look: Callable[[], T | None], what: str, *, seconds: float) -> T:
        """Look again and again until there is something to see."""
        deadline = time.monotonic() + seconds
        while True:
            seen = look()
            if seen:
                return seen
            if time.monotonic() > deadline:
                raise JourneyFault(f"{what} did not come within {seconds:.0f} s")
            time.sleep(0.1)

    @staticmethod
    def _words(cell: Tag | None) -> str:
        return re.sub(r"\s+", " ", cell.get_text(" ")).strip() if cell is not None else ""
