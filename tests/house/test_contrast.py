"""The colours of the tokens keep WCAG 2.2 AA in light and in dark."""

import re

import pytest

from sts_app.core.web import STATIC

TEXT, SHAPE = 4.5, 3.0
GROUNDS = ("ground", "surface", "sunken")
TONES = ("success", "warning", "danger", "info")
STYLES = ("momentum", "trend", "breakout", "reversion")
PAIRS = [
    *((text, ground, TEXT) for text in ("ink", "muted", "accent") for ground in GROUNDS),
    *((tone, f"{tone}-soft", TEXT) for tone in TONES),
    *(("ink", f"{tone}-soft", TEXT) for tone in TONES),
    ("accent", "accent-soft", TEXT),
    ("ink", "accent-soft", TEXT),
    ("on-accent", "accent", TEXT),
    ("on-accent", "accent-strong", TEXT),
    ("on-accent", "danger", TEXT),
    ("danger", "ground", TEXT),
    ("danger", "surface", TEXT),
    ("success", "surface", TEXT),
    ("warning", "surface", TEXT),
    *((style, "surface", TEXT) for style in STYLES),
    *((style, "sunken", SHAPE) for style in STYLES),
    ("ground", "ink", TEXT),
    *(("edge", ground, SHAPE) for ground in GROUNDS),
    *(("focus", ground, SHAPE) for ground in GROUNDS),
]


def palettes() -> dict[str, dict[str, str]]:
    css = (STATIC / "css" / "tokens.css").read_text()
    before, _, after = css.partition("@media (prefers-color-scheme: dark)")
    dark, _, _ = after.partition("@media")

    def colours(text):
        return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))

    return {"light": colours(before), "dark": colours(before) | colours(dark)}


def luminance(colour: str) -> float:
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_ruler_is_right():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def test_dark_changes_every_colour():
    light, dark = palettes()["light"], palettes()["dark"]

    assert light.keys() == dark.keys()
    assert all(light[name] != dark[name] for name in light)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground", "needed"), PAIRS)
def test_colours_keep_their_contrast(scheme, text, ground, needed):
    palette = palettes()[scheme]

    assert contrast(palette[text], palette[ground]) >= needed
