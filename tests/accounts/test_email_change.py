"""A change of address: asked for, confirmed at the new one, told to the old one, and called off from there."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sts_app.accounts import addresses, services, ways_in
from sts_app.accounts.models import EmailChange, GoogleIdentity, User
from sts_app.audit.models import AuditLog
from sts_app.core import tokens
from sts_app.core.db import db as database
from sts_app.emails import privacy as emails_kept
from sts_app.emails.models import EmailMessage
from tests.accounts.coming_in import is_in, letter_to, link_in, sign_in
from tests.builders import bob, count, enter, kinds, letters, person

NEW = "alice@elsewhere.example"
PAGE = "/dashboard/settings/email"


@pytest.fixture
def inside(client, alice):
    enter(client, alice)
    return client


@pytest.fixture
def phone(app):
    return app.test_client()


def ask(visitor, email=NEW):
    return visitor.post(PAGE, data={"email": email})


def confirmation(address=NEW) -> str:
    return link_in(letter_to(address, "email_change"), "/sign-in/email/")


def call_off(address="alice@customers.example") -> str:
    return link_in(letter_to(address, "email_changed"), "/sign-in/email/back/")


def email_of(user) -> str:
    return database.session.scalars(sa.select(User.email).where(User.id == user.id)).one()


def actions() -> list[str]:
    return list(database.session.scalars(sa.select(AuditLog.action).order_by(AuditLog.id)))


class TestAsking:
    def test_a_letter_goes_to_the_new_address_and_nothing_has_changed(self, inside, alice):
        answer = ask(inside)

        assert answer.location == "/dashboard/settings"
        assert [(letter.kind, letter.to_address) for letter in letters()] == [("email_change", NEW)]
        assert email_of(alice) == "alice@customers.example"
        assert actions() == ["accounts.email_change_asked"]

    def test_the_settings_say_what_waits(self, inside):
        ask(inside)

        page = inside.get("/dashboard/settings").text

        assert "A change waits for you" in page
        assert NEW in page

    def test_it_asks_for_a_fresh_sign_in(self, inside):
        with inside.session_transaction() as session:
            session["_fresh"] = False

        assert inside.get(PAGE).location == f"/sign-in?next={PAGE}"
        assert ask(inside).location == "/sign-in?next=/sign-in/go-on"
        assert count(EmailChange) == 0

    @pytest.mark.parametrize(
        "email",
        ["", "alice", "a b@x.example", "alice@customers.example", "ALICE@Customers.Example", "x" * 300 + "@y.example"],
    )
    def test_what_is_no_new_address_comes_back_with_its_fault(self, inside, email):
        answer = ask(inside, email)

        assert answer.status_code == 422
        assert 'id="email-error"' in answer.text
        assert (count(EmailChange), count(EmailMessage)) == (0, 0)

    def test_an_address_that_has_an_account_gets_the_same_answer_and_a_letter_without_a_link(self, inside, alice):
        bob()
        answers = [ask(inside, email) for email in (NEW, "BOB@customers.example")]
        pages = [answer.location for answer in answers]

        assert pages[0] == pages[1]
        text = letter_to("BOB@customers.example", "email_change_taken")
        assert "It has an account of its own, so nothing has changed." in text
        assert "/sign-in/email/" not in text

    def test_no_link_stands_in_any_table(self, inside):
        ask(inside)
        address = confirmation()
        secret = tokens.read(addresses.CONFIRM_PURPOSE, address.rpartition("/")[2], max_age=60)

        rows = " ".join(
            str(tuple(row))
            for table in (EmailChange, EmailMessage, AuditLog)
            for row in database.session.execute(sa.select(*table.__table__.columns))
        )

        assert secret not in rows
        assert address.rpartition("/")[2] not in rows

    def test_asking_again_ends_the_first_link(self, inside, alice):
        ask(inside)
        first = confirmation()
        ask(inside, "alice@third.example")

        assert inside.post(first).status_code == 409
        assert inside.post(confirmation("alice@third.example")).status_code == 303
        assert email_of(alice) == "alice@third.example"

    @pytest.mark.parametrize("form", [{}, {"keep": "this"}])
    def test_signing_out_everywhere_ends_it(self, inside, phone, alice, form):
        ask(inside)
        address = confirmation()

        page = inside.get(inside.post("/dashboard/settings/sessions/end", data=form).location).text

        assert f"The change of your address to {NEW} is dropped." in page
        assert phone.post(address).status_code == 409
        assert email_of(alice) == "alice@customers.example"

    def test_it_can_be_dropped(self, inside, alice):
        ask(inside)
        address = confirmation()

        inside.post(f"{PAGE}/drop")
        inside.post(f"{PAGE}/drop")

        assert inside.get(address).status_code == 409
        assert "A change waits" not in inside.get("/dashboard/settings").text
        assert actions() == ["accounts.email_change_asked", "accounts.email_change_dropped"]


class TestConfirming:
    def test_looking_does_nothing_and_the_button_does_it(self, inside, alice):
        ask(inside)
        address = confirmation()

        for _ in range(3):
            page = inside.get(address)
            assert page.status_code == 200
            assert NEW in page.text
        assert email_of(alice) == "alice@customers.example"

        answer = inside.post(address)

        assert answer.location == "/dashboard/settings"
        assert email_of(alice) == NEW
        assert actions()[-1] == "accounts.email_changed"

    def test_it_works_on_a_device_that_is_not_signed_in_and_signs_nobody_in(self, inside, phone, alice):
        ask(inside)

        phone.post(confirmation())

        assert email_of(alice) == NEW
        assert not is_in(phone)
        assert is_in(inside)

    def test_it_works_once(self, inside):
        ask(inside)
        address = confirmation()
        inside.post(address)

        for answer in (inside.get(address), inside.post(address)):
            assert answer.status_code == 409
            assert "This link does not work any more" in answer.text
        assert kinds().count("email_changed") == 1

    def test_it_lasts_a_day(self, inside, alice, clock):
        ask(inside)
        address = confirmation()

        clock.shift(timedelta(days=1) - timedelta(seconds=1))
        assert inside.get(address).status_code == 200
        clock.shift(timedelta(seconds=2))
        assert inside.post(address).status_code == 409
        assert email_of(alice) == "alice@customers.example"

    def test_the_new_address_signs_in_and_the_old_one_says_where_to(self, inside, phone, alice):
        ask(inside)
        inside.post(confirmation())

        sign_in(phone, NEW)
        assert is_in(phone)
        answer = sign_in(phone, "alice@customers.example")
        assert answer.status_code == 409
        assert "Your account has had another address since" in answer.text
        assert count(User) == 1

    def test_the_old_address_is_told_without_the_whole_of_the_new_one(self, inside):
        ask(inside)
        inside.post(confirmation())

        text = letter_to("alice@customers.example", "email_changed")

        assert "a...@elsewhere.example" in text
        assert NEW not in text

    def test_of_two_who_want_one_address_the_first_has_it(self, app, inside, alice):
        other, somebody = app.test_client(), bob()
        enter(other, somebody)
        ask(inside)
        first = confirmation()
        ask(other)
        second = confirmation()
        other.post(second)

        answer = inside.post(first)

        assert answer.status_code == 409
        assert "This address has an account already" in answer.text
        assert (email_of(alice), email_of(somebody)) == ("alice@customers.example", NEW)

    def test_an_account_made_meanwhile_keeps_its_address(self, inside, phone, alice):
        ask(inside)
        address = confirmation()
        sign_in(phone, NEW.upper())

        assert inside.post(address).status_code == 409
        assert email_of(alice) == "alice@customers.example"

    def test_the_index_settles_what_the_look_did_not_see(self, alice):
        person(NEW)

        with pytest.raises(addresses.AddressTaken):
            addresses._readdress(alice, NEW)

        assert email_of(alice) == "alice@customers.example"

    @pytest.mark.parametrize("purpose", ["sign-in-link", "email-change-call-off", "session"])
    def test_a_token_signed_for_something_else_is_no_link(self, inside, purpose):
        ask(inside)
        secret = tokens.read(addresses.CONFIRM_PURPOSE, confirmation().rpartition("/")[2], max_age=60)

        assert inside.post(f"/sign-in/email/{tokens.sign(purpose, secret)}").status_code == 409

    @pytest.mark.parametrize("forged", ["x", "a.b.c", "..", "%FF%FE", "x" * 3000, "👩‍👩‍👧‍👦"])
    @pytest.mark.parametrize("under", ["/sign-in/email", "/sign-in/email/back"])
    def test_a_forged_link_is_over(self, client, db, under, forged):
        assert client.get(f"{under}/{forged}").status_code in (404, 409)
        assert client.post(f"{under}/{forged}").status_code in (404, 409)

    @pytest.mark.parametrize("payload", [None, 7, [], {}, "", "unknown"])
    def test_a_rightly_signed_link_that_leads_nowhere_is_over(self, client, db, payload):
        for under, purpose in (("", addresses.CONFIRM_PURPOSE), ("back/", addresses.CALL_OFF_PURPOSE)):
            assert client.post(f"/sign-in/email/{under}{tokens.sign(purpose, payload)}").status_code == 409

    @pytest.mark.breaks_invariants  # closed by nobody's wish
    def test_a_closed_account_keeps_its_address(self, inside, alice):
        ask(inside)
        address = confirmation()
        alice.closed_at = alice.created_at

        assert inside.post(address).status_code == 403
        assert email_of(alice) == "alice@customers.example"


class TestCallingOff:
    @pytest.fixture
    def changed(self, inside):
        ask(inside)
        inside.post(confirmation())
        return inside

    def test_looking_does_nothing_and_the_button_gives_the_address_back(self, changed, phone, alice):
        address = call_off()

        assert phone.get(address).status_code == 200
        assert email_of(alice) == NEW

        assert phone.post(address).location == "/sign-in"
        assert email_of(alice) == "alice@customers.example"
        assert actions()[-1] == "accounts.email_change_called_off"

    def test_everybody_is_out_and_the_old_address_gets_in(self, changed, phone, alice):
        phone.post(call_off())

        assert not is_in(changed)
        sign_in(phone, "alice@customers.example")
        assert is_in(phone)

    def test_both_addresses_hear_of_it(self, changed, phone):
        phone.post(call_off())

        assert "alice@customers.example again" in letter_to("alice@customers.example", "email_change_called_off")
        assert "was taken back" in letter_to(NEW, "email_change_undone")

    def test_the_letter_to_the_new_address_is_forgotten_with_the_person(self, changed, phone, alice):
        phone.post(call_off())
        letter_to(NEW, "email_change_undone")

        for address in emails_kept.addresses_of(alice.id):
            emails_kept.forget(alice.id, address=address)

        assert NEW not in str([(each.to_address, each.text) for each in letters()])

    def test_a_letter_to_the_new_address_opens_a_new_account_at_most(self, changed, app, phone, alice):
        thief = app.test_client()
        thief.post("/sign-in", data={"email": NEW})
        address = link_in(letter_to(NEW, "sign_in"), "/sign-in/link/")
        phone.post(call_off())

        assert thief.post(address).status_code == 410

    @pytest.mark.parametrize(("is_since", "left"), [(False, ["hers"]), (True, [])])
    def test_what_google_was_linked_since_is_unlinked_and_what_before_is_not(
        self, app, phone, alice, clock, is_since, left
    ):
        visitor = app.test_client()
        enter(visitor, alice)
        if not is_since:
            database.session.add(GoogleIdentity(user_id=alice.id, subject="hers", email=alice.email))
            database.session.flush()
        clock.shift(timedelta(minutes=5))
        ask(visitor)
        clock.shift(timedelta(minutes=5))
        if is_since:
            database.session.add(GoogleIdentity(user_id=alice.id, subject="thief", email=NEW))
        visitor.post(confirmation())

        phone.post(call_off())

        assert database.session.scalars(sa.select(GoogleIdentity.subject)).all() == left

    def test_it_works_once_and_for_a_week(self, changed, phone, alice, clock):
        address = call_off()
        clock.shift(timedelta(days=7) - timedelta(seconds=1))
        assert phone.get(address).status_code == 200

        assert phone.post(address).status_code == 303
        assert phone.post(address).status_code == 409

    def test_after_a_week_it_is_over_and_the_address_is_free(self, changed, phone, alice, clock):
        address = call_off()
        clock.shift(timedelta(days=7, seconds=1))

        assert phone.post(address).status_code == 409
        sign_in(phone, "alice@customers.example")
        assert is_in(phone)
        assert count(User) == 2

    def test_the_first_mailbox_wins_over_every_later_change(self, changed, app, phone, alice):
        first = call_off()
        changed.post(PAGE, data={"email": "alice@third.example"})
        changed.post(confirmation("alice@third.example"))
        second = call_off(NEW)

        phone.post(first)

        assert email_of(alice) == "alice@customers.example"
        assert phone.post(second).status_code == 409
        assert email_of(alice) == "alice@customers.example"

    def test_a_change_that_waits_ends_with_it(self, changed, phone, alice):
        changed.post(PAGE, data={"email": "alice@third.example"})
        waiting = confirmation("alice@third.example")

        phone.post(call_off())

        assert phone.post(waiting).status_code == 409

    def test_nobody_else_takes_the_old_address_meanwhile(self, changed, app, alice):
        other, somebody = app.test_client(), bob()
        enter(other, somebody)

        ask(other, "Alice@customers.example")

        assert letter_to("Alice@customers.example", "email_change_taken")
        with pytest.raises(services.AddressMoved):
            services.account_for("alice@CUSTOMERS.example")

    def test_one_may_go_back_oneself(self, changed, alice):
        ask(changed, "alice@customers.example")
        changed.post(confirmation("alice@customers.example"))

        assert email_of(alice) == "alice@customers.example"

    @pytest.mark.breaks_invariants  # closed by nobody's wish
    def test_a_closed_account_stays_as_it_is(self, changed, phone, alice):
        address = call_off()
        alice.closed_at = alice.created_at

        assert phone.post(address).status_code == 403
        assert email_of(alice) == NEW


class TestTidyAndForgotten:
    def test_a_change_is_kept_for_as_long_as_it_can_be_called_off(self, inside, clock):
        ask(inside)
        inside.post(confirmation())

        clock.shift(timedelta(days=7, hours=23))
        services.tidy()
        assert count(EmailChange) == 1

        clock.shift(timedelta(hours=2))
        services.tidy()
        assert count(EmailChange) == 0

    def test_what_signs_a_person_in_is_told_and_forgotten(self, inside, alice):
        ask(inside)
        database.session.add(GoogleIdentity(user_id=alice.id, subject="alice", email=alice.email))
        database.session.flush()

        told = ways_in.rows_of_person(alice.id)
        ways_in.forget(alice.id)
        ways_in.forget(alice.id)

        assert [change["to"] for change in told["changes_of_address"]] == [NEW]
        assert [google["subject"] for google in told["google"]] == ["alice"]
        assert (count(EmailChange), count(GoogleIdentity)) == (0, 0)

    def test_no_audit_line_holds_an_address(self, inside, phone):
        ask(inside)
        inside.post(confirmation())
        phone.post(call_off())

        assert "@" not in str(database.session.scalars(sa.select(AuditLog.details)).all())
