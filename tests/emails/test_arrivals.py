"""What trouble with a letter says of its address, which letters still go there, and how somebody shows they arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from sts_app.core import clock, queue, tokens
from sts_app.core.db import db as database
from sts_app.emails import arrivals, letters, privacy, queries, services
from sts_app.emails.arrivals import Arrival
from sts_app.emails.gateway import Happened, LetterEvent, Refused, TryLater
from sts_app.emails.models import EmailMessage, MailAddress
from sts_app.emails.rules import TRIAL_EVERY
from tests.builders import stopped_clock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALICE = "alice@customers.test"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def shift(self, by: timedelta) -> None:
        self.now += by


@pytest.fixture(autouse=True)
def time(monkeypatch) -> Clock:
    standing = Clock()
    monkeypatch.setattr(clock, "now", lambda: standing.now)
    return standing


class Watching:
    """A provider that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trouble: Exception | None = None
        self.hiccup: Exception | None = None

    def send(self, letter, key):
        self.asked.append(f"send {key}")
        if (hiccup := self.hiccup) is not None:
            self.hiccup = None
            raise hiccup
        return f"re_{key}"

    def lift(self, address):
        self.asked.append(f"lift {address}")
        if self.trouble:
            raise self.trouble


@pytest.fixture
def provider(app, monkeypatch) -> Watching:
    watching = Watching()
    monkeypatch.setitem(app.extensions, "sts_mailer", watching)
    return watching


def work() -> None:
    while (claim := services.claim_next(now=clock.now())) is not None:
        services.settle(claim, services.call(claim), now=clock.now())


def told(key: str, happened: Happened, at: datetime | None = None, words: str = "") -> None:
    number = database.session.scalar(sa.text("SELECT count(*) FROM mail_event"))
    arrivals.take_in(LetterEvent(f"msg_{number}", f"re_{key}", happened, at or clock.now(), words))


def states() -> dict[str, str]:
    database.session.expire_all()
    return {row.key: row.state for row in database.session.scalars(sa.select(EmailMessage))}


def address() -> MailAddress | None:
    return arrivals.address_for_sending(ALICE)


@pytest.fixture
def bounced(db, post, provider, time) -> None:
    """A letter to Alice came back, a minute ago."""
    post(key="first", user_id=7)
    work()
    told("first", Happened.BOUNCED, words="550 no such user")
    time.shift(timedelta(minutes=1))


@pytest.fixture
def complained(db, post, provider, time) -> None:
    post(key="first", user_id=7)
    work()
    told("first", Happened.COMPLAINED)
    time.shift(timedelta(minutes=1))


class TestTheAddress:
    @pytest.mark.parametrize(
        ("happened", "trust"),
        [
            (Happened.DELIVERED, "fine"),
            (Happened.DELAYED, "fine"),
            (Happened.FAILED, "fine"),
            (Happened.BOUNCED_SOFTLY, "fine"),
            (Happened.SUPPRESSED, "bounces"),
            (Happened.BOUNCED, "bounces"),
            (Happened.COMPLAINED, "complained"),
        ],
    )
    def test_only_what_the_next_letter_would_meet_says_something_of_it(self, db, post, provider, happened, trust):
        post(key="first")
        work()

        told("first", happened)

        assert queries.standing_of("Alice@Customers.test").trust == trust

    def test_its_last_words_are_kept(self, bounced):
        told("first", Happened.BOUNCED, at=NOON - timedelta(days=1), words="older words")

        assert queries.words_about(ALICE) == "550 no such user"
        assert address().bounced_at == NOON


