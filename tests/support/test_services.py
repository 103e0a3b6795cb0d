"""Opening, replying, pictures that wait for their message, and being forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from sts_app.core.errors import FixInput, NotThere
from sts_app.support import desk, drafts, queries, services
from sts_app.support.models import SupportTicket, TicketMessage
from sts_app.support.rules import Priority, TicketStatus
from sts_app.support.services import TicketClosed
from tests.builders import NOON, bob, count, in_a_transaction, kinds, letters, lifetime, opened, stopped_clock
from tests.support.conftest import QUESTION, answered, asked, hang, pictures, replied, wrote


@pytest.fixture
def clock():
    with stopped_clock() as traveller:
        yield traveller


def closed(ticket: SupportTicket) -> SupportTicket:
    return in_a_transaction(lambda: desk.set_status(ticket.id, TicketStatus.CLOSED, actor="user:9"))


class TestOpening:
    def test_a_ticket_has_its_message_and_its_promise(self, buyer, clock):
        ticket = asked(buyer)

        assert (ticket.status, ticket.priority) == (TicketStatus.OPEN, Priority.HIGH)
        assert ticket.answer_due_at == ticket.first_due_at == NOON + timedelta(hours=8)
        assert [line.message.text for line in queries.thread_of(ticket.id, notes=False).lines] == [QUESTION]

    def test_both_sides_are_written_to_once(self, buyer):
        asked(buyer)

        assert kinds() == ["ticket_created", "admin_new_ticket"]

    def test_a_second_click_finds_the_first_ones_ticket(self, buyer):
        first, second = asked(buyer, nonce="the form"), asked(buyer, nonce="the form")

        assert first.id == second.id
        assert (count(SupportTicket), count(TicketMessage), len(letters())) == (1, 1, 2)

    def test_another_text_from_the_same_form_is_another_ticket(self, buyer):
        first = asked(buyer, nonce="the form")

        assert asked(buyer, QUESTION + " Also, it is slow.", nonce="the form").id != first.id

    def test_the_same_form_of_another_person_is_another_ticket(self, buyer):
        assert asked(buyer, nonce="the form").id != asked(bob(), nonce="the form").id

    def test_it_is_tied_to_a_purchase_of_ones_own(self, buyer):
        purchase = opened(buyer, lifetime())

        assert asked(buyer, about=f"purchase:{purchase.ref}").purchase_id == purchase.id

    def test_somebody_elses_purchase_is_not_there(self, buyer):
        purchase = opened(bob(), lifetime())

        with pytest.raises(NotThere):
            asked(buyer, about=f"purchase:{purchase.ref}")
        assert count(SupportTicket) == 0

    def test_it_is_tied_to_a_strategy(self, buyer):
        lifetime()

        ticket = asked(buyer, about="strategy:nq-trend-rider")

        _, strategy = queries.about(ticket)
        assert strategy.name == "NQ Trend Rider"

    @pytest.mark.parametrize(
        "about", ["strategy:never-was", "purchase:", "weather:fine", "nonsense", "strategy:a\x00b"]
    )
    def test_what_is_no_topic_is_not_there(self, buyer, about):
        with pytest.raises(NotThere):
            asked(buyer, about=about)

    @pytest.mark.parametrize(("text", "told"), [("Help", "at least 20"), ("x" * 5001, "too long")])
    def test_a_text_that_does_not_fit_is_refused(self, buyer, text, told):
        with pytest.raises(FixInput, match=told):
            asked(buyer, text)

    def test_a_card_number_is_not_kept(self, buyer):
        with pytest.raises(FixInput, match="number of a card"):
            asked(buyer, "Please charge 4242 4242 4242 4242 again.")
        assert count(TicketMessage) == 0


class TestReplying:
    @pytest.mark.parametrize("then", [None, TicketStatus.RESOLVED])
    def test_a_reply_reopens_what_waited_or_was_resolved(self, buyer, clock, then):
        ticket = asked(buyer)
        answered(ticket, then)
        clock.shift(timedelta(hours=5))

        replied(ticket)

        assert ticket.status == TicketStatus.OPEN
        assert ticket.waiting_since == NOON + timedelta(hours=5)
        assert ticket.answer_due_at == NOON + timedelta(hours=13)

    def test_who_writes_again_before_an_answer_waits_since_the_first_time(self, buyer, clock):
        ticket = asked(buyer)
        clock.shift(timedelta(hours=5))

        replied(ticket)

        assert ticket.waiting_since == NOON
        assert ticket.last_message_at == NOON + timedelta(hours=5)

    def test_a_closed_ticket_takes_no_reply(self, buyer):
        ticket = closed(asked(buyer))

        with pytest.raises(TicketClosed) as refused:
            replied(ticket)
        assert "open a new one" in refused.value.sentence
        assert count(TicketMessage) == 1

    def test_a_second_click_replies_once(self, buyer):
        ticket = asked(buyer)

        assert replied(ticket, nonce="form").id == replied(ticket, nonce="form").id
        assert kinds().count("admin_ticket_user_reply") == 1

    def test_the_same_words_from_a_new_form_are_another_reply(self, buyer):
        ticket = asked(buyer)

        replied(ticket, "Thanks", nonce="one")
        replied(ticket, "Thanks", nonce="two")

        assert count(TicketMessage) == 3

    def test_a_second_click_after_the_ticket_was_closed_still_finds_the_first(self, buyer):
        ticket = asked(buyer)
        first = replied(ticket, nonce="form")
        closed(ticket)

        assert replied(ticket, nonce="form").id == first.id


class TestPictures:
    def test_pictures_wait_for_their_message(self, buyer):
        kept, left_out = hang(f"user:{buyer.id}", "form", (64, 48), (32, 32))
        assert (len(kept), left_out) == (2, 0)

        ticket = asked(buyer, nonce="form")

        (line,) = queries.thread_of(ticket.id, notes=False).lines
        assert [(each.width, each.height) for each in line.pictures] == [(64, 48), (32, 32)]

    def test_somebody_elses_form_of_the_same_name_keeps_its_own(self, buyer):
        hang(f"user:{bob().id}", "form", (64, 48))

        ticket = asked(buyer, nonce="form")

        assert queries.thread_of(ticket.id, notes=False).lines[0].pictures == []

    def test_three_are_the_most(self, buyer):
        hang("user:1", "form", (8, 8), (9, 9))
        still = {each.id for each in drafts.kept("user:1", "form")}

        kept, left_out = hang("user:1", "form", (10, 10), (11, 11), still=still)

        assert ([each.width for each in kept], left_out) == ([8, 9, 10], 1)

    def test_what_is_not_ticked_any_more_is_gone(self, buyer):
        first, second = hang("user:1", "form", (8, 8), (9, 9))[0]

        kept, _ = hang("user:1", "form", still={second.id})

        assert [each.id for each in kept] == [second.id]
        assert first.id not in {each.id for each in pictures()}

    def test_of_many_unsent_forms_the_latest_keep_their_pictures(self, buyer):
        for number in range(5):
            hang("user:1", f"form {number}", (8, 8), (9, 9))

        assert len(pictures()) == 8, "six on others, and two on the last"

    def test_nobody_sends_more_than_thirty_a_day(self, buyer, clock):
        for number in range(10):
            hang(f"user:{buyer.id}", str(number), (8, 8), (9, 9), (10, 10))
            replied(asked(buyer, nonce=f"{number} opened"), nonce=str(number))

        with pytest.raises(drafts.TooManyPictures, match="30 pictures"):
            hang(f"user:{buyer.id}", "one more", (8, 8))

        clock.shift(timedelta(days=1, minutes=1))
        assert len(hang(f"user:{buyer.id}", "one more", (8, 8))[0]) == 1

    def test_a_second_click_leaves_no_picture_behind(self, buyer):
        owner = f"user:{buyer.id}"
        hang(owner, "form", (8, 8))
        asked(buyer, nonce="form")
        hang(owner, "form", (8, 8))

        asked(buyer, nonce="form")

        assert (count(SupportTicket), len(pictures())) == (1, 1)


class TestFromOutside:
    def test_a_ticket_of_an_address_belongs_to_no_account(self, buyer):
        ticket = wrote()

        assert (ticket.user_id, ticket.email) == (None, "stranger@nowhere.example")
        assert kinds() == ["contact_received", "admin_new_ticket"]

    def test_a_suspected_one_is_kept_and_nobody_is_written_to(self, buyer):
        ticket = wrote(suspected=True)

        assert ticket.suspected
        assert kinds() == []

    def test_whoever_has_the_address_finds_it_among_their_tickets(self, buyer):
        ticket = wrote("Alice@Customers.example")

        assert queries.own_ticket(buyer, ticket.ref).id == ticket.id
        assert [each.id for each in queries.tickets_of(buyer, limit=10)] == [ticket.id]

    def test_a_suspected_one_is_shown_to_nobody_in_whose_name_it_was_written(self, buyer):
        wrote("alice@customers.example", suspected=True)

        assert queries.tickets_of(buyer, limit=10) == []


class TestLists:
    def test_the_latest_message_comes_first_and_the_list_goes_on_where_it_ended(self, buyer, clock):
        tickets = []
        for number in range(5):
            tickets.append(asked(buyer, f"{QUESTION} {number}"))
            clock.shift(timedelta(minutes=1))
        replied(tickets[0])

        first = queries.tickets_of(buyer, limit=2)
        place = queries.Place.read(str(queries.Place(first[1].last_message_at, first[1].id)))
        rest = queries.tickets_of(buyer, before=place, limit=10)

        assert [each.id for each in (*first, *rest)] == [tickets[number].id for number in (0, 4, 3, 2, 1)]

    def test_a_status_narrows_the_list(self, buyer):
        one, other = asked(buyer, QUESTION + " one"), asked(buyer, QUESTION + " other")
        answered(one)

        assert [each.id for each in queries.tickets_of(buyer, show="waiting", limit=10)] == [one.id]
        assert [each.id for each in queries.tickets_of(buyer, show="open", limit=10)] == [other.id]
        assert len(queries.tickets_of(buyer, show="nonsense", limit=10)) == 2

    def test_a_new_answer_is_news_until_it_was_seen(self, buyer, clock):
        ticket = asked(buyer)
        assert queries.news_of(buyer) == 0
        clock.shift(timedelta(minutes=1))
        answered(ticket)
        assert (queries.news_of(buyer), ticket.has_news) == (1, True)

        in_a_transaction(lambda: services.mark_seen(ticket))

        assert (queries.news_of(buyer), ticket.has_news) == (0, False)

    def test_a_note_is_no_news_and_not_in_the_thread(self, buyer):
        ticket = asked(buyer)
        in_a_transaction(lambda: desk.note(ticket.id, "They seem upset.", actor="user:9"))

        assert queries.news_of(buyer) == 0
        assert len(queries.thread_of(ticket.id, notes=False).lines) == 1
        assert len(queries.thread_of(ticket.id, notes=True).lines) == 2

    def test_a_long_thread_is_read_in_parts(self, buyer):
        ticket = asked(buyer)
        for number in range(6):
            replied(ticket, f"Reply {number}")

        latest = queries.thread_of(ticket.id, notes=False, limit=3)
        before = queries.thread_of(ticket.id, notes=False, before=latest.earlier, limit=10)

        assert [line.message.text for line in latest.lines] == ["Reply 3", "Reply 4", "Reply 5"]
        assert [line.message.text for line in before.lines] == [QUESTION, "Reply 0", "Reply 1", "Reply 2"]
        assert before.earlier is None


class TestTidying:
    def test_what_has_been_resolved_for_a_month_is_closed(self, buyer, clock):
        old = asked(buyer, QUESTION + " one")
        answered(old, TicketStatus.RESOLVED)
        clock.shift(timedelta(days=29))
        new = asked(buyer, QUESTION + " two")
        answered(new, TicketStatus.RESOLVED)
        clock.shift(timedelta(days=2))

        in_a_transaction(services.tidy)

        assert (old.status, new.status) == (TicketStatus.CLOSED, TicketStatus.RESOLVED)
        (line,) = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "support.status_set"))
        assert (line.actor, line.subject) == ("system", f"ticket:{old.id}")

    def test_what_was_suspected_a_month_ago_and_pictures_that_were_never_sent_are_gone(self, buyer, clock):
        wrote(suspected=True)
        hang("user:1", "form", (8, 8))
        real = wrote(nonce="another form")
        clock.shift(timedelta(days=31))

        in_a_transaction(services.tidy)

        assert [each.id for each in database.session.scalars(sa.select(SupportTicket))] == [real.id]
        assert pictures() == []
