"""How answers are made: paths of ours, refusals in three dresses, headers on all, static files, macros."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from sts_app import create_app
from sts_app.core import web
from sts_app.core.errors import AlreadyDone, FixInput, NotNow, NotThere, Refusal, SignInFirst, SlowDown, StaffOnly
from sts_app.core.web import own_path
from sts_app.settings import load
from tests.builders import EVIL_PATHS, alice, enter
from tests.world import ENV

HTMX = {"HX-Request": "true"}


class TestOwnPath:
    @pytest.mark.parametrize(
        "path", ["/", "/dashboard", "/strategies/nq-trend-rider?a=1&b=//x", "/faq#how", "/a/b/../c"]
    )
    def test_a_path_of_ours_is_kept(self, path):
        assert own_path(path) == path

    @pytest.mark.parametrize("path", [*EVIL_PATHS, None, "/a b", "/a\x7f", "/\u0000"])
    def test_anything_else_is_dropped(self, path):
        assert own_path(path) is None

    @given(st.text(max_size=40) | st.text(alphabet="/\\:.@?#\t e", max_size=12))
    def test_what_is_kept_is_never_another_site_to_a_browser(self, text):
        kept = own_path(text)

        if kept is not None:
            seen_by_a_browser = kept.replace("\\", "/").replace("\t", "").replace("\n", "").replace("\r", "")
            assert seen_by_a_browser.startswith("/")
            assert not seen_by_a_browser.startswith("//")


REFUSALS = [NotThere, SignInFirst, StaffOnly, FixInput, AlreadyDone, SlowDown, NotNow]


class TestRefusals:
    @pytest.fixture
    def refuse(self, app, client, monkeypatch):
        """Ask an address whose view refuses."""

        def refuse(refusal, path="/faq", endpoint="pages.faq", **request):
            def view():
                raise refusal

            monkeypatch.setitem(app.view_functions, endpoint, view)
            return client.get(path, **request)

        return refuse

    @pytest.mark.parametrize("kind", REFUSALS)
    def test_a_visitor_gets_a_page_with_the_sentence(self, refuse, kind):
        answer = refuse(kind(cause="the cause is for staff"))

        assert answer.status_code == kind.status
        assert answer.mimetype == "text/html"
        assert kind.sentence in answer.text
        assert "the cause" not in answer.text
        assert "</html>" in answer.text

    @pytest.mark.parametrize("kind", REFUSALS)
    def test_a_script_gets_the_sentence_alone(self, refuse, kind):
        answer = refuse(kind(), headers=HTMX)

        assert answer.status_code == kind.status
        assert answer.text == f'<p class="notice notice--danger" role="alert">{kind.sentence}</p>'

    @pytest.mark.parametrize("kind", REFUSALS)
    def test_a_machine_gets_json_with_the_code(self, refuse, kind):
        answer = refuse(kind(cause="x"), path="/api/health", endpoint="ops.api_health")

        assert answer.status_code == kind.status
        assert answer.json == {
            "error": {"code": kind.code, "message": kind.sentence},
            "requestId": answer.headers["X-Request-Id"],
        }

    def test_a_script_that_must_sign_in_is_sent_there(self, refuse):
        assert refuse(SignInFirst(), headers=HTMX).headers["HX-Redirect"] == "/sign-in"

    def test_a_wait_is_named_in_seconds(self, refuse):
        assert refuse(NotNow(retry_after=60)).headers["Retry-After"] == "60"

    def test_a_sentence_is_escaped(self, refuse):
        evil = Refusal("<script>alert(1)</script>")

        assert "<script>alert" not in refuse(evil).text
        assert "<script>alert" not in refuse(evil, headers=HTMX).text

    def test_an_unknown_address(self, client):
        page, machine = client.get("/never-was"), client.get("/api/never-was")

        assert (page.status_code, machine.status_code) == (404, 404)
        assert "There is nothing at this address" in page.text
        assert machine.json["error"]["code"] == "NOT_FOUND"

    @pytest.mark.parametrize("path", ["/checkout", "/sign-in", "/api/webhooks/stripe"])
    def test_another_method(self, client, path):
        answer = client.delete(path)

        assert answer.status_code == 405
        assert "does not answer that kind of request" in answer.text


class TestUnforeseen:
    @pytest.fixture
    def broken(self, app, client, monkeypatch):
        def view():
            raise RuntimeError("password=hunter2")

        monkeypatch.setitem(app.view_functions, "pages.faq", view)
        monkeypatch.setitem(app.view_functions, "ops.api_health", view)
        monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
        return client

    @pytest.mark.parametrize(("path", "headers"), [("/faq", {}), ("/faq", HTMX), ("/api/health", {})])
    def test_it_is_a_sentence_and_a_number_to_quote_and_no_detail(self, broken, path, headers):
        answer = broken.get(path, headers=headers)

        assert answer.status_code == 500
        assert "Something broke on our side" in answer.text
        assert "hunter2" not in answer.text
        assert "Traceback" not in answer.text
        assert answer.headers["X-Request-Id"]

    def test_an_error_page_that_breaks_itself_is_still_an_answer(self, broken, monkeypatch):
        def broken_template(*arguments, **keywords):
            raise RuntimeError("the template is broken too")

        monkeypatch.setattr(web, "render_template", broken_template)

        answer = broken.get("/faq")

        assert answer.status_code == 500
        assert answer.text.startswith("Something broke on our side.")
        assert answer.text.endswith(f"Incident {answer.headers['X-Request-Id']}")


@pytest.fixture(scope="module")
def lost_house(app):
    """The same house on a machine where neither PostgreSQL nor Redis answers."""
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    return create_app(load({**ENV, **away, "LOG_LEVEL": "ERROR"}))


class TestWithoutADatabase:
    @pytest.mark.parametrize("path", ["/", "/pricing", "/strategies", "/strategies/nq-trend-rider", "/checkout"])
    def test_a_page_that_needs_it_says_sorry_with_a_page(self, lost_house, path):
        answer = lost_house.test_client().get(path, headers={"Accept": "text/html"})

        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
        assert "cannot reach its records" in answer.text
        assert "</html>" in answer.text
        assert "127.0.0.1" not in answer.text

    def test_even_for_somebody_who_was_signed_in(self, lost_house):
        visitor = lost_house.test_client()
        with visitor.session_transaction() as session:
            session["_user_id"] = "a-session-nobody-can-look-up"

        answer = visitor.get("/pricing")

        assert answer.status_code == 503
        assert "cannot reach its records" in answer.text

    @pytest.mark.parametrize("path", ["/privacy", "/disclaimer", "/robots.txt", "/sign-in"])
    def test_a_page_that_needs_none_is_there(self, lost_house, path):
        assert lost_house.test_client().get(path).status_code == 200


class TestHeaders:
    PROMISED = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "strict-origin-when-cross-origin",
    }

    @pytest.mark.parametrize(
        ("method", "path", "headers", "status"),
        [
            ("get", "/", {}, 200),
            ("get", "/faq", HTMX, 200),
            ("get", "/dashboard", {}, 303),
            ("get", "/dashboard/standing", HTMX, 401),
            ("get", "/never-was", {}, 404),
            ("get", "/api/never-was", {}, 404),
            ("get", "/health", {}, 200),
            ("get", "/healthz", {}, 200),
            ("get", "/robots.txt", {}, 200),
            ("get", "/sitemap.xml", {}, 200),
            ("get", "/favicon.ico", {}, 200),
            ("get", "/api/webhooks/stripe", {}, 405),
            ("post", "/api/webhooks/stripe", {}, 400),
            ("post", "/sign-in", {}, 422),
            ("post", "/sign-out", HTMX, 204),
            ("head", "/", {}, 200),
            ("options", "/", {}, 200),
        ],
    )
    def test_every_kind_of_answer_carries_them(self, client, method, path, headers, status):
        answer = getattr(client, method)(path, headers=headers, buffered=True)

        assert answer.status_code == status
        assert {name: answer.headers.get(name) for name in self.PROMISED} == self.PROMISED
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "Server-Timing" not in answer.headers

    def test_an_unforeseen_error_carries_them_too(self, app, client, monkeypatch):
        def view():
            raise RuntimeError

        monkeypatch.setitem(app.view_functions, "pages.faq", view)
        monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)

        answer = client.get("/faq")

        assert answer.status_code == 500
        assert {name: answer.headers.get(name) for name in self.PROMISED} == self.PROMISED

    def test_a_static_file_is_not_sniffed(self, client):
        answer = client.get(static_path(client, "css"), buffered=True)

        assert answer.status_code == 200
        assert answer.headers.get("X-Content-Type-Options") == "nosniff"

    def test_a_good_request_id_is_kept_and_a_bad_one_replaced(self, client):
        kept = client.get("/health", headers={"X-Request-Id": "abcdef-123456"})
        bad = client.get("/health", headers={"X-Request-Id": "<script>alert(1)</script>"})

        assert kept.headers["X-Request-Id"] == "abcdef-123456"
        assert "<" not in bad.headers["X-Request-Id"]

    def test_a_page_says_that_it_differs_for_scripts(self, client):
        assert "HX-Request" in client.get("/faq").headers["Vary"]

    def test_https_is_asked_for_where_the_address_is_https(self, servers, app):
        env = {"APP_URL": "https://sts.example", "DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
        house = create_app(load({**ENV, **env, "REDIS_URL": servers.redis_url, "LOG_LEVEL": "ERROR"}))

        plain = house.test_client().get("/privacy", base_url="http://sts.example")
        secure = house.test_client().get("/privacy", base_url="https://sts.example")

        assert plain.status_code in (301, 302, 308)
        assert plain.location == "https://sts.example/privacy"
        assert secure.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def static_path(client, kind: str) -> str:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(client.get("/privacy").text, "html.parser")
    return str(soup.select_one("link[rel=stylesheet]")["href"] if kind == "css" else soup.select_one("script")["src"])


class TestStatic:
    def test_the_address_holds_the_hash_of_the_content(self, app):
        path = next(web.STATIC.glob("css/*.css")).relative_to(web.STATIC).as_posix()

        digest = hashlib.sha256((web.STATIC / path).read_bytes()).hexdigest()
        assert web.static_url(path) == f"/static/{path}?v={digest[:12]}"

    def test_a_file_may_be_kept_for_a_year(self, client):
        assert "max-age=31536000" in client.get(static_path(client, "js"), buffered=True).headers["Cache-Control"]

    @pytest.mark.parametrize(
        "path",
        [
            "/static/../sts_app/settings.py",
            "/static/..%2fpyproject.toml",
            "/static/%2e%2e/pyproject.toml",
            "/static/x.css",
        ],
    )
    def test_nothing_else_is_given_out(self, client, path):
        assert client.get(path).status_code == 404


class TestBlocks:
    def test_a_script_gets_the_block_and_a_person_the_page(self, client):
        page, block = client.get("/faq"), client.get("/faq", headers=HTMX)

        assert "</html>" in page.text
        assert "<html" not in block.text
        assert block.text.strip() in page.text

    def test_a_redirect_after_a_post_is_303_or_a_header_for_scripts(self, client, db):
        enter(client, alice())

        by_form = client.post("/sign-out")
        by_script = client.post("/sign-out", headers=HTMX)

        assert (by_form.status_code, by_form.location) == (303, "/")
        assert (by_script.status_code, by_script.headers["HX-Redirect"], by_script.data) == (204, "/", b"")

    def test_a_toast_is_shown_once(self, client, db):
        client.post("/sign-out")

        assert "You are signed out." in client.get("/privacy").text
        assert "You are signed out." not in client.get("/privacy").text


class TestMacros:
    def test_a_macro_is_found_by_name_in_any_file_of_ui(self, app):
        macros = web.Macros(app.jinja_env)

        with app.test_request_context():
            assert "Save" in macros.button("Save")

    def test_a_name_nobody_wrote_is_an_error_that_says_so(self, app):
        macros = web.Macros(app.jinja_env)

        with pytest.raises(AttributeError, match="no macro named flying_saucer in templates/ui"):
            _ = macros.flying_saucer

    def test_private_names_are_not_looked_for(self, app):
        with pytest.raises(AttributeError):
            _ = web.Macros(app.jinja_env)._secret


def test_addresses_in_letters_come_from_the_settings_and_not_from_a_request(app):
    with app.app_context():
        assert web.address_of("pages.dashboard") == f"{app.config['STS'].public_url}/dashboard"


def test_a_forged_host_changes_no_address(app, client):
    headers = Headers({"Host": "evil.example"})

    assert "evil.example" not in client.get("/sitemap.xml", headers=headers).text
    assert "evil.example" not in client.get("/robots.txt", headers=headers).text
