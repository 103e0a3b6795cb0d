"""A customer's tickets: the list, a new one, the thread, and pictures that only their owner and staff see."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from sts_app.core.db import db as database
from sts_app.core.money import as_moment
from sts_app.support import desk, queries, services, views
from sts_app.support.models import SupportTicket, TicketAttachment
from sts_app.support.rules import TicketStatus
from tests.builders import bob, count, enter, in_a_transaction, lifetime, open_page, opened, sam, strategy
from tests.support.conftest import QUESTION, asked, file_of, picture, replied, wrote

NEW = "/dashboard/support/new"
HTMX = {"HX-Request": "true"}


def soup(answer) -> BeautifulSoup:
    return BeautifulSoup(answer.data, "html.parser")


def words(answer) -> str:
    return re.sub(r"\s+", " ", soup(answer).get_text(" "))


def fields(answer) -> dict[str, str]:
    """What the form of this page carries, as a browser without script would send it."""
    form = next(each for each in soup(answer).find_all("form") if each.get("enctype"))
    found = {each["name"]: each.get("value", "") for each in form.find_all("input", type="hidden")}
    for each in form.find_all("select"):
        chosen = each.find("option", selected=True)
        found[each["name"]] = chosen["value"] if chosen else ""
    ticked = [each["value"] for each in form.find_all("input", attrs={"name": "keep"}) if each.has_attr("checked")]
    return found | ({"keep": ticked} if ticked else {})


def sending(answer, *files: tuple[str, bytes], **typed):
    """The data of a post of this page's form."""
    given = {"subject": "Nothing is listed", "category": "access", "text": QUESTION} | typed
    return fields(answer) | given | {"pictures": [(io.BytesIO(data), name) for name, data in files]}


def answered(ticket: SupportTicket, **given):
    return in_a_transaction(lambda: desk.reply(ticket.id, "We have looked.", actor="user:9", **given))


class TestList:
    def test_who_has_none_is_told_what_to_do(self, visitor):
        answer = visitor.get("/dashboard/support")

        assert "No tickets yet" in answer.text
        assert NEW in answer.text

    def test_each_has_its_state_in_the_customers_words_and_its_news(self, visitor, buyer):
        ticket = asked(buyer)
        answered(ticket)

        told = words(visitor.get("/dashboard/support"))

        assert "Nothing is listed New answer" in told
        assert "Waiting for you" in told
        assert ticket.ref in told

    def test_another_persons_are_not_among_them(self, visitor):
        asked(bob(), subject="The secret of Bob")

        assert "The secret of Bob" not in visitor.get("/dashboard/support").text

    @pytest.mark.parametrize(("show", "shown"), [("waiting", True), ("closed", False), ("nonsense", True)])
    def test_a_state_narrows_it(self, visitor, buyer, show, shown):
        answered(asked(buyer))

        answer = visitor.get(f"/dashboard/support?show={show}")

        assert ("Nothing is listed" in answer.text) is shown
        assert ("None of your tickets is in this state." in answer.text) is not shown

    def test_a_script_gets_the_list_alone(self, visitor, buyer):
        asked(buyer)

        answer = visitor.get("/dashboard/support?show=open", headers=HTMX)

        assert "<html" not in answer.text
        assert "Nothing is listed" in answer.text
        assert "HX-Request" in answer.headers["Vary"]

    def test_it_goes_on_where_it_ended(self, visitor, buyer, monkeypatch):
        monkeypatch.setattr(views, "PAGE", 2)
        for number in range(3):
            asked(buyer, f"{QUESTION} {number}", subject=f"Question {number}")

        first = visitor.get("/dashboard/support")
        older = soup(first).find("a", rel="next")["href"]
        second = visitor.get(older)

        assert "Question 2" in first.text
        assert "Question 0" not in first.text
        assert "Question 0" in second.text
        assert "Question 1" not in second.text

    @pytest.mark.parametrize("before", ["x", "9" * 400, "1-", "-1-1", "9999999999999999-999999999999999999"])
    def test_a_place_that_is_none_breaks_nothing(self, visitor, before):
        assert visitor.get(f"/dashboard/support?before={before}").status_code == 200

    def test_strangers_sign_in_first_and_come_back(self, client):
        answer = client.get("/dashboard/support")

        assert (answer.status_code, answer.location) == (303, "/sign-in?next=/dashboard/support")

    def test_support_leads_everybody_to_where_help_is(self, client, buyer):
        assert client.get("/support").location == "/contact"
        assert client.get("/support?strategy=nq-trend-rider").location == "/contact?about=technical"
        enter(client, buyer)
        assert client.get("/support").location == "/dashboard/support"
        assert (
            client.get("/support?strategy=nq-trend-rider").location
            == f"{NEW}?strategy=nq-trend-rider&category=technical"
        )


