from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import structlog
from jinja2 import TemplateNotFound, UndefinedError

from sts_app.core import clock, queue, tokens
from sts_app.core.db import db as database
from sts_app.core.queue import WakeUp
from sts_app.emails import queries, services
from sts_app.emails.gateway import Refused, TryLater
from sts_app.emails.models import EmailMessage, delay_before_next
from sts_app.emails.services import Sent
from sts_app.emails.simulated import Fault, delivered, misbehave

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOT_ANSWERED = TryLater("no answer", answered=False)


def the_letter() -> EmailMessage:
    return database.session.scalars(sa.select(EmailMessage)).one()


@pytest.fixture(autouse=True)
def stands_at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOON)


@pytest.fixture
def scale(app) -> float:
    return app.config["STS"].retry_time_scale


def lose(now: datetime, answer=NOT_ANSWERED) -> None:
    """Claim the one letter and settle it with this answer."""
    claim = services.claim_next(now=now)
    assert claim is not None
    assert services.settle(claim, answer, now=now)


class TestPost:
    def test_a_letter_rests_finished_and_wakes_the_worker(self, app, db, post):
        assert post(user_id=7)

        letter = the_letter()
        settings = app.config["STS"]
        assert letter.state == "queued"
        assert letter.next_attempt_at == NOON
        assert letter.sender == settings.email_from
        assert f"Hello Alice, your parcel is at {settings.public_url}/parcels/7 & waits." in letter.text
        assert f'href="{settings.public_url}/parcels/7"' in letter.html
        assert queue.staged_wake_ups() == (WakeUp("emails.work", timedelta(0)),)

    def test_the_first_letter_under_a_key_is_the_only_one(self, db, post):
        assert post(subject="First")
        queue.drop_staged()

        assert not post(subject="Second")

        assert the_letter().subject == "First"
        assert queue.staged_wake_ups() == ()

    def test_another_key_is_another_letter(self, db, post):
        assert post()
        assert post(key="parcel:8")

        assert queries.letters_due(NOON) == 2

    def test_styles_are_inlined_and_dark_mode_is_kept(self, db, post):
        post()

        html = the_letter().html
        assert '<a class="button" href=' in html
        assert "background-color: #0a5c6b" in html.split('<td class="push"')[1].split(">")[0]
        assert "@media (prefers-color-scheme: dark)" in html

    def test_values_are_escaped_in_html_and_left_alone_in_text(self, db, post):
        post(context={"name": "<b>Al</b>"})

        letter = the_letter()
        assert "Hello &lt;b&gt;Al&lt;/b&gt;" in letter.html
        assert "Hello <b>Al</b>" in letter.text

    def test_a_letter_without_its_html_twin_is_a_mistake(self, db, post):
        with pytest.raises(TemplateNotFound):
            post(template="emails/letters/half")

    def test_a_forgotten_value_is_a_mistake(self, db, post):
        with pytest.raises(UndefinedError):
            post(context={})

    @pytest.mark.parametrize(
        "changes",
        [
            {"subject": "Hello\r\nBcc: mallory@elsewhere.test"},
            {"subject": "Hello\nthere"},
            {"subject": "Hello\u2028there"},
            {"subject": "  "},
            {"to": "alice@customers.test\r\nBcc: mallory@elsewhere.test"},
            {"to": "alice@customers.test, mallory@elsewhere.test"},
            {"to": "Alice <alice@customers.test>"},
            {"to": "alice"},
            {"to": "alice@customers.test\n"},
            {"kind": "parcel: x"},
            {"kind": ""},
            {"key": ""},
            {"key": "k" * 257},
            {"key": "parcel:7\r\nX-Other: 1"},
        ],
    )
    def test_nothing_that_could_become_a_header_is_taken(self, db, post, changes):
        with pytest.raises(ValueError, match=r"^a letter") as refusal:
            post(**changes)

        assert not any(value in str(refusal.value) for value in changes.values() if value.strip())
        assert queries.letters_due(NOON) == 0


