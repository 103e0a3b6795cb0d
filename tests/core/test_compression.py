import gzip

import pytest

from sts_app.core import compression
from sts_app.core.web import STATIC, static_url
from tests.builders import alice, enter, lifetime

GZIP = {"Accept-Encoding": "gzip, br"}


@pytest.fixture
def sold(db):
    assert lifetime()


@pytest.mark.parametrize("path", ["/", "/faq", "/terms", "/robots.txt", "/sitemap.xml"])
def test_a_page_made_for_everybody_is_compressed(client, sold, path):
    plain, small = client.get(path), client.get(path, headers=GZIP)
    if len(plain.data) < compression.SMALLEST:
        assert "Content-Encoding" not in small.headers
        return

    assert small.headers["Content-Encoding"] == "gzip"
    assert int(small.headers["Content-Length"]) == len(small.data) < len(plain.data)
    assert "Accept-Encoding" in small.headers["Vary"]
    assert gzip.decompress(small.data)[:15] == plain.data[:15]


def test_who_does_not_ask_gets_it_plain_and_caches_are_told(client, sold):
    answer = client.get("/terms")

    assert "Content-Encoding" not in answer.headers
    assert "Accept-Encoding" in answer.headers["Vary"]


def test_who_refuses_it_gets_it_plain(client, sold):
    assert "Content-Encoding" not in client.get("/terms", headers={"Accept-Encoding": "gzip;q=0"}).headers


def test_a_page_that_answers_to_a_query_is_not(client, sold):
    assert "Content-Encoding" not in client.get("/faq?q=refund", headers=GZIP).headers


@pytest.mark.parametrize("path", ["/sign-in", "/dev/outbox"])
def test_a_page_with_a_link_or_a_code_on_it_is_not(client, sold, path):
    assert "Content-Encoding" not in client.get(path, headers=GZIP).headers


@pytest.mark.parametrize("path", ["/strategies", "/pricing", "/contact", "/nothing/here"])
def test_a_page_with_the_token_of_a_form_is_not(client, sold, path):
    answer = client.get(path, headers=GZIP)

    assert "csrf" in answer.text.lower()
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(("kept", "small"), [("no-store", False), ("public", True)])
def test_a_page_that_no_cache_may_keep_is_not(app, kept, small):
    with app.test_request_context("/terms", headers=GZIP):
        answer = app.response_class("x" * 2000, mimetype="text/html", headers={"Cache-Control": kept})

        assert compression._may_be_compressed(answer) is small


@pytest.mark.parametrize("path", ["/", "/pricing", "/dashboard"])
def test_a_page_made_for_somebody_is_not(client, sold, path):
    enter(client, alice())

    assert "Content-Encoding" not in client.get(path, headers=GZIP).headers


@pytest.mark.parametrize("path", ["css/public.css", "js/site.js", "vendor/htmx-4.0.1.min.js"])
def test_a_static_text_is_compressed_and_the_same_in_the_end(client, path):
    with client.get(f"/static/{path}", headers=GZIP) as small:
        assert small.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(small.data) == (STATIC / path).read_bytes()
        assert small.headers["Cache-Control"] == "max-age=31536000, public, immutable"


@pytest.mark.parametrize("path", ["css/public.css", "img/mark.svg"])
def test_another_version_than_was_asked_for_is_kept_by_nobody(client, path):
    with client.get(static_url(path)) as right, client.get(f"/static/{path}?v=000000000000") as other:
        assert right.headers["Cache-Control"] == "max-age=31536000, public, immutable"
        assert other.headers["Cache-Control"] == "no-cache, public"


@pytest.mark.parametrize("path", ["img/icon-512.png", "vendor/instrument-sans-5.3.0.woff2", "img/mark.svg"])
def test_what_would_not_get_smaller_is_left(client, path):
    with client.get(f"/static/{path}", headers=GZIP) as answer:
        assert "Content-Encoding" not in answer.headers
        assert answer.data == (STATIC / path).read_bytes()


def test_a_part_of_a_file_is_given_as_it_stands(client):
    with client.get("/static/js/site.js", headers=GZIP | {"Range": "bytes=0-9"}) as answer:
        assert (answer.status_code, answer.data) == (206, (STATIC / "js/site.js").read_bytes()[:10])
        assert "Content-Encoding" not in answer.headers


def test_what_the_browser_has_is_not_sent_again(client):
    with client.get("/static/js/site.js", headers=GZIP) as first:
        etag = first.headers["ETag"]
    with client.get("/static/js/site.js", headers=GZIP | {"If-None-Match": etag}) as again:
        assert (again.status_code, again.data) == (304, b"")