class TestNew:
    def test_an_empty_one_puts_the_focus_on_its_first_fault(self, visitor):
        page = visitor.get(NEW)

        answer = visitor.post(NEW, data=fields(page), content_type="multipart/form-data")

        assert [each["name"] for each in soup(answer).find_all(autofocus=True)] == ["category"]

    def test_a_purchase_is_named_by_its_plan_and_the_moment_of_the_dashboard(self, visitor, buyer):
        purchase = open_page(buyer, lifetime())
        purchase.paid_at = purchase.created_at + timedelta(days=2)
        database.session.commit()

        option = soup(visitor.get(NEW)).find("option", value=f"purchase:{purchase.ref}")

        assert option.text == f"{lifetime().name}, {as_moment(purchase.paid_at)}, $99.00"

    def test_a_ticket_is_opened_and_shown(self, visitor, buyer):
        answer = visitor.post(NEW, data=sending(visitor.get(NEW)), follow_redirects=True)

        (ticket,) = queries.tickets_of(buyer, limit=10)
        assert answer.request.path == f"/dashboard/support/{ticket.ref}"
        assert "Your ticket is open" in answer.text
        assert QUESTION in words(answer)

    def test_it_comes_with_its_pictures(self, visitor, buyer):
        page = visitor.get(NEW)

        answer = visitor.post(
            NEW, data=sending(page, ("a.png", file_of()), ("b.gif", file_of("GIF"))), follow_redirects=True
        )

        shown = soup(answer).select(".pictures img")
        assert len(shown) == 2
        assert visitor.get(shown[0]["src"]).content_type == "image/png"

    def test_from_a_purchase_it_is_tied_to_it(self, visitor, buyer):
        purchase = opened(buyer, lifetime())

        page = visitor.get(f"{NEW}?purchase={purchase.ref}")
        visitor.post(NEW, data=sending(page))

        assert queries.tickets_of(buyer, limit=1)[0].purchase_id == purchase.id

    @pytest.mark.parametrize("about", ["strategy:a\x00b", "strategy:nonsense", "weather:fine", "\x00"])
    def test_what_is_no_topic_is_not_there(self, visitor, about):
        assert visitor.post(NEW, data=sending(visitor.get(NEW), about=about)).status_code == 404

    def test_from_somebody_elses_purchase_there_is_no_form(self, visitor):
        purchase = opened(bob(), lifetime())

        assert visitor.get(f"{NEW}?purchase={purchase.ref}").status_code == 404

    def test_a_purchase_put_into_the_form_by_hand_is_not_there(self, visitor):
        purchase = opened(bob(), lifetime())

        answer = visitor.post(NEW, data=sending(visitor.get(NEW), about=f"purchase:{purchase.ref}"))

        assert answer.status_code == 404
        assert count(SupportTicket) == 0

    def test_from_a_strategy_it_is_tied_to_it_also_from_a_retired_one(self, visitor, buyer):
        lifetime()
        retired = strategy("old-one", status="retired")

        page = visitor.get(f"{NEW}?strategy=old-one&category=technical")
        faulty = visitor.post(NEW, data=sending(page, category="technical", text="Help"))
        visitor.post(NEW, data=sending(faulty, category="technical"))

        assert queries.tickets_of(buyer, limit=1)[0].strategy_id == retired.id
        assert visitor.get(f"{NEW}?strategy=nonsense").status_code == 404

    @pytest.mark.parametrize(
        ("typed", "told"),
        [
            ({"text": "Help"}, "at least 20 characters"),
            ({"text": ""}, "Please write something here."),
            ({"subject": "x" * 201}, "200 characters fit"),
            ({"subject": "Help"}, "at least 5 characters"),
            ({"category": ""}, "Please choose what it is about"),
            ({"category": "nonsense"}, "Not a valid choice"),
            ({"text": "My card is 4242 4242 4242 4242, why?"}, "number of a card"),
        ],
    )
    def test_what_does_not_fit_comes_back_with_all_that_was_typed(self, visitor, typed, told):
        answer = visitor.post(NEW, data=sending(visitor.get(NEW), **typed))

        assert answer.status_code == 422
        assert told in words(answer)
        kept = {"subject": "Nothing is listed", "text": QUESTION} | typed
        assert soup(answer).find("input", attrs={"name": "subject"})["value"] == kept["subject"]
        assert soup(answer).find("textarea").text.strip() == kept["text"]
        assert len(soup(answer).find_all(autofocus=True)) == 1
        assert count(SupportTicket) == 0

    def test_pictures_wait_until_the_faults_are_mended(self, visitor, buyer):
        faulty = visitor.post(NEW, data=sending(visitor.get(NEW), ("a.png", file_of(size=(99, 9))), text="Help"))
        assert "Picture 1: PNG, 99 \u00d7 9" in words(faulty)

        visitor.post(NEW, data=sending(faulty))

        (line,) = queries.thread_of(queries.tickets_of(buyer, limit=1)[0].id, notes=False).lines
        assert [each.width for each in line.pictures] == [99]

    def test_a_picture_that_is_not_wanted_any_more_is_left_out(self, visitor, buyer):
        faulty = visitor.post(NEW, data=sending(visitor.get(NEW), ("a.png", file_of()), text="Help"))

        visitor.post(NEW, data=sending(faulty) | {"keep": []})

        assert count(TicketAttachment) == 0

    def test_one_bad_picture_is_named_and_the_good_one_kept(self, visitor):
        answer = visitor.post(NEW, data=sending(visitor.get(NEW), ("a.png", file_of()), ("b.svg", b"<svg/>")))

        assert answer.status_code == 422
        assert "“b.svg” cannot be read as a picture." in words(answer)
        assert "Picture 1: PNG" in words(answer)

    def test_a_fourth_picture_is_left_out_and_said_to_be(self, visitor):
        four = [(f"{number}.png", file_of(size=(number, 9))) for number in range(1, 5)]

        answer = visitor.post(NEW, data=sending(visitor.get(NEW), *four))

        assert answer.status_code == 422
        assert "1 more was left out" in words(answer)
        assert "Picture 3: PNG, 3 \u00d7 9" in words(answer)

    def test_a_picture_over_two_megabytes_comes_back_beside_the_text(self, visitor):
        big = FileStorage(io.BytesIO(b"x" * (2 * 1024 * 1024 + 1)), "big.png", "pictures")
        boundary, body = encode_multipart(sending(visitor.get(NEW)) | {"pictures": big})
        answer = visitor.post(NEW, data=body, content_type=f"multipart/form-data; boundary={boundary}")

        assert answer.status_code == 422
        assert "“big.png” is larger than 2 MB." in words(answer)
        assert QUESTION in answer.text

    def test_far_too_much_is_refused_with_a_page_and_a_sentence(self, visitor):
        answer = visitor.post(NEW, data=b"x" * (16 * 1024 * 1024 + 1), content_type="multipart/form-data; boundary=x")

        assert answer.status_code == 413
        assert "These pictures are too large" in answer.text
        assert "three pictures of 2 MB each, and this was far more" in words(answer)

    def test_a_page_without_pictures_takes_no_more_than_before(self, visitor):
        answer = visitor.post("/sign-in", data={"email": "x" * (1024 * 1024 + 1)})

        assert answer.status_code == 413
        assert "pictures" not in words(answer)

    def test_two_clicks_open_one_ticket(self, visitor, buyer):
        page = visitor.get(NEW)

        first = visitor.post(NEW, data=sending(page, ("a.png", file_of())))
        second = visitor.post(NEW, data=sending(page, ("a.png", file_of())))

        assert first.location == second.location
        assert (count(SupportTicket), count(TicketAttachment)) == (1, 1)

    def test_two_clicks_open_one_ticket_also_with_a_picture_that_was_kept(self, visitor):
        mended = visitor.post(NEW, data=sending(visitor.get(NEW), ("a.png", file_of()), text="Help"))

        for _ in range(2):
            assert visitor.post(NEW, data=sending(mended)).status_code == 303

        assert (count(SupportTicket), count(TicketAttachment)) == (1, 1)

    def test_a_script_gets_the_form_alone(self, visitor):
        answer = visitor.post(NEW, data=sending(visitor.get(NEW), text=""), headers=HTMX)

        assert (answer.status_code, "<html" in answer.text) == (422, False)
        assert "Please write something here." in words(answer)


