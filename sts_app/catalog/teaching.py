"""What a page says about a style of trading, beside what its strategy says of itself.

The weakness of a style belongs on the page that sells it. A style that is not known here has a page without these
words: nothing is made up for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StyleNotes:
    """The same for every strategy of one style. `drawing` tells in words what the drawing of the method shows."""

    idea: str
    weakness: str
    not_for: str
    is_not: tuple[str, str]
    drawing: str


NOTES = {
    "momentum": StyleNotes(
        idea="A move that begins with volume often goes on for a while.",
        weakness=(
            "It loses when moves start and stop: price leaves its range, volume comes, and then nobody follows. Days "
            "with one push and a long pause cost it the most."
        ),
        not_for="Traders who want a signal every day: without volume there is no trade.",
        is_not=(
            "It does not chase: when the first push is over, it has missed that trade.",
            "It does not forecast the day. It reacts to what has begun.",
        ),
        drawing=(
            "Price moves sideways in a range, then leaves it upwards while the columns of volume below grow. The entry "
            "is marked where both happen, and a stop follows below."
        ),
    ),
    "trend": StyleNotes(
        idea="A direction that several timeframes share tends to outlast a pullback.",
        weakness=(
            "It loses in sideways markets, in small amounts and often several times in a row. Between two long moves "
            "that can take weeks."
        ),
        not_for="Traders who need to be right most of the time: this style is wrong often, and small.",
        is_not=(
            "It does not catch tops or bottoms. It comes late and leaves late, by design.",
            "It does not average down: a position that goes wrong is ended by its stop.",
        ),
        drawing=(
            "Price climbs in steps. The entry is marked at the end of a pullback, and a stop below rises in stairs "
            "behind the price."
        ),
    ),
    "breakout": StyleNotes(
        idea="Levels that many have watched matter most in the moment they give way.",
        weakness=(
            "It loses on false breaks: price leaves the level, volume is there, and it comes straight back. Narrow "
            "days after a large move are full of them."
        ),
        not_for="Traders who arrive after the bell: the levels are drawn before it.",
        is_not=(
            "It does not guess which way a level breaks. It waits for the break.",
            "It does not hold for the whole day: what the first push gives is taken early.",
        ),
        drawing=(
            "A dashed level lies above the price. One quiet touch beyond it is ignored; a later break comes with tall "
            "columns of volume, and the entry is marked there."
        ),
    ),
    "mean-reversion": StyleNotes(
        idea="A push without volume behind it tends to give back a part of its way.",
        weakness=(
            "It loses on days with a strong trend, where price stretches, rests, and stretches further. Each of these "
            "losses is small; on such a day there can be several."
        ),
        not_for="Traders who want to follow the crowd: it trades against the last push.",
        is_not=(
            "It does not add to a losing position in the hope that price must return.",
            "It does not call a turn of the market. It aims at the average and no further.",
        ),
        drawing=(
            "Price falls away from a dashed average while the columns of volume below it shrink. The entry is marked "
            "near the low, a line close below says where the idea is wrong, and price returns towards the average."
        ),
    ),
}


def style_notes(style: str) -> StyleNotes | None:
    """What is known of this style, or None."""
    return NOTES.get(style)
