"""`make lighthouse` begins with it: the markup of every page against the standard, by html-validate from npm.

`make test` knows whole markup, ids and what points to them; this knows what may stand in what, and its attributes.
"""

from __future__ import annotations

import json
import subprocess

from sts_app.core.web import ROOT

FOLDER = ROOT / "tests" / "lighthouse"


def test_every_page_keeps_to_the_standard(crawls):
    pages = {
        f"{crawl.who} {page.path}": page.content.decode()
        for crawl in crawls.values()
        for page in crawl.whole_pages()
        if not page.path.startswith(("/dev/letters/", "/dev/outbox/"))
    }
    given = json.dumps([{"name": name, "html": html} for name, html in pages.items()])

    told = subprocess.run(["node", "markup.mjs"], cwd=FOLDER, input=given, capture_output=True, text=True, timeout=120)

    assert told.returncode == 0, told.stderr
    assert not told.stdout, told.stdout
