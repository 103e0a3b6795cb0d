"""What the simulated Stripe sells and to whom: products, prices and customers, and the set-up of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sts_app.billing import live_facts as facts
from sts_app.billing import simulated_billing_objects as objects
from sts_app.billing.gateway import (
    CheckoutRequest,
    CustomerRequest,
    EndpointFacts,
    NoSuchCustomer,
    PortalFacts,
    PriceFacts,
    ProductFacts,
    Refused,
)
from sts_app.billing.live_client import API_VERSION
from sts_app.billing.simulated_ground import Ground
from sts_app.billing.simulated_post import stamp
from sts_app.core.store import Record


@dataclass(frozen=True)
class OnShelf:
    """A price that the store names. Cents; `interval` is empty for what is paid once."""

    price_id: str
    name: str
    amount_cents: int
    currency: str = "usd"
    interval: str = ""
    description: str = ""


def nothing() -> Iterable[OnShelf]:
    """The shelf of a store that names no price."""
    return ()


class Shelf(Ground):
    """Customers, products and prices. `shelf` tells what the store's plans name, so that it exists here."""

    def __init__(self, *args: Any, shelf: Callable[[], Iterable[OnShelf]] = nothing, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shelf = shelf

    # Customers.

    def create_customer(self, request: CustomerRequest, *, key: str) -> str:
        """Make the customer known; the same key and request return the same one."""
        with self._deed("create_customer"):
            wanted = [request.ref, request.email, request.name]
            customer_id = f"cus_{self._claim('create_customer', key, wanted)}"
            record = {"ref": request.ref, "email": request.email, "name": request.name, "created": stamp()}
            if self.store.add("customer", customer_id, record):
                self._tell_customer("created", customer_id)
            return customer_id

    def find_customer(self, request: CustomerRequest) -> str | None:
        """The customer that was made with this `ref`, if any is left. Stripe is asked by the e-mail address as well."""
        self._answer("find_customer")
        for customer in self.customers():
            if (customer["ref"], customer["email"], customer["gone"]) == (request.ref, request.email, False):
                return str(customer["id"])
        return None

    def update_customer(self, customer_id: str, email: str) -> None:
        """Let the customer have this e-mail address. Raises `NoSuchCustomer` for an unknown one."""
        with self._deed("update_customer"):
            if self._known_customer("update_customer", customer_id)["email"] != email:
                self.change_customer(customer_id, email=email)

    def change_customer(self, customer_id: str, *, email: str) -> None:
        """Another e-mail address for a customer, as in the dashboard. Raises `Refused` for an unknown one."""
        self._known_customer("change_customer", customer_id)
        self._append(customer_id, lambda acts: {"act": "changed", "email": email})
        self._tell_customer("updated", customer_id)

    def customers(self) -> list[Record]:
        """Every customer, oldest first: id, email, name, ref, and whether it is `gone`."""
        return [self._customer(customer_id) for customer_id, _ in self.store.all("customer")]

    def _customer(self, customer_id: str) -> Record:
        record = self.store.get("customer", customer_id)
        if record is None:
            return {"gone": True}
        known: Record = {"id": customer_id, "gone": False} | record
        known["emails"] = [record["email"]]
        for act in self._acts(customer_id):
            if act["act"] == "deleted":
                known["gone"] = True
            else:
                known["email"] = act["email"]
                known["emails"].append(act["email"])
        return known

    def _known_customer(self, op: str, customer_id: str) -> Record:
        known = self._customer(customer_id)
        if known["gone"]:
            raise NoSuchCustomer(f"{op}: resource_missing customer")
        return known

    def _tell_customer(self, what: str, customer_id: str) -> None:
        self._announce((f"customer.{what}", objects.customer_of(self._customer(customer_id))))

    # Products and prices.

    def products(self) -> list[ProductFacts]:
        """Every product with its prices: what the store names, and what was made here."""
        self._answer("products")
        return self.shelf()

    def shelf(self) -> list[ProductFacts]:
        """The same for the desk, however bad the day is."""
        prices = self._prices()
        found = []
        for product in self._products().values():
            own = [objects.price_of(price) for price in prices.values() if price["product"] == product["id"]]
            found.append(facts.product_of(objects.product_of(product), own))
        return found

    def stock(self, price_id: str, *, name: str, amount_cents: int, currency: str = "usd", interval: str = "") -> None:
        """Put a product with one price there under a given id."""
        at, product_id = stamp(), f"prod_{price_id}"
        self.store.add("product", product_id, {"name": name, "description": "", "created": at})
        price = {"product": product_id, "amount": amount_cents, "currency": currency, "interval": interval}
        self.store.add("price", price_id, price | {"created": at})

    def change_price(self, price_id: str, amount_cents: int) -> None:
        """Another amount under the same id. Stripe's prices never change: it stands for a mistaken set-up."""
        self._append(f"price {price_id}", lambda acts: {"act": "changed", "amount": amount_cents})
        price = self._price(price_id)
        product = self._products().get(price["product"])
        events = [("price.updated", objects.price_of(price))]
        if product is not None:
            events.append(("product.updated", objects.product_of(product)))
        self._announce(*events)

    def _price(self, price_id: str, asked: Record | None = None) -> Record:
        """A price as it is known; one that is not, as it was `asked` for (amount, currency, interval)."""
        known = self._prices().get(price_id)
        if known is not None:
            return known
        plain = {"amount": 0, "currency": "usd", "interval": ""} | (asked or {})
        return self._changed({"id": price_id, "product": f"prod_{price_id}", "created": stamp()} | plain)

    def _prices(self) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for offer in self._only_named():
            found[offer.price_id] = {
                "id": offer.price_id,
                "product": f"prod_{offer.price_id}",
                "amount": offer.amount_cents,
                "currency": offer.currency,
                "interval": offer.interval,
                "created": stamp(),
            }
        for price_id, record in self.store.all("price"):
            found[price_id] = {"id": price_id} | record
        return {price_id: self._changed(record) for price_id, record in found.items()}

    def _only_named(self) -> list[OnShelf]:
        """What the store names without having made it here. What was made has a product of its own."""
        made = {price_id for price_id, _ in self.store.all("price")}
        return [offer for offer in self._shelf() if offer.price_id not in made]

    def _changed(self, price: Record) -> Record:
        acts = self._acts(f"price {price['id']}")
        named = price.get("lookup_key", "")
        holder = self.store.get("lookup", named) if named else None
        is_holder = holder is not None and holder["price"] == price["id"]
        amount = acts[-1]["amount"] if acts else price["amount"]
        return price | {"amount": amount, "active": True, "lookup_key": named if is_holder else ""}

    def _products(self) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for offer in self._only_named():
            product_id = f"prod_{offer.price_id}"
            found[product_id] = {"name": offer.name, "description": offer.description, "created": stamp()}
        found |= dict(self.store.all("product"))
        prices = self._prices().values()
        defaults = {price["product"]: price["id"] for price in reversed(list(prices))}
        return {key: {"id": key, "default_price": defaults.get(key)} | record for key, record in found.items()}

    def _check_price(self, request: CheckoutRequest) -> None:
        """Refuse a price that is another here than in the store, as far as it was set up here."""
        made = {price_id for price_id, _ in self.store.all("price")}
        if request.price_id not in made and not self._acts(f"price {request.price_id}"):
            if made and request.price_id not in self._prices():
                raise Refused("open_checkout: resource_missing line_items[0][price]")
            return
        price = self._price(request.price_id, {"amount": request.amount_cents, "currency": request.currency.lower()})
        if request.price_id in made and bool(price["interval"]) != (request.mode == "subscription"):
            raise Refused("open_checkout: parameter_invalid mode")
        if (price["amount"], price["currency"]) != (request.amount_cents, request.currency.lower()):
            raise Refused(
                f"open_checkout: {request.price_id} costs {price['amount']} {price['currency']} at Stripe"
                f" and {request.amount_cents} {request.currency} in the store"
            )

    # The set-up of a store.

    def find_price(self, lookup_key: str) -> PriceFacts | None:
        """The active price under this key."""
        self._answer("find_price")
        holder = self.store.get("lookup", lookup_key)
        return facts.price_of(objects.price_of(self._price(str(holder["price"])))) if holder else None

    def create_product(self, *, name: str, description: str, key: str) -> str:
        """Make a product. Returns its id; the same key returns the same one."""
        with self._deed("create_product"):
            product_id = f"prod_{self._claim('create_product', key, [name, description])}"
            record = {"name": name, "description": description, "created": stamp()}
            if self.store.add("product", product_id, record):
                self._announce(("product.created", objects.product_of(self._products()[product_id])))
            return product_id

    def create_price(
        self, *, product_id: str, amount_cents: int, currency: str, interval: str, lookup_key: str, key: str
    ) -> PriceFacts:
        """Make a price and let `lookup_key` name it, whatever it named before."""
        with self._deed("create_price"):
            asked = [product_id, amount_cents, currency, interval, lookup_key]
            price_id = f"price_{self._claim('create_price', key, asked)}"
            product = self._products().get(product_id)
            if product is None:
                raise Refused("create_price: resource_missing product")
            # One that the store only named stays, whatever price the store names from now on.
            named = {name: product[name] for name in ("name", "description", "created")}
            self.store.add("product", product_id, named)
            record = {"product": product_id, "amount": amount_cents, "currency": currency.lower()}
            record |= {"interval": interval, "lookup_key": lookup_key, "created": stamp()}
            is_new = self.store.add("price", price_id, record)
            if is_new:
                self.store.put("lookup", lookup_key, {"price": price_id})
                self._announce(("price.created", objects.price_of(self._price(price_id))))
            return facts.price_of(objects.price_of(self._price(price_id)))

    def endpoints(self) -> list[EndpointFacts]:
        """Where the store asked to be rung. The simulator rings the webhook of its own store in any case."""
        self._answer("endpoints")
        return [self._endpoint(endpoint_id) for endpoint_id, _ in self.store.all("endpoint")]

    def create_endpoint(self, *, url: str, types: frozenset[str], key: str) -> EndpointFacts:
        """Make the endpoint. Its secret is shown this once."""
        with self._deed("create_endpoint"):
            token = self._claim("create_endpoint", key, [url, sorted(types)])
            self.store.add("endpoint", f"we_{token}", {"url": url, "types": sorted(types)})
            return self._endpoint(f"we_{token}", secret=self._webhook_secrets[0])

    def update_endpoint(self, endpoint_id: str, *, types: frozenset[str]) -> EndpointFacts:
        """Let an endpoint be rung for these types."""
        with self._deed("update_endpoint"):
            known = self.store.get("endpoint", endpoint_id)
            if known is None:
                raise Refused("update_endpoint: resource_missing")
            self.store.put("endpoint", endpoint_id, known | {"types": sorted(types)})
            return self._endpoint(endpoint_id)

    def portals(self) -> list[PortalFacts]:
        """What the store has set up. The simulator's own page of a customer is there in any case."""
        self._answer("portals")
        return [self._portal(portal_id) for portal_id, _ in self.store.all("portal-setup")]

    def create_portal(self, *, terms_url: str, privacy_url: str, key: str) -> PortalFacts:
        """Set the customer's page up; the same key returns the same set-up."""
        with self._deed("create_portal"):
            token = self._claim("create_portal", key, [terms_url, privacy_url])
            record = {"terms": terms_url, "privacy": privacy_url, "created": stamp()}
            self.store.add("portal-setup", f"bpc_{token}", record)
            return self._portal(f"bpc_{token}")

    def update_portal(self, portal_id: str) -> PortalFacts:
        """Let a set-up fit, as every one does here."""
        with self._deed("update_portal"):
            return self._portal(portal_id)

    def takes_payments(self) -> bool:
        """Nobody has to activate this account."""
        self._answer("takes_payments")
        return True

    def _portal(self, portal_id: str) -> PortalFacts:
        record = self.store.get("portal-setup", portal_id)
        if record is None:
            raise Refused("update_portal: resource_missing")
        return facts.portal_of(objects.portal_configuration_of({"id": portal_id} | record))

    def _endpoint(self, endpoint_id: str, *, secret: str | None = None) -> EndpointFacts:
        record = self.store.get("endpoint", endpoint_id) or {}
        thing = {"id": endpoint_id, "url": record["url"], "enabled_events": record["types"], "status": "enabled"}
        return facts.endpoint_of(thing | {"api_version": API_VERSION, "secret": secret})
