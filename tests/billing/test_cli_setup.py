"""`sts stripe-setup` and what the doctor says of it, at the simulated Stripe and over Stripe's own interface."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
import stripe
from flask import Flask
from pydantic import SecretStr

from sts_app.audit.models import AuditLog
from sts_app.billing.event_types import HANDLED_TYPES
from sts_app.billing.live_client import API_VERSION
from sts_app.billing.simulated import Fault, behave, misbehave
from sts_app.catalog.models import Mode, Plan
from sts_app.core.db import db as database
from sts_app.ops.doctor import examine
from sts_app.settings import AppEnv
from tests.builders import open_page
from tests.fakes import stripe_api

URL = "https://store.example/api/webhooks/stripe"
KEY = "sk_test_OfNobody"


@pytest.fixture
def monthly(plan) -> Plan:
    made = Plan(
        slug="monthly", name="Monthly", price_cents=1900, currency="usd", covers_all=True, active=True,
        mode=Mode.SUBSCRIPTION, interval="month", position=2,
    )  # fmt: skip
    database.session.add(made)
    database.session.commit()
    return made


@pytest.fixture
def fake(app: Flask, plan, monkeypatch) -> Iterator[stripe_api.FakeStripe]:
    """Stripe's own interface on this machine, with a store whose payments are live."""
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)
    with stripe_api.FakeStripe(KEY).running() as fake:
        changes = {
            "payments_vendor": "live",
            "stripe_secret_key": SecretStr(KEY),
            "stripe_api_base": fake.url,
            "app_url": "https://store.example",
            "stripe_webhook_secrets": (),
        }
        # Made anew: the public address is reckoned once for each object.
        settings = type(app.config["STS"]).model_construct(**app.config["STS"].model_dump() | changes)
        monkeypatch.setitem(app.config, "STS", settings)
        yield fake
        assert fake.broken_by == []


def deeds(output: str) -> list[str]:
    return [" ".join(line.split()[:2]) for line in output.splitlines() if line.split()[1:2] and _is_thing(line)]


def _is_thing(line: str) -> bool:
    return (
        any(f" {thing} " in line for thing in ("product", "price", "plan", "endpoint", "portal")) and line[0].islower()
    )


def says(kind: str, about: str) -> list[str]:
    return [finding.sentence for finding in examine() if finding.kind == kind and about in finding.sentence]


class TestSimulated:
    """Here the shelf shows what the plans name, so that a product stands there from the beginning."""

    def test_a_second_run_changes_nothing_and_tells_no_secret(self, sts, till, monthly, plan):
        first = sts("stripe-setup")
        second = sts("stripe-setup")

        assert (first.exit_code, second.exit_code) == (0, 0)
        assert first.output.count("whsec_for_tests") == 1
        assert deeds(second.output) == ["found price", "found price", "found endpoint", "found portal"]
        assert "whsec" not in second.output
        assert till.find_price("lifetime-9900-usd-once").id == plan.stripe_price_id
        assert till.find_price("monthly-1900-usd-month").id == monthly.stripe_price_id

    def test_each_plan_gets_a_product_of_its_own_name_with_its_price(self, sts, till, plan, monthly):
        sts("stripe-setup")

        told = {(each.name, price.id) for each in till.products() for price in each.prices}
        assert told == {(plan.name, plan.stripe_price_id), (monthly.name, monthly.stripe_price_id)}
        assert len(till.products()) == 2

    def test_a_price_that_staff_gave_and_that_fits_is_kept(self, sts, till, plan):
        till.stock("price_by_hand", name="Lifetime", amount_cents=9900)
        plan.stripe_price_id = "price_by_hand"

        assert deeds(sts("stripe-setup").output)[0] == "found price"
        assert plan.stripe_price_id == "price_by_hand"

    def test_an_answer_that_was_lost_leaves_one_of_each(self, sts, till, plan):
        outcomes = []
        for _ in range(8):
            misbehave(till.store, Fault.LOSE_ANSWER)
            outcomes.append(sts("stripe-setup").exit_code)
            behave(till.store)
        assert outcomes[0] == 75

        assert sts("stripe-setup").exit_code == 0
        assert [till.count(kind) for kind in ("price", "endpoint", "portal-setup")] == [1, 1, 1]

    def test_what_was_made_before_the_trouble_is_told(self, sts, till, plan, monkeypatch):
        monkeypatch.setattr(type(till), "endpoints", refuses)

        result = sts("stripe-setup", "--json")

        assert result.exit_code == 1
        assert [line["thing"] for line in json.loads(result.stdout)] == ["product", "price", "plan"]

    def test_the_store_sells_at_the_prices_that_were_made(self, sts, till, alice, plan):
        sts("stripe-setup")

        assert open_page(alice, plan).checkout_request["price_id"] == plan.stripe_price_id

    def test_a_live_key_is_refused_outside_production(self, app, sts, plan, monkeypatch):
        settings = app.config["STS"].model_copy(update={"stripe_secret_key": SecretStr("sk" + "_live_" + "of_nobody")})
        monkeypatch.setitem(app.config, "STS", settings)

        refused = sts("stripe-setup")

        assert (refused.exit_code, "--yes-live" in refused.output) == (1, True)
        assert sts("stripe-setup", "--yes-live").exit_code == 0


