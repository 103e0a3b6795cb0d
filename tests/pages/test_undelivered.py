"""A customer whose letters come back: what the dashboard says, what can be done, and the letters themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.accounts import letters as account_letters
from sts_app.billing import letters as billing_letters
from sts_app.core import tokens
from sts_app.core.db import db as database
from sts_app.core.store import store_for
from sts_app.emails import services
from sts_app.emails.gateway import Happened
from sts_app.emails.models import EmailMessage
from sts_app.emails.simulated import SimulatedMailer, delivered
from tests.builders import alice, bob, enter, in_a_transaction, lifetime, open_page, stopped_clock, work
from tests.builders import letters as written


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def mailer(app, client, monkeypatch) -> SimulatedMailer:
    """A provider that rings the webhook's own view."""
    mailer = SimulatedMailer(
        store_for("mail"),
        webhook_secrets=app.config["STS"].resend_webhook_secrets,
        webhook_url="http://here",
        post=lambda url, *, data, headers, **_: app.test_client().post(
            "/api/webhooks/resend", data=data, headers=headers, csrf=False
        ),
    )
    monkeypatch.setitem(app.extensions, "sts_mailer", mailer)
    return mailer


@pytest.fixture
def customer(client, mailer, clock):
    """Alice, signed in, to whom one letter came back a minute ago and another waits."""
    user = alice()
    purchase = open_page(user, lifetime())
    in_a_transaction(lambda: billing_letters.payment_failed(user, purchase, "insufficient_funds", was_waited_for=False))
    work("emails")
    [mine] = delivered(store_for("mail"), to=user.email)
    mailer.tell(mine.id, Happened.BOUNCED)
    clock.shift(timedelta(minutes=1))
    enter(client, user)
    return user


def page_of(client, path="/dashboard/letters") -> BeautifulSoup:
    answer = client.get(path)
    assert answer.status_code == 200
    return BeautifulSoup(answer.text, "html.parser")


def text_of(part) -> str:
    return " ".join(part.get_text().split())


def confirmation() -> str:
    """The link in the letter that was asked for, as a path."""
    [letter] = written("confirm_address")
    assert letter.state == "queued"
    address = next(line for line in tokens.unseal("letter", letter.text).split() if "/arrived/" in line)
    return "/" + address.partition("//")[2].partition("/")[2]


class TestTheDashboard:
    def test_says_nothing_while_letters_arrive(self, client, db):
        enter(client, alice())

        assert "letters" not in text_of(page_of(client, "/dashboard").main).lower().replace("letter ", "")

    def test_says_what_is_wrong_and_leads_to_what_to_do(self, client, customer):
        notice = page_of(client, "/dashboard").find(class_="notice")

        assert "Our letters to alice@customers.example come back" in text_of(notice)
        assert "Change the address, or check with your mail provider" in text_of(notice)
        assert notice.a["href"] == "/dashboard/letters"

    def test_of_a_complaint_speaks_otherwise(self, client, mailer):
        user = alice()
        in_a_transaction(lambda: account_letters.welcome(user))
        work("emails")
        mailer.tell(delivered(store_for("mail"))[0].id, Happened.COMPLAINED)
        enter(client, user)

        assert "A letter of ours was marked as spam" in text_of(page_of(client, "/dashboard").main)


class TestTheLetters:
    def test_are_shown_to_whom_they_were_for(self, client, customer):
        page = page_of(client)

        [letter] = page.select("details.letter")
        assert "Your payment did not go through" in text_of(letter.summary)
        assert "It came back" in text_of(letter)
        assert "550 5.1.1 No such user here" in text_of(letter)
        assert "nothing was charged" in text_of(letter)
        assert letter.find("a", href=lambda href: href.endswith("/checkout?plan=lifetime"))

    def test_are_shown_to_nobody_else(self, app, customer):
        other = app.test_client()
        enter(other, bob())

        page = page_of(other)
        assert page.select("details.letter") == []
        assert "No letter that you need is missing" in text_of(page)

    def test_beside_letters_that_come_back_nothing_is_said_to_be_complete(self, client, customer):
        database.session.execute(sa.update(EmailMessage).values(need="spare"))
        database.session.commit()

        page = page_of(client)

        assert "come back" in text_of(page)
        assert "missing" not in text_of(page)
        assert page.find("a", href="/dashboard/settings/email")

    def test_are_for_people_who_are_signed_in(self, app, customer):
        assert app.test_client().get("/dashboard/letters").location.startswith("/sign-in")


