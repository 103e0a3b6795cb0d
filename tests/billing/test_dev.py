"""The simulated Stripe's pages, in a house that has no other room and needs no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient

from sts_app.billing import dev
from sts_app.billing.gateway import CheckoutRequest, CustomerRequest, Mode
from sts_app.billing.simulated import Fault, SimulatedPayments, faults_on
from sts_app.catalog import views as catalog
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
    app.register_blueprint(catalog.bp)  # for its filters, which macros of the shell use
    app.register_blueprint(dev.bp)
    app.extensions["sts_payments"] = payments
    # The frame links to rooms that are not in this house.
    app.url_build_error_handlers.append(lambda error, endpoint, values: f"/elsewhere/{endpoint}")
    # Nor are their filters, of which macros that no page here uses make use.
    app.add_template_filter(str, "with_whole_dates")
    app.jinja_env.globals["current_user"] = SimpleNamespace(is_authenticated=False)
    return app


@pytest.fixture
def client(house: Flask) -> FlaskClient:
    return house.test_client()


@pytest.fixture
def session_id(payments: SimulatedPayments) -> str:
    return opened(payments, "one")


def opened(payments: SimulatedPayments, key: str, mode: Mode = "payment", **changes: Any) -> str:
    alice = CustomerRequest("per_7", "alice@customers.example", "Alice")
    request = CheckoutRequest(
        purchase_ref="pur_17",
        price_id="price_lifetime" if mode == "payment" else "price_monthly",
        product_name="Lifetime <access>",
        amount_cents=9900 if mode == "payment" else 1900,
        currency="usd",
        customer_id=payments.create_customer(alice, key="customer-7"),
        customer_email="alice@customers.example",
        success_url="http://localhost/return?session={CHECKOUT_SESSION_ID}",
        cancel_url="http://localhost/pricing",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        mode=mode,
    )
    return payments.open_checkout(replace(request, **changes), key=key).session_id


def subscribed(payments: SimulatedPayments) -> str:
    """The id of a subscription whose first month is paid."""
    found = payments.pay(opened(payments, "monthly", "subscription")).subscription_id
    assert found is not None
    return found


def lines_of(page: BeautifulSoup, section: str) -> list[list[str]]:
    """The cells of each row of the table in a section."""
    rows = page.select(f"section[aria-labelledby={section}] tbody tr")
    return [[cell.text.strip() for cell in row.select("th, td")] for row in rows]


def press(client: FlaskClient, page: str, path: str, **fields: str | list[str]):
    """Send the form of `page` that goes to `path`, with the token it carries."""
    forms = BeautifulSoup(client.get(page).text, "html.parser").select("form")
    form = next(form for form in forms if form["action"] == path and form["method"] == "post")
    kept = {field["name"]: field["value"] for field in form.select("input[type=hidden]")}
    chosen = {field["name"]: field.option["value"] for field in form.select("select")}
    return client.post(path, data=kept | chosen | fields)


def test_the_page_shows_what_is_bought_and_that_nothing_is_charged(client, session_id):
    answer = client.get(f"/dev/stripe/checkout/{session_id}")

    page = BeautifulSoup(answer.text, "html.parser")
    assert page.h1.text == "Lifetime <access>"
    assert "Simulated payment page: no card is charged" in page.text
    assert "$99.00" in page.text
    assert "alice@customers.example" in page.text
    assert [button.text for button in page.select("main button")] == [
        "Pay $99.00",
        "Decline",
        "Pay with a slow bank (delayed)",
        "Close",
        "Apply the code",
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
    told = client.get("/dev/stripe/state.json").json["events"]
    assert [event["state"] for event in told] == ["delivered", "held", "held", "held", "held"]

    press(client, "/dev/stripe/", "/dev/stripe/faults")
    press(client, "/dev/stripe/", "/dev/stripe/events/deliver-held")

    state = client.get("/dev/stripe/state.json").json
    assert state["faults"] == []
    assert {event["state"] for event in state["events"]} == {"delivered"}
    assert press(client, "/dev/stripe/", "/dev/stripe/faults", fault=["flood"]).status_code == 422


def test_an_event_is_delivered_again(client, payments, session_id):
    payments.expire(session_id)
    _, event = payments.events()

    press(client, "/dev/stripe/", f"/dev/stripe/events/{event.id}/redeliver")

    assert [event.tries for event in payments.events()] == [1, 2]


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


class TestPromotionCodes:
    def test_a_code_is_applied_and_the_button_says_the_new_price(self, client, payments, session_id):
        page = f"/dev/stripe/checkout/{session_id}"

        applied = press(client, page, f"{page}/promotion", code="save20")

        assert (applied.status_code, applied.location) == (303, page)
        shown = BeautifulSoup(client.get(page).text, "html.parser")
        assert shown.select_one("main button").text == "Pay $79.20"
        assert "SAVE20" in shown.text

    @pytest.mark.parametrize(("code", "sentence"), [("CHEAP", "There is no promotion code"), ("", "Type a promotion")])
    def test_a_wrong_code_says_so_beside_its_field(self, client, payments, session_id, code, sentence):
        page = f"/dev/stripe/checkout/{session_id}"

        answer = press(client, page, f"{page}/promotion", code=code)

        shown = BeautifulSoup(answer.text, "html.parser")
        field = shown.select_one("#code")
        assert answer.status_code == 422
        assert sentence in shown.select_one("#code-error").text
        assert (field["value"], field["aria-invalid"]) == (code, "true")
        assert "code-error" in field["aria-describedby"]
        assert payments.look_up(session_id).amount_total == 9900

    def test_what_is_free_offers_no_card(self, client, payments, session_id):
        page = f"/dev/stripe/checkout/{session_id}"
        press(client, page, f"{page}/promotion", code="FREE100")

        shown = BeautifulSoup(client.get(page).text, "html.parser")
        buttons = [button.text for button in shown.select("main button")]
        done = press(client, page, f"{page}/pay")

        assert buttons == ["Complete, with nothing to pay", "Close", "Apply the code"]
        assert done.status_code == 303
        assert payments.look_up(session_id).payment == "no_payment_required"
        assert "There was nothing to pay" in client.get(page).text

    def test_a_code_comes_too_late_for_a_page_that_has_ended(self, client, payments, session_id):
        payments.pay(session_id)

        late = client.post(
            f"/dev/stripe/checkout/{session_id}/promotion", data={"csrf_token": token(client), "code": "SAVE20"}
        )

        assert late.status_code == 409
        assert "was paid already" in late.text


class TestRecovery:
    def test_an_expired_page_is_opened_again_by_a_button(self, client, payments, session_id):
        payments.expire(session_id)
        way = f"/dev/stripe/recover/{session_id}"

        answer = press(client, way, way)

        new = answer.location.rpartition("/")[2]
        assert answer.status_code == 303
        assert new != session_id
        assert payments.checkout(new).recovered_from == session_id
        assert "Pay $99.00" in client.get(answer.location).text

    def test_looking_at_the_way_opens_nothing(self, client, payments, session_id):
        payments.expire(session_id)

        client.get(f"/dev/stripe/recover/{session_id}")

        assert payments.count("checkout") == 1

    def test_a_page_that_is_open_leads_there(self, client, payments, session_id):
        answer = client.get(f"/dev/stripe/recover/{session_id}")
        refused = client.post(f"/dev/stripe/recover/{session_id}", data={"csrf_token": token(client)})

        assert "This checkout is still open" in answer.text
        assert refused.status_code == 409

    def test_a_page_that_has_expired_is_not_open_until_some_time(self, client, payments, session_id):
        page = f"/dev/stripe/checkout/{session_id}"
        assert "Open until" in client.get(page).text

        payments.expire(session_id)

        assert "Open until" not in client.get(page).text


class TestPapers:
    def test_a_receipt_and_an_invoice_are_where_the_facts_say(self, client, payments, session_id):
        facts = payments.pay(session_id)

        receipt, invoice = client.get(facts.receipt_url), client.get(facts.invoice_url)

        assert receipt.status_code == invoice.status_code == client.get(facts.invoice_pdf_url).status_code == 200
        for page in (receipt, invoice):
            assert "$99.00" in page.text
            assert "Lifetime &lt;access&gt;" in page.text
            assert page.headers["Cache-Control"] == "no-store"
            back = BeautifulSoup(page.text, "html.parser").select_one("main a.button")
            assert (back.text, back["href"]) == ("Back to the store", "/elsewhere/pages.dashboard")

    def test_the_open_invoice_of_a_renewal_is_paid_on_its_page(self, client, payments):
        subscription_id = subscribed(payments)
        page = f"/dev/stripe/invoices/{payments.renew(subscription_id, False)}"

        paid = press(client, page, f"{page}/payment")
        again = client.post(f"{page}/payment", data={"csrf_token": token(client)})

        assert (paid.status_code, paid.location, again.location) == (303, page, page)
        assert payments.look_up_subscription(subscription_id).status == "active"
        assert payments.books().charged == 2 * 1900
        assert f"{page}/payment" not in client.get(page).text

    def test_an_invoice_of_a_subscription_that_ended_is_not_paid_any_more(self, client, payments):
        subscription_id = subscribed(payments)
        page = f"/dev/stripe/invoices/{payments.renew(subscription_id, False)}"
        payments.end_now(subscription_id)

        assert f"{page}/payment" not in client.get(page).text
        client.post(f"{page}/payment", data={"csrf_token": token(client)})
        assert payments.books().charged == 1900

    def test_there_is_none_of_what_was_not_paid(self, client, payments, session_id):
        payments.decline(session_id)
        token = session_id.removeprefix("cs_test_")

        assert client.get(f"/dev/stripe/receipts/ch_{token}").status_code == 404
        assert client.get(f"/dev/stripe/invoices/in_{token}").status_code == 404


class TestPortal:
    @pytest.fixture
    def way(self, payments):
        customer_id = payments.look_up_subscription(subscribed(payments)).customer_id
        address = payments.open_portal(customer_id, return_url="http://localhost/dashboard")
        return address.removeprefix("http://localhost")

    def test_it_lists_invoices_and_leads_back(self, client, payments, way):
        page = BeautifulSoup(client.get(way).text, "html.parser")

        assert len(page.select("main li a[href*='/dev/stripe/invoices/in_']")) == 1
        assert page.select_one("a.button--primary")["href"] == "http://localhost/dashboard"

    @pytest.mark.parametrize(("when", "status", "ends"), [("now", "canceled", False), ("period-end", "active", True)])
    def test_a_subscription_is_ended_now_or_with_the_paid_time(self, client, payments, way, when, status, ends):
        [subscription] = payments.subscriptions()

        answer = press(client, way, f"{way}/subscriptions/{subscription.facts.id}/end", when=when)

        facts = payments.look_up_subscription(subscription.facts.id)
        assert (answer.status_code, answer.location) == (303, way)
        assert (facts.status, facts.ends_at is not None) == (status, ends)

    def test_an_end_is_taken_back(self, client, payments, way):
        [subscription] = payments.subscriptions()
        payments.cancel_at_period_end(subscription.facts.id)

        press(client, way, f"{way}/subscriptions/{subscription.facts.id}/end", when="keep")

        assert payments.look_up_subscription(subscription.facts.id).ends_at is None

    def test_it_leads_to_the_open_invoice(self, client, payments, way):
        [subscription] = payments.subscriptions()
        invoice_id = payments.renew(subscription.facts.id, False)

        page = BeautifulSoup(client.get(way).text, "html.parser")

        assert page.find("a", string="Pay the open invoice")["href"] == f"/dev/stripe/invoices/{invoice_id}"

    def test_another_card_is_what_the_next_try_is_made_with(self, client, payments, way):
        [subscription] = payments.subscriptions()
        payments.renew(subscription.facts.id, False)

        answer = press(client, way, f"{way}/card")
        assert (answer.status_code, answer.location) == (303, way)
        assert "Another card was given" in client.get(way).text
        press(client, "/dev/stripe/", "/dev/stripe/keep-time")

        assert payments.look_up_subscription(subscription.facts.id).status == "active"
        assert "Another card was given" not in client.get(way).text

    @pytest.mark.parametrize("when", ["", "reached", "yesterday"])
    def test_another_word_ends_nothing(self, client, payments, way, when):
        [subscription] = payments.subscriptions()
        payments.cancel_at_period_end(subscription.facts.id)

        assert press(client, way, f"{way}/subscriptions/{subscription.facts.id}/end", when=when).status_code == 422
        assert payments.look_up_subscription(subscription.facts.id).status == "active"

    def test_nobody_ends_what_is_another_customers(self, client, payments, way):
        [subscription] = payments.subscriptions()
        stranger = payments.create_customer(CustomerRequest("per_8", "bob@customers.example"), key="customer-8")
        other = payments.open_portal(stranger, return_url="http://localhost/").removeprefix("http://localhost")

        answer = client.post(
            f"{other}/subscriptions/{subscription.facts.id}/end", data={"csrf_token": token(client), "when": "now"}
        )

        assert answer.status_code == 404
        assert payments.look_up_subscription(subscription.facts.id).status == "active"


class TestDesk:
    def test_it_shows_the_books(self, client, payments, session_id):
        payments.pay(session_id)
        payments.give_back(session_id, 900)

        page = BeautifulSoup(client.get("/dev/stripe/").text, "html.parser")

        assert lines_of(page, "books") == [["USD", "$99.00", "$9.00", "$0.00", "$90.00"]]
        assert client.get("/dev/stripe/state.json").json["books"]["usd"]["left"] == 9000

    def test_each_currency_has_a_line_of_its_own_in_the_books(self, client, payments, session_id):
        payments.pay(session_id)
        payments.pay(opened(payments, "euro", currency="eur", amount_cents=123450))

        page = BeautifulSoup(client.get("/dev/stripe/").text, "html.parser")

        assert [line[:2] for line in lines_of(page, "books")] == [["EUR", "€1,234.50"], ["USD", "$99.00"]]

    def test_the_newest_checkouts_come_first_and_older_ones_on_pages_of_their_own(self, client, payments):
        ids = [opened(payments, str(number)) for number in range(12)]

        first = client.get("/dev/stripe/").text
        older = BeautifulSoup(first, "html.parser").select_one("nav[aria-label='Pages of checkouts'] a[rel=next]")
        second = client.get(older["href"]).text

        assert [f"c-{each}" in first for each in ids] == [False] * 2 + [True] * 10
        assert [f"c-{each}" in second for each in ids] == [True] * 2 + [False] * 10
        newer = BeautifulSoup(second, "html.parser").select_one("nav[aria-label='Pages of checkouts'] a")
        assert (newer["rel"], newer["href"]) == (["prev"], "/dev/stripe/")

    @pytest.mark.parametrize("by", ["bob@", "BOB", "pur_18"])
    def test_the_lists_are_searched(self, client, payments, session_id, by):
        bobs = opened(payments, "two", customer_email="bob@customers.example", purchase_ref="pur_18")

        page = client.get("/dev/stripe/", query_string={"q": by}).text

        assert f"c-{bobs}" in page
        assert f"c-{session_id}" not in page

    def test_what_matches_nothing_says_so(self, client, payments, session_id):
        page = BeautifulSoup(client.get("/dev/stripe/?q=nobody").text, "html.parser")

        assert page.text.count("Nothing matches") == 4
        assert page.select_one("main input[type=search]")["value"] == "nobody"

    def test_an_act_leads_back_to_what_was_looked_at(self, client, payments, session_id):
        answer = client.post(
            f"/dev/stripe/sessions/{session_id}/expire",
            data={"csrf_token": token(client)},
            headers={"Referer": "http://localhost/dev/stripe/?q=alice&checkouts=cs_1&else=x"},
        )

        assert answer.location == "/dev/stripe/?q=alice&checkouts=cs_1"

    def test_a_refund_is_moved_on(self, client, payments, session_id):
        payments.pay(session_id)
        press(client, "/dev/stripe/", f"/dev/stripe/sessions/{session_id}/refund", status="pending")
        [refund] = payments.look_up(session_id).refunds

        press(client, "/dev/stripe/", f"/dev/stripe/refunds/{refund.id}/move", status="failed")

        assert refund.status == "pending"
        assert payments.look_up(session_id).refunds[0].status == "failed"
        assert f"/dev/stripe/refunds/{refund.id}/move" not in client.get("/dev/stripe/").text

    def test_the_stores_next_refund_is_set(self, client, payments):
        press(client, "/dev/stripe/", "/dev/stripe/refunds/next", status="pending")

        assert payments.store.get("setting", "next-refund") == {"status": "pending"}

    def test_a_dispute_is_opened_and_moved_on(self, client, payments, session_id):
        intent_id = payments.pay(session_id).intent_id
        opening = f"/dev/stripe/payments/{intent_id}/dispute"
        press(client, "/dev/stripe/", opening, status="warning_needs_response", reason="duplicate")
        [dispute] = payments.look_up(session_id).disputes

        press(client, "/dev/stripe/", f"/dev/stripe/disputes/{dispute.id}/move", status="needs_response")

        assert (dispute.status, dispute.reason) == ("warning_needs_response", "duplicate")
        assert payments.look_up_dispute(dispute.id).status == "needs_response"
        assert payments.books().left == 0

    def test_a_subscription_is_renewed_fails_is_given_up_and_paid(self, client, payments):
        subscription_id = subscribed(payments)
        desk, here = "/dev/stripe/", f"/dev/stripe/subscriptions/{subscription_id}"
        press(client, desk, f"{here}/renew", outcome="paid")
        press(client, desk, f"{here}/renew", outcome="failed")
        assert payments.look_up_subscription(subscription_id).status == "past_due"
        press(client, desk, f"{here}/give-up")
        assert payments.look_up_subscription(subscription_id).status == "unpaid"
        open_one = payments.look_up_subscription(subscription_id).invoices[-1].id

        press(client, desk, f"/dev/stripe/invoices/{open_one}/pay", outcome="paid")

        assert payments.look_up_subscription(subscription_id).status == "active"
        assert payments.books().left == 3 * 1900

    def test_a_renewal_is_refunded_and_disputed_beside_its_subscription(self, client, payments):
        invoice_id = payments.renew(subscribed(payments))
        intent_id = payments.look_up_invoice(invoice_id).intent_id

        press(client, "/dev/stripe/", f"/dev/stripe/payments/{intent_id}/refund", amount_cents="100")
        press(client, "/dev/stripe/", f"/dev/stripe/payments/{intent_id}/dispute")

        facts = payments.look_up_invoice(invoice_id)
        assert (facts.amount_refunded, len(facts.disputes)) == (100, 1)

    @pytest.mark.parametrize(("when", "status"), [("period-end", "active"), ("now", "canceled")])
    def test_a_subscription_is_ended(self, client, payments, when, status):
        subscription_id = subscribed(payments)
        ending = f"/dev/stripe/subscriptions/{subscription_id}/end"

        press(client, "/dev/stripe/", ending, when=when)
        assert payments.look_up_subscription(subscription_id).status == status
        if when == "period-end":
            press(client, "/dev/stripe/", ending, when="reached")

        assert payments.look_up_subscription(subscription_id).status == "canceled"
        assert ending not in client.get("/dev/stripe/").text

    def test_a_customer_is_changed_and_deleted(self, client, payments, session_id):
        [customer] = payments.customers()
        here = f"/dev/stripe/customers/{customer['id']}"

        press(client, "/dev/stripe/", f"{here}/change", email="alice@elsewhere.example")
        assert press(client, "/dev/stripe/", f"{here}/change", email="nobody").status_code == 422
        [changed] = payments.customers()
        press(client, "/dev/stripe/", f"{here}/delete")

        assert changed["email"] == "alice@elsewhere.example"
        assert payments.customers()[0]["gone"]
        assert payments.events()[-1].type == "customer.deleted"

    def test_a_price_is_changed(self, client, payments):
        payments.stock("price_lifetime", name="Lifetime access", amount_cents=9900)
        here = "/dev/stripe/prices/price_lifetime/change"

        assert press(client, "/dev/stripe/", here, amount_cents="").status_code == 422
        press(client, "/dev/stripe/", here, amount_cents="4900")

        [product] = payments.products()
        assert product.prices[0].amount_cents == 4900
        unknown = client.post(
            "/dev/stripe/prices/price_x/change", data={"csrf_token": token(client), "amount_cents": 1}
        )
        assert unknown.status_code == 404

    @pytest.mark.parametrize("order", ["oldest", "newest", "shuffled"])
    def test_held_events_are_delivered_in_the_order_chosen(self, client, payments, session_id, order):
        press(client, "/dev/stripe/", "/dev/stripe/faults", fault=["hold"])
        payments.pay(session_id)

        press(client, "/dev/stripe/", "/dev/stripe/events/deliver-held", order=order, seed="7")

        assert {event.state for event in payments.events()} == {"delivered"}

    @pytest.mark.parametrize("wrong", [{"order": "any"}, {"order": "shuffled", "seed": "-1"}])
    def test_an_order_that_is_none_delivers_nothing(self, client, payments, wrong):
        assert press(client, "/dev/stripe/", "/dev/stripe/events/deliver-held", **wrong).status_code == 422

    def test_every_field_has_a_label_and_every_id_stands_once(self, client, payments, session_id):
        intent_id = payments.pay(session_id).intent_id
        payments.give_back(session_id, 100, status="pending")
        payments.open_dispute(intent_id, "warning_needs_response", 100)
        payments.renew(subscribed(payments))
        payments.stock("price_lifetime", name="Lifetime access", amount_cents=9900)

        page = BeautifulSoup(client.get("/dev/stripe/").text, "html.parser")

        ids = [tag["id"] for tag in page.select("[id]")]
        assert len(ids) == len(set(ids))
        labelled = {label["for"] for label in page.select("label")}
        fields = page.select("main select, main input:not([type=hidden])")
        assert len(fields) > 15
        assert {field["id"] for field in fields} - labelled == set()

    @pytest.mark.parametrize(
        "path",
        [
            "payments/pi_x/refund",
            "payments/pi_x/dispute",
            "subscriptions/sub_x/renew",
            "subscriptions/sub_x/give-up",
            "subscriptions/sub_x/end",
            "invoices/in_x/pay",
        ],
    )
    def test_what_the_desk_does_not_know_is_not_there(self, client, path):
        words = {"status": "succeeded", "outcome": "paid", "when": "now"}
        if path.endswith("dispute"):
            words["status"] = "needs_response"

        assert client.post(f"/dev/stripe/{path}", data={"csrf_token": token(client)} | words).status_code == 404


class TestWhoMayLook:
    """In staging, where anybody can reach the store."""

    @pytest.fixture
    def staging(self, house, monkeypatch):
        house.config["STS"] = SETTINGS.model_copy(update={"app_env": AppEnv.STAGING})

        def as_(email: str | None) -> FlaskClient:
            person = SimpleNamespace(is_authenticated=email is not None, email=email, is_staff=False)
            for module in (dev, security):
                monkeypatch.setattr(module, "current_user", person)
            return house.test_client()

        return as_

    @pytest.fixture
    def papers(self, payments, session_id):
        facts = payments.pay(session_id)
        expired = opened(payments, "two")
        payments.expire(expired)
        portal = payments.open_portal(facts.customer_id, return_url="http://localhost/dashboard")
        return [
            facts.receipt_url,
            facts.invoice_url,
            portal,
            f"http://localhost/dev/stripe/recover/{expired}",
            f"http://localhost/dev/stripe/checkout/{session_id}",
        ]

    def test_a_buyer_sees_what_is_theirs(self, staging, papers):
        for address in papers:
            assert staging("Alice@Customers.example").get(address).status_code == 200, address

    @pytest.mark.parametrize(("who", "answer"), [("bob@customers.example", 403), (None, 401)])
    def test_nobody_else_does(self, staging, papers, who, answer):
        for address in papers:
            assert staging(who).get(address).status_code == answer, address

    def test_the_desk_is_no_buyers(self, staging, papers, session_id):
        assert staging("alice@customers.example").get("/dev/stripe/").status_code == 403