def refuses(*_: object) -> None:
    from sts_app.billing.gateway import Refused

    raise Refused("endpoints: parameter_invalid")


class TestLive:
    def test_makes_product_price_and_endpoint_of_every_plan_once_and_sells_at_them(self, sts, fake, plan, monthly):
        first = sts("stripe-setup")
        made = len(fake.deeds)
        second = sts("stripe-setup")

        assert (first.exit_code, second.exit_code) == (0, 0)
        assert deeds(first.output) == [
            *(("made product", "made price", "changed plan") * 2),
            "made endpoint",
            "made portal",
        ]
        assert fake.things["price"][plan.stripe_price_id]["lookup_key"] == "lifetime-9900-usd-once"
        assert fake.things["price"][monthly.stripe_price_id]["recurring"]["interval"] == "month"
        assert "catalog.plan_changed" in database.session.scalars(
            sa.select(AuditLog.action).where(AuditLog.actor == "cli")
        )
        [endpoint] = fake.things["webhook_endpoint"].values()
        assert (endpoint["url"], endpoint["api_version"]) == (URL, API_VERSION)
        assert frozenset(endpoint["enabled_events"]) == HANDLED_TYPES
        assert "whsec_" in first.output
        assert "whsec_" not in second.output
        assert len(fake.deeds) == made
        assert deeds(second.output) == ["found price", "found price", "found endpoint", "found portal"]

    def test_a_dry_run_says_what_would_be_done(self, sts, fake, plan):
        result = sts("stripe-setup", "--dry-run")

        assert deeds(result.output) == ["would make"] * 4
        assert (fake.deeds, plan.stripe_price_id) == ([], None)

    def test_for_machines(self, sts, fake, plan):
        told = json.loads(sts("stripe-setup", "--json").output)

        assert [(line["deed"], line["thing"]) for line in told] == [
            ("made", "product"),
            ("made", "price"),
            ("changed", "plan"),
            ("made", "endpoint"),
            ("made", "portal"),
        ]
        assert [bool(line["secret"]) for line in told] == [False, False, False, True, False]

    def test_another_price_of_a_plan_belongs_to_the_same_product(self, sts, fake, plan):
        sts("stripe-setup")
        before = fake.things["price"][plan.stripe_price_id]
        plan.price_cents = 12900

        result = sts("stripe-setup")

        assert deeds(result.output) == ["found product", "made price", "changed plan", "found endpoint", "found portal"]
        after = fake.things["price"][plan.stripe_price_id]
        assert (after["unit_amount"], after["product"]) == (12900, before["product"])

    def test_an_answer_that_was_lost_leaves_one_of_each(self, sts, fake, plan):
        kinds = ("product", "price", "webhook_endpoint", "billing_portal.configuration")
        before = {kind: len(fake.things[kind]) for kind in kinds}
        # The package asks once more by itself; the list of products is read first.
        for reads in range(8):
            fake.fail(stripe_api.Fault.LOST, times=2 + 2 * reads)
            sts("stripe-setup")
            fake.heal()

        assert sts("stripe-setup").exit_code == 0
        assert {kind: len(fake.things[kind]) - before[kind] for kind in before} == dict.fromkeys(before, 1)

    def test_says_which_settings_to_write(self, sts, fake, plan):
        output = sts("stripe-setup").output

        assert f"Put {plan.stripe_price_id} into STRIPE_PRICE_ID" in output
        assert "STRIPE_WEBHOOK_SECRET is not set" in output

    def test_an_endpoint_that_is_off_and_lacks_types_is_put_right(self, sts, fake, plan):
        sts("stripe-setup")
        [endpoint] = fake.things["webhook_endpoint"].values()
        endpoint["status"], endpoint["enabled_events"] = "disabled", ["invoice.paid", "payout.paid"]

        result = sts("stripe-setup")

        assert f"{len(HANDLED_TYPES) - 1} types added, 1 dropped, switched on again" in result.output
        assert (endpoint["status"], frozenset(endpoint["enabled_events"])) == ("enabled", HANDLED_TYPES)

    def test_an_endpoint_of_another_version_gets_one_beside_it(self, sts, fake, plan):
        sts("stripe-setup")
        [old] = fake.things["webhook_endpoint"].values()
        old["api_version"] = "2020-08-27"
        # Another day: Stripe has forgotten the keys.
        fake._kept.clear()

        result = sts("stripe-setup")
        again = sts("stripe-setup")

        assert deeds(result.output)[-3:] == ["made endpoint", "left endpoint", "found portal"]
        assert f"{old['id']}" in result.output
        assert "delete it at Stripe" in result.output
        assert deeds(again.output)[-3:] == ["found endpoint", "left endpoint", "found portal"]
        assert len(fake.things["webhook_endpoint"]) == 2

    def test_what_was_removed_by_hand_is_made_again_though_stripe_repeats_its_answer(self, sts, fake, plan):
        sts("stripe-setup")
        fake.things["webhook_endpoint"].clear()

        assert "made endpoint" in deeds(sts("stripe-setup").output)
        assert len(fake.things["webhook_endpoint"]) == 1

    def test_a_customers_page_that_was_saved_in_the_dashboard_and_fits_is_kept(self, sts, fake, plan):
        saved = fake.save_portal(invoice_history={}, payment_method_update={}, subscription_cancel={})

        assert f"found        portal   {saved}" in sts("stripe-setup").output

    def test_one_that_does_more_than_the_store_says_gets_another_beside_it(self, sts, fake, plan):
        features = ("invoice_history", "payment_method_update", "subscription_cancel", "subscription_update")
        fake.save_portal(**{name: {} for name in features})

        first, second = sts("stripe-setup"), sts("stripe-setup")

        assert (deeds(first.output)[-1], deeds(second.output)[-1]) == ("made portal", "found portal")

    def test_one_of_ours_that_was_changed_is_put_right(self, sts, fake, plan):
        sts("stripe-setup")
        [made] = fake.things["billing_portal.configuration"].values()
        made["features"]["subscription_cancel"]["mode"] = "immediately"

        assert deeds(sts("stripe-setup", "--dry-run").output)[-1] == "would change"
        assert deeds(sts("stripe-setup").output)[-1] == "changed portal"
        assert made["features"]["subscription_cancel"]["mode"] == "at_period_end"

    def test_without_an_address_there_is_no_endpoint(self, app, sts, fake, plan):
        object.__setattr__(app.config["STS"], "app_url", "")

        result = sts("stripe-setup")

        assert result.exit_code == 1
        assert "APP_URL is not set" in result.output
        assert fake.things["webhook_endpoint"] == {}

    def test_a_key_that_stripe_does_not_take_is_no_trace(self, sts, fake, plan):
        fake.fail(stripe_api.Fault.UNAUTHORIZED, times=2)

        assert sts("stripe-setup").exit_code == 75


