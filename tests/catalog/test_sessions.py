from datetime import datetime

import pytest

from sts_app.catalog.seed import STRATEGIES
from sts_app.catalog.sessions import ACTIVITY, Piece, Window, as_data, clock, columns, in_utc, pieces, windows


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("US open, 9:30-11:30", [(570, 690)]),
        ("Close, 15:00–16:00", [(900, 960)]),  # noqa: RUF001  # people type both dashes
        ("Asia, 20:00-2:00", [(1200, 1560)]),
        ("8:00-9:00 and 14:00-15:00", [(480, 540), (840, 900)]),
        ("All sessions", [(1080, 2460)]),
        ("Pre-market and open", [(240, 690)]),
        ("Globex session", [(1080, 1680)]),
        ("Whenever it suits", []),
    ],
)
def test_a_session_is_read_from_its_words(words, found):
    assert windows(words) == tuple(Window(*each) for each in found)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.slug)
def test_every_session_of_the_seed_can_be_drawn(strategy):
    drawn = pieces(windows(strategy.session))

    assert drawn
    assert all(piece.x >= 0 and piece.x + piece.width <= 100.001 for piece in drawn)


def test_what_crosses_midnight_lies_on_both_ends_of_the_band():
    assert pieces([Window(1080, 1680)]) == (Piece(0.0, 16.667), Piece(75.0, 25.0))


def test_the_script_gets_minutes():
    assert as_data(windows("8:00-9:00 and 14:00-15:00")) == "480-540 840-900"


@pytest.mark.parametrize(
    ("day", "utc"),
    [
        ("2026-01-15T15:00:00+00:00", "14:30\u201316:30"),
        ("2026-07-15T15:00:00+00:00", "13:30\u201315:30"),
        ("2026-03-08T05:30:00+00:00", "13:30\u201315:30"),  # the clocks of New York change on this day
        ("2026-11-02T02:00:00+00:00", "14:30\u201316:30"),  # still the day before in New York, after the change
    ],
)
def test_the_same_hours_on_utcs_clock_follow_daylight_saving(day, utc):
    assert in_utc(windows("US open, 9:30-11:30"), datetime.fromisoformat(day)) == utc


def test_a_minute_is_shown_as_a_clock_shows_it():
    assert [clock(minute) for minute in (0, 570, 1440, 1500)] == ["0:00", "9:30", "0:00", "1:00"]


def test_the_drawing_of_a_day_has_no_column_in_the_daily_break():
    drawn = columns(56)

    assert len(ACTIVITY) == 48
    assert {column.minute for column in drawn} == set(range(0, 1440, 30)) - {1020, 1050}
    assert max(drawn, key=lambda column: column.height).minute == 570
    assert max(column.height for column in drawn) == 56
