"""The provider's side of the store: products, prices, webhook endpoint, customer's page: found, made or put right.

A driver for the doors: it opens its own transactions, and none while the provider is asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast

from flask import current_app

from sts_app.billing.event_types import HANDLED_TYPES
from sts_app.billing.gateway import (
    EndpointFacts,
    Payments,
    PaymentsError,
    PortalFacts,
    PriceFacts,
    ProductFacts,
    StoreSetup,
)
from sts_app.billing.live_client import API_VERSION
from sts_app.billing.services import payments
from sts_app.catalog import queries as catalog
from sts_app.catalog import services as catalog_services
from sts_app.catalog.models import Plan
from sts_app.core import tokens
from sts_app.core.db import transaction
from sts_app.core.errors import FixInput
from sts_app.core.money import as_money
from sts_app.core.web import address_of
from sts_app.settings import PLACEHOLDER_PRICE, Settings

Made = TypeVar("Made")
Deed = Literal["found", "made", "changed", "would make", "would change", "left"]

PATIENCE = (3.0, 10.0)
MEND = "run `sts stripe-setup`."
NOT_ACTIVATED = "Stripe does not let this account take payments: finish its activation in Stripe's dashboard."


@dataclass(frozen=True)
class Line:
    """One thing and what became of it. `secret` is that of an endpoint that was made, told once and kept nowhere."""

    deed: Deed
    thing: Literal["product", "price", "plan", "endpoint", "portal"]
    id: str | None
    words: str
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Offer:
    """A plan as it is to be sold at the provider. Cents; `interval` is empty for what is paid once."""

    plan: str
    name: str
    amount: int
    currency: str
    interval: str
    price_id: str | None

    @property
    def lookup_key(self) -> str:
        return f"{self.plan}-{self.amount}-{self.currency}-{self.interval or 'once'}"

    @property
    def words(self) -> str:
        return f"{self.plan}, {as_money(self.amount, self.currency)} {_often(self.interval)}"

    def fits(self, price: PriceFacts) -> bool:
        """Whether a price is active and costs what the page shows."""
        told = (price.amount_cents, price.currency.lower(), price.interval)
        return price.active and told == (self.amount, self.currency.lower(), self.interval)


@dataclass(frozen=True)
class AtStripe:
    """What the doctor asks for: trouble in sentences, each with what to do, and nothing where all is well.

    `plans` is how many were compared with their price. `account_unknown` is what the provider answers instead to
    whether the account takes payments.
    """

    plans: int
    prices: tuple[str, ...]
    endpoint: str | None
    url: str
    portal: str | None
    account: str | None
    account_unknown: str | None


@contextmanager
def gateways(timeout: tuple[float, float] = PATIENCE) -> Iterator[tuple[StoreSetup, Payments]]:
    """The chosen adapter's two sides. `timeout`: seconds to connect, seconds to answer."""
    settings = _settings()
    if settings.payments_vendor == "simulated":
        yield cast(StoreSetup, payments()), payments()
        return
    from sts_app.billing.live import StripePayments
    from sts_app.billing.live_setup import StripeSetup

    key, base = settings.stripe_secret_key, settings.stripe_api_base
    assert key is not None, "the settings refuse live payments without a key"
    maker = StripeSetup(key, api_base=base, timeout=timeout)
    reader = StripePayments(key, webhook_secrets=(), api_base=base, timeout=timeout)
    try:
        yield maker, reader
    finally:
        maker.close()
        reader.close()


def has_live_key() -> bool:
    """Whether what is done at the provider is done with real money."""
    key = _settings().stripe_secret_key
    return key is not None and "_live_" in key.get_secret_value()


def run(setup: StoreSetup, gateway: Payments, *, dry_run: bool, actor: str) -> Iterator[Line]:
    """Find or make product and price of every plan, the endpoint, the customer's page. A second run changes nothing.

    Each line is told when it is so. A dry run makes nothing. Raises `FixInput` without an address that
    Stripe can ring, and what the provider raises; what was made until then is found by the next run.
    """
    with transaction():
        offers = [_offer(plan) for plan in catalog.all_plans()]
    products = gateway.products()
    for offer in offers:
        yield from _price_of(setup, gateway, products, offer, dry_run=dry_run, actor=actor)
    yield from _endpoint(setup, dry_run=dry_run)
    yield from _portal(setup, dry_run=dry_run)


