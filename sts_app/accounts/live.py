"""Google by OpenID Connect, as Authlib speaks it: code flow with PKCE, and what is signed is checked against its keys.

https://developers.google.com/identity/openid-connect/openid-connect
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from authlib.integrations.base_client import OAuth2Mixin, OAuthError, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from joserfc.errors import JoseError
from requests import RequestException

from sts_app.accounts.gateway import Errand, GoogleError, GooglePerson, Refused, TryLater

log = structlog.get_logger()

SCOPE = "openid email profile"
PATIENCE = (3, 6)  # seconds to connect, and to wait for an answer
# What Google signs with; a token that names another way was not made by it.
SIGNED_BY = ("RS256",)

Found = TypeVar("Found")


class _Client(OAuth2Mixin, OpenIDMixin):  # type: ignore[misc]  # authlib carries no types
    """Authlib's client without a web framework: what belongs to a visitor is the caller's to keep."""

    client_cls = OAuth2Session

    def load_server_metadata(self) -> dict[str, Any]:
        """What Google says of itself, read once; that it would sign in other ways is not believed."""
        metadata: dict[str, Any] = super().load_server_metadata()
        metadata["id_token_signing_alg_values_supported"] = list(SIGNED_BY)
        return metadata


class LiveGoogle:
    """One client for the life of a process: it remembers Google's addresses and keys, and asks again for a key that
    it does not know."""

    def __init__(self, client_id: str, client_secret: str, *, discovery_url: str) -> None:
        self._client_id = client_id
        self._client = _Client(
            framework=None,
            name="google",
            client_id=client_id,
            client_secret=client_secret,
            server_metadata_url=discovery_url,
            client_kwargs={"scope": SCOPE, "code_challenge_method": "S256", "default_timeout": PATIENCE},
        )

    def begin(self, *, back_to: str, hint: str = "") -> Errand:
        """Where to send a visitor; see `gateway.Google`."""
        further = {"login_hint": hint} if hint else {}
        made = self._asked("begin", lambda: self._client.create_authorization_url(back_to, **further))
        return Errand(made["url"], made["state"], made["nonce"], made["code_verifier"])

    def finish(self, errand: Errand, code: str, *, back_to: str) -> GooglePerson:
        """Who came back; see `gateway.Google`."""
        return self._asked("finish", lambda: self._told(errand, code, back_to))

    def _told(self, errand: Errand, code: str, back_to: str) -> GooglePerson:
        token = self._client.fetch_access_token(
            redirect_uri=back_to, code=code, state=errand.state, code_verifier=errand.verifier
        )
        expected = {
            "iss": {"essential": True, "values": [self._client.load_server_metadata()["issuer"]]},
            "aud": {"essential": True, "values": [self._client_id]},
        }
        claims = self._client.parse_id_token(token, errand.nonce, claims_options=expected)
        if not claims or not claims.get("sub"):
            raise Refused("no id_token")
        # A text in older answers of Google, a boolean since.
        is_verified = claims.get("email_verified") in (True, "true")
        return GooglePerson(
            str(claims["sub"]), str(claims.get("email") or ""), is_verified, str(claims.get("name") or "")
        )

    def _asked(self, call: str, ask: Callable[[], Found]) -> Found:
        began = time.monotonic()
        outcome = "ok"
        try:
            return ask()
        except GoogleError as error:
            outcome = str(error)
            raise
        except RequestException as error:
            outcome = type(error).__name__
            raise TryLater(outcome) from error
        except OAuthError as error:
            # Only the name of the fault: descriptions may quote what was sent.
            outcome = str(error.error)
            raise (TryLater if outcome in ("server_error", "temporarily_unavailable") else Refused)(outcome) from error
        except (JoseError, ValueError, KeyError) as error:
            outcome = type(error).__name__
            raise Refused(outcome) from error
        finally:
            log.info("accounts.google_call", call=call, outcome=outcome, seconds=round(time.monotonic() - began, 3))
