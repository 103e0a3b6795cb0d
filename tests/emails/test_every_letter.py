"""Every letter that the store can write: shown by a sample, whole in both parts, and fit for mail programs."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module

import pytest
from bs4 import BeautifulSoup

from sts_app.core.web import TEMPLATES
from sts_app.emails.gateway import Letter
from sts_app.emails.plain import WIDTH
from sts_app.ops import letter_book
from sts_app.ops.letter_book import BOOK, CHAPTERS
from tests.house.source import APP, argument, calls, files, module_of, shown

NAMES = [sample.name for _, samples in CHAPTERS for sample in samples]
# What letters are written with: they write none themselves.
PIECES = {"sts_app.billing.letters_note"}
AMOUNT = re.compile(r"[$€£]\d[\d,]*(?:\.\d\d)?")
MOMENT = re.compile(r"\d{1,2} [A-Z][a-z]{2} \d{4}, \d\d:\d\d UTC")


@pytest.fixture(params=NAMES)
def letters(request, db) -> list[Letter]:
    return letter_book.written(request.param)


def page(letter: Letter) -> BeautifulSoup:
    return BeautifulSoup(letter.html, "html.parser")


def flowing(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def letter_modules() -> list[str]:
    found = [module_of(path) for path in files(APP) if re.fullmatch(r"letters(_\w+)?", path.stem)]
    return sorted(set(found) - PIECES)


def test_every_function_that_writes_a_letter_has_a_sample():
    shown_by_samples = {f"{sample.letter.__module__}.{sample.letter.__name__}" for sample in BOOK.values()}
    written = {
        f"{name}.{function}"
        for name in letter_modules()
        for function, value in vars(import_module(name)).items()
        if callable(value) and not function.startswith("_") and getattr(value, "__module__", "") == name
        if not isinstance(value, type)
    }

    assert written - shown_by_samples == set()
    assert len(written) > 40


def test_letters_are_written_in_modules_of_letters_alone():
    writing = {
        module_of(path)
        for path in files(APP)
        for call in calls(path, "post")
        if argument(call, 9, "template") is not None
    }

    assert writing - set(letter_modules()) - PIECES == set()


def test_every_template_of_a_letter_is_seen_in_a_sample(app, db, monkeypatch):
    rendered = set()
    get = app.jinja_env.get_template

    def watch(name, *args, **kwargs):
        rendered.add(str(name))
        return get(name, *args, **kwargs)

    monkeypatch.setattr(app.jinja_env, "get_template", watch)
    for name in NAMES:
        letter_book.written(name)

    templates = {
        path.relative_to(TEMPLATES).as_posix()
        for folder in TEMPLATES.rglob("letters")
        for path in folder.iterdir()
        if not path.name.startswith("_")
    }
    assert templates - rendered == set()


def test_no_two_samples_have_one_name():
    assert [name for name, times in Counter(NAMES).items() if times > 1] == []


def test_a_sample_leaves_nothing_behind(db):
    counts = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM plan), (SELECT count(*) FROM email_message)"
    before = db.session.execute(db.text(counts)).one()

    for name in ("purchase-confirmed", "access-granted", "ticket-opened"):
        assert letter_book.written(name)

    assert db.session.execute(db.text(counts)).one() == before


class TestEachLetter:
    def test_every_address_of_the_html_stands_alone_on_a_line_of_the_text(self, letters):
        for letter in letters:
            lines = set(letter.text.splitlines())
            for link in page(letter).select("a[href]"):
                address = link["href"]
                if address.startswith("mailto:"):
                    assert address.removeprefix("mailto:") in letter.text
                else:
                    assert address in lines, (letter.kind, address)

    def test_every_amount_and_moment_of_the_html_stands_in_the_text(self, letters):
        for letter in letters:
            html, text = flowing(page(letter).get_text(" ")), flowing(letter.text)
            for pattern in (AMOUNT, MOMENT):
                assert set(pattern.findall(html)) <= set(pattern.findall(text)), letter.kind

    def test_what_stands_out_in_the_html_stands_in_the_text(self, letters):
        """Facts, items of lists, names, codes, headings of notices: all that a reader looks for."""
        for letter in letters:
            text = flowing(letter.text).replace("`", "")
            for part in page(letter).select("h1, h2, .button, .facts th, .facts td, li, strong, code, .code, .notice"):
                assert flowing(part.get_text("")) in text, (letter.kind, part)

    def test_the_text_says_about_as_much_as_the_html(self, letters):
        for letter in letters:
            read = page(letter)
            for unread in read.select(".preheader, style, title, .mark, .small"):
                unread.decompose()
            words = len(re.sub(r"https?://\S+", "", read.get_text(" ")).split())
            assert len(re.sub(r"https?://\S+", "", letter.text).split()) >= 0.85 * words, letter.kind

    def test_no_line_of_the_text_is_too_long_but_for_an_address_or_a_command(self, letters):
        for letter in letters:
            long = [line for line in letter.text.splitlines() if len(line) > WIDTH]
            assert [line for line in long if not re.fullmatch(r"https?://\S+|`[^`]+`\S?", line)] == []

    def test_the_text_has_no_marks_of_a_page_and_no_holes(self, letters):
        for letter in letters:
            assert not re.search(r"<[a-z/]|&(amp|lt|gt|quot|nbsp|#\d+);|\n\n\n|[ \t]$(?<!^-- )", letter.text, re.M)
            assert "None" not in letter.text

    def test_the_html_loads_nothing_and_runs_nothing(self, letters):
        for letter in letters:
            assert page(letter).select("img, script, link, iframe, object, form, svg, [background]") == []
            assert "url(" not in letter.html
            assert "@import" not in letter.html

    def test_a_button_has_its_address_printed_below_it(self, letters):
        for letter in letters:
            printed = {address.get_text(strip=True) for address in page(letter).select(".address")}
            assert {button["href"] for button in page(letter).select("a.button")} <= printed

    def test_it_has_one_heading_a_title_and_a_line_beside_the_subject(self, letters):
        for letter in letters:
            assert len(page(letter).select("h1")) == 1, letter.kind
            assert page(letter).title.get_text() == letter.subject
            beside = page(letter).select_one(".preheader").get_text().replace("\u034f", "").replace("\u200c", "")
            assert flowing(beside), letter.kind

    def test_it_says_why_it_comes_and_from_whom(self, letters):
        for letter in letters:
            foot = flowing(page(letter).select_one(".foot").get_text(" "))
            assert re.search(r"You get this letter because|Somebody asked for a sign-in link", foot), letter.kind
            below = letter.text.partition("\n-- \n")[2]
            assert below
            assert flowing(below.replace("\n", " ")).split(".")[0] in foot

    def test_its_styles_are_inline_and_its_dark_ones_kept(self, letters):
        for letter in letters:
            assert "background-color: #ffffff" in page(letter).select_one("td.card")["style"]
            assert "@media (prefers-color-scheme: dark)" in letter.html
            assert page(letter).select_one('meta[name="color-scheme"]')["content"] == "light dark"

    def test_it_is_small_enough_not_to_be_cut(self, letters):
        """Gmail shows the first 102 kB of a letter."""
        for letter in letters:
            assert len(letter.html.encode()) < 90_000


def test_the_modules_that_are_looked_at_are_those_with_letters():
    assert {"sts_app.accounts.letters", "sts_app.billing.letters", "sts_app.support.letters"} <= set(letter_modules())
    assert all(shown(path) for path in files(APP))