class TestDoctor:
    @pytest.fixture
    def set_up(self, sts, fake, plan) -> stripe_api.FakeStripe:
        sts("stripe-setup")
        return fake

    def test_all_is_well_after_the_setup(self, set_up):
        assert says("fine", "Stripe") == [
            "Stripe charges for each plan what its page shows.",
            f"Stripe rings {URL} with every event that the store acts on.",
            "Stripe lets this account take payments.",
        ]

    def test_it_is_not_asked_where_payments_are_simulated(self, sts, plan, till):
        misbehave(till.store, Fault.API_DOWN)

        assert says("warning", "does not say") == says("fine", "Stripe rings") == []

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"status": "disabled"}, "is switched off: run `sts stripe-setup`."),
            ({"api_version": None}, f"speaks the account's version, this code reads {API_VERSION}"),
            ({"enabled_events": sorted(HANDLED_TYPES - {"refund.failed"})}, "does not tell of refund.failed"),
            ({"url": "https://elsewhere.example"}, f"Stripe does not ring {URL}"),
        ],
    )
    def test_an_endpoint_that_is_not_as_it_should_be(self, app, set_up, changes, words):
        [endpoint] = set_up.things["webhook_endpoint"].values()
        endpoint.update(changes)

        assert len(says("warning", words)) == 1
        object.__setattr__(app.config["STS"], "app_env", AppEnv.PRODUCTION)
        assert len(says("fault", words)) == 1

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"active": False}, "Stripe has no page for customers to see invoices and end subscriptions"),
            ({"features": {}}, "lets customers do something else than the store says: run `sts stripe-setup`."),
        ],
    )
    def test_a_customers_page_that_is_not_as_it_should_be(self, app, set_up, changes, words):
        [portal] = set_up.things["billing_portal.configuration"].values()
        portal.update(changes)

        assert len(says("warning", words)) == 1
        object.__setattr__(app.config["STS"], "app_env", AppEnv.PRODUCTION)
        assert len(says("fault", words)) == 1

    def test_an_account_that_stripe_has_not_activated(self, app, set_up):
        set_up.me["charges_enabled"] = False

        assert len(says("warning", "does not let this account take payments")) == 1
        object.__setattr__(app.config["STS"], "app_env", AppEnv.PRODUCTION)
        assert len(says("fault", "does not let this account take payments")) == 1

    def test_a_key_that_may_not_read_the_account_hides_no_wrong_price(self, set_up, plan):
        set_up.forbidden.add("/v1/account")
        plan.price_cents = 12900
        database.session.commit()

        assert says("fault", "The plan lifetime shows $129.00 once and costs $99.00 once at Stripe") != []
        assert len(says("warning", "does not say whether this account takes payments")) == 1
        assert says("fine", "Stripe lets this account take payments") == []

    def test_an_endpoint_that_tells_of_everything_will_do(self, set_up):
        [endpoint] = set_up.things["webhook_endpoint"].values()
        endpoint["enabled_events"] = ["*"]

        assert says("warning", "endpoint") == []

    def test_a_page_that_shows_another_price_is_a_fault(self, set_up, plan):
        plan.price_cents = 12900
        database.session.commit()

        assert says("fault", "The plan lifetime shows $129.00 once and costs $99.00 once at Stripe") != []

    def test_a_price_that_is_not_active_or_not_there_is_a_fault(self, set_up, plan):
        set_up.things["price"][plan.stripe_price_id]["active"] = False
        assert says("fault", "which is not active at Stripe") != []

        plan.stripe_price_id = "price_nobody_knows"
        database.session.commit()
        assert says("fault", "which Stripe does not know") != []

    def test_a_plan_that_is_not_sold_may_cost_anything(self, set_up, plan):
        plan.price_cents, plan.active = 12900, False
        database.session.commit()

        assert says("fault", "shows") == []

    def test_stripe_away_is_a_warning(self, set_up):
        set_up.fail(stripe_api.Fault.BROKEN, times=2)

        assert says("warning", "Stripe does not say what stands there (products: api_error)") != []
