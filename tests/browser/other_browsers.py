"""`make browsers`: a purchase in Firefox and one in WebKit, as Debian ships them.

Playwright drives neither, and Debian has no geckodriver: Firefox is asked by its own Marionette, WebKit by its
WebDriver. Both protocols are a few lines each, and their commands are the same. No `test_` stands before the name of
this file, so that `make test` does not gather it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest
import requests

from sts_app.ops.embedded import free_port
from sts_app.ops.journey import Customer
from tests.world import World

MINI_BROWSERS = "*/webkit2gtk-4.*/MiniBrowser"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # how WebDriver marks an element in JSON
READY_SECONDS = 30


class Refused(Exception):
    """The browser's word for why it did not do what it was told."""


class Browser(Protocol):
    """What a journey needs of a browser."""

    def go(self, address: str) -> None: ...
    def address(self) -> str: ...
    def ask(self, script: str) -> Any: ...
    def find(self, xpath: str) -> list[str]: ...
    def click(self, element: str) -> None: ...
    def type(self, element: str, text: str) -> None: ...
    def close(self) -> None: ...


class Firefox:
    """By Marionette: JSON with its length before it, on a socket (firefox-source-docs, Marionette protocol)."""

    def __init__(self, program: str, profile: Path) -> None:
        (profile / "user.js").write_text('user_pref("marionette.port", 0);\n')
        self._process = subprocess.Popen(
            [program, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Firefox chooses a free port and writes it down here.
        told = profile / "MarionetteActivePort"
        until(lambda: told.exists() and told.read_text().strip(), "the port of Firefox", READY_SECONDS)
        self._socket = socket.create_connection(("127.0.0.1", int(told.read_text())), timeout=60)
        self._numbers = count(1)
        self._read()
        self._send("WebDriver:NewSession", capabilities={})

    def go(self, address: str) -> None:
        self._send("WebDriver:Navigate", url=address)

    def address(self) -> str:
        return str(self._send("WebDriver:GetCurrentURL")["value"])

    def ask(self, script: str) -> Any:
        return self._send("WebDriver:ExecuteScript", script=f"return {script}", args=[])["value"]

    def find(self, xpath: str) -> list[str]:
        return [one[ELEMENT] for one in self._send("WebDriver:FindElements", using="xpath", value=xpath)]

    def click(self, element: str) -> None:
        self._send("WebDriver:ElementClick", id=element)

    def type(self, element: str, text: str) -> None:
        self._send("WebDriver:ElementSendKeys", id=element, text=text)

    def close(self) -> None:
        self._socket.close()
        end(self._process)

    def _send(self, command: str, **values: Any) -> Any:
        text = json.dumps([0, next(self._numbers), command, values]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, answer = self._read()
        if error is not None:
            raise Refused(f"{error['error']}: {error['message']}")
        return answer

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._take(1)
        return json.loads(self._take(int(length[:-1])))

    def _take(self, size: int) -> bytes:
        taken = b""
        while len(taken) < size:
            part = self._socket.recv(size - len(taken))
            assert part, "Firefox has gone"
            taken += part
        return taken


class WebKit:
    """By WebDriver over HTTP (W3C), on a screen that nobody sees."""

    def __init__(self, program: str, driver: str) -> None:
        read, write = os.pipe()
        self._screen = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as told:
            display = f":{told.readline().strip()}"
        port = free_port()
        self._driver = subprocess.Popen(
            [driver, f"--port={port}"], env={**os.environ, "DISPLAY": display}, stderr=subprocess.DEVNULL
        )
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy of the surroundings is not for loopback
        self._url = f"http://127.0.0.1:{port}/session"
        options = {"binary": program, "args": ["--automation"]}
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        made = until(lambda: self._send("", **wanted), "a window of WebKit", READY_SECONDS)
        self._url += f"/{made['sessionId']}"

    def go(self, address: str) -> None:
        self._send("/url", url=address)

    def address(self) -> str:
        return str(self._answer(self._http.get(f"{self._url}/url", timeout=60)))

    def ask(self, script: str) -> Any:
        return self._send("/execute/sync", script=f"return {script}", args=[])

    def find(self, xpath: str) -> list[str]:
        return [one[ELEMENT] for one in self._send("/elements", using="xpath", value=xpath)]

    def click(self, element: str) -> None:
        self._send(f"/element/{element}/click")

    def type(self, element: str, text: str) -> None:
        self._send(f"/element/{element}/value", text=text)

    def close(self) -> None:
        self._http.delete(self._url, timeout=60)
        self._http.close()
        end(self._driver)
        end(self._screen)

    def _send(self, command: str, **values: Any) -> Any:
        try:
            return self._answer(self._http.post(f"{self._url}{command}", json=values, timeout=60))
        except requests.ConnectionError as error:
            raise Refused(f"nobody there: {error}") from error

    @staticmethod
    def _answer(answer: requests.Response) -> Any:
        value = answer.json()["value"]
        if answer.status_code != 200:
            raise Refused(f"{value['error']}: {value['message']}")
        return value


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found is not None, f"{names[0]} is not installed: `make browsers` as root installs it"
    return found


def mini_browser() -> str:
    found = sorted(str(path) for path in Path("/usr/lib").glob(MINI_BROWSERS))
    assert found, "MiniBrowser is not installed: it comes with webkit2gtk-driver"
    return found[-1]


@pytest.fixture(params=["firefox", "webkit"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Browser]:
    """Each of them, open at an empty page."""
    made: Firefox | WebKit
    if request.param == "firefox":
        made = Firefox(program("firefox-esr", "firefox"), tmp_path)
    else:
        made = WebKit(mini_browser(), program("WebKitWebDriver"))
    try:
        yield made
    finally:
        made.close()


def until(look: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """What `look` finds, once it finds something. A page that is just being changed is looked at again."""
    deadline = time.monotonic() + seconds
    trouble: Refused | None = None
    while True:
        try:
            if found := look():
                return found
        except Refused as refused:
            trouble = refused
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:.0f} s: {trouble or ''}"
        time.sleep(0.2)


def press(browser: Browser, kind: str, name: str) -> None:
    """Click the first link (`a`) or button whose words begin so."""
    browser.click(until(lambda: browser.find(f"//{kind}[starts-with(normalize-space(.), '{name}')]"), name)[0])


def field(browser: Browser, label: str) -> str:
    """What a label belongs to."""
    way = f"//*[@id = //label[contains(normalize-space(.), '{label}')]/@for]"
    return str(until(lambda: browser.find(way), f"the field {label}")[0])


def comes_to(browser: Browser, address: str) -> None:
    until(lambda: re.search(address, browser.address()), address)


def says(browser: Browser, words: str) -> None:
    until(lambda: words in str(browser.ask("document.body.innerText")), words)


def test_a_newcomer_buys_and_sees_the_strategies_become_active(other: Browser, store: World) -> None:
    browser = other  # playwright has a fixture of that name
    name = f"{type(browser).__name__.capitalize()}_visitor"
    who = Customer(store.url, email=f"{name.lower()}@example.com", tradingview_name=name.lower())
    browser.go(f"{store.url}/strategies")
    press(browser, "a", "NQ Momentum Alpha")
    comes_to(browser, "/strategies/nq-momentum-alpha$")
    assert browser.ask("document.documentElement.scrollWidth <= innerWidth")
    browser.go(f"{store.url}/pricing")
    press(browser, "button", "Get access for")
    comes_to(browser, r"/sign-in\?next=")

    browser.type(field(browser, "E-mail address"), who.email)
    press(browser, "button", "Send me a link")
    comes_to(browser, "/sign-in/sent$")
    letter = who.wait_for(lambda: who.letter("sign_in"), "the sign-in letter", seconds=30)
    link = re.search(r"https?://\S+/sign-in/link/\S+", letter["text"])
    assert link is not None
    browser.go(link.group(0))

    comes_to(browser, "/onboarding")
    browser.type(field(browser, "Your name"), "Vera Visitor")
    browser.type(field(browser, "TradingView name"), who.tradingview_name)
    says(browser, f"It is {name} there")
    browser.click(field(browser, "I have read and accept"))
    browser.click(field(browser, "I have read the risk disclaimer"))
    press(browser, "button", "Check the name and go on")

    comes_to(browser, "/checkout")
    press(browser, "button", "Pay $99.00")
    comes_to(browser, "/dev/stripe/checkout/")
    press(browser, "button", "Pay $99.00")

    comes_to(browser, r"/dashboard\?success=true")
    active = "//*[@id='access']//tbody/tr/td[1][normalize-space(.)='Active']"
    until(lambda: len(browser.find(active)) == 6, "access to all six", seconds=60)
