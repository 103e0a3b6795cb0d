"""A mail provider with a memory, and the mailbox of everybody it delivers to.

It keeps to Resend's promises: a key sends once in 24 hours and is refused with another letter. It can
be told to misbehave, once for every `misbehave`, so that a test or a visitor of the demo can see what
the store does about it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import NAMESPACE_URL, uuid4, uuid5

from sts_app.core import clock
from sts_app.core.store import Store
from sts_app.emails.gateway import Letter, Refused, TryLater

KEPT_LETTERS = 500
KEY_MEMORY = timedelta(hours=24)
TIDY_EVERY = 20

MAILBOX = "mailbox"
KEY = "key"
FAULT = "fault"


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


class SimulatedMailer:
    """Delivers into `store`; see `gateway.Mailer`."""

    def __init__(self, store: Store) -> None:
        self._store = store

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
        delivered = asdict(letter) | {"sent_at": now.isoformat()}
        if self._store.add(MAILBOX, letter_id, delivered) and int(letter_id, 16) % TIDY_EVERY == 0:
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
    for key, record in store.all(KEY):
        if now - datetime.fromisoformat(record["at"]) >= KEY_MEMORY:
            store.delete(KEY, key)
