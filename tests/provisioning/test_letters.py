"""The letters of provisioning as they are read: what they say, and how their two forms look."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from bs4 import BeautifulSoup

from sts_app.core import clock as time_source
from sts_app.core.db import db as database
from sts_app.core.web import TEMPLATES
from sts_app.provisioning import control, explain, letters, worklist
from sts_app.provisioning.models import ManualTask
from sts_app.provisioning.rules import Switch
from tests.builders import entitled, in_a_transaction, work
from tests.builders import letters as posted

FOLDERS = sorted(TEMPLATES.rglob("letters"))


@pytest.mark.parametrize(
    "path",
    [path for folder in FOLDERS for path in sorted(folder.glob("*.txt"))],
    ids=lambda path: str(path.relative_to(TEMPLATES)),
)
def test_no_line_of_a_text_is_indented(path):
    assert [line for line in path.read_text().splitlines() if line.startswith((" ", "\t"))] == []


@pytest.mark.parametrize(
    "path",
    [path for folder in FOLDERS for path in sorted(folder.glob("*.html"))],
    ids=lambda path: str(path.relative_to(TEMPLATES)),
)
def test_no_page_of_a_letter_shows_the_marks_of_a_text(path):
    assert "`" not in path.read_text()


@pytest.mark.parametrize("automatic", [True, False])
def test_the_end_of_an_incident_has_its_parts_apart(db, automatic):
    in_a_transaction(lambda: letters.session_restored(3, by="user:7", automatic=automatic))

    [letter] = posted("admin_session_restored")
    assert letter.text.startswith(
        "TradingView accepts our session again\n\nIncident 3 was ended by user:7.\n\nAutomatic"
    )
    assert ".\n\nOpen the access panel: http" in letter.text


class TestWhatAPersonCouldNotDo:
    @pytest.fixture
    def told(self, alice, plan, vendor):
        """The letter and what the dashboard says, for access from one source that a person gave up."""

        def told(source: str) -> tuple[str, str, str]:
            entitled(alice, plan, source)
            in_a_transaction(lambda: control.set_switch(Switch.MANUAL, actor="user:7", because="a test"))
            work("provisioning")
            first, *others = database.session.scalars(sa.select(ManualTask.id).order_by(ManualTask.id)).all()
            in_a_transaction(lambda: worklist.cannot(first, "user:7", reason="a reason", also=others))
            [letter] = posted("access_cannot")
            page = " ".join(BeautifulSoup(letter.html, "html.parser").text.split())
            return letter.text, page, explain.as_customer_sees(alice.id, time_source.now())[0].words

        return told

    def test_is_told_by_the_letter_as_by_the_dashboard(self, told):
        *forms, dashboard = told("purchase:1")

        assert dashboard.endswith("you get help or your money back.")
        for form in forms:
            assert "If the name is right, write to the address this letter comes from" in form
            assert "you get help or your money back." in form
            assert "need not do anything" not in form

    def test_promises_no_money_for_a_gift(self, told):
        *forms, dashboard = told("gift:1")

        for said in (*forms, dashboard):
            assert "you get help." in said
            assert "money" not in said

    def test_lists_the_strategies_apart_from_what_follows(self, told):
        text, _, _ = told("purchase:1")

        assert "\n- NQ Overnight Edge\n" in text
        assert "\n\nPlease look whether Anna" in text
