"""What TradingView holds against what should stand: who differs, and what one run may do about it.

Pure, like `rules`: the caller hands in what was read and what is known, and gets differences back. What
was in motion while TradingView was read is passed over, because the reading may be older than the change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sts_app.provisioning.gateway import Holder
from sts_app.provisioning.rules import Finding, GrantState, Pair


class Act(StrEnum):
    """What is done about a difference."""

    HEAL = "heal"  # given again
    REMOVE = "remove"  # taken away
    RESPELL = "respell"  # TradingView's spelling is taken
    AGAIN = "again"  # nothing, until a later reading shows the same
    LATER = "later"  # nothing, because this run has changed as much as one may
    ASK = "ask"  # nothing, until a person approves
    LEAVE = "leave"  # nothing, ever
    MOVED = "moved"  # nothing, because the pair changed between comparing and acting


CHANGES = frozenset({Act.HEAL, Act.REMOVE, Act.RESPELL})
# What waits for people: their task, their word that it cannot be done, or the customer's correction of a name.
WITH_PEOPLE = frozenset({GrantState.WITH_STAFF, GrantState.FAILED, GrantState.NEEDS_CUSTOMER})


@dataclass(frozen=True)
class Known:
    """A pair that has a row, and whether it should stand.

    `rests` is false while somebody works on it or it is due, and while the row is not yet in step with
    `wanted`. `changed_at` is the latest of its readings and of the beginning of its cycle; `granted` says
    that STS once gave this access; `spellings` are ours of the name.
    """

    pair: Pair
    grant_id: int
    cycle: int
    state: GrantState
    wanted: bool
    rests: bool
    granted: bool
    changed_at: datetime
    paid_at: datetime
    absent_at: datetime | None = None
    spellings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """Who holds which script, as read from `began_at` on.

    `answered` None means whole lists: who is not on one does not hold the script. Where names were asked for
    one by one, it holds the pairs that were answered for, and nothing is known of any other. `unknown` are the
    names, lower-cased, that hold nothing because TradingView does not know them: their access may have gone on
    under another name.
    """

    began_at: datetime
    holders: Mapping[str, Sequence[Holder]]
    answered: frozenset[Pair] | None = None
    unknown: frozenset[str] = frozenset()

    def speaks_of(self, pair: Pair) -> bool:
        """True when the reading tells whether this pair is held."""
        return pair.script_id in self.holders if self.answered is None else pair in self.answered

    def listed(self) -> dict[Pair, Holder]:
        """Every pair that was read, one whose end has passed included. Names are compared without case."""
        found: dict[Pair, Holder] = {}
        for script_id, holders in self.holders.items():
            for holder in holders:
                found.setdefault(Pair(holder.name.lower(), script_id), holder)
        return found


@dataclass(frozen=True)
class Difference:
    """One pair on which TradingView and we disagree. `spelling` is TradingView's where it shows the name."""

    kind: Finding
    pair: Pair
    spelling: str
    known: Known | None = None
    expires_at: datetime | None = None
    act: Act = Act.LEAVE


@dataclass(frozen=True)
class Limits:
    """What one run may change, and how sure it must be. Shares are of 1."""

    heal_least: int = 200
    heal_share: float = 0.20
    remove_least: int = 5
    remove_share: float = 0.02
    readings_apart: timedelta = timedelta(hours=12)
    # So many known holders of a script make a list that lacks most of them a list that cannot be right.
    doubt_from: int = 3
    doubt_share: float = 0.5
    # A young store has fewer holders of any script: so many pairs of which none is left cannot be right either.
    doubt_none_left_from: int = 4

    def heals(self, verified: int) -> int:
        return max(self.heal_least, int(self.heal_share * verified))

    def removals(self, held: int) -> int:
        return max(self.remove_least, int(self.remove_share * held))


def in_motion(known: Known, reading: Reading, skew: timedelta) -> bool:
    """True when the reading may be older than what we know of the pair, or the pair is being worked on."""
    return not known.rests or known.changed_at >= reading.began_at - skew


def compare(
    reading: Reading,
    knowns: Iterable[Known],
    *,
    expected: Set[Pair] = frozenset(),
    friends: Set[str] = frozenset(),
    skew: timedelta,
    now: datetime,
) -> list[Difference]:
    """Every difference, in the order of the pairs and with no act yet.

    `expected` are pairs that should stand and have no row yet: they are about to be granted. `friends` are
    the names, lower-cased, that hold what they hold.
    """
    listed = reading.listed()
    by_pair = {known.pair: known for known in knowns}
    found: list[Difference] = []
    for pair in sorted({*listed, *by_pair}):
        known, holder = by_pair.get(pair), listed.get(pair)
        if not reading.speaks_of(pair) or (known is not None and in_motion(known, reading, skew)):
            continue
        kind = _kind(pair, known, holder, expected, friends, now)
        ends = holder.expires_at if holder else None
        spelling = holder.name if holder else min(known.spellings, default=pair.name_key) if known else pair.name_key
        if kind is not None:
            found.append(Difference(kind, pair, spelling, known, ends))
        # Where names are asked for one by one, the spelling is our own.
        if known is not None and holder is not None and reading.answered is None and known.spellings - {holder.name}:
            found.append(Difference(Finding.DRIFTED, pair, spelling, known, ends))
    return found


