"""The desk of the simulated TradingView."""

from __future__ import annotations

from sts_app.ops.journey import Visitor


class Vendor:
    """Makes TradingView misbehave and behave."""

    def __init__(self, url: str) -> None:
        self._desk = Visitor(url)

    def misbehave(self, fault: str) -> None:
        self._desk.open("/dev/tradingview/").submit("/misbehave", fault=fault)

    def behave(self) -> None:
        self._desk.open("/dev/tradingview/").submit("/behave")
