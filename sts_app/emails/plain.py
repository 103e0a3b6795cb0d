"""The text part of a letter, laid out for people who read mail as text."""

from __future__ import annotations

import re

WIDTH = 76
# The line that every mail program knows as the start of a signature; its blank at the end is part of it.
SIGNATURE = "-- "
ADDRESS = re.compile(r"https?://\S+")
# A command in backticks is copied whole, so it is never broken.
WORD = re.compile(r"`[^`\n]*`\S*|\S+")


def laid_out(text: str) -> str:
    """`text` in lines of at most 76 columns, each address on a line of its own, and no two blank lines in a row.

    Each line given is a paragraph or an item of a list; an item's further lines stand below its text. An
    address is never broken, however long it is: a mail program makes a link of what stands in one line.
    """
    lines: list[str] = []
    for line in text.strip().splitlines():
        lines += [SIGNATURE] if line == SIGNATURE else _lines_of(line.rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _lines_of(line: str) -> list[str]:
    hang = "  " if line.startswith("- ") else ""
    lines: list[str] = []
    here = ""
    for word in WORD.findall(line):
        address = ADDRESS.match(word)
        if address is not None:
            # What ends a sentence would be taken for a part of the address.
            lines += [*([here] if here else []), address[0].rstrip(".,;:!?)")]
            here = ""
        elif not here:
            here = (hang if lines else "") + word
        elif len(here) + 1 + len(word) <= WIDTH:
            here = f"{here} {word}"
        else:
            lines.append(here)
            here = hang + word
    return [*lines, here] if here or not lines else lines
