"""The adapter against a real OpenID Connect server on the loopback address: what it sends, and what it believes."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import RSAKey

from sts_app.accounts import live
from sts_app.accounts.gateway import Errand, GooglePerson, Refused, TryLater
from sts_app.accounts.live import LiveGoogle
from tests.fakes.google import ANNA, CLIENT_ID, CLIENT_SECRET, GoogleFake

BACK = "http://127.0.0.1:5000/sign-in/google/callback"


@pytest.fixture
def fake():
    with GoogleFake() as fake:
        yield fake


@pytest.fixture
def google(fake) -> LiveGoogle:
    return LiveGoogle(CLIENT_ID, CLIENT_SECRET, discovery_url=fake.discovery)


@pytest.fixture(autouse=True)
def clock():
    """Tokens are checked against the time of day, so it does not stand here."""


def agreed(errand: Errand) -> str:
    """The code that Google gives to somebody who agrees."""
    answer = requests.get(errand.address, allow_redirects=False, timeout=10)
    assert answer.status_code == 303, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))["code"]


def shown(google: LiveGoogle) -> GooglePerson:
    errand = google.begin(back_to=BACK)
    return google.finish(errand, agreed(errand), back_to=BACK)


def test_who_came_back_is_known(google):
    assert shown(google) == GooglePerson(ANNA["sub"], ANNA["email"], True, ANNA["name"])


def test_each_errand_has_secrets_of_its_own(google):
    first, second = google.begin(back_to=BACK), google.begin(back_to=BACK)

    for one, other in zip(
        (first.state, first.nonce, first.verifier), (second.state, second.nonce, second.verifier), strict=True
    ):
        assert one != other
        assert len(one) >= 20
    assert first.verifier not in first.address
    assert first.verifier not in repr(first)


def test_google_is_told_whom_we_expect(google):
    address = google.begin(back_to=BACK, hint="anna@customers.example").address

    assert dict(parse_qsl(urlsplit(address).query))["login_hint"] == "anna@customers.example"


def test_a_code_works_once(google):
    errand = google.begin(back_to=BACK)
    code = agreed(errand)
    google.finish(errand, code, back_to=BACK)

    with pytest.raises(Refused):
        google.finish(errand, code, back_to=BACK)


def test_a_code_brought_by_another_browser_is_refused(google):
    """Its verifier is not the one that Google was told the digest of (PKCE)."""
    stolen = agreed(google.begin(back_to=BACK))
    errand = google.begin(back_to=BACK)

    with pytest.raises(Refused):
        google.finish(errand, stolen, back_to=BACK)


def test_a_wrong_secret_of_the_store_is_refused(fake):
    google = LiveGoogle(CLIENT_ID, "another", discovery_url=fake.discovery)

    with pytest.raises(Refused):
        shown(google)


@pytest.mark.parametrize(
    "lies",
    [
        {"iss": "https://accounts.evil.example"},
        {"aud": "another.apps.example"},
        {"aud": ["another.apps.example"], "azp": "another.apps.example"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"sub": None},
        {"sub": ""},
    ],
    ids=str,
)
def test_what_google_signed_for_another_end_is_refused(google, fake, lies):
    fake.lies = lies

    with pytest.raises(Refused):
        shown(google)


def test_what_another_key_signed_is_refused(google, fake):
    thief = RSAKey.generate_key(2048, {"kid": "first"})
    fake.sign = lambda claims: jwt.encode({"alg": "RS256", "kid": "first"}, claims, thief)

    with pytest.raises(Refused):
        shown(google)


@pytest.mark.parametrize("kid", ["first", "unknown"])
def test_what_is_signed_with_the_public_key_as_a_password_is_refused(google, fake, kid):
    """The old trick of HS256, which the fake even announces."""

    def sign(claims: dict[str, Any]) -> str:
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": kid}, claims)]
        signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        mark = hmac.digest(fake.key.as_pem(private=False), signed, "sha256")
        return (signed + b"." + base64.urlsafe_b64encode(mark).rstrip(b"=")).decode()

    fake.sign = sign

    with pytest.raises(Refused):
        shown(google)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_what_nobody_signed_is_refused(google, fake, token):
    fake.sign = lambda claims: token

    with pytest.raises(Refused):
        shown(google)


def test_a_new_key_of_google_is_asked_for(google, fake):
    shown(google)
    fake.new_key("second")

    assert shown(google).subject == ANNA["sub"]
    assert [request.path for request in fake.requests].count("/certs") == 2


def test_what_google_says_of_itself_is_read_once(google, fake):
    shown(google)
    shown(google)

    paths = [request.path for request in fake.requests]
    assert (paths.count("/.well-known/openid-configuration"), paths.count("/certs")) == (1, 1)


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/certs", "/token"])
def test_google_away_is_for_later_and_works_once_it_is_back(google, fake, path):
    fake.down = {path}
    with pytest.raises(TryLater):
        shown(google)

    fake.down = set()
    assert shown(google).email == ANNA["email"]


def test_nobody_at_the_address_is_for_later():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/openid-configuration"

    with pytest.raises(TryLater):
        LiveGoogle(CLIENT_ID, CLIENT_SECRET, discovery_url=url).begin(back_to=BACK)


def test_google_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/openid-configuration"
        google = LiveGoogle(CLIENT_ID, CLIENT_SECRET, discovery_url=url)
        began = time.monotonic()

        with pytest.raises(TryLater):
            google.begin(back_to=BACK)

    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("said", "believed"), [(True, True), ("true", True), (False, False), ("false", False), (None, False)]
)
def test_an_address_counts_as_verified_only_when_google_says_so(google, fake, said, believed):
    fake.lies = {"email_verified": said}

    assert shown(google).email_is_verified is believed


def test_an_account_without_address_or_name_is_told_as_it_is(google, fake):
    fake.lies = {"email": None, "name": None}

    person = shown(google)

    assert (person.email, person.name) == ("", "")


def test_a_fault_of_ours_is_not_laid_at_googles_door(google, monkeypatch):
    def broken(*_: object) -> None:
        raise TypeError("of ours")

    monkeypatch.setattr(google, "_told", broken)

    with pytest.raises(TypeError, match="of ours"):
        google.finish(Errand("", "state", "nonce", "verifier"), "code", back_to="http://127.0.0.1/back")
