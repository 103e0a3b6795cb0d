"""Return commits, raise rolls back, and wake-ups go out after the commit or not at all."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from redis import Redis
from redis.exceptions import ConnectionError as RedisIsAway

from sts_app.accounts.models import User
from sts_app.core import queue
from sts_app.core.db import checkpoint, claim, transaction
from sts_app.core.db import db as database
from sts_app.core.errors import FixInput
from sts_app.core.queue import WakeUp, staged_wake_ups, wake
from tests.builders import count, in_a_transaction, person

PAGE = "pages.faq"


@pytest.fixture
def page(app, client, monkeypatch):
    """Put a view of the test's own in the place of a page, and ask for it."""

    def page(view, **request):
        with monkeypatch.context() as patch:
            patch.setitem(app.view_functions, PAGE, view)
            patch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
            return client.get("/faq", **request)

    return page


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, int]]:
    """(wake-up, people in the database) of everything that was sent."""
    calls = []
    monkeypatch.setattr(queue, "send", lambda connection, wake_up: calls.append((wake_up.name, count(User))))
    return calls


def deed():
    person("alice@customers.example")
    wake("emails.work")
    return "done"


def deed_and_then(trouble: BaseException) -> None:
    deed()
    raise trouble


class TestRequest:
    def test_return_commits_and_then_wakes(self, page, sent):
        assert page(deed).text == "done"

        assert count(User) == 1
        assert sent == [("emails.work", 1)]

    @pytest.mark.parametrize("trouble", [FixInput(), ValueError("a bug"), KeyError("x")])
    def test_raise_rolls_back_and_wakes_nobody(self, page, sent, trouble):
        answer = page(lambda: deed_and_then(trouble))

        assert answer.status_code in (422, 500)
        assert (count(User), sent) == (0, [])

    def test_an_answer_that_says_no_is_no_exception_and_commits(self, page, sent):
        """A wrong sign-in code must be remembered: a view that returns has decided."""
        assert page(lambda: (deed(), 422)).status_code == 422

        assert count(User) == 1

    def test_what_stood_at_a_checkpoint_survives_what_follows(self, page, sent):
        def view():
            deed()
            checkpoint()
            person("bob@customers.example")
            wake("billing.work")
            raise FixInput

        page(view)

        assert database.session.scalars(sa.select(User.email)).all() == ["alice@customers.example"]
        assert sent == [("emails.work", 1)]

    def test_a_database_error_in_the_view_is_a_page_and_not_a_trace(self, page):
        answer = page(lambda: database.session.execute(sa.text("SELECT broken")))

        assert answer.status_code == 500
        assert "Something broke on our side" in answer.text
        assert "SELECT" not in answer.text
        assert answer.headers["X-Request-Id"] in answer.text


class TestJob:
    def test_the_end_of_the_block_commits_and_then_wakes(self, db, sent):
        with transaction():
            deed()
            assert sent == []

        assert sent == [("emails.work", 1)]

    def test_an_error_rolls_back_drops_the_wake_ups_and_goes_on(self, db, sent):
        with pytest.raises(ValueError, match="a bug"):
            in_a_transaction(lambda: deed_and_then(ValueError("a bug")))

        assert (count(User), sent, staged_wake_ups()) == (0, [], ())

    def test_a_stop_from_outside_rolls_back_too(self, db, sent):
        with pytest.raises(SystemExit):
            in_a_transaction(lambda: deed_and_then(SystemExit()))

        assert (count(User), sent) == (0, [])


class TestClaim:
    def test_of_two_who_update_the_same_row_one_wins(self, db):
        user = person("alice@customers.example")
        take = sa.update(User).where(User.id == user.id, User.name == "").values(name="taken")

        assert [claim(take), claim(take)] == [True, False]


class TestWakeUps:
    def test_the_same_wake_up_is_staged_once(self, app, db):
        for _ in range(3):
            wake("emails.work")
        wake("emails.work", after=timedelta(seconds=5))

        assert staged_wake_ups() == (
            WakeUp("emails.work", timedelta(0)),
            WakeUp("emails.work", timedelta(seconds=5)),
        )

    def test_a_wake_up_for_now_waits_in_its_rooms_queue(self, app, db, servers):
        with transaction():
            wake("billing.work")

        assert queue.depths() == {"billing": 1, "provisioning": 0, "emails": 0, "default": 0}

    def test_a_wake_up_of_no_room_goes_to_the_default_queue(self, app, db):
        with transaction():
            wake("ops.rescue_sweep")

        assert queue.depths()["default"] == 1

    def test_a_wake_up_for_later_waits_with_the_scheduler(self, app, db, servers):
        with transaction():
            wake("emails.work", after=timedelta(minutes=1))

        assert queue.depths()["emails"] == 0
        with Redis.from_url(servers.redis_url) as redis:
            assert redis.zcard("rq:scheduler:scheduled_jobs") == 1

    def test_a_redis_that_is_away_costs_nobody_anything(self, app, db, monkeypatch):
        def away(connection, wake_up):
            raise RedisIsAway("refused")

        monkeypatch.setattr(queue, "send", away)

        with transaction():
            deed()

        assert count(User) == 1
        assert staged_wake_ups() == ()

    def test_a_real_closed_port_is_given_up_within_a_second(self, app, db, monkeypatch):
        import time

        monkeypatch.setitem(app.extensions, "sts_redis", queue.connection_for_web("redis://127.0.0.1:1/0"))
        began = time.monotonic()

        with transaction():
            deed()
            for after in range(1, 20):
                wake("emails.work", after=timedelta(seconds=after))

        assert time.monotonic() - began < 1
        assert count(User) == 1
