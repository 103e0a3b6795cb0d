"""A small Stripe with a memory, for machines without a Stripe account.

It keeps checkouts, payments, refunds and events, and rings the real webhook address with events that
are signed like Stripe's. What happened to a checkout is a few records, each written once and by one
caller only (`Store.add`): how it ended, how a delayed payment settled, each refund. Its present shape
is computed from them. So two tabs that pay at once charge once, and a process that dies half way
leaves nothing half done but an undelivered event, which is what the store has to survive anyway.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, cast

import requests
import stripe
import structlog

from sts_app.billing import simulated_objects as objects
from sts_app.billing.gateway import Checkout, CheckoutRequest, PaymentFacts, Refused, SignedEvent, TryLater
from sts_app.billing.live import facts_of, read_signed_event
from sts_app.billing.simulated_objects import Ending, Story
from sts_app.core import clock
from sts_app.core.store import Record, Store

log = structlog.get_logger()

DELIVERY_TIMEOUT = 5.0
SHORTEST = timedelta(minutes=30)
LONGEST = timedelta(hours=24)
# Stripe measures when the call arrives, and does not mind the way it took.
LENIENCE = timedelta(minutes=1)

DeliveryState = Literal["recorded", "delivered", "undelivered", "held", "dropped"]


class Fault(StrEnum):
    """How the simulator can be told to misbehave, until `behave`."""

    DROP = "drop"  # events are recorded and never delivered
    DUPLICATE = "duplicate"  # each event is delivered twice
    HOLD = "hold"  # events are kept until `deliver_held`
    API_DOWN = "api-down"  # every call of the gateway raises TryLater


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


@dataclass(frozen=True)
class SimulatedCheckout:
    """One checkout as the simulator's own pages show it."""

    facts: PaymentFacts
    product_name: str
    customer_email: str
    success_url: str
    cancel_url: str
    opened_at: datetime
    expires_at: datetime

    @property
    def return_url(self) -> str:
        """Where a buyer goes after paying."""
        return self.success_url.replace("{CHECKOUT_SESSION_ID}", self.facts.session_id)

    @property
    def may_settle(self) -> bool:
        return self.facts.session == "complete" and self.facts.intent == "processing"

    @property
    def refundable_cents(self) -> int:
        return self.facts.amount_total - self.facts.amount_refunded if self.facts.payment == "paid" else 0


def misbehave(store: Store, *faults: Fault) -> None:
    """Switch `faults` on for every process that shares `store`."""
    for fault in faults:
        store.put("fault", fault.value, {})


def behave(store: Store) -> None:
    """Switch every fault off. Held events stay held until they are delivered."""
    for fault in Fault:
        store.delete("fault", fault.value)


def faults_on(store: Store) -> list[Fault]:
    """The faults that are switched on."""
    return [fault for fault in Fault if store.get("fault", fault.value) is not None]


