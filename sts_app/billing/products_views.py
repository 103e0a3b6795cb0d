"""Products and prices as JSON, for machines: the provider's own list, at most an hour old."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sts_app.billing import products
from sts_app.billing.gateway import PriceFacts, ProductFacts
from sts_app.billing.products import PriceOf
from sts_app.core.errors import NotThere, Refusal
from sts_app.core.security import limiter

bp = Blueprint("products", __name__, url_prefix="/stripe")

FRESH_SECONDS = 300
MOST, USUAL = 100, 10


class CannotRead(Refusal):
    code = "VALIDATION_ERROR"


class NoProductId(Refusal):
    code = "INVALID_PRODUCT_ID"
    sentence = "The id of a product begins with prod_."


class NoPriceId(Refusal):
    code = "INVALID_PRICE_ID"
    sentence = "The id of a price begins with price_."


@bp.get("/products")
@limiter.limit("60 per minute")
def all_products() -> Response:
    """The products that are sold; `active=false` lists the others."""
    found = products.listed(active=_active(), limit=_limit())
    return _answer([_product(each) for each in found])


@bp.get("/products/<product_id>")
@limiter.limit("60 per minute")
def one_product(product_id: str) -> Response:
    """One product with its prices."""
    try:
        return _answer(_product(products.product(product_id)))
    except NotThere:
        # An id may have been chosen by its owner, so that its looks matter only when there is none.
        if re.fullmatch(r"prod_\w+", product_id, re.ASCII) is None:
            raise NoProductId from None
        raise


@bp.get("/prices")
@limiter.limit("60 per minute")
def all_prices() -> Response:
    """The prices that are asked; `product` narrows them to one product's, `active=false` lists the others."""
    found = products.prices(active=_active(), limit=_limit(), product_id=request.args.get("product"))
    return _answer([_price(each.product_id, each.price) for each in found])


@bp.get("/prices/<price_id>")
@limiter.limit("60 per minute")
def one_price(price_id: str) -> Response:
    """One price."""
    try:
        found: PriceOf = products.price(price_id)
    except NotThere:
        if re.fullmatch(r"price_\w+", price_id, re.ASCII) is None:
            raise NoPriceId from None
        raise
    return _answer(_price(found.product_id, found.price))


def _active() -> bool:
    given = request.args.get("active", "true")
    if given not in ("true", "false"):
        raise CannotRead("`active` is true or false.")
    return given == "true"


def _limit() -> int:
    given = request.args.get("limit", str(USUAL))
    if re.fullmatch(r"[0-9]{1,3}", given, re.ASCII) is None or not 1 <= int(given) <= MOST:
        raise CannotRead(f"`limit` is a number from 1 to {MOST}.")
    return int(given)


def _answer(data: dict[str, Any] | list[dict[str, Any]]) -> Response:
    body: dict[str, Any] = {"data": data}
    if isinstance(data, list):
        body["count"] = len(data)
    response = jsonify(body)
    response.headers["Cache-Control"] = f"public, max-age={FRESH_SECONDS}"
    return response


def _product(product: ProductFacts) -> dict[str, Any]:
    its = [_price(product.id, price) for price in product.prices]
    return {
        "id": product.id,
        "name": product.name,
        "description": product.description,
        "active": product.active,
        "default_price": its[0] if its else None,
        "prices": its,
    }


def _price(product_id: str, price: PriceFacts) -> dict[str, Any]:
    return {
        "id": price.id,
        "product": product_id,
        "active": price.active,
        "unit_amount": price.amount_cents,
        "currency": price.currency,
        "type": "recurring" if price.interval else "one_time",
        "recurring": {"interval": price.interval} if price.interval else None,
    }
