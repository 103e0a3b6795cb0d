"""Somebody else's work at the same moment, on real connections: for tests of what two do at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask import Flask


class Beside(threading.Thread):
    """Somebody else's work, in a thread and on connections of its own, in the `house` of a test."""

    def __init__(self, house: Flask, deed: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.house, self.deed = house, deed
        self.result: Any = None
        self.start()

    def run(self) -> None:
        with self.house.app_context():
            try:
                self.result = self.deed()
            except Exception as error:
                self.result = error

    def ends(self) -> Any:
        """What the deed returned, or the error that it ended with."""
        self.join(30)
        assert not self.is_alive()
        return self.result
