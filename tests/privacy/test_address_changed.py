"""Somebody who got in changes the address and asks for the erasure: the old mailbox has its seven days all the same."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sts_app.accounts import addresses
from sts_app.core.db import db as database
from sts_app.privacy import queries
from sts_app.privacy.rules import ErasureState
from tests.accounts.coming_in import letter_to, link_in
from tests.builders import enter, in_a_transaction, kinds, letters
from tests.privacy.leaving import A_DAY, asked, go_on

pytestmark = pytest.mark.usefixtures("clock")
OLD, NEW = "alice@customers.example", "thief@elsewhere.example"
A_WEEK = timedelta(days=7)


@pytest.fixture
def moved(alice):
    """Alice, whose address was changed just now. Returns the path that takes it back."""
    in_a_transaction(lambda: addresses.ask_for_change(alice, NEW))
    link = link_in(letter_to(NEW, "email_change"), "/sign-in/email/").rpartition("/")[2]
    in_a_transaction(lambda: addresses.confirm(link))
    database.session.expire_all()
    return link_in(letter_to(OLD, "email_changed"), "/sign-in/email/back/")


def test_nothing_begins_while_the_change_can_be_called_off(alice, moved, clock, client):
    erasure = asked(alice)
    clock.shift(A_WEEK - timedelta(seconds=1))
    go_on()

    assert erasure.state == ErasureState.REQUESTED
    assert client.get(moved).status_code == 200
    clock.shift(timedelta(seconds=1))
    go_on()
    assert erasure.begun_at is not None


def test_the_old_mailbox_hears_of_the_wish_too(alice, moved):
    asked(alice)

    assert [letter.to_address for letter in letters("erasure_requested")] == [NEW]
    [told] = letters("erasure_requested_elsewhere")
    assert told.to_address == OLD
    assert "Nothing is erased before 28 Nov 2026, 12:00 UTC" in told.text


def test_the_page_says_from_when_on(alice, moved, client):
    enter(client, alice)

    assert "nothing begins before" in client.get("/dashboard/privacy").text


def test_calling_the_change_off_takes_the_wish_back_at_once(alice, moved, client, clock):
    erasure = asked(alice)
    client.post(moved)

    assert alice.leaving_at is None
    assert queries.open_of(alice.id) is None
    assert "That wish was taken back" in " ".join(letter_to(OLD, "email_change_called_off").split())
    go_on()
    assert erasure.state == ErasureState.CANCELLED
    clock.shift(2 * A_WEEK)
    go_on()
    assert (erasure.state, alice.email) == (ErasureState.CANCELLED, OLD)
    assert "erasure_cancelled" not in kinds(), "the letter about the address has said it"


def test_a_wish_after_that_is_a_new_one(alice, moved, client):
    first = asked(alice)
    client.post(moved)

    second = asked(alice)

    assert (first.state, second.state) == (ErasureState.CANCELLED, ErasureState.REQUESTED)
    assert second.begins_at == second.created_at + A_DAY


def test_a_change_called_off_without_a_wish_says_nothing_of_one(alice, moved, client):
    client.post(moved)

    assert "wish" not in letter_to(OLD, "email_change_called_off")


def test_the_address_stays_once_the_wish_is_made(alice, client):
    in_a_transaction(lambda: addresses.ask_for_change(alice, NEW))
    link = link_in(letter_to(NEW, "email_change"), "/sign-in/email/")
    asked(alice)
    enter(client, alice)

    for answer in (
        client.post(link),
        client.post("/dashboard/settings/email", data={"email": "third@elsewhere.example"}),
    ):
        assert answer.status_code == 409
        assert "Your address stays as it is" in answer.text
    assert alice.email == OLD
