"""From what a person copied to a list of holders: TradingView's own dialog, a CSV, or names one per line.

What is not understood is refused with the line it stands on. A list is taken for proof, so nothing in it may
be passed over that might have been a name: a customer may be called Forever, Done or Access.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sts_app.core.errors import FixInput
from sts_app.provisioning.gateway import Holder

MOST_CHARACTERS = 1_000_000

_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00ad"))
_SPACES = re.compile(r"[^\S\n\t]+")
_SEPARATOR = re.compile(r"[\t,;|·•]")
_BULLET = re.compile(r"^(?:[-*\u2013]\s+|\d{1,4}[.)]\s+)")
_NAME = re.compile(r"[A-Za-z0-9_-]{3,30}")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_ROW_NUMBER = re.compile(r"\d{1,4}")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_HOUR = r"(?:(?:,| at)? \d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]m)?(?: utc| gmt)?)?"
_DATES = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        r"\b(?P<iso>\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)",
        rf"\b{_MONTH} {_DAY},? (?P<year>\d{{4}}){_HOUR}",
        rf"\b{_DAY}\.? {_MONTH},? (?P<year>\d{{4}}){_HOUR}",
        rf"\b(?P<one>\d{{1,2}})[/.](?P<two>\d{{1,2}})[/.](?P<year>\d{{4}}){_HOUR}",
    )
)
# In place of a date that was found, with its number.
_DATE = r"\x00(\d+)\x00"

_FOR_LIFE = re.compile(
    r"life ?time|for life|for ?ever|unlimited|permanent|never(?: expires)?|(?:does not|doesn.t) expire|"
    r"no (?:expiration|expiry|end)(?: date)?|expir(?:es|ation|y):? (?:never|lifetime)|∞",
    re.I,
)
_END = re.compile(
    rf"(?:access )?(?:expir(?:es|ed|ation|y)|valid until|until|till|end(?:s|ed)?)(?: date)?(?: on| at)?:? ?{_DATE}",
    re.I,
)
_LEFT = re.compile(r"(?:expires )?in (\d+|an?|one) (hour|day|week|month|year)s?", re.I)
_ADDED = re.compile(r"(?:added|created|granted|given|joined|since|last seen)(?:[ :].*)?", re.I)
# What else stands about in the dialog: heads of columns, words of buttons, alternative texts of pictures.
_ABOUT = re.compile(
    r"(?:(?:manage|script|invite-only) )?access|users?(?: with access)?|(?:user ?)?names?|who has access|"
    r"tradingview(?: (?:user)?name)?|expir(?:es|ation|y)(?: date)?|date|status|actions?|avatar|"
    r"search(?: (?:users?|(?:by )?(?:user)?names?))?|(?:add|invite)(?: new)?(?: users?)?|"
    r"remove(?: access)?|delete|edit|change(?: (?:expiration|date))?|save|apply|cancel|close|okay|done|copy|"
    r"load more|show (?:more|all)|next|previous|\d+ (?:users?|people|results?|members?)|"
    r"(?:total|showing|page):? ?\d+(?: ?[-\u2013] ?\d+)?(?: of \d+)?|"
    r"(?:(?:profile )?(?:avatar|picture|photo|image))(?: (?:of|for))?:? [\w-]+|"
    r"[\w-]+(?:['\u2019]s)? (?:avatar|picture|photo)|"
    r"\w{1,2}",
    re.I,
)
_DAYS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "year": 365}
_NAME_COLUMNS = {"username", "user", "name", "user name", "tradingview name", "tradingview username", "tradingview"}
_END_COLUMNS = {
    "expiration",
    "expires",
    "expiration date",
    "expires at",
    "expires on",
    "expiry",
    "until",
    "end",
    "ends",
}
_NO_END = {"", "-", "\u2013", "null", "none", "n/a"}


class NotAList(FixInput):
    code = "NOT_A_LIST"
    sentence = "There is no name in this text. Copy the list of users from TradingView, or write one name per line."


@dataclass
class _Row:
    """One name, and what was said about it. `bare` are dates that do not say what they are of."""

    name: str
    line: int
    is_for_life: bool = False
    ends: set[datetime] = field(default_factory=set)
    bare: set[datetime] = field(default_factory=set)


def parse(text: str, *, known: Set[str], now: datetime) -> list[Holder]:
    """The holders on a pasted list, in its order and each once.

    `known` are the names, lower-cased, of which the list is to tell something: none of them is passed over as a
    word of the page. An @ before a name says that it is one. A day is taken to end with its last second, UTC.
    Raises `NotAList`, which names the line that is not understood: a word that may be a name or not, a name with
    two ends, a date that has passed and does not say whether it is the day of adding or the end.
    """
    if len(text) > MOST_CHARACTERS:
        raise NotAList("This text is too long for a list of users.")
    if "\x00" in text or text.lstrip("\ufeff \r\n\t")[:1] in ("<", "{", "["):
        raise NotAList("This is a program's data and no list of users. Copy the names as the page shows them.")
    plain = text.translate(_INVISIBLE).replace("\r\n", "\n").replace("\r", "\n")
    lines = [_SPACES.sub(" ", line).strip() for line in plain.split("\n")]
    rows: dict[str, _Row] = {}
    # By line and in lower case, what was taken for something else than a name.
    passed: dict[int, set[str]] = {}
    if not _read_table(lines, rows, passed, now):
        _read_lines(lines, rows, passed, now)
    _refuse_known(passed, known - rows.keys())
    if not rows:
        raise NotAList
    return [Holder(row.name, _end_of(row, now)) for row in rows.values()]


def _refuse_known(passed: Mapping[int, Set[str]], unread: Set[str]) -> None:
    """Refuse a text in which a name we know was taken for something else, and was read as a name nowhere."""
    for number, words in passed.items():
        for word in sorted(words & unread):
            raise NotAList(
                f"Line {number}: {word!r} is a TradingView name that this store knows, and may be a word of the page "
                f"as well. Write @{word} if that user is on the list, and leave the word out if not."
            )


def _read_table(lines: list[str], rows: dict[str, _Row], passed: dict[int, set[str]], now: datetime) -> bool:
    """Read lines under a head that names its columns; false when there is none, or they are no table."""
    filled = [(number, line) for number, line in enumerate(lines, 1) if line]
    if not filled:
        return False
    delimiter = next((mark for mark in "\t;," if mark in filled[0][1]), None)
    if delimiter is None:
        return False
    table = [(n, [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]) for n, line in filled]
    head = [cell.lower() for cell in table[0][1]]
    named = [number for number, cell in enumerate(head) if cell in _NAME_COLUMNS]
    if len(named) != 1 or len(table) == 1 or any(len(cells) != len(head) for _, cells in table):
        return False
    ends = next((number for number, cell in enumerate(head) if cell in _END_COLUMNS), None)
    # The columns we do not read may hold names as well, where what looks like a head is a row like the others.
    read = {named[0], ends}
    passed[table[0][0]] = set(head)
    for number, cells in table[1:]:
        passed[number] = {cell.lower() for column, cell in enumerate(cells) if column not in read}
        name = _BULLET.sub("", cells[named[0]]).removeprefix("@")
        if not _NAME.fullmatch(name):
            raise _not_understood(number, cells[named[0]])
        row = rows.setdefault(name.lower(), _Row(name, number))
        if ends is None or cells[ends].lower() in _NO_END:
            continue
        masked, dates = _mask(cells[ends], number)
        if not _add(row, masked, dates, now):
            raise _not_understood(number, cells[ends])
        # The head of the column says what a bare date is.
        row.ends, row.bare = row.ends | row.bare, set()
    return True


def _read_lines(lines: list[str], rows: dict[str, _Row], passed: dict[int, set[str]], now: datetime) -> None:
    """Read names, each followed by what is said about it, on its own line or on those below."""
    current: _Row | None = None
    for number, line in enumerate(lines, 1):
        masked, dates = _mask(line, number)
        found: list[str] = []
        said: list[str] = []
        for cell in _cells(masked):
            name, rest = _name_and_rest(cell)
            found += [name] if name else []
            said += [rest] if rest else []
        if len(found) > 1 and _ROW_NUMBER.fullmatch(found[0]):
            # The number of the row stands before the name.
            found = found[1:]
        # Whole cells as well: a name may look like a date, or like the number of a row.
        passed[number] = {cell.lower() for cell in _cells(line)}.union(*map(_words, said))
        for name in found:
            current = rows.setdefault(name.lower(), _Row(name, number))
        for words in said:
            if current is None or len(found) > 1 or not _add(current, words, dates, now):
                if _ABOUT.fullmatch(words) or _ADDED.fullmatch(words):
                    continue
                raise _not_understood(number, line)


def _cells(line: str) -> list[str]:
    cells = [_BULLET.sub("", cell.strip(" \"'")).strip() for cell in _SEPARATOR.split(_BULLET.sub("", line))]
    return [cell for cell in cells if cell]


def _words(said: str) -> set[str]:
    """Its words in lower case, without its dates: April is a month there."""
    return {word.lower() for word in _WORD.findall(re.sub(_DATE, " ", said))}


def _name_and_rest(cell: str) -> tuple[str | None, str | None]:
    """A cell is a name, a name with words behind it, or words."""
    if _is_words(cell):
        return None, cell
    name, _, rest = cell.removeprefix("@").partition(" ")
    if _NAME.fullmatch(name) and (not rest or _is_words(rest)):
        return name, rest or None
    return None, cell


def _is_words(cell: str) -> bool:
    return any(pattern.fullmatch(cell) for pattern in (_FOR_LIFE, _END, _LEFT, _ADDED, _ABOUT)) or bool(
        re.fullmatch(_DATE, cell)
    )


def _add(row: _Row, words: str, dates: list[datetime], now: datetime) -> bool:
    """Take down what `words` say of a name; false when that is nothing about its end."""
    if _FOR_LIFE.fullmatch(words):
        row.is_for_life = True
    elif end := _END.fullmatch(words):
        row.ends.add(dates[int(end[1])])
    elif left := _LEFT.fullmatch(words):
        count = int(left[1]) if left[1].isdigit() else 1
        row.ends.add(now + timedelta(days=count * _DAYS[left[2].lower()]))
    elif bare := re.fullmatch(_DATE, words):
        row.bare.add(dates[int(bare[1])])
    else:
        return False
    return True


def _end_of(row: _Row, now: datetime) -> datetime | None:
    """When access ends, None for life."""
    if len(row.ends) > 1 or (row.ends and row.is_for_life):
        raise NotAList(f"Line {row.line}: {row.name} is on the list with two different ends.")
    if row.ends:
        return next(iter(row.ends))
    if row.is_for_life or not row.bare:
        return None
    # The day of adding lies behind us, and an end that matters before us.
    latest = max(row.bare)
    if latest <= now:
        raise NotAList(
            f"Line {row.line}: the date at {row.name} may be the day of adding or the end. "
            "Write Added or Expires before such dates, or leave them out."
        )
    return latest


def _mask(line: str, number: int) -> tuple[str, list[datetime]]:
    """The line with its dates taken out, since they hold commas, and the dates."""
    dates: list[datetime] = []

    def note(match: re.Match[str]) -> str:
        try:
            dates.append(_moment(match.groupdict()))
        except ValueError:
            raise _not_understood(number, line) from None
        return f"\x00{len(dates) - 1}\x00"

    for pattern in _DATES:
        line = pattern.sub(note, line)
    return line, dates


def _moment(parts: dict[str, str | None]) -> datetime:
    """The moment a date means. Raises ValueError for the 31st of February."""
    iso = parts.get("iso")
    if iso is not None:
        if len(iso) > 10:
            moment = datetime.fromisoformat(
                iso.replace(" UTC", "Z").replace("UTC", "Z").replace(" +", "+").replace(" Z", "Z")
            )
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return _last_second(datetime.fromisoformat(iso))
    year = int(parts["year"] or 0)
    month = parts.get("month")
    if month is not None:
        return _last_second(datetime(year, _MONTHS.index(month.lower()) + 1, int(parts["day"] or 0), tzinfo=UTC))
    one, two = int(parts["one"] or 0), int(parts["two"] or 0)
    if one > 12 or two > 12:
        day, month_number = (one, two) if one > 12 else (two, one)
        return _last_second(datetime(year, month_number, day, tzinfo=UTC))
    # Which of the two is the month depends on the country: the later day claims less.
    return _last_second(datetime(year, max(one, two), min(one, two), tzinfo=UTC))


def _last_second(day: datetime) -> datetime:
    return day.replace(hour=23, minute=59, second=59, tzinfo=UTC)


def _not_understood(number: int, line: str) -> NotAList:
    shown = re.sub(_DATE, "(a date)", line)[:60]
    return NotAList(
        f"Line {number} is not understood: {shown!r}. Leave it out if it is no user, or write one name per line."
    )
