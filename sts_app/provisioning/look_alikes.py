"""Names that look the same and are not: a small L, the digit one and a capital i; the digit zero and the letter o.

Pure: nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth"),
    *("nineteenth", "twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth", "twenty-fifth"),
    *("twenty-sixth", "twenty-seventh", "twenty-eighth", "twenty-ninth", "thirtieth"),
)
# What each character is in words, and what it is easily taken for.
_KINDS = {
    "l": ("a small L", "the digit one or a capital i"),
    "I": ("a capital i", "a small L or the digit one"),
    "1": ("the digit one", "a small L or a capital i"),
    "|": ("a vertical bar", "a small L, the digit one or a capital i"),
    "0": ("the digit zero", "the letter o"),
    "O": ("a capital o", "the digit zero"),
}
_PLURALS = {
    "l": "small Ls",
    "I": "capital letters i",
    "1": "digits one",
    "|": "vertical bars",
    "0": "digits zero",
    "O": "capital letters o",
}
# What may have been meant, the likeliest first. TradingView's names ignore case, so a small o may be a capital one
# that was typed small; no name has a vertical bar.
_MEANT = {"l": "I1", "I": "l1", "1": "lI", "|": "lI1", "0": "O", "O": "0", "o": "0"}
MOST_VARIANTS = 4

# What `skeleton` takes for one and the same. `SKELETON_FROM` and `SKELETON_TO` are for SQL's `translate`.
SKELETON_FROM = "I1|oO"
SKELETON_TO = "lll00"
_SKELETON = str.maketrans(SKELETON_FROM, SKELETON_TO)


def look_alikes(name: str) -> list[str]:
    """A sentence for each kind of character in `name` that is easily taken for another, in the order they stand."""
    sentences = []
    for kind in dict.fromkeys(character for character in name if character in _KINDS):
        places = [_ORDINALS[at] for at, character in enumerate(name[: len(_ORDINALS)]) if character == kind]
        what, mistaken_for = _KINDS[kind]
        if len(places) == 1:
            sentences.append(f"The {places[0]} character is {what}, not {mistaken_for}.")
        elif places:
            sentences.append(f"The {_listed(places)} characters are {_PLURALS[kind]}, not {mistaken_for}.")
    return sentences


def variants(name: str, *, most: int = MOST_VARIANTS) -> list[str]:
    """Names that differ from `name` in such characters only, those with the fewest differences first.

    At most `most`, no two equal but for case, and never the name itself. Nobody knows whether they exist.
    """
    found: dict[str, str] = {}
    for variant in _variants(name):
        if len(found) == most:
            break
        if variant.lower() != name.lower() and "|" not in variant:
            found.setdefault(variant.lower(), variant)
    return list(found.values())


def skeleton(name: str) -> str:
    """The same for names that look alike as they are written, and for those that differ in case only, an i aside.

    A capital i looks like a small L and a small i like nothing else, so `Iris` has the skeleton of `lris` and
    `iris` one of its own: taken for one, `mail` and `mall` would be look-alikes.
    """
    return name.translate(_SKELETON).lower()


def _variants(name: str) -> Iterator[str]:
    # A small o is taken for a zero less easily than the others for each other.
    places = sorted((at for at, character in enumerate(name) if character in _MEANT), key=lambda at: name[at] == "o")
    # Two differences at most: beyond that nobody means the name that was typed.
    for differences in (1, 2):
        for changed in combinations(places, differences):
            for meant in product(*(_MEANT[name[at]] for at in changed)):
                characters = list(name)
                for at, character in zip(changed, meant, strict=True):
                    characters[at] = character
                yield "".join(characters)


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
