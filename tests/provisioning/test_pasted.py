"""Lists as people copy them: what is read, what is refused, and what a pasted list proves."""

from __future__ import annotations

import re
from collections.abc import Set
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.db import transaction
from sts_app.core.errors import NotThere
from sts_app.provisioning import acting, control, findings, services, worklist
from sts_app.provisioning import pasted as pasted_room
from sts_app.provisioning.models import ManualTask
from sts_app.provisioning.pasted_list import NotAList, parse
from sts_app.provisioning.rules import Switch
from tests.builders import count, entitled, grants, letters, named, person, served, work

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, 23, 59, 59, tzinfo=UTC)


def read(text: str, known: Set[str] = frozenset()) -> dict[str, datetime | None]:
    return {holder.name: holder.expires_at for holder in parse(text, known=known, now=NOW)}


# Words of TradingView's dialog that have the shape of a name.
DIALOG = frozenset(
    re.findall(
        r"\w+",
        "Access User Users Name Names Username Usernames TradingView Expires Expiration Expiry Date Status Action "
        "Actions Avatar Search Add Invite Remove Delete Edit Change Save Apply Cancel Close Okay Done Copy Next "
        "Previous Lifetime Forever Unlimited Permanent Never Added Created Granted Given Joined Since",
    )
)


class TestLines:
    @pytest.mark.parametrize(
        "text",
        [
            "Anna\nBobby",
            "Anna\r\nBobby\r\n",
            "\ufeffAnna\n\n  Bobby  \n",
            "\u00a0Anna\u00a0\nBobby\u200b",
            "Anna, Bobby",
            "Anna; Bobby;",
            "1. Anna\n2. Bobby",
            "- Anna\n- Bobby",
            "* @Anna\n* @Bobby",
            '"Anna","Lifetime"\n"Bobby","Lifetime"',
            "Anna\tLifetime\nBobby\tNever",
            "Anna Lifetime\nBobby No expiration date",
            "Anna\nBobby\nanna",
            "1,Anna\n2,Bobby",
            "100,Anna\n101,Bobby",
        ],
    )
    def test_names_are_read_however_they_stand(self, text):
        assert read(text) == {"Anna": None, "Bobby": None}

    def test_the_dialog_is_read_with_everything_that_stands_about_in_it(self):
        text = (
            "Manage access\r\nAdd users\r\nSearch by username\r\n3 users\r\nUsername\tAdded\tExpiration\r\n\r\n"
            "Anna's avatar\r\nAnna\r\nAdded Aug 17, 2026\r\nLifetime\r\nRemove\r\n"
            "B\r\nBobby\r\nAdded 2 days ago\r\nExpires December 1, 2026\r\nEdit\r\nRemove\r\n"
            "Avatar of Carl_99\r\nCarl_99\r\nAdded by the owner\r\nNo expiration date\r\n"
            "Showing 1-3 of 3\r\nLoad more\r\nClose\r\n"
        )

        assert read(text) == {"Anna": None, "Bobby": day(2026, 12, 1), "Carl_99": None}

    @pytest.mark.parametrize(
        "written",
        [
            "2026-12-24",
            "Dec 24, 2026",
            "December 24 2026",
            "24 Dec 2026",
            "24. December 2026",
            "24th December, 2026",
            "12/24/2026",
            "24.12.2026",
            "Dec 24, 2026 10:15 PM",
            "24 Dec 2026 at 10:15",
        ],
    )
    @pytest.mark.parametrize("form", ["Anna {}", "Anna\n{}", "Anna, expires {}", "Anna\tuntil {}", "Anna ends on {}"])
    def test_an_end_is_read_however_it_is_written(self, form, written):
        assert read(form.format(written)) == {"Anna": day(2026, 12, 24)}

    @pytest.mark.parametrize(
        ("written", "moment"),
        [
            ("2026-12-24T06:27:49.067935+00:00", datetime(2026, 12, 24, 6, 27, 49, 67935, tzinfo=UTC)),
            ("2026-12-24 06:27:49+00:00", datetime(2026, 12, 24, 6, 27, 49, tzinfo=UTC)),
            ("2026-12-24 06:27 UTC", datetime(2026, 12, 24, 6, 27, tzinfo=UTC)),
            ("2026-12-24T06:27:49Z", datetime(2026, 12, 24, 6, 27, 49, tzinfo=UTC)),
        ],
    )
    def test_a_moment_is_read_to_its_second(self, written, moment):
        assert read(f"Anna expires {written}") == {"Anna": moment}

    @pytest.mark.parametrize(("words", "days"), [("in 30 days", 30), ("Expires in a week", 7), ("in 2 months", 60)])
    def test_what_is_left_counts_from_now(self, words, days):
        assert read(f"Anna\n{words}") == {"Anna": NOW + timedelta(days=days)}

    def test_of_two_dates_the_one_behind_us_is_the_day_of_adding(self):
        assert read("Anna\tAug 17, 2026\tDec 24, 2026") == {"Anna": day(2026, 12, 24)}
        assert read("Anna\tAug 17, 2026\tLifetime") == {"Anna": None}

    def test_an_end_that_has_passed_is_read_when_it_says_so(self):
        assert read("Anna\nExpired Aug 17, 2026") == {"Anna": day(2026, 8, 17)}

    def test_of_two_readings_of_a_date_the_later_claims_less(self):
        assert read("Anna until 01/12/2026") == read("Anna until 12/01/2026") == {"Anna": day(2026, 12, 1)}


