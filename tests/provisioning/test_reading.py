"""Reading over the wire: the live adapters against a vendor who answers a reading with anything at all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sts_app.provisioning import reconcile
from tests.builders import forgotten, grants, holders, named, person, served
from tests.contracts.ways import DIRECT, OPEN, SECURED, live_way
from tests.fakes.vendor import Nasty

ALPHA = "PUB;nq_momentum_alpha_001"
# They hold a call up for as long as it may take, which is a failure like any other.
SLOW_ONES = {Nasty.HUGE, Nasty.SLOW, Nasty.SLOW_AFTER, Nasty.DRIBBLE_HEADERS, Nasty.DRIBBLE_BODY}


@pytest.fixture(params=[DIRECT, OPEN, SECURED])
def wire(request, plan, vendor, clock):
    """Four customers with all six since an hour, at a vendor who hands out lists in small pages."""
    for number, name in enumerate(("Anna", "Bobby", "Carl", "Dora")):
        served(named(person(f"{name}@customers.example"), name), plan, f"purchase:{number}")
    clock.shift(timedelta(hours=1))
    with live_way(request.param) as live:
        for name, script in holders():
            live.fake.give(name, script)
        if request.param == DIRECT:
            live.fake.largest_page = 3
        yield live


def read(live, **options):
    adapter = live.gateway(seconds=options.pop("seconds", 10))
    return reconcile.run(adapter, source="demand", actor="cli", dry_run=False, sleep=lambda seconds: None, **options)


def states() -> set[str]:
    return {grant.state for grant in grants()}


def test_what_agrees_agrees(wire):
    report = read(wire)

    assert (report.state, report.lines) == ("complete", ())


def test_what_is_missing_is_found(wire):
    wire.fake.take("Carl", ALPHA)

    report = read(wire)

    assert [(line.kind, line.name, line.script_id) for line in report.lines] == [("missing", "Carl", ALPHA)]


@pytest.mark.parametrize("times", [1, 100])
def test_no_answer_to_a_reading_takes_anything_from_anybody(wire, times):
    for nasty in sorted(set(Nasty) - SLOW_ONES):
        for good_ones in (0, 3):
            with forgotten():
                wire.fake.behave()
                if good_ones:
                    wire.fake.be(None, times=good_ones)
                wire.fake.be(nasty, times=times)

                report = read(wire, seconds=0.5)

                assert states() == {"verified"}, nasty
                assert report.state == "refused" or report.lines == (), nasty


@pytest.mark.parametrize("nasty", [Nasty.SLOW, Nasty.DRIBBLE_BODY])
def test_an_answer_that_does_not_come_refuses_the_run(wire, nasty):
    wire.fake.be(nasty, times=100)

    assert read(wire, seconds=0.2).state == "refused"
    assert states() == {"verified"}
