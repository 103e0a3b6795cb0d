"""A browser in words."""

from __future__ import annotations

import pytest

from sts_app.accounts.devices import in_words

MOZILLA = "Mozilla/5.0"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (f"{MOZILLA} (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox on Windows"),
        (f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/129.0.0.0 Safari/537.36", "Chrome on Windows"),
        (f"{MOZILLA} (Windows NT 10.0) {WEBKIT} Chrome/129.0.0.0 Safari/537.36 Edg/129.0.0.0", "Edge on Windows"),
        (f"{MOZILLA} (X11; Linux x86_64) {WEBKIT} Chrome/129.0.0.0 Safari/537.36 OPR/114.0", "Opera on Linux"),
        (f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/129.0.0.0 Safari/537.36", "Chrome on ChromeOS"),
        (f"{MOZILLA} (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.0 Safari/605.1.15", "Safari on Mac"),
        (f"{MOZILLA} (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1", "Safari on iPhone"),
        (f"{MOZILLA} (iPad; CPU OS 18_0 like Mac OS X) CriOS/129.0 Mobile Safari/604.1", "Chrome on iPad"),
        (f"{MOZILLA} (iPhone; CPU iPhone OS 18_0 like Mac OS X) FxiOS/130.0 Safari/605.1", "Firefox on iPhone"),
        (f"{MOZILLA} (Linux; Android 14; K) {WEBKIT} SamsungBrowser/26.0 Chrome/122.0", "Samsung Internet on Android"),
        (f"{MOZILLA} (Linux; Android 14; K) {WEBKIT} Chrome/129.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
        (f"{MOZILLA} (X11; Linux x86_64) {WEBKIT} HeadlessChrome/129.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Something on Windows", "Windows"),
        ("Firefox/130.0", "Firefox"),
        ("curl/8.9", ""),
        ("", ""),
        (None, ""),
        ("<script>alert(1)</script>", ""),
        ("x" * 100_000, ""),
    ],
)
def test_it_says_the_browser_and_its_system_and_nothing_else(agent, words):
    assert in_words(agent) == words
