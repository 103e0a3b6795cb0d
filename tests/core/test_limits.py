"""How often one may knock. Limits are off in the other tests, so these have a house of their own."""

from __future__ import annotations

import pytest
from redis import Redis

from sts_app import create_app
from sts_app.core import security
from sts_app.core.security import limiter
from sts_app.emails.simulated_post import signed_headers
from sts_app.settings import AppEnv, load
from tests.builders import event, signed
from tests.world import ENV

AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def house(app, servers, request, monkeypatch):
    """A house with limits and without a database: what is limited is stopped before it needs one."""
    # A busy machine may keep Redis waiting for longer than a visitor would be; the count must not begin anew for it.
    monkeypatch.setattr(security, "SEND_BUDGET", 10.0)
    # Another test's Redis was away: the limiter would count in memory until it looks again, and then begin anew.
    monkeypatch.setattr(limiter, "_storage_dead", False)
    url = getattr(request, "param", servers.redis_url)
    url = servers.redis_url if url == "redis" else url
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    env = {"APP_ENV": "development", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": url}
    house = create_app(load({**ENV, **env, "LOG_LEVEL": "ERROR"}))
    house.config.update(WTF_CSRF_ENABLED=False)
    yield house
    limiter.enabled = False


def knocks(visitor, times, path="/sign-in", **call):
    return [visitor.post(path, **call) for _ in range(times)]


@pytest.mark.parametrize(
    "house", [pytest.param("redis", id="in Redis"), pytest.param(AWAY, id="Redis away")], indirect=True
)
def test_the_sixth_letter_in_a_quarter_of_an_hour_has_to_wait(house):
    answers = knocks(house.test_client(), 6, data={"email": "alice@customers.example"})

    assert [answer.status_code for answer in answers] == [503] * 5 + [429]
    assert "try again in at most 15 minutes" in answers[-1].text
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 900


@pytest.mark.parametrize(("env", "last"), [(AppEnv.STAGING, 429), (AppEnv.DEVELOPMENT, 503)])
def test_a_visitor_has_five_letters_but_for_a_tour_on_ones_own_machine(house, env, last):
    house.config["STS"] = house.config["STS"].model_copy(update={"app_env": env})
    visitor = house.test_client()

    answers = [visitor.post("/sign-in", data={"email": f"buyer{number}@customers.example"}) for number in range(6)]

    assert [answer.status_code for answer in answers] == [503] * 5 + [last]


def test_typing_errors_lock_nobody_out(house):
    answers = knocks(house.test_client(), 20, data={"email": "no address"})

    assert {answer.status_code for answer in answers} == {422}


def test_an_address_is_limited_wherever_it_is_asked_for(house):
    visitor = house.test_client()
    answers = [
        visitor.post("/sign-in", data={"email": typed}, environ_base={"REMOTE_ADDR": f"198.51.100.{number}"})
        for number, typed in enumerate(
            [
                "a@shop.example",
                "A@SHOP.example",
                " a@shop.example",
                "a@shop.example ",
                "A@Shop.Example",
                "a@shop.example",
            ]
        )
    ]

    assert [answer.status_code for answer in answers] == [503] * 5 + [429]


def test_another_visitor_is_not_kept_waiting(house):
    knocks(house.test_client(), 6, data={"email": "alice@customers.example"})

    other = house.test_client().post(
        "/sign-in", data={"email": "another"}, environ_base={"REMOTE_ADDR": "198.51.100.7"}
    )

    assert other.status_code == 422


def test_recheck_may_be_pressed_six_times_a_minute(house):
    answers = knocks(house.test_client(), 7, "/dashboard/recheck")

    assert [answer.status_code for answer in answers] == [303] * 6 + [429]
    assert "Please try again in at most a minute." in answers[-1].text


def test_twenty_names_may_be_tried_a_minute(house):
    visitor = house.test_client()
    answers = [visitor.get("/onboarding/check-name?tradingview_name=anna") for _ in range(21)]

    assert [answer.status_code for answer in answers] == [303] * 20 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


@pytest.mark.parametrize("door", ["/api/webhooks/stripe", "/api/webhooks/resend"])
def test_who_sends_bad_signatures_is_slowed_down(house, door):
    answers = knocks(house.test_client(), 21, door, data="{}")

    assert [answer.status_code for answer in answers] == [400] * 20 + [429]
    assert answers[-1].json["error"]["code"] == "RATE_LIMIT"


def test_a_rightly_signed_event_is_never_limited(house):
    """Refused, it would be lost. Here it fails for want of a database, which Stripe answers by coming back."""
    visitor = house.test_client()
    knocks(visitor, 21, "/api/webhooks/stripe", data="{}")
    with house.app_context():
        call = signed(event())

    assert visitor.post("/api/webhooks/stripe", **call).status_code == 503


def test_nor_is_one_about_a_letter(house):
    visitor = house.test_client()
    knocks(visitor, 21, "/api/webhooks/resend", data="{}")
    body = '{"type": "email.delivered", "data": {"email_id": "re_1"}}'
    headers = signed_headers("msg_1", body, house.config["STS"].resend_webhook_secrets[0])

    assert visitor.post("/api/webhooks/resend", data=body, headers=headers).status_code == 503


def test_health_is_never_limited(house):
    visitor = house.test_client()

    assert {visitor.get("/health").status_code for _ in range(100)} == {200}
