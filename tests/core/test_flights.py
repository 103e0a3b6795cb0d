"""Many ask at once, and one call answers them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sts_app.core.flights import Flights


class Slow:
    """A call that ends when it is told to, and counts how often it was made."""

    def __init__(self) -> None:
        self.made = 0
        self.begun = threading.Event()
        self.end: Future[str] = Future()

    def __call__(self) -> str:
        self.made += 1
        self.begun.set()
        return self.end.result(timeout=10)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def several(pool: ThreadPoolExecutor, flights: Flights[str], call: Slow) -> list[Future[str]]:
    """Four who ask while the first one's call is under way."""
    first = pool.submit(flights.share, "anna", call)
    assert call.begun.wait(timeout=10)
    about_to = threading.Barrier(4)

    def ask() -> str:
        about_to.wait(timeout=10)
        return flights.share("anna", call)

    rest = [pool.submit(ask) for _ in range(3)]
    about_to.wait(timeout=10)
    time.sleep(0.2)  # between being about to and waiting there is nothing to wait for
    return [first, *rest]


def test_those_who_ask_at_the_same_moment_share_one_call(pool):
    call = Slow()
    asked = several(pool, Flights(), call)

    call.end.set_result("Anna")

    assert [each.result(timeout=10) for each in asked] == ["Anna"] * 4
    assert call.made == 1


def test_they_share_its_failure_too(pool):
    call = Slow()
    asked = several(pool, Flights(), call)

    call.end.set_exception(LookupError("no such thing"))

    assert {type(each.exception(timeout=10)) for each in asked} == {LookupError}
    assert call.made == 1


def test_two_questions_are_two_calls(pool):
    flights: Flights[str] = Flights()
    one, other = Slow(), Slow()

    answers = [pool.submit(flights.share, "anna", one), pool.submit(flights.share, "bobby", other)]
    one.end.set_result("Anna")
    other.end.set_result("Bobby")

    assert [each.result(timeout=10) for each in answers] == ["Anna", "Bobby"]


@pytest.mark.parametrize("broke", [False, True])
def test_no_answer_is_kept(broke):
    flights: Flights[str] = Flights()

    def fail() -> str:
        raise LookupError

    if broke:
        with pytest.raises(LookupError):
            flights.share("anna", fail)
    else:
        flights.share("anna", lambda: "before")

    assert flights.share("anna", lambda: "after") == "after"