class TestNamesLikeWords:
    def test_an_at_sign_says_that_a_word_is_a_name(self):
        for word in DIALOG:
            assert read(f"Anna\n@{word}\nLifetime\nRemove", {word.lower()}) == {"Anna": None, word: None}

    def test_what_is_read_as_a_name_may_stand_about_as_a_word(self):
        assert read("@Remove\nAnna\nRemove\nBobby\nRemove", {"remove"}) == {"Remove": None, "Anna": None, "Bobby": None}

    def test_the_month_in_a_date_is_no_name(self):
        assert read("Anna\nAdded April 3, 2026\nLifetime", {"anna", "april"}) == {"Anna": None}

    @pytest.mark.parametrize("name", ["since-1999", "Granted-Trader", "added_later", "Done4You"])
    def test_a_name_that_begins_like_a_word_is_a_name(self, name):
        assert read(f"Anna\n{name}") == {"Anna": None, name: None}

    def test_a_name_of_digits_is_more_than_the_number_of_a_row(self):
        assert read("12345678, Anna") == {"12345678": None, "Anna": None}


class TestTables:
    def test_the_head_says_which_column_is_which(self):
        text = (
            "Email,Username,Added,Expiration\nx@y.example,Anna,2024-01-01,\nz@y.example,Bobby,2024-01-01,2026-12-24\n"
        )

        assert read(text) == {"Anna": None, "Bobby": day(2026, 12, 24)}

    @pytest.mark.parametrize("mark", [",", ";", "\t"])
    def test_columns_are_parted_as_programs_part_them(self, mark):
        text = mark.join(("username", "expiration")) + "\n" + mark.join(("Anna", "null")) + "\n"

        assert read(text) == {"Anna": None}

    def test_a_cell_in_quotes_may_hold_the_comma_of_a_date(self):
        assert read('Name,Expires\n"Anna","Dec 24, 2026"\n') == {"Anna": day(2026, 12, 24)}

    def test_a_past_date_in_the_column_of_ends_is_an_end(self):
        assert read("username,expiration\nAnna,2025-01-01\n") == {"Anna": day(2025, 1, 1)}

    @pytest.mark.parametrize("row", ["An na,", "a@b.example,", "Anna,soon", "Anna,2026-02-31"])
    def test_a_cell_that_is_not_understood_is_refused_with_its_line(self, row):
        with pytest.raises(NotAList, match="Line 3"):
            read(f"username,expiration\nBobby,\n{row}\n")


