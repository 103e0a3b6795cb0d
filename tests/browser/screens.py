"""`make screens`: pictures of every page and state, on a phone and on a desk, in the light and in the dark.

They lie in `screens/`, with an `index.html` that shows them side by side. No `test_` stands before the name of this
file, so that `make test` does not gather it.
"""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page

from sts_app.core.web import ROOT
from tests.browser.places import REFUSALS, Place

FOLDER = ROOT / "screens"
SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 900}}
SCHEMES = ("light", "dark")
# Taller pages are cut: what stands below is text that other pictures show.
TALLEST = 6000

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Screens</title>
<style>
  body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: #888; color: #000 }
  h2 { margin: 0; padding: .5rem 1rem; background: #ddd; font-size: 1rem; position: sticky; top: 0 }
  section > div { display: flex; gap: 1rem; padding: 1rem; overflow-x: auto; align-items: flex-start }
  img { height: auto; display: block } .phone { width: 260px } .desk { width: 640px }
</style>
</head>
<body>
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    return FOLDER


def test_every_page_and_state_has_its_pictures(folder, places, open_browser, diary):
    diary.expect(*REFUSALS)
    for scheme in SCHEMES:
        for size, viewport in SIZES.items():
            pages: dict[str, Page] = {}
            for place in places:
                if place.who not in pages:
                    same = (
                        {"user_agent": place.visitor.http.headers["User-Agent"]} if place.visitor.http.cookies else {}
                    )
                    pages[place.who] = open_browser(place.visitor, color_scheme=scheme, viewport=viewport, **same)
                take(pages[place.who], place, folder / f"{place.name}-{size}-{scheme}.png")

    (folder / "index.html").write_text(HEAD + "\n".join(section(place) for place in places) + "\n</body>\n</html>\n")

    assert len(list(folder.glob("*.png"))) == len(places) * len(SIZES) * len(SCHEMES)


def take(page: Page, place: Place, path: Path) -> None:
    page.goto(place.path)
    height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
    width = page.evaluate("innerWidth")
    page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})


def section(place: Place) -> str:
    pictures = "".join(
        f'<a href="{place.name}-{size}-{scheme}.png">'
        f'<img class="{size}" loading="lazy" alt="on a {size}, {scheme}" src="{place.name}-{size}-{scheme}.png"></a>'
        for size in SIZES
        for scheme in SCHEMES
    )
    return f"<section><h2>{html.escape(place.who)}: {html.escape(place.path)}</h2><div>{pictures}</div></section>"