class TestConfirming:
    def test_a_letter_is_sent_to_try_and_its_button_puts_an_end_to_it(self, app, client, customer, clock):
        answer = client.post("/dashboard/letters/confirm")
        assert answer.location == "/dashboard/letters"
        link = confirmation()
        work("emails")
        clock.shift(timedelta(minutes=1))
        phone = app.test_client()

        asked = BeautifulSoup(phone.get(link).text, "html.parser")
        assert asked.form["action"] == link
        assert "come back" in text_of(page_of(client, "/dashboard")), "a scanner that opens links confirms nothing"
        assert phone.post(link).status_code == 303

        assert "come back" not in text_of(page_of(client, "/dashboard"))
        assert "reach you at alice@customers.example" in text_of(page_of(client))

    def test_what_waited_is_sent_then(self, client, customer, clock):
        in_a_transaction(lambda: account_letters.welcome(customer))
        first = database.session.scalars(sa.select(EmailMessage).where(EmailMessage.kind == "payment_failed")).one()
        in_a_transaction(
            lambda: services.post(
                key="again",
                kind="payment_failed",
                to=customer.email,
                user_id=customer.id,
                subject="Something needed",
                template="emails/letters/confirm_address",
                context={"link": "https://sts.example/x", "to": customer.email},
            )
        )
        work("emails")
        waiting = page_of(client)
        assert "It is sent once letters reach you again" in text_of(waiting)
        client.post("/dashboard/letters/confirm")
        link = confirmation()
        work("emails")
        client.post(link)
        work("emails")

        states = {letter.key: letter.state for letter in written()}
        assert states["again"] == "sent"
        assert states[f"welcome:{customer.id}"] == "withheld"
        assert first.trouble == "bounced"

    def test_pressed_again_within_the_hour_it_says_until_when_to_wait(self, client, customer, clock):
        client.post("/dashboard/letters/confirm")
        work("emails")
        clock.shift(timedelta(minutes=5))

        page = page_of(client)
        assert page.find("form", action="/dashboard/letters/confirm") is None
        assert "you can let us try again after 21 Nov 2026, 13:01 UTC" in text_of(page)
        client.post("/dashboard/letters/confirm")
        assert "You can try again after 21 Nov 2026, 13:01 UTC" in text_of(page_of(client))
        assert len(written("confirm_address")) == 1

    def test_pressed_while_nothing_is_wrong_it_says_so(self, client, db):
        enter(client, alice())

        client.post("/dashboard/letters/confirm")

        assert "Nothing is wrong with letters to you." in text_of(page_of(client))

    def test_a_link_that_is_over_says_what_to_do(self, client, customer):
        answer = client.get("/dashboard/letters/arrived/nonsense")

        assert answer.status_code == 410
        assert "Ask for another letter on your dashboard" in answer.text

    def test_a_sign_in_by_letter_shows_the_same(self, app, client, customer, clock):
        visitor = app.test_client()
        visitor.post("/sign-in", data={"email": customer.email})
        [letter] = written("sign_in")
        address = next(line for line in tokens.unseal("letter", letter.text).split() if "/sign-in/link/" in line)
        work("emails")
        clock.shift(timedelta(minutes=1))

        visitor.get("/" + address.partition("//")[2].partition("/")[2])

        assert "come back" not in text_of(page_of(client, "/dashboard"))