def at_stripe(setup: StoreSetup, gateway: Payments) -> AtStripe:
    """Whether plans on sale cost at the provider what their page shows, and whether what it has to do is set up.

    Changes nothing. Plans that name no price of Stripe's are left out. Raises what the provider raises, but for the
    account: a restricted key may do all that the store needs without the right to read it.
    """
    with transaction():
        offers = [_offer(plan) for plan in catalog.plans_on_sale()]
    prices = _prices(gateway.products())
    url = _url()
    named = [offer for offer in offers if offer.price_id not in (None, PLACEHOLDER_PRICE)]
    takes_payments, account_unknown = True, None
    try:
        takes_payments = setup.takes_payments()
    except PaymentsError as trouble:
        account_unknown = trouble.reason
    return AtStripe(
        plans=len(named),
        prices=tuple(filter(None, (_price_trouble(offer, prices.get(offer.price_id or "")) for offer in named))),
        endpoint=_endpoint_trouble(_best(_ours(setup.endpoints(), url)), url),
        url=url,
        portal=_portal_trouble(_used(setup.portals())),
        account=None if takes_payments else NOT_ACTIVATED,
        account_unknown=account_unknown,
    )


def _offer(plan: Plan) -> Offer:
    return Offer(plan.slug, plan.name, plan.price_cents, plan.currency, plan.interval, plan.stripe_price_id)


def _price_of(
    setup: StoreSetup,
    gateway: Payments,
    products: Sequence[ProductFacts],
    offer: Offer,
    *,
    dry_run: bool,
    actor: str,
) -> Iterator[Line]:
    price = _prices(products).get(offer.price_id or "")
    if price is None or not offer.fits(price):
        price = setup.find_price(offer.lookup_key)
    if price is not None and offer.fits(price):
        yield Line("found", "price", price.id, offer.words)
    else:
        product_id = _product_id(products, offer)
        if product_id is not None:
            yield Line("found", "product", product_id, offer.name)
        if dry_run:
            if product_id is None:
                yield Line("would make", "product", None, offer.name)
            yield Line("would make", "price", None, offer.words)
            return
        if product_id is None:
            product_id = _make_product(setup, gateway, offer)
            yield Line("made", "product", product_id, offer.name)
        price = _make_price(setup, product_id, offer)
        yield Line("made", "price", price.id, offer.words)
    if price.id == offer.price_id:
        return
    if not dry_run:
        with transaction():
            catalog_services.change_plan(catalog.plan_named(offer.plan), stripe_price_id=price.id, actor=actor)
    before = f"before at {offer.price_id}" if offer.price_id else "before at no price of Stripe's"
    yield Line("would change" if dry_run else "changed", "plan", offer.plan, f"sold at {price.id}, {before}")


def _product_id(products: Iterable[ProductFacts], offer: Offer) -> str | None:
    """The product that the plan's price belonged to until now, or one that was made and got no price yet."""
    active = [product for product in products if product.active]
    for product in active:
        if any(price.id == offer.price_id for price in product.prices):
            return product.id
    return next((product.id for product in active if product.name == offer.name), None)


def _make_product(setup: StoreSetup, gateway: Payments, offer: Offer) -> str:
    description = f"Access to TradingView strategies of {_settings().app_name}"
    return _make(
        lambda key: setup.create_product(name=offer.name, description=description, key=key),
        lambda made: any(product.id == made and product.active for product in gateway.products()),
        key=_key("product", offer.plan, offer.name, description),
    )


def _make_price(setup: StoreSetup, product_id: str, offer: Offer) -> PriceFacts:
    def stands(made: PriceFacts) -> bool:
        found = setup.find_price(offer.lookup_key)
        return found is not None and found.id == made.id

    return _make(
        lambda key: setup.create_price(
            product_id=product_id,
            amount_cents=offer.amount,
            currency=offer.currency,
            interval=offer.interval,
            lookup_key=offer.lookup_key,
            key=key,
        ),
        stands,
        key=_key("price", product_id, offer.lookup_key),
    )


def _make(make: Callable[[str], Made], stands: Callable[[Made], bool], *, key: str) -> Made:
    """Make a thing once, however often it is asked for.

    The provider repeats its answer for a day, even when what was made has been removed since.
    """
    made = make(key)
    return made if stands(made) else make(f"{key}-{tokens.new_secret()[:12]}")


def _key(*parts: str) -> str:
    return "setup-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _endpoint(setup: StoreSetup, *, dry_run: bool) -> Iterator[Line]:
    url = _url()
    if _settings().payments_vendor == "live" and not _settings().app_url:
        raise FixInput("APP_URL is not set, so there is no address that Stripe could ring.")
    ours = _ours(setup.endpoints(), url)
    best = _best(ours)
    if best is None or best.api_version != API_VERSION:
        # An endpoint keeps the version it was made with.
        if dry_run:
            yield Line("would make", "endpoint", None, f"{url}, {len(HANDLED_TYPES)} types, version {API_VERSION}")
        else:
            made = _make_endpoint(setup, url)
            words = f"{url}, {len(HANDLED_TYPES)} types, version {API_VERSION}"
            yield Line("made", "endpoint", made.id, words, made.secret)
    elif best.types == HANDLED_TYPES and best.enabled:
        yield Line("found", "endpoint", best.id, url)
    else:
        if not dry_run:
            setup.update_endpoint(best.id, types=HANDLED_TYPES)
        added, dropped = len(HANDLED_TYPES - best.types), len(best.types - HANDLED_TYPES)
        how = f"{added} types added, {dropped} dropped" + ("" if best.enabled else ", switched on again")
        yield Line("would change" if dry_run else "changed", "endpoint", best.id, f"{url}, {how}")
    for other in ours:
        if other is not best or other.api_version != API_VERSION:
            yield Line(
                "left",
                "endpoint",
                other.id,
                f"rings the same address with version {other.api_version or 'of the account'}: delete it at Stripe "
                "once the secret of the other one is in STRIPE_WEBHOOK_SECRET",
            )


