"""What the set-up of the store finds and makes at Stripe, and that the fake is as strict as Stripe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from pydantic import SecretStr
from stripe import params as sdk
from stripe.params import billing_portal as portal
from stripe.params.checkout import SessionCreateParams

from sts_app.billing import live
from sts_app.billing.gateway import NoSuchCustomer, PortalFacts, PriceFacts, Refused, TryLater
from sts_app.billing.live_setup import StripeSetup
from tests.contracts.payment_worlds import ALICE, LiveWorld, a_paid_page
from tests.fakes.stripe_api import Fault, Problem, check, routes

URL = "https://sts.example/api/webhooks/stripe"
TYPES = frozenset({"checkout.session.completed", "refund.created"})


@pytest.fixture
def setup(live_world: LiveWorld) -> Iterator[StripeSetup]:
    setup = StripeSetup(SecretStr(live_world.fake.secret_key), api_base=live_world.fake.url, timeout=(1, 5))
    yield setup
    setup.close()


class TestPrices:
    def test_a_price_is_made_under_a_key_and_found_by_it(self, setup: StripeSetup) -> None:
        assert setup.find_price("sts-lifetime") is None
        product_id = setup.create_product(name="Lifetime", description="", key="product-1")

        made = setup.create_price(
            product_id=product_id,
            amount_cents=9900,
            currency="USD",
            interval="",
            lookup_key="sts-lifetime",
            key="price-1",
        )

        assert made == PriceFacts(id=made.id, amount_cents=9900, currency="usd", active=True)
        assert setup.find_price("sts-lifetime") == made

    def test_another_price_takes_the_key_over(self, setup: StripeSetup) -> None:
        product_id = setup.create_product(name="Lifetime", description="Six strategies", key="product-1")
        fields: dict[str, Any] = {"product_id": product_id, "currency": "usd", "lookup_key": "sts-lifetime"}
        setup.create_price(amount_cents=9900, interval="", key="price-1", **fields)

        dearer = setup.create_price(amount_cents=12900, interval="month", key="price-2", **fields)

        assert setup.find_price("sts-lifetime") == dearer
        assert dearer.interval == "month"

    def test_an_answer_that_was_lost_makes_one_of_each(self, setup: StripeSetup, live_world: LiveWorld) -> None:
        before = {kind: live_world.count(kind) for kind in ("product", "price", "webhook_endpoint")}

        def product() -> str:
            return setup.create_product(name="Lifetime", description="Six strategies", key="product-1")

        live_world.lose_answers()
        with pytest.raises(TryLater):
            product()
        product_id = product()
        live_world.lose_answers()
        for _ in range(2):
            try:
                setup.create_price(
                    product_id=product_id,
                    amount_cents=9900,
                    currency="usd",
                    interval="",
                    lookup_key="sts-lifetime",
                    key="price-1",
                )
            except TryLater:
                continue
        live_world.lose_answers()
        with pytest.raises(TryLater):
            setup.create_endpoint(url=URL, types=TYPES, key="endpoint-1")
        setup.create_endpoint(url=URL, types=TYPES, key="endpoint-1")

        made = {kind: live_world.count(kind) - number for kind, number in before.items()}
        assert made == {"product": 1, "price": 1, "webhook_endpoint": 1}

    def test_a_price_of_no_product_is_refused(self, setup: StripeSetup) -> None:
        with pytest.raises(Refused, match="resource_missing product"):
            setup.create_price(
                product_id="prod_unknown", amount_cents=1, currency="usd", interval="", lookup_key="x", key="price-1"
            )


class TestEndpoints:
    def test_the_secret_is_shown_once(self, setup: StripeSetup) -> None:
        made = setup.create_endpoint(url=URL, types=TYPES, key="endpoint-1")

        [listed] = setup.endpoints()

        assert (made.secret or "").startswith("whsec_")
        assert listed.secret is None
        assert (listed.id, listed.url, listed.types, listed.enabled) == (made.id, URL, TYPES, True)
        assert listed.api_version == live.API_VERSION

    def test_what_it_rings_for_is_changed_and_it_is_switched_on(
        self, setup: StripeSetup, live_world: LiveWorld
    ) -> None:
        made = setup.create_endpoint(url=URL, types=TYPES, key="endpoint-1")
        live_world.fake.things["webhook_endpoint"][made.id]["status"] = "disabled"

        changed = setup.update_endpoint(made.id, types=TYPES | {"invoice.paid"})

        assert changed.types == TYPES | {"invoice.paid"}
        assert changed.enabled
        assert setup.endpoints() == [changed]

    def test_more_endpoints_than_a_page_holds_are_all_listed(self, setup: StripeSetup, live_world: LiveWorld) -> None:
        live_world.fake.page_size = 2
        made = {setup.create_endpoint(url=f"{URL}/{number}", types=TYPES, key=str(number)).id for number in range(5)}

        assert {endpoint.id for endpoint in setup.endpoints()} == made

    def test_a_bad_day_is_to_be_tried_later(self, setup: StripeSetup, live_world: LiveWorld) -> None:
        live_world.fake.fail(Fault.BROKEN, times=2)
        with pytest.raises(TryLater):
            setup.endpoints()


class TestThePortal:
    """What customers may do on Stripe's page about themselves."""

    @pytest.fixture
    def customer_id(self, live_world: LiveWorld) -> str:
        return live_world.payments.create_customer(ALICE, key="customer-7")

    def make(self, setup: StripeSetup) -> PortalFacts:
        return setup.create_portal(
            terms_url="https://sts.example/terms", privacy_url="https://sts.example/privacy", key="portal-1"
        )

    def open(self, live_world: LiveWorld, customer_id: str) -> dict[str, Any]:
        """What was sent to open a page."""
        live_world.payments.open_portal(customer_id, return_url="https://sts.example/dashboard")
        return live_world.fake.calls[-1].params

    def test_it_is_made_for_invoices_the_card_and_the_end_of_a_subscription(
        self, setup: StripeSetup, live_world: LiveWorld
    ) -> None:
        made = self.make(setup)

        assert setup.portals() == [made]
        assert (made.is_ours, made.is_default, made.fits) == (True, False, True)
        [kept] = live_world.fake.things["billing_portal.configuration"].values()
        assert kept.keys() <= stripe.billing_portal.Configuration.__annotations__.keys()
        assert kept["features"]["subscription_cancel"]["mode"] == "at_period_end"
        assert {name for name, feature in kept["features"].items() if feature["enabled"]} == {
            "invoice_history",
            "payment_method_update",
            "subscription_cancel",
        }
        assert kept["business_profile"]["terms_of_service_url"] == "https://sts.example/terms"

    def test_pages_are_opened_with_it_and_it_is_looked_up_once(
        self, setup: StripeSetup, live_world: LiveWorld, customer_id: str
    ) -> None:
        live_world.fake.save_portal(subscription_update={})
        made = self.make(setup)

        sent = [self.open(live_world, customer_id) for _ in range(2)]

        assert [params["configuration"] for params in sent] == [made.id] * 2
        asked = [call for call in live_world.fake.calls if call.path == "/v1/billing_portal/configurations"]
        assert [call.method for call in asked] == ["POST", "GET"]

    def test_without_one_the_page_is_that_of_the_dashboard(self, live_world: LiveWorld, customer_id: str) -> None:
        live_world.fake.save_portal(invoice_history={})

        assert "configuration" not in self.open(live_world, customer_id)

    def test_without_either_it_is_refused(self, live_world: LiveWorld, customer_id: str) -> None:
        with pytest.raises(Refused) as caught:
            self.open(live_world, customer_id)
        assert not isinstance(caught.value, NoSuchCustomer)

    def test_one_that_was_taken_out_of_use_is_looked_up_anew(
        self, setup: StripeSetup, live_world: LiveWorld, customer_id: str
    ) -> None:
        gone = self.make(setup)
        self.open(live_world, customer_id)
        live_world.fake.things["billing_portal.configuration"][gone.id]["active"] = False
        live_world.fake.save_portal(invoice_history={})

        with pytest.raises(Refused):
            self.open(live_world, customer_id)
        assert "configuration" not in self.open(live_world, customer_id)
        assert [each.is_default for each in setup.portals()] == [True]

    def test_one_that_was_changed_is_put_right(self, setup: StripeSetup, live_world: LiveWorld) -> None:
        made = self.make(setup)
        features = live_world.fake.things["billing_portal.configuration"][made.id]["features"]
        features["subscription_cancel"]["mode"] = "immediately"
        features["subscription_update"]["enabled"] = True
        assert not setup.portals()[0].fits

        assert setup.update_portal(made.id).fits


