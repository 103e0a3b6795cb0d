"""A small cast, and builders of the smallest valid thing.

Alice buys, Bob is another customer, Sam is staff, Mallory is nobody. All of it is for the `db` fixture.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa
import stripe
import time_machine
from flask import current_app
from flask.testing import FlaskClient
from flask_login.utils import _create_identifier

from jobs import billing as billing_job
from jobs import emails as emails_job
from jobs import provisioning as provisioning_job
from sts_app.accounts.models import TEXTS_VERSION, Role, User, UserSession
from sts_app.billing import customers
from sts_app.billing.models import Purchase, WebhookEvent
from sts_app.billing.offers import offer_of, words_of
from sts_app.billing.services import Agreed, open_purchase, payments, remember_checkout
from sts_app.billing.services import checkout_request as stored_request
from sts_app.billing.simulated import SimulatedPayments
from sts_app.catalog.models import Plan, Strategy
from sts_app.catalog.queries import lifetime_plan
from sts_app.catalog.services import seed_catalog
from sts_app.core import clock, tokens
from sts_app.core.db import db, transaction
from sts_app.core.store import Store, store_for
from sts_app.emails.models import EmailMessage
from sts_app.provisioning import cycles, names, queries, simulated, way
from sts_app.provisioning import services as provisioning
from sts_app.provisioning.gateway import TradingView
from sts_app.provisioning.models import Entitlement, Grant
from sts_app.provisioning.rules import GrantState

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
EVIL_PATHS = (
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example",
    "https:evil.example",
    "http:/evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/\t/evil.example",
    "\t//evil.example",
    "/\n/evil.example",
    "/%0a\r\nLocation: //evil.example",
    "/\x00/evil.example",
    " //evil.example",
    "evil.example",
    "dashboard",
    "/" + "a" * 501,
    "",
)
# What people and programs put into a field that expected something else.
ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "x" * 10_000,
    "👩‍👩‍👧‍👦🚀",
    "a\r\nBcc: everybody@evil.example",
    "\udcff",
    "\u202eevil",
    "'; DROP TABLE users; --",
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "../../etc/passwd",
    "%s%n",
    "99999999999999999999999",
    "-1",
    "NaN",
)


@contextmanager
def stopped_clock(at: datetime = NOON) -> Iterator[time_machine.Traveller]:
    """Time that only moves when told to: `clock.shift(timedelta)`."""
    with time_machine.travel(at, tick=False) as traveller:
        yield traveller


# The cast.


def person(email: str, *, role: Role = Role.USER, name: str = "") -> User:
    """Somebody who signed up and agreed to the texts."""
    user = User(email=email, name=name, role=role, texts_version=TEXTS_VERSION, texts_accepted_at=clock.now())
    db.session.add(user)
    db.session.flush()
    return user


def alice() -> User:
    return person("alice@customers.example", name="Alice")


def bob() -> User:
    return person("bob@customers.example", name="Bob")


def sam() -> User:
    return person("sam@staff.example", role=Role.ADMIN, name="Sam")


def mallory() -> User:
    """Signed up, bought nothing, agreed to nothing."""
    user = person("mallory@nowhere.example")
    user.texts_version = user.texts_accepted_at = None
    return user


def enter(visitor: FlaskClient, user: User) -> str:
    """Sign `visitor` in as `user` without a letter. Returns the secret of the session."""
    secret = tokens.new_secret()
    ends = clock.now() + timedelta(days=1)
    db.session.add(UserSession(user_id=user.id, digest=tokens.digest("session", secret), expires_at=ends))
    db.session.commit()
    with current_app.test_request_context(environ_base=visitor.environ_base):
        # Which browser this is, as flask-login reckons it: another one's session is not fresh.
        browser = _create_identifier()
    with visitor.session_transaction() as session:
        session.update(_user_id=secret, _fresh=True, _id=browser)
    return secret


# What is sold.


def lifetime() -> Plan:
    """The seeded catalog's one plan."""
    seed_catalog(None)
    return lifetime_plan()


def strategy(slug: str, **changes: Any) -> Strategy:
    """A seventh strategy and those after it."""
    given = dict.fromkeys(("style", "session", "summary", "description", "methodology", "best_for"), "words")
    made = Strategy(**given | {"slug": slug, "name": slug.title(), "script_id": f"PUB;{slug}"} | changes)
    db.session.add(made)
    db.session.flush()
    return made


# Access.


def vendor() -> Store:
    """The memory of the simulated TradingView, in a hurry."""
    store = store_for("tradingview")
    simulated.set_latency(store, 0)
    return store


def named(user: User, spelling: str) -> User:
    """`user` with a TradingView name that was verified now."""
    names.set_name(user, spelling, verified=True)
    return user


def entitled(user: User, plan: Plan, source: str = "gift:1") -> Entitlement:
    made = provisioning.entitle(user.id, plan, source=source, paid_at=clock.now(), actor="system")
    assert made is not None
    return made


def served(user: User, plan: Plan, source: str) -> User:
    """`user` with a plan whose every pair was given and read back now, without the calls."""
    entitlement = entitled(user, plan, source)
    entitlement.announced_at = clock.now()
    current = queries.current_name(user.id)
    assert current is not None
    for grant in grants(current.name_key):
        grant.state, grant.next_attempt_at, grant.called_at = GrantState.VERIFIED, None, clock.now()
        cycles.prove(grant, "read back", clock.now())
        simulated.give(store_for("tradingview"), grant.name_spelling, grant.script_id)
    db.session.commit()
    return user


def grants(name: str | None = None) -> list[Grant]:
    """The grants under a name, as they stand in the database."""
    statement = sa.select(Grant).order_by(Grant.id).execution_options(populate_existing=True)
    if name is not None:
        statement = statement.where(Grant.name_key == name.lower())
    return list(db.session.scalars(statement))