def _make_endpoint(setup: StoreSetup, url: str) -> EndpointFacts:
    return _make(
        lambda key: setup.create_endpoint(url=url, types=HANDLED_TYPES, key=key),
        lambda made: any(endpoint.id == made.id for endpoint in setup.endpoints()),
        key=_key("endpoint", url, API_VERSION, *sorted(HANDLED_TYPES)),
    )


def _portal(setup: StoreSetup, *, dry_run: bool) -> Iterator[Line]:
    """What customers may do on the provider's page about themselves: the store's own set-up, or a default that fits."""
    used = _used(setup.portals())
    words = "invoices, card, end of a subscription"
    if used is not None and used.fits:
        yield Line("found", "portal", used.id, words)
    elif used is not None and used.is_ours:
        if not dry_run:
            setup.update_portal(used.id)
        yield Line("would change" if dry_run else "changed", "portal", used.id, words)
    elif dry_run:
        yield Line("would make", "portal", None, words)
    else:
        yield Line("made", "portal", _make_portal(setup).id, words)


def _make_portal(setup: StoreSetup) -> PortalFacts:
    terms, privacy = address_of("pages.terms"), address_of("pages.privacy")
    return _make(
        lambda key: setup.create_portal(terms_url=terms, privacy_url=privacy, key=key),
        lambda made: any(portal.id == made.id for portal in setup.portals()),
        key=_key("portal", terms, privacy),
    )


def _used(portals: Iterable[PortalFacts]) -> PortalFacts | None:
    """The one that customers see: the store's own, or else the default of the account."""
    known = [portal for portal in portals if portal.is_ours or portal.is_default]
    return min(known, key=lambda portal: not portal.is_ours, default=None)


def _portal_trouble(portal: PortalFacts | None) -> str | None:
    if portal is None:
        return f"Stripe has no page for customers to see invoices and end subscriptions: {MEND}"
    if not portal.fits:
        return f"The page {portal.id} of Stripe's lets customers do something else than the store says: {MEND}"
    return None


def _ours(endpoints: Iterable[EndpointFacts], url: str) -> list[EndpointFacts]:
    return [endpoint for endpoint in endpoints if endpoint.url == url]


def _best(endpoints: Iterable[EndpointFacts]) -> EndpointFacts | None:
    """The endpoint that is nearest to what is wanted."""
    order = sorted(
        endpoints, key=lambda each: (each.api_version != API_VERSION, each.types != HANDLED_TYPES, not each.enabled)
    )
    return order[0] if order else None


def _endpoint_trouble(endpoint: EndpointFacts | None, url: str) -> str | None:
    if endpoint is None:
        return f"Stripe does not ring {url}: {MEND}"
    if not endpoint.enabled:
        return f"The endpoint {endpoint.id} at Stripe is switched off: {MEND}"
    if endpoint.api_version != API_VERSION:
        said = endpoint.api_version or "the account's version"
        return f"The endpoint {endpoint.id} speaks {said}, this code reads {API_VERSION}: {MEND}"
    if lacking := sorted(HANDLED_TYPES - endpoint.types) if "*" not in endpoint.types else []:
        return f"The endpoint {endpoint.id} does not tell of {', '.join(lacking)}: {MEND}"
    return None


def _price_trouble(offer: Offer, price: PriceFacts | None) -> str | None:
    if price is None:
        return f"The plan {offer.plan} is sold at {offer.price_id}, which Stripe does not know: {MEND}"
    if offer.fits(price):
        return None
    if not price.active:
        return f"The plan {offer.plan} is sold at {price.id}, which is not active at Stripe: {MEND}"
    costs = "an open amount" if price.amount_cents is None else as_money(price.amount_cents, price.currency)
    shown = f"{as_money(offer.amount, offer.currency)} {_often(offer.interval)}"
    return f"The plan {offer.plan} shows {shown} and costs {costs} {_often(price.interval)} at Stripe: {MEND}"


def _prices(products: Iterable[ProductFacts]) -> dict[str, PriceFacts]:
    return {price.id: price for product in products for price in product.prices}


def _often(interval: str) -> str:
    return f"a {interval}" if interval else "once"


def _url() -> str:
    return address_of("webhooks.stripe")


def _settings() -> Settings:
    settings: Settings = current_app.config["STS"]
    return settings
