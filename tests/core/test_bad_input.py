"""Whatever comes in through any door is answered with a sentence, and never with a 500."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import MultiDict

from sts_app.accounts.models import LoginToken, User
from sts_app.audit.models import AuditLog
from sts_app.billing.models import Purchase
from sts_app.core.db import db as database
from sts_app.emails.models import EmailMessage
from sts_app.provisioning import queries
from sts_app.provisioning.models import Grant, TradingViewName
from tests.builders import ODD_TEXTS, alice, count, enter, entitled, lifetime, mallory, named, sam, vendor

ODD_QUERIES = (
    "",
    "q=%00",
    "q=a%00b",
    "q=%FF%FE",
    "q=" + "x" * 5000,
    "q=%F0%9F%91%A9%E2%80%8D%F0%9F%91%A9",
    "q=%25",
    "q=_",
    "q=%5C",
    "q=%27%3B%20DROP%20TABLE%20users%3B--",
    "q=1&q=2&q=3",
    "before=abc",
    "before=-1",
    "before=0",
    "before=99999999999999999999999",
    "before=9223372036854775808",
    "before=1e9",
    "before=%00",
    "before=%D9%A3",
    "state=%00",
    "state=never",
    "state=VERIFIED",
    "n=-1",
    "n=99999999999999999999999",
    "n=abc",
    "success=true&session_id=%00",
    "success=true&session_id=" + "x" * 5000,
    "success=%00",
    "next=%00",
    "next=//evil.example",
    "type=%00",
    "type=never",
    "to=%00",
    "latest=%00",
    "page=-1",
    "=",
    "&&&",
    "%00=%00",
    "a[]=1&a[0]=2",
)
ODD_PIECES = ("nq-trend-rider", "1", "0", "-1", "99999999999999999999999", "9223372036854775808", "%00", "a%00b", "%FF",
              "x" * 3000, "%F0%9F%9A%80", "..%2f..", "%0d%0a", "'", "%D9%A3")  # fmt: skip


def addresses(app, methods=("GET",)):
    """Every route that answers to these methods, with odd pieces in the place of its arguments."""
    for rule in app.url_map.iter_rules():
        if not rule.methods or not set(methods) & rule.methods or rule.rule.startswith("/static"):
            continue
        if not rule.arguments:
            yield rule.rule
            continue
        for piece in ODD_PIECES:
            path = rule.rule
            for argument in rule.arguments:
                start, end = path.index("<"), path.index(">")
                assert argument
                path = path[:start] + piece + path[end + 1 :]
            yield path


@pytest.fixture(params=["stranger", "customer", "staff"])
def visitor(request, app, db) -> FlaskClient:
    """Somebody in front of a store in which something happens."""
    vendor()
    buyer = named(alice(), "Anna")
    entitled(buyer, lifetime())
    visitor, staff = app.test_client(), sam()
    if request.param == "customer":
        enter(visitor, buyer)
    if request.param == "staff":
        enter(visitor, staff)
    return visitor


def test_no_address_of_the_house_breaks_whatever_stands_in_it(app, visitor):
    broken = []
    for path in addresses(app):
        answer = visitor.get(path, buffered=True)
        if answer.status_code >= 500:
            broken.append((answer.status_code, path[:80]))

    assert broken == []


def test_no_page_breaks_whatever_stands_behind_the_question_mark(app, visitor):
    broken = []
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or rule.arguments:
            continue
        for query in ODD_QUERIES:
            answer = visitor.get(f"{rule.rule}?{query}", buffered=True)
            if answer.status_code >= 500:
                broken.append((answer.status_code, rule.rule, query[:40]))

    assert broken == []


def test_no_page_breaks_for_a_script_either(app, visitor):
    broken = []
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and not rule.arguments:
            for query in ("q=%00", "before=99999999999999999999999", "n=-1"):
                answer = visitor.get(f"{rule.rule}?{query}", headers={"HX-Request": "true"}, buffered=True)
                if answer.status_code >= 500:
                    broken.append((answer.status_code, rule.rule, query))

    assert broken == []


def test_no_form_breaks_whatever_is_posted_to_it(app, visitor):
    names = ("email", "name", "tradingview_name", "code", "next", "terms", "disclaimer", "fault", "times", "seconds",
             "amount", "succeeded", "remember")  # fmt: skip
    broken = []
    for path in addresses(app, ("POST",)):
        for text in ("", "\x00", "x" * 10_000, "👩‍👩‍👧‍👦", "a\r\nb", "-1", "99999999999999999999999"):
            answer = visitor.post(path, data=dict.fromkeys(names, text))
            if answer.status_code >= 500:
                broken.append((answer.status_code, path[:80], text[:10]))

    assert broken == []


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/json", "multipart/form-data", "multipart/form-data; boundary=\x01", "a/b/c", ""],
)
def test_a_body_of_another_kind_is_a_form_without_fields(client, kind):
    answer = client.post("/sign-in", data=b"\xff\x00{", content_type=kind)

    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("size", [300_000, 2_000_000])
def test_a_form_that_is_too_long_is_refused_in_one_sentence(client, size):
    answer = client.post("/sign-in", data={"email": "x" * size})

    assert answer.status_code in (413, 422)
    assert "in one piece" in answer.text or "longer than an e-mail address" in answer.text
    assert count(LoginToken) == 0


def test_ten_thousand_fields_are_no_trouble(client):
    answer = client.post("/sign-in", data=MultiDict([(f"f{n}", "x") for n in range(10_000)]))

    assert answer.status_code in (400, 413, 422)


HEADERS = (
    "Cookie Accept User-Agent Referer X-Forwarded-For HX-Request Range If-None-Match If-Modified-Since Authorization "
    "Content-Type"
)


@pytest.mark.parametrize("header", HEADERS.split())
def test_odd_headers_break_nothing(client, header):
    sam()
    for value in ("", "\xff\xfe", "x" * 8000, "a=b; c=d;;;=", "bytes=9-1", "Bearer \xe9", "*/*;q=zzz"):
        for path in ("/", "/api/health", "/dashboard"):
            assert client.get(path, headers={header: value}, buffered=True).status_code < 500


class TestOnboarding:
    FINE = {"name": "Mallory", "tradingview_name": "Mal", "terms": "y", "disclaimer": "y"}

    @pytest.fixture
    def person(self, client, db):
        vendor()
        user = mallory()
        enter(client, user)
        return user

    def test_the_smallest_valid_thing_is_taken(self, client, person):
        answer = client.post("/onboarding", data=self.FINE | {"tradingview_name": " mAl "})

        assert (answer.status_code, answer.location) == (303, "/dashboard")
        assert queries.current_name(person.id).spelling == "MAl"
        assert (person.name, person.texts_version is not None) == ("Mallory", True)

    @pytest.mark.parametrize("missing", ["name", "tradingview_name", "terms", "disclaimer"])
    def test_everything_is_needed(self, client, person, missing):
        answer = client.post("/onboarding", data={k: v for k, v in self.FINE.items() if k != missing})

        assert answer.status_code == 422
        assert nothing_is_kept(person)

    @pytest.mark.parametrize(
        "name",
        [*[text for text in ODD_TEXTS if text not in ("-1", "NaN", "99999999999999999999999")],
         "ab", "x" * 31, "an na", "anna!", "änna", "анна", "anna\x00", "anna;b", "<b>", "@", "anna."],
    )  # fmt: skip
    def test_what_cannot_be_a_tradingview_name_gets_a_sentence(self, client, person, name):
        answer = client.post("/onboarding", data=self.FINE | {"tradingview_name": name.encode("utf-8", "replace")})

        assert answer.status_code == 422
        assert "TradingView name" in answer.text
        assert nothing_is_kept(person)

    def test_a_name_tradingview_does_not_know_gets_a_sentence(self, client, person):
        answer = client.post("/onboarding", data=self.FINE | {"tradingview_name": "unknown_mal"})

        assert answer.status_code == 422
        assert "TradingView does not know this name" in answer.text
        assert nothing_is_kept(person)

    def test_a_name_in_use_gets_a_sentence(self, client, person):
        named(alice(), "Mal")

        answer = client.post("/onboarding", data=self.FINE)

        assert answer.status_code == 422
        assert "in use by another account" in answer.text
        assert nothing_is_kept(person)

    @pytest.mark.parametrize("name", ["\x00", "a\x00b", "a\r\nb", "\x7f", "x" * 101, "x" * 10_000, "", " "])
    def test_what_cannot_be_a_persons_name_gets_a_sentence(self, client, person, name):
        answer = client.post("/onboarding", data=self.FINE | {"name": name})

        assert answer.status_code == 422
        assert nothing_is_kept(person)

    @pytest.mark.parametrize(
        "name", ["👩‍👩‍👧‍👦", "O'Brien; DROP TABLE users", "<script>alert(1)</script>", "{{ 7*7 }}", "李"]
    )
    def test_people_may_be_called_anything_else_and_it_is_shown_as_typed(self, client, person, name):
        assert client.post("/onboarding", data=self.FINE | {"name": name}).status_code == 303

        assert person.name == name
        page = client.get("/onboarding").text
        assert "<script>alert(1)" not in page
        assert "49" not in page.split('name="name"')[1][:120]

    def test_without_the_forms_token_nothing_is_kept(self, client, person):
        assert client.post("/onboarding", data=self.FINE, csrf=False).status_code == 400
        assert nothing_is_kept(person)

    def test_it_leads_on_to_the_checkout_and_nowhere_else(self, client, person):
        assert client.post("/onboarding", data=self.FINE | {"next": "/checkout"}).location == "/checkout"
        assert client.post("/onboarding", data=self.FINE | {"next": "//evil.example"}).location == "/dashboard"


def nothing_is_kept(user: User) -> bool:
    database.session.refresh(user)
    return (count(TradingViewName), count(Grant), user.name, user.texts_version) in ((0, 0, "", None), (1, 0, "", None))


@pytest.mark.parametrize("path", ["/static/%00", "/static/css/%00.css", "/static/" + "x" * 5000, "/static/%FF"])
def test_odd_static_addresses_are_not_there(client, path):
    assert client.get(path).status_code == 404


def test_strangers_who_try_everything_leave_nothing_behind(app, client):
    for path in addresses(app, ("POST",)):
        client.post(path, data={"email": "\x00", "name": "x"}, csrf=False)

    assert [count(model) for model in (User, LoginToken, Purchase, EmailMessage, AuditLog)] == [0] * 5


def test_quoting_is_what_the_odd_pieces_say():
    """The pieces above are typed in their quoted form; this keeps the list honest."""
    assert quote("\x00") == "%00"
    assert quote("🚀") == "%F0%9F%9A%80"
    assert quote("٣") == "%D9%A3"
