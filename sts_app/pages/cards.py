"""The pictures that stand beside a link to a page: 1200 by 630, drawn here, one for each page and each strategy.

A card is drawn from its words alone, so the same words give the same bytes, and its address may carry their hash.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import astuple, dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from sts_app.catalog.models import Strategy
from sts_app.catalog.sessions import ACTIVITY, pieces, windows
from sts_app.core.web import STATIC

WIDTH, HEIGHT, EDGE = 1200, 630, 72
FONT = STATIC / "vendor" / "instrument-sans-5.3.0.woff2"
LOOK = "3"  # counts up when the drawing changes, so that nobody keeps an old one

GROUND, INK, MUTED, LINE, ACCENT, DRAWN = "#0e1317", "#e7ecf2", "#a7b3c2", "#27313a", "#63c6d0", "#33404b"
STYLES = {"momentum": "#4fbac7", "trend": "#8fa9f0", "breakout": "#e0a052", "mean-reversion": "#d28fd6"}
RISK = "Trading futures can lose more than you put in. Not investment advice."
# A rise with its falls: a drawing, the same as on the mark.
RISE = (0, 6, 2, 14, 10, 22, 34, 24, 12, 6, 18, 34, 44, 38, 52, 66, 50, 40, 54, 72, 66, 84, 78, 100)


@dataclass(frozen=True)
class Card:
    """What a picture says. `session` draws a day's band; without one a line is drawn."""

    title: str
    text: str
    above: str
    store: str
    session: str = ""
    style: str = ""

    @property
    def version(self) -> str:
        return hashlib.sha256("\x00".join((LOOK, *astuple(self))).encode()).hexdigest()[:12]

    @property
    def alt(self) -> str:
        shown = (
            f"its hours on a band of the day ({self.session})" if self.session else "a drawn line that rises and falls"
        )
        return f"{self.title}. {self.text} Below it {shown}."


def strategy_card(strategy: Strategy, *, store: str) -> Card:
    """The card of one strategy, with its hours."""
    return Card(
        title=strategy.name,
        text=strategy.summary,
        above=f"{strategy.style.replace('-', ' ').capitalize()} · {strategy.market} {strategy.timeframe} · TradingView",
        store=store,
        session=strategy.session,
        style=strategy.style,
    )


@lru_cache(maxsize=64)
def drawn(card: Card) -> bytes:
    """The card as a PNG of 1200 by 630 pixels; the same card gives the same bytes."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    pen = ImageDraw.Draw(picture)
    colour = STYLES.get(card.style, ACCENT)
    _mark(pen, EDGE, 60)
    pen.text((EDGE + 60, 66), card.store, font=_font(28, 600), fill=INK)
    pen.text((WIDTH - EDGE, 72), card.above, font=_font(22, 500), fill=colour, anchor="ra")
    size = 76 if len(card.title) <= 28 else 60
    y = _paragraph(pen, card.title, (EDGE, 148), _font(size, 650), fill=INK, leading=1.1, most=2)
    _paragraph(pen, card.text, (EDGE, y + 18), _font(30, 400), fill=MUTED, leading=1.35, most=2)
    if card.session:
        _day(pen, card.session, colour)
    else:
        _line(pen)
    pen.text((EDGE, HEIGHT - 56), RISK, font=_font(20, 450), fill=MUTED)
    kept = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


@lru_cache(maxsize=32)
def _font(size: int, weight: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(FONT, size)
    font.set_variation_by_axes([weight])
    return font


def _paragraph(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    *,
    fill: str,
    leading: float,
    most: int,
) -> int:
    """Write `text` in at most `most` lines, the last cut with an ellipsis; returns where the next line may begin."""
    width = WIDTH - 2 * EDGE
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = lines[:most]
        while font.getlength(lines[-1] + "…") > width:
            lines[-1] = lines[-1].rpartition(" ")[0]
        lines[-1] += "…"
    x, y = at
    for line in lines:
        pen.text((x, y), line, font=font, fill=fill)
        y += round(font.size * leading)
    return y


def _mark(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.rounded_rectangle((x, y, x + 44, y + 44), 10, fill=ACCENT)
    points = [(x + 8, y + 31), (x + 16, y + 19), (x + 23, y + 27), (x + 36, y + 12)]
    pen.line(points, fill=GROUND, width=4, joint="curve")
    pen.ellipse((x + 32, y + 8, x + 40, y + 16), fill=GROUND)


def _day(pen: ImageDraw.ImageDraw, session: str, colour: str) -> None:
    left, width, floor, band = EDGE, WIDTH - 2 * EDGE, 486, 26
    step = width / len(ACTIVITY)
    for place, busy in enumerate(ACTIVITY):
        if busy:
            x = left + place * step
            pen.rectangle((x, floor - busy, x + step - 5, floor), fill=DRAWN)
    pen.rounded_rectangle((left, floor + 10, left + width, floor + 10 + band), 4, fill=LINE)
    for piece in pieces(windows(session)):
        x = left + piece.x * width / 100
        pen.rounded_rectangle((x, floor + 10, x + piece.width * width / 100, floor + 10 + band), 4, fill=colour)
    font = _font(18, 450)
    for hour, anchor in ((0, "la"), (6, "ma"), (12, "ma"), (18, "ma"), (24, "ra")):
        pen.text((left + hour * width / 24, floor + 42), f"{hour}:00", font=font, fill=MUTED, anchor=anchor)
    pen.text((WIDTH - EDGE, HEIGHT - 56), "Hours in Eastern Time", font=_font(20, 450), fill=MUTED, anchor="ra")


def _line(pen: ImageDraw.ImageDraw) -> None:
    left, width, floor, tall = EDGE, WIDTH - 2 * EDGE, 546, 128
    for quarter in range(4):
        y = floor - quarter * tall / 3
        pen.line((left, y, left + width, y), fill=LINE, width=1)
    step = width / (len(RISE) - 1)
    points = [(left + place * step, floor - high * tall / 100) for place, high in enumerate(RISE)]
    pen.line(points, fill=ACCENT, width=5, joint="curve")
    x, y = points[-1]
    pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=ACCENT)
    pen.text((WIDTH - EDGE, HEIGHT - 56), "A drawing, not a record", font=_font(20, 450), fill=MUTED, anchor="ra")