def _kind(
    pair: Pair,
    known: Known | None,
    holder: Holder | None,
    expected: Set[Pair],
    friends: Set[str],
    now: datetime,
) -> Finding | None:
    if known is not None and known.wanted:
        if known.state is not GrantState.VERIFIED:
            return None
        if holder is None:
            return Finding.MISSING
        return Finding.EXPIRING if holder.expires_at is not None else None
    if holder is None or (holder.expires_at is not None and holder.expires_at <= now):
        return None
    if known is None and pair in expected:
        return None
    if known is not None and known.state is not GrantState.ABSENT:
        return None
    if pair.name_key in friends:
        return Finding.ALLOWED
    return Finding.EXTRA if known is not None and known.granted else Finding.STRANGER


def proven(reading: Reading, knowns: Iterable[Known], *, fresh: timedelta, now: datetime) -> list[Known]:
    """The pairs that people were asked to work on and that a reading shows to be as they should.

    It shows TradingView as it was at some moment within `fresh` before `now`: nobody knows when a list was copied.
    What was removed, or is to be removed only since then, may have looked otherwise.
    """
    listed = reading.listed()
    found = []
    for known in knowns:
        holder = listed.get(known.pair)
        if known.state not in WITH_PEOPLE or not known.rests or not reading.speaks_of(known.pair):
            continue
        if known.wanted:
            was_removed = known.absent_at is not None and known.absent_at >= now - fresh
            shown = holder is not None and holder.expires_at is None and not was_removed
        else:
            gone = holder is None or (holder.expires_at is not None and holder.expires_at <= now)
            shown = gone and known.changed_at < now - fresh and known.pair.name_key not in reading.unknown
        if shown:
            found.append(known)
    return found


def doubt(
    reading: Reading, knowns: Iterable[Known], found: Iterable[Difference], *, skew: timedelta, limits: Limits
) -> str | None:
    """Why this reading cannot be right, as a sentence, or None: most of a script's known holders are missing, or all.

    That is what a list of another account looks like, or one of which the first page came back alone.
    """
    standing = [known for known in knowns if _stands(known) and not in_motion(known, reading, skew)]
    known_holders = holders_known(reading, standing, skew)
    missing = Counter(each.pair.script_id for each in found if each.kind is Finding.MISSING)
    for script_id, count in sorted(missing.items()):
        all_known = known_holders[script_id]
        if all_known >= limits.doubt_from and count > limits.doubt_share * all_known:
            return (
                f"{count} of {all_known} known holders of {script_id} are missing, which is more than can be believed: "
                "the list may be cut short or belong to another account."
            )
    if missing.total() == len(standing) >= limits.doubt_none_left_from:
        return (
            f"Of {len(standing)} pairs that are known to stand not one is left, which is more than can be believed: "
            "the lists may belong to another account."
        )
    return None


def holders_known(reading: Reading, knowns: Iterable[Known], skew: timedelta) -> Counter[str]:
    """How many pairs of each script are known to stand, of those the reading speaks of."""
    return Counter(
        known.pair.script_id
        for known in knowns
        if _stands(known) and reading.speaks_of(known.pair) and not in_motion(known, reading, skew)
    )


def _stands(known: Known) -> bool:
    return known.wanted and known.state is GrantState.VERIFIED


def sample(found: Iterable[Difference], most: int) -> dict[str, list[Difference]]:
    """At most `most` of the missing pairs, spread evenly over all of them, by name: to be asked for once more."""
    missing = sorted((each for each in found if each.kind is Finding.MISSING), key=lambda each: each.pair)
    step = max(1.0, len(missing) / most)
    by_name: dict[str, list[Difference]] = {}
    for number in range(min(most, len(missing))):
        each = missing[int(number * step)]
        by_name.setdefault(each.pair.name_key, []).append(each)
    return by_name


def plan(
    found: Sequence[Difference],
    *,
    seen_since: Mapping[Pair, datetime],
    began_at: datetime,
    verified: int,
    held: int,
    limits: Limits,
) -> list[Difference]:
    """The same differences with what is to be done about each.

    `seen_since` says since when readings have shown a pair that should not be there, this one not counted.
    Healed is who paid first, removed is what was found first, each within the cap of one run, which is
    reckoned from the number of pairs known to stand (`verified`) and read as held (`held`).
    """
    heals = [each for each in found if each.kind in (Finding.MISSING, Finding.EXPIRING)]
    sure = {
        each.pair: seen_since[each.pair]
        for each in found
        if each.kind is Finding.EXTRA
        and each.pair in seen_since
        and began_at - seen_since[each.pair] >= limits.readings_apart
    }
    paid_at = {each.pair: each.known.paid_at for each in heals if each.known is not None}
    healed = _first(paid_at, limits.heals(verified))
    removed = _first(sure, limits.removals(held))

    def act(each: Difference) -> Act:
        if each.kind in (Finding.MISSING, Finding.EXPIRING):
            return Act.HEAL if each.pair in healed else Act.LATER
        if each.kind is Finding.EXTRA:
            return Act.REMOVE if each.pair in removed else Act.LATER if each.pair in sure else Act.AGAIN
        if each.kind is Finding.STRANGER:
            return Act.ASK
        return Act.RESPELL if each.kind is Finding.DRIFTED else Act.LEAVE

    return [replace(each, act=act(each)) for each in found]


def _first(since: Mapping[Pair, datetime], most: int) -> frozenset[Pair]:
    """The oldest `most` of them."""
    return frozenset(sorted(since, key=lambda pair: (since[pair], pair))[:most])
