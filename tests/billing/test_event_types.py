"""The types that an endpoint asks for are those the store acts on, by the names of the installed package."""

from __future__ import annotations

import typing

from stripe.params import WebhookEndpointCreateParams

from sts_app.billing.event_types import HANDLED_TYPES
from sts_app.billing.services import is_handled
from tests.fakes.stripe_api.params import _hints


def known_to_stripe() -> set[str]:
    """Every type that an endpoint can be rung for."""

    def words(hint: typing.Any) -> typing.Iterator[str]:
        for each in typing.get_args(hint):
            if isinstance(each, str):
                yield each
            else:
                yield from words(each)

    return set(words(_hints(WebhookEndpointCreateParams)["enabled_events"])) - {"*"}


def test_the_package_names_its_types():
    assert len(known_to_stripe()) > 200


def test_every_type_that_is_asked_for_is_acted_on_and_exists():
    assert {kind for kind in HANDLED_TYPES if not is_handled(kind)} == set()
    assert HANDLED_TYPES - known_to_stripe() == set()


def test_no_type_that_is_acted_on_is_left_out():
    assert {kind for kind in known_to_stripe() if is_handled(kind)} - HANDLED_TYPES == set()