class TestTheAccount:
    def test_it_says_whether_anybody_can_be_charged(self, setup: StripeSetup, live_world: LiveWorld) -> None:
        assert setup.takes_payments()

        live_world.fake.me["charges_enabled"] = False
        assert not setup.takes_payments()

    def test_an_answer_that_says_nothing_is_to_be_tried_later(self, setup: StripeSetup, live_world: LiveWorld) -> None:
        for ask in (setup.takes_payments, setup.portals, setup.endpoints):
            live_world.fake.fail(Fault.EMPTY_BUT_OK)
            with pytest.raises(TryLater, match="the answer"):
                ask()


class TestTheFake:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"payment_method_types": ["card"]}, "payment_method_types"),
            ({"line_items": [{"prise": "price_lifetime"}]}, "line_items[0][prise]"),
            ({"ui_mode": "hosted"}, "ui_mode"),
            ({"expires_at": "soon"}, "expires_at"),
            ({"after_expiration": {"recovery": {}}}, "after_expiration[recovery][enabled]"),
            ({"api_key": "sk_test_x"}, "api_key"),
            ({"customer": ""}, "customer"),
        ],
    )
    def test_it_refuses_what_the_package_does_not_know(self, change: dict[str, Any], named: str) -> None:
        good = {"mode": "payment", "line_items": [{"price": "price_lifetime", "quantity": "1"}], "customer": "cus_1"}
        check(good, SessionCreateParams)

        with pytest.raises(Problem) as caught:
            check(good | change, SessionCreateParams)

        assert caught.value.body["error"]["param"] == named

    @pytest.mark.parametrize(
        ("shape", "params", "named"),
        [
            (sdk.RefundCreateParams, {"reason": "because"}, "reason"),
            (sdk.RefundCreateParams, {"amount": "12.5"}, "amount"),
            (sdk.FileCreateParams, {"file": ("a", b"")}, "purpose"),
            (sdk.PriceCreateParams, {"unit_amount": "1"}, "currency"),
            (sdk.PriceCreateParams, {"currency": "usd", "recurring": {"interval": "fortnight"}}, "recurring[interval]"),
            (sdk.WebhookEndpointCreateParams, {"url": URL}, "enabled_events"),
            (sdk.WebhookEndpointCreateParams, {"url": URL, "enabled_events": ["a.b"]}, "enabled_events[0]"),
            (sdk.DisputeUpdateParams, {"evidence": {"reciept": "file_1"}}, "evidence[reciept]"),
            (sdk.InvoicePaymentListParams, {"payment": {"payment_intent": "pi_1"}}, "payment[type]"),
            (sdk.EventListParams, {"created": {"since": "1"}}, "created[since]"),
            (portal.SessionCreateParams, {"configuratoin": "bpc_1"}, "configuratoin"),
            (portal.ConfigurationCreateParams, {}, "features"),
            (
                portal.ConfigurationCreateParams,
                {"features": {"subscription_cancel": {"enabled": "true", "mode": "now"}}},
                "features[subscription_cancel][mode]",
            ),
        ],
    )
    def test_it_is_as_strict_about_every_call(self, shape: Any, params: dict[str, Any], named: str) -> None:
        with pytest.raises(Problem) as caught:
            check(params, shape)
        assert caught.value.body["error"]["param"] == named

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("invoice.payments.data.payment.payment_intent", "more than 4 levels"),
            ("payment_intent.latest_charge.refunds.data.charge", "more than 4 levels"),
            ("amount_total", "cannot be expanded"),
            ("payment_intent.latest_charge.dispute", "cannot be expanded"),
            ("invoice.payments.payment", "cannot be expanded"),
            ("nonsense", "cannot be expanded"),
        ],
    )
    def test_it_expands_what_stripe_expands_and_no_deeper(self, live_world: LiveWorld, path: str, said: str) -> None:
        session_id = a_paid_page(live_world)

        with pytest.raises(Problem, match=said):
            routes.answer(live_world.fake, "GET", f"/v1/checkout/sessions/{session_id}", {"expand": [path]})

    def test_an_address_it_does_not_know_is_refused(self, live_world: LiveWorld) -> None:

        with pytest.raises(Problem, match="Unrecognized request URL"):
            routes.answer(live_world.fake, "POST", "/v1/charges", {})