def holders(script_id: str | None = None) -> set[tuple[str, str]]:
    """(name, script) of everything the simulated TradingView holds."""
    held = simulated.holdings(store_for("tradingview"))
    return {(h.username, h.script_id) for h in held if script_id in (None, h.script_id)}


def tradingview() -> TradingView:
    """The adapter that everybody's calls are made by."""
    found = way()
    assert found is not None, "a store that works by hand has none"
    return found.adapter


def through(patch: Any, adapter: Any) -> None:
    """Let everybody reach TradingView through `adapter` until the end of the test."""
    patch.setattr("sts_app.provisioning.adapter_for", lambda settings, held: adapter)


def by_hand(patch: Any) -> None:
    """A store without any way to TradingView, where people do the work."""
    settings = current_app.config["STS"].model_copy(update={"provisioning_mode": "manual"})
    patch.setitem(current_app.config, "STS", settings)


# Money.


def cashier(ring: Callable[..., Any] | None = None) -> SimulatedPayments:
    """The simulated Stripe; `ring` is called in place of the network when it has an event to tell."""
    simulator = cast(SimulatedPayments, payments())
    simulator._post = ring or _nobody_answers
    return simulator


def rings(visitor: FlaskClient) -> Callable[..., Any]:
    """Deliver the simulated Stripe's events to the webhook's own view."""

    def ring(url: str, *, data: bytes, headers: dict[str, str], **_: Any) -> Any:
        return visitor.post("/api/webhooks/stripe", data=data, headers=headers)

    return ring


def customer_of(user: User) -> str:
    """The person's id at the simulated Stripe, made known there when it is not yet."""
    if (known := customers.of(user)) is None:
        known = customers.want(user).make(payments())
        customers.remember(user.id, known)
    return known


def agreed(plan: Plan, **changes: Any) -> Agreed:
    """What a buyer agrees to at the checkout."""
    given = {
        "texts_version": "2026-11-21",
        "texts_accepted_at": clock.now(),
        "words": words_of(plan),
        "address": "203.0.113.7",
        "browser": "A browser",
    }
    return Agreed(**{**given, **changes})


def opened(user: User, plan: Plan, **changes: Any) -> Purchase:
    """The open purchase of this person and plan, without its page."""
    return open_purchase(user, plan, customer_id=customer_of(user), agreed=agreed(plan, **changes))


def press(visitor: FlaskClient, plan: Plan | None = None, **given: Any) -> Any:
    """Press the button of the page before paying, as it stands now: of the lifetime plan, or of another."""
    named = {"plan": plan.slug} if plan is not None else {}
    return visitor.post("/checkout", data=named | offer_of(plan or lifetime_plan()).fields, **given)


def open_page(user: User, plan: Plan, **changes: Any) -> Purchase:
    """A purchase whose payment page is open."""
    purchase = opened(user, plan, **changes)
    wanted, key = stored_request(purchase)
    remember_checkout(purchase, payments().open_checkout(wanted, key=key))
    db.session.flush()
    return purchase


def signed(payload: dict[str, Any] | str | bytes, *, secret: str | None = None, at: float | None = None) -> Any:
    """The body and the headers of a webhook call as Stripe would send it."""
    body = payload if isinstance(payload, bytes) else payload if isinstance(payload, str) else json.dumps(payload)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    secret = secret or current_app.config["STS"].stripe_webhook_secrets[0]
    header = stripe.WebhookSignature.generate_signature_header(text, secret, int(at or time.time()))
    return {"data": body, "headers": {"Stripe-Signature": header, "Content-Type": "application/json"}}


def event(kind: str = "checkout.session.completed", about: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A snapshot event in Stripe's shape."""
    return {
        "id": "evt_1",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": about or {"object": "checkout.session", "id": "cs_1"}},
    } | changes


def events() -> list[WebhookEvent]:
    statement = sa.select(WebhookEvent).order_by(WebhookEvent.id).execution_options(populate_existing=True)
    return list(db.session.scalars(statement))


# Letters.


def letters(kind: str | None = None) -> list[EmailMessage]:
    statement = sa.select(EmailMessage).order_by(EmailMessage.id).execution_options(populate_existing=True)
    return [letter for letter in db.session.scalars(statement) if kind in (None, letter.kind)]


def kinds() -> list[str]:
    return [letter.kind for letter in letters()]


# Work.


def work(*rooms: str) -> None:
    """Let a worker of each room work what is due now, in the process that the test is."""
    known = {"billing": billing_job.work, "provisioning": provisioning_job.work, "emails": emails_job.work}
    for room in rooms or known:
        db.session.commit()
        known[room]()
        db.session.expire_all()


def count(model: Any) -> int:
    return db.session.scalar(sa.select(sa.func.count()).select_from(model)) or 0


def look_over() -> int:
    """The second half of the minute sweep: everybody whom time or the catalog changed. How many they were."""
    people = provisioning.people_to_look_at()
    for user_id in people:
        provisioning.keep_in_step(user_id)
    return len(people)


@contextmanager
def forgotten() -> Iterator[None]:
    """What is written inside, committed or not, is as if it had not been."""
    savepoint = db.engine.begin_nested()  # a test's engine is its one connection
    try:
        yield
    finally:
        db.session.rollback()
        savepoint.rollback()


def in_a_transaction(deed: Callable[[], Any]) -> Any:
    """What `deed` returns, committed."""
    with transaction():
        return deed()


def _nobody_answers(*_: Any, **__: Any) -> Any:
    import requests

    raise requests.ConnectionError("nobody listens in this test")
