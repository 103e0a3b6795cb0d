"""`sts admin`: who is staff, and a way in when no letter can be sent."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from sts_app import cli
from sts_app.accounts.models import LoginToken, Role, User
from sts_app.audit.models import AuditLog
from sts_app.core.db import db as database
from tests.builders import count, enter, mallory, sam


@pytest.fixture
def sts(app, db, monkeypatch):
    """Run a command of `sts` in this app."""
    monkeypatch.setattr(cli.main, "create_app", lambda: app)

    def sts(*words: str) -> Result:
        database.session.commit()
        result = CliRunner().invoke(cli.main, words)
        database.session.expire_all()
        return result

    return sts


def test_grant_makes_the_account_and_the_role(sts):
    result = sts("admin", "grant", "new@staff.example")

    assert (result.exit_code, result.output) == (
        0,
        "new@staff.example is an admin. New account: nobody had this address before.\n",
    )
    assert database.session.scalars(sa.select(User)).one().role == Role.ADMIN


def test_grant_raises_somebody_who_is_there_ignoring_case(sts, alice):
    result = sts("admin", "grant", "ALICE@customers.example")

    assert (result.exit_code, result.output) == (0, "alice@customers.example is an admin.\n")

    assert database.session.get_one(User, alice.id).is_staff
    assert count(User) == 1


def test_grant_twice_is_once_and_audited_once(sts):
    sts("admin", "grant", "new@staff.example")
    assert sts("admin", "grant", "new@staff.example").exit_code == 0

    lines = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.admin_granted")).all()
    assert [line.actor for line in lines] == ["cli"]


@pytest.mark.parametrize("email", ["", "sam", "sam@", "a b@staff.example", "sam@staff.example\x00", "x" * 500, "-"])
@pytest.mark.parametrize("command", ["grant", "revoke", "link"])
def test_what_is_no_address_gets_a_sentence(sts, command, email):
    result = sts("admin", command, "--", email)

    assert result.exit_code == 2
    assert "is not an e-mail address" in result.output
    assert "Traceback" not in result.output
    assert count(User) == 0


def test_link_prints_an_address_that_signs_staff_in_once(sts, client):
    sts("admin", "grant", "new@staff.example")

    result = sts("admin", "link", "new@staff.example")

    path = urlsplit(result.output.strip()).path
    assert client.get(path).status_code == 200
    assert client.post(path).location == "/admin"
    assert client.get("/admin/").status_code == 200
    assert client.post(path).status_code == 410


@pytest.mark.parametrize("email", ["mallory@nowhere.example", "nobody@nowhere.example"])
def test_link_is_for_staff_only(sts, email):
    mallory()

    result = sts("admin", "link", email)

    assert result.exit_code == 1
    assert "No member of the staff has this address; `sts admin grant` makes one." in result.output
    assert count(LoginToken) == 0


def test_revoke_makes_a_customer_of_staff_and_signs_them_out(sts, app, alice):
    sts("admin", "grant", alice.email)
    visitor = app.test_client()
    enter(visitor, alice)
    assert visitor.get("/admin/").status_code == 200

    result = sts("admin", "revoke", "ALICE@customers.example")

    assert result.output == "alice@customers.example is a customer, and signed out everywhere.\n"
    assert not database.session.get_one(User, alice.id).is_staff
    assert visitor.get("/admin/").status_code != 200
    assert visitor.get("/dashboard/settings").status_code == 303
    lines = database.session.scalars(sa.select(AuditLog).where(AuditLog.action == "accounts.admin_revoked")).all()
    assert [(line.actor, line.subject) for line in lines] == [("cli", f"user:{alice.id}")]


def test_revoke_of_who_is_no_staff_is_refused(sts, alice):
    for email in (alice.email, "nobody@customers.example"):
        result = sts("admin", "revoke", email)

        assert (result.exit_code, "No member of the staff" in result.output) == (1, True)


def test_revoke_says_when_the_setting_would_give_the_role_again(sts, db):
    staff = sam()

    result = sts("admin", "revoke", staff.email)

    assert (result.exit_code, "ADMIN_EMAIL" in result.output) == (1, True)
    assert database.session.get_one(User, staff.id).is_staff
