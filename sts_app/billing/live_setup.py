"""What `sts stripe-setup` asks of Stripe: product, price and webhook endpoint, found or made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sts_app.billing.gateway import EndpointFacts, PriceFacts, TryLater
from sts_app.billing.live_client import API_VERSION, PAGE, StripeCalls
from sts_app.billing.live_facts import endpoint_of, price_of, rows_of, text

if TYPE_CHECKING:
    from stripe.params import PriceCreateParams, ProductCreateParams


class StripeSetup(StripeCalls):
    """The `StoreSetup` gateway over Stripe's API; see `StripeCalls` for limits and repeats."""

    def find_price(self, lookup_key: str) -> PriceFacts | None:
        """The active price under this key."""
        page = self._call(
            "find_price",
            lambda: self._client.v1.prices.list({"lookup_keys": [lookup_key], "active": True, "limit": 1}),
        )
        found = rows_of(page)
        return price_of(found[0]) if found else None

    def create_product(self, *, name: str, description: str, key: str) -> str:
        """Make a product. Returns Stripe's id."""
        params: ProductCreateParams = {"name": name}
        if description:
            params["description"] = description
        product = self._call(
            "create_product", lambda: self._client.v1.products.create(params, {"idempotency_key": key})
        )
        product_id = text(product.get("id"))
        if product_id is None:
            raise TryLater("create_product: the answer holds no id")
        return product_id

    def create_price(
        self, *, product_id: str, amount_cents: int, currency: str, interval: str, lookup_key: str, key: str
    ) -> PriceFacts:
        """Make a price, paid once or every `interval`, and let `lookup_key` name it, whatever it named before."""
        params: PriceCreateParams = {
            "product": product_id,
            "unit_amount": amount_cents,
            "currency": currency.lower(),
            "lookup_key": lookup_key,
            "transfer_lookup_key": True,
        }
        if interval:
            params["recurring"] = {"interval": interval}
        return price_of(
            self._call("create_price", lambda: self._client.v1.prices.create(params, {"idempotency_key": key}))
        )

    def endpoints(self) -> list[EndpointFacts]:
        """Every webhook endpoint of the account."""
        found = self._each("endpoints", lambda: self._client.v1.webhook_endpoints.list({"limit": PAGE}))
        return [endpoint_of(endpoint) for endpoint in found]

    def create_endpoint(self, *, url: str, types: frozenset[str], key: str) -> EndpointFacts:
        """Make the endpoint, with the API version that this store reads. Its secret is shown this once."""
        return endpoint_of(
            self._call(
                "create_endpoint",
                lambda: self._client.v1.webhook_endpoints.create(
                    {"url": url, "enabled_events": _listed(types), "api_version": API_VERSION},
                    {"idempotency_key": key},
                ),
            )
        )

    def update_endpoint(self, endpoint_id: str, *, types: frozenset[str]) -> EndpointFacts:
        """Let the endpoint ring for `types`, and at all: Stripe switches off those that failed for days."""
        return endpoint_of(
            self._call(
                "update_endpoint",
                lambda: self._client.v1.webhook_endpoints.update(
                    endpoint_id, {"enabled_events": _listed(types), "disabled": False}
                ),
            )
        )


def _listed(types: frozenset[str]) -> Any:
    # The package knows the types by name; which of them are rung for is the store's own list.
    return cast(Any, sorted(types))
