"""`sts demo`: one purchase without hands, against running processes, every promise checked.

It has its own folder, servers and ports, so it runs beside `sts run`. TradingView fails twice before
it works; the waits between tries are the store's own, scaled down by `RETRY_TIME_SCALE`.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import requests

from sts_app.ops.embedded import LocalFault
from sts_app.ops.journey import Customer, JourneyFault
from sts_app.ops.local import Stack

STRATEGIES = 6
FAILURES = 2
TIME_SCALE = "0.05"
ADMIN = "admin@example.com"
CUSTOMER_LETTERS = ("sign_in", "welcome", "purchase_confirmation", "access_granted")


class Timeline:
    """Says each step with the seconds since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.marks: dict[str, float] = {}

    def say(self, step: str, mark: str = "") -> None:
        now = time.monotonic() - self._began
        if mark:
            self.marks[mark] = now
        click.echo(f"{now:7.2f} s  {step}")

    def between(self, first: str, second: str) -> float:
        return self.marks[second] - self.marks[first]


def run(*, keep: bool = False) -> int:
    """Make the purchase. Returns 0 when everything is as promised, 1 with the reason when it is not."""
    folder = Path(tempfile.mkdtemp(prefix="sts-demo-"))
    timeline = Timeline()
    well = False
    try:
        with Stack(folder, env={"RETRY_TIME_SCALE": TIME_SCALE, "ADMIN_EMAIL": ADMIN}, throwaway=True) as stack:
            stack.prepare()
            stack.start().wait_ready()
            timeline.say(f"the store runs at {stack.url}")
            _purchase(stack, timeline)
            stack.run("invariants", "sts invariants")
            timeline.say("every invariant holds")
        well = True
    except (JourneyFault, LocalFault, requests.RequestException) as fault:
        click.echo(f"\nNot as promised: {fault}\nThe logs are kept in {folder}.", err=True)
        return 1
    finally:
        if well and not keep:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"\nPayment to verified access: {timeline.between('paid', 'verified'):.2f} s, two failures included.")
    click.echo("Everything is as promised.")
    return 0


def _purchase(stack: Stack, timeline: Timeline) -> None:
    customer = Customer(stack.url, email="alice@example.com", tradingview_name="alice_trades")
    customer.open("/dev/tradingview/").submit("/misbehave", fault="fail", times=str(FAILURES))
    timeline.say(f"TradingView is told to fail {FAILURES} times")
    customer.browse()
    timeline.say("a visitor has seen home, strategies, one strategy and pricing")
    customer.ask_for_access()
    customer.sign_in()
    timeline.say("signed in by the link in a letter")
    customer.onboard()
    timeline.say("TradingView name checked, texts accepted")
    customer.check_out()
    timeline.say("on the payment page")
    customer.pay()
    timeline.say("paid; back on the dashboard", "paid")
    customer.wait_for(lambda: len(customer.access()) == STRATEGIES, "the six strategies", seconds=30)
    timeline.say(f"the dashboard shows {STRATEGIES} strategies", "shown")
    customer.wait_for(
        lambda: list(customer.access().values()) == ["Active"] * STRATEGIES, "six active strategies", seconds=60
    )
    timeline.say(f"all {STRATEGIES} are Active", "verified")
    _check_vendors(customer, timeline)
    _check_letters(customer, timeline)


def _check_vendors(customer: Customer, timeline: Timeline) -> None:
    """What TradingView and Stripe themselves say, not what our own tables say of them."""
    vendor = customer.json("/dev/tradingview/state.json")
    holdings = vendor["holdings"]
    for held in holdings:
        click.echo(f"           TradingView: {held['username']} holds {held['script_id']}")
    if len(holdings) != STRATEGIES or {held["username"].lower() for held in holdings} != {customer.tradingview_name}:
        raise JourneyFault(f"TradingView shows {len(holdings)} holdings, {STRATEGIES} were promised")
    if vendor["calls"].get("grant", 0) != FAILURES + 1:
        raise JourneyFault(f"TradingView was asked {vendor['calls']}, once and {FAILURES} retries were promised")
    payments = customer.json("/dev/stripe/state.json")
    states = Counter(event["state"] for event in payments["events"])
    if not states["delivered"] or set(states) != {"delivered"}:
        raise JourneyFault(f"signed events at the webhook: {dict(states)}")
    timeline.say(f"{states['delivered']} signed events were accepted; {len(payments['checkouts'])} checkout, paid once")


def _check_letters(customer: Customer, timeline: Timeline) -> None:
    customer.wait_for(lambda: customer.letter("access_granted"), "the letter about access", seconds=30)
    customer.wait_for(lambda: customer.letter("admin_new_purchase", ADMIN), "the letter to staff", seconds=30)
    kinds = Counter(letter["kind"] for letter in customer.letters())
    if kinds != Counter(CUSTOMER_LETTERS):
        raise JourneyFault(f"letters to the customer: {dict(kinds)}, each of {CUSTOMER_LETTERS} was promised once")
    to_staff = Counter(letter["kind"] for letter in customer.letters(ADMIN))
    if to_staff != Counter(["admin_new_purchase"]):
        raise JourneyFault(f"letters to staff: {dict(to_staff)}, one about the purchase was promised")
    timeline.say(f"letters: {', '.join(CUSTOMER_LETTERS)}; to staff: admin_new_purchase")
