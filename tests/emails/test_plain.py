"""The text part is laid out for people who read mail as text."""

from __future__ import annotations

import pytest

from sts_app.emails.plain import WIDTH, laid_out

LINK = "https://sts.example/sign-in/link/" + "a" * 90


def test_a_paragraph_is_broken_between_words_at_76_columns():
    lines = laid_out("word " * 60).splitlines()

    assert len(lines) == 4
    assert all(70 < len(line) <= WIDTH for line in lines[:-1])
    assert " ".join(lines) == ("word " * 60).strip()


def test_an_address_stands_alone_and_whole_however_long():
    assert laid_out(f"Open the dashboard: {LINK}") == f"Open the dashboard:\n{LINK}\n"
    assert laid_out(f"See {LINK}. Then go on.") == f"See\n{LINK}\nThen go on.\n"


def test_the_lines_of_an_item_stand_below_its_text():
    first, *others = laid_out("- " + "word " * 40).splitlines()

    assert first.startswith("- word")
    assert all(line.startswith("  word") for line in others)


def test_a_command_is_never_broken():
    command = '`sts refunds decide 12 --keep-access --reason "WHY"`'

    assert command in laid_out(f"Nothing changes for access until somebody says what it means: {command}.")


def test_blank_lines_part_paragraphs_and_do_not_pile_up():
    assert laid_out("\n\nOne\n\n\n\nTwo\n \n\nThree\n\n") == "One\n\nTwo\n\nThree\n"


def test_the_line_above_a_signature_keeps_its_blank():
    assert laid_out("Hello\n\n-- \nThe store").splitlines() == ["Hello", "", "-- ", "The store"]


@pytest.mark.parametrize("text", ["", " ", "\n\n"])
def test_nothing_is_one_empty_line(text):
    assert laid_out(text) == "\n"


def test_what_was_laid_out_stays_as_it_is():
    once = laid_out("word " * 60 + f"\n\nOpen: {LINK}\n\n-- \nThe store")

    assert laid_out(once) == once
