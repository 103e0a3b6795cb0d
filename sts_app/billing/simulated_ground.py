"""The simulated Stripe's memory: what was made is a record, and what happened to it a list of acts.

A record is added once, and so is each act: at the place after those that its caller had read. Whoever
finds the place taken reads again and decides again. So of two callers at once one is first, and the
other knows of it; and a process that dies half way leaves nothing half done but an undelivered event.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from sts_app.billing.gateway import Refused
from sts_app.billing.simulated_post import Post, stamp
from sts_app.core.store import Record

# Stripe forgets keys that are at least a day old.
KEY_LIFE = timedelta(hours=24)


class Ground(Post):
    """Acts, keys, and the way a call of the gateway is answered."""

    def _acts(self, thing_id: str) -> list[Record]:
        """What happened to a thing, oldest first."""
        return [act for _, act in self.store.all(f"acts {thing_id}")]

    def _append(self, thing_id: str, decide: Callable[[list[Record]], Record | None]) -> bool:
        """Add the act that `decide` makes of those before it. False when it found nothing to be done.

        `decide` may be asked again, and refuses by raising.
        """
        while True:
            acts = self._acts(thing_id)
            act = decide(acts)
            if act is None:
                return False
            if self.store.add(f"acts {thing_id}", str(len(acts)), {"at": stamp()} | act):
                return True

    @contextmanager
    def _deed(self, op: str) -> Iterator[None]:
        """A call that makes or changes something: its answer may be lost when everything is done."""
        self._answer(op)
        yield
        self._lose_answer(op)

    def _claim(self, op: str, key: str, request: object) -> str:
        """The token under which the deed of this key is done. The same for as long as the key is remembered.

        What is made is named by the token, so that whoever comes again, at once or after a crash, makes
        the same thing. Raises `Refused` for a key that came with another request.
        """
        asked = hashlib.sha256(json.dumps([op, request], sort_keys=True, default=str).encode()).hexdigest()
        oldest = stamp() - KEY_LIFE.total_seconds()

        def remember(acts: list[Record]) -> Record | None:
            if acts and acts[-1]["at"] > oldest:
                return None
            return {"asked": asked, "token": secrets.token_hex(14)}

        self._append(f"key {key}", remember)
        known = self._acts(f"key {key}")[-1]
        if known["asked"] != asked:
            raise Refused(f"{op}: idempotency_error")
        return str(known["token"])

    @contextmanager
    def _same_answer(self, token: str) -> Iterator[None]:
        """What was refused under a key is refused under it again."""
        refused = self.store.get("refusal", token)
        if refused is not None:
            raise Refused(str(refused["reason"]))
        try:
            yield
        except Refused as refusal:
            self.store.add("refusal", token, {"reason": refusal.reason})
            raise
