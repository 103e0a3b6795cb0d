"""When a strategy is at work, read from its words: minutes of a day in Eastern Time, the clock of NQ's traders.

A session is written for people ("Midday, 11:30-14:00"). A clock range in it is taken as it stands; a part of the day
that is only named is drawn with the hours that traders mean by it. What holds neither is shown in words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY = 24 * 60
NEW_YORK = ZoneInfo("America/New_York")

# Globex trades NQ from 18:00 to 17:00; the hour between is its daily break.
PARTS_OF_THE_DAY = {
    "all sessions": (18 * 60, DAY + 17 * 60),
    "globex": (18 * 60, DAY + 4 * 60),
    "pre-market": (4 * 60, 9 * 60 + 30),
    "open": (9 * 60 + 30, 11 * 60 + 30),
    "midday": (11 * 60 + 30, 14 * 60),
    "close": (15 * 60, 16 * 60),
}
_CLOCK = re.compile(r"\b(\d{1,2}):([0-5]\d)\s*[-–]\s*(\d{1,2}):([0-5]\d)\b")  # noqa: RUF001  # people type both dashes

# How busy a usual day is, by half hours from midnight Eastern Time: a drawing from general knowledge (the open and the
# close are loud, the night is quiet, 17:00 is shut), not a measurement. Pages say so beside it.
ACTIVITY = (
    *(9, 8, 8, 9, 11, 13, 17, 19, 18, 16, 15, 15, 17, 19, 22, 24, 27, 40, 44),
    *(100, 90, 74, 62, 52, 44, 38, 34, 35, 42, 50, 61, 94),
    *(38, 18, 0, 0, 16, 14, 13, 12, 12, 13, 15, 14, 13, 12, 11, 10),
)


@dataclass(frozen=True)
class Window:
    """A stretch of the day in minutes after midnight, Eastern Time; `end` is beyond 1440 when midnight lies within."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"


@dataclass(frozen=True)
class Piece:
    """A window, or the part of it on one side of midnight, as percent of a day's width."""

    x: float
    width: float


@dataclass(frozen=True)
class Column:
    """One half hour of the drawing of a usual day: where it begins, and how high it is in pixels."""

    minute: int
    x: float
    height: int


def windows(session: str) -> tuple[Window, ...]:
    """When a session of these words takes place, in the order of the day; none for words without a time in them."""
    found = [_window(*map(int, match)) for match in _CLOCK.findall(session)]
    if not found:
        said = session.casefold()
        found = [Window(*hours) for part, hours in PARTS_OF_THE_DAY.items() if re.search(rf"\b{part}\b", said)]
    return _joined(sorted(found, key=lambda window: window.start))


def pieces(found: Sequence[Window]) -> tuple[Piece, ...]:
    """The windows as they lie on a band of one day, from the left: what crosses midnight comes as two."""
    cut: list[tuple[int, int]] = []
    for window in found:
        cut.append((window.start, min(window.end, DAY)))
        if window.end > DAY:
            cut.append((0, window.end - DAY))
    return tuple(Piece(_percent(start), _percent(end - start)) for start, end in sorted(cut))


def as_data(found: Sequence[Window]) -> str:
    """The windows for the script that redraws them in the visitor's own time: `570-690 900-960`."""
    return " ".join(map(str, found))


def columns(height: int) -> tuple[Column, ...]:
    """The drawing of a usual day, its busiest half hour `height` pixels high; the daily break has no columns."""
    return tuple(
        Column(30 * place, _percent(30 * place), max(1, round(busy * height / 100)))
        for place, busy in enumerate(ACTIVITY)
        if busy
    )


def in_utc(found: Sequence[Window], now: datetime) -> str:
    """The windows on UTC's clock as of the day of `now` in New York, daylight saving included: `13:30-15:30`."""
    midnight = datetime.combine(now.astimezone(NEW_YORK).date(), time(), NEW_YORK)
    # On the wall, not in hours gone by: on the day of a change 9:30 is still 9:30.
    ahead = int((midnight + timedelta(hours=12)).utcoffset().total_seconds() // 60)  # type: ignore[union-attr]  # zoned
    return " and ".join(f"{clock(window.start - ahead)}\u2013{clock(window.end - ahead)}" for window in found)


def clock(minute: int) -> str:
    """`570` as `9:30`."""
    return f"{minute % DAY // 60}:{minute % 60:02}"


def _window(hour: int, minute: int, to_hour: int, to_minute: int) -> Window:
    start, end = (hour % 24) * 60 + minute, (to_hour % 24) * 60 + to_minute
    return Window(start, end if end > start else end + DAY)


def _joined(found: Sequence[Window]) -> tuple[Window, ...]:
    """Windows that touch become one: the pre-market runs into the open."""
    joined: list[Window] = []
    for window in found:
        if joined and window.start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, window.end))
        else:
            joined.append(window)
    return tuple(joined)


def _percent(minutes: int) -> float:
    return round(minutes * 100 / DAY, 3)
