"""The simulated TradingView's own page: what it shows, and what it lets a person make it do."""

from __future__ import annotations

from datetime import UTC, datetime

from flask.testing import FlaskClient

from sts_app.core.store import Store
from sts_app.provisioning import simulated
from sts_app.provisioning.simulated import Fault

END = datetime(2031, 8, 17, tzinfo=UTC)


def test_the_page_shows_who_holds_what_and_until_when(client: FlaskClient, vendor: Store) -> None:
    simulated.give(vendor, "anna", "PUB;alpha")
    simulated.give(vendor, "bert", "PUB;alpha", expires_at=END)

    page = client.get("/dev/tradingview/").get_data(as_text=True)

    assert "Anna" in page
    assert "for life" in page
    assert "2031" in page


def test_the_page_says_what_each_fault_does(client: FlaskClient, vendor: Store) -> None:
    page = client.get("/dev/tradingview/").get_data(as_text=True)

    assert [fault for fault in Fault if f'value="{fault.value}"' not in page] == []


def test_every_fault_can_be_asked_for(client: FlaskClient, vendor: Store) -> None:
    for fault in Fault:
        answer = client.post("/dev/tradingview/misbehave", data={"fault": fault.value, "times": "1", "seconds": "0"})
        assert answer.status_code == 303

    assert set(simulated.faults_waiting(vendor)) == set(Fault)


def test_what_is_held_is_told_to_programs(client: FlaskClient, vendor: Store) -> None:
    simulated.give(vendor, "bert", "PUB;alpha", expires_at=END)

    (held,) = client.get("/dev/tradingview/state.json").json["holdings"]

    assert (held["username"], held["script_id"]) == ("Bert", "PUB;alpha")
    assert held["granted_at"]
    assert held["expires_at"]
