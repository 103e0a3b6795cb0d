"""What a payment provider promises, told to the simulator and to the live adapter alike; then the twins' oddities."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest
import requests
import stripe
import stripe.checkout
import structlog
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from sts_app.billing import live
from sts_app.billing.gateway import (
    BadSignature,
    CheckoutRequest,
    PaymentFacts,
    Payments,
    PaymentsError,
    Refused,
    SignedEvent,
    TryLater,
)
from sts_app.billing.live import StripePayments, read_signed_event
from sts_app.billing.simulated import Fault, SimulatedPayments, behave, misbehave
from sts_app.core.store import MemoryStore
from tests.fakes import stripe_api

SECRET = "whsec_contract"
OLD_SECRET = "whsec_contract_before"
SECRETS = (SECRET, OLD_SECRET)
KEY = "checkout-17-1"
REF = "pur_17"


def a_request(**changes: Any) -> CheckoutRequest:
    return replace(
        CheckoutRequest(
            purchase_ref=REF,
            price_id="price_lifetime",
            product_name="Lifetime access",
            amount_cents=9900,
            currency="usd",
            customer_email="alice@customers.test",
            success_url="https://sts.test/purchases/return?session={CHECKOUT_SESSION_ID}",
            cancel_url="https://sts.test/pricing",
            expires_at=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1),
        ),
        **changes,
    )


def signed(body: str, *, secret: str = SECRET, age: int = 0) -> str:
    return stripe.WebhookSignature.generate_signature_header(body, secret, int(time.time()) - age)


def an_event(thing: Any = None, **changes: Any) -> str:
    event = {
        "id": "evt_1",
        "object": "event",
        "created": 1_790_000_000,
        "data": {"object": thing},
        "livemode": False,
        "type": "checkout.session.completed",
    }
    return json.dumps(event | changes)


class World(Protocol):
    """A provider, and what buyers, banks and bad days do to it."""

    payments: Payments

    def pay(self, session_id: str) -> object: ...
    def decline(self, session_id: str, because: str) -> object: ...
    def pay_later(self, session_id: str) -> object: ...
    def settle(self, session_id: str, succeeded: bool) -> object: ...
    def expire(self, session_id: str) -> object: ...
    def refund(self, session_id: str, amount: int | None = None) -> object: ...
    def go_down(self) -> None: ...
    def come_back(self) -> None: ...
    def shapes(self) -> list[dict[str, Any]]:
        """The objects as the provider shows them."""
        ...


@dataclass
class Taken:
    status_code: int = 200


@dataclass
class Doorbell:
    """Stands for the webhook address: takes down every ring and answers as told."""

    rings: list[tuple[bytes, str]] = field(default_factory=list)
    status: int = 200
    error: Exception | None = None

    def __call__(self, url: str, *, data: bytes, headers: dict[str, str], timeout: float, **_: Any) -> Taken:
        assert url == "https://sts.test/webhooks/stripe"
        assert 0 < timeout <= 5
        if self.error:
            raise self.error
        self.rings.append((data, headers["Stripe-Signature"]))
        return Taken(self.status)

    @property
    def events(self) -> list[SignedEvent]:
        return [read_signed_event(body, signature, SECRETS) for body, signature in self.rings]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


class SimulatedWorld:
    def __init__(self) -> None:
        self.bell = Doorbell()
        self.store = MemoryStore()
        self.payments = SimulatedPayments(
            self.store,
            webhook_secrets=SECRETS,
            webhook_url="https://sts.test/webhooks/stripe",
            public_url="https://sts.test",
            post=self.bell,
        )
        self.pay = self.payments.pay
        self.pay_later = self.payments.pay_later
        self.settle = self.payments.settle
        self.expire = self.payments.expire
        self.refund = self.payments.refund

    def decline(self, session_id: str, because: str) -> PaymentFacts:
        return self.payments.decline(session_id, because=because)

    def go_down(self) -> None:
        misbehave(self.store, Fault.API_DOWN)

    def come_back(self) -> None:
        behave(self.store)

    def shapes(self) -> list[dict[str, Any]]:
        return [event.payload["data"]["object"] for event in self.bell.events]


class LiveWorld:
    def __init__(self, fake: stripe_api.FakeStripe) -> None:
        self.fake = fake
        self.payments = StripePayments(
            SecretStr(fake.secret_key), webhook_secrets=SECRETS, api_base=fake.url, timeout=(1, 5)
        )
        self.pay = fake.pay
        self.decline = fake.decline
        self.pay_later = fake.pay_later
        self.settle = fake.settle
        self.expire = fake.expire
        self.refund = fake.refund
        self.come_back = fake.recover

    def go_down(self) -> None:
        self.fake.fail(stripe_api.Fault.BROKEN, times=100)

    def shapes(self) -> list[dict[str, Any]]:
        kept = (self.fake.sessions, self.fake.intents, self.fake.charges)
        return [thing for things in kept for thing in things.values()]


@pytest.fixture
def live_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveWorld]:
    # The package waits between its own repeats; the tests need not.
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)
    with stripe_api.FakeStripe().running() as fake:
        world = LiveWorld(fake)
        yield world
        world.payments.close()
        assert fake.broken_by == []


@pytest.fixture
def simulated_world() -> SimulatedWorld:
    return SimulatedWorld()


@pytest.fixture(params=["simulated", "live"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


class TestPayments:
    def test_a_new_checkout_is_open_and_unpaid(self, world: World) -> None:
        request = a_request()

        checkout = world.payments.open_checkout(request, key=KEY)

        assert checkout.expires_at == request.expires_at
        assert checkout.session_id in checkout.url
        assert world.payments.look_up(checkout.session_id) == PaymentFacts(
            session_id=checkout.session_id,
            purchase_ref=REF,
            session="open",
            payment="unpaid",
            amount_total=9900,
            currency="usd",
            url=checkout.url,
        )

    def test_a_page_that_is_closed_can_be_paid_no_more(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)

        world.payments.close_checkout(checkout.session_id)

        assert world.payments.look_up(checkout.session_id).session == "expired"
        with pytest.raises(Refused):
            world.payments.close_checkout(checkout.session_id)

    def test_a_page_that_is_paid_is_not_closed(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)
        world.pay(checkout.session_id)

        with pytest.raises(Refused):
            world.payments.close_checkout(checkout.session_id)

        assert world.payments.look_up(checkout.session_id).payment == "paid"

    def test_the_same_key_and_request_return_the_same_page(self, world: World) -> None:
        request = a_request()

        first = world.payments.open_checkout(request, key=KEY)
        second = world.payments.open_checkout(request, key=KEY)
        other = world.payments.open_checkout(request, key="checkout-17-2")

        assert second == first
        assert other.session_id != first.session_id

    @pytest.mark.parametrize(
        "changes",
        [{"purchase_ref": "pur_18"}, {"customer_email": "bob@customers.test"}, {"cancel_url": "https://x.test/"}],
    )
    def test_the_same_key_with_another_request_is_refused(self, world: World, changes: dict[str, str]) -> None:
        request = a_request()
        world.payments.open_checkout(request, key=KEY)

        with pytest.raises(Refused, match="idempotency_error"):
            world.payments.open_checkout(replace(request, **changes), key=KEY)

    def test_the_same_key_returns_the_page_as_it_was_opened_even_after_it_was_paid(self, world: World) -> None:
        request = a_request()
        first = world.payments.open_checkout(request, key=KEY)
        world.pay(first.session_id)

        assert world.payments.open_checkout(request, key=KEY) == first

    @pytest.mark.parametrize("wait", [timedelta(minutes=5), timedelta(hours=25)])
    def test_a_page_must_stay_open_between_half_an_hour_and_a_day(self, world: World, wait: timedelta) -> None:
        with pytest.raises(Refused):
            world.payments.open_checkout(a_request(expires_at=datetime.now(UTC) + wait), key=KEY)

    def test_paying_shows_in_the_facts(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)

        world.pay(checkout.session_id)

        facts = world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("complete", "paid", "succeeded")
        assert facts.purchase_ref == REF
        assert facts.intent_id is not None
        assert facts.intent_id.startswith("pi_")
        assert (facts.amount_total, facts.amount_refunded, facts.url) == (9900, 0, None)

    def test_a_decline_keeps_the_page_open_and_says_why(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)

        world.decline(checkout.session_id, "lost_card")

        facts = world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("open", "unpaid", "requires_payment_method")
        assert facts.declined_because == "lost_card"
        assert facts.url == checkout.url

    def test_paying_after_a_decline_works_and_forgets_it(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)
        world.decline(checkout.session_id, "lost_card")
        declined = world.payments.look_up(checkout.session_id)

        world.pay(checkout.session_id)

        facts = world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("complete", "paid", "succeeded")
        assert facts.declined_because is None
        assert facts.intent_id == declined.intent_id

    def test_a_delayed_payment_is_complete_but_unpaid_until_the_bank_pays(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)

        world.pay_later(checkout.session_id)
        waiting = world.payments.look_up(checkout.session_id)
        world.settle(checkout.session_id, True)
        paid = world.payments.look_up(checkout.session_id)

        assert (waiting.session, waiting.payment, waiting.intent) == ("complete", "unpaid", "processing")
        assert (paid.session, paid.payment, paid.intent) == ("complete", "paid", "succeeded")
        assert paid.intent_id == waiting.intent_id

    def test_a_delayed_payment_that_failed_is_complete_and_wants_another_method(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)
        world.pay_later(checkout.session_id)

        world.settle(checkout.session_id, False)

        facts = world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.intent) == ("complete", "unpaid", "requires_payment_method")
        assert facts.declined_because == "insufficient_funds"

    def test_an_expired_page_is_closed(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)

        world.expire(checkout.session_id)

        facts = world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.url) == ("expired", "unpaid", None)
        assert facts.purchase_ref == REF

    def test_refunds_add_up_in_the_facts(self, world: World) -> None:
        checkout = world.payments.open_checkout(a_request(), key=KEY)
        world.pay(checkout.session_id)

        world.refund(checkout.session_id, 2500)
        partial = world.payments.look_up(checkout.session_id)
        world.refund(checkout.session_id)
        full = world.payments.look_up(checkout.session_id)

        assert (partial.payment, partial.amount_total, partial.amount_refunded) == ("paid", 9900, 2500)
        assert (full.payment, full.amount_total, full.amount_refunded) == ("paid", 9900, 9900)

    def test_a_session_is_found_by_its_payment(self, world: World) -> None:
        first = world.payments.open_checkout(a_request(), key=KEY)
        second = world.payments.open_checkout(a_request(), key="checkout-17-2")
        for checkout in (first, second):
            world.pay(checkout.session_id)
            intent_id = world.payments.look_up(checkout.session_id).intent_id
            assert intent_id is not None
            assert world.payments.find_session(intent_id) == checkout.session_id

    def test_a_payment_of_something_else_has_no_session(self, world: World) -> None:
        assert world.payments.find_session("pi_of_something_else") is None

    def test_an_unknown_session_is_refused(self, world: World) -> None:
        with pytest.raises(Refused, match="resource_missing"):
            world.payments.look_up("cs_test_unknown")

    def test_a_provider_that_is_down_asks_to_try_later_and_then_answers(self, world: World) -> None:
        request = a_request()
        checkout = world.payments.open_checkout(request, key=KEY)
        calls: list[Callable[[], object]] = [
            lambda: world.payments.open_checkout(request, key=KEY),
            lambda: world.payments.look_up(checkout.session_id),
            lambda: world.payments.find_session("pi_1"),
        ]

        world.go_down()
        for call in calls:
            with pytest.raises(TryLater):
                call()
        world.come_back()

        assert world.payments.open_checkout(request, key=KEY) == checkout

    def test_the_shapes_are_those_of_the_installed_package(self, world: World) -> None:
        resources = {
            "checkout.session": stripe.checkout.Session,
            "payment_intent": stripe.PaymentIntent,
            "charge": stripe.Charge,
            "refund": stripe.Refund,
        }
        for number, acts in enumerate([[world.pay, world.refund], [world.pay_later], [world.expire]]):
            checkout = world.payments.open_checkout(a_request(), key=f"shape-{number}")
            world.decline(checkout.session_id, "lost_card")
            for act in acts:
                act(checkout.session_id)

        shapes = world.shapes()

        assert {"checkout.session", "payment_intent", "charge"} <= {shape["object"] for shape in shapes}
        for shape in shapes:
            assert shape.keys() <= resources[shape["object"]].__annotations__.keys()

    def test_an_event_is_read_with_either_secret_while_they_rotate(self, world: World) -> None:
        body = an_event(
            {"object": "checkout.session", "id": "cs_1", "client_reference_id": REF, "payment_intent": "pi_1"}
        )

        for secret in SECRETS:
            event = world.payments.read_event(body.encode(), signed(body, secret=secret))

            assert event == SignedEvent(
                id="evt_1",
                type="checkout.session.completed",
                created_at=datetime.fromtimestamp(1_790_000_000, UTC),
                live=False,
                payload=json.loads(body),
                purchase_ref=REF,
                session_id="cs_1",
                intent_id="pi_1",
            )

    def test_a_forged_or_stale_event_is_not_read(self, world: World) -> None:
        body = an_event()
        good = signed(body)
        forged: list[tuple[str, str | None]] = [
            (body, None),
            (body, ""),
            (body, "nonsense"),
            (body, "t=,v1="),
            (body, f"t={'9' * 5000},v1=00"),
            (body, good.replace("v1=", "v0=")),
            (body, good + "\u00e9"),
            (body, signed(body, secret="whsec_of_somebody_else")),
            (body, signed(body, age=301)),
            (body.replace("evt_1", "evt_2"), good),
            (body + " ", good),
        ]
        for text, signature in forged:
            with pytest.raises(BadSignature):
                world.payments.read_event(text.encode(), signature)
        assert world.payments.read_event(body.encode(), signed(body, age=290)).id == "evt_1"

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "null",
            "[]",
            "17",
            '"event"',
            "{",
            "{}",
            "\ufeff{}",
            "[" * 100_000,
            '{"object": "event"}',
            an_event(id=""),
            an_event(id=7),
            an_event(type=None),
            an_event(object="v2.core.event"),
            an_event(created=float("inf")),
            an_event({"amount": float("nan")}),
        ],
        ids=lambda body: body[:30],
    )
    def test_a_signed_body_that_is_no_event_is_not_read(self, world: World, body: str) -> None:
        with pytest.raises(BadSignature):
            world.payments.read_event(body.encode(), signed(body))


@given(body=st.binary(max_size=200), signature=st.none() | st.text(max_size=100))
@settings(max_examples=60, deadline=None)
def test_no_bytes_raise_anything_but_bad_signature(body: bytes, signature: str | None) -> None:
    with pytest.raises(BadSignature):
        read_signed_event(body, signature, SECRETS)


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ODD_THING = JSON | st.dictionaries(
    st.sampled_from(["object", "id", "metadata", "payment_intent", "client_reference_id"]),
    JSON | st.sampled_from(["checkout.session", "payment_intent"]) | st.fixed_dictionaries({"purchase_ref": JSON}),
)


# A type of nothing but what PostgreSQL cannot keep is no type: the event is refused.
@given(thing=ODD_THING, kind=st.text(min_size=1, max_size=20).filter(lambda kind: kind.strip("\x00")), created=JSON)
@settings(max_examples=80, deadline=None)
def test_an_event_of_any_shape_is_read(thing: Any, kind: str, created: Any) -> None:
    body = an_event(thing, type=kind, created=created)

    event = read_signed_event(body.encode(), signed(body), SECRETS)

    assert event.id == "evt_1"
    for found in (event.purchase_ref, event.session_id, event.intent_id):
        assert found is None or isinstance(found, str)
    # PostgreSQL keeps neither in JSON, and an event that cannot be kept would be sent for three days.
    kept = json.dumps(event.payload, ensure_ascii=False)
    assert "\\u0000" not in kept
    kept.encode("utf-8")


OURS = {"purchase_ref": REF}


@pytest.mark.parametrize(
    ("thing", "about"),
    [
        ({"object": "checkout.session", "id": "cs_1", "metadata": OURS}, (REF, "cs_1", None)),
        ({"object": "payment_intent", "id": "pi_1", "metadata": OURS}, (REF, None, "pi_1")),
        ({"object": "charge", "id": "ch_1", "payment_intent": "pi_1", "metadata": OURS}, (REF, None, "pi_1")),
        ({"object": "refund", "id": "re_1", "payment_intent": "pi_1", "metadata": {}}, (None, None, "pi_1")),
        ({"object": "dispute", "payment_intent": {"id": "pi_1", "metadata": OURS}}, (REF, None, "pi_1")),
        ({"object": "customer", "id": "cus_1"}, (None, None, None)),
        ({"object": "charge", "payment_intent": None, "metadata": None}, (None, None, None)),
    ],
    ids=lambda value: value["object"] if isinstance(value, dict) else "",
)
def test_an_event_says_what_it_is_about(thing: dict[str, Any], about: tuple[str | None, ...]) -> None:
    body = an_event(thing)

    event = read_signed_event(body.encode(), signed(body), SECRETS)

    assert (event.purchase_ref, event.session_id, event.intent_id) == about


def test_without_a_secret_no_event_is_read() -> None:
    body = an_event()
    for secrets in ((), ("",), (" ",)):
        with pytest.raises(BadSignature):
            read_signed_event(body.encode(), signed(body, secret=" "), secrets)


class TestLive:
    def test_the_version_of_the_interface_is_that_of_the_package(self) -> None:
        assert stripe.VERSION == live.SDK_VERSION
        assert stripe.api_version == live.API_VERSION

    def test_a_checkout_is_opened_with_everything_the_store_needs(self, live_world: LiveWorld) -> None:
        request = a_request()

        live_world.payments.open_checkout(request, key=KEY)

        [(method, path, params)] = live_world.fake.calls
        assert (method, path) == ("POST", "/v1/checkout/sessions")
        assert live_world.fake.keys_seen == [KEY]
        assert params["line_items"] == [{"price": "price_lifetime", "quantity": "1"}]
        assert params["client_reference_id"] == REF
        assert params["metadata"] == {"purchase_ref": REF}
        assert params["payment_intent_data"] == {"metadata": {"purchase_ref": REF}}
        assert params["customer_email"] == "alice@customers.test"
        assert params["success_url"] == request.success_url
        assert params["expires_at"] == str(int(request.expires_at.timestamp()))
        assert params["allow_promotion_codes"] == "true"
        assert params["invoice_creation"]["enabled"] == "true"
        assert params["adaptive_pricing"] == {"enabled": "false"}
        assert params["after_expiration"]["recovery"]["enabled"] == "true"
        assert "terms" in params["custom_text"]["submit"]["message"]
        assert "payment_method_types" not in params

    def test_the_fake_refuses_what_the_package_does_not_know(self) -> None:
        good = {"mode": "payment", "line_items": [{"price": "price_lifetime", "quantity": "1"}]}
        bad: list[tuple[dict[str, Any], str]] = [
            ({"payment_method_types": ["card"]}, "payment_method_types"),
            ({"line_items": [{"prise": "price_lifetime"}]}, "line_items[0][prise]"),
            ({"ui_mode": "hosted"}, "ui_mode"),
            ({"expires_at": "soon"}, "expires_at"),
            ({"after_expiration": {"recovery": {}}}, "after_expiration[recovery][enabled]"),
            ({"api_key": "sk_test_x"}, "api_key"),
        ]
        stripe_api.check(good, stripe_api.SessionCreateParams)
        for change, named in bad:
            with pytest.raises(stripe_api.Problem) as caught:
                stripe_api.check(good | change, stripe_api.SessionCreateParams)
            assert caught.value.body["error"]["param"] == named

    def test_another_price_at_stripe_than_in_the_store_is_refused(self, live_world: LiveWorld) -> None:
        live_world.fake.prices["price_lifetime"] = (4900, "usd")
        live_world.fake.prices["price_in_euros"] = (9900, "eur")

        with pytest.raises(Refused, match="4900 usd at Stripe and 9900 usd in the store"):
            live_world.payments.open_checkout(a_request(), key=KEY)
        with pytest.raises(Refused, match="9900 eur at Stripe"):
            live_world.payments.open_checkout(a_request(price_id="price_in_euros"), key="checkout-17-2")

    def test_an_unknown_price_is_refused_by_name_of_the_fault(self, live_world: LiveWorld) -> None:
        with pytest.raises(Refused) as caught:
            live_world.payments.open_checkout(a_request(price_id="price_gone"), key=KEY)
        assert caught.value.reason == "open_checkout: resource_missing line_items[0][price]"

    def test_a_promotion_of_the_whole_price_needs_no_payment(self, live_world: LiveWorld) -> None:
        checkout = live_world.payments.open_checkout(a_request(), key=KEY)

        live_world.fake.give_away(checkout.session_id)

        facts = live_world.payments.look_up(checkout.session_id)
        assert (facts.session, facts.payment, facts.amount_total) == ("complete", "no_payment_required", 0)
        assert (facts.intent_id, facts.intent) == (None, None)

    @pytest.mark.parametrize(
        "fault",
        [
            stripe_api.Fault.RATE_LIMITED,
            stripe_api.Fault.BROKEN,
            stripe_api.Fault.LOCKED,
            stripe_api.Fault.KEY_IN_USE,
            stripe_api.Fault.HTML,
            stripe_api.Fault.HTML_BUT_OK,
        ],
    )
    def test_a_bad_day_is_to_be_tried_later(self, live_world: LiveWorld, fault: stripe_api.Fault) -> None:
        live_world.fake.fail(fault, times=3)
        with pytest.raises(TryLater):
            live_world.payments.open_checkout(a_request(), key=KEY)

    def test_a_rate_limit_says_how_long(self, live_world: LiveWorld) -> None:
        live_world.fake.fail(stripe_api.Fault.RATE_LIMITED)
        with pytest.raises(TryLater) as caught:
            live_world.payments.look_up("cs_test_1")
        assert caught.value.after == timedelta(seconds=7)

    def test_silence_is_to_be_tried_later(self, live_world: LiveWorld) -> None:
        live_world.fake.fail(stripe_api.Fault.SILENT, times=3)
        impatient = StripePayments(
            SecretStr(live_world.fake.secret_key), webhook_secrets=(), api_base=live_world.fake.url, timeout=(0.3, 0.1)
        )
        with pytest.raises(TryLater, match="no answer"):
            impatient.look_up("cs_test_1")
        impatient.close()

    def test_nobody_there_is_to_be_tried_later(self, live_world: LiveWorld) -> None:
        with stripe_api.FakeStripe().running() as gone:
            pass
        payments = StripePayments(SecretStr(gone.secret_key), webhook_secrets=(), api_base=gone.url)
        with pytest.raises(TryLater, match="no answer"):
            payments.look_up("cs_test_1")
        payments.close()

    def test_an_answer_lost_on_the_way_opens_no_second_page(self, live_world: LiveWorld) -> None:
        live_world.fake.fail(stripe_api.Fault.LOST)

        checkout = live_world.payments.open_checkout(a_request(), key=KEY)

        assert list(live_world.fake.sessions) == [checkout.session_id]
        assert live_world.fake.keys_seen == [KEY, KEY]

    def test_a_refused_key_is_waited_out_because_it_says_nothing_about_the_payment(self, live_world: LiveWorld) -> None:
        for fault in (stripe_api.Fault.UNAUTHORIZED, stripe_api.Fault.FORBIDDEN):
            live_world.fake.fail(fault)
            with pytest.raises(TryLater):
                live_world.payments.look_up("cs_test_1")

    def test_no_key_is_in_any_error_or_log_line(self, live_world: LiveWorld) -> None:
        wrong = StripePayments(SecretStr("sk_test_WrongKey"), webhook_secrets=SECRETS, api_base=live_world.fake.url)
        heard: list[str] = [repr(wrong)]
        with structlog.testing.capture_logs() as lines:
            for fault in [None, *stripe_api.Fault]:
                if fault is stripe_api.Fault.SILENT:
                    continue
                if fault is not None:
                    live_world.fake.fail(fault, times=3)
                for payments in (wrong, live_world.payments):
                    with pytest.raises(PaymentsError) as caught:
                        payments.look_up("cs_test_1")
                    assert caught.value.__suppress_context__
                    heard += [str(caught.value), repr(caught.value), caught.value.reason]
                live_world.fake.recover()
            with pytest.raises(BadSignature) as refused:
                wrong.read_event(b"{}", "t=1,v1=00")
        heard += [str(refused.value), *map(str, lines)]
        wrong.close()

        for secret in (live_world.fake.secret_key, "sk_test_WrongKey", *SECRETS):
            assert not [text for text in heard if secret in text]

    def test_every_call_leaves_one_line_with_what_support_will_ask_for(self, live_world: LiveWorld) -> None:
        with structlog.testing.capture_logs() as lines:
            live_world.payments.open_checkout(a_request(), key=KEY)
            with pytest.raises(Refused):
                live_world.payments.look_up("cs_test_unknown")

        opened, refused = lines
        assert (opened["event"], opened["op"], opened["outcome"]) == ("stripe.call", "open_checkout", "answered")
        assert (refused["op"], refused["outcome"], refused["status"]) == ("look_up", "refused", 404)
        for line in lines:
            assert line["stripe_request"].startswith("req_")
            assert line["ms"] >= 0
        assert "alice" not in str(lines)


class TestSimulated:
    def test_events_are_signed_and_say_which_purchase_they_are_about(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        first, second = (payments.open_checkout(a_request(), key=key) for key in ("one", "two"))

        payments.decline(first.session_id)
        payments.pay(first.session_id)
        payments.pay_later(second.session_id)
        payments.settle(second.session_id, False)
        payments.refund(first.session_id, 100)

        assert simulated_world.bell.types == [
            "charge.failed",
            "payment_intent.payment_failed",
            "charge.succeeded",
            "payment_intent.succeeded",
            "checkout.session.completed",
            "payment_intent.processing",
            "checkout.session.completed",
            "charge.failed",
            "payment_intent.payment_failed",
            "checkout.session.async_payment_failed",
            "refund.created",
            "charge.refunded",
        ]
        for event in simulated_world.bell.events:
            assert event.purchase_ref == REF or event.type == "refund.created"
            assert event.intent_id is not None
            assert event.payload["api_version"] == live.API_VERSION
        assert {event.state for event in payments.events()} == {"delivered"}

    def test_a_delayed_payment_completes_unpaid_and_then_succeeds(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)

        payments.pay_later(checkout.session_id)
        payments.settle(checkout.session_id, True)
        payments.settle(checkout.session_id, False)

        told = [e.payload["data"]["object"] for e in simulated_world.bell.events if e.type.startswith("checkout.")]
        assert [one["payment_status"] for one in told] == ["unpaid", "paid"]
        assert simulated_world.bell.types[-1] == "checkout.session.async_payment_succeeded"

    def test_two_tabs_that_pay_at_once_charge_once(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)
        together = threading.Barrier(4)

        def click() -> None:
            together.wait()
            payments.pay(checkout.session_id)

        tabs = [threading.Thread(target=click) for _ in range(4)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()

        assert simulated_world.bell.types.count("charge.succeeded") == 1
        assert payments.look_up(checkout.session_id).payment == "paid"

    def test_the_first_end_of_a_page_is_its_end(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        paid, expired = (payments.open_checkout(a_request(), key=key) for key in ("one", "two"))

        payments.pay(paid.session_id)
        payments.expire(expired.session_id)
        simulated_world.bell.rings.clear()
        for act in (payments.expire, payments.pay_later, payments.decline):
            assert act(paid.session_id).payment == "paid"
        for act in (payments.pay, payments.pay_later, payments.decline):
            assert act(expired.session_id).session == "expired"

        assert simulated_world.bell.types == []

    def test_a_page_expires_by_itself_when_somebody_looks(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)

        with time_machine.travel(checkout.expires_at, tick=False):
            assert payments.pay(checkout.session_id).session == "expired"
            assert simulated_world.bell.types == ["checkout.session.expired"]

    def test_no_more_is_refunded_than_was_paid(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)
        with pytest.raises(Refused, match="nothing was paid"):
            payments.refund(checkout.session_id)
        payments.pay(checkout.session_id)
        for amount in (0, -1, 9901):
            with pytest.raises(Refused):
                payments.refund(checkout.session_id, amount)

        payments.refund(checkout.session_id)

        with pytest.raises(Refused, match="already_refunded"):
            payments.refund(checkout.session_id)

    def test_refunds_at_once_never_give_back_more_than_was_paid(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)
        payments.pay(checkout.session_id)
        together = threading.Barrier(4)
        refused: list[Refused] = []

        def click() -> None:
            together.wait()
            try:
                payments.refund(checkout.session_id, 4000)
            except Refused as no:
                refused.append(no)

        desks = [threading.Thread(target=click) for _ in range(4)]
        for desk in desks:
            desk.start()
        for desk in desks:
            desk.join()

        assert payments.look_up(checkout.session_id).amount_refunded == 8000
        assert len(refused) == 2

    @pytest.mark.parametrize("trouble", ["refusal", "silence"])
    def test_a_failed_delivery_is_kept_and_can_be_repeated(self, simulated_world: SimulatedWorld, trouble: str) -> None:
        payments, bell = simulated_world.payments, simulated_world.bell
        checkout = payments.open_checkout(a_request(), key=KEY)
        if trouble == "refusal":
            bell.status = 500
        else:
            bell.error = requests.ConnectionError("nobody there")

        assert payments.pay(checkout.session_id).payment == "paid"

        assert {event.state for event in payments.events()} == {"undelivered"}
        bell.status, bell.error = 200, None
        completed = payments.events()[-1]
        assert payments.redeliver(completed.id)
        assert bell.events[-1].id == completed.id
        assert payments.events()[-1].state == "delivered"
        with pytest.raises(Refused):
            payments.redeliver("evt_unknown")

    def test_dropped_events_are_recorded_and_never_delivered(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)

        misbehave(simulated_world.store, Fault.DROP)
        payments.pay(checkout.session_id)

        assert simulated_world.bell.rings == []
        assert [event.state for event in payments.events()] == ["dropped"] * 3
        assert payments.look_up(checkout.session_id).payment == "paid"

    def test_doubled_events_arrive_twice_with_one_id(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)

        misbehave(simulated_world.store, Fault.DUPLICATE)
        payments.expire(checkout.session_id)

        first, second = simulated_world.bell.events
        assert first.id == second.id

    def test_held_events_arrive_once_and_in_the_order_asked_for(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)
        misbehave(simulated_world.store, Fault.HOLD)
        payments.pay(checkout.session_id)
        payments.refund(checkout.session_id)
        assert simulated_world.bell.rings == []
        behave(simulated_world.store)

        assert payments.deliver_held(order=reversed) == 5
        assert payments.deliver_held() == 0

        assert simulated_world.bell.types == [
            "charge.refunded",
            "refund.created",
            "checkout.session.completed",
            "payment_intent.succeeded",
            "charge.succeeded",
        ]

    def test_buyers_can_pay_while_the_interface_is_down(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)

        misbehave(simulated_world.store, Fault.API_DOWN)
        payments.pay(checkout.session_id)
        behave(simulated_world.store)

        assert simulated_world.bell.types[-1] == "checkout.session.completed"
        assert payments.look_up(checkout.session_id).payment == "paid"

    def test_every_record_is_plain_json(self, simulated_world: SimulatedWorld) -> None:
        payments = simulated_world.payments
        checkout = payments.open_checkout(a_request(), key=KEY)
        payments.decline(checkout.session_id)
        payments.pay_later(checkout.session_id)
        payments.settle(checkout.session_id, True)
        payments.refund(checkout.session_id, 1)

        kinds = ("session", "intent", "key", "end", "decline", "settlement", "refund", "event", "delivery")
        for kind in kinds:
            [*records] = simulated_world.store.all(kind)
            assert records
            for _, record in records:
                assert json.loads(json.dumps(record)) == record
