"""What a page costs its visitor: few requests, few bytes, nobody else asked, nothing that jumps."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Response

from sts_app.ops.journey import Visitor

MOST_REQUESTS = 10
MOST_BYTES = 60_000
JUMPS = """() => new Promise(tell => {
  let sum = 0;
  new PerformanceObserver(list => list.getEntries().forEach(one => { sum += one.hadRecentInput ? 0 : one.value; }))
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => tell(sum), 150);
})"""


@pytest.fixture
def loaded(open_browser) -> tuple[list[Response], list[int]]:
    """What came with the front page at a first visit, and how many bytes each of it was on the way."""
    page: Page = open_browser(viewport={"width": 390, "height": 844})
    answers: list[Response] = []
    sizes: list[int] = []
    page.on("response", lambda answer: answers.append(answer))
    debugger = page.context.new_cdp_session(page)
    debugger.on("Network.loadingFinished", lambda done: sizes.append(int(done["encodedDataLength"])))
    debugger.send("Network.enable")
    page.goto("/", wait_until="networkidle")
    return answers, sizes


def test_the_front_page_is_light(loaded):
    answers, sizes = loaded

    assert len(answers) <= MOST_REQUESTS, [answer.url for answer in answers]
    assert len(sizes) == len(answers)
    assert 10_000 < sum(sizes) <= MOST_BYTES, sizes


def test_what_may_be_kept_is_kept_for_a_year(loaded):
    answers, _ = loaded
    files = [answer for answer in answers if urlsplit(answer.url).path.startswith("/static/")]

    assert files
    assert [answer.url for answer in files if "max-age=31536000" not in answer.headers["cache-control"]] == []


@pytest.mark.parametrize("size", [(390, 844), (1280, 900)], ids=["phone", "desk"])
def test_nothing_jumps_and_nobody_else_is_asked_on_any_public_page(store, open_browser, size):
    # Where the hours of a session are told anew by script, in another time zone than the page was made in.
    page = open_browser(viewport={"width": size[0], "height": size[1]}, timezone_id="America/Argentina/Buenos_Aires")
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    sitemap = Visitor(store.url).open("/sitemap.xml").answer.text
    paths = [path.removeprefix(store.url) or "/" for path in re.findall(r"<loc>([^<]+)</loc>", sitemap)]
    jumped = {}
    for path in paths:
        page.goto(path)
        # To three digits, as it is measured everywhere: letters of a font that has just come may be a hair wider.
        if (sum_of_jumps := round(page.evaluate(JUMPS), 3)) > 0:
            jumped[path] = sum_of_jumps

    assert paths
    assert jumped == {}
    assert asked == {urlsplit(store.url).netloc}
