"""What a person takes with them, and what is left of them in support once they are forgotten."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from flask import current_app

from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from sts_app.emails import queries as outbox
from sts_app.emails.models import MailAddress
from sts_app.support import desk, queries, services
from sts_app.support.models import TicketMessage
from sts_app.support.rules import Category, TicketStatus
from tests.builders import NOON, bob, in_a_transaction, letters, lifetime, opened, stopped_clock, work
from tests.support.conftest import QUESTION, answered, asked, hang, pictures, replied, wrote


@pytest.fixture
def clock():
    with stopped_clock() as traveller:
        yield traveller


class TestForgetting:
    def test_nothing_of_a_person_is_left_but_that_there_were_tickets(self, buyer, clock):
        hang(f"user:{buyer.id}", "form", (8, 8))
        purchase = opened(buyer, lifetime())
        ticket = asked(buyer, nonce="form", about=f"purchase:{purchase.ref}", subject="I am Alice of Elm Street")
        answered(ticket)
        in_a_transaction(lambda: desk.note(ticket.id, "Alice called.", actor="user:9"))
        outside = wrote("ALICE@customers.example", name="Alice")
        hang(f"user:{buyer.id}", "unsent", (8, 8))

        assert in_a_transaction(lambda: services.forget(buyer.id)) == 2

        for each in (ticket, outside):
            assert (each.user_id, each.email, each.purchase_id, each.subject, each.name) == (None, None, None, "", "")
            assert (each.status, each.forgotten_at) == (TicketStatus.CLOSED, NOON)
        assert (ticket.category, ticket.created_at) == (Category.ACCESS, NOON)
        messages = database.session.scalars(sa.select(TicketMessage).order_by(TicketMessage.id)).all()
        assert {message.text for message in messages} == {""}
        assert f"user:{buyer.id}" not in {message.actor for message in messages}
        assert pictures() == []
        assert queries.tickets_of(buyer, limit=10) == []

    def test_what_was_suspected_in_their_name_is_erased_too(self, buyer):
        ticket = wrote("alice@customers.example", suspected=True)

        in_a_transaction(lambda: services.forget(buyer.id))

        assert ticket.email is None

    def test_what_they_wrote_from_an_address_of_before_is_erased_too(self, buyer):
        ticket = wrote("Alice.Before@customers.example", name="Alice")
        other = wrote("bob@customers.example", nonce="another form")

        assert in_a_transaction(lambda: services.forget(buyer.id, addresses=["alice.before@customers.example"])) == 1

        assert (ticket.email, ticket.name, ticket.subject) == (None, "", "")
        assert other.email == "bob@customers.example"

    def test_it_is_safe_to_call_twice_and_leaves_others_alone(self, buyer):
        asked(buyer)
        other = asked(bob())
        in_a_transaction(lambda: services.forget(buyer.id))

        assert in_a_transaction(lambda: services.forget(buyer.id)) == 0
        assert other.subject == "Nothing is listed"
        assert services.forget(987654321) == 0

    def test_it_leaves_its_line(self, buyer):
        asked(buyer)

        in_a_transaction(lambda: services.forget(buyer.id, actor="user:9"))

        line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "support.forgotten")).one()
        assert (line.actor, line.subject, line.details) == ("user:9", f"user:{buyer.id}", {"tickets": 1})

    def test_the_letters_to_staff_keep_nothing_once_they_are_sent(self, buyer):
        asked(buyer, subject="I am Alice of Elm Street")

        (letter,) = letters("admin_new_ticket")

        assert letter.secret
        assert "Elm Street" not in letter.subject + letter.text + letter.html

    def test_what_staff_were_to_read_and_was_kept_back_is_never_sent(self, buyer):
        """Letters to them come back meanwhile, so that what they were to read rests sealed."""
        (admin,) = current_app.config["STS"].admin_emails
        database.session.add(MailAddress(address=admin, bounced_at=NOON))
        ticket = asked(buyer)
        replied(ticket)
        other = asked(bob())
        work("emails")
        assert letters("admin_new_ticket")[0].state == "withheld"

        in_a_transaction(lambda: services.forget(buyer.id))
        in_a_transaction(lambda: services.forget(buyer.id))

        database.session.expire_all()
        first, reply = (letters(kind)[0] for kind in ("admin_new_ticket", "admin_ticket_user_reply"))
        of_another = letters("admin_new_ticket")[1]
        assert [(each.state, each.text, each.html) for each in (first, reply)] == [("failed", "", "")] * 2
        assert (of_another.state, of_another.key) == ("withheld", f"ticket-opened-staff:{other.id}:0")
        assert of_another.text != ""
        assert outbox.letters_in_trouble() == 0


class TestExport:
    def test_a_person_takes_their_tickets_with_messages_and_pictures(self, buyer, clock):
        hang(f"user:{buyer.id}", "form", (8, 8))
        ticket = asked(buyer, nonce="form")
        answered(ticket)
        in_a_transaction(lambda: desk.note(ticket.id, "They seem upset.", actor="user:9"))
        wrote("alice@customers.example", name="Alice")
        asked(bob())

        first, second = queries.rows_of_person(buyer.id)["tickets"]

        assert (first["reference"], first["opened_at"]) == (ticket.ref, NOON.isoformat())
        assert [(line["from"], line["text"]) for line in first["messages"]] == [
            ("you", QUESTION),
            ("support", "We have looked."),
        ]
        (shown,) = first["messages"][0]["pictures"]
        assert (shown["type"], shown["width"]) == ("image/png", 8)
        assert shown["base64"].startswith("iVBOR")
        assert (second["address"], second["name"]) == ("alice@customers.example", "Alice")

    def test_what_they_wrote_from_an_address_of_before_comes_with_them(self, buyer):
        wrote("alice.before@customers.example")

        (ticket,) = queries.rows_of_person(buyer.id, addresses=["alice.before@customers.example"])["tickets"]

        assert ticket["address"] == "alice.before@customers.example"

    def test_of_nobody_there_is_nothing(self, buyer):
        assert queries.rows_of_person(987654321) == {"tickets": []}
        assert queries.rows_of_person(buyer.id) == {"tickets": []}