class TestWhoIsWrittenTo:
    def test_a_needed_letter_waits_while_letters_come_back(self, bounced, post, provider):
        post(key="second")
        work()

        assert states() == {"first": "sent", "second": "withheld"}
        assert provider.asked == ["send first"]

    def test_another_address_is_written_to_all_the_same(self, bounced, post, provider):
        post(key="second", to="bob@customers.test")
        work()

        assert states()["second"] == "sent"

    def test_a_needed_letter_goes_after_a_complaint_and_a_spare_one_does_not(self, complained, post, provider):
        post(key="needed")
        post(key="spare", need="spare")
        work()

        assert states() == {"first": "sent", "needed": "sent", "spare": "withheld"}
        assert not any(asked.startswith("lift") for asked in provider.asked)

    @pytest.mark.parametrize("before", ["bounced", "complained"])
    def test_what_was_asked_for_goes_and_the_provider_is_told_to_let_it_through(self, request, before, post, provider):
        request.getfixturevalue(before)
        post(key="sign-in", need="asked", secret=True)
        work()

        assert states()["sign-in"] == "sent"
        assert provider.asked[1:] == [f"lift {ALICE}", "send sign-in"]

    @pytest.mark.parametrize("trouble", [TryLater("503"), Refused("401 restricted_api_key")])
    def test_it_goes_even_if_the_provider_does_not_listen(self, bounced, post, provider, trouble):
        provider.trouble = trouble
        post(key="sign-in", need="asked")
        work()

        assert states()["sign-in"] == "sent"

    def test_it_goes_once_an_hour_so_that_nobody_can_have_many_letters_bounce(self, bounced, post, provider, time):
        post(key="one", need="asked", secret=True)
        work()
        told("one", Happened.BOUNCED)
        post(key="two", need="asked", secret=True)
        work()
        time.shift(TRIAL_EVERY)
        post(key="three", need="asked", secret=True)
        work()

        assert [states()[key] for key in ("one", "two", "three")] == ["sent", "withheld", "sent"]

    @pytest.mark.parametrize("hiccup", [TryLater("429"), TryLater("no answer", answered=False)])
    def test_a_hiccup_of_the_provider_does_not_end_the_one_that_goes(self, bounced, post, provider, time, hiccup):
        provider.hiccup = hiccup
        post(key="sign-in", need="asked", secret=True)
        work()
        assert states()["sign-in"] == "queued"

        time.shift(timedelta(minutes=1))
        work()

        assert states()["sign-in"] == "sent"

    def test_a_worker_that_dies_with_it_does_not_end_it_either(self, bounced, post, provider, time):
        post(key="sign-in", need="asked", secret=True)
        assert services.claim_next(now=clock.now()) is not None

        time.shift(timedelta(minutes=10))
        work()

        assert states()["sign-in"] == "sent"

    def test_the_hour_is_spared_when_it_was_delivered(self, bounced, post, provider):
        post(key="one", need="asked")
        work()
        told("one", Happened.DELIVERED)
        post(key="two", need="asked")
        work()

        assert states()["two"] == "sent"

    def test_what_is_kept_back_keeps_its_body_and_what_was_asked_for_does_not(self, bounced, post, provider):
        post(key="needed", secret=True)
        post(key="one", need="asked", secret=True)
        post(key="two", need="asked", secret=True)
        work()

        bodies = {row.key: row.text for row in database.session.scalars(sa.select(EmailMessage))}
        assert "parcel" in tokens.unseal("letter", bodies["needed"])
        assert bodies["two"] == ""


