"""What a ticket is and what may become of it: pure, and told by a table."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SUBJECT_LENGTHS = (5, 200)
FIRST_MESSAGE_LENGTHS = (20, 5000)
REPLY_LENGTHS = (1, 5000)


class TicketStatus(StrEnum):
    OPEN = "OPEN"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING_ON_CUSTOMER = "WAITING_ON_CUSTOMER"
    RESOLVED = "RESOLVED"
    CLOSED = "CLOSED"


class Priority(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    URGENT = "URGENT"


class Category(StrEnum):
    ACCESS = "access"
    BILLING = "billing"
    TECHNICAL = "technical"
    OTHER = "other"


class Side(StrEnum):
    """Who a message is from, and who reads it: a note is for staff alone."""

    CUSTOMER = "customer"
    STAFF = "staff"
    NOTE = "note"


class Deed(StrEnum):
    """What can happen to a ticket. The last five are staff's, without a message."""

    CUSTOMER_REPLIES = "customer replies"
    STAFF_REPLIES = "staff reply"
    REOPEN = "reopen"
    TAKE_UP = "take up"
    WAIT = "wait for the customer"
    RESOLVE = "resolve"
    CLOSE = "close"


@dataclass(frozen=True)
class No:
    """A deed that is not done, with the sentence for whoever tried it. `already` is a harmless repeat."""

    sentence: str
    already: bool = False


# In which time the first answer is promised, from when the customer wrote.
PROMISES = {
    Priority.URGENT: timedelta(hours=2),
    Priority.HIGH: timedelta(hours=8),
    Priority.MEDIUM: timedelta(hours=24),
    Priority.LOW: timedelta(hours=72),
}

CLOSED_TO_CUSTOMER = (
    "This ticket is closed and takes no more replies. Please open a new one, and name this one's reference in it if "
    "it is about the same thing."
)
CLOSED_TO_STAFF = "This ticket is closed. Reopen it first."
RESOLVED_TO_STAFF = "This ticket is resolved. Reopen it first."

_O, _P, _W, _R, _C = TicketStatus
_SAME = No("The ticket has this status already.", already=True)

# What becomes of a ticket in a status when a deed is done to it.
TABLE: dict[tuple[TicketStatus, Deed], TicketStatus | No] = {
    (_O, Deed.CUSTOMER_REPLIES): _O,
    (_P, Deed.CUSTOMER_REPLIES): _P,
    (_W, Deed.CUSTOMER_REPLIES): _O,
    (_R, Deed.CUSTOMER_REPLIES): _O,
    (_C, Deed.CUSTOMER_REPLIES): No(CLOSED_TO_CUSTOMER),
    (_O, Deed.STAFF_REPLIES): _W,
    (_P, Deed.STAFF_REPLIES): _W,
    (_W, Deed.STAFF_REPLIES): _W,
    (_R, Deed.STAFF_REPLIES): _R,
    (_C, Deed.STAFF_REPLIES): No(CLOSED_TO_STAFF),
    (_O, Deed.REOPEN): _SAME,
    (_P, Deed.REOPEN): _O,
    (_W, Deed.REOPEN): _O,
    (_R, Deed.REOPEN): _O,
    (_C, Deed.REOPEN): _O,
    (_O, Deed.TAKE_UP): _P,
    (_P, Deed.TAKE_UP): _SAME,
    (_W, Deed.TAKE_UP): _P,
    (_R, Deed.TAKE_UP): No(RESOLVED_TO_STAFF),
    (_C, Deed.TAKE_UP): No(CLOSED_TO_STAFF),
    (_O, Deed.WAIT): _W,
    (_P, Deed.WAIT): _W,
    (_W, Deed.WAIT): _SAME,
    (_R, Deed.WAIT): No(RESOLVED_TO_STAFF),
    (_C, Deed.WAIT): No(CLOSED_TO_STAFF),
    (_O, Deed.RESOLVE): _R,
    (_P, Deed.RESOLVE): _R,
    (_W, Deed.RESOLVE): _R,
    (_R, Deed.RESOLVE): _SAME,
    (_C, Deed.RESOLVE): No(CLOSED_TO_STAFF),
    (_O, Deed.CLOSE): _C,
    (_P, Deed.CLOSE): _C,
    (_W, Deed.CLOSE): _C,
    (_R, Deed.CLOSE): _C,
    (_C, Deed.CLOSE): _SAME,
}

# The deed that leads to a status, for staff who name the status.
DEED_FOR = {
    TicketStatus.OPEN: Deed.REOPEN,
    TicketStatus.IN_PROGRESS: Deed.TAKE_UP,
    TicketStatus.WAITING_ON_CUSTOMER: Deed.WAIT,
    TicketStatus.RESOLVED: Deed.RESOLVE,
    TicketStatus.CLOSED: Deed.CLOSE,
}

# While a ticket has one of these, somebody waits for our answer.
OWED = (TicketStatus.OPEN, TicketStatus.IN_PROGRESS)


def after(status: TicketStatus, deed: Deed) -> TicketStatus | No:
    """The status after a deed, or why it is not done."""
    return TABLE[status, deed]


def first_priority(category: Category, *, has_account: bool) -> Priority:
    """How pressing a new ticket is until a person has read it: money and access come first."""
    if category in (Category.ACCESS, Category.BILLING):
        return Priority.HIGH if has_account else Priority.MEDIUM
    return Priority.MEDIUM if has_account or category is Category.TECHNICAL else Priority.LOW


def answer_due(priority: Priority, since: datetime) -> datetime:
    """Until when an answer is promised to somebody who has waited since `since`."""
    return since + PROMISES[priority]


def tidy(text: str | None) -> str:
    """One kind of line break, and no blanks around."""
    return (text or "").replace("\r\n", "\n").replace("\r", "\n").strip()


def fault_of(text: str, lengths: tuple[int, int], *, lines: bool) -> str | None:
    """Why this cannot be written into a ticket, as a sentence; None when it can. `lines` allows more than one."""
    shortest, longest = lengths
    allowed = "\n\t" if lines else ""
    if any(unicodedata.category(mark) in ("Cc", "Cs") and mark not in allowed for mark in text):
        return "This holds a character that cannot be read. Please type that place anew."
    if not any(mark.isprintable() and not mark.isspace() for mark in text):
        return "Please write something here."
    if len(text) < shortest:
        return f"Please say a little more: at least {shortest} characters."
    if len(text) > longest:
        return f"This is too long: {longest:,} characters fit, and these are {len(text):,}."
    if holds_card_number(text):
        return (
            "This looks like the number of a card. Please take it out: nobody here needs it, and it must not be kept."
        )
    return None


# As cards print their numbers: in one piece, in fours, or as 4-6-5.
_CARD = re.compile(
    r"(?<![0-9])(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}|[0-9]{4}([ -])[0-9]{6}\2[0-9]{5})(?![0-9])"
)
# Who issues which numbers, and how long they are: https://en.wikipedia.org/wiki/Payment_card_number
_ISSUED = re.compile(
    r"4(?:.{12}|.{15}|.{18})|5[1-5].{14}|2[2-7].{14}|3[47].{13}|3(?:0|6|8|9).{12}|35.{14}|6(?:011|4[4-9].|5..).{12}|62.{14,17}"
)


def holds_card_number(text: str) -> bool:
    """Whether a text holds what can be the number of a payment card: an issuer's digits with the right check digit."""
    for found in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", found[0])
        if _ISSUED.fullmatch(digits) and _checks_out(digits):
            return True
    return False


def _checks_out(digits: str) -> bool:
    """The check digit by Luhn's formula (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0
