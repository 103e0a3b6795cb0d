from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.core.db import db as database
from sts_app.emails.gateway import Happened, Letter
from sts_app.emails.models import EmailMessage
from sts_app.emails.simulated import SimulatedMailer, delivered
from sts_app.ops.letter_book import BOOK
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


class TestWhatBecomesOfALetter:
    @pytest.fixture
    def sent(self, client, mailbox, monkeypatch, post) -> str:
        """A letter of ours that the provider delivered, and a provider that rings the webhook's own view."""
        from jobs import emails as emails_jobs

        mailer = SimulatedMailer(
            mailbox,
            webhook_secrets=client.application.config["STS"].resend_webhook_secrets,
            webhook_url="http://here/api/webhooks/resend",
            post=lambda url, *, data, headers, **_: client.application.test_client().post(
                "/api/webhooks/resend", data=data, headers=headers, csrf=False
            ),
        )
        monkeypatch.setitem(client.application.extensions, "sts_mailer", mailer)
        post(key="parcel:7")
        database.session.commit()
        emails_jobs.work()
        return delivered(mailbox)[0].id

    def act(self, client, letter_id, happened):
        return client.post(f"/dev/outbox/{letter_id}/tell", data={"happened": happened})

    @pytest.mark.parametrize("happened", [each for each in Happened if each is not Happened.SUPPRESSED])
    def test_each_act_rings_the_webhook_and_marks_the_letter(self, client, sent, happened):
        answer = self.act(client, sent, happened)

        assert (answer.status_code, answer.location) == (303, f"/dev/outbox/{sent}")
        letter = database.session.scalars(sa.select(EmailMessage)).one()
        assert (letter.trouble, letter.delivered_at is not None) == (
            (None, True) if happened is Happened.DELIVERED else (happened, False)
        )

    def test_the_page_tells_what_was_told_and_how_that_was_answered(self, client, sent):
        self.act(client, sent, "bounced")
        client.post(f"/dev/outbox/{sent}/tell-again")

        page = BeautifulSoup(client.get(f"/dev/outbox/{sent}").text, "html.parser")
        assert page.select_one("tbody").get_text(" ", strip=True).startswith("Bounced")
        assert page.select_one("tbody").get_text(" ", strip=True).endswith("200")
        outbox = client.get("/dev/outbox").text
        assert "Kept back by the provider" in outbox
        assert "alice@customers.test" in outbox

    def test_nothing_to_tell_again_is_said(self, client, sent):
        assert client.post(f"/dev/outbox/{sent}/tell-again").status_code == 422

    def test_what_cannot_happen_is_refused(self, client, sent):
        assert self.act(client, sent, "stolen").status_code == 422
        assert self.act(client, "0123", "bounced").status_code == 404

    def test_without_a_secret_the_page_says_that_nobody_was_rung(self, client, mailbox, letter_id):
        self.act(client, letter_id, "bounced")

        assert "nobody to ring: RESEND_WEBHOOK_SECRET is not set" in client.get(f"/dev/outbox/{letter_id}").text


class TestTheBookOfLetters:
    def test_it_lists_every_occasion(self, client):
        page = BeautifulSoup(client.get("/dev/letters/").text, "html.parser")

        assert {link["href"].rpartition("/")[2] for link in page.select("tbody a")} == BOOK.keys()

    def test_an_occasion_shows_both_parts_in_every_look_and_width(self, client):
        answer = client.get("/dev/letters/payment-failed")

        page = BeautifulSoup(answer.text, "html.parser")
        frames = page.select("iframe")
        assert len(frames) == 2 * 3 * 3, "two letters, three looks, three widths"
        assert all(frame["sandbox"] == ["allow-popups"] for frame in frames)
        assert "Try again:\nhttp" in page.select_one("pre").get_text()
        assert "frame-src 'self'" in answer.headers["Content-Security-Policy"]

    def test_each_look_is_the_browsers_own_whatever_it_prefers(self, client):
        looks = {
            scheme: client.get(f"/dev/letters/welcome/1/html?scheme={scheme}").text
            for scheme in ("light", "dark", "inverted")
        }

        assert "@media all" in looks["dark"]
        assert "@media not all" in looks["light"]
        assert "invert(1)" in looks["inverted"]
        assert not any("prefers-color-scheme" in look for look in looks.values())

    def test_the_html_part_has_its_own_policy(self, client):
        answer = client.get("/dev/letters/welcome/1/html")

        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        assert "sandbox allow-popups" in policy
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"

    @pytest.mark.parametrize(
        "path", ["/dev/letters/nothing", "/dev/letters/welcome/2/html", "/dev/letters/welcome/1/html?scheme=pink"]
    )
    def test_what_is_not_in_it_is_not_there(self, client, path):
        assert client.get(path).status_code == 404

    def test_it_is_shut_in_production(self, app, client, monkeypatch):
        settings = app.config["STS"].model_copy(update={"app_env": AppEnv.PRODUCTION})
        monkeypatch.setitem(app.config, "STS", settings)

        assert client.get("/dev/letters/").status_code == 404
        assert client.get("/dev/letters/welcome/1/html").status_code == 404
