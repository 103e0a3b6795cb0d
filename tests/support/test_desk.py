"""Staff's verbs, what they leave behind, and what staff see first."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.errors import AlreadyDone, FixInput, NotThere
from sts_app.support import canned, desk, desk_queries, queries
from sts_app.support.desk import NotInThisStatus
from sts_app.support.queries import Place
from sts_app.support.rules import Category, Priority, TicketStatus
from tests.builders import NOON, bob, in_a_transaction, kinds, letters, sam, stopped_clock
from tests.support.conftest import QUESTION, asked, picture, replied, wrote

SAM = "user:9"


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


@pytest.fixture
def ticket(buyer):
    return asked(buyer)


def did(deed, *arguments, **given):
    return in_a_transaction(lambda: deed(*arguments, actor=SAM, **given))


def lines(action: str) -> list[AuditLog]:
    statement = sa.select(AuditLog).where(AuditLog.action == f"support.{action}").order_by(AuditLog.id)
    return list(database.session.scalars(statement))


class TestReply:
    def test_the_customer_is_answered_by_one_letter_and_the_ticket_waits_for_them(self, ticket):
        did(desk.reply, ticket.id, "Please look again.")

        assert ticket.status == TicketStatus.WAITING_ON_CUSTOMER
        assert (ticket.waiting_since, ticket.answer_due_at) == (None, None)
        assert ticket.first_answered_at == NOON
        (letter,) = letters("ticket_reply")
        assert (letter.to_address, letter.user_id) == ("alice@customers.example", ticket.user_id)
        assert "Please look again." in letter.text
        assert f"/dashboard/support/{ticket.ref}" in letter.text

    def test_an_answer_can_end_the_matter(self, ticket):
        did(desk.reply, ticket.id, "It is done.", then=TicketStatus.RESOLVED)

        assert (ticket.status, ticket.resolved_at) == (TicketStatus.RESOLVED, NOON)
        assert kinds().count("ticket_resolved") == 0, "the answer says it"
        assert "reply in the ticket: that opens it again" in letters("ticket_reply")[0].text

    def test_an_answer_for_now_lets_the_customer_wait_anew(self, ticket, clock):
        clock.shift(timedelta(hours=3))

        did(desk.reply, ticket.id, "We are looking into it.", then=TicketStatus.IN_PROGRESS)

        assert ticket.status == TicketStatus.IN_PROGRESS
        assert ticket.answer_due_at == NOON + timedelta(hours=11)

    def test_a_closed_ticket_is_not_answered(self, ticket):
        did(desk.set_status, ticket.id, TicketStatus.CLOSED)

        with pytest.raises(NotInThisStatus) as refused:
            did(desk.reply, ticket.id, "One more thing.")
        assert refused.value.sentence == "This ticket is closed. Reopen it first."
        assert "ticket_reply" not in kinds()

    def test_the_same_answer_from_the_same_form_is_sent_once(self, ticket):
        first = did(desk.reply, ticket.id, "Hello.", nonce="form")

        assert did(desk.reply, ticket.id, "Hello.", nonce="form").id == first.id
        assert kinds().count("ticket_reply") == 1

    def test_it_leaves_its_line(self, ticket):
        message = did(desk.reply, ticket.id, "Hello.")

        (line,) = lines("replied")
        assert (line.actor, line.subject) == (SAM, f"ticket:{ticket.id}")
        assert line.details == {"message": message.id, "before": "OPEN", "to": "WAITING_ON_CUSTOMER"}

    def test_a_letter_to_an_address_repeats_nothing_of_what_was_written_in_its_name(self, buyer):
        ticket = wrote()

        did(desk.reply, ticket.id, "Here is our answer.")

        (letter,) = letters("ticket_reply")
        assert (letter.secret, letter.user_id) == (True, None)
        assert ticket.subject not in letter.subject

    def test_a_suspected_ticket_is_not_answered_before_it_is_accepted(self, buyer):
        ticket = wrote(suspected=True)

        with pytest.raises(FixInput, match="Accept it first"):
            did(desk.reply, ticket.id, "Hello.")

    @pytest.mark.parametrize("text", ["", "x" * 5001, "My card is 4242424242424242."])
    def test_what_customers_may_not_write_staff_may_not_either(self, ticket, text):
        with pytest.raises(FixInput):
            did(desk.reply, ticket.id, text)

    def test_pictures_go_with_it_three_at_most(self, ticket):
        message = did(desk.reply, ticket.id, "See.", pictures=[picture()])

        assert len(queries.pictures_of([message.id])[message.id]) == 1
        with pytest.raises(FixInput, match="3 pictures"):
            did(desk.reply, ticket.id, "See.", pictures=[picture()] * 4)


class TestNote:
    def test_a_note_changes_nothing_for_the_customer(self, ticket, clock):
        clock.shift(timedelta(hours=1))
        before = len(letters())

        note = did(desk.note, ticket.id, "Ask Sam about this one.", pictures=[picture()])

        assert (ticket.status, ticket.last_message_at, len(letters())) == (TicketStatus.OPEN, NOON, before)
        (kept,) = queries.pictures_of([note.id])[note.id]
        with pytest.raises(NotThere):
            queries.picture_in(ticket.id, kept.id, notes=False)
        assert lines("noted")[0].details == {"message": note.id}


class TestStatus:
    def test_resolved_is_told_once_for_each_time(self, ticket, clock):
        did(desk.set_status, ticket.id, TicketStatus.RESOLVED)
        replied(ticket, "It is not.")
        did(desk.set_status, ticket.id, TicketStatus.RESOLVED)

        assert kinds().count("ticket_resolved") == 2

    def test_the_same_again_is_said_to_be_done(self, ticket):
        with pytest.raises(AlreadyDone):
            did(desk.set_status, ticket.id, TicketStatus.OPEN)
        assert lines("status_set") == []

    def test_a_resolved_ticket_waits_for_nobody(self, ticket):
        did(desk.set_status, ticket.id, TicketStatus.RESOLVED)

        with pytest.raises(NotInThisStatus) as refused:
            did(desk.set_status, ticket.id, TicketStatus.WAITING_ON_CUSTOMER)
        assert refused.value.sentence == "This ticket is resolved. Reopen it first."

    def test_reopened_by_staff_an_answer_is_owed_from_now_on(self, ticket, clock):
        did(desk.set_status, ticket.id, TicketStatus.CLOSED)
        clock.shift(timedelta(days=2))

        did(desk.set_status, ticket.id, TicketStatus.OPEN)

        assert (ticket.closed_at, ticket.answer_due_at) == (None, NOON + timedelta(days=2, hours=8))
        assert lines("status_set")[-1].details == {"before": "CLOSED", "to": "OPEN"}

    def test_what_was_forgotten_is_not_there(self, ticket):
        with pytest.raises(NotThere):
            did(desk.set_status, 987654321, TicketStatus.CLOSED)


class TestPriority:
    def test_the_promise_moves_with_it_from_when_the_customer_wrote(self, ticket, clock):
        clock.shift(timedelta(hours=1))

        did(desk.set_priority, ticket.id, Priority.URGENT)

        assert ticket.answer_due_at == ticket.first_due_at == NOON + timedelta(hours=2)
        assert lines("priority_set")[0].details == {"before": "HIGH", "to": "URGENT"}
        with pytest.raises(AlreadyDone):
            did(desk.set_priority, ticket.id, Priority.URGENT)

    def test_a_first_answer_that_was_given_keeps_its_promise(self, ticket):
        did(desk.reply, ticket.id, "Hello.")

        did(desk.set_priority, ticket.id, Priority.LOW)

        assert (ticket.first_due_at, ticket.answer_due_at) == (NOON + timedelta(hours=8), None)


class TestAssign:
    def test_a_colleague_has_it_and_alone_hears_of_replies(self, ticket):
        colleague = sam()
        did(desk.assign, ticket.id, "SAM@staff.example")

        replied(ticket)

        assert ticket.assignee_id == colleague.id
        assert [letter.to_address for letter in letters("admin_ticket_user_reply")] == ["sam@staff.example"]
        assert lines("assigned")[0].details == {"to": colleague.id}

    def test_a_customer_is_no_colleague(self, ticket):
        with pytest.raises(FixInput, match="Nobody on the staff"):
            did(desk.assign, ticket.id, bob().email)

    def test_it_can_be_taken_back_once(self, ticket):
        sam()
        did(desk.assign, ticket.id, "sam@staff.example")

        did(desk.assign, ticket.id, None)

        assert ticket.assignee_id is None
        with pytest.raises(AlreadyDone):
            did(desk.assign, ticket.id, None)


class TestSuspected:
    def test_accepting_sends_the_letters_that_were_held_back_and_promises_anew(self, buyer, clock):
        ticket = wrote(suspected=True)

        did(desk.set_status, ticket.id, TicketStatus.CLOSED)
        clock.shift(timedelta(days=3))

        did(desk.accept, ticket.id)

        assert kinds() == ["contact_received", "admin_new_ticket"]
        assert (ticket.status, ticket.answer_due_at) == (TicketStatus.OPEN, NOON + timedelta(days=6))
        assert ticket.first_due_at == ticket.answer_due_at
        assert lines("accepted")[0].subject == f"ticket:{ticket.id}"
        with pytest.raises(AlreadyDone):
            did(desk.accept, ticket.id)

    def test_another_priority_is_promised_from_the_acceptance_too(self, buyer, clock):
        ticket = wrote(suspected=True)
        clock.shift(timedelta(days=3))
        did(desk.accept, ticket.id)

        did(desk.set_priority, ticket.id, Priority.URGENT)

        assert ticket.first_due_at == ticket.answer_due_at == NOON + timedelta(days=3, hours=2)


class TestDesk:
    def test_the_oldest_promise_comes_first_whoever_wrote_first(self, buyer, clock):
        slow = asked(buyer, QUESTION + " slow", category=Category.OTHER)
        clock.shift(timedelta(hours=1))
        fast = asked(buyer, QUESTION + " fast", category=Category.ACCESS)
        done = asked(buyer, QUESTION + " done")
        did(desk.reply, done.id, "Hello.")
        wrote(suspected=True)

        rows = desk_queries.waiting_for_staff(time_source.now(), limit=10)

        assert [row.ticket.id for row in rows] == [fast.id, slow.id]
        assert {(row.email, row.has_account, row.is_late) for row in rows} == {(buyer.email, True, False)}

    def test_the_list_goes_on_where_it_ended(self, buyer, clock):
        tickets = [asked(buyer, f"{QUESTION} {number}") for number in range(3)]
        first = desk_queries.waiting_for_staff(NOON, limit=1)[0].ticket

        rest = desk_queries.waiting_for_staff(NOON, after=Place(first.answer_due_at, first.id), limit=10)

        assert [first.id, *(row.ticket.id for row in rest)] == [ticket.id for ticket in tickets]

    def test_a_broken_promise_shows(self, ticket, clock):
        clock.shift(timedelta(hours=8, seconds=1))

        (row,) = desk_queries.waiting_for_staff(time_source.now(), limit=10)

        assert row.is_late
        assert desk_queries.counts(time_source.now()).late == 1

    def test_what_waits_is_counted(self, buyer):
        sam()
        mine, theirs = asked(buyer, QUESTION + " one"), asked(buyer, QUESTION + " two")
        answered = asked(buyer, QUESTION + " three")
        did(desk.assign, mine.id, "sam@staff.example")
        did(desk.reply, answered.id, "Hello.")
        wrote(suspected=True)

        counts = desk_queries.counts(NOON)

        assert theirs.assignee_id is None
        assert (counts.waiting, counts.late, counts.unassigned) == (2, 0, 1)
        assert (counts.waiting_on_customer, counts.suspected) == (1, 1)
        of_sam = desk_queries.waiting_for_staff(NOON, assignee_id=mine.assignee_id, limit=10)
        assert [row.ticket.id for row in of_sam] == [mine.id]

    @pytest.mark.parametrize(
        ("given", "found"),
        [
            ({"search": "alice@"}, ["Nothing is listed"]),
            ({"search": "NOWHERE.example"}, ["Is it for ES, too?"]),
            ({"search": "listed"}, ["Nothing is listed"]),
            ({"search": "%"}, []),
            ({"search": "_"}, []),
            ({"status": "OPEN"}, ["Is it for ES, too?", "Nothing is listed"]),
            ({"priority": "HIGH"}, ["Nothing is listed"]),
            ({"category": "other"}, ["Is it for ES, too?"]),
            ({"suspected": True}, []),
        ],
    )
    def test_tickets_are_found_by_what_is_known_of_them(self, ticket, clock, given, found):
        clock.shift(timedelta(minutes=1))
        wrote()

        assert [row.ticket.subject for row in desk_queries.tickets_matching(NOON, limit=10, **given)] == found

    def test_promises_that_were_kept_are_counted(self, buyer, clock):
        kept, late = asked(buyer, QUESTION + " one"), asked(buyer, QUESTION + " two")
        asked(buyer, QUESTION + " open")
        settled = asked(buyer, QUESTION + " three")
        did(desk.reply, kept.id, "Hello.")
        did(desk.set_status, settled.id, TicketStatus.CLOSED)
        clock.shift(timedelta(hours=9))
        did(desk.reply, late.id, "Hello.")

        found = desk_queries.promises(NOON, time_source.now())

        assert (found.due, found.kept) == (3, 1)


@pytest.mark.parametrize("each", canned.CANNED, ids=lambda each: each.slug)
def test_a_canned_reply_fits_and_is_filled_in(ticket, each):
    text = each.for_ticket(ticket)

    assert "{" not in text
    did(desk.reply, ticket.id, text)


@pytest.mark.parametrize("category", Category)
def test_canned_replies_for_the_category_come_first(category):
    found = canned.canned_for(category)

    assert set(found) == set(canned.CANNED)
    fits = [category in each.categories for each in found]
    assert fits == sorted(fits, reverse=True)
