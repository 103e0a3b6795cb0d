"""How often one may write. Limits are off in the other tests, so these have a house of their own."""

from __future__ import annotations

import pytest
from redis import Redis

from sts_app import create_app
from sts_app.core import security
from sts_app.core.security import limiter
from sts_app.settings import load
from tests.world import ENV

NEW = "/dashboard/support/new"


@pytest.fixture
def house(app, servers, monkeypatch):
    """A house with limits and without a database: what is limited is stopped before it needs one."""
    monkeypatch.setattr(security, "SEND_BUDGET", 10.0)
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    env = {
        "APP_ENV": "development",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": servers.redis_url,
    }
    house = create_app(load({**ENV, **env, "LOG_LEVEL": "ERROR"}))
    house.config.update(WTF_CSRF_ENABLED=False)
    yield house
    limiter.enabled = False


def message(visitor, **typed):
    from sts_app.support.contact import _new_stamp

    with visitor.application.app_context():
        stamp = _new_stamp()
    given = {"email": "a@shop.example", "category": "other", "subject": "Is it for ES?", "text": "x" * 30}
    return visitor.post("/contact", data=given | {"stamp": stamp} | typed)


def test_a_fourth_message_in_a_minute_has_to_wait(house):
    visitor = house.test_client()

    answers = [message(visitor, email=f"{number}@shop.example") for number in range(4)]

    assert [answer.status_code for answer in answers] == [503] * 3 + [429]
    assert "Please try again in at most a minute." in answers[-1].text
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


def test_typing_errors_lock_nobody_out(house):
    visitor = house.test_client()

    assert {message(visitor, text="Help").status_code for _ in range(10)} == {422}


def test_an_address_gets_no_more_than_five_letters_an_hour_wherever_they_are_asked_for(house):
    visitor = house.test_client()
    visitor.environ_base = dict(visitor.environ_base)
    answers = []
    for number, typed in enumerate(["a@shop.example", "A@SHOP.example", " a@shop.example"] * 2):
        visitor.environ_base["REMOTE_ADDR"] = f"198.51.100.{number}"
        answers.append(message(visitor, email=typed).status_code)

    assert answers == [503] * 5 + [429]


def test_an_address_that_can_be_written_in_several_ways_is_one(house):
    visitor = house.test_client()
    answers = []
    for number, typed in enumerate(["a@shop.example", "a@\uff53hop.example", "a@shop\u3002example"] * 2):
        visitor.environ_base["REMOTE_ADDR"] = f"198.51.100.{number}"
        answers.append(message(visitor, email=typed).status_code)

    assert answers == [503] * 5 + [429]


def test_who_tries_links_is_slowed_down(house):
    visitor = house.test_client()

    answers = [visitor.get("/contact/ticket/a.guessed.link").status_code for _ in range(61)]

    assert answers == [404] * 60 + [429]


def test_a_sixth_ticket_in_ten_minutes_has_to_wait(house):
    visitor = house.test_client()

    answers = [visitor.post(NEW).status_code for _ in range(6)]

    assert answers == [303] * 5 + [429], "it is counted before anybody is looked up"


def test_an_eleventh_reply_in_ten_minutes_has_to_wait(house):
    visitor = house.test_client()

    answers = [visitor.post("/dashboard/support/T-22222222").status_code for _ in range(11)]

    assert answers == [303] * 10 + [429]