class TestRefused:
    @pytest.mark.parametrize("text", ["", " \n\r\n\u00a0", "Manage access\nSearch by username\nClose"])
    def test_a_text_without_a_name(self, text):
        with pytest.raises(NotAList, match="no name"):
            read(text)

    @pytest.mark.parametrize("text", ["<table><tr><td>Anna", '{"results": []}', "[1]", "Anna\x00", "  \ufeff<html>"])
    def test_a_programs_data(self, text):
        with pytest.raises(NotAList, match="no list of users"):
            read(text)

    @pytest.mark.parametrize(
        "line",
        [
            "hello and thank you",
            "anna@customers.example",
            "https://www.tradingview.com/u/Anna/",
            "Änna",
            "Anna until further notice",
            "Anna expires Feb 31, 2026",
            "a" * 31,
        ],
    )
    def test_a_line_that_may_have_been_a_name(self, line):
        with pytest.raises(NotAList, match="Line 2 is not understood"):
            read(f"Bobby\n{line}\nCarl")

    def test_a_past_date_that_does_not_say_what_it_is_of(self):
        with pytest.raises(NotAList, match="day of adding or the end"):
            read("Anna\nAug 17, 2026")

    @pytest.mark.parametrize(
        "text", ["Anna Lifetime\nAnna until 2026-12-24", "Anna until 2026-12-24\nanna until 2026-12-25"]
    )
    def test_a_name_with_two_ends(self, text):
        with pytest.raises(NotAList, match="two different ends"):
            read(text)

    def test_an_end_that_could_belong_to_either_of_two(self):
        with pytest.raises(NotAList, match="Line 1"):
            read("Anna, Bobby, 2026-12-24")

    @pytest.mark.parametrize("form", ["Anna\n{}\nBobby", "Anna, {}", "Anna {}", "{}\tAnna"])
    def test_a_name_we_know_that_is_a_word_of_the_page_as_well(self, form):
        for word in DIALOG:
            with pytest.raises(
                NotAList, match=rf"Line \d: '{word.lower()}' is a TradingView name .* Write @{word.lower()}"
            ):
                read(form.format(word), {word.lower()})

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("100,Anna", "100"),
            ("Anna\n2026-12-24", "2026-12-24"),
            ("Anna's avatar\nBobby", "anna"),
            ("Added by Anna\nBobby", "anna"),
            ("Name,Bobby\nAnna,Carl", "bobby"),
            ("Name,Since\nAnna,Carl", "carl"),
        ],
    )
    def test_a_name_we_know_that_would_be_taken_for_something_else(self, text, name):
        with pytest.raises(NotAList, match=rf"'{name}' is a TradingView name that this store knows"):
            read(text, {name})

    def test_a_book(self):
        with pytest.raises(NotAList, match="too long"):
            read("Anna\n" * 300_000)


SCRIPT = "PUB;nq_momentum_alpha_001"
TENTH = timedelta(minutes=10)


def pasted(text: str, **options):
    """What a list of `SCRIPT` shows; a preview unless told otherwise."""
    options = {"complete": True, "dry_run": False} | options
    with transaction():
        return pasted_room.compare(SCRIPT, text, actor="user:9", **options)


def told(found: pasted_room.Pasted) -> dict[str, list[str]]:
    by_kind: dict[str, list[str]] = {}
    for line in found.report.lines:
        by_kind.setdefault(line.kind, []).append(f"{line.act} {line.name}")
    return by_kind


def the_pair(name: str):
    return next(grant for grant in grants(name) if grant.script_id == SCRIPT)


