"""Every address of Stripe's API that the store uses, and what it answers there."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stripe import params as sdk
from stripe.params import billing_portal, checkout

from tests.fakes.stripe_api import objects
from tests.fakes.stripe_api.account import ENDED, WITHHELD, Account, Thing
from tests.fakes.stripe_api.objects import now
from tests.fakes.stripe_api.params import Problem, check, missing
from tests.fakes.stripe_api.showing import listed, shown

Answering = Callable[..., Thing]
FILES = (
    "cancellation_policy",
    "customer_communication",
    "customer_signature",
    "duplicate_charge_documentation",
    "receipt",
    "refund_policy",
    "service_documentation",
    "shipping_documentation",
    "uncategorized_file",
)


@dataclass(frozen=True)
class Route:
    method: str
    address: re.Pattern[str]
    shape: Any
    answer: Answering


ROUTES: list[Route] = []


def route(method: str, address: str, shape: Any) -> Callable[[Answering], Answering]:
    def keep(answer: Answering) -> Answering:
        ROUTES.append(Route(method, re.compile("/v1/" + address.replace("{id}", r"([\w-]+)")), shape, answer))
        return answer

    return keep


def answer(account: Account, method: str, path: str, params: Thing) -> Thing:
    """What the API answers. Raises `Problem`, for what it does not take as well."""
    for one in ROUTES:
        found = one.address.fullmatch(path)
        if found and one.method == method:
            check(params, one.shape)
            return one.answer(account, params, *found.groups())
    raise Problem(404, f"Unrecognized request URL ({method}: {path}).")


def the(account: Account, kind: str, thing_id: str, *, param: str = "", status: int = 404) -> Thing:
    found = account.things[kind].get(thing_id)
    if found is None or found.get("deleted"):
        raise missing(kind, thing_id, param or "id", status)
    return found


def _created(things: list[Thing], params: Thing) -> list[Thing]:
    bounds = params.get("created", {})
    first, end = int(bounds.get("gte", 0)), int(bounds.get("lt", 10**11))
    return [thing for thing in things if first <= thing["created"] < end]


@route("POST", "customers", sdk.CustomerCreateParams)
def create_customer(account: Account, params: Thing) -> Thing:
    return shown(account, account.add(objects.customer(params), "customer.created"))


@route("GET", "customers", sdk.CustomerListParams)
def list_customers(account: Account, params: Thing) -> Thing:
    found = [one for one in account.newest("customer") if not one.get("deleted")]
    return listed(account, [one for one in found if one["email"] == params["email"]], "/v1/customers", params)


@route("POST", "customers/{id}", sdk.CustomerUpdateParams)
def update_customer(account: Account, params: Thing, customer_id: str) -> Thing:
    customer = the(account, "customer", customer_id)
    before = dict(customer)
    customer |= {name: params[name] for name in ("email", "name") if name in params}
    customer["metadata"] |= params.get("metadata", {})
    if customer != before:
        account.ring("customer.updated", customer)
    return shown(account, customer)


@route("DELETE", "customers/{id}", sdk.CustomerDeleteParams)
def delete_customer(account: Account, params: Thing, customer_id: str) -> Thing:
    the(account, "customer", customer_id)
    account.delete_customer(customer_id)
    return {"id": customer_id, "object": "customer", "deleted": True}


@route("POST", "checkout/sessions", checkout.SessionCreateParams)
def create_session(account: Account, params: Thing) -> Thing:
    for name in ("mode", "line_items", "success_url"):
        if name not in params:
            raise Problem(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    for name in ("success_url", "cancel_url"):
        if not re.match(r"https?://[\w.:-]+/", params.get(name, "")):
            raise Problem(400, "Not a valid URL", code="url_invalid", param=name)
    expires_at = int(params.get("expires_at", now() + 86400))
    if not 29 * 60 <= expires_at - now() <= 24 * 3600 + 60:
        raise Problem(
            400,
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
            param="expires_at",
        )
    for one, other in (("allow_promotion_codes", "discounts"), ("customer", "customer_email")):
        if one in params and other in params:
            raise Problem(400, f"You may only specify one of these parameters: {one}, {other}.")
    if "customer" in params:
        the(account, "customer", params["customer"], param="customer", status=400)
    mode = params["mode"]
    for name, only_in in (
        ("payment_intent_data", "payment"),
        ("invoice_creation", "payment"),
        ("subscription_data", "subscription"),
    ):
        if name in params and mode != only_in:
            raise Problem(400, f"You can not pass `{name}` in `{mode}` mode.", param=name)
    price = the(account, "price", params["line_items"][0]["price"], param="line_items[0][price]", status=400)
    if not price["active"]:
        raise Problem(400, "The price specified is inactive.", code="price_inactive", param="line_items[0][price]")
    if (price["type"] == "recurring") != (mode == "subscription"):
        raise Problem(400, f"You specified `{mode}` mode but passed a {price['type']} price.", param="mode")
    return shown(account, account.open_session(params, price, expires_at=expires_at))


@route("GET", "checkout/sessions", checkout.SessionListParams)
def list_sessions(account: Account, params: Thing) -> Thing:
    found = account.newest("checkout.session")
    for name in ("payment_intent", "subscription", "customer"):
        if name in params:
            the(account, name, params[name], param=name, status=400)
            found = [one for one in found if one[name] == params[name]]
    return listed(account, found, "/v1/checkout/sessions", params)


@route("GET", "checkout/sessions/{id}", checkout.SessionRetrieveParams)
def retrieve_session(account: Account, params: Thing, session_id: str) -> Thing:
    session = the(account, "checkout.session", session_id, param="session")
    return shown(account, session, params.get("expand", []))


@route("POST", "checkout/sessions/{id}/expire", checkout.SessionExpireParams)
def expire_session(account: Account, params: Thing, session_id: str) -> Thing:
    session = the(account, "checkout.session", session_id, param="session")
    if session["status"] != "open":
        raise Problem(400, "Only Checkout Sessions with a status in [`open`] can be expired.")
    account.expire(session_id)
    return shown(account, session)


@route("POST", "billing_portal/sessions", billing_portal.SessionCreateParams)
def create_portal(account: Account, params: Thing) -> Thing:
    the(account, "customer", params.get("customer", ""), param="customer", status=400)
    configurations = account.newest("billing_portal.configuration")
    wanted = params.get("configuration")
    if wanted is not None:
        chosen = the(account, "billing_portal.configuration", wanted, param="configuration", status=400)
    else:
        chosen = next((one for one in configurations if one["is_default"]), {"active": False})
    if not chosen["active"]:
        raise Problem(
            400,
            "No configuration provided and your test mode default configuration has not been created. Provide a "
            "configuration or create your default by saving your customer portal settings.",
        )
    session_id = objects.new_id("bps")
    return {
        "id": session_id,
        "object": "billing_portal.session",
        "configuration": chosen["id"],
        "created": now(),
        "customer": params["customer"],
        "livemode": False,
        "return_url": params.get("return_url"),
        "url": f"https://billing.stripe.com/p/session/{session_id}",
    }


@route("POST", "billing_portal/configurations", billing_portal.ConfigurationCreateParams)
def create_portal_configuration(account: Account, params: Thing) -> Thing:
    return shown(account, account.add(objects.portal_configuration(params)))


@route("GET", "billing_portal/configurations", billing_portal.ConfigurationListParams)
def list_portal_configurations(account: Account, params: Thing) -> Thing:
    found = account.newest("billing_portal.configuration")
    if "active" in params:
        found = [one for one in found if one["active"] == (params["active"] == "true")]
    return listed(account, found, "/v1/billing_portal/configurations", params)


@route("POST", "billing_portal/configurations/{id}", billing_portal.ConfigurationUpdateParams)
def update_portal_configuration(account: Account, params: Thing, configuration_id: str) -> Thing:
    configuration = the(account, "billing_portal.configuration", configuration_id)
    given = params.get("features", {})
    configuration["features"] |= {name: objects.portal_features(given)[name] for name in given}
    return shown(account, configuration)


@route("GET", "account", sdk.AccountRetrieveCurrentParams)
def retrieve_account(account: Account, params: Thing) -> Thing:
    return shown(account, account.me)


@route("GET", "payment_intents", sdk.PaymentIntentListParams)
def list_intents(account: Account, params: Thing) -> Thing:
    return listed(account, _created(account.newest("payment_intent"), params), "/v1/payment_intents", params)


@route("GET", "payment_intents/{id}", sdk.PaymentIntentRetrieveParams)
def retrieve_intent(account: Account, params: Thing, intent_id: str) -> Thing:
    return shown(account, the(account, "payment_intent", intent_id, param="intent"), params.get("expand", []))


@route("POST", "refunds", sdk.RefundCreateParams)
def create_refund(account: Account, params: Thing) -> Thing:
    intent = the(account, "payment_intent", params.get("payment_intent", ""), param="payment_intent")
    if intent["status"] != "succeeded":
        raise Problem(400, "This PaymentIntent does not have a successful charge to refund.", kept=True)
    charge = account.things["charge"][intent["latest_charge"]]
    if any(one["status"] in WITHHELD for one in account.disputes_of(charge["id"])):
        raise Problem(400, "The charge has been charged back.", code="charge_disputed", kept=True)
    left = charge["amount"] - charge["amount_refunded"]
    if left == 0:
        raise Problem(400, "Charge has already been refunded.", code="charge_already_refunded", kept=True)
    amount = int(params.get("amount", left))
    if amount < 1:
        raise Problem(400, "Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if amount > left:
        raise Problem(400, "Refund amount is greater than unrefunded amount on charge", param="amount", kept=True)
    status, account.next_refund_is = account.next_refund_is, "succeeded"
    return shown(account, account.give_back(charge, amount, status, params))


@route("GET", "refunds", sdk.RefundListParams)
def list_refunds(account: Account, params: Thing) -> Thing:
    the(account, "payment_intent", params["payment_intent"], param="payment_intent")
    return listed(account, account.refunds_of(params["payment_intent"]), "/v1/refunds", params)


@route("GET", "disputes", sdk.DisputeListParams)
def list_disputes(account: Account, params: Thing) -> Thing:
    the(account, "payment_intent", params["payment_intent"], param="payment_intent")
    return listed(account, account.disputes_of(params["payment_intent"]), "/v1/disputes", params)


@route("GET", "disputes/{id}", sdk.DisputeRetrieveParams)
def retrieve_dispute(account: Account, params: Thing, dispute_id: str) -> Thing:
    return shown(account, the(account, "dispute", dispute_id, param="dispute"))


@route("POST", "disputes/{id}", sdk.DisputeUpdateParams)
def update_dispute(account: Account, params: Thing, dispute_id: str) -> Thing:
    dispute = the(account, "dispute", dispute_id, param="dispute")
    evidence, details = params.get("evidence", {}), dispute["evidence_details"]
    if not dispute["status"].endswith("needs_response"):
        raise Problem(400, "This dispute is already closed or submitted.", kept=True)
    for name in FILES:
        if name in evidence and evidence[name] not in account.things["file"]:
            raise missing("file upload", evidence[name], f"evidence[{name}]")
    dispute["evidence"] |= evidence
    dispute["metadata"] |= params.get("metadata", {})
    details["has_evidence"] = bool(dispute["evidence"])
    if params.get("submit", "true") == "true":
        details["submission_count"] += 1
        account.move_dispute(dispute_id, dispute["status"].replace("needs_response", "under_review"))
    return shown(account, dispute)


@route("POST", "files", sdk.FileCreateParams)
def create_file(account: Account, params: Thing) -> Thing:
    name, content = params["file"]
    if params["purpose"] == "dispute_evidence" and not content.startswith(b"%PDF"):
        raise Problem(400, "The file type uploaded is not supported.", code="file_type_invalid", param="file")
    return shown(account, account.add(objects.file(name=name, size=len(content), purpose=params["purpose"])))


@route("GET", "invoices", sdk.InvoiceListParams)
def list_invoices(account: Account, params: Thing) -> Thing:
    wanted = the(account, "subscription", params["subscription"], param="subscription")["id"]
    found = [one for one in account.newest("invoice") if _subscription_of(one) == wanted]
    return listed(account, found, "/v1/invoices", params)


@route("GET", "invoices/{id}", sdk.InvoiceRetrieveParams)
def retrieve_invoice(account: Account, params: Thing, invoice_id: str) -> Thing:
    return shown(account, the(account, "invoice", invoice_id, param="invoice"), params.get("expand", []))


@route("GET", "invoice_payments", sdk.InvoicePaymentListParams)
def list_invoice_payments(account: Account, params: Thing) -> Thing:
    intent_id = params["payment"]["payment_intent"]
    the(account, "payment_intent", intent_id, param="payment[payment_intent]", status=400)
    found = [one for one in account.newest("invoice_payment") if one["payment"]["payment_intent"] == intent_id]
    return listed(account, found, "/v1/invoice_payments", params)


@route("GET", "subscriptions/{id}", sdk.SubscriptionRetrieveParams)
def retrieve_subscription(account: Account, params: Thing, subscription_id: str) -> Thing:
    return shown(account, the(account, "subscription", subscription_id), params.get("expand", []))


@route("DELETE", "subscriptions/{id}", sdk.SubscriptionCancelParams)
def cancel_subscription(account: Account, params: Thing, subscription_id: str) -> Thing:
    subscription = the(account, "subscription", subscription_id)
    if subscription["status"] in ENDED:
        raise missing("subscription", subscription_id, "id", 404)
    account.end(subscription)
    return shown(account, subscription)


@route("GET", "events", sdk.EventListParams)
def list_events(account: Account, params: Thing) -> Thing:
    return listed(account, _created(account.newest("event"), params), "/v1/events", params)


@route("POST", "products", sdk.ProductCreateParams)
def create_product(account: Account, params: Thing) -> Thing:
    return shown(account, account.add(objects.product(params), "product.created"))


@route("GET", "products", sdk.ProductListParams)
def list_products(account: Account, params: Thing) -> Thing:
    return listed(account, account.newest("product"), "/v1/products", params)


@route("POST", "prices", sdk.PriceCreateParams)
def create_price(account: Account, params: Thing) -> Thing:
    the(account, "product", params.get("product", ""), param="product", status=400)
    wanted = params.get("lookup_key")
    for known in account.newest("price") if wanted else []:
        if known["lookup_key"] == wanted and known["active"]:
            if params.get("transfer_lookup_key") != "true":
                raise Problem(400, f"A price already uses the lookup key `{wanted}`.", param="lookup_key")
            known["lookup_key"] = None
    return shown(account, account.add(objects.price(params), "price.created"))


@route("GET", "prices", sdk.PriceListParams)
def list_prices(account: Account, params: Thing) -> Thing:
    found = account.newest("price")
    if "active" in params:
        found = [one for one in found if one["active"] == (params["active"] == "true")]
    if "lookup_keys" in params:
        found = [one for one in found if one["lookup_key"] in params["lookup_keys"]]
    return listed(account, found, "/v1/prices", params)


@route("POST", "webhook_endpoints", sdk.WebhookEndpointCreateParams)
def create_endpoint(account: Account, params: Thing) -> Thing:
    endpoint = account.add(objects.endpoint(params))
    # Shown this once and kept nowhere.
    return shown(account, endpoint) | {"secret": objects.new_id("whsec")}


@route("GET", "webhook_endpoints", sdk.WebhookEndpointListParams)
def list_endpoints(account: Account, params: Thing) -> Thing:
    return listed(account, account.newest("webhook_endpoint"), "/v1/webhook_endpoints", params)


@route("POST", "webhook_endpoints/{id}", sdk.WebhookEndpointUpdateParams)
def update_endpoint(account: Account, params: Thing, endpoint_id: str) -> Thing:
    endpoint = the(account, "webhook_endpoint", endpoint_id)
    endpoint["enabled_events"] = params.get("enabled_events", endpoint["enabled_events"])
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] == "true" else "enabled"
    return shown(account, endpoint)


def _subscription_of(invoice: Thing) -> str | None:
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    found: str | None = details.get("subscription")
    return found
