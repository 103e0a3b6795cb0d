"""What an erasure does and waits for, in sentences: for the person, and for staff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sts_app.emails.models import LetterState
from sts_app.privacy.models import Erasure
from sts_app.privacy.rules import ErasureState, Wait

WAITS = {
    Wait.CHECKOUT: "An open payment page is being closed.",
    Wait.SUBSCRIPTION: "Your subscription is being ended at Stripe.",
    Wait.ACCESS: "Your access at TradingView is being removed, and is read back until it is gone.",
    Wait.REFUND: "Money of yours is on its way back.",
    Wait.WITHDRAWAL: "Your withdrawal from a purchase has no answer yet. Our staff answer it first.",
    Wait.DISPUTE: (
        "A bank is deciding about a payment of yours. Until it has, we keep what shows what was bought, as the law "
        "allows for claims."
    ),
    Wait.CUSTOMER: "Stripe is being asked to delete you as a customer.",
    Wait.LETTERS: "The last letters are on their way.",
}
WAITS_FOR_STAFF = {
    Wait.CHECKOUT: "an open payment page that Stripe has not closed",
    Wait.SUBSCRIPTION: "a subscription that Stripe has not ended",
    Wait.ACCESS: "access at TradingView that is not verified absent (sts tasks, sts explain)",
    Wait.REFUND: "a refund that Stripe has not taken (sts refunds list)",
    Wait.WITHDRAWAL: "a withdrawal without an answer (sts withdrawals list)",
    Wait.DISPUTE: "a bank's decision (sts disputes list)",
    Wait.CUSTOMER: "Stripe, to delete the customer",
    Wait.LETTERS: "letters that are still to be sent",
}

# What the page of an erasure begins with.
LEADS = {
    ErasureState.REQUESTED: "Somebody asked for their account to be erased. This page says how far it is.",
    ErasureState.REVOKING: "The account is closed, and the rest is under way. This page says how far it is.",
    ErasureState.DONE: "All personal data of one account was erased at its owner's wish.",
    ErasureState.CANCELLED: "The wish was taken back.",
}


@dataclass(frozen=True)
class Step:
    """One line of the certificate: what, and when it was done; `note` says what it waits for, or how it was shown."""

    what: str
    done_at: datetime | None
    note: str = ""


def waits_of(erasure: Erasure) -> list[str]:
    """What it waits for, for the person."""
    return [WAITS[Wait(each)] for each in erasure.waits]


def waits_for_staff(erasure: Erasure) -> str:
    """The same in one line for staff; blank when it waits for nothing."""
    return "; ".join(WAITS_FOR_STAFF[Wait(each)] for each in erasure.waits)


def steps_of(erasure: Erasure) -> Sequence[Step]:
    """What is done, one after the other, with its time."""
    return (
        Step("Asked for", erasure.created_at),
        Step("Account closed: nobody can sign in or buy, and every session has ended", erasure.begun_at),
        Step(
            "Access at TradingView verified absent", _once_replaced(erasure, erasure.access_gone_at), _shown_by(erasure)
        ),
        Step("Customer deleted at Stripe, where there was one", _once_replaced(erasure, erasure.customer_gone_at)),
        Step("Personal data replaced in every part of the store", erasure.replaced_at),
        Step(_LAST_LETTER.get(erasure.report.get("last_letter", ""), _LAST_LETTER_SENT), erasure.done_at),
    )


_LAST_LETTER_SENT = "Last letter sent and its text, subject and address blanked"
_LAST_LETTER = {
    LetterState.FAILED: "Last letter refused by the mail service, and its text, subject and address blanked",
    LetterState.UNSURE: "Last letter perhaps sent, and its text, subject and address blanked",
    LetterState.WITHHELD: (
        "Last letter not sent, because letters to the address came back or were not wanted, and its text, subject and "
        "address blanked"
    ),
}


def counts_of(erasure: Erasure) -> list[tuple[str, str]]:
    """What the certificate counts up, as pairs of words and a number."""
    words = (
        ("access_removed", "Strategies whose access was removed"),
        ("names_replaced", "TradingView names replaced"),
        ("tickets_erased", "Support tickets erased"),
        ("letters_blanked", "Letters blanked"),
        ("payments_kept", "Payments kept without your name"),
    )
    return [(label, str(erasure.report[key])) for key, label in words if key in erasure.report]


def state_in_words(erasure: Erasure) -> str:
    """One or two words for how far it is."""
    return {
        ErasureState.REQUESTED: "Asked for",
        ErasureState.REVOKING: "Under way",
        ErasureState.DONE: "Done",
        ErasureState.CANCELLED: "Taken back",
    }[ErasureState(erasure.state)]


def _once_replaced(erasure: Erasure, at: datetime | None) -> datetime | None:
    """Until everything is ready to be replaced, what is done may have to be done again."""
    return at if erasure.replaced_at is not None else None


def _shown_by(erasure: Erasure) -> str:
    if erasure.replaced_at is None:
        return ""
    removed, by_staff = erasure.report.get("access_removed", 0), erasure.report.get("access_confirmed_by_staff", 0)
    if not removed:
        return "There was none."
    return "Read back from TradingView." if not by_staff else "Confirmed by our staff, where it could not be read back."
