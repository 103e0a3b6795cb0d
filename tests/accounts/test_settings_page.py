"""One's own settings: the page, the name, and the ways to everything else."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from sts_app.accounts.models import User
from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from tests.builders import ODD_TEXTS, enter

SETTINGS = "/dashboard/settings"


@pytest.fixture
def inside(client, alice):
    enter(client, alice)
    return client


def name_of(user: User) -> str:
    return database.session.scalars(sa.select(User.name).where(User.id == user.id)).one()


@pytest.mark.parametrize("path", [SETTINGS, "/dashboard/settings/email"])
def test_a_stranger_is_sent_to_sign_in_and_back(client, db, path):
    assert client.get(path).location == f"/sign-in?next={path}"


def test_profile_is_another_name_for_it(inside):
    assert inside.get("/dashboard/profile").location == SETTINGS


def test_it_leads_to_everything_about_the_account(inside, alice):
    page = inside.get(SETTINGS).text

    assert alice.email in page
    for address in (
        "/onboarding",
        "/dashboard/privacy",
        "/dashboard/support",
        "/dashboard/letters",
        f"{SETTINGS}/email",
    ):
        assert f'href="{address}"' in page


def test_google_is_not_spoken_of_where_it_is_not_offered(inside):
    assert "Google" not in inside.get(SETTINGS).text


def test_a_new_name_is_kept_and_audited_without_it(inside, alice):
    answer = inside.post(f"{SETTINGS}/name", data={"name": "  Alice Liddell "})

    assert answer.location == SETTINGS
    assert name_of(alice) == "Alice Liddell"
    line = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.name_changed")).one()
    assert line.details == {}


def test_the_same_name_is_no_change(inside, alice):
    inside.post(f"{SETTINGS}/name", data={"name": "Alice"})

    assert database.session.scalars(sa.select(AuditLog)).all() == []


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\r\nb", "x" * 101])
def test_what_is_no_name_comes_back_with_its_fault(inside, alice, name):
    answer = inside.post(f"{SETTINGS}/name", data={"name": name})

    assert answer.status_code == 422
    assert 'id="name-error"' in answer.text
    assert name_of(alice) == "Alice"


def test_a_fault_is_a_piece_of_the_page_for_a_script(inside):
    answer = inside.post(f"{SETTINGS}/name", data={"name": ""}, headers={"HX-Request": "true"})

    assert answer.status_code == 422
    assert "<html" not in answer.text
    assert 'id="name-error"' in answer.text


@pytest.mark.parametrize("text", [text for text in ODD_TEXTS if "\udcff" not in text])
def test_no_text_breaks_the_page(inside, text):
    posted = inside.post(f"{SETTINGS}/name", data={"name": text})

    assert posted.status_code in (303, 422)
    assert inside.get(SETTINGS).status_code == 200
