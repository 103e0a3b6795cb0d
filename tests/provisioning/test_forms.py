"""What people paste where a TradingView name is asked for."""

from __future__ import annotations

import re

import pytest

from sts_app.provisioning.forms import NAME_SHAPE, name_in


@pytest.mark.parametrize(
    "pasted",
    [
        "bob_trader",
        "  bob_trader\n",
        "@bob_trader",
        " @bob_trader ",
        "https://www.tradingview.com/u/bob_trader/",
        "http://tradingview.com/u/bob_trader",
        "www.tradingview.com/u/bob_trader/#published-scripts",
        "https://de.tradingview.com/u/bob_trader/ideas/?page=2",
        "HTTPS://WWW.TRADINGVIEW.COM/U/bob_trader/",
    ],
)
def test_the_name_is_taken_out_of_what_was_pasted(pasted):
    assert name_in(pasted) == "bob_trader"


@pytest.mark.parametrize(
    "pasted",
    [
        "https://evil.example/u/bob_trader/",
        "https://tradingview.com.evil.example/u/bob_trader",
        "https://www.tradingview.com/chart/bob_trader/",
        "https://www.tradingview.com/u/",
        "bob@trader.example",
        "@@bob_trader",
        "@",
    ],
)
def test_what_holds_no_name_is_no_name(pasted):
    assert re.fullmatch(NAME_SHAPE, name_in(pasted) or "") is None


@pytest.mark.parametrize("nothing", [None, ""])
def test_nothing_stays_nothing(nothing):
    assert name_in(nothing) == nothing
