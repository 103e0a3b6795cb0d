"""What `sts stripe-setup` asks of Stripe: product, price, webhook endpoint and customer portal, found or made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sts_app.billing.gateway import EndpointFacts, PortalFacts, PriceFacts, TryLater
from sts_app.billing.live_client import API_VERSION, PAGE, StripeCalls
from sts_app.billing.live_facts import OUR_PORTAL, endpoint_of, portal_of, price_of, rows_of, text

if TYPE_CHECKING:
    from stripe.params import PriceCreateParams, ProductCreateParams

# A plan is switched by buying the other one: the store sells each on its own page, with its own words.
PORTAL_FEATURES: Any = {
    "customer_update": {"enabled": False},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": True, "mode": "at_period_end"},
    "subscription_update": {"enabled": False},
}


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

    def portals(self) -> list[PortalFacts]:
        """Every active configuration of the customer portal."""
        found = self._each(
            "portals", lambda: self._client.v1.billing_portal.configurations.list({"active": True, "limit": PAGE})
        )
        return [portal_of(configuration) for configuration in found]

    def create_portal(self, *, terms_url: str, privacy_url: str, key: str) -> PortalFacts:
        """Make a configuration for the store, which is not the account's default."""
        return portal_of(
            self._call(
                "create_portal",
                lambda: self._client.v1.billing_portal.configurations.create(
                    {
                        "business_profile": {"terms_of_service_url": terms_url, "privacy_policy_url": privacy_url},
                        "features": PORTAL_FEATURES,
                        "metadata": OUR_PORTAL,
                    },
                    {"idempotency_key": key},
                ),
            )
        )

    def update_portal(self, portal_id: str) -> PortalFacts:
        """Put the features of the store's configuration right."""
        return portal_of(
            self._call(
                "update_portal",
                lambda: self._client.v1.billing_portal.configurations.update(portal_id, {"features": PORTAL_FEATURES}),
            )
        )

    def takes_payments(self) -> bool:
        """Whether Stripe has activated the account."""
        account = self._call("takes_payments", self._client.v1.accounts.retrieve_current)
        if text(account.get("id")) is None:
            raise TryLater("takes_payments: the answer is no account")
        return account.get("charges_enabled") is True


def _listed(types: frozenset[str]) -> Any:
    # The package knows the types by name; which of them are rung for is the store's own list.
    return cast(Any, sorted(types))
