"""What becomes of a letter, and which letters go to an address that had trouble: pure rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from sts_app.emails.gateway import Happened

# What a letter is to its reader: asked for a moment ago, needed, or no loss where it is left out.
Need = Literal["asked", "needed", "spare"]
# From the least to the worst. Each is truer of a letter than those before it, whenever it is heard of.
RANKS = tuple(Happened)
TROUBLES = tuple(each for each in Happened if each is not Happened.DELIVERED)
# A delivery shows that these were overcome, or were never so.
OVERCOME = frozenset({Happened.DELAYED, Happened.FAILED, Happened.SUPPRESSED})
# What the next letter to the same address would meet as well.
OF_THE_ADDRESS = frozenset({Happened.BOUNCED, Happened.SUPPRESSED, Happened.COMPLAINED})
# While letters come back, so much time lies between two that were asked for: each one that bounces costs
# the sender's good name, and anybody may ask for one.
TRIAL_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class Fate:
    """What is known of a letter after the provider took it. `words` are the other server's own."""

    delivered_at: datetime | None = None
    trouble: Happened | None = None
    trouble_at: datetime | None = None
    words: str = ""


def fate_of(happened: Happened, at: datetime, words: str = "") -> Fate:
    """All that one event tells."""
    if happened is Happened.DELIVERED:
        return Fate(delivered_at=at)
    return Fate(trouble=happened, trouble_at=at, words=words)


def merged(known: Fate, told: Fate) -> Fate:
    """Both at once. It does not matter which was heard first, nor how often.

    Events come late, twice and in any order, so a letter never moves backwards: of two troubles the worse
    stands, of two delays the last. One that was delivered and came back all the same has come back.
    """
    arrivals = [at for at in (known.delivered_at, told.delivered_at) if at is not None]
    worst = max((known, told), key=_gravity)
    if arrivals and worst.trouble in OVERCOME:
        worst = Fate()
    return Fate(
        delivered_at=min(arrivals, default=None),
        trouble=worst.trouble,
        trouble_at=worst.trouble_at,
        words=worst.words,
    )


def _gravity(fate: Fate) -> tuple[int, float, str]:
    if fate.trouble is None or fate.trouble_at is None:
        return (-1, 0.0, "")
    return (RANKS.index(fate.trouble), fate.trouble_at.timestamp(), fate.words)


class Trust(StrEnum):
    """How an address stands."""

    FINE = "fine"
    COMPLAINED = "complained"  # somebody there called a letter of ours spam
    BOUNCES = "bounces"  # letters to it come back


@dataclass(frozen=True)
class Standing:
    """What is on record of an address. `confirmed_at` is when somebody used what only a letter to it held."""

    bounced_at: datetime | None = None
    complained_at: datetime | None = None
    confirmed_at: datetime | None = None
    tried_at: datetime | None = None

    @property
    def trust(self) -> Trust:
        """A proof that letters arrive outweighs whatever was before it, and nothing that came after."""
        if _stands(self.bounced_at, self.confirmed_at):
            return Trust.BOUNCES
        if _stands(self.complained_at, self.confirmed_at):
            return Trust.COMPLAINED
        return Trust.FINE

    @property
    def is_fine(self) -> bool:
        return self.trust is Trust.FINE

    def may_be_tried(self, now: datetime) -> bool:
        """Whether a letter that was asked for may go to it, though letters to it come back."""
        return self.tried_at is None or now - self.tried_at >= TRIAL_EVERY


def _stands(at: datetime | None, confirmed_at: datetime | None) -> bool:
    return at is not None and (confirmed_at is None or confirmed_at <= at)


def may_go(standing: Standing, now: datetime, *, need: str) -> bool:
    """Whether a letter is sent to an address that stands so.

    - What was asked for a moment ago (sign-in, proof of an address) is the one way to show that letters arrive: it
      always goes, once an hour while letters come back. Without it nobody whose mailbox had one bad day could ever
      sign in again.
    - A needed letter (purchase, access, refund, an answer) waits while letters come back: sending it would
      only bounce, and enough of that gets every customer's letters refused. It goes after a complaint: that mailbox
      works, and the law wants a purchase or a withdrawal confirmed whether or not the reader likes us.
    - A spare letter (a welcome, a reminder) goes only where nothing speaks against it.
    """
    if need == "asked":
        return standing.trust is not Trust.BOUNCES or standing.may_be_tried(now)
    if need == "spare":
        return standing.trust is Trust.FINE
    return standing.trust is not Trust.BOUNCES
