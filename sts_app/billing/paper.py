"""A4 pages in a font of our own, the same to the byte for the same words.

Of its two libraries nobody else has need, and they take some 20 MB: import this file where a paper is made.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import Align, XPos, YPos

FONTS = Path(__file__).parent / "fonts"
SANS = "DejaVu Sans"
MARGIN = 18.0
NAME_WIDTH = 46.0
QUIET, LOUD = 90, 0
# A line is so high, in millimetres for each point of its letters.
LINE = 0.5
# Stands for the number of pages until it is known; no text holds it, because what cannot be seen is written out.
HOW_MANY = "\x1f\x1f"


class Paper(FPDF):
    """Pages that name themselves at the top and count themselves at the foot.

    `made_at` stands in the file in place of the time of writing. What the font has no glyph for is written by
    its number, [U+6771], because a sign in its place would say something else. Letters of a script that runs from
    right to left stand from left to right, in the order in which they are read.
    """

    def __init__(self, title: str, *, made_at: datetime) -> None:
        super().__init__(format="A4")
        self._title = title
        self.add_font(SANS, "", FONTS / "DejaVuSans-2.37.ttf")
        self.add_font(SANS, "B", FONTS / "DejaVuSans-Bold-2.37.ttf")
        self.alias_nb_pages(HOW_MANY)
        self.set_font(SANS)
        self._known = frozenset(self.current_font.cmap)  # type: ignore[union-attr]  # a file's font has one
        self.set_margins(MARGIN, MARGIN)
        self.set_auto_page_break(True, margin=MARGIN)
        self.set_creation_date(made_at)
        self.set_title(self._readable(title))
        self.add_page()

    def header(self) -> None:
        if self.page_no() > 1:
            self._margin_note(self._readable(self._title), Align.L)
            self.ln(6)

    def footer(self) -> None:
        self.set_y(-12)
        self._margin_note(f"{self.page_no()} of {HOW_MANY}", Align.R)

    def say(self, text: str, *, size: float = 9.5, bold: bool = False, after: float = 1.2) -> None:
        """A paragraph; its own line breaks stay. `size` is in points, the space `after` it in millimetres."""
        self.set_font(SANS, "B" if bold else "", size)
        readable = self._readable(text)
        self.multi_cell(0, size * LINE, readable, align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(after)

    def part(self, title: str) -> None:
        """A heading, which is never the last line of a page."""
        if self.will_page_break(24):
            self.add_page()
        else:
            self.ln(4)
        self.say(title, size=12.5, bold=True, after=1.5)

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, side by side. What has no value is left out."""
        for name, value in pairs:
            if not value:
                continue
            self.set_font(SANS, "B", 9.5)
            self.cell(NAME_WIDTH, 9.5 * LINE, self._readable(name))
            self.set_font(SANS, "", 9.5)
            readable = self._readable(value)
            self.multi_cell(0, 9.5 * LINE, readable, align=Align.L, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
            self.ln(1.2)

    def _margin_note(self, text: str, align: Align) -> None:
        self.set_font(SANS, "", 8)
        self.set_text_color(QUIET)
        self.cell(0, 4, text, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_text_color(LOUD)

    def _readable(self, text: str) -> str:
        # What cannot be seen, and turns others round or hides them, is written out as well.
        lines = text.replace("\r\n", "\n").expandtabs(4)
        return "".join(
            one
            if one == "\n" or (ord(one) in self._known and not unicodedata.category(one).startswith("C"))
            else f"[U+{ord(one):04X}]"
            for one in lines
        )
