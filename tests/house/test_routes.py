"""Every address is shut to those it is not for, and answers the way addresses do."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.routing import IntegerConverter, Rule

from sts_app import create_app
from sts_app.core.security import csrf, limiter
from sts_app.settings import Settings, load
from tests.builders import alice, enter, lifetime, sam
from tests.world import ENV

# A webhook proves itself by its signature; no browser and no cookie takes part.
WITHOUT_CSRF = {"/api/webhooks/stripe", "/webhooks/stripe", "/api/webhooks/resend"}
NOWHERE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere", "REDIS_URL": "redis://127.0.0.1:1/0"}
LIVE = {
    **ENV,
    **NOWHERE,
    "LOG_LEVEL": "WARNING",
    "ADAPTERS_PRESET": "real",
    "STRIPE_SECRET_KEY": "sk_test_of_nobody",
    "STRIPE_PRICE_ID": "price_of_nobody",
    "RESEND_API_KEY": "re_of_nobody",
    "TV_ACCESS_API_URL": "http://127.0.0.1:1",
}
PRODUCTION = {
    **LIVE,
    "APP_ENV": "production",
    "APP_URL": "https://store.test",
    "STRIPE_SECRET_KEY": "sk_of_nobody",
    "TRUSTED_PROXIES": "0",
}


@contextlib.contextmanager
def another(settings: Settings) -> Iterator[Flask]:
    """A second house beside the one of the tests. What both share is given back as it was.

    That is the limiter, and the options of single views, which Talisman completes with those of the
    first house that is asked.
    """
    limits = dict(vars(limiter))
    options: list[tuple[dict[str, object], dict[str, object]]] = []
    try:
        app = create_app(settings)
        for view in app.view_functions.values():
            shared = getattr(view, "talisman_view_options", {})
            options.append((shared, dict(shared)))
        app.config.update(WTF_CSRF_ENABLED=False, TESTING=False, PROPAGATE_EXCEPTIONS=False)
        yield app
    finally:
        vars(limiter).clear()
        vars(limiter).update(limits)
        for shared, before in options:
            shared.clear()
            shared.update(before)


def sample(rule: Rule) -> str:
    """An address of this rule, about a thing that is not there."""
    values = {
        name: 987654321 if isinstance(converter, IntegerConverter) else "nothing-by-this-name"
        for name, converter in rule._converters.items()
    }
    return rule.build(values)[1]


def addresses(app: Flask, method: str, under: str = "/") -> list[str]:
    return sorted(
        sample(rule) for rule in app.url_map.iter_rules() if method in rule.methods and rule.rule.startswith(under)
    )


def visitor_who_is(app: Flask, person):
    visitor = app.test_client()
    enter(visitor, person)
    return visitor


def test_staff_pages_are_shut_to_strangers(app, client):
    for method in ("GET", "HEAD", "POST"):
        for address in addresses(app, method, "/admin"):
            answer = client.open(address, method=method)

            assert answer.status_code == 303, (method, address)
            assert answer.location.startswith("/sign-in"), (method, address)
            assert client.open(address, method=method, headers={"HX-Request": "true"}).status_code in (401, 204)


def test_staff_pages_are_shut_to_customers_and_open_to_staff(app, db):
    customer, staff = visitor_who_is(app, alice()), visitor_who_is(app, sam())

    assert customer.get("/dashboard").status_code == 200
    for method in ("GET", "HEAD", "POST"):
        for address in addresses(app, method, "/admin"):
            assert customer.open(address, method=method).status_code == 403, (method, address)
            if method == "GET":
                assert staff.get(address).status_code in (200, 404), address
    assert len(addresses(app, "GET", "/admin")) >= 3


def test_every_staff_page_hangs_below_the_guard(app):
    stray = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/admin") and rule.endpoint.split(".")[0] != "admin"
    }

    assert stray == set()


def test_a_post_without_a_token_is_refused_everywhere_but_at_the_listed_addresses(app, client):
    for address in addresses(app, "POST"):
        answer = client.post(address, csrf=False)

        assert answer.status_code == 400, address
        is_form_trouble = "This form was not taken" in answer.text
        assert is_form_trouble == (address not in WITHOUT_CSRF), address


def test_nothing_is_exempt_from_tokens_but_the_listed_addresses(app):
    exempt = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.split(".")[0] in {blueprint.name for blueprint in csrf._exempt_blueprints}
        or f"{app.view_functions[rule.endpoint].__module__}.{app.view_functions[rule.endpoint].__name__}"
        in csrf._exempt_views
    }

    assert exempt == WITHOUT_CSRF


def test_no_deed_is_done_by_another_method(app):
    """GET and POST are what a scriptless form knows. What only programs call may have a method of its own."""
    usual = {"GET", "HEAD", "OPTIONS", "POST"}

    assert {
        (rule.rule, method) for rule in app.url_map.iter_rules() for method in rule.methods if method not in usual
    } == {("/user/data", "DELETE")}


def refused(app: Flask, simulated: Flask, under: str) -> set[str]:
    """The pages for developers that did not answer 404 in `app`; `simulated` knows what pages there are."""
    visitor = app.test_client()
    open_ones = set()
    for method in ("GET", "HEAD", "POST"):
        for address in addresses(simulated, method, under):
            answer = visitor.open(address, method=method, base_url=app.config["STS"].public_url)
            if answer.status_code != 404:
                open_ones.add(f"{method} {address}: {answer.status_code}")
    return open_ones


@pytest.mark.parametrize(
    ("under", "choice"),
    [
        ("/dev/stripe", "PAYMENTS_VENDOR"),
        ("/dev/outbox", "MAIL_VENDOR"),
        ("/dev/tradingview", "PROVISIONING_MODE"),
    ],
)
def test_a_simulators_pages_are_gone_where_its_vendor_alone_is_live(app, under, choice):
    live = "unofficial-api" if choice == "PROVISIONING_MODE" else "live"
    with another(load({**LIVE, "ADAPTERS_PRESET": "mock", choice: live})) as house:
        assert refused(house, app, under) == set()
        assert len(addresses(house, "GET", "/dev")) > 1, "the other two simulators keep theirs"


def test_production_has_no_page_for_developers_even_with_its_database_away(app):
    with another(load(PRODUCTION)) as house:
        assert refused(house, app, "/dev") == set()
    assert len(addresses(app, "GET", "/dev")) > 8


def test_a_simulator_that_got_into_production_still_shows_nothing(app):
    """The settings refuse it; the pages have a lock of their own in case they are ever asked to."""
    smuggled = {**PRODUCTION, **dict.fromkeys(("PAYMENTS_VENDOR", "MAIL_VENDOR", "PROVISIONING_MODE"), "simulated")}
    with another(Settings.model_validate(smuggled)) as house:
        assert len(addresses(house, "POST", "/dev")) > 5
        assert refused(house, app, "/dev") == set()


def test_a_page_that_answers_get_answers_head_alike(app, db):
    assert lifetime()
    staff = visitor_who_is(app, sam())
    slug = db.session.scalar(sa.text("SELECT min(slug) FROM strategy"))
    asked = [*addresses(app, "GET"), f"/strategies/{slug}"]

    for address in asked:
        with staff.get(address) as got, staff.head(address) as head:
            assert head.status_code == got.status_code, address
            assert head.data == b"", address
            assert head.content_type == got.content_type, address
    assert all("HEAD" in rule.methods for rule in app.url_map.iter_rules() if "GET" in rule.methods)


def test_an_endpoint_has_one_address_and_an_address_one_endpoint(app):
    rules = list(app.url_map.iter_rules())

    assert [name for name, times in Counter(rule.endpoint for rule in rules).items() if times > 1] == []
    answering = Counter((rule.rule, method) for rule in rules for method in rule.methods - {"OPTIONS"})
    assert [place for place, times in answering.items() if times > 1] == []


def test_robots_are_asked_to_stay_out_of_every_private_area(app, client):
    asked = {line.split()[1] for line in client.get("/robots.txt").text.splitlines() if line.startswith("Disallow")}

    assert {"/admin", "/api", "/checkout", "/dashboard", "/dev", "/onboarding", "/sign-in", "/webhooks"} <= asked
