"""How the simulated provider tells what became of a letter: signed events at the real webhook address."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
import structlog

from sts_app.core import clock
from sts_app.core.store import Store
from sts_app.emails.gateway import Happened

log = structlog.get_logger()

DELIVERY_TIMEOUT = 5.0
EVENT = "event"

# What Resend calls each, and what it adds to the event (the shapes are those of its package's types).
KINDS = {
    Happened.DELIVERED: "email.delivered",
    Happened.DELAYED: "email.delivery_delayed",
    Happened.FAILED: "email.failed",
    Happened.SUPPRESSED: "email.suppressed",
    Happened.BOUNCED_SOFTLY: "email.bounced",
    Happened.BOUNCED: "email.bounced",
    Happened.COMPLAINED: "email.complained",
}
DETAILS: dict[Happened, dict[str, Any]] = {
    Happened.FAILED: {"failed": {"reason": "reached_daily_quota"}},
    Happened.SUPPRESSED: {
        "suppressed": {"type": "OnAccountSuppressionList", "message": "The address is on the suppression list."}
    },
    Happened.BOUNCED_SOFTLY: {
        "bounce": {
            "type": "Transient",
            "subType": "MailboxFull",
            "message": "The recipient's mailbox is full.",
            "diagnosticCode": "smtp; 452 4.2.2 The mailbox is over its quota",
        }
    },
    Happened.BOUNCED: {
        "bounce": {
            "type": "Permanent",
            "subType": "General",
            "message": "The recipient's server does not know the mailbox.",
            "diagnosticCode": "smtp; 550 5.1.1 No such user here",
        }
    },
}


@dataclass(frozen=True)
class Ring:
    """One event as it was told: `answer` is the status that the webhook gave, or why there was none."""

    id: str
    happened: Happened
    at: datetime
    body: str
    answer: str


class Post:
    """Rings with what happened to letters. Without a secret there is nobody to ring."""

    def __init__(
        self,
        store: Store,
        *,
        webhook_secrets: tuple[str, ...],
        webhook_url: str,
        post: Callable[..., Any] = requests.post,
    ) -> None:
        self._store = store
        self._webhook_secrets = webhook_secrets
        self._webhook_url = webhook_url
        self._post = post

    def tell(self, letter_id: str, letter: dict[str, Any], happened: Happened) -> Ring:
        """Ring once with what happened to a letter, and remember it. `letter` is as the mailbox keeps it."""
        now = clock.now()
        event_id = f"msg_{secrets.token_hex(13)}"
        data = {
            "email_id": letter_id,
            "message_id": f"<{letter_id}@simulated.example>",
            "created_at": letter["sent_at"],
            "from": letter["sender"],
            "to": [letter["to"]],
            "subject": letter["subject"],
            "tags": {"kind": letter["kind"]},
        }
        body = json.dumps(
            {"type": KINDS[happened], "created_at": now.isoformat(), "data": data | DETAILS.get(happened, {})}
        )
        ring = Ring(id=event_id, happened=happened, at=now, body=body, answer=self._deliver(event_id, body))
        self._keep(letter_id, ring)
        return ring

    def again(self, letter_id: str) -> str:
        """Ring once more with the last event of a letter, under its id. Returns the answer."""
        last = self.told(letter_id)[-1]
        return self._deliver(last.id, last.body)

    def told(self, letter_id: str) -> list[Ring]:
        """What was told of one letter, oldest first."""
        kept = self._store.get(EVENT, letter_id) or {"rings": []}
        return [
            Ring(
                id=str(ring["id"]),
                happened=Happened(ring["happened"]),
                at=datetime.fromisoformat(ring["at"]),
                body=str(ring["body"]),
                answer=str(ring["answer"]),
            )
            for ring in kept["rings"]
        ]

    def _keep(self, letter_id: str, ring: Ring) -> None:
        kept = self._store.get(EVENT, letter_id) or {"rings": []}
        told = {
            "id": ring.id,
            "happened": ring.happened.value,
            "at": ring.at.isoformat(),
            "body": ring.body,
            "answer": ring.answer,
        }
        self._store.put(EVENT, letter_id, {"rings": [*kept["rings"], told]})

    def _deliver(self, event_id: str, body: str) -> str:
        if not self._webhook_secrets:
            return "nobody to ring: RESEND_WEBHOOK_SECRET is not set"
        try:
            response = self._post(
                self._webhook_url,
                data=body.encode(),
                headers=signed_headers(event_id, body, self._webhook_secrets[0]),
                timeout=DELIVERY_TIMEOUT,
                allow_redirects=False,
            )
            answer = str(response.status_code)
        except requests.RequestException as error:
            answer = type(error).__name__
        log.info("resend.simulated.event", event_id=event_id, answer=answer)
        return answer


def signed_headers(event_id: str, body: str, secret: str, *, at: datetime | None = None) -> dict[str, str]:
    """The headers of an event as Svix signs it with `secret` (`whsec_` and base64), at this moment or `at` another."""
    stamp = str(int((at or clock.now()).timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{event_id}.{stamp}.{body}".encode(), hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "svix-id": event_id,
        "svix-timestamp": stamp,
        "svix-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