class TestSecrets:
    def test_a_secret_body_rests_sealed_and_is_called_in_clear(self, db, post):
        post(secret=True, context={"name": "482913"})

        letter = the_letter()
        assert "482913" not in letter.text + letter.html
        assert "482913" in tokens.unseal("letter", letter.text)
        claim = services.claim_next(now=NOON)
        assert claim is not None
        assert "Hello 482913" in claim.letter.text
        assert "<h1" in claim.letter.html
        assert "482913" not in repr(claim)

    @pytest.mark.parametrize("answer", [Sent("re_1"), Refused("422 validation_error")])
    def test_a_secret_body_is_blank_once_the_letter_is_done_with(self, db, post, answer):
        post(secret=True)

        lose(NOON, answer)

        letter = the_letter()
        assert (letter.text, letter.html) == ("", "")

    def test_a_secret_body_is_blank_once_nobody_knows(self, db, post):
        post(secret=True)
        lose(NOON)

        assert services.claim_next(now=NOON + timedelta(hours=23)) is None

        letter = the_letter()
        assert letter.state == "unsure"
        assert (letter.text, letter.html) == ("", "")

    def test_a_secret_body_is_kept_while_it_waits(self, db, post):
        post(secret=True)

        lose(NOON)

        assert the_letter().text != ""

    def test_a_body_sealed_with_a_lost_key_fails_and_lets_the_next_letter_pass(self, db, post):
        post(secret=True)
        database.session.execute(sa.update(EmailMessage).values(text="not ours"))
        post(key="parcel:8")

        claim = services.claim_next(now=NOON)

        assert claim is not None
        assert claim.key == "parcel:8"
        lost = database.session.scalars(sa.select(EmailMessage).where(EmailMessage.key == "parcel:7")).one()
        assert lost.state == "failed"

    def test_an_open_letter_keeps_its_body(self, db, post):
        post()

        lose(NOON, Sent("re_1"))

        assert "Hello Alice" in the_letter().text


class TestClaim:
    def test_a_claimed_letter_is_leased_and_not_taken_twice(self, app, db, post):
        post()

        claim = services.claim_next(now=NOON)

        assert claim is not None
        letter = the_letter()
        assert letter.state == "sending"
        assert letter.first_tried_at == NOON
        assert letter.leased_until == NOON + timedelta(seconds=app.config["STS"].lease_seconds)
        assert services.claim_next(now=NOON) is None

    def test_the_longest_waiting_goes_first(self, db, post):
        post(key="young")
        post(key="old")
        older = sa.update(EmailMessage).where(EmailMessage.key == "old")
        database.session.execute(older.values(next_attempt_at=NOON - timedelta(seconds=1)))

        claim = services.claim_next(now=NOON)

        assert claim is not None
        assert claim.key == "old"

    def test_a_letter_is_not_taken_before_its_time(self, db, post):
        post()

        assert services.claim_next(now=NOON - timedelta(seconds=1)) is None

    def test_the_letter_of_a_killed_worker_is_taken_again_with_the_same_key(self, db, post):
        post()
        first = services.claim_next(now=NOON)
        assert first is not None

        second = services.claim_next(now=the_letter().leased_until)

        assert second is not None
        assert second.key == first.key
        assert second.letter == first.letter
        assert second.lease != first.lease

    def test_a_settle_without_the_lease_changes_nothing(self, db, post):
        post()
        late = services.claim_next(now=NOON)
        assert late is not None
        services.claim_next(now=the_letter().leased_until)

        assert not services.settle(late, Sent("re_late"), now=NOON)

        letter = the_letter()
        assert letter.state == "sending"
        assert letter.provider_id is None


class TestSettle:
    def test_a_taken_letter_is_sent(self, db, post):
        post()

        lose(NOON, Sent("re_1"))

        letter = the_letter()
        assert letter.state == "sent"
        assert letter.provider_id == "re_1"
        assert letter.sent_at == NOON
        assert letter.next_attempt_at is None
        assert queries.letters_due(NOON + timedelta(days=9)) == 0

    def test_an_outage_is_waited_out_with_growing_delays_and_costs_no_try(self, db, post, scale):
        post()
        now = NOON
        waited = []

        for _ in range(8):
            lose(now, TryLater("503 application_error"))
            letter = the_letter()
            waited.append((letter.next_attempt_at - now) / scale)
            now = letter.next_attempt_at

        assert waited == [timedelta(seconds=s) for s in (5, 10, 30, 60, 300, 900, 900, 900)]
        assert letter.state == "queued"
        assert letter.tries == 0
        assert letter.last_error == "503 application_error"

    def test_a_retry_wakes_the_worker_when_it_is_due(self, db, post, scale):
        post()
        queue.drop_staged()

        lose(NOON)

        assert queue.staged_wake_ups() == (WakeUp("emails.work", timedelta(seconds=5) * scale),)

    def test_the_providers_own_delay_is_honoured_when_longer(self, db, post):
        post()

        lose(NOON, TryLater("429 rate_limit_exceeded", after=timedelta(minutes=7)))

        assert the_letter().next_attempt_at == NOON + timedelta(minutes=7)

    def test_a_shorter_delay_of_the_providers_does_not_hurry_us(self, db, post, scale):
        post()

        lose(NOON, TryLater("429 rate_limit_exceeded", after=timedelta(0)))

        assert the_letter().next_attempt_at == NOON + timedelta(seconds=5) * scale

    def test_a_final_refusal_fails_at_once(self, db, post):
        post()

        lose(NOON, Refused("422 validation_error"))

        letter = the_letter()
        assert letter.state == "failed"
        assert letter.last_error == "422 validation_error"

    def test_the_third_refusal_that_could_be_mended_fails(self, db, post, scale):
        post()
        refused = Refused("403 validation_error", final=False)

        lose(NOON, refused)
        first = the_letter().next_attempt_at
        lose(first, refused)
        second = the_letter().next_attempt_at
        lose(second, refused)

        assert (first - NOON, second - first) == (timedelta(seconds=5) * scale, timedelta(seconds=10) * scale)
        assert the_letter().state == "failed"
        assert the_letter().tries == 3

    def test_the_log_names_the_letter_and_nobody(self, db, post):
        with structlog.testing.capture_logs() as lines:
            post()
            lose(NOON)
            lose(the_letter().next_attempt_at, Refused("422 validation_error"))

        assert [line["event"] for line in lines] == ["emails.retry", "emails.failed"]
        assert "alice" not in str(lines).lower()


