"""Ways into the store that several tests take."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import requests
from flask.testing import FlaskClient

from sts_app.core.store import store_for
from sts_app.emails.simulated import delivered
from tests.builders import work

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.0 Mobile/15E148 Safari/604.1"
)


def letter_to(address: str, kind: str) -> str:
    """The text of the last letter of a kind that arrived at an address, whatever its capitals."""
    work("emails")
    found = [
        letter.text
        for letter in delivered(store_for("mail"))
        if letter.to.lower() == address.lower() and letter.kind == kind
    ]
    assert found, f"no letter of kind {kind} reached {address}"
    return found[0]


def link_in(text: str, under: str) -> str:
    """The path of the link below `under` that a letter carries."""
    found = re.search(rf"https?://[^\s/]+({under}[^\s\"<]+)", text)
    assert found, text
    return found[1]


def sign_in(visitor: FlaskClient, email: str, *, agent: str | None = None, **fields: str) -> Any:
    """Ask for a letter, and open its link in the same browser, which says that it is `agent`."""
    headers = {"User-Agent": agent} if agent else {}
    visitor.post("/sign-in", data={"email": email} | fields, headers=headers)
    return visitor.get(link_in(letter_to(email, "sign_in"), "/sign-in/link/"), headers=headers)


def go_to_google(visitor: FlaskClient, **fields: str) -> str:
    """Press the button. Returns the address at Google."""
    answer = visitor.post("/sign-in/google", data=fields)
    assert answer.status_code == 303, answer.text
    return str(answer.location)


def come_back(visitor: FlaskClient, address: str) -> Any:
    """Open Google's page and follow where it sends one back to."""
    at_google = requests.get(address, allow_redirects=False, timeout=10)
    assert at_google.status_code == 303, at_google.text
    back = urlsplit(at_google.headers["Location"])
    return visitor.get(f"{back.path}?{back.query}")


def is_in(visitor: FlaskClient) -> bool:
    return visitor.get("/dashboard/settings").status_code == 200