class TestByHand:
    """A store whose staff do the work: what they were asked for is proven by the list they paste."""

    @pytest.fixture(autouse=True)
    def by_hand(self, db):
        with transaction():
            control.set_switch(Switch.MANUAL, actor="user:9", because="a test")

    @pytest.fixture
    def asked(self, alice, plan, vendor):
        """Staff are asked to give Anna all six."""
        entitled(alice, plan, "purchase:1")
        work("provisioning")
        assert {grant.state for grant in grants()} == {"with_staff"}
        return alice

    def test_what_was_to_be_given_and_is_on_the_list_is_verified(self, asked):
        found = pasted("Anna\nLifetime")

        assert (found.present, found.absent, told(found)) == (("Anna",), (), {})
        pair = the_pair("Anna")
        assert (pair.state, pair.evidence) == ("verified", "seen on a list pasted by user:9")
        assert pair.verified_at == pair.granted_at == time_source.now()
        assert {grant.state for grant in grants() if grant.script_id != SCRIPT} == {"with_staff"}

    def test_its_task_is_closed_as_done_by_who_pasted(self, asked):
        pasted("Anna")

        [task] = [task for task in database.session.scalars(sa.select(ManualTask)) if task.closed_at]
        assert (task.outcome, task.closed_by, task.grant_id) == ("done", "user:9", the_pair("Anna").id)

    def test_a_preview_shows_it_and_changes_nothing(self, asked):
        found = pasted("Anna", dry_run=True)

        assert found.present == ("Anna",)
        assert the_pair("Anna").state == "with_staff"
        assert count(ManualTask) == 6
        assert found.report.dry_run

    def test_a_part_of_the_list_is_enough_to_prove_who_is_on_it(self, asked):
        assert pasted("Anna", complete=False).present == ("Anna",)
        assert the_pair("Anna").state == "verified"

    def test_access_with_an_end_is_not_what_was_sold(self, asked):
        assert pasted("Anna until 2027-01-01").present == ()
        assert the_pair("Anna").state == "with_staff"

    def test_what_staff_said_cannot_be_done_and_is_there_all_the_same_is_verified(self, asked):
        first, *others = [task.task_id for task in worklist.open_tasks(6)]
        with transaction():
            worklist.cannot(first, "user:9", reason="the page is broken", also=others)
        assert the_pair("Anna").state == "failed"

        assert pasted("Anna").present == ("Anna",)
        assert the_pair("Anna").state == "verified"

    def test_who_has_all_of_it_is_told_once(self, asked):
        for script in sorted({grant.script_id for grant in grants()}):
            with transaction():
                pasted_room.compare(script, "Anna", actor="user:9", complete=True, dry_run=False)

        assert [letter.kind for letter in letters("access_granted")] == ["access_granted"]

    @pytest.fixture
    def ended(self, alice, plan, vendor, clock):
        """Anna was refunded an hour ago, and staff are asked to take all six away."""
        served(alice, plan, "purchase:1")
        with transaction():
            services.end_entitlement("purchase:1", because="refund", actor="test")
        work("provisioning")
        clock.shift(timedelta(hours=1))
        return alice

    def test_what_was_to_be_removed_and_is_not_on_the_whole_list_is_absent(self, ended):
        found = pasted("Somebody")

        assert (found.present, found.absent) == ((), ("Anna",))
        pair = the_pair("Anna")
        assert (pair.state, pair.evidence, pair.absent_at) == (
            "absent",
            "not on a list pasted by user:9",
            time_source.now(),
        )

    def test_a_part_of_the_list_shows_nobody_to_be_absent(self, ended):
        assert pasted("Somebody", complete=False).absent == ()
        assert the_pair("Anna").state == "with_staff"

    def test_who_is_still_on_it_is_still_to_be_removed(self, ended):
        assert pasted("Anna").absent == ()
        assert the_pair("Anna").state == "with_staff"

    def test_a_list_that_may_be_older_than_the_end_shows_nobody_to_be_absent(self, alice, plan, vendor, clock):
        served(alice, plan, "purchase:1")
        clock.shift(timedelta(hours=1))
        with transaction():
            services.end_entitlement("purchase:1", because="refund", actor="test")
        work("provisioning")
        clock.shift(TENTH)

        assert pasted("Somebody").absent == ()
        clock.shift(timedelta(seconds=1))
        assert pasted("Somebody").absent == ("Anna",)

    def test_a_list_that_may_be_older_than_a_removal_shows_nobody_to_be_present(self, ended, alice, plan, clock):
        pasted("Somebody")
        entitled(alice, plan, "purchase:2")
        work("provisioning")

        assert pasted("Anna").present == ()
        clock.shift(TENTH + timedelta(seconds=1))
        assert pasted("Anna").present == ("Anna",)

    def test_what_is_missing_leaves_active_and_becomes_a_task(self, alice, bob, plan, vendor, clock):
        served(alice, plan, "purchase:1")
        served(named(bob, "Bobby"), plan, "purchase:2")
        clock.shift(timedelta(hours=1))

        assert told(pasted("Bobby", dry_run=True)) == {"missing": ["heal Anna"]}
        assert the_pair("Anna").state == "verified"
        assert told(pasted("Bobby")) == {"missing": ["heal Anna"]}
        work("provisioning")
        assert the_pair("Anna").state == "with_staff"

    def test_a_list_without_most_of_the_holders_is_refused(self, plan, vendor, clock):
        for number in range(4):
            served(named(person(f"p{number}@customers.example"), f"Person{number}"), plan, f"purchase:{number}")
        clock.shift(timedelta(hours=1))

        found = pasted("Person0")

        assert found.report.state == "refused"
        assert "3 of 4 known holders" in found.report.because
        assert {grant.state for grant in grants()} == {"verified"}

    def test_nothing_is_removed_before_a_person_approves_and_then_by_hand(self, alice, plan, vendor, clock):
        served(alice, plan, "purchase:1")
        with transaction():
            services.end_entitlement("purchase:1", because="refund", actor="test")
        work("provisioning")
        clock.shift(timedelta(hours=1))
        pasted("Somebody")
        clock.shift(timedelta(hours=1))
        found = pasted("Anna\nStranger")

        assert told(found) == {"extra": ["ask Anna"], "stranger": ["ask Stranger"]}
        with transaction():
            assert acting.approve(found.report.run_id, actor="user:9").removed == 2
        work("provisioning")
        assert the_pair("Anna").state == the_pair("Stranger").state == "with_staff"

    def test_a_friend_on_it_is_left_alone(self, plan, db):
        with transaction():
            findings.allow("Friend", reason="helps us", actor="user:9")

        assert told(pasted("Friend")) == {"allowed": ["leave Friend"]}

    def test_a_persons_spelling_is_shown_and_not_taken(self, alice, plan, vendor, clock):
        served(alice, plan, "purchase:1")
        clock.shift(timedelta(hours=1))

        assert told(pasted("ANNA")) == {"drifted": ["leave ANNA"]}
        assert the_pair("anna").name_spelling == "Anna"

    def test_a_script_of_nobody_is_refused(self, plan):
        with pytest.raises(NotThere):
            pasted_room.compare("PUB;nobody", "Anna", actor="user:9", complete=True)

    def test_a_customer_whose_name_is_a_word_of_the_page_is_not_passed_over(self, plan, vendor, clock):
        served(named(person("forever@customers.example"), "Forever"), plan, "purchase:1")
        with transaction():
            services.end_entitlement("purchase:1", because="refund", actor="test")
        work("provisioning")
        clock.shift(timedelta(hours=1))

        with pytest.raises(NotAList, match="Write @forever"):
            pasted("Somebody\nForever")
        assert pasted("Somebody\n@Forever").absent == ()
        assert the_pair("Forever").state == "with_staff"

    def test_pasting_twice_proves_once(self, asked):
        pasted("Anna")

        found = pasted("Anna")

        assert (found.present, told(found)) == ((), {})


