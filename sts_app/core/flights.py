"""One call for everybody who asks the same at the same moment, within one process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Flights(Generic[Answer]):
    """Calls under way, by what they ask.

    It keeps no answer: who asks after the call has ended begins another. A second process makes a call of
    its own, so it is for reads, where that costs a call and does no harm.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._under_way: dict[Hashable, Future[Answer]] = {}

    def share(self, key: Hashable, call: Callable[[], Answer]) -> Answer:
        """What `call` returns or raises; or what the call under way for `key` does, which is waited for."""
        ours: Future[Answer] = Future()
        with self._lock:
            flight = self._under_way.setdefault(key, ours)
        if flight is ours:
            try:
                ours.set_result(call())
            except BaseException as error:
                ours.set_exception(error)
            finally:
                with self._lock:
                    del self._under_way[key]
        return flight.result()
