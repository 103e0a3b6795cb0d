"""The ground the other tests stand on: what one test commits, no other sees."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from sts_app.catalog.models import Plan
from sts_app.core import clock
from sts_app.core.db import transaction
from sts_app.core.store import store_for
from sts_app.emails.models import EmailMessage
from sts_app.ops.invariants import broken
from tests.conftest import refuse_broken


@pytest.mark.parametrize("turn", [1, 2])
def test_what_a_test_commits_is_gone_in_the_next(db, turn):
    assert db.session.scalar(sa.select(sa.func.count()).select_from(Plan)) == 0

    with transaction():
        db.session.execute(
            sa.text("INSERT INTO simulator_record (vendor, kind, key, record, created_at) "
                    "VALUES ('mail', 'letter', 'same-key-both-times', '{}', now())")
        )  # fmt: skip

    db.session.rollback()
    assert db.session.scalar(sa.text("SELECT count(*) FROM simulator_record")) == 1


def test_a_rollback_takes_back_to_the_last_commit_only(db):
    insert = sa.text(
        "INSERT INTO simulator_record (vendor, kind, key, record, created_at) VALUES ('mail', 'x', :key, '{}', now())"
    )
    db.session.execute(insert, {"key": "kept"})
    db.session.commit()
    db.session.execute(insert, {"key": "dropped"})
    db.session.rollback()

    assert db.session.scalars(sa.text("SELECT key FROM simulator_record")).all() == ["kept"]


def test_a_transaction_of_the_engine_is_part_of_the_test(db):
    with db.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE passing (id int)"))

    with db.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM passing")) == 0


@pytest.mark.parametrize("turn", [1, 2])
def test_a_vendor_remembers_nothing_of_the_test_before(app, db, turn):
    assert store_for("mail").add("letter", "one", {"turn": turn})


def test_without_the_db_fixture_there_is_no_database(app):
    from sts_app.core.db import db

    with app.app_context(), pytest.raises(AssertionError, match="ask for the `db` fixture"):
        db.session.execute(sa.text("SELECT 1"))


def test_the_network_is_shut():
    with socket.socket() as outside, pytest.raises(AssertionError, match="the network is shut"):
        outside.connect(("192.0.2.1", 80))


def test_a_post_without_a_token_is_refused_and_with_one_is_not(client):
    assert client.post("/sign-in", data={"email": "not an address"}, csrf=False).status_code == 400
    assert client.post("/sign-in", data={"email": "not an address"}).status_code != 400


@pytest.mark.breaks_invariants
def test_a_broken_invariant_fails_the_test_that_broke_it(db, request):
    db.session.execute(sa.text("ALTER TABLE email_message DROP CONSTRAINT ck_email_message_secret_blank_when_done"))
    letter = EmailMessage(
        key="k", kind="sign_in", sender="a@b.test", to_address="c@d.test", subject="s", text="to be read", html="",
        secret=True, state="sent", sent_at=clock.now(),
    )  # fmt: skip
    db.session.add(letter)
    db.session.commit()

    offenders = broken(db.session.connection(), workers_alive=False)

    assert list(offenders) == ["no secret letter kept after it was sent"]
    with pytest.raises(pytest.fail.Exception, match="no secret letter kept"):
        refuse_broken(SimpleNamespace(get_closest_marker=lambda name: None), offenders)
    refuse_broken(request.node, offenders)