class TestArrived:
    def test_what_waited_is_sent_once_somebody_shows_that_letters_arrive(self, bounced, post, provider, time):
        post(key="needed", user_id=7)
        post(key="spare", need="spare")
        post(key="proof", need="asked", secret=True)
        work()
        time.shift(timedelta(minutes=1))
        queue.drop_staged()

        assert arrivals.arrived("proof") is Arrival.NEWS
        assert [wake_up.name for wake_up in queue.staged_wake_ups()] == ["emails.work"]
        work()

        assert states() == {"first": "sent", "needed": "sent", "spare": "withheld", "proof": "sent"}
        assert queries.standing_of(ALICE).is_fine

    def test_it_is_known_after_the_first_time(self, bounced, post, provider):
        post(key="proof", need="asked")
        work()

        assert [arrivals.arrived("proof"), arrivals.arrived("proof")] == [Arrival.NEWS, Arrival.KNOWN]

    def test_a_letter_written_before_the_trouble_shows_nothing(self, db, post, provider, time):
        post(key="old", need="asked")
        work()
        time.shift(timedelta(minutes=1))
        post(key="new")
        work()
        told("new", Happened.BOUNCED)

        assert arrivals.arrived("old") is Arrival.OUTDATED
        assert queries.standing_of(ALICE).trust == "bounces"

    def test_a_later_bounce_counts_again(self, bounced, post, provider, time):
        post(key="proof", need="asked")
        work()
        arrivals.arrived("proof")
        time.shift(timedelta(minutes=1))
        post(key="next")
        work()
        told("next", Happened.BOUNCED)

        assert queries.standing_of(ALICE).trust == "bounces"

    def test_a_bounce_that_is_heard_of_late_does_not(self, bounced, post, provider, time):
        post(key="proof", need="asked")
        work()
        time.shift(timedelta(minutes=1))
        arrivals.arrived("proof")

        told("first", Happened.BOUNCED, at=NOON + timedelta(seconds=30))

        assert queries.standing_of(ALICE).is_fine

    def test_a_key_that_no_letter_has_shows_nothing(self, bounced):
        assert arrivals.arrived("sign-in:999") is Arrival.KNOWN
        assert queries.standing_of(ALICE).trust == "bounces"

    def test_what_waited_for_too_long_is_not_sent_any_more(self, bounced, post, provider, time):
        post(key="needed")
        work()
        time.shift(timedelta(days=31))
        post(key="proof", need="asked")
        work()
        arrivals.arrived("proof")
        work()

        assert states()["needed"] == "withheld"


class TestConfirm:
    def test_the_letter_carries_the_link_that_confirms(self, bounced, provider, time):
        assert letters.confirm_address(ALICE, user_id=7, on=clock.now())
        assert not letters.confirm_address(ALICE, user_id=7, on=clock.now()), "one within a minute"
        row = database.session.scalars(sa.select(EmailMessage).where(EmailMessage.kind == "confirm_address")).one()
        text = tokens.unseal("letter", row.text)
        work()

        services.confirm(text.partition("/dashboard/letters/arrived/")[2].split()[0])

        assert queries.standing_of(ALICE).is_fine

    def test_a_changed_link_and_one_for_another_purpose_are_over(self, bounced):
        token = services.confirmation_of("proof")

        with pytest.raises(services.ConfirmationOver):
            services.confirm(token + "x")
        with pytest.raises(services.ConfirmationOver):
            services.confirm(tokens.sign("sign-in-link", "proof"))

    def test_one_of_the_day_before_yesterday_is_over(self, db):
        with stopped_clock() as traveller:
            token = services.confirmation_of("proof")
            assert services.peek_confirmation(token) == "proof"
            traveller.shift(timedelta(days=2))

            with pytest.raises(services.ConfirmationOver):
                services.confirm(token)

    def test_a_link_of_before_the_last_bounce_says_so(self, bounced, post, provider, time):
        letters.confirm_address(ALICE, user_id=7, on=clock.now())
        key = database.session.scalars(sa.select(EmailMessage.key).where(EmailMessage.kind == "confirm_address")).one()
        work()
        time.shift(timedelta(minutes=1))
        told(key, Happened.BOUNCED)

        with pytest.raises(services.ConfirmationOver, match="later letter"):
            services.confirm(services.confirmation_of(key))


