from __future__ import annotations

from dataclasses import replace

import pytest
from bs4 import BeautifulSoup

from sts_app.emails.gateway import Letter
from sts_app.emails.simulated import SimulatedMailer
from sts_app.settings import AppEnv

LETTER = Letter(
    sender="STS Strategies <letters@sts.test>",
    to="alice@customers.test",
    subject="Sign in <now>",
    text="Open http://127.0.0.1:5000/sign-in/go?token=abc&next=/ please.\n<script>alert(1)</script>",
    html="<!DOCTYPE html><html><head><title>x</title></head><body style='color: red'>Hello Alice</body></html>",
    kind="sign_in",
)


@pytest.fixture
def letter_id(mailbox) -> str:
    mailer = SimulatedMailer(mailbox)
    letter_id = mailer.send(LETTER, "sign-in:1")
    mailer.send(replace(LETTER, to="bob@customers.test", subject="Welcome"), "welcome:2")
    return letter_id


def test_the_outbox_lists_letters_newest_first(app, letter_id):
    page = BeautifulSoup(app.test_client().get("/dev/outbox").text, "html.parser")

    assert [link.text for link in page.select("tbody a")] == ["Welcome", "Sign in <now>"]


def test_the_outbox_is_searched_by_address(app, letter_id):
    page = BeautifulSoup(app.test_client().get("/dev/outbox?to=ALICE").text, "html.parser")

    assert [link.text for link in page.select("tbody a")] == ["Sign in <now>"]
    assert page.select_one("input[name=to]")["value"] == "ALICE"


def test_an_empty_outbox_says_so(app, mailbox):
    assert "No letter has been sent yet." in app.test_client().get("/dev/outbox").text
    assert "No letter went to" in app.test_client().get("/dev/outbox?to=x").text


def test_a_letter_shows_its_text_with_links_and_nothing_else_alive(app, letter_id):
    answer = app.test_client().get(f"/dev/outbox/{letter_id}")

    page = BeautifulSoup(answer.text, "html.parser")
    [link] = page.select("#text a")
    assert link["href"] == "http://127.0.0.1:5000/sign-in/go?token=abc&next=/"
    assert page.select("#text script") == []
    assert page.select_one("iframe")["src"] == f"/dev/outbox/{letter_id}/html"
    assert "allow-scripts" not in page.select_one("iframe")["sandbox"]
    assert "frame-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_html_part_has_its_own_policy(app, letter_id):
    answer = app.test_client().get(f"/dev/outbox/{letter_id}/html")

    policy = answer.headers["Content-Security-Policy"]
    assert "Hello Alice" in answer.text
    assert '<base target="_top">' in answer.text
    assert "default-src 'none'" in policy
    assert "style-src 'unsafe-inline'" in policy
    assert "script-src" not in policy
    assert "sandbox allow-top-navigation-by-user-activation" in policy
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


def test_the_relaxed_policy_is_that_of_one_address(app, letter_id):
    for path in ("/dev/outbox", f"/dev/outbox/{letter_id}"):
        answer = app.test_client().get(path)
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_programs_read_the_outbox_as_json(app, letter_id):
    answer = app.test_client().get("/dev/outbox.json?to=alice@customers.test")

    [letter] = answer.json
    assert letter["subject"] == "Sign in <now>"
    assert letter["kind"] == "sign_in"
    assert letter["text"] == LETTER.text
    assert letter["html"] == LETTER.html
    assert letter["sent_at"].endswith("+00:00")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("changes", [{"mail_vendor": "live"}, {"app_env": AppEnv.PRODUCTION}])
@pytest.mark.parametrize("path", ["/dev/outbox", "/dev/outbox.json", "/dev/outbox/{}", "/dev/outbox/{}/html"])
def test_nothing_is_there_where_mail_is_real(app, letter_id, monkeypatch, changes, path):
    settings = app.config["STS"]
    monkeypatch.setitem(app.config, "STS", settings.model_copy(update=changes))

    assert app.test_client().get(path.format(letter_id)).status_code == 404


def test_an_unknown_letter_is_not_there(app, mailbox):
    assert app.test_client().get("/dev/outbox/0123").status_code == 404
    assert app.test_client().get("/dev/outbox/0123/html").status_code == 404
