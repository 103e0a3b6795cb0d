"""The copy of a person's data: everything that is kept about them, nothing secret, and nothing of others."""

from __future__ import annotations

import json

import pytest

from sts_app.core.db import Base
from sts_app.core.db import db as database
from sts_app.privacy.export import everything_of
from tests.builders import bob, enter, named
from tests.privacy.rich import SECRETS, everything_happened_to

pytestmark = pytest.mark.usefixtures("clock")

# Where each table's rows about a person are in the export. A dotted path leads into each member of a list.
IN_IT = {
    "users": "account",
    "visit": "account.last_dashboard_visit_at",
    "user_session": "sessions",
    "login_token": "sign_in_letters",
    "google_identity": "google",
    "email_change": "changes_of_address",
    "tradingview_name": "tradingview_names",
    "name_check": "name_checks",
    "entitlement": "reasons_for_access",
    "grants": "access",
    "provisioning_job": "access.changes",
    "provisioning_attempt": "access.tries",
    "manual_task": "access.work_by_people",
    "reconciliation_finding": "comparisons_with_tradingview",
    "allowed_holder": "friend_of_the_house",
    "stripe_customer": "at_stripe",
    "address_update": "at_stripe.new_address_on_its_way_since",
    "purchase": "purchases",
    "consent": "purchases.agreed_to",
    "refund": "purchases.refunds",
    "dispute": "purchases.disputes",
    "withdrawal": "purchases.withdrawal",
    "subscription": "subscriptions",
    "webhook_event": "events_of_stripe",
    "support_ticket": "tickets",
    "ticket_message": "tickets.messages",
    "ticket_attachment": "tickets.messages.pictures",
    "email_message": "letters",
    "mail_address": "letters_to_your_address",
    "audit_log": "deeds",
    "erasure": "erasures",
}
WITHOUT_PEOPLE = {
    "mail_event": "what a provider told of one letter, merged into the letter's own lines",
    "held_form": "what was typed when the store asked who is there: an hour, encrypted, for that browser alone",
    "strategy": "what is sold",
    "former_script": "what is sold",
    "plan": "what is sold",
    "plan_strategy": "what is sold",
    "provisioning_control": "the store's own switch; names the staff who moved it",
    "provisioning_incident": "TradingView's refusals of our session",
    "tradingview_credential": "the store's own credentials",
    "pace_bucket": "counts calls",
    "vendor_call": "how long a call took, never whose it was",
    "reconciliation_run": "counts of a comparison; its findings are in the export",
    "billing_comparison": "counts of a comparison with Stripe; speaks of purchases by their references",
    "periodic_run": "when a periodic job ran",
    "heartbeat": "which process is alive",
    "simulator_record": "what stands for a vendor's own memory; empty in production",
}


@pytest.fixture
def everything(alice, plan, monthly, till, clock, db):
    everything_happened_to(alice, plan=plan, monthly=monthly, till=till, clock=clock)
    return everything_of(alice)


def at(found, path: str):
    """What stands under a dotted path, of every member where a list is on the way; what is blank is left out."""
    head, _, rest = path.partition(".")
    member = found[head]
    if not rest:
        return [member] if member not in (None, [], {}) else []
    members = member if isinstance(member, list) else [member]
    return [inner for each in members if each for inner in at(each, rest)]


def test_every_table_is_in_it_or_is_said_to_hold_nobody():
    tables = {table.name for table in Base.registry.metadata.sorted_tables}

    assert tables == IN_IT.keys() | WITHOUT_PEOPLE.keys()
    assert not IN_IT.keys() & WITHOUT_PEOPLE.keys()


def test_a_table_that_points_at_people_is_never_said_to_hold_nobody():
    pointing = {
        table.name
        for table in Base.registry.metadata.sorted_tables
        if any(key.column.table.name == "users" for key in table.foreign_keys)
    }

    assert pointing & WITHOUT_PEOPLE.keys() == {"held_form"}


def test_somebody_to_whom_everything_happened_finds_something_of_each_table(everything):
    missing = {table: path for table, path in IN_IT.items() if not at(everything, path)}

    assert missing == {}


def test_it_is_json_without_a_secret(everything):
    text = json.dumps(everything)

    assert [secret for secret in SECRETS if secret in text] == []
    digests = [row[0] for row in database.session.execute(database.text("SELECT digest FROM user_session"))]
    digests += [row[0] for row in database.session.execute(database.text("SELECT link_digest FROM login_token"))]
    assert digests
    assert [digest for digest in digests if digest in text] == []


def test_pictures_come_with_it(everything):
    [picture] = everything["tickets"][0]["messages"][0]["pictures"]

    assert picture["type"] == "image/png"
    assert len(picture["base64"]) > 100


def test_notes_of_staff_and_their_names_are_not_in_it(everything):
    text = json.dumps(everything)

    assert "a note about" not in text
    assert "sam@staff.example" not in text
    assert {deed["by"] for deed in everything["deeds"]} == {"you", "staff", "the store"}


def test_nothing_of_another_person_is_in_it(everything, alice, db):
    """Bob takes over a name that Alice gave up, with what stands under it from then on."""
    other = named(bob(), "alice_was_here")

    text = json.dumps(everything_of(other))

    assert "alice@" not in text
    assert other.email in text
    assert "bob@" not in json.dumps(everything_of(alice))


class TestThePageOfIt:
    def test_is_a_file_for_who_is_signed_in(self, client, alice):
        enter(client, alice)

        answer = client.get("/user/data")

        assert answer.status_code == 200
        assert answer.mimetype == "application/json"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="your-data-2026-11-21.json"'
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json["account"]["email"] == alice.email

    def test_strangers_are_refused_in_json(self, client):
        answer = client.get("/user/data")

        assert answer.status_code == 401
        assert answer.json["error"]["code"] == "UNAUTHORIZED"

    def test_a_browser_that_was_only_remembered_signs_in_once_more(self, client, alice):
        enter(client, alice)
        with client.session_transaction() as session:
            session["_fresh"] = False

        answer = client.get("/user/data")

        assert answer.status_code == 401
        assert answer.json["error"]["code"] == "FRESH_SIGN_IN_REQUIRED"

    def test_taking_a_copy_is_on_record(self, client, alice):
        enter(client, alice)
        client.get("/user/data")

        assert client.get("/user/data").json["deeds"][-1]["action"] == "privacy.exported"