class TestStaff:
    def test_what_did_not_arrive_is_theirs_to_look_at(self, bounced, post, provider):
        post(key="waits")
        post(key="left out", need="spare")
        post(key="typo", to="nobody@customers.test", need="asked")
        work()
        told("typo", Happened.BOUNCED)

        assert [row.key for row in queries.lost_letters(latest=10)] == ["waits", "first"]
        assert queries.count_lost_unseen(clock.now()) == 2

    def test_what_was_seen_is_counted_no_more_until_it_gets_worse(self, db, post, provider):
        post(key="first")
        work()
        told("first", Happened.BOUNCED_SOFTLY)

        assert arrivals.look_at(None, by="cli", now=clock.now()) == 1
        assert arrivals.look_at(None, by="cli", now=clock.now()) == 0
        assert queries.count_lost_unseen(clock.now()) == 0
        told("first", Happened.COMPLAINED)

        assert queries.count_lost_unseen(clock.now()) == 1

    def test_a_letter_that_is_only_late_is_no_reason_to_look(self, db, post, provider):
        post(key="first")
        work()
        told("first", Happened.DELAYED)

        assert queries.count_lost_unseen(clock.now()) == 0

    def test_the_provider_is_in_trouble_by_what_it_did_not_send_until_somebody_looked(self, db, post, provider):
        post(key="first")
        work()
        told("first", Happened.FAILED)
        assert queries.letters_in_trouble() == 1

        arrivals.look_at(None, by="cli", now=clock.now())

        assert queries.letters_in_trouble() == 0


class TestForgetting:
    def test_nothing_of_a_person_stays_in_letters_that_are_done_with(self, bounced, post, provider):
        post(key="waits", user_id=7)
        work()
        post(key="last letter", user_id=7, need="asked")
        post(key="of another", to="bob@customers.test")

        assert privacy.forget(7, address=ALICE.upper()) == 2
        assert privacy.forget(7, address=ALICE) == 0

        kept = {row.key: row for row in database.session.scalars(sa.select(EmailMessage))}
        for key in ("first", "waits"):
            row = kept[key]
            assert (row.to_address, row.subject, row.text, row.html, row.trouble_words) == ("", "", "", "", "")
        assert kept["last letter"].to_address == ALICE
        assert kept["of another"].text != ""
        assert queries.standing_of(ALICE).is_fine
        assert database.session.scalar(sa.text("SELECT string_agg(words, '') FROM mail_event")) == ""
        assert queries.count_lost_unseen(clock.now()) == 1, "that it came back is no secret"

    def test_what_is_told_later_does_not_write_them_back(self, db, post, provider):
        post(key="first", user_id=7)
        work()
        privacy.forget(7, address=ALICE)
        arrivals.look_at(None, by="cli", now=clock.now())
        told("first", Happened.BOUNCED_SOFTLY)
        arrivals.look_at(None, by="cli", now=clock.now())

        told("first", Happened.BOUNCED, words=f"550 {ALICE} unknown")

        letter = database.session.scalars(sa.select(EmailMessage)).one()
        assert (letter.trouble, letter.trouble_words) == ("bounced", "")
        assert letter.seen_at is not None
        assert database.session.scalar(sa.text("SELECT string_agg(words, '') FROM mail_event")) == ""
        assert database.session.scalar(sa.select(sa.func.count()).select_from(MailAddress)) == 0


class TestWhatACustomerReads:
    def test_the_letters_that_did_not_reach_them_and_no_others(self, bounced, post, provider):
        post(key="waits", user_id=7, subject="It waits")
        post(key="of another", user_id=8)
        post(key="spare", user_id=7, need="spare")
        post(key="secret", user_id=7, secret=True)
        work()

        waiting, lost = queries.not_arrived(7, clock.now())
        too_old, _ = queries.not_arrived(7, clock.now() + timedelta(days=31))

        assert (waiting.subject, waiting.is_waiting, waiting.is_over) == ("It waits", True, False)
        assert (too_old.subject, too_old.is_waiting, too_old.is_over) == ("It waits", False, True)
        assert (lost.words, lost.said) == (
            "It came back: the other side takes no letters for this address.",
            "550 no such user",
        )
        assert "your parcel is at" in lost.text
        assert "You get this letter" not in lost.text
