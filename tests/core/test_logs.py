from __future__ import annotations

import pytest

from sts_app.core.logs import scrub
from sts_app.core.money import as_moment, as_money
from tests.builders import NOON


@pytest.mark.parametrize(
    "name", ["token", "csrf_token", "SECRET", "tv_session_id", "Cookie", "stripe_signature", "Authorization"]
)
def test_what_is_logged_under_a_secret_name_is_not_written_down(name):
    assert scrub(None, "info", {name: "hunter2", "event": "x"}) == {name: "[scrubbed]", "event": "x"}


def test_everything_else_is_left_alone():
    line = {"event": "billing.purchase", "purchase_id": 7, "before": "PENDING"}

    assert scrub(None, "info", dict(line)) == line


@pytest.mark.parametrize(
    ("cents", "currency", "text"),
    [(9900, "usd", "$99.00"), (0, "usd", "$0.00"), (123_456_789, "usd", "$1,234,567.89"), (5, "eur", "€0.05")],
)
def test_money_as_people_read_it(cents, currency, text):
    assert as_money(cents, currency) == text


def test_a_moment_names_its_zone():
    assert as_moment(NOON) == "21 Nov 2026, 12:00 UTC"
