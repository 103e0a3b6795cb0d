"""What becomes of a ticket, read as a table; and what may be written into one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sts_app.support.rules import (
    CLOSED_TO_CUSTOMER,
    DEED_FOR,
    FIRST_MESSAGE_LENGTHS,
    OWED,
    PROMISES,
    REPLY_LENGTHS,
    SUBJECT_LENGTHS,
    Category,
    Deed,
    No,
    Priority,
    TicketStatus,
    after,
    answer_due,
    fault_of,
    first_priority,
    holds_card_number,
    tidy,
)
from tests.builders import NOON

# From OPEN, IN_PROGRESS, WAITING_ON_CUSTOMER, RESOLVED, CLOSED; "-" is refused, "=" has it already.
STORY = {
    Deed.CUSTOMER_REPLIES: "OPEN IN_PROGRESS OPEN OPEN -",
    Deed.STAFF_REPLIES: "WAITING_ON_CUSTOMER WAITING_ON_CUSTOMER WAITING_ON_CUSTOMER RESOLVED -",
    Deed.REOPEN: "= OPEN OPEN OPEN OPEN",
    Deed.TAKE_UP: "IN_PROGRESS = IN_PROGRESS - -",
    Deed.WAIT: "WAITING_ON_CUSTOMER WAITING_ON_CUSTOMER = - -",
    Deed.RESOLVE: "RESOLVED RESOLVED RESOLVED = -",
    Deed.CLOSE: "CLOSED CLOSED CLOSED CLOSED =",
}


def told(status: TicketStatus, deed: Deed) -> str:
    found = after(status, deed)
    if isinstance(found, No):
        return "=" if found.already else "-"
    return found.value


@pytest.mark.parametrize("deed", Deed)
def test_each_deed_does_what_the_table_says(deed):
    assert " ".join(told(status, deed) for status in TicketStatus) == STORY[deed]


def test_a_closed_ticket_tells_its_customer_what_to_do_instead():
    refused = after(TicketStatus.CLOSED, Deed.CUSTOMER_REPLIES)

    assert refused == No(CLOSED_TO_CUSTOMER)
    assert "open a new one" in CLOSED_TO_CUSTOMER


@pytest.mark.parametrize("status", TicketStatus)
@pytest.mark.parametrize("deed", Deed)
def test_every_refusal_is_a_sentence(status, deed):
    found = after(status, deed)

    assert not isinstance(found, No) or found.sentence.endswith(".")


@pytest.mark.parametrize("status", TicketStatus)
def test_the_deed_for_a_status_leads_to_it(status):
    reached = {after(before, DEED_FOR[status]) for before in TicketStatus}

    assert {found for found in reached if not isinstance(found, No)} == {status}


def test_an_answer_is_owed_while_a_ticket_is_open_or_in_progress():
    assert OWED == (TicketStatus.OPEN, TicketStatus.IN_PROGRESS)


@pytest.mark.parametrize(("priority", "hours"), list(zip(Priority, (72, 24, 8, 2), strict=True)))
def test_the_promise_follows_the_priority(priority, hours):
    assert answer_due(priority, NOON) == NOON + timedelta(hours=hours)
    assert len(PROMISES) == len(Priority)


@pytest.mark.parametrize(
    ("category", "of_account", "of_stranger"),
    [
        (Category.ACCESS, Priority.HIGH, Priority.MEDIUM),
        (Category.BILLING, Priority.HIGH, Priority.MEDIUM),
        (Category.TECHNICAL, Priority.MEDIUM, Priority.MEDIUM),
        (Category.OTHER, Priority.MEDIUM, Priority.LOW),
    ],
)
def test_money_and_access_come_first(category, of_account, of_stranger):
    assert first_priority(category, has_account=True) is of_account
    assert first_priority(category, has_account=False) is of_stranger


def test_line_breaks_of_every_system_become_one_kind():
    assert tidy("  a\r\nb\rc\n\n ") == "a\nb\nc"
    assert tidy(None) == ""


@pytest.mark.parametrize(
    ("text", "lengths", "told"),
    [
        ("", SUBJECT_LENGTHS, "write something"),
        ("\u200b\u2003", REPLY_LENGTHS, "write something"),
        ("Help", SUBJECT_LENGTHS, "at least 5"),
        ("x" * 19, FIRST_MESSAGE_LENGTHS, "at least 20"),
        ("x" * 201, SUBJECT_LENGTHS, "This is too long: 200 characters fit, and these are 201."),
        ("x" * 5010, FIRST_MESSAGE_LENGTHS, "5,000 characters fit, and these are 5,010."),
        ("a line\nand another", SUBJECT_LENGTHS, "cannot be read"),
        ("a\x00b and more of it", SUBJECT_LENGTHS, "cannot be read"),
        ("\x1b[2J and more of it", SUBJECT_LENGTHS, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(text, lengths, told):
    assert told in (fault_of(text, lengths, lines=False) or "")


@pytest.mark.parametrize(
    "text", ["x" * 20, "x" * 5000, "a line\nand another, and a tab:\t.", "👩‍👩‍👧‍👦 is my family, hello"]
)
def test_what_fits_is_taken(text):
    assert fault_of(text, FIRST_MESSAGE_LENGTHS, lines=True) is None


@pytest.mark.parametrize(
    "number",
    [
        "4242424242424242",
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "5555555555554444",
        "2223003122003222",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
    ],
)
def test_the_number_of_a_card_is_found(number):
    assert holds_card_number(f"My card is {number}, please charge it.")
    assert "card" in (fault_of(f"My card is {number}.", REPLY_LENGTHS, lines=True) or "")


@pytest.mark.parametrize(
    "number",
    [
        "4242424242424241",  # the check digit is wrong
        "1234567812345670",  # nobody issues these
        "2026-11-21 12:30:45",
        "pur_4242x4242424242",
        "00491701234567",
        "84242424242424242424242",
        "1732190000123456",
    ],
)
def test_other_numbers_are_left_alone(number):
    assert not holds_card_number(f"It was {number} then.")
