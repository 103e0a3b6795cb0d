"""Two requests at the same moment, in a store of real processes."""

from __future__ import annotations

import threading

import pytest
from requests import Response

from sts_app.ops.journey import Customer
from tests.support.conftest import QUESTION, file_of
from tests.world import World

NEW = "/dashboard/support/new"


@pytest.fixture
def store(world: World) -> World:
    return world.start()


@pytest.fixture
def customer(store: World) -> Customer:
    customer = Customer(store.url, email="alice@example.com", tradingview_name="Anna")
    customer.open("/sign-in")
    customer.sign_in()
    return customer


def at_once(customer: Customer, address: str, data: dict[str, str], times: int = 4) -> list[Response]:
    """Send the same form several times at the same moment, as a hand that trembles does."""
    barrier, answers = threading.Barrier(times), []
    cookies = customer.http.cookies.get_dict()
    agent = customer.http.headers["User-Agent"]

    def press() -> None:
        import requests

        with requests.Session() as browser:
            browser.trust_env = False
            barrier.wait()
            files = [("pictures", ("a.png", file_of(), "image/png"))]
            answers.append(
                browser.post(
                    customer.url + address,
                    data=data,
                    files=files,
                    cookies=cookies,
                    headers={"User-Agent": agent},
                    allow_redirects=False,
                    timeout=30,
                )
            )

    threads = [threading.Thread(target=press) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def hidden(customer: Customer) -> dict[str, str]:
    form = customer.page.find("form", enctype=True)
    return {each["name"]: each.get("value", "") for each in form.find_all("input", type="hidden")}


def test_a_form_that_is_sent_four_times_at_once_opens_one_ticket_and_replies_once(store, customer):
    customer.open(NEW)
    typed = {"subject": "Nothing is listed", "category": "access", "about": "", "text": QUESTION}

    answers = at_once(customer, NEW, hidden(customer) | typed)

    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["Location"] for answer in answers}) == 1
    ticket = answers[0].headers["Location"]
    customer.open(ticket)
    at_once(customer, ticket, hidden(customer) | {"text": "Here is more."})
    rows = store.sql("SELECT (SELECT count(*) FROM support_ticket), (SELECT count(*) FROM ticket_message)")
    assert rows == [(1, 2)]
    assert store.sql("SELECT count(*) FROM ticket_attachment") == [(2,)]
    assert store.sql("SELECT kind FROM email_message WHERE kind LIKE '%ticket%' ORDER BY id") == [
        ("ticket_created",),
        ("admin_new_ticket",),
        ("admin_ticket_user_reply",),
    ]


def test_a_reply_and_a_close_at_once_end_in_one_of_the_two_stories(store, customer):
    customer.open(NEW)
    typed = {"subject": "Nothing is listed", "category": "access", "about": "", "text": QUESTION}
    (answer,) = at_once(customer, NEW, hidden(customer) | typed, times=1)
    ref = answer.headers["Location"].rpartition("/")[2]
    customer.open(answer.headers["Location"])
    form = hidden(customer) | {"text": "Here is more."}
    closing = threading.Thread(target=lambda: store.run(f"sts tickets status {ref} CLOSED"))

    closing.start()
    (replied,) = at_once(customer, answer.headers["Location"], form, times=1)
    closing.join()

    assert store.sql("SELECT status FROM support_ticket") == [("CLOSED",)]
    assert replied.status_code in (303, 409)
    messages = 2 if replied.status_code == 303 else 1
    assert store.sql("SELECT count(*) FROM ticket_message") == [(messages,)]
