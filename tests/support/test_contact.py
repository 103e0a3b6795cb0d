"""The contact page, what keeps programs away from it, and the link that opens one thread and nothing else."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from flask import current_app

from sts_app.accounts.models import UserSession
from sts_app.core import tokens
from sts_app.core.db import db as database
from sts_app.emails.models import EmailMessage
from sts_app.support import desk, links, queries
from sts_app.support.models import SupportTicket
from sts_app.support.rules import TicketStatus
from tests.builders import bob, count, enter, in_a_transaction, kinds, letters, stopped_clock, work
from tests.support.conftest import file_of, pictures, wrote

TYPED = {
    "email": "stranger@nowhere.example",
    "name": "",
    "category": "other",
    "subject": "Is it for ES, too?",
    "text": "I trade ES and wonder whether this works there.",
    "website": "",
}


@pytest.fixture(autouse=True)
def clock(db):
    with stopped_clock() as traveller:
        yield traveller


def soup(answer) -> BeautifulSoup:
    return BeautifulSoup(answer.data, "html.parser")


def words(answer) -> str:
    return re.sub(r"\s+", " ", soup(answer).get_text(" "))


def hidden(answer, name: str) -> str:
    return str(soup(answer).find("input", attrs={"name": name})["value"])


def write(client, clock, *, after: timedelta = timedelta(seconds=20), **typed):
    """Fill in the page as somebody would who takes that long."""
    stamp = hidden(client.get("/contact"), "stamp")
    clock.shift(after)
    return client.post("/contact", data=TYPED | {"stamp": stamp} | typed)


def ticket() -> SupportTicket:
    return database.session.scalars(sa.select(SupportTicket)).one()


class TestForm:
    def test_a_message_becomes_a_ticket_and_a_letter_confirms_it(self, client, clock):
        answer = write(client, clock)

        assert (answer.status_code, answer.location) == (303, "/contact/sent")
        assert (ticket().email, ticket().user_id, ticket().suspected) == ("stranger@nowhere.example", None, False)
        assert kinds() == ["contact_received", "admin_new_ticket"]
        assert "stranger@nowhere.example" in client.get("/contact/sent").text

    def test_the_letter_repeats_nothing_and_keeps_nothing(self, client, clock):
        write(client, clock, subject="Buy cheap things", text="At https://spam.example you buy them cheap.")
        work("emails")

        (letter,) = letters("contact_received")
        assert "cheap" not in letter.subject
        assert (letter.state, letter.text, letter.html) == ("sent", "", "")

    def test_the_answer_is_the_same_for_everybody(self, app, clock, buyer):
        answers = set()
        for email in (buyer.email, "stranger@nowhere.example"):
            for website in ("", "https://spam.example"):
                client = app.test_client()
                answer = write(client, clock, email=email, website=website)
                page = words(client.get("/contact/sent"))
                assert email in page
                answers.add((answer.status_code, answer.location, page.replace(email, "X")))

        assert len(answers) == 1

    @pytest.mark.parametrize(
        ("how", "typed"),
        [
            ("fills in what nobody sees", {"website": "https://spam.example"}),
            ("is faster than a hand", {"after": timedelta(seconds=1)}),
        ],
    )
    def test_a_program_is_kept_apart_and_sends_no_letters(self, client, clock, how, typed):
        write(client, clock, **typed)

        assert ticket().suspected
        assert kinds() == []

    def test_a_form_that_was_open_for_days_comes_back_with_all_that_was_typed(self, client, clock):
        answer = write(client, clock, after=timedelta(days=2))

        assert answer.status_code == 422
        assert "open for a long time" in words(answer)
        assert TYPED["text"] in answer.text
        clock.shift(timedelta(seconds=1))
        assert client.post("/contact", data=TYPED | {"stamp": hidden(answer, "stamp")}).status_code == 303
        assert not ticket().suspected

    def test_a_program_without_a_stamp_wins_no_time_by_asking_for_one(self, client, clock):
        answer = client.post("/contact", data=TYPED | {"stamp": ""})

        client.post("/contact", data=TYPED | {"stamp": hidden(answer, "stamp")})

        assert ticket().suspected

    @pytest.mark.parametrize("stamp", ["", "x", "a.b.c", "IlQtTjVYUVJWQ1Ei.awINQQ.dLuW1gpvwI5U7jkuTlbwDyLLgRk"])
    def test_a_stamp_that_is_not_ours_is_none(self, client, clock, stamp):
        assert client.post("/contact", data=TYPED | {"stamp": stamp}).status_code == 422
        assert count(SupportTicket) == 0

    def test_a_stamp_of_another_purpose_is_none(self, client, clock):
        stamp = tokens.sign(links.PURPOSE, ["nonce", 1])

        assert client.post("/contact", data=TYPED | {"stamp": stamp}).status_code == 422

    def test_mending_a_fault_does_not_make_one_look_like_a_program(self, client, clock):
        faulty = write(client, clock, text="Help")
        assert faulty.status_code == 422

        client.post("/contact", data=TYPED | {"stamp": hidden(faulty, "stamp")})

        assert not ticket().suspected

    def test_two_clicks_write_once(self, client, clock):
        stamp = hidden(client.get("/contact"), "stamp")
        clock.shift(timedelta(seconds=20))

        for _ in range(2):
            assert client.post("/contact", data=TYPED | {"stamp": stamp}).status_code == 303

        assert (count(SupportTicket), count(EmailMessage)) == (1, 2)

    @pytest.mark.parametrize(
        ("typed", "told"),
        [
            ({"email": ""}, "Please enter your e-mail address."),
            ({"email": "no address"}, "does not look like an e-mail address"),
            ({"email": "a@b.example, c@d.example"}, "does not look like an e-mail address"),
            ({"category": ""}, "Please choose what it is about"),
            ({"subject": "Hi"}, "at least 5 characters"),
            ({"subject": "Hello\r\nBcc: everybody@evil.example"}, "cannot be read"),
            ({"text": "Help"}, "at least 20 characters"),
            ({"name": "x" * 101}, "under 100 characters"),
            ({"text": "Why was 4242 4242 4242 4242 charged twice?"}, "number of a card"),
        ],
    )
    def test_what_does_not_fit_comes_back(self, client, clock, typed, told):
        answer = write(client, clock, **typed)

        assert answer.status_code == 422
        assert told in words(answer)
        assert len(soup(answer).find_all(autofocus=True)) == 1
        assert count(SupportTicket) == 0

    def test_who_is_signed_in_is_led_to_a_ticket_and_their_address_is_filled_in(self, client, buyer):
        enter(client, buyer)

        page = client.get("/contact?about=billing")

        assert "/dashboard/support/new" in page.text
        assert hidden(page, "email") == buyer.email
        assert soup(page).find("option", value="billing").has_attr("selected")

    def test_the_trap_is_shown_to_nobody(self, client):
        trap = soup(client.get("/contact")).find("input", attrs={"name": "website"})

        assert (trap["tabindex"], trap["autocomplete"]) == ("-1", "off")
        assert trap.find_parent(class_="unseen")["aria-hidden"] == "true"

    def test_without_a_message_there_is_nothing_to_confirm(self, client):
        assert client.get("/contact/sent").location == "/contact"

    def test_every_page_leads_to_it_and_search_engines_find_it(self, client):
        assert soup(client.get("/faq")).select_one('footer a[href="/contact"]')
        assert "/contact</loc>" in client.get("/sitemap.xml").text
        assert "Disallow: /contact/ticket" in client.get("/robots.txt").text


class TestLink:
    @pytest.fixture
    def mine(self, client) -> str:
        """The address of the thread, as the letter tells it."""
        wrote()
        (letter,) = letters("contact_received")
        text = tokens.unseal("letter", letter.text)
        found = re.search(r"https?://[^/]+(/contact/ticket/\S+)", text)
        assert found
        return found[1]

    def reply(self, client, address, text="Here is more.", *files, **given):
        nonce = hidden(client.get(address), "nonce")
        data = {"text": text, "nonce": nonce, "pictures": [(io.BytesIO(data), "a.png") for data in files]}
        return client.post(address, data=data, **given)

    def test_it_opens_the_thread_and_signs_nobody_in(self, client, mine):
        page = client.get(mine)

        assert "Is it for ES, too?" in page.text
        assert page.headers["Cache-Control"] == "no-store"
        assert '<meta name="robots" content="noindex">' in page.text
        assert client.get("/dashboard").status_code == 303
        assert count(UserSession) == 0

    def test_a_reply_by_it_is_added_with_its_picture(self, client, mine):
        answer = self.reply(client, mine, "Here is more.", file_of(), follow_redirects=True)

        assert "Your reply is sent." in answer.text
        assert [line.message.actor for line in queries.thread_of(ticket().id, notes=False).lines] == ["address"] * 2
        shown = client.get(soup(answer).select_one(".pictures img")["src"])
        assert (shown.content_type, shown.headers["Cache-Control"]) == ("image/png", "private, no-cache")
        assert "sandbox" in shown.headers["Content-Security-Policy"]

    def test_it_shows_no_note_and_no_picture_of_another_ticket(self, client, mine):
        other = wrote("another@nowhere.example", nonce="another form")
        in_a_transaction(lambda: desk.note(ticket_of(mine).id, "They seem upset.", actor="user:9"))
        elsewhere = f"/contact/ticket/{links.link_to(other)}"
        answer = self.reply(client, elsewhere, "See.", file_of(), follow_redirects=True)
        number = soup(answer).select_one(".pictures img")["src"].rpartition("/")[2]

        assert "upset" not in client.get(mine).text
        assert client.get(f"{mine}/pictures/{number}").status_code == 404

    def test_it_works_for_ninety_days(self, client, mine, clock):
        clock.shift(timedelta(days=89))
        assert client.get(mine).status_code == 200
        clock.shift(timedelta(days=2))

        over = client.get(mine)

        assert over.status_code == 404
        assert "write to us again through the contact page" in words(over)
        assert soup(over).find("a", string="Write to us")["href"] == "/contact"

    @pytest.mark.parametrize("link", ["x", "a.b.c", "../../etc/passwd"])
    def test_what_is_no_link_of_ours_opens_nothing(self, client, mine, link):
        assert client.get(f"/contact/ticket/{link}").status_code == 404

    def test_a_text_signed_for_another_purpose_opens_nothing(self, client, mine):
        assert client.get(f"/contact/ticket/{tokens.sign('sign-in-link', ticket().ref)}").status_code == 404

    def test_a_ticket_of_an_account_has_no_link(self, client, mine, buyer):
        found = ticket()
        found.user_id, found.email = buyer.id, None
        database.session.commit()

        assert client.get(mine).status_code == 404

    def test_what_was_typed_into_one_that_was_closed_waits_in_the_contact_form(self, client, mine):
        page = client.get(mine)
        in_a_transaction(lambda: desk.set_status(ticket().id, TicketStatus.CLOSED, actor="user:9"))

        anew = client.post(mine, data={"text": "One more thing.", "nonce": hidden(page, "nonce")})

        assert anew.status_code == 409
        assert soup(anew).find("textarea").text.strip() == "One more thing."
        assert hidden(anew, "email") == "stranger@nowhere.example"
        assert "Your pictures" not in words(anew)
        again = TYPED | {"text": "One more thing: does it work for ES?", "stamp": hidden(anew, "stamp")}
        client.post("/contact", data=again)
        assert (
            not database.session.scalars(sa.select(SupportTicket).order_by(SupportTicket.id.desc())).first().suspected
        )

    def test_pictures_that_cannot_move_there_are_named(self, client, mine):
        page = client.get(mine)
        in_a_transaction(lambda: desk.set_status(ticket().id, TicketStatus.CLOSED, actor="user:9"))
        data = {"text": "See.", "nonce": hidden(page, "nonce"), "pictures": [(io.BytesIO(file_of()), "a.png")]}

        anew = client.post(mine, data=data)

        assert "Your pictures were not kept: this form takes none." in words(anew)
        assert pictures() == []

    def test_who_reads_it_there_has_read_it(self, client, mine, buyer):
        in_a_transaction(lambda: desk.reply(ticket().id, "It does.", actor="user:9"))
        assert ticket().has_news

        client.get(mine)

        assert not ticket().has_news

    def test_faults_come_back_with_the_text(self, client, mine):
        answer = self.reply(client, mine, "")

        assert answer.status_code == 422
        assert answer.headers["Cache-Control"] == "no-store"

    def test_no_table_holds_the_link_in_clear(self, client, mine):
        link = mine.rpartition("/")[2]

        rows = database.session.execute(sa.select(EmailMessage.text, EmailMessage.html, EmailMessage.subject)).all()

        assert not any(link in part for row in rows for part in row)

    def test_somebody_else_who_is_signed_in_stays_who_they_are(self, client, mine):
        enter(client, bob())

        self.reply(client, mine)

        assert queries.thread_of(ticket().id, notes=False).lines[-1].message.actor == "address"
        assert current_app.config["STS"].app_name in client.get(mine).text


def ticket_of(address: str) -> SupportTicket:
    return links.ticket_behind(address.rpartition("/")[2])
