"""`make bench`: the store's speeds, each as a ratio against a baseline in the same run.

Machines differ and are noisy, so no number here is a limit and none is a test. What is compared runs
in turn, A B A B, under the same server on the same database; medians and their ratio are printed.
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import requests
import sqlalchemy as sa
import stripe

from bench import waiting
from sts_app.ops.embedded import free_port
from sts_app.ops.journey import Customer
from sts_app.ops.local import ROOT, Stack

ROUNDS = 7
REQUESTS = 60
PURCHASES = 5
VENDOR_CALLS = 2  # one grant, one read back, each carrying all six scripts
WRITES_PER_MINUTE = 10  # the default pace; five purchases are within its burst


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sts-bench-"))
    try:
        with Stack(folder, throwaway=True) as stack:
            stack.prepare().start().wait_ready()
            with Baseline(stack) as baseline:
                home(stack, baseline)
                webhook(stack, baseline)
            purchase(stack)
            waiting.measure(stack, show)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Baseline:
    """`bench/bare.py` under the same gunicorn settings and on the same database."""

    def __init__(self, stack: Stack) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = stack.env | {"PORT": str(self.port)}

    def __enter__(self) -> Baseline:
        subprocess.run([sys.executable, "-m", "bench.bare"], env=self._env, cwd=ROOT, check=True)
        command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "--log-level", "error"]
        self._process = subprocess.Popen([*command, "bench.bare:app"], env=self._env, cwd=ROOT)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                requests.get(self.url, timeout=1)
            except requests.RequestException:
                time.sleep(0.1)
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)


def home(stack: Stack, baseline: Baseline) -> None:
    ours, bare = requests.Session(), requests.Session()
    compare(
        "home page / bare Flask view",
        lambda: ours.get(stack.url, timeout=10).raise_for_status(),
        lambda: bare.get(baseline.url, timeout=10).raise_for_status(),
    )


def webhook(stack: Stack, baseline: Baseline) -> None:
    """A type without a handler: taken in and stored, so that no worker competes for the processor."""
    ours, bare = requests.Session(), requests.Session()
    secret = stack.env["STRIPE_WEBHOOK_SECRET"]

    def ring() -> None:
        body = json.dumps(event()).encode()
        signature = stripe.WebhookSignature.generate_signature_header(body.decode(), secret)
        answer = ours.post(
            f"{stack.url}/api/webhooks/stripe", data=body, headers={"Stripe-Signature": signature}, timeout=10
        )
        answer.raise_for_status()

    compare(
        "webhook intake / insert and commit",
        ring,
        lambda: bare.post(f"{baseline.url}/intake", data=json.dumps(event()), timeout=10).raise_for_status(),
    )


def purchase(stack: Stack) -> None:
    """From the first event at our door to six verified grants, against the time the vendor's calls take."""
    latency = 0.15 * VENDOR_CALLS
    for number in range(PURCHASES):
        customer = Customer(stack.url, email=f"bench{number}@example.com", tradingview_name=f"bench_{number}")
        customer.buy()
        customer.wait_for(lambda c=customer: list(c.access().values()) == ["Active"] * 6, "access", seconds=60)
    engine = sa.create_engine(stack.env["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                """SELECT extract(epoch FROM max(g.verified_at) - min(e.created_at)) FROM purchase p
                   JOIN webhook_event e ON e.purchase_ref = p.ref
                   JOIN tradingview_name n ON n.user_id = p.user_id JOIN grants g ON g.name_key = n.name_key
                   GROUP BY p.id"""
            )
        )
        took = sorted(float(row[0]) for row in rows)
    engine.dispose()
    median = statistics.median(took)
    note = f"n={len(took)}, {took[0]:.2f} to {took[-1]:.2f} s"
    show("payment to six verified grants / the vendor's own latency", median, latency, note)
    show("payment to six verified grants / one call's share of the pace", median, 60 / WRITES_PER_MINUTE, note)


def event() -> dict[str, object]:
    return {
        "id": f"evt_{uuid4().hex}",
        "object": "event",
        "type": "product.updated",
        "created": int(time.time()),
        "livemode": False,
        "api_version": "2026-10-28.endive",
        "data": {"object": {"id": "prod_bench", "object": "product"}},
    }


def compare(name: str, a: Callable[[], object], b: Callable[[], object]) -> None:
    def seconds(act: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(REQUESTS):
            act()
        return (time.perf_counter() - began) / REQUESTS

    seconds(a), seconds(b)
    pairs = [(seconds(a), seconds(b)) for _ in range(ROUNDS)]
    ratios = sorted(x / y for x, y in pairs)
    a_median, b_median = (statistics.median(values) for values in zip(*pairs, strict=True))
    show(name, a_median, b_median, f"ratio of pairs {ratios[0]:.2f} to {ratios[-1]:.2f}")


def show(name: str, ours: float, baseline: float, note: str) -> None:
    print(f"{name:62} {_told(ours)} / {_told(baseline)} = {ours / baseline:5.2f}   ({note})", flush=True)


def _told(seconds: float) -> str:
    return f"{seconds:8.2f} s " if seconds >= 1 else f"{seconds * 1000:8.2f} ms"


if __name__ == "__main__":
    main()
