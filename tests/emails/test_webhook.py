"""The provider's doorbell: what is let in, what is refused, that nothing unsigned is stored, what each event does."""

from __future__ import annotations

import base64
import time
from datetime import timedelta
from itertools import permutations

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from sts_app.core import clock
from sts_app.core import db as core_db
from sts_app.core.db import db as database
from sts_app.emails import services
from sts_app.emails.gateway import Happened
from sts_app.emails.models import EmailMessage, MailAddress, MailEvent
from sts_app.emails.services import Sent
from tests.builders import count
from tests.emails.ringing import NOON, bounce, event, ring, signature

ANOTHER = "whsec_" + base64.b64encode(b"of somebody else entirely").decode()
NO_USER, FULL = "smtp; 550 5.1.1 No such user", "452 full"
DELIVERED = event("email.delivered", "re_1")


@pytest.fixture
def sent(db, post) -> EmailMessage:
    """A letter that the provider took and calls re_1."""
    post(user_id=7)
    claim = services.claim_next(now=clock.now())
    services.settle(claim, Sent("re_1"), now=clock.now())
    database.session.commit()
    return the_letter()


def the_letter() -> EmailMessage:
    return database.session.scalars(sa.select(EmailMessage).execution_options(populate_existing=True)).one()


class TestTheDoor:
    def test_a_signed_event_is_stored_and_marks_its_letter(self, client, sent):
        answer = ring(client, DELIVERED)

        assert (answer.status_code, answer.json) == (200, {"received": True})
        assert the_letter().delivered_at == NOON
        assert count(MailEvent) == 1

    def test_the_same_event_again_is_harmless(self, client, sent):
        answers = [ring(client, DELIVERED).status_code for _ in range(3)]

        assert answers == [200, 200, 200]
        assert count(MailEvent) == 1

    def test_of_several_signatures_one_of_ours_is_enough(self, client, sent):
        stamp = int(time.time())
        body = '{"type": "email.delivered", "created_at": "2026-11-21T12:00:00Z", "data": {"email_id": "re_1"}}'
        ours = signature(body, event_id="msg_1", secret=services_secret(client), stamp=stamp)

        answer = ring(client, body, at=stamp, svix_signature=f"v1,AAAA v1a,nonsense v1,{ours}")

        assert answer.status_code == 200

    def test_two_secrets_are_both_good_while_one_replaces_the_other(self, app, client, sent, monkeypatch):
        old = services_secret(client)
        both = app.config["STS"].model_copy(update={"resend_webhook_secrets": (ANOTHER, old)})
        monkeypatch.setitem(app.config, "STS", both)
        monkeypatch.setattr(services.mailer(), "_webhook_secrets", (ANOTHER, old))

        assert ring(client, DELIVERED, event_id="msg_1", secret=old).status_code == 200
        assert ring(client, DELIVERED, event_id="msg_2", secret=ANOTHER).status_code == 200

    @pytest.mark.parametrize(
        "changed",
        [
            {"svix_signature": ""},
            {"svix_signature": "v1,AAAA"},
            {"svix_signature": "nonsense"},
            {"svix_signature": "v1,\xff"},
            {"svix_id": ""},
            {"svix_id": "msg_2"},
            {"svix_timestamp": ""},
            {"svix_timestamp": "0"},
            {"svix_timestamp": "soon"},
            {"svix_timestamp": "9" * 5000},
        ],
    )
    def test_what_is_not_rightly_signed_is_refused(self, client, sent, changed):
        answer = ring(client, DELIVERED, **changed)

        assert answer.status_code == 400
        assert answer.json["error"]["code"] == "REFUSED"
        assert "re_1" not in answer.text
        assert count(MailEvent) == 0
        assert the_letter().delivered_at is None

    def test_somebody_elses_secret_is_refused(self, client, sent):
        assert ring(client, DELIVERED, secret=ANOTHER).status_code == 400
        assert count(MailEvent) == 0

    def test_a_body_changed_on_the_way_is_refused(self, client, sent):
        stamp = int(time.time())
        told = '{"type": "email.delivered", "data": {"email_id": "re_2"}}'
        of_another = signature(
            told.replace("re_2", "re_1"), event_id="msg_1", secret=services_secret(client), stamp=stamp
        )

        assert ring(client, told, at=stamp, svix_signature=f"v1,{of_another}").status_code == 400

    @pytest.mark.parametrize(("seconds", "status"), [(290, 200), (310, 400), (-290, 200), (-310, 400)])
    def test_a_signature_lasts_five_minutes_either_way(self, client, sent, seconds, status):
        assert ring(client, DELIVERED, at=time.time() - seconds).status_code == status

    @pytest.mark.parametrize("body", ["", "{", "[" * 100_000, "id=1", "<xml/>"])
    def test_a_signed_body_that_is_not_json_is_refused(self, client, sent, body):
        assert ring(client, body).status_code == 400

    def test_a_store_without_a_secret_has_no_door(self, app, client, sent, monkeypatch):
        secret = services_secret(client)
        bare = app.config["STS"].model_copy(update={"resend_webhook_secrets": ()})
        monkeypatch.setitem(app.config, "STS", bare)

        assert ring(client, DELIVERED, secret=secret).status_code == 404
        assert count(MailEvent) == 0

    @pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
    def test_no_other_method_is_known(self, client, method):
        assert getattr(client, method)("/api/webhooks/resend").status_code == 405

    def test_what_cannot_be_committed_is_asked_for_again(self, client, sent, monkeypatch):
        def away():
            raise OperationalError("COMMIT", {}, Exception("the server closed the connection"))

        with monkeypatch.context() as patch:
            patch.setattr(core_db, "commit", away)
            assert ring(client, DELIVERED).status_code == 503

        database.session.rollback()
        assert count(MailEvent) == 0
        assert the_letter().delivered_at is None


