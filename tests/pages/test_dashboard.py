"""How often a page that waits asks again."""

from __future__ import annotations

from itertools import accumulate

from sts_app.pages.dashboard import poll_after


def test_a_waiting_page_asks_often_at_first_then_ever_more_seldom_and_never_less_than_once_a_minute():
    waits = [poll_after(looks) for looks in range(1001)]

    assert waits[:15] == [2] * 15
    assert waits == sorted(waits)
    assert waits[-1] == 60


def test_a_page_left_open_for_an_hour_asks_less_than_a_hundred_times():
    assert sum(moment <= 3600 for moment in accumulate(map(poll_after, range(1001)))) < 100
