import gzip

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.core.db import db as database
from sts_app.core.style import PARTS, style_url
from sts_app.core.web import STATIC


def test_every_page_asks_for_the_one_sheet(client):
    for path in ("/", "/terms", "/sign-in", "/offline", "/nothing/here"):
        page = BeautifulSoup(client.get(path).text, "html.parser")
        assert page.find("link", rel="stylesheet")["href"] == style_url(), path


def test_the_sheet_holds_its_parts_in_order_without_their_comments(client):
    text = client.get(style_url()).text

    assert text.startswith("@font-face")
    assert "/*" not in text
    places = [text.index(words) for words in ("--ground:", ".masthead {", ".lead {", ".button--primary", ".table {")]
    assert places == sorted(places)


def test_it_may_be_kept_for_a_year_and_is_compressed_for_who_asks(client):
    plain, small = client.get(style_url()), client.get(style_url(), headers={"Accept-Encoding": "gzip"})

    assert plain.headers["Cache-Control"] == "max-age=31536000, public, immutable"
    assert plain.mimetype == "text/css"
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.data) == plain.data


def test_its_address_changes_with_a_part_of_it(client, monkeypatch, tmp_path):
    before = style_url()
    (tmp_path / "css").mkdir()
    for part in PARTS:
        (tmp_path / "css" / f"{part}.css").write_text((STATIC / "css" / f"{part}.css").read_text())
    with (tmp_path / "css" / "rows.css").open("a") as rows:
        rows.write(".another { color: red; }\n")
    monkeypatch.setattr("sts_app.core.style.STATIC", tmp_path)

    assert style_url() != before
    assert ".another" in client.get(style_url()).text


def test_it_needs_no_database(app, client):
    """A page about a database that is away must look like one of ours."""
    asked = []
    with app.app_context():
        engine = database.engine
    listen = lambda *_: asked.append(1)  # noqa: E731  # as the event wants it
    sa.event.listen(engine, "before_cursor_execute", listen)
    try:
        assert client.get(style_url()).status_code == 200
    finally:
        sa.event.remove(engine, "before_cursor_execute", listen)
    assert asked == []


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_a_file_of_the_source(part):
    assert (STATIC / "css" / f"{part}.css").is_file()


@pytest.mark.parametrize("query", ["", "?v=", "?v=anything", "?v=a&v=b"])
def test_another_version_than_was_asked_for_is_kept_by_nobody(client, query):
    """While the store is renewed, an older process is asked for the newer sheet."""
    assert client.get(f"/style.css{query}").headers["Cache-Control"] == "no-cache, public"