class TestThread:
    def test_it_shows_what_was_written_and_until_when_we_answer(self, visitor, buyer):
        ticket = asked(buyer, text="First line of mine.\n<script>alert(1)</script>")
        answered(ticket)

        answer = visitor.get(f"/dashboard/support/{ticket.ref}")

        assert "<script>alert" not in answer.text
        assert [each.text.split("\n")[0] for each in soup(answer).select(".message__text")] == [
            "First line of mine.",
            "We have looked.",
        ]

    def test_notes_are_for_staff_alone(self, visitor, buyer):
        ticket = asked(buyer)
        in_a_transaction(lambda: desk.note(ticket.id, "They seem upset.", actor="user:9", pictures=[picture()]))
        (kept,) = database.session.scalars(sa.select(TicketAttachment.id))

        assert "upset" not in visitor.get(f"/dashboard/support/{ticket.ref}").text
        assert visitor.get(f"/dashboard/support/pictures/{kept}").status_code == 404

    def test_reading_it_takes_the_news_away(self, visitor, buyer):
        ticket = asked(buyer)
        answered(ticket)

        visitor.get(f"/dashboard/support/{ticket.ref}")

        assert "New answer" not in visitor.get("/dashboard/support").text

    def test_somebody_elses_is_not_there(self, visitor):
        ticket = asked(bob())

        for method in (visitor.get, visitor.post):
            assert method(f"/dashboard/support/{ticket.ref}").status_code == 404

    def test_one_written_from_their_address_is_theirs_to_answer(self, visitor, buyer):
        ticket = wrote("alice@customers.example")
        page = visitor.get(f"/dashboard/support/{ticket.ref}")

        visitor.post(f"/dashboard/support/{ticket.ref}", data=sending(page, text="Here is more."))

        assert [line.message.actor for line in queries.thread_of(ticket.id, notes=False).lines] == [
            "address",
            f"user:{buyer.id}",
        ]

    def test_a_promise_that_is_broken_is_owned_up_to(self, visitor, buyer):
        ticket = asked(buyer)
        ticket.answer_due_at = ticket.created_at
        database.session.commit()

        assert "it is late. We are sorry." in words(visitor.get(f"/dashboard/support/{ticket.ref}"))

    def test_a_reply_is_added_with_its_picture(self, visitor, buyer):
        ticket = asked(buyer)
        answered(ticket)
        address = f"/dashboard/support/{ticket.ref}"

        data = sending(visitor.get(address), ("a.jpg", file_of("JPEG")), text="Here.")
        answer = visitor.post(address, data=data, follow_redirects=True)

        assert "Your reply is sent." in answer.text
        assert ticket.status == TicketStatus.OPEN
        assert len(soup(answer).select(".pictures img")) == 1

    def test_an_empty_reply_comes_back(self, visitor, buyer):
        address = f"/dashboard/support/{asked(buyer).ref}"

        answer = visitor.post(address, data=sending(visitor.get(address), text=" \n "))

        assert answer.status_code == 422
        assert "Please write something here." in words(answer)

    def test_a_closed_one_has_no_form(self, visitor, buyer):
        ticket = asked(buyer)
        in_a_transaction(lambda: desk.set_status(ticket.id, TicketStatus.CLOSED, actor="user:9"))

        answer = visitor.get(f"/dashboard/support/{ticket.ref}")

        assert "This ticket is closed" in answer.text
        assert soup(answer).find("textarea") is None

    def test_what_was_typed_into_one_that_was_closed_meanwhile_waits_in_a_new_one(self, visitor, buyer):
        ticket = asked(buyer)
        address = f"/dashboard/support/{ticket.ref}"
        page = visitor.get(address)
        in_a_transaction(lambda: desk.set_status(ticket.id, TicketStatus.CLOSED, actor="user:9"))

        anew = visitor.post(address, data=sending(page, ("a.png", file_of()), text="One more thing, please listen."))

        assert anew.status_code == 409
        assert "takes no more replies" in words(anew)
        assert soup(anew).find("textarea").text.strip() == "One more thing, please listen."
        typed = {"subject": f"Again about {ticket.ref}", "text": "One more thing, please listen."}
        visitor.post(NEW, data=sending(anew, **typed))
        (latest, _) = queries.tickets_of(buyer, limit=10)
        assert latest.subject == f"Again about {ticket.ref}"
        assert len(queries.thread_of(latest.id, notes=False).lines[0].pictures) == 1

    def test_a_script_keeps_its_form_and_shows_the_sentence(self, visitor, buyer):
        ticket = asked(buyer)
        page = visitor.get(f"/dashboard/support/{ticket.ref}")
        in_a_transaction(lambda: desk.set_status(ticket.id, TicketStatus.CLOSED, actor="user:9"))

        answer = visitor.post(f"/dashboard/support/{ticket.ref}", data=sending(page), headers=HTMX)

        assert answer.status_code == 409
        assert "<form" not in answer.text
        assert "takes no more replies" in words(answer)

    def test_a_long_one_is_read_in_parts(self, visitor, buyer, monkeypatch):
        monkeypatch.setattr(views, "MESSAGES", 2)
        ticket = asked(buyer)
        for number in range(3):
            replied(ticket, f"Reply {number}")

        latest = visitor.get(f"/dashboard/support/{ticket.ref}")
        earlier = visitor.get(soup(latest).select_one(".thread > p > a")["href"])

        assert "Reply 0" not in latest.text
        assert "Reply 0" in earlier.text
        assert "To the latest messages" in earlier.text


