"""Letters to staff that name somebody who was erased: what is struck out of which."""

from __future__ import annotations

import pytest

from sts_app.accounts import services as accounts
from sts_app.billing import withdrawals
from sts_app.emails import privacy as emails
from tests.builders import bob, in_a_transaction, letters, open_page, work
from tests.privacy.leaving import ended

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture
def bobs(plan, till):
    """A purchase of Bob's, of which staff have heard."""
    purchase = open_page(bob(), plan)
    till.pay(purchase.session_id)
    work()
    return purchase


def test_a_name_that_is_a_word_stays_in_letters_about_others(alice, bobs, clock):
    accounts.rename(alice, "purchase")
    before = [(letter.subject, letter.text, letter.html) for letter in letters("admin_new_purchase")]

    ended(alice, clock)

    assert [(letter.subject, letter.text, letter.html) for letter in letters("admin_new_purchase")] == before
    assert before[0][0] == "New purchase: $99.00"


def test_an_address_goes_from_every_letter_to_staff(alice, plan, till, clock):
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()

    ended(alice, clock)

    [told] = letters("admin_new_purchase")
    assert "Customer: (erased)" in told.text
    assert told.html == ""


def test_a_name_goes_from_letters_about_that_person(alice, plan, till, clock):
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()
    declared = in_a_transaction(
        lambda: withdrawals.declare(alice, purchase.id, name="Alice Archer", address="alice@customers.example")
    )
    in_a_transaction(lambda: withdrawals.accept(declared.id, "user:9"))
    work()
    assert "Alice Archer" in letters("admin_withdrawal")[0].text

    ended(alice, clock)

    assert "Archer" not in letters("admin_withdrawal")[0].text


def test_letters_to_strangers_are_left_as_they_are(alice, db):
    accounts.ask_for_link("stranger@elsewhere.example", browser=None, next_path=None, remember=False)
    work("emails")
    before = [(letter.subject, letter.to_address) for letter in letters("sign_in")]

    emails.strike_out(alice.id, addresses=[alice.email], names=["your", "sign"])

    assert [(letter.subject, letter.to_address) for letter in letters("sign_in")] == before


def test_what_provisioning_tells_staff_says_whom_it_is_about(alice, plan, till, monkeypatch, db):
    from tests.builders import by_hand

    by_hand(monkeypatch)
    purchase = open_page(alice, plan)
    till.pay(purchase.session_id)
    work()

    [told] = letters("admin_manual_task")
    assert told.about == [alice.id]
