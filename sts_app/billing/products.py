"""The provider's products and prices, kept in Redis for an hour.

The list is kept under a number that grows whenever the provider tells of a change. Whoever asked the
provider before the change stores its answer under the old number, where nobody looks any more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import structlog
from redis.exceptions import RedisError

from sts_app.billing.gateway import PaymentsError, PriceFacts, ProductFacts
from sts_app.billing.services import payments
from sts_app.core.errors import NotThere, Refusal
from sts_app.core.queue import redis_connection

log = structlog.get_logger()

KEPT_FOR = timedelta(hours=1)
NUMBER = "stripe:products:number"


class ProviderFailed(Refusal):
    status = 502
    code = "STRIPE_ERROR"
    sentence = "The list of products cannot be read at this moment. Please try again in a minute."


@dataclass(frozen=True)
class PriceOf:
    """A price and the product it is of."""

    product_id: str
    price: PriceFacts


def every() -> Sequence[ProductFacts]:
    """Every product at the provider with its prices, at most an hour old. Raises `ProviderFailed`.

    Without Redis the provider is asked each time.
    """
    number = _number()
    kept = _kept(number) if number is not None else None
    if kept is not None:
        return kept
    try:
        found = payments().products()
    except PaymentsError as trouble:
        raise ProviderFailed(cause=trouble.reason, retry_after=60) from None
    if number is not None:
        _keep(number, found)
    return found


def listed(*, active: bool, limit: int) -> Sequence[ProductFacts]:
    """At most `limit` products that are sold, or with `active` False that are not. Raises `ProviderFailed`."""
    return [product for product in every() if product.active == active][:limit]


def product(product_id: str) -> ProductFacts:
    """One product, sold or not. Raises `NotThere` and `ProviderFailed`."""
    found = next((product for product in every() if product.id == product_id), None)
    if found is None:
        raise NotThere("Stripe has no product with this id.")
    return found


def prices(*, active: bool, limit: int, product_id: str | None = None) -> Sequence[PriceOf]:
    """At most `limit` prices, of one product or of all. Raises `ProviderFailed`."""
    found = [each for each in _all_prices() if each.price.active == active]
    return [each for each in found if product_id in (None, each.product_id)][:limit]


def price(price_id: str) -> PriceOf:
    """One price, active or not. Raises `NotThere` and `ProviderFailed`."""
    found = next((each for each in _all_prices() if each.price.id == price_id), None)
    if found is None:
        raise NotThere("Stripe has no price with this id.")
    return found


def drop_cache() -> None:
    """Have the next reader ask the provider. Never raises: what Redis did not hear of is forgotten in an hour."""
    try:
        redis_connection().incr(NUMBER)
    except RedisError as error:
        log.warning("billing.products_not_dropped", error=type(error).__name__)


def _all_prices() -> list[PriceOf]:
    return [PriceOf(product.id, price) for product in every() for price in product.prices]


def _number() -> int | None:
    """The number under which the present list is kept; None when Redis does not answer."""
    try:
        return int(redis_connection().get(NUMBER) or 0)
    except (RedisError, ValueError) as error:
        log.warning("billing.products_without_redis", error=type(error).__name__)
        return None


def _kept(number: int) -> list[ProductFacts] | None:
    try:
        kept = redis_connection().get(_key(number))
    except RedisError as error:
        log.warning("billing.products_without_redis", error=type(error).__name__)
        return None
    if kept is None:
        return None
    try:
        return [_product(each) for each in json.loads(kept)]
    except (ValueError, TypeError, KeyError):
        # Written by code older or newer than this.
        return None


def _keep(number: int, products: Sequence[ProductFacts]) -> None:
    try:
        redis_connection().set(_key(number), json.dumps([asdict(each) for each in products]), ex=KEPT_FOR)
    except RedisError as error:
        log.warning("billing.products_without_redis", error=type(error).__name__)


def _key(number: int) -> str:
    return f"stripe:products:{number}"


def _product(kept: dict[str, Any]) -> ProductFacts:
    return ProductFacts(**kept | {"prices": tuple(PriceFacts(**each) for each in kept["prices"])})
