"""How the simulated Stripe tells what happened: signed events at the real webhook address, and its bad days."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, cast

import requests
import stripe
import structlog

from sts_app.billing import simulated_objects as objects
from sts_app.billing.gateway import Refused, TryLater
from sts_app.core import clock
from sts_app.core.store import Record, Store

log = structlog.get_logger()

DELIVERY_TIMEOUT = 5.0
DELAY = timedelta(seconds=30)

DeliveryState = Literal["recorded", "delivered", "undelivered", "held", "delayed", "dropped"]


class Fault(StrEnum):
    """How the simulator can be told to misbehave. All but the last stand until `behave`."""

    DROP = "drop"  # events are recorded and never delivered
    DUPLICATE = "duplicate"  # each event is delivered twice
    HOLD = "hold"  # events are kept until `deliver_held`
    DELAY = "delay"  # events are delivered half a minute late, by the next act or `deliver_due`
    API_DOWN = "api-down"  # every call of the gateway raises TryLater
    LOSE_ANSWER = "lose-answer"  # spent by one call that writes: its deed is done, and TryLater is raised


@dataclass(frozen=True)
class Event:
    """One event as the simulator remembers it. `body` is the exact text that is signed and sent."""

    id: str
    type: str
    about: str
    body: str
    state: DeliveryState
    tries: int
    answer: str


def misbehave(store: Store, *faults: Fault, times: int = 1) -> None:
    """Switch `faults` on for every process that shares `store`. `times` is how many answers are lost."""
    for fault in faults:
        if fault is Fault.LOSE_ANSWER:
            for _ in range(times):
                store.put("lost-answer", secrets.token_hex(8), {})
        else:
            store.put("fault", fault.value, {})


def behave(store: Store) -> None:
    """Switch every fault off. Held events stay held until they are delivered."""
    for fault in Fault:
        store.delete("fault", fault.value)
    for token, _ in store.all("lost-answer"):
        store.delete("lost-answer", token)


def faults_on(store: Store) -> list[Fault]:
    """The faults that are switched on, and that of a lost answer while one is still to be lost."""
    standing = {name for name, _ in store.all("fault")}
    if store.all("lost-answer"):
        standing.add(Fault.LOSE_ANSWER)
    return [fault for fault in Fault if fault in standing]


def shuffled(seed: int) -> Callable[[list[Event]], list[Event]]:
    """An order for `deliver_held`: any at all, and the same for the same seed."""
    return lambda events: random.Random(seed).sample(events, len(events))


class Post:
    """Records every event and rings with it; delivers late, twice or never when told so."""

    def __init__(
        self,
        store: Store,
        *,
        webhook_secrets: tuple[str, ...],
        webhook_url: str,
        public_url: str,
        post: Callable[..., Any] = requests.post,
    ) -> None:
        self.store = store
        self._webhook_secrets = webhook_secrets
        self._webhook_url = webhook_url
        self._public_url = public_url
        self._post = post

    def events(self) -> list[Event]:
        """Every event and how its delivery stands, oldest first."""
        deliveries = dict(self.store.all("delivery"))
        return [_event_of(key, record, deliveries.get(key)) for key, record in self.store.all("event")]

    def redeliver(self, event_id: str) -> bool:
        """Ring once more with an event, whatever faults are on. True when it was taken (2xx)."""
        record = self.store.get("event", event_id)
        if record is None:
            raise Refused("redeliver: resource_missing")
        self.store.take("held", event_id)
        return self._deliver(event_id, str(record["body"]))

    def deliver_held(self, *, order: Callable[[list[Event]], Iterable[Event]] = list) -> int:
        """Deliver what `Fault.HOLD` kept back, each once, in an `order` such as `reversed` or `shuffled(7)`."""
        return self._release({key for key, held in self.store.all("held") if "until" not in held}, order)

    def deliver_due(self) -> int:
        """Deliver what `Fault.DELAY` kept back, as far as its time has come, oldest first."""
        now = clock.now().timestamp()
        return self._release({key for key, held in self.store.all("held") if held.get("until", now + 1) <= now}, list)

    def _announce(self, *happened: tuple[str, Record]) -> None:
        """Record every event of an act, and only then ring with them."""
        recorded: list[tuple[str, str]] = []
        at = stamp()
        for kind, thing in happened:
            event_id = new_id("evt")
            body = json.dumps(objects.event_about(thing, event_id=event_id, kind=kind, at=at))
            record = {"type": kind, "about": thing["id"], "created": at, "body": body}
            self.store.put("event", event_id, record)
            recorded.append((event_id, body))
        faults = faults_on(self.store)
        if Fault.DELAY not in faults:
            self.deliver_due()
        for event_id, body in recorded:
            if Fault.DROP in faults:
                self._note(event_id, "dropped")
            elif Fault.HOLD in faults:
                self.store.put("held", event_id, {})
                self._note(event_id, "held")
            elif Fault.DELAY in faults:
                self.store.put("held", event_id, {"until": at + int(DELAY.total_seconds())})
                self._note(event_id, "delayed")
            else:
                for _ in range(2 if Fault.DUPLICATE in faults else 1):
                    self._deliver(event_id, body)

    def _release(self, wanted: set[str], order: Callable[[list[Event]], Iterable[Event]]) -> int:
        if not wanted:
            return 0
        count = 0
        for event in order([event for event in self.events() if event.id in wanted]):
            if self.store.take("held", event.id) is not None:
                self._deliver(event.id, event.body)
                count += 1
        return count

    def _deliver(self, event_id: str, body: str) -> bool:
        # A signature of its own for every try, like Stripe: an old one would be refused.
        signature = stripe.WebhookSignature.generate_signature_header(body, self._webhook_secrets[0], stamp())
        try:
            response = self._post(
                self._webhook_url,
                data=body.encode(),
                headers={"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature},
                timeout=DELIVERY_TIMEOUT,
                allow_redirects=False,
            )
            answer, taken = str(response.status_code), bool(200 <= response.status_code < 300)
        except requests.RequestException as error:
            answer, taken = type(error).__name__, False
        self._note(event_id, "delivered" if taken else "undelivered", answer)
        return taken

    def _note(self, event_id: str, state: DeliveryState, answer: str = "") -> None:
        before = self.store.get("delivery", event_id) or {"state": state, "tries": 0}
        # What was taken once stays delivered, whatever a repeat of it met.
        kept = "delivered" if before["state"] == "delivered" else state
        tries = before["tries"] + (1 if answer else 0)
        self.store.put("delivery", event_id, {"state": kept, "tries": tries, "answer": answer})
        log.info("stripe.simulated.event", event_id=event_id, state=state, answer=answer)

    def _answer(self, op: str) -> None:
        if self.store.get("fault", Fault.API_DOWN.value) is not None:
            log.info("stripe.call", op=op, ms=0, outcome="try_later", simulated=True)
            raise TryLater(f"{op}: api_error")
        log.info("stripe.call", op=op, ms=0, outcome="answered", simulated=True)

    def _lose_answer(self, op: str) -> None:
        for token, _ in self.store.all("lost-answer"):
            if self.store.take("lost-answer", token) is not None:
                log.info("stripe.call", op=op, ms=0, outcome="lost", simulated=True)
                raise TryLater(f"{op}: no answer")


def new_id(prefix: str) -> str:
    """An id of Stripe's kind."""
    return f"{prefix}_{secrets.token_hex(14)}"


def stamp() -> int:
    """The present moment as Stripe writes it: a Unix time in whole seconds."""
    return int(clock.now().timestamp())


def _event_of(event_id: str, record: Record, delivery: Record | None) -> Event:
    delivery = delivery or {"state": "recorded", "tries": 0, "answer": ""}
    return Event(
        id=event_id,
        type=str(record["type"]),
        about=str(record["about"]),
        body=str(record["body"]),
        state=cast(DeliveryState, delivery["state"]),
        tries=int(delivery["tries"]),
        answer=str(delivery["answer"]),
    )