class SimulatedPayments:
    """The `Payments` gateway over a store of records, and the acts of a buyer and of Stripe's dashboard."""

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

    # The gateway.

    def open_checkout(self, request: CheckoutRequest, *, key: str) -> Checkout:
        """Open a page of ours; the same key and request return the same page."""
        self._answer("open_checkout")
        wanted = asdict(request) | {"expires_at": int(request.expires_at.timestamp())}
        fingerprint = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        known = self.store.get("key", key)
        if known is None:
            known = {"fingerprint": fingerprint, "session": self._open(request)}
            if not self.store.add("key", key, known):
                # Another caller with this key was faster: its page is the page.
                self.store.delete("session", known["session"])
                known = self.store.get("key", key) or known
        if known["fingerprint"] != fingerprint:
            raise Refused("open_checkout: idempotency_error")
        session = self._story(known["session"]).opened["session"]
        return Checkout(session["id"], session["url"], datetime.fromtimestamp(session["expires_at"], UTC))

    def close_checkout(self, session_id: str) -> None:
        """Expire an open page; one that has ended already is refused, as Stripe does."""
        self._answer("close_checkout")
        if self._facts(session_id).session != "open":
            raise Refused("close_checkout: status 400")
        self.expire(session_id)

    def read_event(self, body: bytes, signature: str | None) -> SignedEvent:
        """Verify the signature over the raw body, then read it. Raises `BadSignature`."""
        return read_signed_event(body, signature, self._webhook_secrets)

    def look_up(self, session_id: str) -> PaymentFacts:
        """The present facts of a checkout. One whose time has passed expires by being looked at."""
        self._answer("look_up")
        return self.checkout(session_id).facts

    def find_session(self, intent_id: str) -> str | None:
        """The checkout session a payment intent belongs to, if any."""
        self._answer("find_session")
        found = self.store.get("intent", intent_id)
        return str(found["session"]) if found else None

    # What a buyer does on the page.

    def pay(self, session_id: str) -> PaymentFacts:
        """Pay by card. A page that was paid, left to a slow bank or expired before stays as it is."""
        self._current(session_id)
        if self._end(session_id, "paid"):
            story = self._story(session_id)
            self._announce(
                ("charge.succeeded", objects.charge_of(story)),
                ("payment_intent.succeeded", objects.intent_of(story)),
                ("checkout.session.completed", objects.session_of(story)),
            )
        return self._facts(session_id)

    def decline(self, session_id: str, *, because: str = "insufficient_funds") -> PaymentFacts:
        """The bank says no. The page stays open, and paying afterwards works."""
        if self._current(session_id).end is None:
            self.store.put("decline", session_id, {"because": because, "charge": _new_id("ch")})
            story = self._story(session_id)
            self._announce(
                ("charge.failed", objects.charge_of(story)),
                ("payment_intent.payment_failed", objects.intent_of(story)),
            )
        return self._facts(session_id)

    def pay_later(self, session_id: str) -> PaymentFacts:
        """Pay with a slow bank: the page completes unpaid, and `settle` says how it went."""
        self._current(session_id)
        if self._end(session_id, "processing"):
            story = self._story(session_id)
            self._announce(
                ("payment_intent.processing", objects.intent_of(story)),
                ("checkout.session.completed", objects.session_of(story)),
            )
        return self._facts(session_id)

    # What happens at Stripe.

    def settle(self, session_id: str, succeeded: bool) -> PaymentFacts:
        """The slow bank's verdict; the first one stands. Raises `Refused` when no payment is under way."""
        if self._current(session_id).end != "processing":
            raise Refused("settle: no delayed payment is under way")
        if self.store.add("settlement", session_id, {"succeeded": succeeded}):
            story = self._story(session_id)
            outcome = "succeeded" if succeeded else "failed"
            self._announce(
                (f"charge.{outcome}", objects.charge_of(story)),
                (f"payment_intent.{'succeeded' if succeeded else 'payment_failed'}", objects.intent_of(story)),
                (f"checkout.session.async_payment_{outcome}", objects.session_of(story)),
            )
        return self._facts(session_id)

    def expire(self, session_id: str) -> PaymentFacts:
        """Close the page for good. Quiet when it has ended in any way before."""
        self._story(session_id)
        if self._end(session_id, "expired"):
            self._announce(("checkout.session.expired", objects.session_of(self._story(session_id))))
        return self._facts(session_id)

    def refund(self, session_id: str, amount_cents: int | None = None) -> PaymentFacts:
        """Give back `amount_cents`, by default what is left. Raises `Refused` beyond what was paid."""
        while True:
            story = self._current(session_id)
            left = story.amount - story.refunded
            if not story.is_paid:
                raise Refused("refund: nothing was paid")
            if left == 0:
                raise Refused("refund: charge_already_refunded")
            amount = left if amount_cents is None else amount_cents
            if not 0 < amount <= left:
                raise Refused(f"refund: amount_too_{'large' if amount > left else 'small'}")
            refund = objects.refund_of(story, refund_id=_new_id("re"), amount=amount, at=_stamp())
            # The place after those that were counted; taken means that another refund came between.
            if self.store.add("refund", f"{session_id}/{len(story.refunds)}", refund):
                break
        charge = objects.charge_of(self._story(session_id))
        self._announce(("refund.created", refund), ("charge.refunded", charge))
        return self._facts(session_id)

    # What the simulator shows of itself.

    def checkout(self, session_id: str) -> SimulatedCheckout:
        """One checkout with everything its page shows. Raises `Refused` for an unknown one."""
        story = self._current(session_id)
        session = story.opened["session"]
        return SimulatedCheckout(
            facts=facts_of(objects.session_of(story, expanded=True)),
            product_name=story.opened["product_name"],
            customer_email=session["customer_email"],
            success_url=session["success_url"],
            cancel_url=session["cancel_url"],
            opened_at=datetime.fromtimestamp(session["created"], UTC),
            expires_at=datetime.fromtimestamp(session["expires_at"], UTC),
        )

    def checkouts(self, *, latest: int = 50) -> list[SimulatedCheckout]:
        """The `latest` checkouts, newest first."""
        return [self.checkout(session_id) for session_id, _ in reversed(self.store.all("session")[-latest:])]

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
        """Deliver what `Fault.HOLD` kept back, each once, in the `order` given (`reversed` is one)."""
        held = {event_id for event_id, _ in self.store.all("held")}
        kept = [event for event in self.events() if event.id in held]
        count = 0
        for event in order(kept):
            if self.store.take("held", event.id) is not None:
                self._deliver(event.id, event.body)
                count += 1
        return count

    # Below the counter.

    def _answer(self, op: str) -> None:
        if self.store.get("fault", Fault.API_DOWN.value) is not None:
            log.info("stripe.call", op=op, ms=0, outcome="try_later", simulated=True)
            raise TryLater(f"{op}: api_error")
        log.info("stripe.call", op=op, ms=0, outcome="answered", simulated=True)

    def _open(self, request: CheckoutRequest) -> str:
        left = request.expires_at - clock.now()
        if not SHORTEST - LENIENCE <= left <= LONGEST + LENIENCE:
            raise Refused("open_checkout: parameter_invalid expires_at")
        session_id, intent_id = _new_id("cs_test"), _new_id("pi")
        url = f"{self._public_url}/dev/stripe/checkout/{session_id}"
        record = {
            "session": objects.opened(request, session_id=session_id, url=url, at=_stamp()),
            "intent": intent_id,
            "charge": _new_id("ch"),
            "product_name": request.product_name,
        }
        self.store.put("session", session_id, record)
        self.store.put("intent", intent_id, {"session": session_id})
        return session_id

    def _story(self, session_id: str) -> Story:
        opened = self.store.get("session", session_id)
        if opened is None:
            raise Refused("look_up: resource_missing")
        end = self.store.get("end", session_id)
        settlement = self.store.get("settlement", session_id)
        refunds: list[Record] = []
        while (refund := self.store.get("refund", f"{session_id}/{len(refunds)}")) is not None:
            refunds.append(refund)
        return Story(
            opened=opened,
            end=end["kind"] if end else None,
            settled=settlement["succeeded"] if settlement else None,
            decline=self.store.get("decline", session_id),
            refunds=tuple(refunds),
        )

    def _current(self, session_id: str) -> Story:
        """The story of a checkout, after letting its time run out if it has."""
        story = self._story(session_id)
        if story.end is None and story.opened["session"]["expires_at"] <= clock.now().timestamp():
            self.expire(session_id)
            story = self._story(session_id)
        return story

    def _facts(self, session_id: str) -> PaymentFacts:
        return facts_of(objects.session_of(self._story(session_id), expanded=True))

    def _end(self, session_id: str, ending: Ending) -> bool:
        """Decide how a checkout ended. True for the one caller whose word it is."""
        return self.store.add("end", session_id, {"kind": ending})

    def _announce(self, *happened: tuple[str, Record]) -> None:
        """Record every event of an act, and only then ring with them."""
        recorded: list[tuple[str, str]] = []
        for kind, thing in happened:
            event_id = _new_id("evt")
            body = json.dumps(objects.event_about(thing, event_id=event_id, kind=kind, at=_stamp()))
            self.store.put("event", event_id, {"type": kind, "about": thing["id"], "body": body})
            recorded.append((event_id, body))
        faults = faults_on(self.store)
        for event_id, body in recorded:
            if Fault.DROP in faults:
                self._note(event_id, "dropped")
            elif Fault.HOLD in faults:
                self.store.put("held", event_id, {})
                self._note(event_id, "held")
            else:
                for _ in range(2 if Fault.DUPLICATE in faults else 1):
                    self._deliver(event_id, body)

    def _deliver(self, event_id: str, body: str) -> bool:
        # A signature of its own for every try, like Stripe: an old one would be refused.
        signature = stripe.WebhookSignature.generate_signature_header(
            body, self._webhook_secrets[0], int(clock.now().timestamp())
        )
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


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(14)}"


def _stamp() -> int:
    return int(clock.now().timestamp())
