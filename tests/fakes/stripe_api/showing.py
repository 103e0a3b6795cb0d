"""How Stripe shows what it keeps: references by id unless expanded, some lists only when asked for."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import stripe

from tests.fakes.stripe_api.params import Problem

if TYPE_CHECKING:
    from tests.fakes.stripe_api.account import Account

DEEPEST = 4
SHORT_LIST = 10  # what a list inside another object shows

RESOURCES: dict[str, type[stripe.StripeObject]] = {
    "charge": stripe.Charge,
    "checkout.session": stripe.checkout.Session,
    "customer": stripe.Customer,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
    "file": stripe.File,
    "invoice": stripe.Invoice,
    "invoice_payment": stripe.InvoicePayment,
    "payment_intent": stripe.PaymentIntent,
    "price": stripe.Price,
    "product": stripe.Product,
    "refund": stripe.Refund,
    "subscription": stripe.Subscription,
    "webhook_endpoint": stripe.WebhookEndpoint,
    "billing_portal.configuration": stripe.billing_portal.Configuration,
    "billing_portal.session": stripe.billing_portal.Session,
    "account": stripe.Account,
}


def shown(account: Account, thing: dict[str, Any], paths: Iterable[str] = ()) -> dict[str, Any]:
    """A copy of `thing` as the API answers it, with `paths` expanded as the package's types allow."""
    answer = deepcopy(thing)
    for path in paths:
        steps = path.split(".")
        _check(RESOURCES[thing["object"]], steps, path)
        _expand(account, answer, steps)
    return older(account, answer) if account.shows_older_shapes else answer


def listed(account: Account, things: list[dict[str, Any]], url: str, params: dict[str, Any]) -> dict[str, Any]:
    """One page of `things`, which come newest first."""
    size = min(int(params.get("limit", SHORT_LIST)), account.page_size)
    after = params.get("starting_after")
    if after is not None:
        ids = [thing["id"] for thing in things]
        if after not in ids:
            raise Problem(400, f"No such object: '{after}'", code="resource_missing", param="starting_after")
        things = things[ids.index(after) + 1 :]
    paths = [path.removeprefix("data.") for path in params.get("expand", []) if _fits_a_list(path)]
    return page([shown(account, thing, paths) for thing in things[:size]], url, has_more=len(things) > size)


def page(things: list[dict[str, Any]], url: str, *, has_more: bool = False) -> dict[str, Any]:
    return {"object": "list", "data": things, "has_more": has_more, "url": url}


def older(account: Account, value: Any) -> Any:
    """The same in the shapes of the versions before 2022-11-15 and 2025-03-31."""
    if isinstance(value, list):
        return [older(account, item) for item in value]
    if not isinstance(value, dict) or value.get("object") == "event":
        return value  # an event keeps the shapes it was made with
    thing = {name: older(account, item) for name, item in value.items()}
    if thing.get("object") == "subscription":
        items = thing["items"]["data"]
        for name in ("current_period_start", "current_period_end"):
            thing[name] = items[0].pop(name, None)
    if thing.get("object") == "invoice":
        details = (thing.pop("parent", None) or {}).get("subscription_details") or {}
        thing["subscription"] = details.get("subscription")
        thing["subscription_details"] = {"metadata": details.get("metadata")}
        thing.pop("payments", None)
        paid_with = account.payments_of(thing["id"])
        thing["payment_intent"] = paid_with[0]["payment"]["payment_intent"] if paid_with else None
    if thing.get("object") == "charge" and "refunds" not in thing:
        thing["refunds"] = _list_in(account, thing, "refunds")
    return thing


def _check(resource: Any, steps: list[str], path: str) -> None:
    if len(steps) > DEEPEST:
        raise Problem(400, f"You cannot expand more than 4 levels of a property ({path}).")
    is_list = expands = False
    for step in steps:
        if is_list and step == "data":
            is_list = False
            continue
        annotation = getattr(resource, "__annotations__", {}).get(step)
        options = [annotation, *typing.get_args(annotation)]
        lists = [one for one in options if typing.get_origin(one) is stripe.ListObject]
        names = [*options, *(name for one in lists for name in typing.get_args(one))]
        found = [getattr(stripe, one.__forward_arg__) for one in names if isinstance(one, typing.ForwardRef)]
        inner = [one for one in options if isinstance(one, type) and issubclass(one, stripe.StripeObject)]
        if is_list or not (found or inner):
            raise Problem(400, f"This property cannot be expanded ({path}).")
        resource, is_list, expands = (found or inner)[0], bool(lists), bool(found)
    if not expands:
        raise Problem(400, f"This property cannot be expanded ({path}).")


def _expand(account: Account, thing: Any, steps: list[str]) -> None:
    if not steps or not isinstance(thing, dict):
        return
    step, *rest = steps
    if (thing.get("object"), step) in (("charge", "refunds"), ("invoice", "payments")) and step not in thing:
        thing[step] = _list_in(account, thing, step)
    if isinstance(thing.get(step), str):
        thing[step] = deepcopy(account.find(thing[step]))
    found = thing.get(step)
    for one in found if isinstance(found, list) else [found]:
        _expand(account, one, rest)


def _list_in(account: Account, thing: dict[str, Any], name: str) -> dict[str, Any]:
    found = account.refunds_of(thing["id"]) if name == "refunds" else account.payments_of(thing["id"])
    size = min(SHORT_LIST, account.page_size)
    url = f"/v1/charges/{thing['id']}/refunds" if name == "refunds" else f"/v1/invoices/{thing['id']}/payments"
    return page(deepcopy(found[:size]), url, has_more=len(found) > size)


def _fits_a_list(path: str) -> bool:
    if not path.startswith("data."):
        raise Problem(400, f"This property cannot be expanded ({path}).")
    if len(path.split(".")) > DEEPEST:
        raise Problem(400, f"You cannot expand more than 4 levels of a property ({path}).")
    return True
