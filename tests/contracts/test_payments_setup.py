"""What the set-up of the store finds and makes at Stripe, and that the fake is as strict as Stripe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from stripe import params as sdk
from stripe.params.checkout import SessionCreateParams

from sts_app.billing import live
from sts_app.billing.gateway import PriceFacts, Refused, TryLater
from sts_app.billing.live_setup import StripeSetup
from tests.contracts.payment_worlds import LiveWorld, a_paid_page
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
