"""Products and prices for machines: the provider's list, kept for an hour, and dropped when it changes."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from sts_app.billing import products
from sts_app.billing.gateway import PriceFacts, ProductFacts
from sts_app.billing.simulated import Fault, misbehave
from sts_app.core import queue
from tests.builders import enter

ONCE = PriceFacts("price_once", 9900, "usd", active=True)
OLD = PriceFacts("price_old", 8900, "usd", active=False)
MONTH = PriceFacts("price_month", 1900, "usd", active=True, interval="month")
SOLD = (
    ProductFacts("prod_1", "Lifetime", "For ever", active=True, prices=(ONCE, OLD)),
    ProductFacts("prod_2", "Monthly", "", active=True, prices=(MONTH,)),
    ProductFacts("prod_3", "Former", "", active=False),
)


class Asked:
    """A provider that counts how often it is asked."""

    def __init__(self, *found: ProductFacts) -> None:
        self.found, self.times = found, 0

    def products(self) -> list[ProductFacts]:
        self.times += 1
        return list(self.found)


@pytest.fixture
def provider(app, db, monkeypatch) -> Asked:
    asked = Asked(*SOLD)
    monkeypatch.setitem(app.extensions, "sts_payments", asked)
    return asked


@pytest.fixture
def redis_away(app, monkeypatch) -> None:
    monkeypatch.setitem(app.extensions, "sts_redis", queue.connection_for_web("redis://127.0.0.1:1/0"))


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200
    assert answer.json["count"] == len(answer.json["data"])
    return [each["id"] for each in answer.json["data"]]


class TestAnswers:
    def test_a_product_is_shown_with_its_prices_the_default_one_expanded(self, client, provider):
        answer = client.get("/stripe/products")

        assert ids(answer) == ["prod_1", "prod_2"]
        once = {
            "id": "price_once",
            "product": "prod_1",
            "active": True,
            "unit_amount": 9900,
            "currency": "usd",
            "type": "one_time",
            "recurring": None,
        }
        first = answer.json["data"][0]
        assert (first["name"], first["description"], first["default_price"]) == ("Lifetime", "For ever", once)
        assert first["prices"][0] == once
        assert answer.json["data"][1]["default_price"]["recurring"] == {"interval": "month"}

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("active=true", ["prod_1", "prod_2"]),
            ("active=false", ["prod_3"]),
            ("limit=1", ["prod_1"]),
            ("limit=100&active=true", ["prod_1", "prod_2"]),
        ],
    )
    def test_products_are_narrowed(self, client, provider, query, found):
        assert ids(client.get(f"/stripe/products?{query}")) == found

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["price_once", "price_month"]),
            ("product=prod_1", ["price_once"]),
            ("product=prod_1&active=false", ["price_old"]),
            ("product=prod_of_nobody", []),
            ("limit=1", ["price_once"]),
        ],
    )
    def test_prices_are_narrowed(self, client, provider, query, found):
        assert ids(client.get(f"/stripe/prices?{query}")) == found

    @pytest.mark.parametrize("path", ["products", "prices"])
    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=101", "limit=x", "limit=", "limit=-1", "limit=٣", "active=yes"]
    )
    def test_what_cannot_be_read_is_said_in_the_envelope(self, client, provider, path, query):
        answer = client.get(f"/stripe/{path}?{query}")

        assert (answer.status_code, answer.json["error"]["code"]) == (400, "VALIDATION_ERROR")
        assert answer.json["requestId"] == answer.headers["X-Request-Id"]
        assert "Cache-Control" not in answer.headers

    def test_one_is_asked_for_by_its_id_sold_or_not(self, client, provider):
        assert client.get("/stripe/products/prod_3").json["data"]["name"] == "Former"
        assert client.get("/stripe/prices/price_old").json["data"]["unit_amount"] == 8900

    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("products/prod_of_nobody", 404, "NOT_FOUND"),
            ("products/price_once", 400, "INVALID_PRODUCT_ID"),
            ("prices/price_of_nobody", 404, "NOT_FOUND"),
            ("prices/prod_1", 400, "INVALID_PRICE_ID"),
            ("prices/%00", 404, "NOT_FOUND"),
        ],
    )
    def test_what_is_not_there(self, client, provider, path, status, code):
        answer = client.get(f"/stripe/{path}")

        assert (answer.status_code, answer.json["error"]["code"]) == (status, code)

    def test_everybody_may_keep_an_answer_for_five_minutes(self, app, client, provider, alice):
        enter(client, alice)

        for path in ("products", "products/prod_1", "prices", "prices/price_once"):
            assert client.get(f"/stripe/{path}").headers["Cache-Control"] == "public, max-age=300"
            assert "Set-Cookie" not in client.get(f"/stripe/{path}").headers

    def test_the_simulated_stripe_shows_what_the_plans_name(self, client, till, plan):
        [product] = client.get("/stripe/products").json["data"]

        assert (product["name"], product["default_price"]["unit_amount"]) == (plan.name, plan.price_cents)


class TestKeeping:
    def test_the_provider_is_asked_once_an_hour(self, client, provider, servers):
        for path in ("products", "products/prod_1", "prices", "prices/price_once"):
            client.get(f"/stripe/{path}")

        assert provider.times == 1
        with Redis.from_url(servers.redis_url) as redis:
            assert 3500 < redis.ttl("stripe:products:0") <= 3600

    def test_what_is_kept_says_the_same(self, client, provider):
        fresh = client.get("/stripe/products").json

        assert client.get("/stripe/products").json == fresh

    def test_a_change_is_seen_once_it_is_dropped(self, client, provider):
        client.get("/stripe/products")
        provider.found = SOLD[1:]
        assert ids(client.get("/stripe/products")) == ["prod_1", "prod_2"]

        products.drop_cache()

        assert ids(client.get("/stripe/products")) == ["prod_2"]

    def test_an_answer_from_before_the_change_is_not_kept_after_it(self, client, provider, monkeypatch):
        def changes_meanwhile() -> list[ProductFacts]:
            products.drop_cache()
            monkeypatch.undo()
            return list(SOLD)

        monkeypatch.setattr(
            products, "payments", lambda: type("Slow", (), {"products": staticmethod(changes_meanwhile)})
        )

        assert len(products.every()) == 3
        provider_asked = []
        monkeypatch.setattr(
            products,
            "payments",
            lambda: type("Now", (), {"products": staticmethod(lambda: provider_asked.append(1) or list(SOLD[1:]))}),
        )
        assert [each.id for each in products.every()] == ["prod_2", "prod_3"]
        assert provider_asked == [1]

    def test_what_another_code_wrote_is_read_afresh(self, client, provider, servers):
        with Redis.from_url(servers.redis_url) as redis:
            for kept in ("no json", "[1]", '[{"id": "prod_1"}]', '[{"prices": [], "colour": "red"}]'):
                redis.set("stripe:products:0", kept)
                assert ids(client.get("/stripe/products")) == ["prod_1", "prod_2"]

    @pytest.mark.usefixtures("redis_away")
    def test_without_redis_the_provider_is_asked(self, client, provider):
        assert ids(client.get("/stripe/products")) == ids(client.get("/stripe/products"))

        assert provider.times == 2
        products.drop_cache()


class TestTrouble:
    def test_a_provider_that_fails_is_a_502_in_the_envelope(self, client, till, plan):
        misbehave(till.store, Fault.API_DOWN)

        for path in ("products", "products/prod_1", "prices", "prices/price_once"):
            answer = client.get(f"/stripe/{path}")
            assert (answer.status_code, answer.json["error"]["code"]) == (502, "STRIPE_ERROR")
            assert "Cache-Control" not in answer.headers
            assert answer.headers["Retry-After"] == "60"

    def test_what_is_kept_outlives_the_trouble(self, client, till, plan):
        before = client.get("/stripe/products").json
        misbehave(till.store, Fault.API_DOWN)

        assert client.get("/stripe/products").json == before
