"""Google's OpenID Connect on the loopback address: discovery, keys, the page where people agree, and tokens.

It keeps its side of the protocol to the letter: a code works once and for one client, one return address and one
PKCE challenge, and what it signs is signed with RS256. What it says can be made wrong by `lies`, `sign` and `down`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.fakes.loopback import Loopback, Reply, Request

CLIENT_ID = "store.apps.example"
CLIENT_SECRET = "known to the store and to the fake alone"
ANNA: dict[str, Any] = {
    "sub": "108204268033311374519",
    "email": "anna@customers.example",
    "email_verified": True,
    "name": "Anna Example",
}


@cache
def key_called(kid: str) -> RSAKey:
    """Made once for a run: it takes a while."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})


class GoogleFake(Loopback):
    """Use it as a context manager. `person` is who sits at the browser, or none who presses *Cancel*."""

    def __init__(self) -> None:
        self.person: dict[str, Any] | None = dict(ANNA)
        self.lies: dict[str, Any] = {}
        self.down: set[str] = set()
        self.requests: list[Request] = []
        self.shows_page = False
        self.key = key_called("first")
        self.sign: Callable[[dict[str, Any]], str] = self.properly
        self._codes: dict[str, dict[str, str]] = {}

    @property
    def discovery(self) -> str:
        return f"{self.url}/.well-known/openid-configuration"

    def new_key(self, kid: str) -> None:
        """Sign with another key from now on, and publish only that one."""
        self.key = key_called(kid)

    def properly(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"alg": "RS256", "kid": str(self.key.kid)}, claims, self.key)

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.path in self.down:
            return Reply(503, b"<h1>Try again later</h1>", "text/html")
        match request.path:
            case "/.well-known/openid-configuration":
                return _json(self._about())
            case "/certs":
                return _json({"keys": [self.key.as_dict(private=False)]})
            case "/authorize":
                return self._authorize(request.query)
            case "/token":
                return self._token(request)
            case "/favicon.ico":
                return Reply(204)
        return Reply(404)

    def _about(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            # More than a store should believe.
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "code_challenge_methods_supported": ["plain", "S256"],
        }

    def _authorize(self, asked: dict[str, str]) -> Reply:
        faults = [
            name
            for name, right in {
                "client_id": asked.get("client_id") == CLIENT_ID,
                "response_type": asked.get("response_type") == "code",
                "scope": {"openid", "email"} <= set(asked.get("scope", "").split()),
                "code_challenge_method": asked.get("code_challenge_method") == "S256",
                "code_challenge": len(asked.get("code_challenge", "")) == 43,
                "state": len(asked.get("state", "")) >= 20,
                "nonce": len(asked.get("nonce", "")) >= 20,
                "redirect_uri": asked.get("redirect_uri", "").endswith("/sign-in/google/callback"),
            }.items()
            if not right
        ]
        if faults:
            return Reply(400, f"wrong: {', '.join(faults)}".encode(), "text/plain")
        if self.shows_page and asked.get("chosen") is None:
            return _page(asked)
        if self.person is None or asked.get("chosen") == "cancel":
            return _see(asked["redirect_uri"], error="access_denied", state=asked["state"])
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return _see(asked["redirect_uri"], code=code, state=asked["state"])

    def _token(self, request: Request) -> Reply:
        sent = dict(request.body or {})
        if "Authorization" in request.headers:
            pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
            sent["client_id"], sent["client_secret"] = (unquote(part) for part in pair.split(":", 1))
        if (sent.get("client_id"), sent.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return _json({"error": "invalid_client"}, 401)
        asked = self._codes.pop(sent.get("code", ""), None)
        if asked is None or sent.get("redirect_uri") != asked["redirect_uri"]:
            return _json({"error": "invalid_grant"}, 400)
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return _json({"error": "invalid_grant", "error_description": "code_verifier"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "azp": CLIENT_ID,
            "iat": now,
            "exp": now + 3600,
            "nonce": asked["nonce"],
            **(self.person or {}),
            **self.lies,
        }
        id_token = self.sign({name: value for name, value in claims.items() if value is not None})
        return _json({"access_token": "opaque", "token_type": "Bearer", "expires_in": 3599, "id_token": id_token})


def _json(body: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body).encode())


def _see(address: str, **values: str) -> Reply:
    return Reply(303, headers={"Location": f"{address}?{urlencode(values)}"})


def _page(asked: dict[str, str]) -> Reply:
    links = "".join(
        f'<p><a href="/authorize?{urlencode(asked | {"chosen": chosen})}">{label}</a></p>'.replace("&", "&amp;")
        for chosen, label in (("yes", "Allow"), ("cancel", "Cancel"))
    )
    page = f'<!DOCTYPE html><html lang="en"><title>Choose an account</title><h1>Choose an account</h1>{links}</html>'
    return Reply(200, page.encode(), "text/html; charset=utf-8")
