"""`sts tickets`, as staff use it before they have a panel."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from sts_app.core.db import db as database
from sts_app.support import drafts, queries
from sts_app.support.rules import TicketStatus
from tests.builders import in_a_transaction, kinds, letters, lifetime, opened, sam, stopped_clock
from tests.support.conftest import QUESTION, asked, file_of, picture, wrote


@pytest.fixture(autouse=True)
def clock():
    with stopped_clock() as traveller:
        yield traveller


def texts(ticket, *, notes: bool = False) -> list[str]:
    return [line.message.text for line in queries.thread_of(ticket.id, notes=notes).lines]


def test_without_a_command_it_lists_who_waits_and_until_when(sts, buyer, clock):
    ticket = asked(buyer)
    clock.shift(timedelta(hours=9))

    told = sts("tickets").output

    assert f"{ticket.ref}  HIGH    OPEN  Nothing is listed" in told
    assert "access, from alice@customers.example, with nobody" in told
    assert "Answer promised until 21 Nov 2026, 20:00 UTC, which is over" in told
    assert "1 wait for an answer, 1 of them longer than promised" in told


def test_where_nobody_waits_it_says_so(sts):
    assert sts("tickets").output.startswith("No ticket.\n0 wait for an answer")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--all"], {"Nothing is listed", "Is it for ES, too?"}),
        (["--status", "open"], {"Nothing is listed", "Is it for ES, too?"}),
        (["--status", "closed"], set()),
        (["--priority", "LOW"], {"Is it for ES, too?"}),
        (["--search", "alice"], {"Nothing is listed"}),
        (["--suspected"], set()),
        ([], {"Nothing is listed", "Is it for ES, too?"}),
    ],
)
def test_list_finds_others(sts, buyer, options, shown):
    asked(buyer)
    wrote()

    told = json.loads(sts("tickets", "list", "--json", *options).output)

    assert {each["subject"] for each in told["tickets"]} == shown


def test_show_tells_the_whole_thread_with_notes_and_what_it_is_about(sts, buyer):
    purchase = opened(buyer, lifetime())
    ticket = asked(buyer, about=f"purchase:{purchase.ref}")
    sts("tickets", "note", ticket.ref, "--text", "Looks like a wrong name.")

    told = sts("tickets", "show", ticket.ref.lower()).output

    assert f"Purchase: {purchase.ref}" in told
    assert QUESTION in told
    assert "Note, for staff alone (cli)\n  Looks like a wrong name." in told


def test_show_speaks_to_machines(sts, buyer):
    ticket = asked(buyer)

    told = json.loads(sts("tickets", "show", ticket.ref, "--json").output)

    assert (told["ref"], told["email"], told["is_late"]) == (ticket.ref, buyer.email, False)
    assert [each["text"] for each in told["messages"]] == [QUESTION]


def test_what_would_turn_a_terminal_round_is_shown_as_a_mark(sts, buyer):
    ticket = asked(buyer, text="This is \u202eevil writing, from right to left.")

    assert "\u202e" not in sts("tickets", "show", ticket.ref).output


def test_an_answer_is_written_on_the_line_or_into_it(sts, buyer):
    ticket = asked(buyer)

    result = sts("tickets", "reply", ticket.ref, "--text", "Please look again.")
    sts("tickets", "reply", ticket.ref, "--then", "resolved", given="It is done.\n\nTell us if not.\n")

    assert result.output == f"{ticket.ref} is now WAITING_ON_CUSTOMER. A letter is on its way.\n"
    assert texts(ticket)[1:] == ["Please look again.", "It is done.\n\nTell us if not."]
    assert ticket.status == TicketStatus.RESOLVED
    assert kinds().count("ticket_reply") == 2


def test_a_canned_answer_is_sent_by_its_name(sts, buyer):
    ticket = asked(buyer)

    sts("tickets", "reply", ticket.ref, "--canned", "need-more")

    assert f"reply in ticket {ticket.ref}" in texts(ticket)[-1]
    assert "need-more: We need to know more" in sts("tickets", "canned", "--for", "billing").output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["reply", "{ref}", "--text", " "], "There is nothing to write"),
        (["reply", "{ref}", "--text", "x", "--canned", "need-more"], "not both"),
        (["reply", "T-NOTHING", "--text", "Hello."], "There is no ticket with this reference."),
        (["reply", "{ref}", "--text", "4242 4242 4242 4242"], "number of a card"),
        (["status", "{ref}", "OPEN"], "has this status already"),
        (["status", "{ref}", "nonsense"], "Invalid value"),
        (["assign", "{ref}"], "Say the address of a member of staff, or --nobody."),
        (["assign", "{ref}", "alice@customers.example"], "Nobody on the staff has this address."),
        (["accept", "{ref}"], "no suspected one"),
        (["picture", "{ref}", "1", "x.png"], "nothing at this address"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_changes_nothing(sts, buyer, words, told):
    ticket = asked(buyer)

    result = sts("tickets", *(word.format(ref=ticket.ref) for word in words))

    assert result.exit_code != 0
    assert told in result.output
    assert (ticket.status, texts(ticket, notes=True)) == (TicketStatus.OPEN, [QUESTION])


def test_status_priority_and_colleague_are_given_and_shown(sts, buyer):
    ticket = asked(buyer)
    sam()

    assert "IN_PROGRESS" in sts("tickets", "status", ticket.ref, "in_progress").output
    assert "URGENT" in sts("tickets", "priority", ticket.ref, "urgent").output
    assert "with sam@staff.example" in sts("tickets", "assign", ticket.ref, "sam@staff.example").output
    assert "with nobody" in sts("tickets", "assign", ticket.ref, "--nobody").output


def test_a_suspected_ticket_is_looked_at_and_accepted(sts, buyer):
    ticket = wrote(suspected=True)
    assert ticket.ref in sts("tickets", "list", "--suspected").output
    assert kinds() == []

    sts("tickets", "accept", ticket.ref)

    assert len(letters("contact_received")) == 1


def test_a_picture_is_written_to_a_file_that_was_not_there(sts, buyer, tmp_path):
    in_a_transaction(lambda: drafts.keep(f"user:{buyer.id}", "form", [picture()], still=()))
    ticket = asked(buyer, nonce="form")
    ((shown,),) = [line.pictures for line in queries.thread_of(ticket.id, notes=False).lines]
    number, file = str(shown.id), tmp_path / "seen.png"
    database.session.commit()

    assert sts("tickets", "picture", ticket.ref, number, str(file)).output.endswith("png, 64 x 48.\n")

    assert file.read_bytes()[:4] == file_of()[:4]
    again = sts("tickets", "picture", ticket.ref, number, str(file))
    assert (again.exit_code, "cannot be written" in again.output) == (1, True)
