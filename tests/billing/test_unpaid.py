"""A purchase that is not paid, as `sts explain` tells staff of it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sts_app import cli
from sts_app.core.db import db as database
from tests.builders import alice, cashier, lifetime, named, open_page, stopped_clock, vendor, work


@pytest.fixture
def till(db):
    vendor()
    with stopped_clock():
        yield cashier()


@pytest.fixture
def purchase(till):
    return open_page(named(alice(), "Anna"), lifetime())


@pytest.fixture
def explain(app, purchase, monkeypatch):
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def explain(*options: str):
        database.session.commit()
        return CliRunner().invoke(cli.main, ["explain", "alice@customers.example", *options])

    return explain


@pytest.fixture
def looked_up(purchase):
    def looked_up() -> None:
        with stopped_clock() as clock:
            clock.shift(3600)
            work("billing")

    return looked_up


def test_an_open_page_is_named_with_what_happens_next(explain, purchase):
    result = explain()

    assert result.exit_code == 0
    assert "A purchase is not paid yet, and gives no access before." in result.output
    assert f"  purchase:{purchase.id} (lifetime): $99.00, begun on 21 Nov 2026, 12:00 UTC, is open at Stripe" in (
        result.output
    )
    assert "    Next: The buyer pays on Stripe's page, or the page runs out on " in result.output


def test_one_that_waits_for_the_bank_is_not_as_wanted_yet(explain, purchase, till, looked_up):
    till.pay_later(purchase.session_id)
    looked_up()

    result = explain("--json")

    [unpaid] = json.loads(result.output)["unpaid"]
    assert result.exit_code == 1
    assert "waits for the bank, which has neither confirmed nor declined it" in unpaid["words"]
    assert unpaid["next"].startswith("Stripe tells us what the bank decides")


def test_a_declined_one_names_the_reason(explain, purchase, till, looked_up):
    till.decline(purchase.session_id)
    looked_up()

    assert "and not paid; the last try was declined (" in explain().output
