"""A mail provider with a memory, and the mailbox of everybody it delivers to.

It keeps to Resend's promises: a key sends once in 24 hours and is refused with another letter; an address
whose letters bounced or were called spam gets no more of them until that is lifted, and each that is kept
back is told of. It can be told to misbehave, once for every `misbehave`, so that a test or a visitor of the
demo can see what the store does about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import requests

from sts_app.core import clock
from sts_app.core.store import Store
from sts_app.emails.gateway import Happened, Letter, LetterEvent, Refused, TryLater
from sts_app.emails.live_events import read_signed_event
from sts_app.emails.simulated_post import EVENT, Post, Ring

KEPT_LETTERS = 500
KEY_MEMORY = timedelta(hours=24)
TIDY_EVERY = 20

MAILBOX = "mailbox"
KEY = "key"
FAULT = "fault"
SUPPRESSED = "suppressed"
SUPPRESSING = (Happened.BOUNCED, Happened.COMPLAINED)


class Fault(StrEnum):
    FAIL = "fail"
    REFUSE = "refuse"
    LOSE_ANSWER = "lose_answer"


@dataclass(frozen=True)
class Delivered:
    """One letter as its recipient has it."""

    id: str
    sender: str
    to: str
    subject: str
    text: str
    html: str
    kind: str
    sent_at: datetime
    reply_to: str | None = None


class SimulatedMailer:
    """Delivers into `store`; see `gateway.Mailer`."""

    def __init__(
        self,
        store: Store,
        *,
        webhook_secrets: tuple[str, ...] = (),
        webhook_url: str = "",
        post: Callable[..., Any] = requests.post,
    ) -> None:
        self._store = store
        self._webhook_secrets = webhook_secrets
        self._events = Post(store, webhook_secrets=webhook_secrets, webhook_url=webhook_url, post=post)

    def send(self, letter: Letter, key: str) -> str:
        fault = _next_fault(self._store)
        if fault is Fault.FAIL:
            raise TryLater("503 simulated outage", answered=False)
        if fault is Fault.REFUSE:
            raise Refused("422 simulated refusal")
        letter_id = self._deliver(letter, key)
        if fault is Fault.LOSE_ANSWER:
            raise TryLater("no answer", answered=False)
        return letter_id

    def lift(self, address: str) -> None:
        self._store.delete(SUPPRESSED, address.lower())

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> LetterEvent | None:
        return read_signed_event(body, headers, self._webhook_secrets)

    def tell(self, letter_id: str, happened: Happened) -> Ring | None:
        """Let this happen to a letter, and ring with it. None for a letter that is not there."""
        record = self._store.get(MAILBOX, letter_id)
        if record is None:
            return None
        if happened in SUPPRESSING:
            self._store.put(SUPPRESSED, str(record["to"]).lower(), {"because": happened.value})
        return self._events.tell(letter_id, record, happened)

    def tell_again(self, letter_id: str) -> str | None:
        """Ring once more with the last event of a letter; None when there was none."""
        return self._events.again(letter_id) if self._events.told(letter_id) else None

    def told(self, letter_id: str) -> list[Ring]:
        """What was told of one letter, oldest first."""
        return self._events.told(letter_id)

    def _deliver(self, letter: Letter, key: str) -> str:
        now = clock.now()
        fingerprint = hashlib.sha256(repr(letter).encode()).hexdigest()
        known = self._store.get(KEY, key)
        if known is not None and now - datetime.fromisoformat(known["at"]) < KEY_MEMORY:
            if known["fingerprint"] != fingerprint:
                raise Refused("409 invalid_idempotent_request")
            return str(known["id"])
        # The id follows from the key, so that two calls at once, or one killed half-way, put one
        # letter into the mailbox. A key that was forgotten leads to another id, and to another letter.
        letter_id = uuid5(NAMESPACE_URL, f"{known['id'] if known else ''}:{key}").hex
        record = asdict(letter) | {"sent_at": now.isoformat()}
        if self._store.get(SUPPRESSED, letter.to.lower()) is not None:
            self._events.tell(letter_id, record, Happened.SUPPRESSED)
        elif self._store.add(MAILBOX, letter_id, record) and int(letter_id, 16) % TIDY_EVERY == 0:
            _tidy(self._store, now)
        self._store.put(KEY, key, {"id": letter_id, "fingerprint": fingerprint, "at": now.isoformat()})
        return letter_id


def misbehave(store: Store, fault: Fault, times: int = 1) -> None:
    """Let the next `times` letters meet `fault`; faults wait in line in the order they were asked for."""
    for _ in range(times):
        store.put(FAULT, uuid4().hex, {"fault": fault})


def delivered(store: Store, *, to: str = "") -> list[Delivered]:
    """The last 500 letters, newest first; only those whose address contains `to`, if given."""
    kept = store.all(MAILBOX)[-KEPT_LETTERS:]
    wanted = to.strip().lower()
    return [_read(key, record) for key, record in reversed(kept) if wanted in record["to"].lower()]


def find_delivered(store: Store, letter_id: str) -> Delivered | None:
    """The letter with this id, or None."""
    record = store.get(MAILBOX, letter_id)
    return _read(letter_id, record) if record else None


def suppressed(store: Store) -> list[str]:
    """The addresses whose letters are kept back, the longest kept first."""
    return [address for address, _ in store.all(SUPPRESSED)]


def _read(letter_id: str, record: dict[str, str]) -> Delivered:
    fields = {name: value for name, value in record.items() if name != "sent_at"}
    return Delivered(id=letter_id, sent_at=datetime.fromisoformat(record["sent_at"]), **fields)


def _next_fault(store: Store) -> Fault | None:
    for key, _ in store.all(FAULT):
        # Taken, not read: of two workers that see it, one gets it.
        if taken := store.take(FAULT, key):
            return Fault(taken["fault"])
    return None


def _tidy(store: Store, now: datetime) -> None:
    """Drop what no one can ask for any more; now and then, because it reads everything."""
    for letter_id, _ in store.all(MAILBOX)[:-KEPT_LETTERS]:
        store.delete(MAILBOX, letter_id)
        store.delete(EVENT, letter_id)
    for key, record in store.all(KEY):
        if now - datetime.fromisoformat(record["at"]) >= KEY_MEMORY:
            store.delete(KEY, key)
