"""What became of a letter, in words for its reader and for staff."""

from __future__ import annotations

from sts_app.emails.gateway import Happened
from sts_app.emails.models import EmailMessage, LetterState

STATES = {
    LetterState.QUEUED: "It waits to be sent.",
    LetterState.SENDING: "It is being sent.",
    LetterState.SENT: "It was sent, and nobody told us more.",
    LetterState.FAILED: "Our mail provider did not take it.",
    LetterState.UNSURE: "Nobody knows whether it was sent: the answer was lost.",
    LetterState.WITHHELD: "It was not sent, because letters to this address come back.",
}
LEFT_OUT = "It was left out: letters to this address come back or were called spam, and this one is no loss."
TROUBLES = {
    Happened.DELAYED: "The other side asks for patience. It is tried again by itself.",
    Happened.FAILED: "It never left our mail provider.",
    Happened.SUPPRESSED: "Our mail provider kept it back: an earlier letter came back or was called spam.",
    Happened.BOUNCED_SOFTLY: "It came back for a reason that may pass, like a full mailbox.",
    Happened.BOUNCED: "It came back: the other side takes no letters for this address.",
    Happened.COMPLAINED: "It arrived, and was called spam there.",
}


def in_words(letter: EmailMessage) -> str:
    """One sentence about where a letter is."""
    fate = letter.fate
    if fate.trouble is not None:
        return TROUBLES[fate.trouble]
    if fate.delivered_at is not None:
        return "It arrived."
    if letter.state == LetterState.WITHHELD and letter.need != "needed":
        return LEFT_OUT
    return STATES[LetterState(letter.state)]