class TestUnsure:
    def test_a_lost_answer_is_asked_for_until_the_key_may_be_forgotten(self, db, post):
        post()
        lose(NOON)

        claim = services.claim_next(now=NOON + timedelta(hours=22, minutes=59))
        assert claim is not None
        services.settle(claim, NOT_ANSWERED, now=claim.claimed_at)
        assert services.claim_next(now=NOON + timedelta(hours=23, minutes=30)) is None

        letter = the_letter()
        assert letter.state == "unsure"
        assert letter.last_error == "no answer"
        assert queries.letters_in_trouble() == 1

    def test_a_worker_killed_in_the_call_leaves_the_same_doubt(self, db, post):
        post()
        services.claim_next(now=NOON)

        assert services.claim_next(now=NOON + timedelta(hours=23)) is None

        assert the_letter().state == "unsure"

    def test_answers_that_say_not_sent_leave_no_doubt(self, db, post):
        post()
        lose(NOON, TryLater("429 daily_quota_exceeded"))

        assert services.claim_next(now=NOON + timedelta(days=2)) is not None

    def test_a_clear_answer_does_not_explain_an_earlier_lost_one(self, db, post):
        post()
        lose(NOON)
        lose(NOON + timedelta(hours=1), TryLater("429 rate_limit_exceeded"))

        assert services.claim_next(now=NOON + timedelta(hours=23)) is None
        assert the_letter().state == "unsure"

    def test_one_in_doubt_does_not_hold_up_the_next(self, db, post):
        post()
        lose(NOON)
        post(key="parcel:8")

        claim = services.claim_next(now=NOON + timedelta(hours=23))

        assert claim is not None
        assert claim.key == "parcel:8"


class TestCall:
    def test_a_lost_answer_delivers_once(self, db, mailbox, post):
        post()
        misbehave(mailbox, Fault.LOSE_ANSWER)

        first = services.claim_next(now=NOON)
        services.settle(first, services.call(first), now=NOON)
        again = the_letter().next_attempt_at
        second = services.claim_next(now=again)
        services.settle(second, services.call(second), now=again)

        [letter] = delivered(mailbox)
        assert letter.to == "alice@customers.test"
        assert the_letter().state == "sent"
        assert the_letter().provider_id == letter.id

    def test_a_refusal_is_an_answer_and_no_exception(self, db, mailbox, post):
        post()
        misbehave(mailbox, Fault.REFUSE)
        claim = services.claim_next(now=NOON)

        assert isinstance(services.call(claim), Refused)


class TestUpkeep:
    def test_old_letters_are_dropped_and_waiting_ones_kept(self, db, post):
        post()
        lose(NOON, Sent("re_1"))
        post(key="parcel:8")

        assert services.drop_letters_before(NOON) == 0
        assert services.drop_letters_before(NOON + timedelta(seconds=1)) == 1

        assert the_letter().key == "parcel:8"


def test_delays_grow_and_the_last_one_repeats():
    assert [delay_before_next(n).total_seconds() for n in (1, 2, 3, 4, 5, 6, 7, 99)] == [
        5, 10, 30, 60, 300, 900, 900, 900,
    ]  # fmt: skip