class TestPictures:
    @pytest.fixture
    def address(self, visitor, buyer) -> str:
        page = visitor.get(NEW)
        answer = visitor.post(NEW, data=sending(page, ("a.png", file_of())), follow_redirects=True)
        return str(soup(answer).select_one(".pictures img")["src"])

    def test_nobody_else_sees_it_and_staff_do(self, app, client, address):
        for user, status in ((bob(), 404), (sam(), 200)):
            other = app.test_client()
            enter(other, user)
            assert other.get(address).status_code == status
        assert app.test_client().get(address).status_code == 303

    def test_a_browser_may_do_nothing_with_it_but_show_it(self, visitor, address):
        answer = visitor.get(address)

        assert answer.content_type == "image/png"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = [part.strip() for part in answer.headers["Content-Security-Policy"].split(";")]
        assert policy == ["default-src 'none'", "sandbox", "frame-ancestors 'none'"]
        assert re.fullmatch(r'inline; filename="picture-\d+\.png"', answer.headers["Content-Disposition"])
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"

    def test_only_the_visitors_browser_keeps_it_and_asks_before_it_shows_it_again(self, visitor, address):
        first = visitor.get(address)
        assert first.headers["Cache-Control"] == "private, no-cache"

        again = visitor.get(address, headers={"If-None-Match": first.headers["ETag"]})

        assert (again.status_code, again.data) == (304, b"")

    def test_one_that_is_not_sent_yet_is_shown_to_nobody(self, visitor, buyer):
        visitor.post(NEW, data=sending(visitor.get(NEW), ("a.png", file_of()), text=""))
        (waiting,) = database.session.scalars(sa.select(TicketAttachment.id))

        assert visitor.get(f"/dashboard/support/pictures/{waiting}").status_code == 404

    def test_a_picture_of_a_forgotten_person_is_gone(self, visitor, buyer, address):
        in_a_transaction(lambda: services.forget(buyer.id))

        assert visitor.get(address).status_code == 404


class TestDashboard:
    def test_it_leads_to_support_and_counts_new_answers(self, visitor, buyer):
        answered(asked(buyer))

        answer = visitor.get("/dashboard")

        assert soup(answer).find("a", string="Support: new answer")["href"] == "/dashboard/support"

    def test_help_with_a_purchase_leads_to_a_ticket_about_it(self, visitor, buyer):
        purchase = opened(buyer, lifetime())

        link = soup(visitor.get("/dashboard")).find("a", href=f"{NEW}?purchase={purchase.ref}")

        assert f"Get help with purchase {purchase.ref}" in link.text
        assert visitor.get(link["href"]).status_code == 200