def services_secret(client) -> str:
    return str(client.application.config["STS"].resend_webhook_secrets[0])


class TestWhatEachSays:
    @pytest.mark.parametrize(
        ("told", "trouble", "words"),
        [
            (event("email.delivery_delayed", "re_1"), "delayed", ""),
            (
                event("email.failed", "re_1", failed={"reason": "reached_daily_quota"}),
                "failed",
                "reached_daily_quota",
            ),
            (
                event("email.suppressed", "re_1", suppressed={"type": "x", "message": "On the list."}),
                "suppressed",
                "On the list.",
            ),
            (event("email.complained", "re_1"), "complained", ""),
            (event("email.bounced", "re_1", **bounce()), "bounced", NO_USER),
            (event("email.bounced", "re_1", **bounce("permanent", words="")), "bounced", "It came back."),
            (event("email.bounced", "re_1", **bounce("Permanent", "Suppressed")), "suppressed", NO_USER),
            (event("email.bounced", "re_1", **bounce("Transient", "MailboxFull", FULL)), "bounced_softly", FULL),
            (event("email.bounced", "re_1", **bounce("Undetermined", "x", "?")), "bounced_softly", "?"),
            (event("email.bounced", "re_1"), "bounced_softly", ""),
        ],
    )  # fmt: skip
    def test_it_marks_the_letter(self, client, sent, told, trouble, words):
        assert ring(client, told).status_code == 200

        letter = the_letter()
        assert (letter.trouble, letter.trouble_at, letter.trouble_words) == (trouble, NOON, words)
        assert letter.delivered_at is None

    @pytest.mark.parametrize(
        "told",
        [
            event("email.sent", "re_1"),
            event("email.opened", "re_1"),
            event("email.clicked", "re_1"),
            {"type": "contact.created", "data": {"id": "c_1"}},
            {"type": "email.delivered", "data": {}},
            {"type": "email.delivered", "data": {"email_id": 7}},
            {"type": "email.delivered", "data": {"email_id": "re_\x001"}},
            {"type": "email.delivered", "data": "re_1"},
            {"type": ["email.delivered"]},
            {},
            [],
            7,
        ],
    )
    def test_what_says_nothing_of_a_letters_fate_is_answered_and_not_stored(self, client, sent, told):
        assert ring(client, told).status_code == 200

        assert count(MailEvent) == 0
        assert the_letter().trouble is None

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        data=st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=True) | st.text(max_size=20) | st.just("re_1"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["email_id", "bounce", "type", "message", "failed", "reason", "diagnosticCode"]),
                    inner,
                )
            ),
        ),
        kind=st.sampled_from(["email.bounced", "email.failed", "email.delivered"]),
        at=st.text(max_size=12) | st.just("9999-12-31T23:59:59.999999-23:59") | st.none(),
    )
    def test_any_shape_is_borne(self, client, sent, data, kind, at):
        assert ring(client, {"type": kind, "created_at": at, "data": data}).status_code == 200

    def test_an_event_of_the_future_is_one_of_now(self, client, sent):
        ring(client, event("email.bounced", "re_1", at=clock.now() + timedelta(days=400), **bounce()))

        assert the_letter().trouble_at <= clock.now()

    def test_a_letter_of_somebody_elses_changes_nothing_of_ours(self, client, sent):
        ring(client, event("email.bounced", "re_of_another_shop", **bounce()))

        assert the_letter().trouble is None
        assert count(MailAddress) == 0


class TestOrder:
    TOLD = (
        event("email.delivery_delayed", "re_1", at=NOON),
        event("email.delivered", "re_1", at=NOON + timedelta(minutes=1)),
        event("email.complained", "re_1", at=NOON + timedelta(minutes=2)),
    )

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_a_letter_never_moves_backwards(self, client, sent, order):
        for number in order:
            ring(client, self.TOLD[number], event_id=f"msg_{number}")

        letter = the_letter()
        assert letter.delivered_at == NOON + timedelta(minutes=1)
        assert letter.trouble == Happened.COMPLAINED

    def test_an_event_that_comes_before_our_own_record_is_found_by_it(self, client, db, post):
        post()
        claim = services.claim_next(now=clock.now())
        database.session.commit()

        assert ring(client, event("email.bounced", "re_1", **bounce())).status_code == 200
        assert the_letter().trouble is None
        services.settle(claim, Sent("re_1"), now=clock.now())

        assert the_letter().state == "sent"
        assert the_letter().trouble == Happened.BOUNCED
        assert count(MailAddress) == 1