@given(st.text(max_size=200))
def test_any_text_is_a_list_or_is_refused(text):
    try:
        holders = parse(text, known=frozenset(), now=NOW)
    except NotAList:
        return
    assert holders


NAMES = st.from_regex(r"[A-Za-z0-9_-]{3,30}", fullmatch=True)


WORDS = {word.lower() for word in DIALOG}


def is_no_word(name: str) -> bool:
    return name.lower() not in WORDS and not re.fullmatch(r"\d{4}-\d\d-\d\d", name)


@given(
    st.lists(NAMES.filter(is_no_word), min_size=1, max_size=20, unique_by=str.lower),
    st.sampled_from(["\n", "\r\n", "\n\n", "\tLifetime\n"]),
)
def test_no_name_is_lost(names, mark):
    assert list(read(mark.join(names))) == names


@given(
    st.lists(st.one_of(NAMES, st.sampled_from(sorted(DIALOG))), min_size=1, max_size=8, unique_by=str.lower),
    st.sampled_from(["\n", ", ", "\t", " ", "\tLifetime\n", "\nAdded Aug 17, 2026\n", "'s avatar\n"]),
)
def test_no_name_we_know_is_passed_over(names, mark):
    try:
        found = read(mark.join(names), {name.lower() for name in names})
    except NotAList:
        return
    assert {name.lower() for name in found} >= {name.lower() for name in names}
