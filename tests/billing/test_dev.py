"""The simulated Stripe's pages, in a house that has no other room and needs no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient

from sts_app.billing import dev
from sts_app.billing.gateway import CheckoutRequest
from sts_app.billing.simulated import Fault, SimulatedPayments, faults_on
from sts_app.core import db, queue, security, web
from sts_app.core.store import MemoryStore
from sts_app.settings import AppEnv, load

SETTINGS = load(
    {
        "APP_ENV": "testing",
        "APP_URL": "http://localhost",
        "SECRET_KEY": "not a secret, only long enough for a test",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "ADAPTERS_PRESET": "mock",
        "STRIPE_WEBHOOK_SECRET": "whsec_pages",
    }
)


@pytest.fixture
def payments() -> SimulatedPayments:
    return SimulatedPayments(
        MemoryStore(),
        webhook_secrets=("whsec_pages",),
        webhook_url="http://localhost/webhooks/stripe",
        public_url="http://localhost",
        post=lambda *_, **__: SimpleNamespace(status_code=200),
    )


@pytest.fixture
def house(payments: SimulatedPayments) -> Flask:
    app = web.House("sts_app", template_folder=web.TEMPLATES, static_folder=None)
    app.config.update(STS=SETTINGS, TESTING=True)
    db.init_app(app, SETTINGS)
    queue.init_app(app, SETTINGS.redis_url)
    security.init_app(app, SETTINGS)
    web.init_app(app)
    app.register_blueprint(dev.bp)
    app.extensions["sts_payments"] = payments
    # The frame links to rooms that are not in this house.
    app.url_build_error_handlers.append(lambda error, endpoint, values: f"/elsewhere/{endpoint}")
    app.jinja_env.globals["current_user"] = SimpleNamespace(is_authenticated=False)
    return app


@pytest.fixture
def client(house: Flask) -> FlaskClient:
    return house.test_client()


@pytest.fixture
def session_id(payments: SimulatedPayments) -> str:
    return opened(payments, "one")


def opened(payments: SimulatedPayments, key: str) -> str:
    request = CheckoutRequest(
        purchase_ref="pur_17",
        price_id="price_lifetime",
        product_name="Lifetime <access>",
        amount_cents=9900,
        currency="usd",
        customer_email="alice@customers.test",
        success_url="http://localhost/return?session={CHECKOUT_SESSION_ID}",
        cancel_url="http://localhost/pricing",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    return payments.open_checkout(request, key=key).session_id


def press(client: FlaskClient, page: str, path: str, **fields: str | list[str]):
    """Send the form of `page` that goes to `path`, with the token it carries."""
    forms = BeautifulSoup(client.get(page).text, "html.parser").select("form")
    form = next(form for form in forms if form["action"] == path and form["method"] == "post")
    hidden = {field["name"]: field["value"] for field in form.select("input[type=hidden]")}
    return client.post(path, data=hidden | fields)


def test_the_page_shows_what_is_bought_and_that_nothing_is_charged(client, session_id):
    answer = client.get(f"/dev/stripe/checkout/{session_id}")

    page = BeautifulSoup(answer.text, "html.parser")
    assert page.h1.text == "Lifetime <access>"
    assert "Simulated payment page: no card is charged" in page.text
    assert "$99.00" in page.text
    assert "alice@customers.test" in page.text
    assert [button.text for button in page.select("main button")] == [
        "Pay $99.00",
        "Decline",
        "Pay with a slow bank (delayed)",
        "Close",
    ]
    assert not page.select("style, script:not([src]), [style], [onclick]")


@pytest.mark.parametrize("way", ["pay", "pay-later"])
def test_paying_returns_to_the_store_and_so_does_a_second_click(client, payments, session_id, way):
    page = f"/dev/stripe/checkout/{session_id}"
    first = press(client, page, f"{page}/{way}")
    events = len(payments.events())
    second = client.post(f"{page}/pay", data={"csrf_token": token(client)})

    for answer in (first, second):
        assert answer.status_code == 303
        assert answer.location == f"http://localhost/return?session={session_id}"
    assert len(payments.events()) == events
    assert payments.look_up(session_id).payment == ("paid" if way == "pay" else "unpaid")


def token(client: FlaskClient) -> str:
    page = BeautifulSoup(client.get("/dev/stripe/").text, "html.parser")
    return page.select_one("input[name=csrf_token]")["value"]


def test_a_declined_buyer_stays_on_the_page_and_can_pay(client, payments, session_id):
    page = f"/dev/stripe/checkout/{session_id}"

    declined = press(client, page, f"{page}/decline")
    paid = press(client, page, f"{page}/pay")

    assert declined.status_code == 402
    assert "Your card was declined" in declined.text
    assert "Pay $99.00" in declined.text
    assert paid.status_code == 303


def test_closing_goes_back_and_leaves_the_page_open(client, payments, session_id):
    page = f"/dev/stripe/checkout/{session_id}"

    answer = press(client, page, f"{page}/close")

    assert (answer.status_code, answer.location) == (303, "http://localhost/pricing")
    assert payments.look_up(session_id).session == "open"


def test_a_page_that_has_ended_says_so_and_offers_no_payment(client, payments):
    paid, expired, slow, refused = (opened(payments, key) for key in ("one", "two", "three", "four"))
    payments.pay(paid)
    payments.expire(expired)
    payments.pay_later(slow)
    payments.pay_later(refused)
    payments.settle(refused, False)

    for session_id, sentence in (
        (paid, "was paid already"),
        (expired, "has expired"),
        (slow, "has not paid yet"),
        (refused, "did not pay"),
    ):
        answer = client.get(f"/dev/stripe/checkout/{session_id}")
        assert sentence in answer.text
        assert "Pay $99.00" not in answer.text
    late = client.post(f"/dev/stripe/checkout/{expired}/pay", data={"csrf_token": token(client)})
    assert late.status_code == 409
    assert "has expired" in late.text


def test_the_desk_settles_refunds_and_expires(client, payments):
    slow, open_one = opened(payments, "one"), opened(payments, "two")
    payments.pay_later(slow)

    press(client, "/dev/stripe/", f"/dev/stripe/sessions/{slow}/settle")
    press(client, "/dev/stripe/", f"/dev/stripe/sessions/{slow}/refund", amount_cents="900")
    assert payments.look_up(slow).amount_refunded == 900
    press(client, "/dev/stripe/", f"/dev/stripe/sessions/{slow}/refund")
    press(client, "/dev/stripe/", f"/dev/stripe/sessions/{open_one}/expire")

    assert payments.look_up(slow).amount_refunded == 9900
    assert payments.look_up(open_one).session == "expired"


@pytest.mark.parametrize("amount", ["99.5", "-1", "all", "²", "9" * 20])
def test_an_amount_that_is_no_number_of_cents_refunds_nothing(client, payments, session_id, amount):
    payments.pay(session_id)

    answer = press(client, "/dev/stripe/", f"/dev/stripe/sessions/{session_id}/refund", amount_cents=amount)

    assert answer.status_code == 422
    assert payments.look_up(session_id).amount_refunded == 0


def test_a_refund_beyond_what_was_paid_is_refused_with_a_sentence(client, payments, session_id):
    payments.pay(session_id)

    press(client, "/dev/stripe/", f"/dev/stripe/sessions/{session_id}/refund", amount_cents="9901")

    assert "Refused: refund: amount_too_large." in client.get("/dev/stripe/").text


def test_faults_are_set_and_held_events_delivered(client, payments, session_id):
    press(client, "/dev/stripe/", "/dev/stripe/faults", fault=["hold"])
    assert faults_on(payments.store) == [Fault.HOLD]
    payments.pay(session_id)
    assert {event["state"] for event in client.get("/dev/stripe/state.json").json["events"]} == {"held"}

    press(client, "/dev/stripe/", "/dev/stripe/faults")
    press(client, "/dev/stripe/", "/dev/stripe/events/deliver-held")

    state = client.get("/dev/stripe/state.json").json
    assert state["faults"] == []
    assert {event["state"] for event in state["events"]} == {"delivered"}
    assert press(client, "/dev/stripe/", "/dev/stripe/faults", fault=["flood"]).status_code == 422


def test_an_event_is_delivered_again(client, payments, session_id):
    payments.expire(session_id)
    [event] = payments.events()

    press(client, "/dev/stripe/", f"/dev/stripe/events/{event.id}/redeliver")

    assert [event.tries for event in payments.events()] == [2]


def test_the_state_as_json_names_purchase_and_page(client, payments, session_id):
    [checkout] = client.get("/dev/stripe/state.json").json["checkouts"]

    assert checkout["session_id"] == session_id
    assert checkout["purchase_ref"] == "pur_17"
    assert checkout["url"] == f"http://localhost/dev/stripe/checkout/{session_id}"
    assert (checkout["session"], checkout["payment"], checkout["amount_total"]) == ("open", "unpaid", 9900)


def test_an_unknown_page_is_not_there(client):
    assert client.get("/dev/stripe/checkout/cs_test_unknown").status_code == 404


def test_a_click_from_elsewhere_is_refused(client, payments, session_id):
    assert client.post(f"/dev/stripe/checkout/{session_id}/pay").status_code == 400
    assert payments.look_up(session_id).payment == "unpaid"


@pytest.mark.parametrize("changes", [{"payments_vendor": "live"}, {"app_env": AppEnv.PRODUCTION}])
def test_nothing_is_there_where_payments_are_live_or_in_production(house, client, session_id, changes):
    house.config["STS"] = SETTINGS.model_copy(update=changes)

    for path in ("/dev/stripe/", "/dev/stripe/state.json", f"/dev/stripe/checkout/{session_id}"):
        assert client.get(path).status_code == 404
