"""What is looked for on a page in a browser: anything that axe finds, and anything that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Page

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
# By the names of the rules' own sets: WCAG 2.2 at A and AA, and what axe holds to be good practice.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SMALL_PHONE = {"width": 320, "height": 640}
# A desk of 1280 px at 200 %.
TWICE_AS_LARGE = {"width": 640, "height": 400}


def against_axe(page: Page) -> list[str]:
    """What axe finds on the page as it stands, in words. What a frame shows is looked at by itself."""
    # By the debugger, which needs no hole in the page's content security policy.
    debugger = page.context.new_cdp_session(page)
    debugger.send("Runtime.evaluate", {"expression": AXE})
    debugger.detach()
    found: list[dict[str, Any]] = page.evaluate(
        """async rules => (await axe.run({
             runOnly: {type: "tag", values: rules}, resultTypes: ["violations"], iframes: false
           })).violations""",
        RULES,
    )
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def too_wide(page: Page) -> list[str]:
    """Whether one would have to scroll sideways, on a small phone and at 200 %."""
    usual = page.viewport_size
    found = []
    for size in (SMALL_PHONE, TWICE_AS_LARGE):
        page.set_viewport_size(size)  # type: ignore[arg-type]  # a dictionary of this shape
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            found.append(f"{width} px wide where {size['width']} px are: {page.evaluate(WIDEST)}")
    if usual is not None:
        page.set_viewport_size(usual)
    return found


WIDEST = """() => [...document.querySelectorAll("body *")]
  .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .slice(0, 3).map(one => one.outerHTML.slice(0, 80))"""
